//! One connection of a client, what a client asks for on it, and what it knows of its session.
use ringmq::codec::QoS;
use ringmq::time::Time;
use std::collections::{BTreeMap, VecDeque};

/// What the client asks for in CONNECT.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Clean Start.
    pub clean: bool,
    /// Session Expiry Interval, seconds; a 3.1.1 client has 0 with CleanSession and the broker's longest without.
    pub expiry: u32,
    /// Receive Maximum.
    pub receive_maximum: u16,
    /// Maximum Packet Size.
    pub max_packet: Option<u32>,
    /// Topic Alias Maximum.
    pub aliases: u16,
    /// A will to this topic, and the seconds it is delayed.
    pub will: Option<(&'static str, u32)>,
}

/// What a SUBSCRIBE asks for.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    /// The filter.
    pub filter: &'static str,
    /// Maximum QoS.
    pub qos: QoS,
    /// No Local; version 5 only.
    pub no_local: bool,
    /// Subscription Identifier; version 5 only.
    pub id: Option<u32>,
}

/// What waits for SUBACK or UNSUBACK.
pub enum Asked {
    /// The filters, each with the number of what was asked for at the oracle.
    Subscribe(Vec<(&'static str, usize)>),
    Unsubscribe(&'static str),
}

/// A connection.
pub struct Link {
    pub pipe: usize,
    pub bytes: Vec<u8>,
    pub wish: Wish,
    pub is_up: bool,
    pub expiry: u32,
    /// Acknowledgements that are due, oldest first, and whether each frees one of the receive maximum.
    pub due: VecDeque<(Vec<u8>, Option<u16>)>,
    /// Packet ids of what the broker has in flight, as far as the client can know.
    pub inflight: BTreeMap<u16, QoS>,
    pub asked: BTreeMap<u16, Asked>,
    pub aliases: BTreeMap<u16, String>,
    pub own_aliases: BTreeMap<String, u16>,
    pub alias_maximum: u16,
    pub receive_maximum: u16,
    pub was_present: bool,
    /// A delivery without DUP came.
    pub saw_fresh: bool,
    /// The broker has said that it ends the connection because its memory is short.
    pub must_go: bool,
}

impl Link {
    /// A connection that nothing came on.
    pub fn new(pipe: usize, wish: Wish) -> Link {
        Link {
            pipe,
            bytes: Vec::new(),
            is_up: false,
            expiry: wish.expiry,
            wish,
            due: VecDeque::new(),
            inflight: BTreeMap::new(),
            asked: BTreeMap::new(),
            aliases: BTreeMap::new(),
            own_aliases: BTreeMap::new(),
            alias_maximum: 0,
            receive_maximum: u16::MAX,
            was_present: false,
            saw_fresh: false,
            must_go: false,
        }
    }
}

/// A message the client sends at QoS 1 or 2.
pub struct Outgoing {
    pub id: u16,
    pub message: usize,
    pub is_released: bool,
    pub size: usize,
}

/// What a client knows of its session at the broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Belief {
    /// There is none.
    Absent,
    /// It is there at least until then.
    Present(Time),
    /// There may be one, and nobody knows of what state: the next CONNECT is clean.
    Unknown,
}
