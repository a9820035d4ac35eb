//! What happens on the sockets of a shard.
use super::ring::Lent;
use crate::shard::core::{CloseCause, ConnId};
use std::os::fd::OwnedFd;

/// What happened, in order.
#[derive(Debug)]
pub enum Event {
    /// The listener with this number accepted.
    Accepted(OwnedFd, u16),
    /// Bytes came. Read them with [`super::connections::Connections::bytes`], then [`super::connections::Connections::recycle`] them.
    Received(ConnId, Input),
    /// The same of a connection with a transport between it and the core.
    Sealed(ConnId, Input),
    /// The peer closed or the connection failed: nothing more will come. [`super::connections::Connections::discard`] must follow; what
    /// is sent before it may still reach a peer that closed only its sending side.
    Closed(ConnId, CloseCause),
    /// The socket has room again after it had refused some.
    Writable(ConnId),
    /// As asked with [`super::connections::Connections::give_up`]: nothing is in flight on the socket, and it is forgotten here.
    GivenUp(ConnId, OwnedFd, u16),
}

/// Received bytes.
#[derive(Debug)]
pub enum Input {
    /// In the ring's buffer.
    Lent(Lent),
    /// Copied out while the connection was paused.
    Held(Vec<u8>),
}
