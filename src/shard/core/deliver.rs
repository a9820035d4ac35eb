//! From a message to a subscriber: straight into its connection's output, or into its session's queue.
use super::Core;
use super::connection::Connection;
use super::lent::Uncopied;
use crate::codec::{
    DeliveryHead, MAX_PACKET, PacketType, QoS, delivery_size, encode_delivery, encode_delivery_header,
};
use crate::limits::QueuePolicy;
use crate::router::Route;
use crate::session::alias::AliasUse;
use crate::session::message::{Publication, SHARE_FROM, remaining_expiry};
use crate::session::outgoing::{Delivery, GroupKey, Outgoing, Repeat, SubscriptionIds};
use crate::session::run::Run;
use crate::session::tail::Window;
use crate::shard::output::BufferPool;
use crate::time::Time;
use std::collections::VecDeque;

/// How one delivery is to be sent.
#[derive(Clone, Copy)]
struct Sending<'a> {
    dup: bool,
    qos: QoS,
    retain: bool,
    packet_id: u16,
    ids: &'a [u32],
}

impl Core {
    /// Delivers a message to one session at the lower of published and granted QoS ([MQTT-3.8.4-8]).
    #[allow(clippy::too_many_arguments)]
    pub(super) fn deliver(
        &mut self,
        now: Time,
        session_slot: u32,
        publication: &Publication<'_>,
        granted: QoS,
        retain: bool,
        ids: &[u32],
        group: Option<GroupKey>,
    ) {
        let qos = publication.qos.min(granted);
        let session = &mut self.sessions[session_slot as usize];
        let Some(slot) = session.connection else {
            // One that is not persistent has ended, and leaves its filters.
            if qos > QoS::AtMostOnce && session.is_persistent() {
                self.enqueue(session_slot, delivery(publication, qos, retain, ids, group), publication);
            }
            return;
        };
        let connection = &mut self.connections[slot as usize];
        let is_over_mark = connection.output.len() > self.profiles[connection.profile].output_mark;
        if qos == QoS::AtMostOnce {
            if is_over_mark {
                self.counters.dropped_output_mark += 1;
                return;
            }
            let sending = Sending { dup: false, qos, retain, packet_id: 0, ids };
            self.send_publish(now, slot, publication, sending);
            return;
        }
        if is_over_mark || !session.outgoing().can_begin(connection.quota) {
            connection.is_stalled |= is_over_mark;
            return self.enqueue(session_slot, delivery(publication, qos, retain, ids, group), publication);
        }
        let must_keep = session.is_persistent() || group.is_some();
        let kept = must_keep.then(|| Box::new(delivery(publication, qos, retain, ids, group)));
        self.begin_delivery(
            now,
            slot,
            publication,
            Sending { dup: false, qos, retain, packet_id: 0, ids },
            kept,
        );
    }

    /// Gives a new QoS 1 or 2 delivery its id and sends it, unless the client cannot take it.
    fn begin_delivery(
        &mut self,
        now: Time,
        slot: u32,
        publication: &Publication<'_>,
        mut sending: Sending<'_>,
        mut kept: Option<Box<Delivery>>,
    ) {
        let connection = &self.connections[slot as usize];
        if publication.is_expired(now) {
            // [MQTT-3.3.2-5]
            self.counters.dropped_expired += 1;
            return self.give_up(slot, kept.as_deref());
        }
        if is_too_large(connection, now, publication, &sending) {
            // [MQTT-3.1.2-25]
            self.counters.dropped_too_large += 1;
            return self.give_up(slot, kept.as_deref());
        }
        let session = connection.session;
        let is_new = match &mut kept {
            Some(kept) if self.store.is_some() => self.store_begin(session, kept, publication),
            _ => false,
        };
        sending.packet_id = self.sessions[session as usize].outgoing().begin(sending.qos, kept);
        if self.store.is_some() {
            self.store_begun(slot, sending.packet_id, is_new);
        }
        self.send_publish(now, slot, publication, sending);
    }

    /// A delivery that is not sent after all is not stored any longer.
    fn give_up(&mut self, slot: u32, delivery: Option<&Delivery>) {
        if let Some(stored) = delivery.and_then(Delivery::stored) {
            self.store_finished(self.connections[slot as usize].session, stored);
        }
    }

    /// Writes a PUBLISH, unless it expired or is too large.
    fn send_publish(&mut self, now: Time, slot: u32, publication: &Publication<'_>, sending: Sending<'_>) {
        let connection = &mut self.connections[slot as usize];
        // [MQTT-4.3.3-7]: what was begun is not stopped by its expiry.
        if publication.is_expired(now) && !sending.dup {
            self.counters.dropped_expired += 1;
            return;
        }
        if is_too_large(connection, now, publication, &sending) {
            self.counters.dropped_too_large += 1;
            return;
        }
        self.counters.packets_sent[PacketType::Publish as usize] += 1;
        self.counters.publish_bytes_sent += publication.payload.len() as u64;
        write_publish(connection, slot, &mut self.buffers, &mut self.dirty, now, publication, sending);
        if publication.payload.len() >= SHARE_FROM {
            let payload = self.uncopied(publication);
            self.push_uncopied(slot, &payload);
        }
        let connection = &self.connections[slot as usize];
        if connection.output.len() > self.profiles[connection.profile].output_bound {
            self.doom(slot, crate::codec::ReasonCode::QuotaExceeded);
        }
    }

    /// Appends a run as it came, where nothing in it has to change for this subscriber; false if something has, or if
    /// it has packets of at least `most` bytes. `uncopied`: the run again.
    pub(super) fn deliver_run(
        &mut self,
        session_slot: u32,
        run: &Run<'_>,
        ids: &[u32],
        most: usize,
        uncopied: Option<&Uncopied>,
    ) -> bool {
        let Some(slot) = self.sessions[session_slot as usize].connection else {
            return true;
        };
        let connection = &mut self.connections[slot as usize];
        if !connection.takes_verbatim(run, ids, most) {
            return false;
        }
        if connection.output.len() > self.profiles[connection.profile].output_mark {
            self.counters.dropped_output_mark += u64::from(run.count);
            return true;
        }
        self.counters.packets_sent[PacketType::Publish as usize] += u64::from(run.count);
        self.counters.publish_bytes_sent += run.payload_bytes;
        match uncopied {
            Some(run) => self.push_uncopied(slot, run),
            None => connection.writer(slot, &mut self.buffers, &mut self.dirty).extend_from_slice(run.bytes),
        }
        true
    }

    /// Sends what waits for room: first what a resumed session must repeat, in the old order ([MQTT-4.4.0-1]), then
    /// the queue.
    pub(super) fn pump(&mut self, now: Time, slot: u32) {
        while self.repeat_next(now, slot) {}
        while self.send_next(now, slot) {}
        self.refill(self.connections[slot as usize].session);
    }

    /// Whether there is room in the output; if not, what waits goes on when it has drained.
    fn has_room(&mut self, slot: u32) -> bool {
        let connection = &mut self.connections[slot as usize];
        if connection.output.len() <= self.profiles[connection.profile].output_mark {
            return true;
        }
        connection.is_stalled = true;
        false
    }

    fn repeat_next(&mut self, now: Time, slot: u32) -> bool {
        if !self.has_room(slot) {
            return false;
        }
        let connection = &mut self.connections[slot as usize];
        let session = &mut self.sessions[connection.session as usize];
        let Some(outgoing) = &mut session.outgoing else { return false };
        match outgoing.next_repeat(connection.quota) {
            Some(Repeat::Publish(packet_id, delivery)) => {
                let Delivery { message, qos, retain, ids, .. } = delivery.clone();
                let sending = Sending { dup: true, qos, retain, packet_id, ids: &ids };
                if is_too_large(connection, now, &message.publication(), &sending) {
                    self.counters.dropped_too_large += 1;
                    self.skip_repeat(slot, packet_id, qos);
                    return true;
                }
                self.send_publish(now, slot, &message.publication(), sending);
                true
            }
            Some(Repeat::Release(packet_id)) => {
                self.write_ack(slot, PacketType::PubRel, packet_id, crate::codec::ReasonCode::Success);
                true
            }
            None => false,
        }
    }

    /// The client takes smaller packets than on its last connection, so this one counts as sent ([MQTT-3.1.2-25]).
    /// It may have come through before: only PUBREL makes sure that the client does not keep the packet id.
    fn skip_repeat(&mut self, slot: u32, packet_id: u16, qos: QoS) {
        let session_slot = self.connections[slot as usize].session;
        let session = &mut self.sessions[session_slot as usize];
        let stored = session.outgoing().stored(packet_id);
        if qos == QoS::AtLeastOnce {
            session.outgoing().handle_puback(packet_id);
            if let Some(stored) = stored {
                self.store_finished(session_slot, stored);
            }
        } else {
            session.outgoing().handle_pubrec(packet_id, false);
            if let Some(stored) = stored {
                self.store_released(slot, stored, packet_id);
            }
            self.write_ack(slot, PacketType::PubRel, packet_id, crate::codec::ReasonCode::Success);
        }
    }

    fn send_next(&mut self, now: Time, slot: u32) -> bool {
        if !self.has_room(slot) {
            return false;
        }
        let connection = &mut self.connections[slot as usize];
        let session = &mut self.sessions[connection.session as usize];
        let must_keep = session.is_persistent();
        let Some(outgoing) = &mut session.outgoing else { return false };
        let Some(delivery) = outgoing.dequeue(connection.quota) else { return false };
        let Delivery { message, qos, retain, ids, group, .. } = delivery.clone();
        let kept = (must_keep || group.is_some()).then(|| Box::new(delivery));
        let sending = Sending { dup: false, qos, retain, packet_id: 0, ids: &ids };
        self.begin_delivery(now, slot, &message.publication(), sending, kept);
        true
    }

    /// Queues a delivery; at the bound the policy decides, and whatever is dropped is counted.
    pub(super) fn enqueue(
        &mut self,
        session_slot: u32,
        mut delivery: Delivery,
        publication: &Publication<'_>,
    ) {
        self.spend_queued();
        let session = &mut self.sessions[session_slot as usize];
        let limits = &self.profiles[session.profile].limits;
        let max = (limits.max_queued_messages, limits.max_queued_bytes);
        if !session.outgoing().admits(delivery.message.size(), max, limits.queue_policy) {
            self.counters.dropped_queue_full += 1;
            return;
        }
        if self.store.is_some() {
            self.store_queued(session_slot, &mut delivery, publication);
        }
        let window = if delivery.position > 0 { self.queue_window() } else { Window::ALL };
        let outgoing = self.sessions[session_slot as usize].outgoing();
        if let Some(dropped) = outgoing.enqueue(delivery, max, window) {
            self.counters.dropped_queue_full += 1;
            if let Some(stored) = dropped.stored() {
                self.store_dropped(session_slot, stored);
            }
        }
        if let Some(store) = &self.store {
            let outgoing = self.sessions[session_slot as usize].outgoing();
            outgoing.note_batch(store.last_batch(), store.stored);
            self.refill(session_slot);
        }
    }

    /// What expired while the client was away is not sent.
    pub(super) fn drop_expired(&mut self, now: Time, session_slot: u32) {
        let mut stored = Vec::new();
        if let Some(outgoing) = &mut self.sessions[session_slot as usize].outgoing {
            self.counters.dropped_expired +=
                outgoing.drop_expired(now, &mut |delivery| stored.extend(delivery.stored()));
        }
        stored.into_iter().for_each(|stored| self.store_finished(session_slot, stored));
        self.refill(session_slot);
    }

    /// Whether a session on this shard that would get the message has no room for it ([`QueuePolicy::Refuse`]).
    pub(super) fn is_some_queue_full(&self, publication: &Publication<'_>, route: &Route) -> bool {
        debug_assert!(self.profiles.refuses);
        let bytes = publication.topic.len() + publication.forwarded.len() + publication.payload.len();
        let is_full = |slot: u32| {
            let session = &self.sessions[slot as usize];
            let limits = &self.profiles[session.profile].limits;
            let (messages, max_bytes) = (limits.max_queued_messages, limits.max_queued_bytes);
            let is_full = |outgoing: &Outgoing| outgoing.is_full(bytes, messages, max_bytes);
            limits.queue_policy == QueuePolicy::Refuse && session.outgoing.as_deref().is_some_and(is_full)
        };
        publication.qos > QoS::AtMostOnce
            && route.direct.iter().any(|s| s.qos > QoS::AtMostOnce && is_full(s.session))
    }
}

fn delivery(
    publication: &Publication<'_>,
    qos: QoS,
    retain: bool,
    ids: &[u32],
    group: Option<GroupKey>,
) -> Delivery {
    let (message, ids) = (publication.message(), SubscriptionIds::from_slice(ids));
    Delivery { message, qos, retain, ids, group, position: 0, stored_as: 0 }
}

fn head<'a>(
    now: Time,
    publication: &Publication<'_>,
    sending: &Sending<'a>,
    topic_alias: Option<u16>,
) -> DeliveryHead<'a> {
    DeliveryHead {
        dup: sending.dup,
        qos: sending.qos,
        retain: sending.retain,
        packet_id: sending.packet_id,
        topic_alias,
        message_expiry: remaining_expiry(publication.expires, now),
        subscription_ids: sending.ids,
    }
}

/// Bytes that fit into a packet whatever the broker adds.
const NEVER_TOO_LARGE: usize = MAX_PACKET as usize / 2;

/// Whether the PUBLISH at its longest, which is with its topic and an alias, exceeds what the client takes or what
/// can be written down at all.
fn is_too_large(
    connection: &Connection,
    now: Time,
    publication: &Publication<'_>,
    sending: &Sending<'_>,
) -> bool {
    let length = publication.payload.len() + publication.forwarded.len();
    if connection.max_packet == u32::MAX && length < NEVER_TOO_LARGE {
        return false;
    }
    let uses_aliases = connection.extras.as_ref().is_some_and(|extras| extras.outgoing_aliases.is_some());
    let head = head(now, publication, sending, uses_aliases.then_some(1));
    let (topic, forwarded) = (publication.topic.as_bytes(), publication.forwarded);
    let size = delivery_size(connection.version, &head, topic, forwarded, publication.payload.len());
    size > connection.max_packet.min(MAX_PACKET) as usize
}

/// Writes a PUBLISH, but without its payload where that is not to be copied.
fn write_publish(
    connection: &mut Connection,
    slot: u32,
    buffers: &mut BufferPool,
    dirty: &mut VecDeque<super::ConnId>,
    now: Time,
    publication: &Publication<'_>,
    sending: Sending<'_>,
) {
    let aliases = connection.extras.as_mut().and_then(|extras| extras.outgoing_aliases.as_mut());
    let (topic, alias) = match aliases.map_or(AliasUse::None, |aliases| aliases.choose(publication.topic)) {
        AliasUse::None => (publication.topic, None),
        AliasUse::Set(alias) => (publication.topic, Some(alias)),
        AliasUse::Use(alias) => ("", Some(alias)),
    };
    let head = head(now, publication, &sending, alias);
    let version = connection.version;
    let out = connection.writer(slot, buffers, dirty);
    let (topic, forwarded, payload) = (topic.as_bytes(), publication.forwarded, publication.payload);
    if payload.len() < SHARE_FROM {
        encode_delivery(version, &head, topic, forwarded, payload, out);
    } else {
        encode_delivery_header(version, &head, topic, forwarded, payload.len(), out);
    }
}
