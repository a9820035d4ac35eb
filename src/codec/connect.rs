//! CONNECT: who the client is and what it wants.
use super::packet::encode_packet;
use super::primitives::{Reader, Sink, write_binary, write_string, write_u8, write_u16};
use super::properties::{
    Place, Property, Section, Value, not_in_table, write_bytes, write_number, write_section,
};
use super::{DecodeError, Frame, MessageProperties, PacketType, QoS, UserProperties, Version};

const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

/// CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connect<'a> {
    /// The version it speaks.
    pub version: Version,
    /// Clean Start; before 5.0 CleanSession.
    pub clean_start: bool,
    /// Seconds between packets at most; 0 turns it off.
    pub keep_alive: u16,
    /// Client identifier; empty to be given one.
    pub client_id: &'a str,
    /// What is published if the client vanishes.
    pub will: Option<Will<'a>>,
    /// User name.
    pub username: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// 5.0 only; the defaults before.
    pub properties: ConnectProperties<'a>,
}

/// The properties of CONNECT; the default is the standard's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectProperties<'a> {
    /// Seconds the session is kept after the connection; `u32::MAX` for ever. Default 0.
    pub session_expiry: u32,
    /// QoS 1 and 2 messages the client takes at a time; not 0. Default 65,535.
    pub receive_maximum: u16,
    /// Largest packet the client takes, bytes; not 0.
    pub maximum_packet_size: Option<u32>,
    /// Highest topic alias the client takes. Default 0.
    pub topic_alias_maximum: u16,
    /// The client would like response information in CONNACK. Default false.
    pub request_response_information: bool,
    /// The client takes reason strings and user properties everywhere. Default true.
    pub request_problem_information: bool,
    /// The application's own.
    pub user_properties: UserProperties<'a>,
    /// Method of enhanced authentication.
    pub authentication_method: Option<&'a str>,
    /// What the method needs.
    pub authentication_data: Option<&'a [u8]>,
}

impl Default for ConnectProperties<'_> {
    fn default() -> Self {
        ConnectProperties {
            session_expiry: 0,
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            user_properties: UserProperties::default(),
            authentication_method: None,
            authentication_data: None,
        }
    }
}

/// The message that is published if the client vanishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Will<'a> {
    /// Quality of service.
    pub qos: QoS,
    /// To be kept.
    pub retain: bool,
    /// Topic name.
    pub topic: &'a str,
    /// The message.
    pub payload: &'a [u8],
    /// Seconds to wait before publishing it.
    pub delay: u32,
    /// The message's properties.
    pub properties: MessageProperties<'a>,
}

impl<'a> Connect<'a> {
    /// The version a CONNECT speaks, though the rest of it may be broken: in which form to answer
    /// an error of [`Connect::decode`]. `None` if it is none of the known ones.
    pub fn peek_version(frame: Frame<'_>) -> Option<Version> {
        read_version(&mut Reader::new(frame.body)).ok()
    }

    /// Decodes CONNECT. Whether an empty client id is acceptable is left to the session.
    ///
    /// [`DecodeError::UnsupportedProtocolName`], [`DecodeError::UnsupportedVersion`],
    /// [`DecodeError::ConnectReservedFlag`], [`DecodeError::WillFlags`], [`DecodeError::WillQoS`],
    /// [`DecodeError::PasswordWithoutUserName`], [`DecodeError::AuthenticationDataWithoutMethod`], for the will's
    /// topic [`DecodeError::TopicWildcard`] and [`DecodeError::TopicEmpty`], and those of strings and properties.
    pub fn decode(frame: Frame<'a>) -> Result<Connect<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let version = read_version(&mut reader)?;
        let flags = reader.u8()?;
        check_flags(flags, version)?;
        let keep_alive = reader.u16()?;
        let properties = if version.is_v5() {
            ConnectProperties::decode(&mut reader)?
        } else {
            ConnectProperties::default()
        };
        let client_id = reader.string()?;
        let will = if flags & WILL != 0 { Some(Will::decode(&mut reader, flags, version)?) } else { None };
        let username = if flags & USER_NAME != 0 { Some(reader.string()?) } else { None };
        let password = if flags & PASSWORD != 0 { Some(reader.binary()?) } else { None };
        reader.finish()?;
        let clean_start = flags & CLEAN_START != 0;
        Ok(Connect { version, clean_start, keep_alive, client_id, will, username, password, properties })
    }

    /// Appends the whole packet, in the form of the version in it.
    pub fn encode(&self, _version: Version, out: &mut Vec<u8>) {
        encode_packet(PacketType::Connect.first(), out, |out| {
            write_string(self.version.protocol_name(), out);
            write_u8(self.version.level(), out);
            write_u8(self.flags(), out);
            write_u16(self.keep_alive, out);
            if self.version.is_v5() {
                write_section(out, |out| self.properties.write(out));
            }
            write_string(self.client_id, out);
            if let Some(will) = &self.will {
                will.write(self.version, out);
            }
            if let Some(username) = self.username {
                write_string(username, out);
            }
            if let Some(password) = self.password {
                write_binary(password, out);
            }
        });
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos as u8) << WILL_QOS_SHIFT;
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.username.is_some() {
            flags |= USER_NAME;
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        flags
    }
}

fn read_version(reader: &mut Reader<'_>) -> Result<Version, DecodeError> {
    let name = reader.binary()?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(DecodeError::UnsupportedProtocolName);
    }
    let level = reader.u8()?;
    [Version::V311, Version::V5, Version::V31]
        .into_iter()
        .find(|version| version.protocol_name().as_bytes() == name && version.level() == level)
        .ok_or(DecodeError::UnsupportedVersion { level })
}

fn check_flags(flags: u8, version: Version) -> Result<(), DecodeError> {
    if flags & 1 != 0 {
        return Err(DecodeError::ConnectReservedFlag);
    }
    if flags & WILL == 0 && flags & (WILL_RETAIN | 3 << WILL_QOS_SHIFT) != 0 {
        return Err(DecodeError::WillFlags);
    }
    if flags >> WILL_QOS_SHIFT & 3 == 3 {
        return Err(DecodeError::WillQoS);
    }
    if !version.is_v5() && flags & PASSWORD != 0 && flags & USER_NAME == 0 {
        return Err(DecodeError::PasswordWithoutUserName);
    }
    Ok(())
}

impl<'a> ConnectProperties<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<ConnectProperties<'a>, DecodeError> {
        let mut properties = ConnectProperties::default();
        let mut section = Section::decode(reader, Place::Packet(PacketType::Connect))?;
        while let Some((property, value)) = section.next()? {
            properties.take(property, value);
        }
        properties.user_properties = section.user_properties();
        if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
            return Err(DecodeError::AuthenticationDataWithoutMethod);
        }
        Ok(properties)
    }

    fn take(&mut self, property: Property, value: Value<'a>) {
        match property {
            Property::SessionExpiryInterval => self.session_expiry = value.number,
            Property::ReceiveMaximum => self.receive_maximum = value.word(),
            Property::MaximumPacketSize => self.maximum_packet_size = Some(value.number),
            Property::TopicAliasMaximum => self.topic_alias_maximum = value.word(),
            Property::RequestResponseInformation => self.request_response_information = value.flag(),
            Property::RequestProblemInformation => self.request_problem_information = value.flag(),
            Property::AuthenticationMethod => self.authentication_method = Some(value.text),
            Property::AuthenticationData => self.authentication_data = Some(value.data),
            _ => not_in_table(property),
        }
    }

    /// What differs from the default.
    fn write(&self, out: &mut dyn Sink) {
        let default = ConnectProperties::default();
        let mut number = |property, value: u32, usual: u32| {
            if value != usual {
                write_number(property, value, out);
            }
        };
        number(Property::SessionExpiryInterval, self.session_expiry, default.session_expiry);
        number(Property::ReceiveMaximum, self.receive_maximum.into(), default.receive_maximum.into());
        number(Property::TopicAliasMaximum, self.topic_alias_maximum.into(), 0);
        number(Property::RequestResponseInformation, self.request_response_information.into(), 0);
        number(Property::RequestProblemInformation, self.request_problem_information.into(), 1);
        if let Some(size) = self.maximum_packet_size {
            write_number(Property::MaximumPacketSize, size, out);
        }
        self.user_properties.write(out);
        write_bytes(Property::AuthenticationMethod, self.authentication_method, out);
        write_bytes(Property::AuthenticationData, self.authentication_data, out);
    }
}

impl<'a> Will<'a> {
    fn decode(reader: &mut Reader<'a>, flags: u8, version: Version) -> Result<Will<'a>, DecodeError> {
        let mut delay = 0;
        let mut properties = MessageProperties::default();
        if version.is_v5() {
            let mut section = Section::decode(reader, Place::Will)?;
            while let Some((property, value)) = section.next()? {
                match property {
                    Property::WillDelayInterval => delay = value.number,
                    _ if properties.take(property, value)? => {}
                    _ => not_in_table(property),
                }
            }
            properties.user_properties = section.user_properties();
        }
        let topic = reader.topic()?;
        if topic.is_empty() {
            return Err(DecodeError::TopicEmpty);
        }
        let qos = QoS::from_bits(flags >> WILL_QOS_SHIFT & 3).ok_or(DecodeError::WillQoS)?;
        let payload = reader.binary()?;
        Ok(Will { qos, retain: flags & WILL_RETAIN != 0, topic, payload, delay, properties })
    }

    fn write(&self, version: Version, out: &mut dyn Sink) {
        if version.is_v5() {
            write_section(out, |out| {
                if self.delay != 0 {
                    write_number(Property::WillDelayInterval, self.delay, out);
                }
                self.properties.write(out);
            });
        }
        write_string(self.topic, out);
        write_binary(self.payload, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_shows_though_the_rest_is_broken() {
        let peek = |body| Connect::peek_version(Frame { first: 0x10, bytes: &[], body });
        assert_eq!(peek(b"\0\x04MQTT\x05\x01"), Some(Version::V5));
        assert_eq!(peek(b"\0\x04MQTT\x04"), Some(Version::V311));
        assert_eq!(peek(b"\0\x06MQIsdp\x03"), Some(Version::V31));
        assert_eq!(peek(b"\0\x04MQTT\x03"), None);
        assert_eq!(peek(b"\0\x04MQTT"), None);
        assert_eq!(peek(b"\0\x04mqtt\x04"), None);
    }
}
