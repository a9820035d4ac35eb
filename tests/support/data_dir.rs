//! Brokers that keep what they know in a directory.
use super::{Broker, Client, Connect, Publish, Signal, Version, settle};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A data directory of its own, gone with the test.
pub struct Place(pub PathBuf);

impl Place {
    /// A name for a directory that is not there yet.
    pub fn new() -> Place {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("data-{}-{n}", std::process::id()));
        fs::remove_dir_all(&path).ok();
        Place(path)
    }

    /// A broker with it.
    pub fn start(&self, shards: usize) -> Broker {
        self.start_with(shards, &[])
    }

    /// The same with more flags.
    pub fn start_with(&self, shards: usize, flags: &[&str]) -> Broker {
        let own = ["--data-dir", self.0.to_str().unwrap(), "--min-free-space", "0"];
        Broker::start(shards, &[&own[..], flags].concat())
    }

    /// `ringmq store TASK` on it.
    pub fn look(&self, task: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ringmq")).args(["store", task]).arg(&self.0).output().unwrap()
    }

    /// Starts a broker that must refuse; its exit code and what it said.
    pub fn refused(&self) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_ringmq"))
            .args(["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--data-dir"])
            .arg(&self.0)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// The newest journal of the storage engine.
    pub fn journal(&self) -> PathBuf {
        let entries = fs::read_dir(self.0.join("engine")).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "jnl"));
        paths.sort();
        paths.pop().expect("a journal")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Ends the broker as a crash would.
pub fn kill(broker: Broker) {
    broker.signal(Signal::KILL);
    broker.wait_for_exit();
}

/// Returns when all that this client, whose session is stored, said so far is stored. Packets that are not answered
/// promise nothing by themselves.
pub fn sync(client: &mut Client) {
    client.subscribe("sync", 0);
}

/// Returns when all that any client said and saw answered so far is stored.
pub fn sync_all(broker: &Broker) {
    let mut client = Client::new(broker, Version::V5);
    settle(broker, &mut client);
    client.publish_with(&Publish::new("sync", "1").qos(1).retain());
}

/// The client's session was there.
#[track_caller]
pub fn resume(broker: &Broker, connect: &Connect) -> Client {
    let (client, present, _) = Client::connect_with(broker, connect);
    assert!(present, "the session is there");
    client
}

/// All files below a folder, in order.
pub fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}
