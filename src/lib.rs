//! ringmq: an MQTT 3.1.1 and 5.0 broker on pinned io_uring executors, one per core.
//!
//! Layers, lowest first (`docs/ARCHITECTURE.md` has the table; `tests/tidy.rs` enforces it):
//! `codec` and `topic` know bytes; `session` knows one client; `router` knows who is interested;
//! `shard::core` ties them together without I/O, clock or thread; `shard::runtime`, `shard::mesh`
//! and `net` carry the bytes; the rest are the commands around it.
pub mod admin;
pub mod auth;
pub mod bench;
pub mod client;
pub mod codec;
pub mod config;
#[doc(hidden)]
pub mod fuzzing;
pub mod limits;
pub mod memory;
pub mod metrics;
pub mod net;
pub mod router;
pub mod session;
pub mod shard;
pub mod slots;
pub mod store;
pub mod time;
pub mod topic;
