//! The lines of `-d`: one for every packet, as the users of Mosquitto's clients know them.
use crate::codec::{Ack, Packet, Publish, Version};

/// The lines that tell of a packet the client sends.
pub(super) fn sending(client_id: &str, packet: &Packet<'_>, version: Version) -> Vec<String> {
    let name = name(client_id);
    let what = match packet {
        Packet::Connect(_) => "CONNECT".to_owned(),
        Packet::Publish(publish) => message(publish),
        Packet::PubAck(ack) => format!("PUBACK (m{}, rc{})", ack.packet_id, ack.reason.code()),
        Packet::PubRec(ack) => format!("PUBREC (m{}, rc{})", ack.packet_id, ack.reason.code()),
        Packet::PubRel(ack) => format!("PUBREL (m{})", ack.packet_id),
        Packet::PubComp(ack) => format!("PUBCOMP (m{})", ack.packet_id),
        Packet::Subscribe(subscribe) => {
            let line = |filter: crate::codec::SubscribeFilter<'_>| {
                let options = filter.options.to_bits(version) & !3;
                let (id, qos) = (subscribe.packet_id, filter.options.qos as u8);
                let filter = filter.filter;
                format!(
                    "Client {name} sending SUBSCRIBE (Mid: {id}, Topic: {filter}, QoS: {qos}, Options: 0x{options:02x})"
                )
            };
            return subscribe.filters().map(line).collect();
        }
        Packet::Unsubscribe(unsubscribe) => {
            let id = unsubscribe.packet_id;
            let line =
                |filter: &str| format!("Client {name} sending UNSUBSCRIBE (Mid: {id}, Topic: {filter})");
            return unsubscribe.filters().map(line).collect();
        }
        Packet::PingReq => "PINGREQ".to_owned(),
        Packet::Disconnect(_) => "DISCONNECT".to_owned(),
        other => format!("{:?}", other.packet_type()),
    };
    vec![format!("Client {name} sending {what}")]
}

/// The lines that tell of a packet the client received.
pub(super) fn received(client_id: &str, packet: &Packet<'_>, version: Version) -> Vec<String> {
    let with_code = |kind: &str, ack: &Ack<'_>| {
        if version.is_v5() {
            format!("{kind} (Mid: {}, RC:{})", ack.packet_id, ack.reason.code())
        } else {
            format!("{kind} (Mid: {})", ack.packet_id)
        }
    };
    let mut more = None;
    let what = match packet {
        Packet::ConnAck(connack) => {
            let code = if version.is_v5() { connack.reason.code() } else { connack.reason.connack_3() };
            format!("CONNACK ({code})")
        }
        Packet::Publish(publish) => message(publish),
        Packet::PubAck(ack) => with_code("PUBACK", ack),
        Packet::PubRec(ack) => with_code("PUBREC", ack),
        Packet::PubRel(ack) => format!("PUBREL (Mid: {})", ack.packet_id),
        Packet::PubComp(ack) => with_code("PUBCOMP", ack),
        Packet::SubAck(suback) => {
            let codes: Vec<String> = suback.reasons.iter().map(u8::to_string).collect();
            more = Some(format!("Subscribed (mid: {}): {}", suback.packet_id, codes.join(", ")));
            "SUBACK".to_owned()
        }
        Packet::UnsubAck(_) => "UNSUBACK".to_owned(),
        Packet::PingResp => "PINGRESP".to_owned(),
        Packet::Disconnect(disconnect) => format!("DISCONNECT ({})", disconnect.reason.code()),
        other => format!("{:?}", other.packet_type()),
    };
    let mut lines = vec![format!("Client {} received {what}", name(client_id))];
    lines.extend(more);
    lines
}

fn name(client_id: &str) -> &str {
    if client_id.is_empty() { "(null)" } else { client_id }
}

fn message(publish: &Publish<'_>) -> String {
    format!(
        "PUBLISH (d{}, q{}, r{}, m{}, '{}', ... ({} bytes))",
        u8::from(publish.dup),
        publish.qos as u8,
        u8::from(publish.retain),
        publish.packet_id,
        publish.topic,
        publish.payload.len()
    )
}
