//! A local port whose connections go to a broker through TLS, WebSocket or both, so that the client of the tests, which
//! knows TCP only, can be used with every transport. The TLS and the WebSocket here are the buffered ones of rustls and
//! tungstenite, which the broker does not use.
use rustix::event::{PollFd, PollFlags, poll};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, version};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

/// What a tunnel speaks.
#[derive(Clone, Default)]
pub struct Tunnel {
    pub tls: Option<Arc<ClientConfig>>,
    /// The name that is asked for (SNI).
    pub name: String,
    /// Path and Origin of a WebSocket.
    pub websocket: Option<(String, Option<String>)>,
    /// What is sent before anything else.
    pub preamble: Vec<u8>,
}

/// A configuration that believes the authority in `ca`, with an own certificate if one is given.
pub fn client_config(ca: &Path, identity: Option<(&Path, &Path)>) -> Arc<ClientConfig> {
    client_config_of(ca, identity, &[&version::TLS13, &version::TLS12])
}

/// The same for some versions of TLS only.
pub fn client_config_of(
    ca: &Path,
    identity: Option<(&Path, &Path)>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    CertificateDer::pem_file_iter(ca).unwrap().for_each(|one| roots.add(one.unwrap()).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
    })
}

impl Tunnel {
    pub fn tls(config: &Arc<ClientConfig>, name: &str) -> Tunnel {
        Tunnel { tls: Some(config.clone()), name: name.to_string(), ..Tunnel::default() }
    }

    pub fn websocket(path: &str) -> Tunnel {
        Tunnel { websocket: Some((path.to_string(), None)), ..Tunnel::default() }
    }

    /// Opens a local port for connections to `broker`. A connection that cannot be made is closed.
    pub fn open(self, broker: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for local in listener.incoming().map_while(Result::ok) {
                let tunnel = self.clone();
                std::thread::spawn(move || {
                    let _ = tunnel.carry(&local, broker);
                    let _ = local.shutdown(Shutdown::Both);
                });
            }
        });
        address
    }

    /// The handshakes; what went wrong if they fail.
    pub fn connect(&self, broker: SocketAddr) -> Result<Remote, String> {
        let mut socket = TcpStream::connect(broker).map_err(|error| error.to_string())?;
        socket.set_read_timeout(Some(super::PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.write_all(&self.preamble).map_err(|error| error.to_string())?;
        let stream = match &self.tls {
            None => Stream::Plain(socket),
            Some(config) => {
                let name = ServerName::try_from(self.name.clone()).unwrap();
                let connection = ClientConnection::new(config.clone(), name).unwrap();
                let mut stream = StreamOwned::new(connection, socket);
                while stream.conn.is_handshaking() {
                    stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
                }
                Stream::Tls(Box::new(stream))
            }
        };
        let Some((path, origin)) = &self.websocket else { return Ok(Remote::Bytes(stream)) };
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        let mut request = format!("{scheme}://{broker}{path}").into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
        if let Some(origin) = origin {
            request.headers_mut().insert("Origin", origin.parse().unwrap());
        }
        let (websocket, _) = tungstenite::client(request, stream).map_err(|error| error.to_string())?;
        Ok(Remote::Frames(Box::new(websocket)))
    }

    fn carry(&self, local: &TcpStream, broker: SocketAddr) -> Result<(), String> {
        let mut remote = self.connect(broker)?;
        let failed = |error: io::Error| error.to_string();
        remote.socket().set_nonblocking(true).map_err(failed)?;
        local.set_nonblocking(true).map_err(failed)?;
        let (mut local, mut buffer) = (local, vec![0; 64 << 10]);
        let mut done = false;
        loop {
            // What is decrypted already does not make the socket readable.
            while let Some(bytes) = remote.read(&mut buffer).map_err(failed)? {
                send_all(&mut local, &bytes).map_err(failed)?;
            }
            let mut list = vec![PollFd::from_borrowed_fd(remote.socket().as_fd(), PollFlags::IN)];
            if !done {
                list.push(PollFd::from_borrowed_fd(local.as_fd(), PollFlags::IN));
            }
            poll(&mut list, None).map_err(|error| error.to_string())?;
            let is_local = list.get(1).is_some_and(|fd| !fd.revents().is_empty());
            drop(list);
            if is_local {
                match local.read(&mut buffer) {
                    Ok(0) => {
                        remote.close();
                        done = true;
                    }
                    Ok(count) => remote.write(&buffer[..count]).map_err(failed)?,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
    }
}

fn send_all(stream: &mut &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::OUT)], None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The broker's end of a tunnel.
pub enum Remote {
    Bytes(Stream),
    Frames(Box<WebSocket<Stream>>),
}

pub enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    pub fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

impl Remote {
    pub fn socket(&self) -> &TcpStream {
        match self {
            Remote::Bytes(stream) => stream.socket(),
            Remote::Frames(websocket) => websocket.get_ref().socket(),
        }
    }

    /// Bytes, if some are there; an error at the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        match self {
            Remote::Bytes(stream) => match stream.read(buffer) {
                Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => Ok(Some(buffer[..count].to_vec())),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error),
            },
            Remote::Frames(websocket) => match websocket.read() {
                Ok(Message::Binary(bytes)) => Ok(Some(bytes.to_vec())),
                Ok(_) => Ok(Some(Vec::new())),
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(io::Error::other(error)),
            },
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Remote::Bytes(stream) => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    match stream.write(rest) {
                        Ok(count) => rest = &rest[count..],
                        Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for_room(stream.socket()),
                        Err(error) => return Err(error),
                    }
                }
                loop {
                    match stream.flush() {
                        Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for_room(stream.socket()),
                        other => return other,
                    }
                }
            }
            Remote::Frames(websocket) => {
                let mut outcome = websocket.send(Message::Binary(bytes.to_vec().into()));
                loop {
                    match outcome {
                        Ok(()) => return Ok(()),
                        Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                            wait_for_room(websocket.get_ref().socket());
                            outcome = websocket.flush();
                        }
                        Err(error) => return Err(io::Error::other(error)),
                    }
                }
            }
        }
    }

    /// Says that nothing more comes.
    fn close(&mut self) {
        match self {
            Remote::Bytes(Stream::Plain(socket)) => drop(socket.shutdown(Shutdown::Write)),
            Remote::Bytes(Stream::Tls(stream)) => {
                stream.conn.send_close_notify();
                let _ = stream.conn.complete_io(&mut stream.sock);
                let _ = stream.sock.shutdown(Shutdown::Write);
            }
            Remote::Frames(websocket) => {
                let _ = websocket.close(None);
                let _ = websocket.flush();
            }
        }
    }
}

fn wait_for_room(socket: &TcpStream) {
    let _ = poll(&mut [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::OUT)], None);
}
