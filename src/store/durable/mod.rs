//! The store on disk, and the thread that writes it.
//!
//! A data directory holds `FORMAT` (what wrote it), `LOCK` (held by the broker that uses it), `engine` (the storage
//! engine's own files) and, where something was damaged, `set-aside`.
pub mod check;
mod directory;
mod engine;
mod heal;
mod journal;
mod load;
mod reader;
mod salvage;
mod space;
#[cfg(test)]
mod tests;
mod writer;

pub use directory::{Directory, SetAside};
pub use heal::Shared;
pub use load::{Opened, Purpose, open};
pub use reader::Reader;
pub use writer::{Order, Writer};
