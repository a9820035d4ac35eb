//! SUBSCRIBE and UNSUBSCRIBE. SUBACK is a promise: it waits until every other shard has recorded the interest, so
//! that whatever is published anywhere after it was received is delivered.
use super::connection::Connection;
use super::input::Flow;
use super::{ConnId, Core, ShardId};
use crate::codec::{
    PacketType, QoS, ReasonCode, SubAck, Subscribe, SubscribeFilter, SubscribeFilters, SubscribeOptions,
    UnsubAck, Unsubscribe, UnsubscribeFilters,
};
use crate::limits::{Limits, MAX_FILTER_COST, filter_cost};
use crate::router::{InterestChange, Member, Subscriber};
use crate::session::subscriptions::Subscription;
use crate::shard::envelope::{Announcement, Envelope};
use crate::time::Time;
use crate::topic::{check_filter, parse_shared};
use bytes::Bytes;
use std::collections::VecDeque;

/// A SUBSCRIBE that waits for the other shards.
#[derive(Debug)]
pub(super) struct Waiting {
    number: u64,
    conn: ConnId,
    packet_id: u16,
    reasons: Vec<u8>,
    /// Numbers of the scans that begin with SUBACK.
    scans: Vec<u64>,
    /// A DISCONNECT waits for SUBACK, with which its connection goes on.
    holds_disconnect: bool,
}

/// A SUBSCRIBE or UNSUBSCRIBE with more filters than are done at once.
#[derive(Debug)]
pub(super) enum Unfinished {
    /// `filters`: those that are to be done, as they stand in the packet.
    Subscribe { filters: Bytes, id: u32, waiting: Waiting },
    /// Likewise.
    Unsubscribe { filters: Bytes, packet_id: u16, reasons: Vec<u8> },
}

/// Announcements of this shard's interest, and who has answered them.
pub(super) struct Announcements {
    /// Number of the last one.
    last: u64,
    /// The last one each shard has answered.
    answered: Box<[u64]>,
    waiting: VecDeque<Waiting>,
    /// SUBSCRIBEs in the middle of which their connection ended.
    abandoned: Vec<Waiting>,
}

impl Announcements {
    pub fn new(shards: u8) -> Announcements {
        Announcements {
            last: 0,
            answered: vec![0; usize::from(shards)].into(),
            waiting: VecDeque::new(),
            abandoned: Vec::new(),
        }
    }

    /// SUBSCRIBEs that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A SUBSCRIBE whose connection is gone, which was not finished.
    pub fn abandoned(&mut self) -> Option<Waiting> {
        self.abandoned.pop()
    }

    /// Whether a SUBACK of a connection is to come. Then its DISCONNECT waits for the last one.
    pub fn hold_disconnect(&mut self, conn: ConnId) -> bool {
        let last = self.waiting.iter_mut().rev().find(|waiting| waiting.conn == conn);
        last.map(|waiting| waiting.holds_disconnect = true).is_some()
    }

    /// The last announcement that every other shard has recorded.
    fn recorded(&self, here: ShardId) -> u64 {
        let others = self.answered.iter().enumerate().filter(|(shard, _)| *shard != usize::from(here));
        others.map(|(_, number)| *number).min().unwrap_or(u64::MAX)
    }
}

impl Core {
    pub(super) fn handle_subscribe(&mut self, now: Time, slot: u32, subscribe: &Subscribe<'_>) -> Flow {
        let is_v5 = self.connections[slot as usize].is_v5();
        if let Some(reason) = subscribe.filters().find_map(|filter| malformed(&filter, is_v5)) {
            self.disconnect(now, slot, reason);
            return Flow::Stop;
        }
        if let Some(flow) = self.await_subscribe(now, slot, subscribe) {
            return flow;
        }
        let id = subscribe.subscription_id.unwrap_or(0);
        let waiting = Waiting {
            number: 0,
            conn: self.id(slot),
            packet_id: subscribe.packet_id,
            reasons: Vec::new(),
            scans: Vec::new(),
            holds_disconnect: false,
        };
        self.subscribe_further(now, slot, None, subscribe.filters(), id, waiting)
    }

    /// The next filters of a SUBSCRIBE, and with the last one its promise.
    fn subscribe_further(
        &mut self,
        now: Time,
        slot: u32,
        whole: Option<&Bytes>,
        mut filters: SubscribeFilters<'_>,
        id: u32,
        mut waiting: Waiting,
    ) -> Flow {
        let is_v5 = self.connections[slot as usize].is_v5();
        let announcement = self.announcements.last + 1;
        let mut changes = Vec::new();
        let (before, answered) = (self.work_done(), waiting.reasons.len());
        for filter in filters.by_ref().take(self.limits.filters_at_once) {
            self.spend_filter(filter.filter);
            match self.subscribe(now, slot, &filter, id, announcement, &mut waiting, &mut changes) {
                Ok(qos) => waiting.reasons.push(qos as u8),
                // [MQTT-3.9.3-2] of 3.1.1 knows one failure.
                Err(reason) => waiting.reasons.push(if is_v5 { reason.code() } else { 0x80 }),
            }
            if self.is_list_spent(before) {
                break;
            }
        }
        // Without a change it is a question only: whether what was retained before is where a scan finds it.
        if waiting.number == announcement || !changes.is_empty() {
            self.send_announcement(changes);
        }
        self.leave_further(now, waiting.reasons.len() - answered);
        if !filters.rest().is_empty() {
            let filters = part_of(whole, filters.rest());
            return self.finish_later(slot, Unfinished::Subscribe { filters, id, waiting });
        }
        self.promise(now, waiting);
        Flow::Continue
    }

    /// SUBACK, now or when every other shard has recorded what it promises.
    pub(super) fn promise(&mut self, now: Time, waiting: Waiting) {
        if waiting.number > self.announcements.recorded(self.shard) {
            self.announcements.waiting.push_back(waiting);
        } else {
            self.finish_subscribe(now, waiting);
        }
    }

    /// The rest of a long list waits for a later turn.
    fn finish_later(&mut self, slot: u32, unfinished: Unfinished) -> Flow {
        let extras = self.connections[slot as usize].extras();
        extras.unfinished = Some(Box::new(unfinished));
        // What was answered about its filters holds until it is done.
        extras.asked = extras.asked.max(u16::from(self.asks));
        self.put_off.push_back(self.id(slot));
        Flow::Later
    }

    /// The next piece of a list that is not done, if there is one; whether all is done now.
    pub(super) fn finish_filters(&mut self, now: Time, slot: u32) -> bool {
        let extras = self.connections[slot as usize].extras.as_mut();
        let Some(unfinished) = extras.and_then(|extras| extras.unfinished.take()) else { return true };
        let flow = match *unfinished {
            Unfinished::Subscribe { filters, id, waiting } => {
                let rest = SubscribeFilters::over(&filters);
                self.subscribe_further(now, slot, Some(&filters), rest, id, waiting)
            }
            Unfinished::Unsubscribe { filters, packet_id, reasons } => {
                let rest = UnsubscribeFilters::over(&filters);
                self.unsubscribe_further(now, slot, Some(&filters), rest, packet_id, reasons)
            }
        };
        if flow == Flow::Later {
            return false;
        }
        self.end_questions(slot);
        true
    }

    /// The connection is gone: its session has the subscriptions that were made, and what belongs to them.
    pub(super) fn drop_unfinished(&mut self, connection: &mut Connection) {
        let unfinished = connection.extras.as_mut().and_then(|extras| extras.unfinished.take());
        if let Some(Unfinished::Subscribe { waiting, .. }) = unfinished.map(|unfinished| *unfinished) {
            self.announcements.abandoned.push(waiting);
        }
    }

    /// One filter of a SUBSCRIBE ([MQTT-3.8.4-5]): the granted QoS.
    #[allow(clippy::too_many_arguments)]
    fn subscribe(
        &mut self,
        now: Time,
        slot: u32,
        filter: &SubscribeFilter<'_>,
        id: u32,
        announcement: u64,
        waiting: &mut Waiting,
        changes: &mut Vec<InterestChange>,
    ) -> Result<QoS, ReasonCode> {
        let Limits { max_topic_levels: levels, max_topic_length, max_qos, max_subscriptions, .. } =
            *self.limits_of(slot);
        let shared = parse_shared(filter.filter, levels).map_err(|_| ReasonCode::TopicFilterInvalid)?;
        let is_long = filter.filter.len() > max_topic_length;
        if is_long || (shared.is_none() && check_filter(filter.filter, levels).is_err()) {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        let plain = shared.map_or(filter.filter, |shared| shared.filter);
        self.check_wildcards(slot, plain)?;
        self.check_subscribe(now, slot, plain)?;
        let granted = filter.options.qos.min(QoS::from_bits(max_qos).unwrap_or(QoS::ExactlyOnce));
        let options = SubscribeOptions { qos: granted, ..filter.options };
        let session_slot = self.connections[slot as usize].session;
        let session = &mut self.sessions[session_slot as usize];
        let is_new = session.subscriptions.get(filter.filter).is_none();
        if is_new && self.memory.is_full() {
            self.counters.refused_for_memory += 1;
            return Err(ReasonCode::QuotaExceeded);
        }
        if session.is_stored && self.store.as_ref().is_some_and(|store| store.is_full) {
            self.counters.refused_storage_full += 1;
            return Err(ReasonCode::QuotaExceeded);
        }
        let cost = if is_new { session.subscriptions.cost() + filter_cost(filter.filter) } else { 0 };
        if cost > MAX_FILTER_COST || (is_new && session.subscriptions.len() >= max_subscriptions) {
            return Err(ReasonCode::QuotaExceeded);
        }
        let subscription = Subscription { options, id };
        session.subscriptions.insert(filter.filter, subscription);
        self.store_subscription(session_slot, filter.filter, &subscription);
        let subscriber = Subscriber::new(session_slot, id, options);
        if let Some(shared) = shared {
            self.counters.shared_subscriptions += u64::from(is_new);
            let member = Member { subscriber, connected: true };
            changes.push(self.router.join(shared.share, shared.filter, member));
            waiting.number = announcement;
            self.unload_group(now, shared.share, shared.filter);
            return Ok(granted);
        }
        self.counters.subscriptions += u64::from(is_new);
        let (number, is_first) = self.router.subscribe(filter.filter, subscriber, is_new, announcement);
        if is_first {
            changes.push(InterestChange::Add(filter.filter.into()));
        }
        waiting.number = waiting.number.max(number);
        // [MQTT-3.3.1-9], -10, -11. What the only shard does not have is nowhere on its way either.
        let is_wanted = options.retain_handling == 0 || (options.retain_handling == 1 && is_new);
        if is_wanted && (self.shards > 1 || self.may_own_retained(filter.filter)) {
            waiting.scans.push(self.prepare_scan(session_slot, filter.filter, subscription));
            if !self.is_retained_settled() {
                waiting.number = announcement;
            }
        }
        Ok(granted)
    }

    /// Tells the other shards what this one is interested in.
    pub(super) fn announce(&mut self, mut changes: Vec<InterestChange>) {
        while !changes.is_empty() {
            let rest = changes.split_off(changes.len().min(self.limits.filters_at_once));
            self.send_announcement(changes);
            changes = rest;
        }
    }

    fn send_announcement(&mut self, changes: Vec<InterestChange>) {
        if self.shards == 1 {
            return;
        }
        self.announcements.last += 1;
        let number = self.announcements.last;
        for peer in self.peers() {
            let announcement = Announcement { number, changes: changes.clone() };
            self.send(peer, Envelope::Announce(Box::new(announcement)));
        }
    }

    /// Another shard announces; the answer waits for the retained publishes that were sent off before.
    pub(super) fn handle_announcement(&mut self, now: Time, from: ShardId, announcement: Announcement) {
        for change in &announcement.changes {
            self.spend_filter(change.filter());
            self.router.apply(from, change);
            if let InterestChange::Group { share, filter, .. } = change {
                self.unload_group(now, share, filter);
            }
        }
        self.answer_announcement(from, announcement.number);
    }

    pub(super) fn handle_announced(&mut self, now: Time, from: ShardId, number: u64, retained: u64) {
        self.note_settled(from, retained);
        self.announcements.answered[usize::from(from)] = number;
        let recorded = self.announcements.recorded(self.shard);
        while self.announcements.waiting.front().is_some_and(|waiting| waiting.number <= recorded) {
            let waiting = self.announcements.waiting.pop_front().expect("just seen");
            self.finish_subscribe(now, waiting);
        }
    }

    /// SUBACK ([MQTT-3.8.4-1]), then the retained messages. If the connection is gone only SUBACK is lost: the
    /// session, if there is still one, has its subscription, and gets what belongs to it when its client is back.
    fn finish_subscribe(&mut self, now: Time, waiting: Waiting) {
        if self.is_live(waiting.conn) {
            self.gate_if_stored(waiting.conn.slot);
            let suback = SubAck::new(waiting.packet_id, &waiting.reasons);
            self.write(waiting.conn.slot, PacketType::SubAck, |version, out| suback.encode(version, out));
            if waiting.holds_disconnect {
                self.put_off.push_back(waiting.conn);
            }
        }
        self.begin_scans(now, &waiting.scans);
    }

    pub(super) fn handle_unsubscribe(&mut self, now: Time, slot: u32, unsubscribe: &Unsubscribe<'_>) -> Flow {
        if let Some(reason) = unsubscribe.filters().find_map(malformed_filter) {
            self.disconnect(now, slot, reason);
            return Flow::Stop;
        }
        self.unsubscribe_further(now, slot, None, unsubscribe.filters(), unsubscribe.packet_id, Vec::new())
    }

    /// The next filters of an UNSUBSCRIBE, and after the last one UNSUBACK.
    fn unsubscribe_further(
        &mut self,
        now: Time,
        slot: u32,
        whole: Option<&Bytes>,
        mut filters: UnsubscribeFilters<'_>,
        packet_id: u16,
        mut reasons: Vec<u8>,
    ) -> Flow {
        let session = self.connections[slot as usize].session;
        let mut changes = Vec::new();
        let before = self.work_done();
        for filter in filters.by_ref().take(self.limits.filters_at_once) {
            self.spend_filter(filter);
            let reason = self.unsubscribe(now, slot, session, filter, &mut changes);
            reasons.push(reason.code());
            if self.is_list_spent(before) {
                break;
            }
        }
        self.announce(changes);
        if !filters.rest().is_empty() {
            let filters = part_of(whole, filters.rest());
            return self.finish_later(slot, Unfinished::Unsubscribe { filters, packet_id, reasons });
        }
        self.gate_if_stored(slot);
        let unsuback = UnsubAck::new(packet_id, &reasons);
        self.write(slot, PacketType::UnsubAck, |version, out| unsuback.encode(version, out));
        Flow::Continue
    }

    /// One filter of an UNSUBSCRIBE ([MQTT-3.10.4-1]).
    fn unsubscribe(
        &mut self,
        now: Time,
        slot: u32,
        session: u32,
        filter: &str,
        changes: &mut Vec<InterestChange>,
    ) -> ReasonCode {
        if !self.may_unsubscribe(now, slot, filter) {
            return ReasonCode::NotAuthorized;
        }
        if self.sessions[session as usize].subscriptions.remove(filter).is_none() {
            return ReasonCode::NoSubscriptionExisted;
        }
        self.store_unsubscription(session, filter);
        self.cancel_scan_of(session, filter);
        changes.extend(self.withdraw(now, session, filter));
        ReasonCode::Success
    }

    /// A subscription is gone from its session: takes it out of the router.
    pub(super) fn withdraw(&mut self, now: Time, session: u32, filter: &str) -> Option<InterestChange> {
        if let Ok(Some(shared)) = parse_shared(filter, usize::MAX) {
            self.counters.shared_subscriptions -= 1;
            let change = self.router.leave(shared.share, shared.filter, session);
            self.unload_group(now, shared.share, shared.filter);
            return change;
        }
        self.counters.subscriptions -= 1;
        self.router.unsubscribe(filter, session).then(|| InterestChange::Remove(filter.into()))
    }

    /// A session's client connected or went away: its groups prefer members that are there.
    pub(super) fn set_member_connected(&mut self, now: Time, session: u32, connected: bool) {
        let subscriptions = std::mem::take(&mut self.sessions[session as usize].subscriptions);
        let mut changes = Vec::new();
        for (filter, _) in subscriptions.filters() {
            if let Ok(Some(shared)) = parse_shared(filter, usize::MAX) {
                changes.extend(self.router.set_connected(shared.share, shared.filter, session, connected));
                if connected {
                    self.unload_group(now, shared.share, shared.filter);
                }
            }
        }
        self.sessions[session as usize].subscriptions = subscriptions;
        self.announce(changes);
    }
}

/// The rest of a list as something that can be kept. `whole`: it is a part of this.
fn part_of(whole: Option<&Bytes>, rest: &[u8]) -> Bytes {
    whole.map_or_else(|| Bytes::copy_from_slice(rest), |whole| whole.slice_ref(rest))
}

/// What ends the connection before any filter beside this one counts. A filter that is only too deep for this broker
/// is refused by SUBACK.
fn malformed(filter: &SubscribeFilter<'_>, is_v5: bool) -> Option<ReasonCode> {
    let is_shared = matches!(parse_shared(filter.filter, usize::MAX), Ok(Some(_)));
    if is_shared && is_v5 && filter.options.no_local {
        // [MQTT-3.8.3-4]
        return Some(ReasonCode::ProtocolError);
    }
    malformed_filter(filter.filter)
}

/// What is no filter at all ([MQTT-4.7.1-1], -2, [MQTT-4.7.3-1], [MQTT-4.8.2-1], -2).
fn malformed_filter(filter: &str) -> Option<ReasonCode> {
    let is_filter = match parse_shared(filter, usize::MAX) {
        Ok(Some(_)) => true,
        Ok(None) => check_filter(filter, usize::MAX).is_ok(),
        Err(_) => false,
    };
    (!is_filter).then_some(ReasonCode::TopicFilterInvalid)
}
