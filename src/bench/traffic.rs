//! Runs a plan: starts the load threads, samples the measured window, drains, adds up.
use super::error::BenchError;
use super::ledger::{Ledger, Phase};
use super::plan::{Pace, Plan};
use super::process::{Usage, thread_cpu_ns};
use super::report::{BrokerUse, Percentiles, Report};
use super::verify::{Findings, Verifier, settle_group};
use super::worker::{Harvest, Worker, histogram};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// How long connections and subscriptions may take to be opened, in seconds without progress.
const POLL: Duration = Duration::from_millis(2);
/// After everything has arrived: time in which duplicates may still show.
const AFTERTIME: Duration = Duration::from_millis(20);

/// When what is measured.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Before the measured window.
    pub warmup: Duration,
    /// The measured window.
    pub measure: Duration,
    /// Without any arrival, what is missing is lost.
    pub quiet: Duration,
    /// Whose CPU and memory are read.
    pub broker: Vec<u32>,
    /// Whether a progress line is shown.
    pub progress: bool,
}

/// A reading of all counters.
struct Sample {
    at: Instant,
    received: u64,
    sent: u64,
    threads: Vec<u64>,
    broker: Option<Usage>,
}

impl Sample {
    fn take(ledger: &Ledger, timing: &Timing) -> Result<Self, BenchError> {
        let own = std::process::id();
        let broker = (!timing.broker.is_empty()).then(|| Usage::of(&timing.broker)).transpose()?;
        let thread =
            |t: &super::ledger::ThreadCounters| thread_cpu_ns(own, t.thread.load(Ordering::Acquire) as u32);
        Ok(Self {
            at: Instant::now(),
            received: ledger.total(|t| &t.received),
            sent: ledger.total(|t| &t.sent),
            threads: ledger.threads.iter().map(thread).collect(),
            broker,
        })
    }
}

/// Runs a plan to its end.
///
/// # Errors
/// What kept it from being run; what is wrong with the broker's deliveries is in the report.
pub fn run(
    scenario: &str,
    setup: String,
    plan: &Plan,
    timing: &Timing,
) -> Result<(Report, Histogram<u64>), BenchError> {
    let ledger = Ledger::new(plan.threads, plan.publishers);
    let (samples, harvests) = thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads)
            .map(|number| {
                let ledger = &ledger;
                scope.spawn(move || {
                    let result = Worker::open(plan, ledger, number).and_then(|worker| {
                        ledger.thread_is_ready();
                        worker.run()
                    });
                    result.map_err(|error| ledger.fail(error)).ok()
                })
            })
            .collect();
        let samples = conduct(plan, &ledger, timing);
        ledger.enter(Phase::Over);
        let harvests: Vec<_> = threads.into_iter().filter_map(|t| t.join().ok().flatten()).collect();
        (samples, harvests)
    });
    if let Some(error) = ledger.failure() {
        return Err(error);
    }
    let (before, after) = samples?;
    Ok(evaluate(scenario, setup, plan, &ledger, [&before, &after], harvests))
}

/// Takes the run through its phases; returns the readings at both ends of the measured window.
fn conduct(plan: &Plan, ledger: &Ledger, timing: &Timing) -> Result<(Sample, Sample), BenchError> {
    while !ledger.all_ready() {
        if ledger.phase() == Phase::Over {
            return Err(BenchError::Aborted("a load thread failed".into()));
        }
        thread::sleep(POLL);
    }
    let from = ledger.start(timing.warmup, timing.measure);
    let from = ledger.epoch + Duration::from_nanos(from);
    wait_until(from, ledger, timing);
    let before = Sample::take(ledger, timing)?;
    wait_until(from + timing.measure, ledger, timing);
    let after = Sample::take(ledger, timing)?;
    ledger.enter(Phase::Draining);
    let done = |seen: u64| {
        let sent = ledger.total(|t| &t.sent);
        seen == sent * plan.fan_out as u64 && (plan.qos == 0 || ledger.total(|t| &t.acknowledged) == sent)
    };
    let mut last = (0, 0, Instant::now());
    while ledger.phase() != Phase::Over {
        let seen = (ledger.total(|t| &t.received), ledger.total(|t| &t.acknowledged));
        if (last.0, last.1) != seen {
            last = (seen.0, seen.1, Instant::now());
        }
        if done(seen.0) {
            thread::sleep(AFTERTIME);
            break;
        }
        if last.2.elapsed() > timing.quiet {
            break;
        }
        thread::sleep(POLL);
    }
    if timing.progress {
        eprint!("\r\x1b[K");
    }
    Ok((before, after))
}

/// Waits, and shows the progress every second.
fn wait_until(end: Instant, ledger: &Ledger, timing: &Timing) {
    let mut last = (Instant::now(), ledger.total(|t| &t.received));
    while Instant::now() < end && ledger.phase() != Phase::Over {
        let left = end.saturating_duration_since(Instant::now());
        thread::sleep(left.min(Duration::from_millis(200)));
        if timing.progress && last.0.elapsed() >= Duration::from_secs(1) {
            let received = ledger.total(|t| &t.received);
            let rate = (received - last.1) as f64 / last.0.elapsed().as_secs_f64();
            eprint!(
                "\r\x1b[K{:>6.1} s  {:>12.0} deliveries/s  {} received  {} faults  {} given up",
                ledger.epoch.elapsed().as_secs_f64(),
                rate,
                received,
                ledger.total(|t| &t.faults),
                ledger.total(|t| &t.written_off),
            );
            last = (Instant::now(), received);
        }
    }
}

fn evaluate(
    scenario: &str,
    setup: String,
    plan: &Plan,
    ledger: &Ledger,
    [before, after]: [&Sample; 2],
    harvests: Vec<Harvest>,
) -> (Report, Histogram<u64>) {
    let seconds = (after.at - before.at).as_secs_f64();
    let events = after.received - before.received;
    let mut report = Report::new(scenario, setup, "deliveries", events, seconds);
    let mut sent = vec![0; plan.topics.len()];
    let mut unfinished = 0;
    let (mut latency, mut lateness) = (histogram(), histogram());
    let mut verifiers: BTreeMap<usize, Verifier> = BTreeMap::new();
    for harvest in harvests {
        for (publisher, streams, left) in harvest.publishers {
            let first = publisher * plan.topics_each;
            sent[first..first + streams.len()].copy_from_slice(&streams);
            unfinished += left as u64;
        }
        latency.add(harvest.latency).expect("all histograms have the same bounds");
        lateness.add(harvest.lateness).expect("all histograms have the same bounds");
        verifiers.extend(harvest.subscribers);
    }
    report.findings = settle(plan, &mut verifiers, &sent);
    report.unacknowledged = unfinished;
    report.closed = ledger.total(|t| &t.closed);
    report.written_off = ledger.total(|t| &t.written_off);
    report.latency_us = Percentiles::of(&latency);
    report.lateness_us = Percentiles::of(&lateness);
    if let (Some(before), Some(after)) = (&before.broker, &after.broker) {
        report.broker = Some(BrokerUse::between(before, after, seconds, events));
    }
    let shares = after.threads.iter().zip(&before.threads);
    report.generator_cpu = shares.map(|(a, b)| a.saturating_sub(*b) as f64 / 1e9 / seconds).collect();
    report.figure("sent_per_second", (after.sent - before.sent) as f64 / seconds, "/s");
    if plan.subscribers.iter().any(|subscriber| subscriber.group.is_some()) {
        balance(&mut report, plan, &verifiers);
    }
    let report = report.concluded(matches!(plan.pace, Pace::Window(_)));
    (report, latency)
}

/// Adds up what all subscribers found, with what never came.
fn settle(plan: &Plan, verifiers: &mut BTreeMap<usize, Verifier>, sent: &[u64]) -> Findings {
    let mut findings = Findings::default();
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, verifier) in verifiers.iter_mut() {
        verifier.settle(|stream| sent[stream]);
        findings.merge(&verifier.findings);
        if let Some(group) = plan.subscribers[*index].group {
            groups.entry(group).or_default().push(*index);
        }
    }
    for members in groups.values() {
        let streams = plan.subscribers[members[0]].streams.clone();
        let members = members.iter().filter_map(|index| verifiers.get(index));
        findings.merge(&settle_group(members, streams, |stream| sent[stream]));
    }
    findings
}

/// How evenly the members of shared groups were served, each compared with its own group.
fn balance(report: &mut Report, plan: &Plan, verifiers: &BTreeMap<usize, Verifier>) {
    let mut groups: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for (index, verifier) in verifiers {
        if let Some(group) = plan.subscribers[*index].group {
            groups.entry(group).or_default().push(verifier.findings.received);
        }
    }
    let (mut least, mut most) = (f64::MAX, 0.0_f64);
    for counts in groups.values() {
        let mean = (counts.iter().sum::<u64>() as f64 / counts.len() as f64).max(1.0);
        for count in counts {
            least = least.min(*count as f64 / mean);
            most = most.max(*count as f64 / mean);
        }
    }
    report.figure("least_served_member", least, "of the mean");
    report.figure("most_served_member", most, "of the mean");
}
