//! DISCONNECT and AUTH.
use super::{Case, bad, ok};
use crate::codec::Version::{V5, V31, V311};
use crate::codec::{DecodeError, PacketType};

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    ok("DISCONNECT", V311, b"\xe0\x00", PacketType::Disconnect),
    ok("DISCONNECT", V5, b"\xe0\x00", PacketType::Disconnect),
    bad("DISCONNECT with a body", V311, b"\xe0\x01\x00", DecodeError::TrailingBytes),
    ok("DISCONNECT of one byte", V5, b"\xe0\x01\x04", PacketType::Disconnect),
    ok("DISCONNECT of two bytes", V5, b"\xe0\x02\x00\x00", PacketType::Disconnect),
    ok("DISCONNECT with everything", V5, b"\xe0\x16\x9d\x14\x11\x00\x00\x00\x07\x1f\x00\x01x&\x00\x01k\x00\x01v\x1c\x00\x01o", PacketType::Disconnect),
    bad("DISCONNECT with a code of CONNACK", V5, b"\xe0\x01\x84", DecodeError::ReasonCodeNotListed { code: 0x84 }),
    bad("DISCONNECT with code 1", V5, b"\xe0\x01\x01", DecodeError::ReasonCodeNotListed { code: 0x01 }),
    bad("DISCONNECT with session expiry twice", V5, b"\xe0\x0c\x00\x0a\x11\x00\x00\x00\x07\x11\x00\x00\x00\x07", DecodeError::DuplicateProperty { id: 0x11 }),
    bad("DISCONNECT with a property of CONNECT", V5, b"\xe0\x05\x00\x03\"\x00\x07", DecodeError::PropertyNotAllowed { id: 0x22 }),
    bad("DISCONNECT with a byte behind its properties", V5, b"\xe0\x03\x00\x00\x00", DecodeError::TrailingBytes),
    bad("DISCONNECT with half a session expiry", V5, b"\xe0\x04\x00\x02\x11\x00", DecodeError::Truncated),
    bad("AUTH before 5.0", V31, b"\xf0\x00", DecodeError::PacketTypeReserved { first: 0xf0 }),
    bad("AUTH before 5.0", V311, b"\xf0\x00", DecodeError::PacketTypeReserved { first: 0xf0 }),
    ok("AUTH without a body", V5, b"\xf0\x00", PacketType::Auth),
    ok("AUTH to continue", V5, b"\xf0\x15\x18\x13\x15\x00\x01M\x16\x00\x01\x00\x1f\x00\x01r&\x00\x01k\x00\x01v", PacketType::Auth),
    ok("AUTH again", V5, b"\xf0\x06\x19\x04\x15\x00\x01M", PacketType::Auth),
    ok("AUTH done", V5, b"\xf0\x06\x00\x04\x15\x00\x01M", PacketType::Auth),
    bad("AUTH of one byte", V5, b"\xf0\x01\x00", DecodeError::Truncated),
    bad("AUTH without method", V5, b"\xf0\x02\x18\x00", DecodeError::AuthenticationMethodMissing),
    bad("AUTH with data but no method", V5, b"\xf0\x06\x18\x04\x16\x00\x01x", DecodeError::AuthenticationMethodMissing),
    bad("AUTH with the method twice", V5, b"\xf0\x0a\x18\x08\x15\x00\x01M\x15\x00\x01M", DecodeError::DuplicateProperty { id: 0x15 }),
    bad("AUTH with another code", V5, b"\xf0\x06\x87\x04\x15\x00\x01M", DecodeError::ReasonCodeNotListed { code: 0x87 }),
    bad("AUTH with a property of DISCONNECT", V5, b"\xf0\x06\x18\x04\x1c\x00\x01M", DecodeError::PropertyNotAllowed { id: 0x1c }),
    bad("AUTH with a byte behind its properties", V5, b"\xf0\x07\x18\x04\x15\x00\x01M\x00", DecodeError::TrailingBytes),
];
