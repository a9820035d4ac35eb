//! The client: one connection, one thread.
use super::connection::{Connection, Wake};
use super::window::{Awaited, Window};
use super::{ClientError, Endpoint, Message, trace};
use crate::codec::{
    Ack, Connect, Cut, Disconnect, FilterList, MAX_PACKET, Packet, Publish, QoS, ReasonCode, Subscribe,
    Unsubscribe, UnsubscribeList, UserProperties, Version, cut, decode,
};
use std::collections::HashMap;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Time for the TCP connection and CONNACK together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for PINGRESP, and for anything to be sent when the output is full.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for the broker to close after DISCONNECT.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Unsent bytes at which [`Client::publish`] waits for the socket.
const OUTPUT_MARK: usize = 256 * 1024;
/// Largest payload, bytes: what fits into the largest packet with topic and properties.
pub(super) const MAX_PAYLOAD: usize = 252 * 1024 * 1024;

/// What [`Client::next`] ended with.
#[derive(Debug)]
pub enum Event {
    /// A message came. QoS 1 and 2 want [`Client::acknowledge`].
    Message(Message),
    /// A message of ours is through (QoS 1 and 2), or was refused if the reason is an error.
    Published {
        /// Its packet identifier.
        packet_id: u16,
        /// The last answer's reason code.
        reason: ReasonCode,
    },
    /// SUBACK came.
    Subscribed {
        /// Of which SUBSCRIBE.
        packet_id: u16,
        /// The codes, one for each filter.
        reasons: Vec<u8>,
    },
    /// UNSUBACK came.
    Unsubscribed {
        /// Of which UNSUBSCRIBE.
        packet_id: u16,
        /// The codes, one for each filter; none before MQTT 5.
        reasons: Vec<u8>,
    },
    /// The watched descriptor of that index can be read.
    Ready(usize),
    /// The deadline is over.
    Deadline,
}

/// What the broker said in CONNACK.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    /// It remembers the session.
    pub session_present: bool,
    /// Highest QoS it takes.
    pub maximum_qos: QoS,
    /// Whether it takes retained messages.
    pub retain_available: bool,
    /// Largest packet it takes, bytes.
    pub maximum_packet_size: u32,
    /// Highest topic alias it takes.
    pub topic_alias_maximum: u16,
}

/// A connection to a broker, after CONNACK.
pub struct Client {
    connection: Connection,
    version: Version,
    client_id: String,
    window: Window,
    granted: Granted,
    /// Largest packet we take, bytes.
    max_packet: u32,
    /// Topics of the broker's aliases; as many as we allowed.
    aliases: HashMap<u16, String>,
    max_alias: u16,
    keep_alive: Duration,
    last_sent: Instant,
    ping_sent: Option<Instant>,
    traced: bool,
}

impl Client {
    /// Connects and waits for CONNACK. `traced` prints a line for every packet. One of `watch` being readable ends the
    /// attempt with [`ClientError::Interrupted`].
    pub fn connect(
        endpoint: &Endpoint,
        connect: &Connect<'_>,
        traced: bool,
        watch: &[BorrowedFd<'_>],
    ) -> Result<Client, ClientError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let mut client = Client {
            connection: Connection::open(endpoint, deadline, watch)?,
            version: connect.version,
            client_id: connect.client_id.to_owned(),
            window: Window::new(u16::MAX),
            granted: Granted {
                session_present: false,
                maximum_qos: QoS::ExactlyOnce,
                retain_available: true,
                maximum_packet_size: MAX_PACKET,
                topic_alias_maximum: 0,
            },
            max_packet: connect.properties.maximum_packet_size.unwrap_or(MAX_PACKET),
            aliases: HashMap::new(),
            max_alias: connect.properties.topic_alias_maximum,
            keep_alive: Duration::from_secs(connect.keep_alive.into()),
            last_sent: Instant::now(),
            ping_sent: None,
            traced,
        };
        client.send(&Packet::Connect(*connect));
        client.await_connack(deadline, watch)?;
        Ok(client)
    }

    fn await_connack(&mut self, deadline: Instant, watch: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        let packet = loop {
            if let Some(packet) =
                self.connection.take_packet(self.max_packet).map_err(ClientError::Malformed)?
            {
                break packet;
            }
            match self.connection.wait(Some(deadline), watch)? {
                Wake::Moved => {}
                Wake::Watched(_) => return Err(ClientError::Interrupted),
                Wake::Deadline => return Err(ClientError::Silent),
            }
        };
        let packet = parse(&packet, self.version)?;
        self.trace_received(&packet);
        let Packet::ConnAck(connack) = packet else {
            return Err(ClientError::Protocol("its first packet is not CONNACK"));
        };
        let properties = connack.properties;
        if connack.reason.is_error() {
            let text = properties.reason_string.map(str::to_owned);
            return Err(ClientError::Refused { reason: connack.reason, version: self.version, text });
        }
        let granted = &mut self.granted;
        granted.session_present = connack.session_present;
        granted.maximum_qos = properties.maximum_qos.and_then(QoS::from_bits).unwrap_or(QoS::ExactlyOnce);
        granted.retain_available = properties.retain_available.unwrap_or(true);
        granted.maximum_packet_size = properties.maximum_packet_size.unwrap_or(MAX_PACKET);
        granted.topic_alias_maximum = properties.topic_alias_maximum.unwrap_or(0);
        self.window.limit(properties.receive_maximum.unwrap_or(u16::MAX));
        if let Some(seconds) = properties.server_keep_alive {
            self.keep_alive = Duration::from_secs(seconds.into());
        }
        if let Some(id) = properties.assigned_client_id {
            self.client_id = id.to_owned();
        }
        Ok(())
    }

    /// What the broker said in CONNACK.
    pub fn granted(&self) -> Granted {
        self.granted
    }

    /// Lets at most `count` QoS 1 and 2 messages be unfinished, if the broker does not want fewer.
    pub fn limit_in_flight(&mut self, count: u16) {
        self.window.limit(count);
    }

    /// Whether one more QoS 1 or 2 message may be published now.
    pub fn has_room(&self) -> bool {
        self.window.has_room()
    }

    /// Whether everything that was sent and has an answer was answered.
    pub fn is_settled(&self) -> bool {
        self.window.is_settled()
    }

    /// Publishes; the packet identifier in `publish` is replaced and returned (0 at QoS 0). Waits for the socket while
    /// much is unsent. QoS 1 and 2 only while there is [`Client::has_room`]; it panics otherwise.
    pub fn publish(&mut self, publish: &Publish<'_>) -> Result<u16, ClientError> {
        self.check(publish)?;
        let awaited = if publish.qos == QoS::AtLeastOnce { Awaited::PubAck } else { Awaited::PubRec };
        let packet_id = if publish.qos == QoS::AtMostOnce {
            0
        } else {
            assert!(self.has_room(), "more is published than the window takes");
            self.window.assign(awaited).expect("there is room")
        };
        let before = self.connection.output().len();
        self.send(&Packet::Publish(Publish { packet_id, ..*publish }));
        if self.connection.output().len() - before > self.granted.maximum_packet_size as usize {
            self.connection.output().truncate(before);
            self.window.finish(packet_id, awaited);
            return Err(TOO_LARGE);
        }
        self.drain(OUTPUT_MARK)?;
        Ok(packet_id)
    }

    /// Whether the broker takes the message (`[MQTT-3.2.2-11]`, `[MQTT-3.2.2-14]`, `[MQTT-3.2.2-15]`, `[MQTT-3.2.2-17]`).
    fn check(&self, publish: &Publish<'_>) -> Result<(), ClientError> {
        let granted = self.granted;
        let not_taken = |cause| Err(ClientError::NotTaken(cause));
        if publish.qos > granted.maximum_qos {
            return not_taken("its QoS is higher than the broker's Maximum QoS");
        }
        if publish.retain && !granted.retain_available {
            return not_taken("it keeps no retained messages");
        }
        if publish.topic_alias.is_some_and(|alias| alias > granted.topic_alias_maximum) {
            return not_taken("its topic alias is higher than the broker's Topic Alias Maximum");
        }
        if publish.payload.len() > MAX_PAYLOAD { Err(TOO_LARGE) } else { Ok(()) }
    }

    /// Sends SUBSCRIBE; its packet identifier.
    pub fn subscribe(
        &mut self,
        filters: &FilterList,
        subscription_id: Option<u32>,
        user_properties: UserProperties<'_>,
    ) -> Result<u16, ClientError> {
        let id = self.window.assign(Awaited::SubAck).ok_or(NO_IDENTIFIER)?;
        let mut subscribe = Subscribe::new(id, subscription_id, filters);
        subscribe.user_properties = user_properties;
        self.send(&Packet::Subscribe(subscribe));
        Ok(id)
    }

    /// Sends UNSUBSCRIBE; its packet identifier.
    pub fn unsubscribe(
        &mut self,
        filters: &UnsubscribeList,
        user_properties: UserProperties<'_>,
    ) -> Result<u16, ClientError> {
        let id = self.window.assign(Awaited::UnsubAck).ok_or(NO_IDENTIFIER)?;
        let mut unsubscribe = Unsubscribe::new(id, filters);
        unsubscribe.user_properties = user_properties;
        self.send(&Packet::Unsubscribe(unsubscribe));
        Ok(id)
    }

    /// Says that the message is dealt with: PUBACK or PUBREC. Nothing at QoS 0.
    pub fn acknowledge(&mut self, message: &Message) {
        match message.receipt() {
            (QoS::AtMostOnce, _) => {}
            (QoS::AtLeastOnce, id) => self.send(&Packet::PubAck(Ack::new(id))),
            (QoS::ExactlyOnce, id) => self.send(&Packet::PubRec(Ack::new(id))),
        }
    }

    /// Sends what is to be sent and waits for something to happen: a packet that matters, a descriptor of `watch` that
    /// can be read, or `until`. Keeps the connection alive meanwhile.
    pub fn next(&mut self, until: Option<Instant>, watch: &[BorrowedFd<'_>]) -> Result<Event, ClientError> {
        loop {
            while let Some(packet) = self.take_packet()? {
                match self.handle(packet) {
                    Ok(None) => {}
                    Ok(Some(event)) => return Ok(event),
                    Err(error) => return Err(self.explain(error)),
                }
            }
            let now = Instant::now();
            let alive = self.keep_alive(now)?;
            self.connection.flush();
            let wake = match (until, alive) {
                (Some(until), Some(alive)) => Some(until.min(alive)),
                (until, alive) => until.or(alive),
            };
            match self.connection.wait(wake, watch)? {
                Wake::Watched(index) => return Ok(Event::Ready(index)),
                _ if until.is_some_and(|until| Instant::now() >= until) => return Ok(Event::Deadline),
                _ => {}
            }
        }
    }

    /// Waits, for two seconds at most, until QoS 2 messages that were received are released and what was sent is
    /// answered. Messages that come meanwhile are not acknowledged: a session that is kept gets them again.
    pub fn settle(&mut self) -> Result<(), ClientError> {
        let until = Instant::now() + CLOSE_TIMEOUT;
        while !(self.window.is_settled() && self.window.is_released()) {
            match self.next(Some(until), &[])? {
                Event::Message(message) if message.receipt().0 == QoS::ExactlyOnce => {
                    self.window.release(message.receipt().1);
                }
                Event::Deadline => break,
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends DISCONNECT and waits for the broker to close, for two seconds at most.
    pub fn disconnect(mut self, disconnect: &Disconnect<'_>) {
        self.send(&Packet::Disconnect(*disconnect));
        self.connection.close(Instant::now() + CLOSE_TIMEOUT);
    }

    /// Sends PINGREQ if it is time; when to look again.
    fn keep_alive(&mut self, now: Instant) -> Result<Option<Instant>, ClientError> {
        if self.keep_alive.is_zero() {
            return Ok(None);
        }
        if let Some(sent) = self.ping_sent {
            let end = sent + ANSWER_TIMEOUT;
            return if now >= end { Err(ClientError::Silent) } else { Ok(Some(end)) };
        }
        if now >= self.last_sent + self.keep_alive {
            self.send(&Packet::PingReq);
            self.ping_sent = Some(now);
            return Ok(Some(now + ANSWER_TIMEOUT));
        }
        Ok(Some(self.last_sent + self.keep_alive))
    }

    fn take_packet(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let taken = self.connection.take_packet(self.max_packet).map_err(ClientError::Malformed);
        taken.map_err(|error| self.explain(error))
    }

    /// One packet: answered, entered, turned into an event if the caller must know.
    fn handle(&mut self, bytes: Vec<u8>) -> Result<Option<Event>, ClientError> {
        let packet = parse(&bytes, self.version)?;
        self.trace_received(&packet);
        Ok(match packet {
            Packet::Publish(publish) => {
                let topic = self.resolve_alias(&publish)?;
                let (qos, id) = (publish.qos, publish.packet_id);
                if qos == QoS::ExactlyOnce && !self.window.receive(id) {
                    self.send(&Packet::PubRec(Ack::new(id)));
                    return Ok(None);
                }
                Some(Event::Message(Message::new(bytes, self.version, topic)))
            }
            Packet::PubAck(ack) => self.finish(&ack, Awaited::PubAck),
            Packet::PubRec(ack) if ack.reason.is_error() => self.finish(&ack, Awaited::PubRec),
            Packet::PubRec(ack) => {
                let known = self.window.advance(ack.packet_id);
                self.send(&Packet::PubRel(self.answer(ack.packet_id, known)));
                None
            }
            Packet::PubComp(ack) => self.finish(&ack, Awaited::PubComp),
            Packet::PubRel(ack) => {
                // Unknown after a restart with a kept session: the message was taken by the process before.
                let known = self.window.release(ack.packet_id);
                self.send(&Packet::PubComp(self.answer(ack.packet_id, known)));
                None
            }
            Packet::SubAck(ack) if self.window.finish(ack.packet_id, Awaited::SubAck) => {
                Some(Event::Subscribed { packet_id: ack.packet_id, reasons: ack.reasons.to_vec() })
            }
            Packet::UnsubAck(ack) if self.window.finish(ack.packet_id, Awaited::UnsubAck) => {
                Some(Event::Unsubscribed { packet_id: ack.packet_id, reasons: ack.reasons.to_vec() })
            }
            Packet::SubAck(_) | Packet::UnsubAck(_) => {
                return Err(ClientError::Protocol("it acknowledges a packet that was not sent"));
            }
            Packet::PingResp => {
                self.ping_sent = None;
                None
            }
            Packet::Disconnect(disconnect) => {
                let text = disconnect.reason_string.map(str::to_owned);
                return Err(ClientError::Disconnected { reason: disconnect.reason, text });
            }
            _ => return Err(ClientError::Protocol("it sent a packet that only clients send, or AUTH")),
        })
    }

    fn finish(&mut self, ack: &Ack<'_>, awaited: Awaited) -> Option<Event> {
        // An unknown identifier belongs to a process before this one.
        let finished = self.window.finish(ack.packet_id, awaited);
        finished.then_some(Event::Published { packet_id: ack.packet_id, reason: ack.reason })
    }

    fn answer(&self, id: u16, known: bool) -> Ack<'static> {
        let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        Ack::with(id, reason)
    }

    /// Learns and uses the broker's topic aliases; the topic if the packet does not spell it.
    fn resolve_alias(&mut self, publish: &Publish<'_>) -> Result<Option<String>, ClientError> {
        let Some(alias) = publish.topic_alias else { return Ok(None) };
        if alias > self.max_alias {
            return Err(ClientError::Protocol("it uses a topic alias that was not allowed"));
        }
        if !publish.topic.is_empty() {
            self.aliases.insert(alias, publish.topic.to_owned());
            return Ok(None);
        }
        match self.aliases.get(&alias) {
            Some(topic) => Ok(Some(topic.clone())),
            None => Err(ClientError::Protocol("it uses a topic alias that it did not set")),
        }
    }

    /// Tells the broker what it did wrong, as far as the version can, and passes the error on.
    fn explain(&mut self, error: ClientError) -> ClientError {
        let reason = match &error {
            ClientError::Malformed(cause) => cause.reason(),
            ClientError::Protocol(_) => ReasonCode::ProtocolError,
            _ => return error,
        };
        if self.version.is_v5() {
            let reason = if reason.listed_for(crate::codec::PacketType::Disconnect) {
                reason
            } else {
                ReasonCode::ProtocolError
            };
            self.send(&Packet::Disconnect(Disconnect::new(reason)));
            self.connection.flush();
        }
        error
    }

    /// Waits until at most `mark` bytes are unsent.
    fn drain(&mut self, mark: usize) -> Result<(), ClientError> {
        while self.connection.unsent() > mark {
            let before = self.connection.unsent();
            self.connection.flush();
            if self.connection.unsent() > mark {
                let until = Instant::now() + ANSWER_TIMEOUT;
                let wake = self.connection.wait(Some(until), &[])?;
                if matches!(wake, Wake::Deadline) && self.connection.unsent() == before {
                    return Err(ClientError::Silent);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, packet: &Packet<'_>) {
        if self.traced {
            print(trace::sending(&self.client_id, packet, self.version));
        }
        packet.encode(self.version, self.connection.output());
        self.last_sent = Instant::now();
    }

    fn trace_received(&self, packet: &Packet<'_>) {
        if self.traced {
            print(trace::received(&self.client_id, packet, self.version));
        }
    }
}

const TOO_LARGE: ClientError = ClientError::NotTaken("it is larger than the broker's Maximum Packet Size");
const NO_IDENTIFIER: ClientError = ClientError::Protocol("it leaves every packet identifier unanswered");

fn parse(bytes: &[u8], version: Version) -> Result<Packet<'_>, ClientError> {
    match cut(bytes, MAX_PACKET) {
        Ok(Cut::Frame(frame)) => decode(frame, version).map_err(ClientError::Malformed),
        _ => unreachable!("whole packets are taken"),
    }
}

/// Lines to standard output; if that is closed, whoever prints the messages finds out.
fn print(lines: Vec<String>) {
    let mut out = std::io::stdout().lock();
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
}
