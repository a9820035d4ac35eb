//! In steady state the data path takes no memory from the allocator: what a message needs is there already.
use support::{STREAMS, named};

#[path = "../benches/support/stream.rs"]
mod support;

/// Rounds that are counted.
const ROUNDS: usize = 20;

/// Allocations of a few rounds of a stream, and the deliveries in them.
fn allocations(name: &str) -> (u64, usize) {
    let mut stream = named(name);
    let before = stream.sent();
    let counted = allocation_counter::measure(|| (0..ROUNDS).for_each(|_| stream.round()));
    let deliveries = stream.deliveries * ROUNDS;
    assert_eq!(stream.sent() - before, deliveries as u64, "{name} delivered something else");
    (counted.count_total, deliveries)
}

#[test]
fn qos_0_takes_no_memory() {
    let small = STREAMS.iter().filter(|(name, _)| name.contains("qos0") && !name.contains("16k"));
    for (name, _) in small {
        assert_eq!(allocations(name).0, 0, "{name}");
    }
}

#[test]
fn qos_1_and_2_take_no_memory() {
    for (name, _) in STREAMS.iter().filter(|(name, _)| name.contains("qos1") || name.contains("qos2")) {
        assert_eq!(allocations(name).0, 0, "{name}");
    }
}

#[test]
fn a_large_message_takes_no_memory_when_only_one_gets_it() {
    let (count, deliveries) = allocations("pairs-qos0-16k");
    assert_eq!(count, 0, "{deliveries} deliveries");
}
