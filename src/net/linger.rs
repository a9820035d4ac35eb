//! Closed connections whose last bytes are still under way.
//!
//! A socket that is closed while unread input waits is reset, and a reset destroys what the peer has not read yet:
//! the DISCONNECT or CONNACK that says why. So the last bytes are sent, the sending side is shut, and the socket is
//! read (and forgotten) until the peer closes too, for a bounded time.
use super::ring::{Op, Ring, Token};
use super::send::{Sent, send};
use crate::shard::output::Output;
use crate::time::Time;
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use slab::Slab;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};

/// Milliseconds that a closed connection may take for its last bytes and the peer's close; then it is cut.
pub const LINGER_MS: u64 = 5_000;
/// Closed connections of one shard that linger at a time; beyond it the oldest is cut.
pub const MAX_LINGERING: usize = 4096;
/// Unsent bytes of the lingering connections of one shard; beyond it the oldest is cut.
pub const MAX_LINGERING_BYTES: usize = 64 << 20;
/// Bytes read (and forgotten) from one lingering connection before the others get their turn.
const FORGET_AT_ONCE: usize = 256 << 10;

struct Lingering {
    socket: OwnedFd,
    output: Output,
    generation: u32,
}

/// The lingering connections of one shard.
#[derive(Default)]
pub struct Linger {
    entries: Slab<Lingering>,
    /// In the order of their deadlines; those that ended early leave a stale note.
    order: VecDeque<(Time, usize, u32)>,
    bytes: usize,
    generation: u32,
}

impl Linger {
    /// Sends what the socket takes now, and looks after the rest. `in_flight`: an operation of the connection is.
    pub fn close(
        &mut self,
        ring: &mut Ring,
        socket: OwnedFd,
        mut output: Output,
        in_flight: bool,
        now: Time,
    ) {
        let silent = output.is_empty();
        let sent = send(&socket, &mut output);
        if sent == Sent::Broken {
            ring.close(socket, in_flight);
            return;
        }
        if silent {
            // Nothing said that could get lost; what came meanwhile is read so that the peer sees an end, not a reset.
            forget(&socket);
            ring.close(socket, in_flight);
            return;
        }
        if in_flight {
            ring.cancel_all(&socket);
        }
        self.generation = self.generation.wrapping_add(1);
        self.bytes += output.len();
        let generation = self.generation;
        let slot = self.entries.insert(Lingering { socket, output, generation });
        self.order.push_back((now + LINGER_MS, slot, generation));
        self.go_on(ring, slot);
        while self.order.len() > MAX_LINGERING || self.bytes > MAX_LINGERING_BYTES {
            self.cut_oldest(ring);
        }
    }

    /// The poll of a lingering connection completed.
    pub fn handle_ready(&mut self, ring: &mut Ring, token: Token) {
        let slot = token.slot as usize;
        let Some(entry) = self.entries.get_mut(slot).filter(|entry| entry.generation == token.generation)
        else {
            return;
        };
        if !entry.output.is_empty() {
            let before = entry.output.len();
            let sent = send(&entry.socket, &mut entry.output);
            self.bytes -= before - entry.output.len();
            if sent == Sent::Broken {
                self.end(ring, slot);
                return;
            }
        } else if forget(&entry.socket) {
            self.end(ring, slot);
            return;
        }
        self.go_on(ring, slot);
    }

    /// Waits for room in the socket, or, when all is sent, for the peer to close.
    fn go_on(&mut self, ring: &mut Ring, slot: usize) {
        let entry = &self.entries[slot];
        let token = Token { op: Op::Linger, slot: slot as u32, generation: entry.generation };
        if entry.output.is_empty() {
            // It fails when the peer has reset the connection; then the poll completes at once.
            let _ = shutdown(&entry.socket, Shutdown::Write);
            ring.poll(entry.socket.as_raw_fd(), libc::POLLIN | libc::POLLRDHUP, token);
        } else {
            ring.poll(entry.socket.as_raw_fd(), libc::POLLOUT, token);
        }
    }

    fn end(&mut self, ring: &mut Ring, slot: usize) {
        let entry = self.entries.remove(slot);
        self.bytes -= entry.output.len();
        ring.close(entry.socket, true);
        while self.order.front().is_some_and(|&(_, slot, generation)| !self.is_live(slot, generation)) {
            self.order.pop_front();
        }
    }

    fn is_live(&self, slot: usize, generation: u32) -> bool {
        self.entries.get(slot).is_some_and(|entry| entry.generation == generation)
    }

    fn cut_oldest(&mut self, ring: &mut Ring) {
        if let Some((_, slot, generation)) = self.order.pop_front()
            && self.is_live(slot, generation)
        {
            self.end(ring, slot);
        }
    }

    /// Cuts those whose time is up.
    pub fn handle_deadlines(&mut self, ring: &mut Ring, now: Time) {
        while self.order.front().is_some_and(|&(deadline, ..)| deadline <= now) {
            self.cut_oldest(ring);
        }
    }

    /// When [`Linger::handle_deadlines`] is due.
    pub fn next_deadline(&self) -> Time {
        self.order.front().map_or(Time::NEVER, |&(deadline, ..)| deadline)
    }

    /// Nobody lingers.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Reads what waits, within a bound; true when the peer has closed or the connection failed.
fn forget(socket: &OwnedFd) -> bool {
    let mut scratch = [0u8; 16 << 10];
    for _ in 0..FORGET_AT_ONCE / scratch.len() {
        match recv(socket, &mut scratch[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return true,
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return false,
            Err(_) => return true,
        }
    }
    false
}
