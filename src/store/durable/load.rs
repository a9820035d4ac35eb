//! Opening: what is intact is read, what is not is set aside and told.
use super::directory::{Directory, SetAside, bytes_below};
use super::engine::Engine;
use super::journal;
use super::salvage::{self, Records};
use crate::store::record::{self, Wall};
use crate::store::recovered::Recovered;
use crate::store::{Key, Space};
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
    /// A broker begins with it.
    Begin,
    /// Somebody looks at it.
    Look,
}

/// Opens a data directory, and repairs what is damaged in it. The error is one sentence.
pub fn open(directory: Directory, wall: Wall, purpose: Purpose) -> Result<Opened, String> {
    let shown = directory.path().display().to_string();
    let cannot = |error: fjall::Error| format!("the store in {shown} cannot be used: {}", sentence(&error));
    let io = |error: std::io::Error| format!("the data directory {shown} cannot be written: {error}");
    let mut set_aside = journal::mend(&directory).map_err(io)?;
    let mut run = 0;
    let mut recovered = Recovered::default();
    let mut broken = Vec::new();
    let missing = salvage::missing(&directory.engine());
    let opening = match missing.is_empty() {
        true => Engine::open(&directory.engine()),
        false => Err(fjall::Error::Unrecoverable),
    };
    let engine = match opening {
        Ok(engine) => {
            let (records, damage) = read(&engine);
            load(&records, wall, &mut recovered, &mut broken, &mut run);
            if damage.is_empty() {
                engine
            } else {
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
            load(&records, wall, &mut recovered, &mut broken, &mut run);
            rebuild(&directory, &records, &mut set_aside)
                .map_err(|error| format!("the damaged store in {shown} cannot be built anew: {error}"))?
        }
        Err(error) => return Err(cannot(error)),
    };
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
    run += u32::from(purpose == Purpose::Begin);
    let runs = (Space::Meta, Key::from_slice(RUNS), record::encode_number(run).to_vec());
    engine.repair(&[runs], &removed).map_err(cannot)?;
    if purpose == Purpose::Begin {
        // The engine leaves some new folders to the file system's mercy: a file that is flushed, in a folder that is not,
        // may be gone after a power cut.
        sync_folders(directory.path()).map_err(io)?;
    }
    Ok(Opened { directory, engine, recovered, set_aside, run })
}

fn load(
    records: &Records,
    wall: Wall,
    recovered: &mut Recovered,
    broken: &mut Vec<(String, Vec<u8>, Vec<u8>, String)>,
    run: &mut u32,
) {
    for ((space, key), value) in records {
        let outcome = match (space, &key[..] == RUNS) {
            (Space::Meta, true) => record::decode_number(value).map(|runs| *run = runs),
            _ => recovered.apply(wall, *space, key, value),
        };
        if let Err(why) = outcome {
            broken.push((space.name().to_owned(), key.to_vec(), value.clone(), why.to_string()));
        }
    }
    // The record that tells may be lost; what the sessions say is as good.
    let newest = recovered.sessions.keys().map(|number| (number >> 32 & 0xff_ffff) as u32).max();
    *run = (*run).max(newest.unwrap_or(0));
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
