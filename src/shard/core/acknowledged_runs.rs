//! Runs at QoS 1 and 2: what comes in rows of the same kind is looked up once and taken as a whole.
//!
//! Only where nothing has to outlive a connection: a publisher, subscribers and acknowledgements of sessions that end
//! with their connections, all on this shard. Everything else goes the ordinary way, packet by packet, and so does the
//! first packet here that is not quite like the others.
use super::Core;
use super::connection::Phase;
use super::publish::plain_publication;
use crate::codec::{PacketType, QoS, ReasonCode};
use crate::limits::QueuePolicy;
use crate::router::{Route, RouteSubscriber, When};
use crate::session::Session;
use crate::session::message::{SHARE_FROM, SessionKey};
use crate::session::outgoing::Acknowledged;
use crate::session::run::{
    ACK_LEN, Run, acknowledged, begins_acknowledged_run, cut_acknowledged_run, readdress,
};
use crate::time::Time;

impl Core {
    /// Publishes a run of QoS 1 or 2 for the topic of `route` and acknowledges it; the bytes used, `None` if the first
    /// packet has to go the ordinary way.
    pub(super) fn receive_acknowledged_run(
        &mut self,
        now: Time,
        slot: u32,
        route: &Route,
        bytes: &[u8],
    ) -> Option<usize> {
        let connection = &self.connections[slot as usize];
        let (publisher, v5) = (connection.session as usize, connection.is_v5());
        let topic = route.topic.as_bytes();
        if !begins_acknowledged_run(bytes, v5, topic) || !self.takes_acknowledged_run(publisher, route) {
            return None;
        }
        let mut run = cut_acknowledged_run(bytes, v5, self.limits.max_packet, topic)?;
        if run.qos as u8 > self.limits.max_qos {
            return None;
        }
        let session = &mut self.sessions[publisher];
        let key = session.key;
        if run.qos == QoS::ExactlyOnce {
            let most = usize::from(if v5 { self.limits.receive_maximum } else { u16::MAX });
            let incoming = session.incoming();
            // An id that is there already is a repetition, one too many is an error: the ordinary way.
            let count = run.ids().take_while(|id| incoming.len() < most && incoming.insert(*id)).count();
            if count == 0 {
                return None;
            }
            run = run.split(count).0;
        }
        self.counters.packets_received[PacketType::Publish as usize] += u64::from(run.count);
        self.counters.publish_bytes_received += run.payload_bytes;
        self.counters.publishes_local += u64::from(run.count);
        for subscriber in &route.direct {
            self.deliver_acknowledged_run(now, route, subscriber, &run, key);
        }
        self.acknowledge_run(slot, &run);
        Some(run.bytes.len())
    }

    /// Whether everyone concerned is on this shard and forgets everything with the connection.
    fn takes_acknowledged_run(&self, publisher: usize, route: &Route) -> bool {
        let is_fleeting = |session: &Session| !session.is_persistent() && session.connection.is_some();
        !route.direct.is_empty()
            && route.shards.is_empty()
            && route.groups.is_empty()
            && self.limits.queue_policy != QueuePolicy::Refuse
            && is_fleeting(&self.sessions[publisher])
            && route.direct.iter().all(|subscriber| is_fleeting(&self.sessions[subscriber.session as usize]))
    }

    fn deliver_acknowledged_run(
        &mut self,
        now: Time,
        route: &Route,
        subscriber: &RouteSubscriber,
        run: &Run<'_>,
        publisher: SessionKey,
    ) {
        let session = &mut self.sessions[subscriber.session as usize];
        if subscriber.when != When::Always && (session.key == publisher) != (subscriber.when == When::OwnOnly)
        {
            return;
        }
        let ids = route.ids(subscriber);
        let qos = run.qos.min(subscriber.qos);
        let slot = session.connection.expect("checked before the run was cut");
        let connection = &mut self.connections[slot as usize];
        let fits = qos > QoS::AtMostOnce
            && connection.output.len() <= self.limits.output_mark
            && connection.takes_verbatim(run, ids, SHARE_FROM);
        let outgoing = session.outgoing();
        let room = if fits { usize::from(outgoing.room(connection.quota)) } else { 0 };
        let (first, rest) = run.split(room);
        if first.count > 0 {
            let out = connection.writer(slot, &mut self.buffers, &mut self.dirty);
            let before = out.len();
            out.extend_from_slice(first.bytes);
            readdress(&mut out[before..], qos, || outgoing.begin(qos, None));
            self.counters.packets_sent[PacketType::Publish as usize] += u64::from(first.count);
            self.counters.publish_bytes_sent += first.payload_bytes;
            if connection.output.len() > self.limits.output_max {
                self.doom(slot, ReasonCode::QuotaExceeded);
            }
        }
        for payload in rest.payloads() {
            let publication = plain_publication(&route.topic, payload, run.qos, publisher);
            self.deliver(now, subscriber.session, &publication, subscriber.qos, false, ids, None);
        }
    }

    /// PUBACK or PUBREC for every packet of a run that went to somebody.
    fn acknowledge_run(&mut self, slot: u32, run: &Run<'_>) {
        let packet = if run.qos == QoS::AtLeastOnce { PacketType::PubAck } else { PacketType::PubRec };
        let ids = run.ids();
        self.write_acks(slot, packet, ids);
    }

    /// Acknowledgements of one kind that say nothing but their packet id, at the front of `bytes`; the bytes used,
    /// `None` if the first one has to go the ordinary way.
    pub(super) fn receive_acks(&mut self, now: Time, slot: u32, bytes: &[u8]) -> Option<usize> {
        let packet = PacketType::from_bits(bytes[0] >> 4)?;
        let connection = &self.connections[slot as usize];
        if connection.phase != Phase::Connected || bytes[0] != packet.first() {
            return None;
        }
        let session = &mut self.sessions[connection.session as usize];
        if session.is_persistent() {
            return None;
        }
        let ids = acknowledged(bytes, packet.first());
        let count = match packet {
            PacketType::PubRel => {
                let incoming = session.incoming.as_mut()?;
                ids.take_while(|id| incoming.release(*id)).count()
            }
            PacketType::PubAck => {
                let outgoing = session.outgoing.as_mut()?;
                ids.take_while(|id| outgoing.handle_puback(*id) == Acknowledged::Finished).count()
            }
            PacketType::PubRec => {
                let outgoing = session.outgoing.as_mut()?;
                ids.take_while(|id| outgoing.handle_pubrec(*id, false) == Acknowledged::Release).count()
            }
            PacketType::PubComp => {
                let outgoing = session.outgoing.as_mut()?;
                ids.take_while(|id| outgoing.handle_pubcomp(*id) == Acknowledged::Finished).count()
            }
            _ => return None,
        };
        if count == 0 {
            return None;
        }
        self.counters.packets_received[packet as usize] += count as u64;
        let used = count * ACK_LEN;
        match packet {
            PacketType::PubRel => {
                self.write_acks(slot, PacketType::PubComp, acknowledged(&bytes[..used], bytes[0]))
            }
            PacketType::PubRec => {
                self.write_acks(slot, PacketType::PubRel, acknowledged(&bytes[..used], bytes[0]))
            }
            _ => self.pump_waiting(now, slot),
        }
        Some(used)
    }

    /// Writes acknowledgements that say nothing but their packet id, which all versions write alike.
    fn write_acks(&mut self, slot: u32, packet: PacketType, ids: impl Iterator<Item = u16>) {
        let connection = &mut self.connections[slot as usize];
        let is_too_long = connection.max_packet < ACK_LEN as u32;
        let out = connection.writer(slot, &mut self.buffers, &mut self.dirty);
        if is_too_long {
            return self.doom(slot, ReasonCode::PacketTooLarge);
        }
        let before = out.len();
        for id in ids {
            let [high, low] = id.to_be_bytes();
            out.extend_from_slice(&[packet.first(), 2, high, low]);
        }
        self.counters.packets_sent[packet as usize] += ((out.len() - before) / ACK_LEN) as u64;
        if connection.output.len() > self.limits.output_max {
            self.doom(slot, ReasonCode::QuotaExceeded);
        }
    }
}
