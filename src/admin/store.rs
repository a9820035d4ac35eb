//! Opening the store, and its thread.
use super::Report;
use crate::config::Settings;
use crate::config::store::{Durability, StoreSettings};
use crate::limits::Limits;
use crate::router::Keys;
use crate::session::tail::Window;
use crate::shard::core::Command;
use crate::shard::mesh::CommandSender;
use crate::shard::runtime::ShardStore;
use crate::store::assembly::Assembly;
use crate::store::durable::{Directory, Opened, Order, Purpose, Reader, Shared, Writer};
use crate::store::record::Wall;
use crate::store::recovered::distribute;
use crossbeam_channel::{Sender, unbounded};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Instant, SystemTime};

/// A thread reports its end, however it comes; that of the one that reads only if it is a bad one.
struct StoreWitness {
    reports: Sender<Report>,
    outcome: Result<(), String>,
    is_last: bool,
}

impl Drop for StoreWitness {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Ok(()));
        if outcome.is_ok() && !self.is_last {
            return;
        }
        // Nobody listens any more only when the process is about to end.
        let _ = self.reports.send(Report::StoreEnded(outcome));
    }
}

/// Opens the data directory, and says what is damaged. The error is one sentence.
pub(super) fn open(settings: &StoreSettings, limits: &Limits, wall: Wall) -> Result<Opened, String> {
    let window = Window { messages: limits.queue_window_messages, bytes: limits.queue_window_bytes };
    let directory = Directory::take(&settings.dir, true)?;
    let opened = crate::store::durable::open(directory, wall, Purpose::Begin(window))?;
    for damage in &opened.set_aside {
        eprintln!("ringmq: {damage}");
    }
    Ok(opened)
}

/// The wall clock, milliseconds since 1970, at `start`.
pub(super) fn wall(start: Instant) -> Wall {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Wall(now.saturating_sub(start.elapsed()).as_millis() as u64)
}

/// Starts the thread that stores; gives each shard its way to it and what it begins with. Empty without a store.
pub(super) fn start(
    settings: &Settings,
    opened: Option<Opened>,
    wall: Wall,
    seed: u64,
    shards: Vec<CommandSender<Command>>,
    reports: &Sender<Report>,
) -> Result<Vec<ShardStore>, String> {
    let (Some(store), Some(opened)) = (&settings.store, opened) else { return Ok(Vec::new()) };
    let Opened { directory, engine, recovered, run, .. } = opened;
    let count = shards.len() as u8;
    let mut assembly =
        Assembly::new(count, recovered.holders.iter().map(|(number, holders)| (*number, *holders)));
    assembly.go_on_with(recovered.ended.iter().copied());
    let min_free = store.min_free_space;
    let order = match store.durability {
        Durability::Flush => Order::disk(min_free),
        Durability::Interval => Order::system(Some(store.interval), min_free),
        Durability::Os => Order::system(None, min_free),
    };
    let shares = distribute(recovered, run, &Keys::new(seed), count);
    let shared = Arc::new(Shared::new(engine.clone()));
    let reader = Reader::new(shared.clone(), wall, shards.clone());
    let writer = Writer::new(directory, (engine, shared), assembly, order, shards);
    let (batches, receiver) = unbounded();
    let (wishes, wanted) = unbounded();
    let reading = begin("ringmq-read", reports, false, move || reader.run(&wanted))?;
    begin("ringmq-store", reports, true, move || {
        writer.run(&receiver)?;
        // It has nothing to do any more, and must be done with the engine's files.
        let _ = reading.join();
        Ok(())
    })?;
    let shard_store = |share| ShardStore { batches: batches.clone(), wishes: wishes.clone(), wall, share };
    Ok(shares.into_iter().map(shard_store).collect())
}

/// Starts a thread whose end is reported.
fn begin(
    name: &str,
    reports: &Sender<Report>,
    is_last: bool,
    work: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<JoinHandle<()>, String> {
    let outcome = Err("storing ended unexpectedly".to_string());
    let witness = StoreWitness { reports: reports.clone(), outcome, is_last };
    let thread = Builder::new().name(name.to_string()).spawn(move || {
        let mut witness = witness;
        witness.outcome = work();
    });
    thread.map_err(|error| format!("the thread {name} cannot start: {error}"))
}
