//! Who is interested in a topic: this shard's own subscribers, other shards, shared-subscription groups.
//!
//! It knows sessions by their slot only, and encodes nothing.
mod fingerprints;
pub mod groups;
pub mod interest;
pub mod keys;
pub mod route;
pub mod shard_set;
mod subscribers;

pub use groups::{Group, Groups, Member};
pub use interest::{Interest, InterestChange};
pub use keys::Keys;
pub use route::{Route, RouteSubscriber, When};
pub use shard_set::ShardSet;

use crate::codec::{QoS, SubscribeOptions};
use crate::topic::{FilterMap, has_wildcard};
use route::RouteCache;
use std::rc::Rc;
use subscribers::Subscribers;

/// One session's subscription as the router needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscriber {
    /// Slot of the session on this shard.
    pub session: u32,
    /// Subscription Identifier, 0 without one.
    pub id: u32,
    /// Granted QoS.
    pub qos: QoS,
    /// No Local ([MQTT-3.8.3-3]).
    pub no_local: bool,
    /// Retain As Published ([MQTT-3.3.1-13]).
    pub retain_as_published: bool,
}

impl Subscriber {
    /// A session's subscription with these options.
    pub fn new(session: u32, id: u32, options: SubscribeOptions) -> Subscriber {
        Subscriber {
            session,
            id,
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
        }
    }
}

/// A filter that this shard's sessions are subscribed to.
#[derive(Default, Debug)]
struct LocalFilter {
    subscribers: Subscribers,
    /// Number of the announcement that told the other shards of it.
    announced: u64,
}

/// What one shard knows about who is interested in what.
pub struct Router {
    local: FilterMap<LocalFilter>,
    /// What the other shards are interested in.
    interest: Interest,
    groups: Groups,
    cache: RouteCache,
    steps: u64,
}

impl Router {
    /// Nobody is interested in anything yet. `shard` is this shard.
    pub fn new(shard: u8, shards: u8, keys: Keys, seed: u64) -> Router {
        Router {
            local: FilterMap::new(seed),
            interest: Interest::new(keys.clone(), seed),
            groups: Groups::new(shard, shards, keys, seed),
            cache: RouteCache::new(seed),
            steps: 0,
        }
    }

    /// Adds or replaces a session's subscription to an ordinary filter. `announcement` is the number that the next
    /// announcement to the other shards will have; returns the number of the one that this subscription has to
    /// wait for, and whether the filter is new to this shard, so that the others are to be told.
    pub fn subscribe(
        &mut self,
        filter: &str,
        subscriber: Subscriber,
        is_new: bool,
        announcement: u64,
    ) -> (u64, bool) {
        self.cache.invalidate(filter);
        let known = self.local.len();
        let entry = self.local.entry_or(filter, || LocalFilter {
            subscribers: Subscribers::default(),
            announced: announcement,
        });
        entry.subscribers.insert(subscriber, is_new);
        let announced = entry.announced;
        (announced, self.local.len() > known)
    }

    /// Removes a session's subscription to an ordinary filter; true when nobody on this shard has it any more and
    /// the other shards are to be told.
    pub fn unsubscribe(&mut self, filter: &str, session: u32) -> bool {
        let Some(entry) = self.local.get_mut(filter) else { return false };
        if !entry.subscribers.remove(session) {
            return false;
        }
        let is_last = entry.subscribers.is_empty();
        if is_last {
            self.local.remove(filter);
        }
        self.cache.invalidate(filter);
        is_last
    }

    /// Another shard tells what it is interested in.
    pub fn apply(&mut self, from: u8, change: &InterestChange) {
        match change {
            InterestChange::Add(filter) => {
                self.interest.add(from, filter);
                self.cache.invalidate(filter);
            }
            InterestChange::Remove(filter) => {
                self.interest.remove(from, filter);
                self.cache.invalidate(filter);
            }
            InterestChange::Group { share, filter, connected, members } => {
                if self.groups.set_count(from, share, filter, *connected, *members) {
                    self.cache.invalidate(filter);
                }
            }
        }
    }

    /// A session joins a group, or changes its options there.
    pub fn join(&mut self, share: &str, filter: &str, member: Member) -> InterestChange {
        if self.groups.join(share, filter, member) {
            self.cache.invalidate(filter);
        }
        self.groups.count_of(share, filter)
    }

    /// A session leaves a group; `None` if it was not in it.
    pub fn leave(&mut self, share: &str, filter: &str, session: u32) -> Option<InterestChange> {
        if !self.groups.leave(share, filter, session) {
            return None;
        }
        let change = self.groups.count_of(share, filter);
        if self.groups.remove_if_empty(share, filter) {
            self.cache.invalidate(filter);
        }
        Some(change)
    }

    /// A member of a group connected or went away.
    pub fn set_connected(
        &mut self,
        share: &str,
        filter: &str,
        session: u32,
        connected: bool,
    ) -> Option<InterestChange> {
        self.groups
            .set_connected(share, filter, session, connected)
            .then(|| self.groups.count_of(share, filter))
    }

    /// The groups.
    pub fn groups(&mut self) -> &mut Groups {
        &mut self.groups
    }

    /// Everyone who is interested in `topic`; remembered until something about it changes.
    pub fn route(&mut self, topic: &str) -> Rc<Route> {
        self.route_for(topic, |_| true)
    }

    /// Like [`Router::route`], with those sessions of this shard only that `keep` allows when the route is made.
    pub fn route_for(&mut self, topic: &str, keep: impl FnMut(u32) -> bool) -> Rc<Route> {
        if let Some(route) = self.cache.get(topic) {
            return route;
        }
        let route = self.find(topic, keep);
        self.cache.insert(route)
    }

    /// What is remembered may be wrong: somebody is allowed more or less.
    pub fn forget_routes(&mut self) {
        self.cache.forget();
    }

    /// Steps that searches have taken so far, a found subscription being one.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The route of a topic, if it is remembered and still holds.
    pub fn known(&self, topic: &str) -> Option<Rc<Route>> {
        self.cache.get(topic)
    }

    /// Whether a remembered route still holds.
    pub fn is_fresh(&self, route: &Route) -> bool {
        self.cache.is_fresh(route)
    }

    /// Filters that this shard's sessions are subscribed to.
    pub fn filters(&self) -> usize {
        self.local.len()
    }

    /// Filters that other shards are subscribed to.
    pub fn interests(&self) -> usize {
        self.interest.len()
    }

    /// Groups that have a member anywhere.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    fn find(&mut self, topic: &str, mut keep: impl FnMut(u32) -> bool) -> Route {
        let mut subscribers: Vec<Subscriber> = Vec::new();
        let mut filters = 0;
        let mut steps = self.local.for_each_match(topic, |filter| {
            filters += 1;
            subscribers.extend_from_slice(&filter.subscribers);
        });
        let shards = self.interest.shards(topic, &mut steps);
        let groups = self.groups.matching(topic, &mut steps);
        self.steps += (steps + subscribers.len()) as u64;
        subscribers.retain(|subscriber| keep(subscriber.session));
        Route::new(topic, subscribers, filters > 1, groups, shards)
    }
}

/// Whether invalidating `filter` touches one topic only.
fn is_literal(filter: &str) -> bool {
    !has_wildcard(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router {
        Router::new(0, 3, Keys::new(1), 1)
    }
    fn subscriber(session: u32) -> Subscriber {
        Subscriber { session, id: 0, qos: QoS::AtLeastOnce, no_local: false, retain_as_published: false }
    }
    fn sessions(router: &mut Router, topic: &str) -> Vec<u32> {
        router.route(topic).direct.iter().map(|s| s.session).collect()
    }

    #[test]
    fn a_remembered_route_follows_every_change() {
        for filter in ["a/b", "a/+", "#"] {
            let mut router = router();
            let remembered = router.route("a/b");
            assert!(router.is_fresh(&remembered));
            router.subscribe(filter, subscriber(1), true, 1);
            assert!(!router.is_fresh(&remembered), "{filter}");
            assert_eq!(sessions(&mut router, "a/b"), [1]);
            router.subscribe(filter, subscriber(2), true, 2);
            assert_eq!(sessions(&mut router, "a/b"), [1, 2]);
            assert!(!router.unsubscribe(filter, 1));
            assert!(router.unsubscribe(filter, 2));
            assert!(router.route("a/b").is_empty());
        }
    }

    #[test]
    fn an_unrelated_filter_leaves_a_route_alone() {
        let mut router = router();
        let remembered = router.route("a/b");
        for filter in ["a/c", "c/#", "+", "a/b/+"] {
            router.subscribe(filter, subscriber(1), true, 1);
            assert!(router.is_fresh(&remembered), "{filter}");
        }
        router.forget_routes();
        assert!(!router.is_fresh(&remembered));
    }

    #[test]
    fn a_second_subscriber_waits_for_the_first_ones_announcement() {
        let mut router = router();
        assert_eq!(router.subscribe("a", subscriber(1), true, 5), (5, true));
        assert_eq!(router.subscribe("a", subscriber(1), false, 5), (5, false));
        assert_eq!(router.subscribe("a", subscriber(2), true, 6), (5, false));
        assert_eq!(router.subscribe("a", Subscriber { id: 3, ..subscriber(2) }, false, 7), (5, false));
        assert_eq!(router.route("a").direct.len(), 2);
    }

    #[test]
    fn only_interested_shards_are_in_a_route() {
        let mut router = router();
        router.apply(1, &InterestChange::Add("a/b".into()));
        router.apply(2, &InterestChange::Add("a/+".into()));
        assert_eq!(router.route("a/b").shards.collect::<Vec<_>>(), [1, 2]);
        assert_eq!(router.route("a/c").shards.collect::<Vec<_>>(), [2]);
        router.apply(1, &InterestChange::Remove("a/b".into()));
        router.apply(2, &InterestChange::Remove("a/+".into()));
        assert!(router.route("a/b").is_empty());
    }

    #[test]
    fn a_group_is_in_the_route_until_its_last_member_left() {
        let mut router = router();
        let member = Member { subscriber: subscriber(1), connected: true };
        assert_eq!(
            router.join("g", "a/+", member),
            InterestChange::Group { share: "g".into(), filter: "a/+".into(), connected: 1, members: 1 }
        );
        router.apply(
            2,
            &InterestChange::Group { share: "g".into(), filter: "a/+".into(), connected: 1, members: 2 },
        );
        assert_eq!(router.route("a/b").groups.len(), 1);
        assert!(router.leave("g", "a/+", 1).is_some());
        assert_eq!(router.route("a/b").groups.len(), 1);
        router.apply(
            2,
            &InterestChange::Group { share: "g".into(), filter: "a/+".into(), connected: 0, members: 0 },
        );
        assert!(router.route("a/b").is_empty());
        assert!(router.leave("g", "a/+", 1).is_none());
    }
}
