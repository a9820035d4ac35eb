//! The filters of bytes: the PROXY protocol, WebSocket and TLS.
use super::super::source::Source;
use crate::auth::Origin;
use crate::net::door::{DoorSettings, DoorState};
use crate::net::transport::http::WebSocketSettings;
use crate::net::transport::{Flow, Scratch, Sink, Transport};
use crate::shard::output::{MAX_SLICES, Output};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use std::io::{IoSlice, Read, Write};
use std::sync::{Arc, LazyLock};

/// The certificate and key of a server that only these targets know.
const SERVER: &[u8] = include_bytes!("server.pem");
/// Bytes of input that are looked at; more finds nothing new.
const MAX_INPUT: usize = 4096;

/// What came out of a transport.
#[derive(Default, PartialEq, Debug)]
struct Outcome {
    plain: Vec<u8>,
    origins: Vec<Origin>,
    answers: Vec<u8>,
    flow: Option<Flow>,
}

impl Sink for Outcome {
    fn learn(&mut self, origin: Origin) {
        assert!(self.plain.is_empty(), "the origin is told before any plaintext");
        self.origins.push(origin);
    }
    fn take(&mut self, plain: &[u8]) {
        self.plain.extend_from_slice(plain);
    }
}

/// Bytes behind a PROXY header, if they begin with one: however they are cut into pieces, the same comes out.
pub fn proxy(bytes: &[u8]) {
    static DOOR: LazyLock<Arc<DoorState>> = LazyLock::new(|| door(None, false));
    let outcome = cut_anyhow(&DOOR, true, bytes);
    assert!(outcome.answers.is_empty(), "a proxy is not answered");
    assert!(outcome.origins.len() <= 1);
}

/// A request and the frames behind it: however they are cut into pieces, the same comes out.
pub fn websocket(bytes: &[u8]) {
    static DOOR: LazyLock<Arc<DoorState>> = LazyLock::new(|| door(None, true));
    let outcome = cut_anyhow(&DOOR, false, bytes);
    let is_accepted = outcome.answers.starts_with(b"HTTP/1.1 101 ");
    assert!(is_accepted || outcome.plain.is_empty(), "payload without a WebSocket");
    assert!(outcome.answers.is_empty() || outcome.answers.starts_with(b"HTTP/1.1 "));
}

/// A client of TLS whose bytes are cut and changed: nothing but what it said comes out, and all of it if nothing was
/// changed. One input in four is not from a client at all.
pub fn tls(bytes: &[u8]) {
    static DOOR: LazyLock<Arc<DoorState>> = LazyLock::new(|| door(Some(server()), false));
    let mut source = Source::new(&bytes[..bytes.len().min(MAX_INPUT)]);
    if source.one_in(4) {
        // A record is looked at when it has come whole, so that pieces may be refused later than the whole.
        let bytes = source.take(MAX_INPUT);
        let pieces: Vec<&[u8]> = bytes.chunks(7).collect();
        let is_silent = |pieces: &[&[u8]]| outcome(&DOOR, false, pieces).plain.is_empty();
        return assert!(is_silent(&[bytes]) && is_silent(&pieces), "plaintext without a handshake");
    }
    handshake(&DOOR, &mut source);
}

fn handshake(door: &Arc<DoorState>, source: &mut Source<'_>) {
    const SAID: &[u8] = b"what the client says, in a few records";
    static CLIENT: LazyLock<Arc<ClientConfig>> = LazyLock::new(client);
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = ClientConnection::new(CLIENT.clone(), name).expect("a client");
    let mut transport = Transport::new(door.clone(), false, Origin::default()).expect("a transport");
    let (mut scratch, mut outcome, mut flow) = (Scratch::default(), Outcome::default(), Flow::Open);
    let mut is_spoilt = false;
    let (mut said, mut heard) = (false, Vec::new());
    // A handshake takes two rounds; renewed keys and tickets a few more.
    for _ in 0..8 {
        if !said && !client.is_handshaking() {
            said = true;
            for piece in SAID.chunks(usize::from(source.byte()).max(1)) {
                let _ = client.writer().write(piece);
            }
        }
        let mut sent = Vec::new();
        while client.wants_write() && client.write_tls(&mut sent).is_ok() {}
        if source.one_in(4) && !sent.is_empty() {
            is_spoilt = true;
            let at = usize::from(source.byte()) * 8 + source.below(8);
            match source.below(3) {
                0 => sent.truncate(at),
                1 => sent.insert(at.min(sent.len()), source.byte()),
                _ => {
                    let at = at % sent.len();
                    sent[at] ^= source.byte().max(1);
                }
            }
        }
        for piece in sent.chunks(16 * usize::from(source.byte()) + 1) {
            if flow == Flow::Open {
                flow = transport.receive(piece, &mut scratch, &mut outcome);
            }
        }
        let mut answers = Vec::new();
        drain(transport.wire(), &mut answers);
        let mut rest = &answers[..];
        while !rest.is_empty() && client.read_tls(&mut rest).is_ok_and(|count| count > 0) {
            if client.process_new_packets().is_err() {
                break;
            }
        }
        let _ = client.reader().read_to_end(&mut heard);
        if flow != Flow::Open {
            break;
        }
        let mut output = Output::default();
        output.tail().extend_from_slice(b"an answer");
        transport.seal(&mut output, &mut scratch);
    }
    assert!(SAID.starts_with(&outcome.plain), "something else than what was said");
    if !is_spoilt {
        assert_eq!(flow, Flow::Open);
        assert_eq!(outcome.plain, SAID);
    }
}

/// The same bytes in one piece and in pieces.
fn cut_anyhow(door: &Arc<DoorState>, is_proxy: bool, bytes: &[u8]) -> Outcome {
    let bytes = &bytes[..bytes.len().min(MAX_INPUT)];
    let seed = bytes.iter().fold(7usize, |seed, byte| seed.wrapping_mul(31) + usize::from(*byte));
    let whole = outcome(door, is_proxy, &[bytes]);
    let (mut pieces, mut rest, mut size) = (Vec::new(), bytes, seed);
    while !rest.is_empty() {
        size = size.wrapping_mul(0x9e37_79b9).rotate_left(9);
        let (piece, behind) = rest.split_at((size % 13 + 1).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    assert_eq!(outcome(door, is_proxy, &pieces), whole, "cut into {:?}", lengths(&pieces));
    whole
}

fn lengths(pieces: &[&[u8]]) -> Vec<usize> {
    pieces.iter().map(|piece| piece.len()).collect()
}

fn outcome(door: &Arc<DoorState>, is_proxy: bool, pieces: &[&[u8]]) -> Outcome {
    let mut transport = Transport::new(door.clone(), is_proxy, Origin::default()).expect("a transport");
    let mut outcome = Outcome { flow: Some(Flow::Open), ..Outcome::default() };
    let mut scratch = Scratch::default();
    for piece in pieces {
        let flow = transport.receive(piece, &mut scratch, &mut outcome);
        drain(transport.wire(), &mut outcome.answers);
        outcome.flow = Some(flow);
        if outcome.flow != Some(Flow::Open) {
            break;
        }
    }
    let mut parting = transport.finish(Output::default(), &mut scratch);
    drain(&mut parting, &mut outcome.answers);
    outcome
}

/// Takes all bytes that are to be sent.
fn drain(wire: &mut Output, into: &mut Vec<u8>) {
    while !wire.is_empty() {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let filled = wire.slices(&mut slices);
        let before = into.len();
        slices[..filled].iter().for_each(|slice| into.extend_from_slice(slice));
        wire.advance(into.len() - before);
    }
}

fn door(tls: Option<Arc<ServerConfig>>, has_websocket: bool) -> Arc<DoorState> {
    let websocket = has_websocket.then(|| WebSocketSettings { max_frame: 1 << 20, ..Default::default() });
    Arc::new(DoorState { settings: DoorSettings { websocket, ..Default::default() }, tls })
}

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(SERVER).expect("a certificate")
}

fn server() -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("known versions");
    let key = PrivateKeyDer::from_pem_slice(SERVER).expect("a key");
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate()], key);
    Arc::new(config.expect("a key of the certificate"))
}

fn client() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate()).expect("a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("known versions");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}
