//! Message streams through the core of one shard, without sockets: the same packets in the same order every time.
use ringmq::auth::Origin;
use ringmq::limits::Limits;
use ringmq::shard::core::{ConnId, Core, CoreConfig};
use ringmq::time::Time;
use std::sync::Arc;

/// Payload bytes of most streams.
const PAYLOAD: usize = 64;
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
    ("fan-out-qos0", || Stream::fan_out(0, 125)),
    ("fan-out-qos0-single", || Stream::fan_out(0, 1)),
    ("fan-out-qos1", || Stream::fan_out(1, 25)),
    ("fan-in-qos0", || Stream::fan_in(125)),
    ("shared-qos0", || Stream::shared(125)),
    ("many-topics-qos0", || Stream::many_topics()),
];

/// A client that publishes one batch a round.
struct Publisher {
    conn: ConnId,
    batch: Vec<u8>,
    /// The PUBRELs of the batch.
    releases: Vec<u8>,
}

/// A client that acknowledges what it gets.
struct Subscriber {
    conn: ConnId,
    /// Deliveries it gets a round.
    gets: usize,
    /// Packet id of its next delivery: the broker counts.
    next_id: u16,
}

/// A core with its clients.
pub struct Stream {
    core: Core,
    qos: u8,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    acks: Vec<u8>,
    /// Deliveries of one round.
    pub deliveries: usize,
}

impl Stream {
    fn new(qos: u8) -> Stream {
        let config = CoreConfig {
            shard: 0,
            shards: 1,
            seed: 7,
            limits: Arc::new(Limits { sys_interval_ms: 0, ..Limits::default() }),
            methods: Arc::new([]),
        };
        let core = Core::new(config, NOW);
        Stream { core, qos, publishers: Vec::new(), subscribers: Vec::new(), acks: Vec::new(), deliveries: 0 }
    }

    /// Ten publishers, each with a subscriber of its own.
    fn pairs(version: u8, qos: u8, batch: usize, payload: usize) -> Stream {
        let mut stream = Stream::new(qos);
        for pair in 0..10 {
            let topic = format!("bench/pair/{pair}");
            stream.subscribe(version, &topic, batch);
            stream.publish(version, &[topic], batch, payload);
        }
        stream.ready()
    }

    /// One publisher, a hundred subscribers.
    fn fan_out(qos: u8, batch: usize) -> Stream {
        let mut stream = Stream::new(qos);
        (0..100).for_each(|_| stream.subscribe(4, "bench/fan/0", batch));
        stream.publish(4, &["bench/fan/0".to_owned()], batch, PAYLOAD);
        stream.ready()
    }

    /// Ten publishers, one subscriber behind a wildcard.
    fn fan_in(batch: usize) -> Stream {
        let mut stream = Stream::new(0);
        stream.subscribe(4, "bench/fan/#", 10 * batch);
        (0..10).for_each(|at| stream.publish(4, &[format!("bench/fan/{at}")], batch, PAYLOAD));
        stream.ready()
    }

    /// Ten publishers, a group of ten.
    fn shared(batch: usize) -> Stream {
        let mut stream = Stream::new(0);
        (0..10).for_each(|_| stream.subscribe(4, "$share/group/bench/shared/#", batch));
        (0..10).for_each(|at| stream.publish(4, &[format!("bench/shared/{at}")], batch, PAYLOAD));
        stream.ready()
    }

    /// Publishers that change the topic with every message, among many other filters.
    fn many_topics() -> Stream {
        let mut stream = Stream::new(0);
        for device in 0..10_000 {
            stream.subscribe(4, &format!("site/+/device-{device}/state"), 0);
        }
        for pair in 0..10 {
            stream.subscribe(4, &format!("site/{pair}/#"), 100);
            let topics: Vec<String> = (0..100).map(|at| format!("site/{pair}/sensor-{at}/state")).collect();
            stream.publish(4, &topics, 100, PAYLOAD);
        }
        stream.ready()
    }

    fn connect(&mut self, version: u8) -> ConnId {
        let conn = self.core.handle_accept(NOW, Origin::default()).expect("the core is not stopping");
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', version, 2, 0, 0];
        if version == 5 {
            body.push(0);
        }
        text(&mut body, &format!("client-{}", conn.slot));
        self.core.handle_bytes(NOW, conn, &packet(0x10, &body));
        conn
    }

    fn subscribe(&mut self, version: u8, filter: &str, gets: usize) {
        let conn = self.connect(version);
        let mut body = vec![0, 1];
        if version == 5 {
            body.push(0);
        }
        text(&mut body, filter);
        body.push(self.qos);
        self.core.handle_bytes(NOW, conn, &packet(0x82, &body));
        self.subscribers.push(Subscriber { conn, gets, next_id: 1 });
        self.deliveries += gets;
    }

    fn publish(&mut self, version: u8, topics: &[String], batch: usize, payload: usize) {
        let conn = self.connect(version);
        let mut publisher = Publisher { conn, batch: Vec::new(), releases: Vec::new() };
        for at in 0..batch {
            let mut body = Vec::new();
            text(&mut body, &topics[at % topics.len()]);
            let id = (at as u16 + 1).to_be_bytes();
            if self.qos > 0 {
                body.extend_from_slice(&id);
            }
            if version == 5 {
                body.push(0);
            }
            body.extend((0..payload).map(|at| at as u8));
            publisher.batch.extend(packet(0x30 | self.qos << 1, &body));
            publisher.releases.extend(packet(0x62, &id));
        }
        self.publishers.push(publisher);
    }

    fn ready(mut self) -> Stream {
        self.flush();
        // Buffers and windows have their size after a few rounds.
        (0..3).for_each(|_| self.round());
        self
    }

    /// Every publisher sends its batch, and everything is acknowledged.
    pub fn round(&mut self) {
        for publisher in &self.publishers {
            self.core.handle_bytes(NOW, publisher.conn, &publisher.batch);
        }
        self.flush();
        match self.qos {
            1 => self.acknowledge(0x40),
            2 => {
                for publisher in &self.publishers {
                    self.core.handle_bytes(NOW, publisher.conn, &publisher.releases);
                }
                self.acknowledge(0x50);
                self.flush();
                self.subscribers.iter_mut().for_each(|s| s.next_id = back(s.next_id, s.gets));
                self.acknowledge(0x70);
            }
            _ => {}
        }
        self.flush();
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
            self.core.handle_bytes(NOW, subscriber.conn, &self.acks);
        }
    }

    /// Every socket takes all there is.
    fn flush(&mut self) {
        while let Some(conn) = self.core.poll_dirty() {
            let output = self.core.output(conn).expect("a dirty connection is live");
            let unsent = output.len();
            output.advance(unsent);
            self.core.count_sent(unsent);
            self.core.handle_drained(NOW, conn);
        }
        while self.core.poll_action().is_some() {}
    }

    /// PUBLISH packets sent so far.
    pub fn sent(&self) -> u64 {
        self.core.counters().packets_sent[3]
    }
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
