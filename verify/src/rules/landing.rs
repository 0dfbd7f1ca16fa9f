//! Branch targets: whatever an indirect branch may go to begins with a landing pad, where those are enforced.
//!
//! ```text
//!                          BTI C   BTI J   BTI JC   PACIASP, PACIBSP     (Arm ARM D8.4.4, D8.4.5)
//!   BLR                    takes   -       takes    takes
//!   BR by x16 or x17       takes   takes   takes    takes
//!   BR by another one      -       takes   takes    - (unless SCTLR_ELx.BT is 0)
//! ```
//!
//! They are enforced where the file's GNU property note says that all of it has landing pads. Kernels' linker scripts often drop
//! that note: then they are, where most of its own functions whose address is taken begin with BTI C. PACIASP says nothing of it, since
//! return addresses can be signed without landing pads.

use fentry::insn::{Flow as InsnFlow, Hint, Insn, Reg, System, Width};

use super::sites::Sites;
use super::taken::Taken;
use crate::flow::{Callee, Exit, Flow, Table};
use crate::program::{FunctionId, InsnId, Landing, Program};
use crate::report::{At, Finding, Rule, Step};

/// Without the note, so many functions must have a landing pad for it to be meant.
const MEANT: usize = 4;

pub(super) fn check(flow: &Flow<'_>, sites: &Sites, taken: &Taken) -> Vec<Finding> {
    let program = flow.program();
    if !is_enforced(program, sites, taken) {
        return Vec::new();
    }
    let mut findings = entries(flow, taken);
    for (jump, table) in flow.tables() {
        findings.extend(targets(program, jump, table));
    }
    findings.extend(jumps(flow));
    findings
}

fn is_enforced(program: &Program<'_>, sites: &Sites, taken: &Taken) -> bool {
    // The engine may come as a library with landing pads for kernels that enforce them and for others.
    let is_kernels = |function: &FunctionId| !sites.is_engines(program.address(program.function(*function).entry()));
    let landings = || taken.functions().filter(is_kernels).map(|function| program.landing(function));
    let [pads, none] = [Landing::Bti, Landing::None].map(|kind| landings().filter(|landing| *landing == kind).count());
    program.image().is_marked_bti() || (pads >= MEANT && pads > none)
}

/// Functions whose address is taken.
fn entries(flow: &Flow<'_>, taken: &Taken) -> Vec<Finding> {
    let program = flow.program();
    let judged = taken.functions().filter(|function| program.function(*function).is_typed());
    let lacks = |function: &FunctionId| !takes_call(&program.insn(program.function(*function).entry()));
    let what = "it does not begin with a landing pad for calls";
    let found = judged.filter(lacks).filter_map(|function| {
        Some(taken.evidence(flow, function)?.finding(program, Rule::LandingMissing, function, what))
    });
    found.collect()
}

/// Targets of a table of jumps.
fn targets(program: &Program<'_>, jump: InsnId, table: &Table) -> Vec<Finding> {
    let InsnFlow::IndirectJump(by) = program.insn(jump).effects().flow else { return Vec::new() };
    let lacks = |id: &&InsnId| !takes_jump(&program.insn(**id), by);
    let missing: Vec<InsnId> = table.targets.iter().filter(lacks).copied().collect();
    // Where the table's size was guessed, only its first element is known to be one, and not which of these that is.
    if !table.is_compared && missing.len() < table.targets.len() {
        return Vec::new();
    }
    let step = || Step::new(jump, format!("it jumps by the table at {:#x}", table.address));
    let what = "a table of jumps leads here, and there is no landing pad for jumps";
    let found = missing.into_iter().map(|id| Finding::new(Rule::LandingMissing, At::Insn(id), what).by(vec![step()]));
    found.collect()
}

/// Jumps to functions by a register from which no function's landing pad takes them.
fn jumps(flow: &Flow<'_>) -> Vec<Finding> {
    let program = flow.program();
    let is_judged = |id: InsnId| {
        let function: Option<FunctionId> = program.function_of(id).map(|function| program.parent(function));
        function.is_some_and(|function| program.function(function).is_typed())
    };
    let sibling = |id: InsnId| {
        let effects = program.insn(id).effects();
        let InsnFlow::IndirectJump(by) = effects.flow else { return None };
        let exits = flow.onward_by(id, &effects).exits;
        let is_call = exits.iter().flatten().any(|exit| matches!(exit, Exit::Sibling(Callee::Register(_))));
        (is_call && !is_veneers(by)).then(|| {
            let what =
                format!("it jumps to a function by {}, and BTI C takes jumps by x16 and x17 only", by.name(Width::X));
            Finding::new(Rule::JumpRegister, At::Insn(id), what)
        })
    };
    // BR, BRAA and their like, by the word's top byte.
    let may_jump = |id: &InsnId| matches!(program.word(*id) >> 24, 0xd6 | 0xd7);
    program.all().filter(may_jump).filter(|id| flow.is_reached(*id) && is_judged(*id)).filter_map(sibling).collect()
}

/// Whether a call by a register may go to an instruction.
fn takes_call(insn: &Insn) -> bool {
    let Insn::System(System::Hint(hint)) = *insn else { return false };
    [Hint::BTI_C, Hint::BTI_JC, Hint::PACIASP, Hint::PACIBSP].contains(&hint)
}

/// Whether a jump by this register may.
fn takes_jump(insn: &Insn, by: Reg) -> bool {
    let Insn::System(System::Hint(hint)) = *insn else { return false };
    [Hint::BTI_J, Hint::BTI_JC].contains(&hint) || (is_veneers(by) && takes_call(insn))
}

fn is_veneers(reg: Reg) -> bool {
    reg == Reg::X16 || reg == Reg::X17
}
