//! The properties of an application message.
use super::primitives::Sink;
use super::properties::{Property, Value, write_bytes, write_optional};
use super::{DecodeError, UserProperties};

/// The properties of an application message; shared by PUBLISH and will.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MessageProperties<'a> {
    /// 1: the payload is UTF-8 text. 0 says nothing about it.
    pub payload_format: Option<u8>,
    /// Seconds until the message is of no use any more.
    pub message_expiry: Option<u32>,
    /// What the payload is.
    pub content_type: Option<&'a str>,
    /// Where an answer goes; a topic name.
    pub response_topic: Option<&'a str>,
    /// What an answer must repeat.
    pub correlation_data: Option<&'a [u8]>,
    /// The application's own.
    pub user_properties: UserProperties<'a>,
}

impl<'a> MessageProperties<'a> {
    /// Whether [`MessageProperties::encode_forwarded`] writes nothing.
    pub fn is_empty_forwarded(&self) -> bool {
        self.payload_format.is_none()
            && self.content_type.is_none()
            && self.response_topic.is_none()
            && self.correlation_data.is_none()
            && self.user_properties.is_empty()
    }

    /// Appends what is passed on unchanged: payload format, content type, response topic, correlation data,
    /// user properties (`[MQTT-3.3.2-4]`, `[MQTT-3.3.2-15]` to `[MQTT-3.3.2-20]`), as they stand in a packet,
    /// without a length. Nothing about expiry, alias and subscription identifiers.
    pub fn encode_forwarded(&self, out: &mut Vec<u8>) {
        if !self.is_empty_forwarded() {
            self.write_forwarded(out);
        }
    }

    fn write_forwarded(&self, out: &mut dyn Sink) {
        write_optional(Property::PayloadFormatIndicator, self.payload_format, out);
        write_bytes(Property::ContentType, self.content_type, out);
        write_bytes(Property::ResponseTopic, self.response_topic, out);
        write_bytes(Property::CorrelationData, self.correlation_data, out);
        self.user_properties.write(out);
    }

    /// Appends all of them.
    pub(super) fn write(&self, out: &mut dyn Sink) {
        write_optional(Property::MessageExpiryInterval, self.message_expiry, out);
        self.write_forwarded(out);
    }

    /// Takes a property if it is one of the message's; whether it was. User properties are taken from the
    /// section at its end.
    pub(super) fn take(&mut self, property: Property, value: Value<'a>) -> Result<bool, DecodeError> {
        match property {
            Property::PayloadFormatIndicator => self.payload_format = Some(value.number as u8),
            Property::MessageExpiryInterval => self.message_expiry = Some(value.number),
            Property::ContentType => self.content_type = Some(value.text),
            Property::ResponseTopic => {
                if value.text.is_empty() || memchr::memchr2(b'+', b'#', value.text.as_bytes()).is_some() {
                    return Err(DecodeError::ResponseTopic);
                }
                self.response_topic = Some(value.text);
            }
            Property::CorrelationData => self.correlation_data = Some(value.data),
            _ => return Ok(false),
        }
        Ok(true)
    }
}
