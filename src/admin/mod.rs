//! The ordinary threads around the shards: start, signals, stop.
mod ban;
mod dynsec;
mod explain;
mod files;
pub mod log;
mod memory;
mod passwd;
mod privileges;
mod reload;
mod store;

pub use ban::{BanArgs, ban};
pub use dynsec::{DynsecArgs, dynsec};
pub use explain::{AclArgs, acl};
pub use passwd::{PasswdArgs, passwd};

use crate::auth::access;
use crate::auth::backend::{Backends, Doors, Pool};
use crate::config::command::ConfigCommand;
use crate::config::sources::Sources;
use crate::config::units::Cores;
use crate::config::{DEFAULT_PORT, Settings};
use crate::net::door::Door;
use crate::net::listener::{self, Listener, Place};
use crate::net::probe;
use crate::shard::core::{Command, CoreConfig};
use crate::shard::envelope::Envelope;
use crate::shard::mesh::{self, CommandSender};
use crate::shard::runtime::{self, ShardConfig, Witness};
use crate::store::durable::Opened;
use crate::store::record::Wall;
use clap::ArgMatches;
use crossbeam_channel::{Receiver, Sender, unbounded};
use reload::{Current, Kind, Watched};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

/// The exit code for settings or a machine we cannot start with.
const CANNOT_START: u8 = 2;
/// The exit code when a shard ended without being asked.
const SHARD_LOST: u8 = 70;
/// The exit code when something could not be stored.
const NOT_STORED: u8 = 74;
/// The exit code when a second signal cut the shutdown short.
const CUT_SHORT: u8 = 130;
/// How long shards may take beyond the shutdown time before we leave without them.
const STOP_MARGIN: Duration = Duration::from_secs(2);

/// What the main thread waits for.
enum Report {
    Started,
    /// The thread that stores has ended.
    StoreEnded(Result<(), String>),
    Failed(usize, String),
    Ended(usize),
    Signal,
    /// SIGHUP.
    Reload,
    /// Files of a kind changed.
    FilesChanged(Kind),
}

/// Tells the main thread about one shard.
struct ShardWitness {
    shard: usize,
    reports: Sender<Report>,
}

impl ShardWitness {
    fn tell(&self, report: Report) {
        // Nobody listens any more only when the process is about to end.
        let _ = self.reports.send(report);
    }
}

impl Witness for ShardWitness {
    fn started(&self) {
        self.tell(Report::Started);
    }
    fn failed(&self, error: String) {
        self.tell(Report::Failed(self.shard, error));
    }
}

impl Drop for ShardWitness {
    fn drop(&mut self) {
        self.tell(Report::Ended(self.shard));
    }
}

/// Runs the broker until a signal ends it. The exit code is 0 after a shutdown, 2 when it could not start.
pub fn serve(sources: Sources) -> ExitCode {
    match start(&sources) {
        Ok(running) => running.wait(),
        Err(problem) => {
            eprintln!("ringmq: {problem}");
            ExitCode::from(CANNOT_START)
        }
    }
}

/// Runs `ringmq config`. The exit code is 2 for a configuration that cannot be.
pub fn config(command: ConfigCommand, matches: &ArgMatches) -> ExitCode {
    match command.run(matches, &usable_cores()) {
        Ok(text) => {
            // Whoever closed our standard output has seen enough.
            let _ = io::stdout().lock().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("ringmq: {problem}");
            ExitCode::from(CANNOT_START)
        }
    }
}

/// The cores this process may run on, ascending.
fn usable_cores() -> Vec<usize> {
    let mut usable: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    usable.sort_unstable();
    usable
}

struct Running {
    reports: Receiver<Report>,
    commands: Vec<CommandSender<Command>>,
    shutdown: Duration,
    current: Current,
    has_store: bool,
}

fn start(sources: &Sources) -> Result<Running, String> {
    let start = Instant::now();
    let loaded = sources.load()?;
    loaded.warnings.iter().for_each(|warning| eprintln!("ringmq: {warning}"));
    let settings = loaded.check(&usable_cores())?;
    // Before anything is read, so that what changes meanwhile shows.
    let watched = Watched::default();
    watched.watch(Watched::files(&settings.listeners, &settings.auth));
    let backends = load_backends(&settings, start)?;
    let warning = files::raise_open_files(settings.limits.max_connections);
    files::make_room(settings.limits.max_connections)?;
    probe::probe()?;
    let shards = settings.placement.len();
    let places: Vec<Place> = settings.listeners.iter().map(|listener| listener.place.clone()).collect();
    let mut warnings = Vec::new();
    let doors = reload::load_doors(&settings.listeners, &mut warnings)?;
    warnings.iter().for_each(|warning| eprintln!("ringmq: {warning}"));
    let doors: Arc<[Arc<Door>]> = doors.into_iter().map(|state| Arc::new(Door::new(state))).collect();
    let listeners = listener::listen_all(&places, shards).map_err(|error| error.to_string())?;
    let places: Vec<Place> = listeners.iter().map(|listener| listener.place.clone()).collect();

    if let Some(user) = &loaded.args.user {
        privileges::become_user(user)?;
    }
    log::begin(loaded.args.log_level, loaded.args.log_format)
        .map_err(|error| format!("no thread for the log: {error}"))?;
    // Before the shards, so that a signal is never met by its default.
    let (sender, reports) = unbounded();
    watch_signals(sender.clone()).map_err(|error| format!("signals cannot be watched: {error}"))?;
    let wall = store::wall(start);
    let store =
        settings.store.as_ref().map(|store| store::open(store, &settings.limits, wall)).transpose()?;
    let commands =
        start_shards(&settings, &backends, listeners, doors.clone(), (start, wall), store, &sender)?;
    let max_memory = Arc::new(AtomicU64::new(settings.max_memory));
    memory::begin(max_memory.clone(), commands.clone())?;
    let tell = sender.clone();
    watched
        .begin(move |kind| tell.send(Report::FilesChanged(kind)).is_ok())
        .map_err(|error| format!("no thread for the files: {error}"))?;
    drop(sender);
    await_shards(&reports, shards)?;
    if let Some(warning) = warning {
        eprintln!("ringmq: {warning}");
    }
    // Whoever started us may have closed our standard output; that is no reason not to serve.
    let _ = announce(&settings, &places);
    let shutdown = Duration::from_millis(settings.limits.shutdown_ms);
    let has_store = settings.store.is_some();
    let current = Current::new(sources.clone(), loaded, settings, doors, backends, watched, max_memory);
    Ok(Running { reports, commands, shutdown, current, has_store })
}

/// What the listeners ask of those who connect.
fn doors_of(settings: &Settings) -> Doors {
    let doors = settings
        .listeners
        .iter()
        .map(|listener| access::Door { anonymous: listener.anonymous, identity: listener.identity });
    Doors { doors: doors.collect(), test_auth: settings.test_auth }
}

/// Reads what is needed to know who clients are.
fn load_backends(settings: &Settings, start: Instant) -> Result<Arc<Backends>, String> {
    let (backends, warnings) = Backends::load(&settings.auth, doors_of(settings), start)?;
    warnings.iter().for_each(|warning| eprintln!("ringmq: {warning}"));
    Ok(Arc::new(backends))
}

fn start_shards(
    settings: &Settings,
    backends: &Arc<Backends>,
    listeners: Vec<Listener>,
    doors: Arc<[Arc<Door>]>,
    (start, wall): (Instant, Wall),
    store: Option<Opened>,
    reports: &Sender<Report>,
) -> Result<Vec<CommandSender<Command>>, String> {
    let shards = settings.placement.len();
    let limits = Arc::new(settings.profiles.clone());
    let policy = Arc::new(backends.policy());
    let (questions, pool) = Pool::new(settings.auth.auth_queue);
    let seed = RandomState::new().hash_one(std::process::id());
    let mut sockets: Vec<_> = listeners.into_iter().map(|listener| listener.sockets.into_iter()).collect();
    let ends = mesh::mesh::<Envelope, Command>(shards).map_err(|error| format!("no doorbells: {error}"))?;
    let mut commands: Vec<CommandSender<Command>> = Vec::with_capacity(shards);
    let to_shards = ends.iter().map(|(_, sender)| sender.clone()).collect();
    let mut stores = store::start(settings, store, wall, seed, to_shards, reports)?.into_iter();
    let open = Arc::new(AtomicUsize::new(0));
    for (shard, (port, sender)) in ends.into_iter().enumerate() {
        let (limits, policy) = (limits.clone(), policy.clone());
        let core = CoreConfig { shard: shard as u8, shards: shards as u8, seed, limits, policy };
        let listeners = sockets.iter_mut().filter_map(Iterator::next).collect();
        let cpu = settings.placement[shard];
        let witness = ShardWitness { shard, reports: reports.clone() };
        runtime::spawn(
            cpu,
            ShardConfig {
                core,
                listeners,
                doors: doors.clone(),
                port,
                open: open.clone(),
                start,
                store: stores.next(),
                questions: questions.clone(),
                busy_poll: settings.busy_poll,
            },
            witness,
        )
        .map_err(|error| format!("shard {shard} cannot start on core {cpu}: {error}"))?;
        commands.push(sender);
    }
    let threads = usize::from(settings.auth.auth_threads);
    pool.start(threads, backends, &commands).map_err(|error| format!("no threads: {error}"))?;
    Ok(commands)
}

fn await_shards(reports: &Receiver<Report>, shards: usize) -> Result<(), String> {
    let mut started = 0;
    while started < shards {
        match reports.recv() {
            Ok(Report::Started) => started += 1,
            Ok(Report::Failed(shard, error)) => return Err(format!("shard {shard} cannot start: {error}")),
            Ok(Report::Ended(shard)) => return Err(format!("shard {shard} ended while starting")),
            Ok(Report::Reload | Report::FilesChanged(_)) => {}
            Ok(Report::StoreEnded(Err(error))) => return Err(error),
            Ok(Report::StoreEnded(Ok(()))) => return Err("storing ended while starting".to_string()),
            Ok(Report::Signal) | Err(_) => return Err("stopped by a signal while starting".to_string()),
        }
    }
    Ok(())
}

fn watch_signals(reports: Sender<Report>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    std::thread::Builder::new().name("ringmq-signals".to_string()).spawn(move || {
        for signal in signals.forever() {
            let report = if signal == SIGHUP { Report::Reload } else { Report::Signal };
            if reports.send(report).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// Says what runs where, and how to try it.
fn announce(settings: &Settings, places: &[Place]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let shards = settings.placement.len();
    let mut cores = settings.placement.clone();
    cores.sort_unstable();
    cores.dedup();
    writeln!(
        out,
        "ringmq {} runs {shards} shard{} on core{} {}",
        env!("CARGO_PKG_VERSION"),
        if shards == 1 { "" } else { "s" },
        if cores.len() == 1 { "" } else { "s" },
        Cores(cores)
    )?;
    for place in places {
        writeln!(out, "listening on {place}")?;
    }
    if let Some(Place::Tcp(address)) = places.first() {
        let to = target(*address);
        writeln!(out, "try it:  ringmq sub{to} -t 'test/#' -v      (or mosquitto_sub)")?;
        writeln!(out, "         ringmq pub{to} -t test/hello -m hi  (or mosquitto_pub)")?;
    }
    out.flush()
}

/// The flags a client on this machine needs to reach `address`.
fn target(address: SocketAddr) -> String {
    let ip = address.ip();
    let host = match ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST {
        true => String::new(),
        false => format!(" -h {ip}"),
    };
    let port = match address.port() {
        DEFAULT_PORT => String::new(),
        port => format!(" -p {port}"),
    };
    host + &port
}

/// Says what became of reading `what` again.
fn say_reloaded(what: &str, outcome: Result<Vec<String>, String>) {
    match outcome {
        Ok(remarks) => {
            tracing::info!("the {what} were read again and are in force");
            remarks.iter().for_each(|remark| tracing::warn!("{remark}"));
        }
        Err(problem) => tracing::error!("the {what} were read again and nothing is changed: {problem}"),
    }
}

impl Running {
    /// Waits for a signal, then for the shards to say goodbye.
    fn wait(mut self) -> ExitCode {
        loop {
            match self.reports.recv() {
                Ok(Report::Started) => {}
                Ok(Report::Reload) => {
                    say_reloaded("settings", self.current.reload(&self.commands));
                }
                Ok(Report::FilesChanged(Kind::Certificates)) => {
                    say_reloaded("certificates", self.current.reload_files());
                }
                Ok(Report::FilesChanged(Kind::Bans)) => say_reloaded("bans", self.current.reload_bans()),
                Ok(Report::Failed(shard, error)) => {
                    eprintln!("ringmq: shard {shard} failed: {error}");
                    return ExitCode::from(SHARD_LOST);
                }
                Ok(Report::Ended(shard)) => {
                    eprintln!("ringmq: shard {shard} ended unexpectedly");
                    return ExitCode::from(SHARD_LOST);
                }
                Ok(Report::StoreEnded(outcome)) => {
                    let error = outcome.err().unwrap_or_else(|| "storing ended unexpectedly".to_string());
                    eprintln!("ringmq: {error}");
                    return ExitCode::from(NOT_STORED);
                }
                Ok(Report::Signal) | Err(_) => return self.shut_down(),
            }
        }
    }

    fn shut_down(self) -> ExitCode {
        for listener in &self.current.settings().listeners {
            if let Place::Unix(place) = &listener.place {
                // Whoever comes now finds nobody, whether the file is there or not.
                let _ = std::fs::remove_file(&place.path);
            }
        }
        let deadline = Instant::now() + self.shutdown + STOP_MARGIN;
        let mut left = self.commands.len();
        let mut is_storing = self.has_store;
        for commands in &self.commands {
            // Refused only when so many commands wait that this shard is beyond help; the deadline ends it.
            let _ = commands.send(Command::Shutdown);
        }
        // What the shards promised last is stored when they have ended.
        while left > 0 || is_storing {
            match self.reports.recv_deadline(deadline) {
                Ok(Report::Ended(_)) => left -= 1,
                Ok(Report::Started | Report::Reload | Report::FilesChanged(_)) => {}
                Ok(Report::StoreEnded(Ok(()))) => is_storing = false,
                Ok(Report::StoreEnded(Err(error))) => {
                    eprintln!("ringmq: {error}");
                    return ExitCode::from(NOT_STORED);
                }
                Ok(Report::Failed(shard, error)) => eprintln!("ringmq: shard {shard} failed: {error}"),
                Ok(Report::Signal) => return ExitCode::from(CUT_SHORT),
                Err(_) => {
                    if left > 0 {
                        eprintln!("ringmq: {left} shards did not end in time");
                    } else {
                        eprintln!("ringmq: the store did not end in time");
                    }
                    break;
                }
            }
        }
        ExitCode::SUCCESS
    }
}
