//! The fuzzer's bytes as a list of operations.
use super::broker::{Broker, PEERS};
use super::packets;
use super::source::Source;
use crate::codec::{Ack, Version};
use crate::memory::Pressure;

/// Milliseconds that pass at a time.
const WAITS: [u64; 8] = [1, 8, 100, 1_000, 10_000, 60_000, 600_000, 4_000_000];
/// What memory may ask for, and how often.
const PRESSURES: [Pressure; 5] =
    [Pressure::None, Pressure::Slow, Pressure::Closed, Pressure::Full, Pressure::Full];

pub(super) fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let mut broker = Broker::new(&mut source);
    while !source.is_empty() {
        step(&mut source, &mut broker);
        broker.end_turn();
    }
    broker.finish();
}

fn step(source: &mut Source<'_>, broker: &mut Broker) {
    let number = source.below(PEERS);
    match source.byte() % 32 {
        0 => broker.hang_up(number),
        1 => broker.drain(number, source.choose(&[1, 10, 100, 5000])),
        2 => broker.drain(number, usize::MAX),
        3 => broker.cross_any(source),
        4 => drop(broker.cross_all()),
        5 => drop(broker.give_up()),
        6 => broker.pass(source.choose(&WAITS)),
        7 => broker.settle(),
        8 => broker.acknowledge(),
        9 => broker.deliver(number, source.choose(&[1, 2, 5, usize::MAX])),
        10 if source.one_in(16) => broker.shut_down(),
        11 if source.one_in(4) => {
            broker.press(source.choose(&PRESSURES), source.choose(&[255, 255, 1, 2, 6]))
        }
        _ => say(source, broker, number),
    }
}

/// A client writes a packet, and perhaps it arrives.
fn say(source: &mut Source<'_>, broker: &mut Broker, number: usize) {
    let Some(peer) = broker.peer(number) else { return };
    let mut out = Vec::new();
    let kind = source.byte() % 24;
    if peer.sent.version().is_none() && peer.sent.is_whole() && kind > 1 {
        packets::connect(source, &mut out);
        peer.sent.write(&out);
        out.clear();
    }
    let version = peer.sent.version().unwrap_or(Version::V5);
    match kind {
        0 => packets::case(source, &mut out),
        1 => {
            let count = source.below(16);
            out.extend_from_slice(source.take(count));
        }
        2 if source.one_in(4) => packets::connect(source, &mut out),
        3..=8 => packets::publish(source, version, &mut out),
        9..=11 => packets::run(source, version, &mut out),
        12..=14 => packets::subscribe(source, version, &mut out),
        15 => packets::unsubscribe(source, version, &mut out),
        16 | 17 => packets::any_ack(source, version, &mut out),
        18 => packets::disconnect(source, version, &mut out),
        19 => packets::auth(source, &mut out),
        20 => packets::ping(&mut out),
        21 if source.one_in(2) => packets::begin(source, &mut out),
        _ => {
            if let Some((packet, id)) = peer.received.next_ack() {
                Ack::new(id).encode(packet, version, &mut out);
            }
        }
    }
    peer.sent.write(&out);
    let (pieces, crosses) = (source.choose(&[0, 0, 0, 1, 2, 7, 100]), source.one_in(2));
    match pieces {
        // It waits for a later operation.
        100 => {}
        0 => broker.deliver(number, usize::MAX),
        piece => (0..20).for_each(|_| broker.deliver(number, piece)),
    }
    if crosses {
        broker.cross_all();
    }
}
