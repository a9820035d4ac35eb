//! Connections that are not read for a while: the packet that has to wait and what came behind it.
use super::{Action, Core};
use crate::time::Time;
use bytes::{BufMut, BytesMut};

impl Core {
    /// Stops reading a connected client, and keeps what it has sent already. At most one received piece and one packet:
    /// nothing more comes until [`Action::Resume`].
    pub(super) fn hold(&mut self, slot: u32, pieces: [&[u8]; 2]) {
        let conn = self.id(slot);
        let extras = self.connections[slot as usize].extras();
        if extras.held.is_none() {
            self.actions.push_back(Action::Pause { conn });
        }
        let held = extras
            .held
            .get_or_insert_with(|| BytesMut::with_capacity(pieces.iter().map(|piece| piece.len()).sum()));
        pieces.iter().for_each(|piece| held.put_slice(piece));
    }

    /// Whether a connection is not read because something of it waits.
    pub(super) fn is_held(&self, slot: u32) -> bool {
        self.connections[slot as usize].extras.as_ref().is_some_and(|extras| extras.held.is_some())
    }

    /// Handles what was kept, and reads again unless something has to wait anew.
    pub(super) fn go_on(&mut self, now: Time, slot: u32) {
        let conn = self.id(slot);
        if !self.finish_filters(now, slot) {
            return;
        }
        let Some(held) = self.connections[slot as usize].extras().held.take() else { return };
        self.connections[slot as usize].last_received = now;
        self.begin_work();
        let published = self.publishes_received();
        self.receive_slice(now, slot, &held);
        let is_slow = self.slow_down(now, conn, published, held.len());
        if self.is_live(conn) && !self.is_held(slot) && !is_slow {
            self.connections[slot as usize].shrink();
            self.actions.push_back(Action::Resume { conn });
        }
    }
}
