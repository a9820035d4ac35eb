//! A message that came from the broker.
use crate::codec::{Cut, MAX_PACKET, Packet, Publish, QoS, Version, cut, decode};

/// A message that came from the broker, with the packet it came in.
#[derive(Clone, Debug)]
pub struct Message {
    packet: Vec<u8>,
    version: Version,
    /// The topic an alias stands for.
    topic: Option<String>,
}

impl Message {
    /// Keeps a PUBLISH that was decoded from `packet`; `topic` is what its alias stands for if it has no topic.
    pub(super) fn new(packet: Vec<u8>, version: Version, topic: Option<String>) -> Message {
        Message { packet, version, topic }
    }

    /// The message, its topic filled in.
    pub fn publish(&self) -> Publish<'_> {
        let decoded = match cut(&self.packet, MAX_PACKET) {
            Ok(Cut::Frame(frame)) => decode(frame, self.version),
            _ => unreachable!("a whole packet was kept"),
        };
        let Ok(Packet::Publish(mut publish)) = decoded else { unreachable!("it was decoded before") };
        if let Some(topic) = &self.topic {
            publish.topic = topic;
        }
        publish
    }

    /// Its quality of service and packet identifier: what an acknowledgement needs.
    pub(super) fn receipt(&self) -> (QoS, u16) {
        let publish = self.publish();
        (publish.qos, publish.packet_id)
    }
}
