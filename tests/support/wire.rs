//! The data types of the standard as bytes, and a reader that panics with what is wrong.
use super::property::{Properties, Value, prop};

/// The protocol level a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd)]
pub enum Version {
    /// MQTT 3.1, protocol name `MQIsdp`.
    V3 = 3,
    /// MQTT 3.1.1.
    V4 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

impl Version {
    /// Whether packets carry properties and reason codes.
    pub fn is_5(self) -> bool {
        self == Version::V5
    }
}

/// A whole control packet: first byte, shortest remaining length, body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    out.extend(varint(body.len() as u32));
    out.extend(body);
    out
}

/// A variable byte integer in its shortest form.
pub fn varint(mut n: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (n & 0x7f) as u8;
        n >>= 7;
        if n == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// A string with its length in front.
pub fn text(s: &str) -> Vec<u8> {
    binary(s.as_bytes())
}

/// Bytes with their length in front.
pub fn binary(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("at most 65535 bytes");
    [&length.to_be_bytes(), bytes].concat()
}

/// Reads the body of one packet from the broker; every violation is a panic.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn take(&mut self, n: usize) -> &'a [u8] {
        assert!(
            n <= self.rest.len(),
            "a field of {n} bytes runs over the end of the packet: {:02x?}",
            self.rest
        );
        let (head, tail) = self.rest.split_at(n);
        self.rest = tail;
        head
    }

    pub fn remaining(&mut self) -> &'a [u8] {
        self.take(self.rest.len())
    }

    pub fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    /// A packet id, which is never zero.
    pub fn id(&mut self) -> u16 {
        let id = self.u16();
        assert_ne!(id, 0, "packet id 0");
        id
    }

    pub fn varint(&mut self) -> u32 {
        let mut n = 0;
        for place in 0..4 {
            let byte = self.u8();
            n |= u32::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                assert!(place == 0 || byte != 0, "a variable byte integer is not in its shortest form");
                return n;
            }
        }
        panic!("a variable byte integer of more than four bytes");
    }

    pub fn binary(&mut self) -> Vec<u8> {
        let length = self.u16();
        self.take(usize::from(length)).to_vec()
    }

    pub fn text(&mut self) -> String {
        let s = String::from_utf8(self.binary()).expect("a string is not UTF-8");
        assert!(!s.contains('\0'), "a string with U+0000: {s:?}");
        s
    }

    /// A property list of a packet in which only the `allowed` ids may occur.
    pub fn properties(&mut self, allowed: &[u8]) -> Properties {
        let length = self.varint() as usize;
        let mut list = Reader::new(self.take(length));
        let mut out = Properties::default();
        while !list.is_empty() {
            let id = list.u8();
            assert!(allowed.contains(&id), "property 0x{id:02x} is not allowed in this packet");
            assert!(
                matches!(id, prop::USER | prop::SUBSCRIPTION_ID) || out.get(id).is_none(),
                "property 0x{id:02x} comes twice"
            );
            let value = match prop::form(id) {
                'b' => Value::Byte(list.u8()),
                '2' => Value::Two(list.u16()),
                '4' => Value::Four(list.u32()),
                'v' => Value::Varint(list.varint()),
                's' => Value::Text(list.text()),
                'd' => Value::Binary(list.binary()),
                _ => Value::Pair(list.text(), list.text()),
            };
            out.0.push((id, value));
        }
        out
    }
}
