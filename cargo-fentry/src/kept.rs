//! Sections that a linker script keeps for tables: named, made as objects to link, and filled in where there is room.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use object::read::elf::{FileHeader, ProgramHeader};
use object::write::{self, StandardSegment};
use object::{
    Architecture, BinaryFormat, Endianness, LittleEndian, Object, ObjectSymbol, RelocationFlags, SectionKind,
    SymbolFlags, SymbolKind, SymbolScope, elf,
};

use crate::image::{self, Image};

/// A section that a linker script keeps, and the symbols that it puts around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The section's name.
    pub section: String,
    /// The symbol at its first byte.
    pub start: String,
    /// The symbol behind its last byte.
    pub stop: String,
}

impl Kept {
    /// A section of this name between these symbols.
    pub fn new(section: &str, start: &str, stop: &str) -> Self {
        Self { section: section.to_owned(), start: start.to_owned(), stop: stop.to_owned() }
    }

    /// This, but for what a command line names.
    pub fn but(self, section: Option<&str>, symbols: Option<&(String, String)>) -> Self {
        let section = section.map_or(self.section, str::to_owned);
        let (start, stop) = symbols.cloned().unwrap_or((self.start, self.stop));
        Self { section, start, stop }
    }

    /// Two symbols as a command line has them, with a comma between.
    pub fn symbols_around(text: &str) -> Result<(String, String), String> {
        match text.split_once(',') {
            Some((start, stop)) if !start.is_empty() && !stop.is_empty() && !stop.contains(',') => {
                Ok((start.to_owned(), stop.to_owned()))
            }
            _ => Err("expected two names with a comma between them".to_owned()),
        }
    }

    /// Where examples/fentry.ld keeps the table.
    pub fn symbols() -> Self {
        Self::new(".fentry.symbols", "__fentry_symbols_start", "__fentry_symbols_stop")
    }

    /// Where examples/fentry.ld keeps the unwind table.
    pub fn unwind() -> Self {
        Self::new(".fentry.unwind", "__fentry_unwind_start", "__fentry_unwind_stop")
    }
}

/// A table to link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToLink<'a> {
    pub(crate) kept: &'a Kept,
    pub(crate) table: &'a [u8],
    /// What the linker is to write into it.
    pub(crate) distance: Option<&'a Distance>,
}

/// Eight bytes of a table that say how far an address is from the table's own: only the linker knows where it puts the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Distance {
    /// Where in the table.
    pub(crate) at: u64,
    /// A symbol that the linker knows, and how far behind it the address is.
    pub(crate) symbol: String,
    pub(crate) behind: i64,
}

/// An object file with tables in their sections, to link.
pub(crate) fn object_of(tables: &[ToLink<'_>]) -> Result<Vec<u8>> {
    let mut object = write::Object::new(BinaryFormat::Elf, Architecture::Aarch64, Endianness::Little);
    let segment = object.segment_name(StandardSegment::Data).to_vec();
    for &ToLink { kept, table, distance } in tables {
        let name = kept.section.clone().into_bytes();
        let section = object.add_section(segment.clone(), name, SectionKind::ReadOnlyData);
        object.append_section_data(section, table, 8);
        if let Some(Distance { at, symbol, behind }) = distance {
            let symbol = object.add_symbol(undefined(symbol));
            let r_type = elf::R_AARCH64_PREL64;
            // It is the distance from the place, which is behind the table's start.
            let addend = behind + *at as i64;
            let flags = RelocationFlags::Elf { r_type };
            object.add_relocation(section, write::Relocation { offset: *at, symbol, addend, flags })?;
        }
    }
    object.write().context("the object file cannot be made")
}

/// A symbol that another file defines.
fn undefined(name: &str) -> write::Symbol {
    write::Symbol {
        name: name.as_bytes().to_vec(),
        value: 0,
        size: 0,
        kind: SymbolKind::Unknown,
        scope: SymbolScope::Unknown,
        weak: false,
        section: write::SymbolSection::Undefined,
        flags: SymbolFlags::None,
    }
}

/// A kind of table, for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables {
    pub(crate) name: &'static str,
    /// The linker's symbol that says how much room to leave.
    pub(crate) room: &'static str,
}

/// What to write into an image.
#[derive(Debug)]
pub(crate) struct Filling {
    pub(crate) room: u64,
    pub(crate) at: u64,
    pub(crate) table_len: usize,
    /// Bytes by their offset in the file.
    pub(crate) pieces: Vec<(u64, Vec<u8>)>,
}

impl Filling {
    /// The table that `make` makes for its address, and what of the file it takes the place of, which `check` sees.
    pub(crate) fn of(
        data: &[u8],
        kept: &Kept,
        tables: Tables,
        make: impl FnOnce(u64) -> Result<Vec<u8>>,
        check: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<Self> {
        let image = image::parse(data)?;
        let address =
            |name: &str| image.symbol_by_name(name).filter(|symbol| !symbol.is_undefined()).map(|s| s.address());
        let (Some(at), Some(stop)) = (address(&kept.start), address(&kept.stop)) else {
            bail!(
                "it does not define {} and {}; see examples/fentry.ld for the linker fragment",
                kept.start,
                kept.stop
            );
        };
        let mut table = make(at)?;
        let (table_len, Tables { name, room: room_symbol }) = (table.len(), tables);
        let room = stop.checked_sub(at).with_context(|| format!("{} is before {}", kept.stop, kept.start))?;
        ensure!(
            table_len as u64 <= room,
            "the {name} has {table_len} bytes, and the image has room for {room}: link with \
             --defsym={room_symbol}={table_len} or more"
        );
        let offsets = in_file(&image, at, room)?;
        let old = usize::try_from(offsets.start).ok().zip(usize::try_from(offsets.end).ok());
        let old = old.and_then(|(start, end)| data.get(start..end)).context("its room is not in the file")?;
        if let Err(error) = check(old) {
            bail!("something else is at {at:#x} than an empty room or a {name} ({error})");
        }
        table.resize(old.len(), 0);
        let mut pieces = vec![(offsets.start, table)];
        pieces.extend(as_contents(&image, at, offsets.start));
        Ok(Self { room, at, table_len, pieces })
    }

    /// Writes it.
    pub(crate) fn write(&self, image: &Path) -> Result<()> {
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().write(true).open(image)?;
            for (at, bytes) in &self.pieces {
                file.seek(SeekFrom::Start(*at))?;
                file.write_all(bytes)?;
            }
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", image.display()))
    }
}

/// Where the file has what is loaded to these addresses.
fn in_file(image: &Image<'_>, at: u64, bytes: u64) -> Result<Range<u64>> {
    let endian = image.endian();
    let loaded = image.elf_program_headers().iter().filter(|segment| segment.p_type(endian) == elf::PT_LOAD);
    for segment in loaded {
        let into = at.checked_sub(segment.p_vaddr(endian));
        let Some(into) = into.filter(|into| into.saturating_add(bytes) <= segment.p_filesz(endian)) else { continue };
        let start = segment.p_offset(endian).saturating_add(into);
        return Ok(start..start.saturating_add(bytes));
    }
    bail!("its room at {at:#x} has no bytes in the file: keep the section in front of the last data of its segment")
}

/// GNU ld takes a section of nothing but room for one without contents. It has the bytes in the file all the same, and
/// objcopy copies them once the section says so: the type to write, and where.
fn as_contents(image: &Image<'_>, at: u64, offset: u64) -> Option<(u64, Vec<u8>)> {
    let endian = image.endian();
    let is_it = |section: &&elf::SectionHeader64<LittleEndian>| {
        section.sh_type.get(endian) == elf::SHT_NOBITS
            && section.sh_addr.get(endian) == at
            && section.sh_offset.get(endian) == offset
            && section.sh_size.get(endian) > 0
    };
    let index = image.elf_section_table().iter().position(|section| is_it(&section))?;
    let header = image.elf_header();
    let entry = index as u64 * u64::from(header.e_shentsize(endian));
    // sh_type follows the four bytes of sh_name.
    Some((header.e_shoff(endian) + entry + 4, elf::SHT_PROGBITS.0.to_le_bytes().to_vec()))
}
