//! What a stub has saved is there for one call: nobody makes such registers, copies their view, or keeps it.
use fentry::{FtraceRegs, Ops, PtRegs, TextAddr};

fn keep(_: FtraceRegs<'static>) {}

extern "C" fn keeps(_: TextAddr, _: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
    keep(regs);
}

fn sent<T: Send>(_: T) {}

extern "C" fn sends(_: TextAddr, _: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
    sent(regs);
}

extern "C" fn copies(_: TextAddr, _: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
    let mine: FtraceRegs<'_> = regs.clone();
    drop(mine);
}

extern "C" fn makes(_: TextAddr, _: TextAddr, _: &'static Ops, mut regs: FtraceRegs<'_>) {
    let all = PtRegs { regs: [0; 31], sp: 0, pc: 0, pstate: 0 };
    regs = FtraceRegs::from_pt_regs(&all);
    *regs = all;
    regs.saved_mut().function_record[1] = 0;
}

fn main() {}
