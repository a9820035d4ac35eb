//! From the words of the command line to checked options.
use super::property::{PAIR, SEPARATOR};
use clap::builder::StyledStr;
use clap::error::ErrorKind;
use clap::{Command, Parser};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::ExitCode;

/// The options of `T` from the words, or the exit code after help, the version or one sentence was printed.
pub(super) fn parse<T: Parser>(name: &'static str, words: Vec<OsString>) -> Result<T, ExitCode> {
    let command = command::<T>(name);
    let result = join_properties(&command, words).and_then(|words| {
        let mut matches = command.try_get_matches_from(words).map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Show(error),
            _ => Stop::Complain(sentence(&error)),
        })?;
        T::from_arg_matches_mut(&mut matches).map_err(|error| Stop::Complain(sentence(&error)))
    });
    result.map_err(|stop| match stop {
        Stop::Show(error) => {
            // Nobody reads it if this fails.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        Stop::Complain(sentence) => wrong_use(name, &sentence),
    })
}

/// Says what is wrong with the command line and where the right one is explained.
pub(super) fn wrong_use(name: &str, sentence: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "Error: {sentence}. Use '{name} --help' to see usage.");
    ExitCode::from(super::error::FAILED)
}

/// The text of `--help`.
pub(super) fn help<T: Parser>(name: &'static str) -> StyledStr {
    command::<T>(name).render_help()
}

enum Stop {
    Show(clap::Error),
    Complain(String),
}

/// As [`Parser`] describes it, with values that may begin with a hyphen and later flags that win over earlier ones.
fn command<T: Parser>(name: &'static str) -> Command {
    T::command()
        .name(name)
        .bin_name(name)
        .display_name(name)
        .version(env!("CARGO_PKG_VERSION"))
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .mut_args(|arg| if arg.get_action().takes_values() { arg.allow_hyphen_values(true) } else { arg })
}

/// What clap complains about, without its advice.
fn sentence(error: &clap::Error) -> String {
    let text = error.render().to_string().replace(SEPARATOR, " ");
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let mut sentence = first.strip_prefix("error: ").unwrap_or(first).trim_end_matches('.').to_owned();
    if sentence.ends_with(':') {
        let more: Vec<&str> = lines.take_while(|line| !line.is_empty()).map(str::trim).collect();
        sentence = format!("{sentence} {}", more.join(", "));
    }
    sentence
}

/// Puts the three or four words after each `-D` into one, so that it is a flag with one value like any other.
fn join_properties(command: &Command, words: Vec<OsString>) -> Result<Vec<OsString>, Stop> {
    let mut joined = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let is_property = word == "-D" || word == "--property";
        let wants_value = !is_property && wants_next(command, &word);
        joined.push(word);
        if is_property {
            joined.push(join(&mut words)?.into());
        } else if wants_value {
            joined.extend(words.next());
        }
    }
    Ok(joined)
}

fn join(words: &mut impl Iterator<Item = OsString>) -> Result<String, Stop> {
    let mut next = || {
        let word = words
            .next()
            .ok_or_else(|| Stop::Complain("-D needs a command, a name and a value".to_owned()))?;
        word.into_string().map_err(|_| Stop::Complain("-D takes UTF-8 only".to_owned()))
    };
    let mut joined = next()?;
    let name = next()?;
    let values = if name == PAIR { 2 } else { 1 };
    joined.push(SEPARATOR);
    joined.push_str(&name);
    for _ in 0..values {
        joined.push(SEPARATOR);
        joined.push_str(&next()?);
    }
    Ok(joined)
}

/// Whether the word is a flag whose value is the next word.
fn wants_next(command: &Command, word: &OsStr) -> bool {
    let Some(word) = word.to_str() else { return false };
    if let Some(long) = word.strip_prefix("--") {
        return command
            .get_arguments()
            .any(|arg| arg.get_long() == Some(long) && arg.get_action().takes_values());
    }
    let Some(flags) = word.strip_prefix('-') else { return false };
    // The first flag of a cluster that takes a value takes the rest of the word, or the next word if nothing is left.
    let takes_value = |flag| {
        command.get_arguments().any(|arg| arg.get_short() == Some(flag) && arg.get_action().takes_values())
    };
    flags
        .char_indices()
        .find(|(_, flag)| takes_value(*flag))
        .is_some_and(|(at, flag)| at + flag.len_utf8() == flags.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches;

    #[derive(Parser)]
    struct Options {
        #[arg(short = 'm')]
        message: Option<String>,
        #[arg(short = 't', action = clap::ArgAction::Append)]
        topic: Vec<String>,
        #[arg(short = 'D', long = "property", action = clap::ArgAction::Append)]
        property: Vec<String>,
        #[arg(short = 'r')]
        retain: bool,
        #[arg(short = 'q', value_parser = clap::value_parser!(u8).range(0..=2))]
        qos: Option<u8>,
    }

    fn read(words: &[&str]) -> Result<Options, String> {
        let command = command::<Options>("test");
        let words = words.iter().map(OsString::from).collect();
        let words = join_properties(&command, words).map_err(|_| "properties".to_owned())?;
        let mut matches = command.try_get_matches_from(words).map_err(|error| sentence(&error))?;
        Ok(Options::from_arg_matches_mut(&mut matches).unwrap())
    }

    #[test]
    fn properties_take_their_words_and_no_more() {
        let options =
            read(&["-D", "publish", "user-property", "-a", "-r", "-D", "connect", "x", "-t", "-t", "y"])
                .unwrap();
        assert_eq!(options.property, ["publish\0user-property\0-a\0-r", "connect\0x\0-t"]);
        assert_eq!((options.topic, options.retain), (vec!["y".to_owned()], false));
        assert!(read(&["-D", "publish", "user-property", "a"]).is_err());
    }

    #[test]
    fn a_value_may_look_like_a_flag() {
        let options = read(&["-m", "-D", "-rt", "-t", "-t", "--"]).unwrap();
        assert_eq!(options.message.as_deref(), Some("-D"));
        assert_eq!((options.topic, options.retain), (vec!["-t".to_owned(), "--".to_owned()], true));
        assert_eq!(read(&["-mhello", "-q1"]).unwrap().message.as_deref(), Some("hello"));
    }

    #[test]
    fn the_last_one_wins_where_only_one_can() {
        assert_eq!(read(&["-m", "a", "-m", "b"]).unwrap().message.as_deref(), Some("b"));
        assert_eq!(read(&["-t", "a", "-t", "b"]).unwrap().topic, ["a", "b"]);
    }

    #[test]
    fn a_mistake_is_one_sentence() {
        for words in [&["-z"][..], &["-q", "3"], &["-q"], &["word"], &["-r", "-r", "x"]] {
            let Err(sentence) = read(words) else { panic!("{words:?}") };
            assert!(!sentence.is_empty() && !sentence.contains('\n'), "{sentence}");
        }
    }
}
