//! Reading queues back: a shard asks for a stretch of one session's queue, and whoever stores answers.
use super::key;
use super::record::{self, Body, Corrupt, EntryRecord, Wall};
use crate::session::outgoing::Delivery;
use crate::session::tail::Window;
use bytes::Bytes;

/// A stretch of a queue that a shard wants back. Everything in it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Where the session is on its shard.
    pub slot: u32,
    /// Its number.
    pub session: u64,
    /// The first place.
    pub from: u64,
    /// The last place, included.
    pub to: u64,
    /// How much of it at most; the last message may exceed the bytes.
    pub room: Window,
}

/// The answer.
#[derive(Debug)]
pub struct Found {
    /// Where the session was on its shard.
    pub slot: u32,
    /// Its number.
    pub session: u64,
    /// Its messages in order; what came through a group is left out.
    pub deliveries: Vec<Delivery>,
    /// The first place that was not looked at.
    pub next: u64,
}

impl Wanted {
    /// The answer, from all entries of this stretch in order as `entries` gives them, and shared payloads as `payload`
    /// does; beside it the places of entries that cannot be understood.
    pub fn read<K: AsRef<[u8]>, V: AsRef<[u8]>, E>(
        &self,
        wall: Wall,
        entries: impl Iterator<Item = Result<(K, V), E>>,
        mut payload: impl FnMut(u64) -> Result<Option<Bytes>, E>,
    ) -> Result<(Found, Vec<(u64, Corrupt)>), E> {
        let Wanted { slot, session, to, room, .. } = *self;
        let mut found = Found { slot, session, deliveries: Vec::new(), next: to + 1 };
        let (mut bytes, mut damaged) = (0, Vec::new());
        for entry in entries {
            let (key, value) = entry?;
            let position = key::position(key.as_ref()).expect("all keys of a queue have a place");
            if !found.deliveries.is_empty()
                && (found.deliveries.len() >= room.messages || bytes >= room.bytes)
            {
                found.next = position;
                break;
            }
            let mut take = || {
                let EntryRecord { qos, retain, ids, group, body, .. } =
                    record::decode_entry(wall, value.as_ref()).map_err(Ok)?;
                if group.is_some() {
                    return Ok(None);
                }
                let (message, stored_as) = match body {
                    Body::Inline(message) => (message, 0),
                    Body::Shared(number) => {
                        let bytes = payload(number).map_err(Err)?;
                        let bytes = bytes.ok_or(Ok(Corrupt::Missing("message")))?;
                        (record::decode_message(wall, &bytes).map_err(Ok)?, number)
                    }
                };
                Ok(Some(Delivery { message, qos, retain, ids, group: None, position, stored_as }))
            };
            match take() {
                Ok(None) => {}
                Ok(Some(delivery)) => {
                    bytes += delivery.message.size();
                    found.deliveries.push(delivery);
                }
                Err(Ok(corrupt)) => damaged.push((position, corrupt)),
                Err(Err(error)) => return Err(error),
            }
        }
        Ok((found, damaged))
    }
}
