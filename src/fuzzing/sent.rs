//! What a client says, packet by packet, so that what it is answered can be judged.
use crate::codec::{Cut, Packet, PacketType, QoS, ReasonCode, Version, cut, decode};
use std::collections::VecDeque;

/// What a client said in CONNECT, as far as it binds the broker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Greeting {
    pub version: Version,
    pub clean_start: bool,
    pub has_client_id: bool,
    pub max_packet: usize,
    pub receive_maximum: usize,
    pub alias_maximum: u16,
}

/// A packet of the client that changes what the broker may or must say.
#[derive(Clone, Copy, Debug)]
pub(super) enum Said {
    Connect(Greeting),
    /// To be answered by a packet of this type with this id (0 where there is none) and as many reason codes.
    Ask(PacketType, u16, usize),
    PubAck(u16),
    PubRec(u16, bool),
    PubComp(u16),
    /// Nothing after it matters.
    Goodbye,
}

/// The bytes a client has written and the core has not got yet, and what they say.
pub(super) struct Sent {
    /// Written, not delivered.
    bytes: VecDeque<u8>,
    /// The end of what was written that is no whole packet yet.
    torn: Vec<u8>,
    version: Option<Version>,
    /// Packets in `bytes`, each with the number of bytes behind its end.
    said: VecDeque<(u64, Said)>,
    /// Places at which a delivery must end, so that acknowledgements take effect one by one.
    stops: VecDeque<u64>,
    written: u64,
    delivered: u64,
    max_packet: u32,
    /// The bytes are no packets any more.
    is_broken: bool,
}

impl Sent {
    pub fn new(max_packet: u32) -> Sent {
        Sent {
            bytes: VecDeque::new(),
            torn: Vec::new(),
            version: None,
            said: VecDeque::new(),
            stops: VecDeque::new(),
            written: 0,
            delivered: 0,
            max_packet,
            is_broken: false,
        }
    }

    /// Bytes that were not delivered yet.
    pub fn left(&self) -> usize {
        self.bytes.len()
    }
    /// The version in which to speak: that of CONNECT, once it was written.
    pub fn version(&self) -> Option<Version> {
        self.version
    }
    /// No packet was begun whose end is missing, and none was wrong.
    pub fn is_whole(&self) -> bool {
        self.torn.is_empty() && !self.is_broken
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.torn.extend_from_slice(bytes);
        self.written += bytes.len() as u64;
        let torn = std::mem::take(&mut self.torn);
        let mut rest = &torn[..];
        while !self.is_broken {
            match cut(rest, self.max_packet) {
                Ok(Cut::Frame(frame)) => {
                    let start = self.written - rest.len() as u64;
                    rest = &rest[frame.bytes.len()..];
                    match decode(frame, self.version.unwrap_or(Version::V5)) {
                        Ok(packet) => self.note(start, self.written - rest.len() as u64, &packet),
                        Err(_) => self.is_broken = true,
                    }
                }
                Ok(Cut::Short { .. }) => break,
                Err(_) => self.is_broken = true,
            }
        }
        self.torn = rest.to_vec();
    }

    fn note(&mut self, start: u64, end: u64, packet: &Packet<'_>) {
        let Some(said) = self.meaning(packet) else { return };
        if matches!(said, Said::PubAck(_) | Said::PubRec(..) | Said::PubComp(_)) {
            self.stops.push_back(start);
            self.stops.push_back(end);
        }
        self.said.push_back((end, said));
    }

    fn meaning(&mut self, packet: &Packet<'_>) -> Option<Said> {
        if self.version.is_none() {
            let Packet::Connect(connect) = packet else {
                self.is_broken = true;
                return None;
            };
            self.version = Some(connect.version);
            return Some(Said::Connect(Greeting {
                version: connect.version,
                clean_start: connect.clean_start,
                has_client_id: !connect.client_id.is_empty(),
                max_packet: connect.properties.maximum_packet_size.map_or(usize::MAX, |size| size as usize),
                receive_maximum: connect.properties.receive_maximum.into(),
                alias_maximum: connect.properties.topic_alias_maximum,
            }));
        }
        Some(match packet {
            Packet::Publish(publish) => match publish.qos {
                QoS::AtMostOnce => return None,
                QoS::AtLeastOnce => Said::Ask(PacketType::PubAck, publish.packet_id, 0),
                QoS::ExactlyOnce => Said::Ask(PacketType::PubRec, publish.packet_id, 0),
            },
            Packet::PubAck(ack) => Said::PubAck(ack.packet_id),
            Packet::PubRec(ack) => Said::PubRec(ack.packet_id, ack.reason.is_error()),
            Packet::PubRel(ack) => Said::Ask(PacketType::PubComp, ack.packet_id, 0),
            Packet::PubComp(ack) => Said::PubComp(ack.packet_id),
            Packet::Subscribe(subscribe) => {
                Said::Ask(PacketType::SubAck, subscribe.packet_id, subscribe.filters().count())
            }
            Packet::Unsubscribe(unsubscribe) => {
                Said::Ask(PacketType::UnsubAck, unsubscribe.packet_id, unsubscribe.filters().count())
            }
            Packet::PingReq => Said::Ask(PacketType::PingResp, 0, 0),
            Packet::Auth(auth) if auth.reason != ReasonCode::Success => return None,
            _ => Said::Goodbye,
        })
    }

    /// The next bytes to deliver, at most `most`, and what is said by then.
    pub fn take(&mut self, most: usize) -> (Vec<u8>, Vec<Said>) {
        while self.stops.front().is_some_and(|stop| *stop <= self.delivered) {
            self.stops.pop_front();
        }
        let until = self.stops.front().map_or(usize::MAX, |stop| (stop - self.delivered) as usize);
        let count = most.min(until).min(self.bytes.len());
        let bytes = self.bytes.drain(..count).collect();
        self.delivered += count as u64;
        let mut said = Vec::new();
        while let Some((_, packet)) = self.said.pop_front_if(|(end, _)| *end <= self.delivered) {
            said.push(packet);
        }
        (bytes, said)
    }
}
