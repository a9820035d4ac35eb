//! What a start finds: from records to the state each shard begins with.
use super::record::{self, Body, Corrupt, EntryRecord, Flight, GroupName, SessionRecord, Wall};
use super::{Space, key};
use crate::router::{InterestChange, Keys};
use crate::session::message::Message;
use crate::session::outgoing::Delivery;
use crate::session::subscriptions::Subscription;
use crate::topic::parse_shared;
use std::collections::BTreeMap;

/// In the number of a shared payload: the count of the shard in its upper byte.
const MESSAGE_COUNT: u64 = (1 << 56) - 1;

/// A session as it is given to its shard.
#[derive(Debug)]
pub struct RecoveredSession {
    /// Its number.
    pub number: u64,
    /// Its own record.
    pub record: SessionRecord,
    /// Its subscriptions.
    pub subscriptions: Vec<(Box<str>, Subscription)>,
    /// Messages towards its client, in order.
    pub entries: Vec<RecoveredEntry>,
    /// QoS 2 packet ids of its client that are not released, ascending.
    pub incoming: Vec<u16>,
}

/// A message towards a client.
#[derive(Debug)]
pub struct RecoveredEntry {
    /// Its place in the session's order.
    pub position: u64,
    /// How far it has come; `None` if it was not sent.
    pub flight: Option<Flight>,
    /// What is delivered; `None` once PUBREC came. Its group is named beside it.
    pub delivery: Option<Delivery>,
    /// The group it came through.
    pub group: Option<GroupName>,
}

/// A message that waits for a member of a group.
#[derive(Debug)]
pub struct RecoveredGroupMessage {
    /// Its place.
    pub position: u64,
    /// Its group.
    pub group: GroupName,
    /// The message.
    pub message: Message,
}

/// What all shards together begin with.
#[derive(Debug, Default)]
pub struct Recovered {
    /// By session number.
    pub sessions: BTreeMap<u64, RecoveredSession>,
    /// Retained messages.
    pub retained: Vec<Message>,
    /// Messages waiting in groups, in order.
    pub group_messages: Vec<RecoveredGroupMessage>,
    /// How many entries hold each shared payload.
    pub holders: BTreeMap<u64, u32>,
    messages: BTreeMap<u64, Message>,
    /// The highest count in a number of a shared payload.
    pub last_message: u64,
    /// The highest place in a queue of a group.
    pub last_group_position: u64,
    /// Records that refer to nothing, to be removed: what a crash left between two rounds never is one of these, but
    /// what was set aside leaves some.
    pub orphans: Vec<(Space, super::Key)>,
}

impl Recovered {
    /// Takes one record in; they come in the order of [`Space::ALL`]. A record that cannot be understood changes
    /// nothing.
    pub fn apply(&mut self, wall: Wall, space: Space, key: &[u8], value: &[u8]) -> Result<(), Corrupt> {
        const KEY: Corrupt = Corrupt::Field("key");
        let number = || key::leading_number(key).ok_or(KEY);
        match space {
            Space::Meta => {}
            Space::Session => {
                let (number, record) = (number()?, record::decode_session(wall, value)?);
                let (subscriptions, entries, incoming) = (Vec::new(), Vec::new(), Vec::new());
                let session = RecoveredSession { number, record, subscriptions, entries, incoming };
                self.sessions.insert(number, session);
            }
            Space::Subscription => {
                let subscription = record::decode_subscription(value)?;
                self.session(number()?)?.subscriptions.push(subscription);
            }
            Space::Message => {
                let number = number()?;
                self.messages.insert(number, record::decode_message(wall, value)?);
                self.last_message = self.last_message.max(number & MESSAGE_COUNT);
            }
            Space::Queue => self.apply_entry(wall, key, value)?,
            Space::Flight => self.apply_flight(key, record::decode_flight(value)?)?,
            Space::Incoming => {
                record::decode_mark(value)?;
                let packet_id = key::packet_id(key).ok_or(KEY)?;
                self.session(number()?)?.incoming.push(packet_id);
            }
            Space::Retained => self.retained.push(record::decode_message(wall, value)?),
            Space::Group => {
                let position = number()?;
                let (group, message) = record::decode_group(wall, value)?;
                self.last_group_position = self.last_group_position.max(position);
                self.group_messages.push(RecoveredGroupMessage { position, group, message });
            }
        }
        Ok(())
    }

    fn session(&mut self, number: u64) -> Result<&mut RecoveredSession, Corrupt> {
        self.sessions.get_mut(&number).ok_or(Corrupt::Missing("session"))
    }

    fn apply_entry(&mut self, wall: Wall, key: &[u8], value: &[u8]) -> Result<(), Corrupt> {
        let position = key::position(key).ok_or(Corrupt::Field("key"))?;
        let number = key::leading_number(key).ok_or(Corrupt::Field("key"))?;
        let EntryRecord { qos, retain, packet_id, ids, group, body } = record::decode_entry(wall, value)?;
        let (message, stored_as) = match body {
            Body::Inline(message) => (message, 0),
            Body::Shared(shared) => {
                let message = self.messages.get(&shared).ok_or(Corrupt::Missing("message"))?;
                (message.clone(), shared)
            }
        };
        let session = self.session(number)?;
        let delivery = Delivery { message, qos, retain, ids, group: None, position, stored_as };
        let flight = (packet_id > 0).then_some(Flight::Sent(packet_id));
        session.entries.push(RecoveredEntry { position, flight, delivery: Some(delivery), group });
        if stored_as > 0 {
            *self.holders.entry(stored_as).or_default() += 1;
        }
        Ok(())
    }

    fn apply_flight(&mut self, key: &[u8], flight: Flight) -> Result<(), Corrupt> {
        let position = key::position(key).ok_or(Corrupt::Field("key"))?;
        let number = key::leading_number(key).ok_or(Corrupt::Field("key"))?;
        let entries = &mut self.session(number)?.entries;
        match (entries.binary_search_by_key(&position, |entry| entry.position), flight) {
            (Ok(at), _) => entries[at].flight = Some(flight),
            (Err(at), Flight::Released(_)) => {
                let released = RecoveredEntry { position, flight: Some(flight), delivery: None, group: None };
                entries.insert(at, released);
            }
            (Err(_), Flight::Sent(_)) => return Err(Corrupt::Missing("message")),
        }
        Ok(())
    }

    /// After the last record: finds payloads that nobody holds, and keeps the newest of several sessions of one
    /// client id (which a salvaged store can have). Returns the numbers of the sessions that were left out.
    pub fn finish(&mut self) -> Vec<u64> {
        let messages = std::mem::take(&mut self.messages);
        let unheld = messages.keys().filter(|number| !self.holders.contains_key(*number));
        self.orphans.extend(unheld.map(|number| (Space::Message, key::number(*number))));
        let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
        for session in self.sessions.values() {
            newest.insert(&session.record.client_id, session.number);
        }
        let is_newest = |session: &RecoveredSession| newest[&*session.record.client_id] == session.number;
        let superseded: Vec<u64> = self
            .sessions
            .values()
            .filter(|session| !is_newest(session))
            .map(|session| session.number)
            .collect();
        superseded.iter().for_each(|number| drop(self.sessions.remove(number)));
        superseded
    }

    /// Queue entries of all sessions.
    pub fn entries(&self) -> usize {
        self.sessions.values().map(|session| session.entries.len()).sum()
    }
}

/// What one shard begins with.
#[derive(Debug, Default)]
pub struct Share {
    /// Sessions that live here.
    pub sessions: Vec<RecoveredSession>,
    /// Client ids whose registrar is here, by fingerprint, and the shard each one's session is on.
    pub homes: Vec<(u128, u8)>,
    /// Retained messages whose owner is here.
    pub retained: Vec<Message>,
    /// Messages of groups whose queue is here.
    pub group_messages: Vec<RecoveredGroupMessage>,
    /// What the other shards are interested in.
    pub interest: Vec<(u8, InterestChange)>,
    /// Tells the sessions made from now on from all that were ever made.
    pub run: u32,
    /// Numbers from here on are free, see [`Recovered`].
    pub last_message: u64,
    /// Places from here on are free.
    pub last_group_position: u64,
}

/// Gives each of `shards` its share.
pub fn distribute(recovered: Recovered, run: u32, keys: &Keys, shards: u8) -> Vec<Share> {
    let mut shares: Vec<Share> = (0..shards)
        .map(|_| Share {
            run,
            last_message: recovered.last_message,
            last_group_position: recovered.last_group_position,
            ..Share::default()
        })
        .collect();
    // By shard: filters, and members of groups, that its sessions are subscribed to.
    let mut filters: Vec<BTreeMap<Box<str>, ()>> = vec![BTreeMap::new(); usize::from(shards)];
    let mut groups: Vec<BTreeMap<GroupName, u32>> = vec![BTreeMap::new(); usize::from(shards)];
    for (count, session) in recovered.sessions.into_values().enumerate() {
        let home = count % usize::from(shards);
        for (filter, _) in &session.subscriptions {
            match parse_shared(filter, usize::MAX) {
                Ok(Some(shared)) => {
                    let (share, filter) = (shared.share.into(), shared.filter.into());
                    *groups[home].entry(GroupName { share, filter }).or_default() += 1;
                }
                _ => drop(filters[home].insert(filter.clone(), ())),
            }
        }
        let client_id = &session.record.client_id;
        let registrar = keys.shard_of(client_id, shards);
        shares[usize::from(registrar)].homes.push((keys.fingerprint(client_id), home as u8));
        shares[home].sessions.push(session);
    }
    for message in recovered.retained {
        let owner = keys.shard_of(message.topic(), shards);
        shares[usize::from(owner)].retained.push(message);
    }
    for waiting in recovered.group_messages {
        let group = keys.group(&waiting.group.share, &waiting.group.filter);
        let owner = group.0 % u128::from(shards);
        shares[owner as usize].group_messages.push(waiting);
    }
    for from in 0..shards {
        let mut changes: Vec<InterestChange> =
            filters[usize::from(from)].keys().cloned().map(InterestChange::Add).collect();
        changes.extend(groups[usize::from(from)].iter().map(|(group, members)| InterestChange::Group {
            share: group.share.clone(),
            filter: group.filter.clone(),
            connected: 0,
            members: *members,
        }));
        for (to, share) in shares.iter_mut().enumerate().filter(|(to, _)| *to != usize::from(from)) {
            debug_assert!(to < usize::from(shards));
            share.interest.extend(changes.iter().map(|change| (from, change.clone())));
        }
    }
    shares
}
