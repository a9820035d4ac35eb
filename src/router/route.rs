//! Everyone who is interested in one topic, and the memory of the topics asked for lately.
use super::{ShardSet, Subscriber, is_literal};
use crate::codec::QoS;
use crate::topic::matches;
use hashbrown::HashMap;
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Topics remembered at most; one more and all are forgotten, which costs each its next search only.
pub const CACHED_ROUTES: usize = 65_536;
/// Bytes they take at most, with the same consequence: a topic with very many subscribers is as good as very many
/// topics.
pub const CACHED_BYTES: usize = 64 * 1024 * 1024;
/// Changes of wildcard filters that are remembered. A route that was not used for more is searched anew.
pub const CHANGES: usize = 64;
/// Longest wildcard filter whose change is remembered, bytes. A change of a longer one makes every route be searched anew.
pub const CHANGED_FILTER: usize = 256;

/// Whose messages a subscriber gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// Everybody's.
    Always,
    /// Everybody's but its own (No Local).
    NotOwn,
    /// Only its own: some of its overlapping filters are No Local, and this is what the others make of it.
    OwnOnly,
}

/// A session that gets a topic, all its matching filters merged: one delivery with the highest granted QoS
/// ([MQTT-3.3.4-2]) and all Subscription Identifiers ([MQTT-3.3.4-4]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteSubscriber {
    /// Slot of the session on this shard.
    pub session: u32,
    ids_at: u32,
    ids_len: u32,
    /// Highest granted QoS.
    pub qos: QoS,
    /// Keep RETAIN as published.
    pub retain_as_published: bool,
    /// Whose messages it gets.
    pub when: When,
}

/// Everyone who is interested in one topic.
#[derive(Debug)]
pub struct Route {
    /// The topic name.
    pub topic: Box<str>,
    /// How many levels it has.
    pub levels: usize,
    /// Sessions on this shard, each once (twice with different [`When`]).
    pub direct: Box<[RouteSubscriber]>,
    ids: Box<[u32]>,
    /// Slots of shared-subscription groups.
    pub groups: Box<[u32]>,
    /// Other shards with subscribers.
    pub shards: ShardSet,
    /// Work of one message along it on this shard (`shard::core::budget`), as it turned out last; 0 where it is not known.
    pub work: Cell<u32>,
    generation: Cell<u64>,
    stale: Cell<bool>,
}

impl Route {
    /// Merges the matching subscriptions of each session. `overlapping`: more than one filter matched.
    pub fn new(
        topic: &str,
        mut subscribers: Vec<Subscriber>,
        overlapping: bool,
        groups: Vec<u32>,
        shards: ShardSet,
    ) -> Route {
        if overlapping {
            subscribers.sort_by_key(|subscriber| subscriber.session);
        }
        let mut direct = Vec::with_capacity(subscribers.len());
        let mut ids = Vec::new();
        for same in subscribers.chunk_by(|a, b| a.session == b.session) {
            let own = same.iter().filter(|subscriber| !subscriber.no_local).count();
            let when = if own == same.len() { When::Always } else { When::NotOwn };
            direct.push(merge(same.iter(), when, &mut ids));
            if own > 0 && own < same.len() {
                let allowed = same.iter().filter(|subscriber| !subscriber.no_local);
                direct.push(merge(allowed, When::OwnOnly, &mut ids));
            }
        }
        Route {
            topic: topic.into(),
            levels: 1 + memchr::memchr_iter(b'/', topic.as_bytes()).count(),
            direct: direct.into(),
            ids: ids.into(),
            groups: groups.into(),
            shards,
            work: Cell::new(0),
            generation: Cell::new(0),
            stale: Cell::new(false),
        }
    }

    /// Subscription Identifiers that go with a delivery.
    pub fn ids(&self, subscriber: &RouteSubscriber) -> &[u32] {
        let at = subscriber.ids_at as usize;
        &self.ids[at..at + subscriber.ids_len as usize]
    }

    /// Bytes it takes, about.
    fn size(&self) -> usize {
        let ids = size_of_val(&*self.ids) + size_of_val(&*self.groups);
        size_of::<Route>() + 2 * self.topic.len() + size_of_val(&*self.direct) + ids
    }

    /// Nobody is interested.
    pub fn is_empty(&self) -> bool {
        self.direct.is_empty() && self.groups.is_empty() && self.shards.is_empty()
    }
}

fn merge<'a>(same: impl Iterator<Item = &'a Subscriber>, when: When, ids: &mut Vec<u32>) -> RouteSubscriber {
    let ids_at = ids.len();
    let mut merged = RouteSubscriber {
        session: 0,
        ids_at: ids_at as u32,
        ids_len: 0,
        qos: QoS::AtMostOnce,
        retain_as_published: false,
        when,
    };
    for subscriber in same {
        merged.session = subscriber.session;
        merged.qos = merged.qos.max(subscriber.qos);
        merged.retain_as_published |= subscriber.retain_as_published;
        if subscriber.id != 0 {
            ids.push(subscriber.id);
        }
    }
    // Each once. A client can have very many filters that match one topic.
    let own = &mut ids[ids_at..];
    own.sort_unstable();
    let mut once = 0;
    for at in 0..own.len() {
        if once == 0 || own[at] != own[once - 1] {
            own[once] = own[at];
            once += 1;
        }
    }
    ids.truncate(ids_at + once);
    merged.ids_len = once as u32;
    merged
}

/// Routes of the topics asked for lately. When a literal filter changes, its route is forgotten. When a wildcard filter
/// does, each route is compared with it when it is used next: clients that come and go with filters of their own do not
/// make the routes of everybody else be searched again.
pub struct RouteCache {
    routes: HashMap<Box<str>, Rc<Route>, ahash::RandomState>,
    /// Of all routes in the map.
    bytes: usize,
    /// How many wildcard filters have changed; a route has seen as many as its own number says.
    generation: u64,
    /// The last of those filters, oldest first.
    changes: VecDeque<Box<str>>,
}

impl RouteCache {
    /// Nothing remembered.
    pub fn new(seed: u64) -> RouteCache {
        let hasher = ahash::RandomState::with_seeds(seed, 4, 5, 6);
        RouteCache { routes: HashMap::with_hasher(hasher), bytes: 0, generation: 0, changes: VecDeque::new() }
    }

    /// The route of `topic`, if it is remembered and holds.
    pub fn get(&self, topic: &str) -> Option<Rc<Route>> {
        self.routes.get(topic).filter(|route| self.is_fresh(route)).cloned()
    }

    /// Remembers a route. It is given away for a moment only: who wants to remember it too keeps it weakly, so that
    /// what is forgotten here takes no memory.
    pub fn insert(&mut self, route: Route) -> Rc<Route> {
        if self.routes.len() >= CACHED_ROUTES || self.bytes + route.size() > CACHED_BYTES {
            self.routes.clear();
            self.bytes = 0;
            self.forget();
        }
        route.generation.set(self.generation);
        self.bytes += route.size();
        let route = Rc::new(route);
        if let Some(replaced) = self.routes.insert(route.topic.clone(), route.clone()) {
            self.bytes -= replaced.size();
        }
        route
    }

    /// Whether a route, remembered here or by a connection, still holds.
    pub fn is_fresh(&self, route: &Route) -> bool {
        !route.stale.get() && (route.generation.get() == self.generation || self.catch_up(route))
    }

    /// Whether none of the filters that changed since the route was used last matches its topic.
    #[cold]
    fn catch_up(&self, route: &Route) -> bool {
        let missed = self.generation - route.generation.get();
        let known = self.changes.len() as u64;
        let is_fresh = missed <= known
            && self.changes.range((known - missed) as usize..).all(|filter| !matches(filter, &route.topic));
        match is_fresh {
            true => route.generation.set(self.generation),
            false => route.stale.set(true),
        }
        is_fresh
    }

    /// No route holds any more.
    pub fn forget(&mut self) {
        self.changes.clear();
        self.generation += 1;
    }

    /// The subscribers of `filter` changed.
    pub fn invalidate(&mut self, filter: &str) {
        if !is_literal(filter) {
            if filter.len() > CHANGED_FILTER {
                return self.forget();
            }
            if self.changes.len() == CHANGES {
                self.changes.pop_front();
            }
            self.changes.push_back(filter.into());
            self.generation += 1;
        } else if let Some(route) = self.routes.remove(filter) {
            self.bytes -= route.size();
            route.stale.set(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(session: u32, id: u32, qos: QoS, no_local: bool) -> Subscriber {
        Subscriber { session, id, qos, no_local, retain_as_published: id == 2 }
    }
    fn route(subscribers: Vec<Subscriber>) -> Route {
        Route::new("t", subscribers, true, Vec::new(), ShardSet::EMPTY)
    }

    #[test]
    fn overlapping_filters_of_a_session_become_one_delivery() {
        let route = route(vec![
            subscriber(2, 1, QoS::AtMostOnce, false),
            subscriber(1, 0, QoS::AtMostOnce, false),
            subscriber(2, 2, QoS::ExactlyOnce, false),
            subscriber(2, 1, QoS::AtLeastOnce, false),
            subscriber(2, 2, QoS::AtMostOnce, false),
        ]);
        assert_eq!(route.direct.len(), 2);
        let merged = &route.direct[1];
        assert_eq!((merged.session, merged.qos, merged.retain_as_published), (2, QoS::ExactlyOnce, true));
        assert_eq!(route.ids(merged), [1, 2]);
        assert!(route.ids(&route.direct[0]).is_empty());
    }

    #[test]
    fn a_session_with_and_without_no_local_gets_its_own_message_by_the_other_filter() {
        let route =
            route(vec![subscriber(1, 7, QoS::ExactlyOnce, true), subscriber(1, 8, QoS::AtLeastOnce, false)]);
        let of = |when| *route.direct.iter().find(|s| s.when == when).expect("both variants");
        assert_eq!(route.ids(&of(When::NotOwn)), [7, 8]);
        assert_eq!((of(When::OwnOnly).qos, route.ids(&of(When::OwnOnly))), (QoS::AtLeastOnce, &[8][..]));
    }

    #[test]
    fn routes_of_many_subscribers_push_each_other_out() {
        let mut cache = RouteCache::new(1);
        let mut remembered = Vec::new();
        for topic in 0..6 {
            let subscribers = (0..1_000_000).map(|session| subscriber(session, 0, QoS::AtMostOnce, false));
            let route =
                Route::new(&topic.to_string(), subscribers.collect(), false, Vec::new(), ShardSet::EMPTY);
            remembered.push(Rc::downgrade(&cache.insert(route)));
        }
        assert!(cache.bytes <= CACHED_BYTES);
        let kept = remembered.iter().filter(|route| route.upgrade().is_some()).count();
        assert!((1..5).contains(&kept), "{kept}");
        (0..6).for_each(|topic| cache.invalidate(&topic.to_string()));
        assert_eq!((cache.bytes, cache.routes.len()), (0, 0));
    }

    fn remembered(cache: &mut RouteCache, topic: &str) -> Rc<Route> {
        cache.insert(Route::new(topic, Vec::new(), false, Vec::new(), ShardSet::EMPTY))
    }

    #[test]
    fn a_change_of_a_wildcard_filter_concerns_the_topics_that_match_it() {
        let mut cache = RouteCache::new(1);
        let routes = ["a/b", "a/c", "$SYS/x"].map(|topic| remembered(&mut cache, topic));
        let holds = |cache: &RouteCache| routes.each_ref().map(|route| cache.is_fresh(route));
        (0..CHANGES).for_each(|number| cache.invalidate(&format!("b/{number}/#")));
        assert_eq!(holds(&cache), [true; 3]);
        cache.invalidate("+/b");
        cache.invalidate("d/#");
        assert_eq!(holds(&cache), [false, true, true]);
        assert!(cache.get("a/b").is_none() && cache.get("a/c").is_some());
        cache.invalidate("#");
        assert_eq!(holds(&cache), [false, false, true]);
        cache.forget();
        assert_eq!(holds(&cache), [false; 3]);
    }

    #[test]
    fn a_route_that_missed_too_much_is_searched_anew() {
        let mut cache = RouteCache::new(1);
        let route = remembered(&mut cache, "a");
        (0..=CHANGES).for_each(|number| cache.invalidate(&format!("b/{number}/#")));
        assert!(!cache.is_fresh(&route));
        let route = remembered(&mut cache, "a");
        cache.invalidate(&format!("b/{}/#", "x".repeat(CHANGED_FILTER)));
        assert!(!cache.is_fresh(&route));
    }

    #[test]
    fn no_local_alone_excludes_own_messages() {
        let route = route(vec![subscriber(1, 0, QoS::AtLeastOnce, true)]);
        assert_eq!(route.direct[0].when, When::NotOwn);
        assert_eq!(route.direct.len(), 1);
    }
}
