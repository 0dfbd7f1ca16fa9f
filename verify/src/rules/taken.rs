//! Functions whose address is taken: what a register may lead to.
//!
//! An address is taken
//! - by code that makes it: ADRP and ADD, ADR, or a load of a literal; in an object, the relocations of such instructions say so;
//! - by data that holds it, where a relocation puts it. In an image whose relocations the linker has not kept, that is each
//!   aligned word of data that is exactly a function's address.
//!
//! Lists that name functions and through which none is called don't count: callsites, exception tables, symbol tables, exports.
//! Not seen is an address that only another file takes, one that code makes of a page from before a jump, and one that is kept
//! as a distance.

use std::collections::{BTreeMap, BTreeSet};

use fentry::TextAddr;
use fentry::insn::Flow as InsnFlow;
use object::elf;

use super::sites::{Sites, function_at};
use crate::flow::Flow;
use crate::image::{Relocation, Section};
use crate::program::{FunctionId, InsnId, Program};
use crate::report::{At, Finding, Rule, Step};
use crate::value::Value;

/// What starts the names of sections that list functions, and through which none is called.
const LISTS: [&str; 12] = [
    "__patchable_function_entries",
    "__mcount_loc",
    ".fentry.",
    ".kcfi_traps",
    ".eh_frame",
    ".gcc_except_table",
    ".note.",
    ".dyn",
    ".rela",
    "__ex_table",
    "__bug_table",
    "__ksymtab",
];

/// LDR of a literal into an X register, by the word's top byte (Arm ARM C6.2, "LDR (literal)").
const LDR_LITERAL_X: u32 = 0x58;

/// The functions whose address is taken.
#[derive(Debug)]
pub(super) struct Taken {
    /// For each, the places that take it.
    by: BTreeMap<FunctionId, Vec<At>>,
}

/// That a function's address is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Evidence {
    /// The place that takes it, or a call that is known to go there.
    pub(super) at: At,
    /// Whether the function is called by it: data holds it, or that call goes there. Code that makes the address of a function may
    /// want it for something else: exception vectors, the entry of another CPU, the bounds of a section.
    pub(super) is_call: bool,
}

impl Taken {
    pub(super) fn of(program: &Program<'_>, sites: &Sites) -> Self {
        let mut taken = Self { by: BTreeMap::new() };
        // Where the image begins is an address like others, and nobody calls it.
        let is_start = |address: u64| program.image().entry() == Some(address);
        for (id, address) in program.made_addresses().into_iter().filter(|(_, address)| !is_start(*address)) {
            taken.add(program, address, At::Insn(id));
        }
        taken.by_literals(program);
        let is_kept = taken.by_relocations(program, sites);
        if !is_kept {
            taken.by_words(program, sites);
        }
        taken
    }

    /// The functions, by address.
    pub(super) fn functions(&self) -> impl Iterator<Item = FunctionId> {
        self.by.keys().copied()
    }

    /// The best evidence that a function's address is taken.
    pub(super) fn evidence(&self, flow: &Flow<'_>, function: FunctionId) -> Option<Evidence> {
        let places = self.by.get(&function)?;
        let by_data = places.iter().find(|at| matches!(at, At::Address(_))).copied();
        let called = by_data.or_else(|| known_call(flow, function, places).map(At::Insn));
        let evidence = called.map(|at| Evidence { at, is_call: true });
        evidence.or(places.first().map(|at| Evidence { at: *at, is_call: false }))
    }

    /// Whether a function's address is taken.
    pub(super) fn has(&self, function: FunctionId) -> bool {
        self.by.contains_key(&function)
    }

    /// Notes a place that holds an address, if that is a function's.
    fn add(&mut self, program: &Program<'_>, address: u64, at: At) {
        if let Some(function) = function_at(program, TextAddr::new(address)) {
            self.by.entry(program.parent(function)).or_default().push(at);
        }
    }

    fn by_literals(&mut self, program: &Program<'_>) {
        for id in program.all() {
            let word = program.word(id);
            if word >> 24 != LDR_LITERAL_X {
                continue;
            }
            // A signed number of words, in bits 5 to 23.
            let distance = i64::from((word << 8) as i32 >> 13) * 4;
            let literal = program.address(id).get().wrapping_add_signed(distance);
            if let Some(address) = program.image().number_at(literal, 8) {
                self.add(program, address, At::Insn(id));
            }
        }
    }

    /// Takes what relocations refer to; returns whether there are any of data.
    fn by_relocations(&mut self, program: &Program<'_>, sites: &Sites) -> bool {
        let image = program.image();
        let mut has_data = image.is_relocatable();
        for relocation in image.relocations() {
            let Some(section) = image.section_at(relocation.at) else { continue };
            let is_data = !section.is_executable && relocation.is_of_data();
            has_data |= is_data;
            let counts = if section.is_executable {
                relocation.is_of_address()
            } else {
                is_data && !is_list(section) && !sites.is_entry(relocation.at)
            };
            let address = relocation.address().filter(|_| counts);
            let at = program.at(TextAddr::new(relocation.at)).map_or(At::Address(relocation.at), At::Insn);
            if let Some(address) = address {
                self.add(program, address, at);
            }
        }
        has_data
    }

    fn by_words(&mut self, program: &Program<'_>, sites: &Sites) {
        let sections = program.image().sections().iter();
        for section in sections.filter(|section| !section.is_executable && !is_list(section)) {
            let start = section.range.start.next_multiple_of(8);
            let bytes = section.bytes.get((start - section.range.start) as usize..).unwrap_or_default();
            for (at, word) in (start..).step_by(8).zip(bytes.chunks_exact(8)) {
                let address = u64::from_le_bytes(word.try_into().unwrap_or_default());
                if address != 0 && !sites.is_entry(at) {
                    self.add(program, address, At::Address(at));
                }
            }
        }
    }
}

fn is_list(section: &Section<'_>) -> bool {
    LISTS.iter().any(|list| section.name.starts_with(list))
}

impl Relocation<'_> {
    /// Whether it puts an address into data (AAELF64 5.7.5, 5.7.16).
    fn is_of_data(&self) -> bool {
        matches!(elf::RelocationType(self.kind), elf::R_AARCH64_ABS64 | elf::R_AARCH64_RELATIVE)
    }

    /// Whether it makes an instruction part of an address (AAELF64 5.7.6, 5.7.7, 5.7.11): of several that make it, the one that
    /// has its highest bits.
    fn is_of_address(&self) -> bool {
        matches!(
            elf::RelocationType(self.kind),
            elf::R_AARCH64_ADR_PREL_PG_HI21
                | elf::R_AARCH64_ADR_PREL_PG_HI21_NC
                | elf::R_AARCH64_ADR_PREL_LO21
                | elf::R_AARCH64_ADR_GOT_PAGE
                | elf::R_AARCH64_MOVW_UABS_G3
        )
    }
}

/// A call by a register that is known to hold a function's address, in one of the functions that take it.
fn known_call(flow: &Flow<'_>, callee: FunctionId, places: &[At]) -> Option<InsnId> {
    let program = flow.program();
    let wanted = Value::Const(program.address(program.function(callee).entry()).get());
    let of = |at: &At| match at {
        At::Insn(id) => program.function_of(*id).map(|function| program.parent(function)),
        At::Address(_) | At::Waiver(_) => None,
    };
    let takers: BTreeSet<FunctionId> = places.iter().filter_map(of).collect();
    let mut walker = flow.walker();
    let mut found = None;
    for taker in takers {
        walker.walk(taker);
        walker.each(
            |visit| {
                let (InsnFlow::IndirectCall(by) | InsnFlow::IndirectJump(by)) = program.insn(visit.id).effects().flow
                else {
                    return;
                };
                if by.or_sp().is_some_and(|by| visit.known.register(by) == wanted) {
                    found.get_or_insert(visit.id);
                }
            },
            |_, _| {},
        );
    }
    found
}

impl Evidence {
    /// Says where the address is taken.
    pub(super) fn text(self, program: &Program<'_>) -> String {
        match (self.at, self.is_call) {
            (At::Insn(id), true) => format!("it is called by a register, by {}", program.place(id)),
            (At::Insn(id), false) => format!("its address is taken by {}", program.place(id)),
            (at, _) => format!("its address is in data, at {}", at.display(program)),
        }
    }

    /// The finding of a function that lacks something, where `rule` asks it of what is called by a register.
    pub(super) fn finding(self, program: &Program<'_>, rule: Rule, function: FunctionId, lacks: &str) -> Finding {
        let rule = if self.is_call { rule } else { Rule::EntryUnproven };
        let what = format!("{}, and {lacks}", self.text(program));
        let step = match self.at {
            At::Insn(id) => Some(Step::new(id, if self.is_call { "called here" } else { "its address is taken here" })),
            At::Address(_) | At::Waiver(_) => None,
        };
        let at = At::Insn(program.function(function).entry());
        Finding::new(rule, at, what).by(step.into_iter().collect())
    }
}
