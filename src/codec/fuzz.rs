//! Fuzz targets: what must hold for any bytes. Also run by the property tests.
use super::{Cut, Frame, MAX_PACKET, Version, cut, decode};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// A byte stream: the frames lie one behind the other, inside the bytes, and each of them holds [`packet`]'s promises.
pub fn stream(mut bytes: &[u8]) {
    while let Ok(Cut::Frame(frame)) = cut(bytes, MAX_PACKET) {
        assert!(frame.bytes.len() >= 2 && frame.bytes.len() <= bytes.len());
        assert_eq!(frame.bytes, &bytes[..frame.bytes.len()]);
        assert!(frame.bytes.ends_with(frame.body));
        check(frame);
        bytes = &bytes[frame.bytes.len()..];
    }
}

/// One packet: the first byte is the packet's, the others are its body. Decoding does not panic, and what it
/// accepts has the same meaning after it was written and read again.
pub fn packet(bytes: &[u8]) {
    if let Some((&first, body)) = bytes.split_first() {
        check(Frame { first, bytes, body });
    }
}

fn check(frame: Frame<'_>) {
    for version in VERSIONS {
        let Ok(packet) = decode(frame, version) else { continue };
        let mut written = Vec::new();
        packet.encode(version, &mut written);
        let Ok(Cut::Frame(again)) = cut(&written, MAX_PACKET) else {
            panic!("{packet:?} is written as something that is no frame")
        };
        assert_eq!(again.bytes.len(), written.len());
        assert_eq!(decode(again, version), Ok(packet));
    }
}
