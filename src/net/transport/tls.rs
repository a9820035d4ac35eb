//! TLS as a filter of bytes: records come in and plaintext goes up, plaintext comes down and records go out.
//!
//! rustls' unbuffered interface leaves all buffers to us. A connection keeps nothing but keys and the beginning of a
//! record whose end has not come; everything else passes through buffers that all connections of a shard share.
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus};
use std::sync::Arc;

/// Bytes of records that may wait for more: a handshake message of 64 KiB (rustls takes no larger one) in its records.
/// The connection ends beyond it.
pub const MAX_KEPT: usize = 96 << 10;
/// Bytes around the plaintext of one record, at most: header, explicit nonce, content type, tag.
const RECORD_OVERHEAD: usize = 64;
/// Plaintext bytes of one record.
const RECORD_BYTES: usize = 16 << 10;
/// Bytes of a record's header, and where its length is.
const HEADER: usize = 5;

/// How a TLS connection goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsFlow {
    /// It is open.
    Open,
    /// The client said that nothing more comes.
    Ended,
    /// It broke the rules, or we do not agree; an alert may be among what is to be sent.
    Failed(String),
}

/// What stands above TLS.
pub trait Above {
    /// The handshake is done, and the client has shown this certificate. Comes before any plaintext.
    fn handshake_done(&mut self, certificate: Option<&CertificateDer<'_>>);
    /// Plaintext.
    fn take(&mut self, plain: &[u8]);
}

/// One server-side TLS connection.
pub struct Tls {
    connection: UnbufferedServerConnection,
    /// Records that have not come whole. rustls remembers places in it, so that it is shown exactly these bytes, and
    /// what came behind them, every time.
    kept: Vec<u8>,
    /// It failed, and rustls is not to be asked any more.
    is_over: bool,
}

impl Tls {
    /// A connection that waits for the client's first message.
    pub fn new(config: Arc<ServerConfig>) -> Result<Tls, String> {
        let connection = UnbufferedServerConnection::new(config).map_err(|error| error.to_string())?;
        Ok(Tls { connection, kept: Vec::new(), is_over: false })
    }

    /// The handshake is under way.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.connection.peer_certificates().and_then(<[_]>::first)
    }

    /// Bytes came. Plaintext goes to `above`; answers are appended to `out`. `scratch` is used while this runs, and left
    /// without meaning.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
        above: &mut impl Above,
    ) -> TlsFlow {
        if self.is_over {
            return TlsFlow::Failed("records that cannot be".to_string());
        }
        if !self.kept.is_empty() {
            self.kept.extend_from_slice(bytes);
            if is_short(&self.kept) {
                return TlsFlow::Open;
            }
        }
        scratch.clear();
        if self.kept.is_empty() {
            scratch.extend_from_slice(bytes);
        } else {
            std::mem::swap(scratch, &mut self.kept);
        }
        let mut used = 0;
        let flow = self.process(scratch, &mut used, out, above);
        let rest = &scratch[used..];
        self.kept = match flow {
            TlsFlow::Open if rest.len() > MAX_KEPT => {
                self.is_over = true;
                return TlsFlow::Failed("a message without end".to_string());
            }
            TlsFlow::Open if !rest.is_empty() => rest.to_vec(),
            _ => Vec::new(),
        };
        flow
    }

    fn process(
        &mut self,
        incoming: &mut [u8],
        used: &mut usize,
        out: &mut Vec<u8>,
        above: &mut impl Above,
    ) -> TlsFlow {
        loop {
            let was_handshaking = self.connection.is_handshaking();
            // What comes right behind the handshake waits until the client's certificate is told.
            let mut first = Vec::new();
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut incoming[*used..]);
            let flow = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                    match traffic.next_record() {
                        Some(Ok(record)) => {
                            match was_handshaking {
                                true => first.extend_from_slice(record.payload),
                                false => above.take(record.payload),
                            }
                            discard += record.discard;
                        }
                        Some(Err(error)) => break Some(TlsFlow::Failed(error.to_string())),
                        None => break None,
                    }
                },
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, out);
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Some(TlsFlow::Ended),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                    Some(TlsFlow::Open)
                }
                Ok(_) => Some(TlsFlow::Failed("early data, which is not offered".to_string())),
                Err(error) => Some(TlsFlow::Failed(error.to_string())),
            };
            *used += discard;
            if was_handshaking && !self.connection.is_handshaking() {
                above.handshake_done(self.peer_certificate());
            }
            if !first.is_empty() {
                above.take(&first);
            }
            match flow {
                None => {}
                Some(TlsFlow::Failed(why)) => {
                    self.is_over = true;
                    self.flush_alert(&mut incoming[*used..], out);
                    return TlsFlow::Failed(why);
                }
                Some(flow) => return flow,
            }
        }
    }

    /// After an error: what was to be sent before it, and the alert that tells the client, if there is one. `rest` is
    /// what rustls did not use up; while there is something, it would stumble over it a second time.
    fn flush_alert(&mut self, rest: &mut [u8], out: &mut Vec<u8>) {
        let is_used_up = rest.is_empty();
        loop {
            match self.connection.process_tls_records(rest).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
                _ => return,
            }
            if !is_used_up {
                return;
            }
        }
    }

    /// Appends `plain` as records. False when the connection can carry no more; nothing is appended then.
    /// The handshake must be over.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> bool {
        self.write(out, room_for(plain.len()), |traffic, into| traffic.encrypt(plain, into))
    }

    /// Appends the announcement that nothing more comes.
    pub fn say_goodbye(&mut self, out: &mut Vec<u8>) {
        self.write(out, RECORD_OVERHEAD, |traffic, into| traffic.queue_close_notify(into));
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        room: usize,
        mut write: impl FnMut(&mut WriteTraffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> bool {
        if self.is_over {
            return false;
        }
        loop {
            // It holds no whole message, so that no plaintext comes out of it here.
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.kept);
            let written = match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    Some(grown(out, room, |into| match write(&mut traffic, into) {
                        Ok(count) => Ok(Some(count)),
                        Err(EncryptError::InsufficientSize(wanted)) => Err(wanted.required_size),
                        Err(EncryptError::EncryptExhausted) => Ok(None),
                    }))
                }
                // A key update that was asked for goes first.
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, out);
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(_) => Some(false),
                // A header that cannot be shows before its record has come whole.
                Err(_) => {
                    self.is_over = true;
                    Some(false)
                }
            };
            self.kept.drain(..discard);
            if self.is_over {
                let mut rest = std::mem::take(&mut self.kept);
                self.flush_alert(&mut rest, out);
            }
            if let Some(written) = written {
                return written;
            }
        }
    }
}

/// Appends a message of the handshake.
fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    grown(out, RECORD_BYTES, |into| match data.encode(into) {
        Ok(count) => Ok(Some(count)),
        Err(EncodeError::InsufficientSize(wanted)) => Err(wanted.required_size),
        Err(EncodeError::AlreadyEncoded) => Ok(None),
    });
}

type WriteTraffic<'a> = rustls::unbuffered::WriteTraffic<'a, ServerConnectionData>;

/// Whether the first record of `bytes` has not come whole.
fn is_short(bytes: &[u8]) -> bool {
    match *bytes {
        [_, _, _, high, low, ..] => bytes.len() < HEADER + usize::from(u16::from_be_bytes([high, low])),
        _ => true,
    }
}

/// Bytes that the records of so much plaintext take, at most.
fn room_for(plain: usize) -> usize {
    plain + (plain / RECORD_BYTES + 1) * RECORD_OVERHEAD
}

/// Appends what `write` writes. It says how much that was (`None`: nothing can be written), or how much room it wants.
fn grown(
    out: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<Option<usize>, usize>,
) -> bool {
    let before = out.len();
    let mut room = room;
    loop {
        out.resize(before + room, 0);
        match write(&mut out[before..]) {
            Ok(written) => {
                out.truncate(before + written.unwrap_or(0));
                return written.is_some();
            }
            Err(wanted) if wanted > room => room = wanted,
            Err(_) => {
                out.truncate(before);
                return false;
            }
        }
    }
}
