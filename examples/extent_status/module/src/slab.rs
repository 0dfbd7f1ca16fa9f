//! The slab that nodes come from: a pool of places, each for one node.
//!
//! What is freed is *poisoned* and goes into *quarantine*: its place is not given out again before many others were freed.
//! Whoever looks at a node after it was freed sees the poison then, and not the next node's data. The poison is zeros: a length
//! of 0 is one that no node in use has, and what acts on it goes wrong where it can be seen. With other bytes, or with what the
//! node said last, the bug of the report looks at a length that is not 0, does nothing more, and nobody ever knows.
//!
//! [`try_allocate`], [`allocate`] and [`free`] are functions of their own, so that hooks can be put on them.

use core::cell::UnsafeCell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::Mutex;

use crate::kernel::injectable;

/// The bytes of a place.
pub(crate) const PLACE_BYTES: usize = 48;
/// How many nodes there can be.
const PLACES: usize = 1024;
/// How many places are kept from being given out again.
const QUARANTINE: usize = 128;

type Place = UnsafeCell<[u64; PLACE_BYTES / 8]>;

struct Pool([Place; PLACES]);

// SAFETY: a place is whoever's it was given to, and else the slab's, under its lock.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool([const { UnsafeCell::new([0; PLACE_BYTES / 8]) }; PLACES]);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Free,
    Given,
    Quarantined,
}

struct State {
    uses: [Use; PLACES],
    /// Where the search for a free one begins.
    next: usize,
    /// The places in quarantine, from the oldest on.
    quarantine: [usize; QUARANTINE],
    oldest: usize,
    quarantined: usize,
}

static STATE: Mutex<State> =
    Mutex::new(State { uses: [Use::Free; PLACES], next: 0, quarantine: [0; QUARANTINE], oldest: 0, quarantined: 0 });

/// How often somebody was ready to wait for memory.
static WAITED: AtomicU64 = AtomicU64::new(0);
/// How often something was freed that was not given out.
static WRONG_FREES: AtomicU64 = AtomicU64::new(0);

impl State {
    fn take(&mut self) -> *mut u8 {
        for at in (self.next..PLACES).chain(0..self.next) {
            if self.uses[at] == Use::Free {
                self.uses[at] = Use::Given;
                self.next = (at + 1) % PLACES;
                return POOL.0[at].get().cast();
            }
        }
        null_mut()
    }

    /// Lets the oldest one out, if there is no room for one more.
    fn quarantine(&mut self, at: usize) {
        if self.quarantined == QUARANTINE {
            self.uses[self.quarantine[self.oldest]] = Use::Free;
            self.quarantine[self.oldest] = at;
            self.oldest = (self.oldest + 1) % QUARANTINE;
        } else {
            self.quarantine[(self.oldest + self.quarantined) % QUARANTINE] = at;
            self.quarantined += 1;
        }
        self.uses[at] = Use::Quarantined;
    }
}

/// Memory for a node, where some is at hand; else null.
#[inline(never)]
pub(crate) fn try_allocate(bytes: usize) -> *mut u8 {
    if bytes > PLACE_BYTES { null_mut() } else { STATE.lock().take() }
}

injectable! {
    // SAFETY: null is one of its results: there is no memory.
    unsafe fn try_allocate(bytes: usize) -> *mut u8 { null_mut() }
}

/// Memory for a node, for one who may wait, which is counted. There is none to wait for here: it is null where the pool is used
/// up.
#[inline(never)]
pub(crate) fn allocate(bytes: usize) -> *mut u8 {
    // Without this it does what `try_allocate` does, and is the same function to the compiler: one address, which fails.
    WAITED.fetch_add(1, Ordering::Relaxed);
    if bytes > PLACE_BYTES { null_mut() } else { STATE.lock().take() }
}

/// Takes a node's memory back. What was not given out is counted, and left alone.
#[inline(never)]
pub(crate) fn free(node: *mut u8) {
    let mut state = STATE.lock();
    let offset = node.addr().wrapping_sub(POOL.0.as_ptr().addr());
    let at = offset / size_of::<Place>();
    if !offset.is_multiple_of(size_of::<Place>()) || state.uses.get(at) != Some(&Use::Given) {
        WRONG_FREES.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let place = POOL.0[at].get();
    for word in 0..PLACE_BYTES / 8 {
        // SAFETY: inside the place.
        let word = unsafe { place.cast::<u64>().add(word) };
        // SAFETY: whoever had it has given it back; a write that is seen, also by who still has its address.
        unsafe { word.write_volatile(0) };
    }
    state.quarantine(at);
}

/// How many nodes are given out; how often somebody was ready to wait for one; how often something was freed that was none.
pub(crate) fn usage() -> [u64; 3] {
    let given = STATE.lock().uses.iter().filter(|place| **place == Use::Given).count();
    [given as u64, WAITED.load(Ordering::Relaxed), WRONG_FREES.load(Ordering::Relaxed)]
}
