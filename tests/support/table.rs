//! Tables of offences: each row is sent on a connection of its own, and nobody else may notice.
use super::broker::{Broker, unique};
use super::client::Client;
use super::connect::Connect;
use super::packet::Packet;
use super::wire::{Version, binary, packet, text, varint};

pub const MALFORMED: &[u8] = &[0x81];
pub const ILLEGAL: &[u8] = &[0x82];
/// Where the standard leaves open which of the two it is.
pub const EITHER: &[u8] = &[0x81, 0x82];
pub const BAD_TOPIC: &[u8] = &[0x81, 0x82, 0x90];
pub const BAD_FILTER: &[u8] = &[0x81, 0x82, 0x8f];
pub const BAD_ALIAS: &[u8] = &[0x94];

/// A row of a table: what is wrong, the bytes that show it, the reason codes that fit.
pub type Case<'a> = (&'a str, Vec<u8>, &'a [u8]);

/// Two bystanders on connections of their own, who talk to each other while others offend.
pub struct Bystanders {
    listener: Client,
    speaker: Client,
    topic: String,
    said: u32,
}

impl Bystanders {
    pub fn new(broker: &Broker, version: Version) -> Bystanders {
        let topic = unique("bystander");
        let mut listener = Client::new(broker, version);
        listener.subscribe(&topic, 1);
        Bystanders { listener, speaker: Client::new(broker, version), topic, said: 0 }
    }

    #[track_caller]
    pub fn are_unaffected(&mut self) {
        self.said += 1;
        self.speaker.publish(&self.topic, 1, self.said.to_string());
        self.listener.expect_message(&self.topic, self.said.to_string());
    }
}

/// Sends each case on a connected client of its own, and sees that client told and closed.
#[track_caller]
pub fn each_offends(broker: &Broker, version: Version, cases: &[Case]) {
    let mut bystanders = Bystanders::new(broker, version);
    let mut failures = Vec::new();
    for (what, bytes, codes) in cases {
        let mut client = Client::new(broker, version);
        client.send(bytes);
        let answer = client.until_closed();
        let fits = match &answer {
            Ok(packets) if packets.is_empty() => !version.is_5(),
            Ok(packets) => matches!(packets[..], [Packet::Disconnect { code, .. }] if codes.contains(&code)),
            Err(_) => false,
        };
        if !fits {
            failures
                .push(format!("{what} ({bytes:02x?}): expected DISCONNECT {codes:02x?}, got {answer:02x?}"));
        }
        bystanders.are_unaffected();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Sends each case as a CONNECT, and sees it turned away: without an answer in 3.1.1, in 5.0 with a CONNACK.
#[track_caller]
pub fn each_is_turned_away(broker: &Broker, cases: &[(&str, Connect, &[u8])]) {
    let mut bystanders = Bystanders::new(broker, Version::V5);
    let mut failures = Vec::new();
    for (what, connect, codes) in cases {
        let mut client = Client::open(broker, connect.version);
        client.send(&connect.encode());
        let answer = client.until_closed();
        let fits = match &answer {
            Ok(packets) if packets.is_empty() => !connect.version.is_5(),
            Ok(packets) => matches!(packets[..], [Packet::Connack { code, .. }] if codes.contains(&code)),
            Err(_) => false,
        };
        if !fits {
            failures.push(format!("{what}: expected CONNACK {codes:02x?}, got {answer:02x?}"));
        }
        bystanders.are_unaffected();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What follows the first fields of a packet where version 5 has its properties.
pub fn properties(version: Version, list: &[u8]) -> Vec<u8> {
    if version.is_5() { [varint(list.len() as u32), list.to_vec()].concat() } else { Vec::new() }
}

/// PUBLISH at QoS 0 with `list` as the bytes of its properties.
pub fn publish_with(list: &[u8]) -> Vec<u8> {
    packet(0x30, &[text("t"), properties(Version::V5, list), b"x".to_vec()].concat())
}

/// PUBLISH to a topic of any bytes.
pub fn publish_to(version: Version, topic: &[u8]) -> Vec<u8> {
    packet(0x30, &[binary(topic), properties(version, &[]), b"x".to_vec()].concat())
}

/// SUBSCRIBE to a filter of any bytes.
pub fn subscribe_to(version: Version, filter: &[u8], options: u8) -> Vec<u8> {
    packet(0x82, &[vec![0, 1], properties(version, &[]), binary(filter), vec![options]].concat())
}

/// UNSUBSCRIBE from a filter of any bytes.
pub fn unsubscribe_from(version: Version, filter: &[u8]) -> Vec<u8> {
    packet(0xa2, &[vec![0, 1], properties(version, &[]), binary(filter)].concat())
}

/// Byte strings that are not strings of MQTT.
pub const NOT_TEXT: [(&str, &[u8]); 9] = [
    ("a byte that UTF-8 never has", b"a\xff"),
    ("a continuation byte alone", b"\x80a"),
    ("a cut sequence", b"a\xe2\x82"),
    ("an overlong slash", b"\xc0\xaf"),
    ("an overlong U+0000", b"\xc0\x80"),
    ("the surrogate U+D800", b"\xed\xa0\x80"),
    ("the surrogate U+DFFF", b"a\xed\xbf\xbf"),
    ("more than U+10FFFF", b"\xf4\x90\x80\x80"),
    ("U+0000", b"a\0b"),
];
