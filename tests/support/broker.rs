//! The `ringmq` program: started on a free loopback port, killed by its own pid.
use super::BOTH;
use super::wire::Version;
pub use rustix::process::Signal;
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for anything that has no time limit of its own. Reached only when the test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The numbers of shards every test runs with.
const SHARDS: [usize; 3] = [1, 2, 3];

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    pub address: SocketAddr,
    /// 0: unknown, the broker of `RINGMQ_TEST_BROKER`.
    pub shards: usize,
    log: PathBuf,
    /// `None`: shared with other tests and killed when this test program ends.
    child: Option<Child>,
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the broker at {} with {} shards (log: {})", self.address, self.shards, self.log.display())
    }
}

impl Broker {
    /// A broker of the caller's own. It must not outlive the calling thread: the kernel ends it with that thread,
    /// so that a killed test program leaves nothing behind.
    pub fn start(shards: usize, flags: &[&str]) -> Broker {
        Broker::start_in(shards, flags, &[])
    }

    /// The same with more variables in its environment.
    pub fn start_in(shards: usize, flags: &[&str], environment: &[(&str, PathBuf)]) -> Broker {
        let log = log_file();
        let mut command = Broker::command(shards, flags, &log);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn().expect("start ringmq");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = announced(&mut lines, &log);
        thread::spawn(move || lines.for_each(drop));
        Broker { address, shards, log, child: Some(child) }
    }

    fn command(shards: usize, flags: &[&str], log: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program()).arg("serve");
        command.args(["--listen", "127.0.0.1:0", "--shards", &shards.to_string()]).args(flags);
        if let Ok(mode) = std::env::var("RINGMQ_TEST_DURABILITY")
            && !flags.contains(&"--data-dir")
        {
            let dir = log.with_extension("data");
            std::fs::remove_dir_all(&dir).ok();
            command.arg("--data-dir").arg(dir).args(["--durability", &mode, "--min-free-space", "0"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(log).unwrap());
        command
    }

    /// The broker with these flags that all tests of this program share; started by the first who asks.
    pub fn shared(shards: usize, flags: &[&str]) -> Broker {
        type Started = Arc<OnceLock<(SocketAddr, PathBuf)>>;
        static STARTED: LazyLock<Mutex<HashMap<(usize, String), Started>>> = LazyLock::new(Mutex::default);
        let cell = STARTED.lock().unwrap().entry((shards, flags.join(" "))).or_default().clone();
        let (address, log) = cell.get_or_init(|| {
            let (sender, started) = mpsc::channel();
            let flags: Vec<String> = flags.iter().map(|flag| flag.to_string()).collect();
            // This thread owns the process and lives as long as the test program.
            thread::spawn(move || {
                let log = log_file();
                let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
                let mut child = Broker::command(shards, &flags, &log).spawn().expect("start ringmq");
                let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
                sender.send((announced(&mut lines, &log), log)).unwrap();
                lines.for_each(drop);
                child.wait().unwrap();
                loop {
                    thread::park();
                }
            });
            started.recv().expect("a broker that starts")
        });
        Broker { address: *address, shards, log: log.clone(), child: None }
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a broker of one's own").id()
    }

    /// What it has said on standard error so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().expect("a broker of one's own").id();
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Whether the program runs.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().expect("a broker of one's own").try_wait().unwrap().is_none()
    }

    /// Waits until the program has ended.
    #[track_caller]
    pub fn wait_for_exit(mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a broker of one's own");
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("ringmq did not end within {PATIENCE:?}");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// The program under test: the one just built, or the one of `RINGMQ_TEST_PROGRAM`, like a release build.
pub fn program() -> PathBuf {
    std::env::var_os("RINGMQ_TEST_PROGRAM").map_or(env!("CARGO_BIN_EXE_ringmq").into(), PathBuf::from)
}

/// The address in the first line of the output that has one.
fn announced(lines: &mut impl Iterator<Item = std::io::Result<String>>, log: &Path) -> SocketAddr {
    for line in lines.map_while(Result::ok) {
        if let Some(at) = line.find("127.0.0.1:") {
            let end = line[at + 10..].find(|c: char| !c.is_ascii_digit()).map_or(line.len(), |n| at + 10 + n);
            return line[at..end].parse().unwrap_or_else(|_| panic!("no port in {line:?}"));
        }
    }
    panic!("ringmq ended without listening: {}", std::fs::read_to_string(log).unwrap_or_default());
}

fn log_file() -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let n = NUMBER.fetch_add(1, Ordering::Relaxed);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ringmq-{}-{n}.log", std::process::id()))
}

/// A port nobody listens on at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A name nobody else uses, for client ids and topics.
pub fn unique(prefix: &str) -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    format!("{prefix}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Runs the test with the shared brokers of 1, 2 and 3 shards, at the same time.
#[track_caller]
pub fn each_broker(test: impl Fn(&Broker) + Sync) {
    each_broker_with(&[], test);
}

/// Runs the test with the shared brokers of 1, 2 and 3 shards that were started with `flags`.
#[track_caller]
pub fn each_broker_with(flags: &[&str], test: impl Fn(&Broker) + Sync) {
    run(flags, &[None], |broker, _| test(broker));
}

/// Runs the test with 1, 2 and 3 shards and as a client of 3.1.1 and of 5.0.
#[track_caller]
pub fn each_version(test: impl Fn(&Broker, Version) + Sync) {
    each_version_with(&[], test);
}

/// Runs the test with 1, 2 and 3 shards of brokers started with `flags`, as a client of 3.1.1 and of 5.0.
#[track_caller]
pub fn each_version_with(flags: &[&str], test: impl Fn(&Broker, Version) + Sync) {
    run(flags, &BOTH.map(Some), |broker, version| test(broker, version.unwrap()));
}

#[track_caller]
fn run(flags: &[&str], versions: &[Option<Version>], test: impl Fn(&Broker, Option<Version>) + Sync) {
    let brokers: Vec<Broker> = match std::env::var("RINGMQ_TEST_BROKER") {
        Ok(_) if !flags.is_empty() => return eprintln!("left out: needs a broker with {flags:?}"),
        Ok(address) => {
            let address = address.parse().expect("RINGMQ_TEST_BROKER=127.0.0.1:PORT");
            vec![Broker { address, shards: 0, log: PathBuf::new(), child: None }]
        }
        Err(_) => SHARDS.iter().map(|shards| Broker::shared(*shards, flags)).collect(),
    };
    let test = &test;
    let failures: Vec<String> = thread::scope(|scope| {
        let mut running = Vec::new();
        for broker in &brokers {
            for version in versions {
                let name = version.map_or(String::new(), |version| format!(", {version:?}"));
                let name = format!("{} shards{name}", broker.shards);
                let builder = thread::Builder::new().name(name.clone());
                running.push((name, broker, builder.spawn_scoped(scope, || test(broker, *version)).unwrap()));
            }
        }
        let ended = running.into_iter().map(|(name, broker, thread)| (name, broker, thread.join()));
        let failed = ended.filter_map(|(name, broker, end)| end.err().map(|why| (name, broker, why)));
        failed.map(|(name, broker, why)| format!("{name}: {}\n  {broker}", said(&*why))).collect()
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// What a panicking thread said.
fn said(why: &(dyn Any + Send)) -> &str {
    why.downcast_ref::<String>()
        .map(String::as_str)
        .or(why.downcast_ref::<&str>().copied())
        .unwrap_or("a panic")
}
