//! One load thread: opens its share of the connections, then sends and receives until the run is over.
use super::conn::Conn;
use super::error::BenchError;
use super::ledger::{Ledger, Phase, ThreadCounters};
use super::open::{Client, Filters, Pacing, Spec, open_all};
use super::payload::Pattern;
use super::plan::{Pace, Plan};
use super::poll::{Poll, Ready};
use super::publisher::{Publisher, Sending};
use super::subscriber::{Receiving, Subscriber};
use super::verify::Verifier;
use super::wire::{DISCONNECT, PINGREQ};
use hdrhistogram::Histogram;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Longest latency that is told apart, in ns.
const MAX_LATENCY: u64 = 600_000_000_000;
/// Handshakes under way at the same time per thread.
const OPENING_AT_ONCE: usize = 64;
/// Longest wait when nothing is due.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// How often a thread that is ready looks whether all others are, too.
const START_WAIT: Duration = Duration::from_millis(1);
/// How often a publisher looks whether subscribers on other threads have made room.
const ROOM_WAIT: Duration = Duration::from_micros(100);

/// What a load thread brings home.
pub struct Harvest {
    /// Publisher number, messages sent per stream, messages never acknowledged.
    pub publishers: Vec<(usize, Vec<u64>, usize)>,
    /// Subscriber number and what it verified.
    pub subscribers: Vec<(usize, Verifier)>,
    /// Nanoseconds from the (scheduled) send time to the arrival.
    pub latency: Histogram<u64>,
    /// Nanoseconds from the scheduled send time to the actual sending (open loop).
    pub lateness: Histogram<u64>,
}

/// An empty histogram of nanoseconds with three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_LATENCY, 3).expect("the bounds are constants that fit")
}

/// Puts this thread on its core and makes its timers exact.
///
/// # Errors
/// The core does not exist or is not allowed.
pub fn settle_thread(cores: &[usize], number: usize) -> Result<(), BenchError> {
    if let Some(core) = (!cores.is_empty()).then(|| cores[number % cores.len()])
        && !core_affinity::set_for_current(core_affinity::CoreId { id: core })
    {
        return Err(BenchError::Usage(format!("core {core} cannot be used")));
    }
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))
        .map_err(|e| BenchError::io("setting the timer slack")(e.into()))
}

/// One load thread.
pub struct Worker<'a> {
    plan: &'a Plan,
    ledger: &'a Ledger,
    counters: &'a ThreadCounters,
    number: usize,
    poll: Poll,
    pattern: Pattern,
    subscribers: Vec<Subscriber>,
    publishers: Vec<Publisher>,
    ballast: Vec<Conn>,
    buffer: Vec<u8>,
    out: Vec<u8>,
    latency: Histogram<u64>,
    lateness: Histogram<u64>,
    scheduled: u64,
    next_ping: u64,
}

impl<'a> Worker<'a> {
    /// Opens the connections of thread `number` and subscribes.
    ///
    /// # Errors
    /// A connection could not be opened.
    pub fn open(plan: &'a Plan, ledger: &'a Ledger, number: usize) -> Result<Self, BenchError> {
        settle_thread(&plan.cores, number)?;
        let counters = &ledger.threads[number];
        counters.thread.store(rustix::thread::gettid().as_raw_nonzero().get() as u64, Ordering::Release);
        let mut worker = Self {
            plan,
            ledger,
            counters,
            number,
            poll: Poll::new()?,
            pattern: Pattern::new(plan.payload),
            subscribers: Vec::new(),
            publishers: Vec::new(),
            ballast: Vec::new(),
            buffer: Vec::new(),
            out: Vec::new(),
            latency: histogram(),
            lateness: histogram(),
            scheduled: 0,
            next_ping: u64::from(plan.target.keep_alive).max(1) * 500_000_000,
        };
        worker.open_subscribers()?;
        worker.open_publishers()?;
        Ok(worker)
    }

    fn mine(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        (self.number..count).step_by(self.plan.threads)
    }

    fn spec(&self, role: &str, tag: usize, filters: Filters) -> Spec {
        let client = Client::passing(format!("{}-{role}-{tag}", self.plan.run));
        Spec { tag, client, filters, qos: self.plan.qos }
    }

    fn open_subscribers(&mut self) -> Result<(), BenchError> {
        let plan = self.plan;
        let pacing = Pacing { at_once: OPENING_AT_ONCE, rate: None };
        let holders = self.mine(plan.ballast.len()).map(|i| self.spec("held", i, plan.ballast[i].clone()));
        let mut ballast = Vec::new();
        open_all(&plan.target, pacing, holders, |opened| {
            ballast.push(opened?.conn);
            Ok(())
        })?;
        self.ballast = ballast;
        let specs = self
            .mine(plan.subscribers.len())
            .map(|i| self.spec("sub", i, Filters::listed(plan.subscribers[i].filters.clone())));
        let mut subscribers = Vec::new();
        open_all(&plan.target, pacing, specs, |opened| {
            let opened = opened?;
            let wanted = &plan.subscribers[opened.tag];
            let verifier = Verifier::new(wanted.streams.clone(), plan.qos, wanted.group.is_some());
            subscribers.push(Subscriber { index: opened.tag, conn: Some(opened.conn), verifier });
            Ok(())
        })?;
        for (token, subscriber) in subscribers.iter().enumerate() {
            if let Some(conn) = &subscriber.conn {
                self.poll.add(conn.stream(), token as u64)?;
            }
        }
        self.subscribers = subscribers;
        Ok(())
    }

    fn open_publishers(&mut self) -> Result<(), BenchError> {
        let plan = self.plan;
        let pacing = Pacing { at_once: OPENING_AT_ONCE, rate: None };
        let specs = self.mine(plan.publishers).map(|i| self.spec("pub", i, Filters::none()));
        let mut publishers = Vec::new();
        open_all(&plan.target, pacing, specs, |opened| {
            let opened = opened?;
            publishers.push(Publisher::new(plan, opened.tag, opened.conn, opened.receive_maximum));
            Ok(())
        })?;
        publishers.sort_by_key(|publisher| publisher.index);
        for (at, publisher) in publishers.iter().enumerate() {
            if let Some(conn) = &publisher.conn {
                self.poll.add(conn.stream(), (self.subscribers.len() + at) as u64)?;
            }
        }
        self.publishers = publishers;
        Ok(())
    }

    /// Runs until the phase is over.
    ///
    /// # Errors
    /// What is not about one connection.
    pub fn run(mut self) -> Result<Harvest, BenchError> {
        let mut ready: Vec<Ready> = Vec::new();
        loop {
            let phase = self.ledger.phase();
            if phase == Phase::Over {
                return Ok(self.finish());
            }
            if phase != Phase::Opening {
                self.publish(phase);
            }
            ready.clear();
            let wait = self.wait_time(phase);
            self.poll.wait(wait, &mut ready)?;
            for event in &ready {
                self.react(*event);
            }
            self.ping();
        }
    }

    /// Handles one ready connection; an error ends that connection only, and is counted.
    fn react(&mut self, event: Ready) {
        let at = event.token as usize;
        let counters = self.counters;
        let ledger = self.ledger;
        if let Some(subscriber) = self.subscribers.get_mut(at) {
            let mut receiving = Receiving {
                version: self.plan.target.version,
                pattern: &self.pattern,
                topics: &self.plan.topics,
                topics_each: self.plan.topics_each,
                counters,
                latency: &mut self.latency,
                measured: ledger.measured(),
                out: &mut self.out,
            };
            let mut result = Ok(());
            if event.writable
                && let Some(conn) = &mut subscriber.conn
            {
                result = conn.flush();
            }
            if result.is_ok() && event.readable {
                result = subscriber.receive(&mut self.buffer, &mut receiving, || ledger.now());
            }
            note_end(result, &mut subscriber.conn, counters);
            return;
        }
        let Some(publisher) = self.publishers.get_mut(at - self.subscribers.len()) else { return };
        let mut result = Ok(());
        if event.writable
            && let Some(conn) = &mut publisher.conn
        {
            result = conn.flush();
        }
        if result.is_ok() && event.readable {
            result = publisher.receive(&mut self.buffer, &mut self.out).map(|acknowledged| {
                counters.acknowledged.add(acknowledged.finished);
                counters.faults.add(acknowledged.faults);
            });
        }
        note_end(result, &mut publisher.conn, counters);
    }

    fn publish(&mut self, phase: Phase) {
        let (ledger, counters) = (self.ledger, self.counters);
        let now = ledger.now();
        let mut sending = Sending { pattern: &self.pattern, out: &mut self.out, now };
        match self.plan.pace {
            Pace::Window(_) if phase == Phase::Running => {
                for publisher in &mut self.publishers {
                    let result = publisher.saturate(ledger, &mut sending).map(|sent| counters.sent.add(sent));
                    note_end(result, &mut publisher.conn, counters);
                    counters.written_off.add(publisher.give_up(ledger, now));
                }
            }
            Pace::Window(_) => {}
            Pace::Rate(rate) => {
                if phase == Phase::Running && !self.publishers.is_empty() {
                    while let Some(due) =
                        due_time(self.plan, self.number, self.publishers.len(), rate, self.scheduled)
                            .map(|offset| ledger.started().saturating_add(offset))
                            .filter(|due| *due <= now)
                    {
                        let turn = self.scheduled as usize % self.publishers.len();
                        self.publishers[turn].schedule(due);
                        self.scheduled += 1;
                    }
                }
                let lateness = &mut self.lateness;
                let measured = ledger.measured();
                for publisher in self.publishers.iter_mut().filter(|publisher| publisher.is_behind()) {
                    let result = publisher
                        .send_due(ledger, &mut sending, |late| {
                            if now >= measured.0 {
                                lateness.saturating_record(late.max(1));
                            }
                        })
                        .map(|sent| counters.sent.add(sent));
                    note_end(result, &mut publisher.conn, counters);
                }
            }
        }
    }

    fn wait_time(&self, phase: Phase) -> Duration {
        match self.plan.pace {
            _ if phase == Phase::Opening => START_WAIT,
            _ if phase != Phase::Running => IDLE_WAIT,
            Pace::Window(_) if self.plan.threads > 1 && !self.publishers.is_empty() => ROOM_WAIT,
            Pace::Window(_) => IDLE_WAIT,
            Pace::Rate(rate) => due_time(self.plan, self.number, self.publishers.len(), rate, self.scheduled)
                .map_or(IDLE_WAIT, |offset| {
                    let due = self.ledger.started().saturating_add(offset);
                    Duration::from_nanos(due.saturating_sub(self.ledger.now())).min(IDLE_WAIT)
                }),
        }
    }

    /// Keeps the connections alive in runs that are longer than the keep alive.
    fn ping(&mut self) {
        if self.plan.target.keep_alive == 0 || self.ledger.now() < self.next_ping {
            return;
        }
        self.next_ping += u64::from(self.plan.target.keep_alive) * 500_000_000;
        let traffic = self.subscribers.iter_mut().map(|s| &mut s.conn);
        for slot in traffic.chain(self.publishers.iter_mut().map(|p| &mut p.conn)) {
            let result = slot.as_mut().map_or(Ok(()), |conn| conn.send(&PINGREQ));
            note_end(result, slot, self.counters);
        }
        for conn in &mut self.ballast {
            // The answers stay in the socket's buffer: two bytes every half keep alive.
            if conn.send(&PINGREQ).is_err() {
                self.counters.closed.add(1);
            }
        }
    }

    fn finish(mut self) -> Harvest {
        let subscribers = self.subscribers.iter_mut().filter_map(|s| s.conn.as_mut());
        let publishers = self.publishers.iter_mut().filter_map(|p| p.conn.as_mut());
        for conn in subscribers.chain(publishers).chain(&mut self.ballast) {
            // The run is over; a connection that is gone already is as good as one that is left politely.
            let _gone = conn.send(&DISCONNECT);
        }
        Harvest {
            publishers: self
                .publishers
                .iter()
                .map(|publisher| {
                    let (sent, unfinished) = publisher.totals();
                    (publisher.index, sent, unfinished)
                })
                .collect(),
            subscribers: self.subscribers.into_iter().map(|s| (s.index, s.verifier)).collect(),
            latency: self.latency,
            lateness: self.lateness,
        }
    }
}

/// When message `n` of a thread is due, in ns from the start: the threads take turns, and within a
/// thread the publishers do. `None` for a thread without publishers.
fn due_time(plan: &Plan, number: usize, publishers: usize, rate: f64, n: u64) -> Option<u64> {
    let share = rate * publishers as f64 / plan.publishers as f64;
    (publishers > 0).then(|| ((n as f64 + number as f64 / plan.threads as f64) * 1e9 / share) as u64)
}

/// Drops a connection after an error and counts it.
fn note_end(result: Result<(), BenchError>, conn: &mut Option<Conn>, counters: &ThreadCounters) {
    if result.is_err() && conn.take().is_some() {
        counters.closed.add(1);
    }
}
