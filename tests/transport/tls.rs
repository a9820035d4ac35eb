//! TLS: versions, certificates of both sides, names, tickets, protocols, and handshakes that do not come to an end.
use super::support::certificates::{Authority, Identity};
use super::support::tunnel::{Remote, Stream, Tunnel, client_config, client_config_of};
use super::support::*;
use super::{broker_with, converse};
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// The lines of a listener that has this certificate.
fn tls(identity: &Identity) -> String {
    let Identity { certificate, key, .. } = identity;
    format!("transport = \"tls\"\ncertificate = [{certificate:?}]\nkey = [{key:?}]\n")
}

fn plain(config: &Arc<ClientConfig>) -> Tunnel {
    Tunnel::tls(config, "localhost")
}

/// The first handshake, or why there is none. Reading what follows tells of refusals that come late.
fn handshake(
    tunnel: &Tunnel,
    address: SocketAddr,
) -> Result<Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>, String> {
    let Remote::Bytes(Stream::Tls(mut stream)) = tunnel.connect(address)? else { unreachable!() };
    let connect = Connect::new(Version::V5, &unique("c")).encode();
    stream.write_all(&connect).map_err(|error| error.to_string())?;
    let mut first = [0];
    match stream.read(&mut first) {
        Ok(1) => Ok(stream),
        Ok(_) => Err("closed".to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn certificate_of(stream: &rustls::ClientConnection) -> CertificateDer<'static> {
    stream.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn messages_pass_through_tls_of_both_versions() {
    let authority = Authority::new("authority");
    let server = authority.server(&["localhost"]);
    for shards in [1, 3] {
        let (mut broker, address) = broker_with(shards, &tls(&server));
        for version in [&TLS12, &TLS13] {
            let tunnel = plain(&client_config_of(&authority.file, None, &[version]));
            let stream = handshake(&tunnel, address).unwrap();
            assert_eq!(stream.conn.protocol_version(), Some(version.version));
            broker.address = tunnel.open(address);
            converse(&broker);
        }
    }
}

#[test]
fn tls_1_2_can_be_turned_off() {
    let authority = Authority::new("authority");
    let listener = format!("{}tls-min = \"1.3\"\n", tls(&authority.server(&["localhost"])));
    let (_broker, address) = broker_with(1, &listener);
    let config = client_config(&authority.file, None);
    let stream = handshake(&plain(&config), address).unwrap();
    assert_eq!(stream.conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let old = client_config_of(&authority.file, None, &[&TLS12]);
    let refused = handshake(&plain(&old), address).unwrap_err();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
}

#[test]
fn a_certificate_is_required_of_clients_where_that_is_said() {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let server = tls(&authority.server(&["localhost"]));
    let client = |authority: &Authority, serial| authority.client("someone", "someone.example", serial);
    let with = |identity: &Identity| {
        let Identity { certificate, key, .. } = identity;
        plain(&client_config(&authority.file, Some((certificate, key))))
    };
    let without = plain(&client_config(&authority.file, None));
    let revoked = authority.revocations(&[7]);
    let listener = format!("{server}client-ca = {:?}\ncrl = [{revoked:?}]\n", authority.file);
    let (_optional, address) = broker_with(2, &listener);
    handshake(&without, address).unwrap();
    handshake(&with(&client(&authority, 6)), address).unwrap();
    let (_required, address) = broker_with(2, &format!("{listener}require-certificate = true\n"));
    handshake(&with(&client(&authority, 6)), address).unwrap();
    for (refused, named) in [
        (&without, "CertificateRequired"),
        (&with(&client(&other, 6)), "UnknownCA"),
        (&with(&client(&authority, 7)), "CertificateRevoked"),
    ] {
        let error = handshake(refused, address).unwrap_err();
        assert!(error.contains(named), "{named} expected: {error}");
    }
}

#[test]
fn the_certificate_is_the_one_for_the_name_that_is_asked_for() {
    let authority = Authority::new("authority");
    let (first, second) =
        (authority.server(&["one.example"]), authority.server(&["two.example", "*.three.example"]));
    let listener = format!(
        "transport = \"tls\"\ncertificate = [{:?}, {:?}]\nkey = [{:?}, {:?}]\n",
        first.certificate, second.certificate, first.key, second.key
    );
    let (_broker, address) = broker_with(1, &listener);
    let config = client_config(&authority.file, None);
    for (name, expected) in [("one.example", &first), ("two.example", &second), ("x.three.example", &second)]
    {
        let stream = handshake(&Tunnel::tls(&config, name), address).unwrap();
        assert_eq!(&certificate_of(&stream.conn), expected.made.der(), "{name}");
    }
    // Nobody's name, and so the first certificate, which the client does not take.
    for name in ["x.y.three.example", "three.example", "four.example"] {
        let error = handshake(&Tunnel::tls(&config, name), address).unwrap_err();
        assert!(error.contains("one.example"), "{name}: {error}");
    }
}

#[test]
fn the_second_connection_needs_no_certificates() {
    let authority = Authority::new("authority");
    let (_broker, address) = broker_with(2, &tls(&authority.server(&["localhost"])));
    let tunnel = plain(&client_config(&authority.file, None));
    assert_eq!(handshake(&tunnel, address).unwrap().conn.handshake_kind(), Some(HandshakeKind::Full));
    assert_eq!(handshake(&tunnel, address).unwrap().conn.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[test]
fn a_protocol_that_is_named_must_be_mqtt() {
    let authority = Authority::new("authority");
    let (_broker, address) = broker_with(1, &tls(&authority.server(&["localhost"])));
    let speaking = |protocols: &[&str]| {
        let mut config = (*client_config(&authority.file, None)).clone();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        handshake(&plain(&Arc::new(config)), address)
    };
    assert_eq!(speaking(&["http/1.1", "mqtt"]).unwrap().conn.alpn_protocol(), Some(&b"mqtt"[..]));
    assert_eq!(speaking(&[]).unwrap().conn.alpn_protocol(), None);
    let refused = speaking(&["http/1.1"]).unwrap_err();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
}

#[test]
fn a_client_is_told_when_the_broker_closes_and_may_close_itself() {
    let authority = Authority::new("authority");
    let (mut broker, address) = broker_with(1, &tls(&authority.server(&["localhost"])));
    let tunnel = plain(&client_config(&authority.file, None));
    let mut stream = handshake(&tunnel, address).unwrap();
    // A second CONNECT is answered with DISCONNECT and the end of TLS, not just of TCP.
    stream.write_all(&Connect::new(Version::V5, "again").encode()).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("close_notify before the end");
    broker.address = tunnel.open(address);
    let mut watcher = Client::new(&broker, Version::V5);
    watcher.subscribe("gone", 0);
    let testator = Connect::new(Version::V5, &unique("c")).will(Will::new("gone", "will"));
    Client::connect(&broker, &testator).close();
    watcher.expect_message("gone", "will");
}

#[test]
fn what_is_no_handshake_is_told_so_and_ends() {
    let authority = Authority::new("authority");
    let (_broker, address) = broker_with(1, &tls(&authority.server(&["localhost"])));
    for bytes in [
        Connect::new(Version::V5, "plain").encode(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![22, 3, 1, 0xff, 0xff],
    ] {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&bytes).unwrap();
        let mut said = Vec::new();
        socket.read_to_end(&mut said).unwrap();
        assert_eq!(said.first(), Some(&21), "an alert");
    }
}

#[test]
fn a_handshake_that_does_not_come_to_an_end_is_ended() {
    let authority = Authority::new("authority");
    let port = free_port();
    let text = format!(
        "connect-timeout = \"200ms\"\n[[listener]]\naddress = {port}\n{}",
        tls(&authority.server(&["localhost"]))
    );
    let file = certificates::written("ringmq.toml", &text);
    let _broker = Broker::start(1, &["--config", file.to_str().unwrap()]);
    // Nothing, the beginning of a record, and a record that is not all there.
    for bytes in [&[][..], &[22, 3], &[22, 3, 1, 2, 0, 1, 0]] {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(bytes).unwrap();
        assert_eq!(socket.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
}

#[test]
fn many_handshakes_at_once_leave_the_others_their_turn() {
    let authority = Authority::new("authority");
    let (mut broker, address) = broker_with(2, &tls(&authority.server(&["localhost"])));
    let tunnel = plain(&client_config(&authority.file, None));
    std::thread::scope(|scope| {
        let storms: Vec<_> = (0..4)
            .map(|_| {
                let mut fresh = (*client_config(&authority.file, None)).clone();
                fresh.resumption = rustls::client::Resumption::disabled();
                let tunnel = plain(&Arc::new(fresh));
                scope.spawn(move || (0..25).for_each(|_| drop(handshake(&tunnel, address).unwrap())))
            })
            .collect();
        broker.address = tunnel.clone().open(address);
        converse(&broker);
        storms.into_iter().for_each(|storm| storm.join().unwrap());
    });
}
