//! A relocatable object, checked as far as the file alone allows.
//!
//! Floor 1 within the loader. What is behind an [`Object`] lies inside the file; what names a section or a symbol is
//! checked where it is followed.

use super::error::{LoadError, SectionCause};
use alloc::string::String;
use alloc::vec::Vec;
use object::LittleEndian as Little;
use object::elf;
use object::read::elf::{FileHeader, Rela as _, SectionHeader as _, SectionTable, Sym as _, SymbolTable};
use object::{SectionIndex, SymbolIndex};

type Header = elf::FileHeader64<Little>;
type RelaEntry = elf::Rela64<Little>;

/// An ET_REL file for AArch64.
pub(crate) struct Object<'a> {
    pub(crate) sections: Vec<Section<'a>>,
    pub(crate) symbols: Vec<Symbol<'a>>,
}

/// A section.
pub(crate) struct Section<'a> {
    pub(crate) index: usize,
    pub(crate) name: &'a str,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    pub(crate) alignment: u64,
    pub(crate) bytes: u64,
    /// What the file holds of it; nothing where it is zeros.
    pub(crate) data: &'a [u8],
    pub(crate) relocations: Vec<Relocation>,
}

/// A relocation, its place checked to begin inside the section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relocation {
    pub(crate) offset: u64,
    pub(crate) number: u32,
    /// Checked to be a symbol's index.
    pub(crate) symbol: u32,
    pub(crate) addend: i64,
}

/// A symbol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbol<'a> {
    pub(crate) name: &'a str,
    pub(crate) place: SymbolPlace,
    pub(crate) value: u64,
    pub(crate) bytes: u64,
    pub(crate) is_function: bool,
}

/// Where a symbol says that it is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SymbolPlace {
    /// In a section, by index; it is there.
    Section(usize),
    /// Nowhere: its value is the address.
    Absolute,
    /// In zeros that are yet to be given to it; the value is the alignment.
    Common,
    /// In another module or the kernel.
    Undefined,
    /// The same, or nowhere.
    WeakUndefined,
}

impl<'a> Object<'a> {
    pub(crate) fn parse(file: &'a [u8]) -> Result<Self, LoadError> {
        let header = header(file)?;
        let malformed = |what, index| move |_| LoadError::Malformed { what, index };
        let headers = header.sections(Little, file).map_err(malformed("section table", 0))?;

        let mut sections = Vec::new();
        sections.try_reserve_exact(headers.len())?;
        for (SectionIndex(index), section) in headers.enumerate() {
            let name = headers.section_name(Little, section).map_err(malformed("section name", index))?;
            let name = core::str::from_utf8(name).map_err(|_| LoadError::Malformed { what: "section name", index })?;
            // Section 0 is a place for numbers that don't fit the header.
            let (data, bytes) = match index {
                0 => (&[][..], 0),
                _ => (section.data(Little, file).map_err(malformed("section", index))?, section.sh_size(Little)),
            };
            sections.push(Section {
                index,
                name,
                kind: section.sh_type(Little).0,
                flags: section.sh_flags(Little).0,
                alignment: section.sh_addralign(Little).max(1),
                bytes,
                data,
                relocations: Vec::new(),
            });
        }
        let table = symbol_table(&headers, file)?;
        let symbols = symbols(&table, &sections)?;
        let mut object = Self { sections, symbols };
        object.read_relocations(&headers, file, table.section().0)?;
        Ok(object)
    }

    /// Gives each section that will be loaded the relocations that are for it.
    fn read_relocations(
        &mut self,
        headers: &SectionTable<'a, Header>,
        file: &'a [u8],
        symbol_table: usize,
    ) -> Result<(), LoadError> {
        for (index, header) in headers.iter().enumerate() {
            let kind = header.sh_type(Little);
            if kind != elf::SHT_RELA && kind != elf::SHT_REL {
                continue;
            }
            let target = header.sh_info(Little) as usize;
            let malformed = LoadError::Malformed { what: "relocation section", index };
            let Some(section) = self.sections.get_mut(target) else { return Err(malformed) };
            if !section.is_loaded() {
                continue;
            }
            if kind == elf::SHT_REL {
                return Err(section.refused(SectionCause::ImplicitAddends));
            }
            let Ok(Some((entries, SectionIndex(link)))) = header.rela(Little, file) else { return Err(malformed) };
            if link != symbol_table || !header.sh_size(Little).is_multiple_of(size_of::<RelaEntry>() as u64) {
                return Err(malformed);
            }
            section.relocations.try_reserve_exact(entries.len())?;
            for entry in entries {
                let (symbol, number) = (entry.r_sym(Little, false), entry.r_type(Little, false).0);
                if symbol as usize >= self.symbols.len() {
                    return Err(LoadError::SymbolIndex { section: target, symbol });
                }
                let (offset, addend) = (entry.r_offset(Little), entry.r_addend(Little));
                if offset >= section.bytes {
                    return Err(LoadError::RelocationPlace { section: target, offset });
                }
                // R_AARCH64_NONE has two numbers.
                if number != 0 && number != 256 {
                    section.relocations.push(Relocation { offset, number, symbol, addend });
                }
            }
        }
        Ok(())
    }

    /// The symbol of this index, which a relocation had.
    pub(crate) fn symbol(&self, index: u32) -> &Symbol<'a> {
        &self.symbols[index as usize]
    }
}

impl Section<'_> {
    fn has(&self, flag: elf::SectionFlags) -> bool {
        self.flags & flag.0 != 0
    }

    /// Whether the loader does anything with it.
    pub(crate) fn is_loaded(&self) -> bool {
        // Nobody unwinds a module; a note is for the linker.
        let unused = self.kind == elf::SHT_NOTE.0 || self.name.starts_with(".eh_frame");
        self.has(elf::SHF_ALLOC) && !unused
    }

    pub(crate) fn is_text(&self) -> bool {
        self.has(elf::SHF_EXECINSTR)
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.has(elf::SHF_WRITE)
    }

    pub(crate) fn is_thread_local(&self) -> bool {
        self.has(elf::SHF_TLS)
    }

    /// Whether it is an array of callsites' addresses.
    pub(crate) fn is_patchable_entries(&self) -> bool {
        self.name == "__patchable_function_entries"
    }

    /// Whether it is zeros that the file doesn't hold.
    pub(crate) fn is_zeros(&self) -> bool {
        self.kind == elf::SHT_NOBITS.0
    }

    /// Whether its bytes are the program's own business.
    pub(crate) fn is_program(&self) -> bool {
        self.is_zeros() || self.kind == elf::SHT_PROGBITS.0
    }

    pub(crate) fn refused(&self, cause: SectionCause) -> LoadError {
        LoadError::Section { index: self.index, name: String::from(self.name), cause }
    }
}

fn header(file: &[u8]) -> Result<&Header, LoadError> {
    if file.get(..4) != Some(&elf::ELFMAG) {
        return Err(LoadError::NotElf);
    }
    let ident = |at: usize, expected: u8, field| match file.get(at) {
        Some(found) if *found == expected => Ok(()),
        Some(found) => Err(LoadError::WrongKind { field, found: (*found).into(), expected: expected.into() }),
        None => Err(LoadError::Malformed { what: "header", index: 0 }),
    };
    ident(4, elf::ELFCLASS64.0, "class")?;
    ident(5, elf::ELFDATA2LSB.0, "byte order")?;
    ident(6, elf::EV_CURRENT.0, "version")?;
    let header = Header::parse(file).map_err(|_| LoadError::Malformed { what: "header", index: 0 })?;
    let field = |field, found: u16, expected: u16| {
        let wrong = LoadError::WrongKind { field, found: found.into(), expected: expected.into() };
        if found == expected { Ok(()) } else { Err(wrong) }
    };
    field("type", header.e_type(Little).0, elf::ET_REL.0)?;
    field("machine", header.e_machine(Little).0, elf::EM_AARCH64.0)?;
    Ok(header)
}

fn symbol_table<'a>(headers: &SectionTable<'a, Header>, file: &'a [u8]) -> Result<SymbolTable<'a, Header>, LoadError> {
    headers.symbols(Little, file, elf::SHT_SYMTAB).map_err(|_| LoadError::Malformed { what: "symbol table", index: 0 })
}

fn symbols<'a>(table: &SymbolTable<'a, Header>, sections: &[Section<'a>]) -> Result<Vec<Symbol<'a>>, LoadError> {
    let mut symbols = Vec::new();
    symbols.try_reserve_exact(table.len())?;
    for (index, symbol) in table.iter().enumerate() {
        let malformed = |what| LoadError::Malformed { what, index };
        let name = table.symbol_name(Little, symbol).map_err(|_| malformed("symbol name"))?;
        let name = core::str::from_utf8(name).map_err(|_| malformed("symbol name"))?;
        let (value, bytes) = (symbol.st_value(Little), symbol.st_size(Little));
        let misplaced = || LoadError::SymbolPlace { index, name: name.into() };
        let place = match symbol.st_shndx(Little) {
            elf::SHN_UNDEF if symbol.st_bind() == elf::STB_WEAK => SymbolPlace::WeakUndefined,
            elf::SHN_UNDEF => SymbolPlace::Undefined,
            elf::SHN_ABS => SymbolPlace::Absolute,
            elf::SHN_COMMON => SymbolPlace::Common,
            _ => {
                let section = table.symbol_section(Little, symbol, SymbolIndex(index)).map_err(|_| misplaced())?;
                let section = section.and_then(|SectionIndex(at)| sections.get(at)).ok_or_else(misplaced)?;
                if value > section.bytes {
                    return Err(misplaced());
                }
                SymbolPlace::Section(section.index)
            }
        };
        let is_function = symbol.st_type() == elf::STT_FUNC;
        symbols.push(Symbol { name, place, value, bytes, is_function });
    }
    Ok(symbols)
}
