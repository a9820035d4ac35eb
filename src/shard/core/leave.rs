//! The end of a session's subscriptions. A session can have very many, so that a long list leaves the router piece by piece,
//! with everybody else's packets in between.
use super::Core;
use super::budget::is_short;
use crate::session::Session;
use crate::time::Time;
use crate::topic::parse_shared;

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
        if subscriptions.len() <= self.limits.filters_at_once && is_short(&subscriptions) {
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

    /// A later turn: the next piece of one of them.
    pub(super) fn leave_further(&mut self, now: Time) {
        if !self.is_leaving() {
            return;
        }
        let mut leaving = self.leaving.pop_front().expect("just seen");
        let before = self.work_done();
        let filters = leaving.filters.by_ref().take(self.limits.filters_at_once);
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
