//! The sockets of one shard: what is in flight on each, and what the ring's completions mean for it.
//!
//! A connection costs 12 bytes here while it is idle. Receive is single-shot until [`Connections::establish`], so that
//! a socket can move to another shard, then multishot. What a connection ought to be doing is noted at once and put to
//! the kernel when all that is known has been taken in, so that opposite wishes cancel out for free.
use super::accept::Acceptor;
use super::door::Door;
use super::event::{Event, Input};
use super::linger::Linger;
use super::ring::{Completion, Lent, Op, Payload, Ring, Token, Wait};
use super::send::{Sent, send, send_both};
use super::slot::{
    ARMED, BLOCKED, BROKEN, CANCELLING, CHANGED, ENDED, ESTABLISHED, FAILED, FED, HELD, LEAVING, PAUSED,
    SATED, SEALED, Slot,
};
use crate::shard::core::{CloseCause, ConnId, LEND_FROM};
use crate::shard::output::Output;
use crate::time::Time;
use bytes::Bytes;
use rustix::net::{Shutdown, shutdown};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Completions taken from the kernel in one turn; more wait for the next.
const COMPLETIONS_PER_TURN: usize = 4096;
/// Received pieces that wait unread while the core takes no input; a connection that brings one beyond it is not
/// received from until the core takes input again.
const MAX_INBOX: usize = 4096;
/// Bytes that came for a paused connection before the kernel knew; at the bound the connection is ended. The kernel
/// cannot reach it: it is told in the same turn, and has no more buffers than this for one.
const MAX_HELD: usize = 2 * super::ring::RECEIVE_MEMORY;

/// The sockets of one shard, and their ring.
pub struct Connections {
    ring: Ring,
    slots: Vec<Slot>,
    live: usize,
    /// Connections of all shards together.
    open: Arc<AtomicUsize>,
    /// The listeners, by number.
    doors: Arc<[Arc<Door>]>,
    held: HashMap<u32, Vec<u8>>,
    /// Completions about anything but received bytes, oldest first.
    control: VecDeque<Completion>,
    /// Completions of receives, oldest first.
    inbox: VecDeque<Completion>,
    /// Slots whose operations may not be what they ought to be.
    changed: VecDeque<u32>,
    /// Slots with [`SATED`], in the order in which they were given bytes.
    sated: Vec<u32>,
    acceptor: Acceptor,
    linger: Linger,
    doorbell: RawFd,
}

fn token(op: Op, conn: ConnId) -> Token {
    Token { op, slot: conn.slot, generation: conn.generation }
}

impl Connections {
    /// No connections; accepts on `listeners`, whose settings are `doors`, and reports when `doorbell` (an eventfd that
    /// outlives this) is rung. `open` counts the connections of all shards together.
    pub fn new(
        listeners: Vec<OwnedFd>,
        doors: Arc<[Arc<Door>]>,
        doorbell: RawFd,
        open: Arc<AtomicUsize>,
    ) -> io::Result<Connections> {
        let mut ring = Ring::new()?;
        let acceptor = Acceptor::new(&mut ring, listeners);
        let mut connections = Connections {
            ring,
            slots: Vec::new(),
            live: 0,
            open,
            doors,
            held: HashMap::new(),
            control: VecDeque::new(),
            inbox: VecDeque::new(),
            changed: VecDeque::new(),
            sated: Vec::new(),
            acceptor,
            linger: Linger::default(),
            doorbell,
        };
        connections.watch_doorbell();
        Ok(connections)
    }

    fn watch_doorbell(&mut self) {
        self.ring.poll_always(self.doorbell, Token { op: Op::Doorbell, slot: 0, generation: 0 });
    }

    /// Accepts no more.
    pub fn stop_accepting(&mut self) {
        self.acceptor.stop(&mut self.ring);
    }

    /// Puts everything to the kernel, waits, and takes what has completed.
    /// `take_input`: whether received bytes will be taken; if not, connections that go on bringing some are stopped.
    pub fn wait(&mut self, wait: Wait, take_input: bool) -> io::Result<()> {
        if take_input && self.inbox.len() >= MAX_INBOX {
            // Enough to do; the kernel keeps the rest.
            return Ok(());
        }
        self.arm_sated();
        self.ring.submit(wait)?;
        let known = self.inbox.len();
        self.harvest();
        if !take_input {
            for index in known.max(MAX_INBOX)..self.inbox.len() {
                self.stop_receiving(self.inbox[index].token);
            }
        }
        Ok(())
    }

    /// Takes what has completed since [`Connections::wait`], if the kernel says that there is something.
    pub fn look_again(&mut self) -> io::Result<()> {
        if self.inbox.len() < MAX_INBOX && self.ring.has_news() {
            self.ring.submit(Wait::No)?;
            self.harvest();
        }
        Ok(())
    }

    /// Puts everything to the kernel; whether something has completed.
    pub fn has_news(&mut self) -> io::Result<bool> {
        self.arm_sated();
        self.ring.submit(Wait::No)?;
        Ok(self.ring.has_completions())
    }

    fn harvest(&mut self) {
        let Connections { ring, control, inbox, .. } = self;
        ring.harvest(COMPLETIONS_PER_TURN, |completion| {
            let queue = if completion.token.op == Op::Receive { &mut *inbox } else { &mut *control };
            queue.push_back(completion);
        });
    }

    fn stop_receiving(&mut self, token: Token) {
        let conn = ConnId { slot: token.slot, generation: token.generation };
        if let Some(slot) = self.slot(conn)
            && slot.has(ARMED)
            && !slot.has(CANCELLING)
        {
            slot.set(CANCELLING);
            self.ring.cancel(token);
        }
    }

    fn slot(&mut self, conn: ConnId) -> Option<&mut Slot> {
        self.slots
            .get_mut(conn.slot as usize)
            .filter(|slot| slot.generation == conn.generation && slot.socket.is_some())
    }

    /// Notes that the operations of `slot` may not be what they ought to be.
    fn touch(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if !slot.has(CHANGED) {
            slot.set(CHANGED);
            self.changed.push_back(index);
        }
    }

    /// Counts a new connection; false if there are `most` already, or as many as its listener takes. Not on the path
    /// of any message, so that a counter which all shards share does no harm here.
    pub fn admit(&self, listener: u16, most: usize, now: Time) -> bool {
        let admitted = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < most).then_some(open + 1));
        if admitted.is_ok() && !self.doors[usize::from(listener)].admit(now) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        admitted.is_ok()
    }

    /// Takes a connection that was admitted out of the counts.
    pub fn leave(&self, listener: u16) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.doors[usize::from(listener)].leave();
    }

    /// The listener of that number.
    pub fn door(&self, listener: u16) -> &Arc<Door> {
        &self.doors[usize::from(listener)]
    }

    /// Registers a socket of a listener and receives from it. `sealed`: what it sends and gets goes through a transport.
    pub fn adopt(&mut self, conn: ConnId, socket: OwnedFd, listener: u16, sealed: bool) {
        let index = conn.slot as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, Slot::default);
        }
        let slot = &mut self.slots[index];
        assert!(slot.socket.is_none(), "a slot was adopted twice");
        slot.socket = Some(socket);
        slot.generation = conn.generation;
        slot.listener = listener;
        // A note in `changed` may be left from the slot's last user.
        slot.flags &= CHANGED;
        if sealed {
            slot.set(SEALED);
        }
        self.live += 1;
        self.touch(conn.slot);
    }

    /// Goes over to multishot receive, where that does not miss the end (see [`Ring::receive`]).
    pub fn establish(&mut self, conn: ConnId) {
        let Some(slot) = self.slot(conn) else { return };
        let listener = usize::from(slot.listener);
        if !self.doors[listener].is_unix() {
            let slot = &mut self.slots[conn.slot as usize];
            slot.set(ESTABLISHED);
            self.touch(conn.slot);
        }
    }

    /// Stops reading.
    pub fn pause(&mut self, conn: ConnId) {
        if let Some(slot) = self.slot(conn) {
            slot.set(PAUSED);
            self.touch(conn.slot);
        }
    }

    /// Reads again.
    pub fn resume(&mut self, conn: ConnId) {
        if let Some(slot) = self.slot(conn) {
            slot.clear(PAUSED);
            self.touch(conn.slot);
        }
    }

    /// Asks for [`Event::GivenUp`]; bytes that come before it are still reported.
    pub fn give_up(&mut self, conn: ConnId) {
        if let Some(slot) = self.slot(conn) {
            slot.set(LEAVING);
            slot.clear(PAUSED);
            self.touch(conn.slot);
        }
    }

    /// Sends `output` as far as the socket takes it within a bounded time, and closes.
    pub fn close(&mut self, conn: ConnId, output: Output, now: Time) {
        let Some((socket, flags, listener)) = self.remove(conn) else { return };
        self.leave(listener);
        let in_flight = flags & (ARMED | BLOCKED) != 0;
        if flags & (BROKEN | FAILED) != 0 {
            self.ring.close(socket, in_flight);
        } else {
            self.linger.close(&mut self.ring, socket, output, in_flight, now);
        }
    }

    fn remove(&mut self, conn: ConnId) -> Option<(OwnedFd, u16, u16)> {
        let slot = self.slot(conn)?;
        let socket = slot.socket.take()?;
        let (flags, listener) = (slot.flags, slot.listener);
        slot.flags &= CHANGED;
        if flags & HELD != 0 {
            self.held.remove(&conn.slot);
        }
        self.live -= 1;
        Some((socket, flags, listener))
    }

    /// Sends as much of `output` as the socket takes; [`Event::Writable`] follows [`Sent::Blocked`].
    /// A broken connection's output is emptied; [`Event::Closed`] follows when what it had sent is read.
    pub fn send(&mut self, conn: ConnId, output: &mut Output) -> Sent {
        let sent = self.put(conn, |socket| send(socket, output));
        if sent == Sent::Broken {
            output.advance(output.len());
        }
        sent
    }

    /// The same with `head` and the first `count` bytes of `body` behind it.
    pub fn send_both(&mut self, conn: ConnId, head: &mut Output, body: &mut Output, count: usize) -> Sent {
        let sent = self.put(conn, |socket| send_both(socket, head, body, count));
        if sent == Sent::Broken {
            head.advance(head.len());
            body.advance(body.len());
        }
        sent
    }

    fn put(&mut self, conn: ConnId, send: impl FnOnce(&OwnedFd) -> Sent) -> Sent {
        let Some(slot) = self.slot(conn) else { return Sent::Broken };
        if slot.has(BLOCKED) {
            return Sent::Blocked;
        }
        let Some(socket) = slot.socket.as_ref().filter(|_| !slot.has(BROKEN)) else {
            return Sent::Broken;
        };
        let sent = send(socket);
        match sent {
            Sent::All => {}
            Sent::Blocked => {
                let raw = slot.raw();
                slot.set(BLOCKED);
                self.ring.poll(raw, libc::POLLOUT, token(Op::Writable, conn));
            }
            Sent::Broken => {
                // What the peer had sent stays readable, and is followed by an end.
                let _ = shutdown(socket, Shutdown::Both);
                slot.set(BROKEN);
                self.touch(conn.slot);
            }
        }
        sent
    }

    /// The next thing that happened. `take_input` false: received bytes stay where they are, and nothing new is read.
    pub fn poll_event(&mut self, take_input: bool, now: Time) -> Option<Event> {
        while let Some(completion) = self.control.pop_front() {
            if let Some(event) = self.take_control(completion, now) {
                return Some(event);
            }
        }
        if !take_input {
            return None;
        }
        loop {
            // Held bytes of a resumed connection come before anything newer of it.
            while let Some(index) = self.changed.pop_front() {
                if let Some(event) = self.settle(index) {
                    return Some(event);
                }
            }
            let completion = self.inbox.pop_front()?;
            if let Some(event) = self.take_received(completion) {
                return Some(event);
            }
        }
    }

    fn take_control(&mut self, completion: Completion, now: Time) -> Option<Event> {
        let Completion { token, more, .. } = completion;
        let conn = ConnId { slot: token.slot, generation: token.generation };
        match token.op {
            Op::Accept => {
                let accepted = self.acceptor.take(&mut self.ring, completion, now);
                accepted.map(|(socket, listener)| Event::Accepted(socket, listener))
            }
            Op::Doorbell => {
                // That it woke us is all there is to it: whoever rang has left something to be found.
                if !more {
                    self.watch_doorbell();
                }
                None
            }
            Op::Writable => {
                let slot = self.slot(conn)?;
                slot.clear(BLOCKED);
                if slot.has(LEAVING) {
                    self.touch(conn.slot);
                    return None;
                }
                Some(Event::Writable(conn))
            }
            Op::Linger => {
                self.linger.handle_ready(&mut self.ring, token);
                None
            }
            Op::Receive | Op::Cancel => None,
        }
    }

    fn take_received(&mut self, completion: Completion) -> Option<Event> {
        let Completion { token, result, more, payload } = completion;
        let conn = ConnId { slot: token.slot, generation: token.generation };
        let lent = match payload {
            Payload::Received(lent) => Some(lent),
            _ => None,
        };
        if self.slot(conn).is_none() {
            // A late word about a connection that is gone.
            lent.into_iter().for_each(|lent| self.ring.recycle(lent));
            return None;
        }
        let slot = &mut self.slots[conn.slot as usize];
        if result > 0 {
            slot.set(FED);
        }
        if !more {
            slot.clear(ARMED | CANCELLING);
            if slot.has(FED) {
                slot.clear(FED);
                slot.set(SATED);
                self.sated.push(conn.slot);
            }
            self.touch(conn.slot);
        }
        if result > 0 {
            let lent = lent?;
            if self.slots[conn.slot as usize].has(PAUSED | HELD | SEALED) {
                return self.take_unusual(conn, lent);
            }
            return Some(Event::Received(conn, Input::Lent(lent)));
        }
        lent.into_iter().for_each(|lent| self.ring.recycle(lent));
        match -result {
            // Ended because we wished it, or for want of a buffer: `settle` looks what is to be done.
            libc::ECANCELED | libc::ENOBUFS | libc::EINTR | libc::EAGAIN => None,
            0 => self.end(conn, CloseCause::Eof),
            _ => self.end(conn, CloseCause::Error),
        }
    }

    /// The peer closed, or the connection failed.
    fn end(&mut self, conn: ConnId, cause: CloseCause) -> Option<Event> {
        let slot = self.slot(conn)?;
        if slot.has(HELD | PAUSED) {
            slot.set(if cause == CloseCause::Eof { ENDED } else { FAILED });
            return None;
        }
        Some(Event::Closed(conn, cause))
    }

    /// If the connection is paused, reports its end once it is read again; so does the shard that it moves to, if it is
    /// on its way. False if it is neither.
    pub fn end_when_resumed(&mut self, conn: ConnId) -> bool {
        let Some(slot) = self.slot(conn).filter(|slot| slot.has(PAUSED | LEAVING)) else { return false };
        slot.set(ENDED);
        true
    }

    /// Reports the end of a connection that has just been adopted, behind what it brought with it.
    pub fn end_adopted(&mut self, conn: ConnId) {
        if let Some(slot) = self.slot(conn) {
            slot.set(ENDED);
            self.touch(conn.slot);
        }
    }

    /// Closes without ado.
    pub fn discard(&mut self, conn: ConnId) {
        if let Some((socket, flags, listener)) = self.remove(conn) {
            self.leave(listener);
            self.ring.close(socket, flags & (ARMED | BLOCKED) != 0);
        }
    }

    /// Bytes of a connection that is paused or has a transport.
    fn take_unusual(&mut self, conn: ConnId, lent: Lent) -> Option<Event> {
        match self.slots[conn.slot as usize].has(PAUSED | HELD) {
            true => self.hold(conn, lent),
            false => Some(Event::Sealed(conn, Input::Lent(lent))),
        }
    }

    /// Copies bytes out that came although the connection is paused.
    fn hold(&mut self, conn: ConnId, lent: Lent) -> Option<Event> {
        self.slots[conn.slot as usize].set(HELD);
        let held = self.held.entry(conn.slot).or_default();
        held.extend_from_slice(self.ring.bytes(&lent));
        let full = held.len() > MAX_HELD;
        self.ring.recycle(lent);
        if full { Some(Event::Closed(conn, CloseCause::Error)) } else { None }
    }

    /// Brings the operations of a slot in line with what they ought to be.
    fn settle(&mut self, index: u32) -> Option<Event> {
        let slot = &mut self.slots[index as usize];
        slot.clear(CHANGED);
        slot.socket.as_ref()?;
        let conn = ConnId { slot: index, generation: slot.generation };
        if slot.has(HELD) && !slot.has(PAUSED) {
            slot.clear(HELD);
            // Once more when these bytes are taken in: they may change what is wished.
            let is_sealed = slot.has(SEALED);
            self.touch(index);
            let held = Input::Held(self.held.remove(&index).unwrap_or_default());
            return Some(if is_sealed { Event::Sealed(conn, held) } else { Event::Received(conn, held) });
        }
        // The end of one that moves is told where it arrives.
        if !slot.has(HELD | PAUSED | LEAVING) && slot.has(ENDED | FAILED) {
            let cause = if slot.has(FAILED) { CloseCause::Error } else { CloseCause::Eof };
            return Some(Event::Closed(conn, cause));
        }
        if slot.has(PAUSED | LEAVING) {
            if slot.has(ARMED) && !slot.has(CANCELLING) {
                slot.set(CANCELLING);
                self.ring.cancel(token(Op::Receive, conn));
            }
            if slot.has(LEAVING) {
                return self.settle_leaving(conn);
            }
        } else if !slot.has(ARMED | SATED) {
            self.arm(index);
        }
        None
    }

    /// Receives, unless the end was seen.
    fn arm(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.socket.is_none() || slot.has(ARMED | PAUSED | LEAVING | ENDED | FAILED) {
            return;
        }
        slot.set(ARMED);
        let conn = ConnId { slot: index, generation: slot.generation };
        let (raw, token) = (slot.raw(), token(Op::Receive, conn));
        match slot.has(ESTABLISHED) {
            true => self.ring.receive(raw, token),
            false => self.ring.receive_once(raw, token),
        }
    }

    /// Receives from those again that were given bytes last time. Whoever found no buffer left comes before them, lest the
    /// same few take all of them every time.
    fn arm_sated(&mut self) {
        let mut sated = std::mem::take(&mut self.sated);
        for index in sated.drain(..) {
            self.slots[index as usize].clear(SATED);
            self.arm(index);
        }
        self.sated = sated;
    }

    fn settle_leaving(&mut self, conn: ConnId) -> Option<Event> {
        let slot = self.slot(conn)?;
        if slot.has(ARMED) {
            return None;
        }
        if slot.has(BLOCKED) {
            self.ring.cancel(token(Op::Writable, conn));
            return None;
        }
        let (socket, _, listener) = self.remove(conn)?;
        Some(Event::GivenUp(conn, socket, listener))
    }

    /// The bytes of an input.
    pub fn bytes<'a>(&'a self, input: &'a Input) -> &'a [u8] {
        match input {
            Input::Lent(lent) => self.ring.bytes(lent),
            Input::Held(held) => held,
        }
    }

    /// The same as something that may be kept until the end of the turn, where that is worth it.
    pub fn lend(&self, input: &Input) -> Option<Bytes> {
        match input {
            Input::Lent(lent) if lent.len() >= LEND_FROM => Some(self.ring.lend(lent)),
            _ => None,
        }
    }

    /// Gives the buffer of an input back.
    pub fn recycle(&mut self, input: Input) {
        if let Input::Lent(lent) = input {
            self.ring.recycle(lent);
        }
    }

    /// Something is left that [`Connections::poll_event`] would report if it took input.
    pub fn has_input(&self) -> bool {
        !self.inbox.is_empty() || !self.changed.is_empty()
    }

    /// Something is left that must be put to the kernel or taken from it before sleeping.
    pub fn is_busy(&self) -> bool {
        !self.control.is_empty() || self.ring.has_backlog()
    }

    /// Does what is due.
    pub fn handle_deadlines(&mut self, now: Time) {
        self.linger.handle_deadlines(&mut self.ring, now);
        self.acceptor.handle_deadlines(&mut self.ring, now);
    }

    /// When [`Connections::handle_deadlines`] is due.
    pub fn next_deadline(&self) -> Time {
        self.linger.next_deadline().min(self.acceptor.next_deadline())
    }

    /// Live connections.
    pub fn len(&self) -> usize {
        self.live
    }

    /// No live connections.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Some closed connection has bytes under way.
    pub fn is_lingering(&self) -> bool {
        !self.linger.is_empty()
    }
}
