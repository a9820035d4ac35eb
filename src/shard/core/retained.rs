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
use crate::metrics::Counters;
use crate::session::message::{Message, Publication};
use crate::session::subscriptions::Subscription;
use crate::shard::envelope::{Envelope, RetainedMessage, RoutedMessage, ScanPart, ScanRequest};
use crate::time::Time;
use crate::topic::{RetainedMap, has_wildcard, matches};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Messages in one part of a scan at most; the next part is asked for when the subscriber has room for it.
pub const SCAN_MESSAGES: usize = 128;
/// Payload bytes after which a part of a scan ends.
pub const SCAN_BYTES: usize = 128 * 1024;
/// Topics that may come live while a scan waits for its client; one more and the rest of the scan is dropped and
/// counted.
pub const SCAN_LIVE_TOPICS: usize = 65_536;

/// An announcement whose answer waits for owners.
struct Unanswered {
    from: ShardId,
    number: u64,
    /// The last retained publish sent before the interest was recorded.
    retained: u64,
    /// By owner: what must be applied before the answer.
    needs: Box<[u64]>,
}

/// The retained messages that match one new subscription, on their way to it.
struct Scan {
    session: u32,
    filter: Box<str>,
    subscription: Subscription,
    /// Owners that are not finished; the first one is being asked.
    owners: VecDeque<ShardId>,
    after: Option<Box<str>>,
    /// Topics that came live since the subscription was made, and the last retained publish of each shard to them.
    live: BTreeMap<Box<str>, SmallVec<[(ShardId, u64); 1]>>,
    /// SUBACK was sent.
    has_begun: bool,
    /// An owner was asked.
    is_waiting: bool,
    /// A part that came when there was no room for it.
    parked: Option<ScanPart>,
}

impl Scan {
    /// Whether something that came live is newer than what an owner holds, or is the same. `applied` is how far the
    /// owner had applied each shard's publishes: what it had not yet is newer, what it had was replaced.
    fn has_newer(&self, kept: &RetainedMessage, applied: &[u64]) -> bool {
        let is_newer = |(origin, number): &(ShardId, u64)| {
            let held = if *origin == kept.origin { kept.number - 1 } else { applied[usize::from(*origin)] };
            *number > held
        };
        self.live.get(kept.message.topic()).is_some_and(|seen| seen.iter().any(is_newer))
    }
}

/// One shard's part in retaining messages: as owner, as the shard of publishers, as the shard of subscribers.
pub(super) struct Retained {
    messages: RetainedMap<RetainedMessage>,
    expiring: BTreeSet<(Time, Box<str>)>,
    /// Waits for the first of them.
    timer: Option<(Time, TimerId)>,
    /// Number of the last retained publish of this shard's clients.
    sent: u64,
    /// By owner: the last one sent to it, and the last one it has applied.
    sent_to: Box<[u64]>,
    applied_by: Box<[u64]>,
    unanswered: VecDeque<Unanswered>,
    /// By shard: the last of its retained publishes that was applied here.
    applied: Box<[u64]>,
    /// By shard: the last retained publish seen of it, or known not to be coming.
    seen: Box<[u64]>,
    /// By shard: the last retained publish that it has said to be applied by its owner.
    settled: Box<[u64]>,
    scans: BTreeMap<u64, Scan>,
    scans_begun: u64,
}

impl Retained {
    pub fn new(shards: u8) -> Retained {
        let zeros = || -> Box<[u64]> { vec![0; usize::from(shards)].into() };
        Retained {
            messages: RetainedMap::new(),
            expiring: BTreeSet::new(),
            timer: None,
            sent: 0,
            sent_to: zeros(),
            applied_by: zeros(),
            unanswered: VecDeque::new(),
            applied: zeros(),
            seen: zeros(),
            settled: zeros(),
            scans: BTreeMap::new(),
            scans_begun: 0,
        }
    }

    /// Scans that are not finished.
    pub fn scans(&self) -> usize {
        self.scans.len()
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
        let (mut messages, mut bytes, mut expiring) = (0, 0, 0);
        self.messages.for_each(&mut |topic, kept| {
            messages += 1;
            bytes += kept.message.payload().len() as u64;
            let expires = kept.message.expires;
            if expires != Time::NEVER {
                expiring += 1;
                assert!(self.expiring.contains(&(expires, topic.into())));
            }
        });
        assert_eq!((counters.retained_messages, counters.retained_bytes), (messages, bytes));
        assert_eq!(self.expiring.len(), expiring);
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
            let routed = RoutedMessage { message: publication.message(), retained: number };
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
    fn apply_retained(&mut self, origin: ShardId, number: u64, message: Message) -> bool {
        let topic = message.topic();
        if message.payload().is_empty() {
            if let Some(removed) = self.retained.messages.remove(topic) {
                self.forget_retained(&removed);
            }
            return true;
        }
        let share = self.limits.max_retained.div_ceil(usize::from(self.shards));
        if self.retained.messages.len() >= share && self.retained.messages.get(topic).is_none() {
            self.counters.dropped_retained_limit += 1;
            return false;
        }
        self.counters.retained_messages += 1;
        self.counters.retained_bytes += message.payload().len() as u64;
        let expires = message.expires;
        if expires != Time::NEVER {
            self.retained.expiring.insert((expires, topic.into()));
            self.arm_retained();
        }
        let kept = RetainedMessage { message: message.clone(), origin, number };
        if let Some(replaced) = self.retained.messages.insert(topic, kept) {
            self.forget_retained(&replaced);
        }
        true
    }

    fn forget_retained(&mut self, gone: &RetainedMessage) {
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
            let removed = self.retained.messages.remove(&topic).expect("what is to expire is kept");
            self.forget_retained(&removed);
        }
    }

    pub(super) fn handle_scan(&mut self, now: Time, from: ShardId, request: &ScanRequest) {
        let mut messages = Vec::new();
        let mut bytes = 0;
        let mut is_cut = false;
        let mut last: Option<Box<str>> = None;
        self.retained.messages.scan(&request.filter, request.after.as_deref(), &mut |topic, kept| {
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
        let part = ScanPart { scan: request.scan, messages, applied, after: last.filter(|_| is_cut) };
        self.send(from, Envelope::Scanned(Box::new(part)));
    }
}

/// The shard of subscribers.
impl Core {
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

    /// Rule 3: the retained publish `number` of `origin` came live.
    pub(super) fn note_live_retained(&mut self, topic: &str, origin: ShardId, number: u64) {
        let mut overfull = Vec::new();
        for (scan_number, scan) in &mut self.retained.scans {
            if matches(&scan.filter, topic) {
                let seen = scan.live.entry(topic.into()).or_default();
                match seen.iter_mut().find(|(shard, _)| *shard == origin) {
                    Some((_, last)) => *last = number,
                    None => seen.push((origin, number)),
                }
                if scan.live.len() > SCAN_LIVE_TOPICS {
                    overfull.push(*scan_number);
                }
            }
        }
        for scan in overfull {
            self.counters.dropped_queue_full += 1;
            self.end_scan(scan);
        }
    }

    /// From now on notes what comes live for a new subscription, so that it gets no older retained message later.
    /// Returns the number of the scan, which [`Core::begin_scan`] begins.
    pub(super) fn prepare_scan(&mut self, session: u32, filter: &str, subscription: Subscription) -> u64 {
        let owners = if has_wildcard(filter) {
            (0..self.shards).collect()
        } else {
            [self.keys.shard_of(filter, self.shards)].into()
        };
        // The new one brings all there is, so each subscription has one at most.
        self.cancel_scans_if(session, |scan| &*scan.filter == filter);
        self.retained.scans_begun += 1;
        let number = self.retained.scans_begun;
        let scan = Scan {
            session,
            filter: filter.into(),
            subscription,
            owners,
            after: None,
            live: BTreeMap::new(),
            has_begun: false,
            is_waiting: false,
            parked: None,
        };
        self.retained.scans.insert(number, scan);
        self.sessions[session as usize].scans += 1;
        number
    }

    /// Brings a new subscription the retained messages that match it, unless it was given up meanwhile.
    pub(super) fn begin_scan(&mut self, now: Time, number: u64) {
        let Some(scan) = self.retained.scans.get_mut(&number) else { return };
        scan.has_begun = true;
        if scan.owners.iter().all(|owner| *owner == self.shard) && self.retained.messages.is_empty() {
            return self.end_scan(number);
        }
        self.advance_scan(now, number);
    }

    /// How many more messages a subscription may be sent now.
    fn room_for_scan(&self, session: u32, subscription: &Subscription) -> usize {
        let session = &self.sessions[session as usize];
        let Some(connection) = session.connection else { return 0 };
        let connection = &self.connections[connection as usize];
        if connection.output.len() > self.limits.output_mark / 2 {
            return 0;
        }
        if subscription.options.qos == QoS::AtMostOnce {
            return SCAN_MESSAGES;
        }
        let (inflight, queued) = session.outgoing.as_ref().map_or((0, 0), |o| (o.inflight(), o.queued()));
        let window = usize::from(connection.quota).saturating_sub(inflight);
        let queue = (self.limits.max_queued_messages / 2).saturating_sub(queued);
        SCAN_MESSAGES.min(window.max(queue))
    }

    fn advance_scan(&mut self, now: Time, number: u64) {
        let Some(scan) = self.retained.scans.get(&number) else { return };
        if scan.is_waiting || !scan.has_begun {
            return;
        }
        let limit = self.room_for_scan(scan.session, &scan.subscription);
        if limit == 0 {
            return;
        }
        let scan = self.retained.scans.get_mut(&number).expect("just seen");
        if let Some(parked) = scan.parked.take() {
            return self.deliver_part(now, parked);
        }
        let Some(owner) = scan.owners.front().copied() else { return self.end_scan(number) };
        scan.is_waiting = true;
        let request =
            ScanRequest { scan: number, filter: scan.filter.clone(), after: scan.after.clone(), limit };
        self.send(owner, Envelope::Scan(Box::new(request)));
    }

    pub(super) fn handle_scanned(&mut self, now: Time, part: ScanPart) {
        let Some(scan) = self.retained.scans.get_mut(&part.scan) else { return };
        scan.is_waiting = false;
        let (session, subscription) = (scan.session, scan.subscription);
        let number = part.scan;
        if self.room_for_scan(session, &subscription) > 0 {
            return self.deliver_part(now, part);
        }
        // While the client is away nothing is kept: the part is asked for again.
        if self.sessions[session as usize].connection.is_some() {
            self.retained.scans.get_mut(&number).expect("just seen").parked = Some(part);
        }
    }

    fn deliver_part(&mut self, now: Time, part: ScanPart) {
        let number = part.scan;
        let scan = self.retained.scans.get_mut(&number).expect("a part belongs to a scan");
        scan.after = part.after;
        if scan.after.is_none() {
            scan.owners.pop_front();
        }
        let Scan { session, subscription, .. } = *scan;
        let id = [subscription.id];
        let ids: &[u32] = if subscription.id == 0 { &[] } else { &id };
        for kept in part.messages {
            let is_coming = kept.number > self.retained.seen[usize::from(kept.origin)];
            if is_coming || self.retained.scans[&number].has_newer(&kept, &part.applied) {
                continue;
            }
            let publication = kept.message.publication();
            self.deliver(now, session, &publication, subscription.options.qos, true, ids, None);
        }
        self.advance_scan(now, number);
    }

    /// A connection has room again.
    pub(super) fn continue_scans(&mut self, now: Time, slot: u32) {
        let session = self.connections[slot as usize].session;
        if self.connections[slot as usize].phase != super::connection::Phase::Connected
            || self.sessions[session as usize].scans == 0
        {
            return;
        }
        let own = self.retained.scans.iter().filter(|(_, scan)| scan.session == session);
        let numbers: Vec<u64> = own.map(|(number, _)| *number).collect();
        for number in numbers {
            self.advance_scan(now, number);
        }
    }

    pub(super) fn end_scan(&mut self, number: u64) {
        if let Some(scan) = self.retained.scans.remove(&number) {
            self.sessions[scan.session as usize].scans -= 1;
        }
    }

    /// The session ends.
    pub(super) fn cancel_scans(&mut self, session: u32) {
        self.cancel_scans_if(session, |_| true);
    }

    /// The client is away but may come back. What it was not sent yet at QoS 1 and 2 is asked for again then.
    pub(super) fn pause_scans(&mut self, session: u32) {
        self.cancel_scans_if(session, |scan| scan.subscription.options.qos == QoS::AtMostOnce);
        let own = self.retained.scans.values_mut().filter(|scan| scan.session == session);
        own.for_each(|scan| scan.parked = None);
    }

    /// [MQTT-3.10.4-2]: nothing new for a filter that was unsubscribed.
    pub(super) fn cancel_scans_without_subscription(&mut self, session: u32) {
        if self.sessions[session as usize].scans > 0 {
            let subscriptions = std::mem::take(&mut self.sessions[session as usize].subscriptions);
            self.cancel_scans_if(session, |scan| subscriptions.get(&scan.filter).is_none());
            self.sessions[session as usize].subscriptions = subscriptions;
        }
    }

    fn cancel_scans_if(&mut self, session: u32, is_cancelled: impl Fn(&Scan) -> bool) {
        if self.sessions[session as usize].scans == 0 {
            return;
        }
        let before = self.retained.scans.len();
        self.retained.scans.retain(|_, scan| scan.session != session || !is_cancelled(scan));
        self.sessions[session as usize].scans -= (before - self.retained.scans.len()) as u32;
    }
}
