//! What survives the broker's process: the contract between a shard and whatever stores.
//!
//! A core appends [`Op`]s to its current [`Batch`]; the shell hands the batch over at the end of the turn. Batches are
//! numbered, and the answer is a number: everything up to this batch is stored. Whatever a packet promises is in a
//! batch before the packet is encoded, and the packet leaves when that batch is stored.
//!
//! A publish is one [`Part`] on each shard it touches; [`assembly`] joins the parts, so that they are stored together
//! or not at all. [`record`] has the bytes, [`recovered`] what a start finds, [`queue`] how
//! what is on the disk only comes back.
pub mod assembly;
pub mod durable;
pub mod key;
pub mod queue;
pub mod record;
pub mod recovered;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use smallvec::SmallVec;

/// Number of the format of everything stored; raised when older brokers could not read it any more.
pub const FORMAT: u32 = 1;

/// A kind of record, kept apart from the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum Space {
    /// About the store itself.
    Meta,
    /// Sessions, by number.
    Session,
    /// Subscriptions, by session and filter.
    Subscription,
    /// Payloads that several queue entries share, by number.
    Message,
    /// QoS 1 and 2 messages towards a session, by session and position.
    Queue,
    /// How far such a message has come, where that changed since it was queued; same keys.
    Flight,
    /// QoS 2 packet ids from the client that are not released, by session and id.
    Incoming,
    /// Retained messages, by topic.
    Retained,
    /// Messages that wait for a member of a shared subscription, by position.
    Group,
}

impl Space {
    /// All of them, in the order in which the engine knows them.
    pub const ALL: [Space; 9] = [
        Space::Meta,
        Space::Session,
        Space::Subscription,
        Space::Message,
        Space::Queue,
        Space::Flight,
        Space::Incoming,
        Space::Retained,
        Space::Group,
    ];

    /// All of them, in the order in which they are read: what is referred to comes before what refers to it, and how far
    /// a message has come before the message.
    pub const AS_READ: [Space; 9] = [
        Space::Meta,
        Space::Session,
        Space::Subscription,
        Space::Message,
        Space::Flight,
        Space::Queue,
        Space::Incoming,
        Space::Retained,
        Space::Group,
    ];

    /// Those whose keys begin with the number of a session.
    pub const OF_SESSION: [Space; 5] =
        [Space::Session, Space::Subscription, Space::Queue, Space::Flight, Space::Incoming];

    /// A name for people, and for the engine.
    pub fn name(self) -> &'static str {
        match self {
            Space::Meta => "meta",
            Space::Session => "session",
            Space::Subscription => "subscription",
            Space::Message => "message",
            Space::Queue => "queue",
            Space::Flight => "flight",
            Space::Incoming => "incoming",
            Space::Retained => "retained",
            Space::Group => "group",
        }
    }
}

/// A key within its [`Space`]; [`key`] makes them.
pub type Key = SmallVec<[u8; 24]>;

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Adds or replaces a record.
    Put {
        /// Its kind.
        space: Space,
        /// Its key.
        key: Key,
        /// What [`record`] encoded.
        value: Bytes,
        /// Nothing was ever stored under this key, so that removing it before it is stored leaves nothing to do.
        is_new: bool,
        /// The record in [`Space::Message`] that it refers to, 0 if none.
        holds: u64,
    },
    /// Removes a record.
    Remove {
        /// Its kind.
        space: Space,
        /// Its key.
        key: Key,
        /// What the record held.
        releases: u64,
    },
    /// Removes everything of a session.
    DropSession {
        /// Its number.
        session: u64,
    },
}

impl Op {
    /// Bytes it is accounted for.
    pub fn size(&self) -> usize {
        const MARGIN: usize = 48;
        match self {
            Op::Put { key, value, .. } => MARGIN + key.len() + value.len(),
            Op::Remove { key, .. } => MARGIN + key.len(),
            Op::DropSession { .. } => MARGIN,
        }
    }
}

/// What one shard has to do with one publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Names the publish on all shards; 0 if it touches this one only.
    pub unit: u64,
    /// Whether this is the publisher's shard.
    pub is_root: bool,
    /// How many parts this shard has caused on others (or on itself, later).
    pub forwarded: u32,
    /// It is stored after what came before it from the same shard and is so, too: the messages of one publisher.
    pub in_order: bool,
    /// What is to be stored.
    pub ops: Vec<Op>,
}

/// One entry of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A change by itself.
    Op(Op),
    /// Changes that are stored together.
    Part(Part),
}

/// What one turn of a shard has to store, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// Its number: one more than that of the batch before, from 1.
    pub number: u64,
    /// What it holds.
    pub items: Vec<Item>,
    /// Bytes it is accounted for.
    pub bytes: usize,
}

impl Batch {
    /// Appends an item.
    pub fn push(&mut self, item: Item) {
        self.bytes += match &item {
            Item::Op(op) => op.size(),
            Item::Part(part) => part.ops.iter().map(Op::size).sum::<usize>() + size_of::<Part>(),
        };
        self.items.push(item);
    }
    /// Nothing to store.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
