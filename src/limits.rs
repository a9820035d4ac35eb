//! Every bound of the broker: its unit, its default, and what happens at it.
pub mod profiles;

/// Most shards one broker runs (the width of [`crate::router::ShardSet`]). More cores than this: refused at start.
pub const MAX_SHARDS: usize = 128;

/// Bytes that the filters of one session may cost, counted by [`filter_cost`]; one more gets SUBACK 0x97. A hundred
/// thousand filters of usual length fit.
pub const MAX_FILTER_COST: usize = 64 * 1024 * 1024;

/// Bytes of deliveries that one session keeps until they are acknowledged; at the bound further ones queue.
pub const MAX_INFLIGHT_BYTES: usize = 64 * 1024 * 1024;

/// What a level of a filter costs beside its text: its node in a tree.
pub const LEVEL_COST: usize = 64;

/// Bytes that a filter costs, about.
pub fn filter_cost(filter: &str) -> usize {
    filter.len() + LEVEL_COST * (1 + memchr::memchr_iter(b'/', filter.as_bytes()).count())
}

/// Bytes that a retained message of `size` bytes (topic, properties and payload) costs, about.
pub fn retained_cost(size: usize) -> usize {
    size + RETAINED
}

/// What a retained message costs beside its bytes: its place in the tree of topics, and what is known of it.
const RETAINED: usize = 256;

/// Bytes around the payload in a packet that the broker adds when it forwards it, usually far fewer.
const FORWARD_MARGIN: usize = 64 * 1024;

/// The limits an operator can set, as they hold for one client or for the whole broker ([`profiles::Profiles`]).
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections on the whole broker; one more is closed at accept.
    pub max_connections: usize,
    /// Connections from one address (of IPv6: one network of 64 bits); one more is closed at once. 0: as many as it
    /// likes. Counts those that came since it is set.
    pub max_connections_per_address: u32,
    /// Connections a second from one address (of IPv6: one network of 64 bits), on average; one more is closed at once. 0:
    /// likewise.
    pub max_connection_rate_per_address: u32,
    /// Of these, so many may come at once.
    pub connection_burst_per_address: u32,
    /// Connected clients of one verified user; one more gets CONNACK 0x97 (3.1.1: 3). 0: likewise.
    pub max_connections_per_user: u32,
    /// Sessions on the whole broker, connected or not; a new one beyond it gets CONNACK 0x97 (3.1.1: 3).
    pub max_sessions: usize,
    /// Milliseconds from accept to a complete CONNECT; then the connection is closed.
    pub connect_timeout_ms: u64,
    /// Largest packet a client may send, in bytes; announced in CONNACK, more gets DISCONNECT 0x95.
    pub max_packet: u32,
    /// Bytes of a CONNECT (or AUTH) that does not come in one piece: so much is kept for somebody of whom nothing is known.
    /// More ends the connection.
    pub max_connect: u32,
    /// Receive Maximum towards clients: unfinished QoS 2 publishes a client may have; more gets 0x93.
    pub receive_maximum: u16,
    /// QoS 1 and 2 deliveries in flight to one client (its own Receive Maximum may be lower); further ones queue.
    pub max_inflight: u16,
    /// Topic aliases a client may set on one connection (0 forbids them).
    pub topic_alias_maximum: u16,
    /// Topic aliases the broker uses towards a client that allows them.
    pub topic_alias_maximum_outgoing: u16,
    /// Longest session expiry, seconds; longer requests (and 3.1.1 sessions with CleanSession 0) are cut to it.
    pub max_session_expiry: u32,
    /// Longest keep alive, seconds; 0 leaves it to the client, else version 5 clients are told Server Keep Alive.
    pub max_keep_alive: u16,
    /// Messages queued for one session beyond what is in flight; at the bound [`Limits::queue_policy`] decides.
    pub max_queued_messages: usize,
    /// Bytes queued for one session (or one shared-subscription group); at the bound [`Limits::queue_policy`] decides.
    pub max_queued_bytes: usize,
    /// With a data directory: messages at the head of one session's queue that are in memory; those behind are on the
    /// disk only, and are read when half of these are gone.
    pub queue_window_messages: usize,
    /// Bytes of them, likewise; one message may exceed it.
    pub queue_window_bytes: usize,
    /// What gives way when a session's queue is full.
    pub queue_policy: QueuePolicy,
    /// Bytes of unsent output of one connection beyond which QoS 0 messages for it are dropped and counted
    /// and QoS 1 and 2 wait in the session's queue.
    pub output_mark: usize,
    /// Bytes of unsent output at which a connection is ended with DISCONNECT 0x97, but see [`Limits::output_bound`].
    pub output_max: usize,
    /// Levels in a topic name or filter; more is refused (0x90 / 0x8F).
    pub max_topic_levels: usize,
    /// Bytes in a topic name or filter, likewise.
    pub max_topic_length: usize,
    /// Payload bytes of a will; a CONNECT with a larger one gets 0x97 (3.1.1: 3).
    pub max_will: usize,
    /// Subscriptions of one session; one more gets SUBACK 0x97.
    pub max_subscriptions: usize,
    /// Retained messages on the whole broker; a new topic beyond it gets PUBACK 0x97 or is dropped and counted at QoS 0.
    pub max_retained: usize,
    /// Bytes of retained messages on the whole broker, each counted by [`retained_cost`]; what would be too much is
    /// refused or dropped likewise, and what was retained under its topic stays.
    pub max_retained_bytes: usize,
    /// Messages in the queue of a shared-subscription group that has no connected member; the oldest gives way. It has
    /// [`Limits::max_queued_bytes`] too.
    pub max_group_queue: usize,
    /// Envelopes waiting for one full ring beyond which the shard stops reading its connections.
    pub overflow_mark: usize,
    /// Filters of one SUBSCRIBE or UNSUBSCRIBE, or of a session that ended, that are done at once, with everybody else's
    /// packets before the next so many. Not a setting.
    pub filters_at_once: usize,
    /// Bytes a shard has handed over to be stored, and that are not, beyond which it stops reading its connections.
    pub store_mark: usize,
    /// Times a client id may connect within a minute to one shard; once more and it is refused with 0x9F for
    /// [`Limits::jail_ms`]. 0: as often as it likes.
    pub max_reconnects: u32,
    /// Milliseconds for which a client id is refused that connected too often.
    pub jail_ms: u64,
    /// Messages a second that one connection may publish, with a second's worth at once; above it the connection is not
    /// read for a while. 0: as many as it likes.
    pub max_publish_rate: u32,
    /// Payload bytes a second, likewise.
    pub max_publish_bytes: u64,
    /// Levels at the beginning of a filter that must not be wildcards; a subscription to another gets SUBACK 0xA2.
    pub min_wildcard_depth: usize,
    /// Highest QoS the broker grants and takes (0, 1 or 2).
    pub max_qos: u8,
    /// Whether retained messages are taken; when not, CONNACK says Retain Available 0.
    pub retain_available: bool,
    /// Response Information for clients that ask for it (3.2.2.3.15), usually a topic prefix; none by default.
    pub response_information: Option<String>,
    /// Milliseconds between two publications of `$SYS`; 0 turns it off.
    pub sys_interval_ms: u64,
    /// Milliseconds that a shutdown may take for sending what is still to be sent.
    pub shutdown_ms: u64,
}

impl Limits {
    /// Bytes of unsent output at which a connection is ended: [`Limits::output_max`], or more where the largest packet
    /// needs it, which anybody may be sent while less than [`Limits::output_mark`] waits. `largest`: bytes of the largest
    /// packet that anybody may send.
    pub fn output_bound(&self, largest: u32) -> usize {
        self.output_max.max(self.output_mark + largest as usize + FORWARD_MARGIN)
    }
}

/// What gives way when a session's queue is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueuePolicy {
    /// The oldest queued message is dropped and counted.
    DropOldest,
    /// The new message is dropped and counted.
    DropNewest,
    /// The publisher is refused with 0x97 when one matching session on its own shard is full, before anything is delivered.
    Refuse,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_connections: 1_000_000,
            max_connections_per_address: 0,
            max_connection_rate_per_address: 0,
            connection_burst_per_address: 20,
            max_connections_per_user: 0,
            max_sessions: 2_000_000,
            connect_timeout_ms: 10_000,
            max_packet: 2 * 1024 * 1024,
            max_connect: 256 * 1024,
            receive_maximum: 1024,
            max_inflight: 1024,
            topic_alias_maximum: 64,
            topic_alias_maximum_outgoing: 16,
            max_session_expiry: 7 * 24 * 3600,
            max_keep_alive: 0,
            max_queued_messages: 10_000,
            max_queued_bytes: 16 * 1024 * 1024,
            queue_window_messages: 1_000,
            queue_window_bytes: 256 * 1024,
            queue_policy: QueuePolicy::DropOldest,
            output_mark: 1024 * 1024,
            output_max: 8 * 1024 * 1024,
            max_topic_levels: 200,
            max_subscriptions: 100_000,
            max_retained: 1_000_000,
            max_retained_bytes: 1024 * 1024 * 1024,
            max_topic_length: 65_535,
            max_will: 65_535,
            max_group_queue: 10_000,
            overflow_mark: 4096,
            filters_at_once: 1024,
            store_mark: 16 * 1024 * 1024,
            max_reconnects: 0,
            jail_ms: 60_000,
            max_publish_rate: 0,
            max_publish_bytes: 0,
            min_wildcard_depth: 0,
            max_qos: 2,
            retain_available: true,
            response_information: None,
            sys_interval_ms: 10_000,
            shutdown_ms: 3_000,
        }
    }
}
