//! What the black-box tests share: the real `ringmq` program as a [`Broker`], and a raw [`Client`] that speaks
//! MQTT with an encoder and decoder of its own, so that a mistake in the broker's codec cannot hide in the tests.
//!
//! The decoder is strict: whatever the broker sends is checked against the tables of the standard (flag bits,
//! packet ids, properties and reason codes allowed in that packet, UTF-8, shortest lengths), and a violation
//! fails the test that received it.
//!
//! With `RINGMQ_TEST_BROKER=127.0.0.1:PORT` in the environment the tests run against whatever broker listens
//! there instead of the one just built; tests that need a broker with flags of their own are then left out.
//!
//! `RINGMQ_TEST_DURABILITY=flush` (or another mode) gives every broker a data directory: what holds without one must
//! hold with it.
#![allow(dead_code, unused_imports, unused_macros)]

mod broker;
pub mod certificates;
mod client;
mod connect;
mod data_dir;
mod delivery;
pub mod disk;
mod packet;
mod property;
pub mod table;
pub mod tunnel;
mod wire;

pub use broker::{
    Broker, PATIENCE, Signal, each_broker, each_broker_with, each_version, each_version_with, free_port,
    unique,
};
pub use client::Client;
pub use connect::{Connect, Will};
pub use data_dir::{Place, files_below, kill, resume, sync, sync_all};
pub use delivery::{END, NO_LOCAL, RETAIN_AS_PUBLISHED, RETAIN_IF_NEW, RETAIN_NEVER, payloads, settle};
pub use packet::{
    Ack, Kind, Packet, Publish, ack, auth, disconnect, ping, publish, subscribe, subscribe_with, unsubscribe,
};
pub use property::{Properties, Value, prop};
pub use wire::{Version, binary, packet, text, varint};

/// The two versions most rules are common to.
pub const BOTH: [Version; 2] = [Version::V4, Version::V5];
