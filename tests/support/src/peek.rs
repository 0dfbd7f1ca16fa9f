//! Memory that may not be there, read without a fault.

use crate::interrupts::Masked;
use core::arch::asm;

/// Reads memory that is mapped, and no device's; whether all of it is.
pub fn read(address: u64, bytes: &mut [u8]) -> bool {
    const PAGE: u64 = 4096;
    const RAM: core::ops::Range<u64> = 0x4000_0000..0x8000_0000;
    for (at, byte) in (address..).zip(bytes) {
        let is_new = at == address || at.is_multiple_of(PAGE);
        if is_new && !(RAM.contains(&at) && is_readable(at)) {
            return false;
        }
        // SAFETY: it is mapped as memory that may be read, and this kernel unmaps none of it.
        *byte = unsafe { core::ptr::with_exposed_provenance::<u8>(at as usize).read_volatile() };
    }
    true
}

/// Asks the MMU (Arm ARM C5.5, AT S1E1R; D24.2.149, PAR_EL1).
fn is_readable(address: u64) -> bool {
    let _masked = Masked::new();
    let par: u64;
    // SAFETY: they translate an address, and change nothing but PAR_EL1, which nobody else uses: interrupts are masked.
    unsafe {
        asm!("at s1e1r, {address}", "isb", "mrs {par}, par_el1", address = in(reg) address, par = out(reg) par,
             options(nostack, preserves_flags));
    }
    par & 1 == 0
}
