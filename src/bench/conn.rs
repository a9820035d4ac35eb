//! A non-blocking socket with what could not be written yet and the packet that is half received.
use super::error::BenchError;
use crate::client::stream::{Dial, Stream};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// Bytes one read takes at most (longer packets get a longer buffer).
pub const READ_BUFFER: usize = 128 * 1024;

/// One connection of the generator.
pub struct Conn {
    stream: Stream,
    unsent: Vec<u8>,
    unsent_at: usize,
    tail: Vec<u8>,
    tail_is_new: bool,
}

/// What one read brought.
pub struct Filled {
    /// Bytes in the buffer, the earlier remainder first.
    pub len: usize,
    /// The read filled the buffer: there may be more.
    pub more: bool,
}

impl Conn {
    /// Takes over a non-blocking socket, on which nothing but MQTT is spoken.
    pub fn plain(socket: TcpStream) -> Self {
        Self::new(socket, &Dial::default()).expect("nothing is made of nothing")
    }

    /// Takes over a non-blocking socket.
    ///
    /// # Errors
    /// TLS cannot be spoken.
    pub fn new(socket: TcpStream, dial: &Dial) -> Result<Self, BenchError> {
        let stream = Stream::new(socket, dial).map_err(BenchError::io("connecting"))?;
        Ok(Self { stream, unsent: Vec::new(), unsent_at: 0, tail: Vec::new(), tail_is_new: false })
    }

    /// The socket, for the poll set.
    pub fn stream(&self) -> &TcpStream {
        self.stream.socket()
    }

    /// Whether nothing stands between MQTT and the socket.
    pub fn is_plain(&self) -> bool {
        self.stream.is_plain()
    }

    /// Whether everything given to [`Conn::send`] has been written.
    pub fn is_flushed(&self) -> bool {
        self.unsent_at == self.unsent.len()
    }

    /// Bytes that wait for room in the socket.
    pub fn unsent(&self) -> usize {
        self.unsent.len() - self.unsent_at
    }

    /// Writes what the socket takes and keeps the rest until [`Conn::flush`].
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), BenchError> {
        let mut at = 0;
        if self.is_flushed() {
            self.unsent.clear();
            self.unsent_at = 0;
            at = write_some(&mut self.stream, bytes)?;
        }
        self.unsent.extend_from_slice(&bytes[at..]);
        Ok(())
    }

    /// Writes what is left from earlier sends, as far as the socket takes it.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn flush(&mut self) -> Result<(), BenchError> {
        if !self.stream.is_plain() {
            // What was handed over before, and a handshake that has something to say.
            match self.stream.flush() {
                Err(e) if !must_wait(&e) => return Err(BenchError::io("writing to the broker")(e)),
                _ => {}
            }
        }
        if !self.is_flushed() {
            self.unsent_at += write_some(&mut self.stream, &self.unsent[self.unsent_at..])?;
            if self.unsent_at >= self.unsent.len() / 2 {
                self.unsent.drain(..self.unsent_at);
                self.unsent_at = 0;
            }
        }
        Ok(())
    }

    /// Reads once into `buffer`, behind the remainder of the last call; grows it for long packets.
    /// `None` when nothing was there.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn fill(&mut self, buffer: &mut Vec<u8>) -> Result<Option<Filled>, BenchError> {
        let kept = self.tail.len();
        if buffer.len() < kept + READ_BUFFER {
            buffer.resize(kept * 2 + READ_BUFFER, 0);
        }
        if std::mem::take(&mut self.tail_is_new) {
            buffer[..kept].copy_from_slice(&self.tail);
            self.tail.clear();
            return Ok(Some(Filled { len: kept, more: true }));
        }
        let mut n = 0;
        loop {
            match self.stream.read(&mut buffer[kept + n..]) {
                Ok(0) if n == 0 => return Err(BenchError::Closed("while it was in use")),
                Ok(0) => break,
                Ok(count) => n += count,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(BenchError::io("reading from the broker")(e)),
            }
            // Anything but a plain socket gives less than it has.
            if self.stream.is_plain() || kept + n == buffer.len() {
                break;
            }
        }
        if !self.stream.is_plain() {
            // A handshake that came to its end lets go what waited for it.
            self.flush()?;
        }
        if n == 0 {
            return Ok(None);
        }
        buffer[..kept].copy_from_slice(&self.tail);
        self.tail.clear();
        Ok(Some(Filled { len: kept + n, more: kept + n == buffer.len() }))
    }

    /// Keeps the incomplete packet at the end of a buffer for the next [`Conn::fill`].
    pub fn keep(&mut self, rest: &[u8]) {
        self.tail.extend_from_slice(rest);
    }

    /// Gives back bytes that may hold whole packets: the next [`Conn::fill`] returns them first,
    /// without reading. The socket does not become ready for them.
    pub fn give_back(&mut self, bytes: &[u8]) {
        self.keep(bytes);
        self.tail_is_new = !bytes.is_empty();
    }
}

fn must_wait(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn write_some(stream: &mut Stream, bytes: &[u8]) -> Result<usize, BenchError> {
    let mut at = 0;
    while at < bytes.len() {
        match stream.write(&bytes[at..]) {
            Ok(0) => return Err(BenchError::io("writing to the broker")(io::ErrorKind::WriteZero.into())),
            Ok(n) => at += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) => return Err(BenchError::io("writing to the broker")(e)),
        }
    }
    Ok(at)
}
