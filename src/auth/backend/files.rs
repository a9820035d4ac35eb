//! Reading the files of operators, and replacing them so that a crash leaves the old or the new one.
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Permissions of files with secrets that are made here: for their owner only.
const PRIVATE: u32 = 0o600;

/// The text of a file of at most `most` bytes; the error is one sentence.
pub fn read(path: &Path, most: u64) -> Result<String, String> {
    let fail = |error: io::Error| format!("{} cannot be read: {error}", path.display());
    let mut text = String::new();
    let file = File::open(path).map_err(fail)?;
    file.take(most + 1).read_to_string(&mut text).map_err(fail)?;
    match text.len() as u64 > most {
        true => Err(format!("{} is longer than {most} bytes", path.display())),
        false => Ok(text),
    }
}

/// A warning if everybody on this machine can read the file, which holds secrets.
pub fn warn_if_open(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o004 != 0)
        .then(|| format!("{0} can be read by everybody on this machine; chmod o-rwx {0}", path.display()))
}

/// Replaces a file: writes beside it, makes sure that it is on disk, renames. An existing file keeps its permissions and, where
/// another user replaces it, its owner.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mode = fs::metadata(path).map_or(PRIVATE, |known| known.permissions().mode() & 0o777);
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    // What a crash left there is not followed, whoever made it.
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(beside)?;
    file.write_all(text)?;
    if let Ok(known) = fs::metadata(path) {
        let own = file.metadata()?;
        if (known.uid(), known.gid()) != (own.uid(), own.gid()) {
            std::os::unix::fs::fchown(&file, Some(known.uid()), Some(known.gid()))?;
        }
    }
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(beside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("ringmq-files-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_new_file_is_private_and_a_replaced_one_keeps_its_mode() {
        let folder = folder("mode");
        let path = folder.join("users");
        replace(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(warn_if_open(&path), None);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        fs::write(folder.join("users.new"), "left by a crash").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(warn_if_open(&path).unwrap().contains("chmod o-rwx"));
        assert_eq!(read(&path, 3).unwrap(), "two");
        assert!(read(&path, 2).unwrap_err().contains("longer than 2 bytes"));
        assert!(read(&folder.join("none"), 2).unwrap_err().contains("cannot be read"));
        assert!(!folder.join("users.new").exists());
        fs::remove_dir_all(folder).unwrap();
    }
}
