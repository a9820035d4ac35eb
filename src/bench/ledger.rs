//! What the threads of a run share: its phase, and counters that only their own thread writes.
use super::error::BenchError;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Where a run is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Connections are being opened.
    Opening = 0,
    /// Messages flow.
    Running = 1,
    /// Nothing new is sent; what is under way is awaited.
    Draining = 2,
    /// Threads return.
    Over = 3,
}

/// A counter that one thread writes and others read.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only ever called by the owning thread.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + n, Ordering::Release);
    }

    /// The value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Counters of one load thread, in cache lines of their own.
#[repr(align(128))]
#[derive(Default)]
pub struct ThreadCounters {
    /// Deliveries verified.
    pub received: Counter,
    /// Messages sent.
    pub sent: Counter,
    /// Messages acknowledged to the end (QoS 1 and 2).
    pub acknowledged: Counter,
    /// Anything that is not as it should be.
    pub faults: Counter,
    /// Messages given up because nothing arrived for a while.
    pub written_off: Counter,
    /// Connections that ended.
    pub closed: Counter,
    /// Thread id in the kernel, 0 before it runs.
    pub thread: AtomicU64,
    /// Deliveries by publisher, of all subscribers on this thread.
    pub delivered: Box<[Counter]>,
}

/// The shared state of a run.
pub struct Ledger {
    phase: AtomicU8,
    ready: AtomicUsize,
    /// Counts time for stamps.
    pub epoch: Instant,
    start: AtomicU64,
    measure_from: AtomicU64,
    measure_to: AtomicU64,
    failure: Mutex<Option<BenchError>>,
    /// One per load thread.
    pub threads: Box<[ThreadCounters]>,
}

impl Ledger {
    /// For a run with so many load threads and publishers.
    pub fn new(threads: usize, publishers: usize) -> Self {
        let counters = || ThreadCounters {
            delivered: (0..publishers).map(|_| Counter::default()).collect(),
            ..ThreadCounters::default()
        };
        Self {
            phase: AtomicU8::new(Phase::Opening as u8),
            ready: AtomicUsize::new(0),
            epoch: Instant::now(),
            start: AtomicU64::new(u64::MAX),
            measure_from: AtomicU64::new(u64::MAX),
            measure_to: AtomicU64::new(u64::MAX),
            failure: Mutex::new(None),
            threads: (0..threads).map(|_| counters()).collect(),
        }
    }

    /// Nanoseconds since the epoch of the run.
    #[inline]
    pub fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Where the run is.
    #[inline]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Opening,
            1 => Phase::Running,
            2 => Phase::Draining,
            _ => Phase::Over,
        }
    }

    /// Moves the run on; it never goes back.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// Starts the messages, and sets which of them are measured: those sent in this window.
    pub fn start(&self, warmup: Duration, measure: Duration) -> u64 {
        let start = self.now();
        let from = start + warmup.as_nanos() as u64;
        self.start.store(start, Ordering::Release);
        self.measure_from.store(from, Ordering::Release);
        self.measure_to.store(from + measure.as_nanos() as u64, Ordering::Release);
        self.enter(Phase::Running);
        from
    }

    /// When messages began, in ns since the epoch.
    pub fn started(&self) -> u64 {
        self.start.load(Ordering::Acquire)
    }

    /// Send times whose latency counts: from, to.
    pub fn measured(&self) -> (u64, u64) {
        (self.measure_from.load(Ordering::Acquire), self.measure_to.load(Ordering::Acquire))
    }

    /// One more thread has all its connections.
    pub fn thread_is_ready(&self) {
        self.ready.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether all threads have their connections.
    pub fn all_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) == self.threads.len()
    }

    /// Ends the run because of an error; the first one counts.
    pub fn fail(&self, error: BenchError) {
        self.failure.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(error);
        self.enter(Phase::Over);
    }

    /// The error that ended the run.
    pub fn failure(&self) -> Option<BenchError> {
        self.failure.lock().unwrap_or_else(|e| e.into_inner()).take()
    }

    /// A counter summed over the threads.
    pub fn total(&self, counter: impl Fn(&ThreadCounters) -> &Counter) -> u64 {
        self.threads.iter().map(|thread| counter(thread).get()).sum()
    }

    /// Deliveries of a publisher's messages, over all threads.
    #[inline]
    pub fn delivered(&self, publisher: usize) -> u64 {
        self.threads.iter().map(|thread| thread.delivered[publisher].get()).sum()
    }
}
