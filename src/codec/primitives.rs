//! The data representations of the standard (§1.5): integers, strings, binary data.
use super::DecodeError;

/// Largest value of a variable byte integer.
pub const MAX_VARINT: u32 = 268_435_455;

/// Where encoded bytes go: a buffer, or a count of what a buffer would get.
pub trait Sink {
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts the bytes of an encoding.
#[derive(Clone, Copy, Default, Debug)]
pub struct Size(pub usize);

impl Sink for Size {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// Reads fields off the front of a slice. After an error the position is not defined.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their beginning.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }
    /// What was not read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
    /// Whether everything is read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
    /// Ends the reading. [`DecodeError::TrailingBytes`] if something is left.
    #[inline]
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }
    #[inline]
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*chunk)
    }
    /// `count` bytes. [`DecodeError::Truncated`] if there are fewer, as for all that follow.
    #[inline]
    pub fn slice(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (slice, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(slice)
    }
    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.chunk::<1>()?[0])
    }
    /// A two byte integer.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.chunk()?))
    }
    /// A four byte integer.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.chunk()?))
    }
    /// A variable byte integer. [`DecodeError::VariableByteInteger`] if it is longer than four bytes or than
    /// it must be (`[MQTT-1.5.5-1]`).
    #[inline]
    pub fn varint(&mut self) -> Result<u32, DecodeError> {
        match read_varint(self.rest) {
            Varint::Value(value, length) => {
                self.rest = &self.rest[length..];
                Ok(value)
            }
            Varint::Short => Err(DecodeError::Truncated),
            Varint::Invalid => Err(DecodeError::VariableByteInteger),
        }
    }
    /// A packet identifier. [`DecodeError::PacketIdentifierZero`] (`[MQTT-2.2.1-3]`).
    #[inline]
    pub fn packet_id(&mut self) -> Result<u16, DecodeError> {
        match self.u16()? {
            0 => Err(DecodeError::PacketIdentifierZero),
            id => Ok(id),
        }
    }
    /// Binary data: a two byte length and so many bytes.
    #[inline]
    pub fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.slice(usize::from(length))
    }
    /// A string. [`DecodeError::InvalidUtf8`], [`DecodeError::NulInString`].
    #[inline]
    pub fn string(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.binary()?;
        if bytes.is_empty() {
            return Ok("");
        }
        if memchr::memchr(0, bytes).is_some() {
            return Err(DecodeError::NulInString);
        }
        simdutf8::basic::from_utf8(bytes).map_err(|_| DecodeError::InvalidUtf8)
    }
    /// A topic name: a string without wildcard characters ([`DecodeError::TopicWildcard`]). May be empty.
    #[inline]
    pub fn topic(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.binary()?;
        if let Some(found) = memchr::memchr3(0, b'+', b'#', bytes) {
            return Err(if memchr::memchr(0, &bytes[found..]).is_some() {
                DecodeError::NulInString
            } else if simdutf8::basic::from_utf8(bytes).is_err() {
                DecodeError::InvalidUtf8
            } else {
                DecodeError::TopicWildcard
            });
        }
        simdutf8::basic::from_utf8(bytes).map_err(|_| DecodeError::InvalidUtf8)
    }
}

/// What [`read_varint`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Varint {
    /// The value and how many bytes it takes.
    Value(u32, usize),
    /// The bytes end inside it.
    Short,
    /// Longer than four bytes, or than it must be.
    Invalid,
}

/// Reads a variable byte integer from the front of `bytes`.
#[inline]
pub fn read_varint(bytes: &[u8]) -> Varint {
    let mut value = 0;
    for index in 0..4 {
        let Some(&byte) = bytes.get(index) else { return Varint::Short };
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return if byte == 0 && index > 0 { Varint::Invalid } else { Varint::Value(value, index + 1) };
        }
    }
    Varint::Invalid
}

/// How many bytes a variable byte integer takes, 1 to 4.
#[inline]
pub fn varint_len(value: u32) -> usize {
    1 + usize::from(value > 127) + usize::from(value > 16_383) + usize::from(value > 2_097_151)
}

/// A variable byte integer as a little endian word and how many of its bytes count; the others are 0.
/// Panics above [`MAX_VARINT`].
#[inline]
pub(super) fn varint_word(value: u32) -> (u32, usize) {
    assert!(value <= MAX_VARINT, "too large for a variable byte integer");
    let length = varint_len(value);
    // Seven bits to a byte, and the continuation bit on all bytes before the last.
    let spread = value & 0x7F | (value & 0x3F80) << 1 | (value & 0x1F_C000) << 2 | (value & 0xFE0_0000) << 3;
    let continued = 0x8080_8080 & ((1 << (8 * (length - 1))) - 1);
    (spread | continued, length)
}

/// Appends a variable byte integer. Panics above [`MAX_VARINT`].
#[inline]
pub fn write_varint(value: u32, out: &mut dyn Sink) {
    let (word, length) = varint_word(value);
    out.put(&word.to_le_bytes()[..length]);
}

/// Appends one byte.
#[inline]
pub fn write_u8(value: u8, out: &mut dyn Sink) {
    out.put(&[value]);
}

/// Appends a two byte integer.
#[inline]
pub fn write_u16(value: u16, out: &mut dyn Sink) {
    out.put(&value.to_be_bytes());
}

/// Appends a four byte integer.
#[inline]
pub fn write_u32(value: u32, out: &mut dyn Sink) {
    out.put(&value.to_be_bytes());
}

/// Appends binary data with its length. Panics above 65,535 bytes.
#[inline]
pub fn write_binary(data: &[u8], out: &mut dyn Sink) {
    let length = u16::try_from(data.len()).expect("a field of more than 65,535 bytes");
    write_u16(length, out);
    out.put(data);
}

/// Appends a string with its length. Panics above 65,535 bytes.
#[inline]
pub fn write_string(text: &str, out: &mut dyn Sink) {
    write_binary(text.as_bytes(), out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn variable_byte_integers_at_their_borders() {
        // 5.0 table 1-1.
        let table: [(u32, &[u8]); 8] = [
            (0, &[0x00]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (268_435_455, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ];
        for (value, bytes) in table {
            let mut out = Vec::new();
            write_varint(value, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(varint_len(value), bytes.len());
            assert_eq!(read_varint(bytes), Varint::Value(value, bytes.len()));
            assert_eq!(read_varint(&bytes[..bytes.len() - 1]), Varint::Short);
        }
    }

    #[test]
    #[should_panic(expected = "too large for a variable byte integer")]
    fn a_larger_variable_byte_integer_does_not_exist() {
        write_varint(MAX_VARINT + 1, &mut Vec::new());
    }

    #[test]
    #[should_panic(expected = "more than 65,535 bytes")]
    fn a_longer_field_does_not_exist() {
        write_binary(&[0; 65_536], &mut Vec::new());
    }

    #[test]
    fn the_longest_field_is_read() {
        let long = "x".repeat(65_535);
        let mut out = Vec::new();
        write_string(&long, &mut out);
        let mut reader = Reader::new(&out);
        assert_eq!(reader.string(), Ok(&long[..]));
        assert_eq!(reader.finish(), Ok(()));
        assert_eq!(Reader::new(&out[..65_536]).string(), Err(DecodeError::Truncated));
    }

    #[test]
    fn a_zero_in_a_long_string_is_found() {
        for at in [0, 1, 63, 64, 200, 299] {
            let mut text = "y".repeat(300).into_bytes();
            text[at] = 0;
            let mut out = Vec::new();
            write_binary(&text, &mut out);
            assert_eq!(Reader::new(&out).string(), Err(DecodeError::NulInString));
            assert_eq!(Reader::new(&out).topic(), Err(DecodeError::NulInString));
        }
    }

    proptest! {
        #[test]
        fn a_variable_byte_integer_is_read_as_written(value in 0..=MAX_VARINT) {
            let mut out = Vec::new();
            write_varint(value, &mut out);
            prop_assert_eq!(out.len(), varint_len(value));
            prop_assert_eq!(read_varint(&out), Varint::Value(value, out.len()));
        }

        #[test]
        fn what_is_read_as_a_variable_byte_integer_is_its_only_form(bytes in any::<[u8; 5]>()) {
            if let Varint::Value(value, length) = read_varint(&bytes) {
                let mut out = Vec::new();
                write_varint(value, &mut out);
                prop_assert_eq!(&out[..], &bytes[..length]);
            }
        }
    }
}
