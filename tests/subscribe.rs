//! SUBSCRIBE and what it promises: codes, replacement, overlapping filters, No Local, subscription ids.
mod support;

use std::thread;
use support::*;

/// SUBSCRIBE properties with a subscription id.
fn with_id(id: u32) -> Properties {
    Properties::new().with(prop::SUBSCRIPTION_ID, Value::Varint(id))
}

/// The subscription ids of a message, in ascending order.
fn ids(message: &Publish) -> Vec<u32> {
    let mut ids: Vec<u32> = message
        .properties
        .all(prop::SUBSCRIPTION_ID)
        .into_iter()
        .map(|value| if let Value::Varint(id) = value { *id } else { unreachable!() })
        .collect();
    ids.sort();
    ids
}

#[test]
fn suback_has_the_id_of_its_subscribe_and_a_code_for_each_filter_in_their_order() {
    each_version(|broker, version| {
        let topic = unique("codes");
        let mut client = Client::new(broker, version);
        for (id, granted) in [(1, vec![2]), (65_535, vec![0, 2, 1, 1, 0]), (77, vec![1, 0, 2])] {
            let names: Vec<String> = (0..granted.len()).map(|n| format!("{topic}/{n}")).collect();
            let filters: Vec<(&str, u8)> =
                names.iter().map(String::as_str).zip(granted.iter().copied()).collect();
            client.send(&subscribe(version, id, &filters));
            assert_eq!(client.expect_suback(id), granted);
        }
    });
}

#[test]
fn what_was_asked_before_disconnect_is_answered() {
    each_version(|broker, version| {
        let topic = unique("last");
        for will in [None, Some(Will::new(&topic, "left"))] {
            let mut other = Client::new(broker, version);
            other.subscribe(&topic, 0);
            let mut connect = Connect::new(version, &unique("c"));
            if let Some(will) = will {
                connect = connect.will(will);
            }
            let mut client = Client::connect(broker, &connect);
            let mut bytes = Vec::new();
            for id in 1..4 {
                bytes.extend(subscribe(
                    version,
                    id,
                    &[(&format!("{topic}/{id}"), 1), (&format!("{topic}/+/{id}"), 0)],
                ));
            }
            bytes.extend(publish(version, &Publish::new(&topic, "last").qos(1).id(9)));
            bytes.extend(disconnect(version, 0, &Properties::new()));
            client.send(&bytes);
            let mut answered: Vec<u16> = Vec::new();
            let mut is_published = false;
            while answered.len() < 3 || !is_published {
                match client.receive() {
                    Packet::Suback { id, .. } => answered.push(id),
                    Packet::Ack(Ack { kind: Kind::Puback, id: 9, .. }) => is_published = true,
                    packet => panic!("{packet:?}"),
                }
            }
            assert_eq!(answered, [1, 2, 3]);
            client.expect_closed();
            // DISCONNECT was heard: there is no will.
            other.expect_message(&topic, "last");
            other.expect_nothing_until_ping();
        }
    });
}

#[test]
fn a_subscribe_with_hundreds_of_filters_gets_one_suback() {
    each_version(|broker, version| {
        let topic = unique("hundreds");
        let names: Vec<String> = (0..500).map(|n| format!("{topic}/{n}/+")).collect();
        let filters: Vec<(&str, u8)> = names.iter().map(String::as_str).zip((0..=2).cycle()).collect();
        let mut client = Client::new(broker, version);
        let wanted: Vec<u8> = filters.iter().map(|(_, qos)| *qos).collect();
        assert_eq!(client.subscribe_codes(&filters), wanted);
        let mut publisher = Client::new(broker, version);
        for n in [0, 1, 2, 250, 499] {
            publisher.publish(&format!("{topic}/{n}/x"), 2, "found");
            assert_eq!(client.expect_message(&format!("{topic}/{n}/x"), "found").qos, (n % 3) as u8);
        }
    });
}

#[test]
fn a_publish_sent_after_suback_is_delivered() {
    each_version(|broker, version| {
        let mut publisher = Client::new(broker, version);
        for n in 0..60 {
            let topic = unique("promise");
            let mut subscriber = Client::new(broker, version);
            let filter = if n % 2 == 0 { topic.clone() } else { format!("{topic}/#") };
            subscriber.subscribe(&filter, 0);
            publisher.publish(&topic, 0, "at once");
            subscriber.expect_message(&topic, "at once");
        }
    });
}

#[test]
fn what_was_published_before_the_subscription_is_not_delivered() {
    each_version(|broker, version| {
        let topic = unique("before");
        let mut publisher = Client::new(broker, version);
        publisher.publish(&topic, 1, "too early");
        let mut subscriber = Client::new(broker, version);
        subscriber.subscribe(&topic, 1);
        publisher.publish(&topic, 1, END);
        assert_eq!(subscriber.messages_until_end(), []);
    });
}

#[test]
fn subscribing_again_replaces_the_subscription() {
    each_version(|broker, version| {
        let topic = unique("replaced");
        let mut subscriber = Client::new(broker, version);
        let mut publisher = Client::new(broker, version);
        for qos in [0, 2, 1, 0] {
            subscriber.subscribe(&topic, qos);
            publisher.publish(&topic, 2, "one copy");
            assert_eq!(subscriber.expect_message(&topic, "one copy").qos, qos);
        }
        publisher.publish(&topic, 0, END);
        assert_eq!(subscriber.messages_until_end(), []);
    });
}

#[test]
fn subscribing_again_replaces_options_and_subscription_id() {
    each_broker(|broker| {
        let topic = unique("options");
        let mut client = Client::new(broker, Version::V5);
        let mut publisher = Client::new(broker, Version::V5);
        client.subscribe_properties(&with_id(1), &[(&topic, 1 | NO_LOCAL)]);
        client.publish(&topic, 0, "own");
        publisher.publish(&topic, 1, "first");
        assert_eq!(ids(&client.expect_message(&topic, "first")), [1]);
        client.subscribe_properties(&with_id(2), &[(&topic, 1)]);
        client.publish(&topic, 0, "own");
        assert_eq!(ids(&client.expect_message(&topic, "own")), [2]);
        client.subscribe_codes(&[(&topic, 1)]);
        publisher.publish(&topic, 1, "without id");
        assert_eq!(ids(&client.expect_message(&topic, "without id")), []);
    });
}

#[test]
fn the_last_of_two_equal_filters_in_one_subscribe_counts() {
    each_version(|broker, version| {
        let topic = unique("equal");
        let mut subscriber = Client::new(broker, version);
        assert_eq!(subscriber.subscribe_codes(&[(&topic, 2), (&topic, 0)]), [2, 0]);
        let mut publisher = Client::new(broker, version);
        publisher.publish(&topic, 2, "once");
        assert_eq!(subscriber.expect_message(&topic, "once").qos, 0);
        publisher.publish(&topic, 0, END);
        assert_eq!(subscriber.messages_until_end(), []);
    });
}

#[test]
fn nothing_is_lost_or_doubled_while_a_subscription_is_replaced() {
    each_version(|broker, version| {
        const MESSAGES: usize = 600;
        let topic = unique("seamless");
        let mut subscriber = Client::new(broker, version);
        subscriber.subscribe(&topic, 1);
        let mut publisher = Client::new(broker, version);
        thread::scope(|scope| {
            scope.spawn(|| (0..MESSAGES).for_each(|n| publisher.publish(&topic, 1, format!("{n}"))));
            let mut next = 0;
            while next < MESSAGES {
                if next % 10 == 0 {
                    let id = subscriber.fresh_id();
                    subscriber.send(&subscribe(version, id, &[(&topic, 1 + (next / 10 % 2) as u8)]));
                }
                // A SUBACK may come anywhere between the messages.
                let got = loop {
                    match subscriber.receive() {
                        Packet::Publish(got) => break got,
                        Packet::Suback { codes, .. } => assert_ne!(codes, [0x80]),
                        other => panic!("expected a message or SUBACK, got {other:?}"),
                    }
                };
                assert_eq!(String::from_utf8_lossy(&got.payload), next.to_string());
                subscriber.ack(Kind::Puback, got.id.unwrap());
                next += 1;
            }
        });
    });
}

#[test]
fn overlapping_subscriptions_get_one_copy_with_the_highest_granted_qos() {
    each_version(|broker, version| {
        let topic = unique("overlap");
        let name = format!("{topic}/a");
        let mut subscriber = Client::new(broker, version);
        subscriber.subscribe(&name, 0);
        subscriber.subscribe(&format!("{topic}/+"), 2);
        subscriber.subscribe(&format!("{topic}/#"), 1);
        let mut publisher = Client::new(broker, version);
        for qos in 0..=2 {
            publisher.publish(&name, qos, format!("{qos}"));
            assert_eq!(subscriber.expect_message(&name, format!("{qos}")).qos, qos);
        }
        publisher.publish(&topic, 2, "only by the third");
        assert_eq!(subscriber.expect_message(&topic, "only by the third").qos, 1);
        publisher.publish(&name, 1, END);
        assert_eq!(subscriber.messages_until_end(), []);
    });
}

#[test]
fn one_copy_for_overlapping_subscriptions_carries_every_subscription_id() {
    each_broker(|broker| {
        let topic = unique("all-ids");
        let name = format!("{topic}/a");
        let mut subscriber = Client::new(broker, Version::V5);
        subscriber.subscribe_properties(&with_id(7), &[(&name, 0)]);
        subscriber.subscribe_properties(&with_id(300), &[(&format!("{topic}/+"), 2)]);
        subscriber.subscribe_properties(&with_id(268_435_455), &[(&format!("{topic}/#"), 1)]);
        subscriber.subscribe_codes(&[(&format!("{topic}/a/#"), 1)]);
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish(&name, 2, "all");
        let got = subscriber.expect_message(&name, "all");
        assert_eq!((ids(&got), got.qos), (vec![7, 300, 268_435_455], 2));
        publisher.publish(&topic, 2, "one");
        assert_eq!(ids(&subscriber.expect_message(&topic, "one")), [268_435_455]);
    });
}

#[test]
fn the_filters_of_one_subscribe_share_its_subscription_id() {
    each_broker(|broker| {
        let topic = unique("shared-id");
        let (a, b) = (format!("{topic}/a"), format!("{topic}/b"));
        let mut subscriber = Client::new(broker, Version::V5);
        assert_eq!(subscriber.subscribe_properties(&with_id(5), &[(&a, 1), (&b, 1)]), [1, 1]);
        let mut publisher = Client::new(broker, Version::V5);
        for name in [&a, &b] {
            publisher.publish(name, 1, "");
            assert_eq!(ids(&subscriber.expect_message(name, "")), [5]);
        }
    });
}

#[test]
fn subscription_ids_are_kept_with_the_session_and_its_queue() {
    each_broker(|broker| {
        let topic = unique("kept-id");
        let connect = Connect::new(Version::V5, &unique("subscriber")).persistent();
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe_properties(&with_id(9), &[(&topic, 1)]);
        subscriber.disconnect();
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish(&topic, 1, "queued");
        let mut subscriber = Client::connect(broker, &connect);
        assert_eq!(ids(&subscriber.expect_message(&topic, "queued")), [9]);
        publisher.publish(&topic, 1, "live");
        assert_eq!(ids(&subscriber.expect_message(&topic, "live")), [9]);
    });
}

#[test]
fn subscription_id_0_is_a_protocol_error() {
    each_broker(|broker| {
        let mut client = Client::new(broker, Version::V5);
        client.send(&subscribe_with(Version::V5, 1, &with_id(0), &[("a/b", 0)]));
        client.expect_disconnect(0x82);
    });
}

#[test]
fn no_local_keeps_a_clients_own_messages_from_it_and_no_others() {
    each_broker(|broker| {
        let topic = unique("no-local");
        let connect = Connect::new(Version::V5, &unique("client")).persistent();
        let mut client = Client::connect(broker, &connect);
        let mut other = Client::new(broker, Version::V5);
        for client in [&mut client, &mut other] {
            assert_eq!(client.subscribe_codes(&[(&topic, 2 | NO_LOCAL)]), [2]);
        }
        for qos in 0..=2 {
            client.publish(&topic, qos, "mine");
            other.expect_message(&topic, "mine");
        }
        other.publish(&topic, 1, "yours");
        client.expect_message(&topic, "yours");
        client.expect_nothing_until_ping();
        // It is the client id that counts, not the connection.
        client.reset();
        let mut client = Client::connect(broker, &connect);
        client.publish(&topic, 1, "mine again");
        other.expect_message(&topic, "mine again");
        other.publish(&topic, 1, END);
        assert_eq!(client.messages_until_end(), []);
    });
}

#[test]
fn no_local_of_one_filter_leaves_an_overlapping_one_alone() {
    each_broker(|broker| {
        let topic = unique("partly-local");
        let mut client = Client::new(broker, Version::V5);
        client.subscribe_properties(&with_id(1), &[(&topic, 1 | NO_LOCAL)]);
        client.subscribe_properties(&with_id(2), &[(&format!("{topic}/#"), 0)]);
        client.publish(&topic, 0, "mine");
        let got = client.expect_message(&topic, "mine");
        assert_eq!((ids(&got), got.qos), (vec![2], 0));
    });
}

#[test]
fn a_will_does_not_reach_a_later_connection_through_no_local() {
    each_broker(|broker| {
        let topic = unique("no-local-will");
        let connect = Connect::new(Version::V5, &unique("client")).persistent();
        let mut client = Client::connect(broker, &connect.clone().will(Will::new(&topic, "will").qos(1)));
        assert_eq!(client.subscribe_codes(&[(&topic, 1 | NO_LOCAL)]), [1]);
        let mut other = Client::new(broker, Version::V5);
        other.subscribe(&topic, 1);
        client.reset();
        other.expect_message(&topic, "will");
        let mut client = Client::connect(broker, &connect);
        Client::new(broker, Version::V5).publish(&topic, 1, END);
        assert_eq!(client.messages_until_end(), []);
    });
}

#[test]
fn a_client_can_hold_thousands_of_subscriptions() {
    each_version(|broker, version| {
        let topic = unique("thousands");
        let mut client = Client::new(broker, version);
        for chunk in (0..4000).collect::<Vec<_>>().chunks(400) {
            let names: Vec<String> = chunk.iter().map(|n| format!("{topic}/{n}")).collect();
            let filters: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 0)).collect();
            assert_eq!(client.subscribe_codes(&filters), vec![0; 400]);
        }
        let mut publisher = Client::new(broker, version);
        for n in (0..4000).step_by(333) {
            publisher.publish(&format!("{topic}/{n}"), 0, "found");
            client.expect_message(&format!("{topic}/{n}"), "found");
        }
    });
}

#[test]
fn one_bad_filter_does_not_spoil_the_others() {
    each_broker(|broker| {
        // Too many levels is a limit of this broker, answered in the SUBACK.
        let topic = unique("spoiled");
        let deep = "/".repeat(60_000);
        let mut client = Client::new(broker, Version::V5);
        let codes = client.subscribe_codes(&[(&topic, 1), (&deep, 1), (&format!("{topic}/b"), 2)]);
        assert_eq!((codes[0], codes[2]), (1, 2));
        assert!([1, 0x80, 0x83, 0x8f, 0x97].contains(&codes[1]), "{codes:02x?}");
        Client::new(broker, Version::V5).publish(&topic, 1, "works");
        client.expect_message(&topic, "works");
    });
}

#[test]
fn a_subscribe_without_filters_closes_the_connection() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version);
        client.send(&subscribe(version, 1, &[]));
        client.expect_disconnect_in(&[0x81, 0x82]);
    });
}

#[test]
fn reserved_option_bits_and_impossible_values_close_the_connection() {
    each_version(|broker, version| {
        let bad: &[u8] =
            if version.is_5() { &[0x40, 0x80, 0xc1, 0x03, 0x30] } else { &[0x03, 0x04, 0x08, 0x10, 0x80] };
        for options in bad {
            let mut client = Client::new(broker, version);
            client.send(&subscribe(version, 1, &[("a/b", *options)]));
            client.expect_disconnect_in(&[0x81, 0x82]);
        }
    });
}

#[test]
fn a_subscribe_with_wrong_flag_bits_closes_the_connection() {
    each_version(|broker, version| {
        for flags in [0, 1, 3, 6, 10] {
            let mut client = Client::new(broker, version);
            let mut bytes = subscribe(version, 1, &[("a/b", 0)]);
            bytes[0] = 0x80 | flags;
            client.send(&bytes);
            client.expect_disconnect(0x81);
        }
    });
}

#[test]
fn a_subscribe_with_packet_id_0_closes_the_connection() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version);
        client.send(&subscribe(version, 0, &[("a/b", 0)]));
        client.expect_disconnect_in(&[0x81, 0x82]);
    });
}

#[test]
fn one_subscription_above_the_limit_gets_0x97() {
    each_version_with(&["--max-subscriptions", "3"], |broker, version| {
        let topic = unique("subscriptions");
        let names: Vec<String> = (0..5).map(|n| format!("{topic}/{n}")).collect();
        let filters: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let failure = if version.is_5() { 0x97 } else { 0x80 };
        let mut client = Client::new(broker, version);
        assert_eq!(client.subscribe_codes(&filters), [1, 1, 1, failure, failure]);
        // Replacing one needs no further room, and leaving one makes some.
        assert_eq!(client.subscribe_codes(&filters[..1]), [1]);
        client.unsubscribe(&names[1]);
        assert_eq!(client.subscribe_codes(&filters[3..]), [1, failure]);
    });
}
