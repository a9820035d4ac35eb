//! Short stories that the random runs come upon too seldom.
use crate::broker::Broker;
use crate::rng::Rng;
use ringmq::codec::{
    Connect, ConnectProperties, Cut, Disconnect, FilterList, MAX_PACKET, MessageProperties, Packet, Publish,
    QoS, ReasonCode, Subscribe, SubscribeOptions, SubscriptionIds, Version, cut, decode,
};
use ringmq::limits::{Limits, QueuePolicy};
use ringmq::router::Keys;

const SEED: u64 = 5;

fn broker(shards: usize, limits: Limits) -> Broker {
    let limits = Limits { sys_interval_ms: 0, ..limits };
    let mut broker = Broker::new(shards, limits, 1000, SEED, Rng::new(SEED, 0));
    broker.is_unbroken = true;
    broker
}

fn rest(broker: &mut Broker) {
    while broker.step() {}
}

fn write(broker: &mut Broker, pipe: usize, version: Version, packet: &Packet<'_>) {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    broker.write(pipe, &bytes);
}

/// A connection to a session that outlives it.
fn connect(broker: &mut Broker, shard: usize, id: &str, version: Version) -> usize {
    let pipe = broker.connect(shard, usize::MAX);
    let connect = Connect {
        version,
        clean_start: false,
        keep_alive: 0,
        client_id: id,
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties { session_expiry: 100, ..ConnectProperties::default() },
    };
    write(broker, pipe, version, &Packet::Connect(connect));
    rest(broker);
    pipe
}

fn subscribe(broker: &mut Broker, pipe: usize, version: Version, filter: &str) {
    let mut filters = FilterList::new();
    filters.push(filter, SubscribeOptions::new(QoS::AtLeastOnce));
    write(broker, pipe, version, &Packet::Subscribe(Subscribe::new(1, None, &filters)));
}

fn publish(broker: &mut Broker, pipe: usize, version: Version, topic: &str, retain: bool) {
    let publish = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain,
        topic,
        packet_id: 7,
        topic_alias: None,
        subscription_ids: SubscriptionIds::default(),
        properties: MessageProperties::default(),
        payload: b"x",
    };
    write(broker, pipe, version, &Packet::Publish(publish));
}

/// Topics of the PUBLISH packets that came.
fn topics(broker: &mut Broker, pipe: usize, version: Version) -> Vec<String> {
    let bytes = broker.read(pipe, usize::MAX);
    let mut rest = &bytes[..];
    let mut topics = Vec::new();
    while let Cut::Frame(frame) = cut(rest, MAX_PACKET).expect("MQTT") {
        if let Packet::Publish(publish) = decode(frame, version).expect("MQTT") {
            topics.push(publish.topic.to_owned());
        }
        rest = &rest[frame.bytes.len()..];
    }
    topics
}

/// A SUBSCRIBE to the same filter that is never answered does not take away what the first one asked for.
pub fn retained_messages_outlast_a_lost_suback() {
    let mut broker = broker(2, Limits::default());
    let keys = Keys::new(SEED);
    let publisher = connect(&mut broker, 0, "publisher", Version::V5);
    let subscriber = connect(&mut broker, 0, "subscriber", Version::V5);
    let home = broker.shard_of(subscriber).expect("connected");
    let named = |count: usize| format!("t/{count}");
    let other = (0..).map(named).find(|topic| usize::from(keys.shard_of(topic, 2)) != home);
    let topic = other.expect("every shard owns some");
    publish(&mut broker, publisher, Version::V5, &topic, true);
    rest(&mut broker);
    // The first SUBSCRIBE is answered, but the connection ends before what it asks for arrives.
    subscribe(&mut broker, subscriber, Version::V5, &topic);
    subscribe(&mut broker, subscriber, Version::V5, &topic);
    let goodbye = Disconnect::new(ReasonCode::Success);
    write(&mut broker, subscriber, Version::V5, &Packet::Disconnect(goodbye));
    broker.hand_all_in(subscriber);
    rest(&mut broker);
    let again = connect(&mut broker, 1, "subscriber", Version::V5);
    assert_eq!(topics(&mut broker, again, Version::V5), [topic]);
}

/// Version 3.1.1 has no refusal, so the message is acknowledged, dropped and counted.
pub fn what_an_old_client_is_not_told_is_counted() {
    let limits = Limits { queue_policy: QueuePolicy::Refuse, max_queued_messages: 1, ..Limits::default() };
    let mut broker = broker(1, limits);
    let publisher = connect(&mut broker, 0, "publisher", Version::V311);
    let subscriber = connect(&mut broker, 0, "subscriber", Version::V5);
    subscribe(&mut broker, subscriber, Version::V5, "t");
    rest(&mut broker);
    write(&mut broker, subscriber, Version::V5, &Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
    rest(&mut broker);
    for expected in [0, 1, 2] {
        publish(&mut broker, publisher, Version::V311, "t", false);
        rest(&mut broker);
        assert_eq!(broker.counters().dropped_queue_full, expected);
    }
    let again = connect(&mut broker, 0, "subscriber", Version::V5);
    assert_eq!(topics(&mut broker, again, Version::V5), ["t"]);
}
