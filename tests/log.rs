//! What is written about clients: who, from where, why; as text and as JSON.
mod support;
use support::*;

/// Waits until the broker has written a line with all of these.
#[track_caller]
fn written(broker: &Broker, words: &[&str]) -> String {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let text = broker.said();
        if let Some(line) = text.lines().find(|line| words.iter().all(|word| line.contains(word))) {
            return line.to_string();
        }
        assert!(std::time::Instant::now() < until, "no line with {words:?} in\n{text}");
        std::thread::yield_now();
    }
}

#[test]
fn who_comes_and_goes_is_written_with_the_reason() {
    for shards in [1, 3] {
        let broker = Broker::start(shards, &["--max-qos", "1"]);
        let id = unique("somebody");
        let connect = Connect::new(Version::V5, &id).user("alice").password("secret");
        let client = Client::connect(&broker, &connect);
        let line = written(&broker, &["client connected", &id, "alice", "127.0.0.1:"]);
        assert!(line.contains(" INFO "), "{line}");
        client.disconnect();
        written(&broker, &["client disconnected", &id, "alice", "127.0.0.1:", "reason=\"DISCONNECT\""]);
        Client::connect(&broker, &connect).close();
        written(&broker, &["client disconnected", &id, "without DISCONNECT"]);
        let mut rude = Client::connect(&broker, &connect);
        rude.send(&connect.encode());
        rude.expect_disconnect(0x82);
        written(&broker, &["client disconnected", &id, "Protocol error"]);
        // A will of QoS 2 where 1 is the most.
        let refused = Connect::new(Version::V5, &id).user("alice").will(Will::new("t", "x").qos(2));
        Client::refused(&broker, &refused, 0x9b);
        let line = written(&broker, &["client refused", &id, "alice", "QoS not supported"]);
        assert!(line.contains(" WARN "), "{line}");
        assert!(!broker.said().contains("secret"), "no secret is written");
    }
}

#[test]
fn json_has_one_object_a_line() {
    let broker = Broker::start(2, &["--log-format", "json"]);
    let id = unique("some \"body");
    Client::connect(&broker, &Connect::new(Version::V4, &id)).disconnect();
    let line = written(&broker, &["client disconnected"]);
    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["client"], id);
    assert_eq!(object["level"], "INFO");
    assert_eq!(object["reason"], "DISCONNECT");
    assert!(object["address"].as_str().unwrap().starts_with("127.0.0.1:"));
}

#[test]
fn a_lower_level_writes_less() {
    let broker = Broker::start(1, &["--log-level", "warn", "--max-qos", "1"]);
    let id = unique("c");
    Client::connect(&broker, &Connect::new(Version::V5, &id)).disconnect();
    Client::refused(&broker, &Connect::new(Version::V5, "refused").will(Will::new("t", "x").qos(2)), 0x9b);
    written(&broker, &["client refused"]);
    assert!(!broker.said().contains(&id), "{}", broker.said());
}

#[test]
fn a_storm_of_connections_is_told_by_its_beginning_and_its_number() {
    let broker = Broker::start(1, &[]);
    for _ in 0..300 {
        Client::new(&broker, Version::V4).disconnect();
    }
    written(&broker, &["client connected"]);
    let lines = |broker: &Broker| broker.said().lines().count();
    let seconds = 1 + 600 / 200;
    assert!(lines(&broker) < 200 * seconds + 20, "{}", lines(&broker));
}
