//! A kernel's image as it stands in memory after it has been loaded and, where it has to, has relocated itself.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use fentry::insn::Insn;
use fentry::symbols::{Convention, Function};
use object::elf::{self, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, ObjectSymbolTable, SectionFlags, SymbolIndex};

use crate::image::{self, Image};
use crate::symbols;

/// An image, loaded. Nothing of the file is copied but names and the words that relocations fill in.
#[derive(Debug)]
pub(super) struct Loaded<'data> {
    /// Whether it can run at any address.
    pub(super) position_independent: bool,
    pub(super) segments: Vec<Segment<'data>>,
    pub(super) sections: Vec<Section>,
    /// The functions, demangled, by address.
    pub(super) functions: Vec<Function>,
    /// Those of them that are too far from the others for the symbol table.
    pub(super) left_out: Vec<symbols::LeftOut>,
    /// Every defined symbol as the linker knows it.
    labels: Vec<(String, u64)>,
    /// How many words the relocations have filled in.
    pub(super) relocations: usize,
    /// Those that the file doesn't have, by address: one for each.
    relocated: Vec<(u64, u64)>,
    /// The sections with relocations with addends: where they are loaded, and their records.
    records: Vec<(u64, &'data [u8])>,
}

/// A piece of memory that the loader fills.
#[derive(Debug)]
pub(super) struct Segment<'data> {
    pub(super) addr: u64,
    pub(super) size: u64,
    pub(super) is_writable: bool,
    pub(super) is_executable: bool,
    /// What the file has of it; the rest is zero.
    bytes: &'data [u8],
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

/// The words of a piece of memory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// Address and value of each that is not zero.
    pub(super) set: Vec<(u64, u64)>,
    /// How many are zero.
    pub(super) zeros: u64,
}

/// A piece of a file without anything in it.
const HOLE: [u8; 4096] = [0; 4096];

impl Section {
    pub(super) fn range(&self) -> Range<u64> {
        self.addr..self.addr.saturating_add(self.size)
    }
}

impl<'data> Loaded<'data> {
    /// Loads an image at the address that it was linked at.
    pub(super) fn load(data: &'data [u8]) -> Result<Self> {
        let symbols::Contents { mut functions, left_out, .. } = symbols::read_image(data)?;
        functions.extend(left_out.iter().flat_map(|left_out| left_out.functions.iter().cloned()));
        functions.sort_by_key(|function| function.addr);
        let image = image::parse(data)?;
        let kind = image.elf_header().e_type(LittleEndian);
        ensure!(kind != elf::ET_REL, "this is an object file: link it first");
        ensure!(kind == elf::ET_EXEC || kind == elf::ET_DYN, "this is no image of a kernel");
        let mut loaded = Self {
            position_independent: kind == elf::ET_DYN,
            segments: segments(&image, data)?,
            sections: image.sections().map(|section| read_section(&section)).collect(),
            functions,
            left_out,
            labels: labels(&image),
            relocations: 0,
            relocated: Vec::new(),
            records: Vec::new(),
        };
        loaded.relocate(&image, data.len())?;
        // GNU ld calls an image for a fixed address what it makes by -pie for an address that is not zero.
        loaded.position_independent |= loaded.relocations > 0;
        Ok(loaded)
    }

    /// Whether the file has been stripped of its symbols.
    pub(super) fn is_stripped(&self) -> bool {
        self.functions.is_empty() && self.labels.is_empty()
    }

    /// Does what the kernel's own start-up code would do: RELATIVE and ABS64 with their addends; and the forms without
    /// addends, REL and RELR, whose words the linker has already filled in.
    fn relocate(&mut self, image: &Image<'data>, file_bytes: usize) -> Result<()> {
        let mut bytes = 0_usize;
        for section in image.sections() {
            let header = section.elf_section_header();
            let kind = header.sh_type(LittleEndian);
            let is_loaded = header.sh_flags(LittleEndian).contains(elf::SHF_ALLOC);
            if !is_loaded || ![elf::SHT_RELA, elf::SHT_REL, elf::SHT_RELR].contains(&kind) {
                continue;
            }
            let Ok(data) = section.data() else { continue };
            bytes = bytes.saturating_add(data.len());
            ensure!(bytes <= file_bytes, "the sections with relocations overlap");
            match kind {
                elf::SHT_RELA => {
                    self.records.push((section.address(), data));
                    for (at, word) in data.chunks_exact(24).filter_map(|rela| read_rela(image, rela)) {
                        if self.has_word(at) {
                            self.relocations += 1;
                            self.relocated.push((at, word));
                        }
                    }
                }
                elf::SHT_REL => self.relocations += rel_places(data).filter(|at| self.has_word(*at)).count(),
                _ => self.relocations += relr_places(data).filter(|at| self.has_word(*at)).count(),
            }
        }
        // Of several for one place the last one is what stays there.
        self.relocated.reverse();
        self.relocated.sort_by_key(|(at, _)| *at);
        self.relocated.dedup_by_key(|(at, _)| *at);
        Ok(())
    }

    fn has_word(&self, at: u64) -> bool {
        at.checked_add(8).is_some_and(|end| self.segment_of(&(at..end)).is_some())
    }

    /// From the first relocation with an addend to the end of the last one; none if there are none.
    pub(super) fn records(&self) -> Option<Range<u64>> {
        let end = |(addr, data): &(u64, &[u8])| addr.saturating_add(data.len() as u64);
        Some(self.records.iter().map(|(addr, _)| *addr).min()?..self.records.iter().map(end).max()?)
    }

    /// The addresses of those relocations that write into `range`.
    pub(super) fn records_for(&self, range: &Range<u64>) -> impl Iterator<Item = u64> {
        let all = self.records.iter().flat_map(|(addr, data)| (*addr..).step_by(24).zip(data.chunks_exact(24)));
        let writes =
            move |record: &[u8]| record[..8].try_into().is_ok_and(|at| range.contains(&u64::from_le_bytes(at)));
        all.filter(move |(_, record)| writes(record)).map(|(addr, _)| addr)
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

    /// The function that `addr` is in.
    pub(super) fn function_at(&self, addr: u64) -> Option<&Function> {
        let after = self.functions.partition_point(|function| function.addr <= addr);
        // Inside a function there may be labels, and other functions that end before.
        self.functions[..after].iter().rev().take(64).find(|function| addr - function.addr < function.size)
    }

    /// The name of the function that `addr` is in, and where in it.
    pub(super) fn name_of(&self, addr: u64) -> String {
        match self.function_at(addr) {
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

    /// The instructions of a function, as far as the file has them, and no other function begins: so each is read once.
    pub(super) fn instructions(&self, function: &Function) -> impl Iterator<Item = Insn> {
        let after = self.functions.partition_point(|other| other.addr <= function.addr);
        let next = self.functions[after..].iter().find(|other| other.size != 0).map_or(u64::MAX, |next| next.addr);
        let end = function.addr.saturating_add(function.size).min(next);
        let bytes = self.bytes(&(function.addr..end)).unwrap_or_default();
        bytes.as_chunks().0.iter().map(|word| Insn::decode(u32::from_le_bytes(*word)))
    }

    /// The symbols whose names, as mangled, satisfy `wanted`.
    pub(super) fn labels_where<'a>(&'a self, wanted: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = u64> + 'a {
        self.labels.iter().filter(move |(name, _)| wanted(name)).map(|(_, addr)| *addr)
    }

    /// The names, as mangled, that satisfy `wanted`, with their addresses.
    pub(super) fn labels_named(&self, wanted: impl Fn(&str) -> bool) -> BTreeSet<(u64, &str)> {
        self.labels.iter().filter(|(name, _)| wanted(name)).map(|(name, addr)| (*addr, name.as_str())).collect()
    }

    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The segment that has all of `range`.
    pub(super) fn segment_of(&self, range: &Range<u64>) -> Option<&Segment<'data>> {
        let holds = |segment: &&Segment<'_>| {
            let offset = range.start.checked_sub(segment.addr);
            let bytes = range.end.checked_sub(range.start);
            offset
                .zip(bytes)
                .and_then(|(offset, bytes)| offset.checked_add(bytes))
                .is_some_and(|end| end <= segment.size)
        };
        self.segments.iter().find(holds)
    }

    /// Where in `range` the first byte is that no segment has which is `meant`, and the segment that has it otherwise.
    pub(super) fn first_outside(
        &self,
        range: &Range<u64>,
        meant: impl Fn(&Segment<'_>) -> bool,
    ) -> Option<(u64, Option<&Segment<'data>>)> {
        let has = |segment: &Segment<'_>, at: u64| at.checked_sub(segment.addr).is_some_and(|at| at < segment.size);
        let mut at = range.start;
        // Each turn goes beyond another segment.
        while at < range.end {
            let Some(segment) = self.segments.iter().find(|segment| meant(segment) && has(segment, at)) else {
                return Some((at, self.segments.iter().find(|segment| has(segment, at))));
            };
            at = segment.addr.saturating_add(segment.size);
        }
        None
    }

    pub(super) fn read_u32(&self, addr: u64) -> Option<u32> {
        self.read(addr).map(u32::from_le_bytes)
    }

    fn read_u64(&self, addr: u64) -> Option<u64> {
        self.read(addr).map(u64::from_le_bytes)
    }

    /// The bytes of `range` as the file has them, without what relocations fill in.
    pub(super) fn bytes(&self, range: &Range<u64>) -> Option<&'data [u8]> {
        let segment = self.segment_of(range)?;
        let start = usize::try_from(range.start - segment.addr).ok()?;
        let length = usize::try_from(range.end - range.start).ok()?;
        segment.bytes.get(start..start.checked_add(length)?)
    }

    /// The words of `range`, whose start is aligned to one; none where it is not in one segment. What this costs depends on
    /// what the file has there, not on how long the range is.
    pub(super) fn words(&self, range: &Range<u64>) -> Words {
        let Some(segment) = self.segment_of(range) else { return Words::default() };
        let start = usize::try_from(range.start - segment.addr).unwrap_or(usize::MAX).min(segment.bytes.len());
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX).min(segment.bytes.len() - start);
        let mut touched: Vec<u64> = Vec::new();
        for (block, start) in
            segment.bytes[start..start + length].chunks(HOLE.len()).zip((range.start..).step_by(HOLE.len()))
        {
            // What a sparse file doesn't hold is left at one comparison.
            if *block != HOLE[..block.len()] {
                let words = block.chunks(8).zip((start..).step_by(8));
                touched.extend(words.filter(|(word, _)| **word != HOLE[..word.len()]).map(|(_, at)| at));
            }
        }
        let first = self.relocated.partition_point(|(at, _)| at.saturating_add(8) <= range.start);
        let relocated = self.relocated[first..].iter().take_while(|(at, _)| *at < range.end);
        // One that is not aligned changes two words.
        let floor = |at: u64| range.start + (at.saturating_sub(range.start) & !7);
        touched.extend(relocated.flat_map(|(at, _)| [floor(*at), floor(at.saturating_add(7))]));
        touched.sort_unstable();
        touched.dedup();
        let is_inside = |at: &u64| at.checked_add(8).is_some_and(|end| end <= range.end);
        let words = touched.into_iter().filter(is_inside).filter_map(|at| Some((at, self.read_u64(at)?)));
        let set: Vec<(u64, u64)> = words.filter(|(_, word)| *word != 0).collect();
        let zeros = (range.end - range.start) / 8 - set.len() as u64;
        Words { set, zeros }
    }

    /// `N` bytes, 8 at most; what the file does not have is zero.
    fn read<const N: usize>(&self, addr: u64) -> Option<[u8; N]> {
        let range = addr..addr.checked_add(N as u64)?;
        let segment = self.segment_of(&range)?;
        let mut bytes = [0; N];
        let offset = usize::try_from(addr - segment.addr).unwrap_or(usize::MAX);
        let in_file = segment.bytes.get(offset..).unwrap_or_default();
        bytes.iter_mut().zip(in_file).for_each(|(byte, of_file)| *byte = *of_file);
        let first = self.relocated.partition_point(|(at, _)| at.saturating_add(8) <= addr);
        for (at, word) in self.relocated[first..].iter().take_while(|(at, _)| *at < range.end) {
            for (place, byte) in (*at..).zip(word.to_le_bytes()) {
                let index = place.checked_sub(addr).and_then(|index| usize::try_from(index).ok());
                if let Some(own) = index.and_then(|index| bytes.get_mut(index)) {
                    *own = byte;
                }
            }
        }
        Some(bytes)
    }
}

fn segments<'data>(image: &Image<'data>, data: &'data [u8]) -> Result<Vec<Segment<'data>>> {
    let mut segments = Vec::new();
    for header in image.elf_program_headers().iter().filter(|header| header.p_type(LittleEndian) == PT_LOAD) {
        let flags = header.p_flags(LittleEndian);
        let (addr, size) = (header.p_vaddr(LittleEndian), header.p_memsz(LittleEndian));
        let bytes = header.data(LittleEndian, data).ok().context("a segment reaches beyond the end of the file")?;
        ensure!(addr.checked_add(size).is_some(), "a segment reaches beyond the end of the address space");
        ensure!(bytes.len() as u64 <= size, "a segment has more bytes in the file than in memory");
        segments.push(Segment {
            addr,
            size,
            is_writable: flags.contains(elf::PF_W),
            is_executable: flags.contains(elf::PF_X),
            bytes,
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

/// Where a relocation writes, and what.
fn read_rela(image: &Image<'_>, rela: &[u8]) -> Option<(u64, u64)> {
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
    Some((at, base.wrapping_add(addend)))
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
