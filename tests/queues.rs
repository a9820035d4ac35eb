//! The queues of absent and of slow subscribers: their bounds, what gives way, and that nobody else notices.
mod support;

use std::thread;
use support::*;

/// An absent subscriber with a queue of ten, and what it gets of 30 messages that were published meanwhile.
fn of_thirty(broker: &Broker, version: Version) -> Vec<String> {
    let topic = unique("queue");
    let connect = Connect::new(version, &unique("away")).persistent();
    let mut away = Client::connect(broker, &connect);
    away.subscribe(&topic, 2);
    away.disconnect();
    let mut publisher = Client::new(broker, version);
    for n in 0..30 {
        publisher.publish(&topic, 1 + n % 2, format!("{n}"));
    }
    settle(broker, &mut publisher);
    let mut back = Client::connect(broker, &connect);
    let got = payloads(&back.messages(10));
    back.expect_nothing_until_ping();
    publisher.publish(&topic, 1, "and on it goes");
    back.expect_message(&topic, "and on it goes");
    got
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn a_full_queue_drops_the_oldest_message_unless_told_otherwise() {
    each_version_with(&["--max-queued-messages", "10"], |broker, version| {
        assert_eq!(of_thirty(broker, version), numbers(20..30));
    });
}

#[test]
fn queue_policy_drop_oldest_keeps_the_newest_messages() {
    each_version_with(
        &["--max-queued-messages", "10", "--queue-policy", "drop-oldest"],
        |broker, version| {
            assert_eq!(of_thirty(broker, version), numbers(20..30));
        },
    );
}

#[test]
fn queue_policy_drop_newest_keeps_the_oldest_messages() {
    each_version_with(
        &["--max-queued-messages", "10", "--queue-policy", "drop-newest"],
        |broker, version| {
            assert_eq!(of_thirty(broker, version), numbers(0..10));
        },
    );
}

#[test]
fn queue_policy_refuse_tells_the_publisher_0x97() {
    // A publisher on another shard than the full session cannot be told, so here there is only one.
    let flags = ["--max-queued-messages", "10", "--queue-policy", "refuse"];
    each_broker_with(&flags, |broker| {
        if broker.shards != 1 {
            return;
        }
        let topic = unique("refuse");
        let connect = Connect::new(Version::V5, &unique("away")).persistent();
        let mut away = Client::connect(broker, &connect);
        away.subscribe(&topic, 2);
        away.disconnect();
        let mut other = Client::new(broker, Version::V5);
        other.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, Version::V5);
        for n in 0..10 {
            publisher.publish(&topic, 1 + n % 2, format!("{n}"));
        }
        for id in 100..110 {
            publisher.send_publish(&Publish::new(&topic, "refused").qos(1).id(id));
            publisher.expect_ack_code(Kind::Puback, id, 0x97);
            publisher.send_publish(&Publish::new(&topic, "refused").qos(2).id(id));
            publisher.expect_ack_code(Kind::Pubrec, id, 0x97);
        }
        // What is refused reaches nobody, so that the publisher can send it again.
        assert_eq!(payloads(&other.messages(10)), numbers(0..10));
        let mut back = Client::connect(broker, &connect);
        assert_eq!(payloads(&back.messages(10)), numbers(0..10));
        publisher.publish(&topic, 1, END);
        assert_eq!(back.messages_until_end(), []);
        assert_eq!(other.messages_until_end(), []);
    });
}

#[test]
fn with_queue_policy_refuse_no_queue_exceeds_its_bound_wherever_the_publisher_is() {
    let flags = ["--max-queued-messages", "10", "--queue-policy", "refuse"];
    each_version_with(&flags, |broker, version| {
        let topic = unique("anywhere");
        let connect = Connect::new(version, &unique("away")).persistent();
        let mut away = Client::connect(broker, &connect);
        away.subscribe(&topic, 1);
        away.disconnect();
        let mut publisher = Client::new(broker, version);
        for id in 1..=30 {
            publisher.send_publish(&Publish::new(&topic, format!("{id}")).qos(1).id(id));
            match publisher.receive() {
                Packet::Ack(ack) => assert!([0, 0x97].contains(&ack.code), "{ack:?}"),
                other => panic!("expected PUBACK, got {other:?}"),
            }
        }
        settle(broker, &mut publisher);
        let mut back = Client::connect(broker, &connect);
        let got: Vec<usize> = payloads(&back.messages(10)).iter().map(|n| n.parse().unwrap()).collect();
        assert!(got.is_sorted(), "{got:?}");
        back.expect_nothing_until_ping();
    });
}

#[test]
fn what_is_in_flight_is_not_part_of_the_queue() {
    each_broker_with(&["--max-queued-messages", "10"], |broker| {
        let topic = unique("beside");
        let connect = Connect::new(Version::V5, &unique("slow")).property(prop::RECEIVE_MAXIMUM, 3_u16);
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe(&topic, 1);
        let mut publisher = Client::new(broker, Version::V5);
        for n in 0..30 {
            publisher.publish(&topic, 1, format!("{n}"));
        }
        // QoS 0 does not wait for the window. It shows that all before it has come to the subscriber's session.
        publisher.publish(&topic, 0, END);
        let in_flight: Vec<Publish> = (0..3).map(|_| subscriber.expect_publish()).collect();
        assert_eq!(payloads(&in_flight), numbers(0..3));
        subscriber.expect_message(&topic, END);
        in_flight.iter().for_each(|message| subscriber.finish(message));
        let got = payloads(&subscriber.messages(10));
        assert_eq!(got, numbers(20..30));
    });
}

#[test]
fn qos_0_is_not_queued_for_an_absent_session() {
    each_version(|broker, version| {
        let topic = unique("qos0");
        let connect = Connect::new(version, &unique("away")).persistent();
        let mut away = Client::connect(broker, &connect);
        away.subscribe(&topic, 1);
        away.disconnect();
        let mut publisher = Client::new(broker, version);
        publisher.publish(&topic, 0, "QoS 0");
        settle(broker, &mut publisher);
        publisher.publish(&topic, 1, END);
        assert_eq!(Client::connect(broker, &connect).messages_until_end(), []);
    });
}

#[test]
fn a_queue_is_bounded_in_bytes_too() {
    each_version_with(&["--max-queued-bytes", "100K"], |broker, version| {
        let topic = unique("bytes");
        let connect = Connect::new(version, &unique("away")).persistent();
        let mut away = Client::connect(broker, &connect);
        away.subscribe(&topic, 1);
        away.disconnect();
        let mut publisher = Client::new(broker, version);
        for n in 0..40_u8 {
            publisher.publish(&topic, 1, vec![n; 10_000]);
        }
        publisher.publish(&topic, 1, END);
        settle(broker, &mut publisher);
        let kept = Client::connect(broker, &connect).messages_until_end();
        let numbers: Vec<u8> = kept.iter().map(|message| message.payload[0]).collect();
        assert!((5..=10).contains(&numbers.len()), "{numbers:?}");
        assert!(numbers.iter().copied().eq(40 - numbers.len() as u8..40), "{numbers:?}");
    });
}

#[test]
fn a_subscriber_that_does_not_read_loses_qos_0_and_nobody_else_does() {
    each_version(|broker, version| {
        const MESSAGES: usize = 1200;
        let topic = unique("slow");
        let mut slow = Client::new(broker, version);
        let mut quick = Client::new(broker, version);
        for client in [&mut slow, &mut quick] {
            client.subscribe(&topic, 0);
        }
        let mut publisher = Client::new(broker, version);
        let mut payload = vec![b'.'; 64 * 1024];
        for n in 0..MESSAGES {
            payload[..4].copy_from_slice(&(n as u32).to_be_bytes());
            publisher.publish(&topic, 0, &payload);
            assert!(quick.expect_publish().payload == payload, "message {n}");
        }
        // Far less than 75 MiB waits for the slow one: a bounded amount, whole messages, in order.
        publisher.publish(&format!("{topic}/other"), 0, "");
        let mut seen = Vec::new();
        slow.send(&ping());
        loop {
            match slow.receive() {
                Packet::Publish(message) => {
                    assert_eq!(message.payload.len(), payload.len());
                    seen.push(u32::from_be_bytes(message.payload[..4].try_into().unwrap()));
                }
                Packet::Pingresp => break,
                other => panic!("expected a message or PINGRESP, got {other:?}"),
            }
        }
        assert!(seen.is_sorted(), "out of order");
        assert!(seen.len() < MESSAGES / 2, "{} of {MESSAGES} messages were kept for it", seen.len());
        // Now that it reads, it is served again.
        publisher.publish(&topic, 0, "back");
        slow.expect_message(&topic, "back");
        quick.expect_message(&topic, "back");
    });
}

#[test]
fn a_subscriber_that_does_not_read_keeps_its_qos_1_messages_within_its_queue() {
    each_version(|broker, version| {
        const MESSAGES: u32 = 200;
        let topic = unique("patient");
        let mut slow = Client::new(broker, version);
        slow.subscribe(&topic, 1);
        let mut publisher = Client::new(broker, version);
        let mut payload = vec![b'.'; 64 * 1024];
        for n in 0..MESSAGES {
            payload[..4].copy_from_slice(&n.to_be_bytes());
            publisher.publish(&topic, 1, &payload);
        }
        for n in 0..MESSAGES {
            let got = slow.expect_publish();
            slow.finish(&got);
            assert_eq!(u32::from_be_bytes(got.payload[..4].try_into().unwrap()), n);
        }
    });
}

#[test]
fn a_subscriber_that_never_acknowledges_stops_nobody() {
    each_version(|broker, version| {
        let topic = unique("mute");
        let mut mute = Client::new(broker, version);
        let mut diligent = Client::new(broker, version);
        for client in [&mut mute, &mut diligent] {
            client.subscribe(&topic, 1);
        }
        let mut publisher = Client::new(broker, version);
        thread::scope(|scope| {
            scope.spawn(|| (0..3000).for_each(|n| publisher.publish(&topic, 1, format!("{n}"))));
            for n in 0..3000 {
                diligent.expect_message(&topic, format!("{n}"));
            }
        });
    });
}

#[test]
fn what_is_in_flight_to_a_session_is_bounded_in_bytes_too() {
    // 43 of them are more than the 64 MiB that are kept for one session.
    const SIZE: usize = 1536 << 10;
    const FIRST: usize = 43;
    each_broker(|broker| {
        let topic = unique("flight");
        let mut subscriber = Client::connect(broker, &Connect::new(Version::V5, &unique("f")).persistent());
        subscriber.subscribe(&topic, 1);
        let mut publisher = Client::new(broker, Version::V5);
        let payload = vec![b'x'; SIZE];
        let mut ids = Vec::new();
        for _ in 0..FIRST {
            publisher.publish(&topic, 1, &payload);
            ids.push(subscriber.expect_publish().id.expect("QoS 1"));
        }
        for _ in 0..2 {
            publisher.publish(&topic, 1, &payload);
        }
        settle(broker, &mut publisher);
        subscriber.expect_nothing_until_ping();
        for id in &ids[..2] {
            subscriber.ack(Kind::Puback, *id);
            assert_eq!(subscriber.expect_publish().payload.len(), SIZE);
        }
    });
}
