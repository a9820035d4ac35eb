//! Payloads that tell which message they belong to.
use ringmq::codec::Packet;

/// A packet in one line.
pub fn brief(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Publish(publish) => format!(
            "PUBLISH {} {} id {} message {} dup {} retain {}",
            publish.topic,
            publish.qos as u8,
            publish.packet_id,
            number_of(publish.payload),
            publish.dup,
            publish.retain
        ),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            format!("{:?} {} {:?}", packet.packet_type(), ack.packet_id, ack.reason)
        }
        other => format!("{other:?}"),
    }
}

/// The number of the message with that payload.
pub fn number_of(payload: &[u8]) -> usize {
    u64::from_be_bytes(payload[..8].try_into().expect("8 bytes")) as usize
}

/// The payload of a message: its number, then bytes that follow from it.
pub fn payload(number: usize, size: usize) -> Vec<u8> {
    let mut bytes = (number as u64).to_be_bytes().to_vec();
    bytes.extend((8..size.max(8)).map(|at| (number.wrapping_mul(31) + at) as u8));
    bytes
}

/// Whether a payload is as it was sent.
pub fn is_intact(bytes: &[u8]) -> bool {
    bytes == payload(number_of(bytes), bytes.len())
}
