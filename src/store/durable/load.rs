//! Opening: what is intact is read, what is not is set aside and told.
use super::directory::{Directory, SetAside, bytes_below};
use super::engine::Engine;
use super::journal;
use super::salvage::{self, Records};
use crate::session::tail::Window;
use crate::store::record::{self, Wall};
use crate::store::recovered::Recovered;
use crate::store::{Key, Space, key};
use std::fs;
use std::path::Path;

/// Key of the number of times the broker began with this store.
pub const RUNS: &[u8] = b"runs";

/// Everything a start needs to know of the store.
pub struct Opened {
    /// The directory, locked.
    pub directory: Directory,
    /// The engine.
    pub engine: Engine,
    /// What was found.
    pub recovered: Recovered,
    /// What was damaged.
    pub set_aside: Vec<SetAside>,
    /// How often the broker began with this store, this time included.
    pub run: u32,
}

/// What a directory is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A broker begins with it, and keeps so much of each queue in memory.
    Begin(Window),
    /// Somebody looks at it.
    Look,
}

/// Opens a data directory, and repairs what is damaged in it. The error is one sentence.
pub fn open(directory: Directory, wall: Wall, purpose: Purpose) -> Result<Opened, String> {
    let shown = directory.path().display().to_string();
    let cannot = |error: fjall::Error| format!("the store in {shown} cannot be used: {}", sentence(&error));
    let io = |error: std::io::Error| format!("the data directory {shown} cannot be written: {error}");
    let mut set_aside = journal::mend(&directory).map_err(io)?;
    let mut loading = Loading::new(wall, purpose);
    let missing = salvage::missing(&directory.engine());
    let opening = match missing.is_empty() {
        true => Engine::open(&directory.engine()),
        false => Err(fjall::Error::Unrecoverable),
    };
    let engine = match opening {
        Ok(engine) => {
            if Space::AS_READ.into_iter().all(|space| loading.read(&engine, space).is_ok()) {
                engine
            } else {
                // Not all of it can be read in one go, so all that can be is taken out.
                loading = Loading::new(wall, purpose);
                let (records, damage) = read(&engine);
                loading.take(&records);
                drop(engine);
                set_aside.extend(damage);
                rebuild(&directory, &records, &mut set_aside)
                    .map_err(|error| format!("the damaged store in {shown} cannot be built anew: {error}"))?
            }
        }
        Err(error) if is_damage(&error) => {
            let bytes = bytes_below(&directory.engine());
            let why = sentence(&error);
            if missing.is_empty() {
                set_aside.push(SetAside { what: "the engine's own files".into(), bytes, why, kept_in: None });
            }
            set_aside.extend(missing);
            let records = salvage::salvage(&directory.engine(), &mut set_aside).map_err(io)?;
            loading.take(&records);
            rebuild(&directory, &records, &mut set_aside)
                .map_err(|error| format!("the damaged store in {shown} cannot be built anew: {error}"))?
        }
        Err(error) => return Err(cannot(error)),
    };
    let Loading { mut recovered, broken, mut run, .. } = loading;
    // The record that tells may be lost; what the sessions say is as good.
    let newest = recovered.sessions.keys().map(|number| (number >> 32 & 0xff_ffff) as u32).max();
    run = run.max(newest.unwrap_or(0));
    let superseded = recovered.finish();
    let mut removed = recovered.orphans.clone();
    for session in superseded {
        let records = engine.session(session).map_err(cannot)?;
        removed.extend(records.into_iter().map(|(space, key, _)| (space, key)));
    }
    if !broken.is_empty() {
        let kept_in = Some(directory.set_records_aside(&broken).map_err(io)?);
        for (space, key, value, why) in &broken {
            let what = format!("the {space} record {}", super::directory::hex(key));
            let bytes = (key.len() + value.len()) as u64;
            set_aside.push(SetAside { what, bytes, why: why.clone(), kept_in: kept_in.clone() });
            let space = Space::ALL.into_iter().find(|known| known.name() == space);
            removed.extend(space.map(|space| (space, Key::from_slice(key))));
        }
    }
    run += u32::from(purpose != Purpose::Look);
    let runs = (Space::Meta, Key::from_slice(RUNS), record::encode_number(run).to_vec());
    engine.repair(&[runs], &removed).map_err(cannot)?;
    if purpose != Purpose::Look {
        // The engine leaves some new folders to the file system's mercy: a file that is flushed, in a folder that is not,
        // may be gone after a power cut.
        sync_folders(directory.path()).map_err(io)?;
    }
    Ok(Opened { directory, engine, recovered, set_aside, run })
}

/// A record that says nothing: its kind, key and value, and why.
type Broken = (String, Vec<u8>, Vec<u8>, String);

/// What was taken in so far.
struct Loading {
    wall: Wall,
    recovered: Recovered,
    broken: Vec<Broken>,
    run: u32,
}

impl Loading {
    fn new(wall: Wall, purpose: Purpose) -> Loading {
        let window = match purpose {
            Purpose::Begin(window) => window,
            Purpose::Look => Window::ALL,
        };
        Loading { wall, recovered: Recovered::new(window), broken: Vec::new(), run: 0 }
    }

    fn apply(
        &mut self,
        space: Space,
        key: &[u8],
        value: &[u8],
        payloads: &mut dyn FnMut(u64) -> Option<Vec<u8>>,
    ) {
        let outcome = match (space, key == RUNS) {
            (Space::Meta, true) => record::decode_number(value).map(|runs| self.run = runs),
            _ => self.recovered.apply(self.wall, space, key, value, payloads),
        };
        if let Err(why) = outcome {
            self.broken.push((space.name().to_owned(), key.to_vec(), value.to_vec(), why.to_string()));
        }
    }

    /// Takes in all records of one kind. An error of the engine ends it.
    fn read(&mut self, engine: &Engine, space: Space) -> fjall::Result<()> {
        let mut failed = None;
        let mut payloads = |number| {
            let value = engine.get(Space::Message, &key::number(number));
            value.unwrap_or_else(|error| {
                failed = Some(error);
                None
            })
        };
        engine.read(space, &mut |key, value| self.apply(space, key, value, &mut payloads))?;
        failed.map_or(Ok(()), Err)
    }

    /// Takes in records that were read before.
    fn take(&mut self, records: &Records) {
        for space in Space::AS_READ {
            let of_space = records.range((space, Key::new())..).take_while(|((of, _), _)| *of == space);
            let mut payloads = |number| records.get(&(Space::Message, key::number(number))).cloned();
            of_space.for_each(|((_, key), value)| self.apply(space, key, value, &mut payloads));
        }
    }
}

/// Everything that can be read, and what cannot.
fn read(engine: &Engine) -> (Records, Vec<SetAside>) {
    let mut records = Records::new();
    let mut damage = Vec::new();
    for space in Space::ALL {
        let mut take = |key: &[u8], value: &[u8]| {
            records.insert((space, Key::from_slice(key)), value.to_vec());
        };
        if let Err(error) = engine.read(space, &mut take) {
            engine.read_back(space, &mut take);
            let what = format!("a table of {} records", space.name());
            damage.push(SetAside { what, bytes: 0, why: sentence(&error), kept_in: None });
        }
    }
    (records, damage)
}

/// Sets the engine's files aside and makes a new engine of what could be read.
fn rebuild(directory: &Directory, records: &Records, set_aside: &mut [SetAside]) -> Result<Engine, String> {
    let old = directory.engine();
    let aside = directory.aside("engine").map_err(|error| error.to_string())?;
    fs::rename(&old, &aside).map_err(|error| error.to_string())?;
    for damage in set_aside.iter_mut().filter(|damage| damage.kept_in.is_none()) {
        damage.kept_in = Some(aside.clone());
        if damage.bytes == 0 {
            damage.bytes = bytes_below(&aside);
        }
    }
    let engine = Engine::open(&old).map_err(|error| sentence(&error))?;
    let put: Vec<_> =
        records.iter().map(|((space, key), value)| (*space, key.clone(), value.clone())).collect();
    engine.repair(&put, &[]).map_err(|error| sentence(&error))?;
    fs::File::open(directory.path())
        .and_then(|folder| folder.sync_all())
        .map_err(|error| error.to_string())?;
    Ok(engine)
}

/// Makes the entries of a folder and of all below it durable.
fn sync_folders(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    fs::File::open(path)?.sync_all()
}

/// Whether files are damaged, as opposed to a machine that does not do its part.
fn is_damage(error: &fjall::Error) -> bool {
    // A place that cannot be (invalid input) is what a damaged table points to.
    use std::io::ErrorKind::{AlreadyExists, InvalidData, InvalidInput, NotFound, UnexpectedEof};
    match error {
        fjall::Error::Io(error) => {
            matches!(error.kind(), AlreadyExists | InvalidData | InvalidInput | NotFound | UnexpectedEof)
        }
        fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            matches!(error.kind(), AlreadyExists | InvalidData | InvalidInput | NotFound | UnexpectedEof)
        }
        fjall::Error::Locked | fjall::Error::Poisoned | fjall::Error::KeyspaceDeleted => false,
        _ => true,
    }
}

/// What happened, for people.
pub fn sentence(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => error.to_string(),
        fjall::Error::Poisoned => "an earlier write failed".to_string(),
        fjall::Error::Locked => "another process uses it".to_string(),
        other => other.to_string(),
    }
}
