//! SUBACK and UNSUBACK: one reason code for every filter that was asked about.
use super::packet::encode_packet;
use super::primitives::{Reader, Sink, write_u16};
use super::properties::{Place, Property, Section, not_in_table, write_bytes, write_section};
use super::{DecodeError, Frame, PacketType, ReasonCode, UserProperties, Version};

/// SUBACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubAck<'a> {
    /// The SUBSCRIBE's packet identifier.
    pub packet_id: u16,
    /// For people.
    pub reason_string: Option<&'a str>,
    /// The application's own.
    pub user_properties: UserProperties<'a>,
    /// The codes, in the order of the filters. Before 5.0 only 0, 1, 2 and 0x80 exist (3.1.1 `[MQTT-3.9.3-2]`);
    /// whoever encodes sees to that.
    pub reasons: &'a [u8],
}

/// UNSUBACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnsubAck<'a> {
    /// The UNSUBSCRIBE's packet identifier.
    pub packet_id: u16,
    /// For people.
    pub reason_string: Option<&'a str>,
    /// The application's own.
    pub user_properties: UserProperties<'a>,
    /// The codes, in the order of the filters. None before 5.0: not written, and empty when decoded.
    pub reasons: &'a [u8],
}

impl<'a> SubAck<'a> {
    /// Without properties.
    pub fn new(packet_id: u16, reasons: &'a [u8]) -> SubAck<'a> {
        SubAck { packet_id, reason_string: None, user_properties: UserProperties::default(), reasons }
    }

    /// Decodes SUBACK. [`DecodeError::PacketIdentifierZero`], [`DecodeError::ReasonCodeNotListed`],
    /// [`DecodeError::Truncated`] without any code, and those of properties.
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<SubAck<'a>, DecodeError> {
        let mut suback = SubAck::new(0, &[]);
        let mut reader = Reader::new(frame.body);
        suback.packet_id = reader.packet_id()?;
        if version.is_v5() {
            (suback.reason_string, suback.user_properties) =
                read_properties(PacketType::SubAck, &mut reader)?;
            suback.reasons = check_reasons(reader.rest(), |code| is_listed(PacketType::SubAck, code))?;
        } else {
            suback.reasons = check_reasons(reader.rest(), |code| matches!(code, 0 | 1 | 2 | 0x80))?;
        }
        Ok(suback)
    }

    /// Appends the whole packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode_packet(PacketType::SubAck.first(), out, |out| {
            write_u16(self.packet_id, out);
            if version.is_v5() {
                write_properties(self.reason_string, self.user_properties, out);
            }
            out.put(self.reasons);
        });
    }
}

impl<'a> UnsubAck<'a> {
    /// Without properties.
    pub fn new(packet_id: u16, reasons: &'a [u8]) -> UnsubAck<'a> {
        UnsubAck { packet_id, reason_string: None, user_properties: UserProperties::default(), reasons }
    }

    /// Decodes UNSUBACK. [`DecodeError::PacketIdentifierZero`], [`DecodeError::ReasonCodeNotListed`],
    /// [`DecodeError::Truncated`] without any code in 5.0, and those of properties.
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<UnsubAck<'a>, DecodeError> {
        let mut unsuback = UnsubAck::new(0, &[]);
        let mut reader = Reader::new(frame.body);
        unsuback.packet_id = reader.packet_id()?;
        if version.is_v5() {
            (unsuback.reason_string, unsuback.user_properties) =
                read_properties(PacketType::UnsubAck, &mut reader)?;
            unsuback.reasons = check_reasons(reader.rest(), |code| is_listed(PacketType::UnsubAck, code))?;
        } else {
            reader.finish()?;
        }
        Ok(unsuback)
    }

    /// Appends the whole packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode_packet(PacketType::UnsubAck.first(), out, |out| {
            write_u16(self.packet_id, out);
            if version.is_v5() {
                write_properties(self.reason_string, self.user_properties, out);
                out.put(self.reasons);
            }
        });
    }
}

type ReasonProperties<'a> = (Option<&'a str>, UserProperties<'a>);

fn read_properties<'a>(
    packet: PacketType,
    reader: &mut Reader<'a>,
) -> Result<ReasonProperties<'a>, DecodeError> {
    let mut reason_string = None;
    let mut section = Section::decode(reader, Place::Packet(packet))?;
    while let Some((property, value)) = section.next()? {
        match property {
            Property::ReasonString => reason_string = Some(value.text),
            _ => not_in_table(property),
        }
    }
    Ok((reason_string, section.user_properties()))
}

fn write_properties(reason_string: Option<&str>, user_properties: UserProperties<'_>, out: &mut dyn Sink) {
    write_section(out, |out| {
        write_bytes(Property::ReasonString, reason_string, out);
        user_properties.write(out);
    });
}

fn is_listed(packet: PacketType, code: u8) -> bool {
    ReasonCode::from_code(code).is_some_and(|reason| reason.listed_for(packet))
}

fn check_reasons(codes: &[u8], is_listed: impl Fn(u8) -> bool) -> Result<&[u8], DecodeError> {
    if codes.is_empty() {
        return Err(DecodeError::Truncated);
    }
    match codes.iter().find(|&&code| !is_listed(code)) {
        Some(&code) => Err(DecodeError::ReasonCodeNotListed { code }),
        None => Ok(codes),
    }
}
