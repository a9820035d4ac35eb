//! Who was allowed to publish where, lately. Rules are looked through one by one, which takes long where there are many
//! and a client publishes to several topics in turn; remembering what they allowed makes their number not matter.
use super::Core;
use crate::session::message::SessionKey;

/// Permits that one shard remembers, in pairs; a further one takes the place of the older one of its pair.
const MOST: usize = 4096;
/// Bytes of the longest topic that is remembered.
const LONGEST: usize = 128;

/// What was allowed. Holds no memory until something was.
#[derive(Default)]
pub(super) struct Permits {
    entries: Vec<Option<(SessionKey, Box<str>)>>,
}

impl Permits {
    /// The first of the two places where a permit may be.
    fn place(hash: u64, session: SessionKey) -> usize {
        2 * ((hash.wrapping_add(session.0.wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 32) as usize % (MOST / 2))
    }

    fn holds(&self, hash: u64, session: SessionKey, topic: &str) -> bool {
        let place = Permits::place(hash, session);
        let mut pair = self.entries.get(place..place + 2).unwrap_or_default().iter().flatten();
        pair.any(|(known, of)| *known == session && **of == *topic)
    }

    fn insert(&mut self, hash: u64, session: SessionKey, topic: &str) {
        if topic.len() > LONGEST {
            return;
        }
        if self.entries.is_empty() {
            self.entries.resize(MOST, None);
        }
        let place = Permits::place(hash, session);
        self.entries[place + 1] = self.entries[place].take();
        self.entries[place] = Some((session, topic.into()));
    }

    /// The rules changed, or the rights of somebody.
    pub fn clear(&mut self) {
        self.entries = Vec::new();
    }
}

impl Core {
    /// Whether the rules allowed a client before to publish to the topic. Not asked where they ask somebody else.
    pub(super) fn was_permitted(&self, slot: u32, topic: &str) -> bool {
        let session = self.sessions[self.connections[slot as usize].session as usize].key;
        self.permits.holds(self.keys.hash(topic), session, topic)
    }

    /// The rules allowed it.
    pub(super) fn note_permit(&mut self, slot: u32, topic: &str) {
        let session = self.sessions[self.connections[slot as usize].session as usize].key;
        self.permits.insert(self.keys.hash(topic), session, topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_for_one_session_and_one_topic_until_the_rules_change() {
        let (mut permits, ann, bob) = (Permits::default(), SessionKey(1), SessionKey(2));
        assert!(!permits.holds(7, ann, "a"));
        permits.insert(7, ann, "a");
        assert!(permits.holds(7, ann, "a"));
        assert!(
            !permits.holds(7, bob, "a") && !permits.holds(7, ann, "b"),
            "even where the hashes are the same"
        );
        let long = "x".repeat(LONGEST + 1);
        permits.insert(8, ann, &long);
        assert!(!permits.holds(8, ann, &long));
        permits.insert(7, ann, "b");
        assert!(permits.holds(7, ann, "a") && permits.holds(7, ann, "b"), "two have room in one place");
        permits.insert(7, ann, "c");
        assert!(!permits.holds(7, ann, "a") && permits.holds(7, ann, "b") && permits.holds(7, ann, "c"));
        (0..2 * MOST as u64).for_each(|n| permits.insert(n << 32, bob, "b"));
        assert_eq!(permits.entries.len(), MOST);
        permits.clear();
        assert!(!permits.holds(7, ann, "c"));
    }
}
