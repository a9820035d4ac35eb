//! How connections and sessions end, and what becomes of their wills.
use super::connection::{Connection, Phase};
use super::{Action, CloseCause, ConnId, Core};
use crate::codec::{ConnAck, ConnAckProperties, Disconnect, PacketType, ReasonCode, Version};
use crate::session::Will;
use crate::session::message::SessionKey;
use crate::time::Time;
use bytes::Bytes;

/// Bytes around a reason string in CONNACK and DISCONNECT, at most.
const REASON_STRING_MARGIN: usize = 16;

/// How a client's connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parting {
    /// The network said so, without DISCONNECT.
    Lost(CloseCause),
    /// We ended it for this reason.
    Ours(ReasonCode),
    /// The client ended it, giving this reason.
    Theirs(ReasonCode),
    /// We ended it without being able to say a word.
    Wordless,
}

/// A connection that is to be ended once nothing is in the middle of using it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Doomed {
    pub conn: ConnId,
    pub reason: ReasonCode,
}

/// What the publication of a will means for the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AfterWill {
    /// Nothing.
    Nothing,
    /// The session in this slot has no will any more, if it is still this one.
    Session(u32, SessionKey),
    /// The session ended with it.
    SessionEnded(SessionKey),
}

impl Core {
    /// Ends a connection later in this turn.
    pub(super) fn doom(&mut self, slot: u32, reason: ReasonCode) {
        let doomed = Doomed { conn: self.id(slot), reason };
        if !self.doomed.contains(&doomed) {
            self.doomed.push_back(doomed);
        }
    }

    pub(super) fn end_doomed(&mut self, now: Time, doomed: Doomed) {
        if !self.is_live(doomed.conn) {
            return;
        }
        let slot = doomed.conn.slot;
        if self.connections[slot as usize].phase == Phase::Connected {
            self.disconnect(now, slot, doomed.reason);
        } else {
            self.refuse(slot, doomed.reason);
        }
    }

    /// The network ended the connection.
    pub(super) fn lose_connection(&mut self, now: Time, slot: u32, cause: CloseCause) {
        let connection = self.forget(slot, Parting::Lost(cause));
        if connection.phase == Phase::Connected {
            self.detach(now, connection.session);
        } else {
            self.give_up_pending(&connection);
        }
    }

    /// Ends a connection that has not sent CONNECT, without a word.
    pub(super) fn drop_connection(&mut self, slot: u32) {
        assert!(self.connections[slot as usize].phase != Phase::Connected, "a connected client is told");
        let conn = self.id(slot);
        let connection = self.forget(slot, Parting::Wordless);
        self.give_up_pending(&connection);
        self.close_socket(conn, connection);
    }

    /// Answers CONNECT with a refusal and closes ([MQTT-3.2.2-7]); before CONNECT it just closes.
    pub(super) fn refuse(&mut self, slot: u32, reason: ReasonCode) {
        let connection = &self.connections[slot as usize];
        if connection.phase == Phase::AwaitConnect {
            return self.drop_connection(slot);
        }
        self.counters.closes[usize::from(reason.code())] += 1;
        self.note_refusal(slot, reason);
        self.drop_held(slot);
        let reason_string = self.reason_string(slot, reason);
        let properties = ConnAckProperties { reason_string, ..ConnAckProperties::default() };
        let connack = ConnAck { session_present: false, reason, properties };
        self.write(slot, PacketType::ConnAck, |version, out| connack.encode(version, out));
        self.drop_connection(slot);
    }

    /// The reason in words, unless it would make the packet too large for the client ([MQTT-3.2.2-19],
    /// [MQTT-3.14.2-3]). Both packets may carry it whatever Request Problem Information says ([MQTT-3.1.2-29]).
    fn reason_string(&self, slot: u32, reason: ReasonCode) -> Option<&'static str> {
        let room = self.connections[slot as usize].max_packet as usize;
        Some(reason.text()).filter(|text| text.len() + REASON_STRING_MARGIN <= room)
    }

    /// Ends the connection of a client that broke a rule, or that must go ([MQTT-4.13.1-1]): version 5 is told why.
    pub(super) fn disconnect(&mut self, now: Time, slot: u32, reason: ReasonCode) {
        let session = self.say_goodbye(slot, reason);
        self.detach(now, session);
    }

    /// Sends DISCONNECT and closes; the session stays attached to nothing until the caller decides about it.
    pub(super) fn say_goodbye(&mut self, slot: u32, reason: ReasonCode) -> u32 {
        self.counters.closes[usize::from(reason.code())] += 1;
        if matches!(reason, ReasonCode::ProtocolError | ReasonCode::ReceiveMaximumExceeded) {
            self.counters.protocol_errors += 1;
        }
        let can_tell = self.drop_held(slot);
        if can_tell && self.connections[slot as usize].version == Version::V5 {
            let packet = PacketType::Disconnect;
            let reason_string = self.reason_string(slot, reason);
            let disconnect = Disconnect { reason_string, ..Disconnect::new(reason) };
            self.write(slot, packet, |version, out| disconnect.encode(version, out));
        }
        let conn = self.id(slot);
        let connection = self.forget(slot, Parting::Ours(reason));
        let session = connection.session;
        self.close_socket(conn, connection);
        session
    }

    /// DISCONNECT from the client.
    pub(super) fn handle_disconnect(&mut self, now: Time, slot: u32, disconnect: &Disconnect<'_>) {
        let connection = &self.connections[slot as usize];
        let session = &mut self.sessions[connection.session as usize];
        if let Some(expiry) = disconnect.session_expiry {
            if session.expiry_interval == 0 && expiry != 0 {
                return self.disconnect(now, slot, ReasonCode::ProtocolError);
            }
            let longest = self.profiles[connection.profile].limits.max_session_expiry;
            session.expiry_interval = expiry.min(longest);
        }
        if disconnect.reason == ReasonCode::Success {
            // [MQTT-3.14.4-3]
            session.will = None;
        }
        self.counters.closes[usize::from(disconnect.reason.code())] += 1;
        self.close_as(now, slot, Parting::Theirs(disconnect.reason));
    }

    /// Ends a client's connection without a word.
    pub(super) fn close_silently(&mut self, now: Time, slot: u32) {
        self.close_as(now, slot, Parting::Wordless);
    }

    fn close_as(&mut self, now: Time, slot: u32, parting: Parting) {
        let conn = self.id(slot);
        let connection = self.forget(slot, parting);
        self.detach(now, connection.session);
        self.close_socket(conn, connection);
    }

    /// Takes a connection out of the tables.
    fn forget(&mut self, slot: u32, parting: Parting) -> Connection {
        self.note_close(slot, parting);
        self.disarm_connection(slot);
        self.cancel_wait(slot);
        self.counters.connections_closed += 1;
        let mut connection = self.connections.remove(slot as usize);
        self.drop_unfinished(&mut connection);
        connection
    }

    fn close_socket(&mut self, conn: ConnId, connection: Connection) {
        let Connection { output, gated, .. } = connection;
        let mut output = gated.map_or(output, |gated| gated.ready);
        output.keep_lent(|bytes| Bytes::copy_from_slice(bytes));
        self.closing.push_back((conn, output));
        self.actions.push_back(Action::Close { conn });
    }

    /// A claim whose CONNECT came to nothing. While the registrar has not answered it is given up with its answer.
    fn give_up_pending(&mut self, connection: &Connection) {
        if let Some(pending) = connection.extras.as_ref().and_then(|extras| extras.pending.as_ref())
            && pending.home.is_some()
            && let Some(client_id) = super::connect::pending_client_id(pending)
        {
            self.give_up_claim(self.keys.fingerprint(&client_id));
        }
    }

    /// The session's connection is gone: it ends now or waits for its client ([MQTT-3.1.2-23]).
    fn detach(&mut self, now: Time, slot: u32) {
        self.counters.clients_connected -= 1;
        let session = &mut self.sessions[slot as usize];
        session.connection = None;
        if session.expiry_interval == 0 {
            return self.end_session(now, slot);
        }
        session.expires = session.expiry_from(now);
        if let Some(will) = &session.will {
            session.will_due = now.plus_secs(will.delay);
            if will.delay == 0 {
                self.release_will(slot);
            }
        }
        self.store_session(slot);
        self.pause_scans(slot);
        self.set_member_connected(now, slot, false);
        self.give_back_queued(now, slot);
        self.arm_session(slot);
    }

    /// Another connection takes the session of `slot` ([MQTT-3.1.4-3]). Its will is published unless the new
    /// connection resumes the session within the will delay ([MQTT-3.1.3-9]). `is_over`: the caller ends the session.
    pub(super) fn take_over(&mut self, now: Time, slot: u32, is_over: bool) {
        let connection = self.sessions[slot as usize].connection;
        if let Some(connection) = connection {
            self.counters.takeovers += 1;
            self.counters.clients_connected -= 1;
            self.say_goodbye(connection, ReasonCode::SessionTakenOver);
            self.pause_scans(slot);
            self.set_member_connected(now, slot, false);
            self.sessions[slot as usize].connection = None;
        }
        if is_over {
            return;
        }
        let session = &mut self.sessions[slot as usize];
        let is_delayed = session.will.as_ref().is_some_and(|will| will.delay > 0);
        if is_delayed || connection.is_none() {
            session.will = None;
        } else {
            self.release_will(slot);
        }
    }

    /// The end of a session ([MQTT-4.1.0-2]): its will is due at the latest now, its subscriptions end, and its groups
    /// offer what it had not acknowledged to others.
    pub(super) fn end_session(&mut self, now: Time, slot: u32) {
        let is_last_word = self.release_will(slot);
        self.disarm_session(slot);
        let mut session = self.take_session(now, slot);
        assert!(session.connection.is_none(), "a session does not end under its connection");
        let hash = self.keys.hash(&session.client_id);
        if let Ok(entry) = self.directory.find_entry(hash, |known| *known == slot) {
            entry.remove();
        }
        self.counters.sessions -= 1;
        self.give_up_claim(self.keys.fingerprint(&session.client_id));
        if let Some(outgoing) = &mut session.outgoing {
            let given_back = outgoing.take_shared();
            self.give_back(now, given_back, session.key);
        }
        match self.wills.back_mut().filter(|_| is_last_word) {
            _ if !session.is_stored => {}
            Some((_, after)) => *after = AfterWill::SessionEnded(session.key),
            None => self.store_session_end(session.key),
        }
    }

    /// Hands a session's will over for publication, if it has one that it may leave ([MQTT-3.1.2-8], -10). True then.
    pub(super) fn release_will(&mut self, slot: u32) -> bool {
        let session = &mut self.sessions[slot as usize];
        session.will_due = Time::NEVER;
        let Some(will) = session.will.take() else { return false };
        let after = match session.is_stored {
            true => AfterWill::Session(slot, session.key),
            false => AfterWill::Nothing,
        };
        if self.may_leave_own_will(slot, &will) {
            self.wills.push_back((will, after));
            return true;
        }
        let is_unit = self.begin_unit();
        self.store_will_taken(after);
        if is_unit {
            self.end_unit();
        }
        false
    }

    pub(super) fn publish_will(&mut self, now: Time, will: Will, after: AfterWill) {
        let mut message = will.message;
        message.expires = will.expiry.map_or(Time::NEVER, |seconds| now.plus_secs(seconds));
        self.counters.wills_published += 1;
        let is_unit = self.begin_unit();
        self.store_will_taken(after);
        self.publish(now, &message.publication());
        if is_unit {
            self.end_unit();
        }
    }
}
