//! SIGHUP, and files that change.
use super::support::certificates::{Authority, Identity, written};
use super::support::tunnel::{Remote, Stream, Tunnel, client_config};
use super::support::*;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A broker with this configuration file.
fn start(text: &str) -> (Broker, PathBuf) {
    let file = written("ringmq.toml", text);
    (Broker::start(2, &["--config", file.to_str().unwrap()]), file)
}

/// Asks the broker to read its settings again, until `holds`.
#[track_caller]
fn reload_until(broker: &Broker, mut holds: impl FnMut() -> bool) {
    broker.signal(Signal::HUP);
    await_that(&mut holds);
}

#[track_caller]
fn await_that(holds: &mut impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "it does not come true");
        std::thread::yield_now();
    }
}

/// The certificate a new connection is shown.
fn shown(tunnel: &Tunnel, address: SocketAddr) -> Vec<u8> {
    let Ok(Remote::Bytes(Stream::Tls(stream))) = tunnel.connect(address) else { return Vec::new() };
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

fn copy(from: &Identity, to: &Identity) {
    std::fs::copy(&from.key, &to.key).unwrap();
    std::fs::copy(&from.certificate, &to.certificate).unwrap();
}

#[test]
fn limits_change_without_anybody_noticing() {
    let (broker, file) = start("max-subscriptions = 1\n");
    let mut client = Client::new(&broker, Version::V5);
    client.subscribe("a", 0);
    let mut code = |filter: &str| {
        let id = client.fresh_id();
        client.send(&subscribe(Version::V5, id, &[(filter, 0)]));
        client.expect_suback(id)[0]
    };
    assert_eq!(code("b"), 0x97);
    std::fs::write(&file, "max-subscriptions = 2\n").unwrap();
    reload_until(&broker, || code("b") == 0);
    // A mistake changes nothing, and what follows it in the file neither.
    std::fs::write(&file, "max-subscriptionz = 1\nmax-subscriptions = 9\n").unwrap();
    broker.signal(Signal::HUP);
    await_that(&mut || broker.said().contains("nothing is changed"));
    assert!(broker.said().contains(":1: unknown key \"max-subscriptionz\""), "{}", broker.said());
    assert_eq!(code("c"), 0x97);
}

#[test]
fn what_needs_another_start_is_told() {
    let (broker, file) = start("max-packet = \"1M\"\n");
    std::fs::write(&file, "max-packet = \"1K\"\nmax-connections = 5\nsys-interval = \"1s\"\n").unwrap();
    let mut client = Client::new(&broker, Version::V5);
    broker.signal(Signal::HUP);
    await_that(&mut || broker.said().contains("sys-interval changes with the next start"));
    // The client was told that it may; who comes now is told otherwise.
    await_that(&mut || {
        let connect = Connect::new(Version::V5, &unique("c"));
        Client::connect_with(&broker, &connect).2.number(prop::MAXIMUM_PACKET_SIZE) == Some(1024)
    });
    client.subscribe("t", 0);
    client.publish("t", 0, vec![1; 5000]);
    client.expect_message("t", vec![1; 5000]);
}

#[test]
fn a_new_certificate_is_shown_after_a_signal_and_by_itself() {
    let authority = Authority::new("authority");
    let (server, second, third) = (
        authority.server(&["localhost"]),
        authority.server(&["localhost"]),
        authority.server(&["localhost"]),
    );
    let port = free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let (certificate, key) = (&server.certificate, &server.key);
    let listener = format!(
        "[[listener]]\naddress = {port}\ntransport = \"tls\"\ncertificate = [{certificate:?}]\nkey = [{key:?}]\n"
    );
    let (mut broker, _file) = start(&listener);
    let tunnel = Tunnel::tls(&client_config(&authority.file, None), "localhost");
    assert_eq!(shown(&tunnel, address), server.made.der().to_vec());
    broker.address = tunnel.clone().open(address);
    let mut client = Client::new(&broker, Version::V5);
    copy(&second, &server);
    reload_until(&broker, || shown(&tunnel, address) == second.made.der().to_vec());
    copy(&third, &server);
    await_that(&mut || shown(&tunnel, address) == third.made.der().to_vec());
    client.expect_nothing_until_ping();
    // A file that is none changes nothing.
    std::fs::write(Path::new(certificate), "no certificate").unwrap();
    broker.signal(Signal::HUP);
    await_that(&mut || broker.said().contains("no certificate in PEM form"));
    assert_eq!(shown(&tunnel, address), third.made.der().to_vec());
    client.expect_nothing_until_ping();
}

#[test]
fn a_client_that_is_revoked_is_out_at_its_next_connection_even_with_a_ticket() {
    let authority = Authority::new("authority");
    let server = authority.server(&["localhost"]);
    let (revoked, port) = (authority.revocations(&[1]), free_port());
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let listener = format!(
        "[[listener]]\naddress = {port}\ntransport = \"tls\"\ncertificate = [{:?}]\nkey = [{:?}]\n\
         client-ca = {:?}\ncrl = [{revoked:?}]\nrequire-certificate = true\n",
        server.certificate, server.key, authority.file
    );
    let (mut broker, _file) = start(&listener);
    let client = authority.client("pump", "pump.example", 7);
    let config = client_config(&authority.file, Some((&client.certificate, &client.key)));
    broker.address = Tunnel::tls(&config, "localhost").open(address);
    Client::new(&broker, Version::V5).disconnect();
    let mut connected = Client::new(&broker, Version::V5);
    std::fs::copy(authority.revocations(&[1, 7]), &revoked).unwrap();
    reload_until(&broker, || {
        let mut again = Client::open(&broker, Version::V5);
        again.send(&Connect::new(Version::V5, &unique("c")).encode());
        again.try_receive().is_none()
    });
    connected.expect_nothing_until_ping();
}
