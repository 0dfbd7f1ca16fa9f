//! A kernel's image as it stands in memory after it has been loaded and, where it has to, has relocated itself.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use fentry::insn::Insn;
use fentry::symbols::{Convention, Function};
use object::elf::{self, PT_LOAD};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader, SectionHeader};
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, ObjectSymbolTable, SectionFlags, SymbolIndex};

use crate::symbols;

/// An image, loaded.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Whether it can run at any address.
    pub(super) position_independent: bool,
    pub(super) segments: Vec<Segment>,
    pub(super) sections: Vec<Section>,
    /// The functions, demangled, by address.
    pub(super) functions: Vec<Function>,
    /// Every defined symbol as the linker knows it.
    labels: Vec<(String, u64)>,
    /// How many words the relocations have filled in.
    pub(super) relocations: usize,
}

/// A piece of memory that the loader fills.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) addr: u64,
    pub(super) size: u64,
    pub(super) is_writable: bool,
    pub(super) is_executable: bool,
    /// What the file has of it; the rest is zero.
    bytes: Vec<u8>,
}

/// A piece of the file that has a name.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) addr: u64,
    pub(super) size: u64,
    pub(super) is_allocated: bool,
    pub(super) is_executable: bool,
}

/// A place where a relocation writes, and what.
struct Fixup {
    at: u64,
    value: FixupValue,
}

enum FixupValue {
    Word(u64),
    /// The word that is there, which is right for the address that the image was linked at.
    Kept,
}

impl Section {
    pub(super) fn range(&self) -> Range<u64> {
        self.addr..self.addr + self.size
    }
}

impl Loaded {
    /// Loads an image at the address that it was linked at.
    pub(super) fn load(data: &[u8]) -> Result<Self> {
        let functions = symbols::read_image(data)?.functions;
        let image = ElfFile64::<LittleEndian>::parse(data).context("this is not a 64-bit little-endian ELF image")?;
        let header = image.elf_header();
        let kind = header.e_type(LittleEndian);
        ensure!(kind != elf::ET_REL, "this is an object file: link it first");
        ensure!(kind == elf::ET_EXEC || kind == elf::ET_DYN, "this is no image of a kernel");
        let mut loaded = Self {
            position_independent: kind == elf::ET_DYN,
            segments: segments(&image, data)?,
            sections: image.sections().map(|section| read_section(&section)).collect(),
            functions,
            labels: labels(&image),
            relocations: 0,
        };
        for Fixup { at, value } in fixups(&image, &loaded) {
            loaded.relocations += 1;
            if let FixupValue::Word(word) = value {
                loaded.write_word(at, word);
            }
        }
        Ok(loaded)
    }

    /// The address of a symbol.
    pub(super) fn label(&self, name: &str) -> Option<u64> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, addr)| *addr)
    }

    /// The range between two symbols, if both are there and in order.
    pub(super) fn between(&self, start: &str, stop: &str) -> Option<Range<u64>> {
        let (start, stop) = (self.label(start)?, self.label(stop)?);
        (start <= stop).then_some(start..stop)
    }

    /// The function that `addr` is in, and where in it.
    pub(super) fn name_of(&self, addr: u64) -> String {
        let after = self.functions.partition_point(|function| function.addr <= addr);
        let function = after.checked_sub(1).and_then(|index| self.functions.get(index));
        match function.filter(|function| addr - function.addr < function.size) {
            Some(Function { name, addr: start, size, .. }) => format!("{name}+{:#x}/{size:#x}", addr - start),
            None => "in no function".to_owned(),
        }
    }

    /// What the callers of a function that begins at `addr` may count on, by any of its names.
    pub(super) fn convention_of(&self, addr: u64) -> Convention {
        let first = self.functions.partition_point(|function| function.addr < addr);
        let mut names = self.functions[first..].iter().take_while(|function| function.addr == addr);
        let is_variant = names.any(|function| function.convention == Convention::Variant);
        if is_variant { Convention::Variant } else { Convention::Base }
    }

    /// The instructions of a function, as far as the file has them.
    pub(super) fn instructions(&self, function: &Function) -> impl Iterator<Item = Insn> {
        let bytes = self.bytes(&(function.addr..function.addr.saturating_add(function.size))).unwrap_or_default();
        bytes.as_chunks().0.iter().map(|word| Insn::decode(u32::from_le_bytes(*word)))
    }

    /// The symbols whose names, as mangled, satisfy `wanted`.
    pub(super) fn labels_where<'a>(&'a self, wanted: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = u64> + 'a {
        self.labels.iter().filter(move |(name, _)| wanted(name)).map(|(_, addr)| *addr)
    }

    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The segment that has all of `range`.
    pub(super) fn segment_of(&self, range: &Range<u64>) -> Option<&Segment> {
        self.segments
            .iter()
            .find(|segment| segment.addr <= range.start && range.end.saturating_sub(segment.addr) <= segment.size)
    }

    pub(super) fn read_u32(&self, addr: u64) -> Option<u32> {
        self.read(addr).map(u32::from_le_bytes)
    }

    pub(super) fn read_u64(&self, addr: u64) -> Option<u64> {
        self.read(addr).map(u64::from_le_bytes)
    }

    /// The bytes of `range`, which the file must have.
    pub(super) fn bytes(&self, range: &Range<u64>) -> Option<&[u8]> {
        let segment = self.segment_of(range)?;
        let start = usize::try_from(range.start - segment.addr).ok()?;
        let length = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        segment.bytes.get(start..start.checked_add(length)?)
    }

    fn read<const N: usize>(&self, addr: u64) -> Option<[u8; N]> {
        let range = addr..addr.checked_add(N as u64)?;
        match self.bytes(&range) {
            Some(bytes) => bytes.try_into().ok(),
            // What the file does not have is zero.
            None => self.segment_of(&range).map(|_| [0; N]),
        }
    }

    fn write_word(&mut self, at: u64, word: u64) {
        for segment in &mut self.segments {
            let Some(start) = at.checked_sub(segment.addr).and_then(|offset| usize::try_from(offset).ok()) else {
                continue;
            };
            if let Some(bytes) = segment.bytes.get_mut(start..start.saturating_add(8)) {
                bytes.copy_from_slice(&word.to_le_bytes());
                return;
            }
        }
    }
}

type Image<'a> = ElfFile64<'a, LittleEndian>;

fn segments(image: &Image<'_>, data: &[u8]) -> Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for header in image.elf_program_headers().iter().filter(|header| header.p_type(LittleEndian) == PT_LOAD) {
        let flags = header.p_flags(LittleEndian);
        let bytes = header.data(LittleEndian, data).ok().context("a segment reaches beyond the end of the file")?;
        segments.push(Segment {
            addr: header.p_vaddr(LittleEndian),
            size: header.p_memsz(LittleEndian),
            is_writable: flags.contains(elf::PF_W),
            is_executable: flags.contains(elf::PF_X),
            bytes: bytes.to_vec(),
        });
    }
    Ok(segments)
}

fn read_section<'data>(section: &impl ObjectSection<'data>) -> Section {
    let has = |flag| matches!(section.flags(), SectionFlags::Elf { sh_flags, .. } if sh_flags.contains(flag));
    Section {
        name: section.name().unwrap_or_default().to_owned(),
        addr: section.address(),
        size: section.size(),
        is_allocated: has(elf::SHF_ALLOC),
        is_executable: has(elf::SHF_EXECINSTR),
    }
}

fn labels(image: &Image<'_>) -> Vec<(String, u64)> {
    let defined = image.symbols().chain(image.dynamic_symbols()).filter(|symbol| !symbol.is_undefined());
    defined.filter_map(|symbol| Some((symbol.name().ok()?.to_owned(), symbol.address()))).collect()
}

/// What the kernel's own start-up code would write: RELATIVE and ABS64 with their addends; and the forms without addends,
/// REL and RELR, whose words the linker has already filled in.
fn fixups(image: &Image<'_>, loaded: &Loaded) -> Vec<Fixup> {
    let mut fixups = Vec::new();
    for section in image.sections() {
        let Ok(data) = section.data() else { continue };
        match section.elf_section_header().sh_type(LittleEndian) {
            elf::SHT_RELA => fixups.extend(data.chunks_exact(24).filter_map(|rela| read_rela(image, rela))),
            elf::SHT_REL => fixups.extend(rel_places(data).map(|at| Fixup { at, value: FixupValue::Kept })),
            elf::SHT_RELR => fixups.extend(relr_places(data).map(|at| Fixup { at, value: FixupValue::Kept })),
            _ => {}
        }
    }
    fixups.retain(|fixup| loaded.segment_of(&(fixup.at..fixup.at.saturating_add(8))).is_some());
    fixups
}

fn read_rela(image: &Image<'_>, rela: &[u8]) -> Option<Fixup> {
    let word = |at: usize| rela.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let (at, info, addend) = (word(0)?, word(8)?, word(16)?);
    let kind = elf::RelocationType((info & 0xffff_ffff) as u32);
    let base = match kind {
        elf::R_AARCH64_RELATIVE => 0,
        elf::R_AARCH64_ABS64 => {
            let index = SymbolIndex(usize::try_from(info >> 32).ok()?);
            image.dynamic_symbol_table()?.symbol_by_index(index).ok()?.address()
        }
        _ => return None,
    };
    Some(Fixup { at, value: FixupValue::Word(base.wrapping_add(addend)) })
}

/// The addresses that a REL section names.
fn rel_places(data: &[u8]) -> impl Iterator<Item = u64> {
    data.chunks_exact(16).filter_map(|entry| entry[..8].try_into().ok()).map(u64::from_le_bytes)
}

/// The addresses that a RELR section names: an even entry is one, and an odd one is a bitmap of the 63 words after the
/// last.
fn relr_places(data: &[u8]) -> impl Iterator<Item = u64> {
    let mut next = 0_u64;
    let entries = data.chunks_exact(8).filter_map(|entry| entry.try_into().ok()).map(u64::from_le_bytes);
    entries.flat_map(move |entry| {
        let mut places = Vec::new();
        if entry & 1 == 0 {
            places.push(entry);
            next = entry.wrapping_add(8);
        } else {
            let bits = (1..64).filter(|bit| entry >> bit & 1 == 1);
            places.extend(bits.map(|bit| next.wrapping_add(8 * (bit - 1))));
            next = next.wrapping_add(8 * 63);
        }
        places
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relr_gives_addresses_and_the_words_that_its_bitmaps_mark() {
        let entries = [0x1000_u64, 0b1011, 0x1, 0b11, 0x2000];
        let data: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        let after_two_bitmaps = 0x1008 + 2 * 8 * 63;
        assert_eq!(relr_places(&data).collect::<Vec<_>>(), [0x1000, 0x1008, 0x1018, after_two_bitmaps, 0x2000]);
    }
}
