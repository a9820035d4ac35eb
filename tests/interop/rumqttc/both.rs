//! What both versions promise.
use super::peer::{Peer, Setup, Version};
use crate::support::{Broker, each_broker, unique};

fn each(test: impl Fn(&Broker, Version) + Sync) {
    each_broker(|broker| {
        test(broker, Version::V3_1_1);
        test(broker, Version::V5_0);
    });
}

fn peer(broker: &Broker, version: Version) -> Peer {
    Peer::connect(broker, version, Setup::new(&unique("rust")))
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[test]
fn every_qos_pair_delivers_at_the_lower_qos() {
    each(|broker, version| {
        let mut publisher = peer(broker, version);
        for granted in 0..=2 {
            let (mut subscriber, topic) = (peer(broker, version), unique("qos"));
            subscriber.subscribe(&topic, granted);
            for sent in 0..=2 {
                publisher.publish(&topic, sent, "hello");
                let message = subscriber.message();
                assert_eq!(
                    (&*message.topic, &*message.payload, message.qos),
                    (&*topic, &b"hello"[..], sent.min(granted))
                );
            }
        }
    });
}

#[test]
fn the_two_versions_talk_to_each_other() {
    each_broker(|broker| {
        let topic = unique("mixed");
        let mut old = peer(broker, Version::V3_1_1);
        let mut new = peer(broker, Version::V5_0);
        old.subscribe(&topic, 1);
        new.subscribe(&topic, 1);
        // Two publishers have no order between them ([MQTT-4.6.0-6] is about one): the first is heard before the second.
        old.publish(&topic, 1, "from 3.1.1");
        assert_eq!([old.payloads(1), new.payloads(1)], [["from 3.1.1"], ["from 3.1.1"]]);
        new.publish(&topic, 1, "from 5.0");
        assert_eq!([old.payloads(1), new.payloads(1)], [["from 5.0"], ["from 5.0"]]);
    });
}

#[test]
fn one_publisher_stays_in_order() {
    each(|broker, version| {
        let (mut subscriber, mut publisher, topic) =
            (peer(broker, version), peer(broker, version), unique("order"));
        subscriber.subscribe(&topic, 2);
        for qos in 0..=2 {
            for payload in numbered(200) {
                publisher.publish(&topic, qos, &payload);
            }
            assert_eq!(subscriber.payloads(200), numbered(200), "QoS {qos}");
        }
    });
}

#[test]
fn wildcards_match_and_unsubscribe_ends_delivery() {
    each(|broker, version| {
        let (mut subscriber, mut publisher, base) =
            (peer(broker, version), peer(broker, version), unique("wild"));
        let (one, many, fence) = (format!("{base}/+/x"), format!("{base}/deep/#"), format!("{base}/fence"));
        for filter in [&one, &many, &fence] {
            subscriber.subscribe(filter, 1);
        }
        let send = |publisher: &mut Peer| {
            for name in ["a/x", "a/y", "deep", "deep/1/2", "a/x/x", "fence"] {
                publisher.publish(&format!("{base}/{name}"), 1, name);
            }
        };
        send(&mut publisher);
        assert_eq!(subscriber.payloads(4), ["a/x", "deep", "deep/1/2", "fence"]);
        subscriber.unsubscribe(&many);
        send(&mut publisher);
        assert_eq!(subscriber.payloads(2), ["a/x", "fence"]);
    });
}

#[test]
fn retained_is_kept_replaced_and_cleared() {
    each(|broker, version| {
        let (mut publisher, topic, fence) = (peer(broker, version), unique("retained"), unique("fence"));
        publisher.retain(&topic, "first");
        publisher.retain(&topic, "second");
        let mut late = peer(broker, version);
        late.subscribe(&topic, 1);
        let message = late.message();
        assert_eq!((&*message.payload, message.retain), (&b"second"[..], true));
        publisher.retain(&topic, "");
        let mut later = peer(broker, version);
        later.subscribe(&topic, 1);
        later.subscribe(&fence, 1);
        publisher.publish(&fence, 1, "fence");
        assert_eq!(later.payloads(1), ["fence"], "nothing retained is left");
    });
}

#[test]
fn will_is_published_after_a_crash_and_dropped_after_disconnect() {
    each(|broker, version| {
        let (mut watcher, topic) = (peer(broker, version), unique("will"));
        watcher.subscribe(&topic, 1);
        let polite = Setup::new(&unique("polite")).with_will(&topic, "unwanted");
        Peer::connect(broker, version, polite).disconnect();
        let crashing = Setup::new(&unique("crash")).with_will(&topic, "gone");
        drop(Peer::connect(broker, version, crashing));
        assert_eq!(watcher.payloads(1), ["gone"]);
    });
}

#[test]
fn session_resumes_with_what_was_queued() {
    each(|broker, version| {
        let (id, topic) = (unique("keep"), unique("queued"));
        let mut first = Peer::connect(broker, version, Setup::keeping(&id));
        assert!(!first.session_present);
        first.subscribe(&topic, 2);
        first.disconnect();
        let mut publisher = peer(broker, version);
        for (number, payload) in numbered(40).iter().enumerate() {
            publisher.publish(&topic, 1 + (number % 2) as u8, payload);
        }
        let mut again = Peer::connect(broker, version, Setup::keeping(&id));
        assert!(again.session_present);
        assert_eq!(again.payloads(40), numbered(40));
        again.disconnect();
        let fresh = Peer::connect(broker, version, Setup::new(&id));
        assert!(!fresh.session_present, "a clean start ends the old session");
    });
}

#[test]
fn second_connection_takes_the_session_over() {
    each(|broker, version| {
        let (id, topic) = (unique("twin"), unique("topic"));
        let mut first = Peer::connect(broker, version, Setup::keeping(&id));
        first.subscribe(&topic, 1);
        let mut second = Peer::connect(broker, version, Setup::keeping(&id));
        let why = first.closed();
        if version == Version::V5_0 {
            assert!(why.contains("SessionTakenOver"), "{why}");
        }
        assert!(second.session_present);
        peer(broker, version).publish(&topic, 1, "to the second");
        assert_eq!(second.payloads(1), ["to the second"]);
    });
}
