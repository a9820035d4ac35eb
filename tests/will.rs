//! The will: which ends of a connection publish it, when, and how.
mod support;
use std::time::{Duration, Instant};
use support::*;

/// A subscriber to `topic` at QoS 2.
#[track_caller]
fn watch(broker: &Broker, topic: &str) -> Client {
    let mut watcher = Client::new(broker, Version::V5);
    watcher.subscribe(topic, 2);
    watcher
}

/// A client with a will on `topic` that says `gone`, and a session that stays for an hour.
fn testator(version: Version, topic: &str) -> Connect {
    Connect::new(version, &unique("testator")).persistent().will(Will::new(topic, "gone").qos(1))
}

/// The client of `connect` comes back without a will and publishes to `topic`: had its old connection published a
/// will before, that would be ahead of this message.
#[track_caller]
fn speak_again(broker: &Broker, connect: &Connect, topic: &str) {
    let mut client = Client::connect(broker, &Connect { will: None, ..connect.clone() });
    client.publish(topic, 1, "alive");
    client.disconnect();
}

#[test]
fn a_lost_connection_publishes_the_will_once() {
    each_version(|broker, version| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        let connect = testator(version, &topic);
        Client::connect(broker, &connect).close();
        assert!(!watcher.expect_message(&topic, "gone").retain);
        Client::connect(broker, &connect).reset();
        watcher.expect_message(&topic, "gone");
        // The will belonged to those connections only.
        Client::connect(broker, &Connect { will: None, ..connect.clone() }).close();
        speak_again(broker, &connect, &topic);
        watcher.expect_message(&topic, "alive");
    });
}

#[test]
fn a_disconnect_removes_the_will() {
    each_version(|broker, version| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        let connect = testator(version, &topic);
        Client::connect(broker, &connect).disconnect();
        speak_again(broker, &connect, &topic);
        watcher.expect_message(&topic, "alive");
        watcher.expect_nothing_until_ping();
    });
}

#[test]
fn a_disconnect_as_short_as_can_be_removes_the_will() {
    each_broker(|broker| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        let connect = testator(Version::V5, &topic);
        for shortest in [&[0xe0, 0][..], &[0xe0, 1, 0]] {
            let mut client = Client::connect(broker, &connect);
            client.send(shortest);
            client.expect_closed();
            speak_again(broker, &connect, &topic);
            watcher.expect_message(&topic, "alive");
        }
    });
}

#[test]
fn a_disconnect_with_any_other_code_publishes_the_will() {
    each_broker(|broker| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        for code in [0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99] {
            let client = Client::connect(broker, &testator(Version::V5, &topic));
            client.disconnect_with(code, &Properties::new());
            watcher.expect_message(&topic, "gone");
        }
    });
}

#[test]
fn a_protocol_error_publishes_the_will() {
    each_version(|broker, version| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        let connect = testator(version, &topic);
        let mut client = Client::connect(broker, &connect);
        client.send(&connect.encode());
        client.expect_disconnect(0x82);
        watcher.expect_message(&topic, "gone");
    });
}

#[test]
fn a_malformed_packet_publishes_the_will() {
    each_version(|broker, version| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        let mut client = Client::connect(broker, &testator(version, &topic));
        client.send(&[0x36, 4, 0, 1, b't', 1]);
        client.expect_disconnect(0x81);
        watcher.expect_message(&topic, "gone");
    });
}

#[test]
fn a_keep_alive_timeout_publishes_the_will() {
    each_version(|broker, version| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        let _silent = Client::connect(broker, &testator(version, &topic).keep_alive(1));
        watcher.expect_message(&topic, "gone");
    });
}

#[test]
fn a_takeover_publishes_the_will_of_the_old_connection() {
    each_version(|broker, version| {
        for clean in [false, true] {
            let topic = unique("will");
            let mut watcher = watch(broker, &topic);
            let connect = testator(version, &topic);
            let mut old = Client::connect(broker, &connect);
            let _new = Client::connect(broker, &Connect { clean, will: None, ..connect });
            old.expect_disconnect(0x8e);
            watcher.expect_message(&topic, "gone");
        }
    });
}

#[test]
fn a_takeover_of_the_session_cancels_a_delayed_will() {
    each_broker(|broker| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        let connect = testator(Version::V5, &topic).will(Will::new(&topic, "gone").delay(1));
        let mut old = Client::connect(broker, &connect);
        let mut new = Client::connect(broker, &Connect { will: None, ..connect });
        old.expect_disconnect(0x8e);
        // A second will with the same delay is the clock.
        let clock = testator(Version::V5, &topic).will(Will::new(&topic, "clock").delay(1));
        Client::connect(broker, &clock).close();
        watcher.expect_message(&topic, "clock");
        watcher.expect_nothing_until_ping();
        new.expect_nothing_until_ping();
    });
}

#[test]
fn a_takeover_with_clean_start_publishes_even_a_delayed_will() {
    each_broker(|broker| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        let connect = testator(Version::V5, &topic).will(Will::new(&topic, "gone").delay(3600));
        let mut old = Client::connect(broker, &connect);
        let _new = Client::connect(broker, &Connect { clean: true, will: None, ..connect });
        old.expect_disconnect(0x8e);
        watcher.expect_message(&topic, "gone");
    });
}

#[test]
fn the_will_has_its_qos_at_every_watcher() {
    each_version(|broker, version| {
        for qos in [0, 1, 2] {
            let topic = unique("will");
            let mut watchers: Vec<Client> = (0..6).map(|_| watch(broker, &topic)).collect();
            let connect = Connect::new(version, &unique("t")).will(Will::new(&topic, "gone").qos(qos));
            Client::connect(broker, &connect).close();
            for watcher in &mut watchers {
                assert_eq!(watcher.expect_message(&topic, "gone").qos, qos);
                watcher.expect_nothing_until_ping();
            }
        }
    });
}

#[test]
fn a_retained_will_is_retained_and_another_is_not() {
    each_version(|broker, version| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        let connect = Connect::new(version, &unique("t")).will(Will::new(&topic, "retained").qos(1).retain());
        Client::connect(broker, &connect).close();
        assert!(!watcher.expect_message(&topic, "retained").retain, "to an existing subscription");
        let connect = Connect::new(version, &unique("t")).will(Will::new(&topic, "passing").qos(1));
        Client::connect(broker, &connect).close();
        watcher.expect_message(&topic, "passing");
        let mut late = watch(broker, &topic);
        assert!(late.expect_message(&topic, "retained").retain);
        late.expect_nothing_until_ping();
        // An empty retained will clears the topic, as any empty retained message does.
        let connect = Connect::new(version, &unique("t")).will(Will::new(&topic, "").qos(1).retain());
        Client::connect(broker, &connect).close();
        watcher.expect_message(&topic, "");
        watch(broker, &topic).expect_nothing_until_ping();
    });
}

#[test]
fn the_payload_of_a_will_is_any_bytes() {
    each_version(|broker, version| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        let every_byte: Vec<u8> = (0..=255).collect();
        for payload in [every_byte, Vec::new(), vec![0; 65535]] {
            let connect = Connect::new(version, &unique("t")).will(Will::new(&topic, &payload));
            Client::connect(broker, &connect).close();
            let message = watcher.expect_publish();
            assert!(message.payload == payload, "{} bytes", message.payload.len());
        }
    });
}

#[test]
fn the_will_of_the_last_connect_counts() {
    each_version(|broker, version| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        let connect = testator(version, &topic);
        Client::connect(broker, &connect).disconnect();
        let changed = connect.will(Will::new(&topic, "changed").qos(1));
        Client::connect(broker, &changed).close();
        watcher.expect_message(&topic, "changed");
        watcher.expect_nothing_until_ping();
    });
}

#[test]
fn a_will_is_queued_for_offline_sessions_the_own_one_too() {
    each_version(|broker, version| {
        let topic = unique("will");
        let connect = testator(version, &topic);
        let mut client = Client::connect(broker, &connect);
        client.subscribe(&topic, 1);
        client.close();
        let mut client = Client::connect(broker, &connect);
        client.expect_message(&topic, "gone");
        client.disconnect();
    });
}

#[test]
fn the_properties_of_a_will_go_out_with_it_in_order() {
    each_broker(|broker| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        let properties = Properties::new()
            .with(prop::PAYLOAD_FORMAT, 1u8)
            .with(prop::CONTENT_TYPE, "text/plain")
            .with(prop::RESPONSE_TOPIC, "answers/here")
            .with(prop::CORRELATION_DATA, &[0u8, 1, 0xff][..]);
        let user = [("z", "1"), ("a", "2"), ("z", "1"), ("", "")];
        let mut will = Will::new(&topic, "gone").property(prop::WILL_DELAY, 0u32);
        for (id, value) in &properties.0 {
            will.properties.0.push((*id, value.clone()));
        }
        will = user.iter().fold(will, |will, pair| will.property(prop::USER, *pair));
        Client::connect(broker, &Connect::new(Version::V5, &unique("t")).will(will)).close();
        let message = watcher.expect_message(&topic, "gone");
        for (id, value) in &properties.0 {
            assert_eq!(message.properties.get(*id), Some(value), "0x{id:02x}");
        }
        assert_eq!(message.properties.user(), user);
    });
}

#[test]
fn the_message_expiry_of_a_will_runs_from_its_publication() {
    each_broker(|broker| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        let will = Will::new(&topic, "gone").property(prop::MESSAGE_EXPIRY, 100u32).delay(1);
        let connect = Connect::new(Version::V5, &unique("t")).expiry(3600).will(will);
        Client::connect(broker, &connect).close();
        let left = watcher.expect_message(&topic, "gone").properties.number(prop::MESSAGE_EXPIRY);
        assert_eq!(left, Some(100));
    });
}

#[test]
fn a_delayed_will_waits_for_its_delay() {
    each_broker(|broker| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        for lost in [true, false] {
            let connect = Connect::new(Version::V5, &unique("t")).expiry(3600);
            let client = Client::connect(broker, &connect.will(Will::new(&topic, "gone").delay(1)));
            let closed = Instant::now();
            if lost {
                client.close();
            } else {
                client.disconnect_with(0x04, &Properties::new());
            }
            watcher.expect_message(&topic, "gone");
            assert!(closed.elapsed() >= Duration::from_millis(990), "{:?}", closed.elapsed());
        }
    });
}

#[test]
fn the_end_of_the_session_publishes_a_will_before_its_delay() {
    each_broker(|broker| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        // A session that ends with its connection, and one that ends a second later.
        for expiry in [0, 1] {
            let connect = Connect::new(Version::V5, &unique("t")).expiry(expiry);
            let closed = Instant::now();
            Client::connect(broker, &connect.will(Will::new(&topic, "gone").delay(3600))).close();
            watcher.expect_message(&topic, "gone");
            assert!(closed.elapsed() >= Duration::from_millis(990 * u64::from(expiry)));
        }
        // DISCONNECT ends the session at once, but wants the will.
        let connect = Connect::new(Version::V5, &unique("t")).expiry(3600);
        let client = Client::connect(broker, &connect.will(Will::new(&topic, "gone").delay(3600)));
        client.disconnect_with(0x04, &Properties::new().with(prop::SESSION_EXPIRY, 0u32));
        watcher.expect_message(&topic, "gone");
    });
}

#[test]
fn resuming_the_session_in_time_cancels_the_will() {
    each_broker(|broker| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        let connect = testator(Version::V5, &topic).will(Will::new(&topic, "gone").delay(1));
        Client::connect(broker, &connect).close();
        let (mut back, present, _) = Client::connect_with(broker, &Connect { will: None, ..connect });
        assert!(present);
        let clock = testator(Version::V5, &topic).will(Will::new(&topic, "clock").delay(1));
        Client::connect(broker, &clock).close();
        watcher.expect_message(&topic, "clock");
        watcher.expect_nothing_until_ping();
        back.expect_nothing_until_ping();
    });
}

#[test]
fn a_clean_start_before_the_delay_publishes_the_will_at_once() {
    each_broker(|broker| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        let connect = testator(Version::V5, &topic).will(Will::new(&topic, "gone").delay(3600));
        Client::connect(broker, &connect).close();
        let _new = Client::connect(broker, &Connect { clean: true, will: None, ..connect });
        watcher.expect_message(&topic, "gone");
    });
}

#[test]
fn a_disconnect_removes_a_delayed_will_too() {
    each_broker(|broker| {
        let topic = unique("will");
        let mut watcher = watch(broker, &topic);
        let connect = testator(Version::V5, &topic).will(Will::new(&topic, "gone").delay(1));
        Client::connect(broker, &connect).disconnect();
        let clock = testator(Version::V5, &topic).will(Will::new(&topic, "clock").delay(1));
        Client::connect(broker, &clock).close();
        watcher.expect_message(&topic, "clock");
        watcher.expect_nothing_until_ping();
    });
}
