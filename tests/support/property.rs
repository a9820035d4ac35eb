//! Properties as an ordered list of ids and values.
use super::wire::{binary, text, varint};

/// Property ids and the form of their values.
pub mod prop {
    pub const PAYLOAD_FORMAT: u8 = 0x01;
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_ID: u8 = 0x0b;
    pub const SESSION_EXPIRY: u8 = 0x11;
    pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTH_METHOD: u8 = 0x15;
    pub const AUTH_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFO: u8 = 0x17;
    pub const WILL_DELAY: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFO: u8 = 0x19;
    pub const RESPONSE_INFO: u8 = 0x1a;
    pub const SERVER_REFERENCE: u8 = 0x1c;
    pub const REASON: u8 = 0x1f;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_ID_AVAILABLE: u8 = 0x29;
    pub const SHARED_AVAILABLE: u8 = 0x2a;

    /// The form of a property's value: `b`yte, `2` or `4` bytes, `v`ariable, `s`tring, binary `d`ata, `p`air.
    pub fn form(id: u8) -> char {
        match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => 'b',
            0x13 | 0x21 | 0x22 | 0x23 => '2',
            0x02 | 0x11 | 0x18 | 0x27 => '4',
            0x0b => 'v',
            0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => 's',
            0x09 | 0x16 => 'd',
            0x26 => 'p',
            _ => panic!("property 0x{id:02x} does not exist"),
        }
    }
}

/// The value of a property, in the form it has on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Byte(u8),
    Two(u16),
    Four(u32),
    Varint(u32),
    Text(String),
    Binary(Vec<u8>),
    Pair(String, String),
}

impl From<u8> for Value {
    fn from(n: u8) -> Value {
        Value::Byte(n)
    }
}
impl From<u16> for Value {
    fn from(n: u16) -> Value {
        Value::Two(n)
    }
}
impl From<u32> for Value {
    fn from(n: u32) -> Value {
        Value::Four(n)
    }
}
impl From<&str> for Value {
    fn from(s: &str) -> Value {
        Value::Text(s.into())
    }
}
impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Value {
        Value::Binary(bytes.into())
    }
}
impl From<(&str, &str)> for Value {
    fn from((name, value): (&str, &str)) -> Value {
        Value::Pair(name.into(), value.into())
    }
}

/// Properties in the order they have on the wire. Nothing stops a test from writing illegal ones.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Properties(pub Vec<(u8, Value)>);

impl Properties {
    pub fn new() -> Properties {
        Properties::default()
    }

    /// The same list with one more property at its end.
    pub fn with(mut self, id: u8, value: impl Into<Value>) -> Properties {
        self.0.push((id, value.into()));
        self
    }

    /// The first value of `id`.
    pub fn get(&self, id: u8) -> Option<&Value> {
        self.0.iter().find(|(other, _)| *other == id).map(|(_, value)| value)
    }

    /// The first value of `id` as a number of whatever width.
    pub fn number(&self, id: u8) -> Option<u32> {
        self.get(id).map(|value| match value {
            Value::Byte(n) => u32::from(*n),
            Value::Two(n) => u32::from(*n),
            Value::Four(n) | Value::Varint(n) => *n,
            other => panic!("property 0x{id:02x} is not a number: {other:?}"),
        })
    }

    /// The first value of `id` as a string.
    pub fn text(&self, id: u8) -> Option<&str> {
        self.get(id).map(|value| match value {
            Value::Text(s) => s.as_str(),
            other => panic!("property 0x{id:02x} is not a string: {other:?}"),
        })
    }

    /// The first value of `id` as bytes.
    pub fn bytes(&self, id: u8) -> Option<&[u8]> {
        self.get(id).map(|value| match value {
            Value::Binary(bytes) => bytes.as_slice(),
            other => panic!("property 0x{id:02x} is not binary: {other:?}"),
        })
    }

    /// Every value of `id` in order.
    pub fn all(&self, id: u8) -> Vec<&Value> {
        self.0.iter().filter(|(other, _)| *other == id).map(|(_, value)| value).collect()
    }

    /// The user properties in order.
    pub fn user(&self) -> Vec<(&str, &str)> {
        let pairs = self.all(prop::USER).into_iter();
        pairs
            .map(
                |value| if let Value::Pair(n, v) = value { (n.as_str(), v.as_str()) } else { unreachable!() },
            )
            .collect()
    }

    /// With the length in front.
    pub fn encode(&self) -> Vec<u8> {
        let mut list = Vec::new();
        for (id, value) in &self.0 {
            list.push(*id);
            match value {
                Value::Byte(n) => list.push(*n),
                Value::Two(n) => list.extend(n.to_be_bytes()),
                Value::Four(n) => list.extend(n.to_be_bytes()),
                Value::Varint(n) => list.extend(varint(*n)),
                Value::Text(s) => list.extend(text(s)),
                Value::Binary(bytes) => list.extend(binary(bytes)),
                Value::Pair(name, value) => list.extend([text(name), text(value)].concat()),
            }
        }
        [varint(list.len() as u32), list].concat()
    }
}
