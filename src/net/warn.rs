//! Lines of the log that a peer can cause, and so must not be able to flood it.
use crate::time::Time;

/// Milliseconds between two lines of one kind.
const EVERY_MS: u64 = 10_000;

/// One kind of line.
#[derive(Default)]
pub struct Warning {
    next: Time,
    suppressed: u64,
}

impl Warning {
    /// Writes `text`, unless a line of this kind was written less than ten seconds ago; then it is counted, and the
    /// next line tells how many there were.
    pub fn say(&mut self, now: Time, text: impl FnOnce() -> String) {
        if now < self.next {
            self.suppressed += 1;
            return;
        }
        self.next = now + EVERY_MS;
        match std::mem::take(&mut self.suppressed) {
            0 => tracing::warn!("{}", text()),
            count => tracing::warn!("{} ({count} more since the last such line)", text()),
        }
    }
}
