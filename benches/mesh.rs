//! What does it cost to send something from one shard to another?
use divan::{Bencher, counter::ItemsCount};
use ringmq::shard::envelope::Weighed;
use ringmq::shard::mesh::mesh;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// As large as an envelope.
struct Cargo([u64; 8]);

impl Weighed for Cargo {
    fn weight(&self) -> usize {
        size_of::<Cargo>()
    }
}

/// Turns of a sender and a receiver that take turns in one thread: what the ring itself costs, without the way between two
/// caches. The receiver is awake, so that no doorbell is rung.
#[divan::bench(args = [1, 16, 256])]
fn push_and_drain(bencher: Bencher, envelopes: usize) {
    let mut ends = mesh::<Cargo, ()>(2).expect("two doorbells");
    let (mut to, _) = ends.pop().expect("two ends");
    let (mut from, _) = ends.pop().expect("two ends");
    bencher.counter(ItemsCount::new(envelopes)).bench_local(|| {
        for number in 0..envelopes {
            assert!(from.push(1, Cargo([number as u64; 8])).is_ok(), "the ring has room for a turn");
        }
        from.ring_doorbells();
        let mut sum = 0;
        to.begin_turn();
        to.drain(0, |cargo| {
            sum += cargo.0[7];
            true
        });
        sum
    });
}
