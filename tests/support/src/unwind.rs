//! What fentry's unwinder asks of a kernel, answered by this one.

use crate::{backtrace, count, percpu, vectors};
use core::hint::black_box;
use core::ops::Range;
use fentry::TextAddr;
use fentry::context::unwind::{Stacks, UnwindTable, UnwindTableError, Unwinder};

/// The stacks of this kernel, and where its vectors save registers.
#[derive(Debug)]
pub struct KernelStacks;

// SAFETY: 1. Every stack of this kernel is mapped, and never given back.
unsafe impl Stacks for KernelStacks {
    fn stack_around(&self, address: u64) -> Option<Range<u64>> {
        percpu::stack_around(address)
    }

    fn interrupted(&self, pc: TextAddr, sp: u64) -> Option<u64> {
        (pc.get() == vectors::handled()).then_some(sp)
    }
}

/// The unwind table that was linked into this kernel.
///
/// # Errors
///
/// There is none, or it is not one.
pub fn table() -> Result<UnwindTable<'static>, UnwindTableError> {
    // SAFETY: linker.ld puts the two symbols around the section, in memory that nobody can write.
    unsafe { UnwindTable::linked() }
}

/// The instructions for each frame of a walk: by the unwind table, and by frame records alone; `None` where this machine counts
/// none.
///
/// # Panics
///
/// This kernel has no table, or a walk does not find every frame.
pub fn frame_costs() -> Option<[u32; 2]> {
    let tables = [table().expect("it is linked with one")];
    let by_table = frame_cost(|| {
        // SAFETY: 1. The kernel's own. 2. It is used up here.
        let mut walk = unsafe { Unwinder::here(&tables, &KernelStacks) };
        let frames = walk.by_ref().count();
        assert!(walk.is_complete(), "{walk:?}");
        frames
    });
    let by_records = frame_cost(|| backtrace::callers(backtrace::frame_pointer()).count());
    Some([by_table?, by_records?])
}

/// The instructions for one of the frames of [`deep`], of a walk that counts them.
fn frame_cost(mut walk: impl FnMut() -> usize) -> Option<u32> {
    /// Frames that are walked over, beyond those around them.
    const DEPTH: u32 = 32;
    let counter = count::start()?;
    let mut took = |depth| {
        let mut walked = (0, 0);
        deep(depth, &mut || {
            let before = counter.instructions();
            walked.0 = walk();
            walked.1 = counter.instructions().wrapping_sub(before);
        });
        walked
    };
    let ((fewer, few), (more, many)) = (took(1), took(1 + DEPTH));
    assert_eq!(more - fewer, DEPTH as usize, "every frame is found");
    Some((many - few) / DEPTH)
}

/// Calls it inside so many calls.
#[inline(never)]
fn deep(depth: u32, walk: &mut dyn FnMut()) -> u32 {
    if depth == 0 {
        walk();
        return 0;
    }
    black_box(deep(depth - 1, walk)) + 1
}
