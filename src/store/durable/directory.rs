//! The data directory itself: who may use it, and what was set aside in it.
use crate::store::FORMAT;
use std::fmt::{self, Write as _};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";
const ENGINE: &str = "engine";
const SET_ASIDE: &str = "set-aside";
/// Where a look at the files is taken.
const SCRATCH: &str = "looked-at";
/// What stands before the number in `FORMAT`.
const MAKER: &str = "ringmq store";

/// Something that was damaged, and is out of the way now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetAside {
    /// What and where.
    pub what: String,
    /// Its bytes.
    pub bytes: u64,
    /// What is wrong with it.
    pub why: String,
    /// Where it is now; `None` if it was only looked at.
    pub kept_in: Option<PathBuf>,
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SetAside { what, bytes, why, kept_in } = self;
        write!(f, "{what} ({bytes} bytes) is damaged: {why}")?;
        match kept_in {
            Some(path) => write!(f, "; set aside in {}", path.display()),
            None => Ok(()),
        }
    }
}

/// A data directory that belongs to this process.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl Directory {
    /// Takes a directory; makes it if it is not there and `is_writable`. The error is one sentence with the remedy.
    pub fn take(path: &Path, is_writable: bool) -> Result<Directory, String> {
        let shown = path.display();
        let failed = |what: &str, error: io::Error| match error.kind() {
            ErrorKind::PermissionDenied => {
                format!(
                    "the data directory {shown} cannot be {what}: permission denied; give the broker's user access to it"
                )
            }
            ErrorKind::ReadOnlyFilesystem => format!(
                "the data directory {shown} is on a file system that is mounted read-only; mount it for writing, or name another"
            ),
            ErrorKind::StorageFull => {
                format!(
                    "the data directory {shown} is on a file system without free space; make some, or name another"
                )
            }
            _ => format!("the data directory {shown} cannot be {what}: {error}"),
        };
        if is_writable {
            match fs::create_dir(path).and_then(|()| sync_parent(path)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(format!(
                        "the data directory {shown} cannot be made because the one above it is not there; make that first"
                    ));
                }
                Err(error) => return Err(failed("made", error)),
            }
        }
        match fs::read_to_string(path.join(FORMAT_FILE)) {
            Ok(text) => check_format(path, &text)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut entries = fs::read_dir(path).map_err(|error| failed("read", error))?;
                let is_foreign = entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != LOCK_FILE));
                if is_foreign || !is_writable {
                    return Err(format!(
                        "{shown} is not a data directory of ringmq; name an empty or a new one"
                    ));
                }
            }
            Err(error) => return Err(failed("read", error)),
        }
        let lock_path = path.join(LOCK_FILE);
        let lock = File::options().read(true).write(true).create(is_writable).truncate(false).open(lock_path);
        let lock = lock.map_err(|error| failed("written", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!(
                    "the data directory {shown} is in use by another process; stop that one, or name another directory"
                ));
            }
            Err(TryLockError::Error(error)) => return Err(failed("locked", error)),
        }
        let directory = Directory { path: path.to_owned(), _lock: lock };
        if is_writable {
            directory.write_format().map_err(|error| failed("written", error))?;
        }
        Ok(directory)
    }

    /// Also finds out whether the directory can be written and synced at all.
    fn write_format(&self) -> io::Result<()> {
        let (path, next) = (self.path.join(FORMAT_FILE), self.path.join("FORMAT.new"));
        let mut file = File::create(&next)?;
        writeln!(file, "{MAKER} {FORMAT}")?;
        file.sync_all()?;
        fs::rename(next, path)?;
        File::open(&self.path)?.sync_all()
    }

    /// The same files for a look, so that the originals stay as they are. [`Directory::remove_scratch`] ends it.
    pub fn scratch(&self) -> io::Result<Directory> {
        self.remove_scratch();
        let path = self.path.join(SCRATCH);
        link(&self.engine(), &path.join(ENGINE))?;
        let lock = File::create(path.join(LOCK_FILE))?;
        Ok(Directory { path, _lock: lock })
    }

    /// The look is over.
    pub fn remove_scratch(&self) {
        // What is left of it is removed by the next look.
        let _ = fs::remove_dir_all(self.path.join(SCRATCH));
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the engine has its files.
    pub fn engine(&self) -> PathBuf {
        self.path.join(ENGINE)
    }

    /// A name in `set-aside` that nothing has.
    pub fn aside(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.path.join(SET_ASIDE);
        fs::create_dir_all(&folder)?;
        let time =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_millis());
        let names = (0..).map(|count| folder.join(format!("{time}-{count}-{name}")));
        Ok(names.into_iter().find(|path| !path.exists()).expect("there are always more numbers"))
    }

    /// Sets records aside, as text: kind, key, value, reason.
    pub fn set_records_aside(&self, records: &[(String, Vec<u8>, Vec<u8>, String)]) -> io::Result<PathBuf> {
        let path = self.aside("records.txt")?;
        let mut text = String::new();
        for (space, key, value, why) in records {
            text += &format!("{space} {} {} {why}\n", hex(key), hex(value));
        }
        let mut file = File::create(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(path)
    }
}

/// Makes the name of a new folder durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Links to all files below a folder; journals, which are written in place, are copied.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            link(&path, &target)?;
        } else if path.extension().is_some_and(|extension| extension == "jnl")
            || fs::hard_link(&path, &target).is_err()
        {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Bytes of all files below a folder.
pub fn bytes_below(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// For people.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn check_format(path: &Path, text: &str) -> Result<(), String> {
    let shown = path.display();
    let number = text.trim().strip_prefix(MAKER).and_then(|number| number.trim().parse::<u32>().ok());
    match number {
        Some(FORMAT) => Ok(()),
        Some(newer) if newer > FORMAT => Err(format!(
            "the data directory {shown} has format {newer}, and this ringmq knows {FORMAT} only; \
             start the version that wrote it, or a newer one"
        )),
        _ => Err(format!(
            "{FORMAT_FILE} in the data directory {shown} does not say which format it has; \
             name another directory, or restore that file (\"{MAKER} {FORMAT}\")"
        )),
    }
}
