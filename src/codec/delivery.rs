//! The hot path: PUBLISH towards a subscriber.
use super::primitives::{MAX_VARINT, varint_len, varint_word, write_varint};
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

/// What [`Fields::append`] may write beyond the end before it cuts back.
const SLACK: usize = size_of::<u64>();

/// A few small fields in a row, eight bytes at most, put together in a register: small stores that are loaded
/// again as one would wait for each other.
#[derive(Default)]
struct Fields {
    word: u64,
    length: usize,
}

impl Fields {
    #[inline]
    fn put(&mut self, little_endian: u64, length: usize) {
        self.word |= little_endian << (8 * self.length);
        self.length += length;
    }
    #[inline]
    fn put_u8(&mut self, value: u8) {
        self.put(value.into(), 1);
    }
    #[inline]
    fn put_u16(&mut self, value: u16) {
        self.put(value.swap_bytes().into(), 2);
    }
    #[inline]
    fn put_varint(&mut self, value: usize) {
        assert!(value <= MAX_VARINT as usize, "a packet longer than MQTT can say");
        let (word, length) = varint_word(value as u32);
        self.put(word.into(), length);
    }
    /// Appends the whole word, a copy of constant size, and cuts it to what is used.
    #[inline]
    fn append(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.length;
        out.extend_from_slice(&self.word.to_le_bytes());
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
    let mut front = Fields::default();
    front.put_u8(PacketType::Publish.first() | flags);
    front.put_varint(lengths.remaining);
    front.put_u16(topic_len);
    front.append(out);
    out.extend_from_slice(topic);

    let mut middle = Fields::default();
    if head.qos != QoS::AtMostOnce {
        middle.put_u16(head.packet_id);
    }
    if version.is_v5() {
        middle.put_varint(lengths.properties);
    }
    middle.append(out);
    if version.is_v5() && lengths.properties != 0 {
        write_properties(head, forwarded, out);
    }
}

fn write_properties(head: &DeliveryHead<'_>, forwarded: &[u8], out: &mut Vec<u8>) {
    if let Some(alias) = head.topic_alias {
        out.push(TOPIC_ALIAS);
        out.extend_from_slice(&alias.to_be_bytes());
    }
    if let Some(seconds) = head.message_expiry {
        out.push(MESSAGE_EXPIRY);
        out.extend_from_slice(&seconds.to_be_bytes());
    }
    for &id in head.subscription_ids {
        out.push(SUBSCRIPTION_ID);
        write_varint(id, out);
    }
    out.extend_from_slice(forwarded);
}
