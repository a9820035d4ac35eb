//! Sending: one plain system call that does not block.
use crate::shard::output::{MAX_SLICES, Output};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::io::IoSlice;
use std::os::fd::OwnedFd;

/// How far sending came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// All is sent.
    All,
    /// The socket is full.
    Blocked,
    /// The connection failed; sending is of no use any more.
    Broken,
}

/// Sends as much of `output` as the socket takes: one call, or several when there are very many pieces.
pub fn send(socket: &OwnedFd, output: &mut Output) -> Sent {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    while !output.is_empty() {
        let (outcome, wished) = match output.single() {
            Some(bytes) => (rustix::net::send(socket, bytes, flags), bytes.len()),
            None => {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let filled = output.slices(&mut slices);
                let wished = slices[..filled].iter().map(|slice| slice.len()).sum();
                let mut control = SendAncillaryBuffer::default();
                (sendmsg(socket, &slices[..filled], &mut control, flags), wished)
            }
        };
        match outcome {
            Ok(count) => {
                output.advance(count);
                if count < wished {
                    return Sent::Blocked;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Sent::Blocked,
            Err(_) => return Sent::Broken,
        }
    }
    Sent::All
}
