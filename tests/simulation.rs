//! A whole broker of several shards in one thread, under virtual time: real cores, modelled rings and connections,
//! clients that speak real bytes, and an oracle that knows what they must see. Everything follows from a seed; there
//! are separate streams of random numbers for the workload, the schedule and the faults.
//!
//! `RINGMQ_SIM_SEEDS=N` runs N seeds of each simulation instead of the standard number; `RINGMQ_SIM_SEED=N` runs only
//! seed N, which is what a failure prints; `RINGMQ_SIM_TRACE=1` writes what the clients say and hear.
#[path = "simulation/broker.rs"]
mod broker;
#[path = "simulation/chaos.rs"]
mod chaos;
#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/exact.rs"]
mod exact;
#[path = "simulation/link.rs"]
mod link;
#[path = "simulation/model.rs"]
mod model;
#[path = "simulation/oracle.rs"]
mod oracle;
#[path = "simulation/payload.rs"]
mod payload;
#[path = "simulation/race.rs"]
mod race;
#[path = "simulation/rng.rs"]
mod rng;
#[path = "simulation/scripts.rs"]
mod scripts;

use ringmq::metrics::Counters;
use std::cell::Cell;

/// Says which seed failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was RINGMQ_SIM_SEED={}", self.0);
        }
    }
}

/// A line for whoever looks for the cause of a failure.
fn trace(line: impl FnOnce() -> String) {
    static IS_WANTED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    if *IS_WANTED.get_or_init(|| std::env::var_os("RINGMQ_SIM_TRACE").is_some()) {
        eprintln!("{}", line());
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Runs a simulation with every seed asked for; it returns how many promises it found kept.
fn each_seed(standard: u64, run: impl Fn(u64) -> u64) {
    let seeds = match number("RINGMQ_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RINGMQ_SIM_SEEDS").unwrap_or(standard),
    };
    let mut promises = 0;
    for seed in seeds.clone() {
        let guard = Seed(seed);
        promises += run(seed);
        drop(guard);
    }
    println!("{} seeds, {promises} promises kept", seeds.count());
    assert!(promises > 0, "a simulation that checks nothing");
}

#[test]
fn what_is_promised_is_kept_whatever_the_network_does() {
    each_seed(150, chaos::run);
}

#[test]
fn what_short_queues_drop_is_counted() {
    each_seed(60, chaos::run_with_short_queues);
}

#[test]
fn what_is_promised_is_kept_when_it_is_stored_and_queues_are_on_the_disk() {
    let read_back = Cell::new(0);
    each_seed(40, |seed| {
        let (promises, messages) = chaos::run_with_disk(seed);
        read_back.set(read_back.get() + messages);
        promises
    });
    assert!(read_back.get() > 0 || number("RINGMQ_SIM_SEED").is_some(), "nothing was read back");
}

#[test]
fn what_is_promised_is_kept_when_memory_runs_short() {
    let counted = Cell::new([0; 3]);
    each_seed(40, |seed| {
        let (promises, counters) = chaos::run_under_pressure(seed);
        let Counters { slowed_for_memory, refused_for_memory, ended_for_memory, .. } = counters;
        let [slowed, refused, ended] = counted.get();
        counted.set([slowed + slowed_for_memory, refused + refused_for_memory, ended + ended_for_memory]);
        promises
    });
    let counted = counted.get();
    println!("{counted:?} times slowed down, refused and ended");
    assert!(
        !counted.contains(&0) || number("RINGMQ_SIM_SEED").is_some(),
        "memory was never short: {counted:?}"
    );
}

#[test]
fn one_thing_after_the_other_has_exactly_the_effects_the_standard_says() {
    each_seed(150, exact::run);
}

#[test]
fn a_subscriber_sees_the_newest_retained_value_and_none_twice_in_every_schedule() {
    let mut starts = Vec::new();
    for number in 0..72 {
        starts.push(race::Start {
            publisher: number % 3,
            is_wildcard: number / 3 % 2 == 1,
            is_removed: number / 6 % 2 == 1,
            is_known: number / 12 % 3 > 0,
            is_given_up: number / 12 % 3 == 2,
            subscribes: 1 + number / 36,
        });
    }
    // A removal leaves nothing that a scan could bring to whoever did not get it live.
    starts.retain(|start| !(start.is_given_up && start.is_removed));
    if number("RINGMQ_SIM_SEEDS").is_none() {
        // These have ten to a hundred times as many schedules: for long runs.
        starts.retain(|start| start.subscribes == 1);
        starts.retain(|start| !start.is_given_up || (start.publisher == 1 && !start.is_wildcard));
    }
    let schedules: u64 = starts.into_iter().map(race::explore_all).sum();
    println!("{schedules} schedules");
}

#[test]
fn retained_messages_outlast_a_lost_suback() {
    scripts::retained_messages_outlast_a_lost_suback();
}

#[test]
fn what_an_old_client_is_not_told_is_counted() {
    scripts::what_an_old_client_is_not_told_is_counted();
}
