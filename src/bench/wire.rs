//! The packets of the hot loop, cut and written without allocation.
//!
//! What opens a connection goes through the codec. Here nothing is validated beyond what keeps the
//! generator in step, and PUBLISH packets are templates that are only patched.
use super::error::BenchError;
use crate::codec::{Frame, Version};

/// Packet types as they stand in the upper half of the first byte.
pub mod kind {
    #![allow(missing_docs)]
    pub const CONNECT: u8 = 1;
    pub const CONNACK: u8 = 2;
    pub const PUBLISH: u8 = 3;
    pub const PUBACK: u8 = 4;
    pub const PUBREC: u8 = 5;
    pub const PUBREL: u8 = 6;
    pub const PUBCOMP: u8 = 7;
    pub const SUBSCRIBE: u8 = 8;
    pub const SUBACK: u8 = 9;
    pub const PINGREQ: u8 = 12;
    pub const PINGRESP: u8 = 13;
    pub const DISCONNECT: u8 = 14;
}

/// PINGREQ as it goes out.
pub const PINGREQ: [u8; 2] = [0xC0, 0];
/// DISCONNECT (normal) as it goes out, in both versions.
pub const DISCONNECT: [u8; 2] = [0xE0, 0];

/// Cuts one packet off the front; `None` while it is incomplete.
///
/// # Errors
/// A remaining length of more than four bytes.
#[inline]
pub fn cut(bytes: &[u8]) -> Result<Option<Frame<'_>>, BenchError> {
    let [first, one, ..] = *bytes else { return Ok(None) };
    let (len, head) = if one < 0x80 {
        (one as usize, 2)
    } else {
        match varint(&bytes[1..])? {
            Some((len, width)) => (len, 1 + width),
            None => return Ok(None),
        }
    };
    let total = head + len;
    Ok(bytes.get(..total).map(|bytes| Frame { first, bytes, body: &bytes[head..] }))
}

/// Reads a variable byte integer: value and width; `None` while it is incomplete.
///
/// # Errors
/// More than four bytes.
pub fn varint(bytes: &[u8]) -> Result<Option<(usize, usize)>, BenchError> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= ((byte & 0x7F) as usize) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= 4 { Err(BenchError::Protocol("a remaining length of five bytes")) } else { Ok(None) }
}

/// The parts of a received PUBLISH.
pub struct Publish<'a> {
    /// Quality of service, 0..=2.
    pub qos: u8,
    /// Packet identifier, 0 at QoS 0.
    pub id: u16,
    /// Topic name.
    pub topic: &'a [u8],
    /// Application message.
    pub payload: &'a [u8],
}

/// Takes a PUBLISH body apart; `None` if it is too short for what it announces.
#[inline]
pub fn publish<'a>(version: Version, first: u8, body: &'a [u8]) -> Option<Publish<'a>> {
    let topic_end = 2 + u16::from_be_bytes([*body.first()?, *body.get(1)?]) as usize;
    let topic = body.get(2..topic_end)?;
    let qos = first >> 1 & 3;
    let (id, mut at) = if qos == 0 {
        (0, topic_end)
    } else {
        (u16::from_be_bytes([*body.get(topic_end)?, *body.get(topic_end + 1)?]), topic_end + 2)
    };
    if version.is_v5() {
        let (len, width) = varint(body.get(at..)?).ok()??;
        at += len + width;
    }
    Some(Publish { qos, id, topic, payload: body.get(at..)? })
}

/// The packet identifier at the front of an acknowledgement's body, and its reason code.
#[inline]
pub fn acknowledgement(body: &[u8]) -> Option<(u16, u8)> {
    let [high, low, ref rest @ ..] = *body else { return None };
    Some((u16::from_be_bytes([high, low]), rest.first().copied().unwrap_or(0)))
}

/// Appends PUBACK, PUBREC, PUBREL or PUBCOMP (success).
#[inline]
pub fn push_ack(kind: u8, id: u16, out: &mut Vec<u8>) {
    let flags = if kind == kind::PUBREL { 2 } else { 0 };
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[kind << 4 | flags, 2, high, low]);
}

/// A PUBLISH packet prepared once: later only the identifier and the payload are written.
pub struct Template {
    /// The whole packet.
    pub bytes: Box<[u8]>,
    /// Where the packet identifier is, at QoS 1 and 2.
    pub id_at: Option<usize>,
    /// Where the payload starts.
    pub payload_at: usize,
}

impl Template {
    /// Prepares a PUBLISH with a payload of `payload` zero bytes.
    pub fn new(version: Version, qos: u8, retain: bool, topic: &str, payload: usize) -> Self {
        let head = 2 + topic.len() + if qos > 0 { 2 } else { 0 } + usize::from(version.is_v5());
        let mut bytes = vec![kind::PUBLISH << 4 | qos << 1 | u8::from(retain)];
        push_varint(head + payload, &mut bytes);
        push_string(topic, &mut bytes);
        let id_at = (qos > 0).then_some(bytes.len());
        if qos > 0 {
            bytes.extend_from_slice(&[0, 1]);
        }
        if version.is_v5() {
            bytes.push(0);
        }
        let payload_at = bytes.len();
        bytes.resize(payload_at + payload, 0);
        Self { bytes: bytes.into(), id_at, payload_at }
    }
}

fn push_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn push_string(text: &str, out: &mut Vec<u8>) {
    let len = u16::try_from(text.len()).expect("topics and identifiers of a benchmark are short");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_cut_and_taken_apart_again() {
        for version in [Version::V311, Version::V5] {
            for qos in 0..3 {
                for len in [16, 100, 200, 20_000] {
                    let template = Template::new(version, qos, false, "a/b", len);
                    let packet = cut(&template.bytes).unwrap().unwrap();
                    assert_eq!(packet.bytes.len(), template.bytes.len());
                    let publish = publish(version, packet.first, packet.body).unwrap();
                    assert_eq!((publish.qos, publish.topic, publish.payload.len()), (qos, &b"a/b"[..], len));
                    assert_eq!(publish.id, u16::from(qos > 0));
                    for short in 0..template.bytes.len().min(300) {
                        assert!(cut(&template.bytes[..short]).unwrap().is_none());
                    }
                }
            }
        }
    }

    #[test]
    fn a_fifth_length_byte_is_an_error() {
        assert!(cut(&[0x30, 0x80, 0x80, 0x80, 0x80, 1]).is_err());
    }
}
