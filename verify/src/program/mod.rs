//! Sections, functions, symbols and instructions of an image, and the way from one instruction to the next.
//!
//! An instruction is an [`InsnId`]: its number among all words of the executable sections. Numbers take four bytes, order
//! as addresses do, and index whatever a validator keeps for each instruction. The words themselves stay in the file, and are
//! decoded when they are asked for; what is kept of each is one byte of marks.
//!
//! # Functions
//! A function is a range of text that symbols name; several at one address are aliases. What compilers have split off one
//! (`f.cold`, `f.cold.1`, `f.part.0`, a piece that the machine outliner took from it alone) and reach by a jump is a *part* of
//! it: [`Program::of_function`] goes on into the parts, and [`Program::is_same_function`] takes them for one. What is called
//! stands for itself, whatever its name, since it has a frame of its own.

mod build;
mod function;
mod functions;
mod id;
mod insns;
mod made;
mod oddity;
mod parts;
mod place;
#[cfg(test)]
pub(crate) mod tests;

use std::ops::Range;

use fentry::TextAddr;
use fentry::insn::{Exception, Flow, Insn, System};

pub use function::{Function, FunctionId, Landing};
pub use id::{InsnId, SectionId, SymbolId};
pub use insns::Insns;
pub use oddity::Oddity;
pub use place::PlaceName;

use crate::image::{Image, Relocation, Symbol};

/// An executable section.
#[derive(Debug)]
struct Text<'data> {
    name: &'data str,
    /// Its number in the file.
    index: usize,
    start: u64,
    first: u32,
    words: u32,
    bytes: &'data [u8],
}

/// What is known of a word without decoding it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marks(u8);

impl Marks {
    /// It is data: a literal, a table, a function's hash.
    const DATA: u8 = 1;
    /// A relocation fills it in.
    const RELOCATED: u8 = 2;

    const fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }
}

/// An image's instructions and functions.
#[derive(Debug)]
pub struct Program<'data> {
    image: Image<'data>,
    texts: Vec<Text<'data>>,
    marks: Vec<Marks>,
    /// By address; none overlaps another.
    functions: Vec<Function>,
    /// The function or part that each word is in.
    owners: Vec<Option<FunctionId>>,
    oddities: Vec<Oddity>,
    has_hashes: bool,
}

/// Where a direct branch or call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'data> {
    /// To this instruction.
    Insn(InsnId),
    /// To another file's symbol.
    External(&'data str),
    /// To an address that has no instruction.
    Outside(u64),
}

impl<'data> Program<'data> {
    /// The image.
    pub fn image(&self) -> &Image<'data> {
        &self.image
    }

    /// What is odd about the symbols, and how it was taken.
    pub fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }

    /// Whether its callers compare the hashes of functions' types (kCFI).
    pub fn has_hashes(&self) -> bool {
        self.has_hashes
    }

    /// The BRKs that checks of hashes end in, each with its number, which says what registers the check used (Linux,
    /// arch/arm64/include/asm/brk-imm.h, CFI_BRK_IMM_BASE).
    pub(crate) fn hash_checks(&self) -> impl Iterator<Item = (InsnId, u32)> + '_ {
        // BRK: the rest of the word is its number.
        let brks = self.all().filter(|id| self.word(*id) & 0xffe0_001f == 0xd420_0000);
        brks.filter_map(|id| match self.insn(id) {
            Insn::System(System::Exception { kind: Exception::Brk, imm }) if imm.get() & 0xfc00 == 0x8000 => {
                Some((id, imm.get()))
            }
            _ => None,
        })
    }

    /// How many instructions and words of data the executable sections have.
    pub fn words(&self) -> usize {
        self.marks.len()
    }

    /// The instruction at an address; `None` where there is none, or data.
    pub fn at(&self, address: TextAddr) -> Option<InsnId> {
        self.word_at(address.get()).filter(|id| !self.is_data(*id))
    }

    /// The instruction at an offset from its section's start, in bytes: how objects' tools name places.
    pub fn at_offset(&self, section: SectionId, offset: u64) -> Option<InsnId> {
        let text = self.texts.get(section.0 as usize)?;
        self.at(TextAddr::new(text.start.checked_add(offset)?)).filter(|id| self.section_of(*id) == section)
    }

    /// The instruction or word of data at an address.
    fn word_at(&self, address: u64) -> Option<InsnId> {
        let after = self.texts.partition_point(|text| text.start <= address);
        let text = self.texts.get(after.checked_sub(1)?)?;
        let words = (address - text.start) / 4;
        (address.is_multiple_of(4) && words < u64::from(text.words)).then(|| InsnId(text.first + words as u32))
    }

    /// Where an instruction is. Those of a relocatable object are where its sections were placed; [`Self::place`] prints a
    /// name for it.
    pub fn address(&self, id: InsnId) -> TextAddr {
        let text = self.text_of(id);
        TextAddr::new(text.start + 4 * u64::from(id.0 - text.first))
    }

    /// The word.
    pub fn word(&self, id: InsnId) -> u32 {
        let text = self.text_of(id);
        let at = 4 * (id.0 - text.first) as usize;
        // A section without bytes in the file is zero.
        text.bytes.get(at..at + 4).map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }

    /// The instruction that the word is.
    pub fn insn(&self, id: InsnId) -> Insn {
        Insn::decode(self.word(id))
    }

    /// Whether a word is data, as the file's mapping symbols say, or a function's hash.
    pub fn is_data(&self, id: InsnId) -> bool {
        self.marks.get(id.index()).is_some_and(|marks| marks.has(Marks::DATA))
    }

    /// The relocation that fills an instruction in. That there is none is known without a search.
    pub fn relocation(&self, id: InsnId) -> Option<&Relocation<'data>> {
        let is_relocated = self.marks.get(id.index())?.has(Marks::RELOCATED);
        is_relocated.then(|| self.image.relocation_at(self.address(id).get()))?
    }

    /// Where a direct branch or call goes, by its relocation if it has one; `None` for every other instruction.
    pub fn destination(&self, id: InsnId) -> Option<Destination<'data>> {
        let (Flow::Jump(bytes) | Flow::CondJump(bytes) | Flow::Call(bytes)) = self.insn(id).effects().flow else {
            return None;
        };
        Some(self.destination_of(id, bytes))
    }

    /// The same, where the distance is known already.
    pub(crate) fn destination_of(&self, id: InsnId, bytes: i64) -> Destination<'data> {
        use crate::image::Target;
        let address = match self.relocation(id).filter(|relocation| relocation.is_of_branch()) {
            Some(Relocation { target: Target::External(name), .. }) => return Destination::External(name),
            Some(relocation) => relocation.address().unwrap_or(0),
            None => self.address(id).get().wrapping_add_signed(bytes),
        };
        self.word_at(address).map_or(Destination::Outside(address), Destination::Insn)
    }

    /// Whether a jump's destination is in the instruction.
    pub fn is_static_jump(&self, id: InsnId) -> bool {
        matches!(self.insn(id).effects().flow, Flow::Jump(_) | Flow::CondJump(_))
    }

    /// Whether a jump goes where a register says.
    pub fn is_dynamic_jump(&self, id: InsnId) -> bool {
        matches!(self.insn(id).effects().flow, Flow::IndirectJump(_))
    }

    /// The executable sections, by address.
    pub fn sections(&self) -> impl ExactSizeIterator<Item = SectionId> + use<> {
        (0..self.texts.len() as u32).map(SectionId)
    }

    /// The executable section of this name; the first where there are several.
    pub fn section_named(&self, name: &str) -> Option<SectionId> {
        self.sections().find(|section| self.section_name(*section) == name)
    }

    /// A section's name.
    pub fn section_name(&self, section: SectionId) -> &'data str {
        self.texts.get(section.0 as usize).map_or("?", |text| text.name)
    }

    /// A section's number in the file.
    pub fn section_index(&self, section: SectionId) -> usize {
        self.texts.get(section.0 as usize).map_or(0, |text| text.index)
    }

    /// Where a section starts.
    pub fn section_start(&self, section: SectionId) -> TextAddr {
        TextAddr::new(self.texts.get(section.0 as usize).map_or(0, |text| text.start))
    }

    /// The section that an instruction is in.
    pub fn section_of(&self, id: InsnId) -> SectionId {
        SectionId(self.texts.partition_point(|text| text.first <= id.0).saturating_sub(1) as u32)
    }

    fn text_of(&self, id: InsnId) -> &Text<'data> {
        match &self.texts[..] {
            [only] => only,
            texts => &texts[self.section_of(id).0 as usize],
        }
    }

    /// The words of a section.
    pub(crate) fn section_range(&self, section: SectionId) -> Range<u32> {
        self.texts.get(section.0 as usize).map_or(0..0, |text| text.first..text.first + text.words)
    }

    /// The symbols that lie in executable sections, but for mapping symbols.
    pub fn symbols(&self) -> impl Iterator<Item = SymbolId> {
        let symbols = self.image.symbols().iter().enumerate();
        symbols.filter(|(_, symbol)| self.is_text_symbol(symbol)).map(|(index, _)| SymbolId(index as u32))
    }

    fn is_text_symbol(&self, symbol: &Symbol<'_>) -> bool {
        use crate::image::SymbolKind::{Function, Label, Object};
        matches!(symbol.kind, Function | Object | Label) && self.texts.iter().any(|text| text.index == symbol.section)
    }

    /// A symbol's entry in the file.
    ///
    /// # Panics
    ///
    /// For a symbol of another program.
    pub fn symbol(&self, symbol: SymbolId) -> &Symbol<'data> {
        &self.image.symbols()[symbol.0 as usize]
    }
}
