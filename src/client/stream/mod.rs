//! What is between the client and its socket: nothing, TLS, WebSocket, or both. It reads and writes like a socket that
//! does not block; a handshake goes on whenever it is asked to read or write.
mod tls;
mod websocket;

pub use tls::{TlsArgs, Trust};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use websocket::WebSocket;

/// What a broker is spoken to with.
#[derive(Clone, Debug, Default)]
pub struct Dial {
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Host and path of the request.
    websocket: Option<(String, String)>,
}

/// A connected socket that does not block, with what is spoken on it.
pub struct Stream {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    websocket: Option<Box<WebSocket>>,
}

impl Dial {
    /// TLS with a broker of that name, believing whom `trust` says. The error is a sentence.
    pub fn with_tls(self, trust: &Trust, host: &str) -> Result<Dial, String> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| format!("{host:?} is no name that a certificate could be for"))?;
        Ok(Dial { tls: Some((trust.config(self.websocket.is_some()), name)), ..self })
    }

    /// WebSocket at this path.
    pub fn with_websocket(self, host: &str, port: u16, path: &str) -> Dial {
        let host = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Dial { websocket: Some((host, path.to_owned())), ..self }
    }
}

impl Stream {
    /// Takes over a socket that does not block.
    pub fn new(socket: TcpStream, dial: &Dial) -> io::Result<Stream> {
        let tls = dial.tls.as_ref().map(|(config, name)| ClientConnection::new(config.clone(), name.clone()));
        let tls = tls.transpose().map_err(io::Error::other)?.map(Box::new);
        let websocket = dial.websocket.as_ref().map(|(host, path)| Box::new(WebSocket::new(host, path)));
        Ok(Stream { socket, tls, websocket })
    }

    /// The socket, to wait for it.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Nothing is between.
    pub fn is_plain(&self) -> bool {
        self.tls.is_none() && self.websocket.is_none()
    }

    /// Every handshake is done.
    pub fn is_ready(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
            && self.websocket.as_ref().is_none_or(|websocket| websocket.is_open())
    }

    /// Something waits for room in the socket.
    pub fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
            || self.websocket.as_ref().is_some_and(|websocket| websocket.wants_write())
    }

    /// Says that nothing more comes.
    pub fn say_goodbye(&mut self) {
        if let Some(websocket) = &mut self.websocket {
            websocket.say_goodbye();
        }
        // It is only polite: the DISCONNECT before it is what counts.
        let _ = self.flush();
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.complete_io(&mut self.socket);
        }
    }
}

/// TLS or the socket.
struct Below<'a> {
    socket: &'a mut TcpStream,
    tls: Option<&'a mut ClientConnection>,
}

impl Read for Below<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.read(buffer),
            Some(tls) => rustls::Stream::new(&mut **tls, self.socket).read(buffer),
        }
    }
}

impl Write for Below<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.write(bytes),
            Some(tls) => rustls::Stream::new(&mut **tls, self.socket).write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => rustls::Stream::new(&mut **tls, self.socket).flush(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut below = Below { socket: &mut self.socket, tls: self.tls.as_deref_mut() };
        match &mut self.websocket {
            None => below.read(buffer),
            Some(websocket) => websocket.read(&mut below, buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut below = Below { socket: &mut self.socket, tls: self.tls.as_deref_mut() };
        match &mut self.websocket {
            None => below.write(bytes),
            Some(websocket) => websocket.write(&mut below, bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        let mut below = Below { socket: &mut self.socket, tls: self.tls.as_deref_mut() };
        if let Some(websocket) = &mut self.websocket {
            websocket.flush(&mut below)?;
        }
        below.flush()
    }
}

/// Whether an operation only has to wait.
fn must_wait(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
