//! The end: wills are published and delivered, then every client is told and closed.
use super::Core;
use super::connection::Phase;
use super::deadlines::Timer;
use crate::codec::ReasonCode;
use crate::shard::envelope::Envelope;
use crate::time::Time;

/// Milliseconds that a shard waits, at most and within [`crate::limits::Limits::shutdown_ms`], for the wills of the others to reach its
/// subscribers. A shard that is too busy to say that it has sent them cannot keep the broker from ending.
const WILLS_MS: u64 = 1_000;

/// How far a shutdown has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stopping {
    /// Not at all.
    No,
    /// Wills are being delivered.
    Wills,
    /// All connections are closed.
    Done,
}

impl Core {
    pub(super) fn begin_shutdown(&mut self, now: Time) {
        if self.stopping != Stopping::No {
            return;
        }
        self.stopping = Stopping::Wills;
        let sessions: Vec<u32> = self.sessions.iter().map(|(slot, _)| slot as u32).collect();
        for session in sessions {
            if !self.keeps_will(session) {
                self.release_will(session);
            }
        }
        // What is published must be on its way before the others hear that it is.
        self.settle(now);
        for peer in self.peers() {
            self.send(peer, Envelope::WillsSent);
        }
        let until = now + WILLS_MS.min(self.limits.shutdown_ms);
        self.shutdown_timer = Some(self.timers.insert(until, Timer::Shutdown));
        self.end_if_wills_are_sent(now);
    }

    /// Another shard's wills are all here: rings keep the order.
    pub(super) fn handle_wills_sent(&mut self, now: Time) {
        self.wills_sent += 1;
        self.end_if_wills_are_sent(now);
    }

    fn end_if_wills_are_sent(&mut self, now: Time) {
        if self.stopping == Stopping::Wills && self.wills_sent == self.shards - 1 {
            self.end_shutdown(now);
        }
    }

    /// Whether a will waits in the store for its time, which is not the end of the broker.
    fn keeps_will(&self, session: u32) -> bool {
        let session = &self.sessions[session as usize];
        session.is_stored && session.will.as_ref().is_some_and(|will| will.delay > 0)
    }

    /// A session's connection is closed, and nothing will happen to it any more in this life of the broker.
    fn store_last(&mut self, now: Time, slot: u32) {
        let session = &mut self.sessions[slot as usize];
        session.connection = None;
        session.expires = session.expiry_from(now);
        if let Some(will) = &session.will {
            session.will_due = now.plus_secs(will.delay);
        }
        self.store_session(slot);
    }

    /// Tells version 5 clients why they are closed (0x8B), and closes all.
    pub(super) fn end_shutdown(&mut self, now: Time) {
        if let Some(timer) = self.shutdown_timer.take() {
            self.timers.cancel(timer);
        }
        let connections: Vec<u32> = self.connections.iter().map(|(slot, _)| slot as u32).collect();
        for slot in connections {
            match self.connections[slot as usize].phase {
                Phase::Connected => {
                    let session = self.say_goodbye(slot, ReasonCode::ServerShuttingDown);
                    self.counters.clients_connected -= 1;
                    // What the other shards still send finds a session whose client is away.
                    self.store_last(now, session);
                }
                Phase::AwaitConnect | Phase::Locating | Phase::Deciding | Phase::Authenticating => {
                    self.drop_connection(slot)
                }
            }
        }
        self.stopping = Stopping::Done;
    }
}
