//! Flags and interrupt masks as they are at the callsite, in every combination.

use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use fentry::{Filter, FtraceRegs, Ops, OpsFlags, Rule, TextAddr};
use support::interrupts;

/// PSTATE.EL is 1 and PSTATE.SP is 1 in all of this kernel.
const EL1H: u64 = 0b0101;

#[inline(never)]
extern "C" fn traced(n: u64) -> u64 {
    black_box(n) + 1
}

static SEEN: AtomicU64 = AtomicU64::new(0);

extern "C" fn note_state(_: TextAddr, _: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
    SEEN.store(regs.pt_regs().map_or(0, |all| all.pstate), Ordering::Relaxed);
}

/// Calls the function with these flags and masks.
fn call_with(nzcv: u64, daif: u64) {
    let result: u64;
    // SAFETY: the function is called as the AAPCS64 has it; the masks are restored, and the stack is this function's.
    unsafe {
        asm!(
            "mrs x22, daif",
            "msr daif, x20",
            "msr nzcv, {nzcv}",
            "blr x21",
            "msr daif, x22",
            in("x20") daif,
            in("x21") traced as *const (),
            inlateout("x0") 5_u64 => result,
            out("x22") _,
            clobber_abi("C"),
            nzcv = in(reg) nzcv,
        );
    }
    assert_eq!(result, 6);
}

pub(crate) fn flags_and_interrupt_masks_are_those_of_the_callsite() {
    static FULL: Ops = Ops::new(note_state).with_flags(OpsFlags::SAVE_REGS);
    static BESIDE: Ops = Ops::new(note_state).with_flags(OpsFlags::SAVE_REGS);
    let (engine, _) = support::engine();
    let rules = [Rule::address(TextAddr::new((traced as *const ()).addr() as u64))];
    let masked = interrupts::are_masked();
    for together in [&[&FULL][..], &[&FULL, &BESIDE]] {
        together.iter().for_each(|ops| assert_eq!(engine.register(ops, &Filter::new(&rules)), Ok(1)));
        for nzcv in (0..16).map(|bits| bits << 28) {
            for daif in (0..16).map(|bits| bits << 6) {
                call_with(nzcv, daif);
                assert_eq!(SEEN.swap(0, Ordering::Relaxed), nzcv | daif | EL1H, "{nzcv:#x} {daif:#x}");
            }
        }
        together.iter().for_each(|ops| assert_eq!(engine.unregister(ops), Ok(1)));
    }
    assert_eq!(interrupts::are_masked(), masked);
}
