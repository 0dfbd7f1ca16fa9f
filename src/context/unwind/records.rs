//! Walking frame records.
//!
//! With `-Cforce-frame-pointers=yes` (or `-fno-omit-frame-pointer`) each function keeps a frame record on its stack:
//! the caller's x29, then the return address, with x29 pointing at it (AAPCS64 6.4.6). The entry stubs keep two, so that
//! from inside a callback the chain reads: the callback's callers in the engine, the traced function, its caller, and on.
//!
//! The chain is memory that anything may have written over. The walker reads a record only where it lies inside the
//! bounds that it was given, is aligned, and is farther up the stack than the one before, so it ends on any input.

use crate::address::TextAddr;
use crate::context::TraceContext;
use crate::context::shadow::{FrameRef, return_stub};
use core::ops::Range;

/// Return addresses, from the innermost record outwards.
///
/// # Invariants
///
/// `bounds` is readable, by the promise made to [`new`](Self::new); every record that is read lies inside it.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    record: u64,
    bounds: Range<u64>,
    hooked: Option<Hooked<'a>>,
}

/// A frame record in memory (AAPCS64 6.4.6).
#[repr(C)]
struct FrameRecord {
    caller: u64,
    return_address: u64,
}

impl<'a> Frames<'a> {
    /// Walks from the frame record at `record`, inside the stack `bounds`.
    ///
    /// # Safety
    ///
    /// 1. `bounds` is memory that may be read, and stays so while this is used.
    pub const unsafe fn new(record: u64, bounds: Range<u64>) -> Self {
        // INVARIANT: our caller's promise.
        Self { record, bounds, hooked: None }
    }

    /// Shows the real return addresses of calls whose return is hooked in this context.
    ///
    /// # Safety
    ///
    /// 1. The context is that of the thread that is walked.
    /// 2. That thread is the running one, or it does not run while this is used.
    /// 3. The context and its shadow stack live, and no other stack is given to it, for as long as this is used.
    #[must_use]
    pub unsafe fn with_returns(self, context: &'a TraceContext) -> Self {
        Self { hooked: Some(Hooked::of(context, return_stub())), ..self }
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
        // SAFETY: reading x29 has no effect on memory, stack or flags.
        unsafe {
            core::arch::asm!("mov {record}, x29", record = out(reg) record, options(nomem, nostack, preserves_flags));
        }
        // SAFETY: 1. Our caller's promise.
        unsafe { Self::new(record, bounds) }
    }
}

impl Iterator for Frames<'_> {
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
        // Stripped first: an outermost zero may have been signed like any other.
        let mut return_address = strip(return_address);
        if let Some(hooked) = &mut self.hooked {
            return_address = hooked.original(return_address, self.record, self.bounds.end);
        }
        self.record = caller;
        (return_address != 0).then_some(TextAddr::new(return_address))
    }
}

/// The hooked calls that a walk has not come to yet.
#[derive(Clone, Debug)]
pub(super) struct Hooked<'a> {
    context: &'a TraceContext,
    /// The address of the last frame that it came to. Not how many it is past: whoever walks may be hooked itself.
    last: usize,
    stub: u64,
}

impl<'a> Hooked<'a> {
    pub(super) const fn of(context: &'a TraceContext, stub: TextAddr) -> Self {
        Self { context, last: usize::MAX, stub: stub.get() }
    }

    /// Returns where the function really returns that was called, or returns, with this SP.
    pub(super) fn of_sp(&self, sp: u64) -> Option<u64> {
        // Where several hooks nest at one function, all but the outermost return to the stub. What returns nowhere is in the
        // making.
        let is_it = |frame: &FrameRef<'_>| frame.sp() == sp && ![0, self.stub].contains(&frame.return_address());
        self.context.calls.iter().find(is_it).map(|frame| frame.return_address())
    }

    /// The return stub.
    pub(super) const fn stub(&self) -> u64 {
        self.stub
    }

    /// Returns where the function whose frame record is at `record`, on the stack that ends at `end`, really returns.
    pub(super) fn original(&mut self, address: u64, record: u64, end: u64) -> u64 {
        if address != self.stub {
            return address;
        }
        // The call was made with an SP above its record; those with a lower one are further in, and those beyond the end are
        // an interrupt's on a stack of its own. Where several hooks nest at one function, all but the outermost return to
        // the stub. What returns nowhere is in the making.
        let on_the_stack = record + 1..=end;
        let place = |frame: &FrameRef<'_>| frame.as_ptr().addr();
        let mut frames = self.context.calls.iter().filter(|frame| place(frame) < self.last);
        let is_it = |frame: &FrameRef<'_>| {
            on_the_stack.contains(&frame.sp()) && ![0, self.stub].contains(&frame.return_address())
        };
        let Some(frame) = frames.find(is_it) else { return address };
        self.last = place(&frame);
        frame.return_address()
    }
}

/// Takes the pointer authentication code off a return address (XPACLRI, a NOP on CPUs without it).
#[cfg(target_arch = "aarch64")]
pub(crate) fn strip(signed: u64) -> u64 {
    let plain: u64;
    // SAFETY: changes x30 only, which is declared.
    unsafe {
        core::arch::asm!("hint #7", inlateout("x30") signed => plain, options(nomem, nostack, preserves_flags));
    }
    plain
}

/// A host's tests have no signed addresses.
#[cfg(not(target_arch = "aarch64"))]
pub(crate) const fn strip(signed: u64) -> u64 {
    signed
}

#[cfg(test)]
mod tests {
    use super::{Frames, Hooked};
    use crate::address::TextAddr;
    use crate::context::TraceContext;
    use crate::context::shadow::ShadowStack;
    extern crate std;
    use std::vec::Vec;

    /// A stack of 8 words, records at words 0, 2 and 6; `link` says what each points at, as word numbers.
    fn walk(links: [(usize, u64); 3], bounds_words: core::ops::Range<usize>) -> Vec<u64> {
        #[repr(align(16))]
        struct Stack([u64; 8]);
        let mut stack = Stack([0; 8]);
        let base = stack.0.as_ptr().addr() as u64;
        for ((word, return_address), next) in links.iter().zip([Some(1), Some(2), None]) {
            stack.0[*word] = next.map_or(0, |next: usize| base + links[next].0 as u64 * 8);
            stack.0[*word + 1] = *return_address;
        }
        // Once it is filled: what was exposed before would be gone with the first write.
        stack.0.as_ptr().expose_provenance();
        let bounds = base + bounds_words.start as u64 * 8..base + bounds_words.end as u64 * 8;
        // SAFETY: the bounds lie inside `stack`.
        unsafe { Frames::new(base + links[0].0 as u64 * 8, bounds) }.map(|addr| addr.get()).collect()
    }

    #[test]
    fn walks_to_the_outermost_record() {
        assert_eq!(walk([(0, 10), (2, 20), (6, 30)], 0..8), [10, 20, 30]);
    }

    #[test]
    fn the_return_stub_is_replaced_by_where_the_call_really_returns() {
        const STUB: u64 = 0x7000;
        // Outside to inside: one call, two hooks at one function, one call, one that it makes with its record on top of the
        // stack, one on another stack.
        let frames = [(30, 0x300), (20, 0x200), (STUB, 0x200), (10, 0x100), (60, 0xf0), (40, 0x9000)];
        let stack = ShadowStack::<8>::new();
        let context = TraceContext::new();
        // SAFETY: it is this context's, and outlives it here; nothing returns.
        unsafe { context.set_shadow_stack(&stack) };
        context.calls.push_all(&frames);
        let mut hooked = Hooked::of(&context, TextAddr::new(STUB));
        let walked = [(STUB, 0xf0), (5, 0x180), (STUB, 0x1f0), (STUB, 0x2f0), (STUB, 0x3f0)];
        let originals = walked.map(|(address, record)| {
            // Who walks is hooked as well, at each step with another depth.
            let own = [(50, 0x40), (50, 0x30), (50, 0x20)];
            context.calls.push_all(&own[..(record % 3) as usize]);
            let original = hooked.original(address, record, 0x1000);
            while context.depth() > frames.len() {
                context.calls.give_back(context.calls.iter().next().unwrap());
            }
            original
        });
        assert_eq!(originals, [10, 5, 20, 30, STUB]);
    }

    #[test]
    fn ends_at_the_bounds_and_on_a_chain_that_goes_back() {
        assert_eq!(walk([(0, 10), (2, 20), (6, 30)], 0..7), [10, 20]);
        assert_eq!(walk([(2, 10), (0, 20), (6, 30)], 0..8), [10]);
    }
}
