//! Every way into the broker but plain TCP, each case that is let in with its twin that is not.
#[path = "../support/mod.rs"]
mod support;

mod clients;
mod held;
mod proxy;
mod reload;
mod rules;
mod tls;
mod websocket;

use std::net::SocketAddr;
use support::*;

/// A broker with one `[[listener]]` that has these further lines, reached through what `address` answers.
fn broker_with(shards: usize, listener: &str) -> (Broker, SocketAddr) {
    let port = free_port();
    let text = format!("[[listener]]\naddress = {port}\n{listener}");
    let file = certificates::written("ringmq.toml", &text);
    let broker = Broker::start(shards, &["--config", file.to_str().unwrap()]);
    (broker, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// The conversation that must work through every transport: all kinds of messages, small, large and many.
#[track_caller]
fn converse(broker: &Broker) {
    for version in BOTH {
        let topic = unique("t");
        let mut subscriber = Client::new(broker, version);
        let mut publisher = Client::new(broker, version);
        subscriber.subscribe(&topic, 2);
        for (qos, size) in [(0, 0), (1, 1), (2, 100), (0, 5_000), (1, 20_000), (2, 200_000), (0, 1_500_000)] {
            let payload = vec![size as u8; size];
            publisher.publish(&topic, qos, &payload);
            subscriber.expect_message(&topic, &payload);
        }
        let many: Vec<u8> =
            (0..500).flat_map(|n| publish(version, &Publish::new(&topic, format!("{n}")))).collect();
        publisher.send(&many);
        (0..500).for_each(|n| drop(subscriber.expect_message(&topic, format!("{n}"))));
        publisher.disconnect();
        subscriber.expect_nothing_until_ping();
    }
}
