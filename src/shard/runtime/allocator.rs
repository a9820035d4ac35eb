//! Memory that the allocator keeps for reuse.
//!
//! What one shard frees of another one's memory comes back only when its owner looks for it, and mimalloc lets a thread
//! look at pages that were full when it is told to. Only then what a flood leaves behind can go back to the system.
#![allow(unsafe_code)]

/// Gives back what this thread's part of the allocator holds and nobody uses. Looks at every page of this thread, some
/// ten nanoseconds each, so that it is for times in which memory is short.
pub(super) fn give_back() {
    // SAFETY: `mi_collect` has no preconditions. It works on what belongs to the calling thread, and frees only pages in
    // which no block is in use. Where another allocator is the global one (tests of the library) there are none.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
