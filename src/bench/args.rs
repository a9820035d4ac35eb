//! The flags of `ringmq bench`.
use super::error::BenchError;
use super::open::Target;
use crate::client::stream::{Dial, TlsArgs};
use crate::codec::Version;
use clap::{Args, Subcommand};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// The flags of `ringmq bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// What is measured.
    #[command(subcommand)]
    pub scenario: Box<Scenario>,
}

/// What is measured.
#[derive(Subcommand)]
pub enum Scenario {
    /// Publisher i to subscriber i.
    Pairs(TrafficArgs),
    /// Every publisher to every subscriber.
    FanOut(TrafficArgs),
    /// Many publishers to few subscribers with a wildcard.
    FanIn(TrafficArgs),
    /// Many publishers to groups of shared subscriptions.
    Shared(TrafficArgs),
    /// Pairs over many topics, matched by wildcards among many loaded filters.
    Wildcard(TrafficArgs),
    /// Pairs at a fixed rate; latency counts from the scheduled send time.
    Latency(TrafficArgs),
    /// Subscribed connections that do nothing: memory each and CPU.
    Idle(ConnectionArgs),
    /// Opens connections as fast as possible or at a rate.
    Connect(ConnectionArgs),
    /// Connects, subscribes, disconnects, again and again.
    Churn(ConnectionArgs),
    /// Stores many retained messages, then delivers them to new subscribers.
    Retained(StoreArgs),
    /// Loads the queue of an offline session, then unloads it.
    Offline(StoreArgs),
    /// A scenario of the EMQ Open MQTT Benchmark Suite by its name.
    Suite(SuiteArgs),
    /// Runs a server that forwards publishes with no protocol rules: the practical ceiling.
    Relay(RelayArgs),
    /// Measures this generator against its own relay.
    SelfTest(SelfTestArgs),
}

/// What every scenario takes.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// Host name or address of the broker.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// TCP port of the broker.
    #[arg(long, default_value_t = 1883)]
    pub port: u16,
    /// Protocol version: 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(3..=5))]
    pub protocol: u8,
    /// Load threads.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Cores the load threads are pinned to, in turn, e.g. 1 or 2,3.
    #[arg(long, value_delimiter = ',')]
    pub cores: Vec<usize>,
    /// Length of the measured window in seconds.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Seconds before it.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Seconds without any arrival after which missing messages are lost.
    #[arg(long, default_value_t = 3.0)]
    pub quiet: f64,
    /// Keep alive in seconds; 0 turns it off.
    #[arg(long, default_value_t = 300)]
    pub keep_alive: u16,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub tls: TlsArgs,
    /// Speak WebSocket.
    #[arg(long)]
    pub ws: bool,
    /// Path of the WebSocket.
    #[arg(long, default_value = "/mqtt")]
    pub ws_path: String,
    /// User name, when the broker wants one.
    #[arg(long)]
    pub username: Option<String>,
    /// Password.
    #[arg(long, requires = "username")]
    pub password: Option<String>,
    /// Process ids of the broker: its CPU and memory are read from /proc.
    #[arg(long, value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
    /// No progress line.
    #[arg(long)]
    pub no_progress: bool,
}

impl CommonArgs {
    /// Where the broker is.
    ///
    /// # Errors
    /// The host name has no address.
    pub fn target(&self) -> Result<Target, BenchError> {
        let addresses = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(BenchError::io("looking up the broker's address"))?;
        let mut addresses: Vec<SocketAddr> = addresses.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let address =
            *addresses.first().ok_or_else(|| BenchError::Usage(format!("{} has no address", self.host)))?;
        let login = self.username.clone().map(|name| (name, self.password.clone().unwrap_or_default()));
        let mut dial = Dial::default();
        if self.ws {
            dial = dial.with_websocket(&self.host, self.port, &self.ws_path);
        }
        if self.tls.is_wanted() {
            let trust = self.tls.trust().map_err(BenchError::Usage)?;
            dial = dial.with_tls(&trust, &self.host).map_err(BenchError::Usage)?;
        }
        Ok(Target { address, dial, version: self.version(), keep_alive: self.keep_alive, login })
    }

    /// The protocol version.
    pub fn version(&self) -> Version {
        match self.protocol {
            3 => Version::V31,
            5 => Version::V5,
            _ => Version::V311,
        }
    }

    /// Refuses what cannot be meant.
    ///
    /// # Errors
    /// No thread, or a length that is not a positive number.
    pub fn check(&self) -> Result<(), BenchError> {
        if self.threads == 0 || self.threads > 1024 {
            return Err(BenchError::Usage("--threads is 1 to 1024".into()));
        }
        let lengths = [self.seconds, self.warmup, self.quiet];
        if self.seconds <= 0.0 || lengths.iter().any(|s| !(0.0..=864_000.0).contains(s)) {
            return Err(BenchError::Usage(
                "--seconds, --warmup and --quiet are 0 to 864000 seconds, --seconds more than 0".into(),
            ));
        }
        Ok(())
    }
}

/// Flags of the scenarios in which messages flow.
#[derive(Args, Clone, Debug)]
pub struct TrafficArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: CommonArgs,
    /// QoS of publishes and subscriptions [default: 0; latency: 1].
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: Option<u8>,
    /// Payload length in bytes, at least 16.
    #[arg(long, default_value_t = 64)]
    pub payload: usize,
    /// Publishers [default: 10; fan-out: 1].
    #[arg(long)]
    pub publishers: Option<usize>,
    /// Subscribers [default: as many as publishers; fan-out: 100; fan-in: 1].
    #[arg(long)]
    pub subscribers: Option<usize>,
    /// Topics of each publisher, used in turn [default: 1; wildcard: 100].
    #[arg(long)]
    pub topics: Option<usize>,
    /// Filters loaded besides those that match [default: 0; wildcard: 100000].
    #[arg(long)]
    pub filters: Option<usize>,
    /// Groups of shared subscriptions.
    #[arg(long, default_value_t = 1)]
    pub groups: usize,
    /// Messages of one publisher under way at the same time, delivered and acknowledged
    /// [default: 1000, fan-in, fan-out and shared: 500, QoS 1: 200, QoS 2: 20; at most 2 MiB of payload].
    #[arg(long)]
    pub window: Option<usize>,
    /// Messages per second over all publishers, open loop [default: none; latency: 5000].
    #[arg(long)]
    pub rate: Option<f64>,
    /// Write the latencies to this file as a histogram log.
    #[arg(long)]
    pub histogram: Option<PathBuf>,
}

/// Flags of the scenarios about connections.
#[derive(Args, Clone, Debug)]
pub struct ConnectionArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: CommonArgs,
    /// Connections (idle, connect); cycles end with the time (churn).
    #[arg(long, default_value_t = 10_000)]
    pub connections: usize,
    /// Connections started per second [default: as fast as they finish].
    #[arg(long)]
    pub rate: Option<f64>,
    /// Handshakes under way at the same time.
    #[arg(long, default_value_t = 64)]
    pub at_once: usize,
    /// Filters each connection subscribes to [default: 1; connect: 0].
    #[arg(long)]
    pub filters: Option<usize>,
}

/// Flags of the scenarios about stored messages.
#[derive(Args, Clone, Debug)]
pub struct StoreArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: CommonArgs,
    /// QoS of publishes and subscriptions.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Payload length in bytes, at least 16.
    #[arg(long, default_value_t = 64)]
    pub payload: usize,
    /// Messages stored (retained: each on its own topic).
    #[arg(long, default_value_t = 10_000)]
    pub messages: usize,
    /// Subscribers that are given them (retained), or sessions that queue them (offline).
    #[arg(long, default_value_t = 1)]
    pub subscribers: usize,
    /// Messages of the publisher under way at the same time.
    #[arg(long, default_value_t = 100)]
    pub window: usize,
}

/// Flags of `suite`.
#[derive(Args, Clone, Debug)]
pub struct SuiteArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: CommonArgs,
    /// Name in the suite, e.g. p2p-50K-50K-50K-50K or fanout-5-1000-5-250K; `list` shows them.
    pub name: String,
    /// Factor on connections and rates, e.g. 0.05 for a small machine.
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
    /// Payload length in bytes (the suite's is 16).
    #[arg(long, default_value_t = 16)]
    pub payload: usize,
    /// Write the latencies to this file as a histogram log.
    #[arg(long)]
    pub histogram: Option<PathBuf>,
}

/// Flags of `relay`.
#[derive(Args, Clone, Debug)]
pub struct RelayArgs {
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub listen: SocketAddr,
    /// Core it is pinned to.
    #[arg(long)]
    pub core: Option<usize>,
}

/// Flags of `self-test`.
#[derive(Args, Clone, Debug)]
pub struct SelfTestArgs {
    /// Core of the generator.
    #[arg(long, default_value_t = 1)]
    pub core: usize,
    /// Core of the relay.
    #[arg(long, default_value_t = 0)]
    pub relay_core: usize,
    /// Length of each measurement in seconds.
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Payload length in bytes, at least 16.
    #[arg(long, default_value_t = 64)]
    pub payload: usize,
    /// Print the results as JSON.
    #[arg(long)]
    pub json: bool,
}
