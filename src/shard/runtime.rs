//! The shell of one shard: carries bytes between the sockets and the core, turn after turn.
//!
//! A glommio executor, pinned to one core, hosts a single task that never awaits: it blocks in the shard's own ring,
//! where sockets, the doorbell and the wait for the next deadline are one system call. So no glommio timer, file or
//! socket may be awaited on these executors.
mod allocator;
mod chronicle;
mod sealed;

use super::core::{Action, CloseCause, Command, ConnId, Core, CoreConfig, Denial, ShardId};
use super::envelope::Envelope;
use super::mesh::Port;
use crate::auth::decision::{Answer, Question, Wish};
use crate::auth::rule::Operation;
use crate::limits::Limits;
use crate::memory::Pressure;
use crate::net::connections::Connections;
use crate::net::door::Door;
use crate::net::event::Event;
use crate::net::handoff::{self, Accepted};
use crate::net::ring::Wait;
use crate::net::send::Sent;
use crate::net::transports::Transports;
use crate::net::warn::Warning;
use crate::store::Batch;
use crate::store::queue::Wanted;
use crate::store::record::Wall;
use crate::store::recovered::Share;
use crate::time::Time;
use chronicle::Chronicle;
use crossbeam_channel::Sender;
use glommio::{LocalExecutorBuilder, Placement};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

/// Received bytes handled in one turn before everything is flushed; more wait for the next turn.
const INPUT_PER_TURN: usize = 256 << 10;
/// Bytes of memory a glommio executor sets apart for file I/O, which we do not do: its least.
const EXECUTOR_MEMORY: usize = 64 << 10;
/// Entries of glommio's own rings, which we hardly use.
const EXECUTOR_RING: usize = 16;
/// Milliseconds by which a turn comes too late when the process was stopped, or its machine was.
const STALL_MS: u64 = 1_000;
/// Milliseconds after a stall in which nothing expires: what clients sent in the meantime is read first.
const STALL_GRACE_MS: u64 = 100;
/// Milliseconds beyond [`Limits::shutdown_ms`] after which a shard ends even if its core has not stopped.
const STOP_MARGIN_MS: u64 = 500;

/// What a shard is made of.
pub struct ShardConfig {
    /// For the core.
    pub core: CoreConfig,
    /// This shard's listening sockets.
    pub listeners: Vec<OwnedFd>,
    /// What is particular to each of them.
    pub doors: Arc<[Arc<Door>]>,
    /// Its end of the mesh.
    pub port: Port<Envelope, Command>,
    /// Connections of all shards together.
    pub open: Arc<AtomicUsize>,
    /// Where what it has to store goes, and what it begins with.
    pub store: Option<ShardStore>,
    /// When the process started: [`Time`] counts from here, on all shards alike.
    pub start: Instant,
    /// Where questions go.
    pub questions: Sender<Asked>,
    /// How long it looks for news before it sleeps.
    pub busy_poll: Duration,
}

/// A question of a shard, on its way to an ordinary thread that answers with [`Command::Answer`].
#[derive(Debug)]
pub struct Asked {
    /// The shard.
    pub shard: u8,
    /// The connection that the question is about.
    pub conn: ConnId,
    /// The question.
    pub question: Question,
}

/// A shard's way to the store.
pub struct ShardStore {
    /// Takes its batches in order. It is not bounded itself: [`Limits::store_mark`] keeps a shard from making more.
    pub batches: Sender<(ShardId, Batch)>,
    /// Takes what it wants to have read. A core bounds what is under way.
    pub wishes: Sender<(ShardId, Wanted)>,
    /// The wall clock, milliseconds since 1970, at [`Time`] 0.
    pub wall: Wall,
    /// What it begins with.
    pub share: Share,
}

/// Told about the life of one shard. Dropping it must report the end.
pub trait Witness: Send + 'static {
    /// The shard is up and accepts.
    fn started(&self);
    /// The shard cannot go on, because of this.
    fn failed(&self, error: String);
}

/// Starts a shard on its own thread, pinned to `cpu`. Whatever becomes of it, `witness` is told; it is dropped when
/// the shard has ended.
pub fn spawn(cpu: usize, config: ShardConfig, witness: impl Witness) -> Result<(), String> {
    let builder = LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name("ringmq")
        .io_memory(EXECUTOR_MEMORY)
        .ring_depth(EXECUTOR_RING);
    let task = move || async move {
        match Shard::new(config) {
            Ok(mut shard) => {
                witness.started();
                if let Err(error) = shard.run() {
                    witness.failed(error.to_string());
                }
            }
            Err(error) => witness.failed(error.to_string()),
        }
    };
    // The thread is not joined: its witness tells the end.
    builder.spawn(task).map(drop).map_err(|error| error.to_string())
}

struct Shard {
    core: Core,
    connections: Connections,
    transports: Transports,
    /// Time this turn has spent on handshakes.
    handshake_time: Duration,
    chronicle: Chronicle,
    port: Port<Envelope, Command>,
    limits: Arc<Limits>,
    start: Instant,
    /// The clock as it was at the start of this turn.
    now: Time,
    /// When this turn was to begin at the latest.
    due: Time,
    /// Nothing expires before.
    expires_from: Time,
    /// Peers whose ring was full.
    blocked: Vec<usize>,
    /// Connections that gained output while the last turn was sending.
    dirty: Vec<ConnId>,
    /// Some ring was not drained to its end.
    more_envelopes: bool,
    /// What is due comes before what the sockets bring in the next turn, and behind it in the one after.
    is_due_first: bool,
    /// Where what must survive goes.
    batches: Option<Sender<(ShardId, Batch)>>,
    shard: ShardId,
    /// When a shutdown that was asked for must be over.
    stop_by: Option<Time>,
    questions: Questions,
    busy_poll: Duration,
    too_fast: Warning,
}

impl Shard {
    fn new(config: ShardConfig) -> io::Result<Shard> {
        let ShardConfig { core, listeners, doors, port, open, start, store, questions, busy_poll } = config;
        let now = clock(start);
        let (limits, shard) = (core.limits.common.clone(), core.shard);
        let mut questions = Questions { shard, sender: questions, wishes: None };
        let mut core = Core::new(core, now);
        let batches = store.map(|store| {
            core.restore(now, store.wall, store.share);
            questions.wishes = Some(store.wishes);
            store.batches
        });
        Ok(Shard {
            connections: Connections::new(listeners, doors, port.doorbell(), open)?,
            transports: Transports::default(),
            handshake_time: Duration::ZERO,
            chronicle: Chronicle::default(),
            core,
            port,
            limits,
            start,
            now,
            due: now,
            expires_from: now,
            blocked: Vec::new(),
            dirty: Vec::new(),
            more_envelopes: false,
            is_due_first: true,
            batches,
            shard,
            stop_by: None,
            questions,
            busy_poll,
            too_fast: Warning::default(),
        })
    }

    /// Turns until a shutdown is finished. An error is one of the ring itself.
    fn run(&mut self) -> io::Result<()> {
        while !self.is_finished() {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        let wait = self.how_long()?;
        self.connections.wait(wait, self.core.wants_input())?;
        self.port.wake_up();
        // What came while we were waking, in the order in which it came: first bytes, then what others made of theirs.
        self.port.begin_turn();
        self.connections.look_again()?;
        self.now = clock(self.start);
        self.handshake_time = Duration::ZERO;

        if self.now.since(self.due) > STALL_MS {
            self.expires_from = self.now + STALL_GRACE_MS;
        }
        if self.expires_from <= self.now {
            self.connections.handle_deadlines(self.now);
        }
        // Input that was put off may fill the outboxes, and so may what comes now. Neither keeps the other waiting for ever.
        let is_due_first = self.is_due_first;
        self.is_due_first ^= self.core.wants_input();
        if is_due_first {
            self.do_what_is_due();
        }
        while let Some(command) = self.port.poll_command() {
            self.take_command(command);
        }
        if self.core.wants_input() {
            self.take_parked();
        }
        self.take_events();
        if !is_due_first {
            self.do_what_is_due();
        }
        self.take_envelopes();

        self.hand_over_batch()?;
        // First what others wait for: they work on it while we are in the kernel.
        self.push_outboxes();
        self.port.ring_doorbells();
        self.flush();
        self.core.give_back_lent();
        self.chronicle.write(&mut self.core, self.now);
        Ok(())
    }

    /// Until when the ring may wait for a completion.
    fn how_long(&mut self) -> io::Result<Wait> {
        let work = self.more_envelopes
            || !self.dirty.is_empty()
            || self.connections.is_busy()
            || (self.core.wants_input() && (self.connections.has_input() || self.transports.has_parked()));
        let deadline = self.core.next_deadline().min(self.connections.next_deadline()).max(self.expires_from);
        let stop = match self.stop_by {
            Some(stop_by) if self.now < stop_by => stop_by,
            Some(stop_by) => stop_by + STOP_MARGIN_MS,
            None => Time::NEVER,
        };
        let deadline = deadline.min(stop);
        self.due = deadline.max(self.now);
        if work || deadline <= self.now || self.has_news(deadline)? || !self.port.fall_asleep(&self.blocked) {
            return Ok(Wait::No);
        }
        Ok(match deadline {
            Time::NEVER => Wait::Forever,
            _ => Wait::For(Duration::from_millis(deadline.since(self.now))),
        })
    }

    /// Whether something comes while we look for it instead of sleeping. Nobody rings a shard that looks.
    fn has_news(&mut self, deadline: Time) -> io::Result<bool> {
        if self.busy_poll.is_zero() {
            return Ok(false);
        }
        let begun = Instant::now();
        while begun.elapsed() < self.busy_poll && clock(self.start) < deadline {
            if self.connections.has_news()? || self.port.has_mail(&self.blocked) {
                return Ok(true);
            }
            std::hint::spin_loop();
        }
        Ok(false)
    }

    /// Timers that have run out, and input that was put off.
    fn do_what_is_due(&mut self) {
        if self.expires_from <= self.now && self.core.next_deadline() <= self.now {
            self.core.handle_deadlines(self.now);
            self.act();
        }
    }

    fn take_command(&mut self, command: Command) {
        if matches!(command, Command::Shutdown) && self.stop_by.is_none() {
            self.stop_by = Some(self.now + self.limits.shutdown_ms);
            self.connections.stop_accepting();
        }
        let is_memory_short =
            matches!(&command, Command::Memory(memory) if memory.pressure != Pressure::None);
        if let Command::Limits(profiles) = &command {
            self.limits = profiles.common.clone();
        }
        self.core.handle_command(self.now, command);
        self.act();
        if is_memory_short {
            allocator::give_back();
        }
    }

    fn take_envelopes(&mut self) {
        self.more_envelopes = false;
        for peer in self.port.peers() {
            let Shard { port, core, connections, transports, now, questions, .. } = self;
            core.begin_work();
            self.more_envelopes |= port.drain(peer, |envelope| {
                core.handle_envelope(*now, peer as u8, envelope);
                act(core, connections, transports, questions, *now);
                !core.is_spent()
            });
        }
    }

    fn take_events(&mut self) {
        let mut budget = INPUT_PER_TURN;
        let wants_input = self.core.wants_input();
        while let Some(event) = self.connections.poll_event(wants_input && budget > 0, self.now) {
            match event {
                Event::Accepted(socket, listener) => self.take_accepted(socket, listener),
                Event::Received(conn, input) => {
                    let bytes = self.connections.bytes(&input);
                    budget = budget.saturating_sub(bytes.len());
                    match self.connections.lend(&input) {
                        Some(lent) => self.core.handle_lent(self.now, conn, lent),
                        None => self.core.handle_bytes(self.now, conn, bytes),
                    }
                    self.connections.recycle(input);
                }
                Event::Sealed(conn, input) => {
                    budget = budget.saturating_sub(self.connections.bytes(&input).len());
                    self.take_sealed(conn, input);
                }
                Event::Closed(conn, cause) => self.take_closed(conn, cause),
                Event::Writable(conn) => self.send(conn),
                Event::GivenUp(conn, socket, listener) => {
                    let transport = self.transports.remove(conn);
                    let socket = handoff::send(Accepted { socket, listener, transport });
                    self.core.complete_handoff(conn, socket);
                }
            }
            self.act();
        }
    }

    fn take_closed(&mut self, conn: ConnId, cause: CloseCause) {
        if cause == CloseCause::Eof {
            // Perhaps the peer closed only its sending side and waits for the answer.
            self.send(conn);
        }
        self.transports.remove(conn);
        self.connections.discard(conn);
        self.core.handle_close(self.now, conn, cause);
    }

    /// Sends what a live connection has to send, and tells the core when the socket took all of it.
    fn send(&mut self, conn: ConnId) {
        let Some(output) = self.core.output(conn) else { return };
        let before = output.len();
        let sent = match self.transports.get(conn) {
            None => self.connections.send(conn, output),
            Some(_) => sealed::send_sealed(&mut self.connections, &mut self.transports, conn, output),
        };
        let taken = before - output.len();
        if sent != Sent::Broken {
            self.core.count_sent(taken);
        }
        if sent == Sent::All {
            self.core.handle_drained(self.now, conn);
            self.act();
        }
    }

    fn act(&mut self) {
        act(&mut self.core, &mut self.connections, &mut self.transports, &self.questions, self.now);
    }

    /// Hands over what is to be stored, before any envelope of this turn: the store counts on it.
    fn hand_over_batch(&mut self) -> io::Result<()> {
        if let Some(batches) = &self.batches
            && let Some(batch) = self.core.take_batch()
        {
            let sent = batches.send((self.shard, batch));
            return sent.map_err(|_| io::Error::other("nothing is stored any more"));
        }
        Ok(())
    }

    fn push_outboxes(&mut self) {
        self.blocked.clear();
        for peer in self.port.peers() {
            let outbox = self.core.outbox(peer as u8);
            while let Some(envelope) = outbox.pop_front() {
                if let Err(envelope) = self.port.push(peer, envelope) {
                    outbox.push_front(envelope);
                    self.blocked.push(peer);
                    break;
                }
            }
        }
    }

    /// Sends to every connection that has something to send, once. What the core goes on with when it hears that a
    /// socket took all (a retained scan, a queue) is sent in the next turn, so that nobody else waits for its end.
    fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        while let Some(conn) = self.core.poll_dirty() {
            dirty.push(conn);
        }
        for conn in dirty.drain(..) {
            self.send(conn);
        }
        self.dirty = dirty;
        while let Some(conn) = self.core.poll_dirty() {
            self.dirty.push(conn);
        }
    }

    fn is_finished(&self) -> bool {
        let Some(stop_by) = self.stop_by else { return false };
        let late = self.now >= stop_by;
        (self.core.is_stopped() && (late || !self.connections.is_lingering()))
            || self.now >= stop_by + STOP_MARGIN_MS
    }
}

/// The way to the threads that answer.
struct Questions {
    shard: u8,
    sender: Sender<Asked>,
    /// Where queues are read back.
    wishes: Option<Sender<(ShardId, Wanted)>>,
}

impl Questions {
    /// Gives the question back if too many wait, or nobody answers.
    fn ask(&self, conn: ConnId, question: Question) -> Result<(), Question> {
        let asked = Asked { shard: self.shard, conn, question };
        self.sender.try_send(asked).map_err(|refused| refused.into_inner().question)
    }

    /// When the thread that reads has ended, so does the process.
    fn fetch(&self, wanted: Wanted) {
        if let Some(wishes) = &self.wishes {
            let _ = wishes.send((self.shard, wanted));
        }
    }
}

/// The core bounds how many of these there are a second. What a peer chose is shown escaped.
fn report(denial: &Denial) {
    let Denial { wish: Wish { user, client_id, operation, topic }, rule } = denial;
    let what = match operation {
        Operation::Publish => "publish to",
        Operation::Receive => "receive",
        Operation::Subscribe => "subscribe to",
        Operation::Unsubscribe => "unsubscribe from",
    };
    let who = user.as_ref().map_or("an anonymous client".to_string(), |user| format!("user {user:?}"));
    eprintln!("ringmq: denied: {who} as {client_id:?} may not {what} {topic:?}: {rule}");
}

/// Does what the core wants done.
fn act(
    core: &mut Core,
    connections: &mut Connections,
    transports: &mut Transports,
    questions: &Questions,
    now: Time,
) {
    while let Some(action) = core.poll_action() {
        match action {
            Action::Adopt { conn, socket } => {
                sealed::adopt(connections, transports, conn, handoff::receive(socket));
            }
            Action::Close { conn } => {
                let output = transports.finish(conn, core.take_output(conn));
                connections.close(conn, output, now);
            }
            Action::Established { conn } => connections.establish(conn),
            Action::Pause { conn } => connections.pause(conn),
            Action::Resume { conn } => connections.resume(conn),
            Action::Handoff { conn } => connections.give_up(conn),
            Action::Ask { conn, question } => {
                if let Err(question) = questions.ask(conn, question) {
                    let wish = match question {
                        Question::Access(wish) => Some(wish),
                        Question::Login(_) | Question::Control(_) => None,
                    };
                    core.handle_answer(now, conn, Answer::Busy(wish));
                }
            }
            Action::Fetch(wanted) => questions.fetch(*wanted),
            Action::Report(denial) => report(&denial),
        }
    }
}

fn clock(start: Instant) -> Time {
    Time(start.elapsed().as_millis() as u64)
}
