//! The cap on the memory of the whole broker: whatever a flood is made of, the broker stays near its cap, and those who
//! behave keep their connections and what was acknowledged to them.
mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::*;

/// The cap of these brokers.
const CAP: u64 = 64 << 20;
/// What may come between two looks at the memory, and what is under way when nothing more is taken on.
const SLACK: u64 = 32 << 20;
/// How long memory may take to come back: the allocator gives it back after a second, when it is next used.
const RECOVERY: Duration = Duration::from_secs(30);
/// Connections of a flood: each is slowed down by itself.
const FLOODERS: usize = 32;
/// Bytes of one message of a flood.
const PAYLOAD: usize = 16 << 10;

/// Anonymous memory of the broker, in bytes.
fn anonymous(broker: &Broker) -> u64 {
    let line = std::fs::read_to_string(format!("/proc/{}/statm", broker.pid())).unwrap();
    let pages: Vec<u64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
    (pages[1] - pages[2]) * rustix::param::page_size() as u64
}

/// Publishes at QoS 1 now and then, to a subscriber of its own, all the time; what was acknowledged, and how often it
/// was refused.
fn behave(broker: &Broker, is_over: &AtomicBool) -> (u64, u64) {
    let topic = unique("honest");
    let mut subscriber = Client::new(broker, Version::V5);
    subscriber.subscribe(&topic, 1);
    let mut publisher = Client::new(broker, Version::V5);
    let (mut taken, mut refused) = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        let id = publisher.fresh_id();
        let text = taken.to_string();
        publisher.send(&publish(Version::V5, &Publish::new(&topic, &text).qos(1).id(id)));
        match publisher.receive() {
            Packet::Ack(ack) if ack.kind == Kind::Puback && ack.id == id && ack.code == 0x97 => refused += 1,
            Packet::Ack(ack) if ack.kind == Kind::Puback && ack.id == id && ack.code == 0 => {
                subscriber.expect_message(&topic, &text);
                taken += 1;
            }
            other => panic!("an honest client got {other:?}"),
        }
        thread::sleep(Duration::from_millis(5));
    }
    publisher.expect_nothing_until_ping();
    subscriber.expect_nothing_until_ping();
    (taken, refused)
}

/// A broker with a cap, an honest client, and a flood that is made by `flood` and taken away by what that returns.
/// Afterwards everything is taken again.
fn withstand<End: FnOnce(&Broker)>(flood: impl FnOnce(&Broker) -> End) {
    let broker = &Broker::start(2, &["--max-memory", "64M", "--log-level", "warn"]);
    let (is_over, most) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let is_over = &is_over;
        let honest = scope.spawn(move || behave(broker, is_over));
        let most = &most;
        scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                most.fetch_max(anonymous(broker), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        // Whatever goes wrong, the other threads end.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let end = flood(broker);
            await_words(broker, "memory runs short");
            end(broker);
            recovered(broker);
        }));
        is_over.store(true, Ordering::Relaxed);
        let behaved = honest.join();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        let (taken, refused) = behaved.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(taken > 0);
        let most = most.load(Ordering::Relaxed);
        eprintln!("{} MiB at most; the honest client: {taken} taken, {refused} refused", most >> 20);
        assert!(most > CAP * 8 / 10 && most < CAP + SLACK, "{} MiB were in use", most >> 20);
    });
}

/// Waits until the broker has said so.
fn await_words(broker: &Broker, words: &str) {
    let begun = Instant::now();
    while !broker.said().contains(words) {
        assert!(begun.elapsed() < RECOVERY, "{} MiB are in use: {}", anonymous(broker) >> 20, broker.said());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until newcomers, retained messages and subscriptions are taken again.
fn recovered(broker: &Broker) {
    await_words(broker, "memory is no longer short");
    // The shards hear of it a moment after it is written down.
    let begun = Instant::now();
    let mut client = loop {
        let mut client = Client::open(broker, Version::V5);
        client.send(&Connect::new(Version::V5, &unique("new")).encode());
        match client.receive() {
            Packet::Connack { code: 0, .. } => break client,
            other => assert!(begun.elapsed() < RECOVERY, "{other:?}"),
        }
    };
    let topic = unique("after");
    client.subscribe(&topic, 1);
    let id = client.fresh_id();
    client.send(&publish(Version::V5, &Publish::new(&topic, "kept").qos(1).id(id).retain()));
    let mut packets = [client.receive(), client.receive()];
    packets.sort_by_key(|packet| matches!(packet, Packet::Publish(_)));
    assert!(matches!(&packets[0], Packet::Ack(ack) if ack.code == 0), "{packets:?}");
    let mut late = Client::new(broker, Version::V4);
    let id = late.fresh_id();
    late.send(&subscribe(Version::V4, id, &[(&topic, 0)]));
    assert_eq!(late.expect_suback(id), [0]);
    late.expect_message(&topic, "kept");
}

fn flooders(broker: &Broker) -> Vec<Client> {
    (0..FLOODERS).map(|_| Client::new(broker, Version::V5)).collect()
}

/// Every flooder publishes in turn what `message` says, until many of one round are refused.
fn publish_until_refused(flooders: &mut [Client], message: impl Fn(usize, usize) -> Publish) -> usize {
    for round in 0.. {
        for (number, flooder) in flooders.iter_mut().enumerate() {
            let id = flooder.fresh_id();
            flooder.send(&publish(Version::V5, &message(number, round).qos(1).id(id)));
        }
        let mut refused = 0;
        for flooder in flooders.iter_mut() {
            match flooder.receive() {
                Packet::Ack(ack) if ack.code == 0x97 => refused += 1,
                Packet::Ack(ack) if ack.code < 0x80 => {}
                other => panic!("{other:?}"),
            }
        }
        if refused == flooders.len() {
            return round;
        }
    }
    unreachable!()
}

/// Clears what a flood retained.
fn clear(flooders: &mut [Client], rounds: usize, topic: impl Fn(usize, usize) -> String) {
    for round in 0..=rounds {
        let mut ids = Vec::new();
        for (number, flooder) in flooders.iter_mut().enumerate() {
            let id = flooder.fresh_id();
            ids.push(id);
            flooder
                .send(&publish(Version::V5, &Publish::new(&topic(number, round), "").qos(1).id(id).retain()));
        }
        for (flooder, id) in flooders.iter_mut().zip(ids) {
            flooder.expect_ack(Kind::Puback, id);
        }
    }
}

#[test]
fn a_flood_of_retained_messages() {
    withstand(|broker| {
        let mut flooders = flooders(broker);
        let topic = |number: usize, round: usize| format!("flood/{number}/{round}");
        let rounds = publish_until_refused(&mut flooders, |number, round| {
            Publish::new(&topic(number, round), vec![b'x'; PAYLOAD]).retain()
        });
        // Who has no session yet is told so, whatever the version; who has one is not.
        Client::refused(broker, &Connect::new(Version::V5, &unique("new")), 0x97);
        Client::refused(broker, &Connect::new(Version::V4, &unique("new")), 3);
        let mut again = Client::connect(broker, &Connect::new(Version::V5, &flooders[0].client_id));
        assert_eq!(again.subscribe_codes(&[("new/#", 0)]), [0x97]);
        again.expect_nothing_until_ping();
        flooders[0] = again;
        move |_: &Broker| {
            clear(&mut flooders, rounds, topic);
        }
    });
}

#[test]
fn a_flood_of_messages_for_sessions_that_are_away() {
    withstand(|broker| {
        let mut flooders = flooders(broker);
        let away: Vec<Connect> =
            (0..FLOODERS).map(|_| Connect::new(Version::V5, &unique("away")).persistent()).collect();
        for (number, connect) in away.iter().enumerate() {
            let mut client = Client::connect(broker, connect);
            client.subscribe(&format!("away/{number}"), 1);
            client.disconnect();
        }
        publish_until_refused(&mut flooders, |number, _| {
            Publish::new(&format!("away/{number}"), vec![b'x'; PAYLOAD])
        });
        move |broker: &Broker| {
            for connect in away {
                let clean = Connect { clean: true, properties: Properties::new(), ..connect };
                Client::connect(broker, &clean).disconnect();
            }
        }
    });
}

#[test]
fn a_flood_of_packets_that_never_come_whole() {
    withstand(|broker| {
        // Known ones, with the first quarter of a megabyte of a packet each; and strangers.
        let mut known: Vec<Client> = (0..320).map(|_| Client::new(broker, Version::V5)).collect();
        let begun = [vec![0x30, 0x80, 0x80, 0x40], vec![0, 1, b't', 0], vec![b'x'; 256 << 10]].concat();
        thread::scope(|scope| {
            for clients in known.chunks_mut(40) {
                let begun = &begun;
                scope.spawn(move || clients.iter_mut().for_each(|client| client.send(begun)));
            }
        });
        let mut strangers: Vec<Client> = Vec::new();
        let connect = [vec![0x10, 0xff, 0xff, 0x0f], vec![b'x'; 200 << 10]].concat();
        for _ in 0..200 {
            let mut stranger = Client::open(broker, Version::V5);
            stranger.send(&connect);
            strangers.push(stranger);
        }
        move |_: &Broker| drop((known, strangers))
    });
}

#[test]
fn a_flood_of_subscriptions() {
    withstand(|broker| {
        let mut flooders = flooders(broker);
        let filter =
            |number: usize, round: usize| format!("sub/{number}/{round}/{}/+/b/c/d/e", "x".repeat(200));
        for round in 0.. {
            let filters: Vec<Vec<String>> = (0..FLOODERS)
                .map(|number| (0..200).map(|n| filter(number, round * 200 + n)).collect())
                .collect();
            for (flooder, filters) in flooders.iter_mut().zip(&filters) {
                let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
                flooder.send(&subscribe(Version::V5, round as u16 + 1, &filters));
            }
            let mut refused = 0;
            for flooder in &mut flooders {
                let codes = flooder.expect_suback(round as u16 + 1);
                refused += codes.iter().filter(|code| **code == 0x97).count();
            }
            if refused == 200 * FLOODERS {
                break;
            }
        }
        move |_: &Broker| flooders.into_iter().for_each(Client::disconnect)
    });
}

#[test]
fn a_client_that_cannot_be_told_waits_and_goes_on_when_there_is_room() {
    let broker = &Broker::start(1, &["--max-memory", "64M", "--log-level", "warn"]);
    let mut old = Client::new(broker, Version::V4);
    let mut flooders = flooders(broker);
    let topic = |number: usize, round: usize| format!("flood/{number}/{round}");
    let rounds = publish_until_refused(&mut flooders, |number, round| {
        Publish::new(&topic(number, round), vec![b'x'; PAYLOAD]).retain()
    });
    let id = old.fresh_id();
    old.send(&publish(Version::V4, &Publish::new("t", "late").qos(1).id(id)));
    assert!(old.would_wait(Duration::from_millis(300)), "acknowledged though nothing is taken on");
    clear(&mut flooders, rounds, topic);
    old.expect_ack(Kind::Puback, id);
    old.expect_nothing_until_ping();
}

#[test]
fn a_cap_that_cannot_be_is_refused_at_start() {
    for (cap, named) in [("1K", "at least 16M"), ("0%", "75%"), ("200%", "75%")] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ringmq"))
            .args(["serve", "--listen", "127.0.0.1:0", "--max-memory", cap])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(named), "{said}");
    }
}
