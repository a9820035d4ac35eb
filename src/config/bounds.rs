//! Flags of `ringmq serve` about how much one client, or all of them, may have of something.
use super::units::Size;
use super::within;
use crate::limits::Limits;

/// Bytes of a topic name or filter, and of a will's payload, that MQTT can say.
const LONGEST: u64 = 65_535;

/// Bounds on connections, topics, wills and retained messages. Each is described in [`Limits`].
#[derive(clap::Args, Clone, Debug)]
pub struct BoundsArgs {
    /// Connections at a time from one address (of IPv6: from one /64); one more is closed at once. 0: no bound
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_connections_per_address, help_heading = "Connections")]
    pub max_connections_per_address: u32,
    /// Connections a second from one address (of IPv6: from one /64), on average; one more is closed at once. 0: no bound
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_connection_rate_per_address, value_parser = clap::value_parser!(u32).range(..=1_000_000), help_heading = "Connections")]
    pub max_connection_rate_per_address: u32,
    /// Connections that may come from one address at once before --max-connection-rate-per-address counts (1 to 1000000)
    #[arg(long, value_name = "N", default_value_t = Limits::default().connection_burst_per_address, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Connections")]
    pub connection_burst_per_address: u32,
    /// Clients of one user that are connected at a time; one more is refused. 0: no bound
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_connections_per_user, help_heading = "Connections")]
    pub max_connections_per_user: u32,
    /// Bytes of retained messages on the whole broker, with their topics (0 to 1T)
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().max_retained_bytes as u64), help_heading = "Messages")]
    pub max_retained_bytes: Size,
    /// Bytes of a topic name or filter (1 to 65535)
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_topic_length as u16, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Messages")]
    pub max_topic_length: u16,
    /// Largest payload of a will message, in bytes (0 to 65535)
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().max_will as u64), help_heading = "Sessions")]
    pub max_will: Size,
}

impl BoundsArgs {
    /// `limits` with these bounds.
    pub(super) fn bound(&self, limits: Limits) -> Result<Limits, String> {
        let size = |flag, size, most| within(flag, size, Size(0)..=Size(most)).map(|size| size.0 as usize);
        Ok(Limits {
            max_connections_per_address: self.max_connections_per_address,
            max_connection_rate_per_address: self.max_connection_rate_per_address,
            connection_burst_per_address: self.connection_burst_per_address,
            max_connections_per_user: self.max_connections_per_user,
            max_retained_bytes: size("--max-retained-bytes", self.max_retained_bytes, 1 << 40)?,
            max_topic_length: self.max_topic_length.into(),
            max_will: size("--max-will", self.max_will, LONGEST)?,
            ..limits
        })
    }
}
