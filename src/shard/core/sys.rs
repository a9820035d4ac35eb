//! `$SYS`: every shard sends its counters to shard 0, which publishes their sums.
use super::deadlines::Timer;
use super::{Core, ShardId};
use crate::codec::QoS;
use crate::metrics::{Counters, SysTree};
use crate::session::message::{Publication, SessionKey};
use crate::shard::envelope::Envelope;
use crate::time::Time;

/// The shard that publishes `$SYS`.
const PUBLISHER: ShardId = 0;
/// Milliseconds after the start at which `$SYS` appears.
const FIRST_MS: u64 = 100;

/// What is known of the shards' counters.
pub(super) struct Sys {
    shards: Vec<Counters>,
    tree: SysTree,
}

impl Sys {
    pub fn new(shards: u8) -> Sys {
        Sys { shards: vec![Counters::default(); usize::from(shards)], tree: SysTree::new() }
    }
}

impl Core {
    pub(super) fn arm_sys(&mut self, now: Time) {
        if self.limits.sys_interval_ms > 0 {
            self.timers.insert(now + FIRST_MS.min(self.limits.sys_interval_ms), Timer::Sys);
        }
    }

    /// Sends this shard's counters, and publishes what all have sent.
    pub(super) fn publish_sys(&mut self, now: Time) {
        self.timers.insert(now + self.limits.sys_interval_ms, Timer::Sys);
        self.measure();
        if self.shard != PUBLISHER {
            return self.send(PUBLISHER, Envelope::Counters(Box::new(self.counters.clone())));
        }
        self.sys.shards[usize::from(PUBLISHER)] = self.counters.clone();
        let mut totals = Counters::default();
        self.sys.shards.iter().for_each(|shard| totals.add(shard));
        let mut changed = Vec::new();
        let Sys { shards, tree } = &mut self.sys;
        tree.set_memory(self.memory);
        tree.update(now, &totals, shards, &mut |topic, value| {
            changed.push((topic.to_owned(), value.to_owned()))
        });
        for (topic, value) in changed {
            let (qos, publisher) = (QoS::AtMostOnce, SessionKey::BROKER);
            let publication =
                Publication::new(&topic, &[], value.as_bytes(), qos, true, Time::NEVER, publisher, None);
            self.publish(now, &publication);
        }
    }

    pub(super) fn handle_counters(&mut self, from: ShardId, counters: Counters) {
        self.sys.shards[usize::from(from)] = counters;
    }

    /// Gauges that are counted when they are asked for.
    fn measure(&mut self) {
        let outgoing = self.sessions.iter().filter_map(|(_, session)| session.outgoing.as_ref());
        let (mut messages, mut bytes) = (self.group_queues.len(), 0);
        for outgoing in outgoing {
            messages += outgoing.inflight() + outgoing.queued();
            bytes += outgoing.queued_bytes();
        }
        let outputs = self.connections.iter().map(|(_, connection)| connection.output.len());
        let (waiting, unsent) =
            outputs.filter(|len| *len > 0).fold((0, 0), |(n, sum), len| (n + 1, sum + len));
        self.counters.stored_messages = messages as u64;
        self.counters.stored_bytes = bytes as u64;
        self.counters.output_packets = waiting;
        self.counters.output_bytes = unsent as u64;
    }
}
