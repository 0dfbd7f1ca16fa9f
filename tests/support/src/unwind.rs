//! What fentry's unwinder asks of a kernel, answered by this one.

use crate::{percpu, vectors};
use core::ops::Range;
use fentry::TextAddr;
use fentry::context::unwind::{Stacks, UnwindTable, UnwindTableError};

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
