//! The kernel's symbol table, made from a linked image.

use std::cmp::Reverse;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fentry::symbols::{Convention, Function, encode};
use object::read::elf::{ElfFile64, ElfSymbol64};
use object::write::{self, StandardSegment};
use object::{
    Architecture, BinaryFormat, Endianness, LittleEndian, Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind,
    elf,
};

/// The section that the linker script keeps for the table, and the symbols that it puts around it.
const SECTION: &str = ".fentry.symbols";
const START: &str = "__fentry_symbols_start";
const STOP: &str = "__fentry_symbols_stop";

/// What the table says about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) functions: Vec<Function>,
    /// Where the table itself is, if the linker script has a place for it.
    pub(crate) anchor: Option<u64>,
}

/// A 64-bit little-endian ELF image.
type Image<'a> = ElfFile64<'a, LittleEndian>;

/// Reads an image's functions.
pub(crate) fn read_image(data: &[u8]) -> Result<Contents> {
    let image = Image::parse(data).context("this is not a 64-bit little-endian ELF image")?;
    ensure!(image.architecture() == Architecture::Aarch64, "this image is for {:?}", image.architecture());
    let addr_of = |name| image.symbol_by_name(name).filter(|symbol| !symbol.is_undefined()).map(|s| s.address());
    let anchor = addr_of(START).filter(|_| addr_of(STOP).is_some());
    Ok(Contents { functions: functions(&image), anchor })
}

/// A function symbol before its place among others of its address is settled.
struct Candidate {
    name: String,
    addr: u64,
    size: u64,
    is_local: bool,
    convention: Convention,
}

/// Every function and every global label in text, by address; those with one address in the order of preference.
fn functions(image: &Image<'_>) -> Vec<Function> {
    let mut candidates: Vec<Candidate> = image.symbols().filter_map(|symbol| candidate(image, &symbol)).collect();
    // Of several names for one address: sized before unsized, global before local, then the shortest.
    candidates.sort_by(|a, b| {
        let key = |c: &Candidate| (c.addr, Reverse(c.size), c.is_local, c.name.len());
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    candidates.dedup_by(|again, kept| {
        let is_same = (again.addr, &again.name) == (kept.addr, &kept.name);
        if is_same && again.convention == Convention::Variant {
            kept.convention = Convention::Variant;
        }
        is_same
    });
    let function = |Candidate { name, addr, size, convention, .. }| Function { name, addr, size, convention };
    candidates.into_iter().map(function).collect()
}

fn candidate(image: &Image<'_>, symbol: &ElfSymbol64<'_, '_, LittleEndian>) -> Option<Candidate> {
    let section = image.section_by_index(symbol.section_index()?).ok()?;
    let name = symbol.name().ok()?;
    let is_function = symbol.kind() == SymbolKind::Text;
    let is_label = symbol.elf_symbol().st_type() == elf::STT_NOTYPE && symbol.is_global();
    let in_text = section.kind() == SectionKind::Text;
    let section_end = section.address() + section.size();
    let wanted = (is_function || is_label)
        && in_text
        && !name.is_empty()
        && !name.starts_with('$')
        && !name.starts_with("__cfi_")
        && !name.starts_with("__fentry_")
        && (section.address()..section_end).contains(&symbol.address());
    wanted.then(|| Candidate {
        name: format!("{:#}", rustc_demangle::demangle(name)),
        addr: symbol.address(),
        // Of a function in assembly without a size, one instruction is known; a label has none.
        size: if is_function { symbol.size().max(4) } else { 0 },
        is_local: symbol.is_local(),
        convention: Convention::of_st_other(symbol.elf_symbol().st_other.0),
    })
}

/// The table for `contents` as an object file to link.
pub(crate) fn object_file(contents: &Contents) -> Result<Vec<u8>> {
    let table = encode(&contents.functions, contents.anchor.unwrap_or(0))?;
    let mut object = write::Object::new(BinaryFormat::Elf, Architecture::Aarch64, Endianness::Little);
    let segment = object.segment_name(StandardSegment::Data).to_vec();
    let section = object.add_section(segment, SECTION.into(), SectionKind::ReadOnlyData);
    object.append_section_data(section, &table, 8);
    object.write().context("the object file cannot be made")
}

/// `cargo xtask symbols`: makes the table of one image and writes it where it can be linked.
pub(crate) fn write_object(image: &Path, output: &Path) -> Result<()> {
    let data = std::fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let contents = read_image(&data).with_context(|| format!("cannot use {}", image.display()))?;
    let object = object_file(&contents)?;
    std::fs::write(output, &object).with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}: {} functions, {} bytes", output.display(), contents.functions.len(), object.len());
    if contents.anchor.is_none() {
        println!("note: the image does not define {START} and {STOP}; see examples/fentry.ld for the linker fragment");
    }
    Ok(())
}
