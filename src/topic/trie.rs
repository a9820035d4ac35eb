//! Wildcard filters as a tree of levels, in one vector of nodes.
use super::children::Children;
use ahash::RandomState;
use slab::Slab;
use smallvec::SmallVec;

/// Levels up to which a walk needs no allocation.
const INLINE_LEVELS: usize = 16;
/// No node, no value.
const NONE: u32 = u32::MAX;
/// The node above the first level; always there.
const ROOT: u32 = 0;

/// What follows one prefix of levels.
struct Node {
    /// Literal levels.
    children: Children,
    /// The level `+`. In a free node: the next free node.
    plus: u32,
    /// The value of the filter that ends here.
    value: u32,
    /// The value of the filter that ends here with `/#`.
    multi: u32,
}

impl Node {
    fn new() -> Node {
        Node { children: Children::None, plus: NONE, value: NONE, multi: NONE }
    }

    fn child(&self, level: &str) -> Option<u32> {
        if level == "+" {
            (self.plus != NONE).then_some(self.plus)
        } else {
            self.children.get(level.as_bytes())
        }
    }

    /// Nothing ends here or below.
    fn is_bare(&self) -> bool {
        self.children.is_empty() && self.plus == NONE && self.value == NONE && self.multi == NONE
    }
}

/// Where a filter's value stands: a node, and which of its two values.
struct Place {
    node: u32,
    multi: bool,
}

/// Filters with wildcards and their values.
pub(super) struct Trie<V> {
    nodes: Vec<Node>,
    /// First node that can be used again.
    free: u32,
    values: Slab<V>,
    hasher: RandomState,
}

impl<V> Trie<V> {
    pub(super) fn new(hasher: RandomState) -> Trie<V> {
        Trie { nodes: vec![Node::new()], free: NONE, values: Slab::new(), hasher }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn get(&self, filter: &str) -> Option<&V> {
        let place = self.find(filter, |_, _| {})?;
        self.values.get(self.slot(&place) as usize)
    }

    pub(super) fn get_mut(&mut self, filter: &str) -> Option<&mut V> {
        let place = self.find(filter, |_, _| {})?;
        self.values.get_mut(self.slot(&place) as usize)
    }

    /// The value of `filter`, made and put in when there is none.
    pub(super) fn entry_or(&mut self, filter: &str, make: impl FnOnce() -> V) -> &mut V {
        let place = self.grow(filter);
        let mut key = self.slot(&place);
        if key == NONE {
            key = index(self.values.insert(make()));
            *self.slot_mut(&place) = key;
        }
        &mut self.values[key as usize]
    }

    /// Takes `filter` out and frees the nodes that only it needed.
    pub(super) fn remove(&mut self, filter: &str) -> Option<V> {
        let mut path: SmallVec<[(u32, &str); INLINE_LEVELS]> = SmallVec::new();
        let place = self.find(filter, |node, level| path.push((node, level)))?;
        let key = std::mem::replace(self.slot_mut(&place), NONE);
        let value = self.values.try_remove(key as usize)?;
        if self.values.is_empty() {
            *self = Trie::new(self.hasher.clone());
            return Some(value);
        }
        let mut node = place.node;
        while self.nodes[node as usize].is_bare()
            && let Some((parent, level)) = path.pop()
        {
            let above = &mut self.nodes[parent as usize];
            if level == "+" {
                above.plus = NONE;
            } else {
                above.children.remove(level.as_bytes());
            }
            self.nodes[node as usize].plus = self.free;
            self.free = node;
            node = parent;
        }
        Some(value)
    }

    /// Calls `visit` with the value of every filter that matches `topic`; depth first, `#` before literal levels
    /// before `+`. Returns how many steps that took.
    pub(super) fn for_each_match<'a>(&'a self, topic: &str, visit: &mut impl FnMut(&'a V)) -> usize {
        if self.values.is_empty() {
            return 0;
        }
        let mut steps = 0;
        let bytes = topic.as_bytes();
        // Wildcards in the first level do not match topics that begin with '$' [MQTT-4.7.2-1].
        let dollar = bytes.first() == Some(&b'$');
        // Nodes still to be walked, with where their part of the topic begins; at most one for each level.
        let mut waiting: SmallVec<[(u32, usize); INLINE_LEVELS]> = SmallVec::new();
        let mut next = Some((ROOT, 0));
        while let Some((id, start)) = next.or_else(|| waiting.pop()) {
            next = None;
            steps += 1;
            let node = &self.nodes[id as usize];
            let wildcards = id != ROOT || !dollar;
            if wildcards && node.multi != NONE {
                visit(&self.values[node.multi as usize]);
            }
            let Some(rest) = bytes.get(start..) else {
                if node.value != NONE {
                    visit(&self.values[node.value as usize]);
                }
                continue;
            };
            let end = start + memchr::memchr(b'/', rest).unwrap_or(rest.len());
            if wildcards && node.plus != NONE {
                waiting.push((node.plus, end + 1));
            }
            next = node.children.get(&bytes[start..end]).map(|child| (child, end + 1));
        }
        steps
    }

    /// The place of `filter` if its nodes exist; tells `step` every node on the way and the level it leaves by.
    fn find<'f>(&self, filter: &'f str, mut step: impl FnMut(u32, &'f str)) -> Option<Place> {
        let (levels, multi) = split(filter);
        let mut node = ROOT;
        for level in levels.into_iter().flat_map(|levels| levels.split('/')) {
            let below = self.nodes[node as usize].child(level)?;
            step(node, level);
            node = below;
        }
        Some(Place { node, multi })
    }

    /// The place of `filter`, with the nodes it needs.
    fn grow(&mut self, filter: &str) -> Place {
        let (levels, multi) = split(filter);
        let mut node = ROOT;
        for level in levels.into_iter().flat_map(|levels| levels.split('/')) {
            node = match self.nodes[node as usize].child(level) {
                Some(below) => below,
                None => self.add(node, level),
            };
        }
        Place { node, multi }
    }

    fn add(&mut self, parent: u32, level: &str) -> u32 {
        let node = if self.free == NONE {
            self.nodes.push(Node::new());
            index(self.nodes.len() - 1)
        } else {
            let node = self.free;
            self.free = std::mem::replace(&mut self.nodes[node as usize].plus, NONE);
            node
        };
        let above = &mut self.nodes[parent as usize];
        if level == "+" {
            above.plus = node;
        } else {
            above.children.insert(level.as_bytes(), node, &self.hasher);
        }
        node
    }

    fn slot(&self, place: &Place) -> u32 {
        let node = &self.nodes[place.node as usize];
        if place.multi { node.multi } else { node.value }
    }

    fn slot_mut(&mut self, place: &Place) -> &mut u32 {
        let node = &mut self.nodes[place.node as usize];
        if place.multi { &mut node.multi } else { &mut node.value }
    }
}

/// A filter without its closing `#`: the levels in front of it (`None` when there are none), and whether it had one.
fn split(filter: &str) -> (Option<&str>, bool) {
    match filter.strip_suffix('#') {
        Some("") => (None, true),
        Some(levels) if levels.ends_with('/') => (Some(&levels[..levels.len() - 1]), true),
        _ => (Some(filter), false),
    }
}

/// Indices are 32 bits wide to keep nodes small; a trie of four thousand million nodes fits into no memory.
fn index(at: usize) -> u32 {
    assert!(at < NONE as usize, "the trie has more nodes than 32 bits can count");
    at as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free_nodes<V>(trie: &Trie<V>) -> usize {
        let mut free = trie.free;
        let mut count = 0;
        while free != NONE {
            count += 1;
            free = trie.nodes[free as usize].plus;
        }
        count
    }

    #[test]
    fn nodes_are_small() {
        assert_eq!(size_of::<Node>(), 48);
    }

    #[test]
    fn a_removed_filter_frees_exactly_the_nodes_it_alone_needed() {
        let mut trie = Trie::new(RandomState::with_seeds(1, 2, 3, 4));
        for (value, filter) in ["a/+", "a/+/b/c/d", "a/+/b/#", "+/x/#"].into_iter().enumerate() {
            trie.entry_or(filter, || value);
        }
        let full = trie.nodes.len();
        assert_eq!(trie.remove("a/+/b/c/d"), Some(1));
        assert_eq!(free_nodes(&trie), 2);
        assert_eq!(trie.remove("a/+/b/c/d"), None);
        assert_eq!(trie.remove("a/+/b"), None);
        assert_eq!(trie.remove("a/+/b/#"), Some(2));
        assert_eq!(free_nodes(&trie), 3);
        assert_eq!(trie.get("a/+"), Some(&0));
        trie.entry_or("q/r/s/+", || 9);
        assert_eq!(trie.nodes.len(), full + 1, "freed nodes are used again");
        assert_eq!(trie.remove("a/+"), Some(0));
        assert_eq!(trie.remove("q/r/s/+"), Some(9));
        assert_eq!(trie.nodes.len() - free_nodes(&trie), 3);
        assert_eq!(trie.remove("+/x/#"), Some(3));
        assert_eq!(trie.nodes.len(), 1, "the last filter takes all memory with it");
    }

    #[test]
    fn visits_come_in_a_fixed_order() {
        let filters = ["#", "a/#", "a/b/#", "a/b/+", "a/+/#", "a/+/c", "+/b/c", "+/+/+"];
        let mut trie = Trie::new(RandomState::with_seeds(1, 2, 3, 4));
        for filter in filters.iter().rev() {
            trie.entry_or(filter, || *filter);
        }
        let mut seen = Vec::new();
        trie.for_each_match("a/b/c", &mut |filter| seen.push(*filter));
        assert_eq!(seen, filters);
    }
}
