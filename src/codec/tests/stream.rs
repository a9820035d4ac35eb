//! Byte streams: any split of one, any bytes at all.
use super::super::*;
use super::any::packet_and_version;
use proptest::collection::vec;
use proptest::prelude::*;

/// The packets of a stream that comes in pieces, as a connection takes them.
fn cut_pieces(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, DecodeError> {
    let mut waiting = Vec::new();
    let mut frames = Vec::new();
    for piece in pieces {
        waiting.extend_from_slice(piece);
        while let Cut::Frame(frame) = cut(&waiting, MAX_PACKET)? {
            let taken = frame.bytes.to_vec();
            waiting.drain(..taken.len());
            frames.push(taken);
        }
    }
    assert!(waiting.is_empty(), "nothing is left of a stream of whole packets");
    Ok(frames)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_split_gives_the_same_frames(
        packets in vec(packet_and_version(), 1..6),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let packets: Vec<Vec<u8>> = packets
            .iter()
            .map(|(packet, version)| {
                let mut bytes = Vec::new();
                packet.encode(*version, &mut bytes);
                bytes
            })
            .collect();
        let stream = packets.concat();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        ends.push(stream.len());
        ends.sort_unstable();
        let mut begin = 0;
        let pieces: Vec<&[u8]> = ends
            .into_iter()
            .map(|end| {
                let piece = &stream[begin..end];
                begin = end;
                piece
            })
            .collect();
        prop_assert_eq!(cut_pieces(&pieces), Ok(packets));
    }

    #[test]
    fn packets_with_changed_bytes_are_read_or_refused(
        (packet, version) in packet_and_version(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        fuzz::stream(&bytes);
        // The same body under the changed first byte, and cut short.
        let Ok(Cut::Frame(frame)) = cut(&bytes, MAX_PACKET) else { return Ok(()) };
        let mut body = frame.body.to_vec();
        body.insert(0, frame.first);
        fuzz::packet(&body);
        fuzz::packet(&body[..=end.index(body.len())]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..64)) {
        fuzz::stream(&bytes);
        fuzz::packet(&bytes);
    }

    #[test]
    fn any_properties_are_read_or_refused(
        first in prop::sample::select(vec![0x10u8, 0x20, 0x30, 0x40, 0x82, 0x90, 0xA2, 0xE0, 0xF0]),
        ids in vec(prop::sample::select(property_ids()), 1..6),
        filling in vec(0..3u8, 0..40),
    ) {
        // Small values make lengths that fit and numbers in range likely.
        let mut properties = Vec::new();
        let each = filling.len() / ids.len();
        for (index, id) in ids.iter().enumerate() {
            properties.push(*id);
            properties.extend_from_slice(&filling[index * each..(index + 1) * each]);
        }
        let before: &[u8] = match first {
            0x10 => b"\0\x04MQTT\x05\x02\0\x3c",
            0x20 => b"\0\0",
            0x30 => b"\0\x01t",
            0x40 => b"\0\x01\0",
            0x82 | 0x90 | 0xA2 => b"\0\x01",
            0xE0 => b"\0",
            _ => b"\x18",
        };
        let mut bytes = vec![first];
        bytes.extend_from_slice(before);
        bytes.push(properties.len() as u8);
        bytes.extend_from_slice(&properties);
        bytes.extend_from_slice(b"\0\x01a");
        fuzz::packet(&bytes);
        bytes.push(0);
        fuzz::packet(&bytes);
        bytes.truncate(bytes.len() - 4);
        fuzz::packet(&bytes);
    }
}

fn property_ids() -> Vec<u8> {
    super::super::properties::Property::ALL
        .iter()
        .map(|property| *property as u8)
        .chain([0x04, 0x30])
        .collect()
}
