//! What a call costs beyond the same call with the callsite disabled.

use crate::counted::{counted, tell, tell_sized};
use crate::kernel::{address, engine, function, init};
use fentry::{Filter, FtraceRegs, Ops, OpsFlags, Rule, Symbols, TextAddr};
use support::{print, println};

/// The function that is called, and one that is not.
const CALLED: usize = 0;
const OTHER: usize = 1;

fn nothing(_: TextAddr, _: TextAddr, _: &'static Ops, _: &mut FtraceRegs) {}

/// The instructions of a call.
fn call() -> u32 {
    let once = || counted(|| function(CALLED)()).1;
    // Once before, so that what is only done the first time is done.
    once();
    once()
}

/// What a call of one function costs beyond `disabled` while `ops` is registered on the function with this number.
fn with(ops: &'static Ops, number: usize, disabled: u32) -> u32 {
    let rules = [Rule::address(address(number))];
    assert_eq!(engine().register(ops, &Filter::new(&rules)), Ok(1));
    let enabled = call();
    assert_eq!(engine().unregister(ops), Ok(1));
    enabled - disabled
}

pub(crate) fn calls() {
    static ORDINARY: Ops = Ops::new(nothing);
    static REGS: Ops = Ops::new(nothing).with_flags(OpsFlags::SAVE_REGS);
    engine();
    let disabled = call();
    tell("call-untraced", disabled - init().compiled_call);
    tell("call-unrelated", with(&ORDINARY, OTHER, disabled));
    tell_sized("call-ops", with(&ORDINARY, CALLED, disabled), 1);
    tell("call-regs", with(&REGS, CALLED, disabled));
}

/// The instructions of the stubs, for a model of a CPU's pipeline.
pub(crate) fn code() {
    // SAFETY: the script puts its symbols around the table, which is read-only data.
    let symbols = unsafe { Symbols::linked() }.expect("this kernel is linked with its symbols");
    for name in ["ftrace_caller", "ftrace_regs_caller"] {
        let stub = symbols.lookup_name(name).next().expect("the engine has this stub");
        print!("bench-code: {name}");
        for at in (stub.addr..stub.addr + stub.size).step_by(4) {
            let word = core::ptr::with_exposed_provenance::<u32>(at as usize);
            // SAFETY: text is mapped readable.
            print!(" {:08x}", unsafe { word.read_volatile() });
        }
        println!();
    }
}
