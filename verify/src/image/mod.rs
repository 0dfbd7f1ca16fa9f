//! An ELF file's sections, symbols and relocations, checked once, so that the rooms above need not doubt them.
//!
//! Everything has one address. In a linked image that is the address that the linker gave. In a relocatable object, where
//! every section begins at zero, each allocated section is placed behind the one before it, from [`PLACED_AT`] on, with a gap
//! between; so an address names one byte here as well, and relocations are applied as if it had been linked so.

mod error;
mod load;
mod memory;
mod property;
#[cfg(test)]
pub(crate) mod tests;

pub use error::ImageError;
pub use memory::Pointer;

use std::collections::BTreeMap;
use std::ops::Range;

/// Where the first section of a relocatable object is placed. Nothing is placed below, so that no small number is an address.
pub const PLACED_AT: u64 = 0x1_0000_0000;

/// An ELF image or relocatable object for arm64.
#[derive(Debug)]
pub struct Image<'data> {
    is_relocatable: bool,
    entry: u64,
    /// By address; none overlaps another.
    sections: Vec<Section<'data>>,
    /// By address, then in the file's order.
    symbols: Vec<Symbol<'data>>,
    /// By address.
    relocations: Vec<Relocation<'data>>,
    type_hashes: BTreeMap<&'data str, u32>,
}

/// An allocated section of at least one byte.
#[derive(Clone, Debug)]
pub struct Section<'data> {
    /// Its name.
    pub name: &'data str,
    /// Where it is.
    pub range: Range<u64>,
    /// Whether it holds instructions.
    pub is_executable: bool,
    /// Whether it may be written.
    pub is_writable: bool,
    /// What the file has of it: all, or nothing, when it is zero.
    pub bytes: &'data [u8],
    /// Its number in the file.
    pub index: usize,
}

/// A defined symbol of an allocated section.
#[derive(Clone, Debug)]
pub struct Symbol<'data> {
    /// Its name as the linker knows it.
    pub name: &'data str,
    /// Where it is.
    pub address: u64,
    /// Its size in bytes; 0 where the compiler or assembler gave none.
    pub size: u64,
    /// What it stands for.
    pub kind: SymbolKind,
    /// Whether other files can refer to it.
    pub is_global: bool,
    /// Whether other files can use it when they are linked dynamically, or loaded: it is global, and not hidden.
    pub is_exported: bool,
    /// Whether it is marked as a function whose callers may rely on more registers than the AAPCS64 preserves
    /// (STO_AARCH64_VARIANT_PCS, AAELF64 5.5.1).
    pub is_variant_pcs: bool,
    /// The source file that it came from, for local symbols that stand behind one: a number, the same for the same file.
    pub file: u32,
    /// The number of its section in the file.
    pub section: usize,
}

/// What a symbol stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SymbolKind {
    /// A function.
    Function,
    /// Data.
    Object,
    /// Code begins here: `$x` (AAELF64 5.5.3).
    MappingCode,
    /// Data begins here: `$d`.
    MappingData,
    /// A label of which nothing more is said.
    Label,
}

/// A place in the image that the linker or loader fills in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation<'data> {
    /// The place.
    pub at: u64,
    /// How (`R_AARCH64_...`, AAELF64 5.7).
    pub kind: u32,
    /// What it refers to.
    pub target: Target<'data>,
    /// What is added to that.
    pub addend: i64,
}

/// What a relocation refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'data> {
    /// This address; zero for relocations that need no symbol.
    Address(u64),
    /// A symbol that another file defines.
    External(&'data str),
}

impl<'data> Image<'data> {
    /// Whether it is a relocatable object, such as a module, and not linked.
    pub fn is_relocatable(&self) -> bool {
        self.is_relocatable
    }

    /// Where the file says that execution begins; `None` where it does not say so.
    pub fn entry(&self) -> Option<u64> {
        (self.entry != 0).then_some(self.entry)
    }

    /// The allocated sections, by address.
    pub fn sections(&self) -> &[Section<'data>] {
        &self.sections
    }

    /// The section that has this byte.
    pub fn section_at(&self, address: u64) -> Option<&Section<'data>> {
        let after = self.sections.partition_point(|section| section.range.start <= address);
        let section = self.sections.get(after.checked_sub(1)?)?;
        section.range.contains(&address).then_some(section)
    }

    /// The section of this name; the first where there are several.
    pub fn section_named(&self, name: &str) -> Option<&Section<'data>> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The symbols, by address.
    pub fn symbols(&self) -> &[Symbol<'data>] {
        &self.symbols
    }

    /// The hash of a function's type, as files have it that take the function's address and do not define it: compilers name it
    /// `__kcfi_typeid_` and the function, for those who write functions in assembly.
    pub fn type_hash(&self, function: &str) -> Option<u32> {
        self.type_hashes.get(function).copied()
    }

    /// What lies between two symbols, if both are there.
    pub fn between(&self, (start, stop): (&str, &str)) -> Option<Range<u64>> {
        let address = |name| self.symbols.iter().find(|symbol| symbol.name == name).map(|symbol| symbol.address);
        Some(address(start)?..address(stop)?)
    }

    /// The relocations, by address.
    pub fn relocations(&self) -> &[Relocation<'data>] {
        &self.relocations
    }
}

impl Relocation<'_> {
    /// The address that it refers to; `None` where another file defines that.
    pub fn address(&self) -> Option<u64> {
        match self.target {
            Target::Address(address) => Some(address.wrapping_add_signed(self.addend)),
            Target::External(_) => None,
        }
    }
}
