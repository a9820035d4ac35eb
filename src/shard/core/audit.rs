//! What must hold of a core between two inputs, for the simulation and the fuzzer.
use super::Core;
use super::connection::Phase;
use super::leave::Leaving;
use super::shutdown::Stopping;
use crate::topic::parse_shared;
use std::collections::BTreeSet;

/// How much of everything there is, apart from retained messages.
#[doc(hidden)]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Audit {
    /// Name and number.
    pub sizes: Vec<(&'static str, usize)>,
    /// QoS 1 and 2 deliveries in flight to clients that are connected, or queued for them.
    pub undelivered: usize,
}

impl Audit {
    /// Panics if something is left: for a broker without clients and sessions.
    pub fn check_empty(&self) {
        let left: Vec<_> = self.sizes.iter().filter(|(_, size)| *size > 0).collect();
        assert!(left.is_empty(), "left over: {left:?}");
    }
}

impl Core {
    /// Panics if the core contradicts itself; returns what it holds.
    #[doc(hidden)]
    pub fn audit(&self) -> Audit {
        assert!(self.to_self.is_empty() && self.doomed.is_empty() && self.wills.is_empty(), "work is left");
        self.audit_connections();
        self.audit_sessions();
        let of_connections = self.connections.iter().filter(|(_, connection)| connection.timer.is_some());
        let of_sessions = self.session_timers.iter().filter(|timer| timer.is_some());
        let waits = self.connections.iter().filter_map(|(_, connection)| connection.extras.as_ref()?.wait);
        let armed = of_connections.count() + of_sessions.count() + waits.count() + self.own_timers();
        assert_eq!(self.timers.len(), armed, "timers nobody waits for");
        let sizes = [
            ("connections", self.connections.len()),
            ("closing", self.closing.len()),
            ("actions", self.actions.len()),
            ("sessions", self.sessions.len()),
            ("sessions that leave", self.leaving.len()),
            ("claims", self.registrar.len()),
            ("filters", self.router.filters()),
            ("interests", self.router.interests()),
            ("groups", self.router.group_count()),
            ("messages in group queues", self.group_queues.len()),
            ("waiting SUBSCRIBEs", self.announcements.waiting()),
            ("scans", self.scans.len()),
            ("unanswered announcements", self.retained.unanswered()),
            ("timers", self.timers.len() - self.own_timers()),
        ];
        let connected = self.sessions.iter().filter(|(_, session)| session.connection.is_some());
        let outgoing = connected.filter_map(|(_, session)| session.outgoing.as_ref());
        let undelivered = outgoing.map(|outgoing| outgoing.inflight() + outgoing.queued()).sum();
        Audit { sizes: sizes.into(), undelivered }
    }

    /// Timers that belong to no connection and no session.
    fn own_timers(&self) -> usize {
        let of_shutdown = usize::from(self.shutdown_timer.is_some());
        usize::from(self.limits.sys_interval_ms > 0) + usize::from(self.retained.is_armed()) + of_shutdown
    }

    fn audit_connections(&self) {
        let mut connected = 0;
        for (slot, connection) in self.connections.iter() {
            if connection.phase == Phase::Connected {
                connected += 1;
                let session = &self.sessions[connection.session as usize];
                assert_eq!(session.connection, Some(slot as u32), "connection and session name each other");
            }
        }
        assert_eq!(self.counters.clients_connected, connected);
        let attached = self.sessions.iter().filter(|(_, session)| session.connection.is_some()).count();
        assert_eq!(attached as u64, connected, "sessions with and connections of a client");
    }

    fn audit_sessions(&self) {
        assert_eq!(self.counters.sessions as usize, self.sessions.len() - self.leaving.len());
        assert_eq!(self.directory.len(), self.counters.sessions as usize);
        let leaving: BTreeSet<u32> = self.leaving.iter().map(Leaving::session).collect();
        let is_over = self.stopping != Stopping::No;
        let mut shared = 0;
        let mut scans: usize = leaving.iter().map(|slot| self.sessions[*slot as usize].scans as usize).sum();
        let mut plain = self.leaving.iter().map(|leaving| leaving.len() as u64).sum::<u64>();
        for (slot, session) in self.sessions.iter().filter(|(slot, _)| !leaving.contains(&(*slot as u32))) {
            assert_eq!(self.find_session(&session.client_id), Some(slot as u32));
            assert!(
                is_over || session.connection.is_some() || session.is_persistent(),
                "a session that should have ended"
            );
            for (filter, _) in session.subscriptions.filters() {
                let is_shared = matches!(parse_shared(filter, usize::MAX), Ok(Some(_)));
                *if is_shared { &mut shared } else { &mut plain } += 1;
            }
            scans += session.scans as usize;
            if let Some(outgoing) = &session.outgoing {
                outgoing.audit();
            }
        }
        assert_eq!((self.counters.subscriptions, self.counters.shared_subscriptions), (plain, shared));
        assert_eq!(self.scans.len(), scans);
        self.retained.audit(&self.counters);
    }
}
