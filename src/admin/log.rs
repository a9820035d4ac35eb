//! The log: lines on standard error, as text or JSON, written by a thread of their own.
//!
//! A shard that has something to say must not wait for a disk or a terminal. Its line goes into a bounded queue; when
//! that is full the line is counted, and the number is written as soon as there is room.
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, reload};

/// Lines that wait to be written; further ones are counted only.
const QUEUE: usize = 16_384;

/// How much is written.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What the broker cannot do.
    Error,
    /// Who was refused, and what is probably not meant.
    Warn,
    /// Who comes and goes, too.
    Info,
}

/// What a line looks like.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            LogLevel::Off => LevelFilter::OFF,
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
        }
    }
}

type SetFilter = Box<dyn Fn(LevelFilter) + Send + Sync>;
static SET: OnceLock<SetFilter> = OnceLock::new();

/// Begins to write. Once for each process.
pub fn begin(level: LogLevel, format: LogFormat) -> io::Result<()> {
    let (sender, lines) = bounded(QUEUE);
    let lost = Arc::new(AtomicU64::new(0));
    let queue = Queue { sender, lost: lost.clone() };
    let write = move || write_lines(&lines, &lost, io::stderr());
    thread::Builder::new().name("ringmq-log".to_string()).spawn(write)?;
    let (filter, handle) = reload::Layer::new(level.filter());
    // Glommio has lines of its own, about things that are ours to know.
    let ours = tracing_subscriber::filter::filter_fn(|metadata| metadata.target().starts_with("ringmq"));
    let layer = fmt::layer().with_writer(queue).with_target(false).with_ansi(false);
    let layer = match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let layer = layer.with_filter(ours);
    if tracing_subscriber::registry().with(filter).with(layer).try_init().is_ok() {
        let _ = SET.set(Box::new(move |filter| drop(handle.reload(filter))));
    }
    Ok(())
}

/// Writes more, or less, from now on.
pub fn set_level(level: LogLevel) {
    if let Some(set) = SET.get() {
        set(level.filter());
    }
}

fn write_lines(lines: &Receiver<Box<[u8]>>, lost: &AtomicU64, mut out: impl Write) {
    while let Ok(line) = lines.recv() {
        // Nobody reads it if this fails, and there is nowhere else to complain.
        let _ = out.write_all(&line);
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            let _ = writeln!(
                out,
                "ringmq: {count} lines of the log were lost because they came faster than they are written"
            );
        }
    }
}

/// The end of the queue into which lines are put.
#[derive(Clone)]
struct Queue {
    sender: Sender<Box<[u8]>>,
    lost: Arc<AtomicU64>,
}

impl Write for Queue {
    /// One call is one line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(line.into()).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Queue {
    type Writer = Queue;
    fn make_writer(&self) -> Queue {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_loses_lines_without_waiting_and_says_how_many() {
        let (sender, lines) = bounded(2);
        let mut queue = Queue { sender, lost: Arc::default() };
        let lost = queue.lost.clone();
        (0..5).for_each(|n| queue.make_writer().write_all(format!("{n}\n").as_bytes()).unwrap());
        queue.sender = bounded(1).0;
        let mut out = Vec::new();
        write_lines(&lines, &lost, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("0\nringmq: 3 lines") && text.ends_with("1\n"), "{text}");
    }
}
