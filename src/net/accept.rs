//! Accepting: one multishot operation for each listening socket, and a pause when something is wanting.
use super::ring::{Completion, Op, Payload, Ring, Token};
use super::warn::Warning;
use crate::auth::Origin;
use crate::time::Time;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// Milliseconds without accepting after accept failed for want of something (descriptors, memory).
const PAUSE_MS: u64 = 500;

/// Where an accepted socket comes from. An IPv4 peer of an IPv6 socket is one of IPv4.
pub fn origin(socket: &OwnedFd, listener: u16) -> Origin {
    let peer = SockRef::from(socket).peer_addr().ok().and_then(|address| address.as_socket());
    let peer = peer.map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()));
    Origin { listener, peer, identity: None }
}

struct Listening {
    socket: OwnedFd,
    /// When to accept again after a pause.
    again: Option<Time>,
}

/// The listening sockets of one shard. Empty once it accepts no more.
pub struct Acceptor {
    listening: Vec<Listening>,
    failed: Warning,
}

impl Acceptor {
    /// Begins to accept.
    pub fn new(ring: &mut Ring, listeners: Vec<OwnedFd>) -> Acceptor {
        let listening = listeners.into_iter().map(|socket| Listening { socket, again: None }).collect();
        let mut acceptor = Acceptor { listening, failed: Warning::default() };
        (0..acceptor.listening.len()).for_each(|index| acceptor.arm(ring, index));
        acceptor
    }

    fn arm(&mut self, ring: &mut Ring, index: usize) {
        let entry = &mut self.listening[index];
        entry.again = None;
        ring.accept(entry.socket.as_raw_fd(), Token { op: Op::Accept, slot: index as u32, generation: 0 });
    }

    /// Accepts no more; what the kernel accepted meanwhile is closed.
    pub fn stop(&mut self, ring: &mut Ring) {
        self.listening.drain(..).for_each(|entry| ring.close(entry.socket, true));
    }

    /// The accepted socket and the number of its listener, if that is what completed.
    pub fn take(&mut self, ring: &mut Ring, completion: Completion, now: Time) -> Option<(OwnedFd, u16)> {
        let Completion { token, result, more, payload } = completion;
        let index = token.slot as usize;
        let entry = self.listening.get_mut(index)?;
        // These are about the one connection that was to be accepted.
        let passing = matches!(-result, libc::ECONNABORTED | libc::EPROTO | libc::EINTR | libc::EAGAIN);
        if result < 0 && !passing {
            entry.again = Some(now + PAUSE_MS);
            self.failed.say(now, || explain(result));
        } else if !more {
            self.arm(ring, index);
        }
        match payload {
            Payload::Accepted(socket) => Some((socket, index as u16)),
            _ => None,
        }
    }

    /// Accepts again where a pause is over.
    pub fn handle_deadlines(&mut self, ring: &mut Ring, now: Time) {
        for index in 0..self.listening.len() {
            if self.listening[index].again.is_some_and(|again| again <= now) {
                self.arm(ring, index);
            }
        }
    }

    /// When [`Acceptor::handle_deadlines`] is due.
    pub fn next_deadline(&self) -> Time {
        self.listening.iter().filter_map(|entry| entry.again).min().unwrap_or(Time::NEVER)
    }
}

fn explain(result: i32) -> String {
    let error = io::Error::from_raw_os_error(-result);
    let remedy = match -result {
        libc::EMFILE => "raise the limit of open files (ulimit -n) or lower --max-connections",
        libc::ENFILE => "raise fs.file-max",
        _ => "it is tried again",
    };
    format!("no connection is accepted for {PAUSE_MS} ms: {error}; {remedy}")
}
