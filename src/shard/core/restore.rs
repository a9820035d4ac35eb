//! The beginning of a shard that was there before.
use super::Core;
use super::durable::Store;
use crate::router::{Member, Subscriber};
use crate::session::message::SessionKey;
use crate::session::subscriptions::Subscription;
use crate::session::{NEVER_EXPIRES, Session};
use crate::store::record::{Flight, SessionRecord, Wall};
use crate::store::recovered::{RecoveredEntry, RecoveredSession, RecoveredTail, Share};
use crate::time::Time;
use crate::topic::parse_shared;
use std::rc::Rc;

impl Core {
    /// From now on what must survive is stored; the core begins with its share of what was. For a new core, before
    /// anything else. `wall` is the wall clock at [`Time`] 0.
    pub fn restore(&mut self, now: Time, wall: Wall, share: Share) {
        assert!(self.sessions.is_empty() && self.store.is_none(), "a core is restored when it is new");
        let Share { sessions, homes, retained, group_messages, interest, run, .. } = share;
        self.sessions_made = u64::from(run) << 32;
        let store = Store::new(self.shard, wall, share.last_message, share.last_group_position);
        for (from, change) in &interest {
            self.router.apply(*from, change);
        }
        if self.shards > 1 {
            homes.into_iter().for_each(|(client, home)| self.registrar.restore(client, home));
        }
        let mut gone = Vec::new();
        for message in retained {
            if message.is_expired(now) {
                gone.push(message);
            } else {
                self.keep_retained(self.shard, 0, message);
            }
        }
        let mut changed = Vec::new();
        for session in sessions {
            let was_connected = session.record.expires.is_none();
            let slot = self.restore_session(now, session);
            changed.extend(was_connected.then_some(slot));
        }
        let mut left = Vec::new();
        for waiting in group_messages {
            let key = self.keys.group(&waiting.group.share, &waiting.group.filter);
            if self.router.groups().get(key).is_some() {
                self.group_queues.push(key, waiting.message, waiting.position);
            } else {
                left.push(waiting.position);
            }
        }
        self.store = Some(Box::new(store));
        changed.into_iter().for_each(|slot| self.store_session(slot));
        gone.iter().for_each(|message| self.store_retained_gone(message.topic()));
        left.into_iter().for_each(|position| self.store_group_message_gone(position));
    }

    fn restore_session(&mut self, now: Time, recovered: RecoveredSession) -> u32 {
        let RecoveredSession { number, record, subscriptions, entries, tail, incoming, .. } = recovered;
        let SessionRecord { client_id, expiry_interval, expires, will_due, will, owner } = record;
        let mut session = Session::new(SessionKey(number), Rc::from(client_id));
        session.is_stored = true;
        session.owner = owner;
        // Those of its user: which listener its client came by is not stored.
        let user = session.owner().cloned().flatten();
        session.profile = self.profiles.number(None, user.as_deref());
        session.expiry_interval = expiry_interval;
        // A client that was connected lost its connection with the process.
        session.expires = expires.unwrap_or(if expiry_interval == NEVER_EXPIRES {
            Time::NEVER
        } else {
            now.plus_secs(expiry_interval)
        });
        if let Some(will) = &will {
            session.will_due = if expires.is_some() { will_due } else { now.plus_secs(will.delay) };
        }
        session.will = will;
        for packet_id in incoming {
            session.incoming().insert(packet_id);
        }
        let hash = self.keys.hash(&session.client_id);
        let slot = self.sessions.insert(session) as u32;
        let (keys, sessions) = (&self.keys, &self.sessions);
        self.directory.insert_unique(hash, slot, |slot| keys.hash(&sessions[*slot as usize].client_id));
        self.counters.sessions += 1;
        for (filter, subscription) in subscriptions {
            self.restore_subscription(slot, &filter, subscription);
        }
        if let Some(RecoveredTail { messages, bytes, from, last }) = tail {
            self.sessions[slot as usize].outgoing().restore_tail(messages, bytes, from, last);
        }
        for entry in entries {
            self.restore_entry(slot, entry);
        }
        self.arm_session(slot);
        slot
    }

    fn restore_subscription(&mut self, slot: u32, filter: &str, subscription: Subscription) {
        self.sessions[slot as usize].subscriptions.insert(filter, subscription);
        let subscriber = Subscriber::new(slot, subscription.id, subscription.options);
        if let Ok(Some(shared)) = parse_shared(filter, usize::MAX) {
            self.counters.shared_subscriptions += 1;
            self.router.join(shared.share, shared.filter, Member { subscriber, connected: false });
        } else {
            self.counters.subscriptions += 1;
            // The other shards know it already.
            self.router.subscribe(filter, subscriber, true, 0);
        }
    }

    fn restore_entry(&mut self, slot: u32, entry: RecoveredEntry) {
        let RecoveredEntry { position, flight, delivery, group } = entry;
        let group = group.map(|group| self.keys.group(&group.share, &group.filter));
        let delivery = delivery.map(|delivery| crate::session::outgoing::Delivery { group, ..delivery });
        let outgoing = self.sessions[slot as usize].outgoing();
        match (flight, delivery) {
            (Some(Flight::Sent(packet_id) | Flight::Released(packet_id)), delivery) => {
                let delivery = delivery.filter(|_| matches!(flight, Some(Flight::Sent(_))));
                outgoing.restore_sent(packet_id, position, delivery);
            }
            (None, Some(delivery)) => outgoing.restore_queued(delivery),
            (None, None) => {}
        }
    }
}
