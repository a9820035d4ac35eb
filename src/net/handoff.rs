//! A socket on its way between shards is the number of a file descriptor; here it becomes a socket again.
#![allow(unsafe_code)]
use crate::shard::envelope::Socket;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

/// Gives the descriptor up: whoever gets the number must [`receive`] it exactly once, or it stays open.
pub fn send(socket: OwnedFd) -> Socket {
    Socket(socket.into_raw_fd())
}

/// Takes the descriptor that [`send`] gave up.
pub fn receive(socket: Socket) -> OwnedFd {
    // SAFETY: the number comes from `send`, which gave up the ownership; envelopes and actions are moved, not copied,
    // and each is taken once, so nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(socket.0) }
}
