//! Cutting control packets out of a byte stream.
use super::primitives::{MAX_VARINT, Varint, read_varint};
use super::{DecodeError, PacketType};

/// Length of the largest packet that can be written down, bytes: a fixed header of five and the largest
/// remaining length.
pub const MAX_PACKET: u32 = MAX_VARINT + 5;

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
/// body is there. The flags of PUBLISH are looked at when it is decoded, the absence of AUTH before 5.0 as well.
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
    if packet == PacketType::Publish || first == packet.first() {
        Ok(())
    } else {
        Err(DecodeError::HeaderFlags { first })
    }
}
