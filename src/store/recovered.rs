//! What a start finds: from records to the state each shard begins with. Of each queue only so much is kept as is in
//! memory while the broker runs; the rest is counted.
use super::record::{self, Body, Corrupt, EntryRecord, Flight, GroupName, SessionRecord, Wall};
use super::{Space, key};
use crate::router::{InterestChange, Keys};
use crate::session::message::Message;
use crate::session::outgoing::Delivery;
use crate::session::subscriptions::Subscription;
use crate::session::tail::Window;
use crate::topic::parse_shared;
use std::collections::{BTreeMap, BTreeSet};

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
    /// Messages towards its client, in order, but for those of `tail`.
    pub entries: Vec<RecoveredEntry>,
    /// What of its queue is on the disk only.
    pub tail: Option<RecoveredTail>,
    /// QoS 2 packet ids of its client that are not released, ascending.
    pub incoming: Vec<u16>,
    /// Messages at the head of its queue that are kept, and their bytes.
    head: (usize, usize),
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

impl RecoveredSession {
    /// Messages towards its client.
    pub fn messages(&self) -> usize {
        self.entries.len() + self.tail.as_ref().map_or(0, |tail| tail.messages)
    }
}

/// What of a queue is on the disk only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecoveredTail {
    /// How many messages.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// The place of the first.
    pub from: u64,
    /// The place of the last.
    pub last: u64,
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

/// Looks up the record of a shared payload.
pub type Payloads<'a> = &'a mut dyn FnMut(u64) -> Option<Vec<u8>>;

/// What all shards together begin with.
#[derive(Debug)]
pub struct Recovered {
    /// How much of each queue is kept.
    window: Window,
    /// By session number.
    pub sessions: BTreeMap<u64, RecoveredSession>,
    /// Retained messages.
    pub retained: Vec<Message>,
    /// Messages waiting in groups, in order.
    pub group_messages: Vec<RecoveredGroupMessage>,
    /// How many entries hold each shared payload.
    pub holders: BTreeMap<u64, u32>,
    /// Bytes of each shared payload.
    sizes: BTreeMap<u64, u32>,
    /// Those that are kept.
    messages: BTreeMap<u64, Message>,
    /// How far messages have come that were not read yet, by session and place.
    flights: BTreeMap<(u64, u64), Flight>,
    /// Sessions that have ended and whose messages are to be removed.
    pub ended: BTreeSet<u64>,
    /// The highest count in a number of a shared payload.
    pub last_message: u64,
    /// The highest place in a queue of a group.
    pub last_group_position: u64,
    /// Records that refer to nothing, to be removed: what a crash left between two rounds never is one of these, but
    /// what was set aside leaves some.
    pub orphans: Vec<(Space, super::Key)>,
}

impl Recovered {
    /// Nothing yet. Of each queue as much is kept as `window` has room for.
    pub fn new(window: Window) -> Recovered {
        Recovered {
            window,
            sessions: BTreeMap::new(),
            retained: Vec::new(),
            group_messages: Vec::new(),
            holders: BTreeMap::new(),
            sizes: BTreeMap::new(),
            messages: BTreeMap::new(),
            flights: BTreeMap::new(),
            ended: BTreeSet::new(),
            last_message: 0,
            last_group_position: 0,
            orphans: Vec::new(),
        }
    }

    /// Takes one record in; they come in the order of [`Space::AS_READ`]. A record that cannot be understood changes
    /// nothing.
    pub fn apply(
        &mut self,
        wall: Wall,
        space: Space,
        key: &[u8],
        value: &[u8],
        payloads: Payloads<'_>,
    ) -> Result<(), Corrupt> {
        const KEY: Corrupt = Corrupt::Field("key");
        let number = || key::leading_number(key).ok_or(KEY);
        let position = || key::position(key).ok_or(KEY);
        match space {
            Space::Meta => self.ended.extend(key::ended_session(key)),
            Space::Session => {
                let (number, record) = (number()?, record::decode_session(wall, value)?);
                let (subscriptions, entries, incoming) = (Vec::new(), Vec::new(), Vec::new());
                let (tail, head) = (None, (0, 0));
                let session =
                    RecoveredSession { number, record, subscriptions, entries, tail, incoming, head };
                self.sessions.insert(number, session);
            }
            Space::Subscription => {
                let subscription = record::decode_subscription(value)?;
                self.session(number()?)?.subscriptions.push(subscription);
            }
            Space::Message => {
                let number = number()?;
                self.sizes.insert(number, record::decode_message(wall, value)?.size() as u32);
                self.last_message = self.last_message.max(number & MESSAGE_COUNT);
            }
            Space::Flight => {
                let flight = record::decode_flight(value)?;
                let number = self.session(number()?)?.number;
                self.flights.insert((number, position()?), flight);
            }
            Space::Queue => {
                let entry = record::decode_entry(wall, value)?;
                self.apply_entry(wall, (number()?, position()?), entry, payloads)?;
            }
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

    fn apply_entry(
        &mut self,
        wall: Wall,
        (number, position): (u64, u64),
        entry: EntryRecord,
        payloads: Payloads<'_>,
    ) -> Result<(), Corrupt> {
        let EntryRecord { qos, retain, packet_id, ids, group, body } = entry;
        if self.ended.contains(&number) {
            if let Body::Shared(shared) = body {
                *self.holders.entry(shared).or_default() += 1;
            }
            return Ok(());
        }
        let (size, stored_as) = match &body {
            Body::Inline(message) => (message.size(), 0),
            Body::Shared(shared) => {
                (*self.sizes.get(shared).ok_or(Corrupt::Missing("message"))? as usize, *shared)
            }
        };
        let window = self.window;
        let session = self.sessions.get_mut(&number).ok_or(Corrupt::Missing("session"))?;
        let flight = self.flights.remove(&(number, position));
        let flight = flight.or((packet_id > 0).then_some(Flight::Sent(packet_id)));
        let is_own = flight.is_none() && group.is_none();
        if is_own && (session.tail.is_some() || !window.has_room(session.head, size)) {
            let first = RecoveredTail { messages: 0, bytes: 0, from: position, last: position };
            let tail = session.tail.get_or_insert(first);
            tail.messages += 1;
            tail.bytes += size;
            tail.last = position;
        } else {
            let message = match body {
                Body::Inline(message) => message,
                Body::Shared(_) => match self.messages.get(&stored_as) {
                    Some(message) => message.clone(),
                    None => {
                        let value = payloads(stored_as).ok_or(Corrupt::Missing("message"))?;
                        let message = record::decode_message(wall, &value)?;
                        self.messages.insert(stored_as, message.clone());
                        message
                    }
                },
            };
            if flight.is_none() {
                session.head = (session.head.0 + 1, session.head.1 + size);
            }
            let delivery = Some(Delivery { message, qos, retain, ids, group: None, position, stored_as });
            session.entries.push(RecoveredEntry { position, flight, delivery, group });
        }
        if stored_as > 0 {
            *self.holders.entry(stored_as).or_default() += 1;
        }
        Ok(())
    }

    /// What is left of how far messages have come is about those of which there is nothing but the packet id.
    fn apply_released(&mut self) {
        for ((number, position), flight) in std::mem::take(&mut self.flights) {
            let session = self.sessions.get_mut(&number);
            match session.filter(|_| matches!(flight, Flight::Released(_))) {
                Some(session) => {
                    let at = session.entries.partition_point(|entry| entry.position < position);
                    let flight = Some(flight);
                    let released = RecoveredEntry { position, flight, delivery: None, group: None };
                    session.entries.insert(at, released);
                }
                None => self.orphans.push((Space::Flight, key::entry(number, position))),
            }
        }
    }

    /// After the last record: finds payloads that nobody holds, and keeps the newest of several sessions of one
    /// client id (which a salvaged store can have). Returns the numbers of the sessions that were left out.
    pub fn finish(&mut self) -> Vec<u64> {
        self.apply_released();
        self.messages.clear();
        let sizes = std::mem::take(&mut self.sizes);
        let unheld = sizes.keys().filter(|number| !self.holders.contains_key(*number));
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
        self.sessions.values().map(RecoveredSession::messages).sum()
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
