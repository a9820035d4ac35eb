//! One network connection as the core sees it. What is rare lies behind a pointer, so that an idle one stays small.
use super::super::output::{BufferPool, Output};
use super::super::timer_wheel::TimerId;
use super::crowd::Seats;
use super::durable::Gated;
use super::rate::Rate;
use super::subscribe::Unfinished;
use super::{ConnId, Core, ShardId};
use crate::auth::decision::Wish;
use crate::auth::{Exchange, Origin};
use crate::codec::{Connect, PacketType, ReasonCode, Version};
use crate::router::Route;
use crate::session::alias::{IncomingAliases, OutgoingAliases};
use crate::session::run::Run;
use crate::time::Time;
use bytes::BytesMut;
use core::net::IpAddr;
use std::rc::Weak;

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Nothing but CONNECT may come.
    AwaitConnect,
    /// CONNECT came; its registrar is asked for the session's home. Not read meanwhile.
    Locating,
    /// CONNECT came; an ordinary thread looks at its credentials. Not read meanwhile.
    Deciding,
    /// CONNECT came; an AUTH exchange is under way.
    Authenticating,
    /// CONNACK was sent.
    Connected,
}

/// The beginning of a packet whose end has not come yet.
#[derive(Debug, Default)]
pub(super) struct Torn {
    pub bytes: BytesMut,
    /// Length of the whole packet, once its header is complete.
    pub total: Option<usize>,
}

/// A CONNECT that is not answered yet.
#[derive(Debug)]
pub(super) struct Pending {
    /// CONNECT, and whatever came behind it.
    pub bytes: BytesMut,
    /// The client id the broker chose.
    pub assigned: Option<Box<str>>,
    /// The session's home, once the registrar has told it; the connection then has a claim on the client id.
    pub home: Option<ShardId>,
}

/// An AUTH exchange.
#[derive(Debug)]
pub(super) struct Authentication {
    /// Authentication Method of CONNECT, to be repeated in every AUTH ([MQTT-4.12.0-5]).
    pub method: Box<str>,
    /// The exchange that is under way.
    pub exchange: Option<Box<dyn Exchange>>,
    /// [`crate::auth::access::Policy::generation`] when it began.
    pub generation: u64,
}

/// Client id and user name of a CONNECT.
pub(super) type Claim = (Box<str>, Option<Box<str>>);

/// What only some connections need.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// Where it comes from, until it is connected.
    pub origin: Option<Box<Origin>>,
    pub torn: Option<Torn>,
    pub pending: Option<Pending>,
    /// Client id and user name that CONNECT claims, until that is decided, if it is to be written down.
    pub claim: Option<Box<Claim>>,
    pub authentication: Option<Authentication>,
    pub incoming_aliases: IncomingAliases,
    pub outgoing_aliases: Option<OutgoingAliases>,
    /// What came while the connection is not read ([`Core::hold`]).
    pub held: Option<BytesMut>,
    /// A long list of filters that is not done yet.
    pub unfinished: Option<Box<Unfinished>>,
    /// What was asked about it.
    pub wish: Option<Box<Wish>>,
    /// Questions asked so far about the packet that waits.
    pub asked: u16,
    /// What it may still publish, where there is a bound.
    pub rate: Option<Rate>,
    /// When it is read again that waits for a time.
    pub wait: Option<TimerId>,
    /// How often it waited for memory.
    pub retries: u8,
    /// Other shards that have not come as far as it has published.
    pub marks: u8,
    /// Work of one of its messages on another shard that told of it.
    pub work_afar: u32,
    /// What it takes up, where that is bounded.
    pub seats: Option<Box<Seats>>,
}

impl Extras {
    fn is_empty(&self) -> bool {
        let Extras {
            origin,
            torn,
            pending,
            claim,
            authentication,
            incoming_aliases,
            outgoing_aliases,
            held,
            unfinished,
            wish,
            asked: _,
            rate,
            wait,
            retries: _,
            marks: _,
            work_afar: _,
            seats,
        } = self;
        origin.is_none()
            && torn.is_none()
            && pending.is_none()
            && claim.is_none()
            && authentication.is_none()
            && incoming_aliases.is_empty()
            && outgoing_aliases.is_none()
            && held.is_none()
            && unfinished.is_none()
            && wish.is_none()
            && rate.is_none()
            && wait.is_none()
            && seats.is_none()
    }
}

/// One network connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub generation: u32,
    /// Slot of its session; valid once connected.
    pub session: u32,
    /// What is written to it; what may leave of that is in `gated` if it is there.
    pub output: Output,
    pub gated: Option<Box<Gated>>,
    pub extras: Option<Box<Extras>>,
    /// Where its last publish went, if the router remembers.
    pub route: Weak<Route>,
    pub timer: Option<TimerId>,
    pub last_received: Time,
    /// Milliseconds of silence after which it is closed; 0 never.
    pub patience: u32,
    /// Maximum Packet Size of the client.
    pub max_packet: u32,
    /// Receive Maximum of the client, or the broker's own bound if that is lower.
    pub quota: u16,
    pub phase: Phase,
    pub version: Version,
    /// Where it comes from, for bans that come later.
    pub address: Option<IpAddr>,
    pub is_dirty: bool,
    /// Deliveries wait for the output to drain.
    pub is_stalled: bool,
    /// The number of its limits: those of its listener until its user is known.
    pub profile: u16,
}

impl Connection {
    pub fn is_v5(&self) -> bool {
        self.version == Version::V5
    }
    /// What every answer to this CONNECT has to respect.
    pub fn learn(&mut self, connect: &Connect<'_>) {
        self.version = connect.version;
        self.max_packet = connect.properties.maximum_packet_size.unwrap_or(u32::MAX);
    }
    /// Forgets what mattered only until CONNACK.
    pub fn shrink(&mut self) {
        if let Some(extras) = &mut self.extras {
            extras.origin = None;
            extras.claim = None;
            if extras.is_empty() {
                self.extras = None;
            }
        }
    }
    pub fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_with(Box::default)
    }
    /// Whether the packets of a run, each of less than `most` bytes, may go to this client as they are (apart from QoS
    /// and packet id).
    pub fn takes_verbatim(&self, run: &Run<'_>, ids: &[u32], most: usize) -> bool {
        self.is_v5() == run.v5
            && ids.is_empty()
            && run.longest <= self.max_packet
            && (run.longest as usize) < most
            && self.extras.as_ref().is_none_or(|extras| extras.outgoing_aliases.is_none())
    }
    /// Where packets are written; marks the connection as having output.
    pub fn writer<'a>(
        &'a mut self,
        slot: u32,
        buffers: &mut BufferPool,
        dirty: &mut std::collections::VecDeque<ConnId>,
    ) -> &'a mut Vec<u8> {
        if !self.is_dirty {
            self.is_dirty = true;
            dirty.push_back(ConnId { slot, generation: self.generation });
            buffers.lend(&mut self.output);
        }
        self.output.tail()
    }
}

impl Core {
    /// A new connection that has its connect timeout to send CONNECT.
    pub(super) fn open(&mut self, now: Time, origin: Origin) -> ConnId {
        let profile = self.profiles.number(Some(origin.listener), None);
        self.generations = self.generations.wrapping_add(1);
        let generation = self.generations;
        let slot = self.connections.insert(Connection {
            generation,
            session: u32::MAX,
            output: Output::default(),
            gated: None,
            address: origin.peer.map(|peer| peer.ip()),
            extras: Some(Box::new(Extras { origin: Some(Box::new(origin)), ..Extras::default() })),
            route: Weak::new(),
            timer: None,
            last_received: now,
            patience: 0,
            max_packet: u32::MAX,
            quota: 1,
            phase: Phase::AwaitConnect,
            version: Version::V5,
            is_dirty: false,
            is_stalled: false,
            profile,
        }) as u32;
        let conn = ConnId { slot, generation };
        self.arm_connection(conn, now + self.profiles[profile].limits.connect_timeout_ms);
        conn
    }

    /// The transport tells more of where a connection comes from.
    pub(super) fn learn_origin(&mut self, now: Time, slot: u32, origin: Origin) {
        let connection = &mut self.connections[slot as usize];
        assert!(connection.phase == Phase::AwaitConnect, "the transport is done before CONNECT comes");
        // Who has come straight was asked about at the door.
        let may_come = self.origin(slot).peer.is_some() || self.may_come(now, &origin);
        if !may_come || self.reseat(slot, &origin).is_err() {
            return self.drop_connection(slot);
        }
        let connection = &mut self.connections[slot as usize];
        connection.address = origin.peer.map(|peer| peer.ip());
        connection.extras().origin = Some(Box::new(origin));
    }

    /// Writes a packet other than PUBLISH. One that exceeds the client's Maximum Packet Size is not sent
    /// ([MQTT-3.1.2-24]); the client would wait for it in vain, so its connection ends. False in that case.
    pub(super) fn write(
        &mut self,
        slot: u32,
        packet: PacketType,
        encode: impl FnOnce(Version, &mut Vec<u8>),
    ) -> bool {
        let connection = &mut self.connections[slot as usize];
        let (version, max_packet) = (connection.version, connection.max_packet);
        let out = connection.writer(slot, &mut self.buffers, &mut self.dirty);
        let before = out.len();
        encode(version, out);
        if out.len() - before > max_packet as usize {
            out.truncate(before);
            self.doom(slot, ReasonCode::PacketTooLarge);
            return false;
        }
        self.counters.packets_sent[packet as usize] += 1;
        if connection.output.len() > self.profiles[connection.profile].output_bound {
            self.doom(slot, ReasonCode::QuotaExceeded);
        }
        true
    }

    /// The output is empty: its buffer goes back, and what waited for room goes on.
    pub(super) fn drained(&mut self, now: Time, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if connection.gated.is_some() {
            if !self.drained_gated(slot) {
                return;
            }
        } else if !connection.output.is_empty() {
            return;
        } else if !connection.is_dirty {
            self.buffers.take_back(&mut connection.output);
        }
        let connection = &mut self.connections[slot as usize];
        if connection.is_stalled {
            connection.is_stalled = false;
            self.pump(now, slot);
        }
        self.continue_scans(now, slot);
    }
}
