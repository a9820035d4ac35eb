//! A client of the simulation: keeps the rules of its version, says what it sees to the oracle, and checks what
//! concerns one connection alone.
use crate::broker::Broker;
use crate::link::{Asked, Belief, Filter, Link, Outgoing, Wish};
use crate::oracle::{Arrival, NO_SESSION, Oracle, Outcome};
use crate::payload::{brief, is_intact, number_of, payload};
use crate::rng::Rng;
use ringmq::codec::{
    Ack, ConnAck, Connect, ConnectProperties, Cut, Disconnect, FilterList, MAX_PACKET, MessageProperties,
    Packet, PacketType, Publish, QoS, ReasonCode, Subscribe, SubscribeOptions, SubscriptionIds, Unsubscribe,
    UnsubscribeList, Version, Will, cut, decode,
};
use ringmq::shard::core::CloseCause;
use ringmq::time::Time;
use std::collections::{BTreeMap, VecDeque};

/// A client and the state of its session.
pub struct Client {
    /// Number of the client.
    pub index: usize,
    /// Client id.
    pub id: String,
    version: Version,
    belief: Belief,
    /// The session at the oracle.
    pub session: Option<usize>,
    link: Option<Link>,
    outgoing: VecDeque<Outgoing>,
    last_id: u16,
    stored: BTreeMap<u16, usize>,
    /// Pipes the client has turned its back on without closing them.
    abandoned: Vec<usize>,
    /// A CONNECT whose answer never came may still be on its way through the broker and take the session over.
    has_rival: bool,
}

/// Packet ids in use: few, so that they are used again soon.
const IDS: u16 = 40;

impl Client {
    /// A client that never connected.
    pub fn new(index: usize, version: Version) -> Client {
        Client {
            index,
            id: format!("client-{index}"),
            version,
            belief: Belief::Absent,
            session: None,
            link: None,
            outgoing: VecDeque::new(),
            last_id: 0,
            stored: BTreeMap::new(),
            abandoned: Vec::new(),
            has_rival: false,
        }
    }

    /// Whether it has a connection that CONNACK came on.
    pub fn is_up(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_up)
    }
    /// Whether it has a connection.
    pub fn is_linked(&self) -> bool {
        self.link.is_some()
    }
    /// Whether it may have a session at the broker.
    pub fn may_have_session(&self) -> bool {
        self.belief != Belief::Absent
    }
    /// Whether it speaks version 5.
    pub fn is_v5(&self) -> bool {
        self.version.is_v5()
    }
    /// Whether something is there to read, or acknowledgements are due.
    pub fn can_act(&self, broker: &Broker) -> bool {
        self.link.as_ref().is_some_and(|link| {
            broker.readable(link.pipe) > 0 || broker.is_at_end(link.pipe) || !link.due.is_empty()
        })
    }

    fn send(&self, broker: &mut Broker, packet: &Packet<'_>) {
        let link = self.link.as_ref().expect("a client without connection sends nothing");
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        crate::trace(|| format!("{} on {} sends {}", self.id, link.pipe, brief(packet)));
        broker.write(link.pipe, &bytes);
    }

    /// CONNECT on a new connection. One that is there is left open and not looked at any more.
    pub fn connect(
        &mut self,
        broker: &mut Broker,
        oracle: &mut Oracle,
        mut wish: Wish,
        place: (usize, usize),
    ) {
        if let Some(old) = self.link.take() {
            broker.abandon(old.pipe);
            self.abandoned.push(old.pipe);
            self.lose(broker, oracle, &old);
        }
        // MQTT 3.1 does not say whether there was a session.
        wish.clean |= self.belief == Belief::Unknown || self.version == Version::V31;
        if !self.version.is_v5() {
            wish.expiry = if wish.clean { 0 } else { broker.limits.max_session_expiry };
            (wish.receive_maximum, wish.max_packet, wish.aliases) = (u16::MAX, None, 0);
        }
        if wish.clean {
            self.forget(oracle);
        }
        let pipe = broker.connect(place.0, place.1);
        let will_payload;
        let will = match wish.will {
            Some((topic, delay)) => {
                let number = oracle.publish(self.index, NO_SESSION, topic, 2, false);
                will_payload = payload(number, 12);
                let properties = MessageProperties::default();
                let delay = if self.version.is_v5() { delay } else { 0 };
                let (qos, retain, payload) = (QoS::ExactlyOnce, false, &*will_payload);
                Some(Will { qos, retain, topic, payload, delay, properties })
            }
            None => None,
        };
        self.link = Some(Link::new(pipe, wish.clone()));
        let properties = ConnectProperties {
            session_expiry: wish.expiry,
            receive_maximum: wish.receive_maximum,
            maximum_packet_size: wish.max_packet,
            topic_alias_maximum: wish.aliases,
            ..ConnectProperties::default()
        };
        let id = self.id.clone();
        let connect = Connect {
            version: self.version,
            clean_start: wish.clean,
            keep_alive: 0,
            client_id: &id,
            will,
            username: None,
            password: None,
            properties,
        };
        self.send(broker, &Packet::Connect(connect));
    }

    /// The session's state is given up.
    fn forget(&mut self, oracle: &mut Oracle) {
        if let Some(session) = self.session.take() {
            oracle.void_session(session);
        }
        for gone in self.outgoing.drain(..) {
            if oracle.messages[gone.message].outcome == Outcome::Open {
                oracle.messages[gone.message].outcome = Outcome::Unknown;
            }
        }
        self.stored.clear();
    }

    /// What the end of a connection means for the session, which may have expired since the broker closed it.
    fn lose(&mut self, broker: &Broker, oracle: &mut Oracle, link: &Link) {
        self.part(broker.closed_at(link.pipe).unwrap_or(broker.now), oracle, link);
        self.notice_time(broker.now, oracle);
    }

    fn part(&mut self, now: Time, oracle: &mut Oracle, link: &Link) {
        if self.has_rival {
            self.belief = Belief::Unknown;
            return self.forget(oracle);
        }
        if link.is_up {
            if link.expiry == 0 {
                self.belief = Belief::Absent;
                self.forget(oracle);
            } else {
                self.belief = Belief::Present(now.plus_secs(link.expiry));
            }
            return;
        }
        // CONNECT was sent, and nobody knows whether it was received.
        let wish = &link.wish;
        self.has_rival = true;
        self.belief = match self.belief {
            Belief::Present(until) if !wish.clean && wish.expiry > 0 => {
                Belief::Present(until.min(now.plus_secs(wish.expiry)))
            }
            _ => {
                self.forget(oracle);
                Belief::Unknown
            }
        };
    }

    /// The network cuts the connection; of what the client wrote last, `kept` bytes get through.
    pub fn cut(&mut self, broker: &mut Broker, oracle: &mut Oracle, kept: usize, cause: CloseCause) {
        if let Some(link) = self.link.take() {
            crate::trace(|| format!("{} on {} is cut", self.id, link.pipe));
            broker.cut(link.pipe, kept, cause);
            self.lose(broker, oracle, &link);
        }
    }

    /// The network cuts what the client has turned its back on.
    pub fn cut_abandoned(&mut self, broker: &mut Broker) {
        for pipe in self.abandoned.drain(..) {
            broker.cut(pipe, usize::MAX, CloseCause::Error);
        }
    }

    /// Nothing is under way in the broker any more.
    pub fn notice_rest(&mut self) {
        self.has_rival = false;
    }

    /// Whether the session may have expired by now; if so it is given up.
    pub fn notice_time(&mut self, now: Time, oracle: &mut Oracle) {
        if self.link.is_none()
            && let Belief::Present(until) = self.belief
            && until <= now
        {
            self.belief = Belief::Unknown;
            self.forget(oracle);
        }
    }

    /// DISCONNECT; the client closes its end when the broker has read it.
    pub fn disconnect(&mut self, broker: &mut Broker, oracle: &mut Oracle, reason: ReasonCode) {
        self.send(broker, &Packet::Disconnect(Disconnect::new(reason)));
        let link = self.link.take().expect("it was used just now");
        broker.abandon(link.pipe);
        self.abandoned.push(link.pipe);
        self.lose(broker, oracle, &link);
    }

    /// An id that is free.
    fn new_id(&mut self) -> Option<u16> {
        let asked = &self.link.as_ref()?.asked;
        for _ in 0..IDS {
            self.last_id = self.last_id % IDS + 1;
            let id = self.last_id;
            if !asked.contains_key(&id) && self.outgoing.iter().all(|out| out.id != id) {
                return Some(id);
            }
        }
        None
    }

    /// PUBLISH, if a packet id is free and the broker takes more. Returns the number of the message.
    #[allow(clippy::too_many_arguments)]
    pub fn publish(
        &mut self,
        broker: &mut Broker,
        oracle: &mut Oracle,
        topic: &str,
        qos: QoS,
        retain: bool,
        size: usize,
        expiry: Option<u32>,
        rng: &mut Rng,
    ) -> Option<usize> {
        let session = self.session.expect("connected");
        let mut packet_id = 0;
        if qos > QoS::AtMostOnce {
            let most = self.link.as_ref().expect("connected").receive_maximum;
            let has_room = self.outgoing.len() < usize::from(most);
            packet_id = self.new_id().filter(|_| has_room)?;
        }
        let link = self.link.as_mut().expect("connected");
        let mut alias = None;
        let mut name = topic;
        if link.alias_maximum > 0 && rng.chance(50) {
            match link.own_aliases.get(topic) {
                Some(known) => (alias, name) = (Some(*known), if rng.chance(80) { "" } else { topic }),
                None => {
                    let number = rng.below(usize::from(link.alias_maximum)) as u16 + 1;
                    link.own_aliases.retain(|_, used| *used != number);
                    link.own_aliases.insert(topic.to_owned(), number);
                    alias = Some(number);
                }
            }
        }
        let message = oracle.publish(self.index, session, topic, qos as u8, retain);
        let payload = payload(message, size);
        let properties = MessageProperties { message_expiry: expiry, ..MessageProperties::default() };
        let publish = Publish {
            dup: false,
            qos,
            retain,
            topic: name,
            packet_id,
            topic_alias: alias,
            subscription_ids: SubscriptionIds::default(),
            properties,
            payload: &payload,
        };
        self.send(broker, &Packet::Publish(publish));
        if qos > QoS::AtMostOnce {
            self.outgoing.push_back(Outgoing { id: packet_id, message, is_released: false, size });
        }
        Some(message)
    }

    /// SUBSCRIBE.
    pub fn subscribe(&mut self, broker: &mut Broker, oracle: &mut Oracle, filters: &[Filter]) {
        let Some(packet_id) = self.new_id() else { return };
        let session = self.session.expect("connected");
        let is_v5 = self.version.is_v5();
        let mut list = FilterList::new();
        let mut asked = Vec::new();
        for filter in filters {
            let options =
                SubscribeOptions { no_local: filter.no_local && is_v5, ..SubscribeOptions::new(filter.qos) };
            list.push(filter.filter, options);
            let id = filter.id.filter(|_| is_v5);
            let number = oracle.subscribe(session, filter.filter, filter.qos as u8, options.no_local, id);
            asked.push((filter.filter, number));
        }
        let id = filters[0].id;
        self.send(broker, &Packet::Subscribe(Subscribe::new(packet_id, id, &list)));
        self.link.as_mut().expect("connected").asked.insert(packet_id, Asked::Subscribe(asked));
    }

    /// UNSUBSCRIBE.
    pub fn unsubscribe(&mut self, broker: &mut Broker, oracle: &mut Oracle, filter: &'static str) {
        let Some(packet_id) = self.new_id() else { return };
        oracle.unsubscribe(self.session.expect("connected"), filter);
        let mut list = UnsubscribeList::new();
        list.push(filter);
        self.send(broker, &Packet::Unsubscribe(Unsubscribe::new(packet_id, &list)));
        self.link.as_mut().expect("connected").asked.insert(packet_id, Asked::Unsubscribe(filter));
    }

    /// Reads some of what came, or sends an acknowledgement that is due.
    pub fn act(&mut self, broker: &mut Broker, oracle: &mut Oracle, rng: &mut Rng) {
        let link = self.link.as_mut().expect("only a connected client acts");
        if !link.due.is_empty() && (broker.readable(link.pipe) == 0 || rng.chance(40)) {
            let (bytes, finished) = link.due.pop_front().expect("just seen");
            if let Some(id) = finished {
                link.inflight.remove(&id);
            }
            return broker.write(link.pipe, &bytes);
        }
        if broker.is_at_end(link.pipe) {
            // Before version 5 nobody is told.
            let must_go = oracle.is_memory_short && link.is_up && (link.must_go || !self.version.is_v5());
            assert!(self.has_rival || must_go, "the connection of {} is closed for no reason", self.id);
            let link = self.link.take().expect("just seen");
            return self.lose(broker, oracle, &link);
        }
        let bytes = broker.read(link.pipe, rng.pick(&[1, 3, 50, usize::MAX]));
        link.bytes.extend_from_slice(&bytes);
        loop {
            let Some(link) = self.link.as_mut() else { return };
            let mut bytes = std::mem::take(&mut link.bytes);
            let used = match cut(&bytes, MAX_PACKET).expect("the broker sends MQTT") {
                Cut::Frame(frame) => {
                    let size = frame.bytes.len();
                    let packet = decode(frame, self.version).expect("the broker sends MQTT");
                    let most = link.wish.max_packet.unwrap_or(u32::MAX) as usize;
                    assert!(size <= most, "{} takes {most} bytes, not {size}: {packet:?}", self.id);
                    crate::trace(|| format!("{} on {} gets {}", self.id, link.pipe, brief(&packet)));
                    self.handle(broker, oracle, &packet);
                    size
                }
                Cut::Short { .. } => 0,
            };
            bytes.drain(..used);
            if let Some(link) = self.link.as_mut() {
                link.bytes = bytes;
            }
            if used == 0 {
                return;
            }
        }
    }

    fn handle(&mut self, broker: &mut Broker, oracle: &mut Oracle, packet: &Packet<'_>) {
        let link = self.link.as_mut().expect("packets come on a connection");
        if let Packet::ConnAck(connack) = packet {
            assert!(!link.is_up, "a second CONNACK");
            return self.handle_connack(broker, oracle, connack);
        }
        assert!(link.is_up, "{packet:?} before CONNACK");
        match packet {
            Packet::Publish(publish) => self.handle_publish(oracle, publish),
            Packet::PubAck(ack) => self.handle_ack(broker, oracle, ack, QoS::AtLeastOnce),
            Packet::PubRec(ack) => self.handle_ack(broker, oracle, ack, QoS::ExactlyOnce),
            Packet::PubComp(ack) => {
                // After a reconnect the PUBCOMP that got lost may have finished it.
                assert!(ack.reason == ReasonCode::Success || link.was_present, "{} gets {ack:?}", self.id);
                let at = self.outgoing.iter().position(|out| out.id == ack.packet_id && out.is_released);
                self.outgoing.remove(at.expect("PUBCOMP for what was released"));
            }
            Packet::PubRel(ack) => {
                self.stored.remove(&ack.packet_id);
                let mut bytes = Vec::new();
                Ack::new(ack.packet_id).encode(PacketType::PubComp, self.version, &mut bytes);
                link.due.push_back((bytes, Some(ack.packet_id)));
            }
            Packet::SubAck(suback) => match link.asked.remove(&suback.packet_id) {
                Some(Asked::Subscribe(filters)) => {
                    assert_eq!(suback.reasons.len(), filters.len());
                    let session = self.session.expect("connected");
                    let refusal = if self.version.is_v5() { ReasonCode::QuotaExceeded.code() } else { 0x80 };
                    for ((filter, number), code) in filters.into_iter().zip(suback.reasons) {
                        if *code < 0x80 {
                            oracle.acknowledge_subscribe(session, filter);
                        } else {
                            assert!(oracle.is_memory_short && *code == refusal, "{suback:?}");
                            oracle.refuse_subscribe(session, number);
                        }
                    }
                }
                _ => panic!("{suback:?} was not asked for"),
            },
            Packet::UnsubAck(unsuback) => match link.asked.remove(&unsuback.packet_id) {
                Some(Asked::Unsubscribe(filter)) => {
                    oracle.acknowledge_unsubscribe(self.session.expect("connected"), filter);
                }
                _ => panic!("{unsuback:?} was not asked for"),
            },
            Packet::Disconnect(disconnect) => {
                let reason = disconnect.reason;
                let is_short = matches!(reason, ReasonCode::QuotaExceeded | ReasonCode::PacketTooLarge);
                link.must_go = is_short && oracle.is_memory_short;
                let is_taken_over = reason == ReasonCode::SessionTakenOver && self.has_rival;
                assert!(is_taken_over || link.must_go, "{} gets {disconnect:?}", self.id);
            }
            other => panic!("{} gets {other:?}", self.id),
        }
    }

    fn handle_connack(&mut self, broker: &mut Broker, oracle: &mut Oracle, connack: &ConnAck<'_>) {
        let link = self.link.as_mut().expect("connected");
        if connack.reason.is_error() {
            return self.turn_away(broker, oracle, connack);
        }
        let expected = match self.belief {
            _ if link.wish.clean => Some(false),
            Belief::Absent => Some(false),
            Belief::Present(until) if broker.now < until => Some(true),
            Belief::Present(_) | Belief::Unknown => None,
        };
        let present = connack.session_present;
        assert!(
            expected.is_none_or(|expected| expected == present),
            "session present {present} for {}: {:?} {:?}",
            self.id,
            self.belief,
            link.wish
        );
        link.is_up = true;
        link.was_present = present;
        link.expiry = connack.properties.session_expiry.unwrap_or(link.wish.expiry);
        link.alias_maximum = connack.properties.topic_alias_maximum.unwrap_or(0);
        link.receive_maximum = connack.properties.receive_maximum.unwrap_or(u16::MAX);
        self.belief = Belief::Present(Time::NEVER);
        if !present {
            self.forget(oracle);
        }
        if self.session.is_none() {
            self.session = Some(oracle.begin_session(self.index));
        }
        self.repeat(broker, oracle);
    }

    /// CONNACK refuses: while memory is short, whoever has no session.
    fn turn_away(&mut self, broker: &mut Broker, oracle: &mut Oracle, connack: &ConnAck<'_>) {
        let refusal =
            if self.version.is_v5() { ReasonCode::QuotaExceeded } else { ReasonCode::ServerUnavailable };
        assert!(oracle.is_memory_short && connack.reason == refusal, "{} gets {connack:?}", self.id);
        let has_session = matches!(self.belief, Belief::Present(until) if broker.now < until);
        assert!(!has_session, "{} is refused though it has a session", self.id);
        let link = self.link.take().expect("connected");
        broker.abandon(link.pipe);
        self.abandoned.push(link.pipe);
        self.belief = if self.has_rival { Belief::Unknown } else { Belief::Absent };
        self.forget(oracle);
    }

    /// What the resumed session has to send again.
    fn repeat(&mut self, broker: &mut Broker, oracle: &mut Oracle) {
        for at in 0..self.outgoing.len() {
            let Outgoing { id, message, is_released, size } = self.outgoing[at];
            if is_released {
                self.send(broker, &Packet::PubRel(Ack::new(id)));
                continue;
            }
            let sent = &mut oracle.messages[message];
            sent.sends += 1;
            let payload = payload(message, size);
            let publish = Publish {
                dup: true,
                qos: QoS::from_bits(sent.qos).expect("a QoS"),
                retain: sent.retain,
                topic: &sent.topic,
                packet_id: id,
                topic_alias: None,
                subscription_ids: SubscriptionIds::default(),
                properties: MessageProperties::default(),
                payload: &payload,
            };
            self.send(broker, &Packet::Publish(publish));
        }
    }

    /// PUBACK or PUBREC.
    fn handle_ack(&mut self, broker: &mut Broker, oracle: &mut Oracle, ack: &Ack<'_>, qos: QoS) {
        let may_be_refused = oracle.missing.is_some() || (oracle.is_memory_short && self.version.is_v5());
        let is_refused = ack.reason == ReasonCode::QuotaExceeded && may_be_refused;
        assert!(is_refused || !ack.reason.is_error(), "{} gets {ack:?}", self.id);
        let at = self.outgoing.iter().position(|out| out.id == ack.packet_id);
        let at = at.unwrap_or_else(|| panic!("{} gets {ack:?} for nothing", self.id));
        let message = &mut oracle.messages[self.outgoing[at].message];
        assert_eq!(message.qos, qos as u8, "the wrong acknowledgement");
        if is_refused {
            message.outcome = Outcome::Unknown;
            self.outgoing.remove(at);
            return;
        }
        message.outcome = Outcome::Taken;
        if qos == QoS::AtLeastOnce {
            self.outgoing.remove(at);
        } else {
            self.outgoing[at].is_released = true;
            self.send(broker, &Packet::PubRel(Ack::new(ack.packet_id)));
        }
    }

    fn handle_publish(&mut self, oracle: &mut Oracle, publish: &Publish<'_>) {
        let link = self.link.as_mut().expect("connected");
        let mut topic = publish.topic.to_owned();
        if let Some(alias) = publish.topic_alias {
            assert!(alias <= link.wish.aliases, "alias {alias} is above {}", link.wish.aliases);
            if topic.is_empty() {
                topic = link.aliases.get(&alias).expect("an alias that was set").clone();
            } else {
                link.aliases.insert(alias, topic.clone());
            }
        }
        let number = number_of(publish.payload);
        assert!(is_intact(publish.payload), "the payload of message {number} changed");
        let id = publish.packet_id;
        let mut is_known = false;
        if publish.qos > QoS::AtMostOnce {
            assert!(!link.inflight.contains_key(&id), "packet id {id} is in flight already");
            assert!(link.was_present || !publish.dup, "DUP on a new session: {publish:?}");
            assert!(!publish.dup || !link.saw_fresh, "repetitions come first: {publish:?}");
            link.saw_fresh |= !publish.dup;
            link.inflight.insert(id, publish.qos);
            let most = usize::from(link.wish.receive_maximum);
            assert!(link.inflight.len() <= most, "receive maximum {most} is exceeded");
            let mut bytes = Vec::new();
            if publish.qos == QoS::ExactlyOnce {
                if let Some(known) = self.stored.insert(id, number) {
                    assert_eq!(known, number, "packet id {id} is used again before PUBREL");
                    assert!(publish.dup, "a repetition without DUP");
                    is_known = true;
                }
                Ack::new(id).encode(PacketType::PubRec, self.version, &mut bytes);
                link.due.push_back((bytes, None));
            } else {
                Ack::new(id).encode(PacketType::PubAck, self.version, &mut bytes);
                link.due.push_back((bytes, Some(id)));
            }
        }
        let arrival = Arrival {
            message: number,
            topic: &topic,
            qos: publish.qos as u8,
            dup: publish.dup,
            retain: publish.retain,
            is_known,
            ids: publish.subscription_ids.into_iter().collect(),
        };
        oracle.receive(self.session.expect("connected"), &arrival);
    }

    /// The pipe of the connection.
    pub fn pipe(&self) -> Option<usize> {
        self.link.as_ref().map(|link| link.pipe)
    }

    /// Nothing is unfinished in either direction.
    pub fn is_idle(&self) -> bool {
        self.outgoing.is_empty()
            && self.link.as_ref().is_none_or(|link| {
                link.is_up && link.due.is_empty() && link.asked.is_empty() && link.inflight.is_empty()
            })
    }

    /// What is unfinished, for people.
    pub fn unfinished(&self) -> String {
        let outgoing: Vec<(u16, bool)> = self.outgoing.iter().map(|out| (out.id, out.is_released)).collect();
        let link =
            self.link.as_ref().map(|link| (link.is_up, link.due.len(), link.asked.len(), &link.inflight));
        format!("{} outgoing {outgoing:?} link {link:?}", self.id)
    }
}
