//! The filters without sockets: a client of rustls and tungstenite on one side, the bytes cut anyhow between.
use super::certificate::{Identity, TlsSettings, identity};
use super::http::WebSocketSettings;
use super::*;
use crate::net::door::{DoorSettings, DoorState};
use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::{LazyLock, OnceLock};

/// What opens a WebSocket.
const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: \
    dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// One server's certificate for all tests, and its door settings.
fn tls_settings() -> TlsSettings {
    static FILES: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    let (certificate, key) = FILES.get_or_init(|| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_string()]).unwrap();
        let made = params.self_signed(&key).unwrap();
        let path = |what: &str| {
            std::env::temp_dir().join(format!("ringmq-transport-{}-{what}.pem", std::process::id()))
        };
        std::fs::write(path("certificate"), made.pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        (path("certificate"), path("key"))
    });
    TlsSettings {
        certificates: vec![(certificate.clone(), key.clone())],
        with_1_2: true,
        ..Default::default()
    }
}

fn door(with_tls: bool, with_websocket: bool) -> Arc<DoorState> {
    static DOORS: LazyLock<[Arc<DoorState>; 4]> = LazyLock::new(|| {
        [(false, false), (false, true), (true, false), (true, true)].map(|(tls, websocket)| {
            let settings = DoorSettings {
                tls: tls.then(tls_settings),
                websocket: websocket.then(|| WebSocketSettings { max_frame: 1 << 20, ..Default::default() }),
                ..Default::default()
            };
            Arc::new(DoorState::load(settings).unwrap().0)
        })
    });
    DOORS[2 * usize::from(with_tls) + usize::from(with_websocket)].clone()
}

fn transport(with_tls: bool, with_websocket: bool, is_proxy: bool) -> Box<Transport> {
    let door = door(with_tls, with_websocket);
    match door.transport(&Origin::default()).unwrap() {
        Some(mut transport) => {
            transport.header = is_proxy.then(Vec::new);
            transport
        }
        None => Box::new(Transport::new(door, is_proxy, Origin::default()).unwrap()),
    }
}

/// What came out of a transport.
#[derive(Default)]
struct Taken {
    plain: Vec<u8>,
    origins: Vec<Origin>,
}

impl Sink for Taken {
    fn learn(&mut self, origin: Origin) {
        assert!(self.plain.is_empty(), "the origin is told before any plaintext");
        self.origins.push(origin);
    }
    fn take(&mut self, plain: &[u8]) {
        self.plain.extend_from_slice(plain);
    }
}

fn client(version: Option<&'static rustls::SupportedProtocolVersion>) -> ClientConnection {
    let (certificate, _) = &tls_settings().certificates[0];
    let mut roots = RootCertStore::empty();
    CertificateDer::pem_file_iter(certificate).unwrap().for_each(|one| roots.add(one.unwrap()).unwrap());
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let versions =
        version.map_or(vec![&rustls::version::TLS12, &rustls::version::TLS13], |version| vec![version]);
    let builder = builder.with_protocol_versions(&versions).unwrap();
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap()
}

/// Takes all bytes that are to be sent.
fn drain(wire: &mut Output) -> Vec<u8> {
    let mut all = Vec::new();
    while !wire.is_empty() {
        let count = in_reach(wire);
        gather(wire, count, &mut all);
        wire.advance(count);
    }
    all
}

/// A client of TLS and a transport, with bytes between them that are cut into `chunk` each and changed by `spoil`.
struct Wire<'a> {
    client: ClientConnection,
    transport: Box<Transport>,
    scratch: Scratch,
    taken: Taken,
    chunk: usize,
    flow: Flow,
    spoil: &'a mut dyn FnMut(&mut Vec<u8>),
}

impl<'a> Wire<'a> {
    fn new(
        version: Option<&'static rustls::SupportedProtocolVersion>,
        with_websocket: bool,
        chunk: usize,
        spoil: &'a mut dyn FnMut(&mut Vec<u8>),
    ) -> Wire<'a> {
        Wire {
            client: client(version),
            transport: transport(true, with_websocket, false),
            scratch: Scratch::default(),
            taken: Taken::default(),
            chunk,
            flow: Flow::Open,
            spoil,
        }
    }

    /// Moves bytes until nothing moves; what the client read.
    fn settle(&mut self) -> Vec<u8> {
        let mut read = Vec::new();
        loop {
            let mut to_server = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut to_server).unwrap();
            }
            (self.spoil)(&mut to_server);
            for piece in to_server.chunks(self.chunk) {
                if self.flow == Flow::Open {
                    self.flow = self.transport.receive(piece, &mut self.scratch, &mut self.taken);
                    // Something is sent while something else has come halfway.
                    if self.transport.wire.len() < 1000 {
                        let mut output = Output::default();
                        output.tail().extend_from_slice(b"x");
                        self.transport.seal(&mut output, &mut self.scratch);
                    }
                }
            }
            let to_client = drain(self.transport.wire());
            if to_client.is_empty() && to_server.is_empty() {
                return read;
            }
            let mut rest = &to_client[..];
            while !rest.is_empty() {
                self.client.read_tls(&mut rest).unwrap();
                if self.client.process_new_packets().is_err() {
                    return read;
                }
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = self.client.reader().read(&mut buffer) {
                    read.extend_from_slice(&buffer[..count]);
                }
            }
        }
    }
}

#[test]
fn bytes_arrive_as_they_were_sent_however_the_records_are_cut() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for chunk in [1, 2, 5, 100, 1000, 1 << 20] {
            let spoil = &mut |_: &mut Vec<u8>| {};
            let mut wire = Wire::new(Some(version), false, chunk, spoil);
            let said: Vec<u8> = (0..10_000u32).map(|n| (n * 7) as u8).collect();
            wire.client.writer().write_all(&said).unwrap();
            wire.settle();
            assert_eq!(wire.flow, Flow::Open);
            assert!(wire.taken.plain == said, "{chunk}");
            // New keys, which only version 1.3 has.
            if version == &rustls::version::TLS13 {
                wire.client.refresh_traffic_keys().unwrap();
            }
            wire.client.writer().write_all(b"more").unwrap();
            wire.settle();
            assert!(wire.taken.plain.ends_with(b"more"));
            let mut output = Output::default();
            output.tail().extend_from_slice(&said);
            output.push_shared(bytes::Bytes::from(said.clone()));
            let mut heard = Vec::new();
            while !output.is_empty() {
                assert!(wire.transport.seal(&mut output, &mut wire.scratch));
                heard.extend(wire.settle());
            }
            assert!(heard.ends_with(&[&said[..], &said].concat()), "{chunk}");
            wire.client.send_close_notify();
            wire.settle();
            assert_eq!(wire.flow, Flow::Ended);
        }
    }
}

#[test]
fn an_idle_transport_keeps_no_buffers() {
    let spoil = &mut |_: &mut Vec<u8>| {};
    let mut wire = Wire::new(None, true, 1 << 20, spoil);
    wire.client.writer().write_all(REQUEST).unwrap();
    assert!(wire.settle().starts_with(b"HTTP/1.1 101 "));
    wire.transport.drained(&mut wire.scratch);
    assert_eq!(wire.transport.wire.tail().capacity(), 0);
    assert!(size_of::<Transport>() < 4096, "{}", size_of::<Transport>());
}

#[test]
fn an_answer_waits_for_the_end_of_the_frame_that_is_under_way() {
    let mut transport = transport(false, true, false);
    let (mut scratch, mut taken, mut output) = (Scratch::default(), Taken::default(), Output::default());
    output.tail().extend_from_slice(&[7; 300]);
    assert_eq!(transport.announce(&output, &mut scratch), None, "nothing goes before the request");
    assert_eq!(transport.receive(REQUEST, &mut scratch, &mut taken), Flow::Open);
    assert!(drain(transport.wire()).starts_with(b"HTTP/1.1 101 "));
    // All of it is one frame. What comes while it is under way is another one, and the answer to a ping is between.
    assert_eq!(transport.announce(&output, &mut scratch), Some(300));
    assert_eq!(drain(transport.wire()), [0x82, 126, 1, 44]);
    output.advance(100);
    transport.follow(100);
    let ping = [0x89, 0x81, 1, 2, 3, 4, b'p' ^ 1];
    assert_eq!(transport.receive(&ping, &mut scratch, &mut taken), Flow::Open);
    output.tail().extend_from_slice(b"next");
    assert_eq!(transport.announce(&output, &mut scratch), Some(200));
    assert!(transport.wire().is_empty());
    output.advance(200);
    transport.follow(200);
    assert_eq!(drain(transport.wire()), [0x8A, 1, b'p']);
    assert_eq!(transport.announce(&output, &mut scratch), Some(4));
    assert_eq!(drain(transport.wire()), [0x82, 4]);
    // The end comes within the frame: it is finished, and more follows in one of its own.
    output.advance(1);
    transport.follow(1);
    output.tail().extend_from_slice(b"!");
    let mut last = transport.finish(output, &mut scratch);
    assert_eq!(drain(&mut last), b"ext\x82\x01!\x88\x02\x03\xe9");
}

#[test]
fn a_certificate_says_who_a_client_is() {
    let mut params = CertificateParams::new(vec!["pump-7.plant.example".to_string()]).unwrap();
    params.distinguished_name = Default::default();
    params.distinguished_name.push(DnType::OrganizationName, "Plant, Inc.");
    params.distinguished_name.push(DnType::CommonName, "pump 7");
    let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let is = |what| identity(made.der(), what);
    assert_eq!(is(Identity::None), None);
    assert_eq!(is(Identity::Cn).as_deref(), Some("pump 7"));
    assert_eq!(is(Identity::Dns).as_deref(), Some("pump-7.plant.example"));
    assert_eq!(is(Identity::Subject).as_deref(), Some("CN=pump 7,O=Plant\\, Inc."));
    let nameless = CertificateParams::new(Vec::new()).unwrap();
    let mut nameless = nameless;
    nameless.distinguished_name = Default::default();
    let made = nameless.self_signed(&KeyPair::generate().unwrap()).unwrap();
    for what in [Identity::Cn, Identity::Dns, Identity::Subject] {
        assert_eq!(identity(made.der(), what), None);
    }
    assert_eq!(identity(&CertificateDer::from(vec![1, 2, 3]), Identity::Cn), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes, no filter panics, and what it keeps and answers is bounded.
    #[test]
    fn arbitrary_bytes_do_no_harm(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
        kinds in any::<[bool; 3]>(),
        start in 0usize..5,
    ) {
        let [tls, websocket, is_proxy] = kinds;
        let mut transport = transport(tls, websocket, is_proxy);
        let (mut scratch, mut taken) = (Scratch::default(), Taken::default());
        let starts: [&[u8]; 5] = [b"", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", REQUEST, &[22, 3, 1], b"\r\n\r\n\0\r\nQUIT\n\x21"];
        let mut flow = transport.receive(starts[start], &mut scratch, &mut taken);
        for piece in &pieces {
            if flow != Flow::Open {
                break;
            }
            flow = transport.receive(piece, &mut scratch, &mut taken);
            let mut output = Output::default();
            output.tail().extend_from_slice(b"x");
            transport.seal(&mut output, &mut scratch);
            prop_assert!(transport.wire.len() <= 2 * MAX_ANSWERS);
        }
        transport.finish(Output::default(), &mut scratch);
    }

    /// A conversation in which some bytes are changed, lost or doubled ends, or goes on, but does no harm.
    #[test]
    fn a_spoilt_conversation_does_no_harm(
        mistakes in proptest::collection::vec((any::<u16>(), any::<u8>(), 0u8..3), 1..4),
        chunk in 1usize..600,
        seldom in 1usize..4,
        is_new in any::<bool>(),
    ) {
        let (mut flights, mut left) = (0usize, mistakes.into_iter());
        let mut spoil = |bytes: &mut Vec<u8>| {
            flights += usize::from(!bytes.is_empty());
            if bytes.is_empty() || flights % seldom != 0 {
                return;
            }
            let Some((place, value, kind)) = left.next() else { return };
            let at = usize::from(place) % bytes.len();
            match kind {
                0 => bytes[at] ^= value,
                1 => bytes.truncate(at),
                _ => bytes.extend_from_within(at..),
            }
        };
        let version = if is_new { &rustls::version::TLS13 } else { &rustls::version::TLS12 };
        let mut wire = Wire::new(Some(version), false, chunk, &mut spoil);
        for _ in 0..4 {
            let _ = wire.client.writer().write_all(&[7; 100]);
            wire.settle();
            if is_new {
                let _ = wire.client.refresh_traffic_keys();
            }
        }
        let Wire { transport, mut scratch, .. } = wire;
        transport.finish(Output::default(), &mut scratch);
    }
}
