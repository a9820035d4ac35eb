//! What becomes of a write that failed: the engine is closed, opened anew and looked through, and what it did not store is
//! written again. Until then nothing is acknowledged, and nothing that must be stored is taken on.
//!
//! A flush that failed is never repeated as if nothing had happened: the system may have let go of what it could not write
//! and take it for written. So it is made to forget what it has in memory of the engine's files, what is read is what the
//! disk has, and the whole round, which nobody was told of, is written once more.
use super::directory::Directory;
use super::engine::{Engine, Persist};
use super::load::sentence;
use super::{journal, salvage};
use crate::store::Space;
use crate::store::assembly::Changes;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Between two attempts to go on.
pub const TRY_AGAIN: Duration = Duration::from_millis(200);
/// Attempts after which the broker ends. A full disk has no such bound: it becomes empty or it does not.
pub const ATTEMPTS: u32 = 10;

/// The engine for those who only read: they wait while there is none.
pub struct Shared {
    engine: Mutex<Option<Engine>>,
    is_back: Condvar,
}

impl Shared {
    /// An engine that can be read.
    pub fn new(engine: Engine) -> Shared {
        Shared { engine: Mutex::new(Some(engine)), is_back: Condvar::new() }
    }

    /// Reads, when there is an engine.
    pub fn read<T>(&self, read: impl FnOnce(&Engine) -> T) -> T {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*engine {
                Some(engine) => return read(engine),
                None => engine = self.is_back.wait(engine).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Another engine from now on, or none; when nobody reads.
    pub fn set(&self, engine: Option<Engine>) {
        *self.engine.lock().unwrap_or_else(PoisonError::into_inner) = engine;
        self.is_back.notify_all();
    }
}

/// Whether there is no room; anything else has another cause.
pub fn is_full(error: &fjall::Error) -> bool {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        }
        _ => false,
    }
}

/// Opens the engine of a directory that nobody has open, makes sure that all of it can be read, and stores `changes`. The
/// error is a clause.
pub fn reopen(directory: &Directory, changes: &Changes) -> Result<Engine, Failed> {
    let path = directory.engine();
    forget(&path)?;
    for damage in journal::mend(directory)? {
        eprintln!("ringmq: {damage}");
    }
    if let Some(missing) = salvage::missing(&path).first() {
        return Err(Failed { why: missing.to_string(), is_full: false });
    }
    let engine = Engine::open(&path)?;
    for space in Space::ALL {
        engine.read(space, &mut |_, _| {})?;
    }
    engine.commit(changes, Persist::Disk)?;
    Ok(engine)
}

/// Why it is not to be.
pub struct Failed {
    /// A clause.
    pub why: String,
    /// There is no room.
    pub is_full: bool,
}

impl From<fjall::Error> for Failed {
    fn from(error: fjall::Error) -> Failed {
        Failed { why: sentence(&error), is_full: is_full(&error) }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        fjall::Error::Io(error).into()
    }
}

/// Has the system forget what it has in memory of all files below a folder, so that reading them asks the disk.
fn forget(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            forget(&entry.path())?;
        } else {
            let file = File::open(entry.path())?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}
