//! A safe face for one `io_uring`: what is asked of the kernel and what it answers.
//!
//! No operation submitted here carries a pointer into our memory except the registered receive buffers, which live
//! as long as the ring. What a [`Token`] says is only a number to the kernel: a late completion of a socket that is
//! long closed is recognised by its generation and dropped.
#![allow(unsafe_code)]
mod buffers;

use buffers::{Buffers, GROUP};
pub use buffers::{Lent, RECEIVE_MEMORY};
use bytes::Bytes;
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Submissions the kernel is told of in one call; more wait in a queue of ours until the next call.
const SUBMISSIONS: u32 = 1024;
/// Completions the kernel keeps for us before it has to keep them elsewhere (it drops none).
const COMPLETIONS: u32 = 8192;
/// Sets of ring flags that are tried, best first.
const FLAG_SETS: usize = 3;
/// Since this kernel completions of one buffer come in the order in which it was filled; before, a deferred
/// completion could be overtaken, and bytes would be taken for another connection's.
const ORDERED_SHARING: (u32, u32) = (6, 16);

/// What an operation was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Op {
    /// Its completion means nothing.
    Cancel = 0,
    /// A listener accepts.
    Accept = 1,
    /// A connection receives.
    Receive = 2,
    /// A connection's socket has room again.
    Writable = 3,
    /// Another thread rang.
    Doorbell = 4,
    /// A closed connection whose last bytes are under way.
    Linger = 5,
}

/// Names an operation: what for, for whom, and which user of the slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    /// What for.
    pub op: Op,
    /// Index into the table that `op` implies, below [`Token::MAX_SLOT`].
    pub slot: u32,
    /// Tells the users of one slot apart.
    pub generation: u32,
}

impl Token {
    /// Slots that a token can name.
    pub const MAX_SLOT: u32 = 1 << 28;

    fn encode(self) -> u64 {
        assert!(self.slot < Token::MAX_SLOT, "a token names at most 2^28 slots");
        u64::from(self.generation) << 32 | u64::from(self.op as u8) << 28 | u64::from(self.slot)
    }
    fn decode(data: u64) -> Token {
        let op = match (data >> 28) & 0xf {
            1 => Op::Accept,
            2 => Op::Receive,
            3 => Op::Writable,
            4 => Op::Doorbell,
            5 => Op::Linger,
            _ => Op::Cancel,
        };
        Token { op, slot: data as u32 & (Token::MAX_SLOT - 1), generation: (data >> 32) as u32 }
    }
}

/// What an operation brought, beside its result.
#[derive(Debug)]
pub enum Payload {
    /// Nothing.
    None,
    /// Bytes.
    Received(Lent),
    /// A connected socket.
    Accepted(OwnedFd),
}

/// The kernel's answer.
#[derive(Debug)]
pub struct Completion {
    /// Of which operation.
    pub token: Token,
    /// As the system call would have returned it; negative is an error number.
    pub result: i32,
    /// The operation goes on and will complete again.
    pub more: bool,
    /// What came.
    pub payload: Payload,
}

/// How long [`Ring::submit`] waits for a completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Not at all.
    No,
    /// At most so long.
    For(Duration),
    /// Until one comes.
    Forever,
}

/// One `io_uring` with its receive buffers; belongs to the thread that made it.
pub struct Ring {
    // Declared, and so dropped, before the buffers (see the `Drop` of [`Buffers`]).
    ring: IoUring,
    buffers: Buffers,
    /// Submissions that found the queue full.
    backlog: VecDeque<squeue::Entry>,
    /// Sockets that a submission which the kernel has not seen yet may name: closed after the next submit,
    /// because their number may belong to another socket as soon as they are closed.
    closing: Vec<OwnedFd>,
}

impl Ring {
    /// A ring for the calling thread, with as many of the wished flags as the kernel knows.
    pub fn new() -> io::Result<Ring> {
        Ring::with(0, kernel_release().is_some_and(|release| release >= ORDERED_SHARING))
    }

    /// Leaves the first `skip` sets of flags out; `sharing`: lets one buffer serve many receives if the kernel can.
    fn with(skip: usize, sharing: bool) -> io::Result<Ring> {
        let ring = build(skip)?;
        let buffers = Buffers::register(&ring, sharing)?;
        Ok(Ring { ring, buffers, backlog: VecDeque::new(), closing: Vec::new() })
    }

    /// Accepts connections on `listener` until cancelled or failed; every socket is a completion.
    pub fn accept(&mut self, listener: RawFd, token: Token) {
        let entry = opcode::AcceptMulti::new(Fd(listener)).flags(libc::SOCK_CLOEXEC).build();
        self.push(entry.user_data(token.encode()));
    }

    /// Receives once.
    pub fn receive_once(&mut self, socket: RawFd, token: Token) {
        let entry = opcode::Recv::new(Fd(socket), std::ptr::null_mut(), 0).buf_group(GROUP).build();
        self.push(entry.flags(squeue::Flags::BUFFER_SELECT).user_data(token.encode()));
    }

    /// Receives until cancelled, ended, failed, or out of buffers. Not for Unix sockets: where data and the end come
    /// at the same time, kernels since 6.17 take one wake-up for both and report the data only (TCP says at its last
    /// data whether the end is there, so that the kernel goes on).
    pub fn receive(&mut self, socket: RawFd, token: Token) {
        let entry = opcode::RecvMulti::new(Fd(socket), GROUP).build();
        self.push(entry.user_data(token.encode()));
    }

    /// Completes once when one of the poll `events` holds.
    pub fn poll(&mut self, fd: RawFd, events: i16, token: Token) {
        let entry = opcode::PollAdd::new(Fd(fd), events as u16 as u32).build();
        self.push(entry.user_data(token.encode()));
    }

    /// Completes every time `fd` becomes readable anew.
    pub fn poll_always(&mut self, fd: RawFd, token: Token) {
        let entry = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).multi(true).build();
        self.push(entry.user_data(token.encode()));
    }

    /// Ends the operation; it completes with `ECANCELED`, unless it just completed otherwise.
    pub fn cancel(&mut self, token: Token) {
        self.cancel_matching(CancelBuilder::user_data(token.encode()));
    }

    /// Ends every operation on `socket` and closes it.
    pub fn close(&mut self, socket: OwnedFd, in_flight: bool) {
        if in_flight {
            self.cancel_all(&socket);
        }
        self.closing.push(socket);
    }

    /// Ends every operation on `socket`.
    pub fn cancel_all(&mut self, socket: &OwnedFd) {
        self.cancel_matching(CancelBuilder::fd(Fd(socket.as_raw_fd())).all());
    }

    fn cancel_matching(&mut self, what: CancelBuilder) {
        let token = Token { op: Op::Cancel, slot: 0, generation: 0 };
        let entry = opcode::AsyncCancel2::new(what).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(entry.user_data(token.encode()));
    }

    fn push(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() || !self.push_now(&entry) {
            self.backlog.push_back(entry);
        }
    }

    fn push_now(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: no entry built in this file points into memory; the receives take theirs from the registered
        // buffers, which outlive the ring. A wrong file descriptor number is an error code, not a broken promise.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Tells the kernel what was asked since the last call, closes what was given up, and waits.
    /// An error is one that the ring does not survive.
    pub fn submit(&mut self, wait: Wait) -> io::Result<()> {
        self.buffers.provide_released();
        while !self.backlog.is_empty() {
            while let Some(entry) = self.backlog.pop_front() {
                if !self.push_now(&entry) {
                    self.backlog.push_front(entry);
                    break;
                }
            }
            if self.backlog.is_empty() {
                break;
            }
            if !survivable(self.ring.submit())? {
                // The kernel wants its completions taken first; the rest goes with the next call.
                return Ok(());
            }
        }
        if wait != Wait::No && !self.closing.is_empty() {
            // Their peers wait for the end, and it must not wait for the next event.
            survivable(self.ring.submit())?;
            self.close_given_up();
        }
        match wait {
            Wait::No => {
                let queue = self.ring.submission();
                let idle = queue.is_empty() && !queue.taskrun() && !queue.cq_overflow();
                drop(queue);
                if !idle {
                    survivable(self.ring.submit())?;
                }
            }
            Wait::For(duration) => {
                let timespec = Timespec::from(duration);
                let args = SubmitArgs::new().timespec(&timespec);
                survivable(self.ring.submitter().submit_with_args(1, &args))?;
            }
            Wait::Forever => {
                survivable(self.ring.submit_and_wait(1))?;
            }
        }
        self.close_given_up();
        Ok(())
    }

    /// Closes the sockets that no submission names any more.
    fn close_given_up(&mut self) {
        if self.backlog.is_empty() && self.ring.submission().is_empty() {
            self.closing.clear();
        }
    }

    /// The kernel has work for us that it would do if we entered it now.
    pub fn has_news(&mut self) -> bool {
        self.ring.submission().taskrun()
    }

    /// Something has completed that was not taken.
    pub fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Something was asked that the kernel has not been told.
    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Hands at most `budget` completions to `take`.
    pub fn harvest(&mut self, budget: usize, mut take: impl FnMut(Completion)) -> usize {
        let mut taken = 0;
        for entry in self.ring.completion().take(budget) {
            taken += 1;
            let token = Token::decode(entry.user_data());
            let (result, flags) = (entry.result(), entry.flags());
            let payload = match token.op {
                Op::Receive => match cqueue::buffer_select(flags) {
                    Some(id) => Payload::Received(self.buffers.lend(id, result, cqueue::buffer_more(flags))),
                    None => {
                        if result == -libc::ENOBUFS {
                            self.buffers.handle_exhausted();
                        }
                        Payload::None
                    }
                },
                // SAFETY: the result of a successful accept is a new descriptor that nobody else knows.
                Op::Accept if result >= 0 => Payload::Accepted(unsafe { OwnedFd::from_raw_fd(result) }),
                _ => Payload::None,
            };
            take(Completion { token, result, more: cqueue::more(flags), payload });
        }
        taken
    }

    /// The received bytes.
    pub fn bytes(&self, lent: &Lent) -> &[u8] {
        self.buffers.bytes(lent)
    }

    /// The received bytes as something that can be kept. The buffer is received into again when it was given back and
    /// nothing is kept of it any more.
    pub fn lend(&self, lent: &Lent) -> Bytes {
        self.buffers.share(lent)
    }

    /// Gives the buffer of received bytes back.
    pub fn recycle(&mut self, lent: Lent) {
        self.buffers.recycle(lent);
    }
}

/// Sorts the outcome of an `io_uring_enter`: true if it went well, false if it is to be tried again later.
fn survivable(outcome: io::Result<usize>) -> io::Result<bool> {
    match outcome {
        Ok(_) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR) => Ok(true),
            Some(libc::EBUSY | libc::EAGAIN) => Ok(false),
            _ => Err(error),
        },
    }
}

/// The ring with the best flags the kernel takes, without the first `skip` sets.
fn build(skip: usize) -> io::Result<IoUring> {
    let attempts: [fn(&mut io_uring::Builder); FLAG_SETS] = [
        // 6.1: completions are worked out when we ask for them, never in between.
        |builder| {
            builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        },
        // 6.0
        |builder| {
            builder.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag();
        },
        |_| {},
    ];
    let mut refused = None;
    for flags in attempts.into_iter().skip(skip) {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS).setup_submit_all();
        flags(&mut builder);
        match builder.build(SUBMISSIONS) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = Some(error),
            outcome => return outcome,
        }
    }
    Err(refused.unwrap_or_else(|| io::Error::from_raw_os_error(libc::EINVAL)))
}

/// Major and minor number of the running kernel.
fn kernel_release() -> Option<(u32, u32)> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests;
