//! The configuration file: TOML, whose keys are the flags, a `[[listener]]` table for each further listener, and
//! `[[user]]` tables for users with limits of their own.
use super::ServeArgs;
use super::keys::{Keys, Origin, Setting, takes_list};
use super::own::{listener_keys, user_keys};
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Bytes of a configuration file; a larger one is none.
const MAX_FILE: u64 = 1 << 20;
/// The names of the tables, of which there may be several each.
const LISTENER: &str = "listener";
const USER: &str = "user";

/// What a configuration file says, each key known and each value readable.
#[derive(Default, Debug)]
pub struct File {
    /// The keys outside tables.
    pub settings: Vec<Setting>,
    /// The `[[listener]]` tables with their lines.
    pub listeners: Vec<(usize, Vec<Setting>)>,
    /// The `[[user]]` tables likewise.
    pub users: Vec<(usize, Vec<Setting>)>,
}

/// Reads a file. The error is one sentence that names the line.
pub fn read(path: &Path) -> Result<File, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("the configuration file {shown} cannot be read: {error}");
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(format!("{shown} has more than {MAX_FILE} bytes; that is no configuration file"));
    }
    parse(&std::fs::read_to_string(path).map_err(failed)?)
        .map_err(|(line, what)| format!("{shown}:{line}: {what}"))
}

/// Reads the text of a file. The error is a line and a sentence.
pub fn parse(text: &str) -> Result<File, (usize, String)> {
    let line =
        |at: usize| 1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count();
    let table = DeTable::parse(text).map_err(|error| {
        let at = line(error.span().map_or(0, |span| span.start));
        (at, error.message().replace('\n', "; ") + hint(text.lines().nth(at - 1).unwrap_or_default()))
    })?;
    let (mut file, keys) = (File::default(), Keys::of::<ServeArgs>());
    for (key, value) in in_order(table.get_ref()) {
        let at = line(key.span().start);
        match (key.get_ref().as_ref(), value.get_ref()) {
            (name @ (LISTENER | USER), DeValue::Array(tables))
                if tables.iter().all(|entry| matches!(entry.get_ref(), DeValue::Table(_))) =>
            {
                let (known, found) = match name {
                    LISTENER => (listener_keys(), &mut file.listeners),
                    _ => (user_keys(), &mut file.users),
                };
                for entry in tables.iter() {
                    let DeValue::Table(table) = entry.get_ref() else { continue };
                    let settings = in_order(table).into_iter().map(|(key, value)| {
                        let at = line(key.span().start);
                        in_table(&known, name, key.get_ref(), value.get_ref(), at).map_err(|what| (at, what))
                    });
                    found.push((line(entry.span().start), settings.collect::<Result<_, _>>()?));
                }
            }
            // A key of the same name.
            (USER, value @ DeValue::String(_)) => {
                file.settings.push(setting(&keys, USER, value, at).map_err(|what| (at, what))?);
            }
            (name @ (LISTENER | USER), _) => {
                return Err((at, format!("{name}s are a list of tables: write [[{name}]]")));
            }
            (name, DeValue::Table(_)) => {
                return Err((
                    at,
                    format!(
                        "[{name}] is no table; there are only [[listener]], [[user]] and keys above them"
                    ),
                ));
            }
            (name, value) => file.settings.push(setting(&keys, name, value, at).map_err(|what| (at, what))?),
        }
    }
    Ok(file)
}

/// What to tell people who bring the file of another broker.
fn hint(line: &str) -> &'static str {
    let mut words = line.split_whitespace();
    let is_key = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    match (words.next(), words.next()) {
        (Some(key), Some(value)) if is_key(key) && value != "=" => {
            "; this file is TOML (key = value), not a mosquitto.conf: `ringmq config sample` prints one to begin with"
        }
        _ => "",
    }
}

type Entry<'a> = (&'a Spanned<std::borrow::Cow<'a, str>>, &'a Spanned<DeValue<'a>>);

/// The entries in the order of their lines, so that the first mistake is the one that is told.
fn in_order<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// A key of a table.
fn in_table(
    keys: &Keys,
    table: &str,
    key: &str,
    value: &DeValue<'_>,
    line: usize,
) -> Result<Setting, String> {
    if keys.get(key).is_none() && Keys::of::<ServeArgs>().get(key).is_some() {
        return Err(format!(
            "{key} is no setting of one {table}; put it above the first table, for the whole broker"
        ));
    }
    setting(keys, key, value, line)
}

fn setting(keys: &Keys, key: &str, value: &DeValue<'_>, line: usize) -> Result<Setting, String> {
    let arg = keys.get(key).ok_or_else(|| keys.unknown(key))?;
    let values = match value {
        DeValue::Array(_) if !takes_list(arg) => return Err(format!("{key} takes one value, not a list")),
        DeValue::Array(values) => {
            values.iter().map(|value| scalar(key, value.get_ref())).collect::<Result<_, _>>()?
        }
        value => vec![scalar(key, value)?],
    };
    let setting = Setting { key: key.to_string(), values, origin: Origin::File(line) };
    keys.check(&setting).map(|()| setting)
}

fn scalar(key: &str, value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Boolean(truth) => Ok(truth.to_string()),
        other => Err(format!("{key} is text, a number, true or false, not a {}", other.type_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_mosquitto_is_recognised() {
        let (line, what) = parse("# mine\nlistener 1883\nallow_anonymous true\n").unwrap_err();
        assert!(line == 2 && what.contains("mosquitto.conf"), "{line}: {what}");
        assert!(!parse("shards = = 1").unwrap_err().1.contains("mosquitto.conf"));
    }

    #[test]
    fn keys_and_listeners_are_read_with_their_lines() {
        let file = parse("max-packet = \"4K\"\nmax-qos = 1 # so\nallow-anonymous = true\n\n[[listener]]\naddress = \"1884\"\n").unwrap();
        let shown: Vec<_> =
            file.settings.iter().map(|s| (s.key.as_str(), s.values[0].as_str(), s.origin)).collect();
        let expected = [
            ("max-packet", "4K", Origin::File(1)),
            ("max-qos", "1", Origin::File(2)),
            ("allow-anonymous", "true", Origin::File(3)),
        ];
        assert_eq!(shown, expected);
        assert_eq!(file.listeners.len(), 1);
        assert_eq!(file.listeners[0].1[0].origin, Origin::File(6));
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        for (text, line, named) in [
            ("\nmax-paket = 1", 2, "did you mean \"max-packet\""),
            ("max_packet = 1", 1, "did you mean \"max-packet\""),
            ("zzz = 1", 1, "ringmq config reference"),
            ("max-qos = 3", 1, "0..=2"),
            ("max-qos = [1, 2]", 1, "one value"),
            ("max-qos = 1.5", 1, "float"),
            ("queue-policy = \"panic\"", 1, "drop-oldest"),
            ("allow-anonymous = \"perhaps\"", 1, "true or false"),
            ("a = 1\na = 2", 2, "duplicate key"),
            ("max-qos 1", 1, "key"),
            ("[section]\nx = 1", 1, "[section]"),
            ("listener = 1", 1, "[[listener]]"),
            ("[[listener]]\n\naddres = \"1884\"", 3, "did you mean \"address\""),
            ("[[listener]]\naddress = \"nowhere\"", 2, "127.0.0.1:1883"),
            ("[[listener]]\nmax-sessions = 1", 2, "for the whole broker"),
            ("[[listener]]\nmax-paket = 1", 2, "did you mean \"max-packet\""),
            ("[[user]]\nname = \"ann\"\nconnect-timeout = 1", 3, "for the whole broker"),
            ("[[user]]\nmax-qos = 3", 2, "0..=2"),
            ("user = 1.5", 1, "[[user]]"),
        ] {
            let (at, what) = parse(text).expect_err(text);
            assert_eq!(at, line, "{text:?}: {what}");
            assert!(what.contains(named) && !what.contains('\n'), "{text:?}: {what}");
        }
    }
}
