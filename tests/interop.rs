//! Real clients against the real broker, with every number of shards that [`support::each_broker`] takes.
//!
//! `scripts/interop-setup` installs the clients that are not Rust (Debian's `mosquitto-clients` apart).
//! `RINGMQ_TEST_BROKER=127.0.0.1:PORT` points every test here at a broker that already runs, whichever it is.
mod support;

#[path = "interop/browser.rs"]
mod browser;
#[path = "interop/doors.rs"]
mod doors;
#[path = "interop/mosquitto.rs"]
mod mosquitto;
#[path = "interop/rumqttc/mod.rs"]
mod rust_client;
#[path = "interop/scripts.rs"]
mod scripts;
