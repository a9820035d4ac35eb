//! The broker of the simulation: cores, the rings between them, and what a shell owes them, all in one thread.
use crate::disk::{self, Disk};
use crate::rng::Rng;
use bytes::Bytes;
use ringmq::auth::Origin;
use ringmq::limits::Limits;
use ringmq::memory::{Memory, Pressure};
use ringmq::metrics::Counters;
use ringmq::shard::core::{Action, CloseCause, Command, ConnId, Core, CoreConfig};
use ringmq::shard::envelope::{Envelope, Socket};
use ringmq::shard::output::{MAX_SLICES, Output};
use ringmq::store::recovered::Share;
use ringmq::time::Time;
use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::sync::Arc;

/// Where a pipe's broker end is.
enum Place {
    /// In the backlog of a shard's listener.
    Backlog(usize),
    /// A connection of a shard.
    Open { shard: usize, conn: ConnId, is_read: bool, is_dirty: bool },
    /// To be packed into an envelope.
    Leaving { shard: usize, conn: ConnId },
    /// In an envelope.
    Moving,
    /// The core has closed it; the rest of its output is still to be sent.
    Lingering(Output),
    /// Nothing more comes.
    Closed,
}

/// A connection between a client and the broker: bytes both ways, each in order.
pub struct Pipe {
    place: Place,
    up: VecDeque<u8>,
    up_end: Option<CloseCause>,
    down: VecDeque<u8>,
    room: usize,
    /// The client reads no more, and what it is sent is thrown away.
    is_deaf: bool,
    /// When the core closed it.
    closed_at: Option<Time>,
}

/// One thing that can happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Accept(usize),
    Read(usize),
    Write(usize),
    Linger(usize),
    Handoff(usize),
    Flush(usize, usize),
    Deliver(usize, usize),
    PollDirty(usize),
    Deadlines(usize),
    Store(disk::Step),
    Tell(usize),
}

/// Shards, rings and pipes.
pub struct Broker {
    /// Virtual time.
    pub now: Time,
    /// The bounds.
    pub limits: Arc<Limits>,
    cores: Vec<Core>,
    /// By sender and receiver.
    rings: Vec<Vec<VecDeque<Envelope>>>,
    ring_room: usize,
    /// Shards whose dirty connections were not asked for since their last input.
    unpolled: Vec<bool>,
    pipes: Vec<Pipe>,
    /// Pipes that are not closed.
    live: Vec<usize>,
    by_conn: HashMap<(usize, ConnId), usize>,
    schedule: Rng,
    /// Bytes go through sockets as they were written, which takes fewer steps.
    pub is_unbroken: bool,
    /// Where what must survive goes, if anything does.
    disk: Option<Disk>,
    /// By shard: the memory in use, where it has not been told of it yet.
    untold: Vec<Option<Memory>>,
    steps: Vec<Step>,
    /// Steps taken.
    pub taken: u64,
}

impl Broker {
    /// A broker without connections.
    pub fn new(shards: usize, limits: Limits, ring_room: usize, seed: u64, schedule: Rng) -> Broker {
        let limits = Arc::new(limits);
        let core = |shard| {
            let (limits, policy) = (Arc::new(Limits::clone(&limits).into()), Arc::default());
            let config = CoreConfig { shard: shard as u8, shards: shards as u8, seed, limits, policy };
            Core::new(config, Time(0))
        };
        Broker {
            now: Time(0),
            cores: (0..shards).map(core).collect(),
            limits: limits.clone(),
            rings: (0..shards).map(|_| (0..shards).map(|_| VecDeque::new()).collect()).collect(),
            ring_room,
            unpolled: vec![false; shards],
            pipes: Vec::new(),
            live: Vec::new(),
            by_conn: HashMap::new(),
            schedule,
            is_unbroken: false,
            disk: None,
            untold: vec![None; shards],
            steps: Vec::new(),
            taken: 0,
        }
    }

    /// From now on the shards store, beginning with nothing.
    pub fn use_disk(&mut self) {
        for core in &mut self.cores {
            core.restore(self.now, disk::WALL, Share::default());
        }
        self.disk = Some(Disk::new(self.cores.len()));
    }

    /// What the disk has done so far.
    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("a broker with a disk")
    }

    /// The memory in use was looked at: each shard hears of it sooner or later, if nothing newer comes before.
    pub fn press(&mut self, pressure: Pressure) {
        self.untold.fill(Some(Memory { pressure, ..Memory::default() }));
    }

    /// Panics if a shard without clients and sessions has something left.
    pub fn check_empty(&self) {
        self.cores.iter().for_each(|core| core.audit().check_empty());
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.cores.len()
    }

    /// A client connects and is accepted by `shard`; `room` is what fits into the way back, bytes.
    pub fn connect(&mut self, shard: usize, room: usize) -> usize {
        let (up, down) = (VecDeque::new(), VecDeque::new());
        let (place, up_end, is_deaf, closed_at) = (Place::Backlog(shard), None, false, None);
        self.pipes.push(Pipe { place, up, up_end, down, room, is_deaf, closed_at });
        self.live.push(self.pipes.len() - 1);
        self.pipes.len() - 1
    }

    /// The client writes.
    pub fn write(&mut self, pipe: usize, bytes: &[u8]) {
        if self.pipes[pipe].up_end.is_none() {
            self.pipes[pipe].up.extend(bytes);
        }
    }

    /// The client's end is gone. What it wrote last gets lost but for `kept` bytes; nothing is read any more.
    pub fn cut(&mut self, number: usize, kept: usize, cause: CloseCause) {
        let pipe = &mut self.pipes[number];
        if pipe.up_end.is_none() {
            pipe.up.truncate(kept);
            pipe.up_end = Some(cause);
        }
        self.abandon(number);
    }

    /// The client turns its back on the pipe, which stays open.
    pub fn abandon(&mut self, pipe: usize) {
        let pipe = &mut self.pipes[pipe];
        pipe.is_deaf = true;
        pipe.down.clear();
        pipe.room = usize::MAX;
    }

    /// The client reads up to `count` bytes.
    pub fn read(&mut self, pipe: usize, count: usize) -> Vec<u8> {
        let down = &mut self.pipes[pipe].down;
        down.drain(..count.min(down.len())).collect()
    }

    /// Bytes the client can read.
    pub fn readable(&self, pipe: usize) -> usize {
        self.pipes[pipe].down.len()
    }

    /// The broker has closed the pipe and everything it sent was read.
    pub fn is_at_end(&self, pipe: usize) -> bool {
        matches!(self.pipes[pipe].place, Place::Closed) && self.pipes[pipe].down.is_empty()
    }

    /// When the broker closed the pipe, if it did: the client may notice later.
    pub fn closed_at(&self, pipe: usize) -> Option<Time> {
        self.pipes[pipe].closed_at
    }

    /// The shard the pipe's connection is on.
    pub fn shard_of(&self, pipe: usize) -> Option<usize> {
        match self.pipes[pipe].place {
            Place::Open { shard, .. } => Some(shard),
            _ => None,
        }
    }

    /// All shards' counters, summed.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.cores.iter().for_each(|core| sum.add(core.counters()));
        sum
    }

    /// One shard's counters.
    pub fn counters_of(&self, shard: usize) -> &Counters {
        self.cores[shard].counters()
    }

    /// Envelopes that were sent and not delivered, from each shard to each shard.
    pub fn in_transit(&mut self) -> Vec<(usize, usize)> {
        let shards = self.shards();
        let pairs = (0..shards).flat_map(|from| (0..shards).map(move |to| (from, to)));
        pairs.filter(|(from, to)| !self.rings[*from][*to].is_empty()).collect()
    }

    /// When something is due next.
    pub fn next_deadline(&self) -> Time {
        self.cores.iter().map(Core::next_deadline).min().unwrap_or(Time::NEVER)
    }

    /// Time passes; every shard does what is due.
    pub fn set_time(&mut self, now: Time) {
        self.now = self.now.max(now);
        for shard in 0..self.cores.len() {
            if self.cores[shard].next_deadline() <= self.now {
                self.cores[shard].handle_deadlines(self.now);
                self.after_input(shard);
            }
        }
    }

    /// Takes one of the steps that are possible; false if there is none.
    pub fn step(&mut self) -> bool {
        self.find_steps();
        if self.steps.is_empty() {
            return false;
        }
        let step = self.steps[self.schedule.below(self.steps.len())];
        self.take(step);
        true
    }

    fn find_steps(&mut self) {
        self.steps.clear();
        let wants_input: Vec<bool> = self.cores.iter().map(Core::wants_input).collect();
        let (pipes, cores) = (&self.pipes, &mut self.cores);
        self.live.retain(|pipe| !matches!(pipes[*pipe].place, Place::Closed));
        for number in &self.live {
            let pipe = &self.pipes[*number];
            match &pipe.place {
                Place::Backlog(_) => self.steps.push(Step::Accept(*number)),
                Place::Open { shard, is_read, is_dirty, .. } => {
                    let has_input = !pipe.up.is_empty() || pipe.up_end.is_some();
                    if *is_read && has_input && wants_input[*shard] {
                        self.steps.push(Step::Read(*number));
                    }
                    if *is_dirty && pipe.down.len() < pipe.room {
                        self.steps.push(Step::Write(*number));
                    }
                }
                Place::Leaving { .. } => self.steps.push(Step::Handoff(*number)),
                Place::Lingering(_) if pipe.down.len() < pipe.room => self.steps.push(Step::Linger(*number)),
                Place::Moving | Place::Lingering(_) | Place::Closed => {}
            }
        }
        if let Some(disk) = &self.disk {
            self.steps.extend(disk.steps().map(Step::Store));
        }
        for from in 0..cores.len() {
            if self.untold[from].is_some() {
                self.steps.push(Step::Tell(from));
            }
            if self.unpolled[from] {
                self.steps.push(Step::PollDirty(from));
            }
            if cores[from].next_deadline() <= self.now {
                self.steps.push(Step::Deadlines(from));
            }
            for to in 0..cores.len() {
                let ring = &self.rings[from][to];
                if from != to && ring.len() < self.ring_room && !cores[from].outbox(to as u8).is_empty() {
                    self.steps.push(Step::Flush(from, to));
                }
                if !ring.is_empty() {
                    self.steps.push(Step::Deliver(from, to));
                }
            }
        }
    }

    fn take(&mut self, step: Step) {
        self.taken += 1;
        match step {
            Step::Accept(pipe) => self.accept(pipe),
            Step::Read(pipe) => self.hand_bytes_in(pipe),
            Step::Write(pipe) => self.send_output(pipe),
            Step::Linger(pipe) => self.linger(pipe),
            Step::Handoff(pipe) => self.hand_off(pipe),
            Step::Flush(from, to) => self.flush(from, to),
            Step::Deliver(from, to) => self.deliver(from, to),
            Step::PollDirty(shard) => self.poll_dirty(shard),
            Step::Store(step) => {
                let disk = self.disk.as_mut().expect("it can do something");
                if let Some((shard, command)) = disk.take(step) {
                    self.cores[shard].handle_command(self.now, command);
                    self.after_input(shard);
                }
            }
            Step::Tell(shard) => {
                let memory = self.untold[shard].take().expect("it was not told");
                self.cores[shard].handle_command(self.now, Command::Memory(memory));
                self.after_input(shard);
            }
            Step::Deadlines(shard) => {
                self.cores[shard].handle_deadlines(self.now);
                self.after_input(shard);
            }
        }
    }

    /// Moves envelopes from an outbox to its ring, as many as fit.
    pub fn flush(&mut self, from: usize, to: usize) {
        let ring = &mut self.rings[from][to];
        let outbox = self.cores[from].outbox(to as u8);
        while ring.len() < self.ring_room {
            let Some(envelope) = outbox.pop_front() else { return };
            ring.push_back(envelope);
        }
    }

    /// Hands the receiver the oldest envelope of a ring.
    pub fn deliver(&mut self, from: usize, to: usize) {
        let envelope = self.rings[from][to].pop_front().expect("the ring holds an envelope");
        self.cores[to].handle_envelope(self.now, from as u8, envelope);
        self.after_input(to);
    }

    /// How many bytes go through a socket at once.
    fn chunk(&mut self, sizes: &[usize]) -> usize {
        if self.is_unbroken { usize::MAX } else { self.schedule.pick(sizes) }
    }

    /// Hands the core everything that a client wrote, at once.
    pub fn hand_all_in(&mut self, number: usize) {
        let pipe = &mut self.pipes[number];
        let Place::Open { shard, conn, .. } = pipe.place else { panic!("the pipe is not open") };
        let bytes: Bytes = pipe.up.drain(..).collect();
        self.cores[shard].handle_lent(self.now, conn, bytes);
        self.cores[shard].give_back_lent();
        self.after_input(shard);
    }

    fn accept(&mut self, pipe: usize) {
        let Place::Backlog(shard) = self.pipes[pipe].place else {
            unreachable!("only a backlog is accepted")
        };
        self.pipes[pipe].place = match self.cores[shard].handle_accept(self.now, Origin::default()) {
            Some(conn) => {
                self.by_conn.insert((shard, conn), pipe);
                Place::Open { shard, conn, is_read: true, is_dirty: false }
            }
            None => Place::Closed,
        };
        self.after_input(shard);
    }

    fn hand_bytes_in(&mut self, number: usize) {
        let most = self.chunk(&[1, 2, 7, 40, 300, usize::MAX]);
        let pipe = &mut self.pipes[number];
        let Place::Open { shard, conn, .. } = pipe.place else { unreachable!("only an open pipe is read") };
        if pipe.up.is_empty() {
            let cause = pipe.up_end.expect("there was something to read");
            pipe.place = Place::Closed;
            self.by_conn.remove(&(shard, conn));
            self.cores[shard].handle_close(self.now, conn, cause);
        } else {
            let bytes: Bytes = pipe.up.drain(..most.min(pipe.up.len())).collect();
            self.cores[shard].handle_lent(self.now, conn, bytes);
            self.cores[shard].give_back_lent();
        }
        self.after_input(shard);
    }

    fn send_output(&mut self, number: usize) {
        let most = self.chunk(&[1, 5, 60, 1000, usize::MAX]);
        let pipe = &mut self.pipes[number];
        let Place::Open { shard, conn, ref mut is_dirty, .. } = pipe.place else {
            unreachable!("only an open pipe is written to")
        };
        let core = &mut self.cores[shard];
        let output = core.output(conn).expect("an open pipe has a live connection");
        let most = most.min(pipe.room - pipe.down.len());
        let sent = send_some(output, most, &mut pipe.down);
        if pipe.is_deaf {
            pipe.down.clear();
        }
        let is_empty = output.is_empty();
        core.count_sent(sent);
        if is_empty {
            *is_dirty = false;
            core.handle_drained(self.now, conn);
            self.after_input(shard);
        }
    }

    fn linger(&mut self, number: usize) {
        let most = self.chunk(&[1, 50, usize::MAX]);
        let pipe = &mut self.pipes[number];
        let Place::Lingering(output) = &mut pipe.place else { unreachable!("only a closed pipe lingers") };
        let most = most.min(pipe.room - pipe.down.len());
        send_some(output, most, &mut pipe.down);
        if output.is_empty() {
            pipe.place = Place::Closed;
        }
        if pipe.is_deaf {
            pipe.down.clear();
        }
    }

    fn hand_off(&mut self, number: usize) {
        let Place::Leaving { shard, conn } = self.pipes[number].place else {
            unreachable!("only a leaving pipe is handed off")
        };
        self.pipes[number].place = Place::Moving;
        self.by_conn.remove(&(shard, conn));
        self.cores[shard].complete_handoff(conn, Socket::plain(number as i32));
        self.after_input(shard);
    }

    /// What the contract asks for after each input.
    fn after_input(&mut self, shard: usize) {
        while let Some(action) = self.cores[shard].poll_action() {
            self.act(shard, action);
        }
        if let Some(disk) = &mut self.disk
            && let Some(batch) = self.cores[shard].take_batch()
        {
            disk.hand_over(shard, batch);
        }
        self.unpolled[shard] = true;
        if self.schedule.chance(50) {
            self.poll_dirty(shard);
        }
    }

    fn act(&mut self, shard: usize, action: Action) {
        if let Action::Adopt { conn, socket: Socket { number, .. } } = action {
            let place = &mut self.pipes[number as usize].place;
            assert!(matches!(place, Place::Moving), "only a socket that is on its way is adopted");
            *place = Place::Open { shard, conn, is_read: true, is_dirty: false };
            self.by_conn.insert((shard, conn), number as usize);
            return;
        }
        if let Action::Fetch(wanted) = action {
            return self.disk.as_mut().expect("something is stored").wish(shard, *wanted);
        }
        let (Action::Adopt { conn, .. }
        | Action::Close { conn }
        | Action::Established { conn }
        | Action::Pause { conn }
        | Action::Resume { conn }
        | Action::Handoff { conn }) = action
        else {
            unreachable!("everybody may everything")
        };
        let Some(number) = self.by_conn.get(&(shard, conn)).copied() else {
            panic!("{action:?} for a connection that shard {shard} does not have")
        };
        let place = &mut self.pipes[number].place;
        let Place::Open { is_read, .. } = place else { panic!("{action:?} for a pipe that is not open") };
        match action {
            Action::Close { .. } => {
                self.by_conn.remove(&(shard, conn));
                *place = Place::Lingering(self.cores[shard].take_output(conn));
                self.pipes[number].closed_at = Some(self.now);
            }
            Action::Handoff { .. } => *place = Place::Leaving { shard, conn },
            Action::Pause { .. } => *is_read = false,
            Action::Established { .. } | Action::Resume { .. } => *is_read = true,
            Action::Adopt { .. } | Action::Ask { .. } | Action::Fetch(_) | Action::Report(_) => {
                unreachable!("seen above")
            }
        }
    }

    fn poll_dirty(&mut self, shard: usize) {
        self.unpolled[shard] = false;
        while let Some(conn) = self.cores[shard].poll_dirty() {
            let number = self.by_conn.get(&(shard, conn)).copied();
            let place = number.map(|number| &mut self.pipes[number].place);
            match place {
                Some(Place::Open { is_dirty, .. }) => *is_dirty = true,
                Some(Place::Leaving { .. }) => panic!("a connection on its way has nothing to say"),
                _ => panic!("a dirty connection that is not open"),
            }
        }
    }
}

/// What a `writev` of up to `most` bytes does.
fn send_some(output: &mut Output, most: usize, into: &mut VecDeque<u8>) -> usize {
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let filled = output.slices(&mut slices);
    let gathered: Bytes =
        slices[..filled].iter().flat_map(|slice| slice.iter().copied()).take(most).collect();
    into.extend(&gathered[..]);
    output.advance(gathered.len());
    gathered.len()
}
