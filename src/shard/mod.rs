//! One shard: the deterministic core, and the shell that carries bytes to and from it.
pub mod core;
pub mod envelope;
pub mod mesh;
pub mod output;
pub mod runtime;
pub mod timer_wheel;
