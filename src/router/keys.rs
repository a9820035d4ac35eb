//! Keyed hashes: the same on every shard of one broker, unknown to its clients.
use crate::session::outgoing::GroupKey;
use ahash::RandomState;
use hashbrown::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A fingerprint is a hash already.
#[derive(Default)]
pub struct Fingerprint(u64);

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("only fingerprints are hashed here")
    }
    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = fingerprint as u64;
    }
}

/// Values by fingerprint.
pub type FingerprintMap<V> = HashMap<u128, V, BuildHasherDefault<Fingerprint>>;

/// Hashes with this broker's keys.
#[derive(Clone, Debug)]
pub struct Keys {
    low: RandomState,
    high: RandomState,
}

impl Keys {
    /// Keys from one seed.
    pub fn new(seed: u64) -> Keys {
        let keyed = |salt: u64| {
            RandomState::with_seeds(seed ^ salt, seed.rotate_left(17), salt, !seed.wrapping_mul(salt | 1))
        };
        Keys { low: keyed(0x9e37_79b9_7f4a_7c15), high: keyed(0xc2b2_ae3d_27d4_eb4f) }
    }
    /// A 64-bit hash.
    pub fn hash(&self, text: &str) -> u64 {
        self.low.hash_one(text)
    }
    /// 128 bits that stand for `text`: two of a billion texts share them with a chance below 10⁻²⁰.
    pub fn fingerprint(&self, text: &str) -> u128 {
        u128::from(self.low.hash_one(text)) | u128::from(self.high.hash_one(text)) << 64
    }
    /// The key of a shared-subscription group.
    pub fn group(&self, share: &str, filter: &str) -> GroupKey {
        let pair = (share, filter);
        GroupKey(u128::from(self.low.hash_one(pair)) | u128::from(self.high.hash_one(pair)) << 64)
    }
    /// The shard, of `shards`, that `text` belongs to.
    pub fn shard_of(&self, text: &str, shards: u8) -> u8 {
        shard_of_hash(self.hash(text), shards)
    }
    /// The shard that the text with this fingerprint belongs to.
    pub fn shard_of_fingerprint(&self, fingerprint: u128, shards: u8) -> u8 {
        shard_of_hash(fingerprint as u64, shards)
    }
}

fn shard_of_hash(hash: u64, shards: u8) -> u8 {
    ((u128::from(hash) * u128::from(shards)) >> 64) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_gets_its_part() {
        let keys = Keys::new(7);
        let mut seen = [0; 5];
        for number in 0..1000 {
            let text = format!("client-{number}");
            let shard = keys.shard_of(&text, 5);
            assert_eq!(keys.shard_of_fingerprint(keys.fingerprint(&text), 5), shard);
            seen[usize::from(shard)] += 1;
        }
        assert!(seen.iter().all(|count| *count > 140), "{seen:?}");
    }

    #[test]
    fn a_share_name_and_its_filter_do_not_run_into_each_other() {
        let keys = Keys::new(7);
        assert_ne!(keys.group("a", "b/c"), keys.group("ab", "/c"));
        assert_eq!(keys.group("a", "b"), Keys::new(7).group("a", "b"));
        assert_ne!(keys.group("a", "b"), Keys::new(8).group("a", "b"));
    }
}
