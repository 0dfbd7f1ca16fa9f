//! What happens at a breakpoint: the handlers' side, which waits for nothing.
//!
//! No state is kept between an instruction's two exceptions: the address of the BRK behind it says which point it belongs to, so
//! a CPU may be interrupted between them, and go on elsewhere.

use super::kprobes::Kprobes;
use super::point::{AFTER, BEFORE, Point};
use super::probe::Kprobe;
use super::regs::{BreakpointRegs, KprobeRegs};
use super::simulate::simulate;
use crate::address::TextAddr;
use crate::context::regs::PtRegs;

/// Whether an exception was a probe's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "another BRK is the kernel's own to handle"]
pub enum Handled {
    /// It was: the kernel goes on with the registers as they are now.
    Yes,
    /// It was not, and nothing was changed.
    No,
}

impl<const POINTS: usize> Kprobes<POINTS> {
    /// Handles a BRK exception, if it is a probe's: what a kernel calls with the registers that it has saved, and the comment of
    /// the BRK (ESR_EL1.ISS, bits 15 to 0), before interrupts are unmasked. It then restores the registers, and returns by ERET to
    /// their PC, with their PSTATE. SP never changes. Where compiled code uses the SIMD registers, the kernel keeps those, too.
    ///
    /// The comments 0x6000 to 0x7fff are used by probes.
    #[inline]
    pub fn handle_brk(&self, regs: &mut PtRegs, comment: u16) -> Handled {
        let number = usize::from(comment.wrapping_sub(BEFORE));
        let pc = TextAddr::new(regs.pc);
        if let Some(point) = self.points.get(number) {
            if point.at() != Some(pc) {
                return Handled::No;
            }
            self.before(point, pc, regs);
            return Handled::Yes;
        }
        let Some(point) = self.points.get(usize::from(comment.wrapping_sub(AFTER))) else { return Handled::No };
        match point.at() {
            Some(at) if pc == point.code_with_after().offset(4) => self.after(point, at, regs),
            Some(at) if pc == point.code_without_after().offset(4) => regs.pc = at.offset(4).get(),
            _ => return Handled::No,
        }
        Handled::Yes
    }

    /// Says that a fault inside a probed instruction that was carried out elsewhere is one at its own address: what a kernel
    /// calls first for each synchronous exception but BRK, with the registers that it has saved. Returns whether it was.
    ///
    /// A kernel that repairs the fault and returns comes to the probe once more.
    pub fn handle_fault(&self, regs: &mut PtRegs) -> bool {
        match self.points.iter().find_map(|point| point.copy_of(TextAddr::new(regs.pc))) {
            Some(original) => {
                regs.pc = original.get();
                true
            }
            None => false,
        }
    }

    /// The place in the text that a PC stands for: itself, or that of the probed instruction which is carried out there. For
    /// reports of what was interrupted.
    pub fn original(&self, pc: TextAddr) -> TextAddr {
        self.points.iter().find_map(|point| point.original(pc)).unwrap_or(pc)
    }

    fn before(&self, point: &Point, at: TextAddr, regs: &mut PtRegs) {
        let called = self.engine.running().and_then(|running| {
            running.with_context(|context| {
                let _inside = context?.enter_probe()?;
                let mut saved = BreakpointRegs { regs, is_elsewhere: false };
                let mut has_after = false;
                for probe in point.probes().filter(|probe| probe.is_enabled()) {
                    let lr = TextAddr::new(saved.regs.regs[30]);
                    probe.call_before(at, lr, KprobeRegs::at_breakpoint(&mut saved));
                    if saved.is_elsewhere {
                        return Some(Called::Elsewhere);
                    }
                    has_after |= probe.has_after();
                }
                Some(if has_after { Called::WithAfter } else { Called::WithoutAfter })
            })
        });
        if called.is_none() {
            point.probes().filter(|probe| probe.is_enabled()).for_each(Kprobe::miss);
        }
        match called {
            Some(Called::Elsewhere) => {}
            _ if let Some((insn, literal)) = point.simulated(at) => {
                let has_landing_pads = self.engine.running().is_some_and(|running| running.has_landing_pads);
                simulate(insn, at, regs, has_landing_pads, literal);
                if called == Some(Called::WithAfter) {
                    self.call_after(point, regs);
                }
            }
            Some(Called::WithAfter) => regs.pc = point.code_with_after().get(),
            Some(Called::WithoutAfter) | None => regs.pc = point.code_without_after().get(),
        }
    }

    fn after(&self, point: &Point, at: TextAddr, regs: &mut PtRegs) {
        regs.pc = at.offset(4).get();
        self.call_after(point, regs);
    }

    fn call_after(&self, point: &Point, regs: &mut PtRegs) {
        let Some(running) = self.engine.running() else { return };
        running.with_context(|context| {
            let Some(_inside) = context.and_then(|context| context.enter_probe()) else { return };
            let pc = TextAddr::new(regs.pc);
            let mut saved = BreakpointRegs { regs, is_elsewhere: false };
            for probe in point.probes().filter(|probe| probe.is_enabled()) {
                let lr = TextAddr::new(saved.regs.regs[30]);
                probe.call_after(pc, lr, KprobeRegs::at_breakpoint(&mut saved));
            }
        });
    }
}

/// What was called before an instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Called {
    WithoutAfter,
    /// Something is to be called after it.
    WithAfter,
    /// A handler has said where execution goes on.
    Elsewhere,
}
