//! Queues of which only the head is in memory.
mod support;
use std::collections::BTreeSet;
use std::time::Duration;
use support::*;

/// Publishes these numbers to `t`, alternately at QoS 1 and 2, many at a time; returns when all are acknowledged.
fn publish_all(broker: &Broker, version: Version, numbers: std::ops::Range<u32>) {
    let mut publisher = Client::new(broker, version);
    let numbers: Vec<u32> = numbers.collect();
    for some in numbers.chunks(500) {
        for (number, id) in some.iter().zip(1..) {
            let message = Publish::new("t", number.to_string()).qos(1 + (number % 2) as u8);
            publisher.send_publish(&message.id(id));
        }
        let mut left: usize = some.iter().map(|number| 1 + (number % 2) as usize).sum();
        while left > 0 {
            let Packet::Ack(ack) = publisher.receive() else { panic!("no acknowledgement") };
            assert!(ack.code < 0x80, "{ack:?}");
            if ack.kind == Kind::Pubrec {
                publisher.ack(Kind::Pubrel, ack.id);
            }
            left -= 1;
        }
    }
}

/// What a client has taken, over all its connections.
#[derive(Default)]
struct Taken {
    numbers: Vec<u32>,
    /// Packet ids of QoS 2 between PUBLISH and PUBREL.
    unreleased: BTreeSet<u16>,
}

impl Taken {
    /// Takes and acknowledges messages while `goes_on`. Only what goes out at QoS 1, or what was not released, may come
    /// again, and with DUP.
    fn take(&mut self, client: &mut Client, goes_on: impl Fn(&Taken) -> bool) {
        while goes_on(self) {
            match client.receive() {
                Packet::Publish(message) => {
                    let id = message.id.unwrap();
                    let number = std::str::from_utf8(&message.payload).unwrap().parse().unwrap();
                    let is_new = match message.qos {
                        1 => self.numbers.last().is_none_or(|last| *last < number),
                        _ => self.unreleased.insert(id),
                    };
                    assert!(is_new || message.dup, "twice: {message:?}");
                    if is_new {
                        self.numbers.push(number);
                    }
                    client.ack(if message.qos == 1 { Kind::Puback } else { Kind::Pubrec }, id);
                }
                Packet::Ack(ack) if ack.kind == Kind::Pubrel => {
                    self.unreleased.remove(&ack.id);
                    client.ack(Kind::Pubcomp, ack.id);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Takes so many messages that nothing is left in the end.
    fn all(client: &mut Client, count: usize) -> Vec<u32> {
        let mut taken = Taken::default();
        taken.take(client, |taken| taken.numbers.len() < count || !taken.unreleased.is_empty());
        taken.numbers
    }
}

/// A durable session that is subscribed to `t` at QoS 2, and whose client is away.
fn away(broker: &Broker, version: Version, name: &str) -> Connect {
    let connect = Connect::new(version, name).persistent();
    let mut client = Client::connect(broker, &connect);
    client.subscribe("t", 2);
    client.disconnect();
    connect
}

fn dumped(place: &Place) -> String {
    String::from_utf8(place.look("dump").stdout).unwrap()
}

#[test]
fn a_long_queue_comes_back_whole_and_in_order_after_a_kill() {
    const COUNT: u32 = 20_000;
    let (flags, version) =
        (["--max-queued-messages", "100000", "--queue-window-messages", "64"], Version::V5);
    let place = Place::new();
    let broker = place.start_with(2, &flags);
    let mine = away(&broker, version, "mine");
    publish_all(&broker, version, 0..COUNT);
    kill(broker);
    let broker = place.start_with(3, &flags);
    // What is new while the queue is read goes behind it, on whichever shard it comes.
    let mut client = resume(&broker, &mine);
    let mut taken = Taken::default();
    taken.take(&mut client, |taken| taken.numbers.len() < 1000);
    publish_all(&broker, version, COUNT..COUNT + 100);
    taken.take(&mut client, |taken| taken.numbers.len() < 6000);
    kill(broker);
    drop(client);
    let broker = place.start_with(1, &flags);
    let mut client = resume(&broker, &mine);
    let last = Some(COUNT + 99);
    taken.take(&mut client, |taken| taken.numbers.last() != last.as_ref() || !taken.unreleased.is_empty());
    assert!(taken.numbers.into_iter().eq(0..COUNT + 100), "all of it, in order");
    sync(&mut client);
    client.disconnect();
    kill(broker);
    assert!(!dumped(&place).contains("message"));
}

#[test]
fn what_expires_behind_the_window_is_left_out_and_leaves_the_disk() {
    let (flags, version) = (["--queue-window-messages", "4"], Version::V5);
    let place = Place::new();
    let broker = place.start_with(2, &flags);
    let mine = away(&broker, version, "mine");
    publish_all(&broker, version, 0..50);
    let mut publisher = Client::new(&broker, version);
    for number in 50..70 {
        let message = Publish::new("t", number.to_string()).qos(1);
        publisher.publish_with(&message.property(prop::MESSAGE_EXPIRY, 1u32));
    }
    publish_all(&broker, version, 70..100);
    std::thread::sleep(Duration::from_millis(1100));
    let mut client = resume(&broker, &mine);
    assert!(Taken::all(&mut client, 80).into_iter().eq((0..50).chain(70..100)));
    sync(&mut client);
    client.disconnect();
    kill(broker);
    assert!(!dumped(&place).contains("message"));
}

#[test]
fn the_oldest_give_way_though_they_are_on_the_disk_only() {
    let place = Place::new();
    let flags = ["--max-queued-messages", "100", "--queue-window-messages", "6"];
    let broker = place.start_with(2, &flags);
    let mine = away(&broker, Version::V4, "mine");
    publish_all(&broker, Version::V4, 0..1000);
    let mut client = resume(&broker, &mine);
    // Some that must give way may be under way from the disk to the client; the newest are all there.
    let mut taken = Taken::default();
    taken.take(&mut client, |taken| taken.numbers.last() != Some(&999) || !taken.unreleased.is_empty());
    let taken = taken.numbers;
    assert!(taken.is_sorted() && taken[0] > 0, "{taken:?}");
    assert!(taken.iter().rev().copied().take(100).eq((900..1000).rev()), "{taken:?}");
    client.expect_nothing_until_ping();
    kill(broker);
}

#[test]
fn the_newest_give_way_at_the_bound_of_what_is_on_the_disk() {
    let place = Place::new();
    let flags =
        ["--max-queued-messages", "100", "--queue-window-messages", "6", "--queue-policy", "drop-newest"];
    let broker = place.start_with(2, &flags);
    let mine = away(&broker, Version::V5, "mine");
    publish_all(&broker, Version::V5, 0..300);
    kill(broker);
    let broker = place.start_with(1, &flags);
    publish_all(&broker, Version::V5, 300..310);
    let mut client = resume(&broker, &mine);
    assert!(Taken::all(&mut client, 100).into_iter().eq(0..100));
    client.expect_nothing_until_ping();
}

#[test]
fn a_session_that_ends_takes_its_queue_from_the_disk() {
    let place = Place::new();
    let flags = ["--queue-window-messages", "4"];
    let broker = place.start_with(2, &flags);
    for name in ["one", "two"] {
        away(&broker, Version::V5, name);
    }
    publish_all(&broker, Version::V5, 0..300);
    Client::connect(&broker, &Connect::new(Version::V5, "one")).disconnect();
    // It is gone on with, but not beyond this connection.
    let mut client = resume(&broker, &Connect::new(Version::V5, "two").resume());
    let mut taken = Taken::default();
    taken.take(&mut client, |taken| taken.numbers.len() < 10);
    assert!(taken.numbers.into_iter().eq(0..10));
    client.disconnect();
    sync_all(&broker);
    kill(broker);
    let dump = dumped(&place);
    assert!(!dump.contains("message") && !dump.contains("session"), "{dump}");
}

#[test]
fn a_session_that_will_end_with_its_connection_gets_its_queue_first() {
    let place = Place::new();
    let broker = place.start_with(2, &["--queue-window-messages", "4"]);
    away(&broker, Version::V5, "mine");
    publish_all(&broker, Version::V5, 0..200);
    let mut client = resume(&broker, &Connect::new(Version::V5, "mine").resume());
    publish_all(&broker, Version::V5, 200..210);
    assert!(Taken::all(&mut client, 210).into_iter().eq(0..210));
    client.expect_nothing_until_ping();
}
