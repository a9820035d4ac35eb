//! Filters without wildcards and their values: found with one hash.
use crate::slots::Slots;
use ahash::RandomState;
use hashbrown::HashTable;

/// A map with room for this many times its content gives memory back.
const SHRINK_FACTOR: usize = 8;
/// Maps with room for so few never bother.
const SHRINK_FROM: usize = 1024;

/// A map from texts to values. The hash table, which is half empty after it has grown, holds numbers only.
pub(super) struct LiteralMap<V> {
    numbers: HashTable<u32>,
    entries: Slots<(Box<str>, V)>,
    hasher: RandomState,
}

impl<V> LiteralMap<V> {
    pub(super) fn new(hasher: RandomState) -> LiteralMap<V> {
        LiteralMap { numbers: HashTable::new(), entries: Slots::new(), hasher }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn number(&self, text: &str) -> Option<usize> {
        let same = |number: &u32| *self.entries[*number as usize].0 == *text;
        self.numbers.find(self.hasher.hash_one(text), same).map(|number| *number as usize)
    }

    pub(super) fn get(&self, text: &str) -> Option<&V> {
        self.number(text).map(|number| &self.entries[number].1)
    }

    pub(super) fn get_mut(&mut self, text: &str) -> Option<&mut V> {
        self.number(text).map(|number| &mut self.entries[number].1)
    }

    /// The value of `text`; `make` makes it when there is none.
    pub(super) fn entry_or(&mut self, text: &str, make: impl FnOnce() -> V) -> &mut V {
        let number = self.number(text).unwrap_or_else(|| self.insert(text.into(), make()));
        &mut self.entries[number].1
    }

    fn insert(&mut self, text: Box<str>, value: V) -> usize {
        let LiteralMap { numbers, entries, hasher } = self;
        let hash = hasher.hash_one(&*text);
        let number = entries.insert((text, value));
        numbers.insert_unique(hash, number as u32, |number| hasher.hash_one(&*entries[*number as usize].0));
        number
    }

    /// Takes a text out.
    pub(super) fn remove(&mut self, text: &str) -> Option<V> {
        let LiteralMap { numbers, entries, hasher } = self;
        let same = |number: &u32| *entries[*number as usize].0 == *text;
        let (number, _) = numbers.find_entry(hasher.hash_one(text), same).ok()?.remove();
        let (_, value) = entries.remove(number as usize);
        if self.room() > SHRINK_FROM && self.len() < self.room() / SHRINK_FACTOR {
            let all = std::mem::take(&mut self.entries);
            self.numbers = HashTable::new();
            for (text, value) in all.into_values() {
                self.insert(text, value);
            }
        }
        Some(value)
    }

    /// Texts that there is memory for.
    pub(super) fn room(&self) -> usize {
        self.entries.room().max(self.numbers.capacity())
    }
}
