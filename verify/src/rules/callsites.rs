//! Callsites: entries and functions belong together one to one, and what an entry names is whole.

use std::collections::HashMap;

use fentry::TextAddr;
use fentry::callsite::{BTI_C, Callsite, Form, NOP, Prefix, Refusal, State};

use super::sites::{Entry, Sites};
use crate::flow::Flow;
use crate::program::{Destination, FunctionId, InsnId, Program};
use crate::report::{At, Finding, Rule, Step};

/// How many NOPs a callsite is.
const NOPS: usize = 2;

pub(super) fn check(flow: &Flow<'_>, sites: &Sites) -> Vec<Finding> {
    let program = flow.program();
    let mut findings = missing(program, sites);
    findings.extend(refused(program, sites));
    findings.extend(shared(program, sites));
    findings.extend(misaligned(program, sites));
    findings.extend(entered(flow, sites));
    findings
}

/// Functions that begin as the compiler makes patchable ones, and that no entry names.
fn missing(program: &Program<'_>, sites: &Sites) -> Vec<Finding> {
    // What a refused entry names is told of already.
    let is_named = |function: FunctionId| {
        let at = |id| program.address(id);
        let (entry, nops) = (at(program.function(function).entry()), at(program.after_landing(function)));
        let names = |(taken, _): &(Entry, _)| [entry.offset(-8), entry, nops].contains(&TextAddr::new(taken.names));
        sites.entries.iter().any(names)
    };
    let lacks = |function: &FunctionId| {
        let found = program.function(*function);
        found.is_typed()
            && !sites.is_engines(program.address(found.entry()))
            && begins_with_nops(program, *function)
            && sites.of_function(*function).is_none()
            && !is_named(*function)
    };
    let missing = program.functions().filter(lacks);
    let what = "its two NOPs have no entry in the callsite section";
    missing
        .map(|function| Finding::new(Rule::CallsiteMissing, At::Insn(program.function(function).entry()), what))
        .collect()
}

/// Whether a function begins with a callsite, behind BTI C if it has one.
fn begins_with_nops(program: &Program<'_>, function: FunctionId) -> bool {
    let mut insns = program.of_function(function).map(|id| program.word(id)).peekable();
    insns.next_if_eq(&BTI_C);
    insns.by_ref().take(NOPS).eq([NOP; NOPS])
}

/// Entries that the engine would refuse, each by itself.
fn refused(program: &Program<'_>, sites: &Sites) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (entry, taken) in &sites.entries {
        let (rule, why) = match taken {
            Ok((_, State::Compiled)) => continue,
            Ok(_) => (Rule::CallsiteForm, Refusal::InUse),
            Err(why @ (Refusal::NoFunction | Refusal::OutsideText | Refusal::Misaligned)) => {
                (Rule::CallsiteStray, *why)
            }
            Err(why) => (Rule::CallsiteForm, *why),
        };
        let named = program.at(TextAddr::new(entry.names));
        let at = named.map_or(At::Address(entry.at), At::Insn);
        let names = named.map_or_else(|| format!("{:#x}", entry.names), |id| program.place(id).to_string());
        let what =
            format!("the entry at {} names {names}, and is refused: {why}", At::Address(entry.at).display(program));
        findings.push(Finding::new(rule, at, what));
    }
    findings
}

/// Entries that name an instruction which another one names as well.
fn shared(program: &Program<'_>, sites: &Sites) -> Vec<Finding> {
    let mut taken: Vec<_> =
        sites.entries.iter().filter_map(|(entry, taken)| Some((taken.ok()?.0.mov_addr(), entry.at))).collect();
    taken.sort_unstable();
    let is_shared = |pair: &&[(TextAddr, u64)]| pair[1].0.get() - pair[0].0.get() < 4 * NOPS as u64;
    let pairs = taken.windows(2).filter(is_shared);
    pairs
        .filter_map(|pair| {
            let [one, other] = [pair[0].1, pair[1].1].map(|at| At::Address(at).display(program).to_string());
            let what = format!("the entries at {one} and {other} name the same instruction");
            Some(Finding::new(Rule::CallsiteDuplicate, At::Insn(program.at(pair[1].0)?), what))
        })
        .collect()
}

fn misaligned(program: &Program<'_>, sites: &Sites) -> Vec<Finding> {
    let is_misaligned = |(_, callsite): &(FunctionId, Callsite)| {
        matches!(callsite.form(), Form { prefix: Prefix::Literal, .. }) && callsite.literal().is_none()
    };
    // Compilers align the hash, which comes first and has four bytes: nobody can do anything about it.
    if program.has_hashes() {
        return Vec::new();
    }
    let what = "the literal before it is not 8-byte aligned, and can't be written in one piece";
    let at = |function| At::Insn(program.function(function).entry());
    let misaligned = sites.functions().filter(is_misaligned);
    misaligned.map(|(function, _)| Finding::new(Rule::CallsiteAlignment, at(function), what)).collect()
}

/// Branches to where half of a callsite, or a literal, would be executed.
fn entered(flow: &Flow<'_>, sites: &Sites) -> Vec<Finding> {
    let program = flow.program();
    let mut middles: HashMap<InsnId, (FunctionId, &str)> = HashMap::new();
    for (function, callsite) in sites.functions() {
        let mut add = |at, what| program.at(at).map(|id| middles.insert(id, (function, what)));
        add(callsite.call_addr(), "the second instruction of the callsite of");
        if callsite.form().prefix == Prefix::Literal {
            add(callsite.function().offset(-8), "the literal before");
            add(callsite.function().offset(-4), "the literal before");
        }
    }
    let direct = program.all().filter_map(|id| match program.destination(id)? {
        Destination::Insn(to) => Some((id, to)),
        Destination::External(_) | Destination::Outside(_) => None,
    });
    let tables = flow.tables();
    let by_table = tables.iter().flat_map(|(id, table)| table.targets.iter().map(|to| (*id, *to)));
    direct
        .chain(by_table)
        .filter_map(|(id, to)| {
            let (function, middle) = middles.get(&to)?;
            let what = format!("{} goes to {middle} {}", program.insn(id), program.name(*function));
            Some(Finding::new(Rule::CallsiteEntered, At::Insn(id), what).by(vec![Step::new(to, "where it goes")]))
        })
        .collect()
}
