//! The receive buffers of a ring: memory that the kernel fills, and that is read where it lies.
#![allow(unsafe_code)]
use bytes::Bytes;
use io_uring::IoUring;
use io_uring::types::{BufRingEntry, IOU_PBUF_RING_INC};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// Memory of one ring's receive buffers, bytes. Touched only as far as the load needs it.
pub const RECEIVE_MEMORY: usize = 4 << 20;
/// One receive buffer, where the kernel fills a buffer piece by piece (many receives share it).
const SHARED_BUFFER: usize = 64 << 10;
/// One receive buffer, where every receive takes a whole one.
const WHOLE_BUFFER: usize = 4 << 10;
/// The share of the buffers that is in circulation at first: as much as a turn takes in. The same share is added when they
/// ran out and many had a little to say.
const FIRST_SHARE: usize = 16;
/// Mean bytes of a piece from which on few senders have filled the buffers. What they have to say can as well wait in the
/// kernel: more buffers would only be cold ones.
const LARGE_PIECE: usize = 8 << 10;
/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;

/// Received bytes, still in the ring's buffer: read with [`super::Ring::bytes`], given back with [`super::Ring::recycle`].
/// One that is dropped instead costs the ring that buffer.
#[derive(Debug)]
pub struct Lent {
    buffer: u16,
    offset: u32,
    len: u32,
}

impl Lent {
    /// Bytes received.
    pub fn len(&self) -> usize {
        self.len as usize
    }
    /// Nothing was received.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// One receive buffer as we know it.
#[derive(Default)]
struct BufferState {
    /// Bytes the kernel filled so far.
    filled: u32,
    /// Pieces of it that are out.
    lent: u32,
    /// The kernel is done with it.
    finished: bool,
    /// Pieces of it that are kept though they were given back, or may be.
    kept: Arc<AtomicU32>,
}

/// The memory of the receive buffers, one after the other, page-aligned.
struct Memory(NonNull<u8>);

// SAFETY: it is owned like a box; who reads or writes which part of it is for those who have it to keep.
unsafe impl Send for Memory {}
// SAFETY: likewise.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was allocated with exactly this layout, and this was the last to know it.
        unsafe { dealloc(self.0.as_ptr(), memory_layout()) };
    }
}

/// Received bytes that are kept.
struct Kept {
    memory: Arc<Memory>,
    start: usize,
    len: usize,
    /// How many of these there are of its buffer.
    count: Arc<AtomicU32>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: as in [`Buffers::bytes`]; the buffer is not provided anew while `count` says that this is kept, and
        // the memory lives as long as this.
        unsafe { std::slice::from_raw_parts(self.memory.0.as_ptr().add(self.start), self.len) }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Release);
    }
}

/// The receive buffers, and the ring in which the kernel finds them.
pub(super) struct Buffers {
    /// What the kernel reads: a page-aligned array of `states.len()` entries.
    entries: NonNull<BufRingEntry>,
    memory: Arc<Memory>,
    size: usize,
    tail: u16,
    /// Buffers in circulation; the others have never been lent.
    circulating: usize,
    states: Vec<BufferState>,
    /// Buffers that were given back, and of which something is kept.
    released: Vec<u16>,
    /// Pieces since they ran out last, and their bytes.
    pieces: usize,
    piece_bytes: usize,
}

impl Buffers {
    /// Allocates, registers with `ring`, and lends the first share. `sharing`: let one buffer serve many receives.
    pub(super) fn register(ring: &IoUring, sharing: bool) -> io::Result<Buffers> {
        if sharing {
            match Buffers::register_sized(ring, SHARED_BUFFER, IOU_PBUF_RING_INC as u16) {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                outcome => return outcome,
            }
        }
        Buffers::register_sized(ring, WHOLE_BUFFER, 0)
    }

    fn register_sized(ring: &IoUring, size: usize, flags: u16) -> io::Result<Buffers> {
        let count = RECEIVE_MEMORY / size;
        let mut buffers = Buffers {
            entries: allocate(entries_layout(count)).cast(),
            memory: Arc::new(Memory(allocate(memory_layout()))),
            size,
            tail: 0,
            circulating: 0,
            states: (0..count).map(|_| BufferState::default()).collect(),
            released: Vec::new(),
            pieces: 0,
            piece_bytes: 0,
        };
        // SAFETY: the entries are page-aligned, `count` of them, and are freed only after the ring is gone.
        unsafe {
            let address = buffers.entries.as_ptr() as u64;
            ring.submitter().register_buf_ring_with_flags(address, count as u16, GROUP, flags)?;
        }
        buffers.grow();
        Ok(buffers)
    }

    /// The kernel found none.
    pub(super) fn handle_exhausted(&mut self) {
        if self.piece_bytes < self.pieces * LARGE_PIECE {
            self.grow();
        }
        (self.pieces, self.piece_bytes) = (0, 0);
    }

    /// Puts another share of the buffers into circulation, if there is one left.
    fn grow(&mut self) {
        let until = (self.circulating + self.states.len() / FIRST_SHARE).min(self.states.len());
        for id in self.circulating..until {
            self.provide(id as u16);
        }
        self.circulating = until;
    }

    /// Gives buffer `id` to the kernel.
    fn provide(&mut self, id: u16) {
        let state = &mut self.states[id as usize];
        (state.filled, state.lent, state.finished) = (0, 0, false);
        let index = self.tail as usize & (self.states.len() - 1);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `index` is within the array, the address within the buffers. The kernel does not read this entry
        // before the tail says so: there are as many entries as buffers, and this buffer is ours.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(index);
            entry.set_addr(self.memory.0.as_ptr().add(id as usize * self.size) as u64);
            entry.set_len(self.size as u32);
            entry.set_bid(id);
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    /// The kernel put `result` bytes into buffer `id`; `more`: it will go on behind them.
    pub(super) fn lend(&mut self, id: u16, result: i32, more: bool) -> Lent {
        let state = &mut self.states[id as usize];
        let len = result.max(0) as u32;
        let offset = state.filled;
        state.filled += len;
        assert!(state.filled as usize <= self.size, "the kernel filled a buffer beyond its end");
        state.lent += 1;
        state.finished = !more;
        self.pieces += 1;
        self.piece_bytes += len as usize;
        Lent { buffer: id, offset, len }
    }

    pub(super) fn bytes(&self, lent: &Lent) -> &[u8] {
        let start = lent.buffer as usize * self.size + lent.offset as usize;
        // SAFETY: the range lies within one buffer (asserted when it was lent) and was written by the kernel before
        // the completion that made `lent`; the kernel writes there again only after the buffer was provided anew,
        // which needs `lent` back. The memory was zeroed at the start, so all of it is initialised.
        unsafe { std::slice::from_raw_parts(self.memory.0.as_ptr().add(start), lent.len as usize) }
    }

    pub(super) fn recycle(&mut self, lent: Lent) {
        let state = &mut self.states[lent.buffer as usize];
        state.lent -= 1;
        if state.lent == 0 && state.finished {
            match state.kept.load(Ordering::Acquire) {
                0 => self.provide(lent.buffer),
                _ => self.released.push(lent.buffer),
            }
        }
    }

    pub(super) fn share(&self, lent: &Lent) -> Bytes {
        let count = &self.states[lent.buffer as usize].kept;
        count.fetch_add(1, Ordering::Relaxed);
        Bytes::from_owner(Kept {
            memory: self.memory.clone(),
            start: lent.buffer as usize * self.size + lent.offset as usize,
            len: lent.len(),
            count: count.clone(),
        })
    }

    /// Gives buffers to the kernel of which nothing is kept any more.
    pub(super) fn provide_released(&mut self) {
        let mut at = 0;
        while at < self.released.len() {
            let id = self.released[at];
            if self.states[id as usize].kept.load(Ordering::Acquire) == 0 {
                self.released.swap_remove(at);
                self.provide(id);
            } else {
                at += 1;
            }
        }
    }
}

impl Drop for Buffers {
    /// Runs after the ring was closed. Receives run in the thread that owns the ring, when it enters the kernel:
    /// it is here instead, so none is copying into this memory, and a closed ring starts none.
    fn drop(&mut self) {
        // SAFETY: it was allocated with exactly this layout and nothing refers to it any more.
        unsafe { dealloc(self.entries.as_ptr().cast(), entries_layout(self.states.len())) };
    }
}

/// Panics only if the constants of this file contradict each other.
fn entries_layout(count: usize) -> Layout {
    Layout::from_size_align(count * size_of::<BufRingEntry>(), 4096).expect("a layout of constants")
}

/// Panics only if the constants of this file contradict each other.
fn memory_layout() -> Layout {
    Layout::from_size_align(RECEIVE_MEMORY, 4096).expect("a layout of constants")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layout's size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
