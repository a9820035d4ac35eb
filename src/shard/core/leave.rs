//! The end of a session's subscriptions. A session can have very many, so that a long list leaves the router piece by piece,
//! with everybody else's packets in between.
use super::Core;
use super::budget::is_short;
use crate::session::Session;
use crate::time::Time;
use crate::topic::parse_shared;

/// Filters that are given up at once, even if much was done since other packets were looked at.
const ALWAYS: usize = 8;

/// A session that has ended. Its slot stays taken, by one that gets nothing, until the router does not name it any more.
pub(super) struct Leaving {
    session: u32,
    filters: std::vec::IntoIter<Box<str>>,
}

impl Leaving {
    /// How many filters are left.
    pub fn len(&self) -> usize {
        self.filters.len()
    }
    /// Its slot.
    pub fn session(&self) -> u32 {
        self.session
    }
}

impl Core {
    /// Takes a session out of the tables, and its subscriptions out of the router, with the retained messages that are on
    /// their way to it.
    pub(super) fn take_session(&mut self, now: Time, slot: u32) -> Session {
        let subscriptions = std::mem::take(&mut self.sessions[slot as usize].subscriptions);
        let is_short = subscriptions.len() <= self.limits.filters_at_once && is_short(&subscriptions);
        if is_short && (subscriptions.len() <= ALWAYS || !self.is_spent()) {
            self.cancel_scans(slot);
            self.withdraw_all(now, slot, subscriptions.into_filters());
            return self.sessions.remove(slot as usize);
        }
        // A group must not choose a member that is gone.
        let is_shared = |filter: &str| matches!(parse_shared(filter, usize::MAX), Ok(Some(_)));
        let (shared, plain): (Vec<Box<str>>, Vec<Box<str>>) =
            subscriptions.into_filters().partition(|filter| is_shared(filter));
        self.withdraw_all(now, slot, shared.into_iter());
        let session = &mut self.sessions[slot as usize];
        let mut husk = Session::new(session.key, session.client_id.clone());
        husk.scans = session.scans;
        let session = std::mem::replace(session, husk);
        self.leaving.push_back(Leaving { session: slot, filters: plain.into_iter() });
        session
    }

    /// There is something to do for those that leave, and room for what it causes.
    pub(super) fn is_leaving(&self) -> bool {
        !self.leaving.is_empty() && self.wants_input()
    }

    /// The next piece of one of them, of at most so many filters: in every turn, and as many as others are subscribed to, so
    /// that what is left of those that come and go does not grow.
    pub(super) fn leave_further(&mut self, now: Time, most: usize) {
        if !self.is_leaving() {
            return;
        }
        let mut leaving = self.leaving.pop_front().expect("just seen");
        let before = self.work_done();
        let filters = leaving.filters.by_ref().take(most);
        self.withdraw_while(now, leaving.session, filters, |core| !core.is_list_spent(before));
        if leaving.len() > 0 {
            self.leaving.push_back(leaving);
        } else {
            self.sessions.remove(leaving.session as usize);
        }
    }

    fn withdraw_all(&mut self, now: Time, session: u32, filters: impl Iterator<Item = Box<str>>) {
        self.withdraw_while(now, session, filters, |_| true);
    }

    /// Withdraws one filter after the other until there is none or `goes_on` says no.
    fn withdraw_while(
        &mut self,
        now: Time,
        session: u32,
        filters: impl Iterator<Item = Box<str>>,
        goes_on: impl Fn(&Core) -> bool,
    ) {
        let mut changes = Vec::new();
        for filter in filters {
            self.spend_filter(&filter);
            self.cancel_scan_of(session, &filter);
            changes.extend(self.withdraw(now, session, &filter));
            if !goes_on(self) {
                break;
            }
        }
        self.announce(changes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Origin;
    use crate::codec::{FilterList, QoS, Subscribe, SubscribeOptions, Version};
    use crate::limits::Limits;
    use crate::shard::core::{CloseCause, ConnId, CoreConfig};
    use std::sync::Arc;

    const NOW: Time = Time(1000);
    const CLIENTS: usize = 8;
    const FILTERS: usize = 3000;

    fn core(limits: Limits) -> Core {
        let limits = Limits { sys_interval_ms: 0, ..limits };
        let limits = Arc::new(limits.into());
        Core::new(CoreConfig { shard: 0, shards: 1, seed: 3, limits, policy: Arc::default() }, NOW)
    }

    fn client(core: &mut Core, number: usize) -> ConnId {
        let conn = core.handle_accept(NOW, Origin::default()).expect("room");
        let id = format!("c{number}");
        let connect = [
            &[0x10, 13 + id.len() as u8, 0, 4][..],
            b"MQTT\x05\x02\0\0\0\0",
            &[id.len() as u8],
            id.as_bytes(),
        ];
        core.handle_bytes(NOW, conn, &connect.concat());
        while core.poll_action().is_some() {}
        conn
    }

    fn subscribe(core: &mut Core, conn: ConnId, root: usize) {
        let (mut filters, mut bytes) = (FilterList::new(), Vec::new());
        for number in 0..FILTERS {
            filters.push(&format!("{root}/{number}/+"), SubscribeOptions::new(QoS::AtLeastOnce));
        }
        Subscribe::new(1, None, &filters).encode(Version::V5, &mut bytes);
        core.handle_bytes(NOW, conn, &bytes);
    }

    fn left(core: &Core) -> usize {
        core.leaving.iter().map(Leaving::len).sum()
    }

    #[test]
    fn what_is_left_of_clients_that_come_and_go_does_not_grow() {
        let mut core = core(Limits::default());
        let mut clients: Vec<ConnId> = (0..CLIENTS).map(|number| client(&mut core, number)).collect();
        let mut most = 0;
        for turn in 0..60 {
            core.handle_deadlines(NOW);
            while core.poll_action().is_some() {}
            for (number, conn) in clients.iter_mut().enumerate() {
                if !core.is_held(conn.slot) {
                    core.handle_close(NOW, *conn, CloseCause::Eof);
                    *conn = client(&mut core, number);
                    subscribe(&mut core, *conn, number);
                }
            }
            if turn > 10 {
                most = most.max(left(&core));
            }
        }
        assert!(most > 0 && most <= 2 * CLIENTS * FILTERS, "{most}");
        while core.next_deadline() <= NOW {
            core.handle_deadlines(NOW);
        }
        core.audit();
        assert!(left(&core) == 0 && core.leaving.is_empty());
    }

    #[test]
    fn who_left_takes_nobodys_place() {
        let mut core = core(Limits { max_sessions: 1, ..Limits::default() });
        let conn = client(&mut core, 0);
        subscribe(&mut core, conn, 0);
        while core.next_deadline() <= NOW {
            core.handle_deadlines(NOW);
        }
        core.handle_close(NOW, conn, CloseCause::Eof);
        assert!(left(&core) > 0);
        let again = client(&mut core, 0);
        assert!(core.is_live(again), "refused though there is no session");
    }
}
