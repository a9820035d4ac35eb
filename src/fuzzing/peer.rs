//! One socket: the client at its far end, and where its near end is.
use super::received::Received;
use super::sent::Sent;
use crate::shard::core::{ConnId, ShardId};
use crate::shard::output::{MAX_SLICES, Output};
use std::io::IoSlice;

/// Where the broker's end of a socket is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// At a core.
    At(ShardId, ConnId),
    /// On its way to its session's home.
    Travelling,
    /// Nowhere.
    Closed,
}

/// One socket.
pub(super) struct Peer {
    pub place: Place,
    pub sent: Sent,
    pub received: Received,
    /// Not to be read.
    pub is_paused: bool,
    /// The core wants to hand the socket off.
    pub is_leaving: bool,
    /// The client closed while the socket was travelling.
    pub is_hung_up: bool,
    /// The core has named it as one with output since it was empty last.
    pub is_dirty: bool,
    /// Unsent bytes that were judged already.
    judged: usize,
}

impl Peer {
    pub fn new(place: Place, max_packet: u32) -> Peer {
        Peer {
            place,
            sent: Sent::new(max_packet),
            received: Received::new(),
            is_paused: false,
            is_leaving: false,
            is_hung_up: false,
            is_dirty: false,
            judged: 0,
        }
    }

    /// Judges what was written since the last look.
    pub fn judge(&mut self, output: &Output) {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let filled = output.slices(&mut slices);
        let unsent: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
        assert!(filled < MAX_SLICES - 1, "the limits keep an output shorter than this");
        assert_eq!(unsent.len(), output.len());
        assert_eq!(output.is_empty(), unsent.is_empty());
        assert!(output.single().is_none_or(|single| single == unsent));
        self.received.read(&unsent[self.judged..]);
        self.judged = unsent.len();
    }

    /// The socket takes up to `most` bytes; returns how many.
    pub fn drain(&mut self, output: &mut Output, most: usize) -> usize {
        let (before, count) = (output.len(), most.min(output.len()));
        output.advance(count);
        assert_eq!(output.len(), before - count);
        self.judged -= count;
        count
    }

    /// The broker closed the connection; `output` is the rest.
    pub fn close(&mut self, output: &Output) {
        self.judge(output);
        assert!(!self.received.is_torn(), "the last packet is not whole");
        assert!(self.received.may_be_closed(), "closed without a word");
        self.place = Place::Closed;
    }
}
