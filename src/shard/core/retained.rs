//! Retained messages. Each topic belongs to one shard, which alone orders its updates; live messages do not take the
//! detour over it. Three rules make both agree for a new subscriber:
//!
//! 1. A shard answers an announcement only when the owners have applied the retained publishes it sent them before,
//!    and says in the answer up to which of its retained publishes that is. A subscription to a filter that the other
//!    shards know already announces nothing new, but asks the same when this shard has seen retained publishes that no
//!    answer covers: they came too early for the subscription, and may not have reached their owner.
//! 2. The owners are asked after all answers. What they hold of a publisher's shard beyond what this shard has seen
//!    of it is left out: that message is on its way here as a live one.
//! 3. What came live since the subscription was made is not followed by something older: an owner says how far it has
//!    applied each shard's publishes, so that a live message it has not applied yet is known to be newer than what it
//!    holds, and one of the same shard is told by its number.
//!
//! So nothing is lost, doubled, or shown older than what was shown before.
use super::super::timer_wheel::TimerId;
use super::deadlines::Timer;
use super::{Core, ShardId};
use crate::codec::{QoS, ReasonCode};
use crate::limits::retained_cost;
use crate::metrics::Counters;
use crate::session::message::{Message, Publication};
use crate::shard::envelope::{Envelope, RetainedMessage, RoutedMessage, ScanPart, ScanRequest};
use crate::time::Time;
use crate::topic::RetainedMap;
use std::collections::{BTreeSet, VecDeque};

/// Payload bytes after which a part of a scan ends.
pub const SCAN_BYTES: usize = 128 * 1024;

/// Retained topics looked at for one part of a scan at most, since a filter may pass over very many to find few.
pub const SCAN_LOOKS: usize = 1024;
/// Retained topics looked at for all scans in one turn, about; others are put off to later turns, so that scans leave room
/// for everything else.
pub const LOOKS_AT_ONCE: usize = 16 * SCAN_LOOKS;
/// What a part costs beside its looks, in looks; also bytes that cost as much as a look.
const PART_COST: usize = 16;
const LOOK_BYTES: usize = SCAN_BYTES / SCAN_LOOKS;
/// Retained topics looked at to see that a filter has none.
const PROBE_LOOKS: usize = 16;

/// An announcement whose answer waits for owners.
struct Unanswered {
    from: ShardId,
    number: u64,
    /// The last retained publish sent before the interest was recorded.
    retained: u64,
    /// By owner: what must be applied before the answer.
    needs: Box<[u64]>,
}

/// One shard's part in retaining messages: as owner, as the shard of publishers, as the shard of subscribers.
pub(super) struct Retained {
    messages: RetainedMap<RetainedMessage>,
    expiring: BTreeSet<(Time, Box<str>)>,
    /// What they cost, by [`retained_cost`].
    cost: usize,
    /// Waits for the first of them.
    timer: Option<(Time, TimerId)>,
    /// Number of the last retained publish of this shard's clients.
    sent: u64,
    /// By owner: the last one sent to it, and the last one it has applied.
    sent_to: Box<[u64]>,
    applied_by: Box<[u64]>,
    unanswered: VecDeque<Unanswered>,
    /// What the scans at the time `looks_at` cost, in looks, and requests that wait for a later turn: each session of the
    /// broker has [`super::scans::SCANS_AT_ONCE`] at most.
    looks: usize,
    looks_at: Time,
    put_off: VecDeque<(ShardId, Box<ScanRequest>)>,
    /// By shard: the last of its retained publishes that was applied here.
    applied: Box<[u64]>,
    /// By shard: the last retained publish seen of it, or known not to be coming.
    seen: Box<[u64]>,
    /// By shard: the last retained publish that it has said to be applied by its owner.
    settled: Box<[u64]>,
}

impl Retained {
    pub fn new(shards: u8) -> Retained {
        let zeros = || -> Box<[u64]> { vec![0; usize::from(shards)].into() };
        Retained {
            messages: RetainedMap::new(),
            expiring: BTreeSet::new(),
            cost: 0,
            timer: None,
            sent: 0,
            sent_to: zeros(),
            applied_by: zeros(),
            unanswered: VecDeque::new(),
            looks: 0,
            looks_at: Time::NEVER,
            put_off: VecDeque::new(),
            applied: zeros(),
            seen: zeros(),
            settled: zeros(),
        }
    }

    /// Announcements that are not answered.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }
    /// A timer waits for the next message to expire.
    pub fn is_armed(&self) -> bool {
        self.timer.is_some()
    }

    /// Panics if the tables or the gauges contradict each other.
    pub fn audit(&self, counters: &Counters) {
        let (mut messages, mut bytes, mut expiring, mut cost) = (0, 0, 0, 0);
        self.messages.for_each(&mut |topic, kept| {
            messages += 1;
            cost += retained_cost(kept.message.size());
            bytes += kept.message.payload().len() as u64;
            let expires = kept.message.expires;
            if expires != Time::NEVER {
                expiring += 1;
                assert!(self.expiring.contains(&(expires, topic.into())));
            }
        });
        assert_eq!((counters.retained_messages, counters.retained_bytes), (messages, bytes));
        assert_eq!((self.expiring.len(), self.cost), (expiring, cost));
    }
}

/// The shard of publishers.
impl Core {
    /// A publish with RETAIN: on its way to the topic's owner. Returns its number.
    pub(super) fn retain(&mut self, publication: &Publication<'_>) -> Result<u64, ReasonCode> {
        let owner = self.keys.shard_of(publication.topic, self.shards);
        let number = self.retained.sent + 1;
        if owner == self.shard {
            let is_kept = self.apply_retained(self.shard, number, publication.message());
            if !is_kept && publication.qos > QoS::AtMostOnce {
                return Err(ReasonCode::QuotaExceeded);
            }
        } else {
            self.retained.sent_to[usize::from(owner)] = number;
            let unit = self.forward();
            let routed = RoutedMessage { message: publication.message(), retained: number, unit };
            self.send(owner, Envelope::Retain(Box::new(routed)));
        }
        self.retained.sent = number;
        self.retained.applied[usize::from(self.shard)] = number;
        self.retained.seen[usize::from(self.shard)] = number;
        Ok(number)
    }

    /// An owner has applied what was sent to it.
    pub(super) fn handle_retained(&mut self, owner: ShardId, number: u64) {
        self.retained.applied_by[usize::from(owner)] = number;
        self.answer_announcements();
    }

    /// Rule 1.
    pub(super) fn answer_announcement(&mut self, from: ShardId, number: u64) {
        let (retained, needs) = (self.retained.sent, self.retained.sent_to.clone());
        self.retained.unanswered.push_back(Unanswered { from, number, retained, needs });
        self.answer_announcements();
    }

    fn answer_announcements(&mut self) {
        while let Some(first) = self.retained.unanswered.front() {
            let mut owners = first.needs.iter().zip(&self.retained.applied_by);
            if owners.any(|(needed, applied)| applied < needed) {
                return;
            }
            let Unanswered { from, number, retained, .. } =
                self.retained.unanswered.pop_front().expect("just seen");
            self.send(from, Envelope::Announced { number, retained });
        }
    }
}

/// The owner.
impl Core {
    pub(super) fn handle_retain(&mut self, from: ShardId, routed: RoutedMessage) {
        self.apply_retained(from, routed.retained, routed.message);
        self.retained.applied[usize::from(from)] = routed.retained;
        self.send(from, Envelope::Retained(routed.retained));
    }

    /// Stores, replaces or removes ([MQTT-3.3.1-5], -6, -7); false if there was no room.
    pub(super) fn apply_retained(&mut self, origin: ShardId, number: u64, message: Message) -> bool {
        let topic = message.topic();
        if message.payload().is_empty() {
            self.store_retained(&message);
            if let Some(removed) = self.retained.messages.remove(topic) {
                self.forget_retained(&removed);
            }
            return true;
        }
        if self.is_no_room_for(&message) {
            return false;
        }
        if !self.has_room_for_retained(&message) {
            self.counters.dropped_retained_limit += 1;
            return false;
        }
        self.keep_retained(origin, number, message);
        true
    }

    /// Keeps a message that there is room for, or that was kept before the broker started.
    pub(super) fn keep_retained(&mut self, origin: ShardId, number: u64, message: Message) {
        let topic = message.topic();
        self.store_retained(&message);
        self.counters.retained_messages += 1;
        self.counters.retained_bytes += message.payload().len() as u64;
        self.retained.cost += retained_cost(message.size());
        let expires = message.expires;
        if expires != Time::NEVER {
            self.retained.expiring.insert((expires, topic.into()));
            self.arm_retained();
        }
        let kept = RetainedMessage { message: message.clone(), origin, number };
        if let Some(replaced) = self.retained.messages.insert(topic, kept) {
            self.forget_retained(&replaced);
        }
    }

    /// Whether a message may be retained. Each shard has its share of the bounds.
    fn has_room_for_retained(&self, message: &Message) -> bool {
        let share = |whole: usize| whole.div_ceil(usize::from(self.shards));
        let Retained { messages, cost, .. } = &self.retained;
        let replaced = messages.get(message.topic()).map(|kept| retained_cost(kept.message.size()));
        let cost = cost - replaced.unwrap_or(0) + retained_cost(message.size());
        (replaced.is_some() || messages.len() < share(self.limits.max_retained))
            && cost <= share(self.limits.max_retained_bytes)
    }

    fn forget_retained(&mut self, gone: &RetainedMessage) {
        self.retained.cost -= retained_cost(gone.message.size());
        self.counters.retained_messages -= 1;
        self.counters.retained_bytes -= gone.message.payload().len() as u64;
        let expires = gone.message.expires;
        let topic = gone.message.topic();
        let is_renewed =
            self.retained.messages.get(topic).is_some_and(|kept| kept.message.expires == expires);
        if expires != Time::NEVER && !is_renewed {
            self.retained.expiring.remove(&(expires, topic.into()));
        }
    }

    /// Waits for the first message to expire, unless something earlier is waited for already.
    fn arm_retained(&mut self) {
        let Some((first, _)) = self.retained.expiring.first() else { return };
        if let Some((at, timer)) = self.retained.timer {
            if at <= *first {
                return;
            }
            self.timers.cancel(timer);
        }
        self.retained.timer = Some((*first, self.timers.insert(*first, Timer::Retained)));
    }

    /// Removes what has expired, and waits for the next.
    pub(super) fn expire_retained(&mut self, now: Time) {
        self.retained.timer = None;
        while let Some((expires, topic)) = self.retained.expiring.first() {
            if *expires > now {
                return self.arm_retained();
            }
            let topic = topic.clone();
            self.store_retained_gone(&topic);
            let removed = self.retained.messages.remove(&topic).expect("what is to expire is kept");
            self.forget_retained(&removed);
        }
    }

    /// Asked for a part of a scan: at once, or in a later turn if there were many in this one.
    pub(super) fn handle_scan(&mut self, now: Time, from: ShardId, request: Box<ScanRequest>) {
        if self.retained.looks_at != now {
            (self.retained.looks_at, self.retained.looks) = (now, 0);
        }
        if self.retained.looks >= LOOKS_AT_ONCE {
            return self.retained.put_off.push_back((from, request));
        }
        self.answer_scan(now, from, &request);
    }

    /// Requests wait that were too many for the turn they came in.
    pub(super) fn has_put_off(&self) -> bool {
        !self.retained.put_off.is_empty()
    }

    /// A later turn.
    pub(super) fn answer_put_off(&mut self, now: Time) {
        (self.retained.looks_at, self.retained.looks) = (now, 0);
        while self.retained.looks < LOOKS_AT_ONCE {
            let Some((from, request)) = self.retained.put_off.pop_front() else { return };
            self.answer_scan(now, from, &request);
        }
    }

    fn answer_scan(&mut self, now: Time, from: ShardId, request: &ScanRequest) {
        let mut messages = Vec::new();
        let mut bytes = 0;
        let mut is_cut = false;
        let mut last: Option<Box<str>> = None;
        let (filter, after) = (&request.filter, request.after.as_deref());
        let (go_on, looks) =
            self.retained.messages.scan_part(filter, after, SCAN_LOOKS, &mut |topic, kept| {
                if messages.len() >= request.limit || bytes >= SCAN_BYTES {
                    is_cut = true;
                    return false;
                }
                last = Some(topic.into());
                if !kept.message.is_expired(now) {
                    bytes += kept.message.size();
                    messages.push(kept.clone());
                }
                true
            });
        let applied = self.retained.applied.clone();
        self.retained.looks += PART_COST + looks + bytes / LOOK_BYTES;
        let after = if is_cut { last } else { go_on.map(Box::from) };
        let part = ScanPart { scan: request.scan, messages, applied, after };
        self.send(from, Envelope::Scanned(Box::new(part)));
    }
}

/// The shard of subscribers; the rest of it is in [`super::scans`].
impl Core {
    /// This shard owns a retained message that `filter` matches, as far as that is seen at once.
    pub(super) fn may_own_retained(&self, filter: &str) -> bool {
        let mut is_found = false;
        let (go_on, _) = self.retained.messages.scan_part(filter, None, PROBE_LOOKS, &mut |_, _| {
            is_found = true;
            false
        });
        is_found || go_on.is_some()
    }

    /// Whether a retained publish of `origin` was seen here already.
    pub(super) fn is_seen(&self, origin: ShardId, number: u64) -> bool {
        number <= self.retained.seen[usize::from(origin)]
    }

    /// A retained publish of `origin` up to `number` was seen, or will not come.
    pub(super) fn note_seen(&mut self, origin: ShardId, number: u64) {
        let seen = &mut self.retained.seen[usize::from(origin)];
        *seen = number.max(*seen);
    }

    /// A shard has answered an announcement: its retained publishes up to `number` are applied.
    pub(super) fn note_settled(&mut self, origin: ShardId, number: u64) {
        self.note_seen(origin, number);
        let settled = &mut self.retained.settled[usize::from(origin)];
        *settled = number.max(*settled);
    }

    /// Whether the owners have applied every retained publish that was seen here. What this shard sends them itself
    /// they get before they are asked for it.
    pub(super) fn is_retained_settled(&self) -> bool {
        let Retained { seen, settled, .. } = &self.retained;
        self.peers().all(|peer| seen[usize::from(peer)] <= settled[usize::from(peer)])
    }
}
