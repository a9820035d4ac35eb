//! A small MQTT client, and the commands `ringmq pub`, `ringmq sub` and `ringmq rr`.
use std::process::ExitCode;

/// The flags of `ringmq pub`.
#[derive(clap::Args)]
pub struct PubArgs {}
/// The flags of `ringmq sub`.
#[derive(clap::Args)]
pub struct SubArgs {}
/// The flags of `ringmq rr`.
#[derive(clap::Args)]
pub struct RrArgs {}

/// `ringmq pub`.
pub fn publish(_args: PubArgs) -> ExitCode {
    ExitCode::SUCCESS
}
/// `ringmq sub`.
pub fn subscribe(_args: SubArgs) -> ExitCode {
    ExitCode::SUCCESS
}
/// `ringmq rr`.
pub fn request(_args: RrArgs) -> ExitCode {
    ExitCode::SUCCESS
}
