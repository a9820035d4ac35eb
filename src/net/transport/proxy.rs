//! The header of the PROXY protocol (versions 1 and 2), which a proxy sends first and in which it says whose connection
//! this is. It is read from networks that are named only, and from these it must come.
use ppp::{HeaderResult, PartialResult, v1, v2};
use std::net::SocketAddr;

/// Bytes of a header with all that version 2 may add; a longer one ends the connection.
pub const MAX_HEADER: usize = 4 << 10;
/// Bytes of a header of version 1, at most, and its end.
const MAX_TEXT: usize = 107;
const TEXT_END: &[u8] = b"\r\n";
/// What a header of version 1 begins with.
const TEXT: &[u8] = b"PROXY ";
/// What a header of version 2 begins with.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What bytes at the beginning of a connection are.
#[derive(PartialEq, Eq, Debug)]
pub enum Header {
    /// A header that has not come whole.
    Short,
    /// A header of so many bytes. No address: the proxy speaks for itself.
    Whole(usize, Option<SocketAddr>),
    /// No header.
    Wrong,
}

/// Reads the header at the beginning of `bytes`.
pub fn read(bytes: &[u8]) -> Header {
    let could_be = |prefix: &[u8]| prefix.iter().zip(bytes).all(|(one, other)| one == other);
    if !could_be(TEXT) && !could_be(BINARY) {
        return Header::Wrong;
    }
    let mut known = bytes.len().min(MAX_HEADER);
    if could_be(TEXT) {
        let end = memchr::memmem::find(&bytes[..known.min(MAX_TEXT)], TEXT_END);
        known = match end {
            Some(at) => at + TEXT_END.len(),
            None if known < MAX_TEXT => return Header::Short,
            None => return Header::Wrong,
        };
    }
    let result = HeaderResult::parse(&bytes[..known]);
    if result.is_incomplete() {
        // A line that has its end gets no better.
        return if could_be(TEXT) || bytes.len() >= MAX_HEADER { Header::Wrong } else { Header::Short };
    }
    match result {
        HeaderResult::V1(Ok(header)) => {
            let source = match header.addresses {
                v1::Addresses::Unknown => None,
                v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
                v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
            };
            Header::Whole(header.header.len(), source)
        }
        HeaderResult::V2(Ok(header)) => {
            let source = match (header.command, &header.addresses) {
                (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => {
                    Some((ip.source_address, ip.source_port).into())
                }
                (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => {
                    Some((ip.source_address, ip.source_port).into())
                }
                _ => None,
            };
            Header::Whole(header.len(), source)
        }
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Header::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [BINARY, &[0x20 | command, family], &length, addresses].concat()
    }

    #[test]
    fn both_versions_are_read_piece_by_piece() {
        let four = binary(1, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80]);
        let mut six = vec![0; 36];
        (six[0], six[15], six[33]) = (0x20, 1, 7);
        for (header, source) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n".to_vec(), address("192.0.2.1:4660")),
            (b"PROXY TCP6 2000::1 ::1 7 80\r\n".to_vec(), address("[2000::1]:7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (four, address("192.0.2.1:4660")),
            (binary(1, 0x21, &six), address("[2000::1]:7")),
            (binary(0, 0x00, &[]), None),
            // With additions of a kind nobody knows.
            (
                binary(1, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80, 0xee, 0, 1, 9]),
                address("192.0.2.1:4660"),
            ),
        ] {
            for cut in 1..header.len() {
                assert_eq!(read(&header[..cut]), Header::Short, "{cut} of {header:?}");
            }
            let length = header.len();
            assert_eq!(read(&[&header[..], b"rest"].concat()), Header::Whole(length, source));
        }
    }

    #[test]
    fn anything_else_is_wrong_at_once() {
        for bytes in [
            &b"\x10\x0c\0\x04MQTT"[..],
            b"G",
            b"PROXY TCP4 x y 1 2\r\n",
            b"PROXY TCP4 1.2.3.4\r\n",
            b"PROXY \r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 99999 1\r\n",
        ] {
            assert_eq!(read(bytes), Header::Wrong, "{bytes:?}");
        }
        let endless = [b"PROXY TCP4 ".to_vec(), vec![b'1'; MAX_HEADER]].concat();
        assert_eq!(read(&endless), Header::Wrong);
    }
}
