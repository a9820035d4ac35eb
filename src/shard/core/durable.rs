//! What this shard has to store, and what may not leave before it is stored.
//!
//! Without a store all of this is one branch. With one, changes go into the current batch as they are made, and a
//! packet that promises something is *gated*: it and all that follows it on its connection are held until the batch
//! with what it promises is stored. Only sessions that outlive their connection, retained messages and the queues of
//! groups are stored; QoS 0 and all others are neither stored nor gated.
use super::refill::Reads;
use super::{ConnId, Core};
use crate::codec::QoS;
use crate::router::Route;
use crate::session::message::{Publication, SHARE_FROM, SessionKey};
use crate::shard::output::Output;
use crate::store::record::{self, Wall};
use crate::store::{Batch, Item, Op, Part, Space, key};
use std::collections::VecDeque;

/// From this size on a message that several sessions of a shard keep is stored once; below it a copy is smaller than
/// what sharing takes.
const SHARED_FROM: usize = 256;
/// Released bytes that may wait for a connection's socket before more of what is held becomes due.
const RELEASE_MARK: usize = 64 * 1024;
const _: () = assert!(SHARED_FROM <= SHARE_FROM);

/// The part of a publish that this shard is in the middle of.
struct Open {
    unit: u64,
    is_root: bool,
    in_order: bool,
    forwarded: u32,
    ops: Vec<Op>,
    /// What is stored after it, by itself.
    after: Vec<Op>,
}

impl Open {
    fn new(unit: u64, is_root: bool) -> Open {
        Open { unit, is_root, in_order: false, forwarded: 0, ops: Vec::new(), after: Vec::new() }
    }
}

/// The shard's side of the store.
pub(super) struct Store {
    pub wall: Wall,
    /// This shard, in the place it has in numbers that all shards make.
    pub shard: u64,
    /// What the current turn has to store.
    batch: Batch,
    /// Everything up to this batch is stored.
    pub stored: u64,
    open: Option<Open>,
    /// Publishes that were given a number.
    units: u64,
    /// Number of the last shared payload.
    messages: u64,
    /// The last place in the queues of groups.
    pub group_position: u64,
    /// How many changes there were.
    made: u64,
    /// Connections that are gated, in the order of the batches they wait for.
    gated: VecDeque<(u64, ConnId)>,
    /// Batches that were handed over and are not stored, with their bytes.
    outstanding: VecDeque<(u64, usize)>,
    outstanding_bytes: usize,
    /// Too little space is left.
    pub is_full: bool,
    /// What is to be read back.
    pub reads: Reads,
}

impl Store {
    pub fn new(shard: u8, wall: Wall, last_message: u64, last_group_position: u64) -> Store {
        Store {
            wall,
            shard: u64::from(shard) << 56,
            batch: Batch { number: 1, ..Batch::default() },
            stored: 0,
            open: None,
            units: 0,
            messages: last_message,
            group_position: last_group_position >> 8,
            made: 0,
            gated: VecDeque::new(),
            outstanding: VecDeque::new(),
            outstanding_bytes: 0,
            is_full: false,
            reads: Reads::default(),
        }
    }

    pub(super) fn push(&mut self, op: Op) {
        self.made += 1;
        match &mut self.open {
            Some(open) => open.ops.push(op),
            None => self.batch.push(Item::Op(op)),
        }
    }

    /// A change that belongs to no publish, even where one causes it: what gives way to a new message. It was stored with
    /// another publish, for which that of the new message would have to wait, and on another shard it may be the other
    /// way round.
    pub(super) fn push_apart(&mut self, op: Op) {
        self.made += 1;
        match &mut self.open {
            Some(open) => open.after.push(op),
            None => self.batch.push(Item::Op(op)),
        }
    }

    pub(super) fn put(&mut self, space: Space, key: crate::store::Key, value: bytes::Bytes) {
        self.push(Op::Put { space, key, value, is_new: false, holds: 0 });
    }

    pub(super) fn remove(&mut self, space: Space, key: crate::store::Key) {
        self.push(Op::Remove { space, key, releases: 0 });
    }

    /// The batch that holds the last change made.
    pub fn last_batch(&self) -> u64 {
        let is_empty = self.batch.is_empty() && self.open.is_none();
        self.batch.number - u64::from(is_empty)
    }

    /// A message that is stored by itself, if it is worth it: its number.
    pub(super) fn share(&mut self, publication: &Publication<'_>) -> u64 {
        let known = publication.stored_as.get();
        let size = publication.topic.len() + publication.forwarded.len() + publication.payload.len();
        if known > 0 || size < SHARED_FROM {
            return known;
        }
        self.messages += 1;
        let number = self.messages | self.shard;
        let (key, value) = (key::number(number), record::encode_message(self.wall, &publication.message()));
        self.push(Op::Put { space: Space::Message, key, value, is_new: true, holds: 0 });
        publication.stored_as.set(number);
        number
    }
}

/// What a connection holds back.
#[derive(Debug)]
pub(super) struct Gated {
    /// What may leave.
    pub ready: Output,
    /// Ends of what may leave with a batch: bytes since the first gate, and the batch that what follows waits for.
    gates: VecDeque<(u64, u64)>,
    /// Bytes that became ready since the first gate.
    released: u64,
    /// The first thing that is held is CONNACK.
    begins: bool,
}

/// The contract with the shell.
impl Core {
    /// What is to be stored before anything this turn promised can leave. To be handed over, in order, before any
    /// envelope of this turn is sent.
    pub fn take_batch(&mut self) -> Option<Batch> {
        let store = self.store.as_mut()?;
        if store.batch.is_empty() {
            return None;
        }
        let next = Batch { number: store.batch.number + 1, ..Batch::default() };
        let batch = std::mem::replace(&mut store.batch, next);
        store.outstanding.push_back((batch.number, batch.bytes));
        store.outstanding_bytes += batch.bytes;
        Some(batch)
    }

    /// Everything up to this batch is stored.
    pub(super) fn handle_stored(&mut self, number: u64) {
        let Some(store) = &mut self.store else { return };
        store.stored = store.stored.max(number);
        while let Some((_, bytes)) = store.outstanding.pop_front_if(|(batch, _)| *batch <= number) {
            store.outstanding_bytes -= bytes;
        }
        while let Some((_, conn)) = self.store.as_mut().and_then(|store| {
            let stored = store.stored;
            store.gated.pop_front_if(|(batch, _)| *batch <= stored)
        }) {
            if self.is_live(conn) {
                self.release(conn.slot);
            }
        }
        self.ask_store();
    }

    /// Space for storing runs short, or is there again.
    pub(super) fn handle_storage_full(&mut self, is_full: bool) {
        if let Some(store) = &mut self.store {
            store.is_full = is_full;
            self.counters.storage_full = u64::from(is_full);
        }
    }

    /// Too much waits to be stored: the shell leaves received bytes unread.
    pub(super) fn is_store_behind(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.outstanding_bytes >= self.limits.store_mark)
    }

    /// Too little space is left to take on anything that must be stored.
    pub(super) fn is_storage_full(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.is_full)
    }

    /// Whether a publish would have to be stored, as far as this shard can tell.
    #[cold]
    pub(super) fn needs_storage(&self, publication: &Publication<'_>, route: &Route) -> bool {
        let is_kept = publication.qos > QoS::AtMostOnce
            && (!route.shards.is_empty()
                || !route.groups.is_empty()
                || route.direct.iter().any(|subscriber| {
                    subscriber.qos > QoS::AtMostOnce
                        && self.sessions[subscriber.session as usize].is_persistent()
                }));
        (publication.retain && publication.publisher != SessionKey::BROKER) || is_kept
    }

    /// How many changes there were so far.
    pub(super) fn changes_made(&self) -> u64 {
        self.store.as_ref().map_or(0, |store| store.made)
    }
}

/// Publishes: what they change is stored together.
impl Core {
    /// What follows, until [`Core::end_unit`], is stored together, here and on the shards it is sent to. False if there
    /// is no store or something is open already.
    pub(super) fn begin_unit(&mut self) -> bool {
        let Some(store) = &mut self.store else { return false };
        if store.open.is_some() {
            return false;
        }
        let unit = store.shard | (store.units + 1);
        store.open = Some(Open::new(unit, true));
        true
    }

    /// The unit that was begun is stored after all others of this shard for which this was said.
    pub(super) fn keep_in_order(&mut self) {
        if let Some(open) = self.store.as_mut().and_then(|store| store.open.as_mut()) {
            open.in_order = true;
        }
    }

    /// This shard's part of a publish that began on another one, or here but earlier; 0 is no publish that is stored.
    pub(super) fn begin_part(&mut self, unit: u64) -> bool {
        let Some(store) = self.store.as_mut().filter(|_| unit > 0) else { return false };
        assert!(store.open.is_none(), "an envelope is opened when nothing else is in progress");
        store.open = Some(Open::new(unit, false));
        true
    }

    /// Whether there was something to store.
    pub(super) fn end_unit(&mut self) -> bool {
        let Some(store) = &mut self.store else { return false };
        let Open { unit, is_root, in_order, forwarded, mut ops, after } =
            store.open.take().expect("a unit was begun");
        let is_shared = !is_root || forwarded > 0;
        let item = match ops.len() {
            _ if is_shared => Some(Item::Part(Part { unit, is_root, forwarded, in_order, ops })),
            0 => None,
            1 if !in_order => Some(Item::Op(ops.remove(0))),
            _ => Some(Item::Part(Part { unit: 0, is_root, forwarded, in_order, ops })),
        };
        let is_something = item.is_some();
        store.units += u64::from(is_root && is_shared);
        store.made += u64::from(is_shared);
        item.into_iter().chain(after.into_iter().map(Item::Op)).for_each(|item| store.batch.push(item));
        is_something
    }

    /// After [`Core::begin_part`], with its answer.
    pub(super) fn end_part(&mut self, is_part: bool) {
        if is_part {
            self.end_unit();
        }
    }

    /// The number that goes with an envelope of the publish in progress, 0 if it is not stored.
    pub(super) fn forward(&mut self) -> u64 {
        let open = self.store.as_mut().and_then(|store| store.open.as_mut());
        open.map_or(0, |open| {
            open.forwarded += 1;
            open.unit
        })
    }
}

/// Gates.
impl Core {
    /// What is written to this connection from here on leaves when everything so far is stored.
    pub(super) fn gate(&mut self, slot: u32) {
        let Some(store) = &mut self.store else { return };
        let batch = store.last_batch();
        if batch <= store.stored {
            return;
        }
        let connection = &mut self.connections[slot as usize];
        let gated = connection.gated.get_or_insert_with(|| {
            let ready = std::mem::take(&mut connection.output);
            Box::new(Gated { ready, gates: VecDeque::new(), released: 0, begins: false })
        });
        if gated.gates.back().is_some_and(|(_, last)| *last >= batch) {
            return;
        }
        gated.gates.push_back((gated.released + connection.output.len() as u64, batch));
        store.gated.push_back((batch, ConnId { slot, generation: connection.generation }));
    }

    /// The same, if anything is to be stored since [`Core::changes_made`] was `before`.
    pub(super) fn gate_since(&mut self, slot: u32, before: u64) {
        if self.changes_made() != before {
            self.gate(slot);
        }
    }

    /// The same, if the connection's session is stored.
    pub(super) fn gate_if_stored(&mut self, slot: u32) {
        if self.store.is_some() && self.sessions[self.connections[slot as usize].session as usize].is_stored {
            self.gate(slot);
        }
    }

    /// What is stored by now becomes ready, unless there is much that is.
    fn release(&mut self, slot: u32) {
        let stored = self.store.as_ref().map_or(0, |store| store.stored);
        let connection = &mut self.connections[slot as usize];
        let Some(gated) = &mut connection.gated else { return };
        while gated.gates.front().is_some_and(|(_, batch)| *batch <= stored) {
            gated.gates.pop_front();
        }
        let before = gated.ready.len();
        if before > RELEASE_MARK {
            return;
        }
        match gated.gates.front() {
            Some((end, _)) => {
                let count = (end - gated.released) as usize;
                if count == 0 {
                    return;
                }
                connection.output.move_front(count, &mut gated.ready);
                gated.released = *end;
                gated.begins = false;
            }
            None => {
                let count = connection.output.len();
                let mut ready = std::mem::take(&mut gated.ready);
                if ready.is_empty() {
                    self.buffers.take_back(&mut ready);
                } else {
                    connection.output.move_front(count, &mut ready);
                    connection.output = ready;
                }
                connection.gated = None;
            }
        }
        // Where nothing became ready there is nothing to send, and asking again would only keep the shard awake.
        let is_news = connection.gated.as_ref().is_none_or(|gated| gated.ready.len() > before);
        if is_news && !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push_back(ConnId { slot, generation: connection.generation });
        }
    }

    /// The socket took all that was ready. True if what waits for room may go on.
    pub(super) fn drained_gated(&mut self, slot: u32) -> bool {
        self.release(slot);
        let connection = &self.connections[slot as usize];
        connection.output.len() <= self.profiles[connection.profile].output_mark
    }

    /// CONNACK is about to be written, and leaves when what was changed since `before` is stored.
    pub(super) fn gate_connack(&mut self, slot: u32, before: u64) {
        self.gate_since(slot, before);
        if let Some(gated) = &mut self.connections[slot as usize].gated {
            gated.begins = true;
        }
    }

    /// The connection ends: what is held will not be sent, and what is written now needs no gate. False if CONNACK was
    /// held: then nothing may be written any more ([MQTT-3.2.0-1]).
    pub(super) fn drop_held(&mut self, slot: u32) -> bool {
        let connection = &mut self.connections[slot as usize];
        let Some(gated) = connection.gated.take() else { return true };
        connection.output = gated.ready;
        !gated.begins
    }
}
