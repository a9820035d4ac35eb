//! What the bounds add up to: the memory the broker takes when every client does its worst at once.
use super::Settings;
use super::listener::{ListenerSettings, TransportName};
use super::units::Size;
use crate::limits::Limits;
use crate::net::linger::MAX_LINGERING_BYTES;
use crate::net::ring::RECEIVE_MEMORY;
use crate::net::transport::MAX_ANSWERS;
use crate::net::transport::tls::MAX_KEPT;
use crate::shard::core::OUTBOX_BYTES;
use crate::shard::mesh::RING_BYTES;
use std::fmt::Write;

/// Bytes of one connection beside what it sends and receives.
const CONNECTION: u64 = 512;
/// Bytes of TLS or WebSocket beside what has not come whole and what is not sent.
const TRANSPORT: u64 = 8192;
/// Bytes of one session beside its messages and subscriptions.
const SESSION: u64 = 1024;
/// Bytes of one subscription with its filter of usual length, here and as interest on other shards.
const SUBSCRIPTION: u64 = 256;

/// One summand.
struct Part {
    what: &'static str,
    count: u64,
    each: u64,
    /// The keys that lower it.
    keys: &'static str,
}

fn parts(settings: &Settings) -> Vec<Part> {
    let (limits, shards) = (&settings.limits, settings.placement.len() as u64);
    // Anybody could be the one that may have most.
    let most = |of: fn(&Limits) -> u64| settings.profiles.iter().map(of).max().unwrap_or(0);
    let packet = most(|limits| limits.max_packet.into());
    let output = settings.profiles.iter().map(|limits| limits.output_bound(packet as u32) as u64).max();
    let has_transport = |listener: &ListenerSettings| listener.transport != TransportName::Tcp;
    let has_transports = settings.listeners.iter().any(has_transport);
    let part = |what, count: usize, each: u64, keys| Part { what, count: count as u64, each, keys };
    vec![
        part("connections", limits.max_connections, CONNECTION, "max-connections"),
        part(
            "unsent bytes of connections",
            limits.max_connections,
            output.unwrap_or(0),
            "max-connections, output-max",
        ),
        part(
            "packets that have not come whole",
            limits.max_connections,
            packet,
            "max-connections, max-packet",
        ),
        Part {
            what: "what TLS and WebSocket keep",
            count: if has_transports { limits.max_connections as u64 } else { 0 },
            each: TRANSPORT + (MAX_KEPT + MAX_ANSWERS) as u64,
            keys: "max-connections",
        },
        part("sessions", limits.max_sessions, SESSION, "max-sessions"),
        match settings.store {
            None => part(
                "queued messages",
                limits.max_sessions,
                most(|limits| limits.max_queued_bytes as u64),
                "max-sessions, max-queued-bytes",
            ),
            Some(_) => part(
                "queued messages in memory",
                limits.max_sessions,
                most(|limits| limits.queue_window_bytes.min(limits.max_queued_bytes) as u64),
                "max-sessions, queue-window-bytes",
            ),
        },
        part(
            "messages in flight",
            limits.max_sessions,
            packet.saturating_mul(most(|limits| limits.max_inflight.into())),
            "max-sessions, max-inflight, max-packet",
        ),
        part(
            "subscriptions",
            limits.max_sessions,
            SUBSCRIPTION.saturating_mul(most(|limits| limits.max_subscriptions as u64)),
            "max-sessions, max-subscriptions",
        ),
        part("wills", limits.max_sessions, most(|limits| limits.max_will as u64), "max-sessions, max-will"),
        part("retained messages", 1, limits.max_retained_bytes as u64, "max-retained-bytes"),
        Part {
            what: "messages between shards",
            count: shards * shards,
            // A ring and an outbox are full when they hold so much, and then one packet more.
            each: (RING_BYTES + OUTBOX_BYTES) as u64 + packet.saturating_mul(2),
            keys: "shards, max-packet",
        },
        Part {
            what: "changes to be stored",
            count: if settings.store.is_some() { shards } else { 0 },
            each: limits.store_mark as u64,
            keys: "shards, store-mark",
        },
        Part { what: "receive buffers", count: shards, each: RECEIVE_MEMORY as u64, keys: "shards" },
        Part { what: "closed connections", count: shards, each: MAX_LINGERING_BYTES as u64, keys: "shards" },
    ]
}

/// The sum, a line for each summand, with the keys that lower it.
pub fn worst_case(settings: &Settings) -> String {
    let (mut text, mut sum) = (String::new(), 0u64);
    let _ =
        writeln!(text, "# Memory when every client does its worst at once, which none can make another do:");
    for Part { what, count, each, keys } in parts(settings) {
        let total = count.saturating_mul(each);
        sum = sum.saturating_add(total);
        let _ = writeln!(
            text,
            "#   {:>9}  {what}: {count} of {}  ({keys})",
            rounded(total),
            if Size(each).to_string().len() > 7 { rounded(each) } else { Size(each).to_string() },
        );
    }
    let _ = writeln!(text, "#   {:>9}  together", rounded(sum));
    let _ = match settings.max_memory {
        0 => writeln!(text, "# Nothing is done before that (max-memory is 0)."),
        cap => writeln!(
            text,
            "#   {:>9}  are used at most (max-memory): before that publishers are slowed down, then new clients, then \
             messages are refused",
            rounded(cap)
        ),
    };
    text
}

/// Bytes with the largest unit that leaves a whole number in front of the point.
fn rounded(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sources::Sources;

    #[test]
    fn the_sum_is_that_of_its_parts() {
        let settings = Sources::new(None, None).load().unwrap().check(&[0, 1]).unwrap();
        let sum: u64 = parts(&settings).iter().map(|part| part.count * part.each).sum();
        let text = worst_case(&settings);
        let last: Vec<&str> = text.lines().rev().take(2).collect();
        assert!(last[1].contains(&rounded(sum)), "{text}");
        assert!(last[0].contains(&rounded(settings.max_memory)), "{text}");
        assert!(text.contains("queued messages: 2000000 of 16M"), "{text}");
        assert_eq!(rounded(1023), "1023 B");
        assert_eq!(rounded(3 << 19), "1.5 MiB");
    }
}
