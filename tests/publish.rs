//! PUBLISH from a client to the subscribers: who gets it, and that it arrives as it was sent.
mod support;

use std::thread;
use support::*;

#[test]
fn a_message_reaches_every_matching_subscriber_and_nobody_else() {
    each_version(|broker, version| {
        let topic = unique("fan");
        let mut subscribers: Vec<Client> = (0..5).map(|_| Client::new(broker, version)).collect();
        for subscriber in &mut subscribers {
            subscriber.subscribe(&topic, 1);
        }
        let mut other = Client::new(broker, version);
        other.subscribe(&format!("{topic}/other"), 1);
        let mut publisher = Client::new(broker, version);
        publisher.publish(&topic, 1, "for five");
        publisher.publish(&format!("{topic}/other"), 1, END);
        for subscriber in &mut subscribers {
            subscriber.expect_message(&topic, "for five");
        }
        assert_eq!(other.messages_until_end(), []);
    });
}

#[test]
fn a_publish_is_answered_as_its_qos_demands() {
    each_version(|broker, version| {
        let topic = unique("answer");
        let mut client = Client::new(broker, version);
        client.send_publish(&Publish::new(&topic, "0"));
        client.expect_nothing_until_ping();
        client.send_publish(&Publish::new(&topic, "1").qos(1).id(9));
        client.expect_ack(Kind::Puback, 9);
        client.expect_nothing_until_ping();
        client.send_publish(&Publish::new(&topic, "2").qos(2).id(11));
        client.expect_ack(Kind::Pubrec, 11);
        client.expect_nothing_until_ping();
        client.ack(Kind::Pubrel, 11);
        client.expect_ack(Kind::Pubcomp, 11);
        client.expect_nothing_until_ping();
    });
}

#[test]
fn a_payload_arrives_byte_for_byte_at_each_qos() {
    each_version(|broker, version| {
        let topic = unique("bytes");
        let mut subscriber = Client::new(broker, version);
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, version);
        let every_byte: Vec<u8> = (0..=255).collect();
        let like_packets = [ping(), subscribe(version, 1, &[("#", 2)]), vec![0; 40]].concat();
        for payload in
            [vec![], vec![0], vec![0xff; 3], every_byte, like_packets, vec![0x80; 127], vec![1; 16_384]]
        {
            for qos in 0..=2 {
                publisher.publish(&topic, qos, &payload);
                let got = subscriber.expect_publish();
                subscriber.finish(&got);
                assert_eq!((got.payload, got.qos, got.retain, got.dup), (payload.clone(), qos, false, false));
            }
        }
    });
}

#[test]
fn a_megabyte_arrives_intact_at_every_subscriber_and_qos() {
    each_version(|broker, version| {
        let topic = unique("large");
        let mut subscribers: Vec<Client> = (0..3).map(|_| Client::new(broker, version)).collect();
        for (qos, subscriber) in (0..).zip(&mut subscribers) {
            subscriber.subscribe(&topic, qos);
        }
        let mut publisher = Client::new(broker, version);
        for qos in 0..=2 {
            let payload = noise(1024 * 1024 + usize::from(qos));
            publisher.publish(&topic, qos, &payload);
            for (granted, subscriber) in (0..).zip(&mut subscribers) {
                let got = subscriber.expect_publish();
                subscriber.finish(&got);
                assert_eq!(got.qos, qos.min(granted));
                assert!(got.payload == payload, "{} bytes came back changed", got.payload.len());
            }
        }
    });
}

/// Bytes without a pattern that a shifted or repeated piece could hide in.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn ten_thousand_small_messages_of_mixed_qos_arrive_intact_and_once() {
    const MESSAGES: usize = 9_999;
    const BATCH: usize = 300;
    each_version(|broker, version| {
        let topic = unique("burst");
        let mut subscriber = Client::new(broker, version);
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, version);
        thread::scope(|scope| {
            let got = scope.spawn(|| subscriber.messages(MESSAGES));
            for batch in (0..MESSAGES).collect::<Vec<_>>().chunks(BATCH) {
                publish_batch(&mut publisher, &topic, batch);
            }
            let got = got.join().unwrap();
            for qos in 0..=2 {
                let of_qos: Vec<&Publish> = got.iter().filter(|message| message.qos == qos).collect();
                let wanted =
                    (0..MESSAGES).filter(|n| n % 3 == usize::from(qos)).map(|n| format!("message {n}"));
                let texts = of_qos.iter().map(|message| String::from_utf8(message.payload.clone()).unwrap());
                assert!(texts.eq(wanted), "QoS {qos}: something is missing, doubled or out of order");
            }
        });
    });
}

/// Publishes these numbers with QoS number % 3 in one write and sees all handshakes to their end.
fn publish_batch(publisher: &mut Client, topic: &str, numbers: &[usize]) {
    let mut bytes = Vec::new();
    for n in numbers {
        let qos = (n % 3) as u8;
        let mut message = Publish::new(topic, format!("message {n}")).qos(qos);
        message.id = (qos > 0).then_some(*n as u16 + 1);
        bytes.extend(publish(publisher.version, &message));
    }
    publisher.send(&bytes);
    let mut unsettled = numbers.iter().filter(|n| *n % 3 > 0).count();
    while unsettled > 0 {
        match publisher.receive() {
            Packet::Ack(ack) if ack.kind == Kind::Pubrec && ack.code < 0x80 => {
                publisher.ack(Kind::Pubrel, ack.id)
            }
            Packet::Ack(ack) if ack.kind != Kind::Pubrel && ack.code < 0x80 => unsettled -= 1,
            other => panic!("expected an acknowledgement, got {other:?}"),
        }
    }
}

#[test]
fn a_packet_that_comes_byte_by_byte_counts_like_any_other() {
    each_version(|broker, version| {
        let topic = unique("torn");
        let mut subscriber = Client::new(broker, version);
        subscriber.subscribe(&topic, 1);
        let mut publisher = Client::new(broker, version);
        for byte in publish(version, &Publish::new(&topic, "piece by piece").qos(1).id(5)) {
            publisher.send(&[byte]);
        }
        publisher.expect_ack(Kind::Puback, 5);
        subscriber.expect_message(&topic, "piece by piece");
    });
}

#[test]
fn packets_torn_at_every_place_arrive_whole() {
    each_version(|broker, version| {
        let topic = unique("cuts");
        let mut subscriber = Client::new(broker, version);
        subscriber.subscribe(&topic, 0);
        let mut publisher = Client::new(broker, version);
        let mut bystander = Client::new(broker, version);
        let pair = [Publish::new(&topic, "first"), Publish::new(&topic, "second")];
        let bytes = pair.map(|message| publish(version, &message)).concat();
        for cut in 1..bytes.len() {
            publisher.send(&bytes[..cut]);
            // A round trip beside it gives the broker the time to read the first piece alone.
            bystander.expect_nothing_until_ping();
            publisher.send(&bytes[cut..]);
            subscriber.expect_message(&topic, "first");
            subscriber.expect_message(&topic, "second");
        }
    });
}

#[test]
fn version_5_messages_reach_3_1_1_subscribers_without_their_properties() {
    each_broker(|broker| {
        let topic = unique("down");
        let mut subscriber = Client::new(broker, Version::V4);
        subscriber.subscribe(&topic, 1);
        let mut publisher = Client::new(broker, Version::V5);
        let message = Publish::new(&topic, "plain")
            .qos(1)
            .property(prop::PAYLOAD_FORMAT, 1_u8)
            .property(prop::CONTENT_TYPE, "text/plain")
            .property(prop::USER, ("a", "b"));
        publisher.publish_with(&message);
        subscriber.expect_message(&topic, "plain");
    });
}

#[test]
fn version_3_1_1_messages_reach_version_5_subscribers_without_properties() {
    each_broker(|broker| {
        let topic = unique("up");
        let mut subscriber = Client::new(broker, Version::V5);
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, Version::V4);
        publisher.publish(&topic, 2, "plain");
        assert_eq!(subscriber.expect_message(&topic, "plain").properties, Properties::new());
    });
}

#[test]
fn version_3_1_clients_take_part() {
    each_broker(|broker| {
        let topic = unique("old");
        let mut old = Client::new(broker, Version::V3);
        old.subscribe(&topic, 2);
        let mut new = Client::new(broker, Version::V5);
        new.subscribe(&topic, 2);
        Client::new(broker, Version::V3).publish(&topic, 2, "from 3.1");
        old.expect_message(&topic, "from 3.1");
        new.expect_message(&topic, "from 3.1");
    });
}

#[test]
fn a_message_of_a_publisher_that_disconnects_at_once_is_delivered() {
    each_version(|broker, version| {
        let topic = unique("gone");
        let mut subscriber = Client::new(broker, version);
        subscriber.subscribe(&topic, 2);
        for qos in 0..=2 {
            let mut publisher = Client::new(broker, version);
            let mut message = Publish::new(&topic, format!("last words {qos}")).qos(qos);
            message.id = (qos > 0).then_some(1);
            publisher.send_publish(&message);
            if qos == 2 {
                publisher.ack(Kind::Pubrel, 1);
            }
            publisher.disconnect();
            subscriber.expect_message(&topic, format!("last words {qos}"));
        }
    });
}

#[test]
fn a_client_can_be_its_own_subscriber() {
    each_version(|broker, version| {
        let topic = unique("self");
        let mut client = Client::new(broker, version);
        client.subscribe(&topic, 0);
        for n in 0..10 {
            client.publish(&topic, 0, format!("note {n}"));
            client.expect_message(&topic, format!("note {n}"));
        }
    });
}

#[test]
fn qos_3_closes_the_connection() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version);
        let properties: &[u8] = if version.is_5() { &[0] } else { &[] };
        client.send(&packet(0x36, &[&text("a/b")[..], &[0, 1], properties, b"payload"].concat()));
        client.expect_disconnect(0x81);
    });
}

#[test]
fn qos_0_with_dup_closes_the_connection() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version);
        client.send_publish(&Publish::new("a/b", "twice?").dup());
        client.expect_disconnect_in(&[0x81, 0x82]);
    });
}

#[test]
fn packet_id_0_closes_the_connection() {
    each_version(|broker, version| {
        for qos in 1..=2 {
            let mut client = Client::new(broker, version);
            client.send_publish(&Publish::new("a/b", "which one?").qos(qos).id(0));
            client.expect_disconnect_in(&[0x81, 0x82]);
        }
    });
}

#[test]
fn a_subscription_id_in_a_publish_from_a_client_is_a_protocol_error() {
    each_broker(|broker| {
        let mut client = Client::new(broker, Version::V5);
        client.send_publish(&Publish::new("a/b", "").property(prop::SUBSCRIPTION_ID, Value::Varint(1)));
        client.expect_disconnect(0x82);
    });
}
