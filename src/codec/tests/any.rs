//! Any control packet, and that it is read as it was written.
use super::super::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Test data lives as long as the test program: packets borrow, and a strategy must own what it gives away.
fn keep<T: ?Sized>(value: Box<T>) -> &'static T {
    Box::leak(value)
}

fn character() -> impl Strategy<Value = char> {
    prop_oneof![3 => prop::char::range('a', 'f'), 1 => Just('/'), 1 => Just('\u{feff}'), 1 => any::<char>()]
        .prop_map(|c| if c == '\0' { '\u{1}' } else { c })
}

fn text() -> impl Strategy<Value = &'static str> {
    vec(character(), 0..12).prop_map(|chars| keep(chars.into_iter().collect::<String>().into_boxed_str()))
}

fn topic() -> impl Strategy<Value = &'static str> {
    vec(character(), 1..12).prop_map(|chars| {
        let name: String = chars.into_iter().map(|c| if c == '+' || c == '#' { '/' } else { c }).collect();
        keep(name.into_boxed_str())
    })
}

fn data() -> impl Strategy<Value = &'static [u8]> {
    prop_oneof![9 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 100..20_000)]
        .prop_map(|bytes| keep(bytes.into_boxed_slice()))
}

fn user_properties() -> impl Strategy<Value = UserProperties<'static>> {
    vec((text(), text()), 0..4).prop_map(|pairs| {
        let mut buf = UserPropertiesBuf::new();
        for (name, value) in &pairs {
            buf.push(name, value);
        }
        let properties = UserProperties::from_encoded(keep(buf.as_bytes().into()));
        assert!(properties.iter().eq(pairs));
        properties
    })
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn packet_id() -> impl Strategy<Value = u16> {
    1..=u16::MAX
}

/// A reason code listed for `packet`; only success where the version has none.
fn reason(packet: PacketType, version: Version) -> impl Strategy<Value = ReasonCode> {
    let listed: Vec<ReasonCode> = ReasonCode::ALL
        .iter()
        .copied()
        .filter(|reason| reason.listed_for(packet) && (version.is_v5() || *reason == ReasonCode::Success))
        .collect();
    prop::sample::select(listed)
}

fn message_properties() -> impl Strategy<Value = MessageProperties<'static>> {
    (
        option::of(0..=1u8),
        option::of(any::<u32>()),
        option::of(text()),
        option::of(topic()),
        option::of(data()),
        user_properties(),
    )
        .prop_map(
            |(
                payload_format,
                message_expiry,
                content_type,
                response_topic,
                correlation_data,
                user_properties,
            )| {
                MessageProperties {
                    payload_format,
                    message_expiry,
                    content_type,
                    response_topic,
                    correlation_data,
                    user_properties,
                }
            },
        )
}

fn will(version: Version) -> impl Strategy<Value = Will<'static>> {
    (qos(), any::<bool>(), topic(), data(), any::<u32>(), message_properties()).prop_map(
        move |(qos, retain, topic, payload, delay, properties)| {
            let will = Will { qos, retain, topic, payload, delay, properties };
            if version.is_v5() { will } else { Will { delay: 0, properties: Default::default(), ..will } }
        },
    )
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties<'static>> {
    let numbers = (any::<u32>(), 1..=u16::MAX, option::of(1..=u32::MAX), any::<u16>());
    let flags = (any::<bool>(), any::<bool>());
    (numbers, flags, user_properties(), option::of((text(), option::of(data())))).prop_map(
        |(
            (session_expiry, receive_maximum, maximum_packet_size, topic_alias_maximum),
            flags,
            user,
            method,
        )| {
            ConnectProperties {
                session_expiry,
                receive_maximum,
                maximum_packet_size,
                topic_alias_maximum,
                request_response_information: flags.0,
                request_problem_information: flags.1,
                user_properties: user,
                authentication_method: method.map(|(method, _)| method),
                authentication_data: method.and_then(|(_, data)| data),
            }
        },
    )
}

fn connect(version: Version) -> impl Strategy<Value = Packet<'static>> {
    (
        (any::<bool>(), any::<u16>(), text()),
        option::of(will(version)),
        (option::of(text()), option::of(data())),
        connect_properties(),
    )
        .prop_map(
            move |((clean_start, keep_alive, client_id), will, (username, password), properties)| {
                Packet::Connect(Connect {
                    version,
                    clean_start,
                    keep_alive,
                    client_id,
                    will,
                    username,
                    password: password.filter(|_| version.is_v5() || username.is_some()),
                    properties: if version.is_v5() { properties } else { ConnectProperties::default() },
                })
            },
        )
}

fn connack(version: Version) -> impl Strategy<Value = Packet<'static>> {
    let reason = ReasonCode::ALL
        .iter()
        .copied()
        .filter(|reason| {
            let survives = ReasonCode::from_connack_3(reason.connack_3()) == Some(*reason);
            reason.listed_for(PacketType::ConnAck) && (version.is_v5() || survives)
        })
        .collect::<Vec<_>>();
    let limits = (
        option::of(any::<u32>()),
        option::of(1..=u16::MAX),
        option::of(0..=1u8),
        option::of(1..=u32::MAX),
        option::of(any::<u16>()),
        option::of(any::<u16>()),
    );
    let available = prop::array::uniform4(option::of(any::<bool>()));
    let texts = prop::array::uniform5(option::of(text()));
    let rest = (user_properties(), option::of(data()));
    (any::<bool>(), prop::sample::select(reason), limits, available, texts, rest).prop_map(
        move |(session_present, reason, limits, available, texts, rest)| {
            let properties = ConnAckProperties {
                session_expiry: limits.0,
                receive_maximum: limits.1,
                maximum_qos: limits.2,
                maximum_packet_size: limits.3,
                topic_alias_maximum: limits.4,
                server_keep_alive: limits.5,
                retain_available: available[0],
                wildcard_available: available[1],
                subscription_ids_available: available[2],
                shared_available: available[3],
                assigned_client_id: texts[0],
                reason_string: texts[1],
                response_information: texts[2],
                server_reference: texts[3],
                authentication_method: texts[4],
                user_properties: rest.0,
                authentication_data: rest.1,
            };
            let properties = if version.is_v5() { properties } else { ConnAckProperties::default() };
            Packet::ConnAck(ConnAck { session_present, reason, properties })
        },
    )
}

pub(super) fn publish(version: Version) -> impl Strategy<Value = Publish<'static>> {
    let alias = option::of(1..=u16::MAX);
    (
        (any::<bool>(), qos(), any::<bool>()),
        topic(),
        packet_id(),
        alias,
        any::<bool>(),
        message_properties(),
        data(),
    )
        .prop_map(move |((dup, qos, retain), topic, packet_id, alias, named, properties, payload)| {
            let topic_alias = alias.filter(|_| version.is_v5());
            Publish {
                dup: dup && qos != QoS::AtMostOnce,
                qos,
                retain,
                topic: if topic_alias.is_some() && !named { "" } else { topic },
                packet_id: if qos == QoS::AtMostOnce { 0 } else { packet_id },
                topic_alias,
                subscription_ids: SubscriptionIds::default(),
                properties: if version.is_v5() { properties } else { MessageProperties::default() },
                payload,
            }
        })
}

fn ack(packet: PacketType, version: Version) -> impl Strategy<Value = Packet<'static>> {
    (packet_id(), reason(packet, version), option::of(text()), user_properties()).prop_map(
        move |(packet_id, reason, reason_string, user_properties)| {
            let mut ack = Ack::with(packet_id, reason);
            if version.is_v5() {
                ack = Ack { reason_string, user_properties, ..ack };
            }
            match packet {
                PacketType::PubAck => Packet::PubAck(ack),
                PacketType::PubRec => Packet::PubRec(ack),
                PacketType::PubRel => Packet::PubRel(ack),
                _ => Packet::PubComp(ack),
            }
        },
    )
}

fn subscribe(version: Version) -> impl Strategy<Value = Packet<'static>> {
    let options = (qos(), any::<bool>(), any::<bool>(), 0..=2u8);
    let id = option::of(1..=primitives::MAX_VARINT);
    (packet_id(), id, user_properties(), vec((text(), options), 1..5)).prop_map(
        move |(packet_id, id, user_properties, filters)| {
            let mut list = FilterList::new();
            for (filter, (qos, no_local, retain_as_published, retain_handling)) in filters {
                let options = SubscribeOptions { qos, no_local, retain_as_published, retain_handling };
                list.push(filter, if version.is_v5() { options } else { SubscribeOptions::new(qos) });
            }
            let mut subscribe =
                Subscribe::new(packet_id, id.filter(|_| version.is_v5()), keep(Box::new(list)));
            if version.is_v5() {
                subscribe.user_properties = user_properties;
            }
            Packet::Subscribe(subscribe)
        },
    )
}

fn unsubscribe(version: Version) -> impl Strategy<Value = Packet<'static>> {
    (packet_id(), user_properties(), vec(text(), 1..5)).prop_map(
        move |(packet_id, user_properties, filters)| {
            let mut list = UnsubscribeList::new();
            filters.iter().for_each(|filter| list.push(filter));
            let mut unsubscribe = Unsubscribe::new(packet_id, keep(Box::new(list)));
            assert!(unsubscribe.filters().eq(filters));
            if version.is_v5() {
                unsubscribe.user_properties = user_properties;
            }
            Packet::Unsubscribe(unsubscribe)
        },
    )
}

fn suback(packet: PacketType, version: Version) -> impl Strategy<Value = Packet<'static>> {
    let codes: Vec<u8> = match (packet, version.is_v5()) {
        (PacketType::SubAck, false) => vec![0, 1, 2, 0x80],
        _ => ReasonCode::ALL.iter().filter(|r| r.listed_for(packet)).map(|r| r.code()).collect(),
    };
    let codes = vec(prop::sample::select(codes), 1..6);
    (packet_id(), option::of(text()), user_properties(), codes).prop_map(
        move |(packet_id, reason_string, user_properties, codes)| {
            let is_v5 = version.is_v5();
            let reason_string = reason_string.filter(|_| is_v5);
            let user_properties = if is_v5 { user_properties } else { UserProperties::default() };
            let reasons: &[u8] = keep(codes.into_boxed_slice());
            if packet == PacketType::SubAck {
                Packet::SubAck(SubAck { packet_id, reason_string, user_properties, reasons })
            } else {
                let reasons = if is_v5 { reasons } else { &[] };
                Packet::UnsubAck(UnsubAck { packet_id, reason_string, user_properties, reasons })
            }
        },
    )
}

fn disconnect(version: Version) -> impl Strategy<Value = Packet<'static>> {
    let texts = (option::of(text()), option::of(text()));
    (reason(PacketType::Disconnect, version), option::of(any::<u32>()), texts, user_properties()).prop_map(
        move |(reason, session_expiry, (reason_string, server_reference), user_properties)| {
            Packet::Disconnect(if version.is_v5() {
                Disconnect { reason, session_expiry, reason_string, server_reference, user_properties }
            } else {
                Disconnect::new(reason)
            })
        },
    )
}

fn auth() -> impl Strategy<Value = Packet<'static>> {
    let texts = (text(), option::of(text()));
    (reason(PacketType::Auth, Version::V5), texts, option::of(data()), user_properties()).prop_map(
        |(reason, (method, reason_string), data, user_properties)| {
            Packet::Auth(Auth { reason_string, user_properties, ..Auth::new(reason, method, data) })
        },
    )
}

pub(super) fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V31), Just(Version::V311), Just(Version::V5)]
}

/// Any packet of that version.
pub(super) fn packet(version: Version) -> BoxedStrategy<Packet<'static>> {
    let old = prop_oneof![
        connect(version),
        connack(version),
        publish(version).prop_map(Packet::Publish),
        ack(PacketType::PubAck, version),
        ack(PacketType::PubRec, version),
        ack(PacketType::PubRel, version),
        ack(PacketType::PubComp, version),
        subscribe(version),
        unsubscribe(version),
        suback(PacketType::SubAck, version),
        suback(PacketType::UnsubAck, version),
        disconnect(version),
        prop_oneof![Just(Packet::PingReq), Just(Packet::PingResp)],
    ];
    if version.is_v5() { prop_oneof![12 => old, 1 => auth()].boxed() } else { old.boxed() }
}

pub(super) fn packet_and_version() -> impl Strategy<Value = (Packet<'static>, Version)> {
    version().prop_flat_map(|version| (packet(version), Just(version)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_written_is_read((packet, version) in packet_and_version()) {
        let mut bytes = vec![0xAA];
        packet.encode(version, &mut bytes);
        prop_assert_eq!(bytes[0], 0xAA, "encoding appends");
        let Ok(Cut::Frame(frame)) = cut(&bytes[1..], MAX_PACKET) else {
            panic!("{packet:?} is written as something that is no frame");
        };
        prop_assert_eq!(frame.bytes.len(), bytes.len() - 1);
        prop_assert_eq!(decode(frame, version), Ok(packet));
    }
}
