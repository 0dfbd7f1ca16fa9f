//! Walking frame records.
//!
//! Floor 1. With `-Cforce-frame-pointers=yes` (or `-fno-omit-frame-pointer`) each function keeps a frame record on its stack:
//! the caller's x29, then the return address, with x29 pointing at it (AAPCS64 6.4.6). The entry stubs keep two, so that
//! from inside a callback the chain reads: the callback's callers in the engine, the traced function, its caller, and on.
//!
//! The chain is memory that anything may have written over. The walker reads a record only where it lies inside the
//! bounds that it was given, is aligned, and is farther up the stack than the one before, so it ends on any input.

use crate::address::TextAddr;
use core::ops::Range;

/// Return addresses, from the innermost record outwards.
///
/// # Invariants
///
/// `bounds` is readable, by the promise made to [`new`](Self::new); every record that is read lies inside it.
#[derive(Clone, Debug)]
pub struct Frames {
    record: u64,
    bounds: Range<u64>,
}

/// A frame record in memory (AAPCS64 6.4.6).
#[repr(C)]
struct FrameRecord {
    caller: u64,
    return_address: u64,
}

impl Frames {
    /// Walks from the frame record at `record`, inside the stack `bounds`.
    ///
    /// # Safety
    ///
    /// `bounds` is memory that may be read, and stays so while this is used.
    pub const unsafe fn new(record: u64, bounds: Range<u64>) -> Self {
        // INVARIANT: our caller's promise.
        Self { record, bounds }
    }

    /// Walks from the caller's own frame record, inside the stack `bounds`.
    ///
    /// # Safety
    ///
    /// As for [`new`](Self::new).
    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    pub unsafe fn here(bounds: Range<u64>) -> Self {
        let record: u64;
        // SAFETY: reads x29.
        unsafe {
            core::arch::asm!("mov {record}, x29", record = out(reg) record, options(nomem, nostack, preserves_flags));
        }
        // SAFETY: our caller's promise.
        unsafe { Self::new(record, bounds) }
    }
}

impl Iterator for Frames {
    type Item = TextAddr;

    fn next(&mut self) -> Option<TextAddr> {
        const BYTES: u64 = size_of::<FrameRecord>() as u64;
        let fits = self.bounds.start <= self.record && self.record.checked_add(BYTES)? <= self.bounds.end;
        if !fits || !self.record.is_multiple_of(16) {
            return None;
        }
        // SAFETY: an aligned record inside readable bounds, by the type's invariant. Another thread's record may be half
        // written, which gives a wrong address, not an unreadable one; hence volatile.
        let FrameRecord { caller, return_address } =
            unsafe { core::ptr::with_exposed_provenance::<FrameRecord>(self.record as usize).read_volatile() };
        // The outermost record points nowhere; one that points back would never end.
        self.bounds.start = self.record + BYTES;
        self.record = caller;
        // Stripped first: an outermost zero may have been signed like any other.
        let return_address = strip(return_address);
        (return_address != 0).then_some(TextAddr::new(return_address))
    }
}

/// Takes the pointer authentication code off a return address (XPACLRI, a NOP on CPUs without it).
#[cfg(target_arch = "aarch64")]
fn strip(signed: u64) -> u64 {
    let plain: u64;
    // SAFETY: changes x30 only, which is declared.
    unsafe {
        core::arch::asm!("hint #7", inlateout("x30") signed => plain, options(nomem, nostack, preserves_flags));
    }
    plain
}

/// A host's tests have no signed addresses.
#[cfg(not(target_arch = "aarch64"))]
const fn strip(signed: u64) -> u64 {
    signed
}

#[cfg(test)]
mod tests {
    use super::Frames;
    extern crate std;
    use std::vec::Vec;

    /// A stack of 8 words, records at words 0, 2 and 6; `link` says what each points at, as word numbers.
    fn walk(links: [(usize, u64); 3], bounds_words: core::ops::Range<usize>) -> Vec<u64> {
        #[repr(align(16))]
        struct Stack([u64; 8]);
        let mut stack = Stack([0; 8]);
        let base = stack.0.as_ptr().expose_provenance() as u64;
        for ((word, return_address), next) in links.iter().zip([Some(1), Some(2), None]) {
            stack.0[*word] = next.map_or(0, |next: usize| base + links[next].0 as u64 * 8);
            stack.0[*word + 1] = *return_address;
        }
        let bounds = base + bounds_words.start as u64 * 8..base + bounds_words.end as u64 * 8;
        // SAFETY: the bounds lie inside `stack`.
        unsafe { Frames::new(base + links[0].0 as u64 * 8, bounds) }.map(|addr| addr.get()).collect()
    }

    #[test]
    fn walks_to_the_outermost_record() {
        assert_eq!(walk([(0, 10), (2, 20), (6, 30)], 0..8), [10, 20, 30]);
    }

    #[test]
    fn ends_at_the_bounds_and_on_a_chain_that_goes_back() {
        assert_eq!(walk([(0, 10), (2, 20), (6, 30)], 0..7), [10, 20]);
        assert_eq!(walk([(2, 10), (0, 20), (6, 30)], 0..8), [10]);
    }
}
