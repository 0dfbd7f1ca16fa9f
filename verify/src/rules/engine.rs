//! The engine itself: tracing it must not lead back into it.
//!
//! A stub takes the recursion guard of its context before it calls anything, and gives it back when nothing is left to call:
//!
//! ```text
//!     ftrace_caller:  ...                    nothing that could be traced
//!                     str  x10, [x10, #0]    takes the guard: what is traced from here on is not traced again
//!                     ...  blr x12  ...      callbacks
//!                     str  x20, [x10, #0]    gives it back
//!                     ...                    nothing that could be traced
//! ```
//!
//! So whatever can be called outside of the guard must have no callsite but in the engine's own text, which init leaves out.
//! Callbacks are free to be traced, and so is what the platform does while text is written: a callback that runs then is told of,
//! since it must not wait for the engine.
//!
//! Where a call's check of a hash (kCFI) says whom a register may reach, those are followed; else it is told of.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};

use fentry::insn::Flow as InsnFlow;
use fentry::insn::{Branch, DataRegister, Insn, MemoryUse, Place, Reg, RegOrSp, Zero};

use super::calls::{Call, Calls, To};
use super::sites::Sites;
use crate::flow::{Callee, Exit, Flow};
use crate::program::{FunctionId, InsnId, Program};
use crate::report::{At, Finding, Rule, Step};

/// The stubs that callsites and returns lead to.
const STUBS: [&str; 3] = ["ftrace_caller", "ftrace_regs_caller", "fentry_return"];
/// How symbols spell the trait whose methods the engine calls while it writes text: Rust's mangling, and its legacy one.
const TRAITS: [&str; 2] = ["6fentry8platform8Platform", "fentry..platform..Platform"];
/// Those methods, as either mangling spells them.
const METHODS: [&str; 5] = ["11begin_batch", "9end_batch", "9map_alias", "11unmap_alias", "16synchronize_cpus"];

pub(super) fn check(flow: &Flow<'_>, sites: &Sites, calls: &Calls<'_>) -> Vec<Finding> {
    let program = flow.program();
    let ways = Ways { program, sites, calls };
    let mut findings = Vec::new();
    for stub in STUBS.into_iter().filter_map(|name| program.function_named(name)) {
        for at in outside_of_guard(flow, stub) {
            let called = calls.at(at).into_iter().filter(|call| is_left(program, call));
            findings.extend(called.flat_map(|call| ways.of_stub(&call)));
        }
    }
    let is_method = |function: &FunctionId| {
        let name = program.name(*function);
        TRAITS.iter().any(|name_of| name.contains(name_of)) && METHODS.iter().any(|method| name.contains(method))
    };
    findings.extend(program.functions().filter(is_method).filter_map(|method| ways.of_method(method)));
    findings
}

/// Whether a call leads out of a stub. A jump by a register does not: that is where the stub ends, and goes on in the function
/// or in a direct trampoline. Nor does one to a bare label, which is followed.
fn is_left(program: &Program<'_>, call: &Call<'_>) -> bool {
    let is_call = matches!(program.insn(call.at).effects().flow, InsnFlow::Call(_) | InsnFlow::IndirectCall(_));
    is_call || call.to != To::Unknown
}

/// The instructions of a stub that run while the guard is not taken. Those under bare labels that it jumps to are its own.
fn outside_of_guard(flow: &Flow<'_>, stub: FunctionId) -> Vec<InsnId> {
    let program = flow.program();
    let guard = program.of_function(stub).find_map(|id| taken_guard(program, id));
    // What gives the guard back is followed by what runs without it, however it was reached.
    let gives_back = program.of_function(stub).filter(|id| gives_back(program, *id, guard));
    let mut to_do: Vec<InsnId> = gives_back.chain([program.function(stub).entry()]).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = to_do.pop() {
        if taken_guard(program, id).is_some() || !seen.insert(id) {
            continue;
        }
        let onward = flow.onward(id);
        to_do.extend(onward.next);
        if is_not_ready(program, id) {
            continue;
        }
        to_do.extend(onward.targets.iter());
        to_do.extend(onward.exits.into_iter().flatten().filter_map(|exit| match exit {
            Exit::Sibling(Callee::Inside(to)) | Exit::FallsOff(Some(to)) if program.function_of(to).is_none() => {
                Some(to)
            }
            _ => None,
        }));
    }
    seen.into_iter().collect()
}

/// Where the guard is, from the context at x10, if an instruction takes it: by storing x10 itself, which is not zero.
fn taken_guard(program: &Program<'_>, id: InsnId) -> Option<i64> {
    let effects = program.insn(id).effects();
    let is_taken = effects.memory == MemoryUse::Store(8)
        && effects.moved.is_some_and(|moved| moved.first == DataRegister::General(Reg::X10));
    match effects.place {
        Place::Beside(RegOrSp::X10, at) if is_taken => Some(at),
        _ => None,
    }
}

/// Whether an instruction stores there what the guard was before.
fn gives_back(program: &Program<'_>, id: InsnId, guard: Option<i64>) -> bool {
    let effects = program.insn(id).effects();
    let is_there = matches!((effects.place, guard), (Place::Beside(RegOrSp::X10, at), Some(guard)) if at == guard);
    is_there && matches!(effects.memory, MemoryUse::Store(_)) && taken_guard(program, id).is_none()
}

/// Whether a stub leaves where an instruction jumps: the base register is zero, and nothing is traced on such a CPU.
fn is_not_ready(program: &Program<'_>, id: InsnId) -> bool {
    matches!(program.insn(id), Insn::Branch(Branch::CompareBranch { on: Zero::Zero, rt: Reg::X10, .. }))
}

/// The ways from a call to what may be traced.
struct Ways<'a> {
    program: &'a Program<'a>,
    sites: &'a Sites,
    calls: &'a Calls<'a>,
}

impl Ways<'_> {
    fn of_stub(&self, call: &Call<'_>) -> Vec<Finding> {
        let To::Function(callee) = call.to else {
            return vec![self.unknown(call.at, Vec::new())];
        };
        let reached = self.reached(callee);
        let first = || vec![Step::new(call.at, "called without the recursion guard")];
        if let Some(function) = reached.traced {
            let name = self.program.name(function);
            let what = format!("it may call {name}, which has a callsite, while the recursion guard is not taken");
            let path = first().into_iter().chain(reached.way_to(function)).collect();
            return vec![Finding::new(Rule::EngineTraced, At::Insn(call.at), what).by(path)];
        }
        let unknown = reached.unknown.iter();
        unknown.map(|(at, in_)| self.unknown(*at, first().into_iter().chain(reached.way_to(*in_)).collect())).collect()
    }

    fn unknown(&self, at: InsnId, path: Vec<Step>) -> Finding {
        let what = "it is called without the recursion guard, and it is not known what that may be";
        Finding::new(Rule::EngineUnknown, At::Insn(at), what).by(path)
    }

    fn of_method(&self, method: FunctionId) -> Option<Finding> {
        let reached = self.reached(method);
        let function = reached.traced?;
        let name = self.program.name(function);
        let what = format!("the engine calls it while it writes text, and it may call {name}, which has a callsite");
        let at = At::Insn(self.program.function(method).entry());
        Some(Finding::new(Rule::PlatformTraced, at, what).by(reached.way_to(function)))
    }

    /// Follows calls, the nearest first, up to the first function that has a callsite outside of the engine's text.
    fn reached(&self, from: FunctionId) -> Reached {
        let mut reached = Reached::default();
        reached.by.insert(from, None);
        let mut to_do = VecDeque::from([from]);
        while let Some(function) = to_do.pop_front() {
            if self.sites.of_function(function).is_some() {
                reached.traced = Some(function);
                return reached;
            }
            for call in self.calls.of_function(function) {
                match call.to {
                    To::Function(callee) => {
                        if let Entry::Vacant(new) = reached.by.entry(callee) {
                            new.insert(Some((function, call.at)));
                            to_do.push_back(callee);
                        }
                    }
                    To::External(_) | To::Unknown => reached.unknown.push((call.at, function)),
                }
            }
        }
        reached
    }
}

/// What can be reached from a function.
#[derive(Debug, Default)]
struct Reached {
    /// Each function with the call that led to it, and the function that makes that.
    by: HashMap<FunctionId, Option<(FunctionId, InsnId)>>,
    traced: Option<FunctionId>,
    /// Calls that lead to nobody knows whom, each with the function that makes it.
    unknown: Vec<(InsnId, FunctionId)>,
}

impl Reached {
    fn way_to(&self, function: FunctionId) -> Vec<Step> {
        let mut way = Vec::new();
        let mut at = function;
        while let Some(Some((caller, call))) = self.by.get(&at) {
            way.push(Step::new(*call, "goes on by this call"));
            at = *caller;
        }
        way.reverse();
        way
    }
}
