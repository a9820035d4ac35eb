//! CONNECT: from the first packet to CONNACK.
//!
//! The shard that accepted the socket checks CONNECT and asks the id's registrar for the home of its session; the
//! socket moves there with everything it has sent, and the home decides the rest.
use super::connection::{Extras, Pending, Phase};
use super::credentials::{Screened, same_rights};
use super::input::Flow;
use super::{Action, ConnId, Core};
use crate::auth::access::Access;
use crate::auth::decision::Grant;
use crate::codec::{
    ConnAck, ConnAckProperties, Connect, Cut, DecodeError, Frame, Packet, PacketType, QoS, ReasonCode,
    Version, cut,
};
use crate::session::alias::OutgoingAliases;
use crate::session::message::{Message, SessionKey};
use crate::session::{NEVER_EXPIRES, Session, Will};
use crate::shard::envelope::{Envelope, Handoff, Socket};
use crate::time::Time;
use crate::topic::check_name;
use bytes::{Bytes, BytesMut};
use std::rc::Rc;

/// The part of the topic space that only the broker publishes to.
pub(super) const BROKER_TOPICS: &str = "$SYS/";

/// The client id of a CONNECT that was put aside.
pub(super) fn pending_client_id(pending: &Pending) -> Option<Box<str>> {
    if let Some(assigned) = &pending.assigned {
        return Some(assigned.clone());
    }
    match cut(&pending.bytes, u32::MAX) {
        Ok(Cut::Frame(frame)) => Connect::decode(frame).ok().map(|connect| connect.client_id.into()),
        _ => None,
    }
}

/// A CONNECT that was put aside, and its length: more may lie behind it.
pub(super) fn put_aside_connect(bytes: &[u8]) -> (Connect<'_>, usize) {
    let Ok(Cut::Frame(frame)) = cut(bytes, u32::MAX) else {
        unreachable!("a CONNECT that was put aside was whole")
    };
    let Ok(connect) = Connect::decode(frame) else {
        unreachable!("a CONNECT that was put aside was decoded once")
    };
    (connect, frame.bytes.len())
}

impl Core {
    /// The first packet of a connection ([MQTT-3.1.0-1]).
    pub(super) fn handle_first(
        &mut self,
        now: Time,
        slot: u32,
        packet: &Packet<'_>,
        frame: Frame<'_>,
    ) -> Flow {
        let Packet::Connect(connect) = packet else {
            self.counters.protocol_errors += 1;
            self.drop_connection(slot);
            return Flow::Stop;
        };
        let connection = &mut self.connections[slot as usize];
        connection.phase = Phase::Locating;
        connection.learn(connect);
        self.remember_claim(slot, connect);
        if let Err(reason) = self.check_connect(connect) {
            self.refuse(slot, reason);
            return Flow::Stop;
        }
        let assigned = connect.client_id.is_empty().then(|| self.new_client_id());
        if self.shards == 1 {
            let conn = self.id(slot);
            self.actions.push_back(Action::Established { conn });
            return self.begin_session(now, slot, connect, frame.bytes, assigned);
        }
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let client = self.keys.fingerprint(client_id);
        let registrar = self.keys.shard_of(client_id, self.shards);
        let pending = Pending { bytes: BytesMut::from(frame.bytes), assigned, home: None };
        self.connections[slot as usize].extras().pending = Some(pending);
        let connection = self.id(slot);
        self.actions.push_back(Action::Pause { conn: connection });
        self.send(registrar, Envelope::Locate { client, connection });
        Flow::Stop
    }

    /// What can be refused without knowing the session.
    fn check_connect(&self, connect: &Connect<'_>) -> Result<(), ReasonCode> {
        let may_assign = match connect.version {
            Version::V5 => true,
            // [MQTT-3.1.3-8]
            Version::V311 => connect.clean_start,
            Version::V31 => false,
        };
        if connect.client_id.is_empty() && !may_assign {
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        if let Some(method) = connect.properties.authentication_method
            && !self.policy.methods.iter().any(|known| known.name() == method)
        {
            return Err(ReasonCode::BadAuthenticationMethod);
        }
        let Some(will) = &connect.will else { return Ok(()) };
        // What its client may leave is known when its user is.
        if check_name(will.topic, usize::MAX).is_err() {
            return Err(ReasonCode::TopicNameInvalid);
        }
        if will.topic.starts_with(BROKER_TOPICS) {
            return Err(ReasonCode::NotAuthorized);
        }
        if will.properties.payload_format == Some(1) && simdutf8::basic::from_utf8(will.payload).is_err() {
            return Err(ReasonCode::PayloadFormatInvalid);
        }
        Ok(())
    }

    /// A CONNECT that cannot be decoded: told so where the version allows an answer.
    pub(super) fn refuse_connect(&mut self, slot: u32, frame: Frame<'_>, error: DecodeError) {
        self.counters.decode_errors += 1;
        let version = match error {
            // [MQTT-3.1.2-2] of 3.1.1; a version 5 client understands its own form only.
            DecodeError::UnsupportedVersion { .. } => Some(Version::V311),
            _ => Connect::peek_version(frame).filter(|version| *version == Version::V5),
        };
        match version {
            Some(version) => {
                let connection = &mut self.connections[slot as usize];
                connection.version = version;
                connection.phase = Phase::Locating;
                self.refuse(slot, error.reason());
            }
            // [MQTT-3.1.4-1] of 3.1.1: closed without CONNACK.
            None => self.drop_connection(slot),
        }
    }

    /// A client id nobody has ([MQTT-3.1.3-6]).
    fn new_client_id(&mut self) -> Box<str> {
        self.sessions_made += 1;
        let number = format!("{}-{}", self.shard, self.sessions_made);
        format!("ringmq-{number}-{:016x}", self.keys.hash(&number)).into()
    }

    /// The registrar's answer.
    pub(super) fn handle_home(&mut self, now: Time, client: u128, conn: ConnId, home: u8) {
        if !self.is_live(conn) {
            return self.give_up_claim(client);
        }
        let extras = self.connections[conn.slot as usize].extras();
        if home != self.shard {
            let pending = extras.pending.as_mut().expect("a connection that is being located has a CONNECT");
            pending.home = Some(home);
            return self.actions.push_back(Action::Handoff { conn });
        }
        let pending = extras.pending.take().expect("a connection that is being located has a CONNECT");
        self.actions.push_back(Action::Established { conn });
        self.actions.push_back(Action::Resume { conn });
        self.begin_pending(now, conn.slot, &pending.bytes.freeze(), pending.assigned);
    }

    /// After [`Action::Handoff`]: packs the connection, with `socket`, into an envelope for its home shard.
    pub fn complete_handoff(&mut self, conn: ConnId, socket: Socket) {
        assert!(self.is_live(conn), "a connection that is handed off is not closed");
        self.disarm_connection(conn.slot);
        let mut connection = self.connections.remove(conn.slot as usize);
        let Extras { origin, pending, seats, .. } = connection.extras();
        let seat = seats.as_mut().and_then(|seats| seats.address.take());
        let pending = pending.take().expect("a connection that is handed off has a CONNECT");
        let origin = origin.take().expect("the origin is known until CONNACK");
        let Pending { bytes, assigned, home } = pending;
        let home = home.expect("only a connection whose home is known is handed off");
        self.send(
            home,
            Envelope::Handoff(Box::new(Handoff {
                socket,
                bytes: bytes.freeze(),
                assigned,
                origin: *origin,
                seat,
            })),
        );
    }

    /// A connection arrives at its session's home.
    pub(super) fn handle_handoff(&mut self, now: Time, handoff: Handoff) {
        let conn = self.open(now, handoff.origin);
        self.take_seat(conn.slot, handoff.seat);
        self.actions.push_back(Action::Adopt { conn, socket: handoff.socket });
        self.actions.push_back(Action::Established { conn });
        self.connections[conn.slot as usize].phase = Phase::Locating;
        self.begin_pending(now, conn.slot, &handoff.bytes, handoff.assigned);
    }

    /// Goes on with a CONNECT that was put aside, and with what came behind it.
    fn begin_pending(&mut self, now: Time, slot: u32, bytes: &Bytes, assigned: Option<Box<str>>) {
        let (connect, length) = put_aside_connect(bytes);
        self.connections[slot as usize].learn(&connect);
        self.remember_claim(slot, &connect);
        match self.begin_session(now, slot, &connect, &bytes[..length], assigned) {
            Flow::Continue => {
                self.begin_work();
                self.receive_slice(now, slot, &bytes[length..]);
            }
            Flow::Stop | Flow::Again | Flow::Later => self.put_aside(slot, &bytes[length..]),
        }
    }

    /// At home: authenticates by the method that is named, or by user name and password, and accepts.
    fn begin_session(
        &mut self,
        now: Time,
        slot: u32,
        connect: &Connect<'_>,
        bytes: &[u8],
        assigned: Option<Box<str>>,
    ) -> Flow {
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let screened = match connect.properties.authentication_method {
            _ if self.is_banned(now, slot, client_id, connect.username) => Screened::Out(ReasonCode::Banned),
            _ if self.is_closed_to(client_id) => Screened::Out(ReasonCode::QuotaExceeded),
            _ if self.is_jailed(now, slot, client_id) => Screened::Out(ReasonCode::ConnectionRateExceeded),
            Some(method) => {
                let data = connect.properties.authentication_data;
                let pending = Pending { bytes: BytesMut::from(bytes), assigned, home: Some(self.shard) };
                return self.begin_authentication(now, slot, method, data, pending);
            }
            None => self.screen(slot, connect, client_id),
        };
        match screened {
            Screened::In(grant) => self.accept(now, slot, connect, assigned, None, grant),
            Screened::Ask(login) => self.ask_about(slot, bytes, assigned, login),
            Screened::Out(reason) => {
                self.give_up_claim(self.keys.fingerprint(client_id));
                self.turn_away(slot, reason);
                Flow::Stop
            }
        }
    }

    /// A CONNECT whose authentication succeeded. Returns its length as well: more may lie behind it.
    pub(super) fn accept_pending(
        &mut self,
        now: Time,
        slot: u32,
        bytes: &[u8],
        assigned: Option<Box<str>>,
        data: Option<Vec<u8>>,
        grant: Grant,
    ) -> (usize, Flow) {
        let (connect, length) = put_aside_connect(bytes);
        (length, self.accept(now, slot, &connect, assigned, data, grant))
    }

    /// Brings the connection to its session and answers CONNACK 0x00 ([MQTT-3.1.4-5]).
    fn accept(
        &mut self,
        now: Time,
        slot: u32,
        connect: &Connect<'_>,
        assigned: Option<Box<str>>,
        authentication: Option<Vec<u8>>,
        grant: Grant,
    ) -> Flow {
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let access = match self.admit_client(now, slot, connect, client_id, grant) {
            Ok(access) => access,
            Err(reason) => {
                self.give_up_claim(self.keys.fingerprint(client_id));
                self.turn_away(slot, reason);
                return Flow::Stop;
            }
        };
        let listener = self.origin(slot).listener;
        let user = access.as_ref().and_then(|access| access.user.as_deref());
        self.connections[slot as usize].profile = self.profiles.number(Some(listener), user);
        let within_limits = self.check_will_limits(slot, connect).and_then(|()| {
            self.seat_user(slot, client_id, access.as_deref()).map_err(|_| ReasonCode::QuotaExceeded)
        });
        if let Err(reason) = within_limits {
            self.give_up_claim(self.keys.fingerprint(client_id));
            self.refuse(slot, reason);
            return Flow::Stop;
        }
        self.note_reconnect(now, slot, client_id);
        let changes = self.changes_made();
        let wants_storage = self.expiry_wanted(slot, connect) > 0;
        let (clean_start, own) = (connect.clean_start, access.as_deref());
        let session = self.session_for(now, client_id, clean_start, wants_storage, own);
        let Some((session, session_present)) = session else {
            self.give_up_claim(self.keys.fingerprint(client_id));
            self.refuse(slot, ReasonCode::QuotaExceeded);
            return Flow::Stop;
        };
        let has_other_rights =
            self.restricts && !same_rights(&self.sessions[session as usize].access, &access);
        self.sessions[session as usize].access = access;
        self.attach(now, slot, session, connect);
        self.store_session(session);
        self.gate_connack(slot, changes);
        self.counters.connects_accepted += 1;
        self.counters.clients_connected += 1;
        if !self.write_connack(slot, session, connect, session_present, assigned.as_deref(), authentication) {
            // [MQTT-3.2.0-1]: no packet without it, not even the reason.
            self.close_silently(now, slot);
            return Flow::Stop;
        }
        if session_present {
            if has_other_rights {
                // Routes and permits are remembered with the rights of its last connection.
                self.router.forget_routes();
                self.permits.clear();
            }
            self.drop_unreadable(session);
            // Repetitions go first ([MQTT-4.4.0-1]), so they must be known before a group can deliver.
            self.drop_expired(now, session);
            if let Some(outgoing) = &mut self.sessions[session as usize].outgoing {
                outgoing.begin_connection();
            }
            self.set_member_connected(now, session, true);
            self.pump(now, slot);
            self.continue_scans(now, slot);
        }
        Flow::Continue
    }

    /// The session of a client id, as Clean Start wants it ([MQTT-3.1.2-4], -5, -6), and whether it was there before.
    /// `None` when there is no room for another one.
    fn session_for(
        &mut self,
        now: Time,
        client_id: &str,
        clean_start: bool,
        wants_storage: bool,
        access: Option<&Access>,
    ) -> Option<(u32, bool)> {
        let existing = self.find_session(client_id);
        if let Some(session) = existing {
            // A session that ends with its connection is not gone on with, however that ends ([MQTT-3.1.2-23]).
            let is_over = clean_start
                || !self.sessions[session as usize].is_persistent()
                || self.is_of_another(session, access);
            self.take_over(now, session, is_over);
            if !is_over {
                // It has a claim of its own.
                self.give_up_claim(self.keys.fingerprint(client_id));
                return Some((session, true));
            }
            self.end_session(now, session);
        }
        if self.is_storage_full() && wants_storage {
            self.counters.refused_storage_full += 1;
            return None;
        }
        let share = self.limits.max_sessions.div_ceil(usize::from(self.shards));
        if self.counters.sessions as usize >= share {
            return None;
        }
        self.sessions_made += 1;
        let key = SessionKey::new(self.shard, self.sessions_made);
        let session = Session::new(key, Rc::from(client_id));
        let slot = self.sessions.insert(session) as u32;
        let keys = &self.keys;
        let sessions = &self.sessions;
        self.directory
            .insert_unique(keys.hash(client_id), slot, |slot| keys.hash(&sessions[*slot as usize].client_id));
        self.counters.sessions += 1;
        Some((slot, false))
    }

    pub(super) fn find_session(&self, client_id: &str) -> Option<u32> {
        let same = |slot: &u32| &*self.sessions[*slot as usize].client_id == client_id;
        self.directory.find(self.keys.hash(client_id), same).copied()
    }

    /// How long the session may outlive its connection, seconds.
    fn expiry_wanted(&self, slot: u32, connect: &Connect<'_>) -> u32 {
        let wanted = match (connect.version == Version::V5, connect.clean_start) {
            (true, _) => connect.properties.session_expiry,
            (false, true) => 0,
            (false, false) => NEVER_EXPIRES,
        };
        wanted.min(self.limits_of(slot).max_session_expiry)
    }

    /// Ties the connection and the session together.
    fn attach(&mut self, now: Time, slot: u32, session_slot: u32, connect: &Connect<'_>) {
        self.note_connect(slot, session_slot, connect);
        let properties = &connect.properties;
        let expiry_interval = self.expiry_wanted(slot, connect);
        let session = &mut self.sessions[session_slot as usize];
        session.profile = self.connections[slot as usize].profile;
        session.connection = Some(slot);
        session.expires = Time::NEVER;
        session.will_due = Time::NEVER;
        session.expiry_interval = expiry_interval;
        session.will = connect.will.as_ref().map(|will| {
            let mut forwarded = Vec::new();
            will.properties.encode_forwarded(&mut forwarded);
            let (qos, retain) = (will.qos, will.retain);
            let message =
                Message::new(will.topic, &forwarded, will.payload, qos, retain, Time::NEVER, session.key);
            Box::new(Will { message, expiry: will.properties.message_expiry, delay: will.delay })
        });
        self.disarm_session(session_slot);
        let keep_alive = self.keep_alive(slot, connect);
        let limits = self.limits_of(slot);
        let aliases = properties.topic_alias_maximum.min(limits.topic_alias_maximum_outgoing);
        let quota = properties.receive_maximum.min(limits.max_inflight).max(1);
        let connection = &mut self.connections[slot as usize];
        connection.session = session_slot;
        connection.phase = Phase::Connected;
        connection.patience = u32::from(keep_alive) * 1500;
        connection.quota = quota;
        connection.shrink();
        if aliases > 0 {
            connection.extras().outgoing_aliases = Some(OutgoingAliases::new(aliases));
        }
        let patience = u64::from(connection.patience);
        self.disarm_connection(slot);
        let silent = if patience > 0 { now + patience } else { Time::NEVER };
        let due = silent.min(self.access_expires(slot));
        if due != Time::NEVER {
            let conn = self.id(slot);
            self.arm_connection(conn, due);
        }
    }

    /// The keep alive in force, seconds; version 5 clients are told when it is not theirs ([MQTT-3.2.2-22]).
    fn keep_alive(&self, slot: u32, connect: &Connect<'_>) -> u16 {
        let longest = self.limits_of(slot).max_keep_alive;
        let too_long = longest > 0 && (connect.keep_alive == 0 || connect.keep_alive > longest);
        if too_long && connect.version == Version::V5 { longest } else { connect.keep_alive }
    }

    fn write_connack(
        &mut self,
        slot: u32,
        session: u32,
        connect: &Connect<'_>,
        session_present: bool,
        assigned: Option<&str>,
        authentication: Option<Vec<u8>>,
    ) -> bool {
        let profile = self.connections[slot as usize].profile;
        let limits = self.profiles[profile].limits.clone();
        let keep_alive = self.keep_alive(slot, connect);
        let expiry = self.sessions[session as usize].expiry_interval;
        let properties = ConnAckProperties {
            session_expiry: (expiry != connect.properties.session_expiry).then_some(expiry),
            receive_maximum: (limits.receive_maximum != u16::MAX).then_some(limits.receive_maximum),
            maximum_qos: (limits.max_qos < QoS::ExactlyOnce as u8).then_some(limits.max_qos),
            retain_available: (!limits.retain_available).then_some(false),
            maximum_packet_size: Some(limits.max_packet),
            assigned_client_id: assigned,
            topic_alias_maximum: (limits.topic_alias_maximum > 0).then_some(limits.topic_alias_maximum),
            server_keep_alive: (keep_alive != connect.keep_alive).then_some(keep_alive),
            response_information: limits
                .response_information
                .as_deref()
                .filter(|_| connect.properties.request_response_information),
            authentication_method: connect.properties.authentication_method,
            authentication_data: authentication.as_deref().filter(|data| !data.is_empty()),
            ..ConnAckProperties::default()
        };
        // MQTT 3.1 has no Session Present: the byte is reserved there.
        let session_present = session_present && connect.version != Version::V31;
        let connack = ConnAck { session_present, reason: ReasonCode::Success, properties };
        self.write(slot, PacketType::ConnAck, |version, out| connack.encode(version, out))
    }
}
