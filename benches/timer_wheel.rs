//! What does a deadline cost, with few and with many others pending?
use divan::{Bencher, counter::ItemsCount};
use ringmq::shard::timer_wheel::TimerWheel;
use ringmq::time::Time;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// Deadlines handled in one run.
const BATCH: u64 = 1024;

/// A wheel with `pending` deadlines within the next two minutes, as keep alive makes them.
fn wheel(pending: u64) -> TimerWheel<u64> {
    let mut wheel = TimerWheel::new(Time(0));
    for token in 0..pending {
        wheel.insert(Time(1000 + token * 7919 % 120_000), token);
    }
    wheel
}

/// A deadline that is set and taken back before it comes.
#[divan::bench(args = [0, 1_000, 100_000, 1_000_000])]
fn insert_and_cancel(bencher: Bencher, pending: u64) {
    let mut wheel = wheel(pending);
    let mut ids = Vec::with_capacity(BATCH as usize);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        ids.extend((0..BATCH).map(|token| wheel.insert(Time(token * 7919 % 120_000), token)));
        for id in ids.drain(..) {
            wheel.cancel(id);
        }
    });
}

/// A keep alive that fires and is set again, in virtual time.
#[divan::bench(args = [1_000, 100_000, 1_000_000])]
fn fire_and_insert(bencher: Bencher, pending: u64) {
    let mut wheel = wheel(pending);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        let mut fired = 0;
        while fired < BATCH {
            let now = wheel.next_deadline();
            while let Some((_, token)) = wheel.pop_expired(now) {
                wheel.insert(now + 90_000, token);
                fired += 1;
            }
        }
    });
}
