//! The generic timer's count: the clock of everything that is timed.

/// Returns the virtual count, CNTVCT_EL0, in ticks (Arm ARM D12.1.2, "The virtual counter").
///
/// There is no ISB before it, so a CPU may read it a few instructions early. So of two readings the second may be
/// lower by a tick or so: take a negative difference for 0.
#[cfg(target_arch = "aarch64")]
#[inline]
pub fn ticks() -> u64 {
    let ticks: u64;
    // Not `nomem`: the compiler must not move it across the memory accesses before and behind it.
    // SAFETY: reading the counter has no effect on memory, stack or flags.
    unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nostack, preserves_flags)) };
    ticks
}

/// Returns the ticks of a second, CNTFRQ_EL0, as firmware has set it (Arm ARM D12.1.1, "The system counter").
#[cfg(target_arch = "aarch64")]
pub fn ticks_per_second() -> u64 {
    let frequency: u64;
    // SAFETY: reading the register has no effect on memory, stack or flags.
    unsafe { core::arch::asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nomem, nostack, preserves_flags)) };
    frequency
}

/// Returns 0: a host has no such counter.
#[cfg(not(target_arch = "aarch64"))]
pub const fn ticks() -> u64 {
    0
}
