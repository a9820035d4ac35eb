//! How fast one client may publish, and how wide it may subscribe.
mod support;
use support::*;

use std::time::Instant;

#[test]
fn a_client_above_its_rate_is_slowed_down_and_loses_nothing() {
    let flags = ["--max-publish-rate", "50"];
    each_version_with(&flags, |broker, version| {
        let topic = unique("t");
        let mut subscriber = Client::new(broker, version);
        subscriber.subscribe(&topic, 0);
        let mut fast = Client::new(broker, version);
        let begun = Instant::now();
        // A second's worth at once, then one each 20 ms.
        for number in 0..75 {
            fast.send_publish(&Publish::new(&topic, number.to_string()));
        }
        for number in 0..75 {
            subscriber.expect_message(&topic, number.to_string());
        }
        // 480 ms by the broker's clock, which has whole milliseconds and had begun one when the first message came.
        let elapsed = begun.elapsed();
        assert!(elapsed.as_millis() >= 479, "the last message could not come after {elapsed:?}");
        // Others have rates of their own.
        Client::new(broker, version).publish(&topic, 1, "other");
        subscriber.expect_message(&topic, "other");
        fast.expect_nothing_until_ping();
    });
}

#[test]
fn a_rate_in_bytes_holds_for_acknowledged_messages_too() {
    each_version_with(&["--max-publish-bytes", "10K"], |broker, version| {
        let mut client = Client::new(broker, version);
        let begun = Instant::now();
        for _ in 0..15 {
            client.publish(&unique("t"), 1, vec![0; 1024]);
        }
        assert!(begun.elapsed().as_millis() >= 390, "the last message could not be taken before");
    });
}

#[test]
fn a_client_that_goes_while_it_waits_is_gone() {
    each_broker_with(&["--max-publish-rate", "1"], |broker| {
        let id = unique("c");
        for _ in 0..3 {
            let mut client = Client::connect(broker, &Connect::new(Version::V5, &id));
            for _ in 0..20 {
                client.send_publish(&Publish::new("t", "x"));
            }
            // The next connection takes its place; the wait of the last one ends with it.
        }
        Client::connect(broker, &Connect::new(Version::V5, &id)).expect_nothing_until_ping();
    });
}

#[test]
fn filters_that_begin_with_wildcards_are_refused_where_that_is_said() {
    each_version_with(&["--min-wildcard-depth", "2"], |broker, version| {
        let mut client = Client::new(broker, version);
        let refused = if version.is_5() { 0xA2 } else { 0x80 };
        let filters =
            [("#", 0), ("+/a", 0), ("a/+", 0), ("a/#", 0), ("$share/g/a/#", 0), ("a/b/#", 0), ("a", 0)];
        let expected = [refused, refused, refused, refused, refused, 0, 0];
        assert_eq!(client.subscribe_codes(&filters), expected);
    });
}

#[test]
fn who_connects_too_often_is_kept_out_for_a_while() {
    let flags = ["--max-reconnects", "3", "--jail-time", "1h"];
    for (shards, version) in [(1, Version::V4), (1, Version::V5)] {
        let broker = &Broker::start(shards, &flags);
        let id = unique("c");
        let connect = || Connect::new(version, &id);
        // Whether it takes itself over or goes first.
        for _ in 0..4 {
            Client::connect(broker, &connect()).expect_nothing_until_ping();
        }
        Client::refused(broker, &connect(), if version.is_5() { 0x9F } else { 3 });
        Client::new(broker, version).expect_nothing_until_ping();
    }
}

#[test]
fn a_rate_that_is_taken_back_holds_nobody_any_longer() {
    let file = certificates::written("ringmq.toml", "max-publish-rate = 1\n");
    let broker = &Broker::start(1, &["--config", file.to_str().unwrap()]);
    let mut client = Client::new(broker, Version::V5);
    // At one a second the last would come after minutes.
    let messages: Vec<u8> =
        (1..=300).flat_map(|id| publish(Version::V5, &Publish::new("t", "x").qos(1).id(id))).collect();
    client.send(&messages);
    client.expect_ack(Kind::Puback, 1);
    std::fs::write(&file, "max-publish-rate = 0\n").unwrap();
    broker.signal(Signal::HUP);
    for id in 2..=300 {
        client.expect_ack(Kind::Puback, id);
    }
    client.expect_nothing_until_ping();
}
