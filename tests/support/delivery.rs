//! What tests of delivery need of a client beyond single packets: many messages at once, up to an agreed end.
//!
//! That a message does *not* come is seen by sending another one behind it, whose payload is [`END`], on the same
//! way: from the same publisher to the same subscriber.
use super::broker::{Broker, unique};
use super::client::Client;
use super::packet::{self, Kind, Packet, Publish};
use super::property::Properties;

/// The payload of the message that ends a collection.
pub const END: &str = "end";

/// Subscription option: No Local.
pub const NO_LOCAL: u8 = 0x04;
/// Subscription option: Retain As Published.
pub const RETAIN_AS_PUBLISHED: u8 = 0x08;
/// Subscription option: Retain Handling 1, only for a new subscription.
pub const RETAIN_IF_NEW: u8 = 0x10;
/// Subscription option: Retain Handling 2, not at all.
pub const RETAIN_NEVER: u8 = 0x20;

impl Client {
    /// Sends a PUBLISH as it stands, with the packet id the test gave it.
    pub fn send_publish(&mut self, message: &Publish) {
        let bytes = packet::publish(self.version, message);
        self.send(&bytes);
    }

    /// SUBSCRIBE with options bytes, and the codes of the SUBACK, which is the very next packet.
    #[track_caller]
    pub fn subscribe_codes(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        self.subscribe_properties(&Properties::new(), filters)
    }

    /// SUBSCRIBE with options bytes and properties, and the codes of the SUBACK, which is the very next packet.
    #[track_caller]
    pub fn subscribe_properties(&mut self, properties: &Properties, filters: &[(&str, u8)]) -> Vec<u8> {
        let id = self.fresh_id();
        self.send(&packet::subscribe_with(self.version, id, properties, filters));
        self.expect_suback(id)
    }

    /// SUBSCRIBE where messages may come before the SUBACK, as the standard allows: the codes and those messages,
    /// which are not answered.
    #[track_caller]
    pub fn subscribe_amid(&mut self, filters: &[(&str, u8)]) -> (Vec<u8>, Vec<Publish>) {
        let id = self.fresh_id();
        self.send(&packet::subscribe(self.version, id, filters));
        let mut early = Vec::new();
        loop {
            match self.receive() {
                Packet::Publish(message) => early.push(message),
                Packet::Suback { id: got, codes, .. } if got == id => return (codes, early),
                other => panic!("expected SUBACK {id} or a message, got {other:?}"),
            }
        }
    }

    /// Every message before the one with the payload [`END`], each answered to the end of its handshake.
    #[track_caller]
    pub fn messages_until_end(&mut self) -> Vec<Publish> {
        self.collect(|message, _| message.payload == END.as_bytes())
    }

    /// As many messages, each answered to the end of its handshake.
    #[track_caller]
    pub fn messages(&mut self, count: usize) -> Vec<Publish> {
        if count == 0 {
            return Vec::new();
        }
        let mut last = None;
        let mut all = self.collect(|message, before| {
            let complete = before + 1 == count;
            if complete {
                last = Some(message.clone());
            }
            complete
        });
        all.extend(last);
        all
    }

    /// Messages until one for which `is_last` holds, given how many came before it; that one is left out. All are
    /// answered to the end of their handshakes, which may overlap.
    #[track_caller]
    fn collect(&mut self, mut is_last: impl FnMut(&Publish, usize) -> bool) -> Vec<Publish> {
        let mut all = Vec::new();
        let mut released = Vec::new();
        let mut ended = false;
        while !ended || !released.is_empty() {
            match self.receive() {
                Packet::Publish(message) => {
                    assert!(!ended, "behind the last message came {message:?}");
                    match (message.qos, message.id) {
                        (1, Some(id)) => self.ack(Kind::Puback, id),
                        (2, Some(id)) => {
                            assert!(!released.contains(&id), "packet id {id} is still in use");
                            released.push(id);
                            self.ack(Kind::Pubrec, id);
                        }
                        _ => {}
                    }
                    if is_last(&message, all.len()) {
                        ended = true;
                    } else {
                        all.push(message);
                    }
                }
                Packet::Ack(ack) if ack.kind == Kind::Pubrel && released.contains(&ack.id) => {
                    released.retain(|id| *id != ack.id);
                    self.ack(Kind::Pubcomp, ack.id);
                }
                other => panic!("expected a message, got {other:?}"),
            }
        }
        all
    }
}

/// Returns when whatever this client published before has come to every shard: so many others have then received a
/// last message from it that there is one on each of them.
#[track_caller]
pub fn settle(broker: &Broker, publisher: &mut Client) {
    let topic = unique("settle");
    let mut witnesses: Vec<Client> = (0..10).map(|_| Client::new(broker, publisher.version)).collect();
    witnesses.iter_mut().for_each(|witness| witness.subscribe(&topic, 0));
    publisher.publish(&topic, 0, END);
    witnesses.iter_mut().for_each(|witness| drop(witness.expect_message(&topic, END)));
}

/// The payloads as text, for comparison.
pub fn payloads(messages: &[Publish]) -> Vec<String> {
    messages.iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect()
}
