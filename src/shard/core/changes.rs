//! What is stored of sessions, deliveries, retained messages and groups, as it changes.
use super::Core;
use super::close::AfterWill;
use crate::codec::QoS;
use crate::session::message::{Message, Publication, SessionKey};
use crate::session::outgoing::{Delivery, GroupKey};
use crate::session::stored::Stored;
use crate::session::subscriptions::Subscription;
use crate::store::record::{self, Body, EntryRecord, Flight, GroupName};
use crate::store::{Op, Space, key};

impl Core {
    /// Whether messages towards the session are stored: if it outlives its connection, or some of its queue is on the
    /// disk only, behind which they must go.
    fn is_durable(&self, session: u32) -> bool {
        let session = &self.sessions[session as usize];
        let has_tail = || session.outgoing.as_ref().is_some_and(|outgoing| outgoing.has_tail());
        self.store.is_some() && (session.is_persistent() || has_tail())
    }

    /// The session began, changed, or lost its connection.
    pub(super) fn store_session(&mut self, slot: u32) {
        let Some(store) = &mut self.store else { return };
        let session = &mut self.sessions[slot as usize];
        if !session.is_persistent() && !session.is_stored {
            return;
        }
        session.is_stored = true;
        let expires = session.connection.is_none().then_some(session.expires);
        let (client_id, interval) = (&session.client_id, session.expiry_interval);
        let (will_due, will, owner) = (session.will_due, session.will.as_deref(), session.owner());
        let value = record::encode_session(store.wall, client_id, interval, expires, will_due, will, owner);
        store.put(Space::Session, key::session(session.key.0), value);
    }

    /// The session ended.
    pub(super) fn store_session_end(&mut self, session: SessionKey) {
        if let Some(store) = &mut self.store {
            store.push(Op::DropSession { session: session.0 });
        }
    }

    /// What is to be stored with the publication of a will.
    pub(super) fn store_will_taken(&mut self, after: AfterWill) {
        match after {
            AfterWill::Nothing => {}
            AfterWill::Session(slot, key) => {
                if self
                    .sessions
                    .get(slot as usize)
                    .is_some_and(|session| session.key == key && session.is_stored)
                {
                    self.store_session(slot);
                }
            }
            AfterWill::SessionEnded(key) => self.store_session_end(key),
        }
    }

    /// A subscription was made or changed.
    pub(super) fn store_subscription(&mut self, session: u32, filter: &str, subscription: &Subscription) {
        if self.is_durable(session)
            && let Some(store) = &mut self.store
        {
            let key = key::subscription(self.sessions[session as usize].key.0, filter);
            store.put(Space::Subscription, key, record::encode_subscription(filter, subscription));
        }
    }

    /// A subscription ended.
    pub(super) fn store_unsubscription(&mut self, session: u32, filter: &str) {
        if self.is_durable(session)
            && let Some(store) = &mut self.store
        {
            store.remove(
                Space::Subscription,
                key::subscription(self.sessions[session as usize].key.0, filter),
            );
        }
    }

    /// A delivery is about to be queued.
    pub(super) fn store_queued(
        &mut self,
        session: u32,
        delivery: &mut Delivery,
        publication: &Publication<'_>,
    ) {
        if self.is_durable(session) {
            self.place(session, delivery, publication);
            self.put_entry(session, delivery, 0);
        }
    }

    /// A delivery is about to get its packet id: true if it was not stored so far.
    pub(super) fn store_begin(
        &mut self,
        session: u32,
        delivery: &mut Delivery,
        publication: &Publication<'_>,
    ) -> bool {
        let is_new = delivery.position == 0 && self.is_durable(session);
        if is_new {
            self.place(session, delivery, publication);
        }
        is_new
    }

    /// It has its packet id. A QoS 2 message leaves when this is stored, lest another one gets its id after a crash.
    pub(super) fn store_begun(&mut self, slot: u32, packet_id: u16, is_new: bool) {
        let session = self.connections[slot as usize].session;
        if !self.sessions[session as usize].is_stored {
            return;
        }
        let Some(outgoing) = &self.sessions[session as usize].outgoing else { return };
        let Some(stored) = outgoing.stored(packet_id) else { return };
        let Some(delivery) = outgoing.in_flight(packet_id).cloned() else { return };
        if is_new {
            self.put_entry(session, &delivery, packet_id);
        } else {
            self.put_flight(session, stored, Flight::Sent(packet_id));
            self.sessions[session as usize].outgoing().note_flight(packet_id);
        }
        if delivery.qos == QoS::ExactlyOnce {
            self.gate(slot);
        }
    }

    /// Gives a delivery its place, and the number of its payload.
    fn place(&mut self, session: u32, delivery: &mut Delivery, publication: &Publication<'_>) {
        delivery.position = self.sessions[session as usize].outgoing().next_position();
        if let Some(store) = &mut self.store {
            delivery.stored_as = store.share(publication);
        }
    }

    fn put_entry(&mut self, session: u32, delivery: &Delivery, packet_id: u16) {
        let group = delivery.group.and_then(|key| self.group_name(key));
        let body = match delivery.stored_as {
            0 => Body::Inline(delivery.message.clone()),
            shared => Body::Shared(shared),
        };
        let Delivery { qos, retain, position, stored_as: holds, .. } = *delivery;
        let entry = EntryRecord { qos, retain, packet_id, ids: delivery.ids.clone(), group, body };
        let Some(store) = &mut self.store else { return };
        let value = record::encode_entry(store.wall, &entry);
        let key = key::entry(self.sessions[session as usize].key.0, position);
        store.push(Op::Put { space: Space::Queue, key, value, is_new: true, holds });
    }

    fn put_flight(&mut self, session: u32, stored: Stored, flight: Flight) {
        let Some(store) = &mut self.store else { return };
        let key = key::entry(self.sessions[session as usize].key.0, stored.position);
        let value = record::encode_flight(flight);
        store.push(Op::Put { space: Space::Flight, key, value, is_new: !stored.has_flight, holds: 0 });
    }

    fn group_name(&mut self, key: GroupKey) -> Option<GroupName> {
        let group = self.router.groups().get(key)?;
        let (share, filter) = group.share_and_filter();
        Some(GroupName { share: share.into(), filter: filter.into() })
    }

    /// PUBREC came: only the packet id is needed any more. PUBREL leaves when this is stored.
    pub(super) fn store_released(&mut self, slot: u32, stored: Stored, packet_id: u16) {
        let session = self.connections[slot as usize].session;
        if stored.has_entry {
            self.remove_entry(session, stored);
            self.put_flight(session, stored, Flight::Released(packet_id));
            self.sessions[session as usize].outgoing().note_flight(packet_id);
        }
        self.gate(slot);
    }

    /// A delivery is finished or dropped.
    #[cold]
    #[inline(never)]
    pub(super) fn store_finished(&mut self, session: u32, stored: Stored) {
        self.store_given_back(self.sessions[session as usize].key, stored);
    }

    /// A queued delivery gave way to a newer one.
    pub(super) fn store_dropped(&mut self, session: u32, stored: Stored) {
        let key = key::entry(self.sessions[session as usize].key.0, stored.position);
        if let Some(store) = &mut self.store {
            store.push_apart(Op::Remove { space: Space::Queue, key, releases: stored.holds });
        }
    }

    /// A delivery of a session that may be gone is another one's now.
    pub(super) fn store_given_back(&mut self, session: SessionKey, stored: Stored) {
        let key = key::entry(session.0, stored.position);
        let Some(store) = &mut self.store else { return };
        if stored.has_entry {
            store.push(Op::Remove { space: Space::Queue, key: key.clone(), releases: stored.holds });
        }
        if stored.has_flight {
            store.remove(Space::Flight, key);
        }
    }

    fn remove_entry(&mut self, session: u32, stored: Stored) {
        let key = key::entry(self.sessions[session as usize].key.0, stored.position);
        if let Some(store) = &mut self.store {
            store.push(Op::Remove { space: Space::Queue, key, releases: stored.holds });
        }
    }

    /// A QoS 2 packet id came from the client.
    pub(super) fn store_incoming(&mut self, slot: u32, packet_id: u16) {
        let session = self.connections[slot as usize].session;
        if self.is_durable(session)
            && let Some(store) = &mut self.store
        {
            let key = key::incoming(self.sessions[session as usize].key.0, packet_id);
            store.put(Space::Incoming, key, record::encode_mark());
        }
    }

    /// It is free again.
    pub(super) fn store_incoming_released(&mut self, slot: u32, packet_id: u16) {
        let session = self.connections[slot as usize].session;
        if self.is_durable(session)
            && let Some(store) = &mut self.store
        {
            store.remove(Space::Incoming, key::incoming(self.sessions[session as usize].key.0, packet_id));
        }
    }

    /// A retained message was kept, replaced or removed. What the broker itself says is not stored.
    pub(super) fn store_retained(&mut self, message: &Message) {
        let Some(store) = self.store.as_mut().filter(|_| message.publisher != SessionKey::BROKER) else {
            return;
        };
        let key = key::retained(message.topic());
        if message.payload().is_empty() {
            store.remove(Space::Retained, key);
        } else {
            let value = record::encode_message(store.wall, message);
            store.put(Space::Retained, key, value);
        }
    }

    /// A retained message expired.
    pub(super) fn store_retained_gone(&mut self, topic: &str) {
        if let Some(store) = &mut self.store {
            store.remove(Space::Retained, key::retained(topic));
        }
    }

    /// A message begins to wait for a member of its group: its place, 0 if it is not stored.
    pub(super) fn store_group_message(&mut self, key: GroupKey, message: &Message) -> u64 {
        if self.store.is_none() {
            return 0;
        }
        let Some(group) = self.group_name(key) else { return 0 };
        let Some(store) = &mut self.store else { return 0 };
        store.group_position += 1;
        // The shard behind the count, so that the order holds when the group moves to another shard.
        let position = store.group_position << 8 | store.shard >> 56;
        let value = record::encode_group(store.wall, &group, message);
        let key = key::number(position);
        store.push(Op::Put { space: Space::Group, key, value, is_new: true, holds: 0 });
        position
    }

    /// It gave way to a newer one.
    pub(super) fn store_group_message_dropped(&mut self, position: u64) {
        if let Some(store) = self.store.as_mut().filter(|_| position > 0) {
            store.push_apart(Op::Remove { space: Space::Group, key: key::number(position), releases: 0 });
        }
    }

    /// It waits no longer.
    pub(super) fn store_group_message_gone(&mut self, position: u64) {
        if let Some(store) = self.store.as_mut().filter(|_| position > 0) {
            store.remove(Space::Group, key::number(position));
        }
    }
}
