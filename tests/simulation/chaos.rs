//! Random clients on a random broker: everything at once, with cut connections, takeovers and full rings.
use crate::broker::Broker;
use crate::client::Client;
use crate::link::{Filter, Wish};
use crate::oracle::Oracle;
use crate::rng::Rng;
use ringmq::codec::{QoS, ReasonCode, Version};
use ringmq::limits::{Limits, QueuePolicy};
use ringmq::memory::Pressure;
use ringmq::metrics::Counters;
use ringmq::router::Keys;
use ringmq::shard::core::CloseCause;
use ringmq::shard::timer_wheel::TICK_MS;
use ringmq::store::Space;
use ringmq::time::Time;

const TOPICS: [&str; 4] = ["t/0", "t/1", "t/2/x", "t"];
const SHARED_TOPICS: [&str; 2] = ["s/0", "s/1"];
/// Each published by the client of its place only, so that there is an order.
const RETAINED_TOPICS: [&str; 3] = ["r/0", "r/1", "r/2"];

const fn filter(filter: &'static str, qos: QoS, no_local: bool, id: Option<u32>) -> Filter {
    Filter { filter, qos, no_local, id }
}

const FILTERS: [Filter; 7] = [
    filter("t/0", QoS::ExactlyOnce, false, None),
    filter("t/1", QoS::AtLeastOnce, false, Some(7)),
    filter("t/+", QoS::AtLeastOnce, true, None),
    filter("t/#", QoS::ExactlyOnce, false, Some(200_000)),
    filter("+/2/+", QoS::AtMostOnce, false, None),
    filter("w/+", QoS::ExactlyOnce, false, None),
    filter("t", QoS::ExactlyOnce, true, Some(1)),
];
const SHARED_FILTERS: [Filter; 3] = [
    filter("$share/a/s/0", QoS::ExactlyOnce, false, None),
    filter("$share/b/s/+", QoS::AtLeastOnce, false, Some(3)),
    filter("$share/a/s/#", QoS::ExactlyOnce, false, None),
];
const RETAINED_FILTERS: [Filter; 4] = [
    filter("r/0", QoS::ExactlyOnce, false, None),
    filter("r/+", QoS::ExactlyOnce, false, None),
    filter("r/1", QoS::AtLeastOnce, false, Some(9)),
    filter("r/#", QoS::ExactlyOnce, false, None),
];

/// What some clients take at most, bytes.
const SMALL_PACKET: u32 = 150;
/// Payloads that everybody takes, bytes.
const SMALL_PAYLOAD: usize = 100;

/// A packet with such a payload is not kept in pieces once memory is full, bytes.
const LARGE_PAYLOAD: usize = 70_000;
/// Milliseconds after which the shards hear again of memory that is short.
const TOLD_AGAIN_MS: u64 = 1000;
/// Milliseconds after which everybody is read again once memory is no longer short.
const LONGEST_PAUSE_MS: u64 = 500;

/// What one seed makes of a run.
struct Shape {
    shards: usize,
    clients: usize,
    rounds: usize,
    operations: usize,
    ring_room: usize,
    limits: Limits,
    /// Percent of the operations that break something.
    faults: usize,
    versions: Vec<Version>,
}

impl Shape {
    fn new(rng: &mut Rng) -> Shape {
        let limits = Limits {
            receive_maximum: rng.pick(&[3, 10, 1024]),
            max_inflight: rng.pick(&[1, 2, 5, 1024]),
            output_mark: rng.pick(&[0, 200, 5000, 1 << 20]),
            overflow_mark: rng.pick(&[1, 3, 4096]),
            filters_at_once: rng.pick(&[1, 2, 1024]),
            topic_alias_maximum: rng.pick(&[0, 2, 64]),
            topic_alias_maximum_outgoing: rng.pick(&[0, 2, 16]),
            max_session_expiry: 1000,
            sys_interval_ms: 0,
            max_packet: 100_000,
            ..Limits::default()
        };
        Shape {
            shards: rng.pick(&[1, 2, 3, 3]),
            clients: 3 + rng.below(6),
            rounds: 3,
            operations: rng.pick(&[100, 300]),
            ring_room: rng.pick(&[1, 2, 5, 1000]),
            limits,
            faults: rng.pick(&[0, 2, 8]),
            versions: vec![Version::V5, Version::V5, Version::V311, Version::V31],
        }
    }
}

/// A run under way.
struct World {
    broker: Broker,
    clients: Vec<Client>,
    oracle: Oracle,
    workload: Rng,
    schedule: Rng,
    faults: Rng,
    fault_percent: usize,
    /// The memory in use goes up and down, by this stream of random numbers; and what it asks for now.
    pressure: Option<(Rng, Pressure)>,
    seed: u64,
}

/// One run; panics where the broker did not keep a promise. Returns how many promises were checked.
pub fn run(seed: u64) -> u64 {
    let mut shape_rng = Rng::new(seed, 1);
    let shape = Shape::new(&mut shape_rng);
    run_shape(seed, shape, shape_rng, false)
}

/// One run with queues so short that messages are dropped: no more than were counted may be missing.
pub fn run_with_short_queues(seed: u64) -> u64 {
    let mut shape_rng = Rng::new(seed, 6);
    let mut shape = Shape::new(&mut shape_rng);
    let policies = [QueuePolicy::DropOldest, QueuePolicy::DropNewest, QueuePolicy::Refuse];
    shape.limits.queue_policy = shape_rng.pick(&policies);
    if shape.limits.queue_policy == QueuePolicy::Refuse {
        // Older clients are not told what is refused.
        shape.versions = vec![Version::V5];
    }
    shape.limits.max_queued_messages = shape_rng.pick(&[1, 3, 20]);
    shape.limits.max_queued_bytes = shape_rng.pick(&[200, 20_000]);
    shape.limits.max_group_queue = shape_rng.pick(&[1, 4]);
    shape.limits.max_inflight = shape_rng.pick(&[1, 2]);
    run_shape(seed, shape, shape_rng, true)
}

/// One run with a disk that is late and short windows, so that queues are read back; what is not needed any more must
/// not stay on it. Half of the runs have short queues, too. Returns how many promises were checked, and how many messages
/// were read back.
pub fn run_with_disk(seed: u64) -> (u64, u64) {
    let mut shape_rng = Rng::new(seed, 7);
    let mut shape = Shape::new(&mut shape_rng);
    shape.limits.queue_window_messages = shape_rng.pick(&[1, 2, 3, 5]);
    shape.limits.queue_window_bytes = shape_rng.pick(&[50, 500, 100_000]);
    shape.limits.max_inflight = shape_rng.pick(&[1, 2, 1024]);
    shape.limits.store_mark = shape_rng.pick(&[500, 1 << 20]);
    let is_short = shape_rng.chance(50);
    if is_short {
        shape.limits.queue_policy = shape_rng.pick(&[QueuePolicy::DropOldest, QueuePolicy::DropNewest]);
        shape.limits.max_queued_messages = shape_rng.pick(&[3, 8, 20]);
        shape.limits.max_queued_bytes = shape_rng.pick(&[200, 20_000]);
    }
    let mut world = World::new(seed, &shape, shape_rng, is_short);
    world.broker.use_disk();
    world.run(&shape);
    world.check_disk();
    (world.oracle.kept_promises, world.broker.disk().read_back)
}

/// One run in which the memory of the broker runs short again and again, half of them with a disk. Returns how many
/// promises were checked, and what was counted.
pub fn run_under_pressure(seed: u64) -> (u64, Counters) {
    let mut shape_rng = Rng::new(seed, 8);
    let mut shape = Shape::new(&mut shape_rng);
    // Time goes on in large steps here, and a CONNECT may be on its way meanwhile.
    shape.limits.connect_timeout_ms = 3_600_000;
    let has_disk = shape_rng.chance(50);
    let mut world = World::new(seed, &shape, shape_rng, false);
    world.pressure = Some((Rng::new(seed, 9), Pressure::None));
    if has_disk {
        world.broker.use_disk();
    }
    world.run(&shape);
    if has_disk {
        world.check_disk();
    }
    (world.oracle.kept_promises, world.broker.counters())
}

fn run_shape(seed: u64, shape: Shape, shape_rng: Rng, is_short: bool) -> u64 {
    let mut world = World::new(seed, &shape, shape_rng, is_short);
    world.run(&shape);
    world.oracle.kept_promises
}

impl World {
    fn new(seed: u64, shape: &Shape, mut shape_rng: Rng, is_short: bool) -> World {
        let limits = shape.limits.clone();
        World {
            broker: Broker::new(shape.shards, limits, shape.ring_room, seed, Rng::new(seed, 2)),
            clients: (0..shape.clients)
                .map(|index| Client::new(index, shape_rng.pick(&shape.versions)))
                .collect(),
            oracle: Oracle::new(is_short),
            workload: Rng::new(seed, 3),
            schedule: Rng::new(seed, 4),
            faults: Rng::new(seed, 5),
            fault_percent: shape.faults,
            pressure: None,
            seed,
        }
    }

    fn run(&mut self, shape: &Shape) {
        for _ in 0..shape.rounds {
            for _ in 0..shape.operations {
                self.operate();
                for _ in 0..self.schedule.below(30) {
                    self.step();
                }
            }
            self.settle();
            self.oracle.check_quiet();
            self.check_drops();
            let pause = self.workload.pick(&[0, 500, 5_000, 50_000, 5_000_000]);
            self.pass_time(pause);
        }
        self.end();
    }

    /// One thing that happens in the broker, on the network or at a client.
    fn step(&mut self) -> bool {
        let able: Vec<usize> =
            (0..self.clients.len()).filter(|client| self.clients[*client].can_act(&self.broker)).collect();
        if !able.is_empty() && self.schedule.chance(40) || !self.broker.step() {
            if able.is_empty() {
                return false;
            }
            let client = self.schedule.pick(&able);
            self.clients[client].act(&mut self.broker, &mut self.oracle, &mut self.schedule);
        }
        true
    }

    /// Steps until nothing can happen any more.
    fn run_dry(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 3_000_000, "the broker does not come to rest");
        }
    }

    /// Steps until nothing can happen any more; what nobody listens to is cut.
    fn rest(&mut self) {
        self.run_dry();
        self.clients.iter_mut().for_each(|client| client.cut_abandoned(&mut self.broker));
        self.run_dry();
        self.clients.iter_mut().for_each(Client::notice_rest);
    }

    /// What is missing was counted.
    fn check_drops(&self) {
        let Counters { dropped_queue_full, dropped_group_queue, .. } = self.broker.counters();
        let (missing, dropped) = (self.oracle.missing.unwrap_or(0), dropped_queue_full + dropped_group_queue);
        assert!(missing <= dropped, "{missing} messages are missing, {dropped} were dropped");
    }

    /// What is not needed any more is not stored.
    fn check_disk(&self) {
        let left: Vec<_> =
            self.broker.disk().records().filter(|(space, _)| *space != Space::Retained).collect();
        assert!(left.is_empty(), "left on the disk: {left:?}");
    }

    fn wish(&mut self, clean: bool) -> Wish {
        let rng = &mut self.workload;
        Wish {
            clean,
            expiry: rng.pick(&[0, 1, 30, 600, u32::MAX]),
            receive_maximum: rng.pick(&[1, 2, 7, u16::MAX]),
            max_packet: rng.pick(&[None, None, None, Some(SMALL_PACKET)]),
            aliases: rng.pick(&[0, 1, 20]),
            will: if rng.chance(40) { Some(("w/x", rng.pick(&[0, 0, 2, 40]))) } else { None },
        }
    }

    fn connect(&mut self, client: usize, wish: Wish) {
        let shard = self.schedule.below(self.broker.shards());
        let room = self.schedule.pick(&[20, 300, 5000, 1_000_000]);
        self.clients[client].connect(&mut self.broker, &mut self.oracle, wish, (shard, room));
    }

    /// Something a client does.
    fn operate(&mut self) {
        if self.faults.chance(self.fault_percent) {
            return self.break_something();
        }
        self.press();
        let client = self.workload.below(self.clients.len());
        if !self.clients[client].is_linked() {
            let clean = self.workload.chance(25);
            let wish = self.wish(clean);
            return self.connect(client, wish);
        }
        if !self.clients[client].is_up() {
            return;
        }
        let (broker, oracle) = (&mut self.broker, &mut self.oracle);
        let actor = &mut self.clients[client];
        let rng = &mut self.workload;
        match rng.below(100) {
            0..60 => {
                let size = rng.pick(&[8, 8, 20, 100, 2047, 2048, 6000]);
                let (topic, qos, retain) = match rng.below(10) {
                    0..6 => (rng.pick(&TOPICS), rng.below(3) as u8, false),
                    6..8 => (rng.pick(&SHARED_TOPICS), 1 + rng.below(2) as u8, false),
                    _ => match RETAINED_TOPICS.get(client) {
                        Some(topic) => (*topic, 2, true),
                        None => return,
                    },
                };
                let expiry = (!retain && rng.chance(5)).then(|| rng.pick(&[0, 1, 3]));
                let qos = QoS::from_bits(qos).expect("below 3");
                let expiry = expiry.filter(|_| actor.is_v5());
                let size = if retain { 8 } else { size };
                let is_larger = self.pressure.is_some() && size == 6000 && rng.chance(40);
                let size = if is_larger { LARGE_PAYLOAD } else { size };
                for _ in 0..rng.pick(&[1, 1, 4]) {
                    let sent =
                        actor.publish(broker, oracle, topic, qos, retain, size, expiry, &mut self.schedule);
                    if let Some(message) = sent {
                        oracle.messages[message].is_exempt = size > SMALL_PAYLOAD || expiry.is_some();
                    }
                }
            }
            60..85 => {
                let all = [&FILTERS[..], &SHARED_FILTERS[..], &RETAINED_FILTERS[..]];
                let first = rng.pick(rng.clone().pick(&all));
                actor.subscribe(broker, oracle, &[first]);
            }
            85..94 => {
                let all = [&FILTERS[..], &SHARED_FILTERS[..], &RETAINED_FILTERS[..]];
                let filters = rng.pick(&all);
                actor.unsubscribe(broker, oracle, rng.pick(filters).filter);
            }
            94..97 => {
                let reason = if actor.is_v5() && rng.chance(30) {
                    ReasonCode::DisconnectWithWill
                } else {
                    ReasonCode::Success
                };
                actor.disconnect(broker, oracle, reason);
            }
            _ => {
                let step = rng.pick(if self.pressure.is_some() {
                    &[1, 100, 3000, 12_000][..]
                } else {
                    &[1, 100, 1500]
                });
                let until = broker.now + step;
                self.pass_until(until);
                if let Some((_, level)) = self.pressure.as_ref().filter(|_| step >= TOLD_AGAIN_MS) {
                    self.broker.press(*level);
                }
            }
        }
    }

    /// Somebody looks at the memory in use, now and then.
    fn press(&mut self) {
        let Some((rng, level)) = self.pressure.as_mut() else { return };
        if rng.chance(6) {
            let levels = [Pressure::None, Pressure::Slow, Pressure::Closed, Pressure::Full, Pressure::Full];
            *level = rng.pick(&levels);
            crate::trace(|| format!("memory: {level:?}"));
            self.oracle.is_memory_short |= *level != Pressure::None;
            self.broker.press(*level);
        }
    }

    /// Memory is no longer short, and everybody who waits because it was goes on.
    fn ease(&mut self) {
        if let Some((_, level)) = self.pressure.as_mut() {
            *level = Pressure::None;
            self.broker.press(*level);
            self.run_dry();
            self.pass_until(self.broker.now + LONGEST_PAUSE_MS + TICK_MS);
        }
    }

    fn break_something(&mut self) {
        let client = self.faults.below(self.clients.len());
        if self.faults.chance(30) {
            // Another connection with the same client id, or several at once.
            for _ in 0..self.faults.pick(&[1, 1, 2, 4]) {
                let clean = self.faults.chance(40);
                let wish = self.wish(clean);
                self.connect(client, wish);
            }
            return;
        }
        let kept = self.faults.pick(&[0, 1, 10, 100, usize::MAX]);
        let cause = self.faults.pick(&[CloseCause::Eof, CloseCause::Error]);
        self.clients[client].cut(&mut self.broker, &mut self.oracle, kept, cause);
    }

    /// Virtual time goes on, from deadline to deadline.
    fn pass_until(&mut self, until: Time) {
        while self.broker.next_deadline() <= until {
            let due = self.broker.next_deadline();
            self.broker.set_time(due);
            self.clients.iter_mut().for_each(|client| client.notice_time(due, &mut self.oracle));
            for _ in 0..self.schedule.below(4) {
                self.step();
            }
        }
        self.broker.set_time(until);
        self.clients.iter_mut().for_each(|client| client.notice_time(until, &mut self.oracle));
    }

    fn pass_time(&mut self, millis: u64) {
        self.pass_until(self.broker.now + millis);
        self.rest();
    }

    /// Faults end, whoever may have a session comes back to it or ends it, and everything comes to rest.
    fn settle(&mut self) {
        self.ease();
        self.rest();
        self.oracle.is_memory_short = false;
        for client in 0..self.clients.len() {
            if self.clients[client].may_have_session() && !self.clients[client].is_up() {
                let wish = Wish { expiry: 600, ..self.wish(false) };
                self.connect(client, wish);
            }
        }
        self.rest();
        for client in &self.clients {
            assert!(!client.is_linked() || client.is_idle(), "{}", client.unfinished());
        }
    }

    /// Everybody leaves, and all sessions expire; nothing must be left behind.
    fn end(&mut self) {
        for client in 0..self.clients.len() {
            for _ in 0..self.workload.pick(&[0, 1, 1, 3]) {
                let clean = self.workload.chance(50);
                let wish = self.wish(clean);
                self.connect(client, wish);
            }
        }
        self.rest();
        for client in 0..self.clients.len() {
            self.clients[client].cut(&mut self.broker, &mut self.oracle, usize::MAX, CloseCause::Eof);
        }
        self.rest();
        self.pass_time(1000 * u64::from(self.broker.limits.max_session_expiry) + TICK_MS);
        self.rest();
        let Counters { sessions, clients_connected, subscriptions, shared_subscriptions, .. } =
            self.broker.counters();
        assert_eq!((sessions, clients_connected, subscriptions, shared_subscriptions), (0, 0, 0, 0));
        let Counters { connections_opened, connections_closed, .. } = self.broker.counters();
        assert_eq!(connections_opened, connections_closed);
        assert!(self.broker.in_transit().is_empty());
        self.broker.check_empty();
        self.check_interest();
        self.check_registrars();
    }

    /// No shard believes that another one is interested in anything.
    fn check_interest(&mut self) {
        let topics = [&TOPICS[..], &SHARED_TOPICS[..], &["w/x"]].concat();
        let mut probes = self.connect_probes(|_| true);
        for probe in &mut probes {
            let home = self.home_of(probe);
            let before = self.broker.counters_of(home).publishes_local;
            for topic in &topics {
                let (qos, rng) = (QoS::AtMostOnce, &mut self.schedule);
                probe.publish(&mut self.broker, &mut self.oracle, topic, qos, false, 8, None, rng);
            }
            self.run_dry();
            let local = self.broker.counters_of(home).publishes_local - before;
            assert_eq!(local, topics.len() as u64, "shard {home} publishes to shards without subscribers");
        }
        self.disconnect_probes(probes);
    }

    /// No registrar remembers a session: it spreads new ones evenly.
    fn check_registrars(&mut self) {
        let shards = self.broker.shards();
        let keys = Keys::new(self.seed);
        for registrar in 0..shards as u8 {
            let probes = self.connect_probes(|id| keys.shard_of(id, shards as u8) == registrar);
            let homes: Vec<usize> = probes.iter().map(|probe| self.home_of(probe)).collect();
            let nearest = (0..shards).map(|step| (usize::from(registrar) + step) % shards);
            assert_eq!(homes, nearest.collect::<Vec<_>>(), "registrar {registrar} counts lost sessions");
            self.disconnect_probes(probes);
        }
    }

    /// As many new clients as there are shards, with ids that `is_wanted`.
    fn connect_probes(&mut self, is_wanted: impl Fn(&str) -> bool) -> Vec<Client> {
        let probes = (1000..).map(|index| Client::new(index, Version::V311));
        let mut probes: Vec<Client> =
            probes.filter(|probe| is_wanted(&probe.id)).take(self.broker.shards()).collect();
        for (shard, probe) in probes.iter_mut().enumerate() {
            let wish = Wish { will: None, ..self.wish(true) };
            probe.connect(&mut self.broker, &mut self.oracle, wish, (shard, 1000));
            self.run_dry();
            while probe.can_act(&self.broker) {
                probe.act(&mut self.broker, &mut self.oracle, &mut self.schedule);
            }
            assert!(probe.is_up(), "a new client is not answered");
        }
        probes
    }

    fn home_of(&self, probe: &Client) -> usize {
        self.broker.shard_of(probe.pipe().expect("connected")).expect("connected")
    }

    fn disconnect_probes(&mut self, probes: Vec<Client>) {
        for mut probe in probes {
            probe.disconnect(&mut self.broker, &mut self.oracle, ReasonCode::Success);
        }
        self.run_dry();
    }
}
