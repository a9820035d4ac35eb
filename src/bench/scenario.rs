//! The traffic scenarios: flags become a plan.
use super::args::{CommonArgs, TrafficArgs};
use super::error::BenchError;
use super::plan::{Counts, Pace, Plan, Shape};
use super::report::{Report, write_histogram_log};
use super::traffic::{self, Timing};
use crate::codec::Version;
use std::time::Duration;

/// Payload bytes one publisher has under way by default at most.
const WINDOW_BYTES: usize = 2 * 1024 * 1024;
/// Default window at QoS 1.
const QOS1_WINDOW: usize = 200;
/// Default window at QoS 2: what brokers without a Receive Maximum to announce are known to take.
const QOS2_WINDOW: usize = 20;

/// What a scenario does where no flag says otherwise.
struct Defaults {
    name: &'static str,
    shape: Shape,
    publishers: usize,
    subscribers: Option<usize>,
    topics: usize,
    filters: usize,
    window: usize,
    qos: u8,
    rate: Option<f64>,
}

impl Defaults {
    fn of(name: &'static str, shape: Shape) -> Self {
        Self {
            name,
            shape,
            publishers: 10,
            subscribers: None,
            topics: 1,
            filters: 0,
            window: 1000,
            qos: 0,
            rate: None,
        }
    }
}

/// A report, and whether it is wanted as JSON.
pub type Outcome = (Report, bool);

/// Publisher i to subscriber i.
///
/// # Errors
/// The run could not be made.
pub fn pairs(args: &TrafficArgs) -> Result<Outcome, BenchError> {
    run(args, Defaults::of("pairs", Shape::Pairs))
}

/// Every publisher to every subscriber.
///
/// # Errors
/// The run could not be made.
pub fn fan_out(args: &TrafficArgs) -> Result<Outcome, BenchError> {
    let defaults = Defaults::of("fan-out", Shape::FanOut);
    run(args, Defaults { publishers: 1, subscribers: Some(100), window: 500, ..defaults })
}

/// Many publishers to few subscribers with a wildcard.
///
/// # Errors
/// The run could not be made.
pub fn fan_in(args: &TrafficArgs) -> Result<Outcome, BenchError> {
    run(args, Defaults { subscribers: Some(1), window: 500, ..Defaults::of("fan-in", Shape::FanIn) })
}

/// Many publishers to groups of shared subscriptions.
///
/// # Errors
/// The run could not be made.
pub fn shared(args: &TrafficArgs) -> Result<Outcome, BenchError> {
    let shape = Shape::Shared { groups: args.groups };
    run(args, Defaults { window: 500, ..Defaults::of("shared", shape) })
}

/// Pairs over many topics among many loaded filters.
///
/// # Errors
/// The run could not be made.
pub fn wildcard(args: &TrafficArgs) -> Result<Outcome, BenchError> {
    let defaults = Defaults::of("wildcard", Shape::Wildcard);
    run(args, Defaults { topics: 100, filters: 100_000, ..defaults })
}

/// Pairs at a fixed rate.
///
/// # Errors
/// The run could not be made.
pub fn latency(args: &TrafficArgs) -> Result<Outcome, BenchError> {
    let defaults = Defaults::of("latency", Shape::Pairs);
    run(args, Defaults { qos: 1, rate: Some(5000.0), ..defaults })
}

fn run(args: &TrafficArgs, defaults: Defaults) -> Result<Outcome, BenchError> {
    args.common.check()?;
    let publishers = args.publishers.unwrap_or(defaults.publishers);
    let counts = Counts {
        publishers,
        subscribers: args.subscribers.or(defaults.subscribers).unwrap_or(publishers),
        topics: args.topics.unwrap_or(defaults.topics),
        filters: args.filters.unwrap_or(defaults.filters),
    };
    let qos = args.qos.unwrap_or(defaults.qos);
    let by_default = match qos {
        0 => defaults.window,
        1 => defaults.window.min(QOS1_WINDOW),
        _ => defaults.window.min(QOS2_WINDOW),
    };
    let window = args.window.unwrap_or_else(|| by_default.min(WINDOW_BYTES / args.payload.max(1)).max(4));
    let pace = match args.rate.or(if args.window.is_some() { None } else { defaults.rate }) {
        Some(rate) if rate > 0.0 => Pace::Rate(rate),
        Some(_) => return Err(BenchError::Usage("--rate is more than 0".into())),
        None => Pace::Window(window),
    };
    if window == 0 {
        return Err(BenchError::Usage("--window is at least 1".into()));
    }
    let common = &args.common;
    let plan = plan(common, defaults.shape, counts, qos, args.payload, pace)?;
    let plan = Plan { in_flight: window, ..plan };
    let (report, latency) = traffic::run(defaults.name, describe(&plan, common), &plan, &timing(common))?;
    if let Some(path) = &args.histogram {
        write_histogram_log(path, &latency, Duration::from_secs_f64(common.seconds))?;
    }
    Ok((report, common.json))
}

/// A plan from what all scenarios have.
///
/// # Errors
/// Numbers that do not fit the shape, or a broker without an address.
pub fn plan(
    common: &CommonArgs,
    shape: Shape,
    counts: Counts,
    qos: u8,
    payload: usize,
    pace: Pace,
) -> Result<Plan, BenchError> {
    let run = run_name();
    let (topics, subscribers, fan_out, ballast) = shape.topology(&run, counts, payload)?;
    Ok(Plan {
        target: common.target()?,
        run,
        qos,
        payload,
        publishers: counts.publishers,
        topics_each: counts.topics,
        topics,
        subscribers,
        fan_out,
        ballast,
        in_flight: match pace {
            Pace::Window(window) => window,
            Pace::Rate(_) => 1000,
        },
        pace,
        threads: common.threads,
        cores: common.cores.clone(),
    })
}

/// When what is measured, from the flags.
pub fn timing(common: &CommonArgs) -> Timing {
    Timing {
        warmup: Duration::from_secs_f64(common.warmup),
        measure: Duration::from_secs_f64(common.seconds),
        quiet: Duration::from_secs_f64(common.quiet),
        broker: common.pid.clone(),
        progress: !common.no_progress,
    }
}

/// A short name that other runs at the same broker do not have.
pub fn run_name() -> String {
    let nanos =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    format!("b{:04x}", ((nanos as u64 / 1000) ^ (u64::from(std::process::id()) << 7)) & 0xFFFF)
}

/// A protocol version as people call it.
pub fn version_name(version: Version) -> &'static str {
    match version {
        Version::V31 => "MQTT 3.1",
        Version::V311 => "MQTT 3.1.1",
        Version::V5 => "MQTT 5.0",
    }
}

/// What a plan does, in words.
pub fn describe(plan: &Plan, common: &CommonArgs) -> String {
    let held: usize = plan.ballast.iter().map(super::open::Filters::count).sum();
    let mut text = format!(
        "{}, QoS {}, {} B, {} publishers, {} subscribers, {} topics",
        version_name(plan.target.version),
        plan.qos,
        plan.payload,
        plan.publishers,
        plan.subscribers.len(),
        plan.topics.len(),
    );
    if held > 0 {
        text += &format!(", {held} more filters");
    }
    text += &match plan.pace {
        Pace::Window(window) => format!(", window {window}"),
        Pace::Rate(rate) => format!(", open loop at {rate}/s"),
    };
    text + &format!(", {} load thread{}", common.threads, if common.threads == 1 { "" } else { "s" })
}
