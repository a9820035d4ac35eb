//! The thread that writes: everything that came while the last flush ran goes into the next one.
use super::directory::Directory;
use super::engine::{Engine, Persist};
use super::heal::{self, Failed, Shared};
use super::load::sentence;
use super::space::free_bytes;
use crate::shard::core::{Command, ShardId};
use crate::shard::mesh::CommandSender;
use crate::store::Batch;
use crate::store::assembly::{Assembly, Changes, Round};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes after which a round is written even if more is waiting.
const ROUND_BYTES: usize = 8 << 20;
/// Between two attempts to tell a shard whose channel was full.
const TELL_AGAIN: Duration = Duration::from_millis(1);
/// Between two looks at the free space, at most.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// When something counts as stored, and when that is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    /// After what a shard is told.
    pub persist: Persist,
    /// With [`Persist::System`]: how often everything is brought to the disk; `None` leaves it to the system.
    pub flush_every: Option<Duration>,
    /// Bytes that must be free; below that nothing more is to be taken on.
    pub min_free: u64,
}

impl Order {
    /// Stored when it is on the disk.
    pub fn disk(min_free: u64) -> Order {
        Order { persist: Persist::Disk, flush_every: None, min_free }
    }
    /// Stored when the system has it, on the disk within `flush_every`.
    pub fn system(flush_every: Option<Duration>, min_free: u64) -> Order {
        Order { persist: Persist::System, flush_every, min_free }
    }
}

/// One shard, and what it is still to be told.
struct Told {
    commands: CommandSender<Command>,
    stored: Option<u64>,
    is_full: Option<bool>,
}

/// What the thread works with.
pub struct Writer {
    directory: Directory,
    /// Absent only while it is opened anew.
    engine: Option<Engine>,
    shared: Arc<Shared>,
    assembly: Assembly,
    order: Order,
    shards: Vec<Told>,
    is_full: bool,
    looked: Option<Instant>,
    /// When the oldest write that is not on the disk was made.
    unflushed: Option<Instant>,
}

impl Writer {
    /// A writer for these shards.
    pub fn new(
        directory: Directory,
        (engine, shared): (Engine, Arc<Shared>),
        assembly: Assembly,
        order: Order,
        shards: Vec<CommandSender<Command>>,
    ) -> Writer {
        let told = |commands| Told { commands, stored: None, is_full: None };
        let shards = shards.into_iter().map(told).collect();
        let engine = Some(engine);
        let (is_full, looked, unflushed) = (false, None, None);
        Writer { directory, engine, shared, assembly, order, shards, is_full, looked, unflushed }
    }

    /// Writes until no shard is left. After an error nothing is written and nothing told any more.
    pub fn run(mut self, batches: &Receiver<(ShardId, Batch)>) -> Result<(), String> {
        loop {
            let first = match self.patience() {
                None => batches.recv().map_err(RecvTimeoutError::from),
                Some(patience) => batches.recv_timeout(patience),
            };
            match first {
                Ok((shard, batch)) => self.assembly.add(shard, batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while self.assembly.bytes() < ROUND_BYTES
                && let Ok((shard, batch)) = batches.try_recv()
            {
                self.assembly.add(shard, batch);
            }
            self.look_at_space();
            self.write()?;
            self.tell();
        }
        self.write()?;
        self.engine().flush().map_err(|error| self.failed(&error))
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it is opened anew within one call")
    }

    /// How long there is nothing to do without a batch; `None` for ever.
    fn patience(&self) -> Option<Duration> {
        if self.assembly.is_sweeping() {
            return Some(Duration::ZERO);
        }
        let untold = self.shards.iter().any(|shard| shard.stored.is_some() || shard.is_full.is_some());
        let mut patience = untold.then_some(TELL_AGAIN);
        if self.is_full {
            patience = Some(patience.unwrap_or(LOOK_AGAIN));
        }
        if let (Some(since), Some(every)) = (self.unflushed, self.order.flush_every) {
            let left = every.saturating_sub(since.elapsed());
            patience = Some(patience.map_or(left, |patience| patience.min(left)));
        }
        patience
    }

    fn write(&mut self) -> Result<(), String> {
        let mut unread = None;
        let engine = self.engine.as_ref().expect("it is opened anew within one call");
        let round = self.assembly.take_round(|session, from| {
            engine.ended(session, from).unwrap_or_else(|error| {
                unread = Some(error);
                Vec::new()
            })
        });
        if let Some(error) = unread {
            return Err(self.failed(&error));
        }
        if let Some(Round { changes, stored }) = round {
            if !changes.is_empty() {
                if let Err(error) = self.engine().commit(&changes, self.order.persist) {
                    self.heal(&changes, &error)?;
                }
                if self.order.persist == Persist::System {
                    self.unflushed.get_or_insert_with(Instant::now);
                }
            }
            for (shard, number) in stored {
                self.shards[usize::from(shard)].stored = Some(number);
            }
        }
        if let (Some(since), Some(every)) = (self.unflushed, self.order.flush_every)
            && since.elapsed() >= every
        {
            self.engine().flush().map_err(|error| self.failed(&error))?;
            self.unflushed = None;
        }
        Ok(())
    }

    /// Has the engine opened anew and the round stored that could not be. Ends only when that is done, or when there is
    /// no hope.
    fn heal(&mut self, changes: &Changes, error: &fjall::Error) -> Result<(), String> {
        let path = self.directory.path().display().to_string();
        let mut last = Failed { why: sentence(error), is_full: heal::is_full(error) };
        let why = &last.why;
        eprintln!("ringmq: storing in {path} failed: {why}; nothing is acknowledged until it works again");
        self.set_full(true);
        let mut attempts = 0;
        loop {
            // Nobody has it open then.
            self.shared.set(None);
            self.engine = None;
            attempts += u32::from(!last.is_full);
            if attempts > heal::ATTEMPTS {
                let why = last.why;
                return Err(format!(
                    "storing in {path} failed: {why}; opening it anew {} times did not help, and the broker ends so that \
                     it can start again from what is on the disk",
                    heal::ATTEMPTS
                ));
            }
            self.tell();
            std::thread::sleep(heal::TRY_AGAIN);
            match heal::reopen(&self.directory, changes) {
                Ok(engine) => {
                    self.shared.set(Some(engine.clone()));
                    self.engine = Some(engine);
                    self.set_full(false);
                    self.looked = None;
                    eprintln!("ringmq: storing in {path} works again; what was under way is stored");
                    return Ok(());
                }
                Err(failed) => last = failed,
            }
        }
    }

    fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
        self.shards.iter_mut().for_each(|shard| shard.is_full = Some(is_full));
    }

    fn look_at_space(&mut self) {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_AGAIN) {
            return;
        }
        self.looked = Some(Instant::now());
        // Where it cannot be asked for, the write itself will tell.
        let Ok(free) = free_bytes(self.directory.path()) else { return };
        let is_full = free < self.order.min_free;
        if is_full != self.is_full {
            self.set_full(is_full);
            let path = self.directory.path().display();
            match is_full {
                true => eprintln!(
                    "ringmq: only {free} bytes are free for {path}, less than --min-free-space; nothing that must be stored is taken until there are more"
                ),
                false => eprintln!("ringmq: there is free space for {path} again; messages are stored again"),
            }
        }
    }

    fn tell(&mut self) {
        for shard in &mut self.shards {
            if let Some(number) = shard.stored
                && shard.commands.send(Command::Stored(number)).is_ok()
            {
                shard.stored = None;
            }
            if let Some(is_full) = shard.is_full
                && shard.commands.send(Command::StorageFull(is_full)).is_ok()
            {
                shard.is_full = None;
            }
        }
    }

    fn failed(&self, error: &fjall::Error) -> String {
        let (path, error) = (self.directory.path().display(), sentence(error));
        format!(
            "storing in {path} failed: {error}; nothing is acknowledged any more, and the broker ends so that it can \
             start again from what is on the disk"
        )
    }
}
