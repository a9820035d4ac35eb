//! The deterministic core of one shard: bytes and a time go in, bytes and a next deadline come out.
//!
//! All MQTT rules live below this type; the shell (`shard::runtime`) only carries bytes. Each file beside this one
//! is a chapter of the same `impl Core`: `input` cuts packets, `connect` and `registrar` bring a client to its
//! session, `publish` and `deliver` move messages, `acknowledge` finishes them, `acknowledged_runs` takes rows of both at once, `subscribe`, `retained` and `shared`
//! are what their names say, `refill` reads queues back, `close` ends connections and sessions.
mod acknowledge;
mod acknowledged_runs;
mod audit;
mod authenticate;
mod authorize;
mod budget;
mod changes;
mod close;
mod connect;
mod connection;
mod credentials;
mod crowd;
mod deadlines;
mod deliver;
mod durable;
mod heavy;
mod hold;
mod input;
mod jail;
mod leave;
mod lent;
mod mesh;
mod notice;
mod permits;
mod pressure;
mod profiles;
mod publish;
mod rate;
mod refill;
mod registrar;
mod restore;
mod retained;
mod scans;
mod shared;
mod shutdown;
mod subscribe;
mod sys;
#[cfg(test)]
mod tests;

pub use close::Parting;
pub use notice::{Notice, Who};

use super::envelope::{Envelope, Outbox, Socket};
use super::output::{BufferPool, Output};
use super::timer_wheel::{TimerId, TimerWheel};
use crate::auth::Origin;
use crate::auth::access::Policy;
use crate::auth::decision::{Answer, Question};
use crate::limits::Limits;
use crate::limits::profiles::Profiles;
use crate::memory::Memory;
use crate::metrics::Counters;
use crate::router::{Keys, Router};
use crate::session::{Session, Will};
use crate::slots::Slots;
use crate::store::queue::{Found, Wanted};
use crate::time::Time;
pub use authorize::Denial;
use close::AfterWill;
use connection::Connection;
use deadlines::Timer;
use durable::Store;
use hashbrown::HashTable;
pub use lent::LEND_FROM;
use notice::Notices;
use registrar::Registrar;
use retained::Retained;
use scans::Scans;
use shared::GroupQueues;
use shutdown::Stopping;
use std::collections::VecDeque;
use std::sync::Arc;
use subscribe::Announcements;
use sys::Sys;

/// Timers that run out in one turn; more wait for the next. Thousands of connections that came at once time out at once,
/// and nobody else is to wait until all of them are closed.
const TIMERS_AT_ONCE: usize = 64;
/// Bytes in one outbox from which on clients are not read, as with [`Limits::overflow_mark`].
pub(crate) const OUTBOX_BYTES: usize = 1 << 20;

/// Number of a shard, `0..shards`.
pub type ShardId = u8;

/// A connection of this shard: slot in the connection table, and a generation so that a stale id is recognised.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ConnId {
    /// Index into the connection table; reused after the close.
    pub slot: u32,
    /// Distinguishes the users of one slot.
    pub generation: u32,
}

/// What a core needs to know when it is made.
#[derive(Clone)]
pub struct CoreConfig {
    /// This shard.
    pub shard: ShardId,
    /// How many shards there are.
    pub shards: u8,
    /// Keys every hash; the same on all shards of one broker.
    pub seed: u64,
    /// The bounds.
    pub limits: Arc<Profiles>,
    /// Who may come in, and who may do what.
    pub policy: Arc<Policy>,
}

/// How a connection ended, as the network saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseCause {
    /// The peer closed (end of file).
    Eof,
    /// Reading or writing failed.
    Error,
}

/// What the shell must do; taken with [`Core::poll_action`] after each input.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Register `socket` under `conn`; arm receive.
    Adopt {
        /// The connection's new id.
        conn: ConnId,
        /// Its socket.
        socket: Socket,
    },
    /// Send the output as far as the socket takes it, then close. The id is dead at once.
    /// The shell takes what is left to send with [`Core::take_output`] and keeps trying for at most its linger time.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// The connection stays on this shard: go over from single-shot to multishot receive.
    Established {
        /// The connection.
        conn: ConnId,
    },
    /// Stop reading this connection until [`Action::Resume`]. Before [`Action::Established`] receive is single-shot,
    /// and this means that it is not to be armed again.
    Pause {
        /// The connection.
        conn: ConnId,
    },
    /// Read again.
    Resume {
        /// The connection.
        conn: ConnId,
    },
    /// Have an ordinary thread find something out, and tell with [`Core::handle_answer`]: what it found, or at once that
    /// it cannot be asked.
    Ask {
        /// The connection that it is about.
        conn: ConnId,
        /// What to find out.
        question: Question,
    },
    /// Have a stretch of a queue read, and tell with [`Command::Found`] what it holds.
    Fetch(Box<Wanted>),
    /// Tell the operator that a client was not allowed something.
    Report(Box<Denial>),
    /// Give the socket up (no operation is in flight) and call [`Core::complete_handoff`] with it.
    Handoff {
        /// The connection.
        conn: ConnId,
    },
}

/// A message from an ordinary thread.
#[derive(Debug)]
pub enum Command {
    /// Everything up to this batch of the shard is stored.
    Stored(u64),
    /// How much memory is in use, and what that asks for.
    Memory(Memory),
    /// What [`Action::Fetch`] asked for.
    Found(Found),
    /// Space for storing runs short: nothing that must be stored is taken on; or there is enough of it again.
    StorageFull(bool),
    /// Publish wills, tell version 5 clients 0x8B, close; [`Core::is_stopped`] turns true when all is sent or time is up.
    Shutdown,
    /// What was found out about a connection of this shard ([`Action::Ask`]).
    Answer {
        /// The connection.
        conn: ConnId,
        /// The answer.
        answer: Answer,
    },
    /// New rules.
    Policy(Arc<Policy>),
    /// End the connections of this user, as an administrator would.
    EndUser(Box<str>),
    /// End the connection of this client id, likewise.
    EndClient(Box<str>),
    /// Other bounds from now on. What a client was told in CONNACK holds for it until it connects anew.
    Limits(Arc<Profiles>),
}

/// One shard's connections, sessions, subscriptions, retained messages and timers.
pub struct Core {
    shard: ShardId,
    shards: u8,
    keys: Keys,
    /// What holds for the whole broker.
    limits: Arc<Limits>,
    /// What holds for one client.
    profiles: profiles::Table,
    policy: Arc<Policy>,
    /// Whether there are rules about topics: the one question on the way of every message.
    restricts: bool,
    /// Whether somebody else is asked about what they do not decide.
    asks: bool,
    denials: authorize::Denials,
    jail: jail::Jail,
    permits: permits::Permits,
    /// The memory in use, of the whole broker.
    memory: Memory,
    connections: Slots<Connection>,
    generations: u32,
    sessions: Slots<Session>,
    /// Slots of sessions by client id.
    directory: HashTable<u32>,
    sessions_made: u64,
    registrar: Registrar,
    router: Router,
    retained: Retained,
    scans: Scans,
    group_queues: GroupQueues,
    announcements: Announcements,
    /// Envelopes for the other shards, by shard.
    outboxes: Box<[Outbox]>,
    /// Envelopes of this shard to itself.
    to_self: VecDeque<Envelope>,
    /// Connections to be ended as soon as nothing is in the middle of using them.
    doomed: VecDeque<close::Doomed>,
    /// Wills to be published as soon as nothing else is being published.
    wills: VecDeque<(Box<Will>, AfterWill)>,
    timers: TimerWheel<Timer>,
    /// The timer of each session without a connection, by slot.
    session_timers: Vec<Option<TimerId>>,
    actions: VecDeque<Action>,
    dirty: VecDeque<ConnId>,
    closing: VecDeque<(ConnId, Output)>,
    buffers: BufferPool,
    lent: lent::Lent,
    counters: Counters,
    sys: Sys,
    stopping: Stopping,
    /// Other shards that have sent their last wills.
    wills_sent: u8,
    /// Ends a shutdown that others hold up.
    shutdown_timer: Option<TimerId>,
    notices: Notices,
    /// Absent where nothing survives the process.
    store: Option<Box<Store>>,
    /// Work done so far, beside the steps of the router, and up to where it may go on now; see [`budget`].
    work: u64,
    work_until: u64,
    /// Some outbox may have no room: set when that is seen, until it is looked for.
    is_crowded: bool,
    /// Connections whose input waits for a later turn.
    put_off: VecDeque<ConnId>,
    heavy: heavy::Heavy,
    /// Sessions that ended and have filters in the router still.
    leaving: VecDeque<leave::Leaving>,
}

impl Core {
    /// A core without connections.
    pub fn new(config: CoreConfig, now: Time) -> Core {
        let CoreConfig { shard, shards, seed, limits, policy } = config;
        let keys = Keys::new(seed);
        let mut core = Core {
            shard,
            shards,
            connections: Slots::new(),
            generations: 0,
            sessions: Slots::new(),
            directory: HashTable::new(),
            sessions_made: 0,
            registrar: Registrar::new(shards),
            router: Router::new(shard, shards, keys.clone(), seed),
            retained: Retained::new(shards),
            scans: Scans::new(seed),
            group_queues: GroupQueues::new(seed),
            announcements: Announcements::new(shards),
            outboxes: (0..shards).map(|_| Outbox::default()).collect(),
            to_self: VecDeque::new(),
            doomed: VecDeque::new(),
            wills: VecDeque::new(),
            timers: TimerWheel::new(now),
            session_timers: Vec::new(),
            actions: VecDeque::new(),
            dirty: VecDeque::new(),
            closing: VecDeque::new(),
            buffers: BufferPool::default(),
            lent: lent::Lent::default(),
            counters: Counters::default(),
            sys: Sys::new(shards),
            stopping: Stopping::No,
            wills_sent: 0,
            shutdown_timer: None,
            notices: Notices::default(),
            store: None,
            work: 0,
            work_until: 0,
            is_crowded: false,
            put_off: VecDeque::new(),
            heavy: heavy::Heavy::new(shards),
            leaving: VecDeque::new(),
            keys,
            restricts: policy.restricts(),
            asks: policy.asks,
            denials: authorize::Denials::default(),
            jail: jail::Jail::default(),
            permits: permits::Permits::default(),
            memory: Memory::default(),
            profiles: profiles::Table::new(limits.clone(), &Memory::default(), 0),
            limits: limits.common.clone(),
            policy,
        };
        core.arm_sys(now);
        core
    }

    /// A listener accepted a socket. `None`: the broker stops, or too many came from there; the shell closes it. The shell, which alone sees the
    /// sockets of all shards, keeps [`Limits::max_connections`].
    pub fn handle_accept(&mut self, now: Time, origin: Origin) -> Option<ConnId> {
        if self.stopping != Stopping::No {
            return None;
        }
        let seat = self.seat_at(&origin).ok()?;
        self.counters.connections_opened += 1;
        let conn = self.open(now, origin);
        self.take_seat(conn.slot, seat);
        Some(conn)
    }

    /// The transport has learned more about where `conn` comes from (a TLS handshake, a PROXY header), before any byte
    /// of MQTT. Unknown (stale) ids are ignored.
    pub fn handle_origin(&mut self, now: Time, conn: ConnId, origin: Origin) {
        if self.is_live(conn) {
            self.learn_origin(now, conn.slot, origin);
        }
    }

    /// Bytes came in on `conn`. Unknown (stale) ids are ignored.
    pub fn handle_bytes(&mut self, now: Time, conn: ConnId, bytes: &[u8]) {
        self.begin_work();
        self.handle_more_bytes(now, conn, bytes);
    }

    /// Further bytes that came at the same time as those of [`Core::handle_bytes`].
    pub fn handle_more_bytes(&mut self, now: Time, conn: ConnId, bytes: &[u8]) {
        if self.is_live(conn) {
            let published = self.publishes_received();
            self.receive(now, conn.slot, bytes);
            self.settle(now);
            self.slow_down(now, conn, published, bytes.len());
        }
    }

    /// The connection is gone; the shell has forgotten it.
    pub fn handle_close(&mut self, now: Time, conn: ConnId, cause: CloseCause) {
        if self.is_live(conn) {
            self.lose_connection(now, conn.slot, cause);
            self.settle(now);
        }
    }

    /// The socket took all of the output.
    pub fn handle_drained(&mut self, now: Time, conn: ConnId) {
        if self.is_live(conn) {
            self.drained(now, conn.slot);
            self.settle(now);
        }
    }

    /// An envelope from another shard, in order per sender.
    pub fn handle_envelope(&mut self, now: Time, from: ShardId, envelope: Envelope) {
        self.open_envelope(now, from, envelope);
        self.settle(now);
    }

    /// A command from an ordinary thread.
    pub fn handle_command(&mut self, now: Time, command: Command) {
        match command {
            Command::Stored(number) => self.handle_stored(number),
            Command::Memory(memory) => self.handle_memory(now, memory),
            Command::Found(found) => self.take_found(now, found),
            Command::StorageFull(is_full) => self.handle_storage_full(is_full),
            Command::Shutdown => self.begin_shutdown(now),
            Command::Answer { conn, answer } => self.handle_answer(now, conn, answer),
            Command::Policy(policy) => self.take_policy(now, policy),
            Command::EndUser(user) => self.end_clients(now, |_, session| {
                session.access.as_ref().is_some_and(|access| access.user.as_deref() == Some(&*user))
            }),
            Command::EndClient(id) => self.end_clients(now, |_, session| *session.client_id == *id),
            Command::Limits(profiles) => self.take_limits(now, profiles),
        }
        self.settle(now);
    }

    /// Time has passed: run what is due, or a part of it if that is much. [`Core::next_deadline`] knows of the rest.
    pub fn handle_deadlines(&mut self, now: Time) {
        for _ in 0..TIMERS_AT_ONCE {
            let Some((_, timer)) = self.timers.pop_expired(now) else { break };
            self.expire(now, timer);
            self.settle(now);
        }
        self.answer_put_off(now);
        self.settle(now);
        self.leave_further(now, self.limits.filters_at_once);
        self.go_on_with_input(now);
    }

    /// When [`Core::handle_deadlines`] must be called next; `Time::NEVER` if nothing is pending. In the past: with the
    /// next turn, and after whatever came in until then.
    pub fn next_deadline(&self) -> Time {
        if self.has_put_off() || self.has_put_off_input() || self.is_leaving() {
            Time(0)
        } else {
            self.timers.next_deadline()
        }
    }

    /// The next thing the shell must do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// A connection that gained output since it was last returned here; each at most once a turn.
    pub fn poll_dirty(&mut self) -> Option<ConnId> {
        while let Some(conn) = self.dirty.pop_front() {
            if let Some(connection) = self.connections.get_mut(conn.slot as usize)
                && connection.generation == conn.generation
            {
                connection.is_dirty = false;
                return Some(conn);
            }
        }
        None
    }

    /// The unsent bytes of a live connection that may leave.
    pub fn output(&mut self, conn: ConnId) -> Option<&mut Output> {
        let connection = self.connections.get_mut(conn.slot as usize)?;
        if connection.generation != conn.generation {
            return None;
        }
        Some(match &mut connection.gated {
            None => &mut connection.output,
            Some(gated) => &mut gated.ready,
        })
    }

    /// After [`Action::Close`]: the bytes still to be sent.
    pub fn take_output(&mut self, conn: ConnId) -> Output {
        let at = self.closing.iter().position(|(closing, _)| *closing == conn);
        at.and_then(|at| self.closing.remove(at)).map(|(_, output)| output).unwrap_or_default()
    }

    /// Envelopes waiting to be pushed to `peer`'s ring, oldest first. The shell pops from the front what the ring takes.
    pub fn outbox(&mut self, peer: ShardId) -> &mut Outbox {
        &mut self.outboxes[usize::from(peer)]
    }

    /// False while an outbox is over its mark, or too much waits to be stored: the shell leaves received bytes unread, but goes on with everything else.
    pub fn wants_input(&self) -> bool {
        self.outboxes.iter().all(|outbox| self.takes_more(outbox)) && !self.is_store_behind()
    }

    fn takes_more(&self, outbox: &Outbox) -> bool {
        outbox.len() < self.limits.overflow_mark && outbox.weight() < OUTBOX_BYTES
    }

    /// True once a shutdown is finished.
    pub fn is_stopped(&self) -> bool {
        self.stopping == Stopping::Done
    }

    /// The socket took `count` bytes of some connection's output.
    pub fn count_sent(&mut self, count: usize) {
        self.counters.bytes_sent += count as u64;
    }

    /// This shard's counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn is_live(&self, conn: ConnId) -> bool {
        self.connections.get(conn.slot as usize).is_some_and(|c| c.generation == conn.generation)
    }

    fn id(&self, slot: u32) -> ConnId {
        ConnId { slot, generation: self.connections[slot as usize].generation }
    }

    /// Does what was put off because something else was in the middle of its work. Ends, because each round
    /// consumes what it handles and only a session's end or a will can add to it.
    fn settle(&mut self, now: Time) {
        loop {
            if let Some(envelope) = self.to_self.pop_front() {
                self.open_envelope(now, self.shard, envelope);
            } else if let Some(doomed) = self.doomed.pop_front() {
                self.end_doomed(now, doomed);
            } else if let Some((will, after)) = self.wills.pop_front() {
                self.publish_will(now, *will, after);
            } else if let Some(abandoned) = self.announcements.abandoned() {
                self.promise(now, abandoned);
            } else {
                return;
            }
        }
    }
}
