//! Time as the core sees it: an argument, never a clock.
use std::ops::Add;

/// Milliseconds since the broker's process started (monotonic). The shell reads the clock once a turn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Time(pub u64);

impl Time {
    /// A time that never comes.
    pub const NEVER: Time = Time(u64::MAX);

    /// This time plus whole seconds; saturates at [`Time::NEVER`].
    pub fn plus_secs(self, secs: u32) -> Time {
        Time(self.0.saturating_add(u64::from(secs) * 1000))
    }

    /// Whole milliseconds from `earlier` to this time, zero if it lies in the future.
    pub fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Time {
    type Output = Time;
    fn add(self, millis: u64) -> Time {
        Time(self.0.saturating_add(millis))
    }
}
