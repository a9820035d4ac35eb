//! How much of its memory the broker has in use, and what that asks of it.
//!
//! The steps are taken long before the cap, so that what is given up is what costs least: first the pace of
//! publishers, then newcomers, then messages that would have to be kept. Each step ends [`SLACK`] below the place where
//! it began, so that the broker does not go to and fro between two of them.

/// Hundredths of the cap from which on publishers are read slower.
const SLOW: u64 = 80;
/// Hundredths of the cap from which on nobody new comes in.
const CLOSED: u64 = 88;
/// Hundredths of the cap from which on nothing is taken that would have to be kept.
const FULL: u64 = 94;
/// Hundredths of the cap that have to be free again below a step before it ends.
const SLACK: u64 = 5;

/// Bytes a second by which memory grows at most, as far as the time between two looks is concerned.
const GROWTH: u64 = 2 << 30;
/// Milliseconds between two looks at the memory in use, at least and at most.
const LOOK_MS: (u64, u64) = (5, 250);

/// What the memory in use asks of the broker. Each step includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Pressure {
    /// Nothing.
    #[default]
    None,
    /// Publishers are read slower, so that what they sent can leave.
    Slow,
    /// Clients that have no session yet are refused.
    Closed,
    /// Messages at QoS 1 and 2, retained messages and new subscriptions are refused.
    Full,
}

impl Pressure {
    /// What `used` bytes ask for where `cap` are allowed (0: any number), after `self`.
    pub fn next(self, used: u64, cap: u64) -> Pressure {
        let steps = [(Pressure::Full, FULL), (Pressure::Closed, CLOSED), (Pressure::Slow, SLOW)];
        let share = if cap == 0 { 0 } else { (u128::from(used) * 100 / u128::from(cap)) as u64 };
        let is_due =
            |(step, from): &(Pressure, u64)| share >= if self >= *step { from - SLACK } else { *from };
        steps.iter().find(|step| is_due(step)).map_or(Pressure::None, |(step, _)| *step)
    }
}

/// The memory in use, as it was at the last look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// What it asks of the broker.
    pub pressure: Pressure,
    /// Bytes in use.
    pub used: u64,
    /// Most bytes that were in use at any look so far.
    pub most: u64,
}

impl Memory {
    /// Nothing more is taken that would have to be kept.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.pressure == Pressure::Full
    }
}

/// Milliseconds until the next look: the memory cannot have grown to the cap by then.
pub fn until_next_look(used: u64, cap: u64) -> u64 {
    let left = if cap == 0 { u64::MAX } else { cap.saturating_sub(used) };
    (left / (GROWTH / 1000)).clamp(LOOK_MS.0, LOOK_MS.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_begin_in_order_and_end_below_where_they_began() {
        let up = [
            (0, Pressure::None),
            (79, Pressure::None),
            (80, Pressure::Slow),
            (88, Pressure::Closed),
            (94, Pressure::Full),
        ];
        let down = [
            (200, Pressure::Full),
            (89, Pressure::Full),
            (88, Pressure::Closed),
            (83, Pressure::Closed),
            (82, Pressure::Slow),
            (75, Pressure::Slow),
            (74, Pressure::None),
        ];
        let mut pressure = Pressure::None;
        for (share, expected) in up.into_iter().chain(down) {
            pressure = pressure.next(share * 1000, 100_000);
            assert_eq!(pressure, expected, "{share}%");
        }
        assert_eq!(Pressure::None.next(99, 100), Pressure::Full, "steps are skipped");
        assert_eq!(Pressure::Full.next(0, 100), Pressure::None);
        assert_eq!(Pressure::Full.next(u64::MAX, 0), Pressure::None, "without a cap there is none");
    }

    #[test]
    fn looks_are_closer_the_less_is_left() {
        assert_eq!(until_next_look(0, 0), 250);
        assert_eq!(until_next_look(0, 8 << 30), 250);
        assert_eq!(until_next_look(0, 64 << 20), 31);
        assert_eq!(until_next_look(70 << 20, 64 << 20), 5);
    }
}
