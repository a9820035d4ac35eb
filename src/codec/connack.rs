//! CONNACK: the answer to CONNECT.
use super::packet::encode_packet;
use super::primitives::{Reader, Sink, write_u8};
use super::properties::{
    Place, Property, Section, Value, not_in_table, write_bytes, write_optional, write_section,
};
use super::reason::read_reason;
use super::{DecodeError, Frame, PacketType, ReasonCode, UserProperties, Version};

/// CONNACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnAck<'a> {
    /// The server goes on with a stored session.
    pub session_present: bool,
    /// Before 5.0 the return code that comes closest is written ([`ReasonCode::connack_3`]).
    pub reason: ReasonCode,
    /// 5.0 only.
    pub properties: ConnAckProperties<'a>,
}

/// The properties of CONNACK; what is `None` is not sent and has the standard's default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnAckProperties<'a> {
    /// Seconds the session is kept, if not as asked for.
    pub session_expiry: Option<u32>,
    /// QoS 1 and 2 messages the server takes at a time, if not 65,535; not 0.
    pub receive_maximum: Option<u16>,
    /// Highest QoS the server takes, if not 2: 0 or 1.
    pub maximum_qos: Option<u8>,
    /// Whether retained messages are taken, if not.
    pub retain_available: Option<bool>,
    /// Largest packet the server takes, bytes; not 0.
    pub maximum_packet_size: Option<u32>,
    /// The client id given to a client without one.
    pub assigned_client_id: Option<&'a str>,
    /// Highest topic alias the server takes, if not 0.
    pub topic_alias_maximum: Option<u16>,
    /// For people.
    pub reason_string: Option<&'a str>,
    /// The application's own.
    pub user_properties: UserProperties<'a>,
    /// Whether filters may have wildcards, if not.
    pub wildcard_available: Option<bool>,
    /// Whether subscription identifiers are taken, if not.
    pub subscription_ids_available: Option<bool>,
    /// Whether shared subscriptions are there, if not.
    pub shared_available: Option<bool>,
    /// Seconds of keep alive, instead of what the client asked for.
    pub server_keep_alive: Option<u16>,
    /// What response topics begin with.
    pub response_information: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// Authentication method.
    pub authentication_method: Option<&'a str>,
    /// What the method needs.
    pub authentication_data: Option<&'a [u8]>,
}

impl<'a> ConnAck<'a> {
    /// Without properties.
    pub fn new(session_present: bool, reason: ReasonCode) -> ConnAck<'a> {
        ConnAck { session_present, reason, properties: ConnAckProperties::default() }
    }

    /// Decodes CONNACK. [`DecodeError::ConnAckFlags`], [`DecodeError::ReasonCodeNotListed`], and those of properties.
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<ConnAck<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let session_present = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(DecodeError::ConnAckFlags),
        };
        let mut connack = ConnAck::new(session_present, ReasonCode::Success);
        if version.is_v5() {
            connack.reason = read_reason(PacketType::ConnAck, &mut reader)?;
            let mut section = Section::decode(&mut reader, Place::Packet(PacketType::ConnAck))?;
            while let Some((property, value)) = section.next()? {
                connack.properties.take(property, value);
            }
            connack.properties.user_properties = section.user_properties();
        } else {
            let code = reader.u8()?;
            connack.reason =
                ReasonCode::from_connack_3(code).ok_or(DecodeError::ReasonCodeNotListed { code })?;
        }
        reader.finish()?;
        Ok(connack)
    }

    /// Appends the whole packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode_packet(PacketType::ConnAck.first(), out, |out| {
            write_u8(u8::from(self.session_present), out);
            if version.is_v5() {
                write_u8(self.reason.code(), out);
                write_section(out, |out| self.properties.write(out));
            } else {
                write_u8(self.reason.connack_3(), out);
            }
        });
    }
}

impl<'a> ConnAckProperties<'a> {
    fn take(&mut self, property: Property, value: Value<'a>) {
        match property {
            Property::SessionExpiryInterval => self.session_expiry = Some(value.number),
            Property::ReceiveMaximum => self.receive_maximum = Some(value.word()),
            Property::MaximumQoS => self.maximum_qos = Some(value.number as u8),
            Property::RetainAvailable => self.retain_available = Some(value.flag()),
            Property::MaximumPacketSize => self.maximum_packet_size = Some(value.number),
            Property::AssignedClientIdentifier => self.assigned_client_id = Some(value.text),
            Property::TopicAliasMaximum => self.topic_alias_maximum = Some(value.word()),
            Property::ReasonString => self.reason_string = Some(value.text),
            Property::WildcardSubscriptionAvailable => self.wildcard_available = Some(value.flag()),
            Property::SubscriptionIdentifiersAvailable => {
                self.subscription_ids_available = Some(value.flag())
            }
            Property::SharedSubscriptionAvailable => self.shared_available = Some(value.flag()),
            Property::ServerKeepAlive => self.server_keep_alive = Some(value.word()),
            Property::ResponseInformation => self.response_information = Some(value.text),
            Property::ServerReference => self.server_reference = Some(value.text),
            Property::AuthenticationMethod => self.authentication_method = Some(value.text),
            Property::AuthenticationData => self.authentication_data = Some(value.data),
            _ => not_in_table(property),
        }
    }

    fn write(&self, out: &mut dyn Sink) {
        write_optional(Property::SessionExpiryInterval, self.session_expiry, out);
        write_optional(Property::ReceiveMaximum, self.receive_maximum, out);
        write_optional(Property::MaximumQoS, self.maximum_qos, out);
        write_optional(Property::RetainAvailable, self.retain_available, out);
        write_optional(Property::MaximumPacketSize, self.maximum_packet_size, out);
        write_bytes(Property::AssignedClientIdentifier, self.assigned_client_id, out);
        write_optional(Property::TopicAliasMaximum, self.topic_alias_maximum, out);
        write_bytes(Property::ReasonString, self.reason_string, out);
        self.user_properties.write(out);
        write_optional(Property::WildcardSubscriptionAvailable, self.wildcard_available, out);
        write_optional(Property::SubscriptionIdentifiersAvailable, self.subscription_ids_available, out);
        write_optional(Property::SharedSubscriptionAvailable, self.shared_available, out);
        write_optional(Property::ServerKeepAlive, self.server_keep_alive, out);
        write_bytes(Property::ResponseInformation, self.response_information, out);
        write_bytes(Property::ServerReference, self.server_reference, out);
        write_bytes(Property::AuthenticationMethod, self.authentication_method, out);
        write_bytes(Property::AuthenticationData, self.authentication_data, out);
    }
}
