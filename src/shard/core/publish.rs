//! PUBLISH from a client, and the way of a message to everyone who is interested.
use super::Core;
use super::connect::BROKER_TOPICS;
use super::input::Flow;
use super::lent::{LEND_FROM, Uncopied};
use crate::codec::{Ack, PacketType, Publish, QoS, ReasonCode};
use crate::limits::Limits;
use crate::router::{Route, When};
use crate::session::message::{Publication, SHARE_FROM, SessionKey};
use crate::session::run::Run;
use crate::shard::envelope::{Envelope, RoutedMessage};
use crate::time::Time;
use crate::topic::check_name;
use bytes::Bytes;
use std::rc::Rc;

/// What became of a publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Published {
    /// It went to everyone interested.
    Sent,
    /// Nobody is interested.
    NoSubscribers,
    /// It went to nobody, for this reason.
    Refused(ReasonCode),
}

impl Core {
    pub(super) fn handle_publish(
        &mut self,
        now: Time,
        slot: u32,
        publish: &Publish<'_>,
        whole: Option<&Bytes>,
    ) -> Flow {
        if self.memory.is_full()
            && let Some(flow) = self.await_memory(now, slot, publish)
        {
            return flow;
        }
        if self.questions_asked(slot) == 0 {
            self.counters.publish_bytes_received += publish.payload.len() as u64;
            self.charge(now, slot, publish.payload.len());
        }
        if let Err(reason) = self.check_publish(slot, publish) {
            self.disconnect(now, slot, reason);
            return Flow::Stop;
        }
        let kept;
        let topic = match self.resolve_alias(slot, publish) {
            Ok(None) => publish.topic,
            Ok(Some(known)) => {
                kept = known;
                &*kept
            }
            Err(reason) => {
                self.disconnect(now, slot, reason);
                return Flow::Stop;
            }
        };
        if publish.qos == QoS::ExactlyOnce && self.is_unreleased(slot, publish.packet_id) {
            // [MQTT-4.3.3-10]: a repetition is acknowledged again and goes no further.
            self.gate_if_stored(slot);
            self.write_ack(slot, PacketType::PubRec, publish.packet_id, ReasonCode::Success);
            return Flow::Continue;
        }
        if let Err(reason) = self.admit(slot, topic, publish) {
            return self.refuse_publish(now, slot, publish, reason);
        }
        if let Some(flow) = self.bar_publish(now, slot, topic, publish) {
            return flow;
        }
        if self.memory.is_full()
            && let Some(flow) = self.refuse_for_memory(now, slot, publish)
        {
            return flow;
        }
        let mut forwarded = Vec::new();
        if !publish.properties.is_empty_forwarded() {
            publish.properties.encode_forwarded(&mut forwarded);
        }
        let publisher = self.sessions[self.connections[slot as usize].session as usize].key;
        let expires = publish.properties.message_expiry.map_or(Time::NEVER, |seconds| now.plus_secs(seconds));
        let (qos, retain) = (publish.qos, publish.retain);
        let whole = whole.filter(|_| publish.payload.len() >= SHARE_FROM);
        let publication =
            Publication::new(topic, &forwarded, publish.payload, qos, retain, expires, publisher, whole);
        let is_unit = qos > QoS::AtMostOnce && self.begin_unit();
        if is_unit && !retain {
            self.keep_in_order();
        }
        let published = self.publish_from(now, slot, &publication);
        if is_unit {
            self.end_publish(slot, publish, published);
        }
        match published {
            Published::Refused(reason) if self.is_storage_full() && publish.qos > QoS::AtMostOnce => {
                // Clients before version 5 cannot be told otherwise than by not being acknowledged.
                if !self.connections[slot as usize].is_v5() {
                    self.disconnect(now, slot, reason);
                    return Flow::Stop;
                }
                self.refuse_publish(now, slot, publish, reason)
            }
            Published::Refused(reason) => self.refuse_publish(now, slot, publish, reason),
            _ => {
                self.acknowledge_publish(slot, publish, published);
                Flow::Continue
            }
        }
    }

    /// Rules whose breach ends the connection.
    fn check_publish(&mut self, slot: u32, publish: &Publish<'_>) -> Result<(), ReasonCode> {
        if !publish.subscription_ids.is_empty() {
            // [MQTT-3.3.4-6]
            return Err(ReasonCode::ProtocolError);
        }
        let limits = self.limits_of(slot);
        if publish.qos as u8 > limits.max_qos {
            return Err(ReasonCode::QoSNotSupported);
        }
        if publish.retain && !limits.retain_available {
            return Err(ReasonCode::RetainNotSupported);
        }
        if publish.qos == QoS::ExactlyOnce && !self.is_unreleased(slot, publish.packet_id) {
            let session = &self.sessions[self.connections[slot as usize].session as usize];
            let unreleased = session.incoming.as_ref().map_or(0, |incoming| incoming.len());
            // Before version 5 a client is told of no maximum, and its packet ids are the only bound.
            let is_v5 = self.connections[slot as usize].is_v5();
            let maximum = if is_v5 { limits.receive_maximum } else { u16::MAX };
            if unreleased >= usize::from(maximum) {
                return Err(ReasonCode::ReceiveMaximumExceeded);
            }
        }
        Ok(())
    }

    /// Whether a QoS 2 message with this id came and waits for its PUBREL.
    pub(super) fn is_unreleased(&self, slot: u32, id: u16) -> bool {
        let session = &self.sessions[self.connections[slot as usize].session as usize];
        session.incoming.as_ref().is_some_and(|incoming| incoming.contains(id))
    }

    /// The topic an alias stands for; `None` when the packet names it. Sets the alias if it names both.
    fn resolve_alias(&mut self, slot: u32, publish: &Publish<'_>) -> Result<Option<Rc<str>>, ReasonCode> {
        let Some(alias) = publish.topic_alias else { return Ok(None) };
        let connection = &mut self.connections[slot as usize];
        // Topic Alias Maximum of CONNACK.
        if alias > self.profiles[connection.profile].limits.topic_alias_maximum {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        let aliases = &mut connection.extras().incoming_aliases;
        if publish.topic.is_empty() {
            return aliases.get(alias).map(Some).ok_or(ReasonCode::ProtocolError);
        }
        aliases.set(alias, publish.topic);
        Ok(None)
    }

    /// Rules whose breach refuses the message.
    fn admit(&self, slot: u32, topic: &str, publish: &Publish<'_>) -> Result<(), ReasonCode> {
        self.check_topic(self.limits_of(slot), topic)?;
        if topic.starts_with(BROKER_TOPICS) {
            return Err(ReasonCode::NotAuthorized);
        }
        let is_text = publish.properties.payload_format == Some(1);
        if is_text && simdutf8::basic::from_utf8(publish.payload).is_err() {
            return Err(ReasonCode::PayloadFormatInvalid);
        }
        Ok(())
    }

    /// Whether a topic can be published to, here.
    pub(super) fn check_topic(&self, limits: &Limits, topic: &str) -> Result<(), ReasonCode> {
        let is_short = topic.len() <= limits.max_topic_length;
        let is_name = is_short && check_name(topic, limits.max_topic_levels).is_ok();
        if is_name { Ok(()) } else { Err(ReasonCode::TopicNameInvalid) }
    }

    /// Refuses one message. Version 5 is told in its acknowledgement; where there is none, a message that the client
    /// must not send ends the connection. 3.1.1 has no refusal: [MQTT-3.3.5-2] lets the broker acknowledge as usual.
    pub(super) fn refuse_publish(
        &mut self,
        now: Time,
        slot: u32,
        publish: &Publish<'_>,
        reason: ReasonCode,
    ) -> Flow {
        let is_v5 = self.connections[slot as usize].is_v5();
        let is_policy = matches!(reason, ReasonCode::NotAuthorized | ReasonCode::QuotaExceeded);
        let can_tell = is_v5 && publish.qos > QoS::AtMostOnce;
        if !can_tell && !is_policy {
            self.disconnect(now, slot, reason);
            return Flow::Stop;
        }
        match publish.qos {
            QoS::AtMostOnce => {}
            _ if !is_v5 => self.acknowledge_publish(slot, publish, Published::Sent),
            QoS::AtLeastOnce => self.write_ack(slot, PacketType::PubAck, publish.packet_id, reason),
            // [MQTT-4.3.3-9]: the id is free again, so it is not remembered.
            QoS::ExactlyOnce => self.write_ack(slot, PacketType::PubRec, publish.packet_id, reason),
        }
        Flow::Continue
    }

    /// What a publish changes is complete with its packet id; its acknowledgement leaves when that is stored.
    #[cold]
    fn end_publish(&mut self, slot: u32, publish: &Publish<'_>, published: Published) {
        if publish.qos == QoS::ExactlyOnce && !matches!(published, Published::Refused(_)) {
            self.store_incoming(slot, publish.packet_id);
        }
        if self.end_unit() {
            self.gate(slot);
        }
    }

    /// [MQTT-3.3.4-1].
    pub(super) fn acknowledge_publish(&mut self, slot: u32, publish: &Publish<'_>, published: Published) {
        let reason = match published {
            Published::NoSubscribers => ReasonCode::NoMatchingSubscribers,
            _ => ReasonCode::Success,
        };
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.write_ack(slot, PacketType::PubAck, publish.packet_id, reason),
            QoS::ExactlyOnce => {
                let session = self.connections[slot as usize].session;
                self.sessions[session as usize].incoming().insert(publish.packet_id);
                self.write_ack(slot, PacketType::PubRec, publish.packet_id, reason);
            }
        }
    }

    pub(super) fn write_ack(&mut self, slot: u32, packet: PacketType, id: u16, reason: ReasonCode) {
        self.write(slot, packet, |version, out| Ack::with(id, reason).encode(packet, version, out));
    }

    /// A client's message: finds its route by the connection's memory if that still holds.
    fn publish_from(&mut self, now: Time, slot: u32, publication: &Publication<'_>) -> Published {
        let remembered = self.connections[slot as usize].route.upgrade();
        let route = match remembered {
            Some(route) if *route.topic == *publication.topic && self.router.is_fresh(&route) => route,
            _ => {
                let route = self.route(publication.topic);
                self.connections[slot as usize].route = Rc::downgrade(&route);
                route
            }
        };
        self.publish_along(now, publication, &route)
    }

    /// Publishes a message of the broker or of a client that is gone.
    pub(super) fn publish(&mut self, now: Time, publication: &Publication<'_>) -> Published {
        let route = self.route(publication.topic);
        self.publish_along(now, publication, &route)
    }

    fn publish_along(&mut self, now: Time, publication: &Publication<'_>, route: &Route) -> Published {
        if self.profiles.refuses && self.is_some_queue_full(publication, route) {
            // Clients before version 5 cannot be told, and a will has no one to tell.
            self.counters.dropped_queue_full += 1;
            return Published::Refused(ReasonCode::QuotaExceeded);
        }
        if self.is_storage_full() && self.needs_storage(publication, route) {
            self.counters.refused_storage_full += 1;
            return Published::Refused(ReasonCode::QuotaExceeded);
        }
        let mut number = 0;
        if publication.retain {
            match self.retain(publication) {
                Ok(retained) => {
                    number = retained;
                    self.note_live_retained(publication.topic, self.shard, number);
                }
                Err(reason) => return Published::Refused(reason),
            }
        }
        if route.shards.is_empty() {
            self.counters.publishes_local += 1;
        }
        for shard in route.shards {
            let message = publication.message();
            let unit = self.forward();
            self.send(shard, Envelope::Publish(Box::new(RoutedMessage { message, retained: number, unit })));
        }
        for group in &route.groups {
            self.publish_to_group(now, *group, publication);
        }
        self.deliver_along(now, publication, route);
        if route.is_empty() { Published::NoSubscribers } else { Published::Sent }
    }

    /// To this shard's own subscribers.
    fn deliver_along(&mut self, now: Time, publication: &Publication<'_>, route: &Route) {
        self.spend(route, 1, publication.qos > QoS::AtMostOnce);
        for subscriber in &route.direct {
            if subscriber.when != When::Always {
                let is_own = self.sessions[subscriber.session as usize].key == publication.publisher;
                if is_own != (subscriber.when == When::OwnOnly) {
                    continue;
                }
            }
            let retain = publication.retain && subscriber.retain_as_published;
            let ids = route.ids(subscriber);
            self.deliver(now, subscriber.session, publication, subscriber.qos, retain, ids, None);
        }
    }

    /// A message that another shard's client published.
    pub(super) fn deliver_routed(&mut self, now: Time, from: u8, routed: &RoutedMessage) {
        let topic = routed.message.topic();
        if routed.retained > 0 {
            self.note_seen(from, routed.retained);
            self.note_live_retained(topic, from, routed.retained);
        }
        let route = self.route(topic);
        self.deliver_along(now, &routed.message.publication(), &route);
    }

    /// Consecutive plain publishes for one route.
    pub(super) fn publish_run(&mut self, now: Time, slot: u32, route: &Route, run: &Run<'_>) {
        let publisher = self.sessions[self.connections[slot as usize].session as usize].key;
        self.counters.packets_received[PacketType::Publish as usize] += u64::from(run.count);
        self.counters.publish_bytes_received += run.payload_bytes;
        if route.shards.is_empty() {
            self.counters.publishes_local += u64::from(run.count);
        }
        let mut kept = None;
        for shard in route.shards {
            let bytes = kept.get_or_insert_with(|| Bytes::copy_from_slice(run.bytes)).clone();
            self.send(shard, Envelope::Run { bytes, v5: run.v5, publisher });
        }
        for group in &route.groups {
            self.share_run(now, *group, &route.topic, run, publisher);
        }
        let uncopied = self.lent(run.bytes);
        self.deliver_run_along(now, route, run, publisher, uncopied);
    }

    /// A run that another shard's client published; how many messages it has.
    pub(super) fn deliver_peer_run(
        &mut self,
        now: Time,
        bytes: &Bytes,
        v5: bool,
        publisher: SessionKey,
    ) -> u32 {
        let (topic, run) = Run::from_peer(bytes, v5).expect("a shard sends only what it has cut");
        let route = self.route(topic);
        match run.qos {
            QoS::AtMostOnce => {
                let uncopied = (bytes.len() >= LEND_FROM).then(|| Uncopied::Shared(bytes.clone()));
                self.deliver_run_along(now, &route, &run, publisher, uncopied);
            }
            _ => self.deliver_acknowledged_run_along(now, &route, &run, publisher, Some(bytes.clone())),
        }
        run.count
    }

    /// To this shard's own subscribers. `uncopied`: the run again.
    fn deliver_run_along(
        &mut self,
        now: Time,
        route: &Route,
        run: &Run<'_>,
        publisher: SessionKey,
        uncopied: Option<Uncopied>,
    ) {
        self.spend(route, run.count, false);
        // A payload that only one gets is copied once, whether it is shared or not.
        let most = if route.direct.len() == 1 || uncopied.is_some() { usize::MAX } else { SHARE_FROM };
        let mut left = Vec::new();
        for subscriber in &route.direct {
            if subscriber.when != When::Always {
                let is_own = self.sessions[subscriber.session as usize].key == publisher;
                if is_own != (subscriber.when == When::OwnOnly) {
                    continue;
                }
            }
            if !self.deliver_run(subscriber.session, run, route.ids(subscriber), most, uncopied.as_ref()) {
                left.push(subscriber);
            }
        }
        if left.is_empty() {
            return;
        }
        // One publication for all of them, so that what is shared is shared once.
        for payload in run.payloads() {
            let publication = plain_publication(&route.topic, payload, QoS::AtMostOnce, publisher);
            for subscriber in &left {
                let ids = route.ids(subscriber);
                self.deliver(now, subscriber.session, &publication, subscriber.qos, false, ids, None);
            }
        }
    }
}

/// One message of a run.
pub(super) fn plain_publication<'a>(
    topic: &'a str,
    payload: &'a [u8],
    qos: QoS,
    publisher: SessionKey,
) -> Publication<'a> {
    Publication::new(topic, &[], payload, qos, false, Time::NEVER, publisher, None)
}
