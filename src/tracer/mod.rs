//! Tracers: what users of the engine record, where they record it, and how it gets out.
//!
//! Floor 5. [`ring`] keeps records, one ring for each CPU; [`event`] says what the records of tracers hold; [`dump`] is the
//! stream of bytes in which a kernel hands its rings out, and the reader of it.
//!
//! Times are ticks of the generic timer, as `ticks` reads them.

pub mod dump;
pub mod event;
pub mod ring;

/// The virtual count, CNTVCT_EL0, in ticks: the clock of all records (Arm ARM D12.1.2, "The virtual counter").
///
/// There is no ISB before it. On one CPU it is read between the instructions around it all the same, as an interrupt that
/// comes between them sees it; another CPU may see it read a few instructions early.
#[cfg(target_arch = "aarch64")]
#[inline]
pub fn ticks() -> u64 {
    let ticks: u64;
    // Not `nomem`: the compiler must not move it across the accesses to a ring before and behind it.
    // SAFETY: reading the counter has no effect on memory, stack or flags.
    unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nostack, preserves_flags)) };
    ticks
}
