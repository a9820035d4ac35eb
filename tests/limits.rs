//! Limits an operator sets: announced to version 5 clients, and kept towards both versions.
mod support;
use std::time::Instant;
use support::*;

/// A broker that takes little.
const NARROW: &[&str] = &["--max-qos", "1", "--no-retain", "--max-packet", "1K"];

#[test]
fn maximum_qos_is_announced_and_more_is_an_error() {
    each_version_with(NARROW, |broker, version| {
        let (mut client, _, connack) = Client::connect_with(broker, &Connect::new(version, &unique("l")));
        if version.is_5() {
            assert_eq!(connack.number(prop::MAXIMUM_QOS), Some(1));
        }
        client.publish("t", 1, "within");
        client.send(&publish(version, &Publish::new("t", "above").qos(2).id(9)));
        client.expect_disconnect(0x9b);
    });
}

#[test]
fn without_any_qos_above_0_publishing_at_1_is_an_error() {
    each_version_with(&["--max-qos", "0"], |broker, version| {
        let (mut client, _, connack) = Client::connect_with(broker, &Connect::new(version, &unique("l")));
        if version.is_5() {
            assert_eq!(connack.number(prop::MAXIMUM_QOS), Some(0));
        }
        client.publish("t", 0, "within");
        client.send(&publish(version, &Publish::new("t", "above").qos(1).id(9)));
        client.expect_disconnect(0x9b);
    });
}

#[test]
fn subscriptions_may_ask_for_more_than_the_maximum_qos() {
    each_version_with(NARROW, |broker, version| {
        let topic = unique("t");
        let mut client = Client::new(broker, version);
        client.send(&subscribe(version, 1, &[(&topic, 2)]));
        assert_eq!(client.expect_suback(1), [1]);
        Client::new(broker, version).publish(&topic, 1, "at 1");
        assert_eq!(client.expect_message(&topic, "at 1").qos, 1);
    });
}

#[test]
fn retained_messages_are_refused_where_retain_is_not_available() {
    each_version_with(NARROW, |broker, version| {
        let topic = unique("t");
        let (mut client, _, connack) = Client::connect_with(broker, &Connect::new(version, &unique("l")));
        if version.is_5() {
            assert_eq!(connack.number(prop::RETAIN_AVAILABLE), Some(0));
        }
        client.send(&publish(version, &Publish::new(&topic, "kept").qos(1).id(1).retain()));
        client.expect_disconnect(0x9a);
        let mut reader = Client::new(broker, version);
        reader.subscribe(&topic, 0);
        reader.expect_nothing_until_ping();
    });
}

#[test]
fn a_will_that_the_broker_cannot_take_is_refused_with_its_code() {
    each_broker_with(NARROW, |broker| {
        let connect = || Connect::new(Version::V5, &unique("l"));
        Client::refused(broker, &connect().will(Will::new("t", "x").qos(2)), 0x9b);
        Client::refused(broker, &connect().will(Will::new("t", "x").retain()), 0x9a);
        Client::connect(broker, &connect().will(Will::new("t", "x").qos(1))).expect_nothing_until_ping();
    });
}

#[test]
fn a_packet_of_the_maximum_size_is_taken_and_one_byte_more_is_not() {
    each_version_with(NARROW, |broker, version| {
        let (mut client, _, connack) = Client::connect_with(broker, &Connect::new(version, &unique("l")));
        if version.is_5() {
            assert_eq!(connack.number(prop::MAXIMUM_PACKET_SIZE), Some(1024));
        }
        let sized = |size: usize| {
            let bare = publish(version, &Publish::new("t", vec![b'x'; 900]).qos(1).id(1)).len();
            let bytes = publish(version, &Publish::new("t", vec![b'x'; size + 900 - bare]).qos(1).id(1));
            assert_eq!(bytes.len(), size);
            bytes
        };
        client.send(&sized(1024));
        client.expect_ack(Kind::Puback, 1);
        client.send(&sized(1025));
        client.expect_disconnect(0x95);
    });
}

#[test]
fn a_connect_above_the_maximum_size_is_not_accepted() {
    each_version_with(NARROW, |broker, version| {
        let connect = Connect::new(version, &unique("l")).will(Will::new("t", vec![b'x'; 1100]));
        let mut client = Client::open(broker, version);
        client.send(&connect.encode());
        let answer = client.read_to_close();
        assert!(
            answer.is_empty() || version.is_5() && answer[..4] == [0x20, answer[1], 0, 0x95],
            "{answer:02x?}"
        );
    });
}

#[test]
fn sessions_beyond_the_limit_are_refused_and_existing_ones_are_not() {
    for shards in [1, 2, 3] {
        let broker = Broker::start(shards, &["--max-sessions", "6"]);
        let mut sessions: Vec<Connect> = Vec::new();
        // The limit may be kept per shard: that it holds on the whole is what is promised.
        let refused = loop {
            let connect = Connect::new(BOTH[sessions.len() % 2], &unique("l")).persistent();
            let mut client = Client::open(&broker, connect.version);
            client.send(&connect.encode());
            match client.receive() {
                Packet::Connack { code: 0, .. } => client.disconnect(),
                Packet::Connack { code, .. } => break (connect.version, code),
                other => panic!("{other:?}"),
            }
            sessions.push(connect);
            assert!(sessions.len() <= 6, "the limit of 6 sessions does not hold");
        };
        assert!(!sessions.is_empty());
        assert_eq!(refused.1, if refused.0.is_5() { 0x97 } else { 3 });
        for connect in &sessions {
            let (client, present, _) = Client::connect_with(&broker, connect);
            assert!(present);
            client.disconnect();
        }
    }
}

#[test]
fn connections_beyond_the_limit_are_closed_until_there_is_room_again() {
    for shards in [1, 2, 3] {
        let broker = Broker::start(shards, &["--max-connections", "6"]);
        // Sessions that exist beforehand live on one shard or another, wherever their connections are accepted.
        let sessions: Vec<Connect> =
            (0..24).map(|n| Connect::new(BOTH[n % 2], &unique("l")).persistent()).collect();
        sessions.iter().for_each(|connect| Client::connect(&broker, connect).disconnect());
        let mut accepted = Vec::new();
        for connect in &sessions {
            let mut client = Client::open(&broker, connect.version);
            client.send(&connect.encode());
            match client.try_receive() {
                Some(Packet::Connack { code: 0, .. }) => accepted.push(client),
                None => {}
                other => panic!("{other:?}"),
            }
        }
        assert!((1..=6).contains(&accepted.len()), "{} connections were accepted", accepted.len());
        accepted.iter_mut().for_each(Client::expect_nothing_until_ping);
        accepted.into_iter().for_each(Client::disconnect);
        let started = Instant::now();
        loop {
            let mut client = Client::open(&broker, Version::V5);
            client.send(&Connect::new(Version::V5, &unique("l")).encode());
            match client.try_receive() {
                Some(Packet::Connack { code: 0, .. }) => break,
                other => assert!(started.elapsed() < PATIENCE, "{other:?}"),
            }
        }
    }
}

#[test]
fn the_filters_of_one_session_are_bounded_in_bytes_too() {
    each_broker(|broker| {
        let mut client = Client::new(broker, Version::V5);
        // A level counts as much as 64 bytes.
        let filter = |number: usize| format!("{}{number:04}", "+/".repeat(120));
        let most = 64 * 1024 * 1024 / (244 + 121 * 64);
        let mut codes = Vec::new();
        for first in [0, 4500] {
            let filters: Vec<String> = (first..first + 4500).map(filter).collect();
            let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
            codes.extend(client.subscribe_codes(&filters));
        }
        assert_eq!(codes, [[0].repeat(most), [0x97].repeat(9000 - most)].concat());
        client.unsubscribe(&filter(0));
        client.subscribe(&filter(9001), 0);
    });
}

#[test]
fn retained_messages_are_bounded_in_bytes() {
    // 256 bytes beside its own are counted for each.
    let broker = &Broker::start(1, &["--max-retained-bytes", "10K"]);
    let retain = |client: &mut Client, topic: &str, size: usize| {
        let id = client.fresh_id();
        let message = Publish::new(topic, vec![b'x'; size]).qos(1).id(id).retain();
        client.send(&publish(client.version, &message));
        match client.receive() {
            Packet::Ack(ack) if ack.id == id => ack.code,
            other => panic!("{other:?}"),
        }
    };
    let mut client = Client::new(broker, Version::V5);
    assert_eq!(retain(&mut client, "large", 9000), 0x10);
    assert_eq!(retain(&mut client, "another", 1000), 0x97);
    // What is there may be replaced by what fits, is kept when its successor does not, and makes room when it goes.
    assert_eq!(retain(&mut client, "large", 9001), 0x10);
    assert_eq!(retain(&mut client, "large", 10_000), 0x97);
    let mut reader = Client::new(broker, Version::V4);
    let id = reader.fresh_id();
    reader.send(&subscribe(Version::V4, id, &[("large", 0)]));
    assert_eq!(reader.expect_suback(id), [0]);
    assert_eq!(reader.expect_publish().payload.len(), 9001);
    assert_eq!(retain(&mut client, "large", 0), 0);
    assert_eq!(reader.expect_publish().payload.len(), 0);
    assert_eq!(retain(&mut client, "another", 1000), 0x10);
    // At QoS 0 there is no refusal: the message goes to those who are there.
    client.send_publish(&Publish::new("large", vec![b'x'; 10_000]).retain());
    assert_eq!(reader.expect_publish().payload.len(), 10_000);
}

/// A broker that takes short things only.
const SHORT: &[&str] = &["--max-topic-length", "20", "--max-will", "30"];

#[test]
fn topics_and_filters_have_a_longest_length() {
    each_version_with(SHORT, |broker, version| {
        let mut client = Client::new(broker, version);
        let refused = if version.is_5() { 0x8F } else { 0x80 };
        let (fits, long) = (format!("{}/+", "f".repeat(18)), format!("{}/+", "f".repeat(19)));
        assert_eq!(client.subscribe_codes(&[(&fits, 0), (&long, 0)]), [0, refused]);
        let will = |topic: &str| Connect::new(version, &unique("l")).will(Will::new(topic, "x"));
        Client::connect(broker, &will(&"w".repeat(20))).expect_nothing_until_ping();
        Client::refused(broker, &will(&"w".repeat(21)), if version.is_5() { 0x90 } else { 3 });
        client.publish(&"t".repeat(20), 1, "fits");
        client.send(&publish(version, &Publish::new(&"t".repeat(21), "long").qos(1).id(9)));
        if version.is_5() {
            client.expect_ack_code(Kind::Puback, 9, 0x90);
            client.expect_nothing_until_ping();
        } else {
            client.expect_disconnect(0x90);
        }
    });
}

#[test]
fn wills_have_a_largest_size() {
    each_version_with(SHORT, |broker, version| {
        let will = |size: usize| Connect::new(version, &unique("l")).will(Will::new("t", vec![b'x'; size]));
        Client::connect(broker, &will(30)).expect_nothing_until_ping();
        Client::refused(broker, &will(31), if version.is_5() { 0x97 } else { 3 });
    });
}

#[test]
fn connections_of_one_address_are_bounded_wherever_they_live() {
    for shards in [1, 2, 3] {
        let broker = &Broker::start(shards, &["--max-connections-per-address", "4"]);
        let mut clients: Vec<Client> = (0..3).map(|_| Client::new(broker, Version::V5)).collect();
        // One that has not said anything counts, too.
        let silent = Client::open(broker, Version::V5);
        Client::open(broker, Version::V5).expect_closed();
        clients.iter_mut().for_each(Client::expect_nothing_until_ping);
        // A place is free as soon as the broker has seen the end of a connection, and each is free once.
        drop(silent);
        clients.pop().unwrap().disconnect();
        let begun = Instant::now();
        while clients.len() < 4 {
            let mut client = Client::open(broker, Version::V4);
            client.send(&Connect::new(Version::V4, &unique("l")).encode());
            match client.try_receive() {
                Some(Packet::Connack { code: 0, .. }) => clients.push(client),
                other => assert!(begun.elapsed() < PATIENCE, "{other:?}"),
            }
        }
        Client::open(broker, Version::V5).expect_closed();
    }
}
