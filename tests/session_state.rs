//! What a session keeps when its connection ends, for how long, and who may take it over.
mod support;
use std::time::Instant;
use support::*;

/// Connects, says whether the session was there, and disconnects with the session left as it is.
#[track_caller]
fn is_present(broker: &Broker, connect: &Connect) -> bool {
    let (client, present, _) = Client::connect_with(broker, connect);
    client.disconnect();
    present
}

/// Publishes to `topic` until nobody is subscribed to it any more, which is how the end of a session shows.
#[track_caller]
fn wait_until_nobody_listens(broker: &Broker, topic: &str) {
    let mut probe = Client::new(broker, Version::V5);
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let id = probe.fresh_id();
        probe.send(&publish(Version::V5, &Publish::new(topic, "probe").qos(1).id(id)));
        if probe.expect_ack(Kind::Puback, id) == 0x10 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("somebody is still subscribed to {topic}");
}

/// A session that exists and is offline, subscribed to `topic`.
#[track_caller]
fn offline(broker: &Broker, connect: &Connect, topic: &str, qos: u8) {
    let mut client = Client::connect(broker, connect);
    client.subscribe(topic, qos);
    client.disconnect();
}

#[test]
fn a_persistent_session_is_present_after_a_disconnect_and_after_a_lost_connection() {
    each_version(|broker, version| {
        let connect = Connect::new(version, &unique("s")).persistent();
        let (client, present, _) = Client::connect_with(broker, &connect);
        assert!(!present, "a session that was never there");
        client.disconnect();
        let (client, present, _) = Client::connect_with(broker, &connect);
        assert!(present, "after DISCONNECT");
        client.close();
        let (client, present, _) = Client::connect_with(broker, &connect);
        assert!(present, "after an end of file");
        client.reset();
        assert!(is_present(broker, &connect), "after a reset");
    });
}

#[test]
fn subscriptions_survive_in_a_persistent_session() {
    each_version(|broker, version| {
        let (connect, topic) = (Connect::new(version, &unique("s")).persistent(), unique("t"));
        offline(broker, &connect, &topic, 1);
        let mut client = Client::connect(broker, &connect);
        Client::new(broker, version).publish(&topic, 1, "still here");
        client.expect_message(&topic, "still here");
    });
}

#[test]
fn a_session_without_expiry_ends_with_its_connection() {
    each_version(|broker, version| {
        let (clean, topic) = (Connect::new(version, &unique("s")), unique("t"));
        offline(broker, &clean, &topic, 1);
        wait_until_nobody_listens(broker, &topic);
        let mut resumed = Client::open(broker, version);
        resumed.send(&clean.resume().encode());
        assert!(!resumed.expect_connack().0, "the state of a clean session is never reused");
        Client::new(broker, version).publish(&topic, 1, "for nobody");
        resumed.expect_nothing_until_ping();
    });
}

#[test]
fn clean_start_discards_the_stored_session() {
    each_version(|broker, version| {
        let (id, topic) = (unique("s"), unique("t"));
        let connect = Connect::new(version, &id).persistent();
        offline(broker, &connect, &topic, 1);
        Client::new(broker, version).publish(&topic, 1, "queued");
        let clean = Connect { clean: true, ..connect.clone() };
        let (mut client, present, _) = Client::connect_with(broker, &clean);
        assert!(!present);
        Client::new(broker, version).publish(&topic, 1, "live");
        client.expect_nothing_until_ping();
        client.disconnect();
        // In 3.1.1 a clean session is not kept either; in 5.0 Clean Start says nothing about the end.
        assert_eq!(is_present(broker, &connect), version.is_5());
    });
}

#[test]
fn retained_messages_are_not_part_of_a_session() {
    each_version(|broker, version| {
        let topic = unique("t");
        let mut owner = Client::new(broker, version);
        owner.publish_with(&Publish::new(&topic, "kept").qos(1).retain());
        owner.disconnect();
        let mut reader = Client::new(broker, version);
        reader.subscribe(&topic, 1);
        assert!(reader.expect_message(&topic, "kept").retain);
        reader.disconnect();
        Client::new(broker, version).publish_with(&Publish::new(&topic, "").qos(1).retain());
    });
}

#[test]
fn a_session_is_gone_once_its_expiry_has_passed() {
    each_broker(|broker| {
        let (connect, topic) = (Connect::new(Version::V5, &unique("s")).resume().expiry(1), unique("t"));
        offline(broker, &connect, &topic, 1);
        assert!(is_present(broker, &connect), "before its expiry");
        wait_until_nobody_listens(broker, &topic);
        assert!(!is_present(broker, &connect), "after its expiry");
    });
}

#[test]
fn session_expiry_is_set_by_each_connect_anew() {
    each_broker(|broker| {
        let (id, topic) = (unique("s"), unique("t"));
        let long = Connect::new(Version::V5, &id).resume().expiry(3600);
        offline(broker, &long, &topic, 1);
        assert!(is_present(broker, &Connect::new(Version::V5, &id).resume()), "resumed without an expiry");
        wait_until_nobody_listens(broker, &topic);
        assert!(!is_present(broker, &long));
    });
}

#[test]
fn disconnect_can_end_a_session_at_once() {
    each_broker(|broker| {
        let connect = Connect::new(Version::V5, &unique("s")).resume().expiry(3600);
        let (client, ..) = Client::connect_with(broker, &connect);
        client.disconnect_with(0, &Properties::new().with(prop::SESSION_EXPIRY, 0u32));
        assert!(!is_present(broker, &connect));
    });
}

#[test]
fn disconnect_can_lengthen_a_session() {
    each_broker(|broker| {
        let (longer, topic) = (Connect::new(Version::V5, &unique("s")).resume().expiry(1), unique("t"));
        let mut client = Client::connect(broker, &longer);
        client.subscribe(&topic, 1);
        client.disconnect_with(0, &Properties::new().with(prop::SESSION_EXPIRY, 3600u32));
        // This one, which ends after a second, is the clock.
        let (short, clock) = (Connect::new(Version::V5, &unique("s")).expiry(1), unique("t"));
        offline(broker, &short, &clock, 1);
        wait_until_nobody_listens(broker, &clock);
        assert!(is_present(broker, &longer));
    });
}

#[test]
fn disconnect_without_an_expiry_leaves_that_of_connect() {
    each_broker(|broker| {
        let connect = Connect::new(Version::V5, &unique("s")).resume().expiry(3600);
        Client::connect(broker, &connect).disconnect_with(0x04, &Properties::new());
        assert!(is_present(broker, &connect));
    });
}

#[test]
fn disconnect_must_not_raise_the_expiry_from_zero() {
    each_broker(|broker| {
        for connect in
            [Connect::new(Version::V5, &unique("s")), Connect::new(Version::V5, &unique("s")).expiry(0)]
        {
            let topic = unique("will");
            let mut watcher = Client::new(broker, Version::V5);
            watcher.subscribe(&topic, 0);
            let mut client =
                Client::connect(broker, &connect.clone().will(Will::new(&topic, "not a DISCONNECT")));
            client.send(&disconnect(Version::V5, 0, &Properties::new().with(prop::SESSION_EXPIRY, 5u32)));
            client.expect_disconnect(0x82);
            watcher.expect_message(&topic, "not a DISCONNECT");
            assert!(!is_present(broker, &connect.resume()));
        }
    });
}

#[test]
fn an_expiry_above_the_cap_is_cut_and_told() {
    each_broker_with(&["--max-session-expiry", "1"], |broker| {
        for asked in [2, 3600, u32::MAX] {
            let (connect, topic) =
                (Connect::new(Version::V5, &unique("s")).resume().expiry(asked), unique("t"));
            let (mut client, _, connack) = Client::connect_with(broker, &connect);
            assert_eq!(connack.number(prop::SESSION_EXPIRY), Some(1));
            client.subscribe(&topic, 1);
            client.disconnect();
            wait_until_nobody_listens(broker, &topic);
            assert!(!is_present(broker, &connect));
        }
        let within = Connect::new(Version::V5, &unique("s")).expiry(1);
        let (_, _, connack) = Client::connect_with(broker, &within);
        assert!(matches!(connack.number(prop::SESSION_EXPIRY), None | Some(1)));
    });
}

#[test]
fn the_cap_holds_for_an_expiry_in_disconnect_too() {
    each_broker_with(&["--max-session-expiry", "1"], |broker| {
        let topic = unique("t");
        let mut client = Client::connect(broker, &Connect::new(Version::V5, &unique("s")).expiry(1));
        client.subscribe(&topic, 1);
        client.disconnect_with(0, &Properties::new().with(prop::SESSION_EXPIRY, 3600u32));
        wait_until_nobody_listens(broker, &topic);
    });
}

#[test]
fn sessions_of_3_1_1_end_at_the_cap() {
    each_broker_with(&["--max-session-expiry", "1"], |broker| {
        let (connect, topic) = (Connect::new(Version::V4, &unique("s")).persistent(), unique("t"));
        offline(broker, &connect, &topic, 1);
        assert!(is_present(broker, &connect));
        wait_until_nobody_listens(broker, &topic);
        assert!(!is_present(broker, &connect));
    });
}

#[test]
fn a_session_is_shared_by_both_versions() {
    each_broker(|broker| {
        let (id, topic) = (unique("s"), unique("t"));
        offline(broker, &Connect::new(Version::V4, &id).persistent(), &topic, 2);
        Client::new(broker, Version::V4).publish(&topic, 2, "queued");
        let (mut five, present, _) =
            Client::connect_with(broker, &Connect::new(Version::V5, &id).persistent());
        assert!(present);
        five.expect_message(&topic, "queued");
        let (mut four, present, _) =
            Client::connect_with(broker, &Connect::new(Version::V4, &id).persistent());
        assert!(present);
        five.expect_disconnect(0x8e);
        four.expect_nothing_until_ping();
    });
}

#[test]
fn a_taken_over_client_is_told_and_closed() {
    each_version(|broker, version| {
        for clean in [true, false] {
            let connect = Connect { clean, ..Connect::new(version, &unique("s")) };
            let mut old = Client::connect(broker, &connect);
            let mut new = Client::open(broker, version);
            new.send(&connect.encode());
            let (present, _) = new.expect_connack();
            old.expect_disconnect(0x8e);
            new.expect_nothing_until_ping();
            if clean {
                assert!(!present);
            }
        }
    });
}

#[test]
fn a_takeover_carries_the_session_over() {
    each_version(|broker, version| {
        let (connect, topic) = (Connect::new(version, &unique("s")).persistent(), unique("t"));
        let mut holder = Client::connect(broker, &connect);
        holder.subscribe(&topic, 1);
        let mut publisher = Client::new(broker, version);
        for n in 0..20 {
            let mut new = Client::open(broker, version);
            new.send(&connect.encode());
            assert!(new.expect_connack().0, "takeover {n}");
            holder.expect_disconnect(0x8e);
            publisher.publish(&topic, 1, n.to_string());
            new.expect_message(&topic, n.to_string());
            // The acknowledgement is known to have arrived before the next takeover.
            new.expect_nothing_until_ping();
            holder = new;
        }
    });
}

#[test]
fn a_takeover_with_clean_start_drops_the_old_subscriptions() {
    each_version(|broker, version| {
        let (connect, topic) = (Connect::new(version, &unique("s")).persistent(), unique("t"));
        let mut old = Client::connect(broker, &connect);
        old.subscribe(&topic, 1);
        let mut new = Client::open(broker, version);
        new.send(&Connect { clean: true, ..connect }.encode());
        assert!(!new.expect_connack().0);
        old.expect_disconnect(0x8e);
        Client::new(broker, version).publish(&topic, 1, "for nobody");
        new.expect_nothing_until_ping();
    });
}

#[test]
fn of_many_who_connect_with_one_id_at_a_time_exactly_one_stays() {
    each_version(|broker, version| {
        let (connect, topic) = (Connect::new(version, &unique("s")).persistent(), unique("t"));
        let mut clients: Vec<Client> = (0..12).map(|_| Client::open(broker, version)).collect();
        // The CONNECTs are under way together; every one is answered before its connection is taken over, unless its
        // answer waits for the disk: then it is closed without one.
        let is_stored = std::env::var_os("RINGMQ_TEST_DURABILITY").is_some();
        clients.iter_mut().for_each(|client| client.send(&connect.encode()));
        clients.retain_mut(|client| match client.try_receive() {
            Some(Packet::Connack { code: 0, .. }) => true,
            None if is_stored => false,
            other => panic!("expected CONNACK, got {other:?}"),
        });
        // A last one, so that it is known who stays.
        let mut last = Client::connect(broker, &connect);
        clients.iter_mut().for_each(|client| client.expect_disconnect(0x8e));
        last.subscribe(&topic, 0);
        last.publish(&topic, 0, "alone");
        last.expect_message(&topic, "alone");
    });
}

#[test]
fn an_unsubscribed_filter_stays_unsubscribed_after_resuming() {
    each_version(|broker, version| {
        let (connect, topic) = (Connect::new(version, &unique("s")).persistent(), unique("t"));
        let mut client = Client::connect(broker, &connect);
        client.subscribe(&topic, 1);
        client.unsubscribe(&topic);
        client.disconnect();
        Client::new(broker, version).publish(&topic, 1, "for nobody");
        Client::connect(broker, &connect).expect_nothing_until_ping();
    });
}
