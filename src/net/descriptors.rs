//! Room for the numbers of open files, made before threads share them.
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, getrlimit};
use std::io;

/// Numbers that room is made for at most. The kernel takes 8 bytes for each, 1 MiB in all; beyond it each doubling makes
/// whoever opens the next file wait once.
pub const MOST: u64 = 128 * 1024;

/// Makes room for `count` open files, as far as their limit and [`MOST`] allow. To be called while the process has one
/// thread.
///
/// The kernel's table of open files doubles when it is full. If threads share it, whoever needs the doubling waits until
/// every processor has been seen outside of it (a grace period of RCU): some ten milliseconds in which a shard does
/// nothing, seven times on the way to 8,192 connections.
pub fn reserve(count: u64) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let highest = count.min(limit).min(MOST).saturating_sub(1) as i32;
    let any = eventfd(0, EventfdFlags::CLOEXEC)?;
    match fcntl_dupfd_cloexec(&any, highest) {
        // The last number of all is in use: the table has it already.
        Ok(_) | Err(Errno::MFILE) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_as_many_as_were_asked_for() {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        reserve(700).unwrap();
        reserve(0).unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        assert!(size.trim().parse::<u64>().unwrap() >= limit.min(700), "{size}");
    }
}
