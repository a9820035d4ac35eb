//! The unsent bytes of one connection: small packets copied together, large payloads shared.
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Most slices one `writev` is given.
pub const MAX_SLICES: usize = 64;

/// The unsent bytes of one connection, in order. Empty it holds no memory beyond itself.
#[derive(Default, Debug)]
pub struct Output {
    /// Finished segments, oldest first.
    segments: VecDeque<Bytes>,
    /// Bytes of the oldest segment (or of `tail`, when there is no segment) that are already sent.
    sent: usize,
    /// The segment that is being written.
    tail: Vec<u8>,
    /// Bytes in `segments`, without what is sent.
    segment_bytes: usize,
}

impl Output {
    /// Unsent bytes.
    pub fn len(&self) -> usize {
        if self.segments.is_empty() {
            self.tail.len() - self.sent
        } else {
            self.segment_bytes + self.tail.len()
        }
    }
    /// Nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Where small packets are written.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }
    /// Appends a large payload without copying it.
    pub fn push_shared(&mut self, payload: Bytes) {
        if payload.is_empty() {
            return;
        }
        if !self.tail.is_empty() {
            let tail = Bytes::from(std::mem::take(&mut self.tail));
            if self.segments.is_empty() {
                self.segment_bytes = tail.len() - self.sent;
            } else {
                self.segment_bytes += tail.len();
            }
            self.segments.push_back(tail);
        }
        self.segment_bytes += payload.len();
        self.segments.push_back(payload);
    }
    /// The oldest unsent bytes as slices for one `writev`; returns how many slices were filled.
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let mut filled = 0;
        let mut skip = self.sent;
        for segment in self.segments.iter().take(MAX_SLICES - 1) {
            into[filled] = IoSlice::new(&segment[skip..]);
            skip = 0;
            filled += 1;
        }
        if filled == self.segments.len() && self.tail.len() > skip {
            into[filled] = IoSlice::new(&self.tail[skip..]);
            filled += 1;
        }
        filled
    }
    /// When everything unsent lies in one piece (the usual case): that piece.
    pub fn single(&self) -> Option<&[u8]> {
        if self.segments.is_empty() { Some(&self.tail[self.sent..]) } else { None }
    }
    /// The socket took `count` bytes. An empty output gives a large buffer back at once and keeps a small one
    /// until [`Output::release`].
    pub fn advance(&mut self, mut count: usize) {
        while let Some(front) = self.segments.front() {
            let left = front.len() - self.sent;
            if count < left {
                self.sent += count;
                self.segment_bytes -= count;
                return;
            }
            count -= left;
            self.segment_bytes -= left;
            self.sent = 0;
            self.segments.pop_front();
        }
        self.sent += count;
        assert!(self.sent <= self.tail.len(), "more was sent than was written");
        if self.sent == self.tail.len() {
            self.tail.clear();
            self.sent = 0;
        }
    }
    /// Takes the empty write buffer away, so that another connection can use it.
    pub fn release(&mut self) -> Vec<u8> {
        assert!(self.is_empty(), "a buffer in use cannot be released");
        self.segments = VecDeque::new();
        std::mem::take(&mut self.tail)
    }
    /// Gives an output without a buffer one to write into.
    pub fn lend(&mut self, buffer: Vec<u8>) {
        if self.tail.capacity() == 0 {
            self.tail = buffer;
        }
    }
}
