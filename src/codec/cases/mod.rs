//! Raw packets and what becomes of them: one table for the tests of every layer.
//!
//! It says what decoding says. Whether a packet that decodes is acceptable at its moment, from its sender and
//! in its session is for the tests of those to add.
mod acks;
mod connack;
mod connect;
mod disconnect;
mod header;
mod publish;
mod subscribe;

use super::{DecodeError, PacketType, ReasonCode, Version};

/// One packet.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is; unique together with the version.
    pub name: &'static str,
    /// The version of the connection it comes on.
    pub version: Version,
    /// The whole packet, or as much of it as shows the error.
    pub bytes: &'static [u8],
    /// Its type if it is well formed, else the error.
    pub expected: Result<PacketType, DecodeError>,
}

impl Case {
    /// The reason code a 5.0 peer is told; `None` if the packet is well formed.
    pub fn reason(&self) -> Option<ReasonCode> {
        self.expected.err().map(DecodeError::reason)
    }
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [
        header::CASES,
        connect::CASES,
        connack::CASES,
        publish::CASES,
        acks::CASES,
        subscribe::CASES,
        disconnect::CASES,
    ]
    .into_iter()
    .flatten()
}

const fn ok(name: &'static str, version: Version, bytes: &'static [u8], packet: PacketType) -> Case {
    Case { name, version, bytes, expected: Ok(packet) }
}

const fn bad(name: &'static str, version: Version, bytes: &'static [u8], error: DecodeError) -> Case {
    Case { name, version, bytes, expected: Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Cut, MAX_PACKET, cut, decode};
    use std::collections::HashSet;

    fn decoded(bytes: &[u8], version: Version) -> Result<PacketType, DecodeError> {
        match cut(bytes, MAX_PACKET)? {
            Cut::Frame(frame) => {
                assert_eq!(frame.bytes.len(), bytes.len(), "one packet a case");
                decode(frame, version).map(|packet| packet.packet_type())
            }
            Cut::Short { total } => panic!("a case is not cut short: {total:?}"),
        }
    }

    #[test]
    fn every_case_decodes_as_the_table_says() {
        for case in all() {
            assert_eq!(
                decoded(case.bytes, case.version),
                case.expected,
                "{} ({:?})",
                case.name,
                case.version
            );
        }
    }

    #[test]
    fn names_are_unique() {
        let mut seen = HashSet::new();
        for case in all() {
            assert!(seen.insert((case.name, case.version)), "{} ({:?})", case.name, case.version);
        }
    }

    #[test]
    fn well_formed_packets_keep_their_meaning_when_written_again() {
        for case in all().filter(|case| case.expected.is_ok()) {
            let Ok(Cut::Frame(frame)) = cut(case.bytes, MAX_PACKET) else { unreachable!() };
            let packet = decode(frame, case.version).unwrap();
            let mut again = Vec::new();
            packet.encode(case.version, &mut again);
            let Ok(Cut::Frame(frame)) = cut(&again, MAX_PACKET) else { panic!("{}", case.name) };
            assert_eq!(decode(frame, case.version), Ok(packet), "{} ({:?})", case.name, case.version);
            // A reason in DISCONNECT is followed by its property length even where it need not be.
            let spare = usize::from(frame.first == PacketType::Disconnect.first());
            assert!(again.len() <= case.bytes.len() + spare, "{} is written in its shortest form", case.name);
        }
    }

    #[test]
    fn every_beginning_of_a_packet_asks_for_more() {
        for case in all().filter(|case| case.expected.is_ok()) {
            for end in 0..case.bytes.len() {
                match cut(&case.bytes[..end], MAX_PACKET) {
                    Ok(Cut::Short { total: None }) => {}
                    Ok(Cut::Short { total: Some(total) }) => assert_eq!(total, case.bytes.len()),
                    other => panic!("{} cut at {end}: {other:?}", case.name),
                }
            }
        }
    }

    /// Whatever the fields of a packet are, none of them may reach behind its end.
    #[test]
    fn every_body_that_ends_early_is_refused_or_shorter() {
        for case in all().filter(|case| case.expected.is_ok()) {
            let Ok(Cut::Frame(frame)) = cut(case.bytes, MAX_PACKET) else { unreachable!() };
            for end in 0..frame.body.len() {
                let body = &frame.body[..end];
                let Ok(packet) = decode(super::super::Frame { body, ..frame }, case.version) else {
                    continue;
                };
                let mut again = Vec::new();
                packet.encode(case.version, &mut again);
                assert!(again.len() <= end + 5, "{} cut at {end}", case.name);
            }
        }
    }
}
