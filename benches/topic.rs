//! What does it cost to find a publish's subscribers, and to find a subscriber's retained messages?
use divan::{Bencher, black_box, counter::ItemsCount};
use ringmq::topic::{FilterMap, RetainedMap};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// Topics that are published to, one after the other, so that caches and branch predictors see a mixture.
const TOPICS: usize = 1024;

/// `count` topics of four levels, spread over all devices.
fn topics(count: usize, devices: usize) -> Vec<String> {
    (0..count).map(|n| format!("site/{}/device-{}/state", n % 16, n * 7919 % devices)).collect()
}

fn wildcard(device: usize) -> String {
    format!("site/+/device-{device}/state")
}

fn literal(device: usize) -> String {
    format!("site/{}/device-{device}/state", device % 16)
}

fn matching(bencher: Bencher, map: &FilterMap<u32>, topics: &[String]) {
    bencher.counter(ItemsCount::new(topics.len())).bench_local(|| {
        let mut sum = 0;
        for topic in topics {
            map.for_each_match(black_box(topic), |value| sum += u64::from(*value));
        }
        sum
    });
}

/// Each topic matches one of the filters (when there are any).
#[divan::bench(args = [0, 1_000, 100_000])]
fn match_wildcards(bencher: Bencher, filters: usize) {
    let mut map = FilterMap::new(1);
    for device in 0..filters {
        map.entry_or(&wildcard(device), || 1);
    }
    matching(bencher, &map, &topics(TOPICS, filters.max(1)));
}

/// Each topic matches three of the filters: one behind `+`, one with a `#` far down, and `#`.
#[divan::bench(args = [1_000, 100_000])]
fn match_overlapping_wildcards(bencher: Bencher, filters: usize) {
    let mut map = FilterMap::new(1);
    map.entry_or("#", || 1);
    for device in 0..filters {
        map.entry_or(&wildcard(device), || 1);
        map.entry_or(&format!("site/{}/device-{device}/#", device % 16), || 1);
    }
    matching(bencher, &map, &(0..TOPICS).map(|n| literal(n * 7919 % filters)).collect::<Vec<_>>());
}

/// Each topic is one of the filters.
#[divan::bench(args = [1_000, 100_000])]
fn match_literals(bencher: Bencher, filters: usize) {
    let mut map = FilterMap::new(1);
    for device in 0..filters {
        map.entry_or(&literal(device), || 1);
    }
    matching(bencher, &map, &(0..TOPICS).map(|n| literal(n * 7919 % filters)).collect::<Vec<_>>());
}

fn inserting(bencher: Bencher, filters: Vec<String>) {
    bencher.counter(ItemsCount::new(filters.len())).bench_local(|| {
        let mut map = FilterMap::new(1);
        for (value, filter) in filters.iter().enumerate() {
            map.entry_or(filter, || value as u32);
        }
        map
    });
}

#[divan::bench(args = [100_000], sample_count = 20)]
fn insert_literals(bencher: Bencher, filters: usize) {
    inserting(bencher, (0..filters).map(literal).collect());
}

#[divan::bench(args = [100_000], sample_count = 20)]
fn insert_wildcards(bencher: Bencher, filters: usize) {
    inserting(bencher, (0..filters).map(wildcard).collect());
}

/// 100,000 retained topics: 25,000 devices with four topics each.
fn retained() -> RetainedMap<u32> {
    let mut map = RetainedMap::new();
    for device in 0..25_000 {
        for (value, leaf) in ["battery", "online", "state", "version"].into_iter().enumerate() {
            map.insert(&format!("site/{}/device-{device}/{leaf}", device % 16), value as u32);
        }
    }
    map
}

/// The filters select everything, a quarter that lies scattered, one site, one topic, nothing.
#[divan::bench(args = ["#", "site/+/+/state", "site/3/#", "site/3/device-3/state", "site/+/device-3/state", "other/#"])]
fn retained_scan(bencher: Bencher, filter: &str) {
    let map = retained();
    let mut found = 0usize;
    map.scan(filter, None, &mut |_, _| {
        found += 1;
        true
    });
    bencher.counter(ItemsCount::new(found)).bench_local(|| {
        let mut sum = 0;
        map.scan(black_box(filter), None, &mut |_, value| {
            sum += u64::from(*value);
            true
        });
        sum
    });
}
