//! The storage engine: one journal for all kinds of records, so that one flush makes a round durable.
use crate::store::assembly::{Change, Changes, SWEPT};
use crate::store::queue::{Found, Wanted};
use crate::store::record::{self, Corrupt, Wall};
use crate::store::{Key, Space, key};
use bytes::Bytes;
use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use std::path::Path;

/// Bytes of the newest records of one kind that are kept in memory before they are sorted into tables.
const MEMTABLE: u64 = 8 << 20;
/// Bytes of journals after which old ones are sorted into tables, whatever is in them.
const JOURNALS: u64 = 128 << 20;
/// Bytes of tables kept in memory.
const CACHE: u64 = 16 << 20;
/// Files kept open.
const FILES: usize = 128;

/// When a round counts as stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Persist {
    /// When it is on the disk.
    Disk,
    /// When the operating system has it.
    System,
}

/// An open engine. Copies of it are the same one.
#[derive(Clone)]
pub struct Engine {
    database: Database,
    spaces: Vec<Keyspace>,
}

impl Engine {
    /// Opens what is in `path`, or makes a new one there.
    pub fn open(path: &Path) -> fjall::Result<Engine> {
        let database = Database::builder(path)
            .manual_journal_persist(true)
            .worker_threads(1)
            .cache_size(CACHE)
            .max_cached_files(Some(FILES))
            .max_journaling_size(JOURNALS)
            .open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE);
        let spaces = Space::ALL.iter().map(|space| database.keyspace(space.name(), options));
        let spaces = spaces.collect::<fjall::Result<Vec<_>>>()?;
        Ok(Engine { database, spaces })
    }

    fn space(&self, space: Space) -> &Keyspace {
        &self.spaces[space as usize]
    }

    /// Stores changes as a whole.
    pub fn commit(&self, changes: &Changes, persist: Persist) -> fjall::Result<()> {
        let mode = match persist {
            Persist::Disk => PersistMode::SyncData,
            Persist::System => PersistMode::Buffer,
        };
        let mut batch = self.database.batch().durability(Some(mode));
        for ((space, key), change) in changes {
            match change {
                Change::Put(value) => batch.insert(self.space(*space), &key[..], &value[..]),
                Change::Remove => batch.remove(self.space(*space), &key[..]),
            }
        }
        batch.commit()
    }

    /// Makes everything durable.
    pub fn flush(&self) -> fjall::Result<()> {
        self.database.persist(PersistMode::SyncData)
    }

    /// Writes and removes records at start, when nothing else is going on.
    pub fn repair(&self, put: &[(Space, Key, Vec<u8>)], removed: &[(Space, Key)]) -> fjall::Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for (space, key, value) in put {
            batch.insert(self.space(*space), &key[..], &value[..]);
        }
        for (space, key) in removed {
            batch.remove(self.space(*space), &key[..]);
        }
        batch.commit()
    }

    /// One record.
    pub fn get(&self, space: Space, key: &[u8]) -> fjall::Result<Option<Vec<u8>>> {
        Ok(self.space(space).get(key)?.map(|value| value.to_vec()))
    }

    /// Reads a stretch of a queue, as it is at one moment; beside it the places of entries that say nothing.
    pub fn find(&self, wall: Wall, wanted: &Wanted) -> fjall::Result<(Found, Vec<(u64, Corrupt)>)> {
        let moment = self.database.snapshot();
        let (first, last) = (key::entry(wanted.session, wanted.from), key::entry(wanted.session, wanted.to));
        let entries = moment.range(self.space(Space::Queue), &first[..]..=&last[..]);
        let payload = |number| {
            let value = moment.get(self.space(Space::Message), &key::number(number)[..])?;
            Ok(value.map(|value| Bytes::copy_from_slice(&value)))
        };
        wanted.read(wall, entries.map(Guard::into_inner), payload)
    }

    /// All records of one kind. An error ends the walk.
    pub fn read(&self, space: Space, take: &mut dyn FnMut(&[u8], &[u8])) -> fjall::Result<()> {
        for guard in self.space(space).iter() {
            let (key, value) = guard.into_inner()?;
            take(&key, &value);
        }
        Ok(())
    }

    /// The same from the end, up to the first record that cannot be read.
    pub fn read_back(&self, space: Space, take: &mut dyn FnMut(&[u8], &[u8])) {
        for guard in self.space(space).iter().rev() {
            let Ok((key, value)) = guard.into_inner() else { return };
            take(&key, &value);
        }
    }

    /// All records of a session, each with the shared payload that it holds.
    pub fn session(&self, session: u64) -> fjall::Result<Vec<(Space, Key, u64)>> {
        let mut found = Vec::new();
        for space in Space::OF_SESSION {
            for guard in self.space(space).prefix(key::session(session)) {
                let (key, value) = guard.into_inner()?;
                let holds = if space == Space::Queue { record::holds(&value) } else { 0 };
                found.push((space, Key::from_slice(&key), holds));
            }
        }
        Ok(found)
    }

    /// What is to be removed of a session that has ended; see [`crate::store::assembly::Assembly::take_round`].
    pub fn ended(&self, session: u64, from: Option<u64>) -> fjall::Result<Vec<(Space, Key, u64)>> {
        let mut found = Vec::new();
        let Some(from) = from else {
            for space in Space::OF_SESSION.into_iter().filter(|space| *space != Space::Queue) {
                for guard in self.space(space).prefix(key::session(session)) {
                    found.push((space, Key::from_slice(&guard.key()?), 0));
                }
            }
            return Ok(found);
        };
        let (first, last) = (key::entry(session, from), key::entry(session, u64::MAX));
        for guard in self.space(Space::Queue).range(&first[..]..=&last[..]).take(SWEPT) {
            let (key, value) = guard.into_inner()?;
            found.push((Space::Queue, Key::from_slice(&key), record::holds(&value)));
        }
        Ok(found)
    }

    /// Sorts the newest records of one kind into a table.
    #[cfg(test)]
    pub fn sort_into_tables(&self, space: Space) -> fjall::Result<()> {
        self.space(space).rotate_memtable_and_wait()
    }

    /// Bytes on disk, journals included.
    pub fn disk_space(&self) -> u64 {
        self.database.disk_space().unwrap_or(0)
    }
}
