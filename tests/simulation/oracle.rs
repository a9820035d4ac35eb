//! What the clients did and saw, and what they must have seen. Times are ticks of the oracle's own clock, which
//! orders what all clients observed; nothing here looks into the broker.
use ringmq::topic::{matches, parse_shared};
use std::collections::BTreeMap;

/// A tick of the oracle's clock.
pub type Tick = u64;

/// What the publisher knows of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It waits for the acknowledgement.
    Open,
    /// The broker has it.
    Taken,
    /// Nobody will ever know.
    Unknown,
}

/// A published message; its number is its payload's beginning.
#[derive(Debug)]
pub struct Message {
    /// Topic name.
    pub topic: String,
    /// QoS it was published with.
    pub qos: u8,
    /// RETAIN as published.
    pub retain: bool,
    /// Number of the client.
    pub client: usize,
    /// The session that published it.
    pub session: usize,
    /// First sent.
    pub sent: Tick,
    /// How often it was sent.
    pub sends: u32,
    /// Acknowledged or not.
    pub outcome: Outcome,
    /// It may be lost: it expires, or some clients take no packet of its size.
    pub is_exempt: bool,
}

/// One subscription of a session.
#[derive(Debug)]
struct Subscription {
    filter: String,
    /// The share name of a shared subscription.
    share: Option<String>,
    qos: u8,
    no_local: bool,
    id: Option<u32>,
    sent: Tick,
    acknowledged: Option<Tick>,
    given_up: Option<Tick>,
    ended: Option<Tick>,
}

impl Subscription {
    /// Whether a message sent from `sent` on may come by this subscription at `now`.
    fn may_bring(&self, message: &Message, client: usize) -> bool {
        let is_over = self.ended.is_some_and(|ended| ended < message.sent);
        !is_over && matches(&self.filter, &message.topic) && !(self.no_local && message.client == client)
    }
    /// Whether it was there throughout.
    fn must_bring(&self, message: &Message, client: usize) -> bool {
        self.acknowledged.is_some_and(|since| since < message.sent)
            && self.given_up.is_none()
            && self.qos > 0
            && self.may_bring(message, client)
    }
}

/// How a message came to a session.
#[derive(Default, Debug)]
struct Receipt {
    fresh: u32,
    snapshots: u32,
    /// Repetitions.
    repeated: u32,
    /// Times the application got it at QoS 2.
    exactly: u32,
}

/// A session as its client knows it.
#[derive(Debug)]
pub struct Session {
    /// Number of the client.
    pub client: usize,
    /// It ended, or may have; what was promised to it does not count any more.
    pub void: Option<Tick>,
    subscriptions: Vec<Subscription>,
    receipts: BTreeMap<usize, Receipt>,
    /// The newest message of a publishing session, topic, published and delivered QoS.
    newest: BTreeMap<(usize, String, u8, u8), usize>,
    /// The newest retained publish by topic.
    retained: BTreeMap<String, usize>,
}

/// A PUBLISH as a client saw it.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// Number of the message.
    pub message: usize,
    /// Topic name, aliases resolved.
    pub topic: &'a str,
    /// QoS of the delivery.
    pub qos: u8,
    /// DUP.
    pub dup: bool,
    /// RETAIN.
    pub retain: bool,
    /// QoS 2: the client has this packet id already, so that its application does not get it again.
    pub is_known: bool,
    /// Subscription identifiers.
    pub ids: Vec<u32>,
}

/// Topics with retained messages, each published by one client at QoS 2.
pub const RETAINED: &str = "r/";
/// Topics for which there are shared subscriptions only.
pub const SHARED: &str = "s/";

/// In place of the session of a message that the broker publishes for a client: a will.
pub const NO_SESSION: usize = usize::MAX;

/// Everything that happened.
#[derive(Default)]
pub struct Oracle {
    clock: Tick,
    /// By number.
    pub messages: Vec<Message>,
    /// By number.
    pub sessions: Vec<Session>,
    /// Receipts that were checked to be there.
    pub kept_promises: u64,
    /// Promises that were not kept, where messages may be dropped; elsewhere there must be none.
    pub missing: Option<u64>,
    /// The broker's memory may be short, or an answer from that time may be under way: then it may refuse.
    pub is_memory_short: bool,
    checked_messages: usize,
}

impl Oracle {
    /// Nothing happened yet. `may_drop`: what is missing is counted, where else it would be a failure.
    pub fn new(may_drop: bool) -> Oracle {
        Oracle { missing: may_drop.then_some(0), ..Oracle::default() }
    }

    /// A new tick.
    pub fn tick(&mut self) -> Tick {
        self.clock += 1;
        self.clock
    }

    /// A session begins.
    pub fn begin_session(&mut self, client: usize) -> usize {
        self.sessions.push(Session {
            client,
            void: None,
            subscriptions: Vec::new(),
            receipts: BTreeMap::new(),
            newest: BTreeMap::new(),
            retained: BTreeMap::new(),
        });
        self.sessions.len() - 1
    }

    /// A session ends, or may end from now on.
    pub fn void_session(&mut self, session: usize) {
        let now = self.tick();
        self.sessions[session].void.get_or_insert(now);
    }

    /// A message is sent for the first time.
    pub fn publish(&mut self, client: usize, session: usize, topic: &str, qos: u8, retain: bool) -> usize {
        let sent = self.tick();
        let (topic, outcome) = (topic.to_owned(), Outcome::Open);
        let message =
            Message { topic, qos, retain, client, session, sent, sends: 1, outcome, is_exempt: false };
        self.messages.push(message);
        self.messages.len() - 1
    }

    /// SUBSCRIBE is sent. Returns the number of what it asks for, within the session.
    pub fn subscribe(
        &mut self,
        session: usize,
        filter: &str,
        qos: u8,
        no_local: bool,
        id: Option<u32>,
    ) -> usize {
        let sent = self.tick();
        let shared = parse_shared(filter, 100).expect("a valid filter");
        let share = shared.as_ref().map(|shared| shared.share.to_owned());
        let filter = shared.as_ref().map_or(filter, |shared| shared.filter).to_owned();
        let (acknowledged, given_up, ended) = (None, None, None);
        let subscriptions = &mut self.sessions[session].subscriptions;
        subscriptions.push(Subscription {
            filter,
            share,
            qos,
            no_local,
            id,
            sent,
            acknowledged,
            given_up,
            ended,
        });
        subscriptions.len() - 1
    }

    /// SUBACK came, and refuses what had this number.
    pub fn refuse_subscribe(&mut self, session: usize, number: usize) {
        let now = self.tick();
        let (before, rest) = self.sessions[session].subscriptions.split_at_mut(number);
        let refused = &mut rest[0];
        let is_known = |s: &Subscription| {
            s.filter == refused.filter
                && s.share == refused.share
                && s.acknowledged.is_some()
                && s.given_up.is_none()
        };
        assert!(!before.iter().any(is_known), "what was subscribed to already is refused: {refused:?}");
        (refused.given_up, refused.ended) = (Some(now), Some(now));
    }

    /// SUBACK came.
    pub fn acknowledge_subscribe(&mut self, session: usize, filter: &str) {
        let now = self.tick();
        for subscription in self.of_filter(session, filter).filter(|s| s.acknowledged.is_none()) {
            subscription.acknowledged = Some(now);
        }
    }

    /// UNSUBSCRIBE is sent.
    pub fn unsubscribe(&mut self, session: usize, filter: &str) {
        let now = self.tick();
        self.of_filter(session, filter).for_each(|s| s.given_up = s.given_up.or(Some(now)));
    }

    /// UNSUBACK came.
    pub fn acknowledge_unsubscribe(&mut self, session: usize, filter: &str) {
        let now = self.tick();
        for subscription in self.of_filter(session, filter).filter(|s| s.given_up.is_some()) {
            subscription.ended = subscription.ended.or(Some(now));
        }
    }

    fn of_filter(&mut self, session: usize, filter: &str) -> impl Iterator<Item = &mut Subscription> {
        let (share, filter) = match parse_shared(filter, 100).expect("a valid filter") {
            Some(shared) => (Some(shared.share.to_owned()), shared.filter.to_owned()),
            None => (None, filter.to_owned()),
        };
        let subscriptions = self.sessions[session].subscriptions.iter_mut();
        subscriptions.filter(move |s| s.filter == filter && s.share == share)
    }

    /// A PUBLISH came.
    pub fn receive(&mut self, session_number: usize, arrival: &Arrival<'_>) {
        let now = self.tick();
        let Arrival { message: number, qos, dup, .. } = *arrival;
        let message = self.messages.get(number).expect("the payload names a message");
        let session = &mut self.sessions[session_number];
        assert_eq!(arrival.topic, message.topic, "the topic of message {number} changed");
        let may = || {
            let all = session.subscriptions.iter();
            all.filter(|s| s.sent <= now && s.may_bring(message, session.client))
        };
        let granted = may().map(|s| s.qos).max();
        let Some(granted) = granted else {
            // Its client id published this before the session began, so No Local may not know it as its own.
            let is_own = message.client == session.client && message.session != session_number;
            assert!(
                is_own,
                "{arrival:?} came to session {session_number} without a subscription: {message:?}"
            );
            return;
        };
        assert!(qos <= granted.min(message.qos), "{arrival:?} has a higher QoS than granted ({granted})");
        for id in &arrival.ids {
            assert!(may().any(|s| s.id == Some(*id)), "{arrival:?} has the identifier of no subscription");
        }
        let receipt = session.receipts.entry(number).or_default();
        let is_first = receipt.fresh + receipt.snapshots + receipt.repeated == 0;
        let is_retained = message.topic.starts_with(RETAINED);
        let is_shared = message.topic.starts_with(SHARED);
        if !arrival.is_known {
            receipt.exactly += u32::from(qos == 2);
        }
        *match (dup, arrival.retain) {
            (true, _) => &mut receipt.repeated,
            (false, true) => &mut receipt.snapshots,
            (false, false) => &mut receipt.fresh,
        } += 1;
        assert!(is_retained || !arrival.retain, "{arrival:?} was not retained");
        let subscribes = session.subscriptions.iter().filter(|s| matches(&s.filter, &message.topic)).count();
        if message.qos == 2 && !is_shared {
            let most = if is_retained { subscribes.max(1) as u32 } else { 1 };
            let times = receipt.fresh + receipt.snapshots;
            assert!(times <= most, "{arrival:?} came {times} times to session {session_number}");
            assert!(receipt.exactly <= most, "{arrival:?} came more than once to session {session_number}");
        } else if !is_shared {
            assert!(receipt.fresh <= message.sends, "{arrival:?} came {receipt:?}, sent {}", message.sends);
        }
        if is_retained {
            let newest = session.retained.entry(message.topic.clone()).or_insert(number);
            let is_repeated = dup && number < *newest && !is_first;
            assert!(
                number >= *newest || is_repeated,
                "{arrival:?} came to session {session_number} after {newest}"
            );
            *newest = number.max(*newest);
        } else if is_first && !is_shared && message.session != NO_SESSION {
            let key = (message.session, message.topic.clone(), message.qos, qos);
            let newest = session.newest.entry(key).or_insert(number);
            // At QoS 1 a publisher's repetition of what came through before is a message of its own.
            let is_repeated = message.qos == 1 && message.sends > 1;
            assert!(
                number >= *newest || is_repeated,
                "{arrival:?} came to session {session_number} after {newest}"
            );
            *newest = number.max(*newest);
        }
    }

    /// Everybody is connected who will be, and nothing is under way: whatever was promised must have come.
    pub fn check_quiet(&mut self) {
        for number in self.checked_messages..self.messages.len() {
            let message = &self.messages[number];
            if message.outcome != Outcome::Taken || message.is_exempt || message.qos == 0 {
                continue;
            }
            if message.topic.starts_with(SHARED) {
                self.check_groups(number);
                continue;
            }
            if message.topic.starts_with(RETAINED) {
                continue;
            }
            for (session_number, session) in self.sessions.iter().enumerate() {
                let is_owed = session.void.is_none()
                    && session.subscriptions.iter().any(|s| s.must_bring(message, session.client));
                if is_owed && session.receipts.contains_key(&number) {
                    self.kept_promises += 1;
                } else if is_owed {
                    let subscriptions = &session.subscriptions;
                    miss(&mut self.missing, || {
                        format!(
                            "message {number} did not come to session {session_number}: {message:?} {subscriptions:?}"
                        )
                    });
                }
            }
        }
        self.checked_messages = self.messages.len();
        if self.missing.is_none() {
            self.check_retained();
        }
    }

    /// Each group with a member that stayed got the message; exactly one member did if all stayed.
    fn check_groups(&mut self, number: usize) {
        let message = &self.messages[number];
        let of_groups = self.sessions.iter().flat_map(|session| &session.subscriptions);
        let mut groups: Vec<(&str, &str)> = of_groups
            .filter(|s| matches(&s.filter, &message.topic))
            .filter_map(|s| s.share.as_deref().map(|share| (share, &*s.filter)))
            .collect();
        groups.sort_unstable();
        groups.dedup();
        for (share, filter) in groups {
            let members: Vec<(&Session, Vec<&Subscription>)> = self
                .sessions
                .iter()
                .map(|session| {
                    let own = session.subscriptions.iter();
                    let own = own.filter(|s| s.share.as_deref() == Some(share) && s.filter == filter);
                    (session, own.collect())
                })
                .filter(|(_, own): &(_, Vec<_>)| !own.is_empty())
                .collect();
            let stayed = members.iter().any(|(session, own)| {
                session.void.is_none() && own.iter().any(|s| s.must_bring(message, usize::MAX))
            });
            let somebody_left = members.iter().any(|(session, own)| {
                session.void.is_some_and(|void| void > message.sent)
                    || own.iter().any(|s| s.given_up.is_some_and(|given_up| given_up > message.sent))
            });
            let times = members.iter().filter(|(s, _)| s.receipts.contains_key(&number)).count();
            // What QoS 2 member sessions had in flight ends with them.
            if stayed && (message.qos == 1 || !somebody_left) {
                if times > 0 {
                    self.kept_promises += 1;
                } else {
                    let what = || format!("message {number} came to nobody of {share}: {message:?}");
                    miss(&mut self.missing, what);
                }
            }
            if message.sends == 1 && !somebody_left {
                assert!(times <= 1, "message {number} came to {times} members of {share}: {message:?}");
            }
        }
    }

    /// Who is subscribed to retained topics has the newest value of each.
    fn check_retained(&mut self) {
        let mut newest: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (number, message) in self.messages.iter().enumerate().filter(|(_, m)| m.retain) {
            let values = newest.entry(&message.topic).or_default();
            match message.outcome {
                Outcome::Taken => *values = vec![number],
                Outcome::Open | Outcome::Unknown => values.push(number),
            }
        }
        for (topic, values) in newest {
            if self.messages[values[0]].outcome != Outcome::Taken {
                continue;
            }
            for (session_number, session) in self.sessions.iter().enumerate() {
                let must = |s: &Subscription| {
                    s.acknowledged.is_some() && s.given_up.is_none() && matches(&s.filter, topic)
                };
                if session.void.is_some() || !session.subscriptions.iter().any(must) {
                    continue;
                }
                let last = session.retained.get(topic);
                assert!(
                    last.is_some_and(|last| values.contains(last)),
                    "session {session_number} has {last:?} of {topic}, not {values:?}"
                );
                self.kept_promises += 1;
            }
        }
    }
}

fn miss(missing: &mut Option<u64>, what: impl FnOnce() -> String) {
    match missing {
        Some(missing) => {
            crate::trace(what);
            *missing += 1;
        }
        None => panic!("{}", what()),
    }
}
