//! Message streams through the cores of one or more shards, without sockets: the same packets in the same order every
//! time.
use bytes::Bytes;
use ringmq::auth::Origin;
use ringmq::limits::Limits;
use ringmq::limits::profiles::Profiles;
use ringmq::shard::core::{Action, ConnId, Core, CoreConfig, LEND_FROM};
use ringmq::shard::envelope::Socket;
use ringmq::time::Time;
use std::sync::Arc;

/// Payload bytes of most streams.
const PAYLOAD: usize = 64;
/// One user property.
const USER_PROPERTY: &[u8] = b"\x26\x00\x04unit\x00\x07celsius";
/// The time of all that happens; nothing here waits.
const NOW: Time = Time(1000);

/// A stream and its name.
pub type Named = (&'static str, fn() -> Stream);

/// What the streams are called, and how each is made.
pub const STREAMS: &[Named] = &[
    ("pairs-qos0", || Stream::pairs(4, 0, 250, PAYLOAD)),
    ("pairs-qos0-single", || Stream::pairs(4, 0, 1, PAYLOAD)),
    ("pairs-qos0-v5", || Stream::pairs(5, 0, 250, PAYLOAD)),
    ("pairs-qos0-16k", || Stream::pairs(4, 0, 8, 16384)),
    ("pairs-qos1", || Stream::pairs(4, 1, 50, PAYLOAD)),
    ("pairs-qos1-single", || Stream::pairs(4, 1, 1, PAYLOAD)),
    ("pairs-qos1-v5", || Stream::pairs(5, 1, 50, PAYLOAD)),
    ("pairs-qos2", || Stream::pairs(4, 2, 20, PAYLOAD)),
    ("fan-out-qos0", || Stream::fan_out(1, 100, 0, 125)),
    ("fan-out-qos0-single", || Stream::fan_out(1, 100, 0, 1)),
    ("fan-out-qos1", || Stream::fan_out(1, 100, 1, 25)),
    ("fan-in-qos0", || Stream::fan_in(125)),
    ("shared-qos0", || Stream::shared(125)),
    ("many-topics-qos0", || Stream::many_topics(10_000)),
    ("lasting-qos1", || Stream::lasting().pair_up(4, 50, PAYLOAD)),
    ("lasting-qos1-single", || Stream::lasting().pair_up(4, 1, PAYLOAD)),
    ("properties-qos0-v5", || {
        Stream { properties: USER_PROPERTY, ..Stream::new(1, 0) }.pair_up(5, 250, PAYLOAD)
    }),
    ("retain-qos0", || Stream { retain: 1, ..Stream::new(1, 0) }.pair_up(4, 250, PAYLOAD)),
    ("two-shards-qos1", || Stream::fan_out(2, 100, 1, 25)),
];

/// The same stream among more and more of something: what it costs should not depend on it.
pub const GROWTH: &[Named] = &[
    ("subscribers-10", || Stream::fan_out(1, 10, 0, 20)),
    ("subscribers-100", || Stream::fan_out(1, 100, 0, 20)),
    ("subscribers-1000", || Stream::fan_out(1, 1000, 0, 20)),
    ("subscribers-10000", || Stream::fan_out(1, 10_000, 0, 20)),
    ("filters-1", || Stream::many_topics(1)),
    ("filters-1000", || Stream::many_topics(1000)),
    ("filters-100000", || Stream::many_topics(100_000)),
    ("filters-1000000", || Stream::many_topics(1_000_000)),
    ("retained-100", || Stream::retained(100)),
    ("retained-10000", || Stream::retained(10_000)),
    ("retained-100000", || Stream::retained(100_000)),
    ("shards-1", || Stream::fan_out(1, 128, 0, 125)),
    ("shards-2", || Stream::fan_out(2, 128, 0, 125)),
    ("shards-4", || Stream::fan_out(4, 128, 0, 125)),
    ("shards-8", || Stream::fan_out(8, 128, 0, 125)),
    ("shards-16", || Stream::fan_out(16, 128, 0, 125)),
    ("shards_qos1-1", || Stream::fan_out(1, 128, 1, 25)),
    ("shards_qos1-2", || Stream::fan_out(2, 128, 1, 25)),
    ("shards_qos1-16", || Stream::fan_out(16, 128, 1, 25)),
];

/// A stream of either list.
pub fn named(name: &str) -> Stream {
    let (_, make) =
        STREAMS.iter().chain(GROWTH).find(|(known, _)| *known == name).expect("a stream of a list");
    make()
}

/// A client that publishes one batch a round.
struct Publisher {
    client: usize,
    batch: Bytes,
    /// The PUBRELs of the batch.
    releases: Vec<u8>,
}

/// A client that acknowledges what it gets.
struct Subscriber {
    client: usize,
    /// Deliveries it gets a round.
    gets: usize,
    /// Packet id of its next delivery: the broker counts.
    next_id: u16,
}

/// The cores with their clients.
pub struct Stream {
    cores: Vec<Core>,
    /// The shard and the connection of each client.
    clients: Vec<(usize, ConnId)>,
    qos: u8,
    /// RETAIN of what is published.
    retain: u8,
    /// Properties of what is published in version 5.
    properties: &'static [u8],
    /// Sessions outlive their connections.
    is_lasting: bool,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    acks: Vec<u8>,
    /// Deliveries of one round.
    pub deliveries: usize,
}

impl Stream {
    fn new(shards: u8, qos: u8) -> Stream {
        let limits = Limits { sys_interval_ms: 0, max_subscriptions: usize::MAX, ..Limits::default() };
        let limits: Arc<Profiles> = Arc::new(limits.into());
        let core = |shard| {
            let (limits, policy) = (limits.clone(), Arc::default());
            Core::new(CoreConfig { shard, shards, seed: 7, limits, policy }, NOW)
        };
        Stream {
            cores: (0..shards).map(core).collect(),
            clients: Vec::new(),
            qos,
            retain: 0,
            properties: &[],
            is_lasting: false,
            publishers: Vec::new(),
            subscribers: Vec::new(),
            acks: Vec::new(),
            deliveries: 0,
        }
    }

    /// Ten publishers, each with a subscriber of its own.
    fn pairs(version: u8, qos: u8, batch: usize, payload: usize) -> Stream {
        Stream::new(1, qos).pair_up(version, batch, payload)
    }

    /// Nobody yet, at QoS 1, with sessions that outlive their connections.
    fn lasting() -> Stream {
        Stream { is_lasting: true, ..Stream::new(1, 1) }
    }

    fn pair_up(mut self, version: u8, batch: usize, payload: usize) -> Stream {
        for pair in 0..10 {
            let topic = format!("bench/pair/{pair}");
            self.subscribe(version, &topic, batch);
            self.publish(version, &[topic], batch, payload);
        }
        self.ready()
    }

    /// One publisher, many subscribers.
    fn fan_out(shards: u8, subscribers: usize, qos: u8, batch: usize) -> Stream {
        let mut stream = Stream::new(shards, qos);
        (0..subscribers).for_each(|_| stream.subscribe(4, "bench/fan/0", batch));
        stream.publish(4, &["bench/fan/0".to_owned()], batch, PAYLOAD);
        stream.ready()
    }

    /// Ten publishers, one subscriber behind a wildcard.
    fn fan_in(batch: usize) -> Stream {
        let mut stream = Stream::new(1, 0);
        stream.subscribe(4, "bench/fan/#", 10 * batch);
        (0..10).for_each(|at| stream.publish(4, &[format!("bench/fan/{at}")], batch, PAYLOAD));
        stream.ready()
    }

    /// Ten publishers, a group of ten.
    fn shared(batch: usize) -> Stream {
        let mut stream = Stream::new(1, 0);
        (0..10).for_each(|_| stream.subscribe(4, "$share/group/bench/shared/#", batch));
        (0..10).for_each(|at| stream.publish(4, &[format!("bench/shared/{at}")], batch, PAYLOAD));
        stream.ready()
    }

    /// Publishers that change the topic with every message, among many other filters.
    fn many_topics(filters: usize) -> Stream {
        let mut stream = Stream::new(1, 0);
        let idle = stream.connect(4);
        for device in 0..filters {
            stream.send_subscribe(4, idle, &format!("site/+/device-{device}/state"));
        }
        for pair in 0..10 {
            stream.subscribe(4, &format!("site/{pair}/#"), 100);
            let topics: Vec<String> = (0..100).map(|at| format!("site/{pair}/sensor-{at}/state")).collect();
            stream.publish(4, &topics, 100, PAYLOAD);
        }
        stream.ready()
    }

    /// A client that subscribes again and again to the topic of one of many retained messages.
    fn retained(messages: usize) -> Stream {
        let mut stream = Stream::new(1, 0);
        let client = stream.connect(4);
        for device in 0..messages {
            let mut body = Vec::new();
            text(&mut body, &format!("site/{}/device-{device}/state", device % 16));
            body.extend((0..PAYLOAD).map(|at| at as u8));
            stream.send(client, &packet(0x31, &body));
        }
        let mut batch = Vec::new();
        for at in 0..100 {
            let device = at * 7919 % messages;
            batch.extend(subscribe_packet(4, &format!("site/{}/device-{device}/state", device % 16), 0));
        }
        stream.publishers.push(Publisher { client, batch: batch.into(), releases: Vec::new() });
        stream.deliveries = 100;
        stream.ready()
    }

    fn connect(&mut self, version: u8) -> usize {
        let client = self.clients.len();
        let shard = client % self.cores.len();
        let conn = self.cores[shard].handle_accept(NOW, Origin::default()).expect("the core is not stopping");
        self.clients.push((shard, conn));
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', version, if self.is_lasting { 0 } else { 2 }, 0, 0];
        if version == 5 {
            body.push(0);
        }
        text(&mut body, &format!("client-{client}"));
        self.send(client, &packet(0x10, &body));
        self.settle();
        client
    }

    fn send(&mut self, client: usize, bytes: &[u8]) {
        let (shard, conn) = self.clients[client];
        self.cores[shard].handle_bytes(NOW, conn, bytes);
    }

    fn send_subscribe(&mut self, version: u8, client: usize, filter: &str) {
        let packet = subscribe_packet(version, filter, self.qos);
        self.send(client, &packet);
        self.settle();
    }

    fn subscribe(&mut self, version: u8, filter: &str, gets: usize) {
        let client = self.connect(version);
        self.send_subscribe(version, client, filter);
        self.subscribers.push(Subscriber { client, gets, next_id: 1 });
        self.deliveries += gets;
    }

    fn publish(&mut self, version: u8, topics: &[String], batch: usize, payload: usize) {
        let client = self.connect(version);
        let (mut packets, mut releases) = (Vec::new(), Vec::new());
        for at in 0..batch {
            let mut body = Vec::new();
            text(&mut body, &topics[at % topics.len()]);
            let id = (at as u16 + 1).to_be_bytes();
            if self.qos > 0 {
                body.extend_from_slice(&id);
            }
            if version == 5 {
                body.push(self.properties.len() as u8);
                body.extend_from_slice(self.properties);
            }
            body.extend((0..payload).map(|at| at as u8));
            packets.extend(packet(0x30 | self.qos << 1 | self.retain, &body));
            releases.extend(packet(0x62, &id));
        }
        self.publishers.push(Publisher { client, batch: packets.into(), releases });
    }

    fn ready(mut self) -> Stream {
        self.settle();
        // Buffers and windows have their size after a few rounds.
        (0..3).for_each(|_| self.round());
        self
    }

    /// Every publisher sends its batch, and everything is acknowledged.
    pub fn round(&mut self) {
        for publisher in &self.publishers {
            let (shard, conn) = self.clients[publisher.client];
            if publisher.batch.len() >= LEND_FROM {
                self.cores[shard].handle_lent(NOW, conn, publisher.batch.clone());
            } else {
                self.cores[shard].handle_bytes(NOW, conn, &publisher.batch);
            }
        }
        self.settle();
        match self.qos {
            1 => self.acknowledge(0x40),
            2 => {
                for publisher in &self.publishers {
                    let (shard, conn) = self.clients[publisher.client];
                    self.cores[shard].handle_bytes(NOW, conn, &publisher.releases);
                }
                self.acknowledge(0x50);
                self.settle();
                self.subscribers.iter_mut().for_each(|s| s.next_id = back(s.next_id, s.gets));
                self.acknowledge(0x70);
            }
            _ => {}
        }
        self.settle();
    }

    /// Every subscriber acknowledges the deliveries of this round.
    fn acknowledge(&mut self, first: u8) {
        for subscriber in &mut self.subscribers {
            self.acks.clear();
            for _ in 0..subscriber.gets {
                let [high, low] = subscriber.next_id.to_be_bytes();
                self.acks.extend_from_slice(&[first, 2, high, low]);
                subscriber.next_id = subscriber.next_id.checked_add(1).unwrap_or(1);
            }
            let (shard, conn) = self.clients[subscriber.client];
            self.cores[shard].handle_bytes(NOW, conn, &self.acks);
        }
    }

    /// Every envelope arrives, every socket moves where it is wanted and takes all there is.
    fn settle(&mut self) {
        let mut is_busy = true;
        while is_busy {
            is_busy = false;
            for shard in 0..self.cores.len() {
                is_busy |= self.act(shard);
                if self.cores[shard].next_deadline() <= NOW {
                    self.cores[shard].handle_deadlines(NOW);
                    is_busy = true;
                }
                for peer in 0..self.cores.len() {
                    while let Some(envelope) = self.cores[shard].outbox(peer as u8).pop_front() {
                        self.cores[peer].handle_envelope(NOW, shard as u8, envelope);
                        is_busy = true;
                    }
                }
            }
        }
        self.cores.iter_mut().for_each(flush);
    }

    /// Does what a core wants done with sockets.
    fn act(&mut self, shard: usize) -> bool {
        let mut is_any = false;
        while let Some(action) = self.cores[shard].poll_action() {
            is_any = true;
            match action {
                Action::Handoff { conn } => {
                    let client = self.clients.iter().position(|client| *client == (shard, conn));
                    let client = client.expect("only clients' sockets move");
                    self.cores[shard].complete_handoff(conn, Socket::plain(client as i32));
                }
                Action::Adopt { conn, socket } => self.clients[socket.number as usize] = (shard, conn),
                _ => {}
            }
        }
        is_any
    }

    /// PUBLISH packets sent so far.
    pub fn sent(&self) -> u64 {
        self.cores.iter().map(|core| core.counters().packets_sent[3]).sum()
    }
}

fn flush(core: &mut Core) {
    while let Some(conn) = core.poll_dirty() {
        let output = core.output(conn).expect("a dirty connection is live");
        let unsent = output.len();
        output.advance(unsent);
        core.count_sent(unsent);
        core.handle_drained(NOW, conn);
    }
    core.give_back_lent();
}

fn subscribe_packet(version: u8, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    if version == 5 {
        body.push(0);
    }
    text(&mut body, filter);
    body.push(qos);
    packet(0x82, &body)
}

/// The packet id `count` before `id`.
fn back(id: u16, count: usize) -> u16 {
    ((usize::from(id) - 1 + 65535 - count % 65535) % 65535 + 1) as u16
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(&(text.len() as u16).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut rest = body.len();
    loop {
        let low = (rest & 0x7f) as u8;
        rest >>= 7;
        packet.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}
