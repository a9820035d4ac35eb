//! The `ringmq` command.
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An MQTT 3.1.1 and 5.0 broker, and the tools to try and to measure it.
#[derive(Parser)]
#[command(name = "ringmq", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the broker (also what happens without a command).
    Serve(Box<ringmq::config::command::ServeCommand>),
    /// Check or describe the configuration.
    Config(ringmq::config::command::ConfigCommand),
    /// Add a user to a password file; takes the flags of `mosquitto_passwd`.
    Passwd(ringmq::admin::PasswdArgs),
    /// Begin with users, groups and roles that change at run time.
    Dynsec(ringmq::admin::DynsecArgs),
    /// Say who is not let in, also while the broker runs.
    Ban(ringmq::admin::BanArgs),
    /// Say what the rules about topics allow, and by which rule.
    Acl(ringmq::admin::AclArgs),
    /// Publish messages; takes the flags of `mosquitto_pub`.
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Pub(ringmq::client::PubArgs),
    /// Subscribe and print messages; takes the flags of `mosquitto_sub`.
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Sub(ringmq::client::SubArgs),
    /// Send a request and print the response; takes the flags of `mosquitto_rr`.
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Rr(ringmq::client::RrArgs),
    /// Look at a data directory.
    Store(ringmq::store::durable::check::StoreCommand),
    /// Measure any MQTT broker.
    Bench(ringmq::bench::BenchArgs),
}

fn main() -> ExitCode {
    let mut matches = Cli::command().get_matches();
    let of_command = matches.subcommand().map(|(_, matches)| matches.clone()).unwrap_or_default();
    let cli = Cli::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit());
    match cli.command {
        None => ringmq::admin::serve(ringmq::config::sources::Sources::new(None, None)),
        Some(Command::Serve(command)) => ringmq::admin::serve(command.sources(&of_command)),
        Some(Command::Config(command)) => ringmq::admin::config(command, &of_command),
        Some(Command::Passwd(args)) => ringmq::admin::passwd(args),
        Some(Command::Dynsec(args)) => ringmq::admin::dynsec(args),
        Some(Command::Ban(args)) => ringmq::admin::ban(args),
        Some(Command::Acl(args)) => ringmq::admin::acl(args),
        Some(Command::Pub(args)) => ringmq::client::publish(args),
        Some(Command::Sub(args)) => ringmq::client::subscribe(args),
        Some(Command::Rr(args)) => ringmq::client::request(args),
        Some(Command::Store(command)) => ringmq::store::durable::check::run(&command),
        Some(Command::Bench(args)) => ringmq::bench::run(args),
    }
}
