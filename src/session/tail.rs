//! The part of a queue that is on the disk only.
//!
//! A stored session keeps the head of its queue in memory. Of what follows it knows how much it is and from which place
//! on it is stored; when half of the head is gone, the next stretch is read. While there is such a tail, whatever is new
//! goes to its end, so that the order holds. What came through a shared subscription stays in memory, since it may have
//! to go to other members at once; its place in the order is that in the tail.
use super::outgoing::{Delivery, Outgoing};
use std::collections::VecDeque;

/// How much of a queue is in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Messages at most.
    pub messages: usize,
    /// Bytes at most, but for one message that is larger by itself.
    pub bytes: usize,
}

impl Window {
    /// All of it.
    pub const ALL: Window = Window { messages: usize::MAX, bytes: usize::MAX };

    /// Whether a message of `bytes` goes to the others, which are `queued`.
    pub fn has_room(&self, queued: (usize, usize), bytes: usize) -> bool {
        queued.0 == 0 || (queued.0 < self.messages && queued.1 + bytes <= self.bytes)
    }
}

/// What of a queue is on the disk only; at least one message is.
#[derive(Debug)]
pub struct Tail {
    messages: usize,
    bytes: usize,
    /// None of them has a place before this one.
    from: u64,
    /// The place of the last one.
    last: u64,
    /// A place, and the batch with which everything up to it is stored.
    settled: (u64, u64),
    /// The next stretch was asked for and has not come.
    is_asked: bool,
    /// What is among them and in memory all the same, in order.
    behind: VecDeque<Delivery>,
    behind_bytes: usize,
}

impl Tail {
    fn new(from: u64) -> Tail {
        let (messages, bytes, behind) = (0, 0, VecDeque::new());
        Tail { messages, bytes, from, last: 0, settled: (0, 0), is_asked: false, behind, behind_bytes: 0 }
    }
    /// Messages, on the disk only or among them.
    pub(super) fn queued(&self) -> usize {
        self.messages + self.behind.len()
    }
    /// Their bytes.
    pub(super) fn queued_bytes(&self) -> usize {
        self.bytes + self.behind_bytes
    }
    fn push_behind(&mut self, delivery: Delivery) {
        self.behind_bytes += delivery.message.size();
        self.behind.push_back(delivery);
    }
    /// The next of those in memory whose place is before `position`.
    fn pop_behind(&mut self, position: u64) -> Option<Delivery> {
        let delivery = self.behind.pop_front_if(|delivery| delivery.position < position)?;
        self.behind_bytes -= delivery.message.size();
        Some(delivery)
    }
}

impl Outgoing {
    /// Some of the queue is on the disk only.
    pub fn has_tail(&self) -> bool {
        self.tail.is_some()
    }

    /// Puts a delivery behind those in memory.
    fn push_queued(&mut self, delivery: Delivery) {
        self.queued_bytes += delivery.message.size();
        self.queue.push_back(delivery);
    }

    /// Puts a delivery behind all others. A stored one for which `window` has no room is let go of: it is on the disk.
    pub(super) fn append(&mut self, delivery: Delivery, window: Window) {
        let bytes = delivery.message.size();
        let must_stay = delivery.group.is_some() || delivery.position == 0;
        if self.tail.is_none() && (must_stay || window.has_room((self.queue.len(), self.queued_bytes), bytes))
        {
            return self.push_queued(delivery);
        }
        let tail = self.tail.get_or_insert_with(|| Box::new(Tail::new(delivery.position)));
        debug_assert!(delivery.position > tail.last, "what goes behind a tail is stored, and in order");
        if must_stay {
            return tail.push_behind(delivery);
        }
        tail.messages += 1;
        tail.bytes += bytes;
        tail.last = delivery.position;
    }

    /// What the tail gained so far is stored with `batch` at the latest; everything up to `stored` is.
    pub fn note_batch(&mut self, batch: u64, stored: u64) {
        if let Some(tail) = &mut self.tail
            && tail.settled.1 <= stored
        {
            tail.settled = (tail.last, batch);
        }
    }

    /// Whether more of the tail is to be read now, because half of `window` or less is left in memory: up to which
    /// place, and with which batch everything up to there is stored. What the tail gained so far is stored with `batch`.
    pub fn ask(&mut self, window: Window, batch: u64) -> Option<(u64, u64)> {
        let is_low = self.queue.len() <= window.messages / 2 && self.queued_bytes <= window.bytes / 2;
        let tail = self.tail.as_mut().filter(|tail| is_low && !tail.is_asked)?;
        if tail.settled.0 < tail.from {
            tail.settled = (tail.last, batch);
        }
        tail.is_asked = true;
        Some(tail.settled)
    }

    /// From which place on to read what was asked for, and how much of it there is room for.
    pub fn wanted(&self, window: Window) -> Option<(u64, Window)> {
        let tail = self.tail.as_ref().filter(|tail| tail.is_asked)?;
        let messages = window.messages.saturating_sub(self.queue.len()).max(1);
        let bytes = window.bytes.saturating_sub(self.queued_bytes).max(1);
        Some((tail.from, Window { messages, bytes }))
    }

    /// What was asked for: all of the tail before `next`. Returns how many of it are missing.
    pub fn take_found(&mut self, found: Vec<Delivery>, next: u64) -> usize {
        let Some(mut tail) = self.tail.take() else { return 0 };
        tail.is_asked = false;
        tail.from = next;
        for delivery in found {
            while let Some(before) = tail.pop_behind(delivery.position) {
                self.push_queued(before);
            }
            let bytes = delivery.message.size();
            tail.messages = tail.messages.checked_sub(1).expect("as many as were counted");
            tail.bytes = tail.bytes.checked_sub(bytes).expect("as many bytes as were counted");
            self.push_queued(delivery);
        }
        let is_over = tail.messages == 0 || next > tail.last;
        while let Some(before) = tail.pop_behind(if is_over { u64::MAX } else { next }) {
            self.push_queued(before);
        }
        if is_over {
            return tail.messages;
        }
        self.tail = Some(tail);
        0
    }

    /// Takes out what stays in memory among the tail.
    pub(super) fn take_behind(&mut self) -> VecDeque<Delivery> {
        let Some(tail) = &mut self.tail else { return VecDeque::new() };
        tail.behind_bytes = 0;
        std::mem::take(&mut tail.behind)
    }

    /// After a restart, before the rest of the queue: what is on the disk only, all of which is stored.
    pub fn restore_tail(&mut self, messages: usize, bytes: usize, from: u64, last: u64) {
        assert!(
            self.tail.is_none() && messages > 0 && from <= last,
            "a tail of something, and restored first"
        );
        self.last_position = self.last_position.max(last);
        self.tail = Some(Box::new(Tail { messages, bytes, last, settled: (last, 0), ..Tail::new(from) }));
    }

    /// After a restart: a delivery that waits for its turn, in the stored order.
    pub fn restore_queued(&mut self, delivery: Delivery) {
        self.last_position = self.last_position.max(delivery.position);
        match self.tail.as_mut().filter(|tail| tail.from < delivery.position) {
            Some(tail) => tail.push_behind(delivery),
            None => self.push_queued(delivery),
        }
    }

    pub(super) fn audit_tail(&self) {
        let Some(tail) = &self.tail else { return };
        assert!(tail.messages > 0 && tail.from <= tail.last && tail.last <= self.last_position);
        assert_eq!(
            tail.behind.iter().map(|delivery| delivery.message.size()).sum::<usize>(),
            tail.behind_bytes
        );
        let in_memory = self.queue.iter().chain(&tail.behind).map(|delivery| delivery.position);
        assert!(in_memory.clone().is_sorted(), "the order of places is that of the queue");
        assert!(
            self.queue.iter().all(|delivery| delivery.position < tail.from),
            "the head is before the tail"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::QoS;
    use crate::limits::QueuePolicy;
    use crate::session::message::{Message, SessionKey};
    use crate::session::outgoing::{GroupKey, SubscriptionIds};
    use crate::time::Time;

    const WINDOW: Window = Window { messages: 4, bytes: 100 };
    const ROOM: (usize, usize) = (20, 1000);

    fn delivery(position: u64, group: bool) -> Delivery {
        let (topic, qos) = (position.to_string(), QoS::AtLeastOnce);
        let message = Message::new(&topic, &[], b"12345", qos, false, Time::NEVER, SessionKey(1));
        let group = group.then_some(GroupKey(1));
        Delivery { message, qos, retain: false, ids: SubscriptionIds::new(), group, position, stored_as: 0 }
    }

    /// A queue with the places `1..=last`, of which those in `groups` came through a group.
    fn queue(last: u64, groups: &[u64]) -> Outgoing {
        let mut outgoing = Outgoing::default();
        for position in 1..=last {
            assert_eq!(outgoing.next_position(), position);
            let delivery = delivery(position, groups.contains(&position));
            assert!(outgoing.enqueue(delivery, ROOM, WINDOW).is_none());
            outgoing.note_batch(position, position / 2);
            outgoing.audit();
        }
        outgoing
    }

    fn drain(outgoing: &mut Outgoing) -> Vec<u64> {
        let drained = std::iter::from_fn(|| outgoing.dequeue(9)).map(|delivery| delivery.position).collect();
        outgoing.audit();
        drained
    }

    #[test]
    fn what_the_window_has_no_room_for_is_counted_and_read_back_in_order() {
        let mut outgoing = queue(10, &[]);
        assert_eq!((outgoing.queue.len(), outgoing.queued(), outgoing.queued_bytes()), (4, 10, 61));
        assert_eq!(outgoing.ask(WINDOW, 10), None, "enough is in memory");
        outgoing.dequeue(9);
        outgoing.dequeue(9);
        let (to, batch) = outgoing.ask(WINDOW, 10).expect("half is gone");
        assert!(to == batch && (5..=10).contains(&to), "stored with the batch it came in: {to}, {batch}");
        assert_eq!(outgoing.ask(WINDOW, 10), None, "asked once");
        assert_eq!(outgoing.wanted(WINDOW), Some((5, Window { messages: 2, bytes: 88 })));
        assert_eq!(outgoing.take_found(vec![delivery(5, false), delivery(6, false)], 7), 0);
        assert_eq!(drain(&mut outgoing), [3, 4, 5, 6]);
        assert!(outgoing.has_waiting() && !outgoing.can_begin(9));
        outgoing.ask(WINDOW, 10).expect("nothing is left in memory");
        assert_eq!(outgoing.take_found((7..=10).map(|at| delivery(at, false)).collect(), 11), 0);
        assert!(!outgoing.has_tail());
        assert_eq!(drain(&mut outgoing), [7, 8, 9, 10]);
        assert_eq!((outgoing.queued(), outgoing.queued_bytes()), (0, 0));
    }

    #[test]
    fn a_place_is_asked_for_with_the_batch_that_stores_it() {
        let mut outgoing = queue(4, &[]);
        for (position, batch, stored) in [(5, 7, 6), (6, 8, 6), (7, 9, 8)] {
            outgoing.next_position();
            outgoing.enqueue(delivery(position, false), ROOM, WINDOW);
            outgoing.note_batch(batch, stored);
        }
        drain(&mut outgoing);
        // At 8 stored, 5 was; so the mark went on to all there was then.
        assert_eq!(outgoing.ask(WINDOW, 12), Some((7, 9)));
        outgoing.take_found(vec![delivery(5, false), delivery(6, false)], 7);
        outgoing.next_position();
        outgoing.enqueue(delivery(8, false), ROOM, WINDOW);
        drain(&mut outgoing);
        assert_eq!(outgoing.ask(WINDOW, 12), Some((7, 9)), "7 can be read before 8 is stored");
        outgoing.take_found(vec![delivery(7, false)], 8);
        drain(&mut outgoing);
        assert_eq!(outgoing.ask(WINDOW, 12), Some((8, 12)));
    }

    #[test]
    fn what_came_through_a_group_stays_in_memory_and_keeps_its_place() {
        let mut outgoing = queue(10, &[2, 6, 7, 10]);
        assert_eq!((outgoing.queue.len(), outgoing.queued()), (4, 10));
        drain(&mut outgoing);
        outgoing.ask(WINDOW, 10).expect("nothing is left");
        outgoing.take_found(vec![delivery(5, false)], 6);
        assert_eq!(drain(&mut outgoing), [5]);
        outgoing.ask(WINDOW, 10).expect("nothing is left");
        outgoing.take_found(vec![delivery(8, false)], 9);
        assert_eq!(drain(&mut outgoing), [6, 7, 8]);
        outgoing.ask(WINDOW, 10).expect("nothing is left");
        outgoing.take_found(vec![delivery(9, false)], 11);
        assert_eq!(drain(&mut outgoing), [9, 10]);

        let mut outgoing = queue(10, &[2, 6, 7, 10]);
        let shared: Vec<u64> = outgoing.take_shared_queue().iter().map(|shared| shared.position).collect();
        assert_eq!((shared, outgoing.queued()), (vec![2, 6, 7, 10], 6));
        outgoing.audit();
    }

    #[test]
    fn the_oldest_gives_way_when_it_has_been_read() {
        let mut outgoing = queue(10, &[]);
        drain(&mut outgoing);
        let max = (6, 1000);
        for position in 11..=13 {
            assert!(outgoing.admits(7, max, QueuePolicy::DropOldest));
            let oldest = outgoing.enqueue(delivery(position, false), max, WINDOW);
            assert!(oldest.is_none(), "there is no older one in memory");
        }
        assert!(!outgoing.admits(7, max, QueuePolicy::DropNewest));
        assert!(!outgoing.admits(1001, max, QueuePolicy::DropOldest), "larger than the queue");
        outgoing.ask(WINDOW, 10).expect("nothing is left");
        outgoing.take_found((5..=8).map(|at| delivery(at, false)).collect(), 9);
        let dropped: Vec<u64> =
            std::iter::from_fn(|| outgoing.give_way(max)).map(|dropped| dropped.position).collect();
        assert_eq!((dropped, outgoing.queued()), (vec![5, 6, 7], 6));
    }

    #[test]
    fn what_cannot_be_read_is_missed_when_all_was_read() {
        let mut outgoing = queue(8, &[7]);
        drain(&mut outgoing);
        outgoing.ask(WINDOW, 8).expect("nothing is left");
        assert_eq!(outgoing.take_found(vec![delivery(6, false)], 9), 2);
        assert_eq!(drain(&mut outgoing), [6, 7]);
        assert!(outgoing.can_begin(9));
    }

    #[test]
    fn a_tail_comes_back_after_a_restart() {
        let mut outgoing = Outgoing::default();
        outgoing.restore_tail(3, 18, 4, 9);
        for position in [2, 3, 6] {
            outgoing.restore_queued(delivery(position, position == 6));
        }
        outgoing.audit();
        assert_eq!((outgoing.queued(), outgoing.queued_bytes(), outgoing.queue.len()), (6, 36, 2));
        assert_eq!(outgoing.ask(WINDOW, 1), Some((9, 0)), "all of it is stored");
        outgoing.take_found([4, 5, 9].map(|at| delivery(at, false)).into(), 10);
        assert_eq!(drain(&mut outgoing), [2, 3, 4, 5, 6, 9]);
        assert_eq!(outgoing.next_position(), 10);
    }
}
