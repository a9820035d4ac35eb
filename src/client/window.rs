//! Packet identifiers and what they wait for, in both directions.
use std::collections::{BTreeMap, BTreeSet};

/// What a packet identifier of ours waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Awaited {
    PubAck,
    PubRec,
    PubComp,
    SubAck,
    UnsubAck,
}

impl Awaited {
    fn is_publish(self) -> bool {
        matches!(self, Awaited::PubAck | Awaited::PubRec | Awaited::PubComp)
    }
}

/// The packet identifiers in use. At most 65,535 in each direction, as there are no more numbers.
pub(super) struct Window {
    sent: BTreeMap<u16, Awaited>,
    publishes: usize,
    most_publishes: usize,
    last: u16,
    received: BTreeSet<u16>,
}

impl Window {
    /// A window that lets `most_publishes` QoS 1 and 2 messages be unfinished (at least 1, at most 65,535).
    pub(super) fn new(most_publishes: u16) -> Window {
        Window {
            sent: BTreeMap::new(),
            publishes: 0,
            most_publishes: usize::from(most_publishes.max(1)),
            last: 0,
            received: BTreeSet::new(),
        }
    }

    /// Lowers the number of unfinished messages.
    pub(super) fn limit(&mut self, most_publishes: u16) {
        self.most_publishes = self.most_publishes.min(usize::from(most_publishes.max(1)));
    }

    /// Whether one more QoS 1 or 2 message may be sent (`[MQTT-3.3.4-7]`).
    pub(super) fn has_room(&self) -> bool {
        self.publishes < self.most_publishes && self.sent.len() < usize::from(u16::MAX)
    }

    /// Whether nothing that was sent waits for its answer.
    pub(super) fn is_settled(&self) -> bool {
        self.sent.is_empty()
    }

    /// Whether every QoS 2 message that was received is released.
    pub(super) fn is_released(&self) -> bool {
        self.received.is_empty()
    }

    /// A packet identifier that is not in use, now waiting for `awaited`; `None` if all are in use.
    pub(super) fn assign(&mut self, awaited: Awaited) -> Option<u16> {
        if self.sent.len() == usize::from(u16::MAX) {
            return None;
        }
        loop {
            self.last = if self.last == u16::MAX { 1 } else { self.last + 1 };
            if !self.sent.contains_key(&self.last) {
                break;
            }
        }
        self.sent.insert(self.last, awaited);
        self.publishes += usize::from(awaited.is_publish());
        Some(self.last)
    }

    /// The answer came and it was the last one: the identifier is free. False if it did not wait for that.
    pub(super) fn finish(&mut self, id: u16, awaited: Awaited) -> bool {
        if self.sent.get(&id) != Some(&awaited) {
            return false;
        }
        self.sent.remove(&id);
        self.publishes -= usize::from(awaited.is_publish());
        true
    }

    /// PUBREC came for `id`: now PUBCOMP is waited for. False if PUBREC was not waited for; asking again is fine.
    pub(super) fn advance(&mut self, id: u16) -> bool {
        match self.sent.get_mut(&id) {
            Some(awaited @ (Awaited::PubRec | Awaited::PubComp)) => {
                *awaited = Awaited::PubComp;
                true
            }
            _ => false,
        }
    }

    /// A QoS 2 message came. False if it was here before and is not released (`[MQTT-4.3.3-10]`).
    pub(super) fn receive(&mut self, id: u16) -> bool {
        self.received.insert(id)
    }

    /// PUBREL came. False if there is no such message.
    pub(super) fn release(&mut self, id: u16) -> bool {
        self.received.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qos_2_publish_occupies_the_window_until_pubcomp() {
        let mut window = Window::new(1);
        let id = window.assign(Awaited::PubRec).unwrap();
        assert!(!window.has_room());
        assert!(!window.finish(id, Awaited::PubComp), "PUBCOMP before PUBREC");
        assert!(window.advance(id) && window.advance(id), "PUBREC may come twice");
        assert!(!window.has_room());
        assert!(window.finish(id, Awaited::PubComp));
        assert!(window.has_room() && window.is_settled());
        assert!(!window.finish(id, Awaited::PubComp));
    }

    #[test]
    fn identifiers_are_never_zero_and_never_doubled() {
        let mut window = Window::new(u16::MAX);
        let ids: BTreeSet<u16> = (0..65_535).map(|_| window.assign(Awaited::PubAck).unwrap()).collect();
        assert_eq!((ids.len(), ids.first(), ids.last()), (65_535, Some(&1), Some(&65_535)));
        assert_eq!(window.assign(Awaited::SubAck), None);
        assert!(window.finish(7, Awaited::PubAck));
        assert_eq!(window.assign(Awaited::SubAck), Some(7));
    }

    #[test]
    fn subscriptions_do_not_count_against_receive_maximum() {
        let mut window = Window::new(5);
        window.limit(1);
        window.assign(Awaited::SubAck).unwrap();
        window.assign(Awaited::UnsubAck).unwrap();
        assert!(window.has_room());
        window.assign(Awaited::PubAck).unwrap();
        assert!(!window.has_room());
    }

    #[test]
    fn a_received_qos_2_message_is_new_once_until_released() {
        let mut window = Window::new(1);
        assert!(window.receive(9) && !window.receive(9) && !window.is_released());
        assert!(window.release(9) && !window.release(9) && window.is_released());
        assert!(window.receive(9));
    }
}
