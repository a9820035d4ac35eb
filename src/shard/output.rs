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
    /// Moves the oldest `count` unsent bytes to the end of `into`. The caller has them end where a packet does, which
    /// is not within a shared payload.
    pub fn move_front(&mut self, mut count: usize, into: &mut Output) {
        while let Some(front) = self.segments.front()
            && count > 0
        {
            let left = front.len() - self.sent;
            if count < left {
                into.tail.extend_from_slice(&front[self.sent..self.sent + count]);
                self.sent += count;
                self.segment_bytes -= count;
                return;
            }
            let segment = self.segments.pop_front().expect("just seen").slice(self.sent..);
            count -= left;
            self.segment_bytes -= left;
            self.sent = 0;
            into.push_shared(segment);
        }
        if self.segments.is_empty() && count > 0 {
            into.tail.extend_from_slice(&self.tail[self.sent..self.sent + count]);
            self.advance(count);
        }
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
    /// The socket took `count` bytes.
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
}

/// Buffers a shard keeps for connections that will have something to send.
pub const POOLED_BUFFERS: usize = 256;
/// A buffer that grew beyond this many bytes is freed instead of being kept.
pub const POOLED_BUFFER_BYTES: usize = 256 * 1024;

/// Write buffers between uses: a connection holds one only while it has something to send.
#[derive(Default, Debug)]
pub struct BufferPool {
    free: Vec<Vec<u8>>,
}

impl BufferPool {
    /// Gives an output without a buffer one to write into.
    pub fn lend(&mut self, output: &mut Output) {
        if output.tail.capacity() == 0 {
            output.tail = self.free.pop().unwrap_or_default();
        }
    }
    /// Takes the buffer of an empty output back.
    pub fn take_back(&mut self, output: &mut Output) {
        assert!(output.is_empty(), "a buffer in use stays with its connection");
        output.segments = VecDeque::new();
        let buffer = std::mem::take(&mut output.tail);
        if buffer.capacity() > 0
            && buffer.capacity() <= POOLED_BUFFER_BYTES
            && self.free.len() < POOLED_BUFFERS
        {
            self.free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(output: &mut Output, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let filled = output.slices(&mut slices);
            let bytes: Vec<u8> =
                slices[..filled].iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
            all.extend_from_slice(&bytes);
            output.advance(bytes.len());
        }
        all
    }

    #[test]
    fn bytes_leave_in_the_order_they_were_written_whatever_the_socket_takes() {
        for step in 1..20 {
            let mut output = Output::default();
            output.tail().extend_from_slice(b"ab");
            output.push_shared(Bytes::from_static(b"CDE"));
            output.push_shared(Bytes::from_static(b"FG"));
            output.tail().extend_from_slice(b"hij");
            assert_eq!(output.len(), 10);
            assert_eq!(sent(&mut output, step), b"abCDEFGhij");
        }
    }

    #[test]
    fn bytes_that_are_moved_keep_their_order_wherever_they_are_cut() {
        for cut in 0..=10 {
            for sent_before in 0..=2 {
                let (mut output, mut moved) = (Output::default(), Output::default());
                moved.tail().extend_from_slice(b"0");
                output.tail().extend_from_slice(b"xyab");
                output.advance(sent_before);
                output.push_shared(Bytes::from_static(b"CDE"));
                output.push_shared(Bytes::from_static(b"FG"));
                output.tail().extend_from_slice(b"h");
                let all = [b"xyab".split_at(sent_before).1, b"CDEFGh"].concat();
                let cut = cut.min(all.len());
                output.move_front(cut, &mut moved);
                assert_eq!((output.len(), moved.len()), (all.len() - cut, cut + 1));
                let (before, after) = (sent(&mut moved, 3), sent(&mut output, 3));
                assert_eq!([&before[1..], &after].concat(), all, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_shared_payload_behind_partly_sent_bytes_keeps_the_count_right() {
        let mut output = Output::default();
        output.tail().extend_from_slice(b"abcd");
        output.advance(3);
        output.push_shared(Bytes::from_static(b"EF"));
        assert_eq!(output.len(), 3);
        assert_eq!(sent(&mut output, 1), b"dEF");
    }

    #[test]
    fn more_segments_than_one_write_takes_leave_in_order() {
        let mut output = Output::default();
        let expected: Vec<u8> = (0..200).collect();
        expected.iter().for_each(|byte| output.push_shared(Bytes::from(vec![*byte])));
        assert_eq!(sent(&mut output, usize::MAX), expected);
    }
}
