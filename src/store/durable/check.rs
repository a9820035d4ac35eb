//! `ringmq store check` and `ringmq store dump`: what is in a data directory, without a broker.
use super::directory::{Directory, SetAside, hex};
use super::load::{self, Opened, Purpose};
use crate::session::message::Message;
use crate::store::record::{Flight, Wall};
use crate::store::recovered::RecoveredSession;
use clap::{Args, Subcommand};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Nothing is wrong.
const INTACT: u8 = 0;
/// Something is damaged.
const DAMAGED: u8 = 1;
/// The directory cannot be looked at.
const CANNOT: u8 = 2;
/// Bytes of a payload that a dump shows.
const SHOWN: usize = 64;

/// Looks at a data directory that no broker uses.
#[derive(Args, Debug)]
pub struct StoreCommand {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Say how much there is and what is damaged; changes nothing. Exit code 0: intact, 1: damaged, 2: cannot be read
    Check {
        /// The data directory
        dir: PathBuf,
    },
    /// Write out what is there, one line a record, times in milliseconds since 1970; changes nothing
    Dump {
        /// The data directory
        dir: PathBuf,
    },
}

/// Runs the command.
pub fn run(command: &StoreCommand) -> ExitCode {
    let (dir, is_dump) = match &command.task {
        Task::Check { dir } => (dir, false),
        Task::Dump { dir } => (dir, true),
    };
    match look(dir, is_dump) {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            eprintln!("ringmq: {problem}");
            ExitCode::from(CANNOT)
        }
    }
}

fn look(dir: &Path, is_dump: bool) -> Result<u8, String> {
    let directory = Directory::take(dir, false)?;
    // Opening may write, so it is done with links to the files, which the engine replaces but does not change.
    let scratch =
        directory.scratch().map_err(|error| format!("{} cannot be looked at: {error}", dir.display()))?;
    let outcome = load::open(scratch, Wall(0), Purpose::Look);
    let outcome = outcome.and_then(|opened| {
        let code = if opened.set_aside.is_empty() { INTACT } else { DAMAGED };
        let written = if is_dump { dump(&opened) } else { summary(dir, &opened) };
        for damage in opened.set_aside.iter().cloned() {
            // It is still in its place: what was repaired is gone again.
            eprintln!("ringmq: {}", SetAside { kept_in: None, ..damage });
        }
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
            _ => Ok(code),
        }
    });
    directory.remove_scratch();
    outcome
}

fn summary(dir: &Path, opened: &Opened) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let recovered = &opened.recovered;
    let sessions = recovered.sessions.values();
    let subscriptions: usize = sessions.clone().map(|session| session.subscriptions.len()).sum();
    let wills = sessions.clone().filter(|session| session.record.will.is_some()).count();
    let unreleased: usize = sessions.map(|session| session.incoming.len()).sum();
    writeln!(out, "{}", dir.display())?;
    writeln!(out, "begun              {} times", opened.run)?;
    writeln!(out, "sessions           {}", recovered.sessions.len())?;
    writeln!(out, "subscriptions      {subscriptions}")?;
    writeln!(out, "wills              {wills}")?;
    writeln!(out, "queued, in flight  {}", recovered.entries())?;
    writeln!(out, "unreleased ids     {unreleased}")?;
    writeln!(out, "waiting in groups  {}", recovered.group_messages.len())?;
    writeln!(out, "retained           {}", recovered.retained.len())?;
    writeln!(out, "bytes on disk      {}", opened.engine.disk_space())?;
    match opened.set_aside.len() {
        0 => writeln!(out, "damaged            nothing"),
        count => writeln!(out, "damaged            {count} places"),
    }
}

fn dump(opened: &Opened) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for session in opened.recovered.sessions.values() {
        dump_session(&mut out, session)?;
    }
    for message in &opened.recovered.retained {
        writeln!(out, "retained {}", shown(message))?;
    }
    for waiting in &opened.recovered.group_messages {
        let (group, message) = (&waiting.group, shown(&waiting.message));
        writeln!(out, "group $share/{}/{} {} {message}", group.share, group.filter, waiting.position)?;
    }
    out.flush()
}

fn dump_session(out: &mut impl Write, session: &RecoveredSession) -> io::Result<()> {
    let record = &session.record;
    let client_id = &record.client_id;
    write!(out, "session {client_id:?} number {:x} expiry {}s", session.number, record.expiry_interval)?;
    match record.expires {
        None => writeln!(out, " connected")?,
        Some(at) => writeln!(out, " ends {}", time(at))?,
    }
    if let Some(will) = &record.will {
        writeln!(
            out,
            "will {client_id:?} delay {}s due {} {}",
            will.delay,
            time(record.will_due),
            shown(&will.message)
        )?;
    }
    for (filter, subscription) in &session.subscriptions {
        let options = subscription.options;
        writeln!(
            out,
            "subscription {client_id:?} {filter:?} QoS {} id {}",
            options.qos as u8, subscription.id
        )?;
    }
    for packet_id in &session.incoming {
        writeln!(out, "unreleased {client_id:?} packet id {packet_id}")?;
    }
    for entry in &session.entries {
        let state = match entry.flight {
            None => "queued".to_string(),
            Some(Flight::Sent(packet_id)) => format!("sent as {packet_id}"),
            Some(Flight::Released(packet_id)) => format!("released {packet_id}"),
        };
        let message = entry.delivery.as_ref().map_or(String::new(), |delivery| {
            format!(" QoS {} {}", delivery.qos as u8, shown(&delivery.message))
        });
        writeln!(out, "message {client_id:?} {} {state}{message}", entry.position)?;
    }
    Ok(())
}

fn time(time: crate::time::Time) -> String {
    if time == crate::time::Time::NEVER { "never".to_string() } else { time.0.to_string() }
}

/// Topic, expiry and payload, the latter as text if it is some.
fn shown(message: &Message) -> String {
    let payload = message.payload();
    let start = &payload[..payload.len().min(SHOWN)];
    let more = if payload.len() > SHOWN { "..." } else { "" };
    let text = match std::str::from_utf8(start) {
        Ok(text) => format!("{text:?}"),
        Err(_) => hex(start),
    };
    format!("{:?} expires {} {} bytes {text}{more}", message.topic(), time(message.expires), payload.len())
}
