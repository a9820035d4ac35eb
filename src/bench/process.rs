//! CPU time and memory of processes and threads, from `/proc`.
use super::error::BenchError;
use crate::net::descriptors;
use serde::Serialize;
use std::fs;

/// Length of a clock tick in `/proc/PID/stat`: `USER_HZ` is 100 on every architecture of today.
const TICK_NS: u64 = 10_000_000;

/// What a set of processes has used so far.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Usage {
    /// CPU time, user and system, in ns.
    pub cpu_ns: u64,
    /// Resident memory in KiB.
    pub rss_kib: u64,
    /// The part of it that is the process's own (`RssAnon`), in KiB.
    pub anonymous_kib: u64,
    #[serde(skip)]
    threads: Vec<(u32, u64)>,
    #[serde(skip)]
    ticks_ns: u64,
}

impl Usage {
    /// Reads what these processes have used.
    ///
    /// # Errors
    /// A process is gone or may not be looked at.
    pub fn of(pids: &[u32]) -> Result<Self, BenchError> {
        let mut usage = Self::default();
        for pid in pids {
            let read = |file: &str| {
                fs::read_to_string(format!("/proc/{pid}/{file}"))
                    .map_err(BenchError::io("reading /proc of the broker (--pid)"))
            };
            let status = read("status")?;
            usage.rss_kib += field_kib(&status, "VmRSS:");
            usage.anonymous_kib += field_kib(&status, "RssAnon:");
            usage.ticks_ns += ticks_ns(&read("stat")?);
            let tasks = fs::read_dir(format!("/proc/{pid}/task"))
                .map_err(BenchError::io("reading the broker's threads (--pid)"))?;
            for task in tasks.flatten() {
                if let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok()) {
                    usage.threads.push((tid, thread_cpu_ns(*pid, tid)));
                }
            }
        }
        usage.threads.sort_unstable();
        usage.cpu_ns = usage.ticks_ns;
        Ok(usage)
    }

    /// CPU time used since `earlier`: exact while the threads are the same, else in clock ticks.
    pub fn cpu_since(&self, earlier: &Usage) -> u64 {
        let same = self.threads.len() == earlier.threads.len()
            && self.threads.iter().zip(&earlier.threads).all(|(a, b)| a.0 == b.0);
        let sum = |usage: &Usage| usage.threads.iter().map(|(_, ns)| ns).sum::<u64>();
        if same && sum(self) > 0 {
            sum(self).saturating_sub(sum(earlier))
        } else {
            self.ticks_ns.saturating_sub(earlier.ticks_ns)
        }
    }
}

/// CPU time of one thread in ns; 0 when it is gone.
pub fn thread_cpu_ns(pid: u32, tid: u32) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat"))
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or(0)
}

fn field_kib(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// User and system time of a `/proc/PID/stat` line, in ns.
fn ticks_ns(stat: &str) -> u64 {
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let mut fields = rest.split(' ').skip(11).map_while(|field| field.parse::<u64>().ok());
    let ticks = fields.next().unwrap_or(0) + fields.next().unwrap_or(0);
    ticks * TICK_NS
}

/// Open files that are enough for every scenario.
const ENOUGH_FILES: u64 = 1 << 20;

/// Lets this process have as many open files as the system allows it, and makes room for them.
///
/// # Errors
/// What the system says.
pub fn raise_file_limit() -> Result<(), BenchError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    let raise = |most| setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    // Only a privileged process may go beyond its hard limit.
    if most.is_none_or(|most| most >= ENOUGH_FILES) || raise(Some(ENOUGH_FILES)).is_err() {
        raise(most).map_err(|e| BenchError::io("raising the limit of open files")(e.into()))?;
    }
    descriptors::reserve(ENOUGH_FILES).map_err(BenchError::io("making room for open files"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_has_memory_and_time() {
        let pid = std::process::id();
        let before = Usage::of(&[pid]).unwrap();
        let mut sum = 0_u64;
        while Usage::of(&[pid]).unwrap().cpu_since(&before) < 1_000_000 {
            sum = sum.wrapping_add((0..10_000_u64).fold(sum, |a, b| a ^ b));
        }
        assert!(before.rss_kib > before.anonymous_kib && before.anonymous_kib > 0);
    }

    #[test]
    fn a_process_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 30 12 13";
        assert_eq!(ticks_ns(stat), 42 * TICK_NS);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(Usage::of(&[u32::MAX]).is_err());
    }
}
