//! Opens connections: TCP, CONNECT, and the subscriptions that belong to each, many at once.
use super::conn::Conn;
use super::error::BenchError;
use super::poll::{Poll, Ready};
use super::wire::{self, kind};
use crate::client::stream::Dial;
use crate::codec::{
    ConnAck, Connect, ConnectProperties, FilterList, Frame, QoS, ReasonCode, SubAck, Subscribe,
    SubscribeOptions, Version,
};
use socket2::{Domain, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Filters in one SUBSCRIBE packet; more than one packet waits for the SUBACK of the one before.
const FILTERS_PER_PACKET: usize = 256;
/// Seconds without any progress after which opening is given up.
const PATIENCE: u64 = 30;
/// Connections from one loopback source address before the next one is used.
const PER_SOURCE: u64 = 20_000;
/// Loopback source addresses that are cycled through.
const SOURCES: u64 = 200;

/// Where the broker is and how it is spoken to.
#[derive(Clone)]
pub struct Target {
    /// Address and port.
    pub address: SocketAddr,
    /// What is spoken below MQTT.
    pub dial: Dial,
    /// Protocol version.
    pub version: Version,
    /// Keep alive in seconds; 0 turns it off.
    pub keep_alive: u16,
    /// User name and password, when the broker wants them.
    pub login: Option<(String, String)>,
}

/// The filters one connection subscribes to, made one by one.
#[derive(Clone)]
pub struct Filters {
    make: Arc<dyn Fn(usize) -> String + Send + Sync>,
    count: usize,
}

impl Filters {
    /// No subscription at all.
    pub fn none() -> Self {
        Self { make: Arc::new(|_| String::new()), count: 0 }
    }

    /// The filters `make(0)` to `make(count - 1)`.
    pub fn generated(count: usize, make: impl Fn(usize) -> String + Send + Sync + 'static) -> Self {
        Self { make: Arc::new(make), count }
    }

    /// Exactly these.
    pub fn listed(filters: Vec<String>) -> Self {
        Self::generated(filters.len(), move |i| filters[i].clone())
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// The client of one connection.
#[derive(Clone)]
pub struct Client {
    /// Client identifier.
    pub id: String,
    /// Clean Session / Clean Start.
    pub clean: bool,
    /// Session Expiry Interval in seconds (version 5).
    pub session_expiry: u32,
}

impl Client {
    /// A client whose session ends with its connection.
    pub fn passing(id: String) -> Self {
        Self { id, clean: true, session_expiry: 0 }
    }
}

/// One connection to open.
pub struct Spec {
    /// Given back with the open connection.
    pub tag: usize,
    /// Who connects.
    pub client: Client,
    /// Its subscriptions.
    pub filters: Filters,
    /// Their maximum QoS.
    pub qos: u8,
}

/// One open, subscribed connection.
pub struct Opened {
    /// From its [`Spec`].
    pub tag: usize,
    /// The connection; packets that came right behind the last answer are kept in it.
    pub conn: Conn,
    /// Receive Maximum of the broker.
    pub receive_maximum: u16,
    /// From the (scheduled) start to the last answer.
    pub took: Duration,
}

/// How fast connections are started.
#[derive(Clone, Copy)]
pub struct Pacing {
    /// Handshakes under way at the same time.
    pub at_once: usize,
    /// Connections started per second; as fast as they finish when `None`.
    pub rate: Option<f64>,
}

enum Step {
    Connecting,
    ConnAck,
    SubAck { subscribed: usize },
}

struct Slot {
    spec: Spec,
    conn: Conn,
    step: Step,
    receive_maximum: u16,
    started: Instant,
}

impl Slot {
    /// Whether something can be done about it: room in a socket is of no use when all is sent.
    fn is_for(&self, event: &Ready) -> bool {
        let waits_for_room = !self.conn.is_flushed() || !self.conn.is_plain();
        event.readable || waits_for_room || matches!(self.step, Step::Connecting)
    }

    fn send_connect(&mut self, target: &Target) -> Result<(), BenchError> {
        let mut packet = Vec::new();
        connect(target, &self.spec.client).encode(target.version, &mut packet);
        self.step = Step::ConnAck;
        self.conn.send(&packet)
    }
}

/// Opens every connection of `specs`; each result goes to `done`, whose error ends it all.
///
/// # Errors
/// What `done` returned, or no progress for 30 s.
pub fn open_all(
    target: &Target,
    pacing: Pacing,
    specs: impl Iterator<Item = Spec>,
    mut done: impl FnMut(Result<Opened, BenchError>) -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    let mut poll = Poll::new()?;
    let mut specs = specs.fuse().peekable();
    let mut slots: Vec<Option<Slot>> = (0..pacing.at_once.max(1)).map(|_| None).collect();
    let mut free: Vec<usize> = (0..slots.len()).rev().collect();
    let (mut ready, mut buffer) = (Vec::<Ready>::new(), Vec::new());
    let (begin, mut started, mut progress) = (Instant::now(), 0_u64, Instant::now());
    loop {
        let mut pause = None;
        while !free.is_empty() && specs.peek().is_some() {
            let now = Instant::now();
            let due = pacing.rate.map_or(now, |rate| begin + Duration::from_secs_f64(started as f64 / rate));
            if due > now {
                pause = Some(due - now);
                break;
            }
            let (Some(at), Some(spec)) = (free.pop(), specs.next()) else { break };
            match start(target, &poll, at as u64, started, spec, due) {
                Ok(slot) => slots[at] = Some(slot),
                Err(error) => {
                    free.push(at);
                    done(Err(error))?;
                }
            }
            started += 1;
            progress = now;
        }
        if free.len() == slots.len() && specs.peek().is_none() {
            return Ok(());
        }
        ready.clear();
        poll.wait(pause.unwrap_or(Duration::from_secs(1)), &mut ready)?;
        for event in &ready {
            let at = event.token as usize;
            let Some(slot) = slots[at].as_mut().filter(|slot| slot.is_for(event)) else { continue };
            progress = Instant::now();
            match advance(target, slot, &mut buffer) {
                Ok(false) => {}
                Ok(true) => {
                    let slot = slots[at].take().expect("it was there a moment ago");
                    free.push(at);
                    done(Ok(Opened {
                        tag: slot.spec.tag,
                        conn: slot.conn,
                        receive_maximum: slot.receive_maximum,
                        took: slot.started.elapsed(),
                    }))?;
                }
                Err(error) => {
                    slots[at] = None;
                    free.push(at);
                    done(Err(error))?;
                }
            }
        }
        if free.len() < slots.len() && progress.elapsed() > Duration::from_secs(PATIENCE) {
            return Err(BenchError::Timeout { what: "opening connections", seconds: PATIENCE });
        }
    }
}

fn start(
    target: &Target,
    poll: &Poll,
    token: u64,
    number: u64,
    spec: Spec,
    started: Instant,
) -> Result<Slot, BenchError> {
    let what = "connecting";
    let socket = Socket::new(Domain::for_address(target.address), Type::STREAM.nonblocking(), None)
        .map_err(BenchError::io("creating a socket"))?;
    socket.set_tcp_nodelay(true).map_err(BenchError::io(what))?;
    let source = number / PER_SOURCE % SOURCES;
    if source > 0 && matches!(target.address.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
        socket.set_reuse_address(true).map_err(BenchError::io(what))?;
        let address = SocketAddr::new(Ipv4Addr::new(127, 1, 0, source as u8).into(), 0);
        socket.bind(&address.into()).map_err(BenchError::io("binding a source address"))?;
    }
    match socket.connect(&target.address.into()) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(e) => return Err(BenchError::io(what)(e)),
    }
    let conn = Conn::new(socket.into(), &target.dial)?;
    let mut slot = Slot { spec, conn, step: Step::Connecting, receive_maximum: u16::MAX, started };
    if slot.conn.stream().peer_addr().is_ok() {
        // To a broker on this machine it is connected by now.
        slot.send_connect(target)?;
    }
    poll.add(slot.conn.stream(), token)?;
    Ok(slot)
}

/// Takes a connection as far as it goes without waiting; true when it is open and subscribed.
fn advance(target: &Target, slot: &mut Slot, buffer: &mut Vec<u8>) -> Result<bool, BenchError> {
    if matches!(slot.step, Step::Connecting) {
        if let Some(error) = slot.conn.stream().take_error().map_err(BenchError::io("connecting"))? {
            return Err(BenchError::io("connecting")(error));
        }
        if slot.conn.stream().peer_addr().is_err() {
            return Ok(false);
        }
        slot.send_connect(target)?;
    }
    slot.conn.flush()?;
    let Some(filled) = slot.conn.fill(buffer)? else { return Ok(false) };
    let (mut at, mut open) = (0, false);
    while !open {
        let Some(packet) = wire::cut(&buffer[at..filled.len])? else { break };
        at += packet.bytes.len();
        open = answered(target, slot, packet)?;
    }
    match open {
        true => slot.conn.give_back(&buffer[at..filled.len]),
        false => slot.conn.keep(&buffer[at..filled.len]),
    }
    Ok(open)
}

fn connect<'a>(target: &'a Target, client: &'a Client) -> Connect<'a> {
    Connect {
        version: target.version,
        clean_start: client.clean,
        keep_alive: target.keep_alive,
        client_id: &client.id,
        will: None,
        username: target.login.as_ref().map(|(name, _)| name.as_str()),
        password: target.login.as_ref().map(|(_, password)| password.as_bytes()),
        properties: ConnectProperties { session_expiry: client.session_expiry, ..Default::default() },
    }
}

/// Takes one packet; true when the connection is open and subscribed.
fn answered(target: &Target, slot: &mut Slot, packet: Frame<'_>) -> Result<bool, BenchError> {
    let subscribed = match (&slot.step, packet.first >> 4) {
        (Step::ConnAck, kind::CONNACK) => {
            let answer = ConnAck::decode(packet, target.version)?;
            if answer.reason != ReasonCode::Success {
                return Err(BenchError::Refused(answer.reason.text()));
            }
            slot.receive_maximum = answer.properties.receive_maximum.unwrap_or(u16::MAX);
            0
        }
        (Step::SubAck { subscribed }, kind::SUBACK) => {
            let reasons = SubAck::decode(packet, target.version)?.reasons;
            if let Some(code) = reasons.iter().find(|code| **code >= 0x80) {
                return Err(BenchError::SubscriptionRefused(*code));
            }
            *subscribed
        }
        // Retained messages and the queue of a session may come before the SUBACK; nothing that
        // is measured this way subscribes and is sent something at the same time.
        (_, kind::PUBLISH) => return Err(BenchError::Protocol("a message before it was expected")),
        (_, kind::DISCONNECT) => return Err(BenchError::Closed("with DISCONNECT while it was opened")),
        _ => return Ok(false),
    };
    let count = slot.spec.filters.count();
    if subscribed == count {
        return Ok(true);
    }
    let next = count.min(subscribed + FILTERS_PER_PACKET);
    let id = (subscribed / FILTERS_PER_PACKET % 60_000 + 1) as u16;
    let mut packet = Vec::new();
    let filters = (subscribed..next).map(|i| (slot.spec.filters.make)(i));
    push_subscribe(target.version, id, slot.spec.qos, filters, &mut packet);
    slot.conn.send(&packet)?;
    slot.step = Step::SubAck { subscribed: next };
    Ok(false)
}

/// Appends a SUBSCRIBE packet.
pub fn push_subscribe(
    version: Version,
    id: u16,
    qos: u8,
    filters: impl Iterator<Item = String>,
    out: &mut Vec<u8>,
) {
    let qos = QoS::from_bits(qos).expect("flags are checked to be 0, 1 or 2");
    let mut list = FilterList::new();
    for filter in filters {
        list.push(&filter, SubscribeOptions::new(qos));
    }
    Subscribe::new(id, None, &list).encode(version, out);
}
