//! What survives the broker when it has a data directory.
mod support;
use std::time::{Duration, Instant};
use support::*;

/// Every number of shards, and the next one it starts again with.
const TURNS: [(usize, usize); 3] = [(1, 2), (2, 3), (3, 1)];

/// Runs the test with each of [`TURNS`], as a client of 3.1.1 or of 5.0, all at the same time.
#[track_caller]
fn each_turn(test: impl Fn(&Place, usize, usize, Version) + Sync) {
    std::thread::scope(|scope| {
        for ((before, after), version) in TURNS.into_iter().zip([Version::V5, Version::V4, Version::V5]) {
            let test = &test;
            scope.spawn(move || test(&Place::new(), before, after, version));
        }
    });
}

#[test]
fn queues_subscriptions_and_retained_messages_survive_a_kill() {
    each_turn(|place, before, after, version| {
        let broker = place.start(before);
        let mine = Connect::new(version, "mine").persistent();
        let mut client = Client::connect(&broker, &mine);
        client.subscribe("a/#", 2);
        client.disconnect();
        let mut publisher = Client::new(&broker, version);
        for n in 0..30 {
            publisher.publish(&format!("a/{}", n % 3), 1 + n % 2, n.to_string());
        }
        publisher.publish("a/0", 0, "not kept while I was away at QoS 0, unless queued");
        publisher.publish_with(&Publish::new("kept", "old").qos(1).retain());
        publisher.publish_with(&Publish::new("kept", "new").qos(2).retain());
        publisher.publish_with(&Publish::new("gone", "old").qos(1).retain());
        publisher.publish_with(&Publish::new("gone", "").qos(1).retain());
        kill(broker);

        let broker = place.start(after);
        let mut client = resume(&broker, &mine);
        let messages = client.messages(30);
        let expected: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        assert_eq!(payloads(&messages), expected);
        assert!(messages.iter().zip(0..).all(|(message, n)| message.qos == 1 + n % 2 && !message.dup));
        client.expect_nothing_until_ping();
        Client::new(&broker, version).publish("a/b", 1, "the subscription holds");
        client.expect_message("a/b", "the subscription holds");
        sync(&mut client);
        let mut reader = Client::new(&broker, version);
        let (_, retained) = reader.subscribe_amid(&[("kept", 0), ("gone", 0)]);
        let retained = if retained.is_empty() { vec![reader.expect_publish()] } else { retained };
        assert_eq!(payloads(&retained), ["new"]);
        reader.expect_nothing_until_ping();
        client.disconnect();
        kill(broker);
        // What was acknowledged does not come again.
        let broker = place.start(before);
        resume(&broker, &mine).expect_nothing_until_ping();
    });
}

#[test]
fn what_is_in_flight_comes_again_with_its_packet_ids_in_order() {
    each_turn(|place, before, after, version| {
        let broker = place.start(before);
        let mine = Connect::new(version, "mine").persistent();
        let mut client = Client::connect(&broker, &mine);
        client.subscribe("t", 2);
        let mut publisher = Client::new(&broker, version);
        let mut first: Vec<Publish> = Vec::new();
        for n in 0..6 {
            publisher.publish("t", 1 + n % 2, n.to_string());
            first.push(client.expect_publish());
        }
        // QoS 1 number 0 is done, QoS 2 number 1 is released, QoS 2 number 3 is done.
        client.ack(Kind::Puback, first[0].id.unwrap());
        client.ack(Kind::Pubrec, first[1].id.unwrap());
        client.expect_ack(Kind::Pubrel, first[1].id.unwrap());
        client.finish(&first[3]);
        client.expect_nothing_until_ping();
        // What is not acknowledged to anybody does not count, so this makes sure that all of it is stored.
        publisher.publish("t", 1, "6");
        first.push(client.expect_publish());
        kill(broker);

        let broker = place.start(after);
        let mut client = resume(&broker, &mine);
        client.expect_ack(Kind::Pubrel, first[1].id.unwrap());
        for n in [2, 4, 5, 6] {
            let again = client.expect_publish();
            assert_eq!(again, Publish { dup: true, ..first[n].clone() });
        }
        client.expect_nothing_until_ping();
        client.ack(Kind::Pubcomp, first[1].id.unwrap());
        [2, 4, 5, 6].iter().for_each(|n| client.finish(&first[*n]));
        Client::new(&broker, version).publish("t", 1, "new");
        let next = client.expect_message("t", "new");
        assert!(!first.iter().any(|message| message.id == next.id), "an id that was just in use");
    });
}

#[test]
fn a_received_qos_2_id_is_known_after_a_kill() {
    each_turn(|place, before, after, version| {
        let broker = place.start(before);
        let mut reader = Client::connect(&broker, &Connect::new(version, "reader").persistent());
        reader.subscribe("t", 2);
        reader.disconnect();
        let mine = Connect::new(version, "mine").persistent();
        let mut client = Client::connect(&broker, &mine);
        let message = Publish::new("t", "once").qos(2).id(7);
        client.send_publish(&message);
        client.expect_ack(Kind::Pubrec, 7);
        kill(broker);

        let broker = place.start(after);
        let mut client = resume(&broker, &mine);
        client.send_publish(&message.clone().dup());
        client.expect_ack(Kind::Pubrec, 7);
        client.ack(Kind::Pubrel, 7);
        client.expect_ack_code(Kind::Pubcomp, 7, 0);
        kill(broker);

        let broker = place.start(before);
        let mut reader = resume(&broker, &Connect::new(version, "reader").persistent());
        reader.expect_message("t", "once");
        reader.expect_nothing_until_ping();
        // The id is free: what comes with it is a new message.
        let mut client = resume(&broker, &mine);
        client.send_publish(&Publish::new("t", "twice").qos(2).id(7));
        client.expect_ack(Kind::Pubrec, 7);
        reader.expect_message("t", "twice");
    });
}

#[test]
fn what_ended_stays_ended() {
    each_turn(|place, before, after, version| {
        let broker = place.start(before);
        for name in ["cleaned", "unsubscribed"] {
            let mut client = Client::connect(&broker, &Connect::new(version, name).persistent());
            client.subscribe("t", 1);
            client.subscribe("other", 1);
            client.disconnect();
        }
        Client::new(&broker, version).publish("t", 1, "1");
        Client::connect(&broker, &Connect::new(version, "cleaned")).disconnect();
        let unsubscribed = Connect::new(version, "unsubscribed").persistent();
        let mut client = resume(&broker, &unsubscribed);
        client.expect_message("t", "1");
        client.unsubscribe("t");
        kill(broker);

        let broker = place.start(after);
        let (mut client, present, _) =
            Client::connect_with(&broker, &Connect::new(version, "cleaned").persistent());
        assert!(!present, "Clean Start ended it");
        client.expect_nothing_until_ping();
        let mut client = resume(&broker, &unsubscribed);
        let mut publisher = Client::new(&broker, version);
        publisher.publish("t", 1, "2");
        publisher.publish("other", 1, "3");
        client.expect_message("other", "3");
        client.expect_nothing_until_ping();
    });
}

#[test]
fn sessions_and_messages_expire_while_the_broker_is_away() {
    for (before, after) in TURNS {
        let place = Place::new();
        let broker = place.start(before);
        let short = Connect::new(Version::V5, "short").resume().expiry(1);
        let long = Connect::new(Version::V5, "long").persistent();
        for connect in [&short, &long] {
            let mut client = Client::connect(&broker, connect);
            client.subscribe("t", 1);
            client.disconnect();
        }
        let mut publisher = Client::new(&broker, Version::V5);
        publisher.publish_with(
            &Publish::new("t", "soon over").qos(1).retain().property(prop::MESSAGE_EXPIRY, 1u32),
        );
        publisher.publish_with(&Publish::new("t", "lasts").qos(1).property(prop::MESSAGE_EXPIRY, 100u32));
        kill(broker);
        std::thread::sleep(Duration::from_millis(1100));

        let broker = place.start(after);
        let mut client = resume(&broker, &long);
        let message = client.expect_message("t", "lasts");
        let left = message.properties.get(prop::MESSAGE_EXPIRY);
        assert!(matches!(left, Some(Value::Four(50..=99))), "{left:?}");
        client.expect_nothing_until_ping();
        let mut reader = Client::new(&broker, Version::V5);
        reader.subscribe("t", 1);
        reader.expect_nothing_until_ping();
        let (_, present, _) = Client::connect_with(&broker, &short);
        assert!(!present, "the session has expired");
    }
}

#[test]
fn wills_are_published_after_a_kill_when_they_are_due() {
    for (before, after) in TURNS {
        let place = Place::new();
        let broker = place.start(before);
        let mut reader = Client::connect(&broker, &Connect::new(Version::V5, "reader").persistent());
        reader.subscribe("will/#", 2);
        reader.disconnect();
        let will = |name: &str| Will::new(&format!("will/{name}"), name).qos(2);
        let durable = |name: &str, will| Connect::new(Version::V5, name).persistent().will(will);
        let at_once = Client::connect(&broker, &durable("at-once", will("at-once")));
        let delayed = Client::connect(&broker, &durable("delayed", will("delayed").delay(1)));
        let later = durable("later", will("later").delay(3000));
        let away = Client::connect(&broker, &later);
        Client::connect(&broker, &durable("content", will("content"))).disconnect();
        sync_all(&broker);
        kill(broker);
        drop((at_once, delayed, away));

        let broker = place.start(after);
        let mut reader = resume(&broker, &Connect::new(Version::V5, "reader").persistent());
        reader.expect_message("will/at-once", "at-once");
        reader.expect_message("will/delayed", "delayed");
        sync(&mut reader);
        kill(broker);
        let broker = place.start(before);
        let mut reader = resume(&broker, &Connect::new(Version::V5, "reader").persistent());
        reader.expect_nothing_until_ping();
        // Its client is back in time.
        let mut client = resume(&broker, &later);
        client.expect_nothing_until_ping();
        client.disconnect();
        reader.expect_nothing_until_ping();
    }
}

#[test]
fn messages_of_a_group_without_members_wait_on_the_disk() {
    each_turn(|place, before, after, version| {
        let broker = place.start(before);
        let mine = Connect::new(version, "member").persistent();
        let mut client = Client::connect(&broker, &mine);
        client.subscribe("$share/g/t", 1);
        client.disconnect();
        let mut publisher = Client::new(&broker, version);
        (0..10).for_each(|n| publisher.publish("t", 1, n.to_string()));
        kill(broker);
        let broker = place.start(after);
        let mut client = resume(&broker, &mine);
        let expected: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(payloads(&client.messages(10)), expected);
        client.expect_nothing_until_ping();
        sync(&mut client);
        kill(broker);
        let broker = place.start(before);
        resume(&broker, &mine).expect_nothing_until_ping();
    });
}

#[test]
fn large_payloads_shared_by_many_sessions_survive() {
    each_turn(|place, before, after, version| {
        let broker = place.start(before);
        let names: Vec<String> = (0..5).map(|n| format!("session-{n}")).collect();
        for name in &names {
            let mut client = Client::connect(&broker, &Connect::new(version, name).persistent());
            client.subscribe("t", 2);
            client.disconnect();
        }
        let large = |n: u8| vec![n; 100_000];
        let mut publisher = Client::new(&broker, version);
        (1..=3).for_each(|n| publisher.publish("t", 2, large(n)));
        kill(broker);
        let broker = place.start(after);
        for name in &names[..4] {
            let mut client = resume(&broker, &Connect::new(version, name).persistent());
            let messages = client.messages(3);
            assert!((1..=3).all(|n| messages[usize::from(n) - 1].payload == large(n)));
            sync(&mut client);
            client.disconnect();
        }
        // The last one that holds them is enough to keep them.
        kill(broker);
        let broker = place.start(before);
        let mut client = resume(&broker, &Connect::new(version, &names[4]).persistent());
        let messages = client.messages(3);
        assert!((1..=3).all(|n| messages[usize::from(n) - 1].payload == large(n)));
        client.expect_nothing_until_ping();
        sync(&mut client);
        client.disconnect();
        kill(broker);
        let dump = String::from_utf8(place.look("dump").stdout).unwrap();
        assert!(!dump.contains("message"), "{dump}");
        let check = String::from_utf8(place.look("check").stdout).unwrap();
        assert!(check.contains("queued, in flight  0"), "{check}");
    });
}

#[test]
fn a_shutdown_stores_what_it_ends() {
    for mode in ["flush", "interval", "os"] {
        let place = Place::new();
        let broker = place.start_with(2, &["--durability", mode]);
        let mine = Connect::new(Version::V5, "mine").persistent();
        let mut client = Client::connect(&broker, &mine);
        client.subscribe("t", 1);
        Client::new(&broker, Version::V5).publish("t", 1, "1");
        broker.signal(Signal::TERM);
        assert!(broker.wait_for_exit().success());
        let dump = String::from_utf8(place.look("dump").stdout).unwrap();
        assert!(
            dump.contains("session \"mine\"") && dump.contains(" ends ") && !dump.contains("connected"),
            "{dump}"
        );
        let broker = place.start_with(1, &["--durability", mode]);
        resume(&broker, &mine).expect_message("t", "1");
    }
}

#[test]
fn other_sessions_leave_nothing_on_the_disk() {
    let place = Place::new();
    let broker = place.start(2);
    let mut client = Client::new(&broker, Version::V5);
    client.subscribe("t", 2);
    let mut publisher = Client::new(&broker, Version::V5);
    for n in 0..20 {
        publisher.publish("t", n % 3, n.to_string());
    }
    client.messages(20);
    kill(broker);
    let dump = place.look("dump");
    assert_eq!((dump.status.code(), String::from_utf8(dump.stdout).unwrap()), (Some(0), String::new()));
}

#[test]
fn without_space_what_must_be_stored_is_refused() {
    let place = Place::new();
    let broker = Broker::start(2, &["--data-dir", place.0.to_str().unwrap(), "--min-free-space", "1024G"]);
    // The broker looks when the first change is to be stored; what came until then was taken.
    let until = Instant::now() + PATIENCE;
    let retained = Publish::new("t", "1").qos(1).retain();
    let mut client = Client::new(&broker, Version::V5);
    let code = loop {
        let id = client.fresh_id();
        client.send_publish(&retained.clone().id(id));
        let Packet::Ack(ack) = client.receive() else { panic!("no PUBACK") };
        if ack.code != 0x10 || Instant::now() > until {
            break ack.code;
        }
    };
    assert_eq!(code, 0x97);
    Client::refused(&broker, &Connect::new(Version::V5, "durable").persistent(), 0x97);
    Client::refused(&broker, &Connect::new(Version::V4, "durable").persistent(), 3);
    let mut old = Client::new(&broker, Version::V4);
    old.send_publish(&retained.clone().id(9));
    old.expect_closed();
    // What need not be stored goes on.
    client.subscribe("plain", 1);
    client.send_publish(&Publish::new("plain", "2").qos(1).id(4));
    client.expect_message("plain", "2");
    client.expect_ack_code(Kind::Puback, 4, 0);
}
