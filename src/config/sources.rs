//! Where settings come from: flags before the environment, before the configuration file, before the defaults.
use super::file::{self, File};
use super::keys::{Keys, Origin, Setting, is_switch, takes_list, variable};
use super::listener::ListenerArgs;
use super::own::{self, UserTable, listener_keys, user_keys};
use super::{ListenerSettings, ServeArgs, Settings};
use clap::ArgMatches;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Environment variables that begin like settings and are none: the file, and what the tests use.
const NO_SETTINGS: [&str; 2] = ["RINGMQ_CONFIG", "RINGMQ_TEST_"];

/// What the process was started with. The file can be read again, the rest stays as it was.
#[derive(Clone, Debug)]
pub struct Sources {
    flags: Vec<Setting>,
    environment: Vec<(String, String)>,
    file: Option<PathBuf>,
}

/// Everything that is set, before it is checked against this machine.
#[derive(Debug)]
pub struct Loaded {
    /// The settings that are not a listener's.
    pub args: ServeArgs,
    /// Each setting that is not a default.
    pub found: Vec<Setting>,
    /// The listener tables, with the lines they begin at.
    pub listeners: Vec<(usize, ListenerArgs)>,
    /// What each listener table sets.
    pub listener_settings: Vec<Vec<Setting>>,
    /// The user tables.
    pub users: Vec<UserTable>,
    /// Things that are probably not meant, a sentence each.
    pub warnings: Vec<String>,
    file: Option<PathBuf>,
}

impl Sources {
    /// The flags in `matches`, the environment of this process, and `file` or the one `RINGMQ_CONFIG` names.
    pub fn new(matches: Option<&ArgMatches>, file: Option<PathBuf>) -> Sources {
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        let flags = matches.map(|matches| Keys::of::<ServeArgs>().given(matches)).unwrap_or_default();
        Sources::of(flags, environment.filter(|(name, _)| name.starts_with("RINGMQ_")).collect(), file)
    }

    fn of(flags: Vec<Setting>, environment: Vec<(String, String)>, file: Option<PathBuf>) -> Sources {
        let named =
            || environment.iter().find(|(name, _)| name == "RINGMQ_CONFIG").map(|(_, path)| path.into());
        let file = file.or_else(named);
        Sources { flags, environment, file }
    }

    /// The configuration file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads everything. The error is one sentence that says where the mistake is.
    pub fn load(&self) -> Result<Loaded, String> {
        let file = self.file.as_deref().map(file::read).transpose()?.unwrap_or_default();
        let keys = Keys::of::<ServeArgs>();
        let (environment, warnings) = self.environment(&keys)?;
        let mut found: BTreeMap<String, Setting> = BTreeMap::new();
        let File { settings, listeners, users } = file;
        // The weightier comes later and takes the place.
        for setting in settings.into_iter().chain(environment).chain(self.flags.iter().cloned()) {
            found.insert(setting.key.clone(), setting);
        }
        let found: Vec<Setting> = found.into_values().collect();
        let args = keys.parse::<ServeArgs>(&found)?;
        let of_listeners = listener_keys();
        let (mut tables, mut listener_settings) = (Vec::new(), Vec::new());
        for (line, settings) in listeners {
            let table = of_listeners.parse::<ListenerArgs>(&settings);
            tables.push((line, table.map_err(|what| self.at(line, &what))?));
            listener_settings.push(settings);
        }
        let of_users = user_keys();
        let users = users.into_iter().map(|(line, settings)| {
            let args = of_users.parse(&settings).map_err(|what| self.at(line, &what))?;
            Ok(UserTable { line, args, settings })
        });
        let users = users.collect::<Result<_, String>>()?;
        let file = self.file.clone();
        Ok(Loaded { args, found, listeners: tables, listener_settings, users, warnings, file })
    }

    fn at(&self, line: usize, what: &str) -> String {
        at(self.file.as_deref(), line, what)
    }

    fn environment(&self, keys: &Keys) -> Result<(Vec<Setting>, Vec<String>), String> {
        let (mut settings, mut warnings) = (Vec::new(), Vec::new());
        for (name, value) in &self.environment {
            if NO_SETTINGS.iter().any(|other| name.starts_with(other)) {
                continue;
            }
            let Some((key, arg)) = keys.iter().find(|(key, _)| variable(key) == *name) else {
                // No mistake for sure: orchestrators put variables of their own there, named for the service.
                let key = name["RINGMQ_".len()..].to_ascii_lowercase();
                let near = keys
                    .nearest(&key)
                    .map_or(String::new(), |near| format!("; did you mean {}?", variable(near)));
                warnings.push(format!("the environment variable {name} is no setting and ignored{near}"));
                continue;
            };
            let values = match () {
                () if takes_list(arg) => value.split(',').map(|part| part.trim().to_string()).collect(),
                () if is_switch(arg) && value == "1" => vec!["true".to_string()],
                () if is_switch(arg) && value == "0" => vec!["false".to_string()],
                () => vec![value.clone()],
            };
            let setting = Setting { key: key.to_string(), values, origin: Origin::Environment };
            keys.check(&setting).map_err(|what| format!("the environment variable {name}: {what}"))?;
            settings.push(setting);
        }
        Ok((settings, warnings))
    }
}

fn at(file: Option<&Path>, line: usize, what: &str) -> String {
    let file = file.unwrap_or(Path::new("the configuration file"));
    format!("{}:{line}: {what}", file.display())
}

impl Loaded {
    /// A sentence with its place.
    pub fn at(&self, line: usize, what: &str) -> String {
        at(self.file.as_deref(), line, what)
    }

    /// Whether a key is set anywhere.
    pub fn is_set(&self, key: &str) -> bool {
        self.found.iter().any(|setting| setting.key == key)
    }

    /// Checks what clap cannot. `usable`: the cores this process may run on, ascending.
    pub fn check(&self, usable: &[usize]) -> Result<Settings, String> {
        let plain = self.args.listen.iter().map(|address| ListenerArgs::plain(*address));
        // The default address is for a broker that is told nothing about listeners.
        let plain = plain.filter(|_| self.is_set("listen") || self.listeners.is_empty());
        let mut listeners = Vec::new();
        for args in plain {
            listeners.push(args.check(self.args.allow_anonymous, self.args.auth.authenticates())?);
        }
        for ((line, args), settings) in self.listeners.iter().zip(&self.listener_settings) {
            let checked = args.check(self.args.allow_anonymous, self.args.auth.authenticates());
            let checked = checked.map_err(|what| self.at(*line, &what))?;
            listeners.push(ListenerSettings { own: own::own_limits(settings), ..checked });
        }
        let knows_users = self.args.auth.authenticates()
            || self.args.enable_test_auth
            || listeners.iter().any(|listener| listener.identity);
        if let Some(table) = self.users.first().filter(|_| !knows_users) {
            let what = "nobody verifies who a user is, so that limits of a user would hold for nobody; add \
                        password-file or another way to say who one is";
            return Err(self.at(table.line, what));
        }
        let settings = self.args.check(usable, listeners)?;
        let profiles = own::profiles(self, &settings.listeners)?;
        Ok(Settings { profiles, ..settings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listener::Place;

    fn flag(key: &str, value: &str) -> Setting {
        Setting { key: key.to_string(), values: vec![value.to_string()], origin: Origin::Flag }
    }

    fn written(text: &str) -> PathBuf {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ringmq-sources-{}-{number}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    fn load(flags: Vec<Setting>, environment: &[(&str, &str)], text: &str) -> Result<Loaded, String> {
        let path = written(text);
        let environment =
            environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let loaded = Sources::of(flags, environment, Some(path.clone())).load();
        std::fs::remove_file(path).unwrap();
        loaded
    }

    #[test]
    fn a_flag_outweighs_the_environment_which_outweighs_the_file() {
        let text = "max-qos = 0\nmax-retained = 1\nmax-sessions = 1\nallow-anonymous = true";
        let environment =
            [("RINGMQ_MAX_QOS", "1"), ("RINGMQ_MAX_RETAINED", "2"), ("RINGMQ_ALLOW_ANONYMOUS", "0")];
        let loaded = load(vec![flag("max-qos", "2")], &environment, text).unwrap();
        let args = &loaded.args;
        assert_eq!((args.max_qos, args.max_retained, args.max_sessions), (2, 2, 1));
        assert!(!args.allow_anonymous, "the environment can take back what the file says");
        assert_eq!(args.max_inflight, ServeArgs::default().max_inflight);
    }

    #[test]
    fn listener_tables_replace_the_default_address_but_not_one_that_is_asked_for() {
        let text = "[[listener]]\naddress = 1884\n[[listener]]\naddress = \"[::1]:0\"";
        let ports = |loaded: Loaded| -> Vec<u16> {
            let port = |listener: &ListenerSettings| match listener.place {
                Place::Tcp(address) => address.port(),
                Place::Unix(_) => panic!("no port"),
            };
            loaded.check(&[0]).unwrap().listeners.iter().map(port).collect()
        };
        assert_eq!(ports(load(vec![], &[], text).unwrap()), [1884, 0]);
        assert_eq!(ports(load(vec![flag("listen", "1885")], &[], text).unwrap()), [1885, 1884, 0]);
        assert_eq!(ports(load(vec![], &[("RINGMQ_LISTEN", "1, 2")], "").unwrap()), [1, 2]);
        assert_eq!(ports(load(vec![], &[], "").unwrap()), [1883]);
    }

    #[test]
    fn mistakes_say_where_they_are() {
        let error = load(vec![], &[("RINGMQ_MAX_QOS", "7")], "").unwrap_err();
        assert!(error.contains("RINGMQ_MAX_QOS") && error.contains("0..=2"), "{error}");
        let error = load(vec![], &[], "\n[[listener]]\nallow-anonymous = true").unwrap_err();
        assert!(error.contains(".toml:2:") && error.contains("--address"), "{error}");
        let error =
            load(vec![], &[], "[[listener]]\naddress = \"0.0.0.0:1\"").unwrap().check(&[0]).unwrap_err();
        assert!(error.contains(".toml:1:") && error.contains("allow-anonymous"), "{error}");
        let loaded = load(vec![], &[("RINGMQ_MAX_QUOS", "7"), ("RINGMQ_TEST_BROKER", "x")], "").unwrap();
        assert_eq!(loaded.warnings.len(), 1);
        assert!(loaded.warnings[0].contains("did you mean RINGMQ_MAX_QOS"), "{:?}", loaded.warnings);
        let missing = Sources::of(vec![], vec![], Some("/nowhere.toml".into())).load().unwrap_err();
        assert!(missing.contains("/nowhere.toml"), "{missing}");
    }
}
