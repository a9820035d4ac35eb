//! Writes down what happens to clients. Nothing here waits: a line goes into a bounded queue or is counted.
use crate::auth::Origin;
use crate::shard::core::{CloseCause, Core, Notice, Parting, Who};
use crate::time::Time;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use tracing::level_filters::LevelFilter;
use tracing::{info, warn};

/// Lines about clients that one shard writes in a second; further ones are counted. A storm of connections is told by
/// its beginning and its number.
const LINES_PER_SECOND: u32 = 200;

/// What one shard remembers to write.
#[derive(Default)]
pub(super) struct Chronicle {
    known: Known,
    second: u64,
    lines: u32,
    left_out: u64,
}

/// Where connected clients come from and what their users are, by slot: 8 bytes for a client of IPv4 without a user.
#[derive(Default)]
struct Known {
    /// Address and port; port 0 for nobody.
    of_v4: Vec<(Ipv4Addr, u16)>,
    others: HashMap<u32, SocketAddr>,
    users: HashMap<u32, Box<str>>,
}

impl Known {
    fn insert(&mut self, slot: u32, peer: Option<SocketAddr>, user: Option<Box<str>>) {
        match peer {
            Some(SocketAddr::V4(peer)) if peer.port() != 0 => {
                let index = slot as usize;
                if index >= self.of_v4.len() {
                    self.of_v4.resize(index + 1, (Ipv4Addr::UNSPECIFIED, 0));
                }
                self.of_v4[index] = (*peer.ip(), peer.port());
            }
            Some(peer) => drop(self.others.insert(slot, peer)),
            None => {}
        }
        if let Some(user) = user {
            self.users.insert(slot, user);
        }
    }

    fn remove(&mut self, slot: u32) -> (Option<SocketAddr>, Option<Box<str>>) {
        let of_v4 = self
            .of_v4
            .get_mut(slot as usize)
            .map(|known| std::mem::replace(known, (Ipv4Addr::UNSPECIFIED, 0)));
        let of_v4 = of_v4.filter(|(_, port)| *port != 0).map(SocketAddr::from);
        (of_v4.or_else(|| self.others.remove(&slot)), self.users.remove(&slot))
    }
}

/// An address, for a line.
fn address(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| "local".to_string(), |peer| peer.to_string())
}

fn name(user: &Option<Box<str>>) -> &str {
    user.as_deref().unwrap_or("-")
}

fn reason(parting: Parting) -> &'static str {
    match parting {
        Parting::Lost(CloseCause::Eof) => "closed without DISCONNECT",
        Parting::Lost(CloseCause::Error) => "the connection failed",
        Parting::Ours(reason) => reason.text(),
        Parting::Theirs(reason) if reason.is_error() => reason.text(),
        Parting::Theirs(_) => "DISCONNECT",
        Parting::Wordless => "closed without a word",
    }
}

impl Chronicle {
    /// Takes what the core has to tell.
    pub(super) fn write(&mut self, core: &mut Core, now: Time) {
        let is_wanted = LevelFilter::current() >= LevelFilter::WARN;
        core.want_notices(is_wanted);
        while let Some(notice) = core.poll_notice() {
            self.take(notice, now);
        }
        self.left_out += core.take_lost_notices();
        if self.left_out > 0 && now.0 / 1000 != self.second {
            self.second = now.0 / 1000;
            self.lines = 0;
            warn!(
                lines = std::mem::take(&mut self.left_out),
                "more happened to clients than is written down"
            );
        }
    }

    /// A transport came to a bad end.
    pub(super) fn transport_failed(&mut self, origin: &Origin, why: &str, now: Time) {
        if self.has_room(now) {
            warn!(
                address = address(origin.peer),
                listener = origin.listener,
                reason = why,
                "connection ended"
            );
        }
    }

    /// Whether one more line may be written in this second.
    fn has_room(&mut self, now: Time) -> bool {
        let second = now.0 / 1000;
        if second != self.second && self.left_out == 0 {
            (self.second, self.lines) = (second, 0);
        }
        self.lines += 1;
        let has_room = self.lines <= LINES_PER_SECOND;
        self.left_out += u64::from(!has_room);
        has_room
    }

    fn take(&mut self, notice: Notice, now: Time) {
        let is_info = LevelFilter::current() >= LevelFilter::INFO;
        match notice {
            Notice::Connected { conn, who: Who { client, user, origin }, version } => {
                if is_info && self.has_room(now) {
                    let (listener, address) = (origin.listener, address(origin.peer));
                    let version = format!("{version:?}");
                    info!(
                        client = &*client,
                        user = name(&user),
                        address,
                        listener,
                        version,
                        "client connected"
                    );
                }
                self.known.insert(conn.slot, origin.peer, user);
            }
            Notice::Refused { who: Who { client, user, origin }, reason } => {
                if self.has_room(now) {
                    let (listener, address) = (origin.listener, address(origin.peer));
                    let reason = reason.text();
                    warn!(client = &*client, user = name(&user), address, listener, reason, "client refused");
                }
            }
            Notice::Closed { conn, client, parting } => {
                let (peer, user) = self.known.remove(conn.slot);
                if is_info && self.has_room(now) {
                    let (address, reason) = (address(peer), reason(parting));
                    info!(client = &*client, user = name(&user), address, reason, "client disconnected");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_users_are_remembered_once() {
        let mut known = Known::default();
        let four: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let six: SocketAddr = "[2001:db8::1]:7".parse().unwrap();
        known.insert(3, Some(four), None);
        known.insert(1, Some(six), Some("alice".into()));
        known.insert(2, None, None);
        // A proxy tells no port.
        known.insert(4, Some("192.0.2.1:0".parse().unwrap()), None);
        assert_eq!(known.remove(3), (Some(four), None));
        assert_eq!(known.remove(3), (None, None));
        assert_eq!(known.remove(1), (Some(six), Some("alice".into())));
        assert_eq!(known.remove(2), (None, None));
        assert_eq!(known.remove(4).0.unwrap().to_string(), "192.0.2.1:0");
        assert_eq!(known.remove(900), (None, None));
    }
}
