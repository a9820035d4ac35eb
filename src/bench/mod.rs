//! The load generator behind `ringmq bench`: it measures any MQTT broker over TCP, verifies every
//! message, and is light enough that the broker, not the generator, sets the rate.
//!
//! Each load thread has its own sockets and its own epoll set (`worker`); publishes are patched
//! into prepared packets (`wire`, `publisher`), deliveries are verified in the receive buffer
//! (`subscriber`, `verify`, `payload`); `traffic` runs a `plan` and makes the `report`.
mod args;
mod conn;
mod connections;
mod error;
mod ledger;
mod open;
mod payload;
mod plan;
mod poll;
mod process;
mod publisher;
mod relay;
mod report;
mod scenario;
mod self_test;
mod store;
mod stored;
mod subscriber;
mod suite;
#[cfg(test)]
mod tests;
mod traffic;
mod verify;
mod wire;
mod worker;

pub use args::BenchArgs;
use args::Scenario;
use error::BenchError;
use report::Report;
use std::process::ExitCode;

/// Runs one benchmark. Exit code 1 when a message was not delivered as it should be, 2 when the
/// benchmark could not be run.
pub fn run(args: BenchArgs) -> ExitCode {
    match measure(*args.scenario) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("ringmq bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(scenario: Scenario) -> Result<bool, BenchError> {
    process::raise_file_limit()?;
    let (report, json) = match scenario {
        Scenario::Relay(args) => return relay::serve(&args).map(|()| true),
        Scenario::SelfTest(args) => return self_test::run(&args),
        Scenario::Pairs(args) => scenario::pairs(&args)?,
        Scenario::FanOut(args) => scenario::fan_out(&args)?,
        Scenario::FanIn(args) => scenario::fan_in(&args)?,
        Scenario::Shared(args) => scenario::shared(&args)?,
        Scenario::Wildcard(args) => scenario::wildcard(&args)?,
        Scenario::Latency(args) => scenario::latency(&args)?,
        Scenario::Idle(args) => connections::idle(&args)?,
        Scenario::Connect(args) => connections::connect(&args)?,
        Scenario::Churn(args) => connections::churn(&args)?,
        Scenario::Retained(args) => stored::retained(&args)?,
        Scenario::Offline(args) => stored::offline(&args)?,
        Scenario::Suite(args) => suite::run(&args)?,
    };
    show(&report, json)?;
    Ok(report.clean)
}

fn show(report: &Report, json: bool) -> Result<(), BenchError> {
    if json {
        let text = serde_json::to_string(report).map_err(|e| BenchError::io("writing JSON")(e.into()))?;
        println!("{text}");
    } else {
        print!("{}", report.table());
    }
    Ok(())
}
