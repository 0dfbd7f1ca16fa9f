//! The heap: talc over the region that linker.ld sets aside.
//!
//! An interrupt handler may allocate, so interrupts are masked while the allocator's own lock is held.

use crate::interrupts::Masked;
use crate::lock::Answer;
use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::mutex::SpinMutex;
use talc::{TalcLock, source::Manual};

struct Heap(TalcLock<SpinMutex<(), Answer>, Manual>);

#[global_allocator]
static HEAP: Heap = Heap(TalcLock::new(Manual));

/// What is allocated, as its owners asked for it: the allocator's own overhead left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The sum of all sizes.
    pub bytes: usize,
    /// How many allocations that is.
    pub allocations: usize,
}

static BYTES: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// What is allocated now; exact while no other CPU allocates.
pub fn usage() -> Usage {
    Usage { bytes: BYTES.load(Ordering::Relaxed), allocations: ALLOCATIONS.load(Ordering::Relaxed) }
}

unsafe extern "C" {
    static mut __heap_start: u8;
    static mut __heap_stop: u8;
}

/// Gives the allocator its memory.
///
/// # Safety
///
/// Called once, before the first allocation.
pub(crate) unsafe fn init() {
    let start = &raw mut __heap_start;
    let size = (&raw mut __heap_stop).addr() - start.addr();
    // SAFETY: linker.ld gives these bytes to nothing else, and our caller calls once.
    let claimed = unsafe { HEAP.0.lock().claim(start, size) };
    assert!(claimed.is_some(), "the heap of {size} bytes is too small for its allocator");
}

// SAFETY: everything is passed on to an allocator that keeps the contract of the trait; masking interrupts adds only that
// it is never entered twice on one CPU, and counting adds nothing.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _masked = Masked::new();
        // SAFETY: our caller keeps the contract of this same method.
        let allocated = unsafe { self.0.alloc(layout) };
        if !allocated.is_null() {
            BYTES.fetch_add(layout.size(), Ordering::Relaxed);
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        allocated
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        let _masked = Masked::new();
        // SAFETY: our caller keeps the contract of this same method.
        unsafe { self.0.dealloc(ptr, layout) };
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        ALLOCATIONS.fetch_sub(1, Ordering::Relaxed);
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let _masked = Masked::new();
        // SAFETY: our caller keeps the contract of this same method.
        let moved = unsafe { self.0.realloc(ptr, layout, new_size) };
        if !moved.is_null() {
            BYTES.fetch_add(new_size, Ordering::Relaxed);
            BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        moved
    }
}
