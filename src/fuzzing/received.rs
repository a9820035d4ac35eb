//! What a client is told: every packet is judged as it is written, before the socket takes it.
use super::sent::{Greeting, Said};
use crate::codec::{Cut, MAX_PACKET, Packet, PacketType, Publish, QoS, ReasonCode, Version, cut, decode};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of DISCONNECT with a reason code.
const LONGEST_DISCONNECT: usize = 4;

/// How far the broker has come with this client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    /// It must answer CONNECT first.
    Asked,
    /// CONNACK 0x00 was sent.
    Connected,
    /// CONNACK with a refusal, or DISCONNECT: the last packet.
    Over,
}

/// A delivery in flight to the client.
#[derive(Clone, Copy, Debug)]
struct Flight {
    qos: QoS,
    /// The client has sent PUBREC.
    is_received: bool,
    /// It takes one of the client's Receive Maximum.
    is_counted: bool,
}

/// One client's view of what it receives.
pub(super) struct Received {
    torn: Vec<u8>,
    progress: Progress,
    greeting: Option<Greeting>,
    /// The session may have been there before.
    may_resume: bool,
    flights: BTreeMap<u16, Flight>,
    /// Ids this client has sent PUBREC for on this connection.
    answered: BTreeSet<u16>,
    /// What the broker has to answer: packet type and id, and how many reason codes each.
    asked: BTreeMap<(PacketType, u16), Vec<usize>>,
    aliases: BTreeMap<u16, String>,
    /// The client has said goodbye.
    is_done: bool,
}

impl Received {
    pub fn new() -> Received {
        Received {
            torn: Vec::new(),
            progress: Progress::Asked,
            greeting: None,
            may_resume: false,
            flights: BTreeMap::new(),
            answered: BTreeSet::new(),
            asked: BTreeMap::new(),
            aliases: BTreeMap::new(),
            is_done: false,
        }
    }

    pub fn is_connected(&self) -> bool {
        self.progress == Progress::Connected
    }
    /// Nothing may follow.
    pub fn is_over(&self) -> bool {
        self.progress == Progress::Over
    }
    /// Everything that was asked is answered.
    pub fn check_debts(&self) {
        let owed: Vec<_> = self.asked.iter().filter(|(_, asked)| !asked.is_empty()).collect();
        assert!(owed.is_empty(), "never answered: {owed:?}");
    }
    /// The broker stopped in the middle of a packet.
    pub fn is_torn(&self) -> bool {
        !self.torn.is_empty()
    }
    /// The broker may close without having said why ([MQTT-4.13.1-1] wants a version 5 client told).
    pub fn may_be_closed(&self) -> bool {
        let is_told =
            |greeting: Greeting| greeting.version.is_v5() && greeting.max_packet >= LONGEST_DISCONNECT;
        self.is_over() || !self.is_connected() || self.is_done || !self.greeting.is_some_and(is_told)
    }
    /// The packet that takes the oldest delivery in flight one step on.
    pub fn next_ack(&self) -> Option<(PacketType, u16)> {
        let (id, flight) = self.flights.first_key_value()?;
        let packet = match flight.qos {
            QoS::AtLeastOnce => PacketType::PubAck,
            _ if flight.is_received => PacketType::PubComp,
            _ => PacketType::PubRec,
        };
        Some((packet, *id))
    }

    /// The broker gets this packet of the client now.
    pub fn hear(&mut self, said: Said) {
        match said {
            Said::Connect(greeting) => self.greeting = Some(greeting),
            Said::Ask(packet, id, reasons) => {
                self.asked.entry((packet, id)).or_default().push(reasons);
            }
            Said::PubAck(id) => {
                if self.flights.get(&id).is_some_and(|flight| flight.qos == QoS::AtLeastOnce) {
                    self.flights.remove(&id);
                }
            }
            Said::PubRec(id, is_refused) => {
                self.answered.insert(id);
                match self.flights.get_mut(&id) {
                    Some(flight) if flight.qos == QoS::ExactlyOnce && !flight.is_received => {
                        if is_refused {
                            self.flights.remove(&id);
                        } else {
                            flight.is_received = true;
                        }
                    }
                    _ => {}
                }
            }
            Said::PubComp(id) => {
                if self.flights.get(&id).is_some_and(|flight| flight.is_received) {
                    self.flights.remove(&id);
                }
            }
            Said::Goodbye => self.is_done = true,
        }
    }

    /// The broker has written these bytes.
    pub fn read(&mut self, bytes: &[u8]) {
        self.torn.extend_from_slice(bytes);
        let torn = std::mem::take(&mut self.torn);
        let mut rest = &torn[..];
        loop {
            match cut(rest, MAX_PACKET) {
                Ok(Cut::Frame(frame)) => {
                    rest = &rest[frame.bytes.len()..];
                    assert!(!self.is_over(), "a packet follows the last one: {:x?}", frame.bytes);
                    let Some(greeting) = self.greeting else {
                        self.refuse_unknown(frame.bytes);
                        continue;
                    };
                    match decode(frame, greeting.version) {
                        Ok(packet) => {
                            assert!(frame.bytes.len() <= greeting.max_packet, "too large: {packet:?}");
                            self.judge(greeting, &packet);
                        }
                        Err(error) => panic!("sent what is no packet: {error} {:x?}", frame.bytes),
                    }
                }
                Ok(Cut::Short { .. }) => break,
                Err(error) => panic!("sent what is no packet: {error} {rest:x?}"),
            }
        }
        self.torn = rest.to_vec();
    }

    /// The answer to a CONNECT that could not be decoded.
    fn refuse_unknown(&mut self, bytes: &[u8]) {
        let Ok(Cut::Frame(frame)) = cut(bytes, MAX_PACKET) else { unreachable!("it was cut before") };
        let is_refusal = |version| matches!(decode(frame, version), Ok(Packet::ConnAck(connack)) if connack.reason.is_error());
        assert!(is_refusal(Version::V5) || is_refusal(Version::V311), "no refusal: {bytes:x?}");
        self.progress = Progress::Over;
    }

    fn judge(&mut self, greeting: Greeting, packet: &Packet<'_>) {
        let is_v5 = greeting.version.is_v5();
        if self.progress == Progress::Asked {
            match packet {
                Packet::ConnAck(connack) => {
                    assert!(
                        !(connack.session_present && (greeting.clean_start || connack.reason.is_error()))
                    );
                    let is_assigned = connack.properties.assigned_client_id.is_some();
                    if connack.reason.is_error() {
                        self.progress = Progress::Over;
                    } else {
                        assert_eq!(is_assigned, is_v5 && !greeting.has_client_id);
                        self.progress = Progress::Connected;
                        // 3.1 cannot say.
                        let may_be = greeting.version == Version::V31 && !greeting.clean_start;
                        self.may_resume = connack.session_present || may_be;
                    }
                }
                Packet::Auth(_) => {}
                other => panic!("before CONNACK: {other:?}"),
            }
            return;
        }
        match packet {
            Packet::Publish(publish) => self.judge_publish(greeting, publish),
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack) => {
                self.answer(packet.packet_type(), ack.packet_id, Some(0));
            }
            Packet::SubAck(suback) => {
                self.answer(PacketType::SubAck, suback.packet_id, Some(suback.reasons.len()));
            }
            Packet::UnsubAck(unsuback) => {
                let reasons = is_v5.then_some(unsuback.reasons.len());
                self.answer(PacketType::UnsubAck, unsuback.packet_id, reasons);
            }
            Packet::PingResp => self.answer(PacketType::PingResp, 0, Some(0)),
            Packet::PubRel(ack) => self.judge_release(ack.packet_id, ack.reason),
            Packet::Disconnect(disconnect) => {
                assert!(is_v5 && disconnect.session_expiry.is_none() && disconnect.reason.is_error());
                self.progress = Progress::Over;
            }
            Packet::Auth(_) => {}
            other => panic!("after CONNACK: {other:?}"),
        }
    }

    /// A client may ask twice with one id; which of the two is answered first is open.
    fn answer(&mut self, packet: PacketType, id: u16, reasons: Option<usize>) {
        let asked = self.asked.entry((packet, id)).or_default();
        let at = asked.iter().position(|asked| reasons.is_none_or(|reasons| reasons == *asked));
        let at = at.unwrap_or_else(|| panic!("{packet:?} {id} with {reasons:?} answers none of {asked:?}"));
        asked.remove(at);
    }

    fn judge_publish(&mut self, greeting: Greeting, publish: &Publish<'_>) {
        if let Some(alias) = publish.topic_alias {
            assert!(alias <= greeting.alias_maximum, "alias {alias} of {}", greeting.alias_maximum);
            if publish.topic.is_empty() {
                assert!(self.aliases.contains_key(&alias), "alias {alias} was not set");
            } else {
                self.aliases.insert(alias, publish.topic.to_owned());
            }
        }
        if publish.qos == QoS::AtMostOnce {
            return;
        }
        let id = publish.packet_id;
        assert!(!publish.dup || self.may_resume, "DUP on a session that is new");
        let flight = Flight { qos: publish.qos, is_received: false, is_counted: true };
        let used = self.flights.insert(id, flight);
        assert!(used.is_none(), "packet id {id} is in use: {used:?}");
        let counted = self.flights.values().filter(|flight| flight.is_counted).count();
        assert!(counted <= greeting.receive_maximum, "{counted} in flight of {}", greeting.receive_maximum);
    }

    /// PUBREL answers PUBREC, or goes on with a delivery of an earlier connection.
    fn judge_release(&mut self, id: u16, reason: ReasonCode) {
        if reason.is_error() || self.answered.contains(&id) {
            return;
        }
        assert!(self.may_resume, "PUBREL without PUBREC");
        let flight = Flight { qos: QoS::ExactlyOnce, is_received: true, is_counted: false };
        let used = self.flights.insert(id, flight);
        assert!(used.is_none(), "PUBREL for {used:?}");
    }
}
