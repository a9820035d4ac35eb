//! What can be read of an engine that cannot be opened: every kind of record by itself, and the journals.
use super::directory::SetAside;
use super::journal;
use crate::store::{Key, Space};
use fjall::AbstractTree;
use lsm_tree::SequenceNumberCounter;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Records by kind and key.
pub type Records = BTreeMap<(Space, Key), Vec<u8>>;

/// Where the engine keeps one kind of record. It numbers them as they are made, and its own list is number 0.
fn folder(engine: &Path, space: Space) -> PathBuf {
    engine.join("keyspaces").join((space as usize + 1).to_string())
}

/// Files that the engine misses without a word, and then begins anew.
pub fn missing(engine: &Path) -> Vec<SetAside> {
    if !engine.exists() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut note = |path: &Path, what: String| {
        if !path.exists() {
            found.push(SetAside { what, bytes: 0, why: "it is missing".to_string(), kept_in: None });
        }
    };
    note(&engine.join("version"), "the engine's file \"version\"".to_string());
    note(&engine.join("keyspaces").join("0").join("current"), "the engine's list of its tables".to_string());
    for space in Space::ALL {
        note(
            &folder(engine, space).join("current"),
            format!("the list of tables of {} records", space.name()),
        );
    }
    if journal::journals(engine).is_ok_and(|journals| journals.is_empty()) {
        note(&engine.join("0.jnl"), "the engine's journal".to_string());
    }
    found
}

/// Reads all that can be read of the engine's files, which are not in use; tells what cannot.
pub fn salvage(engine: &Path, damage: &mut Vec<SetAside>) -> io::Result<Records> {
    let mut records = Records::new();
    // By kind: everything up to this change is in the tables.
    let mut sorted: BTreeMap<Space, u64> = BTreeMap::new();
    for space in Space::ALL {
        match read_tables(&folder(engine, space), space, &mut records) {
            Ok(last) => drop(last.map(|last| sorted.insert(space, last))),
            Err(error) => damage.push(SetAside {
                what: format!("the tables of {} records", space.name()),
                bytes: super::directory::bytes_below(&folder(engine, space)),
                why: error,
                kept_in: None,
            }),
        }
    }
    let mut changes = Vec::new();
    for path in journal::journals(engine)? {
        let bytes = fs::read(&path)?;
        journal::changes(&bytes, &mut |change| {
            changes.push((
                change.sequence,
                change.space,
                Key::from_slice(change.key),
                change.value.map(Vec::from),
            ));
        });
    }
    changes.sort_by_key(|(sequence, ..)| *sequence);
    for (sequence, space, key, value) in changes {
        let number = space.checked_sub(1).and_then(|number| usize::try_from(number).ok());
        let Some(space) = number.and_then(|number| Space::ALL.get(number)).copied() else { continue };
        if sorted.get(&space).is_some_and(|last| sequence <= *last) {
            continue;
        }
        let record = (space, key);
        match value {
            Some(value) => drop(records.insert(record, value)),
            None => drop(records.remove(&record)),
        }
    }
    Ok(records)
}

/// The last change that is in the tables.
fn read_tables(path: &Path, space: Space, records: &mut Records) -> Result<Option<u64>, String> {
    if !path.join("current").exists() {
        return Err("the list of its tables is missing".to_string());
    }
    let counter = SequenceNumberCounter::default;
    let tree = lsm_tree::Config::new(path, counter(), counter()).open().map_err(|error| error.to_string())?;
    let mut outcome = Ok(());
    let now = tree.get_highest_seqno().map_or(0, |last| last + 1);
    for guard in tree.iter(now, None) {
        match lsm_tree::Guard::into_inner(guard) {
            Ok((key, value)) => drop(records.insert((space, Key::from_slice(&key)), value.to_vec())),
            Err(error) => {
                outcome = Err(error.to_string());
                break;
            }
        }
    }
    if outcome.is_err() {
        for guard in tree.iter(now, None).rev() {
            let Ok((key, value)) = lsm_tree::Guard::into_inner(guard) else { break };
            records.insert((space, Key::from_slice(&key)), value.to_vec());
        }
    }
    outcome.map(|()| tree.get_highest_persisted_seqno())
}
