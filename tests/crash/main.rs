//! Kills the broker again and again while clients publish and subscribe, and checks that nothing that was
//! acknowledged is lost, no QoS 2 message comes twice, and order is kept.
//!
//! The same with power cuts: what the broker has not flushed is taken from its files as well (`tests/support/disk.rs`).
//!
//! Short runs with a fixed seed belong to the tests; `scripts/crash-test` makes long ones. `RINGMQ_CRASH_KILLS`,
//! `RINGMQ_CRASH_SEED` and `RINGMQ_CRASH_FLAGS` are how it says what it wants.
#[path = "../support/mod.rs"]
mod support;

mod link;
mod oracle;
mod publisher;
mod subscriber;

use oracle::Oracle;
use publisher::Publisher;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use subscriber::{Manner, Subscriber};
use support::disk::{Disk, Left};
use support::{Broker, Signal};

/// Kills of the run that belongs to the tests, and power cuts.
const KILLS: u64 = 12;
const CUTS: u64 = 8;
/// Times as many cuts are made at most, where they find nothing to take.
const MOST: u64 = 10;
/// How long the clients may take to finish when the killing is over.
const FINISH: Duration = Duration::from_secs(120);

/// Where the broker is at the moment, and whether the end has come.
#[derive(Default)]
pub(crate) struct Scene {
    address: Mutex<Option<SocketAddr>>,
    /// Publishers begin nothing new.
    is_ending: AtomicBool,
    /// Everybody leaves.
    is_over: AtomicBool,
}

impl Scene {
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        *self.address.lock().unwrap()
    }
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// A small generator with a seed (SplitMix64).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn data_dir(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::remove_dir_all(&path).ok();
    path
}

/// Starts the broker, with any number of shards and mostly so that little of a queue is in memory. The kernel gives the
/// memory of a killed broker's rings back when it has time, and until then may have none for the next; any other reason
/// not to start is a failure.
fn start_again(rng: &mut Rng, flags: &[&str], environment: &[(&str, PathBuf)]) -> Broker {
    let shards = 1 + rng.below(3) as usize;
    let window = ["4", "4", "20", "1000"][rng.below(4) as usize];
    let flags = &[&["--queue-window-messages", window], flags].concat();
    for _ in 0..50 {
        match std::panic::catch_unwind(|| Broker::start_in(shards, flags, environment)) {
            Ok(broker) => return broker,
            Err(why) => {
                let said = why.downcast_ref::<String>().map_or("", String::as_str);
                assert!(said.contains("Cannot allocate memory"), "{said}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
    Broker::start_in(shards, flags, environment)
}

#[test]
fn nothing_acknowledged_is_lost_however_often_the_broker_is_killed() {
    let dir = data_dir("crash");
    run(&dir, None, KILLS);
}

#[test]
fn nothing_acknowledged_is_lost_however_often_the_power_is_cut() {
    let dir = data_dir("power");
    run(&dir, Some(&Disk::new(&dir)), CUTS);
}

/// Kills the broker; with a `disk`, cuts the power as well.
fn run(dir: &Path, disk: Option<&Disk>, kills: u64) {
    let kills = from_environment("RINGMQ_CRASH_KILLS", kills);
    let seed = from_environment("RINGMQ_CRASH_SEED", 1);
    let more = std::env::var("RINGMQ_CRASH_FLAGS").unwrap_or_default();
    let environment = disk.map_or_else(Vec::new, Disk::environment);
    let mut flags: Vec<&str> = vec!["--data-dir", dir.to_str().unwrap(), "--max-queued-messages", "1000000"];
    flags.extend(["--max-queued-bytes", "1G", "--min-free-space", "0", "--sys-interval", "0"]);
    flags.extend(more.split_whitespace());
    println!("seed {seed}, {kills} kills, {}", dir.display());

    let mut rng = Rng(seed);
    let scene = Arc::new(Scene::default());
    let oracle = Arc::new(Oracle::default());
    let mut broker = start_again(&mut rng, &flags, &environment);
    *scene.address.lock().unwrap() = Some(broker.address);

    // Those who subscribe are there before anything is published.
    let manners = [Manner::Stays, Manner::ComesAndGoes, Manner::Slow, Manner::Shares, Manner::Shares];
    // Even seeds have a group, so that messages of one publisher go to different shards by turns.
    let has_group = seed.is_multiple_of(2);
    let subscribers: Vec<_> = manners
        .into_iter()
        .filter(|manner| has_group || *manner != Manner::Shares)
        .enumerate()
        .map(|(number, manner)| {
            let mut subscriber = Subscriber::new(number, manner, scene.clone(), oracle.clone(), rng.next());
            subscriber.begin();
            thread::spawn(move || subscriber.run())
        })
        .collect();
    let publishers: Vec<_> = (0..6)
        .map(|number| {
            let mut publisher = Publisher::new(number, scene.clone(), oracle.clone(), rng.next());
            thread::spawn(move || publisher.run())
        })
        .collect();

    let mut taken = (0, 0);
    let mut kill = 0;
    // A disk may be so fast that nothing is unflushed when the power is cut: until something was.
    while kill < kills || (disk.is_some() && taken.0 == 0 && kill < MOST * kills) {
        kill += 1;
        oracle.wait_for_more(rng.below(60));
        thread::sleep(Duration::from_millis(rng.below(20)));
        *scene.address.lock().unwrap() = None;
        broker.signal(Signal::KILL);
        broker.wait_for_exit();
        if let Some(disk) = disk {
            let left = if rng.below(3) == 0 { Left::Nothing } else { Left::ByChance };
            let now = disk.cut_power(left, &mut || rng.next());
            taken = (taken.0 + now.sectors, taken.1 + now.entries);
        }
        broker = start_again(&mut rng, &flags, &environment);
        *scene.address.lock().unwrap() = Some(broker.address);
        if kill % 50 == 0 {
            println!("{kill} kills, {}", oracle.summary());
        }
    }

    scene.is_ending.store(true, Ordering::Relaxed);
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    let until = Instant::now() + FINISH;
    while !oracle.is_complete() && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
    }
    // What must not come would come now.
    thread::sleep(Duration::from_millis(300));
    scene.is_over.store(true, Ordering::Relaxed);
    subscribers.into_iter().for_each(|subscriber| subscriber.join().unwrap());
    println!("{kill} kills, {}", oracle.summary());
    if disk.is_some() {
        println!("power cuts took {} sectors and {} entries of folders", taken.0, taken.1);
        assert!(kills == 0 || taken.0 > 0, "the cuts took nothing");
    }
    let verdict = oracle.verdict();
    assert!(verdict.is_empty(), "seed {seed}, {}:\n{}", dir.display(), verdict.join("\n"));
    oracle.check_that_much_happened(kill);
    drop(broker);
    std::fs::remove_dir_all(dir).ok();
}
