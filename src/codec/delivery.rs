//! The hot path: PUBLISH towards a subscriber.
use super::primitives::{MAX_VARINT, varint_bytes, varint_len, write_varint};
use super::{PacketType, QoS, Version};

const MESSAGE_EXPIRY: u8 = 0x02;
const SUBSCRIPTION_ID: u8 = 0x0B;
const TOPIC_ALIAS: u8 = 0x23;

/// What differs from one subscriber's copy of a message to another's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeliveryHead<'a> {
    /// Sent before.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// It was kept (or is to be shown as published).
    pub retain: bool,
    /// Packet identifier; not looked at for QoS 0.
    pub packet_id: u16,
    /// Topic alias, not 0; 5.0 only.
    pub topic_alias: Option<u16>,
    /// Seconds left; 5.0 only.
    pub message_expiry: Option<u32>,
    /// Of the matching subscriptions, none 0; 5.0 only.
    pub subscription_ids: &'a [u32],
}

/// The two lengths inside the packet.
struct Lengths {
    remaining: usize,
    /// Of the property section without its own length.
    properties: usize,
}

impl Lengths {
    #[inline]
    fn of(
        version: Version,
        head: &DeliveryHead<'_>,
        topic: &[u8],
        forwarded: &[u8],
        payload_len: usize,
    ) -> Lengths {
        let packet_id = if head.qos == QoS::AtMostOnce { 0 } else { 2 };
        let common = 2 + topic.len() + packet_id + payload_len;
        if !version.is_v5() {
            return Lengths { remaining: common, properties: 0 };
        }
        let mut properties = forwarded.len()
            + 3 * usize::from(head.topic_alias.is_some())
            + 5 * usize::from(head.message_expiry.is_some());
        for &id in head.subscription_ids {
            properties += 1 + varint_len(id);
        }
        Lengths { remaining: common + length_len(properties) + properties, properties }
    }

    #[inline]
    fn packet(&self) -> usize {
        1 + length_len(self.remaining) + self.remaining
    }
}

/// [`varint_len`] of a length that may be too long to be written.
#[inline]
fn length_len(length: usize) -> usize {
    varint_len(length.min(MAX_VARINT as usize) as u32)
}

/// Exact size of the packet, for Maximum Packet Size. Nothing above [`super::MAX_PACKET`] may be encoded:
/// a message of almost that size can outgrow it by what is added here.
#[inline]
pub fn delivery_size(
    version: Version,
    head: &DeliveryHead<'_>,
    topic: &[u8],
    forwarded: &[u8],
    payload_len: usize,
) -> usize {
    Lengths::of(version, head, topic, forwarded, payload_len).packet()
}

/// Appends the packet up to but without its payload, which the caller sends behind it.
/// `topic` may be empty when an alias stands for it; `forwarded` is what
/// [`super::MessageProperties::encode_forwarded`] wrote; before 5.0 all properties vanish.
/// Panics if the packet would be larger than [`super::MAX_PACKET`].
#[inline]
pub fn encode_delivery_header(
    version: Version,
    head: &DeliveryHead<'_>,
    topic: &[u8],
    forwarded: &[u8],
    payload_len: usize,
    out: &mut Vec<u8>,
) {
    let lengths = Lengths::of(version, head, topic, forwarded, payload_len);
    out.reserve(lengths.packet() - payload_len + SLACK);
    write_header(version, head, topic, forwarded, &lengths, out);
}

/// Appends the whole packet; otherwise like [`encode_delivery_header`].
#[inline]
pub fn encode_delivery(
    version: Version,
    head: &DeliveryHead<'_>,
    topic: &[u8],
    forwarded: &[u8],
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    let lengths = Lengths::of(version, head, topic, forwarded, payload.len());
    out.reserve(lengths.packet() + SLACK);
    write_header(version, head, topic, forwarded, &lengths, out);
    out.extend_from_slice(payload);
}

/// Room for fields of a few bytes, put together on the stack.
const STACK: usize = 16;
/// What [`Fields::append`] may write beyond the end before it cuts back.
const SLACK: usize = STACK;

/// A few small fields in a row.
struct Fields {
    bytes: [u8; STACK],
    length: usize,
}

impl Fields {
    #[inline]
    fn new() -> Fields {
        Fields { bytes: [0; STACK], length: 0 }
    }
    #[inline]
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        self.bytes[self.length..self.length + N].copy_from_slice(&field);
        self.length += N;
    }
    #[inline]
    fn put_varint(&mut self, value: usize) {
        assert!(value <= MAX_VARINT as usize, "a packet longer than MQTT can say");
        let (bytes, length) = varint_bytes(value as u32);
        // All four, whatever counts: the next field overwrites the rest.
        self.bytes[self.length..self.length + 4].copy_from_slice(&bytes);
        self.length += length;
    }
    /// Appends all of the array, a copy of constant size, and cuts it to what is used.
    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.length;
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }
}

#[inline]
fn write_header(
    version: Version,
    head: &DeliveryHead<'_>,
    topic: &[u8],
    forwarded: &[u8],
    lengths: &Lengths,
    out: &mut Vec<u8>,
) {
    let flags = u8::from(head.dup) << 3 | (head.qos as u8) << 1 | u8::from(head.retain);
    let topic_len = u16::try_from(topic.len()).expect("a topic of more than 65,535 bytes");
    let mut front = Fields::new();
    front.put([PacketType::Publish.first() | flags]);
    front.put_varint(lengths.remaining);
    front.put(topic_len.to_be_bytes());
    front.append(out);
    out.extend_from_slice(topic);

    let mut middle = Fields::new();
    if head.qos != QoS::AtMostOnce {
        middle.put(head.packet_id.to_be_bytes());
    }
    if !version.is_v5() {
        middle.append(out);
        return;
    }
    middle.put_varint(lengths.properties);
    if let Some(alias) = head.topic_alias {
        middle.put([TOPIC_ALIAS]);
        middle.put(alias.to_be_bytes());
    }
    if let Some(seconds) = head.message_expiry {
        middle.put([MESSAGE_EXPIRY]);
        middle.put(seconds.to_be_bytes());
    }
    middle.append(out);
    for &id in head.subscription_ids {
        out.push(SUBSCRIPTION_ID);
        write_varint(id, out);
    }
    out.extend_from_slice(forwarded);
}
