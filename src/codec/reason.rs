//! The reason codes (5.0 §2.4): one table of number, text and the packets that list it.
use super::primitives::Reader;
use super::{DecodeError, PacketType};

macro_rules! reason_codes {
    ($($name:ident = $code:literal, $text:literal, [$($packet:ident)*];)*) => {
        /// A reason code; its value is the number on the wire.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
        pub enum ReasonCode {
            $(#[doc = $text] $name = $code,)*
        }

        impl ReasonCode {
            /// Every reason code, in the order of the numbers.
            pub const ALL: &'static [ReasonCode] = &[$(ReasonCode::$name),*];

            /// From its number; `None` if the standard does not know it.
            pub fn from_code(code: u8) -> Option<ReasonCode> {
                match code {
                    $($code => Some(ReasonCode::$name),)*
                    _ => None,
                }
            }
            /// What it means, in words.
            pub fn text(self) -> &'static str {
                match self {
                    $(ReasonCode::$name => $text,)*
                }
            }
            /// The packets that list it, one bit per packet type.
            fn listed(self) -> u16 {
                match self {
                    $(ReasonCode::$name => 0 $(| PacketType::$packet.bit())*,)*
                }
            }
        }
    };
}

reason_codes! {
    Success = 0x00, "Success", [ConnAck PubAck PubRec PubRel PubComp SubAck UnsubAck Disconnect Auth];
    GrantedQoS1 = 0x01, "Granted QoS 1", [SubAck];
    GrantedQoS2 = 0x02, "Granted QoS 2", [SubAck];
    DisconnectWithWill = 0x04, "Disconnect with will message", [Disconnect];
    NoMatchingSubscribers = 0x10, "No matching subscribers", [PubAck PubRec];
    NoSubscriptionExisted = 0x11, "No subscription existed", [UnsubAck];
    ContinueAuthentication = 0x18, "Continue authentication", [Auth];
    ReAuthenticate = 0x19, "Re-authenticate", [Auth];
    UnspecifiedError = 0x80, "Unspecified error", [ConnAck PubAck PubRec SubAck UnsubAck Disconnect];
    MalformedPacket = 0x81, "Malformed packet", [ConnAck Disconnect];
    ProtocolError = 0x82, "Protocol error", [ConnAck Disconnect];
    ImplementationSpecificError = 0x83, "Implementation specific error", [ConnAck PubAck PubRec SubAck UnsubAck Disconnect];
    UnsupportedProtocolVersion = 0x84, "Unsupported protocol version", [ConnAck];
    ClientIdentifierNotValid = 0x85, "Client identifier not valid", [ConnAck];
    BadUserNameOrPassword = 0x86, "Bad user name or password", [ConnAck];
    NotAuthorized = 0x87, "Not authorized", [ConnAck PubAck PubRec SubAck UnsubAck Disconnect];
    ServerUnavailable = 0x88, "Server unavailable", [ConnAck];
    ServerBusy = 0x89, "Server busy", [ConnAck Disconnect];
    Banned = 0x8A, "Banned", [ConnAck];
    ServerShuttingDown = 0x8B, "Server shutting down", [Disconnect];
    BadAuthenticationMethod = 0x8C, "Bad authentication method", [ConnAck Disconnect];
    KeepAliveTimeout = 0x8D, "Keep alive timeout", [Disconnect];
    SessionTakenOver = 0x8E, "Session taken over", [Disconnect];
    TopicFilterInvalid = 0x8F, "Topic filter invalid", [SubAck UnsubAck Disconnect];
    TopicNameInvalid = 0x90, "Topic name invalid", [ConnAck PubAck PubRec Disconnect];
    PacketIdentifierInUse = 0x91, "Packet identifier in use", [PubAck PubRec SubAck UnsubAck];
    PacketIdentifierNotFound = 0x92, "Packet identifier not found", [PubRel PubComp];
    ReceiveMaximumExceeded = 0x93, "Receive maximum exceeded", [Disconnect];
    TopicAliasInvalid = 0x94, "Topic alias invalid", [Disconnect];
    PacketTooLarge = 0x95, "Packet too large", [ConnAck Disconnect];
    MessageRateTooHigh = 0x96, "Message rate too high", [Disconnect];
    QuotaExceeded = 0x97, "Quota exceeded", [ConnAck PubAck PubRec SubAck Disconnect];
    AdministrativeAction = 0x98, "Administrative action", [Disconnect];
    PayloadFormatInvalid = 0x99, "Payload format invalid", [ConnAck PubAck PubRec Disconnect];
    RetainNotSupported = 0x9A, "Retain not supported", [ConnAck Disconnect];
    QoSNotSupported = 0x9B, "QoS not supported", [ConnAck Disconnect];
    UseAnotherServer = 0x9C, "Use another server", [ConnAck Disconnect];
    ServerMoved = 0x9D, "Server moved", [ConnAck Disconnect];
    SharedSubscriptionsNotSupported = 0x9E, "Shared subscriptions not supported", [SubAck Disconnect];
    ConnectionRateExceeded = 0x9F, "Connection rate exceeded", [ConnAck Disconnect];
    MaximumConnectTime = 0xA0, "Maximum connect time", [Disconnect];
    SubscriptionIdentifiersNotSupported = 0xA1, "Subscription identifiers not supported", [SubAck Disconnect];
    WildcardSubscriptionsNotSupported = 0xA2, "Wildcard subscriptions not supported", [SubAck Disconnect];
}

impl ReasonCode {
    /// The number on the wire.
    #[inline]
    pub fn code(self) -> u8 {
        self as u8
    }
    /// Whether it tells of a failure (0x80 and above).
    #[inline]
    pub fn is_error(self) -> bool {
        self.code() >= 0x80
    }
    /// Whether the standard lists it for that packet (`[MQTT-3.2.2-8]`, `[MQTT-3.4.2-1]` and so on).
    pub fn listed_for(self, packet: PacketType) -> bool {
        self.listed() & packet.bit() != 0
    }
    /// The CONNACK return code of 3.1.1 (0 to 5) that comes closest; 3 (server unavailable) where none does.
    pub fn connack_3(self) -> u8 {
        match self {
            ReasonCode::Success => 0,
            ReasonCode::UnsupportedProtocolVersion => 1,
            ReasonCode::ClientIdentifierNotValid => 2,
            ReasonCode::BadUserNameOrPassword | ReasonCode::BadAuthenticationMethod => 4,
            ReasonCode::NotAuthorized | ReasonCode::Banned => 5,
            _ => 3,
        }
    }
    /// The other way round: what a CONNACK return code of 3.1.1 says; `None` above 5.
    pub fn from_connack_3(code: u8) -> Option<ReasonCode> {
        match code {
            0 => Some(ReasonCode::Success),
            1 => Some(ReasonCode::UnsupportedProtocolVersion),
            2 => Some(ReasonCode::ClientIdentifierNotValid),
            3 => Some(ReasonCode::ServerUnavailable),
            4 => Some(ReasonCode::BadUserNameOrPassword),
            5 => Some(ReasonCode::NotAuthorized),
            _ => None,
        }
    }
}

/// Reads the reason code of a 5.0 packet. [`DecodeError::ReasonCodeNotListed`] if the standard does not list it there.
pub(super) fn read_reason(packet: PacketType, reader: &mut Reader<'_>) -> Result<ReasonCode, DecodeError> {
    let code = reader.u8()?;
    ReasonCode::from_code(code)
        .filter(|reason| reason.listed_for(packet))
        .ok_or(DecodeError::ReasonCodeNotListed { code })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the table of 5.0 §2.4 seen from the other side: per packet (its type number), what §3 lists.
    const LISTED: [(PacketType, &[u8]); 9] = [
        (
            PacketType::ConnAck,
            &[
                0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95,
                0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
            ],
        ),
        (PacketType::PubAck, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
        (PacketType::PubRec, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
        (PacketType::PubRel, &[0x00, 0x92]),
        (PacketType::PubComp, &[0x00, 0x92]),
        (PacketType::SubAck, &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2]),
        (PacketType::UnsubAck, &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91]),
        (
            PacketType::Disconnect,
            &[
                0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93,
                0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
            ],
        ),
        (PacketType::Auth, &[0x00, 0x18, 0x19]),
    ];

    #[test]
    fn every_packet_lists_what_the_standard_lists() {
        for bits in 1..=15 {
            let packet = PacketType::from_bits(bits).unwrap();
            let expected =
                LISTED.iter().find(|(listing, _)| *listing == packet).map_or(&[][..], |(_, codes)| *codes);
            let codes: Vec<u8> =
                ReasonCode::ALL.iter().filter(|reason| reason.listed_for(packet)).map(|r| r.code()).collect();
            assert_eq!(codes, expected, "{packet:?}");
        }
    }

    #[test]
    fn numbers_and_names_go_together() {
        let known: Vec<u8> = (0..=u8::MAX).filter(|code| ReasonCode::from_code(*code).is_some()).collect();
        assert_eq!(known, ReasonCode::ALL.iter().map(|reason| reason.code()).collect::<Vec<_>>());
        for reason in ReasonCode::ALL {
            assert_eq!(ReasonCode::from_code(reason.code()), Some(*reason));
            assert_eq!(reason.is_error(), reason.code() >= 0x80);
            assert!(!reason.text().is_empty());
        }
        assert_eq!(ReasonCode::WildcardSubscriptionsNotSupported.code(), 0xA2);
    }

    #[test]
    fn return_codes_of_3_1_1() {
        for code in 0..=5 {
            assert_eq!(ReasonCode::from_connack_3(code).unwrap().connack_3(), code);
        }
        assert_eq!(ReasonCode::from_connack_3(6), None);
        for reason in ReasonCode::ALL.iter().filter(|reason| reason.is_error()) {
            assert!((1..=5).contains(&reason.connack_3()));
        }
        assert_eq!(ReasonCode::Banned.connack_3(), 5);
        assert_eq!(ReasonCode::BadAuthenticationMethod.connack_3(), 4);
        assert_eq!(ReasonCode::QuotaExceeded.connack_3(), 3);
    }
}
