//! The scenarios about stored messages: retained ones, and the queue of an offline session.
use super::args::StoreArgs;
use super::error::BenchError;
use super::open::{Client, Filters, Opened, Target, push_subscribe};
use super::payload::{MAX_STREAMS, MIN_PAYLOAD, Pattern, Stamp};
use super::process::Usage;
use super::report::{BrokerUse, Report};
use super::scenario::{Outcome, run_name, version_name};
use super::store::{Outbox, collect, open_one, publish_all, stamped};
use super::subscriber::Subscriber;
use super::verify::{Findings, Verifier};
use super::wire::{DISCONNECT, Template};
use super::worker::settle_thread;
use std::time::{Duration, Instant};

/// Seconds a stored session outlives its connection.
const SESSION_EXPIRY: u32 = 3600;
/// Longest wait for the broker to close a connection that said goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// What both scenarios have.
struct Run<'a> {
    args: &'a StoreArgs,
    target: Target,
    name: String,
    pattern: Pattern,
}

impl<'a> Run<'a> {
    fn new(args: &'a StoreArgs) -> Result<Self, BenchError> {
        args.common.check()?;
        if args.payload < MIN_PAYLOAD || args.messages == 0 || args.subscribers == 0 {
            let text = format!("at least one message of {MIN_PAYLOAD} bytes and one subscriber");
            return Err(BenchError::Usage(text));
        }
        if args.messages > MAX_STREAMS {
            return Err(BenchError::Usage(format!("at most {MAX_STREAMS} messages")));
        }
        settle_thread(&args.common.cores, 0)?;
        let pattern = Pattern::new(args.payload);
        Ok(Self { args, target: args.common.target()?, name: run_name(), pattern })
    }

    fn client(&self, role: &str, clean: bool) -> Client {
        let id = format!("{}-{role}", self.name);
        Client { id, clean, session_expiry: if clean { 0 } else { SESSION_EXPIRY } }
    }

    fn open(&self, role: &str, clean: bool, filter: Option<String>) -> Result<Opened, BenchError> {
        let filters = Filters::listed(filter.into_iter().collect());
        open_one(&self.target, self.client(role, clean), filters, self.args.qos)
    }

    fn usage(&self) -> Result<Option<Usage>, BenchError> {
        let pids = &self.args.common.pid;
        (!pids.is_empty()).then(|| Usage::of(pids)).transpose()
    }

    /// Publishes all messages; returns how long that took and how many were refused.
    fn publish(&self, write: &mut dyn FnMut(usize) -> Template) -> Result<(f64, u64), BenchError> {
        let opened = self.open("pub", true, None)?;
        let begin = Instant::now();
        let outbox =
            Outbox { qos: self.args.qos, window: self.args.window, count: self.args.messages, write };
        let refused = publish_all(opened, outbox)?;
        Ok((begin.elapsed().as_secs_f64(), refused))
    }

    /// Receives what is stored on all subscribers and makes the report of it.
    fn unload(
        &self,
        scenario: &str,
        setup: String,
        subscribers: &mut [Subscriber],
        topics: &[String],
        sent: impl Fn(usize) -> u64,
    ) -> Result<Report, BenchError> {
        let before = self.usage()?;
        let begin = Instant::now();
        let total = (self.args.messages * self.args.subscribers) as u64;
        let quiet = Duration::from_secs_f64(self.args.common.quiet);
        let (took, closed) = collect(&self.target, subscribers, &self.pattern, topics, total, quiet)?;
        let mut findings = Findings::default();
        for subscriber in subscribers.iter_mut() {
            subscriber.verifier.settle(&sent);
            findings.merge(&subscriber.verifier.findings);
        }
        let seconds = took.as_secs_f64().max(1e-9);
        let mut report = Report::new(scenario, setup, "deliveries", findings.received, seconds);
        if let (Some(before), Some(after)) = (before, self.usage()?) {
            let whole = begin.elapsed().as_secs_f64();
            report.broker = Some(BrokerUse::between(&before, &after, whole, findings.received));
        }
        report.findings = findings;
        report.closed = closed;
        Ok(report)
    }

    fn setup(&self) -> String {
        let args = self.args;
        format!(
            "{}, QoS {}, {} B, {} messages, {} subscribers, window {}",
            version_name(self.target.version),
            args.qos,
            args.payload,
            args.messages,
            args.subscribers,
            args.window
        )
    }

    /// Adds what storing cost, in time and memory.
    fn add_loading(&self, report: &mut Report, seconds: f64, memory: [Option<Usage>; 2]) {
        report.figure("stored_per_second", self.args.messages as f64 / seconds.max(1e-9), "/s");
        if let [Some(before), Some(after)] = memory {
            let messages = self.args.messages as f64;
            let cpu = after.cpu_since(&before) as f64 / 1e3 / messages;
            let bytes = (after.anonymous_kib as f64 - before.anonymous_kib as f64) * 1024.0 / messages;
            report.figure("storing_cpu_per_message", cpu, "µs");
            report.figure("stored_bytes_per_message", bytes, "bytes");
        }
    }
}

/// Stores many retained messages, then delivers them to new subscribers.
///
/// # Errors
/// The run could not be made.
pub fn retained(args: &StoreArgs) -> Result<Outcome, BenchError> {
    let run = Run::new(args)?;
    let version = run.target.version;
    let topics: Vec<String> =
        (0..args.messages).map(|i| format!("{}/{}/{}", run.name, i / 100, i % 100)).collect();
    let empty = run.usage()?;
    let (seconds, refused) = run.publish(&mut |n| {
        let template = Template::new(version, args.qos, true, &topics[n], args.payload);
        stamped(template, &run.pattern, Stamp { stream: n as u32, sequence: 0, time: 0 })
    })?;
    let full = run.usage()?;
    let mut subscribers = (0..args.subscribers)
        .map(|index| {
            let conn = run.open(&format!("sub-{index}"), true, None)?.conn;
            let verifier = Verifier::new(0..topics.len(), args.qos, false);
            Ok(Subscriber { index, conn: Some(conn), verifier })
        })
        .collect::<Result<Vec<_>, BenchError>>()?;
    let mut subscribe = Vec::new();
    let filter = std::iter::once(format!("{}/#", run.name));
    push_subscribe(version, 1, args.qos, filter, &mut subscribe);
    for conn in subscribers.iter_mut().filter_map(|subscriber| subscriber.conn.as_mut()) {
        conn.send(&subscribe)?;
    }
    let mut report = run.unload("retained", run.setup(), &mut subscribers, &topics, |_| 1)?;
    report.unacknowledged = refused;
    run.add_loading(&mut report, seconds, [empty, full]);
    run.publish(&mut |n| Template::new(version, args.qos, true, &topics[n], 0))?;
    Ok((report.concluded(false), args.common.json))
}

/// Loads the queue of an offline session, then unloads it.
///
/// # Errors
/// The run could not be made.
pub fn offline(args: &StoreArgs) -> Result<Outcome, BenchError> {
    let run = Run::new(args)?;
    let topics = vec![format!("{}/queue", run.name)];
    let role = |index: usize| format!("session-{index}");
    for index in 0..args.subscribers {
        let opened = run.open(&role(index), false, Some(topics[0].clone()))?;
        leave(opened)?;
    }
    let empty = run.usage()?;
    let (seconds, refused) = run.publish(&mut |n| {
        let template = Template::new(run.target.version, args.qos, false, &topics[0], args.payload);
        stamped(template, &run.pattern, Stamp { stream: 0, sequence: n as u64, time: 0 })
    })?;
    let full = run.usage()?;
    let mut subscribers = (0..args.subscribers)
        .map(|index| {
            let conn = run.open(&role(index), false, None)?.conn;
            let verifier = Verifier::new(0..1, args.qos, false);
            Ok(Subscriber { index, conn: Some(conn), verifier })
        })
        .collect::<Result<Vec<_>, BenchError>>()?;
    let sent = args.messages as u64;
    let mut report = run.unload("offline", run.setup(), &mut subscribers, &topics, |_| sent)?;
    report.unacknowledged = refused;
    run.add_loading(&mut report, seconds, [empty, full]);
    drop(subscribers);
    for index in 0..args.subscribers {
        leave(run.open(&role(index), true, None)?)?;
    }
    Ok((report.concluded(false), args.common.json))
}

/// Says goodbye and waits until the broker has closed the connection, so that it knows.
fn leave(mut opened: Opened) -> Result<(), BenchError> {
    opened.conn.send(&DISCONNECT)?;
    let mut poll = super::poll::Poll::new()?;
    poll.add(opened.conn.stream(), 0)?;
    let (mut ready, mut buffer, begin) = (Vec::new(), Vec::new(), Instant::now());
    while begin.elapsed() < GOODBYE {
        poll.wait(GOODBYE.saturating_sub(begin.elapsed()), &mut ready)?;
        match opened.conn.fill(&mut buffer) {
            Ok(_) => ready.clear(),
            Err(_) => return Ok(()),
        }
    }
    Err(BenchError::Timeout {
        what: "waiting for the broker to close after DISCONNECT",
        seconds: GOODBYE.as_secs(),
    })
}
