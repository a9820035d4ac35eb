//! What a benchmark message carries, so that every delivery can be verified.
//!
//! | bytes | content (little endian) |
//! |---|---|
//! | 0..8 | stream (24 bits) and sequence number within the stream (40 bits) |
//! | 8..16 | send time in ns since the start of the run (48 bits) and checksum over all of this and the length (16 bits) |
//! | 16.. | filler: a window into a fixed pseudo-random pattern, its place chosen by stream and sequence |
//!
//! The filler is compared byte for byte, so corruption anywhere in the message shows, and so does
//! the tail of one message behind the head of another.

/// Smallest payload that can be verified, in bytes.
pub const MIN_PAYLOAD: usize = 16;
/// Most streams of one run (24 bits of the first word).
pub const MAX_STREAMS: usize = 1 << 24;
const SEQUENCE_BITS: u32 = 40;
const SEQUENCE_MASK: u64 = (1 << SEQUENCE_BITS) - 1;
const TIME_MASK: u64 = (1 << 48) - 1;
const PLACES: usize = 256;

/// The head of a verified payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which publisher and topic.
    pub stream: u32,
    /// Counts from 0 within the stream.
    pub sequence: u64,
    /// Nanoseconds from the start of the run to the (scheduled) sending.
    pub time: u64,
}

/// Writes and verifies payloads of one length.
pub struct Pattern {
    bytes: Box<[u8]>,
    fill: usize,
}

impl Pattern {
    /// For payloads of `len` bytes, at least [`MIN_PAYLOAD`].
    pub fn new(len: usize) -> Self {
        assert!(len >= MIN_PAYLOAD, "a verified payload has at least {MIN_PAYLOAD} bytes");
        let fill = len - MIN_PAYLOAD;
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let bytes = (0..PLACES + fill)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        Self { bytes, fill }
    }

    /// Writes a payload; `out` has exactly the length of this pattern's payloads.
    #[inline]
    pub fn write(&self, stamp: Stamp, out: &mut [u8]) {
        let (first, second) = words(stamp, out.len());
        out[..8].copy_from_slice(&first.to_le_bytes());
        out[8..16].copy_from_slice(&second.to_le_bytes());
        out[16..].copy_from_slice(self.filler(first));
    }

    /// The stamp, if every byte of the payload is what was written.
    #[inline]
    pub fn verify(&self, payload: &[u8]) -> Option<Stamp> {
        if payload.len() != self.fill + MIN_PAYLOAD {
            return None;
        }
        let (head, filler) = payload.split_at(MIN_PAYLOAD);
        let first = u64::from_le_bytes(head[..8].try_into().ok()?);
        let second = u64::from_le_bytes(head[8..].try_into().ok()?);
        let stamp = Stamp {
            stream: (first >> SEQUENCE_BITS) as u32,
            sequence: first & SEQUENCE_MASK,
            time: second >> 16,
        };
        (words(stamp, payload.len()).1 == second && filler == self.filler(first)).then_some(stamp)
    }

    #[inline]
    fn filler(&self, first: u64) -> &[u8] {
        let place = (mix(first) >> 56) as usize;
        &self.bytes[place..place + self.fill]
    }
}

/// A number that tells sequence numbers apart even after summing: the groups of a shared
/// subscription are checked by comparing sums of it.
#[inline]
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (value ^ (value >> 32)).wrapping_mul(0x94D0_49BB_1331_11EB)
}

#[inline]
fn words(stamp: Stamp, len: usize) -> (u64, u64) {
    let first = u64::from(stamp.stream) << SEQUENCE_BITS | (stamp.sequence & SEQUENCE_MASK);
    let time = stamp.time & TIME_MASK;
    let check = mix(first.rotate_left(17) ^ time.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ len as u64) >> 48;
    (first, time << 16 | check)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { stream: 77, sequence: 123_456_789, time: 987_654_321 };

    #[test]
    fn a_written_payload_verifies() {
        for len in [16, 17, 64, 4096] {
            let pattern = Pattern::new(len);
            let mut payload = vec![0; len];
            pattern.write(STAMP, &mut payload);
            assert_eq!(pattern.verify(&payload), Some(STAMP));
        }
    }

    #[test]
    fn every_flipped_bit_shows() {
        let pattern = Pattern::new(64);
        let mut payload = vec![0; 64];
        pattern.write(STAMP, &mut payload);
        for bit in 0..64 * 8 {
            payload[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(pattern.verify(&payload), None, "bit {bit}");
            payload[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_foreign_tail_and_a_wrong_length_show() {
        let pattern = Pattern::new(64);
        let (mut one, mut other) = (vec![0; 64], vec![0; 64]);
        pattern.write(STAMP, &mut one);
        pattern.write(Stamp { sequence: STAMP.sequence + 1, ..STAMP }, &mut other);
        one[16..].copy_from_slice(&other[16..]);
        assert_eq!(pattern.verify(&one), None);
        assert_eq!(pattern.verify(&other[..63]), None);
    }
}
