//! What is due when: one timer a connection (connect timeout, then keep alive), one a session without a connection
//! (will delay, session expiry), and the broker's own.
use super::connection::Phase;
use super::{ConnId, Core};
use crate::codec::ReasonCode;
use crate::time::Time;

/// What a timer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    /// A connection's connect timeout or keep alive.
    Connection(ConnId),
    /// A will delay or a session expiry: slot of the session.
    Session(u32),
    /// A connection that waits is read again.
    Resume(ConnId),
    /// The next retained message to expire.
    Retained,
    /// `$SYS`.
    Sys,
    /// The end of a shutdown.
    Shutdown,
}

impl Core {
    /// Sets a connection's only timer.
    pub(super) fn arm_connection(&mut self, conn: ConnId, at: Time) {
        self.disarm_connection(conn.slot);
        self.connections[conn.slot as usize].timer = Some(self.timers.insert(at, Timer::Connection(conn)));
    }

    pub(super) fn disarm_connection(&mut self, slot: u32) {
        if let Some(timer) = self.connections[slot as usize].timer.take() {
            self.timers.cancel(timer);
        }
    }

    /// Waits for the next thing that happens to a session without a connection.
    pub(super) fn arm_session(&mut self, slot: u32) {
        self.disarm_session(slot);
        let at = self.sessions[slot as usize].deadline();
        if at != Time::NEVER {
            if self.session_timers.len() <= slot as usize {
                self.session_timers.resize(slot as usize + 1, None);
            }
            self.session_timers[slot as usize] = Some(self.timers.insert(at, Timer::Session(slot)));
        }
    }

    /// The session's client is back, or the session ends.
    pub(super) fn disarm_session(&mut self, slot: u32) {
        if let Some(timer) = self.session_timers.get_mut(slot as usize).and_then(Option::take) {
            self.timers.cancel(timer);
        }
    }

    pub(super) fn expire(&mut self, now: Time, timer: Timer) {
        match timer {
            Timer::Connection(conn) => self.expire_connection(now, conn),
            Timer::Session(slot) => self.expire_session(now, slot),
            Timer::Resume(conn) => self.resume(now, conn),
            Timer::Retained => self.expire_retained(now),
            Timer::Sys => self.publish_sys(now),
            Timer::Shutdown => {
                self.shutdown_timer = None;
                self.end_shutdown(now);
            }
        }
    }

    /// The connect timeout, or 1.5 keep alive periods since the last look: a packet in between only moved
    /// `last_received` ([MQTT-3.1.2-22]).
    fn expire_connection(&mut self, now: Time, conn: ConnId) {
        let connection = &mut self.connections[conn.slot as usize];
        assert_eq!(connection.generation, conn.generation, "a timer ends with its connection");
        connection.timer = None;
        match connection.phase {
            Phase::Connected => {}
            // Its registrar answers within a turn or two; what claimed an id must not vanish.
            Phase::Locating => {
                let timeout = self.profiles[connection.profile].limits.connect_timeout_ms;
                return self.arm_connection(conn, now + timeout);
            }
            Phase::Deciding => {
                self.counters.logins_busy += 1;
                return self.refuse(conn.slot, ReasonCode::ServerUnavailable);
            }
            Phase::AwaitConnect | Phase::Authenticating => {
                return self.drop_connection(conn.slot);
            }
        }
        let patience = u64::from(connection.patience);
        let silent = if patience > 0 { connection.last_received + patience } else { Time::NEVER };
        // Nobody is silent who is not listened to.
        let silent = if self.is_held(conn.slot) { silent.max(now + patience) } else { silent };
        let expires = self.access_expires(conn.slot);
        if expires <= now {
            return self.disconnect(now, conn.slot, ReasonCode::MaximumConnectTime);
        }
        let due = silent.min(expires);
        if due > now {
            self.arm_connection(conn, due);
        } else {
            self.disconnect(now, conn.slot, ReasonCode::KeepAliveTimeout);
        }
    }

    fn expire_session(&mut self, now: Time, slot: u32) {
        self.session_timers[slot as usize] = None;
        let session = &mut self.sessions[slot as usize];
        assert!(session.connection.is_none(), "its timer ends when the client is back");
        if session.will_due <= now {
            session.will_due = Time::NEVER;
            self.release_will(slot);
        }
        if self.sessions[slot as usize].expires <= now {
            self.counters.clients_expired += 1;
            self.end_session(now, slot);
        } else {
            self.arm_session(slot);
        }
    }
}
