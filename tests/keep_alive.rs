//! Keep alive: one and a half periods of silence end a connection, and nothing shorter does.
mod support;
use std::thread;
use std::time::{Duration, Instant};
use support::*;

#[test]
fn silence_of_one_and_a_half_periods_closes_the_connection() {
    each_version(|broker, version| {
        let sent = Instant::now();
        let mut client = Client::connect(broker, &Connect::new(version, &unique("k")).keep_alive(1));
        client.expect_disconnect(0x8d);
        // Never early: the period is what the client may rely on.
        assert!(sent.elapsed() >= Duration::from_millis(1490), "{:?}", sent.elapsed());
    });
}

#[test]
fn a_broker_that_was_stopped_reads_before_it_judges() {
    for shards in [1, 2] {
        let broker = Broker::start(shards, &[]);
        let connect = |version| Client::connect(&broker, &Connect::new(version, &unique("k")).keep_alive(1));
        let mut clients = BOTH.map(connect);
        broker.signal(Signal::STOP);
        clients.iter_mut().for_each(|client| client.send(&ping()));
        thread::sleep(Duration::from_millis(3_000));
        broker.signal(Signal::CONT);
        clients.iter_mut().for_each(|client| assert_eq!(client.receive(), Packet::Pingresp));
        // Silence counts from then on again.
        clients.iter_mut().for_each(|client| client.expect_disconnect(0x8d));
    }
}

#[test]
fn pings_keep_a_connection_open() {
    each_version(|broker, version| {
        let mut kept = Client::connect(broker, &Connect::new(version, &unique("k")).keep_alive(2));
        // A silent connection with a longer period is the clock.
        let mut silent = Client::connect(broker, &Connect::new(version, &unique("k")).keep_alive(3));
        while silent.would_wait(Duration::from_millis(300)) {
            kept.expect_nothing_until_ping();
        }
        silent.expect_disconnect(0x8d);
        kept.expect_nothing_until_ping();
    });
}

#[test]
fn any_packet_counts_as_a_sign_of_life() {
    each_version(|broker, version| {
        let topic = unique("t");
        let mut kept = Client::connect(broker, &Connect::new(version, &unique("k")).keep_alive(2));
        let mut silent = Client::connect(broker, &Connect::new(version, &unique("k")).keep_alive(3));
        while silent.would_wait(Duration::from_millis(300)) {
            kept.publish(&topic, 0, "alive");
        }
        silent.expect_disconnect(0x8d);
        kept.expect_nothing_until_ping();
    });
}

#[test]
fn what_the_broker_sends_is_no_sign_of_life_of_the_client() {
    each_version(|broker, version| {
        let topic = unique("t");
        let mut silent = Client::connect(broker, &Connect::new(version, &unique("k")).keep_alive(1));
        // The subscription goes out with the CONNECT's period already running; then the client only listens.
        silent.subscribe(&topic, 0);
        let mut publisher = Client::new(broker, version);
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if !silent.would_wait(Duration::from_millis(100)) {
                match silent.try_receive() {
                    Some(Packet::Publish(_)) => {}
                    Some(Packet::Disconnect { code: 0x8d, .. }) | None => return,
                    other => panic!("{other:?}"),
                }
            }
            publisher.publish(&topic, 0, "from the broker");
        }
        panic!("still open");
    });
}

#[test]
fn without_a_keep_alive_a_silent_connection_stays_open() {
    each_version(|broker, version| {
        let mut silent = Client::connect(broker, &Connect::new(version, &unique("k")));
        let mut clock = Client::connect(broker, &Connect::new(version, &unique("k")).keep_alive(1));
        clock.expect_disconnect(0x8d);
        silent.expect_nothing_until_ping();
    });
}

#[test]
fn the_broker_keeps_to_the_clients_own_period_if_it_announces_none() {
    each_broker(|broker| {
        let connect = Connect::new(Version::V5, &unique("k")).keep_alive(1);
        let (mut client, _, connack) = Client::connect_with(broker, &connect);
        assert_eq!(connack.number(prop::SERVER_KEEP_ALIVE), None);
        client.expect_disconnect(0x8d);
    });
}

#[test]
fn server_keep_alive_is_told_and_replaces_the_clients_period() {
    each_broker_with(&["--max-keep-alive", "1"], |broker| {
        for asked in [0, 2, 3600, u16::MAX] {
            let connect = Connect::new(Version::V5, &unique("k")).keep_alive(asked);
            let (mut client, _, connack) = Client::connect_with(broker, &connect);
            assert_eq!(connack.number(prop::SERVER_KEEP_ALIVE), Some(1), "instead of {asked}");
            client.expect_disconnect(0x8d);
        }
    });
}

#[test]
fn a_half_sent_packet_does_not_keep_a_connection_open() {
    each_version(|broker, version| {
        let mut client = Client::connect(broker, &Connect::new(version, &unique("k")).keep_alive(1));
        let message = publish(version, &Publish::new("t", [b'x'; 100]));
        client.send(&message[..50]);
        client.expect_disconnect(0x8d);
    });
}

#[test]
fn pingreq_is_answered_each_time() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version);
        client.send(&ping().repeat(3));
        for _ in 0..3 {
            assert_eq!(client.receive(), Packet::Pingresp);
        }
        client.expect_nothing_until_ping();
    });
}
