//! One thing after the other on a broker of several shards, compared with the model: who gets what, which sessions
//! are there, and what happens at which second.
use crate::broker::Broker;
use crate::model::{Got, GroupDelivery, LONG, Message, Model, Options, Wish};
use crate::rng::Rng;
use ringmq::codec::{
    Ack, Connect, ConnectProperties, Cut, Disconnect, FilterList, MAX_PACKET, MessageProperties, Packet,
    Publish, QoS, ReasonCode, Subscribe, SubscribeOptions, SubscriptionIds, Unsubscribe, UnsubscribeList,
    Version, Will, cut, decode,
};
use ringmq::limits::Limits;
use ringmq::metrics::Counters;
use ringmq::shard::core::CloseCause;
use ringmq::time::Time;

const CLIENTS: usize = 5;
const TOPICS: [&str; 5] = ["a", "a/b", "a/c", "/x", "w"];
const FILTERS: [&str; 9] = ["a", "a/b", "a/+", "a/#", "#", "+/x", "w", "$share/g/a/#", "$share/h/+"];
/// Longest session the broker keeps, seconds.
const LONGEST: u64 = 10_000;

/// The client's end of a connection: acknowledges whatever comes, at once.
struct Peer {
    pipe: usize,
    version: Version,
    bytes: Vec<u8>,
    got: Vec<Got>,
    present: Option<bool>,
    /// Reason codes of acknowledgements.
    codes: Vec<u8>,
    goodbye: Option<ReasonCode>,
}

impl Peer {
    /// Reads everything that came; whether there was something.
    fn act(&mut self, broker: &mut Broker) -> bool {
        let bytes = broker.read(self.pipe, usize::MAX);
        if bytes.is_empty() {
            return false;
        }
        self.bytes.extend(bytes);
        let bytes = std::mem::take(&mut self.bytes);
        let mut rest = &bytes[..];
        while let Cut::Frame(frame) = cut(rest, MAX_PACKET).expect("the broker sends MQTT") {
            let packet = decode(frame, self.version).expect("the broker sends MQTT");
            self.take(broker, &packet);
            rest = &rest[frame.bytes.len()..];
        }
        self.bytes = rest.to_vec();
        true
    }

    fn take(&mut self, broker: &mut Broker, packet: &Packet<'_>) {
        match packet {
            Packet::ConnAck(connack) => {
                assert_eq!(connack.reason, ReasonCode::Success);
                self.present = Some(connack.session_present);
            }
            Packet::Publish(publish) => {
                assert!(!publish.dup, "nothing is under way when a connection ends");
                let mut ids: Vec<u32> = publish.subscription_ids.into_iter().collect();
                ids.sort_unstable();
                self.got.push(Got {
                    topic: publish.topic.to_owned(),
                    text: String::from_utf8(publish.payload.to_vec()).expect("text"),
                    qos: publish.qos as u8,
                    retain: publish.retain,
                    ids,
                    expiry: publish.properties.message_expiry.map(u64::from),
                });
                match publish.qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => self.write(broker, &Packet::PubAck(Ack::new(publish.packet_id))),
                    QoS::ExactlyOnce => self.write(broker, &Packet::PubRec(Ack::new(publish.packet_id))),
                }
            }
            Packet::PubRel(ack) => self.write(broker, &Packet::PubComp(Ack::new(ack.packet_id))),
            Packet::PubRec(ack) => {
                self.codes.push(ack.reason.code());
                self.write(broker, &Packet::PubRel(Ack::new(ack.packet_id)));
            }
            Packet::PubAck(ack) => self.codes.push(ack.reason.code()),
            Packet::PubComp(ack) => assert_eq!(ack.reason, ReasonCode::Success),
            Packet::SubAck(suback) => self.codes.extend(suback.reasons),
            Packet::UnsubAck(unsuback) => self.codes.extend(unsuback.reasons),
            Packet::Disconnect(disconnect) => self.goodbye = Some(disconnect.reason),
            other => panic!("the broker sends {other:?}"),
        }
    }

    fn write(&self, broker: &mut Broker, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        crate::trace(|| format!("pipe {}: {packet:?}", self.pipe));
        broker.write(self.pipe, &bytes);
    }
}

struct Run {
    broker: Broker,
    model: Model,
    rng: Rng,
    peers: Vec<Option<Peer>>,
    messages: u64,
    checked: u64,
}

/// One run; panics where the broker and the model differ. Returns how many deliveries were compared.
pub fn run(seed: u64) -> u64 {
    let mut rng = Rng::new(seed, 11);
    let limits = Limits {
        sys_interval_ms: 0,
        max_session_expiry: LONGEST as u32,
        max_inflight: rng.pick(&[1, 3, 1024]),
        overflow_mark: rng.pick(&[1, 4096]),
        ..Limits::default()
    };
    let (shards, ring_room) = (1 + rng.below(3), rng.pick(&[1, 3, 1000]));
    let broker = Broker::new(shards, limits, ring_room, seed, Rng::new(seed, 12));
    let peers = (0..CLIENTS).map(|_| None).collect();
    let mut run = Run { broker, model: Model::default(), rng, peers, messages: 0, checked: 0 };
    for _ in 0..120 {
        run.operate();
    }
    run.checked
}

impl Run {
    fn operate(&mut self) {
        let client = self.rng.below(CLIENTS);
        let is_connected = self.model.is_connected(client);
        match self.rng.below(100) {
            0..20 => {
                let seconds = self.rng.pick(&[1, 1, 3, 20, 300]);
                self.pass(seconds);
            }
            _ if !is_connected => self.connect(client),
            20..23 => self.connect(client),
            23..35 => self.leave(client),
            35..60 => self.subscribe(client),
            60..67 => self.unsubscribe(client),
            _ => self.publish(client),
        }
        self.compare();
    }

    /// Everything that can happen now happens.
    fn rest(&mut self) {
        loop {
            self.broker.set_time(self.broker.now);
            while self.broker.step() {}
            let peers = self.peers.iter_mut().flatten();
            if peers.map(|peer| peer.act(&mut self.broker)).filter(|acted| *acted).count() == 0 {
                return;
            }
        }
    }

    fn compare(&mut self) {
        self.rest();
        let mut leftovers: Vec<Vec<Got>> = Vec::new();
        for (client, peer) in self.peers.iter_mut().enumerate() {
            let mut got = peer.as_mut().map(|peer| std::mem::take(&mut peer.got)).unwrap_or_default();
            self.checked += got.len() as u64;
            // Between what came to it and what came to one of its groups there is no order.
            if !self.model.is_member(client) {
                check_order(&got);
            }
            for expected in self.model.expected.remove(&client).unwrap_or_default() {
                let at = got.iter().position(|got| *got == expected);
                let at = at.unwrap_or_else(|| panic!("client {client} did not get {expected:?} but {got:?}"));
                got.remove(at);
            }
            leftovers.push(got);
        }
        let shared = std::mem::take(&mut self.model.shared);
        assert!(
            is_explained(&shared, &leftovers),
            "groups should get {shared:?}, clients got {leftovers:?} too"
        );
        let Counters { sessions, clients_connected, subscriptions, shared_subscriptions, .. } =
            self.broker.counters();
        assert_eq!((sessions, clients_connected), self.model.counts());
        assert_eq!((subscriptions, shared_subscriptions), self.model.subscriptions());
        assert_eq!(self.broker.counters().retained_messages, self.model.retained());
    }

    /// Time goes on; what is due happens at its second.
    fn pass(&mut self, seconds: u64) {
        let until = self.model.now + seconds;
        while let Some(due) = self.model.next_due().filter(|due| *due <= until) {
            // Nothing happens before its time.
            self.broker.set_time(Time(1000 * due - 8));
            self.compare();
            self.broker.set_time(Time(1000 * due));
            self.model.set_time(due);
            self.compare();
        }
        self.broker.set_time(Time(1000 * until));
        self.model.set_time(until);
    }

    fn message(&mut self, topic: &str, can_be_retained: bool) -> Message {
        self.messages += 1;
        let retain = can_be_retained && self.rng.chance(30);
        let mut text = format!("{:06}", self.messages);
        if self.rng.chance(10) {
            text = format!("{text:LONG$}");
        } else if self.rng.chance(if retain { 20 } else { 3 }) {
            text.clear();
        }
        let qos = self.rng.below(3) as u8;
        Message { topic: topic.to_owned(), text, qos, retain, expiry: None, publisher: 0 }
    }

    fn connect(&mut self, client: usize) {
        let version = self.rng.pick(&[Version::V5, Version::V5, Version::V311]);
        let is_v5 = version.is_v5();
        let clean = self.rng.chance(30);
        let wanted = self.rng.pick(&[0, 5, 50, 333, 100_000]);
        let expiry = match (is_v5, clean) {
            (true, _) => wanted.min(LONGEST),
            (false, true) => 0,
            (false, false) => LONGEST,
        };
        let is_small = is_v5 && self.rng.chance(20);
        let will = self.rng.chance(50).then(|| {
            let message = Message { qos: 1 + self.rng.below(2) as u8, ..self.message("w", true) };
            (message, if is_v5 { self.rng.pick(&[0, 0, 2, 41, 500]) } else { 0 })
        });
        let connect_will = will.as_ref().map(|(message, delay)| Will {
            qos: QoS::from_bits(message.qos).expect("a QoS"),
            retain: message.retain,
            topic: &message.topic,
            payload: message.text.as_bytes(),
            delay: *delay as u32,
            properties: MessageProperties::default(),
        });
        let properties = ConnectProperties {
            session_expiry: wanted as u32,
            maximum_packet_size: is_small.then_some(150),
            ..ConnectProperties::default()
        };
        let id = format!("client-{client}");
        let connect = Connect {
            version,
            clean_start: clean,
            keep_alive: 0,
            client_id: &id,
            will: connect_will,
            username: None,
            password: None,
            properties,
        };
        let shard = self.rng.below(self.broker.shards());
        let pipe = self.broker.connect(shard, self.rng.pick(&[10, 500, 100_000]));
        let (bytes, got, codes) = (Vec::new(), Vec::new(), Vec::new());
        let peer = Peer { pipe, version, bytes, got, present: None, codes, goodbye: None };
        peer.write(&mut self.broker, &Packet::Connect(connect));
        let old = self.peers[client].replace(peer);
        let present = self.model.connect(client, Wish { is_v5, clean, expiry, is_small, will });
        self.rest();
        assert_eq!(self.peers[client].as_ref().and_then(|peer| peer.present), Some(present));
        if let Some(mut old) = old {
            loop {
                while self.broker.step() {}
                if !old.act(&mut self.broker) {
                    break;
                }
            }
            assert!(self.broker.is_at_end(old.pipe), "the old connection is not closed");
            let reason = old.version.is_v5().then_some(ReasonCode::SessionTakenOver);
            assert_eq!(old.goodbye, reason);
            assert!(old.got.is_empty());
        }
    }

    /// DISCONNECT, or the network fails.
    fn leave(&mut self, client: usize) {
        // Things that are due at the same time have no order.
        while [0, 2, 41, 500, 5, 50, 333, 7, LONGEST]
            .iter()
            .any(|after| self.model.is_due_at(self.model.now + after))
        {
            self.pass(1);
            self.compare();
        }
        let Some(peer) = self.peers[client].take() else { return };
        if !self.model.is_connected(client) {
            self.peers[client] = Some(peer);
            return;
        }
        if self.rng.chance(40) {
            let cause = self.rng.pick(&[CloseCause::Eof, CloseCause::Error]);
            self.broker.cut(peer.pipe, 0, cause);
            return self.model.disconnect(client, None, true);
        }
        let is_v5 = peer.version.is_v5();
        let has_will = is_v5 && self.rng.chance(50);
        let reason = if has_will { ReasonCode::DisconnectWithWill } else { ReasonCode::Success };
        let expiry = if is_v5 && self.model.expiry(client) > 0 && self.rng.chance(30) {
            Some(self.rng.pick(&[0, 7]))
        } else {
            None
        };
        let disconnect =
            Disconnect { session_expiry: expiry.map(|expiry| expiry as u32), ..Disconnect::new(reason) };
        peer.write(&mut self.broker, &Packet::Disconnect(disconnect));
        self.model.disconnect(client, expiry, has_will);
    }

    fn subscribe(&mut self, client: usize) {
        let is_v5 = self.peer(client).version.is_v5();
        let id = self.rng.pick(&[None, Some(1), Some(77)]).filter(|_| is_v5);
        let mut list = FilterList::new();
        let mut granted = Vec::new();
        let first = self.rng.below(FILTERS.len());
        for step in 0..self.rng.pick(&[1, 1, 3]) {
            let filter = FILTERS[(first + step) % FILTERS.len()];
            let options = Options {
                qos: self.rng.below(3) as u8,
                no_local: is_v5 && !filter.starts_with("$share/") && self.rng.chance(20),
                retain_as_published: is_v5 && self.rng.chance(40),
                retain_handling: if is_v5 { self.rng.below(3) as u8 } else { 0 },
                id,
            };
            let sent = SubscribeOptions {
                qos: QoS::from_bits(options.qos).expect("a QoS"),
                no_local: options.no_local,
                retain_as_published: options.retain_as_published,
                retain_handling: options.retain_handling,
            };
            list.push(filter, sent);
            granted.push(options.qos);
            self.model.subscribe(client, filter, options);
        }
        self.ask(client, &Packet::Subscribe(Subscribe::new(9, id, &list)), &granted);
    }

    fn unsubscribe(&mut self, client: usize) {
        let filter = self.rng.pick(&FILTERS);
        let mut list = UnsubscribeList::new();
        list.push(filter);
        let code = if self.model.unsubscribe(client, filter) { 0 } else { 0x11 };
        let expected = if self.peer(client).version.is_v5() { vec![code] } else { Vec::new() };
        self.ask(client, &Packet::Unsubscribe(Unsubscribe::new(9, &list)), &expected);
    }

    fn publish(&mut self, client: usize) {
        let topic = self.rng.pick(&TOPICS);
        let is_v5 = self.peer(client).version.is_v5();
        let mut message = self.message(topic, true);
        message.publisher = self.model.session(client);
        message.expiry = self.rng.chance(30).then(|| self.rng.pick(&[0, 1, 10, 100])).filter(|_| is_v5);
        let properties = MessageProperties {
            message_expiry: message.expiry.map(|expiry| expiry as u32),
            ..MessageProperties::default()
        };
        let text = message.text.clone();
        let publish = Publish {
            dup: false,
            qos: QoS::from_bits(message.qos).expect("a QoS"),
            retain: message.retain,
            topic,
            packet_id: if message.qos > 0 { 5 } else { 0 },
            topic_alias: None,
            subscription_ids: SubscriptionIds::default(),
            properties,
            payload: text.as_bytes(),
        };
        let qos = message.qos;
        let code = if self.model.publish(message) || !is_v5 { 0 } else { 0x10 };
        let expected = if qos > 0 { vec![code] } else { Vec::new() };
        self.ask(client, &Packet::Publish(publish), &expected);
    }

    fn peer(&mut self, client: usize) -> &mut Peer {
        self.peers[client].as_mut().expect("connected")
    }

    /// Sends a packet and checks the reason codes that come back.
    fn ask(&mut self, client: usize, packet: &Packet<'_>, expected: &[u8]) {
        let peer = self.peers[client].as_ref().expect("connected");
        peer.write(&mut self.broker, packet);
        self.rest();
        let codes = std::mem::take(&mut self.peer(client).codes);
        assert_eq!(codes, expected, "answers to {packet:?}");
    }
}

/// Whether `got` is what the groups' members get when each group chooses one of them.
fn is_explained(groups: &[GroupDelivery], got: &[Vec<Got>]) -> bool {
    let Some((first, others)) = groups.split_first() else { return got.iter().all(Vec::is_empty) };
    let is_chosen = |(client, expected): &(usize, Got)| {
        let Some(at) = got[*client].iter().position(|got| got == expected) else { return false };
        let mut rest = got.to_vec();
        rest[*client].remove(at);
        is_explained(others, &rest)
    };
    first.members.iter().any(is_chosen) || (first.can_be_lost && is_explained(others, got))
}

/// Live messages of a topic and QoS come in the order they were published.
fn check_order(got: &[Got]) {
    for (at, later) in got.iter().enumerate().filter(|(_, got)| !got.retain && !got.text.is_empty()) {
        let overtaken = got[..at].iter().find(|earlier| {
            earlier.topic == later.topic
                && earlier.topic != "w"
                && earlier.qos == later.qos
                && !earlier.retain
                && earlier.ids == later.ids
                && earlier.text > later.text
        });
        assert!(overtaken.is_none(), "{later:?} came after {overtaken:?}");
    }
}
