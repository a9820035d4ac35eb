//! The transports of one shard's connections, by connection, and the handshakes that wait for their turn.
use super::transport::{Scratch, Transport};
use crate::shard::core::ConnId;
use crate::shard::output::Output;
use std::collections::VecDeque;

struct Entry {
    generation: u32,
    transport: Box<Transport>,
}

/// The transports of one shard. Without any it holds no memory, and asking costs one comparison.
#[derive(Default)]
pub struct Transports {
    by_slot: Vec<Option<Entry>>,
    /// Connections whose bytes wait because the shard had spent its time for handshakes.
    parked: VecDeque<ConnId>,
    /// What all of them use in turn.
    pub scratch: Scratch,
}

impl Transports {
    /// Puts `transport` between a connection and the core.
    pub fn insert(&mut self, conn: ConnId, transport: Box<Transport>) {
        let index = conn.slot as usize;
        if index >= self.by_slot.len() {
            self.by_slot.resize_with(index + 1, || None);
        }
        self.by_slot[index] = Some(Entry { generation: conn.generation, transport });
    }

    /// The transport of a connection, if it has one.
    pub fn get(&mut self, conn: ConnId) -> Option<(&mut Transport, &mut Scratch)> {
        let entry = self.by_slot.get_mut(conn.slot as usize)?.as_mut()?;
        (entry.generation == conn.generation).then_some((&mut *entry.transport, &mut self.scratch))
    }

    /// Takes the transport of a connection away.
    pub fn remove(&mut self, conn: ConnId) -> Option<Box<Transport>> {
        let entry = self.by_slot.get_mut(conn.slot as usize)?;
        let entry = entry.take_if(|entry| entry.generation == conn.generation)?;
        Some(entry.transport)
    }

    /// The last bytes of a connection that is closed: `output`, through its transport if it has one.
    pub fn finish(&mut self, conn: ConnId, output: Output) -> Output {
        match self.remove(conn) {
            Some(transport) => transport.finish(output, &mut self.scratch),
            None => output,
        }
    }

    /// Puts received bytes aside until there is time for them. The connection must not be read meanwhile.
    pub fn park(&mut self, conn: ConnId, bytes: &[u8]) {
        if let Some((transport, _)) = self.get(conn) {
            transport.park(bytes);
            self.parked.push_back(conn);
        }
    }

    /// The connection that waits longest, and its bytes.
    pub fn unpark(&mut self) -> Option<(ConnId, Vec<u8>)> {
        while let Some(conn) = self.parked.pop_front() {
            if let Some(bytes) = self.get(conn).and_then(|(transport, _)| transport.unpark()) {
                return Some((conn, bytes));
            }
        }
        None
    }

    /// Some connection waits.
    pub fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }
}
