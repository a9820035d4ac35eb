//! The properties of a message on its way through the broker, and what CONNECT asks about properties.
mod support;

use support::*;

/// A version 5 subscriber on `topic`, and a publisher.
fn pair(broker: &Broker, topic: &str) -> (Client, Client) {
    let mut subscriber = Client::new(broker, Version::V5);
    subscriber.subscribe(topic, 2);
    (subscriber, Client::new(broker, Version::V5))
}

/// The properties sorted by id, those with the same id in their order.
fn by_id(properties: &Properties) -> Vec<(u8, Value)> {
    let mut list = properties.0.clone();
    list.sort_by_key(|(id, _)| *id);
    list
}

#[test]
fn every_property_of_a_message_is_passed_on_unchanged() {
    each_broker(|broker| {
        let topic = unique("all");
        let (mut subscriber, mut publisher) = pair(broker, &topic);
        for qos in 0..=2 {
            let message = Publish::new(&topic, "€")
                .qos(qos)
                .property(prop::USER, ("first", "1"))
                .property(prop::CORRELATION_DATA, &[0_u8, 255, 10, 0][..])
                .property(prop::RESPONSE_TOPIC, "reply/ü/here")
                .property(prop::CONTENT_TYPE, "text/plain; charset=utf-8")
                .property(prop::USER, ("second", "2"))
                .property(prop::PAYLOAD_FORMAT, 1_u8);
            publisher.publish_with(&message);
            let got = subscriber.expect_message(&topic, "€");
            assert_eq!(by_id(&got.properties), by_id(&message.properties));
        }
    });
}

#[test]
fn each_property_is_passed_on_alone_and_at_its_extremes() {
    each_broker(|broker| {
        let topic = unique("alone");
        let (mut subscriber, mut publisher) = pair(broker, &topic);
        let long_text = "ü".repeat(32_767);
        let long_bytes = vec![0xff_u8; 65_535];
        let cases: [(u8, Value); 12] = [
            (prop::PAYLOAD_FORMAT, 0_u8.into()),
            (prop::PAYLOAD_FORMAT, 1_u8.into()),
            (prop::CONTENT_TYPE, "".into()),
            (prop::CONTENT_TYPE, long_text.as_str().into()),
            (prop::RESPONSE_TOPIC, "r".into()),
            (prop::RESPONSE_TOPIC, "/".into()),
            (prop::RESPONSE_TOPIC, long_text.as_str().into()),
            (prop::CORRELATION_DATA, (&[] as &[u8]).into()),
            (prop::CORRELATION_DATA, long_bytes.as_slice().into()),
            (prop::USER, ("", "").into()),
            (prop::USER, ("", long_text.as_str()).into()),
            (prop::USER, (long_text.as_str(), "\u{feff}").into()),
        ];
        for (id, value) in cases {
            let properties = Properties(vec![(id, value)]);
            publisher.publish_with(&Publish {
                properties: properties.clone(),
                ..Publish::new(&topic, "x").qos(1)
            });
            let got = subscriber.expect_message(&topic, "x");
            assert!(got.properties == properties, "property 0x{id:02x} changed");
        }
    });
}

#[test]
fn user_properties_keep_their_order_and_their_repetitions() {
    each_broker(|broker| {
        let topic = unique("user");
        let (mut subscriber, mut publisher) = pair(broker, &topic);
        let mut pairs: Vec<(String, String)> =
            (0..500).map(|n| (format!("n{}", n % 7), format!("{n}"))).collect();
        pairs.extend(
            [("z", "same"), ("a", "same"), ("z", "same"), ("z", "same"), ("", ""), ("Ω", "ω")].map(owned),
        );
        let mut message = Publish::new(&topic, "x").qos(1);
        for (name, value) in &pairs {
            message = message.property(prop::USER, (name.as_str(), value.as_str()));
        }
        publisher.publish_with(&message);
        let got = subscriber.expect_message(&topic, "x");
        assert!(got.properties.user().into_iter().map(owned).eq(pairs), "{:?}", got.properties);
    });
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.into(), value.into())
}

#[test]
fn a_request_finds_its_response() {
    each_broker(|broker| {
        let (question, answer) = (unique("question"), unique("answer"));
        let (mut responder, mut requester) = pair(broker, &question);
        requester.subscribe(&answer, 1);
        let request = Publish::new(&question, "2+2")
            .qos(1)
            .property(prop::RESPONSE_TOPIC, answer.as_str())
            .property(prop::CORRELATION_DATA, &b"nr 1"[..]);
        requester.publish_with(&request);
        let request = responder.expect_message(&question, "2+2");
        let (to, data) = (&request.properties, prop::CORRELATION_DATA);
        let response =
            Publish::new(to.text(prop::RESPONSE_TOPIC).unwrap(), "4").property(data, to.bytes(data).unwrap());
        responder.publish_with(&response);
        assert_eq!(requester.expect_message(&answer, "4").properties.bytes(data), Some(&b"nr 1"[..]));
    });
}

#[test]
fn payloads_are_checked_against_payload_format_1_and_refused_with_0x99() {
    each_broker(|broker| {
        let topic = unique("format");
        let (mut subscriber, mut publisher) = pair(broker, &topic);
        let bad: [&[u8]; 7] = [
            &[0xff],
            &[0xc0, 0x80],
            &[0xed, 0xa0, 0x80],
            &[0xf4, 0x90, 0x80, 0x80],
            &[b'a', 0xe2, 0x82],
            &[0x80],
            &[b'x', 0xf0, 0x9d, 0x84, b'y'],
        ];
        for payload in bad {
            let message = Publish::new(&topic, payload).property(prop::PAYLOAD_FORMAT, 1_u8);
            publisher.send_publish(&message.clone().qos(1).id(1));
            publisher.expect_ack_code(Kind::Puback, 1, 0x99);
            publisher.send_publish(&message.qos(2).id(2));
            publisher.expect_ack_code(Kind::Pubrec, 2, 0x99);
        }
        publisher.publish(&topic, 1, END);
        assert_eq!(subscriber.messages_until_end(), []);
    });
}

#[test]
fn a_qos_0_payload_that_breaks_its_format_is_not_delivered() {
    each_broker(|broker| {
        let topic = unique("format0");
        let (mut subscriber, mut publisher) = pair(broker, &topic);
        publisher.send_publish(&Publish::new(&topic, [0xff]).property(prop::PAYLOAD_FORMAT, 1_u8));
        // There is no acknowledgement to say it in: the broker may drop the message or end the connection.
        publisher.send(&ping());
        match publisher.try_receive() {
            Some(Packet::Pingresp) => publisher.publish(&topic, 0, END),
            Some(Packet::Disconnect { code: 0x99, .. }) => {
                Client::new(broker, Version::V5).publish(&topic, 0, END)
            }
            other => panic!("expected PINGRESP or DISCONNECT 0x99, got {other:?}"),
        }
        assert_eq!(subscriber.messages_until_end(), []);
    });
}

#[test]
fn odd_but_valid_utf_8_fulfils_payload_format_1_and_anything_format_0() {
    each_broker(|broker| {
        let topic = unique("valid");
        let (mut subscriber, mut publisher) = pair(broker, &topic);
        for payload in ["", "\0", "\u{feff}", "\u{10ffff}", "\u{d7ff}\u{e000}", "a\u{301}", "\u{fffe}"] {
            publisher
                .publish_with(&Publish::new(&topic, payload).qos(1).property(prop::PAYLOAD_FORMAT, 1_u8));
            subscriber.expect_message(&topic, payload);
        }
        publisher
            .publish_with(&Publish::new(&topic, [0xff, 0xfe]).qos(1).property(prop::PAYLOAD_FORMAT, 0_u8));
        assert_eq!(subscriber.expect_publish().payload, [0xff, 0xfe]);
    });
}

#[test]
fn a_payload_format_other_than_0_and_1_closes_the_connection() {
    each_broker(|broker| {
        for format in [2_u8, 255] {
            let mut client = Client::new(broker, Version::V5);
            client.send_publish(&Publish::new("a/b", "x").property(prop::PAYLOAD_FORMAT, format));
            client.expect_disconnect_in(&[0x81, 0x82]);
        }
    });
}

#[test]
fn a_response_topic_with_wildcards_or_without_characters_closes_the_connection() {
    each_broker(|broker| {
        for topic in ["#", "a/+", "+", "a/#", "x+", ""] {
            let mut client = Client::new(broker, Version::V5);
            client.send_publish(&Publish::new("a/b", "x").property(prop::RESPONSE_TOPIC, topic));
            client.expect_disconnect_in(&[0x81, 0x82, 0x90]);
        }
    });
}

#[test]
fn a_property_that_may_come_once_and_comes_twice_is_a_protocol_error() {
    each_broker(|broker| {
        let twice: [(u8, Value); 6] = [
            (prop::PAYLOAD_FORMAT, 1_u8.into()),
            (prop::MESSAGE_EXPIRY, 10_u32.into()),
            (prop::TOPIC_ALIAS, 1_u16.into()),
            (prop::RESPONSE_TOPIC, "r".into()),
            (prop::CORRELATION_DATA, (&[1_u8][..]).into()),
            (prop::CONTENT_TYPE, "t".into()),
        ];
        for (id, value) in twice {
            let properties = Properties(vec![(id, value.clone()), (id, value)]);
            let mut client = Client::new(broker, Version::V5);
            client.send_publish(&Publish { properties, ..Publish::new("a/b", "x") });
            client.expect_disconnect(0x82);
        }
    });
}

/// Asks for answers with all kinds of reason codes and returns the properties they had.
fn provoke_answers(client: &mut Client) -> Vec<Properties> {
    let topic = unique("answers");
    let mut all = Vec::new();
    let deep = "/".repeat(60_000);
    client.send(&subscribe(Version::V5, 1, &[(&topic, 1), (&deep, 1)]));
    client.send(&unsubscribe(Version::V5, 2, &[&topic, &topic]));
    client.send_publish(&Publish::new(&topic, "").qos(1).id(3));
    client.send_publish(&Publish::new(&topic, [0xff]).qos(1).id(4).property(prop::PAYLOAD_FORMAT, 1_u8));
    client.send_publish(&Publish::new(&topic, [0xff]).qos(2).id(5).property(prop::PAYLOAD_FORMAT, 1_u8));
    client.ack(Kind::Pubrel, 6);
    client.ack(Kind::Pubrec, 7);
    for _ in 0..7 {
        match client.receive() {
            Packet::Ack(ack) => all.push(ack.properties),
            Packet::Suback { properties, .. } | Packet::Unsuback { properties, .. } => all.push(properties),
            other => panic!("expected an answer, got {other:?}"),
        }
    }
    all
}

#[test]
fn without_problem_information_no_acknowledgement_has_reason_string_or_user_properties() {
    each_broker(|broker| {
        let connect = Connect::new(Version::V5, &unique("quiet")).property(prop::REQUEST_PROBLEM_INFO, 0_u8);
        let mut client = Client::connect(broker, &connect);
        for properties in provoke_answers(&mut client) {
            assert_eq!(properties, Properties::new());
        }
    });
}

#[test]
fn acknowledgements_keep_within_the_clients_maximum_packet_size() {
    each_broker(|broker| {
        // As small as the broker's CONNACK allows.
        let (_, _, limits) = Client::connect_with(broker, &Connect::new(Version::V5, &unique("any")));
        let connack = packet(0x20, &[vec![0, 0], limits.encode()].concat()).len().max(20);
        let maximum = connack as u32;
        let connect =
            Connect::new(Version::V5, &unique("narrow")).property(prop::MAXIMUM_PACKET_SIZE, maximum);
        let mut client = Client::connect(broker, &connect);
        for properties in provoke_answers(&mut client) {
            // Fixed header, packet id, code and, in SUBACK and UNSUBACK, two codes.
            assert!(properties.encode().len() + 2 + 2 + 2 <= connack, "{properties:?}");
        }
    });
}

#[test]
fn without_problem_information_messages_keep_their_user_properties() {
    each_broker(|broker| {
        let topic = unique("still");
        let connect = Connect::new(Version::V5, &unique("quiet")).property(prop::REQUEST_PROBLEM_INFO, 0_u8);
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe(&topic, 0);
        let message = Publish::new(&topic, "x").property(prop::USER, ("name", "value"));
        Client::new(broker, Version::V5).publish_with(&message);
        assert_eq!(subscriber.expect_message(&topic, "x").properties.user(), [("name", "value")]);
    });
}

#[test]
fn response_information_comes_only_when_it_is_asked_for() {
    each_broker(|broker| {
        let connect = || Connect::new(Version::V5, &unique("asking"));
        for connect in [connect(), connect().property(prop::REQUEST_RESPONSE_INFO, 0_u8)] {
            let (_, _, properties) = Client::connect_with(broker, &connect);
            assert_eq!(properties.get(prop::RESPONSE_INFO), None);
        }
        // Whether there is any is the broker's choice; as the root of a topic it has no wildcards.
        let (_, _, properties) =
            Client::connect_with(broker, &connect().property(prop::REQUEST_RESPONSE_INFO, 1_u8));
        if let Some(information) = properties.text(prop::RESPONSE_INFO) {
            assert!(!information.is_empty() && !information.contains(['+', '#']), "{information:?}");
        }
    });
}

#[test]
fn a_will_has_the_properties_its_client_gave_it() {
    each_broker(|broker| {
        let topic = unique("will");
        let (mut subscriber, _) = pair(broker, &topic);
        let will = Will::new(&topic, "gone")
            .property(prop::USER, ("b", "2"))
            .property(prop::CONTENT_TYPE, "text/plain")
            .property(prop::USER, ("a", "1"))
            .property(prop::USER, ("b", "2"))
            .property(prop::RESPONSE_TOPIC, "reply")
            .property(prop::CORRELATION_DATA, &[1_u8, 2][..])
            .property(prop::PAYLOAD_FORMAT, 1_u8);
        let sent = will.properties.clone();
        Client::connect(broker, &Connect::new(Version::V5, &unique("willing")).will(will)).reset();
        assert_eq!(by_id(&subscriber.expect_message(&topic, "gone").properties), by_id(&sent));
    });
}
