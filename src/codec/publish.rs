//! PUBLISH: a message.
use super::packet::encode_packet;
use super::primitives::{Reader, Sink, write_string, write_u16};
use super::properties::{
    Place, Property, Section, Walk, not_in_table, write_number, write_optional, write_section,
};
use super::{DecodeError, Frame, MessageProperties, PacketType, QoS, Version};

/// PUBLISH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publish<'a> {
    /// Sent before, maybe.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// From a client: to be kept; to a client: it was kept.
    pub retain: bool,
    /// Topic name; empty if the alias stands for it.
    pub topic: &'a str,
    /// Packet identifier; 0 at QoS 0.
    pub packet_id: u16,
    /// Topic alias, not 0.
    pub topic_alias: Option<u16>,
    /// Subscription identifiers; a client must not send any (`[MQTT-3.3.4-6]`, left to the session).
    pub subscription_ids: SubscriptionIds<'a>,
    /// The message's properties.
    pub properties: MessageProperties<'a>,
    /// The message.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// Decodes PUBLISH. Whether the payload is what the payload format says is not looked at.
    ///
    /// [`DecodeError::PublishQoS`], [`DecodeError::DupAtQoS0`], [`DecodeError::TopicWildcard`],
    /// [`DecodeError::TopicEmpty`], [`DecodeError::PacketIdentifierZero`], [`DecodeError::TopicAliasZero`],
    /// [`DecodeError::ResponseTopic`], and those of strings and properties.
    #[inline]
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Publish<'a>, DecodeError> {
        let qos = QoS::from_bits(frame.first >> 1 & 3).ok_or(DecodeError::PublishQoS)?;
        let dup = frame.first & 8 != 0;
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::DupAtQoS0);
        }
        let mut reader = Reader::new(frame.body);
        let topic = reader.topic()?;
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { reader.packet_id()? };
        let properties =
            if version.is_v5() { Properties::decode(&mut reader)? } else { Properties::default() };
        if topic.is_empty() && properties.topic_alias.is_none() {
            return Err(DecodeError::TopicEmpty);
        }
        Ok(Publish {
            dup,
            qos,
            retain: frame.first & 1 != 0,
            topic,
            packet_id,
            topic_alias: properties.topic_alias,
            subscription_ids: properties.subscription_ids,
            properties: properties.message,
            payload: reader.rest(),
        })
    }

    /// Appends the whole packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let flags = u8::from(self.dup) << 3 | (self.qos as u8) << 1 | u8::from(self.retain);
        encode_packet(PacketType::Publish.first() | flags, out, |out| {
            write_string(self.topic, out);
            if self.qos != QoS::AtMostOnce {
                write_u16(self.packet_id, out);
            }
            if version.is_v5() {
                write_section(out, |out| self.write_properties(out));
            }
            out.put(self.payload);
        });
    }

    fn write_properties(&self, out: &mut dyn Sink) {
        write_optional(Property::TopicAlias, self.topic_alias, out);
        for id in self.subscription_ids {
            write_number(Property::SubscriptionIdentifier, id, out);
        }
        self.properties.write(out);
    }
}

/// What a section of properties in PUBLISH says.
#[derive(Default)]
struct Properties<'a> {
    topic_alias: Option<u16>,
    subscription_ids: SubscriptionIds<'a>,
    message: MessageProperties<'a>,
}

impl<'a> Properties<'a> {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Properties<'a>, DecodeError> {
        let mut section = Section::decode(reader, Place::Packet(PacketType::Publish))?;
        if section.is_empty() { Ok(Properties::default()) } else { Properties::take(&mut section) }
    }

    fn take(section: &mut Section<'a>) -> Result<Properties<'a>, DecodeError> {
        let mut properties = Properties::default();
        while let Some((property, value)) = section.next()? {
            match property {
                Property::TopicAlias if value.number == 0 => return Err(DecodeError::TopicAliasZero),
                Property::TopicAlias => properties.topic_alias = Some(value.word()),
                Property::SubscriptionIdentifier => {}
                _ if properties.message.take(property, value)? => {}
                _ => not_in_table(property),
            }
        }
        properties.message.user_properties = section.user_properties();
        properties.subscription_ids =
            SubscriptionIds::new(section.raw_with(Property::SubscriptionIdentifier));
        Ok(properties)
    }
}

/// The subscription identifiers of a PUBLISH, in order: an iterator, free to copy. Two are equal if they
/// yield the same.
#[derive(Clone, Copy)]
pub struct SubscriptionIds<'a> {
    walk: Walk<'a>,
}

impl<'a> SubscriptionIds<'a> {
    /// From checked properties.
    fn new(raw: &'a [u8]) -> SubscriptionIds<'a> {
        SubscriptionIds { walk: Walk::new(raw) }
    }
    /// Whether none is left.
    pub fn is_empty(mut self) -> bool {
        self.next().is_none()
    }
}

impl Default for SubscriptionIds<'_> {
    fn default() -> Self {
        SubscriptionIds::new(&[])
    }
}

impl Iterator for SubscriptionIds<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (_, id, _) = self.walk.find(|(property, ..)| *property == Property::SubscriptionIdentifier)?;
        Some(id)
    }
}

impl PartialEq for SubscriptionIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        Iterator::eq(*self, *other)
    }
}

impl Eq for SubscriptionIds<'_> {}

impl std::fmt::Debug for SubscriptionIds<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}
