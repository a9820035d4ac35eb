//! Cutting control packets out of a byte stream.
use super::primitives::{MAX_VARINT, Varint, read_varint};
use super::{DecodeError, PacketType};

/// Length of the largest packet that can be written down, bytes: a fixed header of five and the largest
/// remaining length.
pub const MAX_PACKET: u32 = MAX_VARINT + 5;

/// The flag of a packet that is sent again.
pub(super) const DUP: u8 = 0b1000;

/// One whole control packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// First byte: packet type and flags.
    pub first: u8,
    /// The whole packet.
    pub bytes: &'a [u8],
    /// What follows the fixed header.
    pub body: &'a [u8],
}

/// What [`cut`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut<'a> {
    /// A whole packet; the next one begins after `bytes.len()` bytes.
    Frame(Frame<'a>),
    /// More bytes are needed.
    Short {
        /// Length of the whole packet, if the fixed header is complete.
        total: Option<usize>,
    },
}

/// Cuts one control packet off the front of `bytes`.
///
/// Every error is reported as soon as it shows: a wrong first byte ([`DecodeError::PacketTypeReserved`],
/// [`DecodeError::HeaderFlags`]) with the first byte, a wrong or too large length
/// ([`DecodeError::RemainingLength`], [`DecodeError::PacketTooLarge`] beyond `max_packet` bytes) before the
/// body is there. The flags of PUBLISH are looked at when it is decoded, and so is what depends on the version: the
/// absence of AUTH before 5.0, and DUP in PUBREL, SUBSCRIBE and UNSUBSCRIBE, which only 3.1 has.
#[inline]
pub fn cut(bytes: &[u8], max_packet: u32) -> Result<Cut<'_>, DecodeError> {
    let Some((&first, after)) = bytes.split_first() else { return Ok(Cut::Short { total: None }) };
    check_first(first)?;
    let (remaining, length) = match read_varint(after) {
        Varint::Value(value, length) => (value, length),
        Varint::Short => return Ok(Cut::Short { total: None }),
        Varint::Invalid => return Err(DecodeError::RemainingLength),
    };
    let header = 1 + length;
    let size = header as u32 + remaining;
    if size > max_packet {
        return Err(DecodeError::PacketTooLarge { size, limit: max_packet });
    }
    match bytes.get(..size as usize) {
        Some(packet) => Ok(Cut::Frame(Frame { first, bytes: packet, body: &packet[header..] })),
        None => Ok(Cut::Short { total: Some(size as usize) }),
    }
}

/// The packet type and its reserved flags (`[MQTT-2.1.3-1]`, 3.1.1 `[MQTT-2.2.2-1]`).
#[inline]
fn check_first(first: u8) -> Result<(), DecodeError> {
    let Some(packet) = PacketType::from_bits(first >> 4) else {
        return Err(DecodeError::PacketTypeReserved { first });
    };
    let is_repeated = packet.first() & 0b0010 != 0 && first == packet.first() | DUP;
    if packet == PacketType::Publish || first == packet.first() || is_repeated {
        Ok(())
    } else {
        Err(DecodeError::HeaderFlags { first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_short() {
        assert_eq!(cut(&[], MAX_PACKET), Ok(Cut::Short { total: None }));
    }

    #[test]
    fn the_first_byte_alone_shows_a_wrong_type_or_flag() {
        for first in 0..=u8::MAX {
            let right = match first >> 4 {
                0 => false,
                3 => true,
                6 | 8 | 10 => first & 7 == 2,
                _ => first & 15 == 0,
            };
            assert_eq!(cut(&[first], MAX_PACKET).is_ok(), right, "{first:#04x}");
        }
    }

    #[test]
    fn a_length_that_cannot_end_is_refused_at_its_fourth_byte() {
        assert_eq!(cut(b"\xc0\xff\xff\xff", MAX_PACKET), Ok(Cut::Short { total: None }));
        assert_eq!(cut(b"\xc0\xff\xff\xff\xff", MAX_PACKET), Err(DecodeError::RemainingLength));
    }

    #[test]
    fn a_packet_over_the_limit_is_refused_before_its_body_comes() {
        assert_eq!(cut(b"\x30\x7e", 128), Ok(Cut::Short { total: Some(128) }));
        assert_eq!(cut(b"\x30\x7f", 128), Err(DecodeError::PacketTooLarge { size: 129, limit: 128 }));
        assert_eq!(
            cut(b"\x30\xff\xff\xff\x7f", MAX_PACKET),
            Ok(Cut::Short { total: Some(MAX_PACKET as usize) })
        );
        assert_eq!(
            cut(b"\x30\xff\xff\xff\x7f", MAX_PACKET - 1),
            Err(DecodeError::PacketTooLarge { size: MAX_PACKET, limit: MAX_PACKET - 1 })
        );
    }

    #[test]
    fn one_packet_is_cut_at_a_time() {
        let bytes = b"\xc0\x00\x40\x02\x00\x01\xe0";
        let Ok(Cut::Frame(ping)) = cut(bytes, MAX_PACKET) else { panic!() };
        assert_eq!(ping, Frame { first: 0xC0, bytes: b"\xc0\x00", body: b"" });
        let Ok(Cut::Frame(ack)) = cut(&bytes[2..], MAX_PACKET) else { panic!() };
        assert_eq!(ack, Frame { first: 0x40, bytes: b"\x40\x02\x00\x01", body: b"\x00\x01" });
        assert_eq!(cut(&bytes[6..], MAX_PACKET), Ok(Cut::Short { total: None }));
    }
}
