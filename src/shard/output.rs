//! The unsent bytes of one connection: small packets copied together, large payloads shared.
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Most slices one `writev` is given.
pub const MAX_SLICES: usize = 64;

/// Bytes that are sent and still kept, from which on they are given up when they are half of the buffer: a client that
/// reads all the time and never all there is does not make it grow.
const RECLAIM_FROM: usize = 64 * 1024;

/// The unsent bytes of one connection, in order. One that was not written to holds no memory beyond itself.
#[derive(Default, Debug)]
pub struct Output(Option<Box<Unsent>>);

/// Packets that were written here, and between them what is shared.
#[derive(Default, Debug)]
struct Unsent {
    own: Vec<u8>,
    /// Bytes of `own` that are already sent.
    sent: usize,
    /// Oldest first.
    shared: VecDeque<Shared>,
    /// Bytes of all of it.
    shared_bytes: usize,
    /// Where in `own` the newest of it has its place.
    placed: usize,
}

/// Bytes that also others send, or that are somebody else's.
#[derive(Debug)]
struct Shared {
    /// Bytes of `own` between the one before and this.
    before: usize,
    bytes: Bytes,
    /// To be given back at the end of the turn.
    is_lent: bool,
}

impl Output {
    /// Unsent bytes.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |unsent| unsent.own.len() - unsent.sent + unsent.shared_bytes)
    }
    /// Nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    fn unsent(&mut self) -> &mut Unsent {
        self.0.get_or_insert_default()
    }
    /// Where small packets are written. What is there already is not to be changed but by who wrote it, at once.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.unsent().own
    }
    /// Appends a large payload without copying it.
    pub fn push_shared(&mut self, payload: Bytes) {
        self.unsent().push(payload, false);
    }
    /// Appends bytes without copying them that must be given back at the end of the turn: [`Output::keep_lent`] does that
    /// with what is left of them.
    pub fn push_lent(&mut self, bytes: Bytes) {
        self.unsent().push(bytes, true);
    }
    /// Gives back what is lent and not sent, for what `keep` makes of it.
    pub fn keep_lent(&mut self, mut keep: impl FnMut(&Bytes) -> Bytes) {
        let shared = self.0.iter_mut().flat_map(|unsent| &mut unsent.shared);
        for shared in shared.filter(|shared| shared.is_lent) {
            (shared.bytes, shared.is_lent) = (keep(&shared.bytes), false);
        }
    }
    /// Moves the oldest `count` unsent bytes to the end of `into`. The caller has them end where a packet does, which
    /// is not within a shared payload.
    pub fn move_front(&mut self, count: usize, into: &mut Output) {
        if let Some(unsent) = &mut self.0 {
            unsent.move_front(count, into.unsent());
        }
    }
    /// The oldest unsent bytes as slices for one `writev`; returns how many slices were filled.
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        self.0.as_ref().map_or(0, |unsent| unsent.slices(into))
    }
    /// When everything unsent lies in one piece (the usual case): that piece.
    pub fn single(&self) -> Option<&[u8]> {
        let Some(unsent) = &self.0 else { return Some(&[]) };
        let own = &unsent.own[unsent.sent..];
        match (unsent.shared.len(), own.is_empty()) {
            (0, _) => Some(own),
            (1, true) => Some(&unsent.shared[0].bytes),
            _ => None,
        }
    }
    /// The socket took `count` bytes.
    pub fn advance(&mut self, count: usize) {
        if let Some(unsent) = &mut self.0 {
            unsent.advance(count);
        } else {
            assert!(count == 0, "more was sent than was written");
        }
    }
}

impl Unsent {
    /// Bytes of memory.
    fn size(&self) -> usize {
        size_of::<Unsent>() + self.own.capacity() + self.shared.capacity() * size_of::<Shared>()
    }

    fn push(&mut self, bytes: Bytes, is_lent: bool) {
        if bytes.is_empty() {
            return;
        }
        let before = self.own.len() - self.placed.max(self.sent);
        self.placed = self.own.len();
        self.shared_bytes += bytes.len();
        self.shared.push_back(Shared { before, bytes, is_lent });
    }

    fn move_front(&mut self, mut count: usize, into: &mut Unsent) {
        while count > 0 {
            let own = self.shared.front().map_or(usize::MAX, |shared| shared.before);
            if own > 0 {
                let moved = own.min(count);
                into.own.extend_from_slice(&self.own[self.sent..self.sent + moved]);
                self.advance(moved);
                count -= moved;
                continue;
            }
            let Shared { bytes, is_lent, .. } = self.shared.front().expect("there is no own byte in front");
            let (moved, is_lent) = (bytes.slice(..bytes.len().min(count)), *is_lent);
            self.advance(moved.len());
            count -= moved.len();
            into.push(moved, is_lent);
        }
    }

    fn slices<'a>(&'a self, into: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let (mut filled, mut at) = (0, self.sent);
        for shared in &self.shared {
            if filled + 2 > MAX_SLICES {
                return filled;
            }
            if shared.before > 0 {
                into[filled] = IoSlice::new(&self.own[at..at + shared.before]);
                (filled, at) = (filled + 1, at + shared.before);
            }
            into[filled] = IoSlice::new(&shared.bytes);
            filled += 1;
        }
        if filled < MAX_SLICES && at < self.own.len() {
            into[filled] = IoSlice::new(&self.own[at..]);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(front) = self.shared.front_mut() {
            let own = front.before.min(count);
            front.before -= own;
            self.sent += own;
            count -= own;
            if front.before > 0 || count < front.bytes.len() {
                self.shared_bytes -= count;
                front.bytes.advance(count);
                return self.reclaim();
            }
            count -= front.bytes.len();
            self.shared_bytes -= front.bytes.len();
            self.shared.pop_front();
        }
        self.sent += count;
        assert!(self.sent <= self.own.len(), "more was sent than was written");
        self.reclaim();
    }

    /// Gives up bytes that are sent, if there are many, at a cost of a byte for each of them at most.
    fn reclaim(&mut self) {
        if self.sent == self.own.len() {
            self.own.clear();
        } else if self.sent >= RECLAIM_FROM && self.sent >= self.own.len() / 2 {
            self.own.drain(..self.sent);
        } else {
            return;
        }
        self.placed = self.placed.saturating_sub(self.sent);
        self.sent = 0;
    }
}

/// Bytes of the buffers a shard keeps for connections that will have something to send: with many of them, as in a large
/// fan-out, small ones.
pub const POOLED_BYTES: usize = 16 * 1024 * 1024;
/// A buffer that grew beyond this many bytes is freed instead of being kept.
pub const POOLED_BUFFER_BYTES: usize = 256 * 1024;

/// Write buffers between uses: a connection holds one only while it has something to send.
#[derive(Default, Debug)]
pub struct BufferPool {
    // Boxed, because that is how an output holds one.
    #[allow(clippy::vec_box)]
    free: Vec<Box<Unsent>>,
    /// What they have room for, and they themselves.
    bytes: usize,
}

impl BufferPool {
    /// Gives an output without a buffer one to write into.
    pub fn lend(&mut self, output: &mut Output) {
        if output.0.is_none() {
            output.0 = self.free.pop().inspect(|unsent| self.bytes -= unsent.size());
        }
    }
    /// Takes the buffer of an empty output back.
    pub fn take_back(&mut self, output: &mut Output) {
        assert!(output.is_empty(), "a buffer in use stays with its connection");
        let Some(mut unsent) = output.0.take() else { return };
        if unsent.shared.capacity() > MAX_SLICES {
            unsent.shared = VecDeque::new();
        }
        if unsent.own.capacity() <= POOLED_BUFFER_BYTES && self.bytes + unsent.size() <= POOLED_BYTES {
            self.bytes += unsent.size();
            self.free.push(unsent);
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

    #[test]
    fn what_is_sent_is_given_up_though_something_is_always_left() {
        let (mut output, mut count) = (Output::default(), 0u32);
        let mut expected = 0u32;
        let piece = |count: &mut u32| {
            *count += 1;
            count.to_be_bytes()
        };
        for round in 0..200_000 {
            output.tail().extend_from_slice(&piece(&mut count));
            if round % 7 == 0 {
                output.push_shared(Bytes::copy_from_slice(&piece(&mut count)));
            }
            // Ten always stay.
            while output.len() > 40 {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                assert!(output.slices(&mut slices) > 0);
                assert_eq!(slices[0][..4], (expected + 1).to_be_bytes());
                expected += 1;
                output.advance(4);
            }
        }
        assert!(output.tail().capacity() <= 4 * RECLAIM_FROM);
    }

    #[test]
    fn what_is_lent_is_given_back_and_sent_all_the_same() {
        let lent = Bytes::from(b"lent".repeat(2));
        let mut output = Output::default();
        output.tail().extend_from_slice(b"a");
        output.push_lent(lent.slice(..4));
        output.tail().extend_from_slice(b"b");
        output.push_lent(lent.slice(4..));
        let mut moved = Output::default();
        output.advance(3);
        output.move_front(3, &mut moved);
        assert!(!lent.is_unique());
        let keep = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        output.keep_lent(keep);
        moved.keep_lent(keep);
        assert!(lent.is_unique());
        assert_eq!([sent(&mut moved, 9), sent(&mut output, 9)].concat(), b"ntblent");
    }

    #[test]
    fn one_piece_is_seen_as_one() {
        let mut output = Output::default();
        assert_eq!(output.single(), Some(&b""[..]));
        output.push_shared(Bytes::from_static(b"AB"));
        assert_eq!(output.single(), Some(&b"AB"[..]));
        output.tail().push(b'c');
        assert_eq!(output.single(), None);
        output.advance(2);
        assert_eq!(output.single(), Some(&b"c"[..]));
    }
}
