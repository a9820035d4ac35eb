//! Why bytes are not an MQTT packet.
use super::ReasonCode;

/// Why bytes are not an acceptable control packet: one variant per cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The packet type does not exist in this version: 0 anywhere, AUTH before 5.0.
    #[error("reserved packet type (first byte {first:#04x})")]
    PacketTypeReserved {
        /// First byte of the packet.
        first: u8,
    },
    /// The low four bits of the first byte are not the ones of this packet type (`[MQTT-2.1.3-1]`, 3.1.1 `[MQTT-2.2.2-2]`).
    #[error("wrong fixed header flags (first byte {first:#04x})")]
    HeaderFlags {
        /// First byte of the packet.
        first: u8,
    },
    /// The remaining length has a fifth byte or is not in its shortest form (`[MQTT-1.5.5-1]`).
    #[error("remaining length is not a shortest variable byte integer")]
    RemainingLength,
    /// The packet is longer than the receiver takes.
    #[error("packet of {size} bytes, at most {limit} are taken")]
    PacketTooLarge {
        /// Length of the whole packet, bytes.
        size: u32,
        /// The largest length taken, bytes.
        limit: u32,
    },
    /// A field ends behind the end of its packet or property section, or is missing.
    #[error("a field is missing or longer than the packet")]
    Truncated,
    /// Bytes are left after the last field.
    #[error("bytes left after the last field")]
    TrailingBytes,
    /// A variable byte integer has a fifth byte or is not in its shortest form (`[MQTT-1.5.5-1]`).
    #[error("not a shortest variable byte integer")]
    VariableByteInteger,
    /// A string is not UTF-8 (`[MQTT-1.5.4-1]`).
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    /// A string holds U+0000 (`[MQTT-1.5.4-2]`).
    #[error("a string holds U+0000")]
    NulInString,
    /// CONNECT names another protocol (`[MQTT-3.1.2-1]`); in which form it would understand an answer is unknown.
    #[error("unknown protocol name")]
    UnsupportedProtocolName,
    /// CONNECT names MQTT at a level that is not known (`[MQTT-3.1.2-2]`). 3.1.1 demands CONNACK code 1, 5.0
    /// leaves the answer open, so CONNACK in the 3.1.1 form is right for every level.
    #[error("unsupported protocol level {level}")]
    UnsupportedVersion {
        /// The level asked for.
        level: u8,
    },
    /// The reserved flag of CONNECT is set (`[MQTT-3.1.2-3]`).
    #[error("reserved CONNECT flag is set")]
    ConnectReservedFlag,
    /// Will QoS or Will Retain without the Will Flag (`[MQTT-3.1.2-11]`, `[MQTT-3.1.2-13]`).
    #[error("will QoS or will retain without will flag")]
    WillFlags,
    /// Will QoS 3 (`[MQTT-3.1.2-12]`).
    #[error("will QoS 3")]
    WillQoS,
    /// A password without a user name before 5.0 (3.1.1 `[MQTT-3.1.2-22]`).
    #[error("password without user name")]
    PasswordWithoutUserName,
    /// Authentication Data without an Authentication Method (5.0 §3.1.2.11.10).
    #[error("authentication data without authentication method")]
    AuthenticationDataWithoutMethod,
    /// AUTH without an Authentication Method (5.0 §3.15.2.2.2).
    #[error("AUTH without authentication method")]
    AuthenticationMethodMissing,
    /// PUBLISH with both QoS bits set (`[MQTT-3.3.1-4]`).
    #[error("PUBLISH with QoS 3")]
    PublishQoS,
    /// PUBLISH with DUP at QoS 0 (`[MQTT-3.3.1-2]`).
    #[error("DUP at QoS 0")]
    DupAtQoS0,
    /// The packet identifier is 0 (`[MQTT-2.2.1-3]`).
    #[error("packet identifier 0")]
    PacketIdentifierZero,
    /// A topic name without a character, and no topic alias that stands for it (`[MQTT-4.7.3-1]`, 5.0 §3.3.2.1).
    #[error("empty topic name")]
    TopicEmpty,
    /// A topic name with a wildcard character (`[MQTT-3.3.2-2]`).
    #[error("wildcard in a topic name")]
    TopicWildcard,
    /// A topic alias of 0 (`[MQTT-3.3.2-8]`).
    #[error("topic alias 0")]
    TopicAliasZero,
    /// A response topic that is no topic name (`[MQTT-3.3.2-14]`).
    #[error("response topic is empty or has a wildcard")]
    ResponseTopic,
    /// A property identifier that the standard does not know (5.0 §2.2.2.2).
    #[error("unknown property {id:#04x}")]
    UnknownProperty {
        /// Property identifier.
        id: u8,
    },
    /// A property that is not for this packet (5.0 §2.2.2.2: malformed).
    #[error("property {id:#04x} is not for this packet")]
    PropertyNotAllowed {
        /// Property identifier.
        id: u8,
    },
    /// A property more than once that may stand once.
    #[error("property {id:#04x} more than once")]
    DuplicateProperty {
        /// Property identifier.
        id: u8,
    },
    /// A property with a value outside its range.
    #[error("property {id:#04x} has a value outside its range")]
    PropertyValue {
        /// Property identifier.
        id: u8,
    },
    /// A reason code that is not listed for its packet (such as `[MQTT-3.4.2-1]`).
    #[error("reason code {code:#04x} is not listed for this packet")]
    ReasonCodeNotListed {
        /// The code.
        code: u8,
    },
    /// Reserved bits in the acknowledge flags of CONNACK (`[MQTT-3.2.2-1]`).
    #[error("reserved CONNACK flags are set")]
    ConnAckFlags,
    /// SUBSCRIBE or UNSUBSCRIBE without a topic filter (`[MQTT-3.8.3-2]`, `[MQTT-3.10.3-2]`).
    #[error("no topic filter")]
    NoFilters,
    /// Reserved bits of a subscription's options (`[MQTT-3.8.3-5]`, 3.1.1 `[MQTT-3-8.3-4]`).
    #[error("reserved subscription options are set")]
    SubscribeReserved,
    /// A subscription with QoS 3 (5.0 §3.8.3.1, 3.1.1 `[MQTT-3-8.3-4]`).
    #[error("subscription with QoS 3")]
    SubscribeQoS,
    /// Retain Handling 3 (5.0 §3.8.3.1).
    #[error("retain handling 3")]
    RetainHandling,
}

impl DecodeError {
    /// The reason code that tells a 5.0 peer.
    pub fn reason(self) -> ReasonCode {
        use DecodeError::*;
        match self {
            PacketTypeReserved { .. } | HeaderFlags { .. } | RemainingLength | Truncated | TrailingBytes => {
                ReasonCode::MalformedPacket
            }
            VariableByteInteger | InvalidUtf8 | NulInString => ReasonCode::MalformedPacket,
            ConnectReservedFlag | WillFlags | WillQoS | PasswordWithoutUserName => {
                ReasonCode::MalformedPacket
            }
            PublishQoS | DupAtQoS0 | ConnAckFlags | SubscribeReserved => ReasonCode::MalformedPacket,
            UnknownProperty { .. } | PropertyNotAllowed { .. } => ReasonCode::MalformedPacket,
            PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            UnsupportedProtocolName | UnsupportedVersion { .. } => ReasonCode::UnsupportedProtocolVersion,
            TopicWildcard => ReasonCode::TopicNameInvalid,
            TopicAliasZero => ReasonCode::TopicAliasInvalid,
            AuthenticationDataWithoutMethod | AuthenticationMethodMissing => ReasonCode::ProtocolError,
            PacketIdentifierZero | TopicEmpty | ResponseTopic | NoFilters => ReasonCode::ProtocolError,
            DuplicateProperty { .. } | PropertyValue { .. } | ReasonCodeNotListed { .. } => {
                ReasonCode::ProtocolError
            }
            SubscribeQoS | RetainHandling => ReasonCode::ProtocolError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{PacketType, cases};

    #[test]
    fn every_error_is_told_by_a_code_that_its_answer_lists() {
        for case in cases::all() {
            let Some(reason) = case.reason() else { continue };
            let answer = if case.bytes[0] >> 4 == PacketType::Connect as u8 {
                PacketType::ConnAck
            } else {
                PacketType::Disconnect
            };
            assert!(reason.listed_for(answer), "{}: {reason:?}", case.name);
        }
    }

    #[test]
    fn what_cannot_be_parsed_is_malformed_and_what_must_not_be_is_a_protocol_error() {
        let malformed = [
            DecodeError::PacketTypeReserved { first: 0 },
            DecodeError::HeaderFlags { first: 0x80 },
            DecodeError::RemainingLength,
            DecodeError::Truncated,
            DecodeError::TrailingBytes,
            DecodeError::VariableByteInteger,
            DecodeError::InvalidUtf8,
            DecodeError::NulInString,
            DecodeError::ConnectReservedFlag,
            DecodeError::WillFlags,
            DecodeError::WillQoS,
            DecodeError::PasswordWithoutUserName,
            DecodeError::PublishQoS,
            DecodeError::DupAtQoS0,
            DecodeError::UnknownProperty { id: 0 },
            DecodeError::PropertyNotAllowed { id: 1 },
            DecodeError::ConnAckFlags,
            DecodeError::SubscribeReserved,
        ];
        let protocol = [
            DecodeError::AuthenticationDataWithoutMethod,
            DecodeError::AuthenticationMethodMissing,
            DecodeError::PacketIdentifierZero,
            DecodeError::TopicEmpty,
            DecodeError::ResponseTopic,
            DecodeError::DuplicateProperty { id: 1 },
            DecodeError::PropertyValue { id: 1 },
            DecodeError::ReasonCodeNotListed { code: 3 },
            DecodeError::NoFilters,
            DecodeError::SubscribeQoS,
            DecodeError::RetainHandling,
        ];
        assert!(malformed.iter().all(|error| error.reason() == ReasonCode::MalformedPacket));
        assert!(protocol.iter().all(|error| error.reason() == ReasonCode::ProtocolError));
        assert_eq!(DecodeError::TopicAliasZero.reason(), ReasonCode::TopicAliasInvalid);
        assert_eq!(DecodeError::TopicWildcard.reason(), ReasonCode::TopicNameInvalid);
        let too_large = DecodeError::PacketTooLarge { size: 2, limit: 1 };
        assert_eq!(too_large.reason(), ReasonCode::PacketTooLarge);
        assert_eq!(too_large.to_string(), "packet of 2 bytes, at most 1 are taken");
    }

    #[test]
    fn an_unknown_version_is_told_with_its_level() {
        let error = DecodeError::UnsupportedVersion { level: 6 };
        assert_eq!(error.reason().connack_3(), 1);
        assert_eq!(error.to_string(), "unsupported protocol level 6");
        assert_eq!(DecodeError::UnsupportedProtocolName.reason(), ReasonCode::UnsupportedProtocolVersion);
    }
}
