//! Bounds of single listeners, and settings that do not fit together.
use super::broker_with;
use super::support::*;
use std::io::Read;
use std::net::TcpStream;
use std::process::Command;

#[test]
fn a_listener_takes_no_more_connections_than_it_may() {
    let (mut broker, address) = broker_with(2, "max-connections = 2\n");
    let other = broker.address;
    broker.address = address;
    let (first, _second) = (Client::new(&broker, Version::V5), Client::new(&broker, Version::V5));
    let mut third = TcpStream::connect(address).unwrap();
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(third.read(&mut [0]).unwrap(), 0, "closed at once");
    broker.address = other;
    Client::new(&broker, Version::V5).disconnect();
    broker.address = address;
    first.disconnect();
    Client::new(&broker, Version::V5).disconnect();
}

#[test]
fn settings_that_do_not_fit_together_are_refused() {
    for (listener, named) in [
        ("transport = \"tls\"", "certificate and key"),
        ("transport = \"tls\"\ncertificate = [\"/nowhere.pem\"]\nkey = [\"/nowhere.key\"]", "/nowhere.pem"),
        ("certificate = [\"x\"]", "certificate is for TLS"),
        ("websocket-path = [\"/x\"]", "websocket-path is for WebSocket"),
        ("transport = \"websocket\"\nwebsocket-path = [\"x\"]", "begin with /"),
        (
            "transport = \"tls\"\ncertificate = [\"a\"]\nkey = [\"b\"]\nrequire-certificate = true",
            "client-ca",
        ),
        ("proxy-protocol-from = [\"10.0.0.0/33\"]", "10.0.0.0/33"),
        ("transport = \"quic\"", "websocket"),
    ] {
        let text = format!("[[listener]]\naddress = 0\n{listener}\n");
        let file = certificates::written("ringmq.toml", &text);
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "20", env!("CARGO_BIN_EXE_ringmq"), "serve", "--config"]).arg(&file);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{listener}: {said}");
        assert!(said.contains(named) && said.lines().count() == 1, "{listener}: {said}");
    }
}
