//! The EMQ Open MQTT Benchmark Suite by name: its topologies and rates, scaled by one factor.
//!
//! MQTT 3.1.1 (5.0 for the shared subscriptions), QoS 1 on both sides, keep alive 300 s, clean
//! sessions, 16 bytes of payload.
use super::args::{ConnectionArgs, SuiteArgs};
use super::connections;
use super::error::BenchError;
use super::plan::{Counts, Pace, Shape};
use super::report::write_histogram_log;
use super::scenario::{Outcome, describe, plan, timing};
use super::traffic;
use std::time::Duration;

/// One scenario of the suite.
struct Entry {
    name: &'static str,
    kind: Kind,
}

enum Kind {
    /// Connections, and how many are started per second.
    Connect(usize, f64),
    /// Shape, publishers, subscribers, messages per second and publisher. The flag says whether the
    /// publishers are scaled too (in the fan-outs it is the subscribers alone).
    Traffic { shape: Shape, publishers: usize, subscribers: usize, rate: f64, few_publishers: bool, v5: bool },
}

const fn pairs(name: &'static str, count: usize) -> Entry {
    let kind = Kind::Traffic {
        shape: Shape::Pairs,
        publishers: count,
        subscribers: count,
        rate: 1.0,
        few_publishers: false,
        v5: false,
    };
    Entry { name, kind }
}

const fn fan_out(name: &'static str, publishers: usize, subscribers: usize, rate: f64) -> Entry {
    let shape = Shape::FanOut;
    let kind = Kind::Traffic { shape, publishers, subscribers, rate, few_publishers: true, v5: false };
    Entry { name, kind }
}

const fn shared(name: &'static str, publishers: usize, subscribers: usize) -> Entry {
    let shape = Shape::Shared { groups: 1 };
    let kind = Kind::Traffic { shape, publishers, subscribers, rate: 1.0, few_publishers: false, v5: true };
    Entry { name, kind }
}

const SUITE: [Entry; 8] = [
    Entry { name: "conn-tcp-10K-100", kind: Kind::Connect(10_000, 100.0) },
    Entry { name: "conn-tcp-1M-5K", kind: Kind::Connect(1_000_000, 5_000.0) },
    fan_out("fanout-1-1K-1-1K", 1, 1_000, 1.0),
    fan_out("fanout-5-1000-5-250K", 5, 1_000, 50.0),
    pairs("p2p-1K-1K-1K-1K", 1_000),
    pairs("p2p-50K-50K-50K-50K", 50_000),
    shared("sharedsub-1K-5-1K-1K", 1_000, 5),
    shared("sharedsub-50K-500-50K-50K", 50_000, 500),
];

/// Runs one scenario of the suite.
///
/// # Errors
/// A name that the suite does not have, or the run could not be made.
pub fn run(args: &SuiteArgs) -> Result<Outcome, BenchError> {
    let names = || SUITE.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
    let Some(entry) = SUITE.iter().find(|entry| entry.name.eq_ignore_ascii_case(&args.name)) else {
        return Err(BenchError::Usage(format!("the suite has {}", names())));
    };
    if !(args.scale > 0.0 && args.scale <= 100.0) {
        return Err(BenchError::Usage("--scale is more than 0 and at most 100".into()));
    }
    let scaled = |count: usize| ((count as f64 * args.scale).round() as usize).max(1);
    let mut common = args.common.clone();
    let (mut report, json) = match entry.kind {
        Kind::Connect(connections, rate) => connections::connect(&ConnectionArgs {
            common,
            connections: scaled(connections),
            rate: Some(rate * args.scale),
            at_once: 1000,
            filters: None,
        })?,
        Kind::Traffic { shape, publishers, subscribers, rate, few_publishers, v5 } => {
            common.protocol = if v5 { 5 } else { common.protocol };
            let counts = Counts {
                publishers: if few_publishers { publishers } else { scaled(publishers) },
                subscribers: scaled(subscribers),
                topics: 1,
                filters: 0,
            };
            let pace = Pace::Rate(rate * counts.publishers as f64);
            let plan = plan(&common, shape, counts, 1, args.payload, pace)?;
            let (report, latency) = traffic::run("suite", describe(&plan, &common), &plan, &timing(&common))?;
            if let Some(path) = &args.histogram {
                write_histogram_log(path, &latency, Duration::from_secs_f64(common.seconds))?;
            }
            (report, common.json)
        }
    };
    report.scenario = format!("{} x {}", entry.name, args.scale);
    Ok((report, json))
}
