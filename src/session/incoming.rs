//! QoS 2 from the client: the packet ids between PUBREC and PUBREL.
use std::collections::VecDeque;

/// Packet ids of received QoS 2 messages that are not released yet ([MQTT-4.3.3-10]), oldest first.
/// The caller keeps the number within Receive Maximum.
#[derive(Default, Debug)]
pub struct Incoming {
    unreleased: VecDeque<u16>,
}

impl Incoming {
    /// Whether a PUBLISH with this id is a repetition.
    pub fn contains(&self, id: u16) -> bool {
        self.unreleased.contains(&id)
    }
    /// How many ids are waiting for PUBREL.
    pub fn len(&self) -> usize {
        self.unreleased.len()
    }
    /// No id is waiting.
    pub fn is_empty(&self) -> bool {
        self.unreleased.is_empty()
    }
    /// Remembers the id of a new message; it must not be there yet.
    pub fn insert(&mut self, id: u16) {
        debug_assert!(!self.contains(id));
        self.unreleased.push_back(id);
    }
    /// PUBREL: forgets the id; false if it was unknown. Clients release in order, so the search ends at once.
    pub fn release(&mut self, id: u16) -> bool {
        match self.unreleased.iter().position(|known| *known == id) {
            Some(at) => {
                self.unreleased.remove(at);
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_from_publish_to_release() {
        let mut incoming = Incoming::default();
        incoming.insert(7);
        assert!(incoming.contains(7));
        assert!(incoming.release(7));
        assert!(!incoming.contains(7) && incoming.is_empty());
        assert!(!incoming.release(7));
    }
}
