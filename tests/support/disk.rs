//! A disk that fails on demand, and loses what was not flushed when the power is cut. `disk.c`, which the broker is
//! started with, keeps notes of what a cut would leave; [`Disk::cut_power`] makes it so.
//!
//! It is stricter than most file systems are: an entry of a folder counts as stored only when that folder was flushed,
//! and of what was not flushed any part may be there: sectors of a file, its length, a new name, a removed one.
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// How much of what was not flushed is there after a cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// Each sector and each entry or not, by chance.
    ByChance,
}

/// What a cut has taken.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Taken {
    pub sectors: usize,
    pub entries: usize,
}

/// An entry of a folder: whether it is a folder itself, and which file it is (inode and birth).
type Entry = (bool, String);

/// The disk below one data directory.
pub struct Disk {
    root: PathBuf,
    notes: PathBuf,
}

impl Disk {
    /// A disk for the data directory `root`, which is not there yet.
    pub fn new(root: &Path) -> Disk {
        let notes = root.with_extension("notes");
        fs::remove_dir_all(&notes).ok();
        fs::create_dir_all(&notes).unwrap();
        Disk { root: root.to_owned(), notes }
    }

    /// What a broker must be started with.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("LD_PRELOAD", library().to_owned()),
            ("DISK_ROOT", self.root.clone()),
            ("DISK_NOTES", self.notes.clone()),
        ]
    }

    /// Asks for a failure (`disk.c` has their names).
    pub fn ask_for(&self, failure: &str) {
        File::create(self.notes.join(failure)).unwrap();
    }

    /// Whether a failure that was asked for has not happened, or goes on.
    pub fn is_asked_for(&self, failure: &str) -> bool {
        self.notes.join(failure).exists()
    }

    /// No more of it.
    pub fn end(&self, failure: &str) {
        fs::remove_file(self.notes.join(failure)).ok();
    }

    /// The broker, which is no more, was on a machine that lost its power.
    pub fn cut_power(&self, left: Left, random: &mut dyn FnMut() -> u64) -> Taken {
        let mut cut = Cut { disk: self, left, random, files: BTreeMap::new(), taken: Taken::default() };
        cut.note_files(&self.root);
        let target = self.root.with_extension("after");
        fs::remove_dir_all(&target).ok();
        fs::create_dir(&target).unwrap();
        let root = key(&fs::metadata(&self.root).unwrap());
        cut.fill_folder(&root, Some(&self.root.clone()), &target);
        let taken = cut.taken;
        fs::remove_dir_all(&self.root).unwrap();
        fs::rename(&target, &self.root).unwrap();
        fs::remove_dir_all(&self.notes).unwrap();
        fs::create_dir(&self.notes).unwrap();
        self.note_all(&self.root);
        taken
    }

    /// Everything below `folder` is on the disk.
    fn note_all(&self, folder: &Path) {
        let mut list = String::new();
        for (name, (is_folder, key)) in entries(folder) {
            list += &format!("{} {key} {name}\n", if is_folder { 'd' } else { 'f' });
            let path = folder.join(name);
            match is_folder {
                true => self.note_all(&path),
                false => write_sparse(&self.notes.join(format!("f-{key}")), &fs::read(&path).unwrap()),
            }
        }
        let key = key(&fs::metadata(folder).unwrap());
        fs::write(self.notes.join(format!("d-{key}")), list).unwrap();
    }

    fn noted_entries(&self, folder: &str) -> BTreeMap<String, Entry> {
        let list = fs::read_to_string(self.notes.join(format!("d-{folder}"))).unwrap_or_default();
        let entry = |line: &str| {
            let mut words = line.splitn(3, ' ').map(String::from);
            let mut word = || words.next().expect("three words in a line");
            let (kind, key, name) = (word(), word(), word());
            (name, (kind == "d", key))
        };
        list.lines().map(entry).collect()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.notes).ok();
    }
}

struct Cut<'a> {
    disk: &'a Disk,
    left: Left,
    random: &'a mut dyn FnMut() -> u64,
    /// Where each file and folder is now.
    files: BTreeMap<String, PathBuf>,
    taken: Taken,
}

impl Cut<'_> {
    fn note_files(&mut self, folder: &Path) {
        for (name, (is_folder, key)) in entries(folder) {
            let path = folder.join(name);
            if is_folder {
                self.note_files(&path);
            }
            self.files.insert(key, path);
        }
    }

    fn is_left(&mut self) -> bool {
        self.left == Left::ByChance && (self.random)() & 1 == 0
    }

    fn fill_folder(&mut self, folder: &str, now: Option<&Path>, target: &Path) {
        let noted = self.disk.noted_entries(folder);
        let now = now.map(entries).unwrap_or_default();
        let names: Vec<String> = noted.keys().chain(now.keys()).cloned().collect();
        for name in std::collections::BTreeSet::from_iter(names) {
            let (before, after) = (noted.get(&name), now.get(&name));
            let entry = if before == after || self.is_left() {
                after
            } else {
                self.taken.entries += 1;
                before
            };
            let Some((is_folder, key)) = entry.cloned() else { continue };
            let path = self.files.get(&key).cloned();
            let target = target.join(&name);
            match is_folder {
                true => {
                    fs::create_dir(&target).unwrap();
                    self.fill_folder(&key, path.as_deref(), &target);
                }
                false => self.fill_file(&key, path.as_deref(), &target),
            }
        }
    }

    fn fill_file(&mut self, key: &str, now: Option<&Path>, target: &Path) {
        let noted = fs::read(self.disk.notes.join(format!("f-{key}"))).unwrap_or_default();
        let Some(now) = now else { return write_sparse(target, &noted) };
        let now = fs::read(now).unwrap();
        let mut bytes = noted.clone();
        let length = if noted.len() == now.len() || self.is_left() { now.len() } else { noted.len() };
        bytes.resize(length, 0);
        for at in (0..length).step_by(SECTOR) {
            let end = (at + SECTOR).min(length);
            let new = &now[at.min(now.len())..end.min(now.len())];
            if &bytes[at..at + new.len()] == new {
                continue;
            }
            match self.is_left() {
                true => bytes[at..at + new.len()].copy_from_slice(new),
                false => self.taken.sectors += 1,
            }
        }
        self.taken.sectors += now.len().saturating_sub(length).div_ceil(SECTOR);
        write_sparse(target, &bytes);
    }
}

/// Which file it is, whatever its name.
fn key(metadata: &Metadata) -> String {
    let born = metadata.created().expect("a file system that knows when files were made");
    let born = born.duration_since(UNIX_EPOCH).unwrap();
    format!("{}-{}{:09}", metadata.ino(), born.as_secs(), born.subsec_nanos())
}

fn entries(folder: &Path) -> BTreeMap<String, Entry> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        (entry.file_name().into_string().unwrap(), (metadata.is_dir(), key(&metadata)))
    };
    fs::read_dir(folder).unwrap().map(entry).collect()
}

/// Writes a file with holes where there are zeros: journals are mostly that.
fn write_sparse(path: &Path, bytes: &[u8]) {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut file = File::create(path).unwrap();
    for (number, block) in bytes.chunks(ZEROS.len()).enumerate() {
        if block != &ZEROS[..block.len()] {
            file.seek(SeekFrom::Start((number * ZEROS.len()) as u64)).unwrap();
            file.write_all(block).unwrap();
        }
    }
    file.set_len(bytes.len() as u64).unwrap();
}

/// `disk.c`, built.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/disk.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&path).arg(source).arg("-ldl");
        let output = compiler.output().expect("cc, a C compiler");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        path
    })
}
