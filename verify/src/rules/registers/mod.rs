//! Registers at callsites: an enabled callsite, and the stub that it calls, change x9 to x17 and the flags.
//!
//! AAPCS64 6.1.1 lets a callee do that, and compilers that know a callee may still rely on what it does not do (inter-procedural
//! register allocation, `preserve_most`, `rust-cold`). So both sides are proven:
//!
//! - a function that can be patched reads none of them at its entry, by liveness against the direction of control;
//! - nobody keeps a value in one of them over a call of such a function, or of one that calls such a function in its turn.
//!
//! A call is taken to change none of them, and to read what its callee reads at its entry: a value that somebody keeps over a
//! call is seen for what it is. An unknown instruction is taken to read none; a function with one is told of as not followed.
//!
//! # What does not count as a read
//! Compilers copy what has no value: the payload of an enum's variant that has none lies in a register that was never written
//! on that path, and is stored all the same. Such a read has a path on which the register was written since the last call, for
//! the variants that have a payload. So a read counts only where no such path leads to it. What is kept over a call on one
//! path and written behind it on another looks the same. There the write before the call decides: no compiler writes what
//! nobody reads. So such a value counts as kept where it was written before the call and not read until then.
//!
//! Where the path has been copied as well, each copy ends with the same store: what is written before one of them is taken to be
//! written before all. Where no store tells, the register seems to be live at the function's entry. It is if somebody gives the
//! function something in it: so it counts where every direct call comes with the register written since the call before, or
//! as the caller itself was given it. What calls by a pointer gives nothing in these registers, since it does not know whom it
//! calls. In a relocatable object, other files' code may, which calls what the object exports.

mod body;
mod set;
mod solved;

pub(super) use set::X18;
pub(super) use solved::Solved;

use super::sites::Sites;
use crate::flow::{Callee, Flow};
use crate::report::{At, Finding, Rule};
use set::{CHANGED, names};
use solved::Kept;

pub(super) fn check(flow: &Flow<'_>, sites: &Sites, solved: &Solved) -> Vec<Finding> {
    let changes = solved.changing(flow.program(), sites);
    let mut findings = Vec::new();
    for (function, callsite) in sites.functions() {
        let live = solved.at_entry(function) & CHANGED;
        let Some(at) = flow.program().at(callsite.mov_addr()).filter(|_| live != 0) else { continue };
        let what = format!("{} at its callsite, which changes them", names(live, "live"));
        let path = solved.readers(flow, at, live);
        findings.push(Finding::new(Rule::LiveAtCallsite, At::Insn(at), what).by(path));
    }
    for (function, Kept { call, behind, live }) in solved.kept() {
        let onward = flow.onward(call);
        let Some(callee) = onward.call else { continue };
        let name = match callee {
            Callee::Function(callee) if changes.contains(&callee) => flow.program().name(callee),
            Callee::Inside(_) | Callee::Function(_) | Callee::Outside(_) => continue,
            Callee::External(name) => name,
            Callee::Register(_) => "whatever a register says",
        };
        let of = flow.program().name(function);
        let what = format!("{} by {of} over this call of {name}, which may change them", names(live, "kept"));
        findings.push(Finding::new(Rule::KeptOverCall, At::Insn(call), what).by(solved.readers(flow, behind, live)));
    }
    findings
}
