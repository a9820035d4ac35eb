//! What version 5.0 adds.
use super::peer::{Message, Peer, Setup, Version};
use crate::support::{Broker, PATIENCE, each_broker, unique};
use rumqttc::v5::mqttbytes::v5::{LastWillProperties, PublishProperties};
use std::time::{Duration, Instant};

fn peer(broker: &Broker) -> Peer {
    Peer::connect(broker, Version::V5_0, Setup::new(&unique("rust")))
}

#[test]
fn properties_reach_the_subscriber_unchanged() {
    each_broker(|broker| {
        let (mut subscriber, mut publisher, topic) = (peer(broker), peer(broker), unique("props"));
        subscriber.subscribe(&topic, 1);
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let sent = PublishProperties {
            payload_format_indicator: Some(1),
            response_topic: Some("answers".to_owned()),
            correlation_data: Some(vec![0, 1, 254, 255].into()),
            user_properties: vec![pair("b", "2"), pair("a", "1"), pair("b", "3"), pair("ü", "")],
            content_type: Some("text/plain".to_owned()),
            ..PublishProperties::default()
        };
        publisher.publish_with(&topic, 1, false, "text", sent.clone());
        assert_eq!(subscriber.message().properties, sent);
    });
}

#[test]
fn puback_says_when_nobody_subscribes() {
    each_broker(|broker| {
        let (mut peer, topic) = (peer(broker), unique("codes"));
        assert_eq!(peer.publish(&topic, 1, ""), "NoMatchingSubscribers");
        peer.subscribe(&topic, 1);
        assert_eq!(peer.publish(&topic, 1, ""), "Success");
    });
}

#[test]
fn topic_alias_stands_for_its_topic() {
    each_broker(|broker| {
        let (mut subscriber, mut publisher, topic) = (peer(broker), peer(broker), unique("alias"));
        subscriber.subscribe(&topic, 1);
        let alias = PublishProperties { topic_alias: Some(1), ..PublishProperties::default() };
        publisher.publish_with(&topic, 1, false, "named", alias.clone());
        publisher.publish_with("", 1, false, "by alias", alias);
        for wanted in ["named", "by alias"] {
            let message = subscriber.message();
            assert_eq!((message.topic, message.payload), (topic.clone(), wanted.as_bytes().to_vec()));
        }
    });
}

#[test]
fn message_expires_and_its_interval_counts_down() {
    each_broker(|broker| {
        let (mut publisher, base) = (peer(broker), unique("expiry"));
        for (name, seconds) in [("long", 100), ("short", 1)] {
            let expiry =
                PublishProperties { message_expiry_interval: Some(seconds), ..PublishProperties::default() };
            publisher.publish_with(&format!("{base}/{name}"), 1, true, name, expiry);
        }
        // What a new subscriber gets until it has both the message that stays and a live one.
        let mut retained = || {
            let mut reader = peer(broker);
            reader.subscribe(&format!("{base}/+"), 1);
            publisher.publish(&format!("{base}/fence"), 1, "fence");
            let mut messages: Vec<Message> = Vec::new();
            while !["long", "fence"].iter().all(|name| messages.iter().any(|m| m.payload == name.as_bytes()))
            {
                messages.push(reader.message());
            }
            messages
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no message expires and no interval counts down");
            let messages = retained();
            let is_over = messages.iter().all(|message| message.payload != b"short");
            let long = messages.iter().find(|message| message.payload == b"long").expect("waited for");
            let left = long.properties.message_expiry_interval.expect("the interval is passed on");
            assert!((1..=100).contains(&left), "{left} s left of 100");
            if is_over && left < 100 {
                break;
            }
        }
        publisher.retain(&format!("{base}/long"), "");
    });
}

#[test]
fn shared_subscription_gives_each_message_to_one_member() {
    each_broker(|broker| {
        let (mut publisher, topic) = (peer(broker), unique("jobs"));
        let mut members = [peer(broker), peer(broker)];
        for member in &mut members {
            member.subscribe(&format!("$share/workers/{topic}"), 1);
        }
        let wanted: Vec<Vec<u8>> = (10..70).map(|number| number.to_string().into_bytes()).collect();
        for payload in &wanted {
            publisher.publish(&topic, 1, str::from_utf8(payload).unwrap());
        }
        let mut received: Vec<Vec<u8>> = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while received.len() < wanted.len() {
            assert!(Instant::now() < deadline, "only {} of {}", received.len(), wanted.len());
            received.extend(members.iter_mut().flat_map(Peer::arrived).map(|message| message.payload));
            std::thread::sleep(Duration::from_millis(5));
        }
        received.sort();
        assert_eq!(received, wanted);
    });
}

#[test]
fn will_carries_properties_and_waits_for_its_delay() {
    each_broker(|broker| {
        let (mut watcher, topic) = (peer(broker), unique("will"));
        watcher.subscribe(&topic, 1);
        let pairs = vec![("k".to_owned(), "v".to_owned())];
        let mut setup = Setup::keeping(&unique("crash")).with_will(&topic, "late");
        setup.will_properties = Some(LastWillProperties {
            delay_interval: Some(1),
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: Some("text/plain".to_owned()),
            response_topic: None,
            correlation_data: None,
            user_properties: pairs.clone(),
        });
        drop(Peer::connect(broker, Version::V5_0, setup));
        let message = watcher.message();
        assert_eq!(message.payload, b"late");
        assert_eq!(message.properties.content_type.as_deref(), Some("text/plain"));
        assert_eq!(message.properties.user_properties, pairs);
    });
}

#[test]
fn limits_of_the_client_are_respected() {
    each_broker(|broker| {
        let mut setup = Setup::new(&unique("small"));
        setup.properties.max_packet_size = Some(500);
        setup.properties.receive_maximum = Some(2);
        let mut subscriber = Peer::connect(broker, Version::V5_0, setup);
        let (mut publisher, topic) = (peer(broker), unique("limits"));
        subscriber.subscribe(&topic, 1);
        for size in [10, 2000, 20] {
            publisher.publish(&topic, 1, &"x".repeat(size));
        }
        assert_eq!(subscriber.payloads(2).iter().map(String::len).collect::<Vec<_>>(), [10, 20]);
        let wanted: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        for payload in &wanted {
            publisher.publish(&topic, 1, payload);
        }
        assert_eq!(subscriber.payloads(50), wanted, "through a window of 2");
    });
}
