//! `ringmq ban`: edits the ban file, which a running broker looks at every two seconds.
use crate::auth::backend::bans::{self, MAX_BAN_FILE, unix_seconds};
use crate::auth::backend::files;
use crate::config::units::Span;
use crate::time::Time;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Permissions of a new ban file, in which nothing is secret: the broker may be another user than who bans.
const PUBLIC: u32 = 0o644;

/// Say who is not let in
#[derive(clap::Args, Debug)]
pub struct BanArgs {
    #[command(subcommand)]
    command: BanCommand,
}

#[derive(clap::Subcommand, Debug)]
enum BanCommand {
    /// Ban somebody; who is banned already is banned anew
    Add {
        #[command(flatten)]
        whom: Whom,
        /// Time after which the ban ends, like 1h [default: never]
        #[arg(long = "for", value_name = "TIME")]
        lasts: Option<Span>,
    },
    /// Take a ban back
    Remove(Whom),
    /// Show the bans that hold
    List {
        /// The file of --ban-file
        file: PathBuf,
    },
}

#[derive(clap::Args, Debug)]
struct Whom {
    /// The file of --ban-file; made if there is none
    file: PathBuf,
    /// What is banned
    kind: Kind,
    /// Client id, verified user name, or network like 192.0.2.0/24
    name: String,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// A client id.
    Client,
    /// A user.
    User,
    /// A network, or one address.
    Network,
}

/// Runs `ringmq ban`; the exit code is 2 when it cannot.
pub fn ban(args: BanArgs) -> ExitCode {
    match run(args.command, unix_seconds()) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("ringmq: {problem}");
            ExitCode::from(2)
        }
    }
}

/// `now`: the Unix clock, seconds. What is to be printed, or one sentence.
fn run(command: BanCommand, now: u64) -> Result<String, String> {
    match command {
        BanCommand::Add { whom, lasts } => {
            let what = whom.what()?;
            let until = lasts.map(|lasts| now.saturating_add(lasts.millis.div_ceil(1000).max(1)));
            let line = until.map_or(what.clone(), |until| format!("until {until} {what}"));
            edit(&whom.file, |text| Ok(without(text, &what, now).0 + &line + "\n"))?;
            Ok(String::new())
        }
        BanCommand::Remove(whom) => {
            let what = whom.what()?;
            edit(&whom.file, |text| match without(text, &what, now) {
                (_, false) => Err(format!("{} has no ban of {what}", whom.file.display())),
                (text, true) => Ok(text),
            })?;
            Ok(String::new())
        }
        BanCommand::List { file } => {
            let text = checked(&file, files::read(&file, MAX_BAN_FILE)?)?;
            let held = text.lines().filter_map(parts).filter(|(until, _)| holds(*until, now));
            let shown = held.map(|(until, what)| match until {
                None => format!("{what}\n"),
                Some(until) => format!("{what} (for another {})\n", Span::secs(until - now)),
            });
            Ok(shown.collect())
        }
    }
}

impl Whom {
    /// The ban as its line has it. It is one that the broker reads as this and nothing else.
    fn what(&self) -> Result<String, String> {
        let kind = match self.kind {
            Kind::Client => "client",
            Kind::User => "user",
            Kind::Network => "network",
        };
        if self.name.trim() != self.name || self.name.contains(['\n', '\r']) {
            return Err(
                "a name that begins or ends with a space, or has line breaks, cannot be in a ban file"
                    .to_string(),
            );
        }
        let line = format!("{kind} {}", self.name);
        bans::parse(&line, (Time(0), 0)).map_err(|_| bans::sentence(&line)).map(|_| line)
    }
}

/// Changes the file as a whole, with nobody else doing so at the same time.
fn edit(path: &Path, change: impl FnOnce(&str) -> Result<String, String>) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The file itself is replaced, so that a lock on it would be one on what is no more.
    let lock = File::open(folder).map_err(fail)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| fail(error.into()))?;
    let is_new = !path.exists();
    let text = if is_new { String::new() } else { checked(path, files::read(path, MAX_BAN_FILE)?)? };
    let text = change(&text)?;
    if text.len() as u64 > MAX_BAN_FILE {
        return Err(format!("{} would be longer than {MAX_BAN_FILE} bytes; remove bans", path.display()));
    }
    files::replace(path, text.as_bytes()).map_err(fail)?;
    match is_new {
        true => fs::set_permissions(path, Permissions::from_mode(PUBLIC)).map_err(fail),
        false => Ok(()),
    }
}

/// The text, if the broker would take it.
fn checked(path: &Path, text: String) -> Result<String, String> {
    match bans::parse(&text, (Time(0), 0)) {
        Ok(_) => Ok(text),
        Err(problem) => Err(format!("{}: {problem}", path.display())),
    }
}

/// The end of a ban and the ban, of a line that is one.
fn parts(line: &str) -> Option<(Option<u64>, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let timed = line.strip_prefix("until ").and_then(|rest| rest.trim_start().split_once(' '));
    Some(match timed {
        Some((until, what)) => (until.parse().ok(), what.trim_start()),
        None => (None, line),
    })
}

fn holds(until: Option<u64>, now: u64) -> bool {
    until.is_none_or(|until| until > now)
}

/// The text without one ban, and without those that are over; and whether the one was there.
fn without(text: &str, what: &str, now: u64) -> (String, bool) {
    let (mut out, mut was_there) = (String::with_capacity(text.len()), false);
    for line in text.lines() {
        if let Some((until, ban)) = parts(line) {
            was_there |= ban == what && holds(until, now);
            if ban == what || !holds(until, now) {
                continue;
            }
        }
        out.push_str(line);
        out.push('\n');
    }
    (out, was_there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_is_replaced_and_what_is_over_leaves() {
        let text = "# mine\nclient a\nuntil 50 user b\nuntil 200 user c\n";
        assert_eq!(without(text, "client a", 100), ("# mine\nuntil 200 user c\n".to_string(), true));
        assert!(!without(text, "user b", 100).1, "it was over");
        assert_eq!(without(text, "user c", 100).0, "# mine\nclient a\n");
    }

    #[test]
    fn only_what_the_broker_reads_is_written() {
        let what = |kind, name: &str| Whom { file: PathBuf::new(), kind, name: name.to_string() }.what();
        assert_eq!(what(Kind::Client, "a b").unwrap(), "client a b");
        assert!(what(Kind::Network, "192.0.2.0/24").is_ok());
        for (kind, name) in [
            (Kind::Network, "192.0.2.0/99"),
            (Kind::Client, ""),
            (Kind::User, " x"),
            (Kind::User, "x\nclient y"),
        ] {
            assert!(what(kind, name).is_err(), "{name:?}");
        }
    }
}
