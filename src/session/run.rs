//! Runs: consecutive QoS 0 PUBLISH packets of one topic that can be forwarded as they are.

/// First byte of a PUBLISH with QoS 0, no RETAIN, no DUP.
const PLAIN_PUBLISH: u8 = 0x30;

/// Consecutive whole PUBLISH packets with QoS 0, without RETAIN and (version 5) without properties, all with the
/// same topic.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The packets.
    pub bytes: &'a [u8],
    /// Whether they are in the form of version 5.
    pub v5: bool,
    /// How many packets there are.
    pub count: u32,
    /// The longest of them, bytes.
    pub longest: u32,
    /// Payload bytes in all.
    pub payload_bytes: u64,
}

/// Where the parts of one plain PUBLISH lie.
struct Plain {
    topic_at: usize,
    topic_len: usize,
    len: usize,
}

/// The packet at the start of `bytes`, if it is whole and plain and no longer than `max_packet`.
fn plain(bytes: &[u8], v5: bool, max_packet: u32) -> Option<Plain> {
    if *bytes.first()? != PLAIN_PUBLISH {
        return None;
    }
    let (remaining, header) = match *bytes.get(1)? {
        short if short < 0x80 => (usize::from(short), 2),
        low => match *bytes.get(2)? {
            0 => return None,
            high if high < 0x80 => (usize::from(low & 0x7f) | usize::from(high) << 7, 3),
            _ => return None,
        },
    };
    let len = header + remaining;
    if bytes.len() < len || len > max_packet as usize || remaining < 2 {
        return None;
    }
    let topic_len = usize::from(u16::from_be_bytes([bytes[header], bytes[header + 1]]));
    let topic_at = header + 2;
    let body = topic_at + topic_len + usize::from(v5);
    if body > len || (v5 && bytes[body - 1] != 0) {
        return None;
    }
    Some(Plain { topic_at, topic_len, len })
}

/// Cuts the longest run on `topic` off the front of `bytes`; `None` if the first packet does not belong to one.
/// Packets longer than 16 KiB are left to the ordinary path, which shares their payload.
pub fn cut_run<'a>(bytes: &'a [u8], v5: bool, max_packet: u32, topic: &[u8]) -> Option<Run<'a>> {
    let mut run = Run { bytes: &[], v5, count: 0, longest: 0, payload_bytes: 0 };
    let mut end = 0;
    while let Some(packet) = plain(&bytes[end..], v5, max_packet) {
        let body = packet.topic_at + packet.topic_len;
        if packet.topic_len != topic.len() || bytes[end + packet.topic_at..end + body] != *topic {
            break;
        }
        run.count += 1;
        run.longest = run.longest.max(packet.len as u32);
        run.payload_bytes += (packet.len - body - usize::from(v5)) as u64;
        end += packet.len;
    }
    run.bytes = &bytes[..end];
    (run.count > 0).then_some(run)
}

impl<'a> Run<'a> {
    /// A run that another shard has cut: its topic and itself. `None` would be a bug of that shard.
    pub fn from_peer(bytes: &'a [u8], v5: bool) -> Option<(&'a str, Run<'a>)> {
        let first = plain(bytes, v5, u32::MAX)?;
        let topic = &bytes[first.topic_at..first.topic_at + first.topic_len];
        Some((std::str::from_utf8(topic).ok()?, cut_run(bytes, v5, u32::MAX, topic)?))
    }

    /// The packets one by one: each payload.
    pub fn payloads(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (mut rest, v5) = (self.bytes, self.v5);
        std::iter::from_fn(move || {
            let packet = plain(rest, v5, u32::MAX)?;
            let payload = &rest[packet.topic_at + packet.topic_len + usize::from(v5)..packet.len];
            rest = &rest[packet.len..];
            Some(payload)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &[u8] = b"\x30\x05\x00\x01txx\x30\x03\x00\x01t\x30\x04\x00\x01uz\x30\x05\x00";

    #[test]
    fn a_run_ends_where_the_topic_changes() {
        let run = cut_run(THREE, false, 100, b"t").expect("two packets");
        assert_eq!((run.bytes.len(), run.count, run.longest, run.payload_bytes), (12, 2, 7, 2));
        assert_eq!(run.payloads().collect::<Vec<_>>(), [&b"xx"[..], b""]);
        assert!(cut_run(&THREE[12..], false, 100, b"t").is_none());
        assert_eq!(cut_run(&THREE[12..], false, 100, b"u").expect("one packet").bytes.len(), 6);
    }

    #[test]
    fn what_is_not_plain_or_not_whole_is_left_alone() {
        for (bytes, v5) in [
            (&b"\x31\x04\x00\x01tx"[..], false),
            (b"\x32\x06\x00\x01t\x00\x01x", false),
            (b"\x30\x04\x00\x01t", false),
            (b"\x30\x84\x00\x00\x01tx", false),
            (b"\x30\x02\x00\x05", false),
            (b"\x30\x01\x00", false),
            (b"\x30\x03\x00\x01t", true),
            (b"\x30\x06\x00\x01t\x02\x01\x00", true),
        ] {
            assert!(cut_run(bytes, v5, 100, b"t").is_none(), "{bytes:?}");
        }
        assert!(cut_run(b"\x30\x04\x00\x01tx", false, 5, b"t").is_none());
        assert!(cut_run(b"\x30\x05\x00\x01t\x00x", true, 100, b"t").is_some());
    }

    #[test]
    fn a_peers_run_names_its_topic() {
        let (topic, run) = Run::from_peer(&THREE[..12], false).expect("a run");
        assert_eq!((topic, run.count), ("t", 2));
    }
}
