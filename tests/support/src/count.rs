//! Counting executed instructions, by the PMU.
//!
//! QEMU has that event only where it counts instructions itself (`-icount`); the numbers then repeat exactly.

use core::arch::asm;

/// The architected event "instruction architecturally executed".
const INST_RETIRED: u64 = 0x08;

/// Starts counting on this CPU; `None` where this machine can't.
pub fn start() -> Option<Count> {
    let events: u64;
    // SAFETY: reading which events there are changes nothing.
    unsafe { asm!("mrs {}, pmceid0_el0", out(reg) events, options(nomem, nostack, preserves_flags)) };
    if events & (1 << INST_RETIRED) == 0 {
        return None;
    }
    // SAFETY: nothing else uses the PMU of this kernel.
    unsafe {
        asm!(
            "msr pmevtyper0_el0, {event}",
            "msr pmcntenset_el0, {counter0}",
            "mrs {scratch}, pmcr_el0",
            "orr {scratch}, {scratch}, #1", // E: counters run
            "msr pmcr_el0, {scratch}",
            "isb",
            event = in(reg) INST_RETIRED,
            counter0 = in(reg) 1_u64,
            scratch = out(reg) _,
            options(nostack, preserves_flags),
        );
    }
    Some(Count { from: read() })
}

/// A running count.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    from: u32,
}

impl Count {
    /// The instructions that this CPU has executed since [`start`]; wrong beyond 2^32.
    pub fn instructions(self) -> u32 {
        read().wrapping_sub(self.from)
    }
}

#[inline]
fn read() -> u32 {
    let count: u64;
    // SAFETY: reading a counter changes nothing. Not `nomem`: what is counted must not move across.
    unsafe { asm!("isb", "mrs {}, pmevcntr0_el0", out(reg) count, options(nostack, preserves_flags)) };
    count as u32
}
