//! CONNACK.
use super::{Case, bad, ok};
use crate::codec::Version::{V5, V31, V311};
use crate::codec::{DecodeError, PacketType};

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    ok("CONNACK code 0", V31, b"\x20\x02\x00\x00", PacketType::ConnAck),
    ok("CONNACK code 0", V311, b"\x20\x02\x00\x00", PacketType::ConnAck),
    ok("CONNACK code 1", V31, b"\x20\x02\x00\x01", PacketType::ConnAck),
    ok("CONNACK code 1", V311, b"\x20\x02\x00\x01", PacketType::ConnAck),
    ok("CONNACK code 2", V31, b"\x20\x02\x00\x02", PacketType::ConnAck),
    ok("CONNACK code 2", V311, b"\x20\x02\x00\x02", PacketType::ConnAck),
    ok("CONNACK code 3", V31, b"\x20\x02\x00\x03", PacketType::ConnAck),
    ok("CONNACK code 3", V311, b"\x20\x02\x00\x03", PacketType::ConnAck),
    ok("CONNACK code 4", V31, b"\x20\x02\x00\x04", PacketType::ConnAck),
    ok("CONNACK code 4", V311, b"\x20\x02\x00\x04", PacketType::ConnAck),
    ok("CONNACK code 5", V31, b"\x20\x02\x00\x05", PacketType::ConnAck),
    ok("CONNACK code 5", V311, b"\x20\x02\x00\x05", PacketType::ConnAck),
    ok("CONNACK with session present", V311, b"\x20\x02\x01\x00", PacketType::ConnAck),
    bad("CONNACK code 6", V311, b"\x20\x02\x00\x06", DecodeError::ReasonCodeNotListed { code: 0x06 }),
    bad("CONNACK with a reserved flag", V311, b"\x20\x03\x02\x00\x00", DecodeError::ConnAckFlags),
    bad("CONNACK with a reserved flag", V5, b"\x20\x03\x02\x00\x00", DecodeError::ConnAckFlags),
    bad("CONNACK with one byte too many", V311, b"\x20\x03\x00\x00\x00", DecodeError::TrailingBytes),
    bad("CONNACK without code", V311, b"\x20\x01\x00", DecodeError::Truncated),
    bad("CONNACK without code", V5, b"\x20\x01\x00", DecodeError::Truncated),
    ok("CONNACK 5.0", V5, b"\x20\x03\x01\x00\x00", PacketType::ConnAck),
    ok("CONNACK 5.0 with everything", V5, b"\x20\x47\x00\x00D\x11\x00\x00\x00\x01!\x00\x01$\x01%\x00'\x00\x00\x00c\x12\x00\x02id\"\x00\x03\x1f\x00\x03why&\x00\x01k\x00\x01v(\x00)\x01*\x00\x13\x00\x1e\x1a\x00\x02r/\x1c\x00\x05other\x15\x00\x01M\x16\x00\x01d", PacketType::ConnAck),
    bad("CONNACK 5.0 without property length", V5, b"\x20\x02\x00\x00", DecodeError::Truncated),
    bad("CONNACK 5.0 with one byte too many", V5, b"\x20\x04\x00\x00\x00\x00", DecodeError::TrailingBytes),
    bad("CONNACK 5.0 with a code of SUBACK", V5, b"\x20\x03\x00\x01\x00", DecodeError::ReasonCodeNotListed { code: 0x01 }),
    bad("CONNACK 5.0 with a code of DISCONNECT", V5, b"\x20\x03\x00\x8e\x00", DecodeError::ReasonCodeNotListed { code: 0x8e }),
    bad("CONNACK 5.0 with maximum QoS 2", V5, b"\x20\x05\x00\x00\x02$\x02", DecodeError::PropertyValue { id: 0x24 }),
    bad("CONNACK 5.0 with retain available 2", V5, b"\x20\x05\x00\x00\x02%\x02", DecodeError::PropertyValue { id: 0x25 }),
    bad("CONNACK 5.0 with wildcard available 2", V5, b"\x20\x05\x00\x00\x02(\x02", DecodeError::PropertyValue { id: 0x28 }),
    bad("CONNACK 5.0 with subscription identifiers available 2", V5, b"\x20\x05\x00\x00\x02)\x02", DecodeError::PropertyValue { id: 0x29 }),
    bad("CONNACK 5.0 with shared available 2", V5, b"\x20\x05\x00\x00\x02*\x02", DecodeError::PropertyValue { id: 0x2a }),
    bad("CONNACK 5.0 with receive maximum 0", V5, b"\x20\x06\x00\x00\x03!\x00\x00", DecodeError::PropertyValue { id: 0x21 }),
    bad("CONNACK 5.0 with maximum packet size 0", V5, b"\x20\x08\x00\x00\x05'\x00\x00\x00\x00", DecodeError::PropertyValue { id: 0x27 }),
    bad("CONNACK 5.0 with a property of CONNECT", V5, b"\x20\x05\x00\x00\x02\x17\x00", DecodeError::PropertyNotAllowed { id: 0x17 }),
];
