//! Deadlines of one shard: a hierarchical timer wheel.
//!
//! Level 0 has a slot for each of the next 64 ticks, level 1 one for each of the next 64 runs of 64 ticks, and so on;
//! eleven levels reach every [`Time`]. A deadline sits at the level of the highest six bits in which its tick differs
//! from the current one, so everything at a lower level is due before anything at a higher one, and the slots of a
//! level are only ever used forwards. When time reaches a slot above level 0, its deadlines move down.
use crate::time::Time;

/// Milliseconds of one tick: a deadline fires less than this late and never early.
pub const TICK_MS: u64 = 8;

/// Bits of the tick that one level looks at.
const LEVEL_BITS: u32 = 6;
/// Slots of one level.
const SLOTS: usize = 1 << LEVEL_BITS;
/// Levels that cover all ticks of 64-bit milliseconds.
const LEVELS: usize = 11;
/// No entry.
const NONE: u32 = u32::MAX;
/// Set in [`Entry::prev`] of the first entry of a slot; the other bits are the number of the slot.
const FIRST: u32 = 1 << 31;

/// A deadline in a [`TimerWheel`]. Used again once the deadline has fired or was cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerId(u32);

/// Deadlines, each with a token that says what is due. Inserting, cancelling and firing cost the same however many
/// there are.
pub struct TimerWheel<T> {
    /// The current tick: everything before it has fired.
    current: u64,
    /// Which slots of each level have entries.
    occupied: [u64; LEVELS],
    /// First entry of each slot.
    slots: [u32; LEVELS * SLOTS],
    /// All entries, in use and free.
    entries: Vec<Entry<T>>,
    /// First free entry.
    free: u32,
    len: usize,
}

struct Entry<T> {
    at: Time,
    /// Next entry of the slot or of the free list.
    next: u32,
    /// Previous entry of the slot, or [`FIRST`] and the slot; [`NONE`] in a free entry.
    prev: u32,
    token: T,
}

impl<T: Copy> TimerWheel<T> {
    /// A wheel without deadlines.
    pub fn new(now: Time) -> TimerWheel<T> {
        TimerWheel {
            current: now.0 / TICK_MS,
            occupied: [0; LEVELS],
            slots: [NONE; LEVELS * SLOTS],
            entries: Vec::new(),
            free: NONE,
            len: 0,
        }
    }

    /// Deadlines that have neither fired nor been cancelled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a deadline; one in the past is due at once.
    pub fn insert(&mut self, at: Time, token: T) -> TimerId {
        let entry = Entry { at, next: NONE, prev: NONE, token };
        let id = self.free;
        let id = if id == NONE {
            assert!(self.entries.len() < FIRST as usize, "more deadlines than 31 bits can count");
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        } else {
            self.free = self.entries[id as usize].next;
            self.entries[id as usize] = entry;
            id
        };
        self.link(id);
        self.len += 1;
        TimerId(id)
    }

    /// Takes a deadline out that has not fired. The caller forgets ids that fired: they are used again.
    pub fn cancel(&mut self, id: TimerId) {
        self.unlink(id.0);
        self.release(id.0);
    }

    /// The next deadline that has passed, with the time it was set to; `None` when no (further) one is due at `now`.
    /// Those of an earlier tick come first; within a tick there is no promised order.
    pub fn pop_expired(&mut self, now: Time) -> Option<(Time, T)> {
        let now = now.0 / TICK_MS;
        loop {
            let next = self.next_slot();
            let Some((level, slot, start)) = next.filter(|(_, _, start)| *start <= now) else {
                // No slot begins before `now`, so every entry stays where the new current tick would put it.
                self.current = self.current.max(now);
                return None;
            };
            self.current = self.current.max(start);
            let mut id = self.slots[slot];
            if level == 0 {
                self.unlink(id);
                self.release(id);
                let entry = &self.entries[id as usize];
                return Some((entry.at, entry.token));
            }
            self.slots[slot] = NONE;
            self.occupied[level] &= !bit(slot);
            while id != NONE {
                let next = self.entries[id as usize].next;
                self.link(id);
                id = next;
            }
        }
    }

    /// A time up to which nothing is due; [`Time::NEVER`] when nothing is pending. At that time
    /// [`TimerWheel::pop_expired`] returns a deadline, or moves some so close that this time becomes a later one
    /// (at most once for each level).
    pub fn next_deadline(&self) -> Time {
        self.next_slot().map_or(Time::NEVER, |(_, _, start)| Time(start.saturating_mul(TICK_MS)))
    }

    /// The slot whose time comes first: its level, its number, and the tick at which it begins.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|occupied| *occupied != 0)?;
        let slot = self.occupied[level].trailing_zeros();
        let shift = level as u32 * LEVEL_BITS;
        let above = self.current.checked_shr(shift + LEVEL_BITS).unwrap_or(0);
        let start = above.checked_shl(shift + LEVEL_BITS).unwrap_or(0) | (u64::from(slot) << shift);
        Some((level, level * SLOTS + slot as usize, start))
    }

    /// Puts an entry into the slot for its time.
    fn link(&mut self, id: u32) {
        let at = self.entries[id as usize].at;
        let tick = at.0.div_ceil(TICK_MS).max(self.current);
        // The highest bit that differs decides; none differing is level 0 too.
        let level = ((tick ^ self.current) | 1).ilog2() / LEVEL_BITS;
        let slot = level as usize * SLOTS + (tick >> (level * LEVEL_BITS)) as usize % SLOTS;
        let next = std::mem::replace(&mut self.slots[slot], id);
        if next != NONE {
            self.entries[next as usize].prev = id;
        }
        let entry = &mut self.entries[id as usize];
        entry.next = next;
        entry.prev = FIRST | slot as u32;
        self.occupied[level as usize] |= bit(slot);
    }

    /// Takes an entry out of its slot.
    fn unlink(&mut self, id: u32) {
        let Entry { next, prev, .. } = self.entries[id as usize];
        assert!(prev != NONE, "a deadline is cancelled that is not pending");
        if next != NONE {
            self.entries[next as usize].prev = prev;
        }
        if prev & FIRST == 0 {
            self.entries[prev as usize].next = next;
            return;
        }
        let slot = (prev & !FIRST) as usize;
        self.slots[slot] = next;
        if next == NONE {
            self.occupied[slot / SLOTS] &= !bit(slot);
        }
    }

    fn release(&mut self, id: u32) {
        let entry = &mut self.entries[id as usize];
        entry.prev = NONE;
        entry.next = self.free;
        self.free = id;
        self.len -= 1;
    }
}

/// The bit of a slot among those of its level.
fn bit(slot: usize) -> u64 {
    1 << (slot % SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const WEEK: u64 = 7 * 24 * 3600 * 1000;

    #[test]
    fn a_deadline_fires_never_early_and_less_than_a_tick_late() {
        for start in [0, 1, 7, 8, 12345] {
            for wait in (0..1500).chain([WEEK, WEEK + 1, 9 * WEEK]) {
                let at = Time(start) + wait;
                let mut wheel = TimerWheel::new(Time(start));
                wheel.insert(at, 'x');
                if wait > 0 {
                    assert_eq!(wheel.pop_expired(Time(at.0 - 1)), None, "{start} {wait}");
                }
                assert_eq!(wheel.pop_expired(at + (TICK_MS - 1)), Some((at, 'x')), "{start} {wait}");
                assert_eq!(wheel.pop_expired(Time(u64::MAX - 1)), None);
            }
        }
    }

    #[test]
    fn earlier_ticks_come_first_after_a_long_sleep() {
        let mut wheel = TimerWheel::new(Time(1000));
        let waits = [5 * WEEK, 20, WEEK, 90_000, 10_000_000, 0, 600];
        for wait in waits {
            wheel.insert(Time(1000) + wait, wait);
        }
        let mut sorted = waits;
        sorted.sort_unstable();
        let fired: Vec<u64> =
            std::iter::from_fn(|| wheel.pop_expired(Time(6 * WEEK))).map(|(_, wait)| wait).collect();
        assert_eq!(fired, sorted);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_deadline_that_never_comes_wakes_nobody() {
        let mut wheel = TimerWheel::new(Time(5));
        assert_eq!(wheel.next_deadline(), Time::NEVER);
        let id = wheel.insert(Time::NEVER, 1);
        assert_eq!(wheel.pop_expired(Time(u64::MAX - 1)), None);
        assert_eq!((wheel.next_deadline(), wheel.len()), (Time::NEVER, 1));
        wheel.cancel(id);
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn ids_are_used_again() {
        let mut wheel = TimerWheel::new(Time(0));
        let first = wheel.insert(Time(10), 1);
        let second = wheel.insert(Time(10), 2);
        wheel.cancel(first);
        assert_eq!(wheel.insert(Time(700), 3), first);
        assert_eq!(wheel.pop_expired(Time(16)), Some((Time(10), 2)));
        assert_eq!(wheel.insert(Time(700), 4), second);
        assert_eq!(wheel.entries.len(), 2);
    }

    #[test]
    #[should_panic(expected = "not pending")]
    fn cancelling_twice_is_our_own_mistake() {
        let mut wheel = TimerWheel::new(Time(0));
        let id = wheel.insert(Time(10), 1);
        wheel.cancel(id);
        wheel.cancel(id);
    }

    #[test]
    fn entries_are_small() {
        assert_eq!(size_of::<Entry<u64>>() - size_of::<u64>(), 16);
    }

    /// One operation on the wheel.
    #[derive(Clone, Copy, Debug)]
    enum Op {
        /// Insert at this many milliseconds from now (the past when negative).
        Insert(i64),
        /// Cancel one of the pending ones.
        Cancel(prop::sample::Index),
        /// Let time pass, then fire what is due.
        Pass(u64),
        /// Let time pass up to the wheel's next deadline, then fire what is due.
        Sleep,
    }

    fn op() -> impl Strategy<Value = Op> {
        let wait = prop_oneof![-50i64..50, 0i64..2000, 0i64..200_000, 0i64..10 * WEEK as i64];
        let pass = prop_oneof![0u64..20, 0u64..1000, 0u64..200_000, 0u64..2 * WEEK];
        prop_oneof![
            4 => wait.prop_map(Op::Insert),
            2 => any::<prop::sample::Index>().prop_map(Op::Cancel),
            2 => pass.prop_map(Op::Pass),
            2 => Just(Op::Sleep),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_wheel_agrees_with_a_list(start in 0..4 * WEEK, ops in vec(op(), 0..200)) {
            let mut now = Time(start);
            let mut wheel = TimerWheel::new(now);
            // Pending deadlines: the first tick at which each may fire, its time, its token, its id.
            let mut model: Vec<(u64, Time, usize, TimerId)> = Vec::new();
            for (token, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Insert(wait) => {
                        let at = Time(now.0.saturating_add_signed(wait));
                        let due = at.0.div_ceil(TICK_MS).max(now.0 / TICK_MS);
                        model.push((due, at, token, wheel.insert(at, token)));
                    }
                    Op::Cancel(index) if !model.is_empty() => {
                        let (.., id) = model.swap_remove(index.index(model.len()));
                        wheel.cancel(id);
                    }
                    Op::Cancel(_) => {}
                    Op::Pass(wait) => now = now + wait,
                    Op::Sleep if model.is_empty() => {}
                    Op::Sleep => now = now.max(wheel.next_deadline()),
                }
                if matches!(op, Op::Pass(_) | Op::Sleep) {
                    let before = (wheel.len(), wheel.next_deadline());
                    let mut last = 0;
                    while let Some((at, token)) = wheel.pop_expired(now) {
                        let index = model.iter().position(|(_, _, other, _)| *other == token);
                        prop_assert!(index.is_some(), "fired though not pending");
                        let (due, expected, ..) = model.swap_remove(index.unwrap());
                        prop_assert_eq!(at, expected);
                        prop_assert!(due >= last && due <= now.0 / TICK_MS, "out of order or early");
                        last = due;
                    }
                    prop_assert!(model.iter().all(|(due, ..)| *due > now.0 / TICK_MS), "one is late");
                    prop_assert!(wheel.next_deadline() > now, "the caller would spin");
                    if before.1 <= now {
                        prop_assert!(wheel.len() < before.0 || wheel.next_deadline() > before.1, "no progress");
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                let first = model.iter().map(|(due, ..)| Time(due * TICK_MS)).min().unwrap_or(Time::NEVER);
                prop_assert!(wheel.next_deadline() <= first);
                prop_assert_eq!(wheel.next_deadline() == Time::NEVER, model.is_empty());
            }
        }

        #[test]
        fn sleeping_until_the_next_deadline_fires_each_in_time_with_few_wakes(
            waits in vec(prop_oneof![0..100u64, 0..200_000u64, 0..5 * WEEK], 1..60),
        ) {
            let mut wheel = TimerWheel::new(Time(3));
            for wait in &waits {
                wheel.insert(Time(3) + *wait, ());
            }
            let mut wakes = 0;
            while !wheel.is_empty() {
                let now = wheel.next_deadline();
                wakes += 1;
                while let Some((at, ())) = wheel.pop_expired(now.max(Time(3))) {
                    prop_assert!(now.max(Time(3)) >= at && now.since(at) < TICK_MS);
                }
            }
            prop_assert!(wakes <= LEVELS * waits.len());
        }
    }
}
