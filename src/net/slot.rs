//! What is known of one socket, and what ought to be in flight on it.
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// A receive is in flight.
pub(super) const ARMED: u16 = 1;
/// Its cancellation was asked for.
pub(super) const CANCELLING: u16 = 1 << 1;
/// Not to be read.
pub(super) const PAUSED: u16 = 1 << 2;
/// Receive is multishot.
pub(super) const ESTABLISHED: u16 = 1 << 3;
/// A poll for room is in flight.
pub(super) const BLOCKED: u16 = 1 << 4;
/// Sending failed. It is still read to its end: a DISCONNECT may be waiting there, and the will depends on it.
pub(super) const BROKEN: u16 = 1 << 5;
/// Bytes are held.
pub(super) const HELD: u16 = 1 << 6;
/// Named in `changed`.
pub(super) const CHANGED: u16 = 1 << 7;
/// To be given up once nothing is in flight.
pub(super) const LEAVING: u16 = 1 << 8;
/// The end was seen behind held bytes, or while paused.
pub(super) const ENDED: u16 = 1 << 9;
/// Like `ENDED`, by an error.
pub(super) const FAILED: u16 = 1 << 10;

/// A transport stands between the socket and the core.
pub(super) const SEALED: u16 = 1 << 11;

/// It was given bytes since it was armed.
pub(super) const FED: u16 = 1 << 12;
/// Armed again behind all that were given none.
pub(super) const SATED: u16 = 1 << 13;

/// One connection; 12 bytes.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) socket: Option<OwnedFd>,
    pub(super) generation: u32,
    pub(super) flags: u16,
    /// Number of the listener that accepted it.
    pub(super) listener: u16,
}

impl Slot {
    pub(super) fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }
    pub(super) fn set(&mut self, flags: u16) {
        self.flags |= flags;
    }
    pub(super) fn clear(&mut self, flags: u16) {
        self.flags &= !flags;
    }
    pub(super) fn raw(&self) -> RawFd {
        self.socket.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

/// What one connection costs here.
#[cfg(test)]
pub(super) const SLOT_BYTES: usize = size_of::<Slot>();
