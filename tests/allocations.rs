//! In steady state the data path takes no memory from the allocator: what a message needs is there already.
use ringmq::codec::{QoS, SubscribeOptions};
use ringmq::router::{InterestChange, Keys, Router, Subscriber};
use ringmq::session::subscriptions::{Subscription, Subscriptions};
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
    let larger = ["16k", "properties", "retain"];
    let is_small = |name: &str| name.contains("qos0") && !larger.iter().any(|part| name.contains(part));
    for (name, _) in STREAMS.iter().filter(|(name, _)| is_small(name)) {
        assert_eq!(allocations(name).0, 0, "{name}");
    }
}

#[test]
fn qos_1_and_2_take_no_memory() {
    let is_kept = |name: &str| name.starts_with("lasting") || name.starts_with("two-shards");
    let acknowledged = STREAMS.iter().filter(|(name, _)| name.contains("qos1") || name.contains("qos2"));
    for (name, _) in acknowledged.filter(|(name, _)| !is_kept(name)) {
        assert_eq!(allocations(name).0, 0, "{name}");
    }
}

#[test]
fn a_row_that_is_kept_takes_memory_once() {
    // Ten publishers with rows of 50; one publisher with a row of 25 for a hundred subscribers on two shards.
    for (name, rows) in [("lasting-qos1", 10), ("two-shards-qos1", 1)] {
        let (count, deliveries) = allocations(name);
        assert!(count <= 3 * (rows * ROUNDS) as u64, "{name}: {count} for {deliveries} deliveries");
    }
}

#[test]
fn a_large_message_takes_no_memory_when_only_one_gets_it() {
    let (count, deliveries) = allocations("pairs-qos0-16k");
    assert_eq!(count, 0, "{deliveries} deliveries");
}

#[test]
fn a_filter_takes_little_memory() {
    const FILTERS: i64 = 100_000;
    let options = SubscribeOptions {
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
    };
    let filter = |number: i64| format!("site/{}/device-{number}/state", number % 16);
    let mut router = Router::new(0, 2, Keys::new(1), 1);
    let mut subscriptions = Subscriptions::default();
    // Where the subscriber is: in the router and in its session.
    let own = allocation_counter::measure(|| {
        for number in 0..FILTERS {
            router.subscribe(&filter(number), Subscriber::new(1, 0, options), true, 1);
            subscriptions.insert(&filter(number), Subscription { options, id: 0 });
        }
    });
    let mut other = Router::new(1, 2, Keys::new(1), 1);
    let interest = allocation_counter::measure(|| {
        (0..FILTERS).for_each(|number| other.apply(0, &InterestChange::Add(filter(number).into())));
    });
    let each = (own.bytes_current / FILTERS, interest.bytes_current / FILTERS);
    println!("bytes a literal filter: {} on its own shard, {} on every other", each.0, each.1);
    assert!(each.0 <= 150 && each.1 <= 16, "{each:?}");
}
