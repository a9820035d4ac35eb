//! Literal filters of other shards: 8 bytes for each filter and shard, about 14 with the room in the tables.
use super::ShardSet;
use crate::limits::MAX_SHARDS;
use hashbrown::HashTable;

/// Bits of an entry that name the shard.
const SHARD_BITS: u32 = 7;
const _: () = assert!(MAX_SHARDS <= 1 << SHARD_BITS);

/// Where each part ends, of 65,536. Each is larger than the one before it by the eighth root of 2, so that one of the eight
/// doubles at a time: the room that is left unused is always about a third, and no single filter waits for all to move.
const ENDS: [u32; PARTS] = [5_932, 12_400, 19_453, 27_146, 35_535, 44_682, 54_658, 65_536];
/// Tables that the entries are spread over.
const PARTS: usize = 8;
/// A table with room for this many times its content gives memory back.
const SHRINK_FACTOR: usize = 8;
/// Tables with room for so few never bother.
const SHRINK_FROM: usize = 1024;

/// Which shards have a subscriber to which literal filter, as a bag of pairs: a fingerprint of 57 bits, and a shard.
///
/// Two filters that share a fingerprint are two entries, so that taking one out leaves the other. What they share is that a
/// message for one goes to the shard of the other as well, which compares the text and finds nobody.
#[derive(Default)]
pub(super) struct Fingerprints {
    parts: [HashTable<u64>; PARTS],
}

/// Where a fingerprint belongs.
fn part_of(fingerprint: u64) -> usize {
    let share = (fingerprint >> 30) as u32 & 0xffff;
    ENDS.iter().take_while(|end| share >= **end).count()
}

fn entry(fingerprint: u64, shard: u8) -> u64 {
    fingerprint << SHARD_BITS | u64::from(shard)
}

/// The hash of an entry. Tables look at the lowest bits for the place and at the highest ones to tell neighbours apart.
fn hash(entry: &u64) -> u64 {
    let fingerprint = entry >> SHARD_BITS;
    fingerprint | fingerprint >> 50 << 57
}

impl Fingerprints {
    /// Bits of a hash that make a fingerprint.
    pub(super) fn fingerprint(hash: u64) -> u64 {
        hash >> SHARD_BITS
    }

    /// Pairs of a filter and a shard.
    pub(super) fn len(&self) -> usize {
        (0..PARTS).map(|part| self.parts[part].len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `shard` has its first subscriber to the filter with this fingerprint.
    pub(super) fn insert(&mut self, fingerprint: u64, shard: u8) {
        let entry = entry(fingerprint, shard);
        self.parts[part_of(fingerprint)].insert_unique(hash(&entry), entry, hash);
    }

    /// `shard` has no subscriber to it any more.
    pub(super) fn remove(&mut self, fingerprint: u64, shard: u8) {
        let entry = entry(fingerprint, shard);
        let part = &mut self.parts[part_of(fingerprint)];
        if let Ok(found) = part.find_entry(hash(&entry), |other| *other == entry) {
            found.remove();
        }
        if part.capacity() > SHRINK_FROM && part.len() < part.capacity() / SHRINK_FACTOR {
            part.shrink_to(2 * part.len(), hash);
        }
    }

    /// The shards with a subscriber to a filter with this fingerprint.
    pub(super) fn shards(&self, fingerprint: u64) -> ShardSet {
        let mut shards = ShardSet::EMPTY;
        for found in self.parts[part_of(fingerprint)].iter_hash(hash(&entry(fingerprint, 0))) {
            if found >> SHARD_BITS == fingerprint {
                shards.insert((found & ((1 << SHARD_BITS) - 1)) as u8);
            }
        }
        shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_share_a_fingerprint_are_taken_out_one_by_one() {
        let mut all = Fingerprints::default();
        all.insert(77, 3);
        all.insert(77, 3);
        all.insert(77, 127);
        assert_eq!(all.shards(77).collect::<Vec<_>>(), [3, 127]);
        all.remove(77, 3);
        assert_eq!(all.shards(77).collect::<Vec<_>>(), [3, 127]);
        all.remove(77, 3);
        all.remove(77, 3);
        assert_eq!((all.shards(77).collect::<Vec<_>>(), all.len()), (vec![127], 1));
        all.remove(77, 127);
        assert!(all.is_empty() && all.shards(77).is_empty());
    }

    #[test]
    fn the_parts_grow_one_after_the_other() {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let fingerprint = |number: u32| Fingerprints::fingerprint(hasher.hash_one(number));
        let mut all = Fingerprints::default();
        let mut most = 0;
        for number in 0..200_000 {
            all.insert(fingerprint(number), (number % 128) as u8);
            if number > 20_000 {
                // A slot is 8 bytes and one of control; a table has an eighth more of them than it lets be used.
                let bytes: usize = (0..PARTS).map(|part| all.parts[part].capacity() * 8 / 7 * 9).sum();
                most = most.max(bytes / all.len());
            }
        }
        assert!(most <= 16, "{most} bytes each at the worst moment");
        for number in 0..200_000 {
            assert!(all.shards(fingerprint(number)).contains((number % 128) as u8));
        }
        (100..200_000).for_each(|number| all.remove(fingerprint(number), (number % 128) as u8));
        let room: usize = (0..PARTS).map(|part| all.parts[part].capacity()).sum();
        assert!(all.len() == 100 && room <= 2 * SHRINK_FROM * PARTS, "{room}");
    }
}
