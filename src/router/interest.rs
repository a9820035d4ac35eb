//! What the other shards are interested in.
//!
//! A literal filter costs a fingerprint here, not its text: the shard that has the subscriber compares the text.
use super::fingerprints::Fingerprints;
use super::{Keys, ShardSet, is_literal};
use crate::topic::FilterMap;

/// Something that one shard tells all others about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InterestChange {
    /// It has a first subscriber to this filter.
    Add(Box<str>),
    /// It has no subscriber to this filter any more.
    Remove(Box<str>),
    /// It has this many members of a shared-subscription group.
    Group {
        /// Share name.
        share: Box<str>,
        /// Filter.
        filter: Box<str>,
        /// Members that are connected.
        connected: u32,
        /// All members.
        members: u32,
    },
}

impl InterestChange {
    /// Bytes that it keeps in memory, about.
    pub fn weight(&self) -> usize {
        let share = if let InterestChange::Group { share, .. } = self { share.len() } else { 0 };
        size_of::<InterestChange>() + share + self.filter().len()
    }
    /// The filter that it is about.
    pub fn filter(&self) -> &str {
        match self {
            InterestChange::Add(filter)
            | InterestChange::Remove(filter)
            | InterestChange::Group { filter, .. } => filter,
        }
    }
}

/// Filters and the shards that have subscribers to them.
pub struct Interest {
    keys: Keys,
    literal: Fingerprints,
    wildcard: FilterMap<ShardSet>,
}

impl Interest {
    /// No shard is interested in anything.
    pub fn new(keys: Keys, seed: u64) -> Interest {
        Interest { keys, literal: Fingerprints::default(), wildcard: FilterMap::new(seed) }
    }

    /// How many filters there are, one without wildcards once for each shard.
    pub fn len(&self) -> usize {
        self.literal.len() + self.wildcard.len()
    }
    /// Nobody is interested in anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn fingerprint(&self, text: &str) -> u64 {
        Fingerprints::fingerprint(self.keys.hash(text))
    }

    /// `shard` has its first subscriber to `filter`; told once until it is taken back.
    pub fn add(&mut self, shard: u8, filter: &str) {
        if is_literal(filter) {
            self.literal.insert(self.fingerprint(filter), shard);
        } else {
            self.wildcard.entry_or(filter, ShardSet::default).insert(shard);
        }
    }

    /// `shard` has no subscriber to `filter` any more.
    pub fn remove(&mut self, shard: u8, filter: &str) {
        if is_literal(filter) {
            self.literal.remove(self.fingerprint(filter), shard);
        } else if let Some(shards) = self.wildcard.get_mut(filter) {
            shards.remove(shard);
            if shards.is_empty() {
                self.wildcard.remove(filter);
            }
        }
    }

    /// The shards that have a subscriber to `topic`. Adds to `steps` what finding them took.
    pub fn shards(&self, topic: &str, steps: &mut usize) -> ShardSet {
        let mut shards = ShardSet::EMPTY;
        if !self.literal.is_empty() {
            shards = self.literal.shards(self.fingerprint(topic));
        }
        *steps += self.wildcard.for_each_match(topic, |interested| shards.extend(*interested));
        shards
    }
}
