//! The unwind table of a relocatable object, such as a module, which the object itself gets: a section that fentry's loader reads,
//! and relocations that tell it where the object's sections are.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use fentry::context::unwind::{Unplaced, UnwindTable};
use fentry_verify::table::SectionRows;
use fentry_verify::{Cfi, Flow, Image, NoReturn, Program};
use object::elf::{FileHeader64, SectionHeader64};
use object::pod::{bytes_of, bytes_of_slice};
use object::read::elf::{FileHeader, SectionHeader, SectionTable, Sym};
use object::{LittleEndian, SectionIndex, U32, U64, elf};

type Header = FileHeader64<LittleEndian>;
type Section = SectionHeader64<LittleEndian>;

/// An object's unwind table.
#[derive(Clone, Debug)]
pub struct ModuleTable {
    table: Vec<u8>,
    /// The numbers, in the file, of the sections that it is about.
    sections: Vec<usize>,
    functions: usize,
}

impl ModuleTable {
    /// The table of a relocatable object that was followed.
    ///
    /// # Errors
    ///
    /// It has no function.
    pub fn of(flow: &Flow<'_>, cfi: &Cfi) -> Result<Self> {
        let program = flow.program();
        let rows = SectionRows::of(flow, cfi);
        let functions = rows.sections().map(|(_, functions)| functions).sum();
        ensure!(functions != 0, "there are no symbols of functions");
        let table = rows.encode()?;
        let start = |(section, _)| program.section_start(section).get();
        let placed = Unplaced::parse(&table)?.place(rows.sections().map(start))?;
        if let Some(id) = rows.differs_at(flow, cfi, &UnwindTable::parse(&placed)?) {
            bail!("the table does not say what was found at {}: a defect of this tool", program.place(id));
        }
        let sections = rows.sections().map(|(section, _)| program.section_index(section)).collect();
        Ok(Self { table, sections, functions })
    }

    /// Makes the table of an object and puts it into that.
    ///
    /// # Errors
    ///
    /// The file can't be read or written, or is no relocatable object with functions.
    pub fn add(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot give {} an unwind table", path.display());
        let data = std::fs::read(path).with_context(cannot)?;
        let program = Program::new(Image::parse(&data).with_context(cannot)?);
        ensure!(program.image().is_relocatable(), "{} is no relocatable object", path.display());
        let flow = Flow::follow(&program, &NoReturn::default());
        let table = Self::of(&flow, &Cfi::of(&flow)).with_context(cannot)?;
        table.add_to(path)?;
        Ok(table)
    }

    /// Puts it into the object that it was made of; in the place of the one that is there, if one is.
    ///
    /// # Errors
    ///
    /// The file can't be read or written.
    pub fn add_to(&self, path: &Path) -> Result<()> {
        let cannot = || format!("cannot give {} an unwind table", path.display());
        let data = std::fs::read(path).with_context(cannot)?;
        std::fs::write(path, self.added(&data).with_context(cannot)?).with_context(cannot)
    }

    /// The object with the table: what is there stays where it is, and all that is new or longer comes behind.
    fn added(&self, data: &[u8]) -> Result<Vec<u8>> {
        let mut header = *Header::parse(data)?;
        let table = header.sections(LittleEndian, data)?;
        let symbols = table.iter().position(|section| section.sh_type(LittleEndian) == elf::SHT_SYMTAB);
        let SectionIndex(strings) = header.section_strings_index(LittleEndian, data)?;
        let mut names = table.section(SectionIndex(strings))?.data(LittleEndian, data)?.to_vec();
        let relocations = self.relocations(&table, data)?;

        let mut file = data.to_vec();
        let mut sections: Vec<Section> = table.iter().copied().collect();
        let mut index_of = |name: &str, made: Section| {
            if let Some((index, _)) = table.section_by_name(LittleEndian, name.as_bytes()) {
                return index.0;
            }
            sections.push(Section { sh_name: U32::new(LittleEndian, names.len() as u32), ..made });
            names.extend(name.as_bytes());
            names.push(0);
            sections.len() - 1
        };
        let about = index_of(".fentry.unwind", section(elf::SHT_PROGBITS, elf::SectionFlags(0), [0, 0, 0]));
        let links = [symbols.unwrap_or(0), about, RELOCATION_LEN];
        let by = index_of(".rela.fentry.unwind", section(elf::SHT_RELA, elf::SHF_INFO_LINK, links));
        for (index, bytes) in [(about, &self.table), (by, &relocations), (strings, &names)] {
            put(&mut file, sections.get_mut(index).context("a section is missing")?, bytes);
        }

        file.resize(file.len().next_multiple_of(8), 0);
        header.e_shoff.set(LittleEndian, file.len() as u64);
        // As many as SHN_LORESERVE or more are told by the first section (System V ABI, "ELF Header").
        let all = sections.len();
        let count = u16::try_from(all).ok().filter(|count| *count < 0xff00);
        let first = sections.first_mut().context("it has no sections")?;
        first.sh_size.set(LittleEndian, if count.is_none() { all as u64 } else { 0 });
        header.e_shnum.set(LittleEndian, count.unwrap_or(0));
        file.extend(bytes_of_slice(&sections));
        file[..size_of::<Header>()].copy_from_slice(bytes_of(&header));
        Ok(file)
    }

    /// The relocations that tell the table where its sections are, each by a symbol of that section.
    fn relocations(&self, table: &SectionTable<'_, Header>, data: &[u8]) -> Result<Vec<u8>> {
        let symbols = table.symbols(LittleEndian, data, elf::SHT_SYMTAB)?;
        // The first of each: local ones come first, and nobody else defines them.
        let mut known: Vec<Option<(usize, u64)>> = vec![None; table.len()];
        for (index, symbol) in symbols.enumerate() {
            let section = symbols.symbol_section(LittleEndian, symbol, index)?;
            if let Some(known) = section.and_then(|section| known.get_mut(section.0)) {
                *known = known.or(Some((index.0, symbol.st_value(LittleEndian))));
            }
        }
        let mut relocations = Vec::new();
        for (place, section) in Unplaced::parse(&self.table)?.address_places().zip(&self.sections) {
            let (symbol, value) = known.get(*section).copied().flatten().context("a section of text has no symbol")?;
            let info = (symbol as u64) << 32 | u64::from(elf::R_AARCH64_ABS64.0);
            relocations.extend([place, info, value.wrapping_neg()].map(u64::to_le_bytes).as_flattened());
        }
        Ok(relocations)
    }
}

/// The bytes of a relocation with an addend.
const RELOCATION_LEN: usize = 24;

/// A section header, but for its name and where its bytes are; what it is linked to, what it is about, and its entries' size.
fn section(kind: elf::SectionType, flags: elf::SectionFlags, [link, info, entry]: [usize; 3]) -> Section {
    let number = |number: u64| U64::new(LittleEndian, number);
    Section {
        sh_name: U32::new(LittleEndian, 0),
        sh_type: U32::new(LittleEndian, kind),
        sh_flags: U64::new(LittleEndian, flags),
        sh_addr: number(0),
        sh_offset: number(0),
        sh_size: number(0),
        sh_link: U32::new(LittleEndian, link as u32),
        sh_info: U32::new(LittleEndian, info as u32),
        sh_addralign: number(8),
        sh_entsize: number(entry as u64),
    }
}

/// Puts a section's bytes at the end of the file.
fn put(file: &mut Vec<u8>, section: &mut Section, bytes: &[u8]) {
    file.resize(file.len().next_multiple_of(8), 0);
    section.sh_offset.set(LittleEndian, file.len() as u64);
    section.sh_size.set(LittleEndian, bytes.len() as u64);
    file.extend(bytes);
}

impl fmt::Display for ModuleTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, sections, functions } = self;
        let each = table.len() as f64 / (*functions).max(1) as f64;
        let (bytes, sections) = (table.len(), sections.len());
        writeln!(f, "unwind table  {bytes} bytes, {each:.1} a function, of {functions} in {sections} sections")
    }
}
