//! What does a delivery cost in the core of a shard, from the publisher's bytes to the subscriber's?
//!
//! With `--stream NAME ROUNDS` it runs one stream and nothing else, for `perf/instructions`.
use divan::{Bencher, counter::ItemsCount};
use support::{STREAMS, named};

#[path = "support/stream.rs"]
mod support;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    match words.iter().position(|word| word == "--stream") {
        Some(at) => once(&words[at + 1], words[at + 2].parse().expect("--stream NAME ROUNDS")),
        None => divan::main(),
    }
}

/// Runs one stream and says how many deliveries a round has.
fn once(name: &str, rounds: usize) {
    let mut stream = named(name);
    let before = stream.sent();
    (0..rounds).for_each(|_| stream.round());
    assert_eq!(stream.sent() - before, (stream.deliveries * rounds) as u64);
    println!("{}", stream.deliveries);
}

#[divan::bench(args = STREAMS.iter().map(|(name, _)| *name))]
fn stream(bencher: Bencher, name: &str) {
    let mut stream = named(name);
    bencher.counter(ItemsCount::new(stream.deliveries)).bench_local(|| stream.round());
}
