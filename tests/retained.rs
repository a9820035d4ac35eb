//! Retained messages: what is kept, who is sent it, and with which flags.
mod support;

use std::collections::BTreeMap;
use std::thread;
use support::*;

/// Retained messages that show, by coming, that what was asked for before them has come too. They are as many as
/// it takes to have some on every shard.
struct Markers(String);

impl Markers {
    const COUNT: usize = 24;

    fn new(broker: &Broker) -> Markers {
        let prefix = unique("marker");
        let mut publisher = Client::new(broker, Version::V4);
        for n in 0..Markers::COUNT {
            publisher.publish_with(&Publish::new(&format!("{prefix}/{n}"), "marker").qos(1).retain());
        }
        Markers(prefix)
    }

    /// Subscribes to `filters` and to the markers. Returns the codes for `filters` and, in the order of their
    /// topics, the messages that came before the last marker, of which there are at least `count`.
    #[track_caller]
    fn subscribe(
        &self,
        client: &mut Client,
        filters: &[(&str, u8)],
        count: usize,
    ) -> (Vec<u8>, Vec<Publish>) {
        let all = format!("{}/#", self.0);
        let mut filters = filters.to_vec();
        filters.push((&all, 0));
        let id = client.fresh_id();
        client.send(&subscribe(client.version, id, &filters));
        let (mut codes, mut messages, mut markers, mut releases) = (None, BTreeMap::new(), 0, 0);
        while codes.is_none() || markers < Markers::COUNT || messages.len() < count || releases > 0 {
            match client.receive() {
                Packet::Suback { id: got, codes: list, .. } if got == id => codes = Some(list),
                Packet::Ack(ack) if ack.kind == Kind::Pubrel && releases > 0 => {
                    releases -= 1;
                    client.ack(Kind::Pubcomp, ack.id);
                }
                Packet::Publish(message) if message.payload == b"marker" => markers += 1,
                Packet::Publish(message) => {
                    match (message.qos, message.id) {
                        (1, Some(id)) => client.ack(Kind::Puback, id),
                        (2, Some(id)) => {
                            releases += 1;
                            client.ack(Kind::Pubrec, id);
                        }
                        _ => {}
                    }
                    let before = messages.insert(message.topic.clone(), message);
                    assert_eq!(before, None, "a topic's retained message came twice");
                }
                other => panic!("expected SUBACK or a retained message, got {other:?}"),
            }
        }
        let mut codes = codes.unwrap();
        codes.pop();
        (codes, messages.into_values().collect())
    }

    /// The retained messages that a new client is sent for `filters`; at least `count`.
    #[track_caller]
    fn retained(
        &self,
        broker: &Broker,
        version: Version,
        filters: &[(&str, u8)],
        count: usize,
    ) -> Vec<Publish> {
        self.subscribe(&mut Client::new(broker, version), filters, count).1
    }
}

/// Publishes a retained message at QoS 1.
fn retain(client: &mut Client, topic: &str, payload: &str) {
    client.publish_with(&Publish::new(topic, payload).qos(1).retain());
}

#[test]
fn a_new_subscription_is_sent_every_matching_retained_message_with_retain_set() {
    each_version(|broker, version| {
        let markers = Markers::new(broker);
        let topic = unique("stored");
        let mut publisher = Client::new(broker, version);
        for (n, qos) in (0..12).zip([0, 1, 2].into_iter().cycle()) {
            publisher
                .publish_with(&Publish::new(&format!("{topic}/{n:02}/x"), format!("{n}")).qos(qos).retain());
        }
        let got = markers.retained(broker, version, &[(&format!("{topic}/+/x"), 2)], 12);
        assert_eq!(payloads(&got), (0..12).map(|n| n.to_string()).collect::<Vec<_>>());
        for (n, message) in (0..).zip(&got) {
            assert_eq!((message.retain, message.dup, message.qos), (true, false, n % 3), "{message:?}");
        }
        let one = markers.retained(broker, version, &[(&format!("{topic}/05/x"), 2)], 1);
        assert_eq!(payloads(&one), ["5"]);
        assert_eq!(markers.retained(broker, version, &[(&topic, 2)], 0), []);
    });
}

#[test]
fn a_retained_message_is_sent_at_the_lower_of_its_and_the_granted_qos() {
    each_version(|broker, version| {
        let markers = Markers::new(broker);
        let topic = unique("lower");
        let mut publisher = Client::new(broker, version);
        for published in 0..=2 {
            publisher.publish_with(&Publish::new(&topic, "kept").qos(published).retain());
            for granted in 0..=2 {
                let got = markers.retained(broker, version, &[(&topic, granted)], 1);
                assert_eq!(got[0].qos, published.min(granted));
            }
        }
    });
}

#[test]
fn a_retained_message_replaces_the_one_before() {
    each_version(|broker, version| {
        let markers = Markers::new(broker);
        let topic = unique("replaced");
        let mut publisher = Client::new(broker, version);
        for (n, qos) in (0..9).zip([1, 0, 2].into_iter().cycle()) {
            publisher.publish_with(&Publish::new(&topic, format!("{n}")).qos(qos).retain());
            // Behind a QoS 0 message, an acknowledged one shows that it was handled.
            publisher.publish(&topic, 1, "not retained");
            let got = markers.retained(broker, version, &[(&topic, 2)], 1);
            assert_eq!(payloads(&got), [n.to_string()]);
        }
    });
}

#[test]
fn an_empty_retained_message_deletes_and_is_itself_delivered_but_not_kept() {
    each_version(|broker, version| {
        let markers = Markers::new(broker);
        let topic = unique("deleted");
        let mut publisher = Client::new(broker, version);
        let mut subscriber = Client::new(broker, version);
        subscriber.subscribe(&topic, 2);
        for qos in 0..=2 {
            retain(&mut publisher, &topic, "kept");
            subscriber.expect_message(&topic, "kept");
            publisher.publish_with(&Publish::new(&topic, "").qos(qos).retain());
            let got = subscriber.expect_message(&topic, "");
            assert_eq!((got.retain, got.qos), (false, qos));
            assert_eq!(markers.retained(broker, version, &[(&topic, 2)], 0), []);
        }
    });
}

#[test]
fn deleting_what_is_not_there_is_harmless() {
    each_version(|broker, version| {
        let markers = Markers::new(broker);
        let topic = unique("nothing");
        let mut publisher = Client::new(broker, version);
        retain(&mut publisher, &topic, "");
        assert_eq!(markers.retained(broker, version, &[(&topic, 2)], 0), []);
    });
}

#[test]
fn a_message_without_retain_leaves_the_retained_one_alone() {
    each_version(|broker, version| {
        let markers = Markers::new(broker);
        let topic = unique("alone");
        let mut publisher = Client::new(broker, version);
        publisher.publish(&topic, 1, "before");
        assert_eq!(markers.retained(broker, version, &[(&topic, 2)], 0), []);
        retain(&mut publisher, &topic, "kept");
        for qos in 0..=2 {
            publisher.publish(&topic, qos, "passing");
            publisher.publish(&topic, qos, "");
        }
        assert_eq!(payloads(&markers.retained(broker, version, &[(&topic, 2)], 1)), ["kept"]);
    });
}

#[test]
fn an_existing_subscription_gets_a_retained_message_with_retain_clear() {
    each_version(|broker, version| {
        let topic = unique("live");
        let mut subscriber = Client::new(broker, version);
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, version);
        for qos in 0..=2 {
            publisher.publish_with(&Publish::new(&topic, "live").qos(qos).retain());
            assert!(!subscriber.expect_message(&topic, "live").retain);
        }
    });
}

#[test]
fn retain_as_published_forwards_the_flag_as_it_came() {
    each_broker(|broker| {
        let topic = unique("rap");
        let mut subscriber = Client::new(broker, Version::V5);
        assert_eq!(subscriber.subscribe_codes(&[(&topic, 2 | RETAIN_AS_PUBLISHED)]), [2]);
        let mut publisher = Client::new(broker, Version::V5);
        for qos in 0..=2 {
            publisher.publish_with(&Publish::new(&topic, "kept").qos(qos).retain());
            assert!(subscriber.expect_message(&topic, "kept").retain);
            publisher.publish_with(&Publish::new(&topic, "passing").qos(qos));
            assert!(!subscriber.expect_message(&topic, "passing").retain);
        }
    });
}

#[test]
fn a_message_kept_for_an_offline_session_has_retain_as_its_subscription_says() {
    each_broker(|broker| {
        let topic = unique("offline");
        let (flat, rap) = (format!("{topic}/flat"), format!("{topic}/rap"));
        let connect = Connect::new(Version::V5, &unique("subscriber")).persistent();
        let mut subscriber = Client::connect(broker, &connect);
        assert_eq!(subscriber.subscribe_codes(&[(&flat, 1), (&rap, 1 | RETAIN_AS_PUBLISHED)]), [1, 1]);
        subscriber.disconnect();
        let mut publisher = Client::new(broker, Version::V5);
        retain(&mut publisher, &flat, "a");
        retain(&mut publisher, &rap, "b");
        let mut subscriber = Client::connect(broker, &connect);
        assert!(!subscriber.expect_message(&flat, "a").retain);
        assert!(subscriber.expect_message(&rap, "b").retain);
    });
}

#[test]
fn retain_handling_0_sends_retained_messages_with_every_subscribe() {
    each_version(|broker, version| {
        let markers = Markers::new(broker);
        let topic = unique("rh0");
        retain(&mut Client::new(broker, version), &topic, "kept");
        let mut client = Client::new(broker, version);
        for qos in [1, 1, 0, 2] {
            let (codes, got) = markers.subscribe(&mut client, &[(&topic, qos)], 1);
            assert_eq!((codes, payloads(&got)), (vec![qos], vec!["kept".to_string()]));
            assert!(got[0].retain);
        }
    });
}

#[test]
fn retain_handling_1_sends_retained_messages_only_for_a_new_subscription() {
    each_broker(|broker| {
        let markers = Markers::new(broker);
        let topic = unique("rh1");
        retain(&mut Client::new(broker, Version::V5), &topic, "kept");
        let connect = Connect::new(Version::V5, &unique("client")).persistent();
        let mut client = Client::connect(broker, &connect);
        assert_eq!(payloads(&markers.subscribe(&mut client, &[(&topic, 1 | RETAIN_IF_NEW)], 1).1), ["kept"]);
        assert_eq!(markers.subscribe(&mut client, &[(&topic, 1 | RETAIN_IF_NEW)], 0), (vec![1], vec![]));
        assert_eq!(markers.subscribe(&mut client, &[(&topic, 2 | RETAIN_IF_NEW)], 0), (vec![2], vec![]));
        client.disconnect();
        // The resumed session still has the subscription.
        let mut client = Client::connect(broker, &connect);
        assert_eq!(markers.subscribe(&mut client, &[(&topic, 1 | RETAIN_IF_NEW)], 0), (vec![1], vec![]));
        client.unsubscribe(&topic);
        assert_eq!(payloads(&markers.subscribe(&mut client, &[(&topic, 1 | RETAIN_IF_NEW)], 1).1), ["kept"]);
    });
}

#[test]
fn retain_handling_2_sends_no_retained_messages() {
    each_broker(|broker| {
        let markers = Markers::new(broker);
        let topic = unique("rh2");
        let mut publisher = Client::new(broker, Version::V5);
        retain(&mut publisher, &topic, "kept");
        let mut client = Client::new(broker, Version::V5);
        for _ in 0..2 {
            assert_eq!(markers.subscribe(&mut client, &[(&topic, 1 | RETAIN_NEVER)], 0), (vec![1], vec![]));
        }
        publisher.publish(&topic, 1, "live");
        client.expect_message(&topic, "live");
    });
}

#[test]
fn each_filter_of_a_subscribe_has_its_own_retain_handling() {
    each_broker(|broker| {
        let markers = Markers::new(broker);
        let topic = unique("mixed");
        let names = ["a", "b", "c"].map(|name| format!("{topic}/{name}"));
        let mut publisher = Client::new(broker, Version::V5);
        names.iter().for_each(|name| retain(&mut publisher, name, name));
        let filters = [(&*names[0], 1), (&*names[1], 1 | RETAIN_IF_NEW), (&*names[2], 1 | RETAIN_NEVER)];
        let mut client = Client::new(broker, Version::V5);
        let first = markers.subscribe(&mut client, &filters, 2).1;
        assert_eq!(payloads(&first), [names[0].as_str(), &names[1]]);
        let second = markers.subscribe(&mut client, &filters, 1).1;
        assert_eq!(payloads(&second), [names[0].as_str()]);
    });
}

#[test]
fn a_retained_message_carries_the_subscription_id_it_was_sent_for() {
    each_broker(|broker| {
        let topic = unique("id");
        retain(&mut Client::new(broker, Version::V5), &topic, "kept");
        let mut client = Client::new(broker, Version::V5);
        let id = Properties::new().with(prop::SUBSCRIPTION_ID, Value::Varint(200_000));
        client.send(&subscribe_with(Version::V5, 1, &id, &[(&topic, 1)]));
        let mut first = client.receive();
        if matches!(first, Packet::Suback { .. }) {
            first = client.receive();
        }
        let Packet::Publish(message) = first else { panic!("expected a retained message, got {first:?}") };
        assert_eq!(message.properties.all(prop::SUBSCRIPTION_ID), [&Value::Varint(200_000)]);
    });
}

#[test]
fn a_retained_message_keeps_its_properties() {
    each_broker(|broker| {
        let markers = Markers::new(broker);
        let topic = unique("properties");
        let message = Publish::new(&topic, "kept")
            .qos(1)
            .retain()
            .property(prop::PAYLOAD_FORMAT, 1_u8)
            .property(prop::CONTENT_TYPE, "text/plain")
            .property(prop::RESPONSE_TOPIC, "reply/here")
            .property(prop::CORRELATION_DATA, &[0_u8, 1, 255][..])
            .property(prop::USER, ("b", "1"))
            .property(prop::USER, ("a", "2"));
        Client::new(broker, Version::V5).publish_with(&message);
        let got = markers.retained(broker, Version::V5, &[(&topic, 1)], 1).remove(0);
        for (id, value) in &message.properties.0 {
            assert!(got.properties.all(*id).contains(&value), "property 0x{id:02x} is missing in {got:?}");
        }
        assert_eq!(got.properties.user(), [("b", "1"), ("a", "2")]);
    });
}

#[test]
fn retained_messages_outlive_the_session_of_their_publisher() {
    each_version(|broker, version| {
        let markers = Markers::new(broker);
        let topic = unique("outlives");
        let connect = Connect::new(version, &unique("publisher"));
        let mut publisher = Client::connect(broker, &connect);
        retain(&mut publisher, &topic, "kept");
        publisher.disconnect();
        Client::connect(broker, &connect).disconnect();
        assert_eq!(payloads(&markers.retained(broker, version, &[(&topic, 1)], 1)), ["kept"]);
    });
}

#[test]
fn a_large_number_of_retained_messages_is_sent_whole() {
    each_version(|broker, version| {
        const COUNT: usize = 3000;
        let topic = unique("many");
        let mut publisher = Client::new(broker, version);
        for chunk in (0..COUNT).collect::<Vec<_>>().chunks(500) {
            let message = |n: &usize| {
                let retained = Publish::new(&format!("{topic}/{n}"), format!("{n}")).qos(1).retain();
                publish(version, &retained.id(*n as u16 + 1))
            };
            publisher.send(&chunk.iter().flat_map(message).collect::<Vec<u8>>());
            for n in chunk {
                publisher.expect_ack(Kind::Puback, *n as u16 + 1);
            }
        }
        for (filter, qos) in [(format!("{topic}/#"), 0), (format!("{topic}/+"), 1)] {
            let mut subscriber = Client::new(broker, version);
            subscriber.subscribe(&filter, qos);
            let mut numbers: Vec<usize> =
                payloads(&subscriber.messages(COUNT)).iter().map(|n| n.parse().unwrap()).collect();
            numbers.sort();
            assert!(numbers.into_iter().eq(0..COUNT), "{filter}: something is missing or doubled");
        }
    });
}

#[test]
fn what_was_acknowledged_before_a_subscribe_is_what_the_subscriber_gets() {
    each_version(|broker, version| {
        let topic = unique("visible");
        let mut publisher = Client::new(broker, version);
        for n in 0..100 {
            retain(&mut publisher, &topic, &format!("{n}"));
            let mut subscriber = Client::new(broker, version);
            subscriber.subscribe(&topic, 0);
            let first = subscriber.expect_message(&topic, format!("{n}"));
            assert!(first.retain);
        }
    });
}

#[test]
fn subscribing_while_a_retained_message_changes_loses_reverses_and_doubles_nothing() {
    each_version(|broker, version| {
        const LAST: usize = 1500;
        let topic = unique("race");
        let mut publisher = Client::new(broker, version);
        retain(&mut publisher, &topic, "0");
        thread::scope(|scope| {
            let publishing = scope.spawn(|| {
                for n in 1..=LAST {
                    retain(&mut publisher, &topic, &format!("{n}"));
                }
            });
            let mut seen = 0;
            while seen < LAST {
                let mut subscriber = Client::new(broker, version);
                let (codes, early) = subscriber.subscribe_amid(&[(&topic, 1)]);
                assert_eq!(codes, [1]);
                let mut early = early.into_iter();
                // Some follow to the end, most leave after a few.
                let enough = if seen % 7 == 0 && seen > LAST / 2 { usize::MAX } else { 5 };
                let mut before: Option<usize> = None;
                // What is published before SUBACK is not promised: what comes early may have gaps.
                let mut is_promised = false;
                for _ in 0..enough {
                    let was_promised = is_promised;
                    let got = early.next().unwrap_or_else(|| {
                        is_promised = true;
                        subscriber.expect_publish()
                    });
                    subscriber.finish(&got);
                    let n: usize = String::from_utf8(got.payload.clone()).unwrap().parse().unwrap();
                    match before {
                        None => assert!(n >= seen, "{n} was sent when {seen} was already replaced"),
                        Some(before) if !was_promised => assert!(n > before, "behind {before} came {got:?}"),
                        Some(before) => assert_eq!(n, before + 1, "behind {before} came {got:?}"),
                    }
                    before = Some(n);
                    if n == LAST {
                        break;
                    }
                }
                seen = before.unwrap();
            }
            publishing.join().unwrap();
        });
    });
}

#[test]
fn without_retain_a_retained_publish_is_refused_with_0x9a() {
    each_version_with(&["--no-retain"], |broker, version| {
        let connect = Connect::new(version, &unique("client"));
        let (mut client, _, limits) = Client::connect_with(broker, &connect);
        if version.is_5() {
            assert_eq!(limits.number(prop::RETAIN_AVAILABLE), Some(0));
        }
        let topic = unique("no-retain");
        client.publish(&topic, 1, "not retained");
        client.send_publish(&Publish::new(&topic, "kept?").qos(1).id(9).retain());
        client.expect_disconnect(0x9a);
    });
}

#[test]
fn without_retain_a_retained_will_is_refused_with_0x9a() {
    each_broker_with(&["--no-retain"], |broker| {
        let connect = Connect::new(Version::V5, &unique("will")).will(Will::new("w", "x").retain());
        Client::refused(broker, &connect, 0x9a);
    });
}

#[test]
fn with_retain_nothing_says_that_it_is_not_available() {
    each_broker(|broker| {
        let (_, _, limits) = Client::connect_with(broker, &Connect::new(Version::V5, &unique("client")));
        assert_ne!(limits.number(prop::RETAIN_AVAILABLE), Some(0));
    });
}

#[test]
fn one_retained_topic_above_the_limit_is_not_kept_and_gets_0x97_from_its_owner() {
    each_broker_with(&["--max-retained", "0"], |broker| {
        let mut publisher = Client::new(broker, Version::V5);
        let topic = unique("retained");
        publisher.send_publish(&Publish::new(&topic, "kept?").qos(1).id(1).retain());
        match broker.shards {
            1 => publisher.expect_ack_code(Kind::Puback, 1, 0x97),
            // The owner of the topic may be another shard, which knows of it later than the publisher's.
            _ => match publisher.receive() {
                Packet::Ack(ack) => {
                    assert!(
                        (ack.kind, ack.id) == (Kind::Puback, 1) && [0x10, 0x97].contains(&ack.code),
                        "{ack:?}"
                    );
                }
                other => panic!("expected PUBACK, got {other:?}"),
            },
        }
        let mut late = Client::new(broker, Version::V5);
        late.subscribe(&topic, 1);
        late.expect_nothing_until_ping();
        publisher.publish(&unique("plain"), 1, "not retained");
    });
}
