//! Facts about an object, read with the `object` crate rather than the loader's own code.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use fentry::module::Segment;
use object::read::elf::{ElfFile64, FileHeader, SectionHeader};
use object::{
    LittleEndian, Object, ObjectSection, ObjectSymbol, ObjectSymbolTable, RelocationFlags, RelocationTarget, elf,
};

/// Relocations whose value is a place in the GOT, which each linker orders its own way.
const GOT_KINDS: [u32; 8] = [300, 301, 309, 310, 311, 312, 313, 315];
/// What a loader defines itself.
const GOT: &str = "_GLOBAL_OFFSET_TABLE_";
const ENTRIES: &str = "__patchable_function_entries";

/// A section that is to be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) index: usize,
    pub(super) segment: Segment,
    /// Where it begins in its segment, if each is placed behind the one before.
    pub(super) offset: u64,
    pub(super) bytes: u64,
    /// Whether the file has it.
    pub(super) is_in_file: bool,
    /// The words that point into the GOT, by their offset.
    pub(super) got_words: BTreeSet<u64>,
}

/// An object's facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The names that others must define, each once.
    pub(super) undefined: BTreeSet<String>,
    pub(super) sections: Vec<Section>,
    /// How many entries of callsites there are outside of init text.
    pub(super) entries: usize,
    /// Those in init text: the section's index, and where in it.
    pub(super) init_entries: Vec<(usize, u64)>,
    /// Whether it has COMMON symbols, which each linker places its own way.
    pub(super) has_common: bool,
}

/// Reads an object's facts.
pub(super) fn read(file: &[u8]) -> Result<Facts> {
    let object = ElfFile64::<LittleEndian>::parse(file).context("the object crate does not read it")?;
    let mut facts = Facts::default();
    for symbol in object.symbols() {
        facts.has_common |= symbol.is_common();
        if symbol.is_undefined() && symbol.index().0 != 0 {
            let name = symbol.name().context("a symbol has no name")?;
            facts.undefined.extend((name != GOT).then(|| name.to_owned()));
        }
    }
    let mut ends = [0_u64; Segment::ALL.len()];
    for section in object.sections() {
        let name = section.name().context("a section has no name")?;
        if name == ENTRIES {
            let init: Vec<_> = section.relocations().filter_map(|(_, entry)| place_in_init(&object, &entry)).collect();
            facts.entries += section.relocations().count() - init.len();
            facts.init_entries.extend(init);
        }
        let Some(segment) = segment_of(&section, name) else { continue };
        let end = &mut ends[segment as usize];
        let offset = end.checked_next_multiple_of(section.align().max(1)).context("a section's alignment is absurd")?;
        *end = offset.checked_add(section.size()).context("a section is absurdly long")?;
        let is_got = |relocation: &object::Relocation| match relocation.flags() {
            RelocationFlags::Elf { r_type } if GOT_KINDS.contains(&r_type.0) => true,
            _ => is_of_got(&object, relocation.target()),
        };
        let got_words = section.relocations().filter(|(_, relocation)| is_got(relocation)).map(|(at, _)| at & !3);
        facts.sections.push(Section {
            index: section.index().0,
            segment,
            offset,
            bytes: section.size(),
            is_in_file: section.elf_section_header().sh_type(LittleEndian) != elf::SHT_NOBITS,
            got_words: got_words.collect(),
        });
    }
    Ok(facts)
}

type File<'a> = ElfFile64<'a, LittleEndian>;
type SectionOf<'a, 'b> = object::read::elf::ElfSection64<'a, 'b, LittleEndian>;

/// Whether a relocation refers to the GOT as a whole.
fn is_of_got(object: &File<'_>, target: RelocationTarget) -> bool {
    let RelocationTarget::Symbol(index) = target else { return false };
    let symbol = object.symbol_table().and_then(|table| table.symbol_by_index(index).ok());
    symbol.is_some_and(|symbol| symbol.name() == Ok(GOT))
}

/// The section and the place in it that an entry names, if that is init text.
fn place_in_init(object: &File<'_>, entry: &object::Relocation) -> Option<(usize, u64)> {
    let RelocationTarget::Symbol(index) = entry.target() else { return None };
    let symbol = object.symbol_table()?.symbol_by_index(index).ok()?;
    let section = object.section_by_index(symbol.section_index()?).ok()?;
    let place = symbol.address().wrapping_add_signed(entry.addend());
    section.name().is_ok_and(is_init).then(|| (section.index().0, place))
}

fn is_init(name: &str) -> bool {
    name == ".init" || name.starts_with(".init.")
}

/// Where the loader's documentation says that a section goes.
fn segment_of(section: &SectionOf<'_, '_>, name: &str) -> Option<Segment> {
    let header = section.elf_section_header();
    let has = |flag| header.sh_flags(LittleEndian).contains(flag);
    let is_placed = has(elf::SHF_ALLOC)
        && header.sh_type(LittleEndian) != elf::SHT_NOTE
        && !name.starts_with(".eh_frame")
        && name != ENTRIES;
    let is_relocated_constant = name.starts_with(".data.rel.ro") || name == ".fentry.exports";
    let is_constant = !has(elf::SHF_WRITE) || is_relocated_constant;
    is_placed.then(|| match (has(elf::SHF_EXECINSTR), is_constant, is_init(name)) {
        (true, _, false) => Segment::Text,
        (true, _, true) => Segment::InitText,
        (false, true, false) => Segment::Rodata,
        (false, true, true) => Segment::InitRodata,
        (false, false, false) => Segment::Data,
        (false, false, true) => Segment::InitData,
    })
}

/// What kind of ELF file for arm64 this is; `None` for all others.
pub(super) fn kind_of(file: &[u8]) -> Option<elf::FileType> {
    let header = elf::FileHeader64::<LittleEndian>::parse(file).ok()?;
    (header.e_machine(LittleEndian) == elf::EM_AARCH64).then(|| header.e_type(LittleEndian))
}
