//! The few packets a load generator needs, written and cut without allocation in the hot loop.
//!
//! This is deliberately not the broker's codec: it validates nothing beyond what keeps the
//! generator in step, and it prepares PUBLISH packets as templates that are only patched.
use super::error::BenchError;

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
    pub const UNSUBSCRIBE: u8 = 10;
    pub const PINGREQ: u8 = 12;
    pub const PINGRESP: u8 = 13;
    pub const DISCONNECT: u8 = 14;
}

/// PINGREQ as it goes out.
pub const PINGREQ: [u8; 2] = [0xC0, 0];
/// DISCONNECT (normal) as it goes out, in both versions.
pub const DISCONNECT: [u8; 2] = [0xE0, 0];

/// Protocol versions the generator speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

impl Protocol {
    /// Whether packets have properties.
    pub fn is_v5(self) -> bool {
        self == Protocol::V5
    }

    /// The protocol level of CONNECT.
    pub fn level(self) -> u8 {
        if self.is_v5() { 5 } else { 4 }
    }
}

/// One whole packet at the front of a receive buffer.
pub struct Cut<'a> {
    /// The first byte: type and flags.
    pub first: u8,
    /// What follows the fixed header.
    pub body: &'a [u8],
    /// Length of the whole packet.
    pub total: usize,
}

/// Cuts one packet off the front; `None` while it is incomplete.
///
/// # Errors
/// A remaining length of more than four bytes.
#[inline]
pub fn cut(bytes: &[u8]) -> Result<Option<Cut<'_>>, BenchError> {
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
    Ok(bytes.get(head..total).map(|body| Cut { first, body, total }))
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
pub fn publish<'a>(protocol: Protocol, first: u8, body: &'a [u8]) -> Option<Publish<'a>> {
    let topic_end = 2 + u16::from_be_bytes([*body.first()?, *body.get(1)?]) as usize;
    let topic = body.get(2..topic_end)?;
    let qos = first >> 1 & 3;
    let (id, mut at) = if qos == 0 {
        (0, topic_end)
    } else {
        (u16::from_be_bytes([*body.get(topic_end)?, *body.get(topic_end + 1)?]), topic_end + 2)
    };
    if protocol.is_v5() {
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
    pub fn new(protocol: Protocol, qos: u8, retain: bool, topic: &str, payload: usize) -> Self {
        let head = 2 + topic.len() + if qos > 0 { 2 } else { 0 } + usize::from(protocol.is_v5());
        let mut bytes = vec![kind::PUBLISH << 4 | qos << 1 | u8::from(retain)];
        push_varint(head + payload, &mut bytes);
        push_string(topic, &mut bytes);
        let id_at = (qos > 0).then_some(bytes.len());
        if qos > 0 {
            bytes.extend_from_slice(&[0, 1]);
        }
        if protocol.is_v5() {
            bytes.push(0);
        }
        let payload_at = bytes.len();
        bytes.resize(payload_at + payload, 0);
        Self { bytes: bytes.into(), id_at, payload_at }
    }
}

/// What a CONNECT says.
#[derive(Clone)]
pub struct Connect {
    /// Client identifier.
    pub client_id: String,
    /// Clean Session / Clean Start.
    pub clean: bool,
    /// Session Expiry Interval in seconds (version 5; 0 is not sent).
    pub session_expiry: u32,
    /// Keep alive in seconds.
    pub keep_alive: u16,
    /// User name and password.
    pub login: Option<(String, String)>,
}

impl Connect {
    /// Appends the CONNECT packet.
    pub fn push(&self, protocol: Protocol, out: &mut Vec<u8>) {
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', protocol.level()];
        let login = if self.login.is_some() { 0xC0 } else { 0 };
        body.push(login | u8::from(self.clean) << 1);
        body.extend_from_slice(&self.keep_alive.to_be_bytes());
        if protocol.is_v5() {
            if self.session_expiry > 0 {
                body.extend_from_slice(&[5, 0x11]);
                body.extend_from_slice(&self.session_expiry.to_be_bytes());
            } else {
                body.push(0);
            }
        }
        push_string(&self.client_id, &mut body);
        if let Some((name, password)) = &self.login {
            push_string(name, &mut body);
            push_string(password, &mut body);
        }
        push_packet(kind::CONNECT << 4, &body, out);
    }
}

/// Appends a SUBSCRIBE packet.
pub fn push_subscribe(
    protocol: Protocol,
    id: u16,
    qos: u8,
    filters: impl Iterator<Item = String>,
    out: &mut Vec<u8>,
) {
    let mut body = id.to_be_bytes().to_vec();
    if protocol.is_v5() {
        body.push(0);
    }
    for filter in filters {
        push_string(&filter, &mut body);
        body.push(qos);
    }
    push_packet(kind::SUBSCRIBE << 4 | 2, &body, out);
}

/// What a CONNACK says: its code, and Receive Maximum (65,535 unless announced).
pub fn connack(protocol: Protocol, body: &[u8]) -> Option<(u8, u16)> {
    let code = *body.get(1)?;
    let mut receive_maximum = u16::MAX;
    if protocol.is_v5() && body.len() > 2 {
        let (len, width) = varint(&body[2..]).ok()??;
        let mut rest = body.get(2 + width..2 + width + len)?;
        while let [id, value @ ..] = rest {
            if *id == 0x21 {
                receive_maximum = u16::from_be_bytes([*value.first()?, *value.get(1)?]);
            }
            let string = |at: usize| -> Option<usize> {
                Some(2 + u16::from_be_bytes([*value.get(at)?, *value.get(at + 1)?]) as usize)
            };
            let width = match id {
                0x24 | 0x25 | 0x28 | 0x29 | 0x2A => 1,
                0x13 | 0x21 | 0x22 => 2,
                0x11 | 0x27 => 4,
                0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => string(0)?,
                0x26 => string(0)? + string(string(0)?)?,
                _ => return None,
            };
            rest = value.get(width..)?;
        }
    }
    Some((code, receive_maximum))
}

/// The reason codes of a SUBACK.
pub fn suback(protocol: Protocol, body: &[u8]) -> Option<&[u8]> {
    let mut at = 2;
    if protocol.is_v5() {
        let (len, width) = varint(body.get(2..)?).ok()??;
        at += len + width;
    }
    body.get(at..)
}

/// Appends a packet of this first byte and body.
pub fn push_packet(first: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    push_varint(body.len(), out);
    out.extend_from_slice(body);
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
        for protocol in [Protocol::V311, Protocol::V5] {
            for qos in 0..3 {
                for len in [16, 100, 200, 20_000] {
                    let template = Template::new(protocol, qos, false, "a/b", len);
                    let packet = cut(&template.bytes).unwrap().unwrap();
                    assert_eq!(packet.total, template.bytes.len());
                    let publish = publish(protocol, packet.first, packet.body).unwrap();
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

    #[test]
    fn receive_maximum_is_found_among_other_properties() {
        let body = [
            0, 0, 19, 0x11, 0, 0, 0, 9, 0x26, 0, 1, b'k', 0, 1, b'v', 0x12, 0, 1, b'i', 0x21, 0, 20, 0x2A, 1,
        ];
        assert_eq!(body[2] as usize, body.len() - 3 - 2);
        let mut body = body.to_vec();
        body[2] += 2;
        assert_eq!(connack(Protocol::V5, &body), Some((0, 20)));
        assert_eq!(connack(Protocol::V311, &[0, 5]), Some((5, u16::MAX)));
    }
}
