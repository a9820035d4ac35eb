//! Queues come back from the disk as their clients take them: what is asked for, and what was found.
//!
//! A stretch of a queue is asked for when everything in it is stored, so that whoever reads needs to know nothing of
//! what is under way. Meanwhile nobody waits: what is new goes behind the stretch.
use super::{Action, Core};
use crate::limits::QueuePolicy;
use crate::session::tail::Window;
use crate::store::queue::{Found, Wanted};
use crate::time::Time;
use std::collections::BTreeSet;

/// Stretches that one shard has read at the same time; further sessions wait. Each is at most the window of a queue.
const READS_AT_ONCE: usize = 32;

/// What this shard wants to have read.
#[derive(Default)]
pub(super) struct Reads {
    /// Stretches that wait, at most one of each session: the batch that stores them, the session's number and slot,
    /// and the stretch's last place.
    waiting: BTreeSet<(u64, u64, u32, u64)>,
    /// How many were asked for.
    under_way: usize,
}

impl Core {
    /// How much of a stored queue is in memory.
    pub(super) fn queue_window(&self) -> Window {
        Window { messages: self.limits.queue_window_messages, bytes: self.limits.queue_window_bytes }
    }

    /// Has more of a session's queue read if little of it is left in memory.
    pub(super) fn refill(&mut self, session_slot: u32) {
        let window = self.queue_window();
        let Some(store) = &mut self.store else { return };
        let session = &mut self.sessions[session_slot as usize];
        let Some(outgoing) = session.outgoing.as_mut().filter(|outgoing| outgoing.has_tail()) else { return };
        let batch = store.last_batch();
        if let Some((to, batch)) = outgoing.ask(window, batch) {
            store.reads.waiting.insert((batch, session.key.0, session_slot, to));
            self.ask_store();
        }
    }

    /// Asks for what is stored by now, as far as not too much is under way.
    pub(super) fn ask_store(&mut self) {
        let window = self.queue_window();
        let Some(store) = &mut self.store else { return };
        while store.reads.under_way < READS_AT_ONCE
            && let Some(&first) = store.reads.waiting.first()
            && first.0 <= store.stored
        {
            store.reads.waiting.pop_first();
            let (_, number, slot, to) = first;
            let session = self.sessions.get(slot as usize).filter(|session| session.key.0 == number);
            let outgoing = session.and_then(|session| session.outgoing.as_ref());
            if let Some((from, room)) = outgoing.and_then(|outgoing| outgoing.wanted(window)) {
                store.reads.under_way += 1;
                let wanted = Wanted { slot, session: number, from, to, room };
                self.actions.push_back(Action::Fetch(Box::new(wanted)));
            }
        }
    }

    /// A stretch of a queue was read. What belongs to a session that has ended meanwhile is left.
    pub(super) fn take_found(&mut self, now: Time, found: Found) {
        let Found { slot, session: number, deliveries, next } = found;
        if let Some(store) = &mut self.store {
            store.reads.under_way -= 1;
        }
        if let Some(session) = self.sessions.get_mut(slot as usize).filter(|session| session.key.0 == number)
            && let Some(outgoing) = &mut session.outgoing
        {
            self.counters.dropped_unreadable += outgoing.take_found(deliveries, next) as u64;
            let connection = session.connection;
            self.make_way(slot);
            match connection {
                Some(connection) => {
                    self.drop_unreadable(slot);
                    self.pump_more(now, connection);
                }
                None => self.refill(slot),
            }
        }
        self.ask_store();
    }

    /// The oldest messages, which could not give way while they were on the disk only, do so now.
    fn make_way(&mut self, session_slot: u32) {
        let limits = &self.profiles[self.sessions[session_slot as usize].profile].limits;
        if limits.queue_policy != QueuePolicy::DropOldest {
            return;
        }
        let max = (limits.max_queued_messages, limits.max_queued_bytes);
        while let Some(dropped) = self.sessions[session_slot as usize].outgoing().give_way(max) {
            self.counters.dropped_queue_full += 1;
            if let Some(stored) = dropped.stored() {
                self.store_dropped(session_slot, stored);
            }
        }
    }
}
