//! The PROXY protocol and X-Forwarded-For.
use super::support::tunnel::Tunnel;
use super::support::*;
use super::{broker_with, converse};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

const TEXT: &[u8] = b"PROXY TCP4 192.0.2.9 127.0.0.1 4711 1883\r\n";
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\x7f\0\0\x01\x12\x67\x07\x5b";

/// What a connection that begins like this is answered, to its end or to its first bytes.
fn answered(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // One by one, so that everything comes in pieces.
    bytes.iter().for_each(|byte| drop(socket.write_all(&[*byte])));
    let mut said = vec![0; 1000];
    let count = socket.read(&mut said).unwrap_or(0);
    said.truncate(count);
    said
}

#[test]
fn a_header_must_come_from_a_named_proxy() {
    let (mut broker, address) = broker_with(2, "proxy-protocol-from = [\"127.0.0.0/8\"]\n");
    let connect = Connect::new(Version::V5, &unique("c")).encode();
    for header in [TEXT, BINARY, b"PROXY UNKNOWN\r\n"] {
        let said = answered(address, &[header, &connect].concat());
        assert_eq!(said.first(), Some(&0x20), "CONNACK");
        broker.address = Tunnel { preamble: header.to_vec(), ..Tunnel::default() }.open(address);
        converse(&broker);
    }
    for forged in [&connect[..], b"PROXY TCP4 300.0.2.9 127.0.0.1 4711 1883\r\n", &BINARY[..11]] {
        let mut bytes = forged.to_vec();
        bytes.extend_from_slice(&connect);
        assert_eq!(answered(address, &bytes), b"", "{forged:?}");
    }
}

#[test]
fn a_header_from_elsewhere_is_no_mqtt() {
    let (mut broker, address) = broker_with(1, "proxy-protocol-from = [\"10.0.0.0/8\"]\n");
    let connect = Connect::new(Version::V5, &unique("c")).encode();
    assert_eq!(answered(address, &[TEXT, &connect].concat()), b"");
    assert_eq!(answered(address, &[BINARY, &connect].concat()), b"");
    broker.address = address;
    converse(&broker);
}

#[test]
fn connections_are_counted_by_the_address_that_the_proxy_tells() {
    let port = free_port();
    let text = format!(
        "max-connections-per-address = 1\n[[listener]]\naddress = {port}\nproxy-protocol-from = [\"127.0.0.0/8\"]\n"
    );
    let file = certificates::written("ringmq.toml", &text);
    let mut broker = Broker::start(2, &["--config", file.to_str().unwrap()]);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let from = |number: u8| format!("PROXY TCP4 192.0.2.{number} 127.0.0.1 4711 1883\r\n").into_bytes();
    let mut clients = Vec::new();
    for number in 1..4 {
        broker.address = Tunnel { preamble: from(number), ..Tunnel::default() }.open(address);
        clients.push(Client::new(&broker, Version::V5));
    }
    let connect = Connect::new(Version::V5, &unique("c")).encode();
    assert_eq!(answered(address, &[&from(2)[..], &connect].concat()), b"");
    clients.iter_mut().for_each(Client::expect_nothing_until_ping);
}
