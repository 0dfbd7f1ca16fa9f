//! The third question: does x18 keep its value from a callsite to its function?
//!
//! The stubs never touch x18. Where it is reserved (the platform's own register, or the shadow call stack's pointer) they
//! must not, since a callback may come back on another CPU; and where it is a temporary nothing is in it at a function's
//! entry. But GCC hands nested functions their frame in x18, and a callback that was compiled to use x18 as a temporary
//! would change that, or the reserved register. What ELF says nothing about can be seen in the instructions.

use std::collections::BTreeSet;

use fentry::callsite::Callsite;
use fentry::insn::{Flow, Insn, Reg};
use fentry::symbols::Function;

use super::advice;
use super::callsites::shortened;
use super::loaded::Loaded;
use super::report::Report;
use crate::names;

/// The register that a platform may reserve (AAPCS64 6.1.1).
const X18: Reg = Reg::X18;

/// Looks for both kinds of functions and reports if there are both.
pub(super) fn examine(loaded: &Loaded<'_>, callsites: &[Callsite], report: &mut Report) {
    let takers: Vec<u64> = callsites.iter().map(|callsite| callsite.function().get()).collect();
    let takes = |function: &&Function| {
        takers.binary_search(&function.addr).is_ok() && takes_a_value(loaded.instructions(function))
    };
    let mut takers: Vec<&Function> = loaded.functions.iter().filter(takes).collect();
    takers.dedup_by_key(|function| function.addr);
    if takers.is_empty() {
        return;
    }
    let rust: BTreeSet<u64> = loaded.labels_where(names::is_rust).collect();
    let is_rust = |function: &&Function| rust.contains(&function.addr);
    let changes = |function: &&Function| loaded.instructions(function).any(changes_it);
    let changers = loaded.functions.iter().filter(is_rust).filter(changes).count();
    let cases = shortened(takers.iter().map(|taker| format!("{:#x}  {}", taker.addr, taker.name)));
    let what = format!("{} functions take a value in x18", takers.len());
    if changers == 0 {
        report.good(format!("{what}, and no Rust function changes it"));
    } else {
        let what = format!("{what}, and {changers} Rust functions, such as callbacks may be, change it");
        report.problem_with_cases(what, cases, advice::FIXED_X18);
    }
}

/// Whether a function reads x18, as its caller left it, before control may go elsewhere.
fn takes_a_value(instructions: impl Iterator<Item = Insn>) -> bool {
    for insn in instructions {
        let effects = insn.effects();
        if matches!(insn, Insn::Unknown { .. }) {
            return false;
        }
        if effects.reads.contains(X18) {
            return true;
        }
        // A branch not taken leaves x18 as it was.
        if effects.writes.contains(X18) || !matches!(effects.flow, Flow::Next | Flow::CondJump(_)) {
            return false;
        }
    }
    false
}

/// Whether an instruction gives x18 a value that has nothing to do with the one that it had, unlike the shadow call stack's
/// push and pop.
fn changes_it(insn: Insn) -> bool {
    let effects = insn.effects();
    !matches!(insn, Insn::Unknown { .. }) && effects.writes.contains(X18) && !effects.reads.contains(X18)
}

#[cfg(test)]
mod tests {
    use super::{changes_it, takes_a_value};
    use fentry::insn::Insn;

    /// nop; ldr w1, [x18]; mov x18, x0; str x30, [x18], #8; ldr x30, [x18, #-8]!; bl .; cbz x0, .; ret
    const NOP: u32 = 0xd503_201f;
    const TAKE: u32 = 0xb940_0241;
    const CHANGE: u32 = 0xaa00_03f2;
    const PUSH: u32 = 0xf800_865e;
    const POP: u32 = 0xf85f_8e5e;
    const CALL: u32 = 0x9400_0000;
    const BRANCH: u32 = 0xb400_0000;

    #[test]
    fn a_function_takes_x18_where_it_reads_it_before_anything_else_can_have_written_it() {
        let takes = |words: &[u32]| takes_a_value(words.iter().map(|word| Insn::decode(*word)));
        assert!(takes(&[NOP, NOP, TAKE]));
        assert!(takes(&[NOP, NOP, BRANCH, PUSH]));
        for words in [&[NOP, NOP][..], &[CHANGE, TAKE], &[CALL, TAKE], &[0xffff_ffff, TAKE]] {
            assert!(!takes(words), "{words:x?}");
        }
    }

    #[test]
    fn a_push_to_the_shadow_call_stack_is_no_change() {
        let changes = |word| changes_it(Insn::decode(word));
        assert!(changes(CHANGE));
        assert!(![NOP, TAKE, PUSH, POP, CALL, 0xffff_ffff].into_iter().any(changes));
    }
}
