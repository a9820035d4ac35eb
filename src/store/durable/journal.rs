//! Damage in the engine's journals.
//!
//! The engine ends at the first damaged batch of a journal and forgets what follows, without a word. So journals are
//! looked through before it opens them: a damaged stretch is cut out and set aside, and the batches behind it stay.
use super::directory::{Directory, SetAside};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// The kind of a change that writes; all others remove.
const VALUE: u64 = 0;
/// Bytes of a journal out of which something was cut, at least.
const MIN_LENGTH: u64 = 4096;
/// What an end marker ends with.
const MAGIC: &[u8] = b"FJL\x03";

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
    fn number(&mut self, bytes: usize) -> Option<u64> {
        let taken = self.take(bytes)?;
        Some(taken.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

/// One change of a journal.
pub struct JournalChange<'a> {
    /// When it was made, among all.
    pub sequence: u64,
    /// The engine's number of the kind of record.
    pub space: u64,
    /// Its key.
    pub key: &'a [u8],
    /// What was written; `None` if it was removed.
    pub value: Option<&'a [u8]>,
}

/// All changes of the undamaged batches of a journal.
pub fn changes<'a>(bytes: &'a [u8], take: &mut dyn FnMut(JournalChange<'a>)) {
    let mut at = 0;
    while let Some(length) = bytes.get(at..).and_then(batch) {
        walk(&bytes[at..], take);
        at += length;
    }
}

/// Length of the whole, undamaged batch at the start of `bytes`.
fn batch(bytes: &[u8]) -> Option<usize> {
    walk(bytes, &mut |_| {})
}

/// The same, with its changes, which count only if it is undamaged.
fn walk<'a>(bytes: &'a [u8], take: &mut dyn FnMut(JournalChange<'a>)) -> Option<usize> {
    let mut reader = Reader(bytes);
    if reader.number(1)? as u8 != START {
        return None;
    }
    let (count, sequence) = (reader.number(4)?, reader.number(8)?);
    let items = reader.0;
    for _ in 0..count {
        match reader.number(1)? as u8 {
            ITEM => {
                let kind = reader.number(1)?;
                // Nothing here is written compressed.
                if reader.number(1)? != 0 {
                    return None;
                }
                let space = reader.number(8)?;
                let (key, _value, stored) = (reader.number(2)?, reader.number(4)?, reader.number(4)?);
                let (key, value) = (reader.take(key as usize)?, reader.take(stored as usize)?);
                let value = (kind == VALUE).then_some(value);
                take(JournalChange { sequence, space, key, value });
            }
            CLEAR => drop(reader.number(8)?),
            _ => return None,
        }
    }
    let checked = &items[..items.len() - reader.0.len()];
    let is_end = reader.number(1)? as u8 == END;
    let checksum = reader.number(8)?;
    let is_whole =
        is_end && reader.take(MAGIC.len())? == MAGIC && checksum == xxhash_rust::xxh3::xxh3_64(checked);
    is_whole.then(|| bytes.len() - reader.0.len())
}

/// Length without the zeros at the end, which were never written.
fn written(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut length = bytes.len();
    while length >= ZEROS.len() && bytes[length - ZEROS.len()..length] == ZEROS {
        length -= ZEROS.len();
    }
    bytes[..length].iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

/// Stretches of `bytes` that are no batches, but should be. Zeros at the end were never written.
fn damaged(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let written = written(bytes);
    let mut found: Vec<std::ops::Range<usize>> = Vec::new();
    let mut at = 0;
    while at < written {
        if let Some(length) = batch(&bytes[at..]) {
            at += length;
            continue;
        }
        let next = memchr::memchr_iter(START, &bytes[at + 1..written])
            .map(|offset| at + 1 + offset)
            .find(|next| batch(&bytes[*next..]).is_some());
        let end = next.unwrap_or(written);
        found.push(at..end);
        at = end;
    }
    found
}

/// The engine's journals, oldest first.
pub fn journals(engine: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(engine) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    let number = |path: &PathBuf| path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
    paths.sort_by_key(number);
    Ok(paths)
}

/// Cuts damaged stretches out of the journals.
pub fn mend(directory: &Directory) -> io::Result<Vec<SetAside>> {
    let mut set_aside = Vec::new();
    let journals = journals(&directory.engine())?;
    for path in &journals {
        let bytes = fs::read(path)?;
        // The engine gives a journal its length before anything else; only one that was just begun may have none.
        if bytes.is_empty() && (journals.len() == 1 || Some(path) != journals.last()) {
            let what = format!("the journal {}", path.file_name().unwrap_or_default().display());
            let why = "it is empty".to_string();
            set_aside.push(SetAside { what, bytes: 0, why, kept_in: None });
        }
        let ranges = damaged(&bytes);
        if ranges.is_empty() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let aside = directory.aside(&name)?;
        let mut copy = File::create(&aside)?;
        ranges.iter().try_for_each(|range| copy.write_all(&bytes[range.clone()]))?;
        copy.sync_all()?;
        rewrite(path, &bytes, &ranges)?;
        let kept_in = Some(aside);
        set_aside.extend(ranges.iter().map(|range| SetAside {
            what: format!("the journal {name} from byte {} on", range.start),
            bytes: range.len() as u64,
            why: match written(&bytes[range.end..]) == 0 {
                true => "its last batch was not written as a whole, or is damaged".to_string(),
                false => "batches in it are damaged".to_string(),
            },
            kept_in: kept_in.clone(),
        }));
    }
    Ok(set_aside)
}

/// Replaces a journal by one without `ranges`.
fn rewrite(path: &Path, bytes: &[u8], ranges: &[std::ops::Range<usize>]) -> io::Result<()> {
    let next = path.with_extension("mended");
    let mut file = File::create(&next)?;
    let mut at = 0;
    for range in ranges {
        file.write_all(&bytes[at..range.start])?;
        at = range.end;
    }
    file.write_all(&bytes[at..at + written(&bytes[at..])])?;
    // Not empty even if nothing is left: this is told once.
    let length = file.metadata()?.len();
    file.set_len(length.max(MIN_LENGTH))?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
