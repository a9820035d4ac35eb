//! Looks at the memory in use, and tells the shards what it asks for.
//!
//! What counts is anonymous memory that is resident: what the out-of-memory killer counts, too, as far as it is ours.
//! It comes from `/proc/self/statm`, a read of some microseconds; the file's neighbours would say the same after a walk
//! over all pages. What the allocator holds for reuse is in it, since nobody else can have it.
use crate::memory::{Memory, Pressure, until_next_look};
use crate::shard::core::Command;
use crate::shard::mesh::CommandSender;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of a line of `/proc/self/statm`, at most.
const LINE: usize = 256;
/// The shards are told at every change of the pressure, and this often while there is some.
const TELL_UNDER_PRESSURE: Duration = Duration::from_secs(1);
/// And this often while there is none, for `$SYS`.
const TELL: Duration = Duration::from_secs(10);

/// The file that says how much memory is in use.
struct Gauge {
    file: File,
    page: u64,
}

impl Gauge {
    fn open() -> io::Result<Gauge> {
        let gauge = Gauge { file: File::open("/proc/self/statm")?, page: rustix::param::page_size() as u64 };
        gauge.anonymous().map(|_| gauge)
    }

    /// Resident bytes that no file is behind.
    fn anonymous(&self) -> io::Result<u64> {
        let mut line = [0; LINE];
        let length = self.file.read_at(&mut line, 0)?;
        let pages = pages(&line[..length]).ok_or_else(|| io::Error::other("it is not what proc(5) says"))?;
        Ok(pages * self.page)
    }
}

/// Resident pages without the shared ones: the second number less the third.
fn pages(line: &[u8]) -> Option<u64> {
    let mut numbers = std::str::from_utf8(line).ok()?.split_whitespace().map(str::parse::<u64>);
    let (resident, shared) = (numbers.nth(1)?.ok()?, numbers.next()?.ok()?);
    Some(resident.saturating_sub(shared))
}

/// Looks from now on, on a thread of its own, and tells the shards. `cap`: the most bytes, 0 for any number; it may
/// change. The error is one sentence.
pub fn begin(cap: Arc<AtomicU64>, shards: Vec<CommandSender<Command>>) -> Result<(), String> {
    let gauge = Gauge::open().map_err(|error| {
        format!("how much memory is in use cannot be read from /proc/self/statm: {error}; mount /proc")
    })?;
    let told = vec![true; shards.len()];
    let mut watch = Watch { gauge, cap, shards, told, memory: Memory::default(), told_at: Instant::now() };
    let look = move || {
        loop {
            let left = watch.look();
            thread::sleep(Duration::from_millis(left));
        }
    };
    let thread = thread::Builder::new().name("ringmq-memory".to_string());
    thread.spawn(look).map(drop).map_err(|error| format!("no thread for the memory: {error}"))
}

struct Watch {
    gauge: Gauge,
    cap: Arc<AtomicU64>,
    shards: Vec<CommandSender<Command>>,
    /// Which of them know what `memory` says.
    told: Vec<bool>,
    memory: Memory,
    told_at: Instant,
}

impl Watch {
    /// Looks, and tells what is new; milliseconds until the next look.
    fn look(&mut self) -> u64 {
        let cap = self.cap.load(Ordering::Relaxed);
        // It could be read at the start; should it ever fail, what was known is the best there is.
        let used = self.gauge.anonymous().unwrap_or(self.memory.used);
        let before = self.memory.pressure;
        let pressure = before.next(used, cap);
        self.memory = Memory { pressure, used, most: self.memory.most.max(used) };
        let patience = if pressure == Pressure::None { TELL } else { TELL_UNDER_PRESSURE };
        if pressure != before {
            say(before, &self.memory, cap);
        }
        if pressure != before || self.told_at.elapsed() >= patience {
            self.told_at = Instant::now();
            self.told.fill(false);
        }
        for (commands, told) in self.shards.iter().zip(&mut self.told).filter(|(_, told)| !**told) {
            // A shard that has too many commands to do is told at the next look.
            *told = commands.send(Command::Memory(self.memory)).is_ok();
        }
        until_next_look(used, cap)
    }
}

fn say(before: Pressure, memory: &Memory, cap: u64) {
    let (used, cap) = (memory.used >> 20, cap >> 20);
    let what = match memory.pressure {
        Pressure::None => {
            return tracing::warn!("memory is no longer short: {used} of {cap} MiB (max-memory) are in use");
        }
        Pressure::Slow => "publishers are read slower",
        Pressure::Closed => "new clients are refused, and publishers are read slower",
        Pressure::Full => {
            "messages to be kept, new subscriptions and new clients are refused; \
             raise max-memory, or take away what is kept"
        }
    };
    let change = if memory.pressure > before { "memory runs short" } else { "memory is less short" };
    tracing::warn!("{change}: {used} of {cap} MiB (max-memory) are in use; {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_use_is_what_no_file_is_behind() {
        assert_eq!(pages(b"100 50 20 1 0 30 0\n"), Some(30));
        assert_eq!(pages(b"100 50"), None);
        assert_eq!(pages(b"a b c"), None);
        let gauge = Gauge::open().unwrap();
        let before = gauge.anonymous().unwrap();
        let block = vec![1u8; 256 << 20];
        let after = gauge.anonymous().unwrap();
        assert!(after >= before + (128 << 20), "{before} {after} {}", block.len());
    }
}
