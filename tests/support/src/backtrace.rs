//! Backtraces for reports: fentry's walk by the unwind table, with names from the kernel's own symbol table.
//!
//! As in Linux, a frame of which the walk isn't sure has a `?` before its name. Without an unwind table that is each one after
//! the first, since the walk goes by frame records then.

use crate::percpu;
use crate::unwind::{KernelStacks, table};
use core::arch::asm;
use core::cell::Cell;
use core::fmt;
use fentry::context::unwind::{FoundBy, Frame, Frames, UnwindTable, Unwinder};
use fentry::{FtraceRegs, PtRegs, Symbols, TextAddr};

/// The most frames that a report prints.
const MAX_FRAMES: usize = 32;

/// The place of these registers and its callers, a line each, as a report of a fault has them.
///
/// Reads stacks: to be printed where the stack that the registers are of doesn't run, by whoever handles the exception.
pub(crate) struct Backtrace<'a>(pub(crate) &'a PtRegs);

impl fmt::Display for Backtrace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = table().ok();
        // SAFETY: (1) The kernel's own text is mapped. (2) This handles the exception that has saved the registers, and stacks
        // are never given back.
        write_frames(f, unsafe { Unwinder::new(self.0, tables(&table), &KernelStacks) })
    }
}

/// Prints the callers of this.
#[inline(never)]
pub fn print_callers() {
    let table = table().ok();
    // SAFETY: (1) The kernel's own text is mapped. (2) It is used up before this returns.
    let walk = unsafe { Unwinder::here(tables(&table), &KernelStacks) };
    print!("backtrace:\n{}", written(walk));
}

/// Prints the function whose callsite has called a callback, and its callers.
pub fn print_of_call(regs: &FtraceRegs<'_>) {
    let table = table().ok();
    // SAFETY: (1) The kernel's own text is mapped.
    print!("{}", written(unsafe { Unwinder::of_call(regs, tables(&table), &KernelStacks) }));
}

/// The frames of a walk, to be written once.
fn written(walk: Unwinder<'_>) -> impl fmt::Display {
    let walk = Cell::new(Some(walk));
    fmt::from_fn(move |f| walk.take().map_or(Ok(()), |walk| write_frames(f, walk)))
}

fn tables<'a>(table: &'a Option<UnwindTable<'static>>) -> &'a [UnwindTable<'a>] {
    table.as_ref().map_or(&[], core::slice::from_ref)
}

/// Writes the frames that a walk of this CPU's finds, and why it isn't sure, if it isn't.
fn write_frames(f: &mut impl fmt::Write, walk: Unwinder<'_>) -> fmt::Result {
    let mut walk = match percpu::try_this() {
        // SAFETY:
        // 1. The running thread walks its own stack, or one that it has interrupted.
        // 2. It is the running one.
        // 3. Contexts and shadow stacks of this kernel are never given back, and none is given meanwhile.
        Some(this) => unsafe { walk.with_returns(&this.trace) },
        None => walk,
    };
    // SAFETY: linker.ld puts the two symbols around the section, in memory that nobody can write.
    let symbols = unsafe { Symbols::linked() }.ok();
    for (depth, frame) in walk.by_ref().take(MAX_FRAMES).enumerate() {
        write_frame(f, depth, &frame, symbols)?;
    }
    if walk.next().is_some() {
        writeln!(f, "  ...")?;
    }
    walk.doubt().map_or(Ok(()), |doubt| writeln!(f, "  (not sure: {doubt})"))
}

fn write_frame(f: &mut impl fmt::Write, depth: usize, frame: &Frame, symbols: Option<Symbols<'_>>) -> fmt::Result {
    if frame.found_by == FoundBy::Exception {
        writeln!(f, "  -- interrupted")?;
    }
    let (pc, mark) = (frame.pc.get(), if frame.is_reliable() { "" } else { "? " });
    // Looked up at the call: what follows the call of a function that never returns may belong to somebody else.
    match symbols.and_then(|symbols| symbols.lookup_addr(frame.place.get())) {
        Some(location) => writeln!(f, "  {depth:2}: {pc:#018x} {mark}{location}"),
        None => writeln!(f, "  {depth:2}: {pc:#018x} {mark}"),
    }
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
