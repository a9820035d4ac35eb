//! Who may come in: CONNECT's credentials, decided here where it is quick, else by an ordinary thread that is asked
//! while the connection waits unread.
use super::connect::{pending_client_id, put_aside_connect};
use super::connection::{Pending, Phase};
use super::input::Flow;
use super::{Action, ConnId, Core};
use crate::auth::access::Access;
use crate::auth::decision::{Answer, Grant, Login, Question};
use crate::auth::{Origin, rule::Operation};
use crate::codec::{Connect, ReasonCode};
use crate::session::Will;
use crate::time::Time;
use bytes::BytesMut;
use std::rc::Rc;

/// Times that a CONNECT's credentials are looked at, where they change meanwhile; then it is refused as server unavailable.
const LOGIN_QUESTIONS: usize = 4;

/// What is known of a CONNECT's credentials at once.
pub(super) enum Screened {
    /// Let in.
    In(Grant),
    /// Refused.
    Out(ReasonCode),
    /// An ordinary thread has to look.
    Ask(Box<Login>),
}

/// Whether a session that is gone on with has the rights that it had before.
pub(super) fn same_rights(old: &Option<Rc<Access>>, new: &Option<Rc<Access>>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            (&old.user, old.superuser, &old.token) == (&new.user, new.superuser, &new.token)
        }
        (old, new) => old.is_none() && new.is_none(),
    }
}

impl Core {
    /// Where a connection comes from; known until CONNACK.
    pub(super) fn origin(&self, slot: u32) -> &Origin {
        let extras = self.connections[slot as usize].extras.as_ref();
        extras.and_then(|extras| extras.origin.as_deref()).expect("the origin is known until CONNACK")
    }

    /// Bans come before everything else; `user` is what the client calls itself.
    pub(super) fn is_banned(&self, now: Time, slot: u32, client_id: &str, user: Option<&str>) -> bool {
        let bans = &self.policy.bans;
        !bans.is_empty() && {
            let origin = self.origin(slot);
            let user = user.or(origin.identity.as_deref());
            bans.bans(now, client_id, user, origin.peer.map(|peer| peer.ip()))
        }
    }

    /// Decides about the credentials of a CONNECT without a method, as far as that is quick.
    pub(super) fn screen(&self, slot: u32, connect: &Connect<'_>, client_id: &str) -> Screened {
        let origin = self.origin(slot);
        let door = self.policy.door(origin);
        if door.identity {
            return match &origin.identity {
                Some(identity) => Screened::In(Grant::user(identity)),
                None => Screened::Out(ReasonCode::NotAuthorized),
            };
        }
        // Names that nobody verifies are no names.
        let has_credentials = connect.username.is_some() || connect.password.is_some();
        if self.policy.verifies && has_credentials {
            return Screened::Ask(Box::new(Login {
                client_id: client_id.into(),
                user: connect.username.map(Box::from),
                password: connect.password.map(Box::from),
                will: connect.will.as_ref().map(|will| will.topic.into()),
                origin: origin.clone(),
            }));
        }
        if door.anonymous { Screened::In(Grant::default()) } else { Screened::Out(ReasonCode::NotAuthorized) }
    }

    /// Puts CONNECT aside, stops reading, and asks.
    pub(super) fn ask_about(
        &mut self,
        slot: u32,
        bytes: &[u8],
        assigned: Option<Box<str>>,
        login: Box<Login>,
    ) -> Flow {
        let home = Some(self.shard);
        let connection = &mut self.connections[slot as usize];
        connection.phase = Phase::Deciding;
        connection.extras().pending = Some(Pending { bytes: BytesMut::from(bytes), assigned, home });
        let conn = self.id(slot);
        self.actions.push_back(Action::Pause { conn });
        self.actions.push_back(Action::Ask { conn, question: Question::Login(login) });
        Flow::Stop
    }

    /// What an ordinary thread found out, or that it was not asked. Unknown (stale) ids are ignored.
    pub fn handle_answer(&mut self, now: Time, conn: ConnId, answer: Answer) {
        if !self.is_live(conn) {
            return;
        }
        let phase = self.connections[conn.slot as usize].phase;
        match answer {
            Answer::Login(_, generation)
                if phase == Phase::Deciding && generation < self.policy.generation =>
            {
                self.ask_again(now, conn.slot);
            }
            Answer::Login(decision, _) if phase == Phase::Deciding => self.let_in(now, conn.slot, decision),
            Answer::Busy(_) if phase == Phase::Deciding => {
                self.counters.logins_busy += 1;
                self.let_in(now, conn.slot, Err(ReasonCode::ServerUnavailable));
            }
            answer if phase == Phase::Connected => self.take_answer(now, conn.slot, answer),
            // About a CONNECT of this connection that it gave up itself.
            _ => {}
        }
        self.settle(now);
    }

    /// Who may come in has changed while an ordinary thread looked at a CONNECT: it is looked at again, but not for ever.
    fn ask_again(&mut self, now: Time, slot: u32) {
        let extras = self.connections[slot as usize].extras();
        extras.asked += 1;
        if usize::from(extras.asked) >= LOGIN_QUESTIONS {
            self.counters.logins_busy += 1;
            return self.let_in(now, slot, Err(ReasonCode::ServerUnavailable));
        }
        let pending = extras.pending.as_ref().expect("CONNECT waits for its decision");
        let (bytes, assigned) = (pending.bytes.clone(), pending.assigned.clone());
        let (connect, _) = put_aside_connect(&bytes);
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        match self.screen(slot, &connect, client_id) {
            Screened::In(grant) => self.let_in(now, slot, Ok(grant)),
            Screened::Out(reason) => self.let_in(now, slot, Err(reason)),
            Screened::Ask(login) => {
                let conn = self.id(slot);
                self.actions.push_back(Action::Ask { conn, question: Question::Login(login) });
            }
        }
    }

    /// Goes on with a CONNECT that waited for its decision.
    fn let_in(&mut self, now: Time, slot: u32, decision: Result<Grant, ReasonCode>) {
        let grant = match decision {
            Ok(grant) => grant,
            Err(reason) => return self.turn_away(slot, reason),
        };
        if self.is_outrun(slot) {
            return self.drop_connection(slot);
        }
        let conn = self.id(slot);
        self.actions.push_back(Action::Resume { conn });
        let extras = self.connections[slot as usize].extras();
        extras.asked = 0;
        let pending = extras.pending.take();
        let Pending { bytes, assigned, .. } = pending.expect("CONNECT waits for its decision");
        let bytes = bytes.freeze();
        let (length, flow) = self.accept_pending(now, slot, &bytes, assigned, None, grant);
        if flow == Flow::Continue {
            self.begin_work();
            self.receive_slice(now, slot, &bytes[length..]);
        }
    }

    /// Whether a later connection with the same client id was let in while this one waited for its decision: it has
    /// taken the session over ([MQTT-3.1.4-3]), and must not lose it to the earlier one.
    fn is_outrun(&self, slot: u32) -> bool {
        let connection = &self.connections[slot as usize];
        let pending = connection.extras.as_ref().and_then(|extras| extras.pending.as_ref());
        let client_id = pending.and_then(pending_client_id);
        let session = client_id.and_then(|client_id| self.find_session(&client_id));
        let Some(other) = session.and_then(|session| self.sessions[session as usize].connection) else {
            return false;
        };
        // Given out in sequence, and may wrap.
        let later = self.connections[other as usize].generation.wrapping_sub(connection.generation);
        later.cast_signed() > 0
    }

    /// Refuses credentials.
    pub(super) fn turn_away(&mut self, slot: u32, reason: ReasonCode) {
        let is_for_lack = matches!(reason, ReasonCode::ServerUnavailable | ReasonCode::QuotaExceeded);
        self.counters.logins_refused += u64::from(!is_for_lack);
        self.refuse(slot, reason);
    }

    /// What the session of a client may do, where that is not everything.
    pub(super) fn access_of(&self, now: Time, grant: Grant) -> Option<Rc<Access>> {
        let is_plain = grant == Grant::default() && !self.policy.restricts();
        (!is_plain).then(|| Rc::new(Access::new(grant, now)))
    }

    /// What a client that proved who it is gets, if it may come in.
    pub(super) fn admit_client(
        &self,
        now: Time,
        slot: u32,
        connect: &Connect<'_>,
        client_id: &str,
        grant: Grant,
    ) -> Result<Option<Rc<Access>>, ReasonCode> {
        // By what it calls itself it was looked for before; a token or a certificate may name another user.
        if self.is_banned(now, slot, client_id, grant.user.as_deref()) {
            return Err(ReasonCode::Banned);
        }
        let access = self.access_of(now, grant);
        match &connect.will {
            Some(will) if !self.may_leave_will(access.as_deref(), client_id, will.topic) => {
                Err(ReasonCode::NotAuthorized)
            }
            _ => Ok(access),
        }
    }

    /// Whether a session was that of another user: nobody inherits what was queued for somebody else.
    pub(super) fn is_of_another(&self, session: u32, access: Option<&Access>) -> bool {
        let owner = self.sessions[session as usize].owner();
        owner.is_some_and(|owner| access.is_none_or(|access| access.user != *owner))
    }

    /// When a client's connection ends because its credentials do.
    pub(super) fn access_expires(&self, slot: u32) -> Time {
        let session = self.connections[slot as usize].session;
        self.sessions[session as usize].access.as_ref().map_or(Time::NEVER, |access| access.expires)
    }

    /// Whether a client may have its will ([MQTT-3.1.2-7]) published; asked again when it is.
    pub(super) fn may_leave_will(&self, access: Option<&Access>, client_id: &str, topic: &str) -> bool {
        access.is_none_or(|access| self.may(access, client_id, Operation::Publish, topic))
    }

    /// Whether the client of a session may still leave its will; if not, that is counted.
    pub(super) fn may_leave_own_will(&mut self, slot: u32, will: &Will) -> bool {
        let session = &self.sessions[slot as usize];
        let is_allowed =
            self.may_leave_will(session.access.as_deref(), &session.client_id, will.message.topic());
        self.counters.denied_publish += u64::from(!is_allowed);
        is_allowed
    }
}
