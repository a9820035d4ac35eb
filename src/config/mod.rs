//! Settings of `ringmq serve`: flags, environment and a file, checked.
pub mod auth;
pub mod bounds;
pub mod command;
pub mod file;
pub mod keys;
pub mod listener;
pub mod machine;
pub mod memory;
pub mod own;
pub mod reference;
pub mod sources;
pub mod store;
pub mod units;

use crate::admin::log::{LogFormat, LogLevel};
use crate::limits::profiles::Profiles;
use crate::limits::{Limits, MAX_SHARDS, QueuePolicy};
use crate::net::listener::Place;
use auth::AuthArgs;
use bounds::BoundsArgs;
use clap::Parser;
use listener::ListenerSettings;
use machine::{MemoryCap, allowed_memory};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;
use store::{StoreArgs, StoreSettings};
use units::{Cores, ListenAddress, Owner, Size, Span};

/// The port that MQTT has at the IANA.
pub const DEFAULT_PORT: u16 = 1883;
/// Most connections (and sessions) that can be asked for.
const MAX_COUNT: u64 = 100_000_000;
/// The largest packet MQTT knows: a Remaining Length of four bytes, and the bytes before it ([MQTT-2.1.4]).
const LARGEST_PACKET: u64 = 268_435_460;

/// A number of something, within [`MAX_COUNT`].
fn count(least: u64) -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::new().range(least..=MAX_COUNT)
}

/// The flags of `ringmq serve`. Each limit is described in [`Limits`].
#[derive(clap::Args, Clone, Debug)]
pub struct ServeArgs {
    /// Address and port to listen on; may be given several times. A port alone means 127.0.0.1, port 0 any free one
    #[arg(
        short = 'p',
        long,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:1883",
        help_heading = "Network"
    )]
    pub listen: Vec<ListenAddress>,
    /// Let clients in that do not say who they are; needed to listen on anything but loopback without passwords
    #[arg(long, help_heading = "Network")]
    pub allow_anonymous: bool,
    /// Text that clients may ask for as Response Information, usually a topic prefix [default: none]
    #[arg(long, value_name = "TEXT", help_heading = "Network")]
    pub response_information: Option<String>,
    /// Offer the authentication method RINGMQ-TEST, which everybody passes who knows its words; for tests
    #[arg(long, hide = true)]
    pub enable_test_auth: bool,
    /// Shards, each a pinned thread (1 to 128) [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=MAX_SHARDS as i64))]
    pub shards: Option<u8>,
    /// Cores to use, like 0,2-5; more shards than cores share them in turn [default: all this process may run on]
    #[arg(long, value_name = "LIST")]
    pub cores: Option<Cores>,
    /// Microseconds that a shard looks for news before it sleeps, for cores that nothing else runs on (0 to 10000)
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub busy_poll: u32,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub auth: AuthArgs,

    /// Connections at a time; one more is closed at once
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_connections, value_parser = count(1), help_heading = "Connections")]
    pub max_connections: usize,
    /// Time from accept to a complete CONNECT (100ms to 1h)
    #[arg(long, value_name = "TIME", default_value_t = Span::millis(Limits::default().connect_timeout_ms), help_heading = "Connections")]
    pub connect_timeout: Span,
    /// Times a client id may connect within a minute to one shard; once more and it is refused for --jail-time. 0: no bound
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_reconnects, help_heading = "Connections")]
    pub max_reconnects: u32,
    /// Time for which a client id is refused that connected too often (1s to 1d)
    #[arg(long, value_name = "TIME", default_value_t = Span::millis(Limits::default().jail_ms), help_heading = "Connections")]
    pub jail_time: Span,
    /// Longest keep alive a client may choose, whole seconds; 0 leaves it to the client (up to 18h)
    #[arg(long, value_name = "TIME", default_value_t = Span::secs(Limits::default().max_keep_alive.into()), help_heading = "Connections")]
    pub max_keep_alive: Span,
    /// Largest packet a client may send (64 to 256M)
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().max_packet.into()), help_heading = "Connections")]
    pub max_packet: Size,
    /// Most that is kept of a CONNECT that comes in pieces, from a client that is not yet connected (64 to 256M)
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().max_connect.into()), help_heading = "Connections")]
    pub max_connect: Size,
    /// Unsent bytes of one connection beyond which QoS 0 is dropped and QoS 1 and 2 wait in the queue (1K to 1G)
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().output_mark as u64), help_heading = "Connections")]
    pub output_mark: Size,
    /// Unsent bytes at which a connection is ended, at least --output-mark (1K to 4G)
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().output_max as u64), help_heading = "Connections")]
    pub output_max: Size,

    /// Sessions, connected or not; a new one beyond it is refused
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_sessions, value_parser = count(1), help_heading = "Sessions")]
    pub max_sessions: usize,
    /// Longest time a session outlives its connection, whole seconds; longer wishes are cut (0 to 49710d)
    #[arg(long, value_name = "TIME", default_value_t = Span::secs(Limits::default().max_session_expiry.into()), help_heading = "Sessions")]
    pub max_session_expiry: Span,
    /// Unfinished QoS 1 and 2 deliveries to one client (1 to 65535)
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_inflight, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Sessions")]
    pub max_inflight: u16,
    /// Unfinished QoS 1 and 2 publishes a client may have (1 to 65535)
    #[arg(long, value_name = "N", default_value_t = Limits::default().receive_maximum, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Sessions")]
    pub receive_maximum: u16,
    /// Messages queued for one session beyond what is in flight
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_queued_messages, value_parser = count(0), help_heading = "Sessions")]
    pub max_queued_messages: usize,
    /// Bytes queued for one session (0 to 1T)
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().max_queued_bytes as u64), help_heading = "Sessions")]
    pub max_queued_bytes: Size,
    /// What gives way when a session's queue is full; refuse: the publisher is told 0x97
    #[arg(long, value_name = "POLICY", default_value = "drop-oldest", value_enum, help_heading = "Sessions")]
    pub queue_policy: Policy,
    /// Subscriptions of one session
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_subscriptions, value_parser = count(1), help_heading = "Sessions")]
    pub max_subscriptions: usize,
    /// Topic aliases a client may set; 0 forbids them (to 65535)
    #[arg(long, value_name = "N", default_value_t = Limits::default().topic_alias_maximum, help_heading = "Sessions")]
    pub topic_alias_max: u16,
    /// Topic aliases used towards a client that allows them (to 65535)
    #[arg(long, value_name = "N", default_value_t = Limits::default().topic_alias_maximum_outgoing, help_heading = "Sessions")]
    pub topic_alias_max_outgoing: u16,

    /// Messages a second that one connection may publish; above it the connection is not read for a while. 0: no bound
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_publish_rate, help_heading = "Messages")]
    pub max_publish_rate: u32,
    /// Payload bytes a second that one connection may publish, likewise. 0: no bound (to 1T)
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().max_publish_bytes), help_heading = "Messages")]
    pub max_publish_bytes: Size,
    /// Levels at the beginning of a subscription's filter that must not be wildcards (0 to 65535)
    #[arg(long, value_name = "N", default_value_t = Limits::default().min_wildcard_depth as u16, help_heading = "Messages")]
    pub min_wildcard_depth: u16,
    /// Highest QoS that is taken and granted (0, 1 or 2)
    #[arg(long, value_name = "QOS", default_value_t = Limits::default().max_qos, value_parser = clap::value_parser!(u8).range(0..=2), help_heading = "Messages")]
    pub max_qos: u8,
    /// Take no retained messages
    #[arg(long, help_heading = "Messages")]
    pub no_retain: bool,
    /// Retained messages on the whole broker
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_retained, value_parser = count(0), help_heading = "Messages")]
    pub max_retained: usize,
    /// Levels in a topic name or filter (1 to 65535)
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_topic_levels as u16, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Messages")]
    pub max_topic_levels: u16,
    /// Messages kept for a shared subscription none of whose members is connected
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_group_queue, value_parser = count(0), help_heading = "Messages")]
    pub max_group_queue: usize,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub bounds: BoundsArgs,

    /// Memory that the broker uses at most, in bytes or as a share of what it may have (its control group's limit, or the machine's); before it, publishers are slowed down, then new clients, then messages are refused. 0: no bound
    #[arg(long, value_name = "SIZE", default_value_t = MemoryCap::Share(75), help_heading = "Operation")]
    pub max_memory: MemoryCap,
    /// User (and group) to become once the ports are open and the certificates are read, by name or number; files that are read again later must be readable for it [default: who starts the broker]
    #[arg(long, value_name = "USER:GROUP", help_heading = "Operation")]
    pub user: Option<Owner>,
    /// What is written to standard error; info: who comes and goes, too
    #[arg(long, value_name = "LEVEL", default_value = "info", value_enum, help_heading = "Operation")]
    pub log_level: LogLevel,
    /// What a line of the log looks like
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum, help_heading = "Operation")]
    pub log_format: LogFormat,
    /// What survives the broker, and where.
    #[command(flatten)]
    pub store: StoreArgs,

    /// Time between two publications of the $SYS topics; 0 turns them off (100ms to 1d)
    #[arg(long, value_name = "TIME", default_value_t = Span::millis(Limits::default().sys_interval_ms), help_heading = "Operation")]
    pub sys_interval: Span,
    /// Time that a shutdown may take for what is still to be sent (0 to 10m)
    #[arg(long, value_name = "TIME", default_value_t = Span::millis(Limits::default().shutdown_ms), help_heading = "Operation")]
    pub shutdown_time: Span,
    /// Batches waiting for a busy shard beyond which publishers are not read (16 to 1000000)
    #[arg(long, value_name = "N", default_value_t = Limits::default().overflow_mark as u32, value_parser = clap::value_parser!(u32).range(16..=1_000_000), help_heading = "Operation")]
    pub overflow_mark: u32,
}

/// [`QueuePolicy`] as a flag.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// The oldest queued message.
    DropOldest,
    /// The new message.
    DropNewest,
    /// The publisher.
    Refuse,
}

impl Default for ServeArgs {
    /// As if `ringmq serve` had been given no flags.
    fn default() -> ServeArgs {
        #[derive(Parser)]
        struct Alone {
            #[command(flatten)]
            args: ServeArgs,
        }
        Alone::parse_from(["ringmq"]).args
    }
}

/// Settings that fit together and this machine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen, and how.
    pub listeners: Vec<ListenerSettings>,
    /// For each shard the core it is pinned to.
    pub placement: Vec<usize>,
    /// How long a shard looks for news before it sleeps.
    pub busy_poll: Duration,
    /// The bounds of the whole broker.
    pub limits: Limits,
    /// The bounds of everybody.
    pub profiles: Profiles,
    /// Whether the authentication method for tests is offered.
    pub test_auth: bool,
    /// Who may come in, and who may do what.
    pub auth: AuthArgs,
    /// Where what must survive is kept; nothing survives without it.
    pub store: Option<StoreSettings>,
    /// Bytes of memory the broker uses at most; 0 for any number.
    pub max_memory: u64,
}

impl ServeArgs {
    /// Checks what clap cannot. `usable`: the cores this process may run on, ascending; `listeners`: all of them.
    /// The error is one sentence with the remedy.
    pub fn check(&self, usable: &[usize], listeners: Vec<ListenerSettings>) -> Result<Settings, String> {
        for (index, ListenerSettings { place, .. }) in listeners.iter().enumerate() {
            let is_any_port = matches!(place, Place::Tcp(address) if address.port() == 0);
            if !is_any_port && listeners[..index].iter().any(|other| other.place == *place) {
                return Err(format!("{place} is to be listened on twice; give each address once"));
            }
        }
        self.auth.check()?;
        let (placement, limits, store) = (self.placement(usable)?, self.limits()?, self.store.check()?);
        let (test_auth, auth) = (self.enable_test_auth, self.auth.clone());
        let max_memory = self.max_memory.bytes(allowed_memory())?;
        let busy_poll = Duration::from_micros(self.busy_poll.into());
        let profiles = Profiles::from(limits.clone());
        Ok(Settings { listeners, placement, busy_poll, limits, profiles, test_auth, auth, store, max_memory })
    }

    fn placement(&self, usable: &[usize]) -> Result<Vec<usize>, String> {
        let cores = match &self.cores {
            None => usable,
            Some(Cores(cores)) => {
                if let Some(core) = cores.iter().find(|core| !usable.contains(core)) {
                    return Err(format!(
                        "--cores names core {core}, but this process may run on {} only; name some of these",
                        Cores(usable.to_vec())
                    ));
                }
                cores
            }
        };
        let shards = self.shards.map_or(cores.len(), usize::from);
        if shards > MAX_SHARDS {
            return Err(format!(
                "{shards} cores would make {shards} shards, and {MAX_SHARDS} are the most; add --shards {MAX_SHARDS}"
            ));
        }
        if cores.is_empty() {
            return Err("the cores this process may run on are not known; name some with --cores".to_string());
        }
        Ok(cores.iter().copied().cycle().take(shards).collect())
    }

    fn limits(&self) -> Result<Limits, String> {
        let within_ms =
            |flag, span: Span, range: RangeInclusive<Span>| within(flag, span, range).map(|s| s.millis);
        let size =
            |flag, size: Size, range: RangeInclusive<Size>| within(flag, size, range).map(|s| s.0 as usize);
        let secs = |flag, span: Span, most: u64| match span.millis % 1000 {
            0 => within(flag, span, Span::secs(0)..=Span::secs(most)).map(|s| s.millis / 1000),
            _ => Err(format!(
                "{flag} {span} is not a whole number of seconds; MQTT knows no shorter unit here"
            )),
        };
        let limits = Limits {
            max_connections: self.max_connections,
            max_sessions: self.max_sessions,
            connect_timeout_ms: within_ms(
                "--connect-timeout",
                self.connect_timeout,
                Span::millis(100)..=Span::secs(3600),
            )?,
            max_packet: size("--max-packet", self.max_packet, Size(64)..=Size(LARGEST_PACKET))? as u32,
            max_connect: size("--max-connect", self.max_connect, Size(64)..=Size(LARGEST_PACKET))? as u32,
            receive_maximum: self.receive_maximum,
            max_inflight: self.max_inflight,
            topic_alias_maximum: self.topic_alias_max,
            topic_alias_maximum_outgoing: self.topic_alias_max_outgoing,
            max_session_expiry: secs("--max-session-expiry", self.max_session_expiry, u32::MAX.into())?
                as u32,
            max_keep_alive: secs("--max-keep-alive", self.max_keep_alive, u16::MAX.into())? as u16,
            max_queued_messages: self.max_queued_messages,
            max_queued_bytes: size("--max-queued-bytes", self.max_queued_bytes, Size(0)..=Size(1 << 40))?,
            queue_window_messages: self.store.queue_window_messages as usize,
            queue_window_bytes: size(
                "--queue-window-bytes",
                self.store.queue_window_bytes,
                Size(1 << 10)..=Size(1 << 30),
            )?,
            queue_policy: match self.queue_policy {
                Policy::DropOldest => QueuePolicy::DropOldest,
                Policy::DropNewest => QueuePolicy::DropNewest,
                Policy::Refuse => QueuePolicy::Refuse,
            },
            output_mark: size("--output-mark", self.output_mark, Size(1 << 10)..=Size(1 << 30))?,
            output_max: size("--output-max", self.output_max, Size(1 << 10)..=Size(1 << 32))?,
            max_topic_levels: self.max_topic_levels.into(),
            max_subscriptions: self.max_subscriptions,
            max_retained: self.max_retained,
            max_group_queue: self.max_group_queue,
            overflow_mark: self.overflow_mark as usize,
            store_mark: size("--store-mark", self.store.store_mark, Size(64 << 10)..=Size(1 << 34))?,
            max_reconnects: self.max_reconnects,
            jail_ms: within_ms("--jail-time", self.jail_time, Span::secs(1)..=Span::secs(86_400))?,
            max_publish_rate: self.max_publish_rate,
            max_publish_bytes: size("--max-publish-bytes", self.max_publish_bytes, Size(0)..=Size(1 << 40))?
                as u64,
            min_wildcard_depth: self.min_wildcard_depth.into(),
            max_qos: self.max_qos,
            retain_available: !self.no_retain,
            response_information: self.response_information.clone(),
            sys_interval_ms: match self.sys_interval.millis {
                0 => 0,
                _ => within_ms("--sys-interval", self.sys_interval, Span::millis(100)..=Span::secs(86_400))?,
            },
            shutdown_ms: within_ms("--shutdown-time", self.shutdown_time, Span::millis(0)..=Span::secs(600))?,
            ..Limits::default()
        };
        let limits = self.bounds.bound(limits)?;
        if limits.output_max < limits.output_mark {
            return Err(format!(
                "--output-max {} is less than --output-mark {}; raise the one or lower the other",
                self.output_max, self.output_mark
            ));
        }
        Ok(limits)
    }
}

fn within<T: PartialOrd + Display + Copy>(
    flag: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<T, String> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(format!("{flag} {value} is out of range; give something from {} to {}", range.start(), range.end()))
}

#[cfg(test)]
mod tests;
