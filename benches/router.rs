//! What does it cost to know a route, to find it, and to learn of filters?
use divan::{Bencher, black_box, counter::ItemsCount};
use ringmq::codec::{QoS, SubscribeOptions};
use ringmq::router::{InterestChange, Keys, Router, Subscriber};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// Topics that are routed one after the other.
const TOPICS: usize = 1024;
const OPTIONS: SubscribeOptions = SubscribeOptions {
    qos: QoS::AtLeastOnce,
    no_local: false,
    retain_as_published: false,
    retain_handling: 0,
};

fn literal(device: usize) -> String {
    format!("site/{}/device-{device}/state", device % 16)
}

/// A router with a subscriber to each topic and to a wildcard that matches a sixteenth of them.
fn router(topics: usize) -> Router {
    let mut router = Router::new(0, 2, Keys::new(1), 1);
    for device in 0..topics {
        router.subscribe(&literal(device), Subscriber::new(device as u32, 0, OPTIONS), true, 1);
    }
    router.subscribe("site/3/#", Subscriber::new(0, 0, OPTIONS), true, 1);
    router
}

fn route_all(router: &mut Router, topics: &[String]) -> usize {
    topics.iter().map(|topic| router.route(black_box(topic)).direct.len()).sum()
}

/// Routes that are remembered.
#[divan::bench]
fn route_known(bencher: Bencher) {
    let (mut router, topics) = (router(TOPICS), (0..TOPICS).map(literal).collect::<Vec<_>>());
    bencher.counter(ItemsCount::new(TOPICS)).bench_local(|| route_all(&mut router, &topics));
}

/// The same after a client has come and gone that subscribed to something else, behind a wildcard.
#[divan::bench]
fn route_known_while_others_come(bencher: Bencher) {
    let (mut router, topics) = (router(TOPICS), (0..TOPICS).map(literal).collect::<Vec<_>>());
    let other = Subscriber::new(9, 0, OPTIONS);
    bencher.counter(ItemsCount::new(TOPICS)).bench_local(|| {
        router.subscribe("elsewhere/9/#", other, true, 1);
        router.unsubscribe("elsewhere/9/#", 9);
        route_all(&mut router, &topics)
    });
}

/// Routes that are searched: everything was forgotten.
#[divan::bench]
fn route_searched(bencher: Bencher) {
    let (mut router, topics) = (router(TOPICS), (0..TOPICS).map(literal).collect::<Vec<_>>());
    bencher.counter(ItemsCount::new(TOPICS)).bench_local(|| {
        router.forget_routes();
        route_all(&mut router, &topics)
    });
}

/// New literal filters on the shard of their subscribers.
#[divan::bench(args = [1_000_000], sample_count = 3, sample_size = 1)]
fn subscribe(bencher: Bencher, filters: usize) {
    let texts: Vec<String> = (0..filters).map(literal).collect();
    bencher.counter(ItemsCount::new(filters)).bench_local(|| {
        let mut router = Router::new(0, 2, Keys::new(1), 1);
        for (at, text) in texts.iter().enumerate() {
            router.subscribe(text, Subscriber::new(at as u32, 0, OPTIONS), true, 1);
        }
        router
    });
}

/// The same on every other shard.
#[divan::bench(args = [1_000_000], sample_count = 3, sample_size = 1)]
fn learn_of_subscribers(bencher: Bencher, filters: usize) {
    let changes: Vec<InterestChange> =
        (0..filters).map(|at| InterestChange::Add(literal(at).into())).collect();
    bencher.counter(ItemsCount::new(filters)).bench_local(|| {
        let mut router = Router::new(1, 2, Keys::new(1), 1);
        changes.iter().for_each(|change| router.apply(0, change));
        router
    });
}
