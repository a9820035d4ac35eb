//! DISCONNECT: the last packet of a connection.
use super::packet::encode_packet;
use super::primitives::{Reader, write_u8};
use super::properties::{Place, Property, Section, not_in_table, write_bytes, write_optional, write_section};
use super::reason::read_reason;
use super::{DecodeError, Frame, PacketType, ReasonCode, UserProperties, Version};

/// DISCONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disconnect<'a> {
    /// Success (normal disconnection) before 5.0.
    pub reason: ReasonCode,
    /// Seconds the session is kept from now on; only from a client (`[MQTT-3.14.2-2]`).
    pub session_expiry: Option<u32>,
    /// For people.
    pub reason_string: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// The application's own.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Disconnect<'a> {
    /// Without properties.
    pub fn new(reason: ReasonCode) -> Disconnect<'a> {
        Disconnect {
            reason,
            session_expiry: None,
            reason_string: None,
            server_reference: None,
            user_properties: UserProperties::default(),
        }
    }

    /// Decodes DISCONNECT. 5.0 may leave out the properties, or them and the reason code (§3.14.2.1).
    ///
    /// [`DecodeError::ReasonCodeNotListed`], and those of properties.
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Disconnect<'a>, DecodeError> {
        let mut disconnect = Disconnect::new(ReasonCode::Success);
        let mut reader = Reader::new(frame.body);
        if version.is_v5() && !reader.is_empty() {
            disconnect.reason = read_reason(PacketType::Disconnect, &mut reader)?;
            if !reader.is_empty() {
                disconnect.decode_properties(&mut reader)?;
            }
        }
        reader.finish()?;
        Ok(disconnect)
    }

    fn decode_properties(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        let mut section = Section::decode(reader, Place::Packet(PacketType::Disconnect))?;
        while let Some((property, value)) = section.next()? {
            match property {
                Property::SessionExpiryInterval => self.session_expiry = Some(value.number),
                Property::ReasonString => self.reason_string = Some(value.text),
                Property::ServerReference => self.server_reference = Some(value.text),
                _ => not_in_table(property),
            }
        }
        self.user_properties = section.user_properties();
        Ok(())
    }

    /// Appends the whole packet: before 5.0 without a body, else empty for a plain [`ReasonCode::Success`]. With a
    /// reason it has its property length even if that is zero: some clients cannot read it without.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let has_properties = *self != Disconnect::new(self.reason);
        encode_packet(PacketType::Disconnect.first(), out, |out| {
            if !version.is_v5() || (self.reason == ReasonCode::Success && !has_properties) {
                return;
            }
            write_u8(self.reason.code(), out);
            write_section(out, |out| {
                write_optional(Property::SessionExpiryInterval, self.session_expiry, out);
                write_bytes(Property::ReasonString, self.reason_string, out);
                write_bytes(Property::ServerReference, self.server_reference, out);
                self.user_properties.write(out);
            });
        });
    }
}
