//! Control packets by the number that stands in the upper half of their first byte (section 2.1.2).

/// Control packet types; one more than the largest number.
pub(super) const PACKET_TYPES: usize = 16;

/// CONNECT.
pub(super) const CONNECT: usize = 1;
/// PUBLISH.
pub(super) const PUBLISH: usize = 3;

/// Names of the control packets by their number; 0 is reserved and has none.
pub const PACKET_NAMES: [&str; PACKET_TYPES] = [
    "",
    "connect",
    "connack",
    "publish",
    "puback",
    "pubrec",
    "pubrel",
    "pubcomp",
    "subscribe",
    "suback",
    "unsubscribe",
    "unsuback",
    "pingreq",
    "pingresp",
    "disconnect",
    "auth",
];
