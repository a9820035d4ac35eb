//! AUTH: a step of an enhanced authentication (5.0 §3.15).
use super::packet::encode_packet;
use super::primitives::{Reader, write_u8};
use super::properties::{Place, Property, Section, not_in_table, write_bytes, write_section};
use super::reason::read_reason;
use super::{DecodeError, Frame, PacketType, ReasonCode, UserProperties, Version};

/// AUTH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Auth<'a> {
    /// Success, continue or re-authenticate.
    pub reason: ReasonCode,
    /// Authentication method; `None` only for an AUTH without any body, which says Success.
    pub method: Option<&'a str>,
    /// What the method needs.
    pub data: Option<&'a [u8]>,
    /// For people.
    pub reason_string: Option<&'a str>,
    /// The application's own.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Auth<'a> {
    /// With method and data.
    pub fn new(reason: ReasonCode, method: &'a str, data: Option<&'a [u8]>) -> Auth<'a> {
        Auth { reason, method: Some(method), data, ..Auth::success() }
    }

    fn success() -> Auth<'a> {
        Auth {
            reason: ReasonCode::Success,
            method: None,
            data: None,
            reason_string: None,
            user_properties: UserProperties::default(),
        }
    }

    /// Decodes AUTH; only 5.0 has it. An empty body is Success without properties (§3.15.2.1).
    ///
    /// [`DecodeError::ReasonCodeNotListed`], [`DecodeError::AuthenticationMethodMissing`], and those of properties.
    pub fn decode(frame: Frame<'a>) -> Result<Auth<'a>, DecodeError> {
        let mut auth = Auth::success();
        let mut reader = Reader::new(frame.body);
        if reader.is_empty() {
            return Ok(auth);
        }
        auth.reason = read_reason(PacketType::Auth, &mut reader)?;
        let mut section = Section::decode(&mut reader, Place::Packet(PacketType::Auth))?;
        while let Some((property, value)) = section.next()? {
            match property {
                Property::AuthenticationMethod => auth.method = Some(value.text),
                Property::AuthenticationData => auth.data = Some(value.data),
                Property::ReasonString => auth.reason_string = Some(value.text),
                _ => not_in_table(property),
            }
        }
        auth.user_properties = section.user_properties();
        reader.finish()?;
        if auth.method.is_none() {
            return Err(DecodeError::AuthenticationMethodMissing);
        }
        Ok(auth)
    }

    /// Appends the whole packet, which is the same in every version as only 5.0 has it.
    pub fn encode(&self, _version: Version, out: &mut Vec<u8>) {
        encode_packet(PacketType::Auth.first(), out, |out| {
            if *self == Auth::success() {
                return;
            }
            write_u8(self.reason.code(), out);
            write_section(out, |out| {
                write_bytes(Property::AuthenticationMethod, self.method, out);
                write_bytes(Property::AuthenticationData, self.data, out);
                write_bytes(Property::ReasonString, self.reason_string, out);
                self.user_properties.write(out);
            });
        });
    }
}
