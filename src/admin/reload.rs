//! Settings that change while the broker runs: all of them with SIGHUP, certificates and bans when their files change.
//!
//! Everything is read and checked before anything is changed, so that a mistake changes nothing.
use super::{doors_of, usable_cores};
use crate::auth::backend::Backends;
use crate::config::Settings;
use crate::config::auth::AuthArgs;
use crate::config::keys::Setting;
use crate::config::listener::ListenerSettings;
use crate::config::own;
use crate::config::sources::{Loaded, Sources};
use crate::limits::Limits;
use crate::net::door::{Door, DoorState};
use crate::shard::core::Command;
use crate::shard::mesh::CommandSender;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Time between two looks at the files that are watched.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Keys of the broker as a whole whose change is taken up at once; so are limits that somebody may have of his own, for new
/// connections where clients were told them in CONNACK. The others need another start: they are about threads and sockets.
const AT_ONCE: [&str; 7] = [
    "log-level",
    "max-connections",
    "max-group-queue",
    "max-memory",
    "max-retained",
    "max-retained-bytes",
    "max-sessions",
];

/// What the broker runs with.
pub struct Current {
    sources: Sources,
    found: Vec<Setting>,
    settings: Settings,
    doors: Arc<[Arc<Door>]>,
    backends: Arc<Backends>,
    watched: Watched,
    max_memory: Arc<AtomicU64>,
}

impl Current {
    /// As it was started.
    pub fn new(
        sources: Sources,
        loaded: Loaded,
        settings: Settings,
        doors: Arc<[Arc<Door>]>,
        backends: Arc<Backends>,
        watched: Watched,
        max_memory: Arc<AtomicU64>,
    ) -> Current {
        Current { sources, found: loaded.found, settings, doors, backends, watched, max_memory }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Reads all settings again and takes up what can change; the answer is what there is to say about it. An error
    /// is one sentence, and nothing is changed.
    pub fn reload(&mut self, commands: &[CommandSender<Command>]) -> Result<Vec<String>, String> {
        let loaded = self.sources.load()?;
        let mut remarks = loaded.warnings.clone();
        let mut settings = loaded.check(&usable_cores())?;
        settings.test_auth = self.settings.test_auth;
        let same = |one: &ListenerSettings, other: &ListenerSettings| {
            one.place == other.place && one.transport == other.transport
        };
        let (old, new) = (&self.settings.listeners, &settings.listeners);
        let same_places = old.len() == new.len() && old.iter().zip(new).all(|(old, new)| same(old, new));
        if !same_places {
            remarks
                .push("where to listen, and what is spoken there, changes with the next start".to_string());
        }
        if same_places {
            // Like the ways to say who one is, so that nobody is let in by one half of a change or locked out.
            let pairs = settings.listeners.iter_mut().zip(&self.settings.listeners);
            let changes =
                pairs.map(|(new, old)| std::mem::replace(&mut new.anonymous, old.anonymous) != old.anonymous);
            if changes.fold(false, |any, one| any | one) {
                remarks.push(
                    "whether a listener lets anonymous clients in changes with the next start".to_string(),
                );
            }
        }
        let in_force = if same_places { &settings.listeners } else { &self.settings.listeners };
        let files = Watched::files(in_force, &self.settings.auth);
        let new = &settings.listeners;
        let states = if same_places { load_doors(new, &mut remarks)? } else { Vec::new() };
        let (loaded_auth, warnings) = self.backends.read()?;
        remarks.extend(warnings);
        let is_at_once = |key: &str| AT_ONCE.contains(&key) || own::is_own_limit(key);
        let later = changed(&self.found, &loaded.found).filter(|key| !is_at_once(key));
        remarks.extend(later.map(|key| format!("{key} changes with the next start")));
        if !same_places {
            // By number of the listener, so that it is about the listeners that there are.
            settings.profiles = own::profiles(&loaded, &self.settings.listeners)?;
        }
        let limits = as_made(&self.settings.limits, settings.limits.clone());
        settings.profiles.common = Arc::new(limits.clone());
        let profiles = Arc::new(settings.profiles.clone());
        for commands in commands {
            let refused = "a shard has too many commands to do; try again".to_string();
            commands.send(Command::Limits(profiles.clone())).map_err(|_| refused)?;
        }
        super::log::set_level(loaded.args.log_level);
        self.doors.iter().zip(states).for_each(|(door, state)| door.replace(state));
        self.backends.take(loaded_auth, same_places.then(|| doors_of(&settings)));
        self.settings.limits = limits;
        self.settings.max_memory = settings.max_memory;
        self.max_memory.store(settings.max_memory, Ordering::Relaxed);
        if same_places {
            self.settings.listeners = settings.listeners;
        }
        self.found = loaded.found;
        self.watched.watch(files);
        Ok(remarks)
    }

    /// Reads the ban file again.
    pub fn reload_bans(&mut self) -> Result<Vec<String>, String> {
        self.backends.read_bans().map(|()| Vec::new())
    }

    /// Reads the files of certificates again.
    pub fn reload_files(&mut self) -> Result<Vec<String>, String> {
        let mut remarks = Vec::new();
        let states = load_doors(&self.settings.listeners, &mut remarks)?;
        self.doors.iter().zip(states).for_each(|(door, state)| door.replace(state));
        Ok(remarks)
    }
}

/// What a file that is looked at is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Certificates, keys, authorities and lists of what was revoked.
    Certificates,
    /// Who is not let in.
    Bans,
}

/// Reads what files the listeners name.
pub fn load_doors(
    listeners: &[ListenerSettings],
    remarks: &mut Vec<String>,
) -> Result<Vec<DoorState>, String> {
    let load = |listener: &ListenerSettings| {
        let (state, warnings) = DoorState::load(listener.door.clone())?;
        remarks.extend(warnings);
        Ok(state)
    };
    listeners.iter().map(load).collect()
}

/// The keys whose values differ.
fn changed(old: &[Setting], new: &[Setting]) -> impl Iterator<Item = String> {
    let value = |settings: &[Setting], key: &str| {
        settings.iter().find(|setting| setting.key == key).map(|setting| setting.values.clone())
    };
    let mut keys: Vec<String> = old.iter().chain(new).map(|setting| setting.key.clone()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.retain(|key| value(old, key) != value(new, key));
    keys.into_iter()
}

/// The new limits, with what was made at start as it was.
fn as_made(old: &Limits, new: Limits) -> Limits {
    Limits {
        shutdown_ms: old.shutdown_ms,
        sys_interval_ms: old.sys_interval_ms,
        overflow_mark: old.overflow_mark,
        ..new
    }
}

/// The files that are looked at from time to time.
#[derive(Clone, Default)]
pub struct Watched {
    files: Arc<Mutex<Files>>,
}

/// Files with what they were when they were looked at last.
pub type Files = Vec<(PathBuf, Stamp, Kind)>;

/// What changes with a file: when it was written, its length, and which one it is.
pub type Stamp = Option<(i64, i64, u64, u64)>;

fn stamp(path: &PathBuf) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.mtime(), meta.mtime_nsec(), meta.len(), meta.ino()))
}

impl Watched {
    /// The files to be looked at, as they are now.
    pub fn files(listeners: &[ListenerSettings], auth: &AuthArgs) -> Files {
        let of_door = |listener: &ListenerSettings| listener.door.tls.clone();
        let files = listeners.iter().filter_map(of_door).flat_map(|tls| {
            let pairs = tls.certificates.into_iter().flat_map(|(certificate, key)| [certificate, key]);
            pairs.chain(tls.client_authority).chain(tls.revoked).collect::<Vec<_>>()
        });
        let files = files.map(|path| (path, Kind::Certificates));
        let bans = auth.ban_file.clone().map(|path| (path, Kind::Bans));
        files.chain(bans).map(|(path, kind)| (path.clone(), stamp(&path), kind)).collect()
    }

    /// Looks at these from now on.
    pub fn watch(&self, files: Files) {
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files;
    }

    /// Of what kind the files are that are not what they were when this was asked last.
    fn changed(&self) -> Vec<Kind> {
        let mut changed = Vec::new();
        for (path, known, kind) in self.files.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let now = stamp(path);
            if now != *known && !changed.contains(kind) {
                changed.push(*kind);
            }
            *known = now;
        }
        changed
    }

    /// Looks from time to time, on a thread of its own, until `tell` says that nobody listens any more.
    pub fn begin(&self, tell: impl Fn(Kind) -> bool + Send + 'static) -> std::io::Result<()> {
        let watched = self.clone();
        let look = move || {
            loop {
                thread::sleep(LOOK_EVERY);
                if !watched.changed().into_iter().all(&tell) {
                    return;
                }
            }
        };
        thread::Builder::new().name("ringmq-files".to_string()).spawn(look).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServeArgs;
    use crate::config::keys::{Keys, Origin};

    #[test]
    fn what_changes_at_once_are_keys() {
        let keys = Keys::of::<ServeArgs>();
        AT_ONCE.iter().for_each(|key| assert!(keys.get(key).is_some(), "{key}"));
    }

    #[test]
    fn only_values_count_as_changes() {
        let setting = |key: &str, value: &str, line| Setting {
            key: key.to_string(),
            values: vec![value.to_string()],
            origin: Origin::File(line),
        };
        let old = [setting("a", "1", 1), setting("b", "1", 2), setting("c", "1", 3)];
        let new = [setting("a", "1", 7), setting("b", "2", 2), setting("d", "1", 3)];
        assert_eq!(changed(&old, &new).collect::<Vec<_>>(), ["b", "c", "d"]);
    }
}
