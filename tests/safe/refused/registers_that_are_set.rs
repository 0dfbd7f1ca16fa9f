//! Compiled code goes on with what a callback leaves in the registers.
use fentry::{FtraceRegs, Ops, TextAddr};

extern "C" fn callback(_: TextAddr, parent_ip: TextAddr, _: &'static Ops, mut regs: FtraceRegs<'_>) {
    regs.set_argument(0, 1);
    regs.set_pc(parent_ip);
    regs.return_early(0);
    regs.set_return_address(parent_ip);
}

fn main() {}
