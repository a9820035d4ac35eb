//! Edge-triggered readiness of many sockets for one thread.
use super::error::BenchError;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Events taken in one wait.
const BATCH: usize = 1024;
/// Nanoseconds in a millisecond.
const MILLISECOND: u32 = 1_000_000;

/// One thread's set of sockets. A socket that is closed leaves the set by itself.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

/// What became of one socket.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The number it was added under.
    pub token: u64,
    /// There may be something to read, an end or an error.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
}

impl Poll {
    /// An empty set.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> Result<Self, BenchError> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)
            .map_err(|e| BenchError::io("creating an epoll set")(e.into()))?;
        Ok(Self { epoll, events: Vec::with_capacity(BATCH) })
    }

    /// Adds a socket for both directions, reported at each change to ready.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&self, socket: impl AsFd, token: u64) -> Result<(), BenchError> {
        self.add_with(socket, token, EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET)
    }

    /// Adds a listening socket: reported for as long as connections wait.
    ///
    /// # Errors
    /// What the system says.
    pub fn add_listener(&self, socket: impl AsFd, token: u64) -> Result<(), BenchError> {
        self.add_with(socket, token, EventFlags::IN)
    }

    fn add_with(&self, socket: impl AsFd, token: u64, flags: EventFlags) -> Result<(), BenchError> {
        epoll::add(&self.epoll, socket, EventData::new_u64(token), flags)
            .map_err(|e| BenchError::io("adding a socket to the epoll set")(e.into()))
    }

    /// Waits until something is ready or the time is up, and appends what is ready.
    ///
    /// # Errors
    /// What the system says; an interrupted wait is an empty one.
    pub fn wait(&mut self, timeout: Duration, ready: &mut Vec<Ready>) -> Result<(), BenchError> {
        if timeout.subsec_nanos().is_multiple_of(MILLISECOND) {
            return self.take(timeout, ready);
        }
        // epoll_wait counts in milliseconds; ppoll on the set itself is exact to the nanosecond.
        self.take(Duration::ZERO, ready)?;
        if ready.is_empty() {
            let timeout = timespec(timeout);
            match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => self.take(Duration::ZERO, ready)?,
                Err(error) => return Err(BenchError::io("waiting for sockets")(error.into())),
            }
        }
        Ok(())
    }

    fn take(&mut self, timeout: Duration, ready: &mut Vec<Ready>) -> Result<(), BenchError> {
        self.events.clear();
        let room = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, room, Some(&timespec(timeout))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(BenchError::io("waiting for sockets")(error.into())),
        }
        ready.extend(self.events.iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            let over = EventFlags::HUP | EventFlags::ERR;
            Ready {
                token: data.u64(),
                readable: flags.intersects(EventFlags::IN | EventFlags::RDHUP | over),
                writable: flags.intersects(EventFlags::OUT | over),
            }
        }));
        Ok(())
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() }
}
