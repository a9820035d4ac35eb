//! How much memory this process may have: that of the machine, or less where its control group says so.
use super::units::Size;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The least cap: below it the broker could not do anything.
const LEAST: u64 = 16 << 20;

/// The most memory the broker is to use: a number of bytes, or a share of what it may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryCap {
    /// Hundredths of what this process may have.
    Share(u8),
    /// Bytes; 0 for any number.
    Bytes(Size),
}

impl FromStr for MemoryCap {
    type Err = String;
    fn from_str(text: &str) -> Result<MemoryCap, String> {
        let Some(number) = text.strip_suffix('%') else { return text.parse().map(MemoryCap::Bytes) };
        let share = number.parse().ok().filter(|share| (1..=100).contains(share));
        share.map(MemoryCap::Share).ok_or_else(|| format!("{text:?} is no share; write one like 75%"))
    }
}

impl fmt::Display for MemoryCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemoryCap::Share(share) => write!(f, "{share}%"),
            MemoryCap::Bytes(size) => size.fmt(f),
        }
    }
}

impl MemoryCap {
    /// Bytes; 0 for any number. `allowed`: what this process may have, if that is known.
    pub fn bytes(self, allowed: Option<u64>) -> Result<u64, String> {
        let bytes = match (self, allowed) {
            (MemoryCap::Bytes(Size(0)), _) => return Ok(0),
            (MemoryCap::Bytes(size), _) => size.0,
            (MemoryCap::Share(share), Some(allowed)) => allowed / 100 * u64::from(share),
            (MemoryCap::Share(_), None) => {
                return Err("how much memory this machine has is not to be found in /proc/meminfo; \
                            give --max-memory in bytes, or 0 for no cap"
                    .to_string());
            }
        };
        match bytes < LEAST {
            true => Err(format!(
                "--max-memory {self} comes to {bytes} bytes, which is too little; give at least {}, or 0 for no cap",
                Size(LEAST)
            )),
            false => Ok(bytes),
        }
    }
}

/// Bytes of memory that this process may have.
pub fn allowed_memory() -> Option<u64> {
    allowed(Path::new("/"))
}

/// The same with the file system at `root`.
fn allowed(root: &Path) -> Option<u64> {
    let machine = machine_memory(&fs::read_to_string(root.join("proc/meminfo")).ok()?)?;
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = limit_files(root, &groups).into_iter().filter_map(|file| fs::read_to_string(file).ok());
    // "max" is no number, nor a limit.
    limits.filter_map(|text| text.trim().parse().ok()).chain([machine]).min()
}

/// From the text of `/proc/meminfo`.
fn machine_memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// Where the limits of a process stand whose `/proc/self/cgroup` is `groups`: those of its group, and of all above it.
/// In a container the path may be one of the host, which is not seen inside; then the top of what is seen counts.
fn limit_files(root: &Path, groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (top, name) = match controllers {
            // Version 2 has one tree for everything.
            "" => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let top = root.join(top);
        let group = top.join(path.trim_start_matches('/'));
        files.extend(
            group.ancestors().take_while(|group| group.starts_with(&top)).map(|group| group.join(name)),
        );
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_are_read_and_told_as_they_are_written() {
        for text in ["75%", "0", "64M"] {
            assert_eq!(text.parse::<MemoryCap>().unwrap().to_string(), text);
        }
        for (text, named) in [("0%", "75%"), ("101%", "75%"), ("x%", "75%"), ("much", "64K")] {
            assert!(text.parse::<MemoryCap>().unwrap_err().contains(named), "{text}");
        }
    }

    #[test]
    fn a_share_is_one_of_what_this_process_may_have() {
        let bytes = |text: &str, allowed| text.parse::<MemoryCap>().unwrap().bytes(allowed);
        assert_eq!(bytes("50%", Some(1 << 30)).unwrap() >> 20, 511);
        assert_eq!(bytes("64M", None), Ok(64 << 20));
        assert_eq!(bytes("0", None), Ok(0));
        assert!(bytes("50%", None).unwrap_err().contains("0 for no cap"));
        assert!(bytes("1%", Some(1 << 30)).unwrap_err().contains("at least 16M"));
        assert!(bytes("1K", None).unwrap_err().contains("at least 16M"));
    }

    #[test]
    fn the_smallest_limit_counts() {
        let root = std::env::temp_dir().join(format!("ringmq-machine-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(allowed(&root), None);
        write("proc/meminfo", "MemTotal:       8000000 kB\nMemFree: 1 kB\n");
        assert_eq!(allowed(&root), Some(8_000_000 << 10));
        write("proc/self/cgroup", "0::/a/b\n");
        write("sys/fs/cgroup/a/b/memory.max", "max\n");
        assert_eq!(allowed(&root), Some(8_000_000 << 10));
        write("sys/fs/cgroup/a/memory.max", "1073741824\n");
        assert_eq!(allowed(&root), Some(1 << 30), "that of a group above");
        write("proc/self/cgroup", "5:cpu:/x\n4:hugetlb,memory:/docker/c\n");
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
        assert_eq!(allowed(&root), Some(512 << 20), "version 1, seen from a container");
        fs::remove_dir_all(&root).unwrap();
    }
}
