//! Filters mapped to values, searched by topic.
use super::filter::has_wildcard;
use super::literal_map::LiteralMap;
use super::trie::Trie;
use ahash::RandomState;

/// A map from filters to values, searched by topic.
///
/// Filters without wildcards are found with one hash; those with wildcards by a walk over the topic's levels.
pub struct FilterMap<V> {
    literal: LiteralMap<V>,
    wildcard: Trie<V>,
}

impl<V> FilterMap<V> {
    /// An empty map; `seed` keys its hashes, so that clients cannot choose filters that collide.
    pub fn new(seed: u64) -> FilterMap<V> {
        let hasher = RandomState::with_seeds(seed, !seed, seed.rotate_left(21), seed.rotate_left(43));
        FilterMap { literal: LiteralMap::new(hasher.clone()), wildcard: Trie::new(hasher) }
    }

    /// Filters in the map.
    pub fn len(&self) -> usize {
        self.literal.len() + self.wildcard.len()
    }

    /// No filter is in the map.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of exactly this filter.
    pub fn get(&self, filter: &str) -> Option<&V> {
        if has_wildcard(filter) { self.wildcard.get(filter) } else { self.literal.get(filter) }
    }

    /// The value of exactly this filter, to be changed.
    pub fn get_mut(&mut self, filter: &str) -> Option<&mut V> {
        if has_wildcard(filter) { self.wildcard.get_mut(filter) } else { self.literal.get_mut(filter) }
    }

    /// The value of exactly this filter; `make` makes it when there is none.
    pub fn entry_or(&mut self, filter: &str, make: impl FnOnce() -> V) -> &mut V {
        if has_wildcard(filter) {
            self.wildcard.entry_or(filter, make)
        } else {
            self.literal.entry_or(filter, make)
        }
    }

    /// Takes a filter out.
    pub fn remove(&mut self, filter: &str) -> Option<V> {
        if has_wildcard(filter) { self.wildcard.remove(filter) } else { self.literal.remove(filter) }
    }

    /// Calls `visit` with the value of every filter that matches `topic`, each once, in an order that depends
    /// only on the topic and the filters. Allocates nothing for topics of up to 16 levels. Returns how many steps it
    /// took through the filters with wildcards.
    pub fn for_each_match<'a>(&'a self, topic: &str, mut visit: impl FnMut(&'a V)) -> usize {
        if !self.literal.is_empty()
            && let Some(value) = self.literal.get(topic)
        {
            visit(value);
        }
        self.wildcard.for_each_match(topic, &mut visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(map: &FilterMap<u32>, topic: &str) -> Vec<u32> {
        let mut values = Vec::new();
        map.for_each_match(topic, |value| values.push(*value));
        values
    }

    #[test]
    fn literal_and_wildcard_filters_live_side_by_side() {
        let mut map = FilterMap::new(7);
        for (value, filter) in
            ["a/b", "a/+", "a/#", "#", "+/+", "/", "$SYS/#", "$SYS/x"].into_iter().enumerate()
        {
            *map.entry_or(filter, || 0) = value as u32;
        }
        assert_eq!(map.len(), 8);
        assert_eq!(found(&map, "a/b"), [0, 3, 2, 1, 4]);
        assert_eq!(found(&map, "a"), [3, 2]);
        assert_eq!(found(&map, "/"), [5, 3, 4]);
        assert_eq!(found(&map, "$SYS/x"), [7, 6]);
        assert_eq!(found(&map, "$SYS"), [6]);
        assert_eq!((map.get("a/+"), map.get("a/b"), map.get("a")), (Some(&1), Some(&0), None));
        *map.get_mut("a/b").unwrap() = 10;
        *map.get_mut("a/+").unwrap() = 11;
        assert_eq!(*map.entry_or("a/b", || unreachable!()), 10);
        assert_eq!((map.remove("a/b"), map.remove("a/+"), map.remove("a/b")), (Some(10), Some(11), None));
        assert_eq!(found(&map, "a/b"), [3, 2, 4]);
        assert!(!map.is_empty());
    }

    #[test]
    fn deep_topics_are_walked_too() {
        let topic = ["x"; 200].join("/");
        let mut map = FilterMap::new(7);
        let every_second = ["x/+"; 100].join("/");
        map.entry_or(&every_second, || 1);
        map.entry_or(&format!("{topic}/#"), || 2);
        map.entry_or(&["+"; 200].join("/"), || 3);
        assert_eq!(found(&map, &topic), [2, 1, 3]);
        assert!(found(&map, &topic[2..]).is_empty());
    }

    #[test]
    fn removing_most_filters_gives_memory_back() {
        let mut map = FilterMap::new(7);
        for filter in 0..10_000 {
            map.entry_or(&format!("device/{filter}"), || filter);
        }
        for filter in 10..10_000 {
            assert_eq!(map.remove(&format!("device/{filter}")), Some(filter));
        }
        assert!(map.literal.room() <= 1024, "{}", map.literal.room());
        assert_eq!(found(&map, "device/9"), [9]);
    }
}
