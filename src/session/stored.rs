//! Deliveries that are stored: their places, and how they come back after a restart.
use super::outgoing::{Awaits, Delivery, Inflight, Outgoing};
use super::rows::RowPlace;
use crate::codec::QoS;

/// Where a delivery is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Its place in the session's order.
    pub position: u64,
    /// The shared payload it holds, 0 if none.
    pub holds: u64,
    /// There is a record of the message: until PUBREC.
    pub has_entry: bool,
    /// There is a record of how far it has come, beside that of the message.
    pub has_flight: bool,
}

impl Delivery {
    /// Where it is stored, if it is.
    pub fn stored(&self) -> Option<Stored> {
        let Delivery { position, stored_as: holds, .. } = *self;
        (position > 0).then_some(Stored { position, holds, has_entry: true, has_flight: false })
    }
}

impl Outgoing {
    /// A place behind all others in the stored order.
    pub fn next_position(&mut self) -> u64 {
        self.last_position += 1;
        self.last_position
    }

    /// Where the delivery in flight with this packet id is stored, if it is.
    pub fn stored(&self, id: u16) -> Option<Stored> {
        let entry = &self.window[self.position(id)?];
        let holds = entry.delivery.as_ref().map_or(0, |delivery| delivery.stored_as);
        let Inflight { position, has_flight, awaits, .. } = *entry;
        let has_entry = awaits != Awaits::Pubcomp;
        (position > 0 && awaits != Awaits::Nothing).then_some(Stored {
            position,
            holds,
            has_entry,
            has_flight,
        })
    }

    /// The delivery in flight with this packet id, until PUBREC.
    pub fn in_flight(&self, id: u16) -> Option<&Delivery> {
        self.window[self.position(id)?].delivery.as_deref()
    }

    /// How far the delivery with this packet id has come is stored beside it.
    pub fn note_flight(&mut self, id: u16) {
        if let Some(at) = self.position(id) {
            self.window[at].has_flight = true;
        }
    }

    /// After a restart: a delivery that was sent; `delivery` is `None` if PUBREC came. In the stored order, before
    /// anything else is done. False if the packet id is in use or contradicts the delivery; then nothing is changed.
    pub fn restore_sent(&mut self, id: u16, position: u64, delivery: Option<Delivery>) -> bool {
        if id == 0 || self.position(id).is_some() {
            return false;
        }
        let awaits = match delivery.as_ref().map(|delivery| delivery.qos) {
            None => Awaits::Pubcomp,
            Some(QoS::ExactlyOnce) => Awaits::Pubrec,
            Some(QoS::AtLeastOnce) => Awaits::Puback,
            Some(QoS::AtMostOnce) => return false,
        };
        let delivery = delivery.map(Box::new);
        self.kept_bytes += super::outgoing::kept_bytes(&delivery);
        let (has_flight, place) = (true, RowPlace::NONE);
        self.window.push_back(Inflight { id, awaits, counted: false, delivery, position, has_flight, place });
        self.has_gaps = true;
        self.unfinished += 1;
        self.last_id = id;
        self.last_position = self.last_position.max(position);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::message::{Message, SessionKey};
    use crate::session::outgoing::{Acknowledged, Repeat, SubscriptionIds};
    use crate::time::Time;

    fn delivery(topic: &str, qos: QoS, position: u64) -> Delivery {
        let message = Message::new(topic, &[], b"1", QoS::ExactlyOnce, false, Time::NEVER, SessionKey(1));
        let ids = SubscriptionIds::new();
        Delivery { message, qos, retain: false, ids, group: None, position, stored_as: 0 }
    }

    #[test]
    fn what_comes_back_goes_on_with_its_ids_and_in_its_order() {
        let mut outgoing = Outgoing::default();
        assert!(outgoing.restore_sent(65535, 3, None));
        assert!(outgoing.restore_sent(1, 4, Some(delivery("a", QoS::ExactlyOnce, 4))));
        assert!(outgoing.restore_sent(2, 5, Some(delivery("b", QoS::AtLeastOnce, 5))));
        assert!(!outgoing.restore_sent(2, 6, Some(delivery("c", QoS::AtLeastOnce, 6))), "an id twice");
        outgoing.restore_queued(delivery("d", QoS::AtLeastOnce, 7));
        outgoing.begin_connection();
        outgoing.audit();
        assert!(matches!(outgoing.next_repeat(9), Some(Repeat::Release(65535))));
        assert!(matches!(outgoing.next_repeat(9), Some(Repeat::Publish(1, d)) if d.message.topic() == "a"));
        assert!(matches!(outgoing.next_repeat(9), Some(Repeat::Publish(2, d)) if d.message.topic() == "b"));
        assert!(outgoing.next_repeat(9).is_none());
        let stored = Stored { position: 4, holds: 0, has_entry: true, has_flight: true };
        assert_eq!(outgoing.stored(1), Some(stored));
        assert_eq!(outgoing.handle_pubcomp(65535), Acknowledged::Finished);
        assert_eq!(outgoing.stored(65535), None);
        let next = outgoing.dequeue(9).expect("the queue came back");
        assert_eq!((next.message.topic(), outgoing.begin(QoS::AtLeastOnce, None)), ("d", 3));
        assert_eq!(outgoing.next_position(), 8);
    }
}
