//! The `$SYS` topics: names and formats are Mosquitto's, so that what reads them there can read them here.
//!
//! The names are those that Mosquitto's manual lists (2.1; 2.0 has no `packet/out`, `connections/socket` and `mqtt`).
//! What is published and when follows what Mosquitto does: each topic once at the start, then whenever its text changed.
use super::counters::{Counters, Label};
use super::packets::{CONNECT, PACKET_NAMES};
use crate::memory::Memory;
use crate::time::Time;
use std::collections::BTreeMap;

/// What `$SYS/broker/version` says.
const VERSION: &str = concat!("ringmq version ", env!("CARGO_PKG_VERSION"));

/// What a topic tells of the counters.
type Value = fn(&Counters) -> u64;

/// The windows of the load averages: name and seconds.
const WINDOWS: [(&str, f64); 3] = [("1min", 60.0), ("5min", 300.0), ("15min", 900.0)];

/// Of which counters there are load averages.
const LOADS: [(&str, Value); 9] = [
    ("messages/received", Counters::messages_received),
    ("messages/sent", Counters::messages_sent),
    ("publish/dropped", Counters::publish_messages_dropped),
    ("publish/received", Counters::publish_messages_received),
    ("publish/sent", Counters::publish_messages_sent),
    ("bytes/received", |counters| counters.bytes_received),
    ("bytes/sent", |counters| counters.bytes_sent),
    ("sockets", |counters| counters.connections_opened),
    ("connections", |counters| counters.packets_received[CONNECT]),
];

/// The topics below `$SYS/broker/` that are one number.
const VALUES: [(&str, Value); 25] = [
    ("clients/total", |counters| counters.sessions),
    ("clients/disconnected", Counters::clients_disconnected),
    ("clients/inactive", Counters::clients_disconnected),
    ("clients/connected", |counters| counters.clients_connected),
    ("clients/active", |counters| counters.clients_connected),
    ("clients/expired", |counters| counters.clients_expired),
    ("messages/stored", stored_messages),
    ("store/messages/count", stored_messages),
    ("store/messages/bytes", |counters| counters.stored_bytes + counters.retained_bytes),
    ("subscriptions/count", |counters| counters.subscriptions),
    ("shared_subscriptions/count", |counters| counters.shared_subscriptions),
    ("retained messages/count", |counters| counters.retained_messages),
    ("messages/received", Counters::messages_received),
    ("messages/sent", Counters::messages_sent),
    ("bytes/received", |counters| counters.bytes_received),
    ("bytes/sent", |counters| counters.bytes_sent),
    ("publish/bytes/received", |counters| counters.publish_bytes_received),
    ("publish/bytes/sent", |counters| counters.publish_bytes_sent),
    ("publish/messages/dropped", Counters::publish_messages_dropped),
    ("publish/messages/received", Counters::publish_messages_received),
    ("publish/messages/sent", Counters::publish_messages_sent),
    ("mqtt/publish/dropped", Counters::publish_messages_dropped),
    ("packet/out/count", |counters| counters.output_packets),
    ("packet/out/bytes", |counters| counters.output_bytes),
    ("connections/socket/count", |counters| counters.connections_opened),
];

/// The topics below `$SYS/ringmq/` that are one number.
const OWN_VALUES: [(&str, Value); 3] = [
    ("store/full", |counters| u64::from(counters.storage_full > 0)),
    ("store/refused", |counters| counters.refused_storage_full),
    ("store/unreadable", |counters| counters.dropped_unreadable),
];

/// The control packets that a server receives.
const RECEIVED: [usize; 11] = [1, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15];
/// The control packets that a server sends.
const SENT: [usize; 11] = [2, 3, 4, 5, 6, 7, 9, 11, 13, 14, 15];

/// The counters that are told for each shard, below `$SYS/ringmq/shards/<n>/`: they show where publishes went.
const PER_SHARD: [&str; 8] = [
    "clients_connected",
    "sessions",
    "publishes_local",
    "envelopes_publish",
    "envelopes_interest",
    "envelopes_retained",
    "envelopes_shared",
    "envelopes_control",
];

/// Mosquitto's message store holds retained messages too.
fn stored_messages(counters: &Counters) -> u64 {
    counters.stored_messages + counters.retained_messages
}

/// What was last told in each `$SYS` topic, and the averages that need a memory.
pub struct SysTree {
    /// Topics and their last text.
    told: BTreeMap<String, String>,
    /// When the last update was; the start of the process before the first.
    last: Time,
    /// The counter of each load at the last update.
    counted: [u64; LOADS.len()],
    /// Averages per minute, for each load and window.
    averages: [[f64; WINDOWS.len()]; LOADS.len()],
    /// Most sessions that an update saw.
    clients_maximum: u64,
    /// The memory in use, once it is known.
    memory: Option<Memory>,
}

impl Default for SysTree {
    fn default() -> SysTree {
        SysTree::new()
    }
}

impl SysTree {
    /// A tree of which nothing has been told.
    pub fn new() -> SysTree {
        SysTree {
            told: BTreeMap::new(),
            last: Time(0),
            counted: [0; LOADS.len()],
            averages: [[0.0; WINDOWS.len()]; LOADS.len()],
            clients_maximum: 0,
            memory: None,
        }
    }

    /// The memory in use, for the next update. Until it is known (0 bytes are not) there are no topics about it.
    pub fn set_memory(&mut self, memory: Memory) {
        self.memory = Some(memory).filter(|memory| memory.used > 0);
    }

    /// Calls `publish` with topic and payload of everything that changed since the last update; the messages are
    /// to be retained. `totals` is the sum of `shards`.
    pub fn update(
        &mut self,
        now: Time,
        totals: &Counters,
        shards: &[Counters],
        publish: &mut dyn FnMut(&str, &str),
    ) {
        self.average(now, totals);
        self.clients_maximum = self.clients_maximum.max(totals.sessions);
        let told = &mut self.told;
        let mut tell = |topic: String, text: String| {
            if told.get(&topic) != Some(&text) {
                publish(&topic, &text);
                told.insert(topic, text);
            }
        };
        tell(broker("version"), VERSION.to_owned());
        tell(broker("uptime"), format!("{} seconds", now.0 / 1000));
        for ((load, _), averages) in LOADS.iter().zip(&self.averages) {
            for ((window, _), average) in WINDOWS.iter().zip(averages) {
                tell(broker(&format!("load/{load}/{window}")), format!("{average:.2}"));
            }
        }
        for (topic, value) in VALUES {
            tell(broker(topic), value(totals).to_string());
        }
        for (topic, value) in OWN_VALUES {
            tell(format!("$SYS/ringmq/{topic}"), value(totals).to_string());
        }
        tell(broker("clients/maximum"), self.clients_maximum.to_string());
        for (packets, counts, direction) in
            [(RECEIVED, totals.packets_received, "received"), (SENT, totals.packets_sent, "sent")]
        {
            for packet in packets {
                tell(
                    broker(&format!("mqtt/{}/{direction}", PACKET_NAMES[packet])),
                    counts[packet].to_string(),
                );
            }
        }
        if let Some(memory) = self.memory {
            tell(broker("heap/current"), memory.used.to_string());
            tell(broker("heap/maximum"), memory.most.to_string());
            let values = [
                ("pressure", memory.pressure as u64),
                ("slowed", totals.slowed_for_memory),
                ("refused", totals.refused_for_memory),
                ("ended", totals.ended_for_memory),
            ];
            for (name, value) in values {
                tell(format!("$SYS/ringmq/memory/{name}"), value.to_string());
            }
        }
        for (shard, counters) in shards.iter().enumerate() {
            for metric in counters.iter().filter(|metric| metric.label == Label::None) {
                if PER_SHARD.contains(&metric.name) {
                    tell(format!("$SYS/ringmq/shards/{shard}/{}", metric.name), metric.value.to_string());
                }
            }
        }
    }

    /// Moves the load averages on: exponential ones of the rate per minute, weighted by the time that has passed.
    fn average(&mut self, now: Time, totals: &Counters) {
        let seconds = now.since(self.last) as f64 / 1000.0;
        if seconds <= 0.0 {
            return;
        }
        self.last = now;
        for (load, (_, counter)) in LOADS.iter().enumerate() {
            let count = counter(totals);
            let rate = count.saturating_sub(self.counted[load]) as f64 * (60.0 / seconds);
            self.counted[load] = count;
            for (average, (_, window)) in self.averages[load].iter_mut().zip(WINDOWS) {
                *average = rate + (-seconds / window).exp() * (*average - rate);
            }
        }
    }
}

fn broker(topic: &str) -> String {
    format!("$SYS/broker/{topic}")
}

#[cfg(test)]
mod tests;
