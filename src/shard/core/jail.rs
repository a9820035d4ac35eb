//! Clients that come and go all the time: who connects too often is not let in for a while.
//!
//! Only those that were let in are counted, so that nobody can shut out a client id that is not his own to use.
use super::Core;
use crate::limits::Limits;
use crate::router::keys::FingerprintMap;
use crate::time::Time;
use std::collections::VecDeque;

/// Milliseconds in which connections are counted.
const WINDOW_MS: u64 = 60_000;
/// Client ids that are looked after on one shard; one more and the oldest is forgotten.
const MOST: usize = 65_536;

/// How often one client id came, and whether it sits.
#[derive(Clone, Copy, Debug)]
struct Entry {
    since: Time,
    count: u32,
    until: Time,
}

/// Who came how often lately, by fingerprint of the client id.
#[derive(Default)]
pub(super) struct Jail {
    entries: FingerprintMap<Entry>,
    /// In the order in which they came first.
    order: VecDeque<u128>,
}

impl Jail {
    fn holds(&self, now: Time, client: u128) -> bool {
        self.entries.get(&client).is_some_and(|entry| entry.until > now)
    }

    /// A client was let in. More than `most` times within the window, and it is not for `jail_ms`; true then.
    fn note(&mut self, now: Time, client: u128, most: u32, jail_ms: u64) -> bool {
        let Jail { entries, order } = self;
        let entry = entries.entry(client).or_insert_with(|| {
            order.push_back(client);
            Entry { since: now, count: 0, until: Time(0) }
        });
        if now.since(entry.since) >= WINDOW_MS {
            (entry.since, entry.count) = (now, 0);
        }
        entry.count += 1;
        let is_too_often = entry.count > most;
        if is_too_often {
            entry.until = now + jail_ms;
        }
        if order.len() > MOST
            && let Some(oldest) = order.pop_front()
        {
            entries.remove(&oldest);
        }
        is_too_often
    }
}

impl Core {
    /// Whether a client id came too often lately.
    pub(super) fn is_jailed(&self, now: Time, slot: u32, client_id: &str) -> bool {
        self.limits_of(slot).max_reconnects > 0 && self.jail.holds(now, self.keys.fingerprint(client_id))
    }

    /// A client was let in.
    pub(super) fn note_reconnect(&mut self, now: Time, slot: u32, client_id: &str) {
        let Limits { max_reconnects: most, jail_ms, .. } = *self.limits_of(slot);
        if most > 0 {
            let client = self.keys.fingerprint(client_id);
            self.counters.jailed += u64::from(self.jail.note(now, client, most, jail_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_too_often_sits_for_a_while() {
        let mut jail = Jail::default();
        for second in 0..3 {
            assert!(!jail.note(Time(second * 1000), 1, 3, 5000));
        }
        assert!(!jail.holds(Time(3000), 1));
        assert!(jail.note(Time(3000), 1, 3, 5000));
        assert!(jail.holds(Time(7999), 1) && !jail.holds(Time(8000), 1));
        assert!(!jail.holds(Time(3000), 2));
        assert!(!jail.note(Time(WINDOW_MS), 1, 3, 5000), "a new minute");
    }

    #[test]
    fn only_so_many_are_looked_after() {
        let mut jail = Jail::default();
        for client in 0..MOST as u128 + 10 {
            jail.note(Time(0), client, 0, 5000);
        }
        assert_eq!((jail.entries.len(), jail.order.len()), (MOST, MOST));
        assert!(!jail.holds(Time(1), 0) && jail.holds(Time(1), MOST as u128));
    }
}
