//! The table of everything that is counted.
use super::packets::{PACKET_TYPES, PUBLISH};

/// How a value behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// What tells the values of one name apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Label {
    /// There is one value only.
    None,
    /// Number of a control packet type, an index into [`super::PACKET_NAMES`].
    Packet(u8),
    /// A reason code.
    Reason(u8),
}

/// One value with all that an export says about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    /// Name of the field.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// Which of the values of this name.
    pub label: Label,
    /// The value.
    pub value: u64,
}

const PACKETS_RECEIVED: &str = "Control packets received, by their type's number.";
const PACKETS_SENT: &str = "Control packets sent, by their type's number.";
const CLOSES: &str = "Connections the broker ended, by the reason code it had (3.1.1 clients are not told).";

macro_rules! counters {
    ($($kind:ident $name:ident: $help:literal;)*) => {
        /// What one shard counted, or, summed with [`Counters::add`], all of them. Plain fields: the shard that owns
        /// them adds and subtracts; a gauge's sum over the shards is the broker's value.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct Counters {
            $(#[doc = $help] pub $name: u64,)*
            #[doc = "Control packets received, by their type's number."]
            pub packets_received: [u64; PACKET_TYPES],
            #[doc = "Control packets sent, by their type's number."]
            pub packets_sent: [u64; PACKET_TYPES],
            #[doc = "Connections the broker ended, by the reason code it had (3.1.1 clients are not told)."]
            pub closes: [u64; 256],
        }

        impl Default for Counters {
            fn default() -> Counters {
                Counters {
                    $($name: 0,)*
                    packets_received: [0; PACKET_TYPES],
                    packets_sent: [0; PACKET_TYPES],
                    closes: [0; 256],
                }
            }
        }

        impl Counters {
            /// Adds another shard's values.
            pub fn add(&mut self, other: &Counters) {
                $(self.$name += other.$name;)*
                add_all(&mut self.packets_received, &other.packets_received);
                add_all(&mut self.packets_sent, &other.packets_sent);
                add_all(&mut self.closes, &other.closes);
            }

            /// The values that have no label, in the order of the table.
            fn plain(&self) -> impl Iterator<Item = Metric> {
                [$(Metric {
                    name: stringify!($name),
                    help: $help,
                    kind: Kind::$kind,
                    label: Label::None,
                    value: self.$name,
                },)*].into_iter()
            }
        }
    };
}

counters! {
    Counter bytes_received: "Bytes received from clients.";
    Counter bytes_sent: "Bytes sent to clients.";
    Counter publish_bytes_received: "Payload bytes of PUBLISH packets received.";
    Counter publish_bytes_sent: "Payload bytes of PUBLISH packets sent.";

    Counter connections_opened: "Connections accepted, whether or not a CONNECT followed.";
    Counter connections_closed: "Connections that ended, for whatever reason.";
    Counter connects_accepted: "CONNECT packets answered with success.";
    Counter decode_errors: "Connections ended because of bytes that are not MQTT.";
    Counter protocol_errors: "Connections ended because of well-formed packets that break a rule.";
    Counter takeovers: "Sessions whose connection was taken over by another one with the same client id.";
    Counter logins_refused: "CONNECT packets refused because of who sent them: credentials, bans, certificates.";
    Counter logins_busy: "CONNECT packets refused because too many wait for their credentials to be checked.";
    Counter questions_refused: "Questions about connected clients that could not be asked because too many wait.";
    Counter denied_publish: "Messages and wills refused because their client may not publish to the topic.";
    Counter denied_subscribe: "Subscriptions refused because their client may not subscribe to the filter.";
    Counter denied_receive: "Times a subscriber was left out because it may not read a topic; once for each topic while its route is remembered.";
    Counter refused_too_fast: "Connections closed at once because others came from their address just before.";
    Counter refused_crowded: "Connections closed or refused because their address or user has as many as it may.";
    Counter jailed: "Client ids that connected too often and are not let in for a while.";
    Counter throttled: "Times a connection was not read for a while because it published faster than it may.";
    Counter slowed_for_memory: "Times a connection was not read for a while because memory runs short.";
    Counter refused_for_memory: "Messages, subscriptions and CONNECT packets refused because memory runs short.";
    Counter ended_for_memory: "Connections ended for what they held, unfinished or unsent, because memory runs short.";
    Counter wills_published: "Will messages published.";

    Gauge clients_connected: "Clients connected.";
    Gauge sessions: "Sessions, connected or not.";
    Counter clients_expired: "Sessions that ended because their expiry interval passed.";
    Gauge subscriptions: "Subscriptions, without the shared ones.";
    Gauge shared_subscriptions: "Shared subscriptions.";
    Gauge retained_messages: "Retained messages.";
    Gauge retained_bytes: "Payload bytes of the retained messages.";
    Gauge stored_messages: "Messages queued for sessions or in flight to them.";
    Gauge stored_bytes: "Payload bytes of the messages queued for sessions or in flight to them.";
    Gauge output_packets: "Packets encoded but not yet taken by a socket.";
    Gauge output_bytes: "Bytes encoded but not yet taken by a socket.";

    Counter dropped_queue_full: "Messages dropped because a session's queue was full.";
    Gauge storage_full: "Shards that take on nothing that must be stored, because there is no space or storing fails.";
    Counter dropped_unreadable: "Queued messages that could not be read back from the disk.";
    Counter refused_storage_full: "Publishes, subscriptions and sessions refused because storage space runs short.";
    Counter dropped_output_mark: "QoS 0 messages dropped because a connection had too many unsent bytes.";
    Counter dropped_too_large: "Messages dropped because they exceed the client's Maximum Packet Size.";
    Counter dropped_expired: "Messages dropped because their expiry interval passed before delivery.";
    Counter dropped_group_queue: "Messages dropped because the queue of a shared subscription without members was full.";
    Counter dropped_retained_limit: "Messages not retained because there were too many retained messages, or too many bytes of them.";

    Counter publishes_local: "Publishes that no other shard had to hear of.";
    Counter envelopes_publish: "Envelopes to other shards that carried a message.";
    Counter envelopes_interest: "Envelopes to other shards that announced, answered or withdrew interest.";
    Counter envelopes_retained: "Envelopes to other shards about retained messages.";
    Counter envelopes_shared: "Envelopes to other shards about shared subscriptions.";
    Counter envelopes_control: "Envelopes to other shards about connections and sessions.";
}

impl Counters {
    /// Every value with its name and meaning; reason codes that never happened are left out.
    pub fn iter(&self) -> impl Iterator<Item = Metric> {
        let counter = |name, help, label, value| Metric { name, help, kind: Kind::Counter, label, value };
        let received = labelled(&self.packets_received).skip(1).map(move |(packet, value)| {
            counter("packets_received", PACKETS_RECEIVED, Label::Packet(packet), value)
        });
        let sent = labelled(&self.packets_sent)
            .skip(1)
            .map(move |(packet, value)| counter("packets_sent", PACKETS_SENT, Label::Packet(packet), value));
        let closes = labelled(&self.closes)
            .filter(|(_, value)| *value > 0)
            .map(move |(reason, value)| counter("closes", CLOSES, Label::Reason(reason), value));
        self.plain().chain(received).chain(sent).chain(closes)
    }

    /// Control packets received, of all types.
    pub fn messages_received(&self) -> u64 {
        self.packets_received.iter().sum()
    }

    /// Control packets sent, of all types.
    pub fn messages_sent(&self) -> u64 {
        self.packets_sent.iter().sum()
    }

    /// PUBLISH packets received.
    pub fn publish_messages_received(&self) -> u64 {
        self.packets_received[PUBLISH]
    }

    /// PUBLISH packets sent.
    pub fn publish_messages_sent(&self) -> u64 {
        self.packets_sent[PUBLISH]
    }

    /// Messages dropped, for all reasons.
    pub fn publish_messages_dropped(&self) -> u64 {
        self.dropped_queue_full
            + self.dropped_output_mark
            + self.dropped_too_large
            + self.dropped_expired
            + self.dropped_group_queue
            + self.dropped_retained_limit
    }

    /// Sessions that have no connection.
    pub fn clients_disconnected(&self) -> u64 {
        self.sessions.saturating_sub(self.clients_connected)
    }
}

/// Values with their index, in tables whose index fits into a byte.
fn labelled(values: &[u64]) -> impl Iterator<Item = (u8, u64)> {
    (0..=u8::MAX).zip(values.iter().copied())
}

fn add_all(to: &mut [u64], from: &[u64]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn sample(factor: u64) -> Counters {
        let mut counters = Counters {
            bytes_received: 3 * factor,
            sessions: 5 * factor,
            clients_connected: 2 * factor,
            ..Counters::default()
        };
        counters.packets_received[PUBLISH] = 7 * factor;
        counters.packets_received[15] = factor;
        counters.packets_sent[13] = factor;
        counters.closes[0x8E] = 4 * factor;
        counters.dropped_expired = factor;
        counters.dropped_queue_full = 10 * factor;
        counters
    }

    #[test]
    fn shards_are_summed() {
        let mut sum = sample(1);
        sum.add(&sample(10));
        assert_eq!(sum, sample(11));
        assert_eq!(sum.messages_received(), 88);
        assert_eq!(sum.messages_sent(), 11);
        assert_eq!(sum.publish_messages_received(), 77);
        assert_eq!(sum.publish_messages_dropped(), 121);
        assert_eq!(sum.clients_disconnected(), 33);
    }

    #[test]
    fn an_export_sees_every_value_once() {
        let counters = sample(1);
        let metrics: Vec<Metric> = counters.iter().collect();
        let keys: BTreeSet<String> = metrics.iter().map(|m| format!("{} {:?}", m.name, m.label)).collect();
        assert_eq!(keys.len(), metrics.len());
        let find = |name, label| {
            metrics.iter().find(|m| m.name == name && m.label == label).map(|m| (m.kind, m.value))
        };
        assert_eq!(find("sessions", Label::None), Some((Kind::Gauge, 5)));
        assert_eq!(find("bytes_received", Label::None), Some((Kind::Counter, 3)));
        assert_eq!(find("packets_received", Label::Packet(3)), Some((Kind::Counter, 7)));
        assert_eq!(find("packets_received", Label::Packet(0)), None);
        assert_eq!(find("packets_sent", Label::Packet(13)), Some((Kind::Counter, 1)));
        assert_eq!(find("packets_sent", Label::Packet(15)), Some((Kind::Counter, 0)));
        assert_eq!(find("closes", Label::Reason(0x8E)), Some((Kind::Counter, 4)));
        assert_eq!(find("closes", Label::Reason(0)), None);
    }
}
