//! A probe inside a function: what x0 holds before one of its instructions, and after it.
//!
//! What is called after the instruction takes a BRK, which `vectors` brings here. With the first handler alone a branch would
//! do, and at the function's entry the callsite.

use crate::{ENGINE, say};
use fentry::TextAddr;
use fentry::kprobe::{Kprobe, KprobeRegs, Kprobes};

pub(crate) static PROBES: Kprobes<1> = Kprobes::new(&ENGINE);
static PROBE: Kprobe = Kprobe::new(look).with_after(look);

extern "C" fn look(ip: TextAddr, _lr: TextAddr, _probe: &'static Kprobe, regs: KprobeRegs<'_>) {
    if let Some(x0) = regs.x(0) {
        say(format_args!("  {ip}: x0 = {x0:#x}"));
    }
}

/// Calls `call` with a probe at the first instruction of a function behind its callsite that can have one.
pub(crate) fn watch(function: TextAddr, call: impl Fn()) {
    let mut places = (3..8).map(|n| function.offset(4 * n));
    let register = |at: &TextAddr| {
        // SAFETY: 1. There is no data in that function. 2. It runs on this kernel's stack.
        unsafe { PROBES.register(&PROBE, *at) }.is_ok()
    };
    let at = places.find(register).expect("the function has such an instruction");
    say(format_args!("probed:"));
    call();
    PROBES.unregister(&PROBE).expect("the probe is registered");
    say(format_args!("  not any more, at {at}"));
    call();
}
