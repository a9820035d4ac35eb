//! Received bytes that go on as they came, without being copied: the shell lends them for the turn in which they came.
use super::{ConnId, Core};
use crate::session::message::Publication;
use crate::time::Time;
use ahash::AHashMap;
use bytes::Bytes;

/// Bytes from which on a run is sent from where it was received. For fewer, copying costs less than keeping account.
pub const LEND_FROM: usize = 2048;

/// A run, or a payload, as something that need not be copied.
pub(super) enum Uncopied {
    /// Until the end of the turn.
    Lent(Bytes),
    /// As long as it is needed.
    Shared(Bytes),
}

/// What the shell has lent.
#[derive(Default, Debug)]
pub(super) struct Lent {
    /// What is being handled; empty when that is not lent.
    bytes: Bytes,
    /// Who was given some of what came in this turn.
    borrowers: Vec<ConnId>,
}

impl Core {
    /// Like [`Core::handle_bytes`], with bytes that may be sent from where they are. [`Core::give_back_lent`] follows at
    /// the end of the turn.
    pub fn handle_lent(&mut self, now: Time, conn: ConnId, bytes: Bytes) {
        self.lent.bytes = bytes.clone();
        self.handle_bytes(now, conn, &bytes);
        self.lent.bytes = Bytes::new();
    }

    /// Copies what was lent and could not be sent at once, once for all who were given the same, so that none of it is in
    /// use any more.
    pub fn give_back_lent(&mut self) {
        if self.lent.borrowers.is_empty() {
            return;
        }
        let mut copies = AHashMap::new();
        let mut keep = |bytes: &Bytes| -> Bytes {
            let place = (bytes.as_ptr() as usize, bytes.len());
            copies.entry(place).or_insert_with(|| Bytes::copy_from_slice(bytes)).clone()
        };
        while let Some(conn) = self.lent.borrowers.pop() {
            let connection = self.connections.get_mut(conn.slot as usize);
            if let Some(connection) = connection.filter(|connection| connection.generation == conn.generation)
            {
                connection.output.keep_lent(&mut keep);
                if let Some(gated) = &mut connection.gated {
                    gated.ready.keep_lent(&mut keep);
                }
            }
        }
    }

    /// `part` of what is being handled, unless it is to be copied.
    pub(super) fn lent(&self, part: &[u8]) -> Option<Uncopied> {
        let (all, range) = (self.lent.bytes.as_ptr_range(), part.as_ptr_range());
        let is_lent = part.len() >= LEND_FROM && all.start <= range.start && range.end <= all.end;
        is_lent.then(|| Uncopied::Lent(self.lent.bytes.slice_ref(part)))
    }

    /// The payload of a publication: as it is kept anyway, or else lent, or else copied for all that it goes to.
    pub(super) fn uncopied(&self, publication: &Publication<'_>) -> Uncopied {
        if publication.is_kept() {
            return Uncopied::Shared(publication.shared_payload());
        }
        let lent = self.lent(publication.payload);
        lent.unwrap_or_else(|| Uncopied::Shared(publication.shared_payload()))
    }

    /// Appends a run or a payload to the output of a connection.
    pub(super) fn push_uncopied(&mut self, slot: u32, run: &Uncopied) {
        let connection = &mut self.connections[slot as usize];
        connection.writer(slot, &mut self.buffers, &mut self.dirty);
        match run {
            Uncopied::Shared(bytes) => connection.output.push_shared(bytes.clone()),
            Uncopied::Lent(bytes) => {
                connection.output.push_lent(bytes.clone());
                self.lent.borrowers.push(ConnId { slot, generation: connection.generation });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Origin;
    use crate::limits::Limits;
    use crate::shard::core::CoreConfig;
    use crate::shard::output::MAX_SLICES;
    use std::io::IoSlice;
    use std::sync::Arc;

    const NOW: Time = Time(1000);

    fn packet(first: u8, body: &[u8]) -> Vec<u8> {
        let (low, high) = (body.len() as u8 & 0x7f, (body.len() >> 7) as u8);
        let len: &[u8] = if high == 0 { &[low] } else { &[low | 0x80, high] };
        [&[first][..], len, body].concat()
    }

    fn publish(version: u8, number: u8, payload: usize) -> Vec<u8> {
        let properties: &[u8] = if version == 5 { &[0] } else { &[] };
        packet(0x30, &[&[0, 1, b't'][..], properties, &vec![number; payload]].concat())
    }

    fn client(core: &mut Core, version: u8, id: u8, subscribes: bool) -> ConnId {
        let conn = core.handle_accept(NOW, Origin::default()).expect("room");
        let properties: &[u8] = if version == 5 { &[0] } else { &[] };
        let connect =
            [&[0, 4, b'M', b'Q', b'T', b'T', version, 2, 0, 0][..], properties, &[0, 1, id]].concat();
        core.handle_bytes(NOW, conn, &packet(0x10, &connect));
        if subscribes {
            core.handle_bytes(
                NOW,
                conn,
                &packet(0x82, &[&[0, 1][..], properties, &[0, 1, b't', 0]].concat()),
            );
        }
        conn
    }

    fn drain(core: &mut Core, conn: ConnId) -> Vec<u8> {
        let (output, mut all) = (core.output(conn).expect("a live connection"), Vec::new());
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let filled = output.slices(&mut slices);
            let before = all.len();
            slices[..filled].iter().for_each(|slice| all.extend_from_slice(slice));
            output.advance(all.len() - before);
        }
        all
    }

    /// What subscribers of either version get of packets of this size that come in pieces, and whether anything is
    /// still in use after the turn.
    fn told(payload: usize, piece: usize, lends: bool) -> Vec<Vec<u8>> {
        let (limits, policy) =
            (Arc::new(Limits { sys_interval_ms: 0, ..Limits::default() }.into()), Arc::default());
        let mut core = Core::new(CoreConfig { shard: 0, shards: 1, seed: 3, limits, policy }, NOW);
        let publisher = client(&mut core, 4, b'p', false);
        let subscribers =
            [(4, b'a'), (5, b'b'), (4, b'c')].map(|(version, id)| client(&mut core, version, id, true));
        let bytes = Bytes::from_iter((0..40).flat_map(|number| publish(4, number, payload)));
        for at in (0..bytes.len()).step_by(piece) {
            let came = bytes.slice(at..bytes.len().min(at + piece));
            if lends {
                core.handle_lent(NOW, publisher, came);
            } else {
                core.handle_bytes(NOW, publisher, &came);
            }
        }
        core.give_back_lent();
        drop(core.take_output(publisher));
        assert!(bytes.is_unique(), "something is still in use");
        core.audit();
        subscribers.map(|conn| drain(&mut core, conn)).to_vec()
    }

    #[test]
    fn lent_bytes_arrive_like_others_and_are_given_back() {
        for payload in [100, 3000, 10_000] {
            for piece in [usize::MAX, 70_000, 3001] {
                let expected: Vec<Vec<u8>> = [4, 5, 4]
                    .map(|version| (0..40).flat_map(|number| publish(version, number, payload)).collect())
                    .to_vec();
                for lends in [true, false] {
                    let told = told(payload, piece, lends);
                    for (told, expected) in told.iter().zip(&expected) {
                        assert!(told.ends_with(expected), "{payload} bytes in pieces of {piece}, {lends}");
                    }
                }
            }
        }
    }
}
