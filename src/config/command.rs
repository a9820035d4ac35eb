//! `ringmq serve` and `ringmq config` as commands.
use super::ServeArgs;
use super::keys::{Keys, Origin, Setting, default_of, shown};
use super::own::{is_own_limit, listener_keys, own_limits, user_keys};
use super::sources::{Loaded, Sources};
use super::{memory, reference};
use clap::{ArgMatches, Args, Subcommand};
use std::fmt::Write;
use std::path::PathBuf;

/// The flags of `ringmq serve`.
#[derive(Args)]
pub struct ServeCommand {
    /// Configuration file (TOML); flags and RINGMQ_* variables outweigh it [default: none, or what RINGMQ_CONFIG names]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub args: ServeArgs,
}

/// The flags of `ringmq config`.
#[derive(Args)]
pub struct ConfigCommand {
    /// What to do.
    #[command(subcommand)]
    pub action: Box<Action>,
}

/// What `ringmq config` does.
#[derive(Subcommand)]
pub enum Action {
    /// Read a file as `serve` would, and print what it comes to.
    Check {
        /// The configuration file [default: what RINGMQ_CONFIG names]
        file: Option<PathBuf>,
        #[command(flatten)]
        #[allow(missing_docs)]
        args: Box<ServeArgs>,
    },
    /// Print the reference of all settings (docs/CONFIG.md).
    Reference,
    /// Print a configuration file with every setting.
    Sample,
}

impl ServeCommand {
    /// Where the settings come from; `matches` are those of this command.
    pub fn sources(self, matches: &ArgMatches) -> Sources {
        Sources::new(Some(matches), self.config)
    }
}

impl ConfigCommand {
    /// What the command prints; the error is one sentence. `matches` are those of this command.
    pub fn run(self, matches: &ArgMatches, usable: &[usize]) -> Result<String, String> {
        match *self.action {
            Action::Reference => Ok(reference::reference()),
            Action::Sample => Ok(reference::sample()),
            Action::Check { file, .. } => {
                let sources = Sources::new(matches.subcommand_matches("check"), file);
                let loaded = sources.load()?;
                let settings = loaded.check(usable)?;
                Ok(format!("{}\n{}", effective(&loaded, &sources), memory::worst_case(&settings)))
            }
        }
    }
}

/// Every setting with its value and where that comes from, as a configuration file.
fn effective(loaded: &Loaded, sources: &Sources) -> String {
    let file = sources.file().map(|path| path.display().to_string()).unwrap_or_default();
    let mut text = String::new();
    let broker = Keys::of::<ServeArgs>();
    let mut section = |keys: &Keys, found: &[Setting], above: &[Setting], heading: &str| {
        text.push_str(heading);
        for (key, arg) in keys.iter().filter(|(_, arg)| !arg.is_hide_set()) {
            let setting = found.iter().chain(above).find(|setting| setting.key == key);
            let value = match setting {
                Some(setting) => Some(shown(arg, &setting.values)),
                None if is_own_limit(key) => broker.get(key).and_then(default_of),
                None => default_of(arg),
            };
            let origin = match setting.map_or(Origin::Default, |setting| setting.origin) {
                Origin::Default => "default".to_string(),
                Origin::File(line) => format!("{file}:{line}"),
                Origin::Environment => super::keys::variable(key),
                Origin::Flag => format!("--{key}"),
            };
            let _ = match value {
                Some(value) => writeln!(text, "{:<44} # {origin}", format!("{key} = {value}")),
                None => writeln!(text, "#{key} is not set"),
            };
        }
    };
    section(&broker, &loaded.found, &[], "");
    let above = own_limits(&loaded.found);
    for settings in &loaded.listener_settings {
        section(&listener_keys(), settings, &above, "\n[[listener]]\n");
    }
    for table in &loaded.users {
        let keys = user_keys().only(&table.settings);
        section(&keys, &table.settings, &[], "\n[[user]] # and else as on the listener\n");
    }
    let mut out = String::new();
    for warning in &loaded.warnings {
        let _ = writeln!(out, "# warning: {warning}");
    }
    out + &text
}
