//! `ringmq dynsec init`: the file of the dynamic security API, with its first administrator.
use super::passwd::ask_twice;
use crate::auth::backend::dynsec::init;
use std::path::PathBuf;
use std::process::ExitCode;

/// Users, groups and roles that change at run time
#[derive(clap::Args, Debug)]
pub struct DynsecArgs {
    #[command(subcommand)]
    command: DynsecCommand,
}

#[derive(clap::Subcommand, Debug)]
enum DynsecCommand {
    /// Make the file for --dynsec-file, with a user that may administrate by `mosquitto_ctrl dynsec`
    Init {
        /// The file; an existing one is not overwritten
        file: PathBuf,
        /// The administrator's user name
        admin: String,
        /// The password; without it, it is asked for
        password: Option<String>,
    },
}

/// Runs `ringmq dynsec`; the exit code is 2 when it cannot.
pub fn dynsec(args: DynsecArgs) -> ExitCode {
    let DynsecCommand::Init { file, admin, password } = args.command;
    let password = password.map_or_else(|| ask_twice(&admin), Ok);
    let outcome = password.and_then(|password| match admin.is_empty() || password.is_empty() {
        true => Err("user name and password are not empty".to_string()),
        false => init(&file, &admin, &password),
    });
    match outcome {
        Ok(()) => {
            println!("{} has the administrator {admin}; start with --dynsec-file {0}", file.display());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("ringmq: {problem}");
            ExitCode::from(2)
        }
    }
}
