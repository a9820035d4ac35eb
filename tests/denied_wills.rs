//! Wills that their clients may not leave any longer when they are due.
mod support;
use support::certificates::written;
use support::*;

use std::time::Instant;

#[test]
fn a_session_that_ends_without_its_will_has_ended_after_a_start_too() {
    for (before, after) in [(1, 2), (2, 3), (3, 1)] {
        let place = Place::new();
        let allowed = "topic readwrite #\n";
        let acl = written("acl", allowed);
        let flags = ["--acl-file", acl.to_str().unwrap()];
        let broker = place.start_with(before, &flags);
        let mine = || Connect::new(Version::V5, "mine");
        let will = Will::new("last/words", "x").delay(3600);
        Client::connect(&broker, &mine().expiry(3600).will(will.clone())).hang_up();
        // One that stays, in case the one were taken for the other.
        Client::connect(&broker, &Connect::new(Version::V5, "other").expiry(3600).will(will)).hang_up();
        std::fs::write(&acl, format!("{allowed}topic deny last/#\n")).unwrap();
        broker.signal(Signal::HUP);
        let mut client = Client::new(&broker, Version::V5);
        let until = Instant::now() + PATIENCE;
        let mut is_denied = || {
            client.send(&publish(Version::V5, &Publish::new("last/x", "x").qos(1).id(1)));
            matches!(client.receive(), Packet::Ack(ack) if ack.code == 0x87)
        };
        while !is_denied() {
            assert!(Instant::now() < until, "{}", broker.said());
        }
        // Each shard has the new rules by the time that it hears of this.
        settle(&broker, &mut client);
        let (client, present, _) = Client::connect_with(&broker, &mine());
        assert!(!present, "it begins anew");
        client.disconnect();
        sync_all(&broker);
        kill(broker);
        std::fs::write(&acl, allowed).unwrap();
        let broker = place.start_with(after, &flags);
        let mut watcher = Client::new(&broker, Version::V5);
        watcher.subscribe("last/#", 0);
        let (mut client, present, _) = Client::connect_with(&broker, &mine().resume());
        assert!(!present, "it came back");
        let (_other, present, _) =
            Client::connect_with(&broker, &Connect::new(Version::V5, "other").resume().expiry(10));
        assert!(present, "the other one was not ended");
        client.expect_nothing_until_ping();
        watcher.expect_nothing_until_ping();
    }
}
