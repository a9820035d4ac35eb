//! Message Expiry Interval: what is forwarded of it, and that nothing is delivered behind its time.
//!
//! Nothing here waits for a length of time. The broker's own clock is read off retained messages: one that expires
//! disappears, one that does not says how much is left.
mod support;

use std::thread;
use std::time::{Duration, Instant};
use support::*;

/// Retained messages from which the broker's time can be told.
struct Clock {
    topic: String,
}

impl Clock {
    /// Starts it: from now on a second passes by the broker's reckoning.
    fn start(broker: &Broker) -> Clock {
        let topic = unique("clock");
        let message = Publish::new(&topic, "tick").qos(1).retain().property(prop::MESSAGE_EXPIRY, 1000_u32);
        Client::new(broker, Version::V5).publish_with(&message);
        Clock { topic }
    }

    /// Waits until `seconds` have passed in the broker since the start.
    fn wait(&self, broker: &Broker, seconds: u32) {
        let until = Instant::now() + PATIENCE;
        let mut client = Client::new(broker, Version::V5);
        while Instant::now() < until {
            client.subscribe(&self.topic, 0);
            let tick = client.expect_message(&self.topic, "tick");
            if remaining(&tick) <= 1000 - seconds {
                return;
            }
            // Not the time that is waited for, only a rest between two looks.
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{seconds} s do not pass in the broker");
    }
}

/// The seconds a message says it has left.
#[track_caller]
fn remaining(message: &Publish) -> u32 {
    let remaining = message.properties.number(prop::MESSAGE_EXPIRY);
    remaining.unwrap_or_else(|| panic!("no expiry in {message:?}"))
}

fn expiring(topic: &str, payload: &str, seconds: u32) -> Publish {
    Publish::new(topic, payload).qos(1).property(prop::MESSAGE_EXPIRY, seconds)
}

#[test]
fn a_message_delivered_at_once_keeps_its_interval() {
    each_broker(|broker| {
        let topic = unique("at-once");
        let mut subscriber = Client::new(broker, Version::V5);
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, Version::V5);
        for (qos, seconds) in [(0, 100), (1, 3_000_000_000), (2, u32::MAX), (0, 100)] {
            publisher.publish_with(&expiring(&topic, "x", seconds).qos(qos));
            let left = remaining(&subscriber.expect_message(&topic, "x"));
            assert!((seconds - 20..=seconds).contains(&left), "{left} of {seconds}");
        }
    });
}

#[test]
fn a_message_without_an_interval_gets_none() {
    each_broker(|broker| {
        let topic = unique("never");
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish_with(&Publish::new(&topic, "x").qos(1).retain());
        let mut subscriber = Client::new(broker, Version::V5);
        subscriber.subscribe(&topic, 1);
        assert_eq!(subscriber.expect_message(&topic, "x").properties, Properties::new());
    });
}

#[test]
fn what_waited_says_how_much_is_left() {
    each_broker(|broker| {
        let topic = unique("left");
        let connect = Connect::new(Version::V5, &unique("away")).persistent();
        let mut away = Client::connect(broker, &connect);
        away.subscribe(&topic, 2);
        away.disconnect();
        let mut publisher = Client::new(broker, Version::V5);
        for qos in 1..=2 {
            publisher.publish_with(&expiring(&topic, "queued", 1000).qos(qos));
        }
        publisher.publish_with(&expiring(&topic, "retained", 1000).retain());
        // Behind the others, so that their time is up before the clock's.
        let clock = Clock::start(broker);
        clock.wait(broker, 2);
        let mut back = Client::connect(broker, &connect);
        for message in back.messages(3) {
            let left = remaining(&message);
            assert!((900..=998).contains(&left), "{message:?}");
        }
        let mut late = Client::new(broker, Version::V5);
        late.subscribe(&topic, 1);
        let left = remaining(&late.expect_message(&topic, "retained"));
        assert!((900..=998).contains(&left), "{left}");
    });
}

#[test]
fn what_expired_while_it_waited_is_never_delivered() {
    each_version(|broker, version| {
        let topic = unique("expired");
        let connect = Connect::new(version, &unique("away")).persistent();
        let mut away = Client::connect(broker, &connect);
        away.subscribe(&topic, 2);
        away.disconnect();
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish_with(&expiring(&topic, "a second", 1));
        publisher.publish_with(&expiring(&topic, "a second", 1).qos(2));
        publisher.publish_with(&expiring(&topic, "an hour", 3600));
        publisher.publish_with(&Publish::new(&topic, "for ever").qos(2));
        let clock = Clock::start(broker);
        clock.wait(broker, 2);
        publisher.publish(&topic, 1, END);
        let mut back = Client::connect(broker, &connect);
        assert_eq!(payloads(&back.messages_until_end()), ["an hour", "for ever"]);
    });
}

#[test]
fn an_expired_retained_message_is_gone() {
    each_version(|broker, version| {
        let topic = unique("gone");
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish_with(&expiring(&format!("{topic}/second"), "", 1).retain());
        publisher.publish_with(&Publish {
            payload: b"x".into(),
            ..expiring(&format!("{topic}/x"), "", 1).retain()
        });
        publisher.publish_with(&expiring(&format!("{topic}/hour"), "an hour", 3600).retain());
        let clock = Clock::start(broker);
        clock.wait(broker, 2);
        for filter in ["+", "#"] {
            let mut subscriber = Client::new(broker, version);
            subscriber.subscribe(&format!("{topic}/{filter}"), 1);
            subscriber.expect_message(&format!("{topic}/hour"), "an hour");
            subscriber.expect_nothing_until_ping();
        }
        // Replacing one that expired works as ever.
        publisher.publish_with(&Publish::new(&format!("{topic}/x"), "new").qos(1).retain());
        let mut subscriber = Client::new(broker, version);
        subscriber.subscribe(&format!("{topic}/x"), 1);
        subscriber.expect_message(&format!("{topic}/x"), "new");
    });
}

#[test]
fn a_message_that_expires_behind_a_full_window_is_not_delivered() {
    each_broker(|broker| {
        let topic = unique("window");
        let connect = Connect::new(Version::V5, &unique("slow")).property(prop::RECEIVE_MAXIMUM, 1_u16);
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe(&topic, 1);
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish(&topic, 1, "in flight");
        publisher.publish_with(&expiring(&topic, "a second", 1));
        publisher.publish(&topic, 1, END);
        let in_flight = subscriber.expect_publish();
        let clock = Clock::start(broker);
        clock.wait(broker, 2);
        subscriber.finish(&in_flight);
        assert_eq!(subscriber.messages_until_end(), []);
    });
}

#[test]
fn a_qos_2_handshake_is_finished_though_the_message_expired() {
    each_broker(|broker| {
        let topic = unique("handshake");
        let connect = Connect::new(Version::V5, &unique("subscriber")).persistent();
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::new(broker, Version::V5);
        publisher.publish_with(&expiring(&topic, "to be released", 1).qos(2));
        publisher.publish_with(&expiring(&topic, "to be repeated", 1).qos(2));
        let released = subscriber.expect_publish();
        let repeated = subscriber.expect_publish();
        // The other direction: received and not yet released when its time is up.
        publisher.send_publish(&expiring(&unique("elsewhere"), "x", 1).qos(2).id(500));
        publisher.expect_ack(Kind::Pubrec, 500);
        let clock = Clock::start(broker);
        clock.wait(broker, 2);
        publisher.ack(Kind::Pubrel, 500);
        publisher.expect_ack_code(Kind::Pubcomp, 500, 0);
        subscriber.finish(&released);
        subscriber.expect_nothing_until_ping();
        // Its delivery has begun, so it is not for the expiry to end it.
        subscriber.reset();
        let mut subscriber = Client::connect(broker, &connect);
        let again = subscriber.expect_publish();
        assert_eq!((&again.payload, again.id, again.dup), (&repeated.payload, repeated.id, true));
        subscriber.finish(&again);
        subscriber.expect_nothing_until_ping();
    });
}

#[test]
fn a_will_with_an_interval_expires_like_any_message() {
    each_broker(|broker| {
        let topic = unique("will");
        let will = Will::new(&topic, "gone").qos(1).retain().property(prop::MESSAGE_EXPIRY, 1_u32);
        let mut witness = Client::new(broker, Version::V5);
        witness.subscribe(&topic, 1);
        Client::connect(broker, &Connect::new(Version::V5, &unique("willing")).will(will)).reset();
        assert!(remaining(&witness.expect_message(&topic, "gone")) <= 1);
        let clock = Clock::start(broker);
        clock.wait(broker, 2);
        let mut late = Client::new(broker, Version::V5);
        late.subscribe(&topic, 1);
        late.expect_nothing_until_ping();
    });
}
