//! Runs: consecutive PUBLISH packets of one topic that can be forwarded as they are, at QoS 1 and 2 with another packet
//! id; and consecutive acknowledgements of one kind.
use super::message::{Message, SHARE_FROM, SessionKey};
use crate::codec::QoS;
use crate::time::Time;

/// First byte of a PUBLISH with QoS 0, no RETAIN, no DUP.
const PLAIN_PUBLISH: u8 = 0x30;
/// The same with QoS 1.
pub const PUBLISH_QOS_1: u8 = 0x32;
/// The same with QoS 2.
pub const PUBLISH_QOS_2: u8 = 0x34;
/// Bytes of an acknowledgement that says nothing but its packet id.
pub const ACK_LEN: usize = 4;

/// Consecutive whole PUBLISH packets with the same QoS and topic, without DUP, RETAIN and (version 5) properties.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The packets.
    pub bytes: &'a [u8],
    /// Whether they are in the form of version 5.
    pub v5: bool,
    /// Their QoS.
    pub qos: QoS,
    /// How many packets there are.
    pub count: u32,
    /// The longest of them, bytes.
    pub longest: u32,
    /// Payload bytes in all.
    pub payload_bytes: u64,
}

/// Where the parts of one plain PUBLISH lie.
struct Plain {
    first: u8,
    topic_at: usize,
    topic_len: usize,
    payload_at: usize,
    len: usize,
}

impl Plain {
    /// Where the packet id is.
    fn id_at(&self) -> usize {
        self.topic_at + self.topic_len
    }
}

/// The packet at the start of `bytes`, if it is whole and plain and no longer than `max_packet`.
fn plain(bytes: &[u8], v5: bool, max_packet: u32) -> Option<Plain> {
    let first = *bytes.first()?;
    if !matches!(first, PLAIN_PUBLISH | PUBLISH_QOS_1 | PUBLISH_QOS_2) {
        return None;
    }
    let (remaining, header) = match *bytes.get(1)? {
        short if short < 0x80 => (usize::from(short), 2),
        low => match *bytes.get(2)? {
            0 => return None,
            high if high < 0x80 => (usize::from(low & 0x7f) | usize::from(high) << 7, 3),
            middle => match *bytes.get(3)? {
                0 | 0x80.. => return None,
                high => {
                    let low = usize::from(low & 0x7f) | usize::from(middle & 0x7f) << 7;
                    (low | usize::from(high) << 14, 4)
                }
            },
        },
    };
    let len = header + remaining;
    if bytes.len() < len || len > max_packet as usize || remaining < 2 {
        return None;
    }
    let topic_len = usize::from(u16::from_be_bytes([bytes[header], bytes[header + 1]]));
    let topic_at = header + 2;
    let id_len = if first == PLAIN_PUBLISH { 0 } else { 2 };
    let payload_at = topic_at + topic_len + id_len + usize::from(v5);
    if payload_at > len || (v5 && bytes[payload_at - 1] != 0) {
        return None;
    }
    Some(Plain { first, topic_at, topic_len, payload_at, len })
}

/// Cuts the longest run of QoS 0 on `topic` off the front of `bytes`; `None` if the first packet does not belong to
/// one. Packets longer than 2 MiB are left to the ordinary path.
pub fn cut_run<'a>(bytes: &'a [u8], v5: bool, max_packet: u32, topic: &[u8]) -> Option<Run<'a>> {
    cut_first(bytes, PLAIN_PUBLISH, v5, max_packet, topic)
}

/// Cuts the longest run of QoS 1 or 2 on `topic` off the front of `bytes`. It ends before a packet whose payload is
/// shared instead of copied, and before the packet id 0.
pub fn cut_acknowledged_run<'a>(bytes: &'a [u8], v5: bool, max_packet: u32, topic: &[u8]) -> Option<Run<'a>> {
    let first = *bytes.first().filter(|first| matches!(**first, PUBLISH_QOS_1 | PUBLISH_QOS_2))?;
    cut_first(bytes, first, v5, max_packet.min(SHARE_FROM as u32 - 1), topic)
}

/// The topic of the packet at the start of `bytes`, if a run may begin with it. Nothing is checked of it.
pub fn first_topic(bytes: &[u8], v5: bool, max_packet: u32) -> Option<&[u8]> {
    plain(bytes, v5, max_packet).map(|packet| &bytes[packet.topic_at..packet.id_at()])
}

/// Whether such a run begins here. Says so without looking at all of it.
pub fn begins_acknowledged_run(bytes: &[u8], v5: bool, topic: &[u8]) -> bool {
    plain(bytes, v5, SHARE_FROM as u32 - 1).is_some_and(|packet| {
        packet.first != PLAIN_PUBLISH && bytes[packet.topic_at..packet.topic_at + packet.topic_len] == *topic
    })
}

fn cut_first<'a>(bytes: &'a [u8], first: u8, v5: bool, max_packet: u32, topic: &[u8]) -> Option<Run<'a>> {
    let mut run = Run { bytes: &[], v5, qos: qos_of(first), count: 0, longest: 0, payload_bytes: 0 };
    let (mut end, mut last) = (0, None);
    loop {
        let rest = &bytes[end..];
        let packet = match last.take().filter(|last| is_like(rest, last, v5)) {
            Some((_, packet)) => packet,
            None => {
                let Some(packet) = plain(rest, v5, max_packet).filter(|packet| packet.first == first) else {
                    break;
                };
                if packet.topic_len != topic.len() || rest[packet.topic_at..packet.id_at()] != *topic {
                    break;
                }
                packet
            }
        };
        if first != PLAIN_PUBLISH && rest[packet.id_at()..packet.id_at() + 2] == [0, 0] {
            break;
        }
        run.count += 1;
        run.longest = run.longest.max(packet.len as u32);
        run.payload_bytes += (packet.len - packet.payload_at) as u64;
        end += packet.len;
        last = Some((&rest[..packet.id_at()], packet));
    }
    run.bytes = &bytes[..end];
    (run.count > 0).then_some(run)
}

/// Whether the packet at the start of `bytes` has the same beginning as the last one, so the same length and topic:
/// messages of one publisher often have.
fn is_like(bytes: &[u8], (beginning, last): &(&[u8], Plain), v5: bool) -> bool {
    bytes.len() >= last.len && bytes.starts_with(beginning) && !(v5 && bytes[last.payload_at - 1] != 0)
}

/// Where the packet id of the QoS 1 or 2 packet at the start of `bytes` is, and how long it is; for packets of a run,
/// which are known to be short and whole.
fn shape(bytes: &[u8]) -> (usize, usize) {
    let low = usize::from(bytes[1]);
    let (remaining, header) =
        if low < 0x80 { (low, 2) } else { (low & 0x7f | usize::from(bytes[2]) << 7, 3) };
    let topic_len = usize::from(u16::from_be_bytes([bytes[header], bytes[header + 1]]));
    (header + 2 + topic_len, header + remaining)
}

/// The packet ids at the front of `bytes` that come in acknowledgements with this `first` byte and nothing but an id.
/// Ends before the id 0.
pub fn acknowledged(bytes: &[u8], first: u8) -> impl Iterator<Item = u16> {
    let acks = bytes.chunks_exact(ACK_LEN);
    let ids = acks.map_while(move |ack| match *ack {
        [kind, 2, high, low] if kind == first => Some(u16::from_be_bytes([high, low])),
        _ => None,
    });
    ids.take_while(|id| *id != 0)
}

/// Gives the QoS 1 or 2 packets of a run that was copied to `copy` another QoS and other packet ids, each the one that
/// `next_id` has for the packet that begins there.
pub fn readdress(copy: &mut [u8], qos: QoS, mut next_id: impl FnMut(usize) -> u16) {
    let mut at = 0;
    while at < copy.len() {
        let packet = &mut copy[at..];
        let (id_at, len) = shape(packet);
        packet[0] = PLAIN_PUBLISH | (qos as u8) << 1;
        packet[id_at..id_at + 2].copy_from_slice(&next_id(at).to_be_bytes());
        at += len;
    }
}

/// The message of the packet that begins `at` bytes into a run.
pub(super) fn message_at(run: &[u8], at: usize, v5: bool, publisher: SessionKey) -> Message {
    let bytes = &run[at..];
    let Plain { first, topic_at, topic_len, payload_at, len } =
        plain(bytes, v5, u32::MAX).expect("a run is made of whole packets");
    let topic = std::str::from_utf8(&bytes[topic_at..topic_at + topic_len]).expect("the topic of a route");
    let payload = &bytes[payload_at..len];
    Message::new(topic, &[], payload, qos_of(first), false, Time::NEVER, publisher)
}

fn qos_of(first: u8) -> QoS {
    match first {
        PUBLISH_QOS_1 => QoS::AtLeastOnce,
        PUBLISH_QOS_2 => QoS::ExactlyOnce,
        _ => QoS::AtMostOnce,
    }
}

impl<'a> Run<'a> {
    /// A run that another shard has cut: its topic and itself. `None` would be a bug of that shard.
    pub fn from_peer(bytes: &'a [u8], v5: bool) -> Option<(&'a str, Run<'a>)> {
        let first = plain(bytes, v5, u32::MAX)?;
        let topic = &bytes[first.topic_at..first.topic_at + first.topic_len];
        Some((std::str::from_utf8(topic).ok()?, cut_first(bytes, first.first, v5, u32::MAX, topic)?))
    }

    /// The packets one by one: each payload.
    pub fn payloads(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (mut rest, v5) = (self.bytes, self.v5);
        std::iter::from_fn(move || {
            let packet = plain(rest, v5, u32::MAX)?;
            let payload = &rest[packet.payload_at..packet.len];
            rest = &rest[packet.len..];
            Some(payload)
        })
    }

    /// The packets one by one: each packet id. Only for QoS 1 and 2.
    pub fn ids(&self) -> impl Iterator<Item = u16> + use<'a> {
        debug_assert!(self.qos > QoS::AtMostOnce);
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (at, len) = shape(rest);
            let id = u16::from_be_bytes([rest[at], rest[at + 1]]);
            rest = &rest[len..];
            Some(id)
        })
    }

    /// The packets one by one, each as a run.
    pub fn packets(&self) -> impl Iterator<Item = Run<'a>> + use<'a> {
        let mut rest = *self;
        std::iter::from_fn(move || {
            let (first, others) = rest.split(1);
            rest = others;
            (first.count > 0).then_some(first)
        })
    }

    /// Its first `count` packets, at most all, and the others.
    pub fn split(&self, count: usize) -> (Run<'a>, Run<'a>) {
        let (mut first, mut rest) = (*self, *self);
        if count >= self.count as usize {
            (rest.bytes, rest.count, rest.payload_bytes) = (&[], 0, 0);
            return (first, rest);
        }
        let (mut end, mut payload_bytes) = (0, 0);
        for _ in 0..count {
            let packet =
                plain(&self.bytes[end..], self.v5, u32::MAX).expect("a run is made of whole packets");
            payload_bytes += (packet.len - packet.payload_at) as u64;
            end += packet.len;
        }
        (first.bytes, rest.bytes) = self.bytes.split_at(end);
        (first.count, rest.count) = (count as u32, self.count - count as u32);
        (first.payload_bytes, rest.payload_bytes) = (payload_bytes, self.payload_bytes - payload_bytes);
        (first, rest)
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
            (b"\x38\x04\x00\x01tx", false),
            (b"\x30\x04\x00\x01t", false),
            (b"\x30\x84\x00\x00\x01tx", false),
            (b"\x30\x84\x80\x00\x00\x01tx", false),
            (b"\x30\x84\x80\x80\x01\x00\x01tx", false),
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
    fn a_long_packet_belongs_to_a_run() {
        let mut bytes = b"\x30\x84\x80\x01\x00\x01t".to_vec();
        bytes.resize(4 + 16_384 + 4, b'x');
        assert_eq!(cut_run(&bytes, false, 20_000, b"t").expect("a packet").payload_bytes, 16_385);
        assert!(cut_run(&bytes[..bytes.len() - 1], false, 20_000, b"t").is_none());
        assert!(cut_run(&bytes, false, 16_391, b"t").is_none());
    }

    #[test]
    fn a_peers_run_names_its_topic() {
        for (bytes, qos) in [(&THREE[..12], QoS::AtMostOnce), (&NUMBERED[..17], QoS::AtLeastOnce)] {
            let (topic, run) = Run::from_peer(bytes, false).expect("a run");
            assert_eq!((topic, run.count, run.qos, run.bytes.len()), ("t", 2, qos, bytes.len()));
        }
    }

    /// QoS 1: ids 1 and 2, then 0, then QoS 2.
    const NUMBERED: &[u8] =
        b"\x32\x06\x00\x01t\x00\x01x\x32\x07\x00\x01t\x00\x02yz\x32\x05\x00\x01t\x00\x00\x34\x05\x00\x01t\x00\x01";

    #[test]
    fn a_run_with_ids_ends_where_there_is_none() {
        let cut = |bytes| cut_acknowledged_run(bytes, false, 100, b"t");
        let run = cut(NUMBERED).expect("two packets, and one without an id");
        assert_eq!((run.bytes.len(), run.count, run.longest, run.payload_bytes), (17, 2, 9, 3));
        assert_eq!((run.qos, run.payloads().collect::<Vec<_>>()), (QoS::AtLeastOnce, vec![&b"x"[..], b"yz"]));
        assert_eq!(run.ids().collect::<Vec<_>>(), [1, 2]);
        assert!(cut(&NUMBERED[17..]).is_none());
        assert_eq!(cut(&NUMBERED[24..]).expect("one packet").qos, QoS::ExactlyOnce);
        assert!(cut(b"\x3a\x06\x00\x01t\x00\x01x").is_none(), "a repetition");
        assert!(
            begins_acknowledged_run(NUMBERED, false, b"t") && !begins_acknowledged_run(NUMBERED, false, b"u")
        );
        assert!(!begins_acknowledged_run(THREE, false, b"t"));
        assert!(cut_acknowledged_run(b"\x32\x06\x00\x01t\x00\x01\x00", true, 100, b"t").is_some());
        assert!(cut_acknowledged_run(b"\x32\x06\x00\x01t\x00\x01\x02", true, 100, b"t").is_none());
        assert!(cut_run(NUMBERED, false, 100, b"t").is_none());
    }

    #[test]
    fn a_large_payload_ends_a_run_with_ids() {
        let mut bytes = b"\x32\x80\x10\x00\x01t\x00\x01".to_vec();
        bytes.resize(3 + 2048, 0);
        assert!(cut_acknowledged_run(&bytes, false, u32::MAX, b"t").is_none());
        bytes[1..3].copy_from_slice(&[0xf0, 0x0f]);
        let run = cut_acknowledged_run(&bytes, false, u32::MAX, b"t").expect("one packet");
        assert_eq!(run.longest, 2035);
    }

    #[test]
    fn a_copy_gets_its_own_ids_and_nothing_else_changes() {
        let mut bytes = b"\x34\x85\x01\x00\x01t\x00\x07".to_vec();
        bytes.resize(3 + 133, b'p');
        bytes.extend_from_slice(b"\x34\x06\x00\x01t\x00\x09x");
        let run = cut_acknowledged_run(&bytes, false, 1000, b"t").expect("two packets");
        let (mut copy, mut id) = (run.bytes.to_vec(), 0x1233);
        let mut places = Vec::new();
        readdress(&mut copy, QoS::AtLeastOnce, |at| {
            places.push(at);
            id += 1;
            id
        });
        assert_eq!(places, [0, 136]);
        let message = message_at(run.bytes, 136, false, SessionKey(1));
        assert_eq!((message.topic(), message.payload(), message.qos), ("t", &b"x"[..], QoS::ExactlyOnce));
        let again = cut_acknowledged_run(&copy, false, 1000, b"t");
        let again = again.expect("the same packets");
        assert_eq!(again.ids().collect::<Vec<_>>(), [0x1234, 0x1235]);
        assert_eq!((again.qos, again.count, again.bytes.len()), (QoS::AtLeastOnce, 2, bytes.len()));
        assert!(again.payloads().eq(run.payloads()));
    }

    #[test]
    fn a_run_is_split_between_packets() {
        let run = cut_acknowledged_run(NUMBERED, false, 100, b"t").expect("two packets");
        for (count, bytes, payload) in [(0, 0, 0), (1, 8, 1), (2, 17, 3), (3, 17, 3)] {
            let (first, rest) = run.split(count);
            assert_eq!((first.bytes.len(), first.payload_bytes), (bytes, payload));
            assert_eq!((first.count + rest.count, first.payload_bytes + rest.payload_bytes), (2, 3));
            assert_eq!([first.bytes, rest.bytes].concat(), run.bytes);
        }
        let lengths: Vec<(u32, usize)> = run.packets().map(|one| (one.count, one.bytes.len())).collect();
        assert_eq!(lengths, [(1, 8), (1, 9)]);
    }

    #[test]
    fn acknowledgements_of_one_kind_are_taken_together() {
        let bytes = b"\x40\x02\x00\x01\x40\x02\x01\x00\x50\x02\x00\x02\x40\x02\x00\x00\x40\x03\x00\x05\x00";
        let ids = |at: usize, first| acknowledged(&bytes[at..], first).collect::<Vec<_>>();
        assert_eq!((ids(0, 0x40), ids(8, 0x50), ids(0, 0x50)), (vec![1, 256], vec![2], vec![]));
        assert_eq!((ids(12, 0x40), ids(16, 0x40), ids(18, 0x40)), (vec![], vec![], vec![]));
    }
}
