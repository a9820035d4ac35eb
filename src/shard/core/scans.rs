//! Scans: the retained messages that match a new subscription, on their way to it (the shard of subscribers).
//! [`super::retained`] has the rules.
use super::connection::Phase;
use super::{Core, ShardId};
use crate::codec::QoS;
use crate::session::subscriptions::Subscription;
use crate::shard::envelope::{Envelope, RetainedMessage, ScanPart, ScanRequest};
use crate::time::Time;
use crate::topic::{FilterMap, has_wildcard};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Messages in one part of a scan at most; the next part is asked for when the subscriber has room for it.
pub const SCAN_MESSAGES: usize = 128;
/// Scans of one session that go on at the same time; the others wait for their turn.
pub const SCANS_AT_ONCE: usize = 8;
/// Topics that may come live for one session while its scans wait for it; one more and the rest of the scan that
/// it is for is dropped and counted.
pub const SCAN_LIVE_TOPICS: usize = 65_536;

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
            let held = if *origin == kept.origin {
                kept.number.saturating_sub(1)
            } else {
                applied[usize::from(*origin)]
            };
            *number > held
        };
        self.live.get(kept.message.topic()).is_some_and(|seen| seen.iter().any(is_newer))
    }
}

/// All scans that are not finished, by their numbers.
pub(super) struct Scans {
    scans: BTreeMap<u64, Scan>,
    /// Numbers by session and filter: each subscription has one at most.
    by_subscription: BTreeMap<(u32, Box<str>), u64>,
    /// Sessions and numbers of those whose SUBACK was sent.
    begun: BTreeSet<(u32, u64)>,
    /// Numbers by filter.
    by_filter: FilterMap<BTreeSet<u64>>,
    /// How many topics came live for each session.
    live: BTreeMap<u32, usize>,
    last: u64,
}

impl Scans {
    pub fn new(seed: u64) -> Scans {
        Scans {
            scans: BTreeMap::new(),
            by_subscription: BTreeMap::new(),
            begun: BTreeSet::new(),
            by_filter: FilterMap::new(seed),
            live: BTreeMap::new(),
            last: 0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.scans.len()
    }

    fn insert(&mut self, scan: Scan) -> u64 {
        self.last += 1;
        self.by_subscription.insert((scan.session, scan.filter.clone()), self.last);
        self.by_filter.entry_or(&scan.filter, BTreeSet::new).insert(self.last);
        self.scans.insert(self.last, scan);
        self.last
    }

    /// Forgets a scan; its session, if it was there.
    fn remove(&mut self, number: u64) -> Option<u32> {
        let Scan { session, filter, live, .. } = self.scans.remove(&number)?;
        self.begun.remove(&(session, number));
        let same_filter = self.by_filter.get_mut(&filter).expect("every scan is listed under its filter");
        same_filter.remove(&number);
        if same_filter.is_empty() {
            self.by_filter.remove(&filter);
        }
        self.by_subscription.remove(&(session, filter));
        if !live.is_empty() {
            let count = self.live.get_mut(&session).expect("what came live was counted");
            *count -= live.len();
            if *count == 0 {
                self.live.remove(&session);
            }
        }
        Some(session)
    }

    /// Notes that a topic came live; the scans that this was too much for.
    fn note_live(&mut self, topic: &str, origin: ShardId, publish: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        if !self.scans.is_empty() {
            self.by_filter.for_each_match(topic, |found| numbers.extend(found));
        }
        numbers.retain(|number| {
            let scan = self.scans.get_mut(number).expect("only scans are listed");
            let count = self.live.entry(scan.session).or_default();
            let seen = scan.live.entry(topic.into()).or_insert_with(|| {
                *count += 1;
                SmallVec::new()
            });
            match seen.iter_mut().find(|(shard, _)| *shard == origin) {
                Some((_, last)) => *last = publish,
                None => seen.push((origin, publish)),
            }
            *count > SCAN_LIVE_TOPICS
        });
        numbers
    }

    /// Numbers of a session's scans, in the order of their filters.
    fn of(&self, session: u32) -> impl Iterator<Item = u64> + '_ {
        let same = self.by_subscription.range((session, Box::default())..);
        same.take_while(move |((of, _), _)| *of == session).map(|(_, number)| *number)
    }
}

impl Core {
    /// Rule 3: the retained publish `number` of `origin` came live.
    pub(super) fn note_live_retained(&mut self, topic: &str, origin: ShardId, number: u64) {
        for scan in self.scans.note_live(topic, origin, number) {
            self.counters.dropped_queue_full += 1;
            self.end_scan(scan);
        }
    }

    /// From now on notes what comes live for a new subscription, so that it gets no older retained message later.
    /// Returns the number of the scan, which [`Core::begin_scans`] begins.
    pub(super) fn prepare_scan(&mut self, session: u32, filter: &str, subscription: Subscription) -> u64 {
        let owners = if has_wildcard(filter) {
            (0..self.shards).collect()
        } else {
            [self.keys.shard_of(filter, self.shards)].into()
        };
        // The new one brings all there is.
        if let Some(old) = self.scans.by_subscription.get(&(session, filter.into())) {
            self.end_scan(*old);
        }
        self.sessions[session as usize].scans += 1;
        self.scans.insert(Scan {
            session,
            filter: filter.into(),
            subscription,
            owners,
            after: None,
            live: BTreeMap::new(),
            is_waiting: false,
            parked: None,
        })
    }

    /// Brings a session's new subscriptions the retained messages that match them, apart from those that were given up
    /// meanwhile.
    pub(super) fn begin_scans(&mut self, now: Time, numbers: &[u64]) {
        let mut session = None;
        for number in numbers {
            let Some(scan) = self.scans.scans.get(number) else { continue };
            if scan.owners.iter().all(|owner| *owner == self.shard) && !self.may_own_retained(&scan.filter) {
                self.end_scan(*number);
                continue;
            }
            session = Some(scan.session);
            self.scans.begun.insert((scan.session, *number));
        }
        if let Some(session) = session {
            self.advance_scans(now, session);
        }
    }

    /// How many more messages a subscription may be sent now.
    fn room_for_scan(&self, session: u32, subscription: &Subscription) -> usize {
        let session = &self.sessions[session as usize];
        let Some(connection) = session.connection else { return 0 };
        let connection = &self.connections[connection as usize];
        if connection.output.len() > self.profiles[connection.profile].output_mark / 2 {
            return 0;
        }
        if subscription.options.qos == QoS::AtMostOnce {
            return SCAN_MESSAGES;
        }
        let (inflight, queued) = session.outgoing.as_ref().map_or((0, 0), |o| (o.inflight(), o.queued()));
        let window = usize::from(connection.quota).saturating_sub(inflight);
        let queue = (self.profiles[session.profile].limits.max_queued_messages / 2).saturating_sub(queued);
        SCAN_MESSAGES.min(window.max(queue))
    }

    /// The first scans of a session go on as far as there is room. Ends, because each round ends at least one.
    fn advance_scans(&mut self, now: Time, session: u32) {
        loop {
            let begun = self.scans.begun.range((session, 0)..=(session, u64::MAX));
            let first: Vec<u64> = begun.take(SCANS_AT_ONCE).map(|(_, number)| *number).collect();
            let mut has_ended = false;
            for number in first {
                has_ended |= self.advance_scan(now, number);
            }
            if !has_ended {
                return;
            }
        }
    }

    /// Whether that was its end.
    fn advance_scan(&mut self, now: Time, number: u64) -> bool {
        let Some(scan) = self.scans.scans.get_mut(&number) else { return false };
        if scan.is_waiting {
            return false;
        }
        let (session, subscription) = (scan.session, scan.subscription);
        if let Some(parked) = scan.parked.take() {
            if self.room_for_scan(session, &subscription) == 0 {
                self.scans.scans.get_mut(&number).expect("just seen").parked = Some(parked);
                return false;
            }
            self.deliver_part(now, parked);
        }
        let limit = self.room_for_scan(session, &subscription);
        let scan = self.scans.scans.get_mut(&number).expect("nothing ends it on the way");
        let Some(owner) = scan.owners.front().copied() else {
            self.end_scan(number);
            return true;
        };
        if limit > 0 {
            scan.is_waiting = true;
            let (filter, after) = (scan.filter.clone(), scan.after.clone());
            let request = ScanRequest { scan: number, filter, after, limit };
            self.send(owner, Envelope::Scan(Box::new(request)));
        }
        false
    }

    pub(super) fn handle_scanned(&mut self, now: Time, part: ScanPart) {
        let Some(scan) = self.scans.scans.get_mut(&part.scan) else { return };
        let session = scan.session;
        scan.is_waiting = false;
        // While the client is away nothing is kept: the part is asked for again.
        if self.sessions[session as usize].connection.is_none() {
            return;
        }
        let mut number = Some(part.scan);
        scan.parked = Some(part);
        // The end of one lets the next begin; the others wait for their own answers, or for room.
        while let Some(ended) = number.filter(|number| self.advance_scan(now, *number)) {
            debug_assert!(!self.scans.scans.contains_key(&ended));
            let mut begun = self.scans.begun.range((session, 0)..=(session, u64::MAX));
            number = begun.nth(SCANS_AT_ONCE - 1).map(|(_, number)| *number);
        }
    }

    fn deliver_part(&mut self, now: Time, part: ScanPart) {
        let number = part.scan;
        let scan = self.scans.scans.get_mut(&number).expect("a part belongs to a scan");
        scan.after = part.after;
        if scan.after.is_none() {
            scan.owners.pop_front();
        }
        let Scan { session, subscription, .. } = *scan;
        let id = [subscription.id];
        let ids: &[u32] = if subscription.id == 0 { &[] } else { &id };
        for kept in part.messages {
            let is_coming = !self.is_seen(kept.origin, kept.number);
            if is_coming
                || self.scans.scans[&number].has_newer(&kept, &part.applied)
                || !self.may_receive(session, kept.message.topic())
            {
                continue;
            }
            let publication = kept.message.publication();
            self.deliver(now, session, &publication, subscription.options.qos, true, ids, None);
        }
    }

    /// A connection has room again.
    pub(super) fn continue_scans(&mut self, now: Time, slot: u32) {
        let session = self.connections[slot as usize].session;
        if self.connections[slot as usize].phase == Phase::Connected
            && self.sessions[session as usize].scans > 0
        {
            self.advance_scans(now, session);
        }
    }

    pub(super) fn end_scan(&mut self, number: u64) {
        if let Some(session) = self.scans.remove(number) {
            self.sessions[session as usize].scans -= 1;
        }
    }

    /// The session ends.
    pub(super) fn cancel_scans(&mut self, session: u32) {
        self.cancel_scans_if(session, |_| true);
    }

    /// The client is away but may come back. What it was not sent yet at QoS 1 and 2 is asked for again then.
    pub(super) fn pause_scans(&mut self, session: u32) {
        self.cancel_scans_if(session, |scan| scan.subscription.options.qos == QoS::AtMostOnce);
        let own: Vec<u64> = self.scans.of(session).collect();
        for number in own {
            self.scans.scans.get_mut(&number).expect("only scans are listed").parked = None;
        }
    }

    /// [MQTT-3.10.4-2]: nothing new for a filter that was unsubscribed.
    pub(super) fn cancel_scan_of(&mut self, session: u32, filter: &str) {
        if self.sessions[session as usize].scans > 0
            && let Some(number) = self.scans.by_subscription.get(&(session, filter.into()))
        {
            self.end_scan(*number);
        }
    }

    fn cancel_scans_if(&mut self, session: u32, is_cancelled: impl Fn(&Scan) -> bool) {
        if self.sessions[session as usize].scans == 0 {
            return;
        }
        let cancelled = self.scans.of(session).filter(|number| is_cancelled(&self.scans.scans[number]));
        let cancelled: Vec<u64> = cancelled.collect();
        cancelled.into_iter().for_each(|number| self.end_scan(number));
    }
}
