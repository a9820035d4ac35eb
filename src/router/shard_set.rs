//! A set of shards.
use crate::limits::MAX_SHARDS;

/// A set of shard numbers below [`MAX_SHARDS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ShardSet(u128);

const _: () = assert!(MAX_SHARDS <= u128::BITS as usize);

impl ShardSet {
    /// No shard.
    pub const EMPTY: ShardSet = ShardSet(0);

    /// Adds a shard.
    pub fn insert(&mut self, shard: u8) {
        self.0 |= 1 << shard;
    }
    /// Removes a shard.
    pub fn remove(&mut self, shard: u8) {
        self.0 &= !(1 << shard);
    }
    /// Adds every shard of another set.
    pub fn extend(&mut self, other: ShardSet) {
        self.0 |= other.0;
    }
    /// Whether a shard is in the set.
    pub fn contains(self, shard: u8) -> bool {
        self.0 >> shard & 1 == 1
    }
    /// No shard is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Iterator for ShardSet {
    type Item = u8;
    fn next(&mut self) -> Option<u8> {
        if self.0 == 0 {
            return None;
        }
        let lowest = self.0.trailing_zeros() as u8;
        self.0 &= self.0 - 1;
        Some(lowest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_yields_what_was_put_in_and_not_removed() {
        let mut set = ShardSet::EMPTY;
        for shard in [0, 5, 127] {
            set.insert(shard);
        }
        set.remove(5);
        assert!(set.contains(127) && !set.contains(5));
        assert_eq!(set.collect::<Vec<_>>(), [0, 127]);
    }
}
