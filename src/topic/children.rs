//! The literal children of one trie node: as small as their number allows.
use ahash::RandomState;
use smallvec::SmallVec;
use std::collections::HashMap;

/// Children up to which they are searched one after the other; from one more on a node has a hash map.
const FEW: usize = 8;
/// A hash map with so few children left goes back to a list; below `FEW`, so that one child coming and going costs nothing.
const FEW_AGAIN: usize = 4;

/// The text of one level; up to 16 bytes need no allocation.
type Label = SmallVec<[u8; 16]>;

/// Nodes by the text of their level. Most nodes of a real tree have none or one.
#[derive(Default)]
// The map is boxed because it would triple the size of every node.
#[allow(clippy::box_collection)]
pub(super) enum Children {
    #[default]
    None,
    One(Label, u32),
    Few(Vec<(Label, u32)>),
    Many(Box<HashMap<Label, u32, RandomState>>),
}

impl Children {
    /// The node below `level`.
    pub(super) fn get(&self, level: &[u8]) -> Option<u32> {
        match self {
            Children::None => None,
            Children::One(label, node) => (label.as_slice() == level).then_some(*node),
            Children::Few(list) => {
                list.iter().find(|(label, _)| label.as_slice() == level).map(|(_, node)| *node)
            }
            Children::Many(map) => map.get(level).copied(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Children::None)
    }

    /// Adds a level that is not there yet. `hasher` is used from the first hash map on.
    pub(super) fn insert(&mut self, level: &[u8], node: u32, hasher: &RandomState) {
        let label = Label::from_slice(level);
        *self = match std::mem::take(self) {
            Children::None => Children::One(label, node),
            Children::One(first, first_node) => Children::Few(vec![(first, first_node), (label, node)]),
            Children::Few(mut list) if list.len() < FEW => {
                list.push((label, node));
                Children::Few(list)
            }
            Children::Few(list) => {
                let mut map = HashMap::with_capacity_and_hasher(2 * FEW, hasher.clone());
                map.extend(list);
                map.insert(label, node);
                Children::Many(Box::new(map))
            }
            Children::Many(mut map) => {
                map.insert(label, node);
                Children::Many(map)
            }
        };
    }

    /// Takes a level away that is there, and shrinks to what the rest needs.
    pub(super) fn remove(&mut self, level: &[u8]) {
        *self = match std::mem::take(self) {
            Children::None | Children::One(..) => Children::None,
            Children::Few(mut list) => {
                list.retain(|(label, _)| label.as_slice() != level);
                if list.len() > 1 {
                    Children::Few(list)
                } else {
                    list.pop().map_or(Children::None, |(label, node)| Children::One(label, node))
                }
            }
            Children::Many(mut map) => {
                map.remove(level);
                if map.len() > FEW_AGAIN {
                    if map.len() < map.capacity() / 8 {
                        map.shrink_to(2 * map.len());
                    }
                    Children::Many(map)
                } else {
                    // ORDER: sorted below.
                    let mut list: Vec<_> = map.into_iter().collect();
                    list.sort_unstable_by_key(|(_, node)| *node);
                    Children::Few(list)
                }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every shape on the way up and down finds exactly what is in it.
    #[test]
    fn shapes_grow_and_shrink_with_the_number_of_children() {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let label = |node: u32| format!("level with a long name {node}").into_bytes();
        let shape = |children: &Children| match children {
            Children::None => 0,
            Children::One(..) => 1,
            Children::Few(_) => 2,
            Children::Many(_) => 3,
        };
        let mut children = Children::default();
        let mut shapes = vec![shape(&children)];
        for node in 0..40 {
            children.insert(&label(node), node, &hasher);
            shapes.push(shape(&children));
            for other in 0..40 {
                assert_eq!(children.get(&label(other)), (other <= node).then_some(other));
            }
        }
        assert_eq!(shapes[..4], [0, 1, 2, 2]);
        assert_eq!(shapes[FEW..FEW + 2], [2, 3]);
        for node in 0..40 {
            children.remove(&label(node));
            for other in 0..40 {
                assert_eq!(children.get(&label(other)), (other > node).then_some(other));
            }
            let left = 39 - node as usize;
            assert_eq!(shape(&children), if left <= FEW_AGAIN { left.min(2) } else { 3 }, "{left} left");
        }
        assert!(children.is_empty());
    }

    #[test]
    fn a_node_with_one_child_is_small() {
        assert_eq!(size_of::<Children>(), 32);
    }
}
