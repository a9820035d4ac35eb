//! The socket and the framing: bytes out, whole packets in, one place that waits.
use super::ClientError;
use super::stream::{Dial, Stream};
use crate::codec::{Cut, DecodeError, cut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Bytes asked for with one read.
const READ: usize = 64 * 1024;
/// Unread bytes beyond one incomplete packet at which nothing more is read while something is still to be sent.
const INPUT_MARK: usize = 8 * 1024 * 1024;

/// Where a broker is.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Local name or address to connect from.
    pub bind: Option<String>,
    /// What is spoken below MQTT.
    pub dial: Dial,
}

/// What [`Connection::wait`] ended with.
pub(super) enum Wake {
    /// Bytes came or went.
    Moved,
    /// The watched descriptor of that index can be read.
    Watched(usize),
    /// The deadline is over.
    Deadline,
}

/// One connection with its buffers.
pub(super) struct Connection {
    stream: Stream,
    input: Vec<u8>,
    taken: usize,
    output: Vec<u8>,
    written: usize,
    /// Writing failed; what the broker said before is still read.
    deaf: bool,
}

impl Connection {
    /// Connects to the first address of the endpoint that answers, until `deadline`, or until one of `watch` can be
    /// read ([`ClientError::Interrupted`]).
    pub(super) fn open(
        endpoint: &Endpoint,
        deadline: Instant,
        watch: &[BorrowedFd<'_>],
    ) -> Result<Connection, ClientError> {
        let local = match &endpoint.bind {
            Some(host) => Some(lookup(host, 0)?),
            None => None,
        };
        let mut last = None;
        for address in lookup(&endpoint.host, endpoint.port)? {
            let from = local.iter().flatten().find(|from| from.is_ipv4() == address.is_ipv4());
            if local.is_some() && from.is_none() {
                continue;
            }
            match connect(address, from.copied(), deadline, watch) {
                Ok(stream) => {
                    return Ok(Connection {
                        stream: Stream::new(stream, &endpoint.dial).map_err(ClientError::Connect)?,
                        input: Vec::new(),
                        taken: 0,
                        output: Vec::new(),
                        written: 0,
                        deaf: false,
                    });
                }
                Err(error @ ClientError::Interrupted) => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            let text = "no address of the host fits the address to connect from";
            ClientError::Connect(io::Error::new(io::ErrorKind::AddrNotAvailable, text))
        }))
    }

    /// What is to be sent; appended to by encoding.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Bytes not yet sent.
    pub(super) fn unsent(&self) -> usize {
        self.output.len() - self.written
    }

    /// The next whole packet of at most `max_packet` bytes, if it is here.
    pub(super) fn take_packet(&mut self, max_packet: u32) -> Result<Option<Vec<u8>>, DecodeError> {
        match cut(&self.input[self.taken..], max_packet)? {
            Cut::Short { .. } => Ok(None),
            Cut::Frame(frame) => {
                let packet = frame.bytes.to_vec();
                self.taken += packet.len();
                if self.taken == self.input.len() {
                    self.input.clear();
                    self.taken = 0;
                }
                Ok(Some(packet))
            }
        }
    }

    /// Sends what the socket takes at once.
    pub(super) fn flush(&mut self) {
        while self.written < self.output.len() && !self.deaf {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The reason may lie in what the broker sent before it closed.
                Err(_) => self.deaf = true,
            }
        }
        self.output.clear();
        self.written = 0;
        if !self.stream.is_plain() && !self.deaf {
            // What it cannot send now it keeps, and asks for room.
            let _ = self.stream.flush();
        }
    }

    /// Waits until bytes move, a descriptor of `watch` can be read, or `until`; moves what can be moved.
    /// [`ClientError::Lost`] at the end of the stream.
    pub(super) fn wait(
        &mut self,
        until: Option<Instant>,
        watch: &[BorrowedFd<'_>],
    ) -> Result<Wake, ClientError> {
        let mut interest = PollFlags::empty();
        if (self.unsent() > 0 && self.stream.is_ready()) || self.stream.wants_write() {
            interest |= PollFlags::OUT;
        }
        if self.unsent() == 0 || self.input.len() - self.taken < INPUT_MARK {
            interest |= PollFlags::IN;
        }
        let (socket, watched) = wait_for(self.stream.socket().as_fd(), interest, until, watch)?;
        if socket.intersects(PollFlags::OUT) {
            self.flush();
        }
        if interest.contains(PollFlags::IN)
            && socket.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
        {
            self.read()?;
            if !self.stream.is_plain() {
                // A handshake that came to its end lets go what waited for it.
                self.flush();
            }
        }
        Ok(match watched {
            Some(index) => Wake::Watched(index),
            None if socket.is_empty() => Wake::Deadline,
            None => Wake::Moved,
        })
    }

    /// Reads once from a plain socket; from anything else all there is, since the socket does not tell of what was read
    /// from it already.
    fn read(&mut self) -> Result<(), ClientError> {
        self.input.drain(..self.taken);
        self.taken = 0;
        while self.read_once()? && !self.stream.is_plain() {}
        Ok(())
    }

    /// False when there is nothing (more).
    fn read_once(&mut self) -> Result<bool, ClientError> {
        let length = self.input.len();
        self.input.resize(length + READ, 0);
        let result = self.stream.read(&mut self.input[length..]);
        self.input.truncate(length + *result.as_ref().unwrap_or(&0));
        match result {
            // What came before the end is taken first; the end is there the next time, too.
            Ok(0) if length > 0 && !self.stream.is_plain() => Ok(false),
            Ok(0) => Err(ClientError::Lost),
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                Ok(false)
            }
            Err(error) if !self.stream.is_ready() => Err(ClientError::Connect(error)),
            Err(_) => Err(ClientError::Lost),
        }
    }

    /// Sends the rest, says that nothing more comes, and reads until the broker closes as well: closing with unread
    /// bytes would reset the connection, and the last packets could be lost on their way.
    pub(super) fn close(mut self, deadline: Instant) {
        let mut shut = false;
        loop {
            self.flush();
            if self.unsent() == 0 && !shut {
                self.stream.say_goodbye();
                shut = self.stream.socket().shutdown(std::net::Shutdown::Write).is_ok();
            }
            self.input.clear();
            self.taken = 0;
            match self.wait(Some(deadline), &[]) {
                Ok(Wake::Moved) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, ClientError> {
    let failed = |reason: String| ClientError::Lookup { host: host.to_owned(), reason };
    let addresses: Vec<SocketAddr> =
        (host, port).to_socket_addrs().map_err(|error| failed(error.to_string()))?.collect();
    if addresses.is_empty() { Err(failed("no address".to_owned())) } else { Ok(addresses) }
}

fn connect(
    address: SocketAddr,
    from: Option<SocketAddr>,
    deadline: Instant,
    watch: &[BorrowedFd<'_>],
) -> Result<TcpStream, ClientError> {
    let failed = ClientError::Connect;
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).map_err(failed)?;
    if let Some(from) = from {
        socket.bind(&SockAddr::from(from)).map_err(failed)?;
    }
    socket.set_nonblocking(true).map_err(failed)?;
    // Whole packets are written at once, so that waiting for more would only cost time.
    socket.set_tcp_nodelay(true).map_err(failed)?;
    match socket.connect(&SockAddr::from(address)) {
        Ok(()) => return Ok(socket.into()),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(failed(error)),
    }
    let (ready, watched) = wait_for(socket.as_fd(), PollFlags::OUT, Some(deadline), watch)?;
    if watched.is_some() {
        return Err(ClientError::Interrupted);
    }
    if ready.is_empty() {
        return Err(failed(io::Error::from(io::ErrorKind::TimedOut)));
    }
    match socket.take_error().map_err(failed)? {
        Some(error) => Err(failed(error)),
        None => Ok(socket.into()),
    }
}

/// Waits for `interest` in the socket, for one of `watch` to be readable, or for `until`: what the socket is ready
/// for (nothing if it is not), and the first of `watch` that is.
fn wait_for(
    socket: BorrowedFd<'_>,
    interest: PollFlags,
    until: Option<Instant>,
    watch: &[BorrowedFd<'_>],
) -> Result<(PollFlags, Option<usize>), ClientError> {
    let mut list = Vec::with_capacity(1 + watch.len());
    list.push(PollFd::from_borrowed_fd(socket, interest));
    list.extend(watch.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
    loop {
        let left = until.map(|until| timespec(until.saturating_duration_since(Instant::now())));
        match poll(&mut list, left.as_ref()) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(ClientError::System(error.into())),
        }
    }
    let watched = list[1..].iter().position(|fd| !fd.revents().is_empty());
    Ok((list[0].revents(), watched))
}

fn timespec(left: Duration) -> Timespec {
    Timespec { tv_sec: left.as_secs().min(i64::MAX as u64) as i64, tv_nsec: i64::from(left.subsec_nanos()) }
}

/// Waits for one of `watch` to be readable or for `until`; whether it was one of `watch`.
pub(super) fn pause(until: Instant, watch: &[BorrowedFd<'_>]) -> Result<bool, ClientError> {
    let Some((first, rest)) = watch.split_first() else {
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        return Ok(false);
    };
    let (ready, watched) = wait_for(*first, PollFlags::IN, Some(until), rest)?;
    Ok(!ready.is_empty() || watched.is_some())
}
