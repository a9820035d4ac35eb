//! The end of a connection behind data that the broker has taken and not handled yet.
use super::broker_with;
use super::support::certificates::Authority;
use super::support::tunnel::{Remote, Stream, Tunnel, client_config};
use super::support::*;
use std::io::Write;
use std::net::SocketAddr;

/// A client that publishes faster than it may, and says goodbye to its transport in the same breath.
const MESSAGES: usize = 60;
const RATE: &str = "max-publish-rate = 40\n";

/// CONNECT with a will, and more messages than may come in a second.
fn packets(topic: &str) -> Vec<u8> {
    let connect = Connect::new(Version::V5, &unique("c")).will(Will::new(topic, "will"));
    let messages = (0..MESSAGES).flat_map(|n| publish(Version::V5, &Publish::new(topic, n.to_string())));
    connect.encode().into_iter().chain(messages).collect()
}

/// Everything comes, and the will behind it, since nobody took leave in MQTT. What `send` answers is kept meanwhile: a socket
/// that is closed with unread bytes is reset.
fn expect_all<T>(broker: &mut Broker, tunnel: &Tunnel, address: SocketAddr, send: impl FnOnce(&[u8]) -> T) {
    broker.address = tunnel.clone().open(address);
    let topic = unique("t");
    let mut subscriber = Client::new(broker, Version::V5);
    subscriber.subscribe(&topic, 0);
    let _socket = send(&packets(&topic));
    for n in 0..MESSAGES {
        subscriber.expect_message(&topic, n.to_string());
    }
    subscriber.expect_message(&topic, "will");
}

#[test]
fn what_came_before_close_notify_is_handled() {
    let authority = Authority::new("authority");
    let server = authority.server(&["localhost"]);
    let tunnel = Tunnel::tls(&client_config(&authority.file, None), "localhost");
    let text = format!(
        "transport = \"tls\"\ncertificate = [{:?}]\nkey = [{:?}]\n{RATE}",
        server.certificate, server.key
    );
    for shards in [1, 2, 3] {
        let (mut broker, address) = broker_with(shards, &text);
        expect_all(&mut broker, &tunnel, address, |packets| {
            let Ok(Remote::Bytes(Stream::Tls(mut stream))) = tunnel.connect(address) else {
                panic!("a TLS connection")
            };
            stream.conn.writer().write_all(packets).unwrap();
            stream.conn.send_close_notify();
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut stream.sock).unwrap();
            }
            stream
        });
    }
}

#[test]
fn what_came_before_the_close_of_a_websocket_is_handled() {
    let tunnel = Tunnel::websocket("/mqtt");
    for shards in [1, 2, 3] {
        let (mut broker, address) = broker_with(shards, &format!("transport = \"websocket\"\n{RATE}"));
        expect_all(&mut broker, &tunnel, address, |packets| {
            let Ok(Remote::Frames(mut socket)) = tunnel.connect(address) else { panic!("a WebSocket") };
            socket.write(tungstenite::Message::binary(packets.to_vec())).unwrap();
            socket.close(None).unwrap();
            socket.flush().unwrap();
            socket
        });
    }
}
