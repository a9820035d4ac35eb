//! UNSUBSCRIBE: topic filters to give up.
use super::packet::encode_packet;
use super::primitives::{Reader, write_string, write_u16};
use super::properties::{Place, Section, not_in_table, write_section};
use super::{DecodeError, Frame, PacketType, UserProperties, Version};

/// UNSUBSCRIBE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsubscribe<'a> {
    /// Packet identifier.
    pub packet_id: u16,
    /// The application's own.
    pub user_properties: UserProperties<'a>,
    /// Filters as they stand in the packet, checked.
    filters: &'a [u8],
}

impl<'a> Unsubscribe<'a> {
    /// For encoding, without user properties.
    pub fn new(packet_id: u16, filters: &'a UnsubscribeList) -> Unsubscribe<'a> {
        Unsubscribe { packet_id, user_properties: UserProperties::default(), filters: &filters.encoded }
    }

    /// Decodes UNSUBSCRIBE. [`DecodeError::PacketIdentifierZero`], [`DecodeError::NoFilters`], those of
    /// strings and of properties.
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Unsubscribe<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let mut user_properties = UserProperties::default();
        if version.is_v5() {
            let mut section = Section::decode(&mut reader, Place::Packet(PacketType::Unsubscribe))?;
            if let Some((property, _)) = section.next()? {
                not_in_table(property);
            }
            user_properties = section.user_properties();
        }
        let filters = reader.rest();
        if filters.is_empty() {
            return Err(DecodeError::NoFilters);
        }
        while !reader.is_empty() {
            reader.string()?;
        }
        Ok(Unsubscribe { packet_id, user_properties, filters })
    }

    /// The filters, in order; not checked beyond being strings.
    pub fn filters(&self) -> UnsubscribeFilters<'a> {
        UnsubscribeFilters::over(self.filters)
    }

    /// Appends the whole packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode_packet(PacketType::Unsubscribe.first(), out, |out| {
            write_u16(self.packet_id, out);
            if version.is_v5() {
                write_section(out, |out| self.user_properties.write(out));
            }
            out.put(self.filters);
        });
    }
}

/// Iterates over the filters of an [`Unsubscribe`].
#[derive(Clone, Debug)]
pub struct UnsubscribeFilters<'a> {
    reader: Reader<'a>,
}

impl<'a> UnsubscribeFilters<'a> {
    /// Over what [`UnsubscribeFilters::rest`] returned.
    pub fn over(rest: &'a [u8]) -> UnsubscribeFilters<'a> {
        UnsubscribeFilters { reader: Reader::new(rest) }
    }
    /// The filters that were not walked over yet, as they stand in the packet.
    pub fn rest(&self) -> &'a [u8] {
        self.reader.rest()
    }
}

impl<'a> Iterator for UnsubscribeFilters<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.reader.is_empty() {
            return None;
        }
        Some(self.reader.string().expect("filters are checked before they are walked over"))
    }
}

/// The filters of an UNSUBSCRIBE being put together.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct UnsubscribeList {
    encoded: Vec<u8>,
}

impl UnsubscribeList {
    /// Without any.
    pub fn new() -> UnsubscribeList {
        UnsubscribeList::default()
    }
    /// Appends one. Panics if it is longer than 65,535 bytes or holds U+0000.
    pub fn push(&mut self, filter: &str) {
        assert!(!filter.contains('\0'), "no U+0000 in strings");
        write_string(filter, &mut self.encoded);
    }
}
