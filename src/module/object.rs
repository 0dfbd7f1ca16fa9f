//! A relocatable object, checked as far as the file alone allows.
//!
//! What is behind an [`Object`] lies inside the file; what names a section or a symbol is
//! checked where it is followed.

use super::error::{LoadError, SectionCause, owned};
use super::kinds::RelocKind;
use super::section::{ElfName, RelaEntry, Section, is_known_type};
use crate::symbols::Convention;
use alloc::string::String;
use alloc::vec::Vec;
use object::LittleEndian as Little;
use object::elf;
use object::read::elf::{FileHeader as _, Rela as _, SectionHeader as _, SectionTable, Sym as _, SymbolTable};
use object::{SectionIndex, SymbolIndex};

type Header = elf::FileHeader64<Little>;

/// An ET_REL file for AArch64.
pub(crate) struct Object<'a> {
    pub(crate) sections: Vec<Section<'a>>,
    pub(crate) symbols: Vec<ObjectSymbol<'a>>,
}

/// A symbol of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObjectSymbol<'a> {
    pub(crate) name: ElfName<'a>,
    pub(crate) place: SymbolPlace,
    pub(crate) value: u64,
    pub(crate) bytes: u64,
    pub(crate) is_function: bool,
    pub(crate) convention: Convention,
}

/// Where a symbol says that it is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SymbolPlace {
    /// In a section, by index; it is there.
    Section(usize),
    /// In no section: its value is the address.
    Absolute,
    /// In zeros that are yet to be allocated for it; the value is the alignment.
    Common,
    /// In another module or the kernel.
    Undefined,
    /// In another module, the kernel, or nowhere.
    WeakUndefined,
}

impl<'a> Object<'a> {
    pub(crate) fn parse(file: &'a [u8]) -> Result<Self, LoadError> {
        let header = header(file)?;
        let malformed = |what, index| move |_| LoadError::Malformed { what, index };
        let headers = header.sections(Little, file).map_err(malformed("section table", 0))?;

        let names =
            section_names(header, &headers, file).ok_or(LoadError::Malformed { what: "section names", index: 0 })?;
        let mut sections = Vec::new();
        sections.try_reserve_exact(headers.len())?;
        for (SectionIndex(index), section) in headers.enumerate() {
            // Section 0 is a place for numbers that don't fit the header.
            let (data, bytes) = match index {
                0 => (&[][..], 0),
                _ => (section.data(Little, file).map_err(malformed("section", index))?, section.sh_size(Little)),
            };
            let Some(name) = ElfName::at(names, section.sh_name(Little)) else {
                return Err(LoadError::Malformed { what: "section name", index });
            };
            sections.push(Section {
                index,
                name,
                kind: section.sh_type(Little).0,
                flags: section.sh_flags(Little).0,
                alignment: section.sh_addralign(Little).max(1),
                bytes,
                data,
                relocations: &[],
            });
        }
        for section in sections.iter().skip(1) {
            section.check_form()?;
        }
        let table = symbol_table(&headers, file)?;
        let strings = strings(&headers, file, table.string_section());
        let strings = strings.ok_or(LoadError::Malformed { what: "symbol names", index: 0 })?;
        let symbols = symbols(&table, strings, &sections)?;
        let mut object = Self { sections, symbols };
        object.read_relocations(&headers, file, table.section().0)?;
        Ok(object)
    }

    /// Gives each section that will be loaded, or read, the relocations that are for it.
    fn read_relocations(
        &mut self,
        headers: &SectionTable<'a, Header>,
        file: &'a [u8],
        symbol_table: usize,
    ) -> Result<(), LoadError> {
        for (index, header) in headers.iter().enumerate() {
            let kind = header.sh_type(Little);
            let (is_rela, is_rel) = (kind == elf::SHT_RELA, kind == elf::SHT_REL);
            // An unknown kind that is about another section may change what is in that.
            let is_about = header.sh_flags(Little).0 & elf::SHF_INFO_LINK.0 != 0;
            if !is_rela && !is_rel && (!is_about || is_known_type(kind)) {
                continue;
            }
            let target = header.sh_info(Little) as usize;
            let malformed = || LoadError::Malformed { what: "relocation section", index };
            let section = self.sections.get(target).ok_or_else(malformed)?;
            if !section.is_loaded() && !section.is_unwind_table() {
                continue;
            }
            if !is_rela {
                let cause = if is_rel { SectionCause::ImplicitAddends } else { SectionCause::Relocations(kind.0) };
                return Err(section.refused(cause));
            }
            let Ok(Some((entries, SectionIndex(link)))) = header.rela(Little, file) else { return Err(malformed()) };
            let is_whole = header.sh_size(Little).is_multiple_of(size_of::<RelaEntry>() as u64);
            if link != symbol_table || !is_whole || !section.relocations.is_empty() {
                return Err(malformed());
            }
            for entry in entries {
                self.check_relocation(section, entry)?;
            }
            self.sections[target].relocations = entries;
        }
        Ok(())
    }

    fn check_relocation(&self, section: &Section<'a>, entry: &RelaEntry) -> Result<(), LoadError> {
        let (symbol, offset) = (entry.r_sym(Little, false), entry.r_offset(Little));
        let number = entry.r_type(Little, false).0;
        if symbol as usize >= self.symbols.len() {
            return Err(LoadError::SymbolIndex { section: section.index, symbol });
        }
        let bytes = match RelocKind::of(number) {
            Some(kind) => kind.bytes().into(),
            None if NOTHING_TO_DO.contains(&number) => 1,
            None if THREAD_LOCAL.contains(&number) => {
                let (section, symbol) = (section.own_name()?, self.symbol_name(symbol)?);
                return Err(LoadError::ThreadLocal { section, offset, symbol });
            }
            None => {
                let (section, symbol) = (section.own_name()?, self.symbol_name(symbol)?);
                return Err(LoadError::UnknownRelocation { section, offset, number, symbol });
            }
        };
        if offset.checked_add(bytes).is_none_or(|end| end > section.bytes) {
            return Err(LoadError::RelocationPlace { section: section.index, offset });
        }
        Ok(())
    }

    /// The name of the symbol of this index; where it stands for a section, that section's.
    pub(crate) fn symbol_name(&self, index: u32) -> Result<String, LoadError> {
        let Some(symbol) = self.symbols.get(index as usize) else { return owned("") };
        match symbol.place {
            SymbolPlace::Section(section) if symbol.name.is("") => self.sections[section].own_name(),
            _ => owned(symbol.name.text().unwrap_or_default()),
        }
    }
}

/// The numbers of R_AARCH64_NONE.
const NOTHING_TO_DO: [u32; 2] = [0, 256];
/// The numbers of the kinds for thread-local storage (AAELF64 5.7.12).
const THREAD_LOCAL: core::ops::RangeInclusive<u32> = 512..=573;

impl ObjectSymbol<'_> {
    /// The error for a symbol that is in no section, or behind its section's end.
    pub(crate) fn misplaced(&self, index: usize) -> LoadError {
        match owned(self.name.text().unwrap_or_default()) {
            Ok(name) => LoadError::SymbolPlace { index, name },
            Err(error) => error,
        }
    }
}

/// The names of the sections.
fn section_names<'a>(header: &Header, headers: &SectionTable<'a, Header>, file: &'a [u8]) -> Option<&'a [u8]> {
    let index = header.shstrndx(Little, file).ok()? as usize;
    strings(headers, file, SectionIndex(index))
}

/// What a section of strings holds; `None` where its last string doesn't end.
fn strings<'a>(headers: &SectionTable<'a, Header>, file: &'a [u8], section: SectionIndex) -> Option<&'a [u8]> {
    let section = headers.section(section).ok()?;
    let is_strings = section.sh_type(Little) == elf::SHT_STRTAB;
    section.data(Little, file).ok().filter(|strings| is_strings && strings.last() == Some(&0))
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
    if !headers.iter().any(|header| header.sh_type(Little) == elf::SHT_SYMTAB) {
        return Err(LoadError::NoSymbolTable);
    }
    headers.symbols(Little, file, elf::SHT_SYMTAB).map_err(|_| LoadError::Malformed { what: "symbol table", index: 0 })
}

fn symbols<'a>(
    table: &SymbolTable<'a, Header>,
    strings: &'a [u8],
    sections: &[Section<'a>],
) -> Result<Vec<ObjectSymbol<'a>>, LoadError> {
    let mut symbols = Vec::new();
    symbols.try_reserve_exact(table.len())?;
    for (index, entry) in table.iter().enumerate() {
        let Some(name) = ElfName::at(strings, entry.st_name(Little)) else {
            return Err(LoadError::Malformed { what: "symbol name", index });
        };
        if entry.st_type() == elf::STT_GNU_IFUNC {
            return Err(LoadError::IndirectFunction { index, name: owned(name.text().unwrap_or_default())? });
        }
        let mut symbol = ObjectSymbol {
            name,
            place: SymbolPlace::Undefined,
            value: entry.st_value(Little),
            bytes: entry.st_size(Little),
            is_function: entry.st_type() == elf::STT_FUNC,
            convention: Convention::of_st_other(entry.st_other().0),
        };
        symbol.place = match entry.st_shndx(Little) {
            elf::SHN_UNDEF if entry.st_bind() == elf::STB_WEAK => SymbolPlace::WeakUndefined,
            elf::SHN_UNDEF => SymbolPlace::Undefined,
            elf::SHN_ABS => SymbolPlace::Absolute,
            elf::SHN_COMMON => SymbolPlace::Common,
            _ => {
                let section = table.symbol_section(Little, entry, SymbolIndex(index)).ok().flatten();
                let section = section.and_then(|SectionIndex(at)| sections.get(at));
                let section = section.filter(|section| symbol.value <= section.bytes);
                SymbolPlace::Section(section.ok_or_else(|| symbol.misplaced(index))?.index)
            }
        };
        symbols.push(symbol);
    }
    Ok(symbols)
}
