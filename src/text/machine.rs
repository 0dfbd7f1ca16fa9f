//! The thin line above the hardware: what the text floor asks of a CPU, and nothing that it decides itself.
//!
//! Floor 2. One method an instruction, or nearly so. [`Hardware`] is the CPU; [`fakes`](crate::fakes) has a simulated one.

use crate::address::TextAddr;
#[cfg(target_arch = "aarch64")]
use aarch64_cpu::asm::barrier;
use core::fmt;
use core::ptr::NonNull;
use tock_registers::{LocalRegisterCopy, register_bitfields};

register_bitfields! {u64,
    /// Arm ARM D24.2.34.
    CTR_EL0 [
        /// No instruction cache invalidation is needed.
        DIC OFFSET(29) NUMBITS(1) [],
        /// No data cache clean is needed.
        IDC OFFSET(28) NUMBITS(1) [],
        /// Log2 of the words in the smallest data cache line.
        DminLine OFFSET(16) NUMBITS(4) [],
        /// Log2 of the words in the smallest instruction cache line.
        IminLine OFFSET(0) NUMBITS(4) []
    ],

    /// Arm ARM D24.2.60.
    ID_AA64ISAR0_EL1 [
        /// 0b0010 for FEAT_LSE, 0b0011 for FEAT_LSE128.
        Atomic OFFSET(20) NUMBITS(4) []
    ]
}

/// What the text floor asks of a CPU.
///
/// # Safety
///
/// [`load`](Self::load) and [`store`](Self::store) access just the one word, once, in one access; the maintenance
/// operations do what their names say; [`mask_interrupts`](Self::mask_interrupts) and
/// [`restore_interrupts`](Self::restore_interrupts) order memory accesses around them.
pub unsafe trait Machine: Sync {
    /// The instruction at `at`, through the executable mapping.
    ///
    /// # Safety
    ///
    /// `at` is a multiple of 4 and inside text that is mapped.
    unsafe fn load(&self, at: TextAddr) -> u32;

    /// The instruction at `alias`, a writable alias.
    ///
    /// # Safety
    ///
    /// `alias` is aligned, and mapped as [`Platform::map_alias`](crate::Platform::map_alias) promises.
    unsafe fn load_alias(&self, alias: NonNull<u32>) -> u32;

    /// Writes one instruction through a writable alias, single-copy atomically.
    ///
    /// # Safety
    ///
    /// `alias` is aligned, and writable as [`Platform::map_alias`](crate::Platform::map_alias) promises.
    unsafe fn store(&self, alias: NonNull<u32>, word: u32);

    /// What CTR_EL0 says about the caches.
    fn cache_type(&self) -> CacheType;

    /// Whether there are atomic additions (FEAT_LSE; ID_AA64ISAR0_EL1.Atomic). Without this the answer is no.
    fn has_atomics(&self) -> bool {
        false
    }

    /// DC CVAU: cleans the data cache line that holds `at` to the point of unification.
    fn clean_data_line(&self, at: TextAddr);

    /// IC IVAU: invalidates the instruction cache line that holds `at` to the point of unification, on all CPUs.
    fn invalidate_instruction_line(&self, at: TextAddr);

    /// DSB ISH: waits until every access and maintenance operation before it has completed.
    fn complete(&self);

    /// ISB: this CPU fetches anew what comes after.
    fn synchronize(&self);

    /// Masks IRQ and FIQ on this CPU.
    fn mask_interrupts(&self) -> InterruptMask;

    /// Back to how the interrupts were.
    fn restore_interrupts(&self, mask: InterruptMask);
}

/// The machine that the engine runs on: the CPU itself in a kernel, so that each operation is the one instruction in place;
/// any machine on a host.
#[cfg(target_os = "none")]
pub(crate) type Cpu = Hardware;
/// The machine that the engine runs on.
#[cfg(not(target_os = "none"))]
pub(crate) type Cpu = &'static dyn Machine;

/// The machine behind it.
#[cfg(target_os = "none")]
pub(crate) const fn machine(cpu: &Cpu) -> &impl Machine {
    cpu
}
/// The machine behind it.
#[cfg(not(target_os = "none"))]
pub(crate) const fn machine(cpu: &Cpu) -> &dyn Machine {
    *cpu
}

/// DAIF as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptMask(pub u64);

/// What CTR_EL0 says about cache maintenance.
#[derive(Clone, Copy)]
pub struct CacheType {
    ctr: LocalRegisterCopy<u64, CTR_EL0::Register>,
}

impl CacheType {
    /// Takes the register's value.
    pub const fn from_ctr(ctr: u64) -> Self {
        Self { ctr: LocalRegisterCopy::new(ctr) }
    }

    /// The smallest data cache line, in bytes.
    pub fn data_line_bytes(self) -> u64 {
        4 << self.ctr.read(CTR_EL0::DminLine)
    }

    /// The smallest instruction cache line, in bytes.
    pub fn instruction_line_bytes(self) -> u64 {
        4 << self.ctr.read(CTR_EL0::IminLine)
    }

    /// Whether data must be cleaned to the point of unification at all.
    pub fn needs_clean(self) -> bool {
        !self.ctr.is_set(CTR_EL0::IDC)
    }

    /// Whether instruction caches must be invalidated at all.
    pub fn needs_invalidate(self) -> bool {
        !self.ctr.is_set(CTR_EL0::DIC)
    }
}

impl fmt::Debug for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheType({:#x})", self.ctr.get())
    }
}

/// The CPU that runs this.
#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy, Debug)]
pub struct Hardware;

// SAFETY: each method is the one instruction (or the two) that the trait names. The interrupt masks are not `nomem`, so
// the compiler moves no access across them.
#[cfg(target_arch = "aarch64")]
unsafe impl Machine for Hardware {
    #[inline]
    unsafe fn load(&self, at: TextAddr) -> u32 {
        let word: u32;
        // SAFETY: an aligned load from mapped text, as our caller promises.
        unsafe {
            core::arch::asm!("ldr {word:w}, [{at}]", word = out(reg) word, at = in(reg) at.get(),
                options(nostack, preserves_flags, readonly));
        }
        word
    }

    #[inline]
    unsafe fn load_alias(&self, alias: NonNull<u32>) -> u32 {
        let word: u32;
        // SAFETY: an aligned load from a mapped alias, as our caller promises.
        unsafe {
            core::arch::asm!("ldr {word:w}, [{alias}]", word = out(reg) word, alias = in(reg) alias.as_ptr(),
                options(nostack, preserves_flags, readonly));
        }
        word
    }

    #[inline]
    unsafe fn store(&self, alias: NonNull<u32>, word: u32) {
        // SAFETY: an aligned store to a writable alias, as our caller promises.
        unsafe {
            core::arch::asm!("str {word:w}, [{alias}]", word = in(reg) word, alias = in(reg) alias.as_ptr(),
                options(nostack, preserves_flags));
        }
    }

    #[inline]
    fn cache_type(&self) -> CacheType {
        let ctr: u64;
        // SAFETY: reads an identification register.
        unsafe {
            core::arch::asm!("mrs {ctr}, ctr_el0", ctr = out(reg) ctr, options(nomem, nostack, preserves_flags));
        }
        CacheType::from_ctr(ctr)
    }

    #[inline]
    fn has_atomics(&self) -> bool {
        let features: u64;
        // SAFETY: reads an identification register.
        unsafe {
            core::arch::asm!("mrs {features}, id_aa64isar0_el1", features = out(reg) features,
                options(nomem, nostack, preserves_flags));
        }
        LocalRegisterCopy::<u64, ID_AA64ISAR0_EL1::Register>::new(features).read(ID_AA64ISAR0_EL1::Atomic) >= 2
    }

    #[inline]
    fn clean_data_line(&self, at: TextAddr) {
        // SAFETY: cleaning a line changes no value in memory; `at` was read or written before, so it translates.
        unsafe {
            core::arch::asm!("dc cvau, {at}", at = in(reg) at.get(), options(nostack, preserves_flags));
        }
    }

    #[inline]
    fn invalidate_instruction_line(&self, at: TextAddr) {
        // SAFETY: an instruction cache holds nothing but copies; `at` was read before, so it translates.
        unsafe {
            core::arch::asm!("ic ivau, {at}", at = in(reg) at.get(), options(nostack, preserves_flags));
        }
    }

    #[inline]
    fn complete(&self) {
        barrier::dsb(barrier::ISH);
    }

    #[inline]
    fn synchronize(&self) {
        barrier::isb(barrier::SY);
    }

    #[inline]
    fn mask_interrupts(&self) -> InterruptMask {
        let daif: u64;
        // SAFETY: masking interrupts for a moment is sound anywhere.
        unsafe {
            core::arch::asm!("mrs {daif}, daif", "msr daifset, #3", daif = out(reg) daif,
                options(nostack, preserves_flags));
        }
        InterruptMask(daif)
    }

    #[inline]
    fn restore_interrupts(&self, mask: InterruptMask) {
        // SAFETY: the value is one that DAIF had.
        unsafe { core::arch::asm!("msr daif, {daif}", daif = in(reg) mask.0, options(nostack, preserves_flags)) };
    }
}

#[cfg(test)]
mod tests {
    use super::CacheType;

    #[test]
    fn line_sizes_and_shortcuts_come_from_ctr() {
        // Cortex-A72: 64-byte lines in both caches, neither IDC nor DIC.
        let a72 = CacheType::from_ctr(0x8444_c004);
        assert_eq!((a72.data_line_bytes(), a72.instruction_line_bytes()), (64, 64));
        assert!(a72.needs_clean() && a72.needs_invalidate());
        // Neoverse N1 with both.
        let n1 = CacheType::from_ctr(0xb444_c004);
        assert!(!n1.needs_clean() && !n1.needs_invalidate());
        // Lines of 16 and 128 bytes.
        let odd = CacheType::from_ctr(0x0005_0002);
        assert_eq!((odd.data_line_bytes(), odd.instruction_line_bytes()), (128, 16));
    }
}
