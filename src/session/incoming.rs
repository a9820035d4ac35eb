//! QoS 2 from the client: the packet ids between PUBREC and PUBREL.
use std::collections::VecDeque;

/// Packet ids of received QoS 2 messages that are not released yet ([MQTT-4.3.3-10]). The caller keeps the number
/// within Receive Maximum; clients before version 5 are told of none, so there may be one of each.
#[derive(Default, Debug)]
pub struct Incoming {
    /// Ascending. Clients count upwards and release in order, so that ids come and go at the ends.
    unreleased: VecDeque<u16>,
}

impl Incoming {
    /// Whether a PUBLISH with this id is a repetition.
    pub fn contains(&self, id: u16) -> bool {
        self.unreleased.back().is_some_and(|last| *last >= id) && self.unreleased.binary_search(&id).is_ok()
    }
    /// How many ids are waiting for PUBREL.
    pub fn len(&self) -> usize {
        self.unreleased.len()
    }
    /// No id is waiting.
    pub fn is_empty(&self) -> bool {
        self.unreleased.is_empty()
    }
    /// Remembers the id of a message; false if it was there already.
    pub fn insert(&mut self, id: u16) -> bool {
        if self.unreleased.back().is_none_or(|last| *last < id) {
            self.unreleased.push_back(id);
            return true;
        }
        match self.unreleased.binary_search(&id) {
            Ok(_) => false,
            Err(at) => {
                self.unreleased.insert(at, id);
                true
            }
        }
    }
    /// PUBREL: forgets the id; false if it was unknown.
    pub fn release(&mut self, id: u16) -> bool {
        if self.unreleased.front() == Some(&id) {
            self.unreleased.pop_front();
            return true;
        }
        match self.unreleased.binary_search(&id) {
            Ok(at) => self.unreleased.remove(at).is_some(),
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_from_publish_to_release() {
        let mut incoming = Incoming::default();
        for id in [7, 3, 65535, 9, 1] {
            assert!(incoming.insert(id) && !incoming.insert(id));
        }
        assert_eq!(incoming.len(), 5);
        for id in [9, 1, 65535, 3, 7] {
            assert!(incoming.contains(id));
            assert!(incoming.release(id) && !incoming.release(id));
            assert!(!incoming.contains(id));
        }
        assert!(incoming.is_empty());
    }
}
