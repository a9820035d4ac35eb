//! The protocol versions.

/// A version of MQTT; its value is the protocol level in CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Version {
    /// MQTT 3.1 (protocol name `MQIsdp`).
    V31 = 3,
    /// MQTT 3.1.1.
    V311 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

impl Version {
    /// Whether packets have reason codes and properties.
    #[inline]
    pub fn is_v5(self) -> bool {
        self == Version::V5
    }
    /// The protocol level in CONNECT.
    pub fn level(self) -> u8 {
        self as u8
    }
    /// The protocol name in CONNECT.
    pub fn protocol_name(self) -> &'static str {
        match self {
            Version::V31 => "MQIsdp",
            Version::V311 | Version::V5 => "MQTT",
        }
    }
}
