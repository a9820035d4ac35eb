//! The load generator behind `ringmq bench`.
use std::process::ExitCode;

/// The flags of `ringmq bench`.
#[derive(clap::Args)]
pub struct BenchArgs {}

/// Runs one benchmark.
pub fn run(_args: BenchArgs) -> ExitCode {
    ExitCode::SUCCESS
}
