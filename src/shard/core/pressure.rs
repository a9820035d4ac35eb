//! What a shard does when the memory of the broker runs short ([`crate::memory`]): publishers are read slower,
//! newcomers are refused, and at last nothing is taken on that would have to be kept. What clears a retained message,
//! acknowledges, resumes or ends something is always taken, since that is how memory comes back.
use super::connection::Phase;
use super::deadlines::Timer;
use super::input::Flow;
use super::{ConnId, Core};
use crate::codec::{PacketType, Publish, QoS, ReasonCode};
use crate::limits::Limits;
use crate::memory::{Memory, Pressure};
use crate::session::message::{Message, SessionKey};
use crate::time::Time;

/// Bytes a second that are read of one publisher while it is to be slow.
const SLOW_BYTES: u64 = 128 * 1024;
/// Milliseconds for which a slow publisher is not read after each piece of its input, at least and at most. What it
/// acknowledges waits as long, and queues drain by that.
const PAUSE_MS: (u64, u64) = (1, 500);
/// The least, once messages are refused.
const REFUSED_PAUSE_MS: u64 = 20;
/// Milliseconds after which a message that cannot be refused (before version 5 there are no words for it) is looked at
/// again, and how often; then its connection ends, so that what waits for this client can leave another way.
const RETRY_MS: u64 = 250;
const RETRIES: u8 = 40;
/// Bytes of an unfinished packet that are kept of a connection without a session once newcomers are refused.
const STRANGER_BYTES: u32 = 4 * 1024;
/// Bytes of the largest packet that may come in pieces once nothing is kept.
const TORN_BYTES: u32 = 64 * 1024;
/// Unsent bytes of a connection beyond which QoS 0 is dropped, likewise.
const OUTPUT_MARK: usize = 128 * 1024;
/// Bytes of an unfinished packet for which a connection is ended once nothing has come for [`STUCK_MS`]; for more than
/// [`TORN_BYTES`] it is at once.
const SHED_FROM: usize = 4 * 1024;
/// Milliseconds without a byte after which an unfinished packet is not about to be finished.
const STUCK_MS: u64 = 2000;

/// The unsent bytes of one connection that are allowed.
pub(super) fn output_mark(limits: &Limits, memory: &Memory) -> usize {
    if memory.is_full() { limits.output_mark.min(OUTPUT_MARK) } else { limits.output_mark }
}

impl Core {
    /// The memory in use was looked at. Comes at once when the pressure changes, and every second while there is some.
    pub(super) fn handle_memory(&mut self, now: Time, memory: Memory) {
        let was_full = self.memory.is_full();
        self.memory = memory;
        self.profiles.note_memory(&memory);
        // What was under way when it became full had its time to come to an end.
        if was_full && memory.is_full() {
            self.shed(now);
        }
    }

    /// Ends the connections that hold at least as much as the average one of those that hold much: unfinished packets
    /// and unsent bytes that nobody takes. What sessions keep is not touched.
    fn shed(&mut self, now: Time) {
        let held = |slot: usize, core: &Core| {
            let connection = &core.connections[slot];
            let torn = connection.extras.as_ref().and_then(|extras| extras.torn.as_ref());
            let torn = torn.map_or(0, |torn| torn.bytes.len());
            let is_stuck = now.since(connection.last_received) >= STUCK_MS;
            let torn_from = if is_stuck { SHED_FROM } else { TORN_BYTES as usize };
            let unsent = connection.output.len();
            let counted = |bytes: usize, from: usize| if bytes >= from { bytes } else { 0 };
            counted(torn, torn_from).max(counted(unsent, OUTPUT_MARK))
        };
        let holders: Vec<(u32, usize)> = self
            .connections
            .iter()
            .map(|(slot, _)| (slot as u32, held(slot, self)))
            .filter(|(_, held)| *held > 0)
            .collect();
        let sum: usize = holders.iter().map(|(_, held)| held).sum();
        let average = sum / holders.len().max(1);
        for (slot, _) in holders.into_iter().filter(|(_, held)| *held >= average) {
            self.counters.ended_for_memory += 1;
            if self.connections[slot as usize].phase == Phase::Connected {
                self.disconnect(now, slot, ReasonCode::QuotaExceeded);
            } else {
                self.drop_connection(slot);
            }
        }
    }

    /// PUBLISH packets so far, to tell whether a piece of input had some.
    pub(super) fn publishes_received(&self) -> u64 {
        self.counters.packets_received[PacketType::Publish as usize]
    }

    /// After `bytes` of input: who published, or begins a packet, is not read for a while. `published` is what
    /// [`Core::publishes_received`] was before. True if the connection is not read.
    #[inline]
    pub(super) fn slow_down(&mut self, now: Time, conn: ConnId, published: u64, bytes: usize) -> bool {
        self.memory.pressure != Pressure::None && self.slow_publisher(now, conn, published, bytes)
    }

    fn slow_publisher(&mut self, now: Time, conn: ConnId, published: u64, bytes: usize) -> bool {
        if !self.is_live(conn) || self.connections[conn.slot as usize].phase != Phase::Connected {
            return false;
        }
        if self.is_held(conn.slot) {
            return true;
        }
        let extras = self.connections[conn.slot as usize].extras.as_ref();
        // Who goes on after a pause has brought nothing new.
        let is_torn = bytes > 0 && extras.is_some_and(|extras| extras.torn.is_some());
        if published == self.publishes_received() && !is_torn {
            return false;
        }
        let least = if self.memory.is_full() { REFUSED_PAUSE_MS } else { PAUSE_MS.0 };
        let pause = (bytes as u64 * 1000 / SLOW_BYTES).clamp(least, PAUSE_MS.1);
        self.counters.slowed_for_memory += 1;
        self.hold(conn.slot, [&[], &[]]);
        self.wait(conn.slot, now + pause);
        true
    }

    /// A held connection goes on at that time.
    pub(super) fn wait(&mut self, slot: u32, until: Time) {
        let timer = self.timers.insert(until, Timer::Resume(self.id(slot)));
        self.connections[slot as usize].extras().wait = Some(timer);
    }

    /// A wait is over.
    pub(super) fn resume(&mut self, now: Time, conn: ConnId) {
        let is_full = self.memory.is_full();
        let extras = self.connections[conn.slot as usize].extras();
        extras.wait = None;
        if !is_full {
            extras.retries = 0;
        }
        self.go_on(now, conn.slot);
    }

    /// The connection ends.
    pub(super) fn cancel_wait(&mut self, slot: u32) {
        let extras = self.connections[slot as usize].extras.as_mut();
        if let Some(timer) = extras.and_then(|extras| extras.wait.take()) {
            self.timers.cancel(timer);
        }
    }

    /// Whether somebody who has no session is refused.
    pub(super) fn is_closed_to(&mut self, client_id: &str) -> bool {
        let is_closed = self.memory.pressure >= Pressure::Closed && self.find_session(client_id).is_none();
        self.counters.refused_for_memory += u64::from(is_closed);
        is_closed
    }

    /// The largest packet that may come in pieces, if that is bounded.
    pub(super) fn torn_limit(&self, slot: u32) -> u32 {
        let is_known = self.connections[slot as usize].phase == Phase::Connected;
        let limits = self.limits_of(slot);
        match self.memory.pressure {
            Pressure::Full if is_known => TORN_BYTES.min(limits.max_packet),
            _ if is_known => u32::MAX,
            Pressure::Closed | Pressure::Full => STRANGER_BYTES.min(limits.max_connect),
            _ => limits.max_connect,
        }
    }

    /// Whether a message of a client may have to be kept. What clears a retained message makes room.
    fn may_be_kept(publish: &Publish<'_>) -> bool {
        publish.qos > QoS::AtMostOnce && !(publish.retain && publish.payload.is_empty())
    }

    /// A message that comes while nothing is kept, of a client that cannot be told: waits, but not for ever. `None` if
    /// it is to go on.
    #[cold]
    pub(super) fn await_memory(&mut self, now: Time, slot: u32, publish: &Publish<'_>) -> Option<Flow> {
        let is_repeated = publish.qos == QoS::ExactlyOnce && self.is_unreleased(slot, publish.packet_id);
        if self.connections[slot as usize].is_v5() || is_repeated || !Core::may_be_kept(publish) {
            return None;
        }
        let extras = self.connections[slot as usize].extras();
        if extras.retries == RETRIES {
            self.counters.refused_for_memory += 1;
            self.disconnect(now, slot, ReasonCode::QuotaExceeded);
            return Some(Flow::Stop);
        }
        extras.retries += 1;
        self.counters.slowed_for_memory += 1;
        self.wait(slot, now + RETRY_MS);
        Some(Flow::Again)
    }

    /// The same of a client that can be told: it is.
    #[cold]
    pub(super) fn refuse_for_memory(&mut self, now: Time, slot: u32, publish: &Publish<'_>) -> Option<Flow> {
        if !Core::may_be_kept(publish) {
            return None;
        }
        self.counters.refused_for_memory += 1;
        Some(self.refuse_publish(now, slot, publish, ReasonCode::QuotaExceeded))
    }

    /// Whether a retained message cannot be kept. The broker's own are few. One at QoS 1 or 2 was asked about by its
    /// publisher's shard, which has acknowledged it and may have heard later than this one; and a will was kept before.
    pub(super) fn is_no_room_for(&mut self, message: &Message) -> bool {
        let is_acknowledged = message.qos > QoS::AtMostOnce;
        let is_refused = self.memory.is_full() && !is_acknowledged && message.publisher != SessionKey::BROKER;
        self.counters.refused_for_memory += u64::from(is_refused);
        is_refused
    }
}
