//! A socket on its way between shards is the number of a file descriptor; here it becomes a socket again.
#![allow(unsafe_code)]
use super::transport::Transport;
use crate::shard::envelope::Socket;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

/// A socket with what the shell knows of it.
#[derive(Debug)]
pub struct Accepted {
    /// The socket.
    pub socket: OwnedFd,
    /// Number of the listener that accepted it.
    pub listener: u16,
    /// What stands between it and the core, if anything does.
    pub transport: Option<Box<Transport>>,
}

/// Gives the descriptor up: whoever gets the number must [`receive`] it exactly once, or it stays open.
pub fn send(accepted: Accepted) -> Socket {
    let Accepted { socket, listener, transport } = accepted;
    Socket { number: socket.into_raw_fd(), listener, transport: transport.map(|transport| transport as _) }
}

/// Takes the descriptor that [`send`] gave up.
pub fn receive(socket: Socket) -> Accepted {
    let Socket { number, listener, transport } = socket;
    let transport = transport.map(|transport| transport.downcast().expect("`send` put a transport there"));
    // SAFETY: the number comes from `send`, which gave up the ownership; envelopes and actions are moved, not copied,
    // and each is taken once, so nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    Accepted { socket, listener, transport }
}
