//! From bytes to packets: cuts what arrived, keeps the torn end, and hands each packet to its chapter.
use super::Core;
use super::connection::{Phase, Torn};
use crate::codec::{
    Ack, Cut, DecodeError, Frame, Packet, PacketType, Publish, ReasonCode, Version, cut, decode,
};
use crate::router::Route;
use crate::session::message::SHARE_FROM;
use crate::session::run::{PUBLISH_QOS_1, PUBLISH_QOS_2, cut_run, first_topic};
use crate::time::Time;
use bytes::{Bytes, BytesMut};
use std::rc::Rc;

/// First allocation for a torn packet; it grows with what really arrives, since a length alone is only a claim.
const TORN_FIRST: usize = 64 * 1024;

/// The packet types that acknowledge.
const PUBACK: u8 = PacketType::PubAck as u8;
const PUBCOMP: u8 = PacketType::PubComp as u8;

/// Whether the packets behind this one are to be handled now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flow {
    /// Go on.
    Continue,
    /// The connection is gone, or not to be read any further.
    Stop,
    /// Not to be read any further, and this packet is to be handled again when it goes on.
    Again,
    /// Not to be read any further before this packet is done, which goes on by itself.
    Later,
}

impl Core {
    /// Bytes arrived on a live connection.
    pub(super) fn receive(&mut self, now: Time, slot: u32, mut bytes: &[u8]) {
        self.counters.bytes_received += bytes.len() as u64;
        let connection = &mut self.connections[slot as usize];
        connection.last_received = now;
        if matches!(connection.phase, Phase::Locating | Phase::Deciding) {
            return self.put_aside(slot, bytes);
        }
        if self.is_held(slot) {
            return self.hold(slot, [bytes, &[]]);
        }
        let connection = &mut self.connections[slot as usize];
        if let Some(torn) = connection.extras.as_mut().and_then(|extras| extras.torn.take()) {
            match self.complete(slot, torn, &mut bytes) {
                Ok(Some(whole)) => match self.receive_whole(now, slot, &whole) {
                    Flow::Continue if self.awaits_others(slot, bytes) => return,
                    Flow::Continue => {}
                    Flow::Stop => return self.put_aside(slot, bytes),
                    Flow::Again => return self.hold(slot, [&whole, bytes]),
                    Flow::Later => return self.hold(slot, [bytes, &[]]),
                },
                Ok(None) => return,
                Err(error) => return self.refuse_bytes(now, slot, error),
            }
        }
        self.receive_slice(now, slot, bytes);
    }

    /// Handles every whole packet in `bytes`, as far as there is work to do at once, and keeps the rest.
    pub(super) fn receive_slice(&mut self, now: Time, slot: u32, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.throttle(now, slot, bytes) {
                return;
            }
            if self.is_spent() || self.lacks_room() {
                return self.put_off_input(slot, bytes);
            }
            if let Some(used) = self.receive_run(now, slot, bytes) {
                bytes = &bytes[used..];
                if self.awaits_others(slot, bytes) {
                    return;
                }
                continue;
            }
            match cut(bytes, self.limits_of(slot).max_packet) {
                Ok(Cut::Frame(frame)) => {
                    let rest = &bytes[frame.bytes.len()..];
                    let flow = self.receive_frame(now, slot, frame, None);
                    if flow == Flow::Again {
                        return self.hold(slot, [bytes, &[]]);
                    }
                    if flow == Flow::Later {
                        return self.hold(slot, [rest, &[]]);
                    }
                    self.end_questions(slot);
                    if flow == Flow::Stop {
                        return self.put_aside(slot, rest);
                    }
                    if self.awaits_others(slot, rest) {
                        return;
                    }
                    bytes = rest;
                }
                Ok(Cut::Short { total }) => match self.check_torn(slot, total) {
                    Ok(()) => return self.keep_torn(slot, bytes, total),
                    Err(error) => return self.refuse_bytes(now, slot, error),
                },
                Err(error) => return self.refuse_bytes(now, slot, error),
            }
        }
    }

    /// The fast path: packets for the same topic as this connection's last publish, or for another one whose route is
    /// remembered, and acknowledgements, which need no decoding.
    fn receive_run(&mut self, now: Time, slot: u32, bytes: &[u8]) -> Option<usize> {
        let connection = &self.connections[slot as usize];
        if matches!(bytes[0] >> 4, PUBACK..=PUBCOMP) {
            return self.receive_acks(now, slot, bytes);
        }
        if self.asks || self.has_rates(slot) || self.memory.is_full() {
            // Each message is looked at.
            return None;
        }
        let most = self.profiles[connection.profile].limits.max_packet;
        let topic = first_topic(bytes, connection.is_v5(), most)?;
        let remembered = connection.route.upgrade().filter(|route| *route.topic.as_bytes() == *topic);
        let route = remembered.or_else(|| self.known_route(slot, topic))?;
        if !self.router.is_fresh(&route) {
            return None;
        }
        if matches!(bytes[0], PUBLISH_QOS_1 | PUBLISH_QOS_2) {
            return self.receive_acknowledged_run(now, slot, &route, bytes);
        }
        // What several get or other shards is shared when it is large: the ordinary way, unless it is lent.
        let is_here = route.shards.is_empty() && route.groups.is_empty();
        let is_lone = route.direct.len() == 1 || self.lent(bytes).is_some();
        let most = if is_here && is_lone { most } else { most.min(SHARE_FROM as u32) };
        let run = cut_run(bytes, self.connections[slot as usize].is_v5(), most, topic)?;
        let run = run.split(self.most_at_once(slot, &route, false)).0;
        self.publish_run(now, slot, &route, &run);
        Some(run.bytes.len())
    }

    /// The route of a topic, if the router remembers it and everybody may publish to it. It was checked when it was
    /// searched, for one who may have had other limits.
    fn known_route(&mut self, slot: u32, topic: &[u8]) -> Option<Rc<Route>> {
        if self.restricts
            || topic.starts_with(b"$")
            || self.connections[slot as usize].phase != Phase::Connected
        {
            return None;
        }
        let route = self.router.known(std::str::from_utf8(topic).ok()?)?;
        let limits = self.limits_of(slot);
        if topic.len() > limits.max_topic_length || route.levels > limits.max_topic_levels {
            return None;
        }
        self.connections[slot as usize].route = Rc::downgrade(&route);
        Some(route)
    }

    /// A packet that came in several pieces: an allocation of its own, which large payloads are shared from.
    fn receive_whole(&mut self, now: Time, slot: u32, whole: &Bytes) -> Flow {
        match cut(whole, self.limits_of(slot).max_packet) {
            Ok(Cut::Frame(frame)) => self.receive_frame(now, slot, frame, Some(whole)),
            Ok(Cut::Short { .. }) => unreachable!("the packet was completed"),
            Err(error) => {
                self.refuse_bytes(now, slot, error);
                Flow::Stop
            }
        }
    }

    /// Adds to a torn packet; `Ok(Some)` when it is whole, with `bytes` moved behind it.
    fn complete(
        &mut self,
        slot: u32,
        mut torn: Torn,
        bytes: &mut &[u8],
    ) -> Result<Option<Bytes>, DecodeError> {
        while torn.total.is_none() {
            let Some((byte, rest)) = bytes.split_first() else {
                self.connections[slot as usize].extras().torn = Some(torn);
                return Ok(None);
            };
            torn.bytes.extend_from_slice(&[*byte]);
            *bytes = rest;
            torn.total = match cut(&torn.bytes, self.limits_of(slot).max_packet)? {
                Cut::Frame(frame) => Some(frame.bytes.len()),
                Cut::Short { total } => total,
            };
        }
        self.check_torn(slot, torn.total)?;
        let total = torn.total.expect("known by now");
        let missing = total - torn.bytes.len();
        let (now, later) = bytes.split_at(missing.min(bytes.len()));
        if torn.bytes.capacity() < torn.bytes.len() + now.len() {
            let grown = (2 * torn.bytes.capacity()).max(TORN_FIRST).min(total);
            torn.bytes.reserve(grown.max(torn.bytes.len() + now.len()) - torn.bytes.len());
        }
        torn.bytes.extend_from_slice(now);
        *bytes = later;
        if torn.bytes.len() == total {
            return Ok(Some(torn.bytes.freeze()));
        }
        self.connections[slot as usize].extras().torn = Some(torn);
        Ok(None)
    }

    /// Refuses to keep more for somebody of whom nothing is known than a CONNECT may have, and for anybody where memory
    /// is short.
    fn check_torn(&self, slot: u32, total: Option<usize>) -> Result<(), DecodeError> {
        let limit = self.torn_limit(slot);
        match total.filter(|total| *total > limit as usize) {
            Some(size) => Err(DecodeError::PacketTooLarge { size: size as u32, limit }),
            None => Ok(()),
        }
    }

    fn keep_torn(&mut self, slot: u32, bytes: &[u8], total: Option<usize>) {
        let capacity = total.unwrap_or(8).min(TORN_FIRST).max(bytes.len());
        let mut kept = BytesMut::with_capacity(capacity);
        kept.extend_from_slice(bytes);
        self.connections[slot as usize].extras().torn = Some(Torn { bytes: kept, total });
    }

    /// What came behind a CONNECT that is still waiting for an answer is handled after it.
    pub(super) fn put_aside(&mut self, slot: u32, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some(connection) = self.connections.get_mut(slot as usize)
            && let Some(pending) = connection.extras.as_mut().and_then(|extras| extras.pending.as_mut())
        {
            pending.bytes.extend_from_slice(bytes);
        }
    }

    fn receive_frame(&mut self, now: Time, slot: u32, frame: Frame<'_>, whole: Option<&Bytes>) -> Flow {
        let connection = &self.connections[slot as usize];
        let (phase, version) = (connection.phase, connection.version);
        if phase == Phase::Connected {
            match self.receive_frequent(now, slot, frame, version, whole) {
                Ok(Some(flow)) => return flow,
                Ok(None) => {}
                Err(error) => {
                    self.refuse_bytes(now, slot, error);
                    return Flow::Stop;
                }
            }
        }
        match decode(frame, version) {
            Ok(packet) => {
                self.counters.packets_received[usize::from(frame.first >> 4)] += 1;
                match phase {
                    Phase::AwaitConnect => self.handle_first(now, slot, &packet, frame),
                    Phase::Locating | Phase::Deciding => {
                        unreachable!("a connection is not read while its home or its answer is looked for")
                    }
                    Phase::Authenticating => self.handle_during_authentication(now, slot, &packet),
                    Phase::Connected => self.handle_packet(now, slot, &packet),
                }
            }
            Err(error) => {
                if phase == Phase::AwaitConnect {
                    self.refuse_connect(slot, frame, error);
                } else {
                    self.refuse_bytes(now, slot, error);
                }
                Flow::Stop
            }
        }
    }

    /// PUBLISH and PUBACK, which are most of what comes, without the detour over [`Packet`], whose size costs as much
    /// as their decoding.
    fn receive_frequent(
        &mut self,
        now: Time,
        slot: u32,
        frame: Frame<'_>,
        version: Version,
        whole: Option<&Bytes>,
    ) -> Result<Option<Flow>, DecodeError> {
        match PacketType::from_bits(frame.first >> 4) {
            Some(PacketType::Publish) => {
                let publish = Publish::decode(frame, version)?;
                self.counters.packets_received[PacketType::Publish as usize] += 1;
                let flow = self.handle_publish(now, slot, &publish, whole);
                // One that waits is counted when it comes again.
                let is_again = flow == Flow::Again;
                self.counters.packets_received[PacketType::Publish as usize] -= u64::from(is_again);
                Ok(Some(flow))
            }
            Some(PacketType::PubAck) => {
                let ack = Ack::decode(PacketType::PubAck, frame, version)?;
                self.counters.packets_received[PacketType::PubAck as usize] += 1;
                self.handle_puback(now, slot, &ack);
                Ok(Some(Flow::Continue))
            }
            _ => Ok(None),
        }
    }

    fn handle_packet(&mut self, now: Time, slot: u32, packet: &Packet<'_>) -> Flow {
        match packet {
            Packet::PubRec(ack) => self.handle_pubrec(now, slot, ack),
            Packet::PubRel(ack) => self.handle_pubrel(slot, ack),
            Packet::PubComp(ack) => self.handle_pubcomp(now, slot, ack),
            Packet::Subscribe(subscribe) => return self.handle_subscribe(now, slot, subscribe),
            Packet::Unsubscribe(unsubscribe) => return self.handle_unsubscribe(now, slot, unsubscribe),
            Packet::PingReq => self.answer_ping(slot),
            Packet::Disconnect(disconnect) => {
                let conn = self.id(slot);
                if self.announcements.hold_disconnect(conn) {
                    // It is counted when it comes again.
                    self.counters.packets_received[PacketType::Disconnect as usize] -= 1;
                    return Flow::Again;
                }
                self.handle_disconnect(now, slot, disconnect);
                return Flow::Stop;
            }
            Packet::Auth(auth) => return self.handle_auth(now, slot, auth),
            Packet::Publish(_) | Packet::PubAck(_) => unreachable!("decoded as frequent packets"),
            // A second CONNECT ([MQTT-3.1.0-2]), or what only a server sends.
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => {
                self.disconnect(now, slot, ReasonCode::ProtocolError);
                return Flow::Stop;
            }
        }
        Flow::Continue
    }

    /// [MQTT-3.12.4-1].
    fn answer_ping(&mut self, slot: u32) {
        self.write(slot, PacketType::PingResp, |version, out| Packet::PingResp.encode(version, out));
    }

    /// Bytes that are no packet end their connection, with the reason where the client can be told
    /// ([MQTT-4.13.1-1], [MQTT-4.8.0-1]).
    pub(super) fn refuse_bytes(&mut self, now: Time, slot: u32, error: DecodeError) {
        self.counters.decode_errors += 1;
        let is_connected = self.connections[slot as usize].phase == Phase::Connected;
        let last = if is_connected { PacketType::Disconnect } else { PacketType::ConnAck };
        // Not every packet may tell every reason; what is left, like a second CONNECT of a version there is not, is a
        // packet that must not come now.
        let reason = Some(error.reason()).filter(|reason| reason.listed_for(last));
        let reason = reason.unwrap_or(ReasonCode::ProtocolError);
        if is_connected {
            self.disconnect(now, slot, reason);
        } else {
            self.refuse(slot, reason);
        }
    }
}
