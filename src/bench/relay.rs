//! A server that moves publishes to subscribers with no protocol rules: the practical ceiling.
//!
//! It answers what clients wait for, routes by a cache of topics, and forwards a publisher's
//! packets byte for byte, runs of the same topic in one write. It keeps no session, tracks no
//! packet identifier, checks nothing, and its subscribers must speak their publishers' version.
use super::args::RelayArgs;
use super::conn::Conn;
use super::error::BenchError;
use super::poll::{Poll, Ready};
use super::wire::{self, kind};
use super::worker::settle_thread;
use crate::codec::{ConnAck, Connect, Frame, ReasonCode, SubAck, Subscribe, Version};
use ahash::AHashMap;
use slab::Slab;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Unsent bytes towards one subscriber from which its publishers are not read.
const BACKLOG: usize = 1024 * 1024;
/// Topics in the route cache; beyond it the cache is emptied.
const CACHED_ROUTES: usize = 1 << 20;
/// The listening socket's token.
const LISTENER: u64 = u64::MAX;

/// Serves until the process is ended.
///
/// # Errors
/// The address cannot be listened on, or the core not used.
pub fn serve(args: &RelayArgs) -> Result<(), BenchError> {
    settle_thread(args.core.as_slice(), 0)?;
    let listener =
        TcpListener::bind(args.listen).map_err(BenchError::io("opening the relay's listening socket"))?;
    eprintln!("relay listens on {}", args.listen);
    Relay::on(listener)?.run(&AtomicBool::new(false))
}

/// To whom a topic goes.
#[derive(Default)]
struct Route {
    plain: Vec<usize>,
    groups: Vec<Vec<usize>>,
}

struct Peer {
    conn: Conn,
    version: Version,
    waits_for: Option<usize>,
    topic: Vec<u8>,
    route: Option<Rc<Route>>,
}

struct Subscription {
    peer: usize,
    group: Option<String>,
    filter: String,
}

/// The relay and its connections.
pub struct Relay {
    listener: TcpListener,
    poll: Poll,
    peers: Slab<Peer>,
    subscriptions: Vec<Subscription>,
    routes: AHashMap<Vec<u8>, Rc<Route>>,
    turn: usize,
    out: Vec<u8>,
}

impl Relay {
    /// A relay on a listening socket.
    ///
    /// # Errors
    /// What the system says.
    pub fn on(listener: TcpListener) -> Result<Self, BenchError> {
        listener.set_nonblocking(true).map_err(BenchError::io("preparing the relay's listening socket"))?;
        let poll = Poll::new()?;
        poll.add_listener(&listener, LISTENER)?;
        Ok(Self {
            listener,
            poll,
            peers: Slab::new(),
            subscriptions: Vec::new(),
            routes: AHashMap::new(),
            turn: 0,
            out: Vec::new(),
        })
    }

    /// Serves until `stop` is set.
    ///
    /// # Errors
    /// What is not about one connection.
    pub fn run(mut self, stop: &AtomicBool) -> Result<(), BenchError> {
        let (mut ready, mut buffer) = (Vec::<Ready>::new(), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            ready.clear();
            self.poll.wait(Duration::from_millis(200), &mut ready)?;
            for event in &ready {
                if event.token == LISTENER {
                    self.accept()?;
                    continue;
                }
                let at = event.token as usize;
                if event.writable {
                    self.flush(at, &mut buffer);
                }
                if event.readable {
                    self.read(at, &mut buffer);
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(), BenchError> {
        while let Ok((stream, _)) = self.listener.accept() {
            let prepared = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
            if prepared.is_err() {
                continue;
            }
            let entry = self.peers.vacant_entry();
            self.poll.add(&stream, entry.key() as u64)?;
            entry.insert(Peer {
                conn: Conn::plain(stream),
                version: Version::V311,
                waits_for: None,
                topic: Vec::new(),
                route: None,
            });
        }
        Ok(())
    }

    /// Writes what is left, and when that made room reads the publishers that waited for it.
    fn flush(&mut self, at: usize, buffer: &mut Vec<u8>) {
        let Some(peer) = self.peers.get_mut(at) else { return };
        let was_full = peer.conn.unsent() > BACKLOG;
        if peer.conn.flush().is_err() {
            return self.close(at, buffer);
        }
        if was_full && peer.conn.unsent() <= BACKLOG {
            self.resume(at, buffer);
        }
    }

    fn resume(&mut self, at: usize, buffer: &mut Vec<u8>) {
        let waiting: Vec<_> =
            self.peers.iter().filter(|(_, peer)| peer.waits_for == Some(at)).map(|(key, _)| key).collect();
        for key in waiting {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.waits_for = None;
            }
            self.read(key, buffer);
        }
    }

    fn close(&mut self, at: usize, buffer: &mut Vec<u8>) {
        if self.peers.try_remove(at).is_some() {
            self.subscriptions.retain(|subscription| subscription.peer != at);
            self.forget_routes();
            self.resume(at, buffer);
        }
    }

    fn forget_routes(&mut self) {
        self.routes.clear();
        for (_, peer) in &mut self.peers {
            peer.route = None;
        }
    }

    fn read(&mut self, at: usize, buffer: &mut Vec<u8>) {
        loop {
            let Some(peer) = self.peers.get_mut(at) else { return };
            if peer.waits_for.is_some() {
                return;
            }
            let filled = match peer.conn.fill(buffer) {
                Ok(Some(filled)) => filled,
                Ok(None) => return,
                Err(_) => return self.close(at, buffer),
            };
            match self.take(at, &buffer[..filled.len]) {
                Ok(end) => {
                    if let Some(peer) = self.peers.get_mut(at) {
                        peer.conn.keep(&buffer[end..filled.len]);
                    }
                }
                Err(_) => return self.close(at, buffer),
            }
            if !filled.more {
                return;
            }
        }
    }

    /// Takes every whole packet of a buffer; returns where the incomplete one begins.
    fn take(&mut self, at: usize, bytes: &[u8]) -> Result<usize, BenchError> {
        let (mut end, mut run) = (0, 0);
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        while let Some(packet) = wire::cut(&bytes[end..])? {
            let begin = end;
            end += packet.bytes.len();
            let kind = packet.first >> 4;
            if kind != kind::PUBLISH {
                self.forward(at, &bytes[run..begin]);
                run = end;
                self.answer(at, packet, &mut out)?;
                continue;
            }
            let short = BenchError::Protocol("a publish that ends too early");
            let topic_len = match packet.body {
                [high, low, ..] => u16::from_be_bytes([*high, *low]) as usize,
                _ => return Err(short),
            };
            let Some(topic) = packet.body.get(2..2 + topic_len) else { return Err(short) };
            let peer = &self.peers[at];
            if peer.route.is_none() || peer.topic != topic {
                self.forward(at, &bytes[run..begin]);
                run = begin;
                self.look_up(at, topic);
            }
            if packet.first & 6 != 0 {
                let Some(id) = packet.body.get(2 + topic_len..4 + topic_len) else { return Err(short) };
                let ack = if packet.first & 2 != 0 { kind::PUBACK } else { kind::PUBREC };
                wire::push_ack(ack, u16::from_be_bytes([id[0], id[1]]), &mut out);
            }
        }
        self.forward(at, &bytes[run..end]);
        if !out.is_empty() {
            self.peers[at].conn.send(&out)?;
        }
        self.out = out;
        Ok(end)
    }

    /// Sends publishes of one topic to those it goes to.
    fn forward(&mut self, from: usize, publishes: &[u8]) {
        if publishes.is_empty() {
            return;
        }
        let Some(route) = self.peers[from].route.clone() else { return };
        self.turn = self.turn.wrapping_add(1);
        let members = route.groups.iter().map(|members| members[self.turn % members.len()]);
        for to in route.plain.iter().copied().chain(members) {
            if let Some(peer) = self.peers.get_mut(to) {
                // A subscriber that is gone is noticed when its own socket is read.
                let _gone = peer.conn.send(publishes);
                if peer.conn.unsent() > BACKLOG && to != from {
                    self.peers[from].waits_for = Some(to);
                }
            }
        }
    }

    fn look_up(&mut self, at: usize, topic: &[u8]) {
        if !self.routes.contains_key(topic) {
            if self.routes.len() >= CACHED_ROUTES {
                self.routes.clear();
            }
            let route = self.match_all(&String::from_utf8_lossy(topic));
            self.routes.insert(topic.to_vec(), Rc::new(route));
        }
        let peer = &mut self.peers[at];
        peer.topic.clear();
        peer.topic.extend_from_slice(topic);
        peer.route = self.routes.get(topic).cloned();
    }

    fn match_all(&self, topic: &str) -> Route {
        let mut route = Route::default();
        let mut groups: Vec<(&str, &str, Vec<usize>)> = Vec::new();
        for Subscription { peer, group, filter } in &self.subscriptions {
            if !matches(filter, topic) {
                continue;
            }
            let Some(group) = group else {
                if !route.plain.contains(peer) {
                    route.plain.push(*peer);
                }
                continue;
            };
            match groups.iter_mut().find(|(name, of, _)| name == group && of == filter) {
                Some((_, _, members)) => members.push(*peer),
                None => groups.push((group, filter, vec![*peer])),
            }
        }
        route.groups = groups.into_iter().map(|(_, _, members)| members).collect();
        route
    }

    /// Says what the client waits for.
    fn answer(&mut self, at: usize, packet: Frame<'_>, out: &mut Vec<u8>) -> Result<(), BenchError> {
        let version = self.peers[at].version;
        let acknowledged = |out: &mut Vec<u8>, kind| {
            wire::acknowledgement(packet.body)
                .map(|(id, _)| wire::push_ack(kind, id, out))
                .ok_or(BenchError::Protocol("an acknowledgement that ends too early"))
        };
        match packet.first >> 4 {
            kind::CONNECT => {
                let version = Connect::decode(packet)?.version;
                self.peers[at].version = version;
                ConnAck::new(false, ReasonCode::Success).encode(version, out);
            }
            kind::SUBSCRIBE => {
                let subscribe = Subscribe::decode(packet, version)?;
                let granted: Vec<u8> = subscribe.filters().map(|filter| filter.options.qos as u8).collect();
                SubAck::new(subscribe.packet_id, &granted).encode(version, out);
                self.subscriptions.extend(subscribe.filters().map(|filter| subscription(at, filter.filter)));
                self.forget_routes();
            }
            kind::PUBREC => acknowledged(out, kind::PUBREL)?,
            kind::PUBREL => acknowledged(out, kind::PUBCOMP)?,
            kind::PINGREQ => out.extend_from_slice(&[0xD0, 0]),
            kind::DISCONNECT => return Err(BenchError::Closed("in good order")),
            _ => {}
        }
        Ok(())
    }
}

fn subscription(peer: usize, filter: &str) -> Subscription {
    let shared = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    match shared {
        Some((group, filter)) => {
            Subscription { peer, group: Some(group.to_owned()), filter: filter.to_owned() }
        }
        None => Subscription { peer, group: None, filter: filter.to_owned() },
    }
}

/// Whether a filter matches a topic.
fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_in_mqtt() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("#", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("+/b", "a/b", true),
            ("a/+/c", "a/b/d", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} on {topic}");
        }
    }

    #[test]
    fn a_shared_filter_is_taken_apart() {
        let shared = subscription(3, "$share/g/a/b");
        assert_eq!((shared.group.as_deref(), shared.filter.as_str()), (Some("g"), "a/b"));
        assert_eq!(subscription(3, "a/b").group, None);
    }
}
