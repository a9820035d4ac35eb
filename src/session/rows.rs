//! Deliveries in flight that came in one row: their packets are kept together, as one piece, for as long as their client
//! is connected. Most are acknowledged before it goes away; only those that are not become messages of their own.
use super::message::SessionKey;
use super::outgoing::{Awaits, Delivery, Inflight, Outgoing, SubscriptionIds, kept_bytes};
use super::run::message_at;
use crate::codec::QoS;
use bytes::Bytes;
use std::collections::VecDeque;

/// The packets of one row, as their publisher sent them.
#[derive(Debug)]
struct Row {
    bytes: Bytes,
    v5: bool,
    publisher: SessionKey,
    /// Entries of the window that need it.
    left: u32,
}

/// Where the packet of a delivery is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RowPlace {
    /// Number of the row; it starts anew when numbers are used up.
    row: u32,
    /// Where the packet begins in it, [`RowPlace::NOWHERE`] for none.
    at: u32,
}

impl RowPlace {
    const NOWHERE: u32 = u32::MAX;
    /// In no row.
    pub(super) const NONE: RowPlace = RowPlace { row: 0, at: RowPlace::NOWHERE };
}

/// The rows of one session that are needed still, oldest first; those between them that are not are empty.
#[derive(Default, Debug)]
pub(super) struct Rows {
    rows: VecDeque<Row>,
    /// Number of the first of them.
    first: u32,
}

impl Rows {
    fn index(&self, place: RowPlace) -> usize {
        place.row.wrapping_sub(self.first) as usize
    }

    /// Bytes of all rows that are needed still.
    pub(super) fn bytes(&self) -> usize {
        self.rows.iter().map(|row| row.bytes.len()).sum()
    }

    /// Panics if `entries` of the window are not what the rows count.
    pub(super) fn audit<'a>(&self, entries: impl Iterator<Item = &'a Inflight>) {
        let needed = entries.filter(|entry| entry.place != RowPlace::NONE).count();
        assert_eq!(needed, self.rows.iter().map(|row| row.left as usize).sum::<usize>());
        assert!(self.rows.front().is_none_or(|row| row.left > 0));
    }
}

impl Outgoing {
    /// Keeps a row of packets, as their publisher sent them; [`Outgoing::begin_in_row`] follows for each of its `count`
    /// packets.
    pub fn keep_row(&mut self, bytes: Bytes, v5: bool, publisher: SessionKey, count: u32) {
        self.kept_bytes += bytes.len();
        self.rows.rows.push_back(Row { bytes, v5, publisher, left: count });
    }

    /// Gives a packet of the row that was kept last its packet id; it begins at `at` there.
    pub fn begin_in_row(&mut self, qos: QoS, at: usize) -> u16 {
        let row = self.rows.first.wrapping_add(self.rows.rows.len() as u32 - 1);
        self.begin_entry(qos, None, RowPlace { row, at: at as u32 })
    }

    /// The packet at this place is not sent again.
    pub(super) fn leave_row(&mut self, place: RowPlace) {
        if place == RowPlace::NONE {
            return;
        }
        let index = self.rows.index(place);
        let row = &mut self.rows.rows[index];
        row.left -= 1;
        if row.left == 0 {
            self.kept_bytes -= std::mem::take(&mut row.bytes).len();
        }
        while self.rows.rows.front().is_some_and(|row| row.left == 0) {
            self.rows.rows.pop_front();
            self.rows.first = self.rows.first.wrapping_add(1);
        }
    }

    /// Makes messages of what is left of the rows.
    pub(super) fn unfold_rows(&mut self) {
        if self.rows.rows.is_empty() {
            return;
        }
        for entry in &mut self.window {
            let place = std::mem::replace(&mut entry.place, RowPlace::NONE);
            if place == RowPlace::NONE {
                continue;
            }
            let Row { bytes, v5, publisher, .. } = &self.rows.rows[self.rows.index(place)];
            let message = message_at(bytes, place.at as usize, *v5, *publisher);
            let qos = if entry.awaits == Awaits::Pubrec { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            let ids = SubscriptionIds::new();
            let delivery =
                Delivery { message, qos, retain: false, ids, group: None, position: 0, stored_as: 0 };
            entry.delivery = Some(Box::new(delivery));
            self.kept_bytes += kept_bytes(&entry.delivery);
        }
        self.kept_bytes -= self.rows.bytes();
        self.rows = Rows::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::outgoing::{Acknowledged, Repeat};
    use crate::session::run::cut_acknowledged_run;

    /// Two packets, the second one begins at 8.
    const PACKETS: &[u8] = b"\x32\x06\x00\x01t\x00\x01x\x32\x07\x00\x01t\x00\x02yz";

    fn keep(outgoing: &mut Outgoing, qos: QoS) -> [u16; 2] {
        assert!(cut_acknowledged_run(PACKETS, false, 100, b"t").is_some_and(|run| run.count == 2));
        outgoing.keep_row(Bytes::from_static(PACKETS), false, SessionKey(7), 2);
        let ids = [0, 8].map(|at| outgoing.begin_in_row(qos, at));
        outgoing.audit();
        ids
    }

    #[test]
    fn a_row_is_kept_until_its_last_packet_is_acknowledged() {
        let mut outgoing = Outgoing::default();
        let rows = [(); 3].map(|()| keep(&mut outgoing, QoS::AtLeastOnce));
        assert_eq!(outgoing.kept_bytes, 3 * PACKETS.len());
        for id in [rows[1][0], rows[1][1], rows[0][1]] {
            assert_eq!(outgoing.handle_puback(id), Acknowledged::Finished);
            outgoing.audit();
        }
        assert_eq!(outgoing.kept_bytes, 2 * PACKETS.len());
        for id in [rows[0][0], rows[2][0], rows[2][1]] {
            assert_eq!(outgoing.handle_puback(id), Acknowledged::Finished);
            outgoing.audit();
        }
        assert_eq!((outgoing.kept_bytes, outgoing.rows.rows.len()), (0, 0));
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_as_a_message() {
        let mut outgoing = Outgoing::default();
        let [first, second] = keep(&mut outgoing, QoS::ExactlyOnce);
        let [_, last] = keep(&mut outgoing, QoS::ExactlyOnce);
        assert_eq!(outgoing.handle_pubrec(first, false), Acknowledged::Release);
        outgoing.begin_connection();
        outgoing.audit();
        assert!(matches!(outgoing.next_repeat(9), Some(Repeat::Release(id)) if id == first));
        match outgoing.next_repeat(9) {
            Some(Repeat::Publish(id, delivery)) => {
                let message = &delivery.message;
                assert_eq!((id, message.topic(), message.payload()), (second, "t", &b"yz"[..]));
                assert_eq!((delivery.qos, message.qos), (QoS::ExactlyOnce, QoS::AtLeastOnce));
                assert_eq!(message.publisher, SessionKey(7));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(outgoing.next_repeat(9), Some(Repeat::Publish(..))));
        assert_eq!(outgoing.handle_pubrec(last, false), Acknowledged::Release);
        outgoing.audit();
    }

    #[test]
    fn numbers_of_rows_start_anew_when_they_are_used_up() {
        let mut outgoing = Outgoing::default();
        outgoing.rows.first = u32::MAX - 1;
        let rows = [(); 4].map(|()| keep(&mut outgoing, QoS::AtLeastOnce));
        for id in rows.into_iter().flatten() {
            assert_eq!(outgoing.handle_puback(id), Acknowledged::Finished);
            outgoing.audit();
        }
        assert_eq!((outgoing.kept_bytes, outgoing.rows.rows.len()), (0, 0));
    }
}
