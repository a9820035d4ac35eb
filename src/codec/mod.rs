//! MQTT's bytes: frames, primitives, properties, reason codes, one file per control packet.
//!
//! Layer 0: slices in, slices out. Decoding borrows from the packet and never allocates; encoding appends to
//! a `Vec<u8>`. The protocol version is an argument wherever the two differ.
mod ack;
mod auth;
#[doc(hidden)]
pub mod cases;
mod connack;
mod connect;
mod delivery;
mod disconnect;
mod error;
mod frame;
#[doc(hidden)]
pub mod fuzz;
mod message;
mod packet;
pub mod primitives;
mod properties;
mod publish;
mod qos;
mod reason;
mod suback;
mod subscribe;
mod unsubscribe;
mod version;

#[cfg(test)]
mod tests;

pub use ack::Ack;
pub use auth::Auth;
pub use connack::{ConnAck, ConnAckProperties};
pub use connect::{Connect, ConnectProperties, Will};
pub use delivery::{DeliveryHead, delivery_size, encode_delivery, encode_delivery_header};
pub use disconnect::Disconnect;
pub use error::DecodeError;
pub use frame::{Cut, Frame, MAX_PACKET, cut};
pub use message::MessageProperties;
pub use packet::{Packet, PacketType, decode};
pub use properties::{UserProperties, UserPropertiesBuf, UserPropertiesIter};
pub use publish::{Publish, SubscriptionIds};
pub use qos::QoS;
pub use reason::ReasonCode;
pub use suback::{SubAck, UnsubAck};
pub use subscribe::{FilterList, Subscribe, SubscribeFilter, SubscribeFilters, SubscribeOptions};
pub use unsubscribe::{Unsubscribe, UnsubscribeFilters, UnsubscribeList};
pub use version::Version;
