//! PUBACK, PUBREC, PUBREL and PUBCOMP: the answers to PUBLISH.
use super::packet::encode_packet;
use super::primitives::{Reader, write_u8, write_u16};
use super::properties::{Place, Property, Section, not_in_table, write_bytes, write_section};
use super::reason::read_reason;
use super::{DecodeError, Frame, PacketType, ReasonCode, UserProperties, Version};

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack<'a> {
    /// The PUBLISH's packet identifier.
    pub packet_id: u16,
    /// Success before 5.0.
    pub reason: ReasonCode,
    /// For people.
    pub reason_string: Option<&'a str>,
    /// The application's own.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Ack<'a> {
    /// Success.
    pub fn new(packet_id: u16) -> Ack<'a> {
        Ack::with(packet_id, ReasonCode::Success)
    }
    /// With a reason code, without properties.
    pub fn with(packet_id: u16, reason: ReasonCode) -> Ack<'a> {
        Ack { packet_id, reason, reason_string: None, user_properties: UserProperties::default() }
    }

    /// Decodes one of the four. 5.0 may leave out the properties, or them and the reason code (§3.4.2.1).
    ///
    /// [`DecodeError::PacketIdentifierZero`], [`DecodeError::ReasonCodeNotListed`], and those of properties.
    pub fn decode(packet: PacketType, frame: Frame<'a>, version: Version) -> Result<Ack<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let mut ack = Ack::new(reader.packet_id()?);
        if version.is_v5() && !reader.is_empty() {
            ack.reason = read_reason(packet, &mut reader)?;
            if !reader.is_empty() {
                let mut section = Section::decode(&mut reader, Place::Packet(packet))?;
                while let Some((property, value)) = section.next()? {
                    match property {
                        Property::ReasonString => ack.reason_string = Some(value.text),
                        _ => not_in_table(property),
                    }
                }
                ack.user_properties = section.user_properties();
            }
        }
        reader.finish()?;
        Ok(ack)
    }

    /// Appends the whole packet of type `packet`: before 5.0 the packet identifier only, else the shortest form.
    pub fn encode(&self, packet: PacketType, version: Version, out: &mut Vec<u8>) {
        let [high, low] = self.packet_id.to_be_bytes();
        let has_properties = self.reason_string.is_some() || !self.user_properties.is_empty();
        if !version.is_v5() || (self.reason == ReasonCode::Success && !has_properties) {
            out.extend_from_slice(&[packet.first(), 2, high, low]);
        } else if !has_properties {
            out.extend_from_slice(&[packet.first(), 3, high, low, self.reason.code()]);
        } else {
            encode_packet(packet.first(), out, |out| {
                write_u16(self.packet_id, out);
                write_u8(self.reason.code(), out);
                write_section(out, |out| {
                    write_bytes(Property::ReasonString, self.reason_string, out);
                    self.user_properties.write(out);
                });
            });
        }
    }
}
