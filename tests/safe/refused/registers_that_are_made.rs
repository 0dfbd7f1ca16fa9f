//! Registers come from a stub. Made, assigned or swapped, they would set where execution goes on, and through what the stub
//! stores.
use fentry::{FtraceRegs, Ops, PtRegs, TextAddr};

fn made() -> FtraceRegs<'static> {
    FtraceRegs::from_pt_regs(&PtRegs { regs: [0x41; 31], sp: 0, pc: 0x4242_4242, pstate: 0 })
}

extern "C" fn assigns(_: TextAddr, _: TextAddr, _: &'static Ops, mut regs: FtraceRegs<'_>) {
    *regs = made();
}

extern "C" fn keeps(_: TextAddr, _: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
    static KEPT: std::sync::Mutex<Option<FtraceRegs<'static>>> = std::sync::Mutex::new(None);
    *KEPT.lock().unwrap() = Some(regs);
}

fn swaps(one: &mut FtraceRegs<'_>, other: &mut FtraceRegs<'_>) {
    core::mem::swap(&mut **one, &mut **other);
}

fn main() {}
