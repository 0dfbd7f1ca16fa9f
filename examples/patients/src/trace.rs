//! Stack traces through modules, by the unwind tables of the kernel and of each module.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use fentry::FtraceRegs;
use fentry::TextRange;
use fentry::context::unwind::{Frame, UnwindTable, Unwinder};
use support::percpu;
use support::unwind::{KernelStacks, table};

use crate::loaded::{function_at, with_list};

/// The most frames that are kept.
const MOST: usize = 24;

/// Who called whom, the innermost first.
#[derive(Clone, Debug)]
pub struct Trace {
    frames: Vec<Frame>,
    is_reliable: bool,
    cpu: usize,
}

impl Trace {
    /// Takes the trace of a call, in the callback that it is given to. Takes the lock of the list of modules.
    pub fn of_call(regs: &FtraceRegs<'_>) -> Self {
        let cpu = percpu::this();
        let (frames, is_reliable) = with_list(|list| {
            let tables: Vec<UnwindTable<'_>> =
                table().ok().into_iter().chain(list.iter().filter_map(|module| module.unwind_table())).collect();
            let veneers: Vec<TextRange> = list.iter().map(|module| module.veneers()).collect();
            // SAFETY: (1) The kernel's text and that of the modules on the list, which is held, is mapped.
            let walk = unsafe { Unwinder::of_call(regs, &tables, &KernelStacks) };
            // SAFETY: (1) They are the modules' own.
            let walk = unsafe { walk.with_veneers(&veneers) };
            // SAFETY: 1. The running thread walks its own stack. 2. It is the running one. 3. Contexts and shadow stacks of
            // this kernel are never given back, and none is given meanwhile.
            let mut walk = unsafe { walk.with_returns(&cpu.trace) };
            let frames: Vec<Frame> = walk.by_ref().take(MOST).collect();
            // To its end.
            walk.by_ref().for_each(drop);
            (frames, walk.is_complete())
        });
        Self { frames, is_reliable, cpu: cpu.index() }
    }

    /// Whether it is sure: each frame is a caller, up to the outermost one.
    pub const fn is_reliable(&self) -> bool {
        self.is_reliable
    }

    /// The functions, the innermost first.
    pub fn functions(&self) -> impl Iterator<Item = String> {
        self.frames.iter().map(|frame| function_at(frame.place.get()))
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_reliable { "each frame is sure" } else { "NOT SURE" };
        writeln!(f, " on CPU {}, {verdict}:", self.cpu)?;
        for (frame, function) in self.frames.iter().zip(self.functions()) {
            writeln!(f, "        {}{function}", if frame.is_reliable() { "" } else { "? " })?;
        }
        Ok(())
    }
}
