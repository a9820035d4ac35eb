//! What a disk may do to a broker that keeps what it knows: lose what was not flushed, fail to flush, be full, write half.
mod support;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use support::disk::{Disk, Left};
use support::*;

/// A broker on a disk of its own, with a session that keeps what is published to `kept`.
struct Scene {
    place: Place,
    disk: Disk,
    flags: &'static [&'static str],
    reader: Connect,
    /// What was acknowledged.
    acknowledged: BTreeSet<u32>,
    next: u32,
}

impl Scene {
    fn new(flags: &'static [&'static str]) -> (Scene, Broker) {
        let place = Place::new();
        let disk = Disk::new(&place.0);
        let reader = Connect::new(Version::V5, "reader").persistent();
        let scene = Scene { place, disk, flags, reader, acknowledged: BTreeSet::new(), next: 0 };
        let broker = scene.start();
        let mut client = Client::connect(&broker, &scene.reader);
        client.subscribe("kept", 1);
        client.disconnect();
        (scene, broker)
    }

    fn start(&self) -> Broker {
        let own = ["--data-dir", self.place.0.to_str().unwrap(), "--min-free-space", "0"];
        Broker::start_in(2, &[&own[..], self.flags].concat(), &self.disk.environment())
    }

    /// Publishes so many, one by one, for as long as each is acknowledged; the first that is not, and the end of the
    /// connection, end it. Whether all were.
    fn publish(&mut self, broker: &Broker, count: u32) -> bool {
        let mut publisher = Client::open(broker, Version::V5);
        publisher.send(&Connect::new(Version::V5, &unique("publisher")).encode());
        let Some(Packet::Connack { code: 0, .. }) = publisher.try_receive() else { return false };
        for _ in 0..count {
            let (number, id) = (self.next, publisher.fresh_id());
            self.next += 1;
            publisher.send(&publish(Version::V5, &Publish::new("kept", number.to_string()).qos(1).id(id)));
            // What is under way when there is no room is not acknowledged until there is.
            if self.disk.is_asked_for("enospc") && publisher.would_wait(Duration::from_millis(500)) {
                return false;
            }
            match publisher.try_receive() {
                Some(Packet::Ack(ack)) if ack.code < 0x80 => drop(self.acknowledged.insert(number)),
                _ => return false,
            }
        }
        true
    }

    /// The broker that goes on: this one, if it stores again by itself, or the next, if it has ended because it could
    /// not store.
    fn healed(&self, mut broker: Broker) -> Broker {
        let until = Instant::now() + PATIENCE;
        while broker.is_running() {
            let mut publisher = Client::open(&broker, Version::V5);
            publisher.send(&Connect::new(Version::V5, &unique("probe")).encode());
            publisher.send(&publish(Version::V5, &Publish::new("probe", "1").qos(1).id(1).retain()));
            publisher.end_of_file();
            while let Some(packet) = publisher.try_receive() {
                if matches!(packet, Packet::Ack(ack) if ack.code < 0x80) {
                    return broker;
                }
            }
            assert!(Instant::now() < until, "it neither ends nor stores again: {}", broker.said());
        }
        assert!(broker.said().contains("storing in"), "{}", broker.said());
        assert_eq!(broker.wait_for_exit().code(), Some(74));
        self.start()
    }

    /// What the session has got; it is there, and so is everything that was acknowledged, in order.
    #[track_caller]
    fn check(&self, broker: &Broker) {
        let kept = self.received(broker);
        assert!(kept.is_sorted(), "out of order: {kept:?}");
        let missing: Vec<_> = self.acknowledged.iter().filter(|number| !kept.contains(number)).collect();
        assert!(missing.is_empty(), "acknowledged and lost: {missing:?}; {}", broker.said());
    }

    /// The power is cut, and everything that was acknowledged is there all the same.
    #[track_caller]
    fn check_after_a_cut(&self, broker: Broker) {
        self.cut(broker);
        self.check(&self.start());
    }

    /// Numbers of all messages that the session has kept.
    fn received(&self, broker: &Broker) -> Vec<u32> {
        let mut client = Client::connect(broker, &self.reader);
        Client::new(broker, Version::V5).publish("kept", 1, END);
        let kept = client.messages_until_end();
        payloads(&kept).iter().map(|number| number.parse().unwrap()).collect()
    }

    /// The power is cut: the broker ends, and what was not flushed is gone.
    fn cut(&self, broker: Broker) {
        kill(broker);
        self.disk.cut_power(Left::Nothing, &mut || unreachable!("nothing is left to chance"));
    }
}

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    let (mut scene, mut broker) = Scene::new(&[]);
    for _ in 0..3 {
        assert!(scene.publish(&broker, 30));
        scene.cut(broker);
        broker = scene.start();
    }
    scene.check(&broker);
}

#[test]
fn a_power_cut_takes_what_was_not_flushed_and_the_broker_begins_all_the_same() {
    // The twin of the test above: where the system flushes when it likes, this disk must take something.
    let (mut scene, broker) = Scene::new(&["--durability", "os"]);
    assert!(scene.publish(&broker, 30));
    kill(broker);
    let taken = scene.disk.cut_power(Left::Nothing, &mut || unreachable!("nothing is left to chance"));
    assert!(taken.sectors > 0);
    let broker = scene.start();
    let (_, is_present, _) = Client::connect_with(&broker, &scene.reader);
    assert!(!is_present, "what was not flushed is there");
    assert!(scene.publish(&broker, 30));
}

#[test]
fn what_was_on_its_way_when_a_flush_fails_is_not_acknowledged_and_the_rest_is_kept() {
    let (mut scene, broker) = Scene::new(&[]);
    assert!(scene.publish(&broker, 30));
    scene.disk.ask_for("eio");
    scene.publish(&broker, 30);
    assert!(!scene.disk.is_asked_for("eio"), "no flush failed");
    let broker = scene.healed(broker);
    assert!(scene.publish(&broker, 30));
    scene.check_after_a_cut(broker);
}

#[test]
fn a_full_disk_is_told_and_costs_nothing_that_was_acknowledged() {
    let (mut scene, broker) = Scene::new(&[]);
    assert!(scene.publish(&broker, 30));
    scene.disk.ask_for("enospc");
    assert!(!scene.publish(&broker, 1), "acknowledged although nothing can be written");
    // Whoever comes now is told, and what need not be stored goes on.
    Client::refused(&broker, &Connect::new(Version::V5, "new").persistent(), 0x97);
    let mut client = Client::new(&broker, Version::V5);
    client.send_publish(&Publish::new("kept", "refused").qos(1).retain().id(1));
    client.expect_ack_code(Kind::Puback, 1, 0x97);
    client.publish("nobody's", 1, "1");
    assert!(broker.said().contains("storing in"), "{}", broker.said());
    scene.disk.end("enospc");
    let broker = scene.healed(broker);
    assert!(scene.publish(&broker, 30));
    scene.check_after_a_cut(broker);
}

#[test]
fn one_failed_flush_does_not_end_the_broker() {
    let (mut scene, broker) = Scene::new(&[]);
    assert!(scene.publish(&broker, 30));
    scene.disk.ask_for("eio");
    assert!(scene.publish(&broker, 30), "what failed is stored later, and then acknowledged");
    assert!(!scene.disk.is_asked_for("eio"), "no flush failed");
    assert!(broker.said().contains("works again"), "{}", broker.said());
    scene.check(&broker);
}

#[test]
fn half_a_write_is_set_aside_and_told() {
    let (mut scene, broker) = Scene::new(&[]);
    assert!(scene.publish(&broker, 30));
    scene.disk.ask_for("torn");
    assert!(!scene.publish(&broker, 30), "the broker lives");
    assert_eq!(broker.wait_for_exit().code(), None);
    let broker = scene.start();
    assert!(broker.said().contains("was not written as a whole"), "{}", broker.said());
    assert!(scene.publish(&broker, 30));
    scene.check(&broker);
}
