//! Order: messages of one publisher on one topic at one QoS arrive in the order they were sent.
mod support;

use std::collections::HashMap;
use std::thread;
use support::*;

/// The payload of the `n`th message of a publisher, and back.
fn numbered(publisher: usize, n: usize) -> String {
    format!("{publisher} {n}")
}

fn number(message: &Publish) -> (usize, usize) {
    let text = String::from_utf8(message.payload.clone()).unwrap();
    let (publisher, n) = text.split_once(' ').unwrap();
    (publisher.parse().unwrap(), n.parse().unwrap())
}

/// Publishes `count` numbered messages, every third at QoS 1 and every third at QoS 2, up to 200 unfinished at a
/// time, spread over `topics`.
fn publish_many(client: &mut Client, publisher: usize, topics: &[String], count: usize) {
    for batch in (0..count).collect::<Vec<_>>().chunks(200) {
        let mut bytes = Vec::new();
        for n in batch {
            let qos = (n % 3) as u8;
            let topic = &topics[n / 3 % topics.len()];
            let mut message = Publish::new(topic, numbered(publisher, *n)).qos(qos);
            message.id = (qos > 0).then_some((*n % 30_000) as u16 + 1);
            bytes.extend(publish(client.version, &message));
        }
        client.send(&bytes);
        let mut unfinished = batch.iter().filter(|n| *n % 3 > 0).count();
        while unfinished > 0 {
            match client.receive() {
                Packet::Ack(ack) if ack.kind == Kind::Pubrec && ack.code < 0x80 => {
                    client.ack(Kind::Pubrel, ack.id)
                }
                Packet::Ack(ack) if ack.kind != Kind::Pubrel && ack.code < 0x80 => unfinished -= 1,
                other => panic!("expected an acknowledgement, got {other:?}"),
            }
        }
    }
}

/// That the messages of each publisher, topic and QoS are in order, and how many there are for each publisher.
fn check_order(messages: &[Publish]) -> HashMap<usize, usize> {
    let mut last: HashMap<(usize, String, u8), usize> = HashMap::new();
    let mut counts = HashMap::new();
    for message in messages {
        let (publisher, n) = number(message);
        let before = last.insert((publisher, message.topic.clone(), message.qos), n);
        assert!(before.is_none_or(|before| before < n), "{message:?} came behind {before:?}");
        *counts.entry(publisher).or_default() += 1;
    }
    counts
}

#[test]
fn each_publishers_messages_arrive_in_order_and_complete_at_every_subscriber() {
    each_version(|broker, version| {
        const PUBLISHERS: usize = 4;
        const MESSAGES: usize = 1500;
        let topic = unique("order");
        let topics: Vec<String> = (0..3).map(|n| format!("{topic}/{n}")).collect();
        let filters =
            [vec![format!("{topic}/#")], topics.clone(), vec![format!("{topic}/+"), topics[1].clone()]];
        let mut subscribers: Vec<Client> = filters
            .iter()
            .map(|filters| {
                let mut subscriber = Client::new(broker, version);
                filters.iter().for_each(|filter| subscriber.subscribe(filter, 2));
                subscriber
            })
            .collect();
        let mut publishers: Vec<Client> = (0..PUBLISHERS).map(|_| Client::new(broker, version)).collect();
        let topics = &topics;
        thread::scope(|scope| {
            for (number, client) in publishers.iter_mut().enumerate() {
                scope.spawn(move || publish_many(client, number, topics, MESSAGES));
            }
            for subscriber in &mut subscribers {
                scope.spawn(|| {
                    let got = check_order(&subscriber.messages(PUBLISHERS * MESSAGES));
                    assert!(got.values().all(|count| *count == MESSAGES), "{got:?}");
                });
            }
        });
    });
}

#[test]
fn a_lower_granted_qos_keeps_the_order_too() {
    each_version(|broker, version| {
        for granted in 0..=1 {
            let topic = unique("lower");
            let mut subscriber = Client::new(broker, version);
            subscriber.subscribe(&topic, granted);
            let mut publisher = Client::new(broker, version);
            thread::scope(|scope| {
                scope.spawn(|| {
                    (0..600).for_each(|n| publisher.publish(&topic, 2, numbered(0, n)));
                });
                let got = subscriber.messages(600);
                assert!(got.iter().map(|message| number(message).1).eq(0..600));
            });
        }
    });
}

#[test]
fn a_small_window_keeps_the_order() {
    each_broker(|broker| {
        let topic = unique("window");
        let connect = Connect::new(Version::V5, &unique("subscriber")).property(prop::RECEIVE_MAXIMUM, 3_u16);
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, Version::V5);
        (0..500).for_each(|n| publisher.publish(&topic, 1 + (n % 2) as u8, numbered(0, n)));
        let got = subscriber.messages(500);
        assert!(got.iter().map(|message| number(message).1).eq(0..500));
    });
}

#[test]
fn what_was_queued_comes_before_what_is_published_after_the_return() {
    each_version(|broker, version| {
        let topic = unique("return");
        let connect = Connect::new(version, &unique("subscriber")).persistent();
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe(&topic, 1);
        subscriber.disconnect();
        let mut publisher = Client::new(broker, version);
        (0..300).for_each(|n| publisher.publish(&topic, 1, numbered(0, n)));
        thread::scope(|scope| {
            scope.spawn(|| (300..900).for_each(|n| publisher.publish(&topic, 1, numbered(0, n))));
            // It comes and goes while messages keep coming; what it leaves unanswered comes again.
            let mut next = 0;
            while next < 900 {
                let mut subscriber = Client::connect(broker, &connect);
                for _ in 0..100 {
                    let message = subscriber.expect_publish();
                    assert_eq!(number(&message), (0, next), "{message:?}");
                    subscriber.finish(&message);
                    next += 1;
                }
                subscriber.send(&ping());
                while subscriber.receive() != Packet::Pingresp {}
                subscriber.reset();
            }
        });
    });
}

#[test]
fn a_publisher_that_moves_to_a_new_connection_keeps_its_order() {
    each_version(|broker, version| {
        let topic = unique("moving");
        let mut subscriber = Client::new(broker, version);
        subscriber.subscribe(&topic, 1);
        let connect = Connect::new(version, &unique("publisher")).persistent();
        for round in 0..20 {
            let mut publisher = Client::connect(broker, &connect);
            (0..20).for_each(|n| publisher.publish(&topic, 1, numbered(0, round * 20 + n)));
            publisher.reset();
        }
        let got = subscriber.messages(400);
        assert!(got.iter().map(|message| number(message).1).eq(0..400));
    });
}

#[test]
fn large_and_small_messages_keep_their_order() {
    each_version(|broker, version| {
        let topic = unique("sizes");
        let mut subscriber = Client::new(broker, version);
        subscriber.subscribe(&topic, 0);
        let mut publisher = Client::new(broker, version);
        // On both sides of the sizes at which payloads may be shared or torn.
        let sizes = [1, 1000, 2047, 2048, 2049, 5000, 65_535, 65_536, 100_000, 10, 3];
        for round in 0..20_usize {
            let payloads = sizes.map(|size| vec![round as u8; size]);
            let bytes = payloads.clone().map(|payload| publish(version, &Publish::new(&topic, payload)));
            publisher.send(&bytes.concat());
            for payload in payloads {
                assert!(subscriber.expect_publish().payload == payload, "round {round}: {}", payload.len());
            }
        }
    });
}
