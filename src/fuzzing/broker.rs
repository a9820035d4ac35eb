//! A broker of one to three shards without a shell: what `shard::runtime` does with sockets and rings, done step by
//! step when the fuzzer says so.
use super::peer::{Peer, Place};
use super::source::Source;
use crate::auth::Origin;
use crate::auth::access::Policy;
use crate::auth::test_method::TestMethod;
use crate::codec::Ack;
use crate::limits::profiles::Profiles;
use crate::limits::{Limits, QueuePolicy};
use crate::memory::{Memory, Pressure};
use crate::shard::core::{Action, CloseCause, Command, ConnId, Core, CoreConfig, ShardId};
use crate::shard::envelope::Socket;
use crate::time::Time;
use std::sync::Arc;

/// Sockets at a time.
pub(super) const PEERS: usize = 6;
/// Rounds after which shards that still talk to each other would never stop.
const MOST_ROUNDS: usize = 10_000;
/// Milliseconds after which a shard hears again of memory that is short.
const TOLD_AGAIN_MS: u64 = 1000;
/// Longest session expiry, seconds.
const EXPIRY: u32 = 4000;

/// Small bounds, so that each is met.
fn limits(source: &mut Source<'_>) -> Limits {
    Limits {
        max_connections: 64,
        max_sessions: source.choose(&[16, 4]),
        max_packet: source.choose(&[4096, 200, 100_000]),
        receive_maximum: source.choose(&[3, 1, u16::MAX]),
        max_inflight: source.choose(&[4, 1, 100]),
        topic_alias_maximum: 4,
        topic_alias_maximum_outgoing: 2,
        max_session_expiry: source.choose(&[EXPIRY, EXPIRY, 0]),
        max_keep_alive: source.choose(&[0, 30]),
        max_queued_messages: 8,
        max_queued_bytes: 5000,
        queue_policy: source.choose(&[QueuePolicy::DropOldest, QueuePolicy::DropNewest, QueuePolicy::Refuse]),
        output_mark: source.choose(&[6000, 300]),
        output_max: 20_000,
        max_topic_levels: 5,
        max_subscriptions: 7,
        max_retained: source.choose(&[100, 3]),
        max_group_queue: 3,
        overflow_mark: source.choose(&[64, 3]),
        filters_at_once: source.choose(&[1024, 1]),
        max_qos: source.choose(&[2, 2, 2, 1]),
        retain_available: !source.one_in(8),
        response_information: Some("r/".to_owned()),
        sys_interval_ms: source.choose(&[0, 0, 10_000]),
        ..Limits::default()
    }
}

/// The cores, the sockets, and what is between them.
pub(super) struct Broker {
    cores: Vec<Core>,
    peers: [Option<Peer>; PEERS],
    max_packet: u32,
    now: Time,
    is_shut_down: bool,
    /// By shard: what it was told last.
    memory: Vec<Memory>,
}

impl Broker {
    pub fn new(source: &mut Source<'_>) -> Broker {
        let shards = source.choose(&[1, 2, 3]);
        let limits = limits(source);
        let profiles = Arc::new(Profiles::from(limits.clone()));
        let now = Time(1000);
        let core = |shard| {
            let config = CoreConfig {
                shard,
                shards,
                seed: 7,
                limits: profiles.clone(),
                policy: Arc::new(Policy {
                    methods: Arc::new([Box::new(TestMethod) as Box<_>]),
                    ..Policy::default()
                }),
            };
            Core::new(config, now)
        };
        let cores = (0..shards).map(core).collect();
        let (peers, max_packet, is_shut_down) = (Default::default(), limits.max_packet, false);
        let memory = vec![Memory::default(); usize::from(shards)];
        Broker { cores, peers, max_packet, now, is_shut_down, memory }
    }

    fn core(&mut self, shard: ShardId) -> &mut Core {
        &mut self.cores[usize::from(shard)]
    }

    fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        0..self.cores.len() as ShardId
    }

    /// The client of a socket; a new one where there is none. `None` if the broker does not accept it.
    pub fn peer(&mut self, number: usize) -> Option<&mut Peer> {
        if self.peers[number].is_none() {
            let shard = (number % self.cores.len()) as ShardId;
            let now = self.now;
            let conn = self.core(shard).handle_accept(now, Origin::default())?;
            self.peers[number] = Some(Peer::new(Place::At(shard, conn), self.max_packet));
        }
        self.peers[number].as_mut()
    }

    /// The core gets up to `most` of the bytes that a client has written.
    pub fn deliver(&mut self, number: usize, most: usize) {
        let mut left = most;
        while let Some(peer) = &mut self.peers[number]
            && let Place::At(shard, conn) = peer.place
            && !peer.is_paused
            && self.cores[usize::from(shard)].wants_input()
        {
            let (bytes, said) = peer.sent.take(left);
            if bytes.is_empty() {
                return;
            }
            left -= bytes.len();
            said.into_iter().for_each(|said| peer.received.hear(said));
            let now = self.now;
            self.core(shard).handle_lent(now, conn, bytes.into());
            self.act(shard);
        }
    }

    /// The client's socket takes up to `most` bytes.
    pub fn drain(&mut self, number: usize, most: usize) {
        let Some(peer) = &mut self.peers[number] else { return };
        let Place::At(shard, conn) = peer.place else { return };
        let core = &mut self.cores[usize::from(shard)];
        let Some(output) = core.output(conn) else { return };
        let count = peer.drain(output, most);
        let is_empty = output.is_empty();
        core.count_sent(count);
        if is_empty && count > 0 {
            peer.is_dirty = false;
            core.handle_drained(self.now, conn);
            self.act(shard);
        }
    }

    /// The client closes its socket.
    pub fn hang_up(&mut self, number: usize) {
        let Some(peer) = &mut self.peers[number] else { return };
        let Place::At(shard, conn) = peer.place else {
            peer.is_hung_up = true;
            return;
        };
        self.peers[number] = None;
        let now = self.now;
        self.core(shard).handle_close(now, conn, CloseCause::Eof);
        self.act(shard);
    }

    /// The sockets that a core wants to be rid of are free: nothing is in flight on them.
    pub fn give_up(&mut self) -> bool {
        let mut is_any = false;
        for number in 0..PEERS {
            if let Some(peer) = &mut self.peers[number]
                && peer.is_leaving
                && let Place::At(shard, conn) = peer.place
            {
                (peer.place, peer.is_leaving) = (Place::Travelling, false);
                self.core(shard).complete_handoff(conn, Socket::plain(number as i32));
                self.act(shard);
                is_any = true;
            }
        }
        is_any
    }

    /// Up to `most` envelopes cross from one shard to another; whether any did.
    pub fn cross(&mut self, from: ShardId, to: ShardId, most: usize) -> bool {
        let mut is_any = false;
        for _ in 0..most {
            let Some(envelope) = self.core(from).outbox(to).pop_front() else { break };
            let now = self.now;
            self.core(to).handle_envelope(now, from, envelope);
            self.act(to);
            is_any = true;
        }
        is_any
    }

    pub fn cross_any(&mut self, source: &mut Source<'_>) {
        let (from, to) = (source.below(self.cores.len()), source.below(self.cores.len()));
        self.cross(from as ShardId, to as ShardId, source.choose(&[1, 2, 100]));
    }

    /// Everything that is under way arrives, once; whether anything was.
    pub fn cross_all(&mut self) -> bool {
        let mut is_any = self.give_up();
        for from in self.shards() {
            for to in self.shards() {
                is_any |= self.cross(from, to, 100);
            }
        }
        is_any
    }

    /// Shards, sockets and clients go on until nothing is left to do; then every request of a client is answered.
    pub fn settle(&mut self) {
        for _ in 0..MOST_ROUNDS {
            let mut is_any = self.cross_all();
            for shard in self.shards() {
                is_any |= self.catch_up(shard);
            }
            for number in 0..PEERS {
                let before = self.peers[number].as_ref().map(|peer| peer.sent.left());
                self.deliver(number, usize::MAX);
                is_any |= before != self.peers[number].as_ref().map(|peer| peer.sent.left());
                if let Some(Peer { place: Place::At(shard, conn), .. }) = self.peers[number]
                    && self.core(shard).output(conn).is_some_and(|output| !output.is_empty())
                {
                    self.drain(number, usize::MAX);
                    is_any = true;
                }
            }
            if !is_any && !self.await_pause() {
                self.end_turn();
                return self.check_answers();
            }
        }
        panic!("the shards never come to rest");
    }

    /// Who is slowed down goes on when its time has come; whether anybody was.
    fn await_pause(&mut self) -> bool {
        let is_paused = self.peers.iter().flatten().any(|peer| peer.is_paused);
        let due = self.cores.iter().map(Core::next_deadline).min().expect("there is a shard");
        let is_any = is_paused && !self.is_shut_down && due != Time::NEVER;
        if is_any {
            self.pass(due.since(self.now));
        }
        is_any
    }

    /// Clients acknowledge what they have received, until nothing is on its way to any that can.
    pub fn acknowledge(&mut self) {
        self.settle();
        for _ in 0..MOST_ROUNDS {
            let mut is_any = false;
            for number in 0..PEERS {
                let Some(peer) = &mut self.peers[number] else { continue };
                if let Some((packet, id)) = peer.received.next_ack()
                    && let Some(version) = peer.sent.version()
                    && peer.sent.is_whole()
                {
                    let mut out = Vec::new();
                    Ack::new(id).encode(packet, version, &mut out);
                    peer.sent.write(&out);
                    is_any = true;
                    self.deliver(number, usize::MAX);
                }
            }
            self.settle();
            if !is_any {
                return self.check_delivered();
            }
        }
        panic!("there is no end of deliveries");
    }

    fn check_delivered(&self) {
        let can_ack = |peer: &Peer| !peer.received.is_connected() || peer.sent.is_whole();
        if !self.is_shut_down && self.peers.iter().flatten().all(can_ack) {
            self.cores.iter().for_each(|core| assert_eq!(core.audit().undelivered, 0, "never delivered"));
        }
    }

    fn check_answers(&self) {
        for peer in self.peers.iter().flatten().filter(|_| !self.is_shut_down) {
            assert!(peer.place != Place::Travelling, "a socket never arrived");
            assert!(!peer.is_paused, "a connection is never read again");
            assert!(!peer.received.is_torn());
            if peer.received.is_connected() && peer.sent.is_whole() {
                peer.received.check_debts();
            }
        }
    }

    /// Time passes.
    pub fn pass(&mut self, millis: u64) {
        self.now = self.now + millis;
        for shard in self.shards() {
            let memory = self.memory[usize::from(shard)];
            if millis >= TOLD_AGAIN_MS && memory.pressure != Pressure::None {
                self.tell(shard, memory);
            }
            self.catch_up(shard);
        }
    }

    /// Does what is due at a shard; whether anything was.
    fn catch_up(&mut self, shard: ShardId) -> bool {
        let now = self.now;
        for round in 0..MOST_ROUNDS {
            if self.core(shard).next_deadline() > now {
                return round > 0;
            }
            self.core(shard).handle_deadlines(now);
            self.act(shard);
        }
        panic!("a deadline that has passed is always due");
    }

    /// The memory in use was looked at; the shards whose bits are set in `hear` hear of it.
    pub fn press(&mut self, pressure: Pressure, hear: u8) {
        for shard in self.shards().filter(|shard| hear >> shard & 1 == 1) {
            self.tell(shard, Memory { pressure, ..Memory::default() });
        }
    }

    fn tell(&mut self, shard: ShardId, memory: Memory) {
        self.memory[usize::from(shard)] = memory;
        let now = self.now;
        self.core(shard).handle_command(now, Command::Memory(memory));
        self.act(shard);
    }

    pub fn shut_down(&mut self) {
        self.is_shut_down = true;
        let now = self.now;
        for shard in self.shards() {
            self.core(shard).handle_command(now, Command::Shutdown);
            self.act(shard);
        }
    }

    /// Does what a core wants done, and judges what it has written.
    fn act(&mut self, shard: ShardId) {
        let mut hung_up = Vec::new();
        while let Some(action) = self.core(shard).poll_action() {
            match action {
                Action::Adopt { conn, socket } => {
                    let number = socket.number as usize;
                    let peer = self.peers[number].as_mut().expect("a socket that travels has a client");
                    assert_eq!(peer.place, Place::Travelling);
                    (peer.place, peer.is_paused) = (Place::At(shard, conn), false);
                    if peer.is_hung_up {
                        hung_up.push(number);
                    }
                }
                Action::Close { conn } => {
                    let output = self.core(shard).take_output(conn);
                    assert!(self.core(shard).output(conn).is_none(), "the id is dead at once");
                    let number = self.number(shard, conn).expect("each connection is closed once");
                    let mut peer = self.peers[number].take().expect("it was found");
                    peer.close(&output);
                }
                Action::Established { conn } => assert!(self.number(shard, conn).is_some()),
                Action::Pause { conn } => self.at(shard, conn).is_paused = true,
                Action::Resume { conn } => self.at(shard, conn).is_paused = false,
                Action::Handoff { conn } => self.at(shard, conn).is_leaving = true,
                Action::Ask { .. } | Action::Report(_) => unreachable!("everybody may everything"),
                Action::Fetch(_) => unreachable!("nothing is stored"),
            }
        }
        for peer in self.peers.iter_mut().flatten() {
            if let Place::At(at, conn) = peer.place
                && at == shard
            {
                let output =
                    self.cores[usize::from(shard)].output(conn).expect("a live connection has an output");
                peer.judge(output);
                assert!(!peer.received.is_over(), "the last packet was written, but nothing is closed");
            }
        }
        hung_up.into_iter().for_each(|number| self.hang_up(number));
    }

    fn number(&self, shard: ShardId, conn: ConnId) -> Option<usize> {
        let is_it =
            |peer: &Option<Peer>| peer.as_ref().is_some_and(|peer| peer.place == Place::At(shard, conn));
        self.peers.iter().position(is_it)
    }

    fn at(&mut self, shard: ShardId, conn: ConnId) -> &mut Peer {
        let number = self.number(shard, conn).expect("an action is about a live connection");
        self.peers[number].as_mut().expect("it was found")
    }

    /// The end of a turn: the cores name the connections with output, and are looked into.
    pub fn end_turn(&mut self) {
        for shard in self.shards() {
            while let Some(conn) = self.core(shard).poll_dirty() {
                self.at(shard, conn).is_dirty = true;
            }
            self.core(shard).audit();
        }
        for peer in self.peers.iter().flatten() {
            if let Place::At(shard, conn) = peer.place {
                let output =
                    self.cores[usize::from(shard)].output(conn).expect("a live connection has an output");
                assert!(output.is_empty() || peer.is_dirty, "output that nobody would send");
            }
        }
    }

    /// All clients go, and all that waits for them expires: nothing is left.
    pub fn finish(mut self) {
        (0..PEERS).for_each(|number| self.hang_up(number));
        self.settle();
        for _ in 0..3 {
            self.pass(u64::from(EXPIRY) * 1000 + 1000);
            self.settle();
        }
        assert!(self.peers.iter().all(Option::is_none), "a connection outlived its socket");
        if !self.is_shut_down {
            self.cores.iter().for_each(|core| core.audit().check_empty());
        }
    }
}
