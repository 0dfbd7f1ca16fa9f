//! Backtraces for reports: fentry's walk along frame records, with names from the kernel's own symbol table.

use crate::percpu;
use core::arch::asm;
use fentry::context::unwind::Frames;
use fentry::{Symbols, TextAddr};

/// The most frames that a report prints.
const MAX_FRAMES: usize = 32;

/// Prints where `pc` is, and the callers found from the frame record at `fp`.
pub fn print_from(pc: u64, fp: u64) {
    let symbols = symbols();
    println!("backtrace:");
    print_frame(0, pc, pc, symbols);
    print_chain(1, fp, symbols);
}

/// Prints the callers found from the frame record at `fp`.
pub fn print_callers(fp: u64) {
    println!("backtrace:");
    print_chain(0, fp, symbols());
}

/// The return addresses found from the frame record at `fp`, on any stack of this kernel; through hooked returns.
pub fn callers(fp: u64) -> impl Iterator<Item = TextAddr> {
    let frames = percpu::stack_around(fp).map(|stack| {
        // SAFETY: a stack of this kernel is mapped, and never given back.
        let frames = unsafe { Frames::new(fp, stack) };
        match percpu::try_this() {
            // SAFETY:
            // 1. The running thread walks its own stack.
            // 2. It is the running one.
            // 3. Contexts and shadow stacks of this kernel are never given back, and none is given meanwhile.
            Some(this) => unsafe { frames.with_returns(&this.trace) },
            None => frames,
        }
    });
    // The end of the chain is a return address of zero, signed where this kernel signs return addresses.
    frames.into_iter().flatten().take_while(|address| address.get() != 0)
}

/// The frame pointer of the caller.
#[inline(always)]
pub fn frame_pointer() -> u64 {
    let fp: u64;
    // SAFETY: reading a register changes nothing.
    unsafe { asm!("mov {}, x29", out(reg) fp, options(nomem, nostack, preserves_flags)) };
    fp
}

fn symbols() -> Option<Symbols<'static>> {
    // SAFETY: linker.ld puts the two symbols around the section, in memory that nobody can write.
    unsafe { Symbols::linked() }.ok()
}

fn print_chain(first: usize, fp: u64, symbols: Option<Symbols<'_>>) {
    for (depth, address) in callers(fp).enumerate() {
        if depth == MAX_FRAMES {
            println!("  ...");
            return;
        }
        // Looked up at the call: what follows the call of a function that never returns may belong to somebody else.
        print_frame(first + depth, address.get(), address.get().wrapping_sub(4), symbols);
    }
}

fn print_frame(depth: usize, pc: u64, looked_up: u64, symbols: Option<Symbols<'_>>) {
    match symbols.and_then(|symbols| symbols.lookup_addr(looked_up)) {
        Some(location) => println!("  {depth:2}: {pc:#018x} {location}"),
        None => println!("  {depth:2}: {pc:#018x}"),
    }
}
