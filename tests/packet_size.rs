//! Maximum Packet Size in both directions: too large is dropped, not cut, or refused.
mod support;

use support::*;

/// A version 5 CONNECT with a Maximum Packet Size.
fn narrow(maximum: usize) -> Connect {
    Connect::new(Version::V5, &unique("narrow")).property(prop::MAXIMUM_PACKET_SIZE, maximum as u32)
}

#[test]
fn what_is_too_large_for_a_client_is_dropped_for_it_and_the_rest_goes_on() {
    each_broker(|broker| {
        let topic = unique("too-large");
        let mut narrow = Client::connect(broker, &narrow(500));
        let mut wide = Client::new(broker, Version::V5);
        for client in [&mut narrow, &mut wide] {
            client.subscribe(&topic, 2);
        }
        let mut publisher = Client::new(broker, Version::V5);
        for qos in 0..=2 {
            for size in [100, 1000, 100, 100_000] {
                publisher.publish(&topic, qos, vec![b'x'; size]);
            }
        }
        publisher.publish(&topic, 2, END);
        let sizes = |client: &mut Client| -> Vec<usize> {
            client.messages_until_end().iter().map(|message| message.payload.len()).collect()
        };
        assert_eq!(sizes(&mut narrow), [100; 6]);
        assert_eq!(sizes(&mut wide), [[100, 1000, 100, 100_000]; 3].concat());
    });
}

#[test]
fn a_packet_of_exactly_the_clients_maximum_is_sent_and_one_byte_more_is_not() {
    each_broker(|broker| {
        let topic = unique("exact");
        let message =
            Publish::new(&topic, vec![b'x'; 300]).qos(1).id(1).property(prop::USER, ("some", "more"));
        // Nothing is added on the way, so the packet that comes has the size of the one that was sent.
        let size = publish(Version::V5, &message).len();
        let mut exact = Client::connect(broker, &narrow(size));
        let mut short = Client::connect(broker, &narrow(size - 1));
        for client in [&mut exact, &mut short] {
            client.subscribe(&topic, 1);
        }
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish_with(&message);
        publisher.publish(&topic, 1, END);
        assert_eq!(exact.messages_until_end().len(), 1);
        assert_eq!(short.messages_until_end().len(), 0);
    });
}

#[test]
fn what_was_too_large_counts_as_delivered() {
    each_broker(|broker| {
        let topic = unique("counts");
        let connect = Connect::new(Version::V5, &unique("narrow")).persistent();
        let narrow = connect
            .clone()
            .property(prop::MAXIMUM_PACKET_SIZE, 500_u32)
            .property(prop::RECEIVE_MAXIMUM, 1_u16);
        let mut subscriber = Client::connect(broker, &narrow);
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, Version::V5);
        // They take no room in the window of one.
        for qos in [1, 2, 1] {
            publisher.publish(&topic, qos, vec![b'x'; 1000]);
        }
        publisher.publish(&topic, 1, "small");
        subscriber.expect_message(&topic, "small");
        subscriber.disconnect();
        // A wider connection later does not get them either.
        let mut subscriber = Client::connect(broker, &connect);
        publisher.publish(&topic, 1, END);
        assert_eq!(subscriber.messages_until_end(), []);
    });
}

#[test]
fn queued_and_retained_messages_are_measured_as_well() {
    each_broker(|broker| {
        let topic = unique("queued");
        let connect = Connect::new(Version::V5, &unique("narrow")).persistent();
        let narrow = connect.clone().property(prop::MAXIMUM_PACKET_SIZE, 500_u32);
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe(&topic, 1);
        subscriber.disconnect();
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish_with(&Publish::new(&topic, vec![b'x'; 1000]).qos(1).retain());
        publisher.publish(&topic, 1, "small");
        let mut subscriber = Client::connect(broker, &narrow);
        subscriber.expect_message(&topic, "small");
        subscriber.subscribe(&topic, 1);
        publisher.publish(&topic, 1, END);
        assert_eq!(subscriber.messages_until_end(), []);
    });
}

#[test]
fn what_is_in_flight_and_too_large_for_the_next_connection_is_not_sent() {
    each_broker(|broker| {
        let topic = unique("in-flight");
        let connect = Connect::new(Version::V5, &unique("narrow")).persistent();
        let narrow = connect.clone().property(prop::MAXIMUM_PACKET_SIZE, 500_u32);
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe(&topic, 1);
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish(&topic, 1, vec![b'x'; 1000]);
        publisher.publish(&topic, 1, "small");
        subscriber.expect_publish();
        subscriber.expect_publish();
        subscriber.reset();
        let mut subscriber = Client::connect(broker, &narrow);
        assert!(subscriber.expect_message(&topic, "small").dup);
        publisher.publish(&topic, 1, END);
        assert_eq!(subscriber.messages_until_end(), []);
    });
}

#[test]
fn a_packet_above_the_servers_maximum_is_answered_with_0x95() {
    each_version_with(&["--max-packet", "10K"], |broker, version| {
        let (_, _, limits) = Client::connect_with(broker, &Connect::new(Version::V5, &unique("asks")));
        assert_eq!(limits.number(prop::MAXIMUM_PACKET_SIZE), Some(10 * 1024));
        let topic = unique("oversized");
        let mut client = Client::new(broker, version);
        client.subscribe(&topic, 1);
        let frame = publish(version, &Publish::new(&topic, "").qos(1).id(1)).len() + 1;
        let largest = vec![b'x'; 10 * 1024 - frame];
        client.send_publish(&Publish::new(&topic, &largest).qos(1).id(1));
        let mut answers = [client.receive(), client.receive()];
        answers.sort_by_key(|packet| matches!(packet, Packet::Publish(_)));
        assert!(matches!(&answers[0], Packet::Ack(ack) if ack.kind == Kind::Puback), "{:?}", answers[0]);
        let oversized =
            publish(version, &Publish::new(&topic, [largest, b"y".to_vec()].concat()).qos(1).id(2));
        assert_eq!(oversized.len(), 10 * 1024 + 1);
        // The header alone gives it away, so nothing is left unread when the broker closes.
        client.send(&oversized[..5]);
        client.expect_disconnect(0x95);
    });
}

#[test]
fn the_largest_packet_of_all_is_refused_by_its_header() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version);
        client.send(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
        client.expect_disconnect(0x95);
    });
}

#[test]
fn disconnect_leaves_its_reason_string_out_where_it_would_be_too_long() {
    each_broker(|broker| {
        let connect = || Connect::new(Version::V5, &unique("p"));
        for (connect, has_reason_string) in [(connect(), true), (connect().property(0x27, 20u32), false)] {
            let mut client = Client::connect(broker, &connect);
            client.send(&publish(Version::V5, &Publish::new("t", "x").property(0x23, 0u16)));
            match client.receive() {
                Packet::Disconnect { code: 0x94, properties } => {
                    assert_eq!(properties.text(0x1f).is_some(), has_reason_string);
                }
                other => panic!("expected DISCONNECT 0x94, got {other:?}"),
            }
            client.expect_closed();
        }
    });
}

#[test]
fn the_largest_packet_there_may_be_reaches_its_subscribers_and_they_stay_connected() {
    each_broker_with(&["--max-packet", "12M"], |broker| {
        let topic = unique("large");
        let payload = vec![b'x'; 11 << 20];
        let mut subscribers = [0, 1].map(|qos| {
            let mut subscriber = Client::new(broker, Version::V5);
            subscriber.subscribe(&topic, qos);
            subscriber
        });
        Client::new(broker, Version::V5).publish(&topic, 1, &payload);
        for subscriber in &mut subscribers {
            let got = subscriber.expect_publish();
            assert!(got.payload == payload, "{} bytes", got.payload.len());
            subscriber.finish(&got);
            subscriber.expect_nothing_until_ping();
        }
    });
}
