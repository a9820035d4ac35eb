//! Settings of what survives the process.
use super::units::{Size, Span};
use super::within;
use crate::limits::Limits;
use std::path::PathBuf;
use std::time::Duration;

/// When something counts as stored.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// When it is on the disk: it survives a power cut.
    Flush,
    /// When the operating system has it; it is on the disk within --durability-interval.
    Interval,
    /// When the operating system has it: it survives the end of the broker, not of the machine.
    Os,
}

/// The flags.
#[derive(clap::Args, Clone, Debug)]
pub struct StoreArgs {
    /// Directory that keeps sessions, their messages and retained messages when the broker ends; without it nothing
    /// does
    #[arg(long, value_name = "DIR", help_heading = "Durability")]
    pub data_dir: Option<PathBuf>,
    /// When a message counts as stored and is acknowledged
    #[arg(long, value_name = "WHEN", default_value = "flush", value_enum, help_heading = "Durability")]
    pub durability: Durability,
    /// What a power cut may cost with --durability interval (5ms to 1s)
    #[arg(long, value_name = "TIME", default_value_t = Span::millis(50), help_heading = "Durability")]
    pub durability_interval: Span,
    /// Free space below which nothing is taken on that must be stored; publishers are told 0x97 (0 to 1T)
    #[arg(long, value_name = "SIZE", default_value_t = Size(256 << 20), help_heading = "Durability")]
    pub min_free_space: Size,
    /// Bytes of one shard waiting to be stored beyond which publishers are not read (64K to 16G)
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().store_mark as u64), help_heading = "Durability")]
    pub store_mark: Size,
    /// Messages of one session's queue kept in memory; those behind are on the disk only (1 to 1000000)
    #[arg(long, value_name = "N", default_value_t = Limits::default().queue_window_messages as u32, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Durability")]
    pub queue_window_messages: u32,
    /// Bytes of one session's queue kept in memory, likewise (1K to 1G)
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().queue_window_bytes as u64), help_heading = "Durability")]
    pub queue_window_bytes: Size,
}

/// Checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreSettings {
    /// Where.
    pub dir: PathBuf,
    /// When something counts as stored.
    pub durability: Durability,
    /// Between two flushes of [`Durability::Interval`].
    pub interval: Duration,
    /// Bytes that must stay free on the file system.
    pub min_free_space: u64,
}

impl StoreArgs {
    /// `None` without a data directory.
    pub(super) fn check(&self) -> Result<Option<StoreSettings>, String> {
        let least = Span::millis(5);
        let interval =
            within("--durability-interval", self.durability_interval, least..=Span::secs(1))?.millis;
        let min_free_space = within("--min-free-space", self.min_free_space, Size(0)..=Size(1 << 40))?.0;
        let Some(dir) = self.data_dir.clone() else {
            return match self.durability {
                Durability::Flush => Ok(None),
                _ => Err("--durability says when something is stored, but without --data-dir nothing is; \
                          name a directory, or leave it out"
                    .to_string()),
            };
        };
        let (durability, interval) = (self.durability, Duration::from_millis(interval));
        Ok(Some(StoreSettings { dir, durability, interval, min_free_space }))
    }
}
