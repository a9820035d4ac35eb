//! What shards say to each other.
use crate::auth::Origin;
use crate::auth::crowd::Seat;
use crate::metrics::Counters;
use crate::router::InterestChange;
use crate::session::message::{Message, SessionKey};
use crate::session::outgoing::GroupKey;
use crate::shard::core::ConnId;
use bytes::Bytes;
use std::any::Any;
use std::collections::VecDeque;

/// A connected socket on its way to another shard. Only the shell (`net::handoff`) gives it meaning.
#[derive(Debug)]
pub struct Socket {
    /// The number of a file descriptor that nobody else owns.
    pub number: i32,
    /// Number of the listener that accepted it.
    pub listener: u16,
    /// What stands between the socket and the core, if anything does.
    pub transport: Option<Box<dyn Any + Send>>,
}

impl Socket {
    /// A plain socket of the first listener.
    pub fn plain(number: i32) -> Socket {
        Socket { number, listener: 0, transport: None }
    }
}

impl PartialEq for Socket {
    fn eq(&self, other: &Socket) -> bool {
        self.number == other.number
    }
}

impl Eq for Socket {}

/// One message from one shard to another; order is kept per pair of shards.
#[derive(Debug)]
pub enum Envelope {
    /// Consecutive PUBLISH packets of one publisher, topic and QoS, as they came. Above QoS 0 only where nothing is
    /// stored.
    Run {
        /// The packets.
        bytes: Bytes,
        /// Whether they are in the form of version 5.
        v5: bool,
        /// Who published them.
        publisher: SessionKey,
    },
    /// A message for the receiving shard's subscribers.
    Publish(Box<RoutedMessage>),
    /// A message for one member of a group.
    Shared(Box<SharedMessage>),
    /// What the sender is interested in.
    Announce(Box<Announcement>),
    /// The answer: announcements up to `number` are recorded. `retained` is the last retained publish of the
    /// sender that the asking shard was not sent for what it announced.
    Announced {
        /// Number of the announcement.
        number: u64,
        /// Number of a retained publish.
        retained: u64,
    },
    /// A retained publish, to the shard that owns its topic.
    Retain(Box<RoutedMessage>),
    /// The owner has applied the sender's retained publishes up to this number.
    Retained(u64),
    /// Asks an owner for retained messages.
    Scan(Box<ScanRequest>),
    /// The next part of them.
    Scanned(Box<ScanPart>),
    /// Asks the registrar of a client id for its home.
    Locate {
        /// Fingerprint of the client id.
        client: u128,
        /// The connection that waits for the answer.
        connection: ConnId,
    },
    /// The registrar's answer.
    Home {
        /// Fingerprint of the client id.
        client: u128,
        /// The connection that waits.
        connection: ConnId,
        /// The shard its session lives on.
        home: u8,
    },
    /// One claim on a client id ended: its session did, or its connection came to no session of its own. The
    /// registrar forgets the id with the last one.
    Ended {
        /// Fingerprint of the client id.
        client: u128,
    },
    /// A connection moves to its session's home.
    Handoff(Box<Handoff>),
    /// Something of this publisher gave the sender much work.
    Heavy {
        /// The publisher.
        publisher: SessionKey,
        /// Work of one of its messages.
        work: u32,
    },
    /// A connection of the sender goes on when it is answered, after everything that was sent before.
    Mark(ConnId),
    /// The answer.
    Marked(ConnId),
    /// The sender is being shut down, and has sent every will that goes out with it.
    WillsSent,
    /// A shard's counters, for `$SYS`.
    Counters(Box<Counters>),
}

/// What crosses a ring.
pub trait Weighed {
    /// Bytes that it keeps in memory, about; the same each time.
    fn weight(&self) -> usize;
}

impl Weighed for Envelope {
    #[inline]
    fn weight(&self) -> usize {
        let carried = match self {
            Envelope::Run { bytes, .. } => bytes.len(),
            Envelope::Publish(routed) | Envelope::Retain(routed) => routed.message.size(),
            Envelope::Shared(shared) => shared.message.size(),
            Envelope::Announce(announcement) => announcement.changes.iter().map(InterestChange::weight).sum(),
            Envelope::Scan(request) => request.filter.len(),
            Envelope::Scanned(part) => part.messages.iter().map(|kept| kept.message.size()).sum(),
            Envelope::Handoff(handoff) => handoff.bytes.len(),
            _ => 0,
        };
        size_of::<Envelope>() + carried
    }
}

const _: () = assert!(size_of::<Envelope>() <= 64, "an envelope is copied into a ring");

/// A message with its place among the retained publishes of the sending shard.
#[derive(Debug)]
pub struct RoutedMessage {
    /// The message.
    pub message: Message,
    /// Number among the sender's retained publishes, 0 if it is none.
    pub retained: u64,
    /// The publish it belongs to, if what that changes is stored together; else 0.
    pub unit: u64,
}

/// A message on its way to a member of a group.
#[derive(Debug)]
pub struct SharedMessage {
    /// The group.
    pub group: GroupKey,
    /// The message; QoS, RETAIN and ids of the delivery are the member's to decide.
    pub message: Message,
    /// Times it was sent on because the receiving shard had no connected member.
    pub hops: u8,
    /// It goes into the group's queue, which the receiving shard owns.
    pub for_queue: bool,
    /// The publish it belongs to, if what that changes is stored together; else 0.
    pub unit: u64,
}

/// What a shard is interested in.
#[derive(Debug)]
pub struct Announcement {
    /// Number of this announcement; one is answered after the other.
    pub number: u64,
    /// What changed.
    pub changes: Vec<InterestChange>,
}

/// Asks an owner for retained messages.
#[derive(Debug)]
pub struct ScanRequest {
    /// The asking shard's number of this scan.
    pub scan: u64,
    /// Which topics.
    pub filter: Box<str>,
    /// Begin behind this topic.
    pub after: Option<Box<str>>,
    /// Messages at most.
    pub limit: usize,
}

/// Some of the retained messages asked for.
#[derive(Debug)]
pub struct ScanPart {
    /// The asking shard's number of this scan.
    pub scan: u64,
    /// Messages in the order of their topics.
    pub messages: Vec<RetainedMessage>,
    /// By shard: the last of its retained publishes that the owner had applied.
    pub applied: Box<[u64]>,
    /// Where to go on; `None` when this was all.
    pub after: Option<Box<str>>,
}

/// A retained message and the publish it came from.
#[derive(Clone, Debug)]
pub struct RetainedMessage {
    /// The message.
    pub message: Message,
    /// The shard of its publisher.
    pub origin: u8,
    /// Number among that shard's retained publishes.
    pub number: u64,
}

/// A connection on its way to its session's home.
#[derive(Debug)]
pub struct Handoff {
    /// The socket.
    pub socket: Socket,
    /// CONNECT and whatever came behind it.
    pub bytes: Bytes,
    /// The client id the broker chose, if the client sent none.
    pub assigned: Option<Box<str>>,
    /// Where the connection comes from.
    pub origin: Origin,
    /// The place it takes up there, where that is bounded.
    pub seat: Option<Seat>,
}

/// Envelopes on their way to one shard that are not in its ring yet, oldest first.
#[derive(Debug, Default)]
pub struct Outbox {
    envelopes: VecDeque<Envelope>,
    weight: usize,
}

impl Outbox {
    /// Puts one behind all others.
    pub fn push_back(&mut self, envelope: Envelope) {
        self.weight += envelope.weight();
        self.envelopes.push_back(envelope);
    }
    /// Puts the one back that was taken last.
    pub fn push_front(&mut self, envelope: Envelope) {
        self.weight += envelope.weight();
        self.envelopes.push_front(envelope);
    }
    /// Takes the oldest.
    pub fn pop_front(&mut self) -> Option<Envelope> {
        let envelope = self.envelopes.pop_front()?;
        self.weight -= envelope.weight();
        Some(envelope)
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.envelopes.len()
    }
    /// None.
    pub fn is_empty(&self) -> bool {
        self.envelopes.is_empty()
    }
    /// Bytes that they keep in memory, about.
    pub fn weight(&self) -> usize {
        self.weight
    }
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Envelope> {
        self.envelopes.iter()
    }
}
