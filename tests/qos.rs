//! The delivery protocols of QoS 1 and 2 in both directions: packet ids, repeats, exactly once.
mod support;

use std::thread;
use support::*;

/// A client on `topic`, and one to publish with.
fn subscriber_and_publisher(broker: &Broker, version: Version, topic: &str, qos: u8) -> (Client, Client) {
    let mut subscriber = Client::new(broker, version);
    subscriber.subscribe(topic, qos);
    (subscriber, Client::new(broker, version))
}

#[test]
fn acknowledgements_echo_the_packet_id_of_their_publish() {
    each_version(|broker, version| {
        let topic = unique("echo");
        let mut client = Client::new(broker, version);
        for id in [1, 2, 255, 256, 0x7fff, 0xfffe, 0xffff, 1] {
            client.send_publish(&Publish::new(&topic, "").qos(1).id(id));
            client.expect_ack(Kind::Puback, id);
            client.send_publish(&Publish::new(&topic, "").qos(2).id(id));
            client.expect_ack(Kind::Pubrec, id);
            client.ack(Kind::Pubrel, id);
            client.expect_ack(Kind::Pubcomp, id);
        }
    });
}

#[test]
fn puback_and_pubrec_say_0x10_when_nobody_subscribes() {
    each_broker(|broker| {
        let topic = unique("heard");
        let mut publisher = Client::new(broker, Version::V5);
        publisher.send_publish(&Publish::new(&topic, "").qos(1).id(1));
        publisher.expect_ack_code(Kind::Puback, 1, 0x10);
        publisher.send_publish(&Publish::new(&topic, "").qos(2).id(2));
        publisher.expect_ack_code(Kind::Pubrec, 2, 0x10);
        publisher.ack(Kind::Pubrel, 2);
        publisher.expect_ack_code(Kind::Pubcomp, 2, 0);
        let mut subscriber = Client::new(broker, Version::V5);
        subscriber.subscribe(&topic, 0);
        publisher.send_publish(&Publish::new(&topic, "").qos(1).id(3));
        publisher.expect_ack_code(Kind::Puback, 3, 0);
        publisher.send_publish(&Publish::new(&topic, "").qos(2).id(4));
        publisher.expect_ack_code(Kind::Pubrec, 4, 0);
    });
}

#[test]
fn delivery_uses_the_lower_of_published_and_granted_qos() {
    each_version(|broker, version| {
        let topic = unique("lower");
        for granted in 0..=2 {
            let (mut subscriber, mut publisher) = subscriber_and_publisher(broker, version, &topic, granted);
            for published in 0..=2 {
                publisher.publish(&topic, published, "level");
                assert_eq!(subscriber.expect_message(&topic, "level").qos, published.min(granted));
            }
        }
    });
}

#[test]
fn a_qos_2_publish_repeated_before_its_pubrel_is_delivered_once() {
    each_version(|broker, version| {
        let topic = unique("repeat");
        let (mut subscriber, mut publisher) = subscriber_and_publisher(broker, version, &topic, 2);
        let message = Publish::new(&topic, "once").qos(2).id(7);
        publisher.send_publish(&message);
        publisher.expect_ack(Kind::Pubrec, 7);
        for _ in 0..3 {
            publisher.send_publish(&message.clone().dup());
            publisher.expect_ack(Kind::Pubrec, 7);
        }
        publisher.ack(Kind::Pubrel, 7);
        publisher.expect_ack(Kind::Pubcomp, 7);
        publisher.publish(&topic, 2, END);
        assert_eq!(payloads(&subscriber.messages_until_end()), ["once"]);
    });
}

#[test]
fn after_puback_the_id_means_a_new_message_whatever_dup_says() {
    each_version(|broker, version| {
        let topic = unique("again1");
        let (mut subscriber, mut publisher) = subscriber_and_publisher(broker, version, &topic, 1);
        let message = Publish::new(&topic, "again").qos(1).id(7);
        for message in [message.clone(), message.clone(), message.dup()] {
            publisher.send_publish(&message);
            publisher.expect_ack(Kind::Puback, 7);
            subscriber.expect_message(&topic, "again");
        }
    });
}

#[test]
fn after_pubcomp_the_id_means_a_new_message_whatever_dup_says() {
    each_version(|broker, version| {
        let topic = unique("again2");
        let (mut subscriber, mut publisher) = subscriber_and_publisher(broker, version, &topic, 2);
        let message = Publish::new(&topic, "again").qos(2).id(7);
        for message in [message.clone(), message.clone(), message.dup()] {
            publisher.send_publish(&message);
            publisher.expect_ack(Kind::Pubrec, 7);
            publisher.ack(Kind::Pubrel, 7);
            publisher.expect_ack(Kind::Pubcomp, 7);
            subscriber.expect_message(&topic, "again");
        }
    });
}

#[test]
fn a_pubrel_for_an_unknown_id_gets_pubcomp_with_0x92() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version);
        client.ack(Kind::Pubrel, 77);
        client.expect_ack_code(Kind::Pubcomp, 77, if version.is_5() { 0x92 } else { 0 });
        client.expect_nothing_until_ping();
    });
}

#[test]
fn a_repeated_pubrel_is_answered_again() {
    each_version(|broker, version| {
        let topic = unique("pubrel");
        let (mut subscriber, mut publisher) = subscriber_and_publisher(broker, version, &topic, 2);
        publisher.publish(&topic, 2, "once");
        publisher.ack(Kind::Pubrel, 1);
        publisher.expect_ack_code(Kind::Pubcomp, 1, if version.is_5() { 0x92 } else { 0 });
        publisher.publish(&topic, 2, END);
        assert_eq!(payloads(&subscriber.messages_until_end()), ["once"]);
    });
}

#[test]
fn a_pubrec_for_an_unknown_id_gets_pubrel_with_0x92() {
    each_broker(|broker| {
        let mut client = Client::new(broker, Version::V5);
        client.ack(Kind::Pubrec, 77);
        client.expect_ack_code(Kind::Pubrel, 77, 0x92);
        client.expect_nothing_until_ping();
    });
}

#[test]
fn puback_and_pubcomp_for_an_unknown_id_are_ignored() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version);
        client.ack(Kind::Puback, 77);
        client.ack(Kind::Pubcomp, 78);
        client.expect_nothing_until_ping();
    });
}

#[test]
fn a_qos_2_publish_refused_by_pubrec_frees_its_id() {
    each_broker(|broker| {
        let topic = unique("refused");
        let (mut subscriber, mut publisher) = subscriber_and_publisher(broker, Version::V5, &topic, 2);
        let not_utf8 = Publish::new(&topic, [0xff]).qos(2).id(7).property(prop::PAYLOAD_FORMAT, 1_u8);
        publisher.send_publish(&not_utf8);
        publisher.expect_ack_code(Kind::Pubrec, 7, 0x99);
        publisher.send_publish(&Publish::new(&topic, "new").qos(2).id(7));
        publisher.expect_ack_code(Kind::Pubrec, 7, 0);
        publisher.ack(Kind::Pubrel, 7);
        publisher.expect_ack_code(Kind::Pubcomp, 7, 0);
        publisher.publish(&topic, 2, END);
        assert_eq!(payloads(&subscriber.messages_until_end()), ["new"]);
    });
}

#[test]
fn the_dup_flag_of_a_publisher_is_not_passed_on() {
    each_version(|broker, version| {
        let topic = unique("dup");
        let (mut subscriber, mut publisher) = subscriber_and_publisher(broker, version, &topic, 2);
        for qos in 1..=2 {
            publisher.publish_with(&Publish::new(&topic, "repeated by its publisher").qos(qos).dup());
            let got = subscriber.expect_message(&topic, "repeated by its publisher");
            assert_eq!((got.qos, got.dup), (qos, false));
        }
    });
}

#[test]
fn deliveries_in_flight_have_ids_of_their_own_and_no_dup() {
    each_version(|broker, version| {
        let topic = unique("ids");
        let (mut subscriber, mut publisher) = subscriber_and_publisher(broker, version, &topic, 2);
        let mut ids = Vec::new();
        for n in 0..100 {
            publisher.publish(&topic, 1 + n % 2, "unanswered");
            let got = subscriber.expect_publish();
            assert!(!got.dup, "{got:?}");
            ids.push(got.id.unwrap());
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 100, "an id was given twice");
    });
}

#[test]
fn packet_ids_wrap_around_the_one_that_is_in_use() {
    // The publisher does not wait for the subscriber: what it is ahead by must find room.
    each_broker_with(&["--max-queued-messages", "66000"], |broker| {
        let topic = unique("wrap");
        let (mut subscriber, mut publisher) = subscriber_and_publisher(broker, Version::V4, &topic, 1);
        publisher.publish(&topic, 1, "stays unanswered");
        let in_use = subscriber.expect_publish().id.unwrap();
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                for n in 0..66_000 {
                    let id = subscriber.expect_message(&topic, "").id.unwrap();
                    assert_ne!(id, in_use, "message {n} has an id in use");
                }
            });
            for _ in 0..66 {
                let bytes: Vec<u8> = (1..=1000)
                    .flat_map(|id| publish(Version::V4, &Publish::new(&topic, "").qos(1).id(id)))
                    .collect();
                publisher.send(&bytes);
                for id in 1..=1000 {
                    publisher.expect_ack(Kind::Puback, id);
                }
            }
            reader.join().unwrap();
        });
    });
}

#[test]
fn only_mqtt_3_1_says_dup_of_what_is_no_publish() {
    each_broker(|broker| {
        let topic = unique("dup");
        let mut old = Client::new(broker, Version::V3);
        old.send(
            &[&[0x8a, 5 + topic.len() as u8, 0, 1, 0, topic.len() as u8], topic.as_bytes(), &[0]].concat(),
        );
        assert_eq!(old.expect_suback(1), [0]);
        old.send_publish(&Publish::new(&topic, "x").qos(2).id(2));
        // The message and PUBREC come in either order.
        let answers = [old.receive(), old.receive()];
        assert!(answers.iter().any(|packet| matches!(packet, Packet::Publish(_))), "{answers:?}");
        old.send(b"\x6a\x02\x00\x02");
        old.expect_ack(Kind::Pubcomp, 2);
        for version in BOTH {
            for packet in [&b"\x6a\x02\x00\x02"[..], b"\x8a\x06\x00\x01\x00\x01t\x00"] {
                let mut client = Client::new(broker, version);
                client.send(packet);
                client.expect_disconnect(0x81);
            }
        }
    });
}

#[test]
fn packet_ids_of_the_two_directions_are_independent() {
    each_version(|broker, version| {
        let topic = unique("two-way");
        let (mut client, mut publisher) = subscriber_and_publisher(broker, version, &topic, 2);
        publisher.publish(&topic, 2, "incoming");
        let incoming = client.expect_publish();
        let id = incoming.id.unwrap();
        client.send_publish(&Publish::new(&unique("elsewhere"), "outgoing").qos(2).id(id));
        client.expect_ack(Kind::Pubrec, id);
        client.finish(&incoming);
        client.ack(Kind::Pubrel, id);
        client.expect_ack(Kind::Pubcomp, id);
    });
}

#[test]
fn qos_2_deliveries_get_pubrel_with_their_id() {
    each_version(|broker, version| {
        let topic = unique("release");
        let (mut subscriber, mut publisher) = subscriber_and_publisher(broker, version, &topic, 2);
        for n in 0..3 {
            publisher.publish(&topic, 2, format!("{n}"));
        }
        let ids: Vec<u16> = (0..3).map(|_| subscriber.expect_publish().id.unwrap()).collect();
        for id in &ids {
            subscriber.ack(Kind::Pubrec, *id);
        }
        for id in &ids {
            subscriber.expect_ack_code(Kind::Pubrel, *id, 0);
        }
        // A repeated PUBREC gets PUBREL again, until PUBCOMP.
        subscriber.ack(Kind::Pubrec, ids[1]);
        subscriber.expect_ack_code(Kind::Pubrel, ids[1], 0);
        for id in &ids {
            subscriber.ack(Kind::Pubcomp, *id);
        }
        subscriber.expect_nothing_until_ping();
    });
}

#[test]
fn nothing_is_repeated_while_the_connection_lasts() {
    each_version(|broker, version| {
        let topic = unique("silent");
        let (mut subscriber, mut publisher) = subscriber_and_publisher(broker, version, &topic, 2);
        publisher.publish(&topic, 1, "unanswered 1");
        publisher.publish(&topic, 2, "unanswered 2");
        subscriber.expect_publish();
        subscriber.expect_publish();
        subscriber.expect_nothing_until_ping();
        publisher.publish(&topic, 0, "another");
        subscriber.expect_message(&topic, "another");
        subscriber.expect_nothing_until_ping();
    });
}

#[test]
fn unanswered_deliveries_are_repeated_in_order_with_dup_and_their_ids_after_a_reconnect() {
    each_version(|broker, version| {
        let topic = unique("redeliver");
        let connect = Connect::new(version, &unique("subscriber")).persistent();
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, version);
        for n in 0..6 {
            publisher.publish(&topic, 1 + n % 2, format!("{n}"));
        }
        let first: Vec<Publish> = (0..6).map(|_| subscriber.expect_publish()).collect();
        // The third is answered, so it must not come again.
        subscriber.ack(Kind::Puback, first[2].id.unwrap());
        subscriber.expect_nothing_until_ping();
        subscriber.reset();
        let (mut subscriber, session_present, _) = Client::connect_with(broker, &connect);
        assert!(session_present);
        let wanted: Vec<Publish> = [0, 1, 3, 4, 5].map(|n| first[n].clone().dup()).into();
        let again: Vec<Publish> = (0..5).map(|_| subscriber.expect_publish()).collect();
        assert_eq!(again, wanted);
        subscriber.expect_nothing_until_ping();
        again.iter().for_each(|message| subscriber.finish(message));
    });
}

#[test]
fn after_pubrec_only_pubrel_is_repeated_after_a_reconnect() {
    each_version(|broker, version| {
        let topic = unique("resume");
        let connect = Connect::new(version, &unique("subscriber")).persistent();
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, version);
        publisher.publish(&topic, 2, "a");
        publisher.publish(&topic, 2, "b");
        let ids = [subscriber.expect_publish().id.unwrap(), subscriber.expect_publish().id.unwrap()];
        for id in ids {
            subscriber.ack(Kind::Pubrec, id);
            subscriber.expect_ack(Kind::Pubrel, id);
        }
        subscriber.reset();
        let mut subscriber = Client::connect(broker, &connect);
        for id in ids {
            subscriber.expect_ack(Kind::Pubrel, id);
            subscriber.ack(Kind::Pubcomp, id);
        }
        publisher.publish(&topic, 2, END);
        assert_eq!(subscriber.messages_until_end(), []);
        subscriber.expect_nothing_until_ping();
        subscriber.reset();
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.expect_nothing_until_ping();
    });
}

#[test]
fn a_qos_2_publish_is_delivered_once_across_reconnects_of_its_publisher() {
    each_version(|broker, version| {
        let topic = unique("exactly");
        let mut subscriber = Client::new(broker, version);
        subscriber.subscribe(&topic, 2);
        let connect = Connect::new(version, &unique("publisher")).persistent();
        let message = Publish::new(&topic, "once").qos(2).id(42);
        let mut publisher = Client::connect(broker, &connect);
        publisher.send_publish(&message);
        publisher.expect_ack(Kind::Pubrec, 42);
        for _ in 0..3 {
            publisher.reset();
            publisher = Client::connect(broker, &connect);
            publisher.send_publish(&message.clone().dup());
            publisher.expect_ack(Kind::Pubrec, 42);
        }
        publisher.reset();
        publisher = Client::connect(broker, &connect);
        publisher.ack(Kind::Pubrel, 42);
        publisher.expect_ack_code(Kind::Pubcomp, 42, 0);
        publisher.publish(&topic, 2, END);
        assert_eq!(payloads(&subscriber.messages_until_end()), ["once"]);
    });
}

#[test]
fn a_clean_start_forgets_the_half_done_qos_2_publish() {
    each_broker(|broker| {
        let topic = unique("forgotten");
        let connect = Connect::new(Version::V5, &unique("publisher"));
        let mut publisher = Client::connect(broker, &connect);
        publisher.send_publish(&Publish::new(&topic, "").qos(2).id(42));
        publisher.expect_ack(Kind::Pubrec, 42);
        publisher.reset();
        let mut publisher = Client::connect(broker, &connect);
        publisher.ack(Kind::Pubrel, 42);
        publisher.expect_ack_code(Kind::Pubcomp, 42, 0x92);
    });
}

#[test]
fn a_delivery_the_subscriber_refuses_is_over() {
    each_broker(|broker| {
        let topic = unique("declined");
        let connect = Connect::new(Version::V5, &unique("subscriber")).persistent();
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish(&topic, 1, "unwanted");
        publisher.publish(&topic, 2, "unwanted");
        let one = subscriber.expect_publish();
        let two = subscriber.expect_publish();
        subscriber.ack_with(Kind::Puback, one.id.unwrap(), 0x80);
        subscriber.ack_with(Kind::Pubrec, two.id.unwrap(), 0x83);
        subscriber.expect_nothing_until_ping();
        subscriber.reset();
        let mut subscriber = Client::connect(broker, &connect);
        publisher.publish(&topic, 2, END);
        assert_eq!(subscriber.messages_until_end(), []);
    });
}

#[test]
fn a_pubcomp_with_an_error_code_ends_the_delivery() {
    each_broker(|broker| {
        let topic = unique("odd-end");
        let connect = Connect::new(Version::V5, &unique("subscriber")).persistent();
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe(&topic, 2);
        Client::new(broker, Version::V5).publish(&topic, 2, "x");
        let id = subscriber.expect_publish().id.unwrap();
        subscriber.ack(Kind::Pubrec, id);
        subscriber.expect_ack(Kind::Pubrel, id);
        subscriber.ack_with(Kind::Pubcomp, id, 0x92);
        subscriber.expect_nothing_until_ping();
        subscriber.reset();
        Client::connect(broker, &connect).expect_nothing_until_ping();
    });
}

#[test]
fn without_a_limit_no_maximum_qos_is_announced() {
    each_broker(|broker| {
        let (_, _, limits) = Client::connect_with(broker, &Connect::new(Version::V5, &unique("any")));
        assert_eq!(limits.get(prop::MAXIMUM_QOS), None);
    });
}

#[test]
fn max_qos_is_announced_and_a_publish_above_it_is_refused_with_0x9b() {
    for max_qos in ["0", "1"] {
        let limit: u8 = max_qos.parse().unwrap();
        each_version_with(&["--max-qos", max_qos], |broker, version| {
            let connect = Connect::new(version, &unique("limited"));
            let (mut client, _, limits) = Client::connect_with(broker, &connect);
            if version.is_5() {
                assert_eq!(limits.number(prop::MAXIMUM_QOS), Some(u32::from(limit)));
            }
            let topic = unique("limited");
            client.publish(&topic, limit, "as far as allowed");
            client.send_publish(&Publish::new(&topic, "too far").qos(limit + 1).id(100));
            client.expect_disconnect(0x9b);
        });
    }
}

#[test]
fn with_max_qos_1_any_subscription_is_accepted_and_granted_at_most_1() {
    each_version_with(&["--max-qos", "1"], |broker, version| {
        let topic = unique("limited");
        let mut subscriber = Client::new(broker, version);
        for qos in 0..=2 {
            assert_eq!(subscriber.subscribe_codes(&[(&topic, qos)]), [qos.min(1)]);
        }
        Client::new(broker, version).publish(&topic, 1, "granted 1");
        assert_eq!(subscriber.expect_message(&topic, "granted 1").qos, 1);
    });
}

#[test]
fn with_max_qos_1_a_qos_2_will_is_refused() {
    each_broker_with(&["--max-qos", "1"], |broker| {
        let connect = Connect::new(Version::V5, &unique("will")).will(Will::new("w", "x").qos(2));
        Client::refused(broker, &connect, 0x9b);
    });
}
