//! What must hold for any bytes: the functions behind the fuzz targets (`docs/FUZZING.md`) and their smoke test.
//! Each panics where a promise is broken.
mod broker;
pub mod doors;
mod operations;
mod packets;
mod peer;
mod received;
mod sent;
mod source;

pub use crate::codec::fuzz::{packet, stream as frame};

/// The bytes as a list of operations on one to three shards and the clients connected to them.
///
/// A client is checked as `received` and `sent` say: it gets nothing but valid packets of its version, in an
/// order the standard allows, within the limits it set, as answers to what it asked for. A core is checked by its
/// own [`crate::shard::core::Core::audit`] after every operation, and must be empty again when all clients are gone and all
/// their sessions have expired.
pub fn session(bytes: &[u8]) {
    operations::run(bytes);
}
