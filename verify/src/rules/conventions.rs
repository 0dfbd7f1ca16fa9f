//! Calling conventions other than the base one: functions whose callers rely on more than a stub saves.
//!
//! - A variant procedure call standard (AAELF64 5.5.1): vector functions, whose callers rely on the upper halves of v8 to v23,
//!   and functions with SVE arguments. ELF marks their symbols, and none may have a callsite.
//! - x18 (AAPCS64 6.1.1). Stubs leave it alone. Where it is the platform's register, callbacks do so as well, since they were
//!   compiled like everything else; where it is a temporary, nothing is in it at a function's entry. So what breaks is a program
//!   that has both: a function that can be patched and takes a value in x18, and others that use it as a temporary, as a
//!   callback may then. That is a kernel of which a part was compiled without `-ffixed-x18`, or one with GCC's nested functions.
//!
//! `preserve_most` and `rust-cold` are not marked. Their callers are found by what they keep over a call, and they themselves by
//! what they save at their entry ([`registers`](super::registers)).

use fentry::insn::{Flow as InsnFlow, Insn, MemoryUse, Reg};

use super::registers::{Solved, X18};
use super::sites::Sites;
use crate::flow::Flow;
use crate::program::{FunctionId, InsnId, Program};
use crate::report::{At, Finding, Rule, Step};

pub(super) fn check(flow: &Flow<'_>, sites: &Sites, solved: &Solved) -> Vec<Finding> {
    let mut findings = variant(flow.program(), sites);
    findings.extend(platform_register(flow, sites, solved));
    findings
}

fn variant(program: &Program<'_>, sites: &Sites) -> Vec<Finding> {
    let is_marked = |function: &FunctionId| {
        let symbols = program.function(*function).symbols();
        symbols.iter().any(|symbol| program.symbol(*symbol).is_variant_pcs)
    };
    let marked = sites.functions().map(|(function, _)| function).filter(is_marked);
    let what = "it has a callsite, and its symbol says that its callers rely on more registers than a stub saves";
    marked.map(|function| Finding::new(Rule::VariantPcs, At::Insn(program.function(function).entry()), what)).collect()
}

/// Functions that take a value in x18, where others use it as a temporary.
fn platform_register(flow: &Flow<'_>, sites: &Sites, solved: &Solved) -> Vec<Finding> {
    let program = flow.program();
    let takers: Vec<(FunctionId, Step)> = sites
        .functions()
        .filter(|(function, _)| solved.at_entry(*function) & X18 != 0)
        .filter_map(|(function, callsite)| {
            let reader = solved.readers(flow, program.at(callsite.mov_addr())?, X18).pop()?;
            // Whose callees take it has it as well, and they are told of.
            program.insn(reader.at).effects().reads.contains(Reg::X18).then_some((function, reader))
        })
        .collect();
    if takers.is_empty() {
        return Vec::new();
    }
    let Some(temporary) = sites.functions().filter_map(|(function, _)| temporary(program, function)).min() else {
        return Vec::new();
    };
    let what = "it takes a value in x18, which others use as a temporary, and so may callbacks";
    let found = takers.into_iter().map(|(function, reader)| {
        let path = vec![reader, Step::new(temporary, "x18 is a temporary here")];
        Finding::new(Rule::X18Live, At::Insn(program.function(function).entry()), what).by(path)
    });
    found.collect()
}

/// Where a function gives x18 a value for its own use: one that it computes, and reads before control can go elsewhere. What a
/// callee is given in it does not count, nor what is loaded, as of another task.
fn temporary(program: &Program<'_>, function: FunctionId) -> Option<InsnId> {
    let mut written: Option<InsnId> = None;
    for id in program.of_function(function) {
        let insn = program.insn(id);
        let effects = insn.effects();
        if matches!(insn, Insn::Unknown { .. }) || effects.flow != InsnFlow::Next {
            written = None;
            continue;
        }
        let (reads, writes) = (effects.reads.contains(Reg::X18), effects.writes.contains(Reg::X18));
        match written {
            Some(written) if reads => return Some(written),
            _ if writes => written = (!reads && effects.memory == MemoryUse::None).then_some(id),
            _ => {}
        }
    }
    None
}
