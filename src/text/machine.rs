//! The thin line above the hardware: what writing text asks of a CPU, and nothing that decides anything.
//!
//! One method an instruction, or nearly so. [`Hardware`] is the CPU; [`fakes`](crate::fakes) has a simulated one.

use crate::address::TextAddr;
use crate::platform::BaseRegister;
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

    /// Arm ARM D24.2.122.
    MIDR_EL1 [
        /// 0x41 for Arm.
        Implementer OFFSET(24) NUMBITS(8) [],
        /// The n of rnpm.
        Variant OFFSET(20) NUMBITS(4) [],
        /// 0xd03 for Cortex-A53.
        PartNum OFFSET(4) NUMBITS(12) [],
        /// The m of rnpm.
        Revision OFFSET(0) NUMBITS(4) []
    ],

    /// Arm ARM D24.2.60.
    ID_AA64ISAR0_EL1 [
        /// 0b0010 for FEAT_LSE, 0b0011 for FEAT_LSE128.
        Atomic OFFSET(20) NUMBITS(4) []
    ],

    /// Arm ARM D24.2.69.
    ID_AA64PFR1_EL1 [
        /// Not zero for FEAT_BTI.
        BT OFFSET(0) NUMBITS(4) []
    ]
}

/// A CPU, as far as writing text needs it.
///
/// # Safety
///
/// An implementation promises:
///
/// 1. [`load`](Self::load), [`load_alias`](Self::load_alias) and [`store`](Self::store) access just the one word, once, in one
///    access.
/// 2. The maintenance operations and barriers do what their names say, and are not moved by the compiler across each other or
///    across these accesses.
/// 3. Between [`mask_interrupts`](Self::mask_interrupts) and [`restore_interrupts`](Self::restore_interrupts) no IRQ and no FIQ
///    is taken on this CPU, and no memory access is moved out of there.
/// 4. [`cache_type`](Self::cache_type) is true of the CPU that asks.
pub unsafe trait Machine: Sync {
    /// Reads the instruction at `at`, through the executable mapping.
    ///
    /// # Safety
    ///
    /// 1. `at` is a multiple of 4.
    /// 2. It is inside text that is mapped and readable.
    unsafe fn load(&self, at: TextAddr) -> u32;

    /// Reads one instruction through a writable alias.
    ///
    /// # Safety
    ///
    /// 1. `alias` is aligned.
    /// 2. It is mapped as [`Platform::map_alias`](crate::Platform::map_alias) promises, and not unmapped yet.
    unsafe fn load_alias(&self, alias: NonNull<u32>) -> u32;

    /// Writes one instruction through a writable alias, single-copy atomically.
    ///
    /// # Safety
    ///
    /// 1. `alias` is aligned.
    /// 2. It is writable as [`Platform::map_alias`](crate::Platform::map_alias) promises, and not unmapped yet.
    /// 3. Whoever executes the text that it stands for may execute `word` there from now on.
    unsafe fn store(&self, alias: NonNull<u32>, word: u32);

    /// Reads what CTR_EL0 says about the caches, and MIDR_EL1 about errata in cleaning them.
    fn cache_type(&self) -> CacheType;

    /// Whether the CPU has atomic additions (FEAT_LSE; ID_AA64ISAR0_EL1.Atomic); no by default.
    fn has_atomics(&self) -> bool {
        false
    }

    /// Reads one of the system registers that kernels keep a pointer in; 0 by default.
    fn base(&self, register: BaseRegister) -> u64 {
        let _ = register;
        0
    }

    /// Whether the CPU checks landing pads (FEAT_BTI; ID_AA64PFR1_EL1.BT); no by default.
    fn has_landing_pads(&self) -> bool {
        false
    }

    /// Whether this CPU's translation lets it write at `at` now; yes by default.
    fn can_write(&self, at: *const u8) -> bool {
        let _ = at;
        true
    }

    /// DC CVAU: cleans the data cache line that holds `at` to the point of unification.
    ///
    /// # Safety
    ///
    /// 1. `at` is mapped and readable: else the CPU takes a data abort.
    unsafe fn clean_data_line(&self, at: TextAddr);

    /// DC CIVAC: cleans and invalidates the data cache line that holds `at` to the point of coherency, which is at or behind
    /// that of unification.
    ///
    /// # Safety
    ///
    /// 1. As for [`clean_data_line`](Self::clean_data_line).
    unsafe fn clean_and_invalidate_data_line(&self, at: TextAddr);

    /// IC IVAU: invalidates the instruction cache line that holds `at` to the point of unification, on all CPUs.
    ///
    /// # Safety
    ///
    /// 1. As for [`clean_data_line`](Self::clean_data_line).
    unsafe fn invalidate_instruction_line(&self, at: TextAddr);

    /// DSB ISH: waits until every access and maintenance operation before it has completed.
    fn complete(&self);

    /// ISB: this CPU fetches again what comes after.
    fn synchronize(&self);

    /// Masks IRQ and FIQ on this CPU.
    fn mask_interrupts(&self) -> InterruptMask;

    /// Restores the interrupt mask.
    ///
    /// # Safety
    ///
    /// 1. `mask` is what [`mask_interrupts`](Self::mask_interrupts) returned, on this CPU and to this thread of execution.
    /// 2. Masks that were taken after it were restored before, and it was not restored yet.
    unsafe fn restore_interrupts(&self, mask: InterruptMask);
}

/// The machine that the engine runs on: the CPU itself in a kernel, so that each operation is the one instruction in place;
/// any machine on a host.
#[cfg(target_os = "none")]
pub(crate) type Cpu = Hardware;
/// The machine that the engine runs on.
#[cfg(not(target_os = "none"))]
pub(crate) type Cpu = &'static dyn Machine;

/// The machine behind a [`Cpu`].
#[cfg(target_os = "none")]
pub(crate) const fn machine(cpu: &Cpu) -> &impl Machine {
    cpu
}
/// The machine behind a [`Cpu`].
#[cfg(not(target_os = "none"))]
pub(crate) const fn machine(cpu: &Cpu) -> &dyn Machine {
    *cpu
}

/// The DAIF bits before interrupts were masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptMask(u64);

impl InterruptMask {
    /// Makes the mask that a [`Machine`] returns from [`mask_interrupts`](Machine::mask_interrupts).
    ///
    /// # Safety
    ///
    /// 1. `daif` is the running CPU's DAIF before it masked interrupts, or what stands for it on a machine that is not the
    ///    CPU.
    pub const unsafe fn from_daif(daif: u64) -> Self {
        Self(daif)
    }

    /// Returns the value that it was made from.
    pub const fn daif(self) -> u64 {
        self.0
    }
}

/// What cache maintenance a machine needs.
#[derive(Clone, Copy)]
pub struct CacheType {
    ctr: LocalRegisterCopy<u64, CTR_EL0::Register>,
    clean_must_invalidate: bool,
}

impl CacheType {
    /// Takes CTR_EL0's value.
    pub const fn from_ctr(ctr: u64) -> Self {
        Self { ctr: LocalRegisterCopy::new(ctr), clean_must_invalidate: false }
    }

    /// Adds the errata of the CPU with this MIDR_EL1: a Cortex-A53 before r0p3 cleans by DC CIVAC.
    ///
    /// On those a DC CVAU may lose or corrupt the line's data while another CPU accesses it (Arm's errata 819472, 824069,
    /// 826319 and 827319); all of them are avoided by cleaning and invalidating instead.
    #[must_use]
    pub fn on_cpu(self, midr: u64) -> Self {
        let midr = LocalRegisterCopy::<u64, MIDR_EL1::Register>::new(midr);
        let cortex_a53 = midr.read(MIDR_EL1::Implementer) == 0x41 && midr.read(MIDR_EL1::PartNum) == 0xd03;
        let before_r0p3 = midr.read(MIDR_EL1::Variant) == 0 && midr.read(MIDR_EL1::Revision) < 3;
        self.with_clean_errata(cortex_a53 && before_r0p3)
    }

    /// Adds those errata if another CPU has them: they concern data that CPUs share.
    #[must_use]
    pub fn with_clean_errata(self, has: bool) -> Self {
        Self { clean_must_invalidate: self.clean_must_invalidate || has, ..self }
    }

    /// Whether a line must be invalidated with its clean.
    pub fn clean_must_invalidate(self) -> bool {
        self.clean_must_invalidate
    }

    /// Returns the size of the smallest data cache line, in bytes.
    pub fn data_line_bytes(self) -> u64 {
        4 << self.ctr.read(CTR_EL0::DminLine)
    }

    /// Returns the size of the smallest instruction cache line, in bytes.
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
        let clean = if self.clean_must_invalidate { ", CIVAC" } else { "" };
        write!(f, "CacheType({:#x}{clean})", self.ctr.get())
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
        // SAFETY: an aligned load (1) from mapped text (2), as our caller promises.
        unsafe {
            core::arch::asm!("ldr {word:w}, [{at}]", word = out(reg) word, at = in(reg) at.get(),
                options(nostack, preserves_flags, readonly));
        }
        word
    }

    #[inline]
    unsafe fn load_alias(&self, alias: NonNull<u32>) -> u32 {
        let word: u32;
        // SAFETY: an aligned load (1) from a mapped alias (2), as our caller promises.
        unsafe {
            core::arch::asm!("ldr {word:w}, [{alias}]", word = out(reg) word, alias = in(reg) alias.as_ptr(),
                options(nostack, preserves_flags, readonly));
        }
        word
    }

    #[inline]
    unsafe fn store(&self, alias: NonNull<u32>, word: u32) {
        // SAFETY: an aligned store (1) to a writable alias (2), of what may stand there (3), as our caller promises.
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
        let midr: u64;
        // SAFETY: as above.
        unsafe {
            core::arch::asm!("mrs {midr}, midr_el1", midr = out(reg) midr, options(nomem, nostack, preserves_flags));
        }
        CacheType::from_ctr(ctr).on_cpu(midr)
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
    fn base(&self, register: BaseRegister) -> u64 {
        let base: u64;
        macro_rules! read {
            ($register:literal) => {
                // SAFETY: reads a register that holds a pointer. Not `nomem`: it is read in each context anew.
                unsafe {
                    core::arch::asm!(concat!("mrs {base}, ", $register), base = out(reg) base,
                        options(nostack, preserves_flags))
                }
            };
        }
        match register {
            BaseRegister::TpidrEl1 => read!("tpidr_el1"),
            BaseRegister::TpidrEl2 => read!("tpidr_el2"),
            BaseRegister::TpidrEl0 => read!("tpidr_el0"),
            BaseRegister::TpidrroEl0 => read!("tpidrro_el0"),
            BaseRegister::SpEl0 => read!("sp_el0"),
        }
        base
    }

    #[inline]
    fn has_landing_pads(&self) -> bool {
        let features: u64;
        // SAFETY: reads an identification register.
        unsafe {
            core::arch::asm!("mrs {features}, id_aa64pfr1_el1", features = out(reg) features,
                options(nomem, nostack, preserves_flags));
        }
        LocalRegisterCopy::<u64, ID_AA64PFR1_EL1::Register>::new(features).read(ID_AA64PFR1_EL1::BT) != 0
    }

    /// Asks by AT S1E1W, or S1E2W at EL2, and reads PAR_EL1.F (Arm ARM, "Address translation instructions"): stage 1 only, so
    /// that what a hypervisor forbids is not seen. Where the MMU is off, everything can be written.
    fn can_write(&self, at: *const u8) -> bool {
        let level: u64;
        // SAFETY: reads which exception level this is.
        unsafe {
            core::arch::asm!("mrs {level}, currentel", level = out(reg) level, options(nomem, nostack, preserves_flags));
        }
        // A handler may ask for a translation as well, and there is one PAR_EL1.
        let interrupts = self.mask_interrupts();
        let result: u64;
        match level >> 2 & 3 {
            1 => {
                // SAFETY: a translation that fails is a result, not an exception.
                unsafe {
                    core::arch::asm!("at s1e1w, {at}", "isb", "mrs {result}, par_el1", at = in(reg) at,
                        result = lateout(reg) result, options(nostack, preserves_flags));
                }
            }
            2 => {
                // SAFETY: as above; the instruction is there at EL2.
                unsafe {
                    core::arch::asm!("at s1e2w, {at}", "isb", "mrs {result}, par_el1", at = in(reg) at,
                        result = lateout(reg) result, options(nostack, preserves_flags));
                }
            }
            _ => result = 0,
        }
        // SAFETY: 1. just masked. 2. Nothing was masked since.
        unsafe { self.restore_interrupts(interrupts) };
        result & 1 == 0
    }

    #[inline]
    unsafe fn clean_data_line(&self, at: TextAddr) {
        // SAFETY: cleaning a line changes no value in memory; that `at` translates is our caller's promise (1).
        unsafe {
            core::arch::asm!("dc cvau, {at}", at = in(reg) at.get(), options(nostack, preserves_flags));
        }
    }

    #[inline]
    unsafe fn clean_and_invalidate_data_line(&self, at: TextAddr) {
        // SAFETY: as above: what is invalidated was cleaned.
        unsafe {
            core::arch::asm!("dc civac, {at}", at = in(reg) at.get(), options(nostack, preserves_flags));
        }
    }

    #[inline]
    unsafe fn invalidate_instruction_line(&self, at: TextAddr) {
        // SAFETY: an instruction cache holds nothing but copies; that `at` translates is our caller's promise (1).
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
    unsafe fn restore_interrupts(&self, mask: InterruptMask) {
        // SAFETY: the value is the one that DAIF had on this CPU (1), and what needed it masked is over (2).
        unsafe { core::arch::asm!("msr daif, {daif}", daif = in(reg) mask.0, options(nostack, preserves_flags)) };
    }
}

#[cfg(test)]
mod tests {
    use super::{CacheType, InterruptMask};

    #[test]
    fn what_a_mask_was_made_from_is_given_back() {
        // SAFETY: no CPU is given it.
        let mask = unsafe { InterruptMask::from_daif(0x3c0) };
        assert_eq!(mask.daif(), 0x3c0);
    }

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

    #[test]
    fn only_a_cortex_a53_before_r0p3_must_invalidate_with_a_clean() {
        let must = |midr| CacheType::from_ctr(0x8444_c004).on_cpu(midr).clean_must_invalidate();
        assert!([0x410f_d030, 0x410f_d031, 0x410f_d032].into_iter().all(must));
        // r0p3, r0p4, r1p0; a Cortex-A57 r0p0; another implementer's part of the same number.
        assert!(![0x410f_d033, 0x410f_d034, 0x411f_d030, 0x410f_d070, 0x510f_d030].into_iter().any(must));
        // One such CPU is enough.
        let caches = CacheType::from_ctr(0x8444_c004).with_clean_errata(true);
        assert!(caches.on_cpu(0x410f_d080).clean_must_invalidate());
    }
}
