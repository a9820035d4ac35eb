//! Topic aliases in both directions.
mod support;

use std::collections::HashMap;
use support::*;

/// A PUBLISH with a topic alias; an empty topic stands for what the alias was set to.
fn aliased(topic: &str, alias: u16, payload: &str) -> Publish {
    Publish::new(topic, payload).property(prop::TOPIC_ALIAS, alias)
}

/// The topic aliases the broker accepts.
fn announced(broker: &Broker) -> (Client, u16) {
    let (client, _, limits) = Client::connect_with(broker, &Connect::new(Version::V5, &unique("alias")));
    let maximum = limits.number(prop::TOPIC_ALIAS_MAXIMUM).expect("aliases are allowed") as u16;
    assert_ne!(maximum, 0);
    (client, maximum)
}

#[test]
fn a_client_can_set_use_and_change_an_alias() {
    each_broker(|broker| {
        let topic = unique("set");
        let (one, two) = (format!("{topic}/one"), format!("{topic}/two"));
        let mut subscriber = Client::new(broker, Version::V5);
        subscriber.subscribe(&format!("{topic}/#"), 2);
        let (mut publisher, _) = announced(broker);
        for qos in 0..=2 {
            publisher.publish_with(&aliased(&one, 1, "set").qos(qos));
            publisher.publish_with(&aliased("", 1, "used").qos(qos));
            publisher.publish_with(&aliased(&two, 1, "changed").qos(qos));
            publisher.publish_with(&aliased("", 1, "used").qos(qos));
            let got = subscriber.messages(4);
            assert_eq!(payloads(&got), ["set", "used", "changed", "used"]);
            assert_eq!([0, 1, 2, 3].map(|n| got[n].topic.as_str()), [&one, &one, &two, &two]);
            // The publisher's alias is its own.
            got.iter().for_each(|message| assert_eq!(message.properties, Properties::new()));
        }
    });
}

#[test]
fn the_server_accepts_every_alias_up_to_its_maximum() {
    each_broker(|broker| {
        let topic = unique("all");
        let mut subscriber = Client::new(broker, Version::V5);
        subscriber.subscribe(&format!("{topic}/+"), 1);
        let (mut publisher, maximum) = announced(broker);
        for alias in 1..=maximum.min(500) {
            publisher.publish_with(&aliased(&format!("{topic}/{alias}"), alias, "").qos(1));
            subscriber.expect_message(&format!("{topic}/{alias}"), "");
        }
        for alias in (1..=maximum.min(500)).rev() {
            publisher.publish_with(&aliased("", alias, "").qos(1));
            subscriber.expect_message(&format!("{topic}/{alias}"), "");
        }
        publisher.publish_with(&aliased(&topic, maximum, "").qos(1));
    });
}

#[test]
fn alias_0_is_refused_with_0x94() {
    each_broker(|broker| {
        let (mut client, _) = announced(broker);
        client.send_publish(&aliased("a/b", 0, ""));
        client.expect_disconnect(0x94);
    });
}

#[test]
fn an_alias_above_the_servers_maximum_is_refused_with_0x94() {
    each_broker(|broker| {
        let (mut client, maximum) = announced(broker);
        if let Some(above) = maximum.checked_add(1) {
            client.send_publish(&aliased("a/b", above, ""));
            client.expect_disconnect(0x94);
            let (mut client, _) = announced(broker);
            client.send_publish(&aliased("a/b", 65_535, ""));
            client.expect_disconnect(0x94);
        }
    });
}

#[test]
fn an_alias_that_was_not_set_is_a_protocol_error() {
    each_broker(|broker| {
        let (mut client, _) = announced(broker);
        client.send_publish(&aliased("", 1, ""));
        client.expect_disconnect(0x82);
    });
}

#[test]
fn an_empty_topic_without_an_alias_closes_the_connection() {
    each_version(|broker, version| {
        let mut client = Client::new(broker, version);
        client.send_publish(&Publish::new("", "where to?"));
        client.expect_disconnect_in(&[0x82, 0x90]);
    });
}

#[test]
fn an_alias_belongs_to_one_client_and_one_connection() {
    each_broker(|broker| {
        let topic = unique("own");
        let connect = Connect::new(Version::V5, &unique("publisher")).persistent();
        let mut publisher = Client::connect(broker, &connect);
        publisher.publish_with(&aliased(&topic, 1, "").qos(1));
        let (mut other, _) = announced(broker);
        other.send_publish(&aliased("", 1, ""));
        other.expect_disconnect(0x82);
        publisher.publish_with(&aliased("", 1, "").qos(1));
        publisher.reset();
        let (mut publisher, session_present, _) = Client::connect_with(broker, &connect);
        assert!(session_present);
        publisher.send_publish(&aliased("", 1, ""));
        publisher.expect_disconnect(0x82);
    });
}

/// What a subscriber with a Topic Alias Maximum knows of the broker's aliases.
struct Known {
    maximum: u16,
    topics: HashMap<u16, String>,
}

impl Known {
    /// The topic this message is for, and whether an alias was used in its place.
    #[track_caller]
    fn resolve(&mut self, message: &Publish) -> (String, bool) {
        let Some(alias) = message.properties.number(prop::TOPIC_ALIAS) else {
            assert_ne!(message.topic, "", "neither topic nor alias: {message:?}");
            return (message.topic.clone(), false);
        };
        let alias = alias as u16;
        assert!((1..=self.maximum).contains(&alias), "alias {alias} of at most {}", self.maximum);
        if message.topic.is_empty() {
            let topic = self.topics.get(&alias).unwrap_or_else(|| panic!("alias {alias} was never set"));
            return (topic.clone(), true);
        }
        self.topics.insert(alias, message.topic.clone());
        (message.topic.clone(), false)
    }
}

/// A version 5 CONNECT with a Topic Alias Maximum.
fn with_aliases(maximum: u16) -> Connect {
    Connect::new(Version::V5, &unique("subscriber")).property(prop::TOPIC_ALIAS_MAXIMUM, maximum)
}

#[test]
fn the_server_uses_aliases_within_the_clients_maximum() {
    each_broker(|broker| {
        for maximum in [1, 3, 65_535] {
            let topic = unique("outgoing");
            let mut subscriber = Client::connect(broker, &with_aliases(maximum));
            subscriber.subscribe(&format!("{topic}/+"), 2);
            let mut publisher = Client::new(broker, Version::V5);
            let mut known = Known { maximum, topics: HashMap::new() };
            let mut saved = 0;
            for round in 0..6 {
                for level in 0..40 {
                    let wanted = format!("{topic}/{level}");
                    publisher.publish(&wanted, round % 3, format!("{round}"));
                    let got = subscriber.expect_publish();
                    subscriber.finish(&got);
                    let (resolved, by_alias) = known.resolve(&got);
                    assert_eq!((resolved, got.payload), (wanted, format!("{round}").into_bytes()));
                    saved += usize::from(by_alias);
                }
            }
            assert!(saved > 0, "no alias was ever used");
        }
    });
}

#[test]
fn without_a_topic_alias_maximum_the_server_uses_no_alias() {
    each_broker(|broker| {
        let topic = unique("none");
        for connect in [with_aliases(0), Connect::new(Version::V5, &unique("subscriber"))] {
            let mut subscriber = Client::connect(broker, &connect);
            subscriber.subscribe(&topic, 1);
            let mut publisher = Client::new(broker, Version::V5);
            for _ in 0..5 {
                publisher.publish(&topic, 1, "in full");
                assert_eq!(subscriber.expect_message(&topic, "in full").properties, Properties::new());
            }
        }
    });
}

#[test]
fn the_servers_aliases_begin_anew_with_each_connection() {
    each_broker(|broker| {
        let topic = unique("anew");
        let connect = with_aliases(10).persistent();
        let mut publisher = Client::new(broker, Version::V5);
        for _ in 0..3 {
            let mut subscriber = Client::connect(broker, &connect);
            subscriber.subscribe(&topic, 1);
            let mut known = Known { maximum: 10, topics: HashMap::new() };
            for _ in 0..3 {
                publisher.publish(&topic, 1, "x");
                let got = subscriber.expect_publish();
                assert_eq!(known.resolve(&got).0, topic);
                subscriber.finish(&got);
            }
            subscriber.expect_nothing_until_ping();
            subscriber.reset();
        }
    });
}

#[test]
fn a_repeat_on_a_new_connection_does_not_use_an_alias_of_the_old_one() {
    each_broker(|broker| {
        let topic = unique("repeat");
        let connect = with_aliases(10).persistent();
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, Version::V5);
        for n in 0..4 {
            publisher.publish(&topic, 1 + n % 2, format!("{n}"));
            subscriber.expect_publish();
        }
        subscriber.reset();
        let mut subscriber = Client::connect(broker, &connect);
        let mut known = Known { maximum: 10, topics: HashMap::new() };
        for n in 0..4 {
            let got = subscriber.expect_publish();
            assert_eq!((known.resolve(&got).0, got.dup), (topic.clone(), true));
            assert_eq!(got.payload, format!("{n}").into_bytes());
        }
    });
}

#[test]
fn an_alias_set_by_a_message_too_large_to_be_sent_is_not_used() {
    each_broker(|broker| {
        let topic = unique("unsent");
        let connect = with_aliases(10).property(prop::MAXIMUM_PACKET_SIZE, 300_u32);
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe(&topic, 1);
        let mut publisher = Client::new(broker, Version::V5);
        let mut known = Known { maximum: 10, topics: HashMap::new() };
        for qos in [0, 1] {
            publisher.publish(&topic, qos, [b'x'; 400]);
            publisher.publish(&topic, qos, "small");
            let got = subscriber.expect_publish();
            assert_eq!((known.resolve(&got).0, got.payload.as_slice()), (topic.clone(), &b"small"[..]));
            subscriber.finish(&got);
        }
    });
}
