//! Listening sockets: for each shard one on every address, and nobody else on the port.
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Connections the kernel completes before we accept them; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A place to listen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// An address of the network.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(UnixPlace),
}

/// A socket in the file system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnixPlace {
    /// Its path.
    pub path: PathBuf,
    /// Who may do what with it; to connect is to write.
    pub mode: u32,
    /// User and group it belongs to, by number; `None` leaves them as they are.
    pub owner: (Option<u32>, Option<u32>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(address) => address.fmt(f),
            Place::Unix(place) => place.path.display().fmt(f),
        }
    }
}

/// One place that is listened on.
pub struct Listener {
    /// The place, with the port that was really bound.
    pub place: Place,
    /// One descriptor for each shard; the kernel spreads connections over them.
    pub sockets: Vec<OwnedFd>,
}

/// Why an address cannot be listened on; displays as one sentence with the remedy.
#[derive(Debug)]
pub struct ListenError {
    place: Place,
    error: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = &self.place;
        match self.error.raw_os_error() {
            Some(libc::EADDRINUSE) => write!(
                f,
                "cannot listen on {address}: another program (perhaps another broker) listens there; \
                 stop it or choose another port with --listen"
            ),
            Some(libc::EACCES | libc::EPERM) => write!(
                f,
                "cannot listen on {address}: no permission; ports below 1024 need root or CAP_NET_BIND_SERVICE, \
                 or choose another port with --listen"
            ),
            Some(libc::EADDRNOTAVAIL) => write!(
                f,
                "cannot listen on {address}: this machine does not have that address; \
                 give one of its own, or 0.0.0.0 or [::] for all, to --listen"
            ),
            Some(libc::EAFNOSUPPORT) => {
                write!(
                    f,
                    "cannot listen on {address}: this machine has no IPv6; give an IPv4 address to --listen"
                )
            }
            Some(libc::EMFILE) => {
                write!(f, "cannot listen on {address}: too many open files; raise the limit (ulimit -n)")
            }
            _ => write!(f, "cannot listen on {address}: {}; choose another one with --listen", self.error),
        }
    }
}

impl std::error::Error for ListenError {}

/// Opens one descriptor for each of `shards` on every place.
pub fn listen_all(places: &[Place], shards: usize) -> Result<Vec<Listener>, ListenError> {
    let listen = |place: &Place| match place {
        Place::Tcp(address) => {
            // [::] takes IPv4 as well, unless that port is asked for separately.
            let is_taken = |other: &Place| matches!(other, Place::Tcp(other) if other.is_ipv4() && other.port() == address.port());
            listen(*address, shards, places.iter().any(is_taken))
        }
        Place::Unix(place) => listen_on_file(place, shards),
    };
    let all =
        places.iter().map(|place| listen(place).map_err(|error| ListenError { place: place.clone(), error }));
    all.collect()
}

/// Opens a socket in the file system, one for all shards. A file that a broker which is no more has left behind is
/// replaced.
fn listen_on_file(place: &UnixPlace, shards: usize) -> io::Result<Listener> {
    let UnixPlace { path, mode, owner } = place;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode))?;
    if *owner != (None, None) {
        std::os::unix::fs::chown(path, owner.0, owner.1)?;
    }
    socket.listen(BACKLOG)?;
    let sockets: io::Result<Vec<OwnedFd>> = (0..shards).map(|_| Ok(socket.try_clone()?.into())).collect();
    Ok(Listener { place: Place::Unix(place.clone()), sockets: sockets? })
}

/// Opens `shards` sockets that share `address`.
///
/// `SO_REUSEPORT` alone would let a second broker of the same user in on the port and take half of the connections.
/// So the first socket is bound and put to listening without it: the kernel lets only one do that, whoever comes
/// first, and while it listens nobody can bind without `SO_REUSEPORT`, which is how every ringmq begins. Only then is
/// `SO_REUSEPORT` set on it, so that its own siblings can join. There is no moment between a probe and the real bind
/// in which two brokers could both believe to be alone. (A program of the same user that asks for `SO_REUSEPORT` from
/// the start can still join later; the kernel offers nothing against that.)
fn listen(address: SocketAddr, shards: usize, only_v6: bool) -> io::Result<Listener> {
    let first = open(address, only_v6)?;
    first.bind(&address.into())?;
    first.listen(BACKLOG)?;
    first.set_reuse_port(true)?;
    let bound = first.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = vec![OwnedFd::from(first)];
    for _ in 1..shards {
        let sibling = open(bound, only_v6)?;
        sibling.set_reuse_port(true)?;
        sibling.bind(&bound.into())?;
        sibling.listen(BACKLOG)?;
        sockets.push(sibling.into());
    }
    Ok(Listener { place: Place::Tcp(bound), sockets })
}

fn open(address: SocketAddr, only_v6: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the kernel to forget old connections.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it: no call per connection.
    socket.set_tcp_nodelay(true)?;
    if address.ip() == IpAddr::from([0u16; 8]) {
        socket.set_only_v6(only_v6)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn local() -> Place {
        Place::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn address(listener: &Listener) -> SocketAddr {
        let Place::Tcp(address) = listener.place else { panic!("no address") };
        address
    }

    #[test]
    fn every_shard_gets_a_socket_on_the_same_port() {
        let listeners = listen_all(&[local()], 3).unwrap();
        assert_eq!(listeners[0].sockets.len(), 3);
        for socket in &listeners[0].sockets {
            let socket = Socket::from(socket.try_clone().unwrap());
            assert_eq!(socket.local_addr().unwrap().as_socket(), Some(address(&listeners[0])));
            assert!(socket.is_listener().unwrap());
        }
    }

    #[test]
    fn the_kernel_spreads_connections_over_all_sockets() {
        let listener = listen_all(&[local()], 2).unwrap().remove(0);
        let clients: Vec<_> = (0..64).map(|_| TcpStream::connect(address(&listener)).unwrap()).collect();
        let mut accepted = 0;
        for socket in listener.sockets {
            let socket = Socket::from(socket);
            socket.set_nonblocking(true).unwrap();
            let here = std::iter::from_fn(|| socket.accept().ok()).count();
            assert!(here > 0, "one of two sockets got none of 64 connections");
            accepted += here;
        }
        assert_eq!(accepted, clients.len());
    }

    #[test]
    fn a_second_broker_on_the_port_is_refused() {
        let first = listen_all(&[local()], 2).unwrap();
        let error = listen_all(&[first[0].place.clone()], 2).err().unwrap().to_string();
        assert!(error.contains(&first[0].place.to_string()) && error.contains("--listen"), "{error}");
    }

    #[test]
    fn the_port_is_free_again_after_close_even_with_old_connections() {
        let first = listen_all(&[local()], 2).unwrap();
        let place = first[0].place.clone();
        let client = TcpStream::connect(address(&first[0])).unwrap();
        drop(first);
        drop(client);
        listen_all(&[place], 2).unwrap();
    }

    #[test]
    fn accepted_sockets_do_not_delay_small_writes() {
        let listener = listen_all(&[local()], 1).unwrap().remove(0);
        let _client = TcpStream::connect(address(&listener)).unwrap();
        let socket = Socket::from(listener.sockets.into_iter().next().unwrap());
        let (accepted, _) = socket.accept().unwrap();
        assert!(accepted.tcp_nodelay().unwrap());
    }

    #[test]
    fn an_address_of_another_machine_is_explained() {
        let error =
            listen_all(&[Place::Tcp(SocketAddr::from(([192, 0, 2, 1], 0)))], 1).err().unwrap().to_string();
        assert!(error.contains("does not have that address"), "{error}");
    }

    #[test]
    fn a_file_that_nobody_listens_on_is_replaced_and_another_is_not() {
        let path = std::env::temp_dir().join(format!("ringmq-listener-{}.sock", std::process::id()));
        let place = Place::Unix(UnixPlace { path: path.clone(), mode: 0o600, owner: (None, None) });
        let first = listen_all(std::slice::from_ref(&place), 3).unwrap();
        assert_eq!(first[0].sockets.len(), 3);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = listen_all(std::slice::from_ref(&place), 1).err().unwrap().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("another program"), "{error}");
        drop(first);
        listen_all(&[place], 1).unwrap();
        std::fs::write(&path, "something of value").unwrap_err();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "something of value").unwrap();
        let place = Place::Unix(UnixPlace { path: path.clone(), mode: 0o600, owner: (None, None) });
        assert!(listen_all(&[place], 1).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "something of value");
        std::fs::remove_file(path).unwrap();
    }
}
