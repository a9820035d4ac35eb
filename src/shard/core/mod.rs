//! The deterministic core of one shard: bytes and a time go in, bytes and a next deadline come out.
//!
//! All MQTT rules live below this type; the shell (`shard::runtime`) only carries bytes.
use super::envelope::{Envelope, Socket};
use super::output::Output;
use crate::limits::Limits;
use crate::time::Time;
use std::collections::VecDeque;
use std::sync::Arc;

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
pub struct CoreConfig {
    /// This shard.
    pub shard: ShardId,
    /// How many shards there are.
    pub shards: u8,
    /// Keys every hash; the same on all shards of one broker.
    pub seed: u64,
    /// The bounds.
    pub limits: Arc<Limits>,
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
    Adopt { conn: ConnId, socket: Socket },
    /// Send the output as far as the socket takes it, then close. The id is dead at once.
    /// The shell keeps the remaining [`Output`] (taken with [`Core::take_output`]) for at most its linger time.
    Close { conn: ConnId },
    /// CONNECT was parsed: go over from single-shot to multishot receive.
    Established { conn: ConnId },
    /// Stop reading this connection until [`Action::Resume`]. Before CONNECT nothing is in flight, so this is a no-op there.
    Pause { conn: ConnId },
    /// Read again.
    Resume { conn: ConnId },
    /// Give the socket up (no operation is in flight) and call [`Core::complete_handoff`] with it.
    Handoff { conn: ConnId },
}

/// A message from an ordinary thread.
#[derive(Debug)]
pub enum Command {
    /// Publish wills, tell version 5 clients 0x8B, close; [`Core::is_stopped`] turns true when all is sent or time is up.
    Shutdown,
}

/// One shard's connections, sessions, subscriptions, retained messages and timers.
pub struct Core {
    actions: VecDeque<Action>,
}

impl Core {
    /// A core without connections.
    pub fn new(_config: CoreConfig, _now: Time) -> Core {
        Core { actions: VecDeque::new() }
    }

    /// A listener accepted `socket`. `None`: the connection limit is reached, the shell closes the socket.
    pub fn handle_accept(&mut self, _now: Time) -> Option<ConnId> {
        None
    }
    /// Bytes came in on `conn`. Unknown (stale) ids are ignored.
    pub fn handle_bytes(&mut self, _now: Time, _conn: ConnId, _bytes: &[u8]) {}
    /// The connection is gone; the shell has forgotten it.
    pub fn handle_close(&mut self, _now: Time, _conn: ConnId, _cause: CloseCause) {}
    /// The socket took everything that was waiting after it had refused some (POLLOUT came and all was sent).
    pub fn handle_drained(&mut self, _now: Time, _conn: ConnId) {}
    /// An envelope from another shard, in order per sender.
    pub fn handle_envelope(&mut self, _now: Time, _from: ShardId, _envelope: Envelope) {}
    /// A command from an ordinary thread.
    pub fn handle_command(&mut self, _now: Time, _command: Command) {}
    /// Time has passed: run whatever is due.
    pub fn handle_deadlines(&mut self, _now: Time) {}
    /// When [`Core::handle_deadlines`] must be called next; `Time::NEVER` if nothing is pending.
    pub fn next_deadline(&self) -> Time {
        Time::NEVER
    }
    /// The last call of a turn: closes the batches for the other shards.
    pub fn end_turn(&mut self, _now: Time) {}
    /// The next thing the shell must do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
    /// A connection that gained output since it was last returned here; each at most once a turn.
    pub fn poll_dirty(&mut self) -> Option<ConnId> {
        None
    }
    /// The unsent bytes of a live connection.
    pub fn output(&mut self, _conn: ConnId) -> Option<&mut Output> {
        None
    }
    /// After [`Action::Close`]: the bytes still to be sent.
    pub fn take_output(&mut self, _conn: ConnId) -> Output {
        Output::default()
    }
    /// After [`Action::Handoff`]: packs the connection, with `socket`, into an envelope for its home shard.
    pub fn complete_handoff(&mut self, _conn: ConnId, _socket: Socket) {}
    /// Envelopes waiting to be pushed to `peer`'s ring, oldest first. The shell pops from the front what the ring takes.
    pub fn outbox(&mut self, _peer: ShardId) -> &mut VecDeque<Envelope> {
        unimplemented!()
    }
    /// False while an outbox is over its mark: the shell leaves received bytes unread, but goes on with everything else.
    pub fn wants_input(&self) -> bool {
        true
    }
    /// True once a shutdown is finished.
    pub fn is_stopped(&self) -> bool {
        false
    }
}
