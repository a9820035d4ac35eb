//! The control packets: their types, and one enum of them all.
use super::frame::DUP;
use super::primitives::{MAX_VARINT, Sink, Size, write_varint};
use super::{
    Ack, Auth, ConnAck, Connect, DecodeError, Disconnect, Frame, Publish, SubAck, Subscribe, UnsubAck,
    Unsubscribe, Version,
};

/// A type of control packet; its value is what stands in the high half of the first byte.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum PacketType {
    /// A client asks for a connection.
    Connect = 1,
    /// The answer to CONNECT.
    ConnAck,
    /// A message.
    Publish,
    /// QoS 1: the message is taken.
    PubAck,
    /// QoS 2, first answer: the message is received.
    PubRec,
    /// QoS 2, second step of the sender: its packet identifier is given up.
    PubRel,
    /// QoS 2, second answer: done.
    PubComp,
    /// A client asks for subscriptions.
    Subscribe,
    /// The answer to SUBSCRIBE.
    SubAck,
    /// A client gives up subscriptions.
    Unsubscribe,
    /// The answer to UNSUBSCRIBE.
    UnsubAck,
    /// A sign of life.
    PingReq,
    /// The answer to PINGREQ.
    PingResp,
    /// The last packet of a connection.
    Disconnect,
    /// A step of an enhanced authentication; 5.0 only.
    Auth = 15,
}

impl PacketType {
    /// From the high half of the first byte; `None` for 0 and above 15.
    #[inline]
    pub fn from_bits(bits: u8) -> Option<PacketType> {
        use PacketType::*;
        const TYPES: [PacketType; 15] = [
            Connect,
            ConnAck,
            Publish,
            PubAck,
            PubRec,
            PubRel,
            PubComp,
            Subscribe,
            SubAck,
            Unsubscribe,
            UnsubAck,
            PingReq,
            PingResp,
            Disconnect,
            Auth,
        ];
        TYPES.get(usize::from(bits).wrapping_sub(1)).copied()
    }
    /// The first byte of such a packet (of PUBLISH: without flags).
    #[inline]
    pub fn first(self) -> u8 {
        let flags = match self {
            PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
            _ => 0,
        };
        (self as u8) << 4 | flags
    }
    /// Its place in a bit set of packet types.
    #[inline]
    pub(super) const fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// Any control packet, of both versions.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Packet<'a> {
    /// CONNECT
    Connect(Connect<'a>),
    /// CONNACK
    ConnAck(ConnAck<'a>),
    /// PUBLISH
    Publish(Publish<'a>),
    /// PUBACK
    PubAck(Ack<'a>),
    /// PUBREC
    PubRec(Ack<'a>),
    /// PUBREL
    PubRel(Ack<'a>),
    /// PUBCOMP
    PubComp(Ack<'a>),
    /// SUBSCRIBE
    Subscribe(Subscribe<'a>),
    /// SUBACK
    SubAck(SubAck<'a>),
    /// UNSUBSCRIBE
    Unsubscribe(Unsubscribe<'a>),
    /// UNSUBACK
    UnsubAck(UnsubAck<'a>),
    /// PINGREQ
    PingReq,
    /// PINGRESP
    PingResp,
    /// DISCONNECT
    Disconnect(Disconnect<'a>),
    /// AUTH
    Auth(Auth<'a>),
}

/// Decodes what [`super::cut`] has cut. The version is the one of the connection; CONNECT brings its own.
/// Who may send the packet, and when, is not looked at.
#[inline]
pub fn decode<'a>(frame: Frame<'a>, version: Version) -> Result<Packet<'a>, DecodeError> {
    let reserved = DecodeError::PacketTypeReserved { first: frame.first };
    let packet = PacketType::from_bits(frame.first >> 4).ok_or(reserved)?;
    if frame.first & DUP != 0 && packet != PacketType::Publish && version != Version::V31 {
        return Err(DecodeError::HeaderFlags { first: frame.first });
    }
    Ok(match packet {
        PacketType::Publish => Packet::Publish(Publish::decode(frame, version)?),
        PacketType::PubAck => Packet::PubAck(Ack::decode(PacketType::PubAck, frame, version)?),
        PacketType::PubRec => Packet::PubRec(Ack::decode(PacketType::PubRec, frame, version)?),
        PacketType::PubRel => Packet::PubRel(Ack::decode(PacketType::PubRel, frame, version)?),
        PacketType::PubComp => Packet::PubComp(Ack::decode(PacketType::PubComp, frame, version)?),
        PacketType::Connect => Packet::Connect(Connect::decode(frame)?),
        PacketType::ConnAck => Packet::ConnAck(ConnAck::decode(frame, version)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::decode(frame, version)?),
        PacketType::SubAck => Packet::SubAck(SubAck::decode(frame, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(frame, version)?),
        PacketType::UnsubAck => Packet::UnsubAck(UnsubAck::decode(frame, version)?),
        PacketType::PingReq if frame.body.is_empty() => Packet::PingReq,
        PacketType::PingResp if frame.body.is_empty() => Packet::PingResp,
        PacketType::PingReq | PacketType::PingResp => return Err(DecodeError::TrailingBytes),
        PacketType::Disconnect => Packet::Disconnect(Disconnect::decode(frame, version)?),
        PacketType::Auth if version.is_v5() => Packet::Auth(Auth::decode(frame)?),
        PacketType::Auth => return Err(reserved),
    })
}

impl Packet<'_> {
    /// Its type.
    pub fn packet_type(&self) -> PacketType {
        match self {
            Packet::Connect(_) => PacketType::Connect,
            Packet::ConnAck(_) => PacketType::ConnAck,
            Packet::Publish(_) => PacketType::Publish,
            Packet::PubAck(_) => PacketType::PubAck,
            Packet::PubRec(_) => PacketType::PubRec,
            Packet::PubRel(_) => PacketType::PubRel,
            Packet::PubComp(_) => PacketType::PubComp,
            Packet::Subscribe(_) => PacketType::Subscribe,
            Packet::SubAck(_) => PacketType::SubAck,
            Packet::Unsubscribe(_) => PacketType::Unsubscribe,
            Packet::UnsubAck(_) => PacketType::UnsubAck,
            Packet::PingReq => PacketType::PingReq,
            Packet::PingResp => PacketType::PingResp,
            Packet::Disconnect(_) => PacketType::Disconnect,
            Packet::Auth(_) => PacketType::Auth,
        }
    }

    /// Appends the whole packet. What the version cannot say is left out. Panics if a field or the packet is
    /// longer than the standard can write down; nothing that was decoded is.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Packet::Connect(packet) => packet.encode(version, out),
            Packet::ConnAck(packet) => packet.encode(version, out),
            Packet::Publish(packet) => packet.encode(version, out),
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
                ack.encode(self.packet_type(), version, out)
            }
            Packet::Subscribe(packet) => packet.encode(version, out),
            Packet::SubAck(packet) => packet.encode(version, out),
            Packet::Unsubscribe(packet) => packet.encode(version, out),
            Packet::UnsubAck(packet) => packet.encode(version, out),
            Packet::PingReq | Packet::PingResp => out.extend_from_slice(&[self.packet_type().first(), 0]),
            Packet::Disconnect(packet) => packet.encode(version, out),
            Packet::Auth(packet) => packet.encode(version, out),
        }
    }
}

/// Appends a packet: its first byte, the length of what `body` writes, and that. `body` runs twice and must
/// write the same both times.
pub(super) fn encode_packet(first: u8, out: &mut Vec<u8>, body: impl Fn(&mut dyn Sink)) {
    let mut size = Size::default();
    body(&mut size);
    assert!(size.0 <= MAX_VARINT as usize, "a packet longer than MQTT can say");
    out.reserve(5 + size.0);
    out.push(first);
    write_varint(size.0 as u32, out);
    body(out);
}
