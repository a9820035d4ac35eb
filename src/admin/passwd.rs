//! `ringmq passwd`: users and their passwords in a file, by the flags of `mosquitto_passwd`.
use crate::auth::backend::files;
use crate::auth::backend::hash::{argon2id, salt};
use crate::auth::backend::password_file::MAX_PASSWORD_FILE;
use crate::auth::scram::{Credentials, Hash, ROUNDS};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Longest user name: what an MQTT string can say.
const MAX_NAME: usize = 65_535;

/// Add a user to a password file, or set the password anew
#[derive(clap::Args, Debug)]
pub struct PasswdArgs {
    /// Begin a new file; an existing one is overwritten
    #[arg(short = 'c', conflicts_with = "delete")]
    create: bool,
    /// Take the password from the command line, where others can see it
    #[arg(short = 'b', requires = "password")]
    batch: bool,
    /// Delete the user
    #[arg(short = 'D', conflicts_with = "batch")]
    delete: bool,
    /// Write a file for --scram-file, with the credentials of SCRAM-SHA-256 and SCRAM-SHA-512
    #[arg(long)]
    scram: bool,
    /// The file
    file: PathBuf,
    /// The user
    user: String,
    /// The password, with -b
    #[arg(requires = "batch")]
    password: Option<String>,
}

/// Runs `ringmq passwd`; the exit code is 2 when it cannot.
pub fn passwd(args: PasswdArgs) -> ExitCode {
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("ringmq: {problem}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &PasswdArgs) -> Result<(), String> {
    let user = &args.user;
    if user.is_empty()
        || user.len() > MAX_NAME
        || user.contains([':', '\n', '\r', '\0'])
        || user.starts_with('#')
    {
        return Err(
            "a user name is not empty, has no colon and no line break, and does not begin with #".to_string()
        );
    }
    let text = if args.create { String::new() } else { files::read(&args.file, MAX_PASSWORD_FILE)? };
    let entries = match (args.delete, args.scram) {
        (true, _) => Vec::new(),
        (false, scram) => {
            let password = match &args.password {
                Some(password) => password.clone(),
                None => ask_twice(user)?,
            };
            if password.is_empty() {
                return Err("the password is empty".to_string());
            }
            hashes(password.as_bytes(), scram)?
        }
    };
    let (text, was_there) = with_user(&text, user, &entries);
    if args.delete && !was_there {
        return Err(format!("{} has no user {user}", args.file.display()));
    }
    write(&args.file, &text)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    files::replace(path, text.as_bytes())
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

fn hashes(password: &[u8], scram: bool) -> Result<Vec<String>, String> {
    if !scram {
        return Ok(vec![argon2id(password)?]);
    }
    Hash::ALL.into_iter().map(|hash| Ok(Credentials::new(hash, password, &salt()?, ROUNDS).text())).collect()
}

/// The text with the user's lines replaced (or left out, without entries), and whether there were some.
fn with_user(text: &str, user: &str, entries: &[String]) -> (String, bool) {
    let is_own = |line: &str| line.split_once(':').is_some_and(|(name, _)| name == user);
    let was_there = text.lines().any(is_own);
    let mut out = String::with_capacity(text.len() + 128);
    for line in text.lines().filter(|line| !is_own(line)) {
        out.push_str(line);
        out.push('\n');
    }
    entries.iter().for_each(|entry| out.push_str(&format!("{user}:{entry}\n")));
    (out, was_there)
}

/// Asks for a password twice, without showing it. Input that is no terminal has it in one line.
pub fn ask_twice(user: &str) -> Result<String, String> {
    if !io::stdin().is_terminal() {
        return ask();
    }
    say(&format!("password of {user}: "));
    let password = without_echo(ask)?;
    say("\nonce more: ");
    let again = without_echo(ask)?;
    say("\n");
    if password == again {
        Ok(password)
    } else {
        Err("the passwords differ; nothing was changed".to_string())
    }
}

fn say(text: &str) {
    let mut out = io::stderr().lock();
    // A prompt that nobody can see harms nothing.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn ask() -> Result<String, String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|error| format!("no password: {error}"))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_string())
}

fn without_echo<T>(ask: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let stdin = io::stdin();
    let fail = |error: rustix::io::Errno| format!("the terminal cannot hide the password: {error}; use -b");
    let shown = tcgetattr(&stdin).map_err(fail)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(fail)?;
    let answer = ask();
    tcsetattr(&stdin, OptionalActions::Flush, &shown).map_err(fail)?;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_lines_are_replaced_and_the_others_kept() {
        let text = "# users\nann:1\nann2:2\nann:3\n";
        let (new, was_there) = with_user(text, "ann", &["x".to_string(), "y".to_string()]);
        assert_eq!((new.as_str(), was_there), ("# users\nann2:2\nann:x\nann:y\n", true));
        assert_eq!(with_user(text, "bob", &[]), (text.to_string(), false));
    }
}
