//! Subscribing while retained messages change: every order in which three shards can hear of each other.
//!
//! The shards of the publisher, of the topic's owner and of the subscriber are explored from a few starting points.
//! Two steps on different shards may be swapped without a difference, so of all schedules that differ by such swaps
//! only one is run (sleep sets).
use crate::broker::Broker;
use crate::rng::Rng;
use ringmq::codec::{
    Connect, ConnectProperties, Cut, FilterList, MAX_PACKET, MessageProperties, Packet, Publish, QoS,
    Subscribe, SubscribeOptions, SubscriptionIds, Unsubscribe, UnsubscribeList, Version, cut, decode,
};
use ringmq::limits::Limits;
use ringmq::router::Keys;

const SHARDS: usize = 3;
const SEED: u64 = 11;
/// The shard that owns the topic.
const OWNER: usize = 1;
/// The shard of the subscriber.
const SUBSCRIBER: usize = 2;

/// Where a race begins.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The shard of the publisher.
    pub publisher: usize,
    /// The filter has wildcards, so that every shard is asked.
    pub is_wildcard: bool,
    /// Another session on the subscriber's shard has the same filter already.
    pub is_known: bool,
    /// And gives it up at some time.
    pub is_given_up: bool,
    /// The last publish removes the retained message.
    pub is_removed: bool,
    /// How often the subscriber sends SUBSCRIBE.
    pub subscribes: usize,
}

/// One step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Choice {
    Publish,
    Subscribe,
    Unsubscribe,
    Deliver(usize, usize),
}

/// A broker in the middle of a race.
struct Race {
    broker: Broker,
    start: Start,
    topic: String,
    filter: String,
    publisher: usize,
    subscriber: usize,
    /// The other session with the filter, while it is to give it up.
    other: Option<usize>,
    published: u8,
    subscribed: usize,
}

/// Values that are published while the subscriber subscribes; the one before is 0.
const VALUES: u8 = 2;

fn find(wanted: usize, name: impl Fn(usize) -> String) -> String {
    let keys = Keys::new(SEED);
    let found = (0..).map(name).find(|name| usize::from(keys.shard_of(name, SHARDS as u8)) == wanted);
    found.expect("every shard gets its part")
}

impl Race {
    fn new(start: Start) -> Race {
        let limits = Limits { sys_interval_ms: 0, ..Limits::default() };
        let mut broker = Broker::new(SHARDS, limits, usize::MAX, SEED, Rng::new(SEED, 0));
        broker.is_unbroken = true;
        let topic = find(OWNER, |count| format!("t/{count}"));
        let filter = if start.is_wildcard { "t/#".to_owned() } else { topic.clone() };
        let subscriber = client_of(&mut broker, SUBSCRIBER);
        let publisher = client_of(&mut broker, start.publisher);
        let mut race = Race {
            broker,
            start,
            topic,
            filter,
            publisher,
            subscriber,
            other: None,
            published: 0,
            subscribed: 0,
        };
        if start.is_known {
            let other = client_of(&mut race.broker, SUBSCRIBER);
            race.write_subscribe(other);
            race.other = start.is_given_up.then_some(other);
        }
        race.write_publish(0);
        while race.broker.step() {}
        race.broker.read(subscriber, usize::MAX);
        race
    }

    fn write_subscribe(&mut self, pipe: usize) {
        let mut filters = FilterList::new();
        filters.push(&self.filter, SubscribeOptions::new(QoS::AtLeastOnce));
        write(&mut self.broker, pipe, &Packet::Subscribe(Subscribe::new(1, None, &filters)));
    }

    fn write_publish(&mut self, value: u8) {
        let is_removal = self.start.is_removed && value == VALUES;
        let payload = [value];
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: &self.topic,
            packet_id: 1,
            topic_alias: None,
            subscription_ids: SubscriptionIds::default(),
            properties: MessageProperties::default(),
            payload: if is_removal { &[] } else { &payload },
        };
        write(&mut self.broker, self.publisher, &Packet::Publish(publish));
    }

    /// The shard a step happens on.
    fn shard_of(&self, choice: Choice) -> usize {
        match choice {
            Choice::Publish => self.start.publisher,
            Choice::Subscribe | Choice::Unsubscribe => SUBSCRIBER,
            Choice::Deliver(_, to) => to,
        }
    }

    fn choices(&mut self) -> Vec<Choice> {
        let mut choices = Vec::new();
        if self.published < VALUES {
            choices.push(Choice::Publish);
        }
        if self.subscribed < self.start.subscribes {
            choices.push(Choice::Subscribe);
        }
        if self.other.is_some() {
            choices.push(Choice::Unsubscribe);
        }
        choices.extend(self.broker.in_transit().iter().map(|(from, to)| Choice::Deliver(*from, *to)));
        choices
    }

    fn take(&mut self, choice: Choice) {
        match choice {
            Choice::Publish => {
                self.published += 1;
                self.write_publish(self.published);
                self.broker.hand_all_in(self.publisher);
            }
            Choice::Subscribe => {
                self.subscribed += 1;
                self.write_subscribe(self.subscriber);
                self.broker.hand_all_in(self.subscriber);
            }
            Choice::Unsubscribe => {
                let other = self.other.take().expect("it was to be chosen");
                let mut filters = UnsubscribeList::new();
                filters.push(&self.filter);
                write(&mut self.broker, other, &Packet::Unsubscribe(Unsubscribe::new(2, &filters)));
                self.broker.hand_all_in(other);
            }
            Choice::Deliver(from, to) => self.broker.deliver(from, to),
        }
        for (from, to) in (0..SHARDS).flat_map(|from| (0..SHARDS).map(move |to| (from, to))) {
            self.broker.flush(from, to);
        }
    }

    /// What the subscriber got: the values, and where SUBACK stood.
    fn check(mut self, schedule: &[Choice]) {
        while self.broker.step() {}
        let bytes = self.broker.read(self.subscriber, usize::MAX);
        let mut rest = &bytes[..];
        let (mut values, mut subacks) = (Vec::new(), 0);
        while let Cut::Frame(frame) = cut(rest, MAX_PACKET).expect("MQTT") {
            match decode(frame, Version::V5).expect("MQTT") {
                Packet::Publish(publish) => {
                    values.push((publish.payload.first().copied().unwrap_or(VALUES), publish.retain));
                }
                Packet::SubAck(_) => subacks += 1,
                other => panic!("{other:?}"),
            }
            rest = &rest[frame.bytes.len()..];
        }
        let what = format!("{values:?} after {schedule:?} from {:?}", self.start);
        assert_eq!(subacks, self.start.subscribes, "{what}");
        // A second SUBSCRIBE brings the newest value once more.
        let is_repeated =
            |pair: &[(u8, bool)]| self.start.subscribes > 1 && pair[0].0 == pair[1].0 && pair[1].1;
        let in_order = values.windows(2).all(|pair| pair[0].0 < pair[1].0 || is_repeated(pair));
        assert!(in_order, "{what}");
        match values.last() {
            Some((last, _)) => assert_eq!(*last, VALUES, "{what}"),
            None => assert!(self.start.is_removed, "{what}"),
        }
    }
}

/// A new client whose session is on that shard. Its registrar there places new sessions evenly, so the first one may
/// be elsewhere.
fn client_of(broker: &mut Broker, shard: usize) -> usize {
    loop {
        let pipe = broker.connect(shard, usize::MAX);
        let id = find(shard, |number| format!("client-{pipe}-{number}"));
        let connect = Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive: 0,
            client_id: &id,
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        };
        write(broker, pipe, &Packet::Connect(connect));
        while broker.step() {}
        if broker.shard_of(pipe) == Some(shard) {
            return pipe;
        }
    }
}

fn write(broker: &mut Broker, pipe: usize, packet: &Packet<'_>) {
    let mut bytes = Vec::new();
    packet.encode(Version::V5, &mut bytes);
    broker.write(pipe, &bytes);
}

/// Runs every schedule from `start`; returns how many there were.
pub fn explore_all(start: Start) -> u64 {
    explore(Race::new(start), &mut Vec::new(), Vec::new())
}

fn explore(mut race: Race, schedule: &mut Vec<Choice>, mut asleep: Vec<Choice>) -> u64 {
    let choices = race.choices();
    if choices.is_empty() {
        race.check(schedule);
        return 1;
    }
    let start = race.start;
    let mut race = Some(race);
    let mut schedules = 0;
    for choice in choices {
        if asleep.contains(&choice) {
            continue;
        }
        let mut next = race.take().unwrap_or_else(|| replay(start, schedule));
        let shard = next.shard_of(choice);
        let still_asleep = asleep.iter().copied().filter(|other| next.shard_of(*other) != shard).collect();
        next.take(choice);
        schedule.push(choice);
        schedules += explore(next, schedule, still_asleep);
        schedule.pop();
        asleep.push(choice);
    }
    schedules
}

fn replay(start: Start, schedule: &[Choice]) -> Race {
    let mut race = Race::new(start);
    schedule.iter().for_each(|choice| race.take(*choice));
    race
}
