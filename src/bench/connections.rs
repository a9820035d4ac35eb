//! The scenarios about connections: idle ones, a storm of new ones, churn.
use super::args::ConnectionArgs;
use super::conn::Conn;
use super::error::BenchError;
use super::open::{Client, Filters, Pacing, Spec, open_all};
use super::process::{Usage, thread_cpu_ns};
use super::report::{BrokerUse, Percentiles, Report};
use super::scenario::{Outcome, run_name, version_name};
use super::wire::{DISCONNECT, PINGREQ};
use super::worker::{histogram, settle_thread};
use hdrhistogram::Histogram;
use std::thread;
use std::time::{Duration, Instant};

/// Time the broker gets to settle before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);
/// How often the idle scenario looks which connections are due for a PINGREQ.
const PING_TICK: Duration = Duration::from_millis(20);

/// Who connects, and what for.
#[derive(Clone)]
struct Cast {
    name: String,
    filters: usize,
}

impl Cast {
    fn spec(&self, number: usize) -> Spec {
        let name = self.name.clone();
        Spec {
            tag: number,
            client: Client::passing(format!("{name}-{number}")),
            filters: Filters::generated(self.filters, move |i| match i {
                0 => format!("{name}/{number}"),
                _ => format!("{name}/{number}/{i}"),
            }),
            qos: 0,
        }
    }
}

/// What a connection scenario needs while it runs.
struct Run<'a> {
    args: &'a ConnectionArgs,
    cast: Cast,
    took: Histogram<u64>,
    refused: u64,
    first_error: Option<BenchError>,
}

impl<'a> Run<'a> {
    fn new(args: &'a ConnectionArgs, filters: usize) -> Result<Self, BenchError> {
        args.common.check()?;
        if args.connections == 0 || args.rate.is_some_and(|rate| rate <= 0.0) {
            return Err(BenchError::Usage("--connections and --rate are more than 0".into()));
        }
        settle_thread(&args.common.cores, 0)?;
        let filters = args.filters.unwrap_or(filters);
        let cast = Cast { name: run_name(), filters };
        Ok(Self { args, cast, took: histogram(), refused: 0, first_error: None })
    }

    /// Opens these connections and hands them out; refused ones are counted.
    fn open(
        &mut self,
        specs: impl Iterator<Item = Spec>,
        mut each: impl FnMut(Conn) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let pacing = Pacing { at_once: self.args.at_once, rate: self.args.rate };
        open_all(&self.args.common.target()?, pacing, specs, |opened| {
            match opened {
                Ok(opened) => {
                    self.took.saturating_record(opened.took.as_nanos() as u64);
                    each(opened.conn)?;
                }
                Err(error) => {
                    self.refused += 1;
                    self.first_error.get_or_insert(error);
                }
            }
            Ok(())
        })
    }

    fn usage(&self) -> Result<Option<Usage>, BenchError> {
        let pids = &self.args.common.pid;
        (!pids.is_empty()).then(|| Usage::of(pids)).transpose()
    }

    fn setup(&self) -> String {
        let common = &self.args.common;
        let pace = self.args.rate.map_or("as fast as possible".into(), |rate| format!("{rate}/s"));
        format!(
            "{}, {} filters each, {} at once, {pace}, keep alive {} s",
            version_name(common.version()),
            self.cast.filters,
            self.args.at_once,
            common.keep_alive
        )
    }

    fn conclude(self, mut report: Report, saturated: bool) -> Outcome {
        if let Some(error) = &self.first_error {
            eprintln!("ringmq bench: the first of {} failed connections: {error}", self.refused);
        }
        report.closed += self.refused;
        report.latency_us = Percentiles::of(&self.took);
        (report.concluded(saturated), self.args.common.json)
    }
}

/// Time and CPU of this thread since a moment.
struct Meter {
    at: Instant,
    cpu: u64,
    broker: Option<Usage>,
}

impl Meter {
    fn start(run: &Run<'_>) -> Result<Self, BenchError> {
        Ok(Self { at: Instant::now(), cpu: own_cpu(), broker: run.usage()? })
    }

    fn report(
        &self,
        run: &Run<'_>,
        scenario: &str,
        event: &'static str,
        events: u64,
    ) -> Result<Report, BenchError> {
        let seconds = self.at.elapsed().as_secs_f64();
        let mut report = Report::new(scenario, run.setup(), event, events, seconds);
        report.generator_cpu = vec![(own_cpu() - self.cpu) as f64 / 1e9 / seconds];
        if let (Some(before), Some(after)) = (&self.broker, run.usage()?) {
            report.broker = Some(BrokerUse::between(before, &after, seconds, events));
        }
        Ok(report)
    }
}

fn own_cpu() -> u64 {
    thread_cpu_ns(std::process::id(), rustix::thread::gettid().as_raw_nonzero().get() as u32)
}

/// Opens connections as fast as possible or at a rate.
///
/// # Errors
/// The run could not be made.
pub fn connect(args: &ConnectionArgs) -> Result<Outcome, BenchError> {
    let mut run = Run::new(args, 0)?;
    let specs: Vec<_> = (0..args.connections).map(|i| run.cast.spec(i)).collect();
    let mut held = Vec::with_capacity(args.connections);
    let meter = Meter::start(&run)?;
    run.open(specs.into_iter(), |conn| {
        held.push(conn);
        Ok(())
    })?;
    let mut report = meter.report(&run, "connect", "connections", held.len() as u64)?;
    report.closed += close_all(held);
    Ok(run.conclude(report, args.rate.is_none()))
}

/// Connects, subscribes, disconnects, again and again.
///
/// # Errors
/// The run could not be made.
pub fn churn(args: &ConnectionArgs) -> Result<Outcome, BenchError> {
    let mut run = Run::new(args, 1)?;
    let mut number = 0;
    let mut cycle_for = |run: &mut Run<'_>, seconds: f64| {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        let (cast, mut cycles) = (run.cast.clone(), 0);
        let specs = std::iter::from_fn(|| {
            number += 1;
            (Instant::now() < end).then(|| cast.spec(number))
        });
        run.open(specs, |mut conn| {
            cycles += 1;
            conn.send(&DISCONNECT)
        })?;
        Ok::<u64, BenchError>(cycles)
    };
    cycle_for(&mut run, args.common.warmup)?;
    run.took.reset();
    let meter = Meter::start(&run)?;
    let cycles = cycle_for(&mut run, args.common.seconds)?;
    let report = meter.report(&run, "churn", "cycles", cycles)?;
    Ok(run.conclude(report, args.rate.is_none()))
}

/// Subscribed connections that do nothing.
///
/// # Errors
/// The run could not be made.
pub fn idle(args: &ConnectionArgs) -> Result<Outcome, BenchError> {
    let mut run = Run::new(args, 1)?;
    let first = (args.connections / 10).max(1);
    let mut held = Vec::with_capacity(args.connections);
    let mut open_to = |run: &mut Run<'_>, from: usize, to: usize| {
        let specs: Vec<_> = (from..to).map(|i| run.cast.spec(i)).collect();
        run.open(specs.into_iter(), |conn| {
            held.push(conn);
            Ok(())
        })?;
        thread::sleep(SETTLE);
        run.usage()
    };
    let few = open_to(&mut run, 0, first)?;
    let all = open_to(&mut run, first, args.connections)?;
    let meter = Meter::start(&run)?;
    let mut closed = hold(&mut held, args);
    let mut report = meter.report(&run, "idle", "connections", held.len() as u64)?;
    if let (Some(few), Some(all)) = (few, all) {
        let more = (args.connections - first).max(1) as f64;
        let slope = |a: u64, b: u64| (b as f64 - a as f64) * 1024.0 / more;
        report.figure("anonymous_bytes_per_connection", slope(few.anonymous_kib, all.anonymous_kib), "bytes");
        report.figure("rss_bytes_per_connection", slope(few.rss_kib, all.rss_kib), "bytes");
    }
    closed += close_all(held);
    report.closed += closed;
    Ok(run.conclude(report, false))
}

/// Keeps connections alive for the measured time; the PINGREQs are spread evenly.
fn hold(held: &mut [Conn], args: &ConnectionArgs) -> u64 {
    let begin = Instant::now();
    let length = Duration::from_secs_f64(args.common.seconds);
    let (mut pings, mut closed) = (0, 0);
    let per_second = match args.common.keep_alive {
        0 => 0.0,
        seconds => held.len() as f64 * 2.0 / f64::from(seconds),
    };
    while begin.elapsed() < length {
        thread::sleep(PING_TICK.min(length.saturating_sub(begin.elapsed())));
        let due = (begin.elapsed().as_secs_f64() * per_second) as usize;
        while pings < due && !held.is_empty() {
            let at = pings % held.len();
            closed += u64::from(held[at].send(&PINGREQ).is_err());
            pings += 1;
        }
    }
    closed
}

/// Ends connections in good order; returns how many the broker had ended before.
fn close_all(held: Vec<Conn>) -> u64 {
    let mut buffer = Vec::new();
    let mut closed = 0;
    for mut conn in held {
        closed += u64::from(conn.fill(&mut buffer).is_err() || conn.send(&DISCONNECT).is_err());
    }
    closed
}
