//! What a broker does when one thing happens after the other: the plainest program that follows the standard, for
//! comparison. It has no shards, and each operation is finished before the next begins.
use ringmq::topic::{matches, parse_shared};
use std::collections::BTreeMap;

/// A PUBLISH as a client gets it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Got {
    /// Topic name.
    pub topic: String,
    /// The payload.
    pub text: String,
    /// QoS.
    pub qos: u8,
    /// RETAIN.
    pub retain: bool,
    /// Subscription identifiers in ascending order; none before version 5.
    pub ids: Vec<u32>,
    /// Message Expiry Interval, seconds; none before version 5.
    pub expiry: Option<u64>,
}

/// A message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Topic name.
    pub topic: String,
    /// The payload.
    pub text: String,
    /// QoS.
    pub qos: u8,
    /// RETAIN.
    pub retain: bool,
    /// Message Expiry Interval, seconds.
    pub expiry: Option<u64>,
    /// Number of the publishing session.
    pub publisher: u64,
}

/// A subscription's options.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Maximum QoS.
    pub qos: u8,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling.
    pub retain_handling: u8,
    /// Subscription Identifier.
    pub id: Option<u32>,
}

/// What a client asks for in CONNECT.
#[derive(Clone, Debug)]
pub struct Wish {
    /// It speaks version 5.
    pub is_v5: bool,
    /// Clean Start.
    pub clean: bool,
    /// Session Expiry Interval, seconds, as the broker grants it.
    pub expiry: u64,
    /// Maximum Packet Size; enough for short payloads, too little for long ones.
    pub is_small: bool,
    /// The will, and its delay in seconds.
    pub will: Option<(Message, u64)>,
}

/// What one member of a group must get.
#[derive(Debug)]
pub struct GroupDelivery {
    /// The members it may be, and what they would get.
    pub members: Vec<(usize, Got)>,
    /// A member that does not take it may have been chosen: then it is lost.
    pub can_be_lost: bool,
}

/// A payload is long from here on, bytes.
pub const LONG: usize = 200;

/// A delivery that waits for its client.
struct Queued {
    message: Message,
    expires: Option<u64>,
    qos: u8,
    retain: bool,
    ids: Vec<u32>,
}

struct Session {
    number: u64,
    subscriptions: BTreeMap<String, Options>,
    is_connected: bool,
    is_v5: bool,
    is_small: bool,
    expiry: u64,
    expires: Option<u64>,
    will: Option<(Message, u64)>,
    will_due: Option<u64>,
    queue: Vec<Queued>,
}

/// The whole broker; clients are numbers, times are seconds.
#[derive(Default)]
pub struct Model {
    /// Now.
    pub now: u64,
    sessions: BTreeMap<usize, Session>,
    sessions_made: u64,
    retained: BTreeMap<String, (Message, Option<u64>)>,
    /// Messages of groups without a connected member, by `$share/…` filter.
    group_queues: BTreeMap<String, Vec<(Message, Option<u64>)>>,
    /// What each client must get.
    pub expected: BTreeMap<usize, Vec<Got>>,
    /// What exactly one of several clients must get.
    pub shared: Vec<GroupDelivery>,
}

impl Model {
    /// The client's session, if it has one: whether it is connected.
    pub fn is_connected(&self, client: usize) -> bool {
        self.sessions.get(&client).is_some_and(|session| session.is_connected)
    }
    /// Whether the client has a shared subscription.
    pub fn is_member(&self, client: usize) -> bool {
        let mut filters = self.sessions.get(&client).into_iter().flat_map(|s| s.subscriptions.keys());
        filters.any(|filter| filter.starts_with("$share/"))
    }
    /// Number of the client's session.
    pub fn session(&self, client: usize) -> u64 {
        self.sessions[&client].number
    }
    /// Session Expiry Interval of the client's session, seconds.
    pub fn expiry(&self, client: usize) -> u64 {
        self.sessions[&client].expiry
    }
    /// Sessions, and those that are connected.
    pub fn counts(&self) -> (u64, u64) {
        let connected = self.sessions.values().filter(|session| session.is_connected).count();
        (self.sessions.len() as u64, connected as u64)
    }
    /// Subscriptions, without and with a group.
    pub fn subscriptions(&self) -> (u64, u64) {
        let all = || self.sessions.values().flat_map(|session| session.subscriptions.keys());
        let shared = all().filter(|filter| filter.starts_with("$share/")).count();
        ((all().count() - shared) as u64, shared as u64)
    }
    /// Retained messages.
    pub fn retained(&self) -> u64 {
        self.retained.len() as u64
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<u64> {
        let dues = self.sessions.values().flat_map(|session| [session.expires, session.will_due]);
        dues.chain(self.retained.values().map(|(_, expires)| *expires)).flatten().min()
    }

    /// Whether something else is due at the same time.
    pub fn is_due_at(&self, time: u64) -> bool {
        self.sessions.values().any(|session| session.expires == Some(time) || session.will_due == Some(time))
    }

    /// Time goes on to the next thing that is due.
    pub fn set_time(&mut self, now: u64) {
        self.now = now;
        self.retained.retain(|_, (_, expires)| expires.is_none_or(|expires| expires > now));
        let clients: Vec<usize> = self.sessions.keys().copied().collect();
        for client in clients {
            let session = self.sessions.get_mut(&client).expect("just seen");
            if session.expires.is_some_and(|expires| expires <= now) {
                self.end(client);
            } else if session.will_due.is_some_and(|due| due <= now) {
                session.will_due = None;
                let will = session.will.take();
                self.publish_will(will);
            }
        }
    }

    fn publish_will(&mut self, will: Option<(Message, u64)>) {
        if let Some((message, _)) = will {
            self.publish(message);
        }
    }

    fn end(&mut self, client: usize) {
        if let Some(session) = self.sessions.remove(&client) {
            let sessions = &self.sessions;
            let has_member = |group: &str| sessions.values().any(|s| s.subscriptions.contains_key(group));
            self.group_queues.retain(|group, _| has_member(group));
            self.publish_will(session.will);
        }
    }

    /// CONNECT; returns Session Present.
    pub fn connect(&mut self, client: usize, wish: Wish) -> bool {
        let mut released = None;
        if let Some(session) = self.sessions.get_mut(&client) {
            if wish.clean || (session.is_connected && session.expiry == 0) {
                self.end(client);
            } else {
                let is_taken_over = session.is_connected;
                // A delayed will is not published if the session goes on in time.
                released = session.will.take().filter(|(_, delay)| is_taken_over && *delay == 0);
            }
        }
        let is_present = self.sessions.contains_key(&client);
        if !is_present {
            self.sessions_made += 1;
        }
        let number = self.sessions_made;
        let session = self.sessions.entry(client).or_insert_with(|| Session {
            number,
            subscriptions: BTreeMap::new(),
            is_connected: false,
            is_v5: false,
            is_small: false,
            expiry: 0,
            expires: None,
            will: None,
            will_due: None,
            queue: Vec::new(),
        });
        session.is_connected = true;
        (session.is_v5, session.is_small, session.expiry) = (wish.is_v5, wish.is_small, wish.expiry);
        (session.expires, session.will_due) = (None, None);
        let number = session.number;
        session.will = wish.will.map(|(message, delay)| (Message { publisher: number, ..message }, delay));
        let queue = std::mem::take(&mut session.queue);
        for Queued { message, expires, qos, retain, ids } in queue {
            self.deliver(client, &message, expires, qos, retain, ids);
        }
        self.publish_will(released);
        self.unload_groups(client);
        is_present
    }

    /// What its groups have queued comes to the member that connected or joined.
    fn unload_groups(&mut self, client: usize) {
        let groups: Vec<String> = self.group_queues.keys().cloned().collect();
        for group in groups {
            let Some(options) = self.sessions[&client].subscriptions.get(&group).copied() else { continue };
            for (message, expires) in self.group_queues.remove(&group).unwrap_or_default() {
                let ids = options.id.into_iter().collect();
                let qos = message.qos.min(options.qos);
                let retain = message.retain && options.retain_as_published;
                self.deliver(client, &message, expires, qos, retain, ids);
            }
        }
    }

    /// The connection is gone; `expiry` as DISCONNECT changes it, `has_will` unless DISCONNECT cancels the will.
    pub fn disconnect(&mut self, client: usize, expiry: Option<u64>, has_will: bool) {
        let now = self.now;
        let session = self.sessions.get_mut(&client).expect("connected");
        session.is_connected = false;
        session.expiry = expiry.unwrap_or(session.expiry);
        if !has_will {
            session.will = None;
        }
        if session.expiry == 0 {
            return self.end(client);
        }
        session.expires = Some(now + session.expiry);
        session.will_due = session.will.as_ref().map(|(_, delay)| now + delay);
        if session.will_due == Some(now) {
            session.will_due = None;
            let will = session.will.take();
            self.publish_will(will);
        }
    }

    /// PUBLISH; whether somebody is subscribed.
    pub fn publish(&mut self, message: Message) -> bool {
        let expires = message.expiry.map(|expiry| self.now + expiry);
        if message.retain {
            if message.text.is_empty() {
                self.retained.remove(&message.topic);
            } else if expires != Some(self.now) {
                self.retained.insert(message.topic.clone(), (message.clone(), expires));
            } else {
                self.retained.remove(&message.topic);
            }
        }
        let mut is_matched = false;
        let mut groups: BTreeMap<String, Vec<(usize, Options)>> = BTreeMap::new();
        let clients: Vec<usize> = self.sessions.keys().copied().collect();
        for client in clients {
            let session = &self.sessions[&client];
            let mut of_session = Vec::new();
            for (filter, options) in &session.subscriptions {
                match parse_shared(filter, 100).expect("a valid filter") {
                    Some(shared) if matches(shared.filter, &message.topic) => {
                        groups.entry(filter.clone()).or_default().push((client, *options));
                    }
                    None if matches(filter, &message.topic) => of_session.push(*options),
                    _ => {}
                }
            }
            is_matched |= !of_session.is_empty();
            of_session.retain(|options| !options.no_local || message.publisher != session.number);
            let Some(granted) = of_session.iter().map(|options| options.qos).max() else { continue };
            let retain = message.retain && of_session.iter().any(|options| options.retain_as_published);
            let ids = of_session.iter().filter_map(|options| options.id).collect();
            self.deliver(client, &message, expires, granted.min(message.qos), retain, ids);
        }
        is_matched |= !groups.is_empty();
        for (group, mut members) in groups {
            members.retain(|(client, _)| self.sessions[client].is_connected);
            if members.is_empty() {
                if message.qos > 0 {
                    self.group_queues.entry(group).or_default().push((message.clone(), expires));
                }
                continue;
            }
            let alternatives = members.into_iter().map(|(client, options)| {
                let retain = message.retain && options.retain_as_published;
                let (qos, ids) = (options.qos.min(message.qos), options.id.into_iter().collect());
                self.got(client, &message, expires, qos, retain, ids).map(|got| (client, got))
            });
            let alternatives: Vec<Option<(usize, Got)>> = alternatives.collect();
            let can_be_lost = alternatives.iter().any(Option::is_none);
            let members = alternatives.into_iter().flatten().collect();
            self.shared.push(GroupDelivery { members, can_be_lost });
        }
        is_matched
    }

    fn deliver(
        &mut self,
        client: usize,
        message: &Message,
        expires: Option<u64>,
        qos: u8,
        retain: bool,
        ids: Vec<u32>,
    ) {
        if self.sessions[&client].is_connected {
            if let Some(got) = self.got(client, message, expires, qos, retain, ids) {
                self.expected.entry(client).or_default().push(got);
            }
        } else if qos > 0 {
            let queue = &mut self.sessions.get_mut(&client).expect("just seen").queue;
            queue.push(Queued { message: message.clone(), expires, qos, retain, ids });
        }
    }

    /// What a connected client gets of a delivery, if it does.
    fn got(
        &self,
        client: usize,
        message: &Message,
        expires: Option<u64>,
        qos: u8,
        retain: bool,
        mut ids: Vec<u32>,
    ) -> Option<Got> {
        let session = &self.sessions[&client];
        if expires.is_some_and(|expires| expires <= self.now)
            || (session.is_small && message.text.len() >= LONG)
        {
            return None;
        }
        ids.sort_unstable();
        ids.dedup();
        let (topic, text) = (message.topic.clone(), message.text.clone());
        let expiry = expires.map(|expires| expires - self.now).filter(|_| session.is_v5);
        Some(Got { topic, text, qos, retain, ids: if session.is_v5 { ids } else { Vec::new() }, expiry })
    }

    /// SUBSCRIBE to one filter.
    pub fn subscribe(&mut self, client: usize, filter: &str, options: Options) {
        let session = self.sessions.get_mut(&client).expect("connected");
        let is_new = session.subscriptions.insert(filter.to_owned(), options).is_none();
        if filter.starts_with("$share/") {
            return self.unload_groups(client);
        }
        if options.retain_handling == 2 || (options.retain_handling == 1 && !is_new) {
            return;
        }
        let found: Vec<(Message, Option<u64>)> = self
            .retained
            .iter()
            .filter(|(topic, _)| matches(filter, topic))
            .map(|(_, kept)| kept.clone())
            .collect();
        for (message, expires) in found {
            let ids = options.id.into_iter().collect();
            self.deliver(client, &message, expires, options.qos.min(message.qos), true, ids);
        }
    }

    /// UNSUBSCRIBE; whether there was such a subscription.
    pub fn unsubscribe(&mut self, client: usize, filter: &str) -> bool {
        let session = self.sessions.get_mut(&client).expect("connected");
        let existed = session.subscriptions.remove(filter).is_some();
        let sessions = &self.sessions;
        self.group_queues.retain(|group, _| sessions.values().any(|s| s.subscriptions.contains_key(group)));
        existed
    }
}
