//! Where something begins in data: there a table of jumps before it must end, at the latest.

use object::elf;

use super::jump::{Jump, Jumps, Why};
use crate::image::SymbolKind;
use crate::program::Program;

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
    let made = program.made_addresses().into_iter().map(|(_, address)| address);
    let starts = tables.chain(symbols).chain(relocated).chain(held(program)).chain(made);
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
