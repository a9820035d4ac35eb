//! Shared subscriptions: each message goes to one member of the group (4.8.2).
//!
//! The publisher's shard chooses a shard by its number of connected members, that shard a member. A message that
//! finds none is sent on once, then it waits in the group's one queue, on the shard its name hashes to.
use super::{Core, ShardId};
use crate::codec::QoS;
use crate::router::Subscriber;
use crate::session::message::{Message, Publication};
use crate::session::outgoing::{Delivery, GroupKey};
use crate::shard::envelope::{Envelope, SharedMessage};
use crate::time::Time;
use hashbrown::HashMap;
use smallvec::SmallVec;
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
    messages: VecDeque<Message>,
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

    fn push(&mut self, key: GroupKey, message: Message) {
        let queue = self.queues.entry(key).or_default();
        queue.bytes += message.size();
        queue.messages.push_back(message);
        self.messages += 1;
    }

    fn pop(&mut self, key: GroupKey) -> Option<Message> {
        let queue = self.queues.get_mut(&key)?;
        let message = queue.messages.pop_front()?;
        queue.bytes -= message.size();
        self.messages -= 1;
        Some(message)
    }

    fn is_over(&self, key: GroupKey, messages: usize, bytes: usize) -> bool {
        let queue = self.queues.get(&key);
        queue.is_some_and(|queue| queue.messages.len() > messages || queue.bytes > bytes)
    }

    fn remove(&mut self, key: GroupKey) {
        let gone = self.queues.remove(&key);
        self.messages -= gone.map_or(0, |queue| queue.messages.len());
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

    fn send_shared(&mut self, to: ShardId, group: GroupKey, message: Message, hops: u8, for_queue: bool) {
        self.send(to, Envelope::Shared(Box::new(SharedMessage { group, message, hops, for_queue })));
    }

    pub(super) fn deliver_shared(&mut self, now: Time, shared: SharedMessage) {
        let SharedMessage { group, message, hops, for_queue } = shared;
        self.spend_shared();
        if for_queue {
            self.queue_for_group(now, group, &message.publication());
        } else {
            self.deliver_to_member(now, group, &message.publication(), hops);
        }
    }

    /// To a connected member on this shard, one with room in its window if there is.
    fn deliver_to_member(&mut self, now: Time, key: GroupKey, publication: &Publication<'_>, hops: u8) {
        let Some(group) = self.router.groups().get(key) else { return };
        let candidates: SmallVec<[Subscriber; CANDIDATES]> = group.candidates().take(CANDIDATES).collect();
        let chosen = candidates.iter().find(|member| self.has_window(member.session)).or(candidates.first());
        let Some(member) = chosen.copied() else {
            let other = self.router.groups().get(key).and_then(|group| group.choose_other(self.shard));
            return match other {
                Some(shard) if hops == 0 => self.send_shared(shard, key, publication.message(), 1, false),
                _ => self.queue_for_group(now, key, publication),
            };
        };
        let id = [member.id];
        let ids: &[u32] = if member.id == 0 { &[] } else { &id };
        let retain = publication.retain && member.retain_as_published;
        self.deliver(now, member.session, publication, member.qos, retain, ids, Some(key));
    }

    fn has_window(&self, session: u32) -> bool {
        let session = &self.sessions[session as usize];
        let Some(connection) = session.connection else { return false };
        let connection = &self.connections[connection as usize];
        connection.output.len() <= self.limits.output_mark
            && session.outgoing.as_ref().is_none_or(|outgoing| outgoing.can_begin(connection.quota))
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
        self.group_queues.push(key, publication.message());
        let (messages, bytes) = (self.limits.max_group_queue, self.limits.max_queued_bytes);
        while self.group_queues.is_over(key, messages, bytes) {
            self.group_queues.pop(key);
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
                return self.group_queues.remove(key);
            };
            let Some(shard) = group.choose_shard() else { return };
            let Some(message) = self.group_queues.pop(key) else {
                return self.group_queues.remove(key);
            };
            if message.is_expired(now) {
                self.counters.dropped_expired += 1;
            } else if shard == self.shard {
                self.deliver_to_member(now, key, &message.publication(), 1);
            } else {
                self.send_shared(shard, key, message, 0, false);
            }
        }
    }

    /// Deliveries that a member cannot finish go to others of its group.
    pub(super) fn give_back(&mut self, now: Time, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            let key = delivery.group.expect("only a group's deliveries are given back");
            let publication = delivery.message.publication();
            let Some(group) = self.router.groups().get(key) else { continue };
            match group.choose_shard() {
                Some(shard) if shard == self.shard => self.deliver_to_member(now, key, &publication, 0),
                Some(shard) => self.send_shared(shard, key, delivery.message, 0, false),
                None => self.queue_for_group(now, key, &publication),
            }
        }
    }

    /// A member went away: what it was not sent yet goes to others. What is in flight waits for its return.
    pub(super) fn give_back_queued(&mut self, now: Time, session: u32) {
        if let Some(outgoing) = &mut self.sessions[session as usize].outgoing {
            let queued = outgoing.take_shared_queue();
            self.give_back(now, queued);
        }
    }
}
