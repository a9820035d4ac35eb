//! How much the packets of one client may have done at once. Most cost what their bytes cost, but a few bytes can
//! match very many filters or go to very many subscribers. What is beyond the bound waits for a later turn, and its
//! connection is not read meanwhile, so that everybody else is served in between.
use super::Core;
use crate::limits::LEVEL_COST;
use crate::router::Route;
use crate::session::subscriptions::Subscriptions;
use crate::time::Time;

/// Work done for one piece of input, or for the envelopes of one shard in a turn. The unit is a plain delivery. What
/// one packet asks for is done whole, apart from long lists of filters.
pub(super) const WORK_AT_ONCE: u64 = 1 << 17;
/// Work of a step in a tree of filters.
const STEP: u64 = 4;
/// Work of a delivery that is acknowledged.
const ACKNOWLEDGED: u64 = 4;
/// Work of a delivery that is kept until its client is there, or can take it, beside the above: memory that was long not
/// looked at.
const QUEUED: u64 = 12;
/// Work of one copy for a group of a shared subscription.
const SHARED: u64 = 8;
/// Work of a level of a filter that is subscribed to or given up.
const LEVEL: u64 = 8;
/// Work for filters of one list after which the rest of it waits for a later turn, however few they were.
const LIST: u64 = WORK_AT_ONCE / 4;

impl Core {
    /// From here on there is [`WORK_AT_ONCE`] to do.
    pub fn begin_work(&mut self) {
        self.work_until = self.work_done() + WORK_AT_ONCE;
    }

    /// What may be done at once was done.
    pub fn is_spent(&self) -> bool {
        self.work_done() >= self.work_until
    }

    /// There is no room for what further input causes.
    pub(super) fn lacks_room(&mut self) -> bool {
        self.is_crowded = self.is_crowded && !self.wants_input();
        self.is_crowded
    }

    /// Work done so far.
    pub(super) fn work_done(&self) -> u64 {
        self.work + STEP * self.router.steps()
    }

    /// Notes what `messages` along a route cost, beside finding it.
    pub(super) fn spend(&mut self, route: &Route, messages: u32, is_acknowledged: bool) {
        self.work += weight(route) * u64::from(messages) * each(is_acknowledged);
    }

    /// A message for a member of a group came from another shard.
    pub(super) fn spend_shared(&mut self) {
        self.work += SHARED;
    }

    /// A delivery was queued.
    pub(super) fn spend_queued(&mut self) {
        self.work += QUEUED;
    }

    /// A filter was subscribed to or given up, here or on another shard.
    pub(super) fn spend_filter(&mut self, filter: &str) {
        self.work += LEVEL * (1 + memchr::memchr_iter(b'/', filter.as_bytes()).count() as u64);
    }

    /// Whether enough was done for a list of filters since `before` ([`Core::work_done`]).
    pub(super) fn is_list_spent(&self, before: u64) -> bool {
        self.work_done() - before >= LIST
    }

    /// Notes what so many messages along a route turned out to cost since `before` ([`Core::work_done`]).
    pub(super) fn note_work(&self, route: &Route, before: u64, messages: u32) {
        route.work.set(work_of_each(self.work_done() - before, messages));
    }

    /// How many messages along a route may be done at once.
    pub(super) fn most_at_once(&mut self, slot: u32, route: &Route, is_acknowledged: bool) -> usize {
        let known = route.work.get().max(self.work_afar(slot));
        (WORK_AT_ONCE / (weight(route) * each(is_acknowledged)).max(known.into())).max(1) as usize
    }

    /// Leaves the rest of a client's input, which begins with a packet, for a later turn.
    pub(super) fn put_off_input(&mut self, slot: u32, bytes: &[u8]) {
        self.hold(slot, [bytes, &[]]);
        self.put_off.push_back(self.id(slot));
    }

    /// Input was put off, and there is room for what it causes.
    pub(super) fn has_put_off_input(&self) -> bool {
        !self.put_off.is_empty() && self.wants_input()
    }

    /// A later turn: every client that was put off goes on, once.
    pub(super) fn go_on_with_input(&mut self, now: Time) {
        for _ in 0..self.put_off.len() {
            if !self.has_put_off_input() {
                return;
            }
            let conn = self.put_off.pop_front().expect("just seen");
            if self.is_live(conn) {
                self.go_on(now, conn.slot);
                self.settle(now);
            }
        }
    }
}

/// Whether as much is done at once as it takes to give these up.
pub(super) fn is_short(subscriptions: &Subscriptions) -> bool {
    LEVEL * (subscriptions.cost() / LEVEL_COST) as u64 <= LIST
}

/// Work of one plain message along a route.
fn weight(route: &Route) -> u64 {
    1 + route.direct.len() as u64 + SHARED * route.groups.len() as u64
}

/// Work of each of several messages.
pub(super) fn work_of_each(work: u64, messages: u32) -> u32 {
    u32::try_from(work / u64::from(messages.max(1))).unwrap_or(u32::MAX)
}

/// Work of one delivery.
fn each(is_acknowledged: bool) -> u64 {
    if is_acknowledged { ACKNOWLEDGED } else { 1 }
}
