//! What stands between a socket and the core: PROXY protocol, TLS and WebSocket as filters of bytes. The core knows
//! nothing of them.
//!
//! A filter keeps only what it must between two events; the large buffers are [`Scratch`], one set for each shard. So
//! an idle connection costs its keys and a few words.
pub mod certificate;
pub mod http;
pub mod proxy;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod websocket;

use super::door::{DoorState, contains};
use crate::auth::Origin;
use crate::shard::output::{BufferPool, MAX_SLICES, Output};
use certificate::identity;
use proxy::Header;
use rustls::pki_types::CertificateDer;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tls::{Tls, TlsFlow};
use websocket::{WebSocket, WebSocketFlow};

/// Plaintext bytes that are sealed at a time: four records of TLS, or one WebSocket frame. So much of a slow client's
/// output waits sealed, the rest in the core's own account.
pub const SEALED_AT_ONCE: usize = 64 << 10;
/// Bytes of answers (pongs, handshake messages) a client may leave unread; the connection ends beyond it.
pub const MAX_ANSWERS: usize = 256 << 10;

/// Buffers that all connections of a shard use in turn.
#[derive(Default)]
pub struct Scratch {
    /// Records while they are opened.
    records: Vec<u8>,
    /// Payload without its mask.
    unmasked: Vec<u8>,
    /// Answers of a WebSocket that go through TLS.
    answers: Vec<u8>,
    /// Plaintext gathered from several pieces.
    plain: Vec<u8>,
    /// For what a connection has to send.
    buffers: BufferPool,
}

/// Where a transport's plaintext, and what it learns, goes.
pub trait Sink {
    /// More is known of where the connection comes from. Comes before any plaintext.
    fn learn(&mut self, origin: Origin);
    /// Plaintext.
    fn take(&mut self, plain: &[u8]);
}

/// How a connection goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Flow {
    /// It is open.
    Open,
    /// The client ended it in good order.
    Ended,
    /// It broke a rule, which is told here in a few words.
    Failed(String),
}

/// The filters of one connection.
pub struct Transport {
    door: Arc<DoorState>,
    origin: Origin,
    /// The beginning of a PROXY header, while one is awaited.
    header: Option<Vec<u8>>,
    tls: Option<Tls>,
    websocket: Option<WebSocket>,
    /// Sealed bytes the socket has not taken.
    wire: Output,
    /// Bytes at the beginning of the core's output that the WebSocket frame in the wire has announced. They go behind
    /// the wire as they are ([`Transport::announce`]).
    announced: usize,
    /// Answers that wait for the end of that frame.
    waiting: Vec<u8>,
    /// Bytes that wait until the shard has time for a handshake.
    parked: Option<Vec<u8>>,
    /// The client has ended it: nothing more comes out of it.
    pub has_ended: bool,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys are nobody's business.
        f.debug_struct("Transport").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Transport {
    /// The filters of a new connection from `origin`. `is_proxy`: await a header.
    pub fn new(door: Arc<DoorState>, is_proxy: bool, origin: Origin) -> Result<Transport, String> {
        Ok(Transport {
            origin,
            header: is_proxy.then(Vec::new),
            tls: door.tls.clone().map(Tls::new).transpose()?,
            websocket: door.settings.websocket.is_some().then(WebSocket::default),
            wire: Output::default(),
            announced: 0,
            waiting: Vec::new(),
            parked: None,
            has_ended: false,
            door,
        })
    }

    /// Where the connection comes from, as far as is known.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// A proxy is about to say where the connection comes from; that it comes from the proxy says nothing.
    pub fn awaits_address(&self) -> bool {
        let forwarded = self.door.settings.websocket.as_ref().map(|settings| &settings.forwarded_from);
        let is_forwarded =
            self.origin.peer.zip(forwarded).is_some_and(|(peer, from)| contains(from, peer.ip()));
        self.header.is_some() || is_forwarded
    }

    /// A handshake that costs computing is under way.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::is_handshaking)
    }

    /// Bytes for the socket, and whether there are any.
    pub fn wire(&mut self) -> &mut Output {
        &mut self.wire
    }

    /// Puts received bytes aside until the shard has time.
    pub fn park(&mut self, bytes: &[u8]) {
        self.parked.get_or_insert_default().extend_from_slice(bytes);
    }

    /// The bytes that were put aside.
    pub fn unpark(&mut self) -> Option<Vec<u8>> {
        self.parked.take()
    }

    /// Bytes came from the socket. What they mean goes to `sink`, answers into [`Transport::wire`].
    pub fn receive(&mut self, bytes: &[u8], scratch: &mut Scratch, sink: &mut impl Sink) -> Flow {
        let flow = match self.header.take() {
            None => self.receive_sealed(bytes, scratch, sink),
            Some(mut header) => {
                header.extend_from_slice(bytes);
                match proxy::read(&header) {
                    Header::Short => {
                        self.header = Some(header);
                        Flow::Open
                    }
                    Header::Whole(length, source) => {
                        self.origin.peer = source.or(self.origin.peer);
                        if !self.awaits_address() {
                            sink.learn(self.origin.clone());
                        }
                        self.receive_sealed(&header[length..], scratch, sink)
                    }
                    Header::Wrong => {
                        Flow::Failed("a proxy that sends no header of the PROXY protocol".to_string())
                    }
                }
            }
        };
        if flow == Flow::Open && self.wire.len() + self.waiting.len() > MAX_ANSWERS {
            return Flow::Failed("answers that are not read".to_string());
        }
        flow
    }

    fn receive_sealed(&mut self, bytes: &[u8], scratch: &mut Scratch, sink: &mut impl Sink) -> Flow {
        let Scratch { records, unmasked, answers, buffers, .. } = scratch;
        answers.clear();
        buffers.lend(&mut self.wire);
        let mut above = AboveTls {
            door: &self.door,
            origin: &mut self.origin,
            websocket: self.websocket.as_mut(),
            unmasked,
            answers,
            sink,
            flow: Flow::Open,
        };
        let flow = match &mut self.tls {
            None => {
                tls::Above::take(&mut above, bytes);
                let flow = above.flow;
                let into = if self.announced > 0 { &mut self.waiting } else { self.wire.tail() };
                into.extend_from_slice(answers);
                flow
            }
            Some(tls) => {
                let of_tls = tls.receive(bytes, records, self.wire.tail(), &mut above);
                let flow = above.flow;
                if !answers.is_empty() {
                    tls.seal(answers, self.wire.tail());
                }
                match (flow, of_tls) {
                    (Flow::Open, TlsFlow::Open) => Flow::Open,
                    (Flow::Open, TlsFlow::Ended) => Flow::Ended,
                    (Flow::Open, TlsFlow::Failed(why)) => Flow::Failed(why),
                    (flow, _) => flow,
                }
            }
        };
        if self.wire.is_empty() {
            buffers.take_back(&mut self.wire);
        }
        flow
    }

    /// Whether output may be sent.
    fn is_ready(&self) -> bool {
        self.header.is_none()
            && self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
            && self.websocket.as_ref().is_none_or(WebSocket::is_open)
    }

    /// For a WebSocket without TLS, whose payload is the output as it is: makes all of `output` the payload of one
    /// frame, unless one is under way. The bytes of it that may follow the wire; `None` for other transports.
    pub fn announce(&mut self, output: &Output, scratch: &mut Scratch) -> Option<usize> {
        if self.tls.is_some() || self.websocket.is_none() || !self.is_ready() {
            return None;
        }
        if self.announced == 0 && !output.is_empty() {
            scratch.buffers.lend(&mut self.wire);
            websocket::push_header(output.len(), self.wire.tail());
            self.announced = output.len();
        }
        Some(self.announced)
    }

    /// So many announced bytes are gone.
    pub fn follow(&mut self, count: usize) {
        self.announced -= count;
        if self.announced == 0 {
            self.wire.tail().append(&mut self.waiting);
        }
    }

    /// Moves some of `output` into the wire, sealed. False when nothing can be sent (any more).
    pub fn seal(&mut self, output: &mut Output, scratch: &mut Scratch) -> bool {
        if !self.is_ready() {
            return false;
        }
        let Scratch { plain, buffers, .. } = scratch;
        buffers.lend(&mut self.wire);
        let count = in_reach(output).min(SEALED_AT_ONCE);
        let Some(tls) = &mut self.tls else {
            // The end of what was announced first.
            let count = if self.announced > 0 { count.min(self.announced) } else { count };
            if self.announced == 0 && self.websocket.is_some() {
                websocket::push_header(count, self.wire.tail());
                self.announced = count;
            }
            gather(output, count, self.wire.tail());
            output.advance(count);
            self.follow(count.min(self.announced));
            return true;
        };
        let sealed = match output.single() {
            Some(piece) if self.websocket.is_none() => tls.seal(&piece[..count], self.wire.tail()),
            _ => {
                plain.clear();
                if self.websocket.is_some() {
                    websocket::push_header(count, plain);
                }
                gather(output, count, plain);
                tls.seal(plain, self.wire.tail())
            }
        };
        if sealed {
            output.advance(count);
        }
        sealed
    }

    /// All is sent: gives the buffer back.
    pub fn drained(&mut self, scratch: &mut Scratch) {
        scratch.buffers.take_back(&mut self.wire);
    }

    /// The last bytes for the socket: what is unsent, `output`, and the words of parting of each filter.
    pub fn finish(mut self, mut output: Output, scratch: &mut Scratch) -> Output {
        while !output.is_empty() && self.seal(&mut output, scratch) {}
        let mut goodbye = Vec::new();
        // Within a frame nothing else can be said.
        if let Some(websocket) = self.websocket.as_mut().filter(|_| self.announced == 0) {
            websocket.say_goodbye(&mut goodbye);
        }
        match &mut self.tls {
            None => self.wire.tail().extend_from_slice(&goodbye),
            Some(tls) if !tls.is_handshaking() => {
                if !goodbye.is_empty() {
                    tls.seal(&goodbye, self.wire.tail());
                }
                tls.say_goodbye(self.wire.tail());
            }
            Some(_) => {}
        }
        self.wire
    }
}

/// Bytes of `output` that one look at its pieces shows.
fn in_reach(output: &Output) -> usize {
    if let Some(piece) = output.single() {
        return piece.len();
    }
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let filled = output.slices(&mut slices);
    slices[..filled].iter().map(|slice| slice.len()).sum()
}

/// Appends the first `count` bytes of `output`, which are in reach.
fn gather(output: &Output, count: usize, into: &mut Vec<u8>) {
    if let Some(piece) = output.single() {
        return into.extend_from_slice(&piece[..count]);
    }
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let filled = output.slices(&mut slices);
    let mut left = count;
    for slice in &slices[..filled] {
        let taken = slice.len().min(left);
        into.extend_from_slice(&slice[..taken]);
        left -= taken;
    }
    assert!(left == 0, "more was asked for than is in reach");
}

/// What stands above TLS: a WebSocket, or the core.
struct AboveTls<'a, S: Sink> {
    door: &'a DoorState,
    origin: &'a mut Origin,
    websocket: Option<&'a mut WebSocket>,
    unmasked: &'a mut Vec<u8>,
    answers: &'a mut Vec<u8>,
    sink: &'a mut S,
    flow: Flow,
}

impl<S: Sink> tls::Above for AboveTls<'_, S> {
    fn handshake_done(&mut self, certificate: Option<&CertificateDer<'_>>) {
        if let Some(certificate) = certificate
            && let Some(tls) = &self.door.settings.tls
            && let Some(user) = identity(certificate, tls.identity)
        {
            self.origin.identity = Some(user.into());
            self.sink.learn(self.origin.clone());
        }
    }

    fn take(&mut self, plain: &[u8]) {
        if self.flow != Flow::Open {
            return;
        }
        let Some(websocket) = &mut self.websocket else { return self.sink.take(plain) };
        let Some(settings) = &self.door.settings.websocket else { return };
        let peer = self.origin.peer.map(|peer| peer.ip());
        let mut above = AboveWebSocket { origin: self.origin, sink: self.sink };
        let flow = websocket.receive(plain, settings, peer, self.unmasked, self.answers, &mut above);
        self.flow = match flow {
            WebSocketFlow::Open => Flow::Open,
            WebSocketFlow::Ended => Flow::Ended,
            WebSocketFlow::Failed(why) => Flow::Failed(why.to_string()),
        };
    }
}

/// What stands above a WebSocket: the core.
struct AboveWebSocket<'a, S: Sink> {
    origin: &'a mut Origin,
    sink: &'a mut S,
}

impl<S: Sink> websocket::Above for AboveWebSocket<'_, S> {
    fn client_address(&mut self, address: IpAddr) {
        // The port of the proxy says nothing about the client.
        self.origin.peer = Some(SocketAddr::new(address, 0));
        self.sink.learn(self.origin.clone());
    }

    fn take(&mut self, payload: &[u8]) {
        self.sink.take(payload);
    }
}
