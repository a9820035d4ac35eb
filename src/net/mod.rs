//! Sockets and the kernel: listeners, connections, and the ring that carries both.
pub mod accept;
pub mod connections;
pub mod descriptors;
pub mod door;
pub mod event;
pub mod handoff;
pub mod linger;
pub mod listener;
pub mod probe;
pub mod ring;
pub mod send;
mod slot;
pub mod transport;
pub mod transports;
pub mod warn;

#[cfg(test)]
mod tests;
