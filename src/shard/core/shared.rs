//! Shared subscriptions: each message goes to one member of the group (4.8.2).
//!
//! The publisher's shard chooses a shard by its number of connected members, that shard a member. A message that
//! finds none is sent on once, then it waits in the group's one queue, on the shard its name hashes to.
use super::authorize::may_receive;
use super::publish::plain_publication;
use super::{Core, ShardId};
use crate::codec::QoS;
use crate::router::{Group, Subscriber};
use crate::session::message::{Message, Publication, SHARE_FROM, SessionKey};
use crate::session::outgoing::{Delivery, GroupKey};
use crate::session::run::Run;
use crate::shard::envelope::{Envelope, SharedMessage};
use crate::time::Time;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Members asked for room before the first of them has to queue.
const CANDIDATES: usize = 8;

/// Messages of groups that have no connected member.
pub(super) struct GroupQueues {
    queues: HashMap<GroupKey, GroupQueue, ahash::RandomState>,
    /// Messages in all of them.
    messages: usize,
}

#[derive(Default)]
struct GroupQueue {
    /// With the place each is stored at, 0 if it is not.
    messages: VecDeque<(Message, u64)>,
    bytes: usize,
}

impl GroupQueues {
    pub fn new(seed: u64) -> GroupQueues {
        let hasher = ahash::RandomState::with_seeds(seed, 7, 8, 9);
        GroupQueues { queues: HashMap::with_hasher(hasher), messages: 0 }
    }
    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.messages
    }

    pub fn push(&mut self, key: GroupKey, message: Message, position: u64) {
        let queue = self.queues.entry(key).or_default();
        queue.bytes += message.size();
        queue.messages.push_back((message, position));
        self.messages += 1;
    }

    fn pop(&mut self, key: GroupKey) -> Option<(Message, u64)> {
        let queue = self.queues.get_mut(&key)?;
        let (message, position) = queue.messages.pop_front()?;
        queue.bytes -= message.size();
        self.messages -= 1;
        Some((message, position))
    }

    fn is_over(&self, key: GroupKey, messages: usize, bytes: usize) -> bool {
        let queue = self.queues.get(&key);
        queue.is_some_and(|queue| queue.messages.len() > messages || queue.bytes > bytes)
    }

    /// The places that its messages were stored at.
    fn remove(&mut self, key: GroupKey) -> Vec<u64> {
        let gone = self.queues.remove(&key).unwrap_or_default();
        self.messages -= gone.messages.len();
        gone.messages.into_iter().map(|(_, position)| position).collect()
    }
}

impl Core {
    /// One copy of a message for the group in `slot` of the router.
    pub(super) fn publish_to_group(&mut self, now: Time, slot: u32, publication: &Publication<'_>) {
        let group = self.router.groups().at(slot);
        let key = group.key;
        match group.choose_shard() {
            Some(shard) if shard == self.shard => self.deliver_to_member(now, key, publication, 0),
            Some(shard) => self.send_shared(shard, key, publication.message(), 0, false),
            None => self.queue_for_group(now, key, publication),
        }
    }

    /// Each packet of a run of QoS 0 for the group in `slot` of the router, as it came where the member takes it so.
    pub(super) fn share_run(
        &mut self,
        now: Time,
        slot: u32,
        topic: &str,
        run: &Run<'_>,
        publisher: SessionKey,
    ) {
        for packet in run.packets() {
            let group = self.router.groups().at(slot);
            let (key, shard) = (group.key, group.choose_shard());
            let publication = || {
                let payload = packet.payloads().next().expect("it is one packet");
                plain_publication(topic, payload, QoS::AtMostOnce, publisher)
            };
            match shard {
                Some(shard) if shard == self.shard => {
                    let (Some(member), _) = self.choose_member(slot, topic) else {
                        self.deliver_to_member(now, key, &publication(), 0);
                        continue;
                    };
                    if member.id != 0 || !self.deliver_run(member.session, &packet, &[], SHARE_FROM, None) {
                        self.deliver_to_chosen(now, key, &publication(), member);
                    }
                }
                Some(shard) => self.send_shared(shard, key, publication().message(), 0, false),
                // Nobody is connected, and nothing of QoS 0 is kept.
                None => return,
            }
        }
    }

    fn send_shared(&mut self, to: ShardId, group: GroupKey, message: Message, hops: u8, for_queue: bool) {
        let unit = self.forward();
        self.send(to, Envelope::Shared(Box::new(SharedMessage { group, message, hops, for_queue, unit })));
    }

    pub(super) fn deliver_shared(&mut self, now: Time, shared: SharedMessage) {
        let SharedMessage { group, message, hops, for_queue, .. } = shared;
        self.spend_shared();
        if for_queue {
            self.queue_for_group(now, group, &message.publication());
        } else {
            self.deliver_to_member(now, group, &message.publication(), hops);
        }
    }

    /// To a connected member on this shard, one with room in its window if there is.
    fn deliver_to_member(&mut self, now: Time, key: GroupKey, publication: &Publication<'_>, hops: u8) {
        let Some(slot) = self.router.groups().slot_of(key) else { return };
        let (member, is_denied) = self.choose_member(slot, publication.topic);
        let Some(member) = member else {
            let other = self.router.groups().get(key).and_then(|group| group.choose_other(self.shard));
            return match other {
                Some(shard) if hops == 0 => self.send_shared(shard, key, publication.message(), 1, false),
                // Nobody waits for what he may not read.
                _ if is_denied => self.counters.denied_receive += 1,
                _ => self.queue_for_group(now, key, publication),
            };
        };
        self.deliver_to_chosen(now, key, publication, member);
    }

    /// The connected member on this shard whose turn it is, one with room in its window if there is; and whether some
    /// member was passed over because it may not read the topic.
    fn choose_member(&mut self, slot: u32, topic: &str) -> (Option<Subscriber>, bool) {
        let Core { router, sessions, connections, profiles, policy, restricts, .. } = self;
        let has_window = |session: u32| {
            let session = &sessions[session as usize];
            let Some(connection) = session.connection else { return false };
            let connection = &connections[connection as usize];
            connection.output.len() <= profiles[connection.profile].output_mark
                && session.outgoing.as_ref().is_none_or(|outgoing| outgoing.can_begin(connection.quota))
        };
        let mut is_denied = false;
        let allowed = router.groups().at(slot).candidates().filter(|member| {
            let is_allowed = !*restricts || may_receive(policy, &sessions[member.session as usize], topic);
            is_denied |= !is_allowed;
            is_allowed
        });
        let mut first = None;
        for member in allowed.take(CANDIDATES) {
            if has_window(member.session) {
                return (Some(member), false);
            }
            first.get_or_insert(member);
        }
        (first, is_denied)
    }

    fn deliver_to_chosen(
        &mut self,
        now: Time,
        key: GroupKey,
        publication: &Publication<'_>,
        member: Subscriber,
    ) {
        let id = [member.id];
        let ids: &[u32] = if member.id == 0 { &[] } else { &id };
        let retain = publication.retain && member.retain_as_published;
        self.deliver(now, member.session, publication, member.qos, retain, ids, Some(key));
    }

    /// No member is connected: QoS 1 and 2 wait on the group's own shard, up to a bound where the oldest gives way.
    fn queue_for_group(&mut self, now: Time, key: GroupKey, publication: &Publication<'_>) {
        if publication.qos == QoS::AtMostOnce {
            return;
        }
        let owner = (key.0 % u128::from(self.shards)) as ShardId;
        if owner != self.shard {
            return self.send_shared(owner, key, publication.message(), 0, true);
        }
        if self.router.groups().get(key).is_none() {
            return;
        }
        let message = publication.message();
        let position = self.store_group_message(key, &message);
        self.group_queues.push(key, message, position);
        let (messages, bytes) = (self.limits.max_group_queue, self.limits.max_queued_bytes);
        while self.group_queues.is_over(key, messages, bytes) {
            let (_, position) = self.group_queues.pop(key).expect("it is over its bound");
            self.store_group_message_dropped(position);
            self.counters.dropped_group_queue += 1;
        }
        self.unload_group_queue(now, key);
    }

    /// The members of a group changed: its queue, if it is on this shard, goes to those that are connected now, or
    /// goes with its group.
    pub(super) fn unload_group(&mut self, now: Time, share: &str, filter: &str) {
        let key = self.keys.group(share, filter);
        self.unload_group_queue(now, key);
    }

    fn unload_group_queue(&mut self, now: Time, key: GroupKey) {
        while self.group_queues.queues.contains_key(&key) {
            let Some(group) = self.router.groups().get(key) else {
                let positions = self.group_queues.remove(key);
                return positions.into_iter().for_each(|position| self.store_group_message_gone(position));
            };
            let Some(shard) = group.choose_shard() else { return };
            let Some((message, position)) = self.group_queues.pop(key) else {
                self.group_queues.remove(key);
                return;
            };
            // It leaves this queue and comes to its next place at the same time.
            let is_unit = self.begin_unit();
            self.store_group_message_gone(position);
            if message.is_expired(now) {
                self.counters.dropped_expired += 1;
            } else if shard == self.shard {
                self.deliver_to_member(now, key, &message.publication(), 1);
            } else {
                self.send_shared(shard, key, message, 0, false);
            }
            self.end_part(is_unit);
        }
    }

    /// Deliveries that a member cannot finish go to others of its group.
    /// `session` is where they come from.
    pub(super) fn give_back(&mut self, now: Time, deliveries: Vec<Delivery>, session: SessionKey) {
        for delivery in deliveries {
            let is_unit = self.begin_unit();
            if let Some(stored) = delivery.stored() {
                self.store_given_back(session, stored);
            }
            let key = delivery.group.expect("only a group's deliveries are given back");
            let publication = delivery.message.publication();
            match self.router.groups().get(key).map(Group::choose_shard) {
                None => {}
                Some(Some(shard)) if shard == self.shard => self.deliver_to_member(now, key, &publication, 0),
                Some(Some(shard)) => self.send_shared(shard, key, delivery.message, 0, false),
                Some(None) => self.queue_for_group(now, key, &publication),
            }
            self.end_part(is_unit);
        }
    }

    /// A member went away: what it was not sent yet goes to others. What is in flight waits for its return.
    pub(super) fn give_back_queued(&mut self, now: Time, session: u32) {
        if let Some(outgoing) = &mut self.sessions[session as usize].outgoing {
            let queued = outgoing.take_shared_queue();
            let key = self.sessions[session as usize].key;
            self.give_back(now, queued, key);
            self.refill(session);
        }
    }
}
