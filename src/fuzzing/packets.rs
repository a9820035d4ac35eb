//! Packets of a client, mostly valid, their fields read off the fuzzer's bytes.
use super::source::Source;
use crate::codec::{
    Ack, Auth, Connect, ConnectProperties, Disconnect, FilterList, MessageProperties, Packet, PacketType,
    Publish, QoS, ReasonCode, Subscribe, SubscribeOptions, SubscriptionIds, Unsubscribe, UnsubscribeList,
    UserPropertiesBuf, Version, Will, cases,
};

const TOPICS: [&str; 12] =
    ["a", "a/b", "b", "a/b/c", "/", "", "a//b", "$SYS/x", "$x/a", "b/b", "c/c/c/c/c/c", "c/c/c/c"];
const FILTERS: [&str; 26] = [
    "a",
    "a/b",
    "#",
    "a/+",
    "+",
    "a/#",
    "+/b",
    "+/+",
    "/",
    "/+",
    "$SYS/#",
    "+/+/+",
    "b",
    "a/b/c",
    "$share/g/a",
    "$share/g/#",
    "$share/h/a/b",
    "$share/h/+",
    "$share/g/+/b",
    "$share/g/b",
    "a//b",
    "b/#",
    "b/b",
    "c/c/c/c/c/c",
    "$x/#",
    "a#",
];
const CLIENT_IDS: [&str; 6] = ["A", "B", "C", "D", "", "E"];
const SECONDS: [u32; 6] = [0, 1, 10, 60, 3600, u32::MAX];
const PAYLOADS: [usize; 8] = [0, 1, 3, 10, 100, 500, 2047, 2100];
const CODES: [ReasonCode; 6] = [
    ReasonCode::Success,
    ReasonCode::UnspecifiedError,
    ReasonCode::PacketIdentifierNotFound,
    ReasonCode::QuotaExceeded,
    ReasonCode::NoMatchingSubscribers,
    ReasonCode::ImplementationSpecificError,
];

fn qos(source: &mut Source<'_>) -> QoS {
    source.choose(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn payload(source: &mut Source<'_>) -> Vec<u8> {
    let fill = source.choose(b"x\xff");
    vec![fill; source.choose(&PAYLOADS)]
}

/// Low ids, so that they meet.
fn packet_id(source: &mut Source<'_>) -> u16 {
    match source.byte() {
        255 => u16::MAX,
        low => u16::from(low % 8) + 1,
    }
}

/// The user property of the messages that have one.
pub(super) fn user_property() -> UserPropertiesBuf {
    let mut pairs = UserPropertiesBuf::new();
    pairs.push("k", "v");
    pairs
}

fn message_properties<'a>(source: &mut Source<'_>, pairs: &'a UserPropertiesBuf) -> MessageProperties<'a> {
    let bits = source.byte();
    if bits < 128 {
        return MessageProperties::default();
    }
    MessageProperties {
        payload_format: (bits & 1 != 0).then_some(1),
        message_expiry: (bits & 2 != 0).then(|| source.choose(&SECONDS)),
        content_type: (bits & 4 != 0).then_some("t"),
        response_topic: (bits & 8 != 0).then_some("r"),
        correlation_data: (bits & 16 != 0).then_some(b"c"),
        user_properties: if bits & 32 != 0 { pairs.as_ref() } else { Default::default() },
    }
}

pub(super) fn connect(source: &mut Source<'_>, out: &mut Vec<u8>) {
    let version = source.choose(&[Version::V5, Version::V311, Version::V5, Version::V31]);
    let pairs = user_property();
    let flags = source.byte();
    let client_id = source.choose(&CLIENT_IDS);
    let mut properties = ConnectProperties::default();
    let more = source.byte();
    if version.is_v5() {
        properties.session_expiry = if flags & 2 != 0 { source.choose(&SECONDS) } else { 0 };
        if more & 1 != 0 {
            properties.receive_maximum = source.choose(&[1, 2, 3, u16::MAX]);
        }
        if more & 2 != 0 {
            properties.maximum_packet_size = Some(source.choose(&[1, 2, 5, 12, 25, 40, 100, 2200]));
        }
        if more & 4 != 0 {
            properties.topic_alias_maximum = source.choose(&[1, 2, 100]);
        }
        if more & 8 != 0 {
            properties.authentication_method = Some(source.choose(&["RINGMQ-TEST", "RINGMQ-TEST", "other"]));
            properties.authentication_data = source.choose(&[Some(&b"hello"[..]), None, Some(b"x")]);
        }
        properties.request_response_information = more & 16 != 0;
    }
    let (topic, will_payload);
    let will = if flags & 4 != 0 {
        topic = source.choose(&TOPICS);
        will_payload = payload(source);
        let message = message_properties(source, &pairs);
        let properties = if version.is_v5() { message } else { MessageProperties::default() };
        let delay = if version.is_v5() { source.choose(&SECONDS) } else { 0 };
        Some(Will {
            qos: qos(source),
            retain: flags & 8 != 0,
            topic,
            payload: &will_payload,
            delay,
            properties,
        })
    } else {
        None
    };
    let keep_alive = if flags & 16 != 0 { source.choose(&[1, 10, 60, u16::MAX]) } else { 0 };
    let username = (flags & 32 != 0).then_some("u");
    let password = (flags & 96 == 96).then_some(&b"p"[..]);
    let clean_start = flags & 1 != 0;
    let connect =
        Connect { version, clean_start, keep_alive, client_id, will, username, password, properties };
    connect.encode(version, out);
}

pub(super) fn publish(source: &mut Source<'_>, version: Version, out: &mut Vec<u8>) {
    let pairs = user_property();
    let bits = source.byte();
    let qos = qos(source);
    let topic = source.choose(&TOPICS);
    let packet_id = if qos == QoS::AtMostOnce { 0 } else { packet_id(source) };
    let topic_alias = (version.is_v5() && bits & 4 != 0).then(|| source.choose(&[1, 2, 3, 4, 5]));
    let properties =
        if version.is_v5() { message_properties(source, &pairs) } else { MessageProperties::default() };
    let payload = payload(source);
    let publish = Publish {
        dup: bits & 1 != 0 && qos != QoS::AtMostOnce,
        qos,
        retain: bits & 2 != 0,
        topic,
        packet_id,
        topic_alias,
        subscription_ids: SubscriptionIds::default(),
        properties,
        payload: &payload,
    };
    publish.encode(version, out);
}

/// A large packet that is not finished, or not soon.
pub(super) fn begin(source: &mut Source<'_>, out: &mut Vec<u8>) {
    let (length, begun) = source.choose(&[(5000, 4500), (70_000, 1), (70_000, 69_000)]);
    let payload = vec![b'x'; length];
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "a",
        packet_id: 0,
        topic_alias: None,
        subscription_ids: SubscriptionIds::default(),
        properties: MessageProperties::default(),
        payload: &payload,
    };
    let before = out.len();
    publish.encode(Version::V5, out);
    out.truncate(before + begun);
}

/// What the fast path takes: the same plain message several times.
pub(super) fn run(source: &mut Source<'_>, version: Version, out: &mut Vec<u8>) {
    let topic = source.choose(&TOPICS);
    let payload = payload(source);
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        packet_id: 0,
        topic_alias: None,
        subscription_ids: SubscriptionIds::default(),
        properties: MessageProperties::default(),
        payload: &payload,
    };
    for _ in 0..source.below(6) + 1 {
        publish.encode(version, out);
    }
}

pub(super) fn subscribe(source: &mut Source<'_>, version: Version, out: &mut Vec<u8>) {
    let mut filters = FilterList::new();
    for _ in 0..source.choose(&[1, 1, 2, 5]) {
        let bits = source.byte();
        let options = SubscribeOptions {
            qos: qos(source),
            no_local: bits & 7 == 7,
            retain_as_published: bits & 8 != 0,
            retain_handling: (bits >> 4) % 3,
        };
        filters.push(source.choose(&FILTERS), options);
    }
    let id = source.choose(&[None, None, Some(1), Some(2), Some(268_435_455)]).filter(|_| version.is_v5());
    Subscribe::new(packet_id(source), id, &filters).encode(version, out);
}

pub(super) fn unsubscribe(source: &mut Source<'_>, version: Version, out: &mut Vec<u8>) {
    let mut filters = UnsubscribeList::new();
    for _ in 0..source.choose(&[1, 1, 2, 5]) {
        filters.push(source.choose(&FILTERS));
    }
    Unsubscribe::new(packet_id(source), &filters).encode(version, out);
}

/// An acknowledgement of anything.
pub(super) fn any_ack(source: &mut Source<'_>, version: Version, out: &mut Vec<u8>) {
    let packet =
        source.choose(&[PacketType::PubAck, PacketType::PubRec, PacketType::PubRel, PacketType::PubComp]);
    let reason = source.choose(&CODES);
    let reason = if reason.listed_for(packet) { reason } else { ReasonCode::Success };
    Ack::with(packet_id(source), reason).encode(packet, version, out);
}

pub(super) fn disconnect(source: &mut Source<'_>, version: Version, out: &mut Vec<u8>) {
    let reason =
        source.choose(&[ReasonCode::Success, ReasonCode::DisconnectWithWill, ReasonCode::UnspecifiedError]);
    let session_expiry = source.choose(&[None, None, Some(0), Some(1), Some(100), Some(u32::MAX)]);
    Disconnect { session_expiry, ..Disconnect::new(reason) }.encode(version, out);
}

pub(super) fn auth(source: &mut Source<'_>, out: &mut Vec<u8>) {
    let reason =
        source.choose(&[ReasonCode::ContinueAuthentication, ReasonCode::ReAuthenticate, ReasonCode::Success]);
    let method = source.choose(&["RINGMQ-TEST", "RINGMQ-TEST", "RINGMQ-TEST", "other"]);
    let data = source.choose(&[Some(&b"response"[..]), Some(b"hello"), None, Some(b"x")]);
    Auth::new(reason, method, data).encode(Version::V5, out);
}

/// A packet of the table that the tests of all layers share; most of them are wrong in one way.
pub(super) fn case(source: &mut Source<'_>, out: &mut Vec<u8>) {
    let number = usize::from(source.byte()) << 8 | usize::from(source.byte());
    let count = cases::all().count();
    out.extend_from_slice(cases::all().nth(number % count).expect("the number is below the count").bytes);
}

pub(super) fn ping(out: &mut Vec<u8>) {
    Packet::PingReq.encode(Version::V5, out);
}
