//! The generator against its own relay: what it could measure at most.
use super::args::{CommonArgs, SelfTestArgs};
use super::error::BenchError;
use super::plan::{Counts, Pace, Shape};
use super::relay::Relay;
use super::report::{Report, grouped};
use super::scenario::{describe, plan, timing};
use super::traffic;
use super::worker::settle_thread;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// What is tried: name, shape, publishers, subscribers, QoS, window.
const CASES: [(&str, Shape, usize, usize, u8, usize); 4] = [
    ("pairs QoS 0", Shape::Pairs, 10, 10, 0, 1000),
    ("pairs QoS 1", Shape::Pairs, 10, 10, 1, 1000),
    ("pairs QoS 2", Shape::Pairs, 10, 10, 2, 1000),
    ("fan-out 1 to 100, QoS 0", Shape::FanOut, 1, 100, 0, 1000),
];

/// Runs every case; true if nothing was lost.
///
/// # Errors
/// A run could not be made.
pub fn run(args: &SelfTestArgs) -> Result<bool, BenchError> {
    let stop = AtomicBool::new(false);
    let what = "opening the relay's listening socket";
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(BenchError::io(what))?;
    let address = listener.local_addr().map_err(BenchError::io(what))?;
    let common = CommonArgs {
        host: address.ip().to_string(),
        port: address.port(),
        protocol: 4,
        threads: 1,
        cores: vec![args.core],
        seconds: args.seconds,
        warmup: 0.5,
        quiet: 3.0,
        keep_alive: 300,
        tls: Default::default(),
        ws: false,
        ws_path: String::new(),
        username: None,
        password: None,
        pid: Vec::new(),
        json: args.json,
        no_progress: true,
    };
    common.check()?;
    let reports = thread::scope(|scope| {
        let stop = &stop;
        let serving = scope.spawn(move || {
            settle_thread(&[args.relay_core], 0)?;
            Relay::on(listener)?.run(stop)
        });
        let reports: Result<Vec<Report>, BenchError> =
            CASES.iter().map(|case| one(args, &common, *case)).collect();
        stop.store(true, Ordering::Relaxed);
        match serving.join() {
            Ok(Ok(())) => reports,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(BenchError::Aborted("the relay panicked".into())),
        }
    })?;
    if args.json {
        let text = serde_json::to_string(&reports).map_err(|e| BenchError::io("writing JSON")(e.into()))?;
        println!("{text}");
    } else {
        for report in &reports {
            let busy = report.generator_cpu.iter().copied().fold(0.0, f64::max);
            println!(
                "{:<24} {:>12}/s at {:.0}% of a core: {:.1} million/s with a core of its own   {}",
                report.scenario,
                grouped(report.rate as u64),
                busy * 100.0,
                report.rate / busy.max(1e-9) / 1e6,
                report.verdict()
            );
        }
    }
    Ok(reports.iter().all(|report| report.clean))
}

fn one(
    args: &SelfTestArgs,
    common: &CommonArgs,
    (name, shape, publishers, subscribers, qos, window): (&str, Shape, usize, usize, u8, usize),
) -> Result<Report, BenchError> {
    let counts = Counts { publishers, subscribers, topics: 1, filters: 0 };
    let plan = plan(common, shape, counts, qos, args.payload, Pace::Window(window))?;
    Ok(traffic::run(name, describe(&plan, common), &plan, &timing(common))?.0)
}
