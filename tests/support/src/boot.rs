//! From a CPU's first instruction to its first line of this kernel's Rust.
//!
//! ```text
//!   boot CPU:   entry (aarch64-rt: MMU on, FP on, .bss zeroed, boot stack) -> start -> boot_cpu -> kernel_main
//!   the others: secondary_cpu (by PSCI)                                                         -> smp::secondary_main
//! ```
//!
//! The first page tables are constants: 1 GiB of devices, 1 GiB of RAM, all of it writable and executable. They are in
//! use until [`memory`](crate::memory) has made the real ones.
//!
//! Pointer authentication is switched on here, in assembly, because a function that signed its return address (or
//! didn't) before that cannot return after it.

use crate::percpu::{PerCpu, SHADOW_OFFSET, STACKS};
use aarch64_paging::descriptor::El1Attributes;
use aarch64_rt::{InitialPagetable, initial_pagetable};
use core::arch::naked_asm;
use core::mem::offset_of;

/// Not global and with address space 0, so that no translation outlives the switch to the real tables, which have 1.
const DEVICE: El1Attributes = El1Attributes::VALID
    .union(El1Attributes::ATTRIBUTE_INDEX_0)
    .union(El1Attributes::ACCESSED)
    .union(El1Attributes::NON_GLOBAL)
    .union(El1Attributes::PXN)
    .union(El1Attributes::UXN);
const RAM: El1Attributes = El1Attributes::VALID
    .union(El1Attributes::ATTRIBUTE_INDEX_1)
    .union(El1Attributes::INNER_SHAREABLE)
    .union(El1Attributes::ACCESSED)
    .union(El1Attributes::NON_GLOBAL);

initial_pagetable!({
    let mut gibibytes = [0; 512];
    gibibytes[0] = DEVICE.bits();
    gibibytes[1] = RAM.bits() | 0x4000_0000;
    InitialPagetable(gibibytes)
});

aarch64_rt::entry!(start, 64);

fn start(_: u64, _: u64, _: u64, _: u64) -> ! {
    // SAFETY: the boot CPU comes here once, from aarch64-rt's entry point.
    unsafe { boot_cpu() }
}

/// Gives the boot CPU its last settings and the stack an end that a walk recognises.
///
/// # Safety
///
/// Called once, by the boot CPU, on its boot stack.
#[unsafe(naked)]
unsafe extern "C" fn boot_cpu() -> ! {
    naked_asm!(
        "bl {settings}",
        "adrp x18, {stacks}",
        "add x18, x18, #{SHADOW}, lsl #12", // the shadow call stack
        "mov x29, xzr", // the end of the chain of frame records
        "mov x30, xzr",
        "b {main}",
        settings = sym settings,
        stacks = sym STACKS,
        SHADOW = const SHADOW_OFFSET >> 12,
        main = sym kernel_main,
    )
}

/// Where PSCI starts the other CPUs: MMU off, x0 = the physical address of the CPU's [`PerCpu`], which is the virtual one.
///
/// # Safety
///
/// Only as the entry point of CPU_ON, with a block that no other CPU has.
#[unsafe(naked)]
#[unsafe(link_section = ".init.secondary")]
pub(crate) unsafe extern "C" fn secondary_cpu(block: *const PerCpu) -> ! {
    naked_asm!(
        "bl enable_mmu", // of aarch64-rt, with the first page tables; changes x8-x11
        "mrs x9, cpacr_el1",
        "orr x9, x9, #(3 << 20)", // no trap of FP and SIMD
        "msr cpacr_el1, x9",
        "isb",
        "bl {settings}",
        "ldr x9, [x0, #{STACK_TOP}]",
        "mov sp, x9",
        "ldr x18, [x0, #{SHADOW}]",
        "mov x29, xzr",
        "mov x30, xzr",
        "b {main}",
        settings = sym settings,
        main = sym crate::smp::secondary_main,
        STACK_TOP = const offset_of!(PerCpu, stack_top),
        SHADOW = const offset_of!(PerCpu, shadow_start),
    )
}

/// What every CPU needs before its first function of Rust: no per-CPU block yet, and pointer authentication on where the
/// CPU has it. Changes x9 and x10 only.
///
/// # Safety
///
/// Only from assembly, before anything that must return has signed its return address.
#[unsafe(naked)]
#[unsafe(link_section = ".init.secondary")]
unsafe extern "C" fn settings() {
    naked_asm!(
        "msr tpidr_el1, xzr",
        "mrs x9, id_aa64isar1_el1",
        "tst x9, #0xff0", // APA, API: an algorithm for addresses
        "b.ne 1f",
        "mrs x9, s3_0_c0_c6_2", // ID_AA64ISAR2_EL1
        "tst x9, #0xf000",      // APA3
        "b.eq 2f",
        // Any key does: this kernel has no secrets, and the same one on all CPUs makes runs repeat.
        "1: mov x9, #0x5a5a",
        "movk x9, #0xc3d2, lsl #16",
        "movk x9, #0x9e37, lsl #32",
        "movk x9, #0x79b9, lsl #48",
        "msr s3_0_c2_c1_0, x9", // APIAKeyLo_EL1
        "msr s3_0_c2_c1_2, x9", // APIBKeyLo_EL1
        "mvn x9, x9",
        "msr s3_0_c2_c1_1, x9", // APIAKeyHi_EL1
        "msr s3_0_c2_c1_3, x9", // APIBKeyHi_EL1
        "mrs x9, sctlr_el1",
        "orr x9, x9, #0xc0000000", // EnIA, EnIB
        "msr sctlr_el1, x9",
        "isb",
        "2: ret",
    )
}

/// The boot CPU in Rust: everything up, then the kernel's own main function.
extern "C" fn kernel_main() -> ! {
    unsafe extern "Rust" {
        /// The main function that `boot_tests!` or `kernel!` made.
        safe fn __support_main();
    }
    crate::percpu::init();
    crate::vectors::install();
    trap_floating_point();
    crate::console::init();
    // SAFETY: this is the one call, and nothing has allocated yet.
    unsafe { crate::heap::init() };
    crate::memory::init();
    crate::interrupts::init();
    crate::smp::set_online(crate::percpu::this());
    crate::interrupts::enable();
    __support_main();
    crate::harness::exit(0)
}

/// A kernel that was compiled without floating point must not use its registers: whatever does, faults.
pub(crate) fn trap_floating_point() {
    #[cfg(not(target_feature = "neon"))]
    {
        use aarch64_cpu::registers::{CPACR_EL1, Writeable as _};
        CPACR_EL1.write(CPACR_EL1::FPEN::TrapEl0El1);
        aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
    }
}

/// Ends the kernel with success when `main` returns.
#[macro_export]
macro_rules! kernel {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn __support_main() {
            let main: fn() = $main;
            main();
        }
    };
}
