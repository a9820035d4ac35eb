//! Where a connection comes from, as its transport tells it.
use core::net::SocketAddr;

/// What is known of a connection before its first byte. Kept until CONNACK.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origin {
    /// Number of the listener that accepted it, in the order of the settings.
    pub listener: u16,
    /// The address of the peer; `None` where the transport knows none (a Unix socket).
    pub peer: Option<SocketAddr>,
    /// User name that the transport vouches for: that of a verified client certificate.
    pub identity: Option<Box<str>>,
}
