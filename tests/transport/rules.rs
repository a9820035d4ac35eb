//! Bounds of single listeners, and settings that do not fit together.
use super::broker_with;
use super::support::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
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
fn a_stranger_cannot_leave_much_unfinished() {
    let broker = Broker::start(2, &["--max-connect", "1K"]);
    for version in BOTH {
        let connect =
            |size| Connect::new(version, &unique("c")).user("u").password(vec![b'x'; size]).encode();
        // In pieces, so that it has to be kept: the length is in the first ones.
        let mut small = Client::open(&broker, version);
        connect(500).chunks(7).for_each(|piece| small.send(piece));
        small.expect_connack();
        let mut large = Client::open(&broker, version);
        connect(2000)[..7].chunks(1).for_each(|piece| large.send(piece));
        large.expect_closed();
    }
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
        ("transport = \"unix\"", "no path"),
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

#[test]
fn a_unix_socket_takes_clients_and_is_gone_with_the_broker() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.sock", unique("mqtt")));
    // Left behind by one that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    for shards in [1, 3] {
        let text = format!("[[listener]]\naddress = {path:?}\ntransport = \"unix\"\nmode = \"0600\"\n");
        let file = certificates::written("ringmq.toml", &text);
        let broker = Broker::start(shards, &["--config", file.to_str().unwrap()]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut watcher = Client::new(&broker, Version::V5);
        watcher.subscribe("#", 0);
        for n in 0..10 {
            let mut socket = UnixStream::connect(&path).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let will = Will::new("gone", format!("will {n}"));
            socket.write_all(&Connect::new(Version::V4, &unique("c")).will(will).encode()).unwrap();
            socket.read_exact(&mut [0; 4]).unwrap();
            // The end comes together with the data.
            socket.write_all(&publish(Version::V4, &Publish::new("t", format!("{n}")))).unwrap();
            drop(socket);
            watcher.expect_message("t", format!("{n}"));
            watcher.expect_message("gone", format!("will {n}"));
        }
        broker.signal(Signal::TERM);
        watcher.expect_disconnect(0x8b);
        drop(watcher);
        assert_eq!(broker.wait_for_exit().code(), Some(0));
        assert!(!path.exists());
    }
}
