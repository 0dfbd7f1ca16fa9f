//! Where something begins in data: there a table of jumps before it must end, at the latest.

use fentry::insn::{DataImm, Insn};
use object::elf;

use super::jump::{Jump, Jumps, Why};
use crate::image::SymbolKind;
use crate::program::{FunctionId, Program};

/// Where tables of jumps begin, symbols of data stand, and addresses lead that code makes or data holds: sorted, each once.
pub(super) fn of(program: &Program<'_>, jumps: &Jumps) -> Vec<u64> {
    let tables = jumps.values().filter_map(|jump| match jump {
        Jump::Table(table) => Some(table.address),
        Jump::NotFollowed(Why::Unbounded { table } | Why::NoElement { table, .. } | Why::TableLeaves { table, .. }) => {
            Some(*table)
        }
        _ => None,
    });
    let image = program.image();
    let symbols =
        image.symbols().iter().filter(|symbol| symbol.kind == SymbolKind::Object).map(|symbol| symbol.address);
    let relocated = image.relocations().iter().filter(|relocation| !is_relative(relocation.kind));
    let relocated = relocated.filter_map(|relocation| relocation.address());
    let is_data = |address: &u64| image.section_at(*address).is_some_and(|section| !section.is_executable);
    let starts = tables.chain(symbols).chain(relocated).chain(held(program)).chain(made(program));
    let mut starts: Vec<u64> = starts.filter(is_data).collect();
    starts.sort_unstable();
    starts.dedup();
    starts
}

/// Whether a relocation counts from its own place, as an element of a table does: its addend is no address's.
fn is_relative(kind: u32) -> bool {
    matches!(elf::RelocationType(kind), elf::R_AARCH64_PREL64 | elf::R_AARCH64_PREL32 | elf::R_AARCH64_PREL16)
}

/// What the words of data hold that may be addresses: those of an image whose relocations the linker has not kept.
fn held<'a>(program: &'a Program<'_>) -> impl Iterator<Item = u64> + 'a {
    let sections = program.image().sections().iter().filter(|section| !section.is_executable);
    sections.flat_map(|section| {
        let before_first = (section.range.start.next_multiple_of(8) - section.range.start) as usize;
        let words = section.bytes.get(before_first..).unwrap_or_default().chunks_exact(8);
        words.map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()))
    })
}

/// The addresses that code makes of a page and an offset, by ADRP and ADD, or at once, by ADR.
fn made(program: &Program<'_>) -> Vec<u64> {
    let mut made = Vec::new();
    let mut pages = [None; 32];
    let mut function: Option<FunctionId> = None;
    for id in program.all() {
        let here = program.function_of(id);
        if here != function {
            (function, pages) = (here, [None; 32]);
        }
        let (insn, address) = (program.insn(id), program.address(id).get());
        let mut page = None;
        match insn {
            // What a relocation fills in is in the list of those.
            Insn::DataImm(_) if program.relocation(id).is_some() => {}
            Insn::DataImm(DataImm::Adr { offset, .. }) => made.push(address.wrapping_add_signed(offset.bytes())),
            Insn::DataImm(DataImm::Adrp { offset, .. }) => {
                page = Some((address & !0xfff).wrapping_add_signed(offset.bytes()));
            }
            Insn::DataImm(DataImm::AddSub { rn, .. }) => {
                let sum = insn.effects().sum;
                let base = pages.get(usize::from(rn.number())).copied().flatten();
                made.extend(base.zip(sum).map(|(base, sum)| u64::wrapping_add_signed(base, sum.bytes)));
            }
            _ => {}
        }
        let writes = insn.effects().writes.bits();
        for (number, known) in pages.iter_mut().enumerate() {
            if writes >> number & 1 == 1 {
                *known = page;
            }
        }
    }
    made
}
