//! Hashes of functions' types (kCFI): callers through a register compare one, and what they may call has it before its entry.
//!
//! Clang and rustc check before each such call (LLVM, AArch64AsmPrinter.cpp, `LowerKCFI_CHECK`):
//!
//! ```text
//!     ldur w16, [x8, #-12]          the hash stands before the two NOPs of =4,2; with =2, at -4
//!     movk w17, #0x111f             what it must be
//!     movk w17, #0xd788, lsl #16
//!     cmp  w16, w17
//!     b.eq 1f
//!     brk  #0x8228                  0x8000 | 17 << 5 | 8: the registers of the hash and of the address
//! 1:  blr  x8
//! ```

use std::collections::BTreeMap;

use fentry::insn::{Branch, Cond, DataImm, DataRegister, Insn, MemoryUse, MoveWide, Place, Reg, Width};

use super::sites::function_at;
use super::taken::Taken;
use crate::flow::Flow;
use crate::program::{FunctionId, InsnId, Program};
use crate::report::{At, Finding, Rule, Step};
use crate::value::Value;

/// A check before a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// The load of the hash: the check's first instruction.
    pub(super) load: InsnId,
    /// What the hash must be.
    pub(super) hash: u32,
    /// The register that has the address.
    pub(super) by: Reg,
    /// How far before the entry the hash is looked for, in bytes.
    pub(super) distance: u64,
}

/// The checks of a program, each by the call behind it.
#[derive(Debug, Default)]
pub(super) struct Checks(BTreeMap<InsnId, Check>);

impl Checks {
    pub(super) fn of(program: &Program<'_>) -> Self {
        if !program.has_hashes() {
            return Self::default();
        }
        let checks = program.hash_checks().filter_map(|(brk, number)| {
            let call = program.next_in_section(brk)?;
            Some((call, Check::before(program, brk, number)?))
        });
        Self(checks.collect())
    }

    /// The checks, each with the call behind it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (InsnId, &Check)> {
        self.0.iter().map(|(call, check)| (*call, check))
    }
}

impl Check {
    /// The check that ends in this BRK of this number.
    fn before(program: &Program<'_>, brk: InsnId, number: u32) -> Option<Self> {
        let (by, hash_in) = (Reg::x((number & 31) as u8)?, Reg::x((number >> 5 & 31) as u8)?);
        let mut before = program.before(brk).rev();
        let Insn::Branch(Branch::BCond { cond: Cond::Eq, .. }) = program.insn(before.next()?) else { return None };
        before.next()?;
        let high = kept_half(&program.insn(before.next()?), hash_in, 16)?;
        let low = kept_half(&program.insn(before.next()?), hash_in, 0)?;
        let load = before.next()?;
        let effects = program.insn(load).effects();
        let (MemoryUse::Load(4), Place::Beside(base, bytes @ ..0)) = (effects.memory, effects.place) else {
            return None;
        };
        let is_plain = matches!(effects.moved.map(|moved| moved.first), Some(DataRegister::General(_)));
        let hash = high << 16 | low;
        (is_plain && by.or_sp() == Some(base)).then_some(Self { load, hash, by, distance: bytes.unsigned_abs() })
    }
}

/// What MOVK puts into this half of a W register.
fn kept_half(insn: &Insn, reg: Reg, shift: u32) -> Option<u32> {
    match *insn {
        Insn::DataImm(DataImm::MoveWide { op: MoveWide::Keep, rd, imm, at })
            if rd == reg && at.width() == Width::W && at.shift() == shift =>
        {
            Some(imm.get())
        }
        _ => None,
    }
}

pub(super) fn check(flow: &Flow<'_>, taken: &Taken, checks: &Checks) -> Vec<Finding> {
    let program = flow.program();
    let mut findings = named(program);
    let Some(distance) = distance(checks) else { return findings };
    for (call, check) in &checks.0 {
        if check.distance != distance {
            let what = format!(
                "this check looks for the hash {} bytes before the function, and others {distance} bytes before",
                check.distance
            );
            let path = vec![Step::new(*call, "what is checked is called here")];
            findings.push(Finding::new(Rule::HashDiffers, At::Insn(check.load), what).by(path));
        }
    }
    for function in taken.functions().filter(|function| program.function(*function).is_typed()) {
        let found = program.function(function);
        let lacks = match found.hash().map(|_| 4 * (u64::from(found.prefix_nops()) + 1)) {
            Some(has) if has == distance => continue,
            Some(has) => format!("its hash is {has} bytes before it, where callers look {distance} bytes before"),
            None => "there is no hash of its type before it".to_owned(),
        };
        let evidence = taken.evidence(flow, function);
        findings.extend(evidence.map(|evidence| evidence.finding(program, Rule::HashMissing, function, &lacks)));
    }
    findings.extend(known(flow, checks));
    findings
}

/// Functions whose hash is not what other files know by its name.
fn named(program: &Program<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for function in program.functions() {
        let found = program.function(function);
        let Some(has) = found.hash() else { continue };
        let names = found.symbols().iter().map(|symbol| program.symbol(*symbol).name);
        for (name, hash) in names.filter_map(|name| Some((name, program.image().type_hash(name)?))) {
            if hash != has {
                let what =
                    format!("its hash is {has:#010x}, and __kcfi_typeid_{name}, by its callers' files, {hash:#010x}");
                findings.push(Finding::new(Rule::HashDiffers, At::Insn(found.entry()), what));
            }
        }
    }
    findings
}

/// How far before a function most checks look for its hash.
fn distance(checks: &Checks) -> Option<u64> {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for check in checks.0.values() {
        *counts.entry(check.distance).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(distance, _)| distance)
}

/// Checks of a function that is known there, and has another hash.
fn known(flow: &Flow<'_>, checks: &Checks) -> Vec<Finding> {
    let program = flow.program();
    let by_load: BTreeMap<InsnId, &Check> = checks.0.values().map(|check| (check.load, check)).collect();
    let of = |check: &&Check| program.function_of(check.load).map(|function| program.parent(function));
    let mut functions: Vec<FunctionId> = by_load.values().filter_map(of).collect();
    functions.dedup();
    let mut findings = Vec::new();
    let mut walker = flow.walker();
    for function in functions {
        walker.walk(function);
        walker.each(
            |visit| {
                let Some(check) = by_load.get(&visit.id) else { return };
                let Some(Value::Const(address)) = check.by.or_sp().map(|reg| visit.known.register(reg)) else { return };
                let Some(callee) = function_at(program, address.into()) else { return };
                let has = program.function(callee).hash();
                if has.is_some_and(|has| has != check.hash) {
                    let name = program.name(callee);
                    let has = has.unwrap_or_default();
                    let what = format!("the check wants the hash {:#010x}, and {name} has {has:#010x}", check.hash);
                    findings.push(Finding::new(Rule::HashDiffers, At::Insn(check.load), what));
                }
            },
            |_, _| {},
        );
    }
    findings
}
