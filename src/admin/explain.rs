//! `ringmq acl explain`: what the rules say, and which of them.
use crate::auth::access::{Access, Judgement, Policy};
use crate::auth::backend::{Backends, Doors};
use crate::auth::decision::Grant;
use crate::auth::rule::{Operation, Subject};
use crate::config::sources::Sources;
use crate::time::Time;
use crate::topic::{check_filter, check_name, has_wildcard};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Ask the rules about topics
#[derive(clap::Args, Debug)]
pub struct AclArgs {
    #[command(subcommand)]
    command: AclCommand,
}

#[derive(clap::Subcommand, Debug)]
enum AclCommand {
    /// Say what a client may do with a topic or a filter, and by which rule
    Explain(ExplainArgs),
}

#[derive(clap::Args, Debug)]
struct ExplainArgs {
    /// User name; without it the client is an anonymous one
    #[arg(short, long)]
    user: Option<String>,
    /// Client id
    #[arg(short, long, default_value = "")]
    client: String,
    /// Topic, or filter to subscribe to
    #[arg(short, long)]
    topic: String,
    /// Configuration file that names the files with the rules
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// ACL file, if it is not that of the configuration
    #[arg(long, value_name = "FILE")]
    acl_file: Option<std::path::PathBuf>,
}

/// Runs `ringmq acl`. The exit code is 0 if anything is allowed, 1 if nothing is, 2 when the rules cannot be read.
pub fn acl(args: AclArgs) -> ExitCode {
    let AclCommand::Explain(args) = args.command;
    match explain(&args) {
        Ok((text, allowed)) => {
            // Whoever closed our standard output has seen enough.
            let _ = io::stdout().lock().write_all(text.as_bytes());
            ExitCode::from(u8::from(!allowed))
        }
        Err(problem) => {
            eprintln!("ringmq: {problem}");
            ExitCode::from(2)
        }
    }
}

fn explain(args: &ExplainArgs) -> Result<(String, bool), String> {
    let mut auth = Sources::new(None, args.config.clone()).load()?.args.auth;
    if args.acl_file.is_some() {
        auth.acl_file.clone_from(&args.acl_file);
    }
    let (backends, _) = Backends::load(&auth, Doors::default(), Instant::now())?;
    let policy = backends.policy();
    if !policy.restricts() {
        return Err(
            "no rules: name an ACL file with --acl-file, or a configuration with --config".to_string()
        );
    }
    check_filter(&args.topic, usize::MAX)
        .map_err(|error| format!("{:?} is no topic: {error}", args.topic))?;
    Ok(report(&policy, args.user.as_deref(), &args.client, &args.topic))
}

/// One line for each thing that can be done with it, and whether any is allowed.
fn report(policy: &Policy, user: Option<&str>, client_id: &str, topic: &str) -> (String, bool) {
    let access = Access::new(Grant { user: user.map(Arc::from), ..Grant::default() }, Time(0));
    let subject = Subject { user, client_id };
    let topics = [(Operation::Publish, "publish"), (Operation::Receive, "receive")];
    let filters = [(Operation::Subscribe, "subscribe"), (Operation::Unsubscribe, "unsubscribe")];
    let is_topic = !has_wildcard(topic) && check_name(topic, usize::MAX).is_ok();
    let mut text = String::new();
    let mut any = false;
    for (operation, name) in topics.into_iter().filter(|_| is_topic).chain(filters) {
        let (word, why) = match policy.judge(&access, subject.client_id, operation, topic) {
            Judgement::Allowed(rule) => {
                any |= operation != Operation::Unsubscribe;
                ("allowed", rule.to_string())
            }
            Judgement::Denied(rule) => ("denied", rule.to_string()),
            Judgement::Ask => ("asked", "the HTTP service decides".to_string()),
        };
        text.push_str(&format!("{name:<11} {word:<7} {why}\n"));
    }
    (text, any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::acl::AclFile;

    #[test]
    fn every_operation_is_told_with_its_rule() {
        let acl = AclFile::parse("user ann\ntopic write a/#\n").unwrap();
        let policy = Policy { acl: Some(Arc::new(acl)), ..Policy::default() };
        let (text, any) = report(&policy, Some("ann"), "c", "a/b");
        assert_eq!(
            text,
            "publish     allowed line 2 of the ACL file: topic write a/#\n\
             receive     denied  no rule allows it\n\
             subscribe   denied  no rule allows it\n\
             unsubscribe allowed default access of unsubscribe\n"
        );
        assert!(any);
        let (text, any) = report(&policy, None, "c", "a/+");
        assert!(text.starts_with("subscribe   denied") && !any, "{text}");
    }
}
