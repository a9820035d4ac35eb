//! Packets from the broker, decoded strictly; packets to the broker, encoded.
use super::property::{Properties, Value};
use super::wire::{Reader, Version, packet, text};

/// Which of the four acknowledgements of a PUBLISH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
}

/// An acknowledgement; in version 3 its code is always 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ack {
    pub kind: Kind,
    pub id: u16,
    pub code: u8,
    pub properties: Properties,
}

/// An application message in either direction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Publish {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: String,
    /// `None` at QoS 0.
    pub id: Option<u16>,
    pub properties: Properties,
    pub payload: Vec<u8>,
}

impl Publish {
    /// A QoS 0 message that is not retained.
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Publish {
        Publish { topic: topic.into(), payload: payload.as_ref().into(), ..Publish::default() }
    }

    /// Only the QoS; the packet id is up to who sends it.
    pub fn qos(self, qos: u8) -> Publish {
        Publish { qos, ..self }
    }

    pub fn id(self, id: u16) -> Publish {
        Publish { id: Some(id), ..self }
    }

    pub fn retain(self) -> Publish {
        Publish { retain: true, ..self }
    }

    pub fn dup(self) -> Publish {
        Publish { dup: true, ..self }
    }

    pub fn property(mut self, id: u8, value: impl Into<Value>) -> Publish {
        self.properties = self.properties.with(id, value);
        self
    }
}

/// What a broker may send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Packet {
    Connack { session_present: bool, code: u8, properties: Properties },
    Publish(Publish),
    Ack(Ack),
    Suback { id: u16, properties: Properties, codes: Vec<u8> },
    Unsuback { id: u16, properties: Properties, codes: Vec<u8> },
    Pingresp,
    Disconnect { code: u8, properties: Properties },
    Auth { code: u8, properties: Properties },
}

const CONNACK_CODES: &[u8] = &[
    0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a,
    0x9b, 0x9c, 0x9d, 0x9f,
];
const CONNACK_PROPERTIES: &[u8] =
    &[0x11, 0x21, 0x24, 0x25, 0x27, 0x12, 0x22, 0x1f, 0x26, 0x28, 0x29, 0x2a, 0x13, 0x1a, 0x1c, 0x15, 0x16];
const PUBLISH_PROPERTIES: &[u8] = &[0x01, 0x02, 0x23, 0x08, 0x09, 0x26, 0x0b, 0x03];
const ACK_PROPERTIES: &[u8] = &[0x1f, 0x26];
const PUBACK_CODES: &[u8] = &[0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const PUBREL_CODES: &[u8] = &[0, 0x92];
const SUBACK_CODES: &[u8] = &[0, 1, 2, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2];
const UNSUBACK_CODES: &[u8] = &[0, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91];
const DISCONNECT_CODES: &[u8] = &[
    0, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98,
    0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
];
const DISCONNECT_PROPERTIES: &[u8] = &[0x1f, 0x26, 0x1c];
const AUTH_PROPERTIES: &[u8] = &[0x15, 0x16, 0x1f, 0x26];

fn check(code: u8, codes: &[u8], what: &str) {
    assert!(codes.contains(&code), "reason code 0x{code:02x} is not one of {what}");
}

fn listed(code: u8, codes: &[u8], what: &str) -> u8 {
    check(code, codes, what);
    code
}

/// Decodes one packet from the broker; anything a broker may not send is a panic.
pub fn decode(version: Version, first: u8, body: &[u8]) -> Packet {
    let mut r = Reader::new(body);
    let kind = first >> 4;
    let flags = if kind == 6 { 2 } else { 0 };
    assert!(kind == 3 || first & 15 == flags, "first byte 0x{first:02x} has wrong reserved flag bits");
    let five = version.is_5();
    let properties = |r: &mut Reader, ids| if five { r.properties(ids) } else { Properties::new() };
    let out = match kind {
        2 => {
            let flags = r.u8();
            assert!(flags <= 1, "CONNACK flags 0x{flags:02x}");
            let code = listed(r.u8(), if five { CONNACK_CODES } else { &[0, 1, 2, 3, 4, 5] }, "CONNACK's");
            assert!(code == 0 || flags == 0, "a refusing CONNACK says that a session is present");
            Packet::Connack {
                session_present: flags == 1,
                code,
                properties: properties(&mut r, CONNACK_PROPERTIES),
            }
        }
        3 => {
            let qos = first >> 1 & 3;
            let dup = first & 8 != 0;
            assert!(qos < 3, "a PUBLISH with QoS 3");
            assert!(qos > 0 || !dup, "a QoS 0 PUBLISH with DUP");
            let topic = r.text();
            assert!(!topic.contains(['+', '#']), "a PUBLISH to {topic:?}");
            let id = (qos > 0).then(|| r.id());
            let properties = properties(&mut r, PUBLISH_PROPERTIES);
            assert!(five || !topic.is_empty(), "a PUBLISH without a topic");
            let retain = first & 1 != 0;
            Packet::Publish(Publish {
                dup,
                qos,
                retain,
                topic,
                id,
                properties,
                payload: r.remaining().to_vec(),
            })
        }
        4..=7 => {
            let kind = [Kind::Puback, Kind::Pubrec, Kind::Pubrel, Kind::Pubcomp][usize::from(kind) - 4];
            let id = r.id();
            let codes = if matches!(kind, Kind::Puback | Kind::Pubrec) { PUBACK_CODES } else { PUBREL_CODES };
            let code = if five && !r.is_empty() { listed(r.u8(), codes, "its packet's") } else { 0 };
            let properties =
                if five && !r.is_empty() { r.properties(ACK_PROPERTIES) } else { Properties::new() };
            Packet::Ack(Ack { kind, id, code, properties })
        }
        9 => {
            let id = r.id();
            let properties = properties(&mut r, ACK_PROPERTIES);
            let codes = r.remaining().to_vec();
            let legal = if five { SUBACK_CODES } else { &[0, 1, 2, 0x80] };
            codes.iter().for_each(|code| check(*code, legal, "SUBACK's"));
            Packet::Suback { id, properties, codes }
        }
        11 => {
            let id = r.id();
            let properties = properties(&mut r, ACK_PROPERTIES);
            let codes = if five { r.remaining().to_vec() } else { Vec::new() };
            codes.iter().for_each(|code| check(*code, UNSUBACK_CODES, "UNSUBACK's"));
            Packet::Unsuback { id, properties, codes }
        }
        13 => Packet::Pingresp,
        14 if five => {
            let code = if r.is_empty() { 0 } else { listed(r.u8(), DISCONNECT_CODES, "DISCONNECT's") };
            let properties =
                if r.is_empty() { Properties::new() } else { r.properties(DISCONNECT_PROPERTIES) };
            Packet::Disconnect { code, properties }
        }
        15 if five => {
            let code = if r.is_empty() { 0 } else { listed(r.u8(), &[0, 0x18], "a broker's AUTH") };
            let properties = if r.is_empty() { Properties::new() } else { r.properties(AUTH_PROPERTIES) };
            Packet::Auth { code, properties }
        }
        _ => panic!("a broker never sends first byte 0x{first:02x} in {version:?}"),
    };
    assert!(r.is_empty(), "bytes behind the last field of {out:?}: {:02x?}", r.remaining());
    out
}

/// PUBLISH as bytes.
pub fn publish(version: Version, message: &Publish) -> Vec<u8> {
    let first = 0x30 | u8::from(message.dup) << 3 | message.qos << 1 | u8::from(message.retain);
    let mut body = text(&message.topic);
    if let Some(id) = message.id {
        body.extend(id.to_be_bytes());
    }
    if version.is_5() {
        body.extend(message.properties.encode());
    }
    body.extend(&message.payload);
    packet(first, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP as bytes; the code and properties only in version 5 and only if they say something.
pub fn ack(version: Version, ack: &Ack) -> Vec<u8> {
    let mut body = ack.id.to_be_bytes().to_vec();
    let has_properties = !ack.properties.0.is_empty();
    if version.is_5() && (ack.code != 0 || has_properties) {
        body.push(ack.code);
        if has_properties {
            body.extend(ack.properties.encode());
        }
    }
    packet((ack.kind as u8) << 4 | if ack.kind == Kind::Pubrel { 2 } else { 0 }, &body)
}

/// SUBSCRIBE without properties. The second half of each pair is the options byte (the QoS, in version 3).
pub fn subscribe(version: Version, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    subscribe_with(version, id, &Properties::new(), filters)
}

/// SUBSCRIBE.
pub fn subscribe_with(version: Version, id: u16, properties: &Properties, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version.is_5() {
        body.extend(properties.encode());
    }
    for (filter, options) in filters {
        body.extend(text(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

/// UNSUBSCRIBE without properties.
pub fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version.is_5() {
        body.push(0);
    }
    filters.iter().for_each(|filter| body.extend(text(filter)));
    packet(0xa2, &body)
}

/// PINGREQ.
pub fn ping() -> Vec<u8> {
    vec![0xc0, 0]
}

/// DISCONNECT; in version 3 it has neither code nor properties.
pub fn disconnect(version: Version, code: u8, properties: &Properties) -> Vec<u8> {
    if !version.is_5() {
        return vec![0xe0, 0];
    }
    packet(0xe0, &[vec![code], properties.encode()].concat())
}

/// AUTH.
pub fn auth(code: u8, properties: &Properties) -> Vec<u8> {
    packet(0xf0, &[vec![code], properties.encode()].concat())
}
