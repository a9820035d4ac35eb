//! Envelopes: sending them, and opening those that came.
use super::{Core, ShardId};
use crate::shard::envelope::Envelope;
use crate::time::Time;

impl Core {
    /// Puts an envelope into another shard's outbox, or back to this shard without a ring.
    pub(super) fn send(&mut self, to: ShardId, envelope: Envelope) {
        if to == self.shard {
            self.to_self.push_back(envelope);
            return;
        }
        match &envelope {
            Envelope::Run { .. } | Envelope::Publish(_) => self.counters.envelopes_publish += 1,
            Envelope::Announce(_) | Envelope::Announced { .. } => self.counters.envelopes_interest += 1,
            Envelope::Retain(_) | Envelope::Retained(_) | Envelope::Scan(_) | Envelope::Scanned(_) => {
                self.counters.envelopes_retained += 1;
            }
            Envelope::Shared(_) => self.counters.envelopes_shared += 1,
            Envelope::Locate { .. }
            | Envelope::Home { .. }
            | Envelope::Ended { .. }
            | Envelope::Handoff(_)
            | Envelope::WillsSent
            | Envelope::Heavy { .. }
            | Envelope::Mark(_)
            | Envelope::Marked(_)
            | Envelope::Counters(_) => self.counters.envelopes_control += 1,
        }
        self.outboxes[usize::from(to)].push_back(envelope);
        self.is_crowded |= !self.takes_more(&self.outboxes[usize::from(to)]);
    }

    /// The other shards.
    pub(super) fn peers(&self) -> impl Iterator<Item = ShardId> + use<> {
        let here = self.shard;
        (0..self.shards).filter(move |shard| *shard != here)
    }

    pub(super) fn open_envelope(&mut self, now: Time, from: ShardId, envelope: Envelope) {
        let before = self.work_done();
        match envelope {
            Envelope::Run { bytes, v5, publisher } => {
                let messages = self.deliver_peer_run(now, &bytes, v5, publisher);
                self.tell_if_heavy(from, publisher, before, messages);
            }
            Envelope::Publish(routed) => {
                let is_part = self.begin_part(routed.unit);
                self.deliver_routed(now, from, &routed);
                self.end_part(is_part);
                self.tell_if_heavy(from, routed.message.publisher, before, 1);
            }
            Envelope::Shared(shared) => {
                let is_part = self.begin_part(shared.unit);
                self.deliver_shared(now, *shared);
                self.end_part(is_part);
            }
            Envelope::Announce(announcement) => self.handle_announcement(now, from, *announcement),
            Envelope::Announced { number, retained } => self.handle_announced(now, from, number, retained),
            Envelope::Retain(routed) => {
                let is_part = self.begin_part(routed.unit);
                self.handle_retain(from, *routed);
                self.end_part(is_part);
            }
            Envelope::Retained(number) => self.handle_retained(from, number),
            Envelope::Scan(request) => self.handle_scan(now, from, request),
            Envelope::Scanned(part) => self.handle_scanned(now, *part),
            Envelope::Locate { client, connection } => self.handle_locate(from, client, connection),
            Envelope::Home { client, connection, home } => self.handle_home(now, client, connection, home),
            Envelope::Ended { client } => self.registrar.handle_ended(client),
            Envelope::Handoff(handoff) => self.handle_handoff(now, *handoff),
            Envelope::WillsSent => self.handle_wills_sent(now),
            Envelope::Heavy { publisher, work } => self.handle_heavy(publisher, work),
            Envelope::Mark(conn) => self.handle_mark(from, conn),
            Envelope::Marked(conn) => self.handle_marked(conn),
            Envelope::Counters(counters) => self.handle_counters(from, *counters),
        }
    }
}
