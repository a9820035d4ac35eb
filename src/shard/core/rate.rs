//! How fast one client may publish: above its rate it is not read until its time has come, and TCP slows it down.
use super::Core;
use crate::codec::ReasonCode;
use crate::limits::Limits;
use crate::time::Time;
use crate::topic::has_wildcard;

/// What a connection may still publish, in thousandths of messages and of bytes; below zero it has to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rate {
    messages: i64,
    bytes: i64,
    /// Up to when it was filled.
    at: Time,
}

impl Rate {
    /// A second's worth.
    fn new(now: Time, limits: &Limits) -> Rate {
        let (messages, bytes) = full(limits);
        Rate { messages, bytes, at: now }
    }

    fn fill(&mut self, now: Time, limits: &Limits) {
        let passed = now.since(self.at) as i64;
        let (messages, bytes) = full(limits);
        // Without a bound nothing is owed, though something was while there was one.
        let filled = |left: i64, full: i64| match full {
            0 => 0,
            _ => left.saturating_add(passed.saturating_mul(full) / 1000).min(full),
        };
        (self.messages, self.bytes) = (filled(self.messages, messages), filled(self.bytes, bytes));
        self.at = now;
    }

    /// Milliseconds until it may go on; 0 at once.
    fn wait(&self, limits: &Limits) -> u64 {
        let (messages, bytes) = full(limits);
        let until =
            |owed: i64, full: i64| if owed < 0 { ((-owed) as u64 * 1000).div_ceil(full as u64) } else { 0 };
        until(self.messages, messages.max(1)).max(until(self.bytes, bytes.max(1)))
    }
}

/// What a second brings, in thousandths.
fn full(limits: &Limits) -> (i64, i64) {
    (i64::from(limits.max_publish_rate) * 1000, limits.max_publish_bytes as i64 * 1000)
}

impl Core {
    /// Whether there are rates for this client at all.
    #[inline]
    pub(super) fn has_rates(&self, slot: u32) -> bool {
        self.profiles[self.connections[slot as usize].profile].has_rates
    }

    /// A message of a client came.
    #[inline]
    pub(super) fn charge(&mut self, now: Time, slot: u32, bytes: usize) {
        if self.has_rates(slot) {
            self.charge_rate(now, slot, bytes);
        }
    }

    fn charge_rate(&mut self, now: Time, slot: u32, bytes: usize) {
        let connection = &mut self.connections[slot as usize];
        let limits = &self.profiles[connection.profile].limits;
        let rate = connection.extras().rate.get_or_insert_with(|| Rate::new(now, limits));
        rate.fill(now, limits);
        if limits.max_publish_rate > 0 {
            rate.messages -= 1000;
        }
        if limits.max_publish_bytes > 0 {
            rate.bytes -= bytes as i64 * 1000;
        }
    }

    /// If the client has published more than its rate allows: keeps the bytes, and stops reading for a while.
    #[inline]
    pub(super) fn throttle(&mut self, now: Time, slot: u32, bytes: &[u8]) -> bool {
        self.has_rates(slot) && self.throttle_rate(now, slot, bytes)
    }

    fn throttle_rate(&mut self, now: Time, slot: u32, bytes: &[u8]) -> bool {
        let connection = &mut self.connections[slot as usize];
        let limits = &self.profiles[connection.profile].limits;
        let extras = connection.extras.as_mut();
        let Some(rate) = extras.and_then(|extras| extras.rate.as_mut()) else { return false };
        rate.fill(now, limits);
        let wait = rate.wait(limits);
        if wait == 0 {
            return false;
        }
        self.counters.throttled += 1;
        self.hold(slot, [bytes, &[]]);
        self.wait(slot, now + wait);
        true
    }

    /// Refuses filters that are too wide: a wildcard within the first levels.
    pub(super) fn check_wildcards(&self, slot: u32, filter: &str) -> Result<(), ReasonCode> {
        let depth = self.limits_of(slot).min_wildcard_depth;
        let is_wide = filter.split('/').take(depth).any(has_wildcard);
        if is_wide { Err(ReasonCode::WildcardSubscriptionsNotSupported) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_brings_what_the_limit_says_and_no_more_is_saved() {
        let limits = Limits { max_publish_rate: 10, max_publish_bytes: 500, ..Limits::default() };
        let mut rate = Rate::new(Time(0), &limits);
        assert_eq!(rate.wait(&limits), 0);
        rate.messages -= 11_000;
        assert_eq!(rate.wait(&limits), 100);
        rate.fill(Time(99), &limits);
        assert_eq!(rate.wait(&limits), 1);
        rate.fill(Time(100), &limits);
        assert_eq!(rate.wait(&limits), 0);
        rate.bytes -= 500_000 + 1_000_000;
        assert_eq!(rate.wait(&limits), 2000);
        rate.fill(Time(2_100), &limits);
        assert_eq!(rate.wait(&limits), 0);
        rate.fill(Time(1_000_000), &limits);
        assert_eq!(rate.messages, 10_000);
    }
}
