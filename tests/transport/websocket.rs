//! WebSocket, plain and over TLS.
use super::support::certificates::Authority;
use super::support::tunnel::{Tunnel, client_config};
use super::support::*;
use super::{broker_with, converse};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// A raw WebSocket, after the handshake.
fn opened(address: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(REQUEST.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("sec-websocket-protocol: mqtt\r\n"), "{head}");
    socket
}

/// A frame from a client.
fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mask = [1, 2, 3, 4];
    let header = FrameHeader { opcode, is_final, mask: Some(mask), ..FrameHeader::default() };
    header.format(payload.len() as u64, &mut bytes).unwrap();
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    bytes
}

fn binary(payload: &[u8]) -> Vec<u8> {
    frame(OpCode::Data(Data::Binary), true, payload)
}

/// The next frame from the broker: opcode and payload. `None` at the end.
fn next_frame(socket: &mut TcpStream) -> Option<(OpCode, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut byte = [0];
        if socket.read(&mut byte).ok()? == 0 {
            return None;
        }
        bytes.push(byte[0]);
        let mut cursor = std::io::Cursor::new(&bytes);
        if let Some((header, length)) = FrameHeader::parse(&mut cursor).unwrap() {
            assert!(header.mask.is_none() && header.is_final);
            let mut payload = vec![0; length as usize];
            socket.read_exact(&mut payload).unwrap();
            return Some((header.opcode, payload));
        }
    }
}

#[test]
fn messages_pass_through_websockets_plain_and_over_tls() {
    let authority = Authority::new("authority");
    let server = authority.server(&["localhost"]);
    let config = client_config(&authority.file, None);
    for shards in [1, 3] {
        let (mut broker, address) = broker_with(shards, "transport = \"websocket\"\n");
        broker.address = Tunnel::websocket("/mqtt").open(address);
        converse(&broker);
        let listener = format!(
            "transport = \"wss\"\ncertificate = [{:?}]\nkey = [{:?}]\n",
            server.certificate, server.key
        );
        let (mut broker, address) = broker_with(shards, &listener);
        let tunnel = Tunnel { websocket: Some(("/".to_string(), None)), ..Tunnel::tls(&config, "localhost") };
        broker.address = tunnel.open(address);
        converse(&broker);
    }
}

#[test]
fn requests_that_are_not_meant_for_us_are_answered_with_the_reason() {
    let (_broker, address) = broker_with(
        1,
        "transport = \"websocket\"\nwebsocket-path = [\"/mqtt\"]\nwebsocket-origin = [\"https://good.example\"]\n",
    );
    let long = format!("X: {}\r\nHost: broker", "x".repeat(9000));
    for (from, to, status) in [
        ("", "", "101"),
        ("Host: broker", "Host: broker\r\nOrigin: https://good.example", "101"),
        ("Host: broker", "Host: broker\r\nOrigin: http://broker", "101"),
        ("Host: broker", "Host: broker\r\nOrigin: https://evil.example", "403"),
        ("/mqtt", "/other", "404"),
        ("Protocol: mqtt", "Protocol: chat", "400"),
        ("Version: 13", "Version: 12", "426"),
        ("GET", "POST", "405"),
        ("Host: broker", &long, "431"),
    ] {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = if from.is_empty() { REQUEST.to_string() } else { REQUEST.replace(from, to) };
        socket.write_all(request.as_bytes()).unwrap();
        let mut said = [0; 12];
        socket.read_exact(&mut said).unwrap();
        assert_eq!(&said[9..], status.as_bytes(), "{from} -> {to}");
        if status != "101" {
            // The end follows, and nothing that was sent behind is taken for MQTT.
            let _ = socket.write_all(&binary(&Connect::new(Version::V5, "x").encode()));
            let _ = socket.read_to_end(&mut Vec::new());
        }
    }
}

#[test]
fn packets_may_lie_anyhow_in_frames() {
    // One shard, so that SUBACK, which waits for the others, comes before what was sent later is answered.
    let (_broker, address) = broker_with(1, "transport = \"websocket\"\n");
    let topic = unique("t");
    let packets = [
        Connect::new(Version::V4, &unique("c")).encode(),
        subscribe(Version::V4, 1, &[(&topic, 0)]),
        publish(Version::V4, &Publish::new(&topic, "hello")),
        ping(),
    ]
    .concat();
    let expect = |mut socket: TcpStream| {
        let mut got = Vec::new();
        while !got.ends_with(&[0xd0, 0]) {
            let (opcode, payload) = next_frame(&mut socket).expect("PINGRESP");
            assert_eq!(opcode, OpCode::Data(Data::Binary));
            got.extend(payload);
        }
        assert!(got.starts_with(&[0x20, 2, 0, 0, 0x90, 3, 0, 1, 0]), "{got:?}");
        assert!(got.windows(5).any(|window| window == b"hello"), "{got:?}");
    };
    // All in one frame; one byte in each; one message in pieces with pings and empty frames between them.
    let mut socket = opened(address);
    socket.write_all(&binary(&packets)).unwrap();
    expect(socket);
    let mut socket = opened(address);
    packets.iter().for_each(|byte| socket.write_all(&binary(&[*byte])).unwrap());
    expect(socket);
    let mut socket = opened(address);
    let (first, rest) = packets.split_at(7);
    let (second, third) = rest.split_at(11);
    let mut bytes = frame(OpCode::Data(Data::Binary), false, first);
    bytes.extend(frame(OpCode::Control(Control::Ping), true, b"are you there"));
    bytes.extend(frame(OpCode::Data(Data::Continue), false, second));
    bytes.extend(frame(OpCode::Data(Data::Continue), false, b""));
    bytes.extend(frame(OpCode::Data(Data::Continue), true, third));
    // In pieces of TCP, too.
    for piece in bytes.chunks(3) {
        socket.write_all(piece).unwrap();
    }
    assert_eq!(next_frame(&mut socket), Some((OpCode::Control(Control::Pong), b"are you there".to_vec())));
    expect(socket);
    // Everything in one segment with the request.
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(&[REQUEST.as_bytes(), &binary(&packets)].concat()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    expect(socket);
}

#[test]
fn frames_against_the_rules_end_with_the_code_for_it() {
    let (_broker, address) = broker_with(1, "transport = \"websocket\"\nwebsocket-max-frame = \"1K\"\n");
    let connect = Connect::new(Version::V4, &unique("c")).encode();
    let unmasked = [&[0x82, connect.len() as u8][..], &connect].concat();
    let compressed = {
        let mut bytes = binary(&connect);
        bytes[0] |= 0x40;
        bytes
    };
    for (bytes, code) in [
        (unmasked, 1002u16),
        (compressed, 1002),
        (frame(OpCode::Data(Data::Text), true, &connect), 1003),
        (frame(OpCode::Data(Data::Continue), true, &connect), 1002),
        ([frame(OpCode::Data(Data::Binary), false, b""), binary(&connect)].concat(), 1002),
        (frame(OpCode::Control(Control::Ping), false, b""), 1002),
        (frame(OpCode::Control(Control::Ping), true, &[0; 126]), 1002),
        (binary(&[0; 1025]), 1009),
        (vec![0x83, 0x80, 0, 0, 0, 0], 1002),
    ] {
        let mut socket = opened(address);
        socket.write_all(&bytes).unwrap();
        let expected = (OpCode::Control(Control::Close), code.to_be_bytes().to_vec());
        assert_eq!(next_frame(&mut socket), Some(expected), "{bytes:?}");
        assert_eq!(next_frame(&mut socket), None);
    }
}

#[test]
fn a_close_is_answered_and_ends_the_connection_with_its_will() {
    let (broker, address) = broker_with(2, "transport = \"websocket\"\n");
    let mut watcher = Client::new(&broker, Version::V5);
    watcher.subscribe("gone", 0);
    let testator = Connect::new(Version::V5, &unique("c")).will(Will::new("gone", "will"));
    let mut socket = opened(address);
    socket.write_all(&binary(&testator.encode())).unwrap();
    assert!(
        matches!(next_frame(&mut socket), Some((OpCode::Data(Data::Binary), connack)) if connack[0] == 0x20)
    );
    socket.write_all(&frame(OpCode::Control(Control::Close), true, b"")).unwrap();
    assert_eq!(next_frame(&mut socket), Some((OpCode::Control(Control::Close), Vec::new())));
    assert_eq!(next_frame(&mut socket), None);
    watcher.expect_message("gone", "will");
}

#[test]
fn a_request_that_does_not_come_to_an_end_is_ended() {
    let port = free_port();
    let text =
        format!("connect-timeout = \"200ms\"\n[[listener]]\naddress = {port}\ntransport = \"websocket\"\n");
    let file = certificates::written("ringmq.toml", &text);
    let _broker = Broker::start(1, &["--config", file.to_str().unwrap()]);
    let halves =
        [REQUEST.as_bytes()[..20].to_vec(), REQUEST.into(), [REQUEST.as_bytes(), &[0x82, 0xfe]].concat()];
    for bytes in halves {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&bytes).unwrap();
        socket.read_to_end(&mut Vec::new()).unwrap();
    }
}
