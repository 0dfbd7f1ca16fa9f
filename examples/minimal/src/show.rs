//! A fault, and its report: who has called what was interrupted, by the unwind table, with a `?` where that is not sure.
//!
//! A walk needs all registers of what was interrupted, and where they are: `vectors` has saved them.

pub(crate) mod probe;
pub(crate) mod vectors;

use crate::say;
use core::arch::{asm, naked_asm};
use core::ops::Range;
use fentry::context::unwind::{Stacks, UnwindTable, Unwinder};
use fentry::{Symbols, TextAddr};
use qemu_exit::QEMUExit;

/// Of the `brk #1` below (Arm ARM, "ESR_EL1, Exception Syndrome Register").
const ON_PURPOSE: u64 = 0xf200_0001;

unsafe extern "C" {
    static boot_stack: u8;
    static boot_stack_end: u8;
}

/// This kernel's stack.
struct BootStack;

// SAFETY: it is mapped for ever.
unsafe impl Stacks for BootStack {
    fn stack_around(&self, address: u64) -> Option<Range<u64>> {
        let stack = (&raw const boot_stack).addr() as u64..(&raw const boot_stack_end).addr() as u64;
        stack.contains(&address).then_some(stack)
    }

    fn interrupted(&self, pc: TextAddr, sp: u64) -> Option<u64> {
        (pc == vectors::handled()).then_some(sp)
    }
}

pub(crate) fn report(esr: u64) -> ! {
    say(format_args!("an exception, ESR {esr:#x}:"));
    // SAFETY: fentry.ld puts the symbols around the table, which nobody can write.
    let symbols = unsafe { Symbols::linked() }.ok();
    // SAFETY: as above.
    let table = unsafe { UnwindTable::linked() }.ok();
    // SAFETY: the table is of this kernel's text, and the walk ends here.
    let mut walk = unsafe { Unwinder::here(table.as_slice(), &BootStack) };
    for frame in walk.by_ref() {
        let (mark, place) = (if frame.is_reliable() { ' ' } else { '?' }, frame.place.get());
        match symbols {
            Some(symbols) => say(format_args!("  {mark} {}", symbols.display(place))),
            None => say(format_args!("  {mark} {place:#x}")),
        }
    }
    if let Some(doubt) = walk.doubt() {
        say(format_args!("  (not sure: {doubt})"));
    }
    if walk.is_complete() && esr == ON_PURPOSE {
        qemu_exit::AArch64::new().exit_success()
    }
    qemu_exit::AArch64::new().exit_failure()
}

/// Takes the exceptions, and calls `kernel` as the outermost function, of which walks know that nobody has called it.
pub(crate) fn begin(kernel: extern "C" fn() -> !) -> ! {
    vectors::set();
    outermost(kernel)
}

#[unsafe(naked)]
extern "C" fn outermost(kernel: extern "C" fn() -> !) -> ! {
    naked_asm!("mov x29, xzr", "mov x30, xzr", "blr x0")
}

/// A fault on purpose, whose report ends the kernel.
#[inline(never)]
pub(crate) fn stumble() -> ! {
    // SAFETY: its handler does not come back.
    unsafe { asm!("brk #1", options(noreturn)) }
}
