//! QoS 1 and 2 towards the client: the window of what is in flight, and the queue behind it.
use super::message::Message;
use super::queue::Queue;
use super::rows::{RowPlace, Rows};
use super::tail::{Tail, Window};
use crate::codec::QoS;
use crate::limits::{MAX_INFLIGHT_BYTES, QueuePolicy};
use crate::time::Time;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// Names a shared-subscription group (share name and filter) on every shard alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct GroupKey(pub u128);

/// Subscription identifiers that go with one delivery.
pub type SubscriptionIds = SmallVec<[u32; 2]>;

/// One delivery that waits for its turn or for its acknowledgement.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What is delivered.
    pub message: Message,
    /// QoS of this delivery: the lower of published and granted.
    pub qos: QoS,
    /// RETAIN of this delivery.
    pub retain: bool,
    /// Subscription identifiers of all matching subscriptions.
    pub ids: SubscriptionIds,
    /// The group that chose this session, if it came through a shared subscription.
    pub group: Option<GroupKey>,
    /// Where it is stored in the session's order, 0 if it is not.
    pub position: u64,
    /// Number of the stored payload it shares with other deliveries, 0 if it has its own or is not stored.
    pub stored_as: u64,
}

/// What an in-flight packet id waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Awaits {
    Puback,
    Pubrec,
    Pubcomp,
    /// Finished, but an older entry is not: stays as a place holder so that ids lie at their offset.
    Nothing,
}

/// One packet id in flight.
#[derive(Debug)]
pub(super) struct Inflight {
    pub(super) id: u16,
    pub(super) awaits: Awaits,
    /// Went out on this connection, and so takes one of the client's Receive Maximum.
    pub(super) counted: bool,
    /// What to send again after a reconnect; absent where there cannot be one, and after PUBREC.
    pub(super) delivery: Option<Box<Delivery>>,
    /// As in the delivery, which is gone after PUBREC.
    pub(super) position: u64,
    /// How far it has come is stored beside it.
    pub(super) has_flight: bool,
    /// Where the packet to send again is kept, if not as a delivery.
    pub(super) place: RowPlace,
}

/// What an acknowledgement did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acknowledged {
    /// The delivery is finished.
    Finished,
    /// PUBREL is to be sent.
    Release,
    /// Nothing in flight has this id, or it waits for another packet.
    Unknown,
}

/// What is to be sent again first after a reconnect ([MQTT-4.4.0-1]).
#[derive(Debug)]
pub enum Repeat<'a> {
    /// PUBLISH with DUP.
    Publish(u16, &'a Delivery),
    /// PUBREL.
    Release(u16),
}

/// QoS 1 and 2 state towards one client. The window is bounded by the send quota the caller passes
/// (Receive Maximum and [`crate::limits::Limits::max_inflight`]), the queue by the limits it passes.
#[derive(Default, Debug)]
pub struct Outgoing {
    pub(super) window: VecDeque<Inflight>,
    pub(super) unfinished: u16,
    outstanding: u16,
    /// First entry of the window that was not sent on this connection.
    repeat_at: usize,
    pub(super) last_id: u16,
    /// Some id was skipped or some place holder taken out, so that an id need not lie at its distance from the oldest.
    pub(super) has_gaps: bool,
    pub(super) queue: Queue<Delivery>,
    /// Bytes of the queue, what follows it on the disk left out.
    pub(super) queued_bytes: usize,
    /// What follows the queue and is on the disk only.
    pub(super) tail: Option<Box<Tail>>,
    /// Bytes of the deliveries in the window, and of the rows.
    pub(super) kept_bytes: usize,
    /// Deliveries of the window that are kept as they came.
    pub(super) rows: Rows,
    /// The last place in the stored order that was given out.
    pub(super) last_position: u64,
}

impl Outgoing {
    /// Deliveries in flight, finished ones left out.
    pub fn inflight(&self) -> usize {
        usize::from(self.unfinished)
    }
    /// Deliveries waiting in the queue.
    pub fn queued(&self) -> usize {
        self.queue.len() + self.tail.as_ref().map_or(0, |tail| tail.queued())
    }
    /// Bytes waiting in the queue.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes + self.tail.as_ref().map_or(0, |tail| tail.queued_bytes())
    }
    /// Whether a new delivery may go out at once: nothing older waits, and the quota has room ([MQTT-4.9.0-2]).
    pub fn can_begin(&self, quota: u16) -> bool {
        self.is_queue_empty() && self.repeat_at >= self.window.len() && self.has_quota(quota)
    }
    /// How many new deliveries may go out at once, all of the window that nothing older waits for.
    pub fn room(&self, quota: u16) -> u16 {
        if self.can_begin(quota) { quota - self.outstanding.max(self.unfinished) } else { 0 }
    }
    fn is_queue_empty(&self) -> bool {
        self.queue.is_empty() && self.tail.is_none()
    }
    fn has_quota(&self, quota: u16) -> bool {
        self.outstanding < quota && self.unfinished < quota && self.kept_bytes < MAX_INFLIGHT_BYTES
    }

    /// A new connection: everything in the window is to be sent again, the quota starts afresh.
    pub fn begin_connection(&mut self) {
        self.drop_place_holders();
        self.unfold_rows();
        self.window.iter_mut().for_each(|entry| entry.counted = false);
        self.outstanding = 0;
        self.repeat_at = 0;
    }

    /// Gives a new delivery its packet id, unused and not zero ([MQTT-2.2.1-4]). Call only with room in the quota.
    /// `delivery` is what to send again if the client comes back; `None` if it cannot.
    pub fn begin(&mut self, qos: QoS, delivery: Option<Box<Delivery>>) -> u16 {
        self.begin_entry(qos, delivery, RowPlace::NONE)
    }

    pub(super) fn begin_entry(&mut self, qos: QoS, delivery: Option<Box<Delivery>>, place: RowPlace) -> u16 {
        assert!(self.unfinished < u16::MAX, "the quota keeps an id free");
        let mut id = self.last_id;
        loop {
            id = if id == u16::MAX { 1 } else { id + 1 };
            if self.position(id).is_none() {
                break;
            }
            self.has_gaps = true;
        }
        self.last_id = id;
        let awaits = if qos == QoS::ExactlyOnce { Awaits::Pubrec } else { Awaits::Puback };
        debug_assert!(self.repeat_at >= self.window.len(), "repetitions go first");
        let position = delivery.as_ref().map_or(0, |delivery| delivery.position);
        self.kept_bytes += kept_bytes(&delivery);
        let has_flight = false;
        self.window.push_back(Inflight { id, awaits, counted: true, delivery, position, has_flight, place });
        self.repeat_at = self.window.len();
        self.unfinished += 1;
        self.outstanding += 1;
        id
    }

    /// PUBACK ([MQTT-4.3.2-3]).
    pub fn handle_puback(&mut self, id: u16) -> Acknowledged {
        match self.position(id) {
            Some(at) if self.window[at].awaits == Awaits::Puback => {
                self.finish(at);
                Acknowledged::Finished
            }
            _ => Acknowledged::Unknown,
        }
    }

    /// PUBREC; `refused` when its code is 0x80 or more, which ends the delivery ([MQTT-4.4.0-2]).
    pub fn handle_pubrec(&mut self, id: u16, refused: bool) -> Acknowledged {
        let Some(at) = self.position(id) else { return Acknowledged::Unknown };
        match self.window[at].awaits {
            Awaits::Pubrec if refused => {
                self.finish(at);
                Acknowledged::Finished
            }
            Awaits::Pubrec => {
                let entry = &mut self.window[at];
                entry.awaits = Awaits::Pubcomp;
                self.kept_bytes -= kept_bytes(&entry.delivery.take());
                let place = std::mem::replace(&mut entry.place, RowPlace::NONE);
                self.leave_row(place);
                Acknowledged::Release
            }
            // The answer to a PUBLISH that was repeated while its PUBREC was under way.
            Awaits::Pubcomp => Acknowledged::Release,
            Awaits::Puback | Awaits::Nothing => Acknowledged::Unknown,
        }
    }

    /// PUBCOMP.
    pub fn handle_pubcomp(&mut self, id: u16) -> Acknowledged {
        match self.position(id) {
            Some(at) if self.window[at].awaits == Awaits::Pubcomp => {
                self.finish(at);
                Acknowledged::Finished
            }
            _ => Acknowledged::Unknown,
        }
    }

    /// Whether something waits to be sent again or for the first time.
    pub fn has_waiting(&self) -> bool {
        self.repeat_at < self.window.len() || !self.is_queue_empty()
    }

    /// The next packet to send again; `None` when all were, or when the quota is used up and a PUBLISH is next.
    pub fn next_repeat(&mut self, quota: u16) -> Option<Repeat<'_>> {
        let room = self.outstanding < quota;
        while self.repeat_at < self.window.len() {
            let at = self.repeat_at;
            match self.window[at].awaits {
                Awaits::Nothing => self.repeat_at += 1,
                Awaits::Pubcomp => {
                    self.repeat_at += 1;
                    return Some(Repeat::Release(self.window[at].id));
                }
                Awaits::Puback | Awaits::Pubrec if !room => return None,
                Awaits::Puback | Awaits::Pubrec => {
                    self.repeat_at += 1;
                    self.outstanding += 1;
                    let entry = &mut self.window[at];
                    entry.counted = true;
                    let delivery =
                        entry.delivery.as_ref().expect("kept for as long as the client can come back");
                    return Some(Repeat::Publish(entry.id, delivery));
                }
            }
        }
        None
    }

    /// The oldest queued delivery, if the quota lets it go out now and it is in memory.
    pub fn dequeue(&mut self, quota: u16) -> Option<Delivery> {
        if self.repeat_at < self.window.len() || !self.has_quota(quota) {
            return None;
        }
        let delivery = self.queue.pop_front()?;
        self.queued_bytes -= delivery.message.size();
        if self.is_queue_empty() {
            self.queue = Queue::default();
        }
        Some(delivery)
    }

    /// Whether the queue has no room for another `bytes`.
    pub fn is_full(&self, bytes: usize, max_messages: usize, max_bytes: usize) -> bool {
        self.queued() >= max_messages || self.queued_bytes() + bytes > max_bytes
    }

    /// Whether a delivery of so many bytes is queued. At the bound the policy decides; a message that alone exceeds
    /// the bytes of `max` is refused.
    pub fn admits(&self, bytes: usize, max: (usize, usize), policy: QueuePolicy) -> bool {
        if !self.is_full(bytes, max.0, max.1) {
            return true;
        }
        // Large messages: only one gives way, so that a single publish cannot empty the queue. Where the oldest is on
        // the disk, it does so when it has been read ([`Outgoing::give_way`]).
        let oldest = self.queue.front().map_or(0, |oldest| oldest.message.size());
        let is_enough = self.queue.is_empty() || self.queued_bytes() - oldest + bytes <= max.1;
        policy == QueuePolicy::DropOldest && !self.is_queue_empty() && bytes <= max.1 && is_enough
    }

    /// Queues a delivery that is admitted, in memory as far as `window` has room; the oldest one that gave way.
    pub fn enqueue(&mut self, delivery: Delivery, max: (usize, usize), window: Window) -> Option<Delivery> {
        let mut gave_way = None;
        if self.is_full(delivery.message.size(), max.0, max.1) {
            gave_way = self.queue.pop_front();
            self.queued_bytes -= gave_way.as_ref().map_or(0, |oldest| oldest.message.size());
        }
        self.append(delivery, window);
        gave_way
    }

    /// The oldest queued delivery, if there are more than there may be.
    pub fn give_way(&mut self, max: (usize, usize)) -> Option<Delivery> {
        if self.queued() <= max.0 && self.queued_bytes() <= max.1 {
            return None;
        }
        let oldest = self.queue.pop_front()?;
        self.queued_bytes -= oldest.message.size();
        Some(oldest)
    }

    /// Takes out the queued deliveries that came through shared subscriptions (their groups have other members).
    pub fn take_shared_queue(&mut self) -> Vec<Delivery> {
        let behind = self.take_behind();
        if !self.queue.iter().any(|delivery| delivery.group.is_some()) {
            return behind.into();
        }
        let (mut shared, mut kept) = (Vec::new(), Queue::default());
        for delivery in std::mem::take(&mut self.queue) {
            if delivery.group.is_some() { shared.push(delivery) } else { kept.push_back(delivery) }
        }
        self.queue = kept;
        self.queued_bytes = self.queue.iter().map(|delivery| delivery.message.size()).sum();
        shared.extend(behind);
        shared
    }

    /// The session ends: what its groups must offer to other members. QoS 1 in flight belongs to that, QoS 2 in
    /// flight does not ([MQTT-4.8.2-5]).
    pub fn take_shared(&mut self) -> Vec<Delivery> {
        let mut shared: Vec<Delivery> = self
            .window
            .iter_mut()
            .filter(|entry| entry.awaits == Awaits::Puback)
            .filter_map(|entry| entry.delivery.take_if(|delivery| delivery.group.is_some()))
            .map(|delivery| *delivery)
            .collect();
        self.kept_bytes -= shared.iter().map(|delivery| delivery.message.size()).sum::<usize>();
        shared.extend(self.take_shared_queue());
        shared
    }

    /// The client is back: queued deliveries in memory whose expiry has passed are dropped, each after a call of `dropped`; returns how many.
    pub fn drop_expired(&mut self, now: Time, dropped: &mut dyn FnMut(&Delivery)) -> u64 {
        self.drop_queued(|message| message.is_expired(now), dropped)
    }

    /// Drops queued messages that are in memory, each after a call of `dropped`; returns how many.
    pub fn drop_queued(
        &mut self,
        is_dropped: impl Fn(&Message) -> bool,
        dropped: &mut dyn FnMut(&Delivery),
    ) -> u64 {
        let before = self.queue.len();
        self.queue.retain(|delivery| {
            let is_over = is_dropped(&delivery.message);
            if is_over {
                dropped(delivery);
            }
            !is_over
        });
        self.queued_bytes = self.queue.iter().map(|delivery| delivery.message.size()).sum();
        (before - self.queue.len()) as u64
    }

    /// Where `id` lies: ids are given out in sequence, so usually at its distance from the oldest.
    pub(super) fn position(&self, id: u16) -> Option<usize> {
        let oldest = self.window.front()?.id;
        let distance =
            if id >= oldest { id - oldest } else { (u32::from(id) + 65535 - u32::from(oldest)) as u16 };
        match self.window.get(usize::from(distance)) {
            Some(entry) if entry.id == id => Some(usize::from(distance)),
            _ if !self.has_gaps => None,
            _ => self.window.iter().position(|entry| entry.id == id && entry.awaits != Awaits::Nothing),
        }
    }

    /// Panics if the counts contradict what they count.
    #[doc(hidden)]
    pub fn audit(&self) {
        let unfinished = self.window.iter().filter(|entry| entry.awaits != Awaits::Nothing);
        assert_eq!(unfinished.clone().count(), self.inflight());
        let counted = unfinished.filter(|entry| entry.counted).count();
        assert_eq!(counted, usize::from(self.outstanding));
        assert!(self.repeat_at <= self.window.len());
        let bytes: usize = self.queue.iter().map(|delivery| delivery.message.size()).sum();
        assert_eq!(bytes, self.queued_bytes);
        let kept: usize = self.window.iter().map(|entry| kept_bytes(&entry.delivery)).sum();
        assert_eq!(kept + self.rows.bytes(), self.kept_bytes);
        self.rows.audit(self.window.iter());
        self.audit_tail();
    }

    fn finish(&mut self, at: usize) {
        let entry = &mut self.window[at];
        debug_assert!(entry.awaits != Awaits::Nothing);
        entry.awaits = Awaits::Nothing;
        self.kept_bytes -= kept_bytes(&entry.delivery.take());
        self.unfinished -= 1;
        self.outstanding -= u16::from(entry.counted);
        let place = std::mem::replace(&mut entry.place, RowPlace::NONE);
        self.leave_row(place);
        while self.window.front().is_some_and(|entry| entry.awaits == Awaits::Nothing) {
            self.window.pop_front();
            self.repeat_at = self.repeat_at.saturating_sub(1);
        }
        // An old delivery that is never acknowledged must not let place holders pile up behind it.
        if self.window.len() > 2 * usize::from(self.unfinished) + 64 && self.repeat_at >= self.window.len() {
            self.drop_place_holders();
            self.repeat_at = self.window.len();
        }
        self.has_gaps &= !self.window.is_empty();
    }

    fn drop_place_holders(&mut self) {
        let before = self.window.len();
        self.window.retain(|entry| entry.awaits != Awaits::Nothing);
        self.has_gaps |= self.window.len() < before;
    }
}

/// Bytes of what is kept for a packet id.
pub(super) fn kept_bytes(delivery: &Option<Box<Delivery>>) -> usize {
    delivery.as_ref().map_or(0, |delivery| delivery.message.size())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::message::SessionKey;

    fn delivery(topic: &str) -> Delivery {
        let message = Message::new(topic, &[], b"12345", QoS::ExactlyOnce, false, Time::NEVER, SessionKey(1));
        Delivery {
            message,
            qos: QoS::AtLeastOnce,
            retain: false,
            ids: SubscriptionIds::new(),
            group: None,
            position: 0,
            stored_as: 0,
        }
    }
    const ROOM: (usize, usize) = (3, 100);

    #[test]
    fn ids_are_never_zero_and_never_in_use() {
        let mut outgoing = Outgoing::default();
        let stuck = outgoing.begin(QoS::AtLeastOnce, None);
        for _ in 0..140_000 {
            let id = outgoing.begin(QoS::AtLeastOnce, None);
            assert!(id != 0 && id != stuck);
            assert_eq!(outgoing.handle_puback(id), Acknowledged::Finished);
        }
        assert_eq!(outgoing.inflight(), 1);
        assert!(outgoing.window.len() < 200);
    }

    #[test]
    fn acknowledgements_in_any_order_finish_their_own_delivery() {
        let mut outgoing = Outgoing::default();
        let ids: Vec<u16> = (0..100).map(|_| outgoing.begin(QoS::AtLeastOnce, None)).collect();
        for id in ids.iter().rev() {
            assert_eq!(outgoing.handle_puback(*id), Acknowledged::Finished);
            assert_eq!(outgoing.handle_puback(*id), Acknowledged::Unknown);
        }
        assert_eq!((outgoing.inflight(), outgoing.window.len(), outgoing.outstanding), (0, 0, 0));
    }

    #[test]
    fn an_acknowledgement_of_the_wrong_kind_changes_nothing() {
        let mut outgoing = Outgoing::default();
        let one = outgoing.begin(QoS::AtLeastOnce, None);
        let two = outgoing.begin(QoS::ExactlyOnce, None);
        assert_eq!(outgoing.handle_pubrec(one, false), Acknowledged::Unknown);
        assert_eq!(outgoing.handle_puback(two), Acknowledged::Unknown);
        assert_eq!(outgoing.handle_pubcomp(two), Acknowledged::Unknown);
        assert_eq!(outgoing.handle_pubrec(two, false), Acknowledged::Release);
        assert_eq!(outgoing.handle_pubrec(two, false), Acknowledged::Release);
        assert_eq!(outgoing.handle_pubcomp(two), Acknowledged::Finished);
        assert_eq!(outgoing.inflight(), 1);
    }

    #[test]
    fn a_reconnect_repeats_in_order_within_the_new_quota() {
        let mut outgoing = Outgoing::default();
        let ids: Vec<u16> =
            ["a", "b", "c"].map(|t| outgoing.begin(QoS::ExactlyOnce, Some(Box::new(delivery(t))))).into();
        assert_eq!(outgoing.handle_pubrec(ids[0], false), Acknowledged::Release);
        outgoing.begin_connection();
        assert!(!outgoing.can_begin(1));
        assert!(matches!(outgoing.next_repeat(1), Some(Repeat::Release(id)) if id == ids[0]));
        assert!(
            matches!(outgoing.next_repeat(1), Some(Repeat::Publish(id, d)) if id == ids[1] && d.message.topic() == "b")
        );
        assert!(outgoing.next_repeat(1).is_none());
        assert_eq!(outgoing.handle_pubrec(ids[1], true), Acknowledged::Finished);
        assert!(matches!(outgoing.next_repeat(1), Some(Repeat::Publish(id, _)) if id == ids[2]));
        assert!(outgoing.next_repeat(1).is_none());
        assert_eq!(outgoing.handle_pubcomp(ids[0]), Acknowledged::Finished);
        assert_eq!(outgoing.handle_pubrec(ids[2], true), Acknowledged::Finished);
        assert!(outgoing.can_begin(1));
    }

    #[test]
    fn a_full_queue_obeys_its_policy() {
        let mut outgoing = Outgoing::default();
        for topic in ["a", "b", "c"] {
            assert!(outgoing.admits(6, ROOM, QueuePolicy::DropNewest));
            assert!(outgoing.enqueue(delivery(topic), ROOM, Window::ALL).is_none());
        }
        assert!(!outgoing.admits(6, ROOM, QueuePolicy::DropNewest));
        assert!(!outgoing.admits(6, ROOM, QueuePolicy::Refuse));
        assert!(outgoing.admits(6, ROOM, QueuePolicy::DropOldest));
        let oldest = outgoing.enqueue(delivery("e"), ROOM, Window::ALL);
        assert_eq!(oldest.expect("it gave way").message.topic(), "a");
        let order: Vec<String> =
            std::iter::from_fn(|| outgoing.dequeue(10)).map(|d| d.message.topic().to_owned()).collect();
        assert_eq!(order, ["b", "c", "e"]);
        assert_eq!(outgoing.queued_bytes(), 0);
    }

    #[test]
    fn a_message_larger_than_the_queue_is_refused_and_costs_nobody_his_place() {
        let mut outgoing = Outgoing::default();
        assert!(outgoing.enqueue(delivery("a"), (3, 7), Window::ALL).is_none());
        assert!(!outgoing.admits(delivery("too-long").message.size(), (3, 7), QueuePolicy::DropOldest));
        assert_eq!((outgoing.queued(), outgoing.queued_bytes()), (1, 6));
    }

    #[test]
    fn only_unacknowledged_qos_1_goes_back_to_a_group() {
        let group = Some(GroupKey(1));
        let mut outgoing = Outgoing::default();
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            outgoing.begin(qos, Some(Box::new(Delivery { qos, group, ..delivery("flight") })));
        }
        outgoing.enqueue(Delivery { group, ..delivery("queued") }, ROOM, Window::ALL);
        outgoing.enqueue(delivery("own"), ROOM, Window::ALL);
        let topics: Vec<String> =
            outgoing.take_shared().iter().map(|d| d.message.topic().to_owned()).collect();
        assert_eq!(topics, ["flight", "queued"]);
        assert_eq!((outgoing.queued(), outgoing.queued_bytes()), (1, 8));
    }
}
