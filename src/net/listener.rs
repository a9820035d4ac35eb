//! Listening sockets: one for each shard and address, and nobody else on the port.
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// Connections the kernel completes before we accept them; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// One address that is listened on.
pub struct Listener {
    /// The address with the port that was really bound.
    pub address: SocketAddr,
    /// One socket for each shard; the kernel spreads connections over them.
    pub sockets: Vec<OwnedFd>,
}

/// Why an address cannot be listened on; displays as one sentence with the remedy.
#[derive(Debug)]
pub struct ListenError {
    address: SocketAddr,
    error: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
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

/// Opens one socket for each of `shards` on every address.
pub fn listen_all(addresses: &[SocketAddr], shards: usize) -> Result<Vec<Listener>, ListenError> {
    addresses
        .iter()
        .map(|&address| {
            // [::] takes IPv4 as well, unless that port is asked for separately.
            let taken = addresses.iter().any(|other| other.is_ipv4() && other.port() == address.port());
            listen(address, shards, taken).map_err(|error| ListenError { address, error })
        })
        .collect()
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
    Ok(Listener { address: bound, sockets })
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

    fn local() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn every_shard_gets_a_socket_on_the_same_port() {
        let listeners = listen_all(&[local()], 3).unwrap();
        assert_eq!(listeners[0].sockets.len(), 3);
        for socket in &listeners[0].sockets {
            let socket = Socket::from(socket.try_clone().unwrap());
            assert_eq!(socket.local_addr().unwrap().as_socket(), Some(listeners[0].address));
            assert!(socket.is_listener().unwrap());
        }
    }

    #[test]
    fn the_kernel_spreads_connections_over_all_sockets() {
        let listener = listen_all(&[local()], 2).unwrap().remove(0);
        let clients: Vec<_> = (0..64).map(|_| TcpStream::connect(listener.address).unwrap()).collect();
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
        let error = listen_all(&[first[0].address], 2).err().unwrap().to_string();
        assert!(error.contains(&first[0].address.to_string()) && error.contains("--listen"), "{error}");
    }

    #[test]
    fn the_port_is_free_again_after_close_even_with_old_connections() {
        let first = listen_all(&[local()], 2).unwrap();
        let address = first[0].address;
        let client = TcpStream::connect(address).unwrap();
        drop(first);
        drop(client);
        listen_all(&[address], 2).unwrap();
    }

    #[test]
    fn accepted_sockets_do_not_delay_small_writes() {
        let listener = listen_all(&[local()], 1).unwrap().remove(0);
        let _client = TcpStream::connect(listener.address).unwrap();
        let socket = Socket::from(listener.sockets.into_iter().next().unwrap());
        let (accepted, _) = socket.accept().unwrap();
        assert!(accepted.tcp_nodelay().unwrap());
    }

    #[test]
    fn an_address_of_another_machine_is_explained() {
        let error = listen_all(&[SocketAddr::from(([192, 0, 2, 1], 0))], 1).err().unwrap().to_string();
        assert!(error.contains("does not have that address"), "{error}");
    }
}
