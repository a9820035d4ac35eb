//! The keys a table of the configuration file may have: one for each long flag of a set of clap arguments.
//!
//! The flags are the only list of settings there is. A flag that is added is a key, an environment variable and a line
//! of the reference without further code, and its values are read by the same parser wherever they come from.
use clap::builder::{OsStr, Resettable};
use clap::{Arg, ArgAction, ArgMatches, Args, Command};

/// What unknown keys are compared with their neighbours by: below it nothing is suggested.
const ALIKE: f64 = 0.7;

/// The keys of one table.
pub struct Keys {
    command: Command,
}

/// One value for a key, wherever it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The key: a long flag without its hyphens.
    pub key: String,
    /// Its values; more than one only for a key that takes a list.
    pub values: Vec<String>,
    /// Where it was found.
    pub origin: Origin,
}

/// Where a setting was found; the later, the weightier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// Nowhere: the default.
    Default,
    /// A line of the configuration file.
    File(usize),
    /// An environment variable.
    Environment,
    /// The command line.
    Flag,
}

impl Keys {
    /// The keys of the arguments `A`.
    pub fn of<A: Args>() -> Keys {
        let command = Command::new("ringmq").no_binary_name(true).disable_help_flag(true);
        Keys { command: A::augment_args(command) }
    }

    /// The same with some limits of the whole broker, which have no default here: where nothing is said of them, the
    /// broker's hold.
    pub fn and(self, limits: &[&str]) -> Keys {
        let broker = Keys::of::<super::ServeArgs>();
        let own = |key: &&str| {
            let arg = broker.get(key).expect("a limit is a flag").clone();
            arg.default_value(Resettable::<OsStr>::Reset).help_heading(super::own::HEADING)
        };
        Keys { command: self.command.args(limits.iter().map(own)) }
    }

    /// Those of them that are set.
    pub fn only(self, set: &[Setting]) -> Keys {
        let is_set =
            |arg: &&Arg| arg.get_long().is_some_and(|key| set.iter().any(|setting| setting.key == key));
        let args: Vec<Arg> = self.command.get_arguments().filter(is_set).cloned().collect();
        Keys { command: Command::new("ringmq").args(args) }
    }

    /// Every key with its argument, in the order of their definition.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arg)> {
        self.command.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg)))
    }

    /// The argument of a key.
    pub fn get(&self, key: &str) -> Option<&Arg> {
        self.iter().find(|(name, _)| *name == key).map(|(_, arg)| arg)
    }

    /// The key that looks most like one that is not known, if one looks like it at all.
    pub fn nearest(&self, unknown: &str) -> Option<&str> {
        let visible = self.iter().filter(|(_, arg)| !arg.is_hide_set()).map(|(key, _)| key);
        let rated = visible.map(|key| (strsim::jaro_winkler(&unknown.replace('_', "-"), key), key));
        let best = rated.max_by(|(one, _), (other, _)| one.total_cmp(other));
        best.filter(|(likeness, _)| *likeness >= ALIKE).map(|(_, key)| key)
    }

    /// "unknown key ...", with the nearest known one.
    pub fn unknown(&self, key: &str) -> String {
        match self.nearest(key) {
            Some(near) => format!("unknown key {key:?}; did you mean {near:?}?"),
            None => format!("unknown key {key:?}; `ringmq config reference` lists the known ones"),
        }
    }

    /// A setting as clap reads it. The key must be known.
    fn words(&self, setting: &Setting) -> Vec<String> {
        let key = &setting.key;
        let arg = self.get(key).expect("settings are made of known keys");
        match (is_switch(arg), setting.values.first().map(String::as_str)) {
            (true, Some("true")) => vec![format!("--{key}")],
            (true, _) => Vec::new(),
            (false, _) => setting.values.iter().map(|value| format!("--{key}={value}")).collect(),
        }
    }

    /// Whether the values suit the key; the error is one sentence without the place.
    pub fn check(&self, setting: &Setting) -> Result<(), String> {
        let arg = self.get(&setting.key).ok_or_else(|| self.unknown(&setting.key))?;
        if is_switch(arg) && !matches!(setting.values[..], [ref one] if one == "true" || one == "false") {
            return Err(format!("{} is true or false", setting.key));
        }
        if !takes_list(arg) && setting.values.len() != 1 {
            return Err(format!("{} takes one value", setting.key));
        }
        // By itself: whether something else is missing beside it is no matter of this key.
        let alone = Command::new("ringmq").no_binary_name(true).arg(arg.clone());
        alone.try_get_matches_from(self.words(setting)).map(drop).map_err(|error| sentence(&error))
    }

    /// Reads all settings as one.
    pub fn parse<A: Args>(&self, settings: &[Setting]) -> Result<A, String> {
        let words = settings.iter().flat_map(|setting| self.words(setting));
        let matches = self.command.clone().try_get_matches_from(words).map_err(|error| sentence(&error))?;
        A::from_arg_matches(&matches).map_err(|error| sentence(&error))
    }

    /// What the command line had for these keys.
    pub fn given(&self, matches: &ArgMatches) -> Vec<Setting> {
        let given = |arg: &Arg| {
            matches.value_source(arg.get_id().as_str()) == Some(clap::parser::ValueSource::CommandLine)
        };
        let of = |(key, arg): (&str, &Arg)| {
            let values = match is_switch(arg) {
                true => vec!["true".to_string()],
                false => {
                    let raw = matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
                    raw.map(|value| value.to_string_lossy().into_owned()).collect()
                }
            };
            Setting { key: key.to_string(), values, origin: Origin::Flag }
        };
        self.iter().filter(|(_, arg)| given(arg)).map(of).collect()
    }
}

/// A flag without a value: true or false as a key.
pub fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// A flag that may be given several times: a list as a key.
pub fn takes_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// The environment variable of a key: `RINGMQ_MAX_PACKET` for `max-packet`.
pub fn variable(key: &str) -> String {
    format!("RINGMQ_{}", key.to_ascii_uppercase().replace('-', "_"))
}

/// What clap has to say, in one line.
pub fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let text = text.split("\n\nFor more information").next().unwrap_or(text);
    let text = text.split("\n\nUsage:").next().unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A value as TOML shows it.
pub fn shown(arg: &Arg, values: &[String]) -> String {
    let one = |value: &String| match value.parse::<i64>() {
        Ok(_) => value.clone(),
        Err(_) if is_switch(arg) => value.clone(),
        Err(_) => format!("{value:?}"),
    };
    match takes_list(arg) {
        true => {
            format!("[{}]", values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", "))
        }
        false => values.first().map(one).unwrap_or_default(),
    }
}

/// The default of a key as TOML shows it; `None` when it has none.
pub fn default_of(arg: &Arg) -> Option<String> {
    if is_switch(arg) {
        return Some("false".to_string());
    }
    let values = arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
    let values: Vec<String> = values.collect();
    (!values.is_empty()).then(|| shown(arg, &values))
}
