//! The ways between shards: one single-producer single-consumer ring for every ordered pair, a doorbell for every
//! shard, and a channel for commands from ordinary threads.
use super::envelope::Weighed;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use rtrb::{Consumer, Producer, RingBuffer};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// Envelopes that all rings into one shard hold together; each ring gets its even share within the next two bounds.
const INBOUND_SLOTS: usize = 8192;
/// Fewest envelopes of one ring. What does not fit waits in the sender's outbox.
const MIN_RING_SLOTS: usize = 64;
/// Most envelopes of one ring.
const MAX_RING_SLOTS: usize = 2048;
/// Bytes in one ring from which on nothing more is put into it. It waits in the sender's outbox.
pub const RING_BYTES: usize = 2 << 20;
/// Envelopes taken from one ring in one turn; more wait for the next.
const DRAIN_AT_ONCE: usize = 256;
/// Commands waiting for one shard; at the bound the sender is told.
const MAX_COMMANDS: usize = 64;

/// What the two ends of a ring tell each other beside what is in it. Flow control only: the ring itself orders the rest.
#[derive(Debug, Default)]
struct Gauge {
    /// Weight of everything that was taken so far.
    taken: AtomicUsize,
    /// The sender sleeps, or is about to, until there is room.
    is_awaited: AtomicBool,
}

/// The end of a ring that takes.
struct Inbound<E> {
    ring: Consumer<E>,
    gauge: Arc<Gauge>,
    taken: usize,
    /// Envelopes that may be taken in this turn.
    due: usize,
}

/// The end of a ring that gives.
struct Outbound<E> {
    ring: Producer<E>,
    gauge: Arc<Gauge>,
    /// Weight of everything that was put into it so far.
    given: usize,
    /// What of that was taken when it was looked at last.
    taken: usize,
}

impl<E> Outbound<E> {
    /// Weights wrap, their difference does not.
    fn holds(&self, taken: usize) -> usize {
        self.given.wrapping_sub(taken)
    }

    /// Whether one more envelope may go in, whatever it weighs.
    fn has_room(&self) -> bool {
        !self.ring.is_full() && self.holds(self.gauge.taken.load(Ordering::Acquire)) < RING_BYTES
    }
}

/// Capacity of each ring in a mesh of `shards`.
fn ring_slots(shards: usize) -> usize {
    (INBOUND_SLOTS / shards.max(1)).clamp(MIN_RING_SLOTS, MAX_RING_SLOTS)
}

/// Wakes one shard. Whoever rings must first have left what is to be found.
///
/// A shard about to sleep says so (`sleeping`), then looks once more whether anything was left for it; whoever leaves
/// something looks afterwards whether the shard sleeps. Between the two steps each side has a sequentially consistent
/// fence, and of two such fences one comes first. If the shard's comes first, the other side sees `sleeping` and
/// rings; if the other's comes first, the shard sees what was left and does not sleep. So no wake is lost. The swap
/// lets only one of several ringers write, and nobody writes while the shard is awake.
///
/// The eventfd is never read: each write makes the multishot poll on it complete anew, and 2^64 writes do not happen.
#[derive(Debug)]
pub struct Doorbell {
    sleeping: AtomicBool,
    eventfd: OwnedFd,
}

impl Doorbell {
    fn new() -> io::Result<Arc<Doorbell>> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(Doorbell { sleeping: AtomicBool::new(false), eventfd }))
    }

    /// Wakes the shard if it sleeps. The caller has passed a sequentially consistent fence since it left something.
    fn ring(&self) {
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            // It cannot fail but for a counter at its maximum, and then it is readable anyway.
            let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
        }
    }
}

/// What a shard's doorbell is polled by; valid as long as a [`Port`] to the shard lives.
impl AsRawFd for Doorbell {
    fn as_raw_fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }
}

/// One shard's end of the mesh. `E` is what shards say to each other, `C` what ordinary threads say to a shard.
pub struct Port<E, C> {
    shard: usize,
    /// By sender; none from ourselves.
    inbound: Vec<Option<Inbound<E>>>,
    /// By receiver; none to ourselves.
    outbound: Vec<Option<Outbound<E>>>,
    doorbells: Vec<Arc<Doorbell>>,
    /// Peers that were given something in this turn.
    given: Vec<usize>,
    /// Peers from which something was taken in this turn.
    relieved: Vec<usize>,
    commands: Receiver<C>,
}

/// An ordinary thread's way to one shard.
pub struct CommandSender<C> {
    commands: Sender<C>,
    doorbell: Arc<Doorbell>,
}

impl<C> CommandSender<C> {
    /// Sends, and waits while `MAX_COMMANDS` wait already: for threads that have nothing better to do. Gives the command
    /// back when the shard has ended.
    pub fn send_patiently(&self, command: C) -> Result<(), C> {
        self.commands.send(command).map_err(|refused| refused.into_inner())?;
        fence(Ordering::SeqCst);
        self.doorbell.ring();
        Ok(())
    }

    /// Sends without waiting; gives the command back when `MAX_COMMANDS` wait already or the shard has ended.
    pub fn send(&self, command: C) -> Result<(), C> {
        match self.commands.try_send(command) {
            Ok(()) => {
                fence(Ordering::SeqCst);
                self.doorbell.ring();
                Ok(())
            }
            Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => Err(command),
        }
    }
}

impl<C> Clone for CommandSender<C> {
    fn clone(&self) -> Self {
        CommandSender { commands: self.commands.clone(), doorbell: self.doorbell.clone() }
    }
}

/// What one shard of a mesh has: its port, and the way to it for ordinary threads.
pub type End<E, C> = (Port<E, C>, CommandSender<C>);

/// A mesh of `shards`, one end for each.
pub fn mesh<E: Send + Weighed, C>(shards: usize) -> io::Result<Vec<End<E, C>>> {
    let doorbells = (0..shards).map(|_| Doorbell::new()).collect::<io::Result<Vec<_>>>()?;
    let mut ends: Vec<End<E, C>> = Vec::with_capacity(shards);
    for shard in 0..shards {
        let (sender, commands) = crossbeam_channel::bounded(MAX_COMMANDS);
        let port = Port {
            shard,
            inbound: (0..shards).map(|_| None).collect(),
            outbound: (0..shards).map(|_| None).collect(),
            doorbells: doorbells.clone(),
            given: Vec::with_capacity(shards),
            relieved: Vec::with_capacity(shards),
            commands,
        };
        ends.push((port, CommandSender { commands: sender, doorbell: doorbells[shard].clone() }));
    }
    for from in 0..shards {
        for to in (0..shards).filter(|&to| to != from) {
            let (producer, consumer) = RingBuffer::new(ring_slots(shards));
            let gauge = Arc::new(Gauge::default());
            let outbound = Outbound { ring: producer, gauge: gauge.clone(), given: 0, taken: 0 };
            ends[from].0.outbound[to] = Some(outbound);
            ends[to].0.inbound[from] = Some(Inbound { ring: consumer, gauge, taken: 0, due: 0 });
        }
    }
    Ok(ends)
}

impl<E: Weighed, C> Port<E, C> {
    /// The other shards.
    pub fn peers(&self) -> impl Iterator<Item = usize> + use<E, C> {
        let shard = self.shard;
        (0..self.outbound.len()).filter(move |&peer| peer != shard)
    }

    /// The file descriptor that becomes readable anew whenever this shard is woken.
    pub fn doorbell(&self) -> RawFd {
        self.doorbells[self.shard].as_raw_fd()
    }

    /// Puts an envelope into the ring to `peer`; gives it back when the ring is full (it then waits in the outbox).
    /// The peer sees it at once if it is awake; [`Port::ring_doorbells`] wakes it if not.
    pub fn push(&mut self, peer: usize, envelope: E) -> Result<(), E> {
        let out = self.outbound[peer].as_mut().expect("a shard does not send to itself");
        if out.holds(out.taken) >= RING_BYTES {
            // The other end writes there: looked at only where it matters.
            out.taken = out.gauge.taken.load(Ordering::Acquire);
            if out.holds(out.taken) >= RING_BYTES {
                return Err(envelope);
            }
        }
        let weight = envelope.weight();
        out.ring.push(envelope).map_err(|rtrb::PushError::Full(envelope)| envelope)?;
        out.given = out.given.wrapping_add(weight);
        if self.given.last() != Some(&peer) {
            self.given.push(peer);
        }
        Ok(())
    }

    /// Fixes which envelopes [`Port::drain`] hands out in this turn: those that are there now. Received bytes that are
    /// taken from the kernel after this call and handled before the drain are those that came before the envelopes
    /// were sent, so a client that acknowledges on one connection and then takes its session over on another finds
    /// its acknowledgements counted.
    pub fn begin_turn(&mut self) {
        for inbound in self.inbound.iter_mut().flatten() {
            inbound.due = inbound.ring.slots().min(DRAIN_AT_ONCE);
        }
    }

    /// Hands the envelopes of `peer` that were there at the begin of the turn (at most `DRAIN_AT_ONCE`) to `take`
    /// until it returns false; true when more are waiting.
    pub fn drain(&mut self, peer: usize, mut take: impl FnMut(E) -> bool) -> bool {
        let inbound = self.inbound[peer].as_mut().expect("a shard does not send to itself");
        let due = std::mem::take(&mut inbound.due);
        let mut popped = 0;
        while popped < due {
            let Ok(envelope) = inbound.ring.pop() else { break };
            popped += 1;
            inbound.taken = inbound.taken.wrapping_add(envelope.weight());
            if !take(envelope) {
                break;
            }
        }
        if popped > 0 {
            inbound.gauge.taken.store(inbound.taken, Ordering::Release);
            self.relieved.push(peer);
        }
        !inbound.ring.is_empty()
    }

    /// Wakes those peers that sleep and were given something since the last call, or room that they wait for.
    pub fn ring_doorbells(&mut self) {
        if self.given.is_empty() && self.relieved.is_empty() {
            return;
        }
        fence(Ordering::SeqCst);
        for peer in self.given.drain(..) {
            self.doorbells[peer].ring();
        }
        for peer in self.relieved.drain(..) {
            let inbound = self.inbound[peer].as_ref().expect("something came from there");
            if inbound.gauge.is_awaited.load(Ordering::Relaxed)
                && inbound.gauge.is_awaited.swap(false, Ordering::Acquire)
            {
                self.doorbells[peer].ring();
            }
        }
    }

    /// The next command from an ordinary thread.
    pub fn poll_command(&mut self) -> Option<C> {
        self.commands.try_recv().ok()
    }

    /// Announces that this shard will sleep; false when it must not because something was left for it meanwhile.
    /// `blocked`: peers whose ring was full when something was to be pushed.
    pub fn fall_asleep(&mut self, blocked: &[usize]) -> bool {
        let sleeping = &self.doorbells[self.shard].sleeping;
        sleeping.store(true, Ordering::Relaxed);
        // Whoever takes such a flag away finds us asleep: it must not be lost on one who only is about to be.
        for &peer in blocked {
            let out = self.outbound[peer].as_ref().expect("a shard does not send to itself");
            out.gauge.is_awaited.store(true, Ordering::Release);
        }
        fence(Ordering::SeqCst);
        let found = self.has_mail(blocked);
        if found {
            sleeping.store(false, Ordering::Relaxed);
        }
        !found
    }

    /// Something was left for this shard, or a peer whose ring was full has room again.
    pub fn has_mail(&self, blocked: &[usize]) -> bool {
        !self.commands.is_empty()
            || self.inbound.iter().flatten().any(|inbound| !inbound.ring.is_empty())
            || blocked.iter().any(|&peer| self.outbound[peer].as_ref().is_some_and(Outbound::has_room))
    }

    /// This shard is awake: nobody needs to ring.
    pub fn wake_up(&mut self) {
        self.doorbells[self.shard].sleeping.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::thread;

    impl Weighed for u64 {
        /// The lower half of the number.
        fn weight(&self) -> usize {
            *self as u32 as usize
        }
    }

    /// A generous limit: nothing here waits for it unless a wake is lost.
    const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

    /// Sleeps as the runtime does, but in `poll`, and reads the eventfd so that the next poll blocks.
    fn sleep(port: &mut Port<u64, u64>, blocked: &[usize]) {
        if port.fall_asleep(blocked) {
            let bell = port.doorbells[port.shard].clone();
            let mut fds = [PollFd::new(&bell.eventfd, PollFlags::IN)];
            assert_eq!(poll(&mut fds, Some(&PATIENCE)).unwrap(), 1, "a wake was lost");
            let _ = rustix::io::read(&bell.eventfd, &mut [0u8; 8]);
        }
        port.wake_up();
    }

    #[test]
    fn rings_shrink_as_shards_grow_in_number() {
        assert_eq!(ring_slots(1), MAX_RING_SLOTS);
        assert_eq!(ring_slots(16), 512);
        assert_eq!(ring_slots(128), MIN_RING_SLOTS);
    }

    #[test]
    fn nobody_writes_to_the_doorbell_of_a_shard_that_is_awake_and_one_write_wakes() {
        let mut ends = mesh::<u64, u64>(2).unwrap();
        let (mut b, _) = ends.pop().unwrap();
        let (mut a, to_a) = ends.pop().unwrap();
        let count = |port: &Port<u64, u64>| {
            let mut bytes = [0; 8];
            match rustix::io::read(&port.doorbells[port.shard].eventfd, &mut bytes) {
                Ok(_) => u64::from_ne_bytes(bytes),
                Err(_) => 0,
            }
        };
        b.push(0, 1).unwrap();
        b.ring_doorbells();
        to_a.send(1).unwrap();
        assert_eq!(count(&a), 0, "an awake shard was rung");
        assert!(!a.fall_asleep(&[]), "something waits");
        a.begin_turn();
        assert!(!a.drain(1, |_| true));
        assert!(!a.fall_asleep(&[]), "a command waits");
        assert_eq!(a.poll_command(), Some(1));
        assert!(a.fall_asleep(&[]));
        b.push(0, 2).unwrap();
        b.push(0, 3).unwrap();
        b.ring_doorbells();
        b.push(0, 4).unwrap();
        b.ring_doorbells();
        to_a.send(2).unwrap();
        assert_eq!(count(&a), 1, "one wake is enough");
    }

    #[test]
    fn what_comes_after_the_begin_of_a_turn_waits_for_the_next() {
        let mut ends = mesh::<u64, u64>(2).unwrap();
        let (mut b, _) = ends.pop().unwrap();
        let (mut a, _) = ends.pop().unwrap();
        b.push(0, 1).unwrap();
        a.begin_turn();
        b.push(0, 2).unwrap();
        let mut taken = Vec::new();
        assert!(a.drain(1, |number| {
            taken.push(number);
            true
        }));
        assert_eq!(taken, [1]);
        a.begin_turn();
        assert!(!a.drain(1, |number| {
            taken.push(number);
            true
        }));
        assert_eq!(taken, [1, 2]);
    }

    #[test]
    fn a_ring_takes_one_envelope_of_any_weight_and_then_none_until_some_are_taken() {
        let mut ends = mesh::<u64, u64>(2).unwrap();
        let (mut b, _) = ends.pop().unwrap();
        let (mut a, _) = ends.pop().unwrap();
        let heavy = 3 * RING_BYTES as u64;
        a.push(1, heavy).unwrap();
        assert_eq!(a.push(1, 1), Err(1));
        assert!(a.fall_asleep(&[1]), "there is no room");
        b.begin_turn();
        assert!(!b.drain(0, |_| true));
        b.ring_doorbells();
        assert!(!a.doorbells[0].sleeping.load(Ordering::Relaxed), "the sender was not woken");
        a.push(1, RING_BYTES as u64 - 1).unwrap();
        a.push(1, 5).unwrap();
        assert_eq!(a.push(1, 1), Err(1));
        b.begin_turn();
        let mut taken = Vec::new();
        b.drain(0, |weight| {
            taken.push(weight);
            false
        });
        assert_eq!(taken, [RING_BYTES as u64 - 1]);
        a.push(1, 1).unwrap();
    }

    #[test]
    fn a_full_channel_of_commands_gives_the_command_back() {
        let (_port, sender) = mesh::<u64, u64>(1).unwrap().pop().unwrap();
        for command in 0..MAX_COMMANDS as u64 {
            sender.send(command).unwrap();
        }
        assert_eq!(sender.send(99), Err(99));
    }

    #[test]
    fn no_wake_is_lost_and_order_is_kept_between_shards_that_sleep_often() {
        const ROUNDS: u64 = 20_000;
        let mut ends = mesh::<u64, u64>(3).unwrap();
        // A shard with little to do sleeps after nearly every envelope; the ring of one pass holds a few at most.
        let workers: Vec<_> = ends
            .drain(..)
            .map(|(mut port, _)| {
                thread::spawn(move || {
                    let peers: Vec<usize> = port.peers().collect();
                    let mut sent = 0;
                    let mut received = [0; 3];
                    while sent < ROUNDS || peers.iter().any(|&peer| received[peer] < ROUNDS) {
                        let mut progress = false;
                        port.begin_turn();
                        for &peer in &peers {
                            let next = &mut received[peer];
                            port.drain(peer, |number| {
                                assert_eq!(number, *next, "order between two shards");
                                *next += 1;
                                progress = true;
                                true
                            });
                        }
                        // In step with the slowest peer, so that everybody waits for everybody all the time.
                        let slowest = peers.iter().map(|&peer| received[peer]).min().unwrap();
                        if sent < ROUNDS && sent <= slowest {
                            for &peer in &peers {
                                port.push(peer, sent).unwrap();
                            }
                            sent += 1;
                            progress = true;
                        }
                        port.ring_doorbells();
                        if !progress {
                            sleep(&mut port, &[]);
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    }

    #[test]
    fn a_sender_that_sleeps_before_a_full_ring_is_woken_when_there_is_room() {
        const COUNT: u64 = 200_000;
        let mut ends = mesh::<u64, u64>(2).unwrap();
        let (mut consumer, _) = ends.pop().unwrap();
        let (mut producer, _) = ends.pop().unwrap();
        let sender = thread::spawn(move || {
            let mut next = 0;
            while next < COUNT {
                let mut blocked = Vec::new();
                while next < COUNT && blocked.is_empty() {
                    match producer.push(1, next) {
                        Ok(()) => next += 1,
                        Err(_) => blocked.push(1),
                    }
                }
                producer.ring_doorbells();
                if !blocked.is_empty() {
                    sleep(&mut producer, &blocked);
                }
            }
        });
        let mut next = 0;
        while next < COUNT {
            consumer.begin_turn();
            let more = consumer.drain(0, |number| {
                assert_eq!(number, next);
                next += 1;
                true
            });
            consumer.ring_doorbells();
            if !more && next < COUNT {
                sleep(&mut consumer, &[]);
            }
        }
        sender.join().unwrap();
    }
}
