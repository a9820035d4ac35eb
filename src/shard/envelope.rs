//! What shards say to each other.

/// A connected socket on its way to another shard: the number of a file descriptor that nobody else owns.
/// Only the shell (`net::handoff`) gives it meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Socket(pub i32);

/// One message from one shard to another; order is kept per pair of shards.
#[derive(Debug)]
pub enum Envelope {}
