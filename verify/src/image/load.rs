//! Reads the file's tables.

use std::collections::BTreeMap;
use std::ops::Range;

use object::LittleEndian;
use object::elf::{self, FileHeader64};
use object::read::SectionIndex;
use object::read::elf::{FileHeader, Rela, SectionHeader, SectionTable, Sym, SymbolTable};

use super::{Image, ImageError, PLACED_AT, Relocation, Section, Symbol, SymbolKind, Target};

type Header = FileHeader64<LittleEndian>;

/// The gap that is left between the sections of a relocatable object, and what they are aligned to at least.
const GAP: u64 = 4096;
/// The bit of `st_other` that marks another calling convention (AAELF64 5.5.1).
const STO_AARCH64_VARIANT_PCS: u8 = 0x80;

/// Says what was being read when the file turned out to be damaged.
fn malformed(what: &'static str) -> impl Fn(object::read::Error) -> ImageError {
    move |cause| ImageError::Malformed { what, cause: cause.to_string() }
}

impl<'data> Image<'data> {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It is not a 64-bit little-endian ELF image or object for arm64, has no symbols, or contradicts itself.
    pub fn parse(data: &'data [u8]) -> Result<Self, ImageError> {
        load(data)
    }
}

fn load(data: &[u8]) -> Result<Image<'_>, ImageError> {
    let header = header(data)?;
    let endian = LittleEndian;
    let kind = header.e_type(endian);
    let is_relocatable = match kind {
        elf::ET_REL => true,
        elf::ET_EXEC | elf::ET_DYN => false,
        _ => return Err(ImageError::OtherKind { kind: kind.0 }),
    };
    let table = header.sections(endian, data).map_err(malformed("the section headers"))?;
    let placed = Placed::of(&table, data, is_relocatable)?;
    let sections = placed.checked()?;
    if !sections.iter().any(|section| section.is_executable) {
        return Err(ImageError::NoText);
    }
    let names = table.symbols(endian, data, elf::SHT_SYMTAB).map_err(malformed("the symbol table"))?;
    let symbols = read_symbols(&names, &placed)?;
    if !symbols.iter().any(|symbol| symbol.kind == SymbolKind::Function) {
        return Err(ImageError::Stripped);
    }
    let relocations = read_relocations(&table, data, &placed)?;
    let (type_hashes, entry) = (type_hashes(&names), header.e_entry(endian));
    let image = Image { is_relocatable, entry, sections, symbols, relocations, type_hashes };
    if let Some(address) = image.entry()
        && !(image.section_at(address).is_some_and(|section| section.is_executable) && address.is_multiple_of(4))
    {
        return Err(ImageError::EntryNowhere { address });
    }
    Ok(image)
}

fn header(data: &[u8]) -> Result<&Header, ImageError> {
    if !data.starts_with(&elf::ELFMAG) {
        return Err(ImageError::NotElf);
    }
    if data.get(4..6) != Some(&[elf::ELFCLASS64.0, elf::ELFDATA2LSB.0]) {
        return Err(ImageError::NotElf64Little);
    }
    let header = Header::parse(data).map_err(malformed("the file header"))?;
    match header.e_machine(LittleEndian) {
        elf::EM_AARCH64 => Ok(header),
        machine => Err(ImageError::OtherMachine { machine: machine.0 }),
    }
}

/// Every section of the file, and where the allocated ones are.
struct Placed<'data> {
    is_relocatable: bool,
    /// By the number in the file.
    sections: Vec<(&'data str, Option<Section<'data>>)>,
}

impl<'data> Placed<'data> {
    fn of(table: &SectionTable<'data, Header>, data: &'data [u8], is_relocatable: bool) -> Result<Self, ImageError> {
        let endian = LittleEndian;
        let mut sections = Vec::new();
        let mut next = PLACED_AT;
        for (index, header) in table.enumerate() {
            let name = table.section_name(endian, header).map_err(malformed("a section's name"))?;
            let name = std::str::from_utf8(name).unwrap_or("(a name that is not UTF-8)");
            let (flags, size) = (header.sh_flags(endian).0, header.sh_size(endian));
            let is_thread_local_zero = flags & elf::SHF_TLS.0 != 0 && header.sh_type(endian) == elf::SHT_NOBITS;
            if flags & elf::SHF_ALLOC.0 == 0 || size == 0 || is_thread_local_zero {
                sections.push((name, None));
                continue;
            }
            let too_large = || ImageError::TooLarge { section: name.to_owned() };
            let start = if is_relocatable {
                next.checked_next_multiple_of(header.sh_addralign(endian).max(GAP)).ok_or_else(too_large)?
            } else {
                header.sh_addr(endian)
            };
            let end = start.checked_add(size).ok_or_else(too_large)?;
            next = end.checked_add(GAP).filter(|_| is_relocatable).unwrap_or(next);
            let bytes = header.data(endian, data).map_err(|_| ImageError::Truncated { section: name.to_owned() })?;
            let is_executable = flags & elf::SHF_EXECINSTR.0 != 0;
            if is_executable && !start.is_multiple_of(4) {
                return Err(ImageError::Misaligned { section: name.to_owned(), address: start });
            }
            let is_writable = flags & elf::SHF_WRITE.0 != 0;
            let section = Section { name, range: start..end, is_executable, is_writable, bytes, index: index.0 };
            sections.push((name, Some(section)));
        }
        Ok(Self { is_relocatable, sections })
    }

    /// The allocated sections by address, which must not overlap.
    fn checked(&self) -> Result<Vec<Section<'data>>, ImageError> {
        let mut sections: Vec<_> = self.sections.iter().filter_map(|(_, section)| section.clone()).collect();
        sections.sort_by_key(|section| section.range.start);
        for pair in sections.windows(2) {
            if let [first, second] = pair
                && second.range.start < first.range.end
            {
                let (first, address) = (first.name.to_owned(), second.range.start);
                return Err(ImageError::Overlap { first, second: second.name.to_owned(), address });
            }
        }
        Ok(sections)
    }

    fn name(&self, index: usize) -> &'data str {
        self.sections.get(index).map_or("?", |(name, _)| name)
    }

    fn section(&self, index: usize) -> Option<&Section<'data>> {
        self.sections.get(index)?.1.as_ref()
    }

    /// The address of a symbol of this section.
    fn address(&self, section: &Section<'data>, value: u64) -> u64 {
        if self.is_relocatable { section.range.start.wrapping_add(value) } else { value }
    }
}

fn read_symbols<'data>(
    table: &SymbolTable<'data, Header>,
    placed: &Placed<'data>,
) -> Result<Vec<Symbol<'data>>, ImageError> {
    let endian = LittleEndian;
    let mut symbols = Vec::new();
    let mut file = 0;
    for (index, symbol) in table.enumerate() {
        if symbol.st_type() == elf::STT_FILE {
            file += 1;
            continue;
        }
        let Some(section) = section_of(table, placed, index, symbol)? else { continue };
        let name = symbol.name(endian, table.strings()).map_err(malformed("a symbol's name"))?;
        let name = std::str::from_utf8(name).unwrap_or("(a name that is not UTF-8)");
        let kind = match symbol.st_type() {
            elf::STT_FUNC | elf::STT_GNU_IFUNC => SymbolKind::Function,
            elf::STT_OBJECT | elf::STT_COMMON => SymbolKind::Object,
            elf::STT_NOTYPE if is_mapping(name, "$x") => SymbolKind::MappingCode,
            elf::STT_NOTYPE if is_mapping(name, "$d") => SymbolKind::MappingData,
            elf::STT_NOTYPE if !name.is_empty() => SymbolKind::Label,
            _ => continue,
        };
        let (address, size) = (placed.address(section, symbol.st_value(endian)), symbol.st_size(endian));
        if kind == SymbolKind::Function && section.is_executable {
            check_function(name, address, size, section)?;
        }
        let is_global = symbol.st_bind() != elf::STB_LOCAL;
        let is_hidden = [elf::STV_HIDDEN, elf::STV_INTERNAL].contains(&symbol.st_visibility());
        symbols.push(Symbol {
            name,
            address,
            size,
            kind,
            is_global,
            is_exported: is_global && !is_hidden,
            is_variant_pcs: symbol.st_other().0 & STO_AARCH64_VARIANT_PCS != 0,
            file: if is_global { 0 } else { file },
            section: section.index,
        });
    }
    symbols.sort_by_key(|symbol| symbol.address);
    Ok(symbols)
}

fn type_hashes<'data>(table: &SymbolTable<'data, Header>) -> BTreeMap<&'data str, u32> {
    let absolute = table.iter().filter(|symbol| symbol.st_shndx(LittleEndian) == elf::SHN_ABS);
    let hashes = absolute.filter_map(|symbol| {
        let name = std::str::from_utf8(symbol.name(LittleEndian, table.strings()).ok()?).ok()?;
        Some((name.strip_prefix("__kcfi_typeid_")?, u32::try_from(symbol.st_value(LittleEndian)).ok()?))
    });
    hashes.collect()
}

/// `$x` and `$x.anything` (AAELF64 5.5.3).
fn is_mapping(name: &str, mark: &str) -> bool {
    name.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The allocated section that a symbol is defined in, if it is in one.
fn section_of<'placed, 'data>(
    table: &SymbolTable<'data, Header>,
    placed: &'placed Placed<'data>,
    index: object::SymbolIndex,
    symbol: &elf::Sym64<LittleEndian>,
) -> Result<Option<&'placed Section<'data>>, ImageError> {
    let section: Option<SectionIndex> =
        table.symbol_section(LittleEndian, symbol, index).map_err(malformed("a symbol's section"))?;
    Ok(section.and_then(|section| placed.section(section.0)))
}

fn check_function(name: &str, address: u64, size: u64, section: &Section<'_>) -> Result<(), ImageError> {
    let Range { start, end } = section.range;
    let is_inside = start <= address && address.checked_add(size).is_some_and(|its_end| its_end <= end);
    if !is_inside {
        let (name, section) = (name.to_owned(), section.name.to_owned());
        return Err(ImageError::SymbolOutside { name, address, size, section });
    }
    if !address.is_multiple_of(4) {
        return Err(ImageError::SymbolMisaligned { name: name.to_owned(), address });
    }
    Ok(())
}

fn read_relocations<'data>(
    table: &SectionTable<'data, Header>,
    data: &'data [u8],
    placed: &Placed<'data>,
) -> Result<Vec<Relocation<'data>>, ImageError> {
    let endian = LittleEndian;
    let mut relocations = Vec::new();
    for header in table.iter() {
        let Some((list, link)) = header.rela(endian, data).map_err(malformed("a section of relocations"))? else {
            continue;
        };
        let applied_to = header.sh_info(endian) as usize;
        // In an object they count from their section's start; in an image they are addresses.
        let section = placed.section(applied_to);
        if section.is_none() && (placed.is_relocatable || applied_to != 0) {
            continue;
        }
        let symbols = match link.0 {
            0 => SymbolTable::default(),
            _ => table.symbol_table_by_index(endian, data, link).map_err(malformed("the relocations' symbols"))?,
        };
        for (number, rela) in list.iter().enumerate() {
            let offset = rela.r_offset(endian);
            let at = match section {
                Some(section) if placed.is_relocatable => {
                    let at = section.range.start.checked_add(offset).filter(|at| section.range.contains(at));
                    let name = section.name;
                    at.ok_or_else(|| ImageError::RelocationOutside { section: name.to_owned(), number, offset })?
                }
                _ => offset,
            };
            let symbol = rela.r_sym(endian, false) as usize;
            if link.0 == 0 && symbol != 0 && !placed.is_relocatable {
                // Linux throws .dynsym away, and what is left here is of symbols that have a value already.
                continue;
            }
            let target = target_of(&symbols, placed, symbol)?.ok_or_else(|| ImageError::RelocationSymbol {
                section: placed.name(applied_to).to_owned(),
                number,
                symbol,
            })?;
            relocations.push(Relocation {
                at,
                kind: rela.r_type(endian, false).0,
                target,
                addend: rela.r_addend(endian),
            });
        }
    }
    relocations.sort_by_key(|relocation| relocation.at);
    Ok(relocations)
}

/// What a symbol's number stands for; `None` where it is not in the table.
fn target_of<'data>(
    table: &SymbolTable<'data, Header>,
    placed: &Placed<'data>,
    number: usize,
) -> Result<Option<Target<'data>>, ImageError> {
    if number == 0 {
        return Ok(Some(Target::Address(0)));
    }
    let index = object::SymbolIndex(number);
    let Ok(symbol) = table.symbol(index) else { return Ok(None) };
    let value = symbol.st_value(LittleEndian);
    if let Some(section) = section_of(table, placed, index, symbol)? {
        return Ok(Some(Target::Address(placed.address(section, value))));
    }
    let name = symbol.name(LittleEndian, table.strings()).map_err(malformed("a symbol's name"))?;
    Ok(Some(match symbol.st_shndx(LittleEndian) {
        elf::SHN_ABS => Target::Address(value),
        _ => Target::External(std::str::from_utf8(name).unwrap_or("(a name that is not UTF-8)")),
    }))
}
