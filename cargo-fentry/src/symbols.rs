//! The kernel's symbol table, made from a linked image.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use fentry::symbols::{Convention, Function, Symbols, SymbolsError, encode};
use object::read::elf::ElfSymbol64;
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind, elf};

use crate::image::{self, Image};
pub use crate::kept::Kept;
use crate::kept::{Filling, Tables, ToLink, object_of};
use crate::names;
use crate::unwind::UnwindTable;

/// Make the symbol table of a linked image, and its unwind table: an object file to link, or filled in where the image has room
///
/// For a kernel with a build of its own: link it, run this on the image, and link it again with the object file added; or
/// link it with room for the table (--defsym=__fentry_symbols_room=64K, before the fragment), and run this with
/// --in-place. The linker script must keep the section `.fentry.symbols` after all text. With --unwind the same goes for
/// `.fentry.unwind`, behind that, and __fentry_unwind_room.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo fentry symbols kernel.elf -o symbols.o\n  \
                        cargo fentry symbols --unwind kernel.elf -o tables.o\n  \
                        cargo fentry symbols --in-place --unwind kernel.elf")]
pub struct SymbolsArgs {
    /// The linked image
    image: PathBuf,
    /// The object file to write
    #[arg(short, long, value_name = "FILE", required_unless_present = "in_place", conflicts_with = "in_place")]
    output: Option<PathBuf>,
    /// Write the table into the image itself, into the room that it was linked with
    #[arg(long)]
    in_place: bool,
    /// Make the unwind table, too, which says where the caller is at each instruction
    #[arg(long)]
    unwind: bool,
    /// The section that the linker script keeps for the table [default: .fentry.symbols]
    #[arg(long, value_name = "NAME")]
    section: Option<String>,
    /// The symbols that it puts around that [default: __fentry_symbols_start,__fentry_symbols_stop]
    #[arg(long, value_name = "START,STOP", value_parser = Kept::symbols_around)]
    symbols: Option<(String, String)>,
}

/// What the table says about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// By address; those with one address in the order of preference.
    pub functions: Vec<Function>,
    /// What one table can't hold beside those.
    pub left_out: Vec<LeftOut>,
    /// Where the table itself is, if the linker script has a place for it.
    pub anchor: Option<u64>,
}

/// Functions of one section that are too far away for the table, which counts in 32 bits from its lowest address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    section: String,
    /// By address.
    pub functions: Vec<Function>,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { section, functions } = self;
        let first = functions.first().map_or(0, |function| function.addr);
        let count = functions.len();
        write!(
            f,
            "{count} functions of the section {section} are left out of the symbol table: at {first:#x} they are 4 GiB or \
             more away from the others, and have no names at run time"
        )
    }
}

/// How far from the lowest address the table reaches, and the largest size that it holds.
const REACH: u64 = u32::MAX as u64;
const MOST_BYTES: u64 = i32::MAX as u64;

/// Reads an image's functions.
pub fn read_image(data: &[u8]) -> Result<Contents> {
    read_image_with(data, &Kept::symbols())
}

/// Reads an image's functions, where the table is kept elsewhere.
fn read_image_with(data: &[u8], kept: &Kept) -> Result<Contents> {
    let image = image::parse(data)?;
    let addr_of = |name| image.symbol_by_name(name).filter(|symbol| !symbol.is_undefined()).map(|s| s.address());
    let anchor = addr_of(&kept.start).filter(|_| addr_of(&kept.stop).is_some());
    let all = functions(&image);
    let near = densest(&all);
    let is_near = |function: &Function| near.contains(&function.addr) && function.size <= MOST_BYTES;
    let (functions, far): (Vec<_>, Vec<_>) = all.into_iter().partition(is_near);
    Ok(Contents { functions, left_out: by_section(&image, far), anchor })
}

/// The addresses within the table's reach of each other that have the most functions, of those in order.
fn densest(functions: &[Function]) -> std::ops::RangeInclusive<u64> {
    let end_of =
        |first: &Function| functions.partition_point(|function| function.addr <= first.addr.saturating_add(REACH));
    let counts = functions.iter().enumerate().map(|(start, first)| (end_of(first) - start, Reverse(first.addr)));
    let base = counts.max().map_or(0, |(_, Reverse(addr))| addr);
    base..=base.saturating_add(REACH)
}

fn by_section(image: &Image<'_>, far: Vec<Function>) -> Vec<LeftOut> {
    let mut left_out: BTreeMap<String, Vec<Function>> = BTreeMap::new();
    let texts = image.sections().filter(|section| section.kind() == SectionKind::Text);
    let mut sections: Vec<(u64, u64, String)> =
        texts.map(|text| (text.address(), text.size(), text.name().unwrap_or_default().to_owned())).collect();
    sections.sort();
    for function in far {
        let after = sections.partition_point(|(start, ..)| *start <= function.addr);
        let section = after.checked_sub(1).map(|index| &sections[index]);
        let holds = section.filter(|(start, size, _)| function.addr - start < *size);
        left_out.entry(holds.map_or_else(String::new, |(.., name)| name.clone())).or_default().push(function);
    }
    left_out.into_iter().map(|(section, functions)| LeftOut { section, functions }).collect()
}

/// A function symbol before its place among others of its address is settled.
struct Candidate {
    name: String,
    addr: u64,
    size: u64,
    is_local: bool,
    convention: Convention,
    section_end: u64,
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
    let function = |Candidate { name, addr, size, convention, section_end, .. }| {
        // A size that a file makes up must not reach beyond the section.
        Function { name, addr, size: size.min(section_end - addr), convention }
    };
    candidates.into_iter().map(function).collect()
}

fn candidate(image: &Image<'_>, symbol: &ElfSymbol64<'_, '_, LittleEndian>) -> Option<Candidate> {
    let section = image.section_by_index(symbol.section_index()?).ok()?;
    let name = symbol.name().ok()?;
    let is_function = symbol.kind() == SymbolKind::Text;
    let is_label = symbol.elf_symbol().st_type() == elf::STT_NOTYPE && symbol.is_global();
    let in_text = section.kind() == SectionKind::Text;
    let section_end = section.address().checked_add(section.size())?;
    let wanted = (is_function || is_label)
        && in_text
        && !name.is_empty()
        && !name.starts_with('$')
        && !name.starts_with("__cfi_")
        && !name.starts_with("__fentry_")
        && (section.address()..section_end).contains(&symbol.address());
    wanted.then(|| Candidate {
        name: names::demangled(name).into_owned(),
        addr: symbol.address(),
        // Of a function in assembly without a size, one instruction is known; a label has none.
        size: if is_function { symbol.size().max(4) } else { 0 },
        is_local: symbol.is_local(),
        convention: Convention::of_st_other(symbol.elf_symbol().st_other.0),
        section_end,
    })
}

/// The table for `contents` as an object file to link, and with it the unwind table, if there is one.
pub fn object_file(contents: &Contents, unwind: Option<&UnwindTable>) -> Result<Vec<u8>> {
    object_file_in(contents, &Kept::symbols(), unwind)
}

fn object_file_in(contents: &Contents, kept: &Kept, unwind: Option<&UnwindTable>) -> Result<Vec<u8>> {
    let table = encode(&contents.functions, contents.anchor.unwrap_or(0))?;
    let mut tables = vec![ToLink { kept, table: &table, distance: None }];
    let kept = Kept::unwind();
    let unwind = unwind.map(|unwind| unwind.to_link(&kept)).transpose()?;
    tables.extend(unwind);
    object_of(&tables)
}

/// `cargo fentry symbols`: makes the table of one image and writes it where it can be linked.
pub fn run(args: &SymbolsArgs) -> Result<()> {
    let kept = Kept::symbols().but(args.section.as_deref(), args.symbols.as_ref());
    let unwind = args.unwind.then(|| UnwindTable::of_image(&args.image)).transpose()?;
    match &args.output {
        Some(output) => write_object(&args.image, output, &kept, unwind.as_ref())?,
        None => {
            // Both are known to fit before one is written.
            let filling = unwind.as_ref().map(|unwind| unwind.filling(&args.image)).transpose()?;
            println!("{}", fill(&args.image, &kept)?);
            filling.map_or(Ok(()), |filling| filling.write(&args.image))?;
        }
    }
    unwind.iter().for_each(|unwind| print!("{unwind}"));
    Ok(())
}

/// Makes the table of an image and writes it as an object file, with the unwind table, if there is one.
pub fn write_object(image: &Path, output: &Path, kept: &Kept, unwind: Option<&UnwindTable>) -> Result<()> {
    let data = image::map(image)?;
    let contents = read_image_with(&data, kept).with_context(|| format!("cannot use {}", image.display()))?;
    let has_functions = !contents.functions.is_empty();
    ensure!(has_functions, "{} has no symbols of functions: give the image as it was before strip", image.display());
    let object = object_file_in(&contents, kept, unwind)?;
    std::fs::write(output, &object).with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}: {} functions, {} bytes", output.display(), contents.functions.len(), object.len());
    contents.left_out.iter().for_each(|left_out| println!("note: {left_out}"));
    if contents.anchor.is_none() {
        let Kept { start, stop, .. } = kept;
        println!("note: the image does not define {start} and {stop}; see examples/fentry.ld for the linker fragment");
    }
    Ok(())
}

/// Makes the table of an image and writes it into the image's own room, if it fits there; otherwise the file stays as it is.
///
/// # Errors
///
/// The image has no functions or no room, or too little; the error says how much is needed.
pub fn fill(image: &Path, kept: &Kept) -> Result<Filled> {
    let (filling, functions, left_out) = {
        let data = image::map(image)?;
        let contents = read_image_with(&data, kept).with_context(|| format!("cannot use {}", image.display()))?;
        let has_functions = !contents.functions.is_empty();
        ensure!(
            has_functions,
            "{} has no symbols of functions: give the image as it was before strip",
            image.display()
        );
        let filling = filling(&data, &contents, kept).with_context(|| format!("cannot fill {}", image.display()))?;
        (filling, contents.functions.len(), contents.left_out)
    };
    filling.write(image)?;
    let Filling { room, at, table_len, .. } = filling;
    Ok(Filled { image: image.to_owned(), functions, table_len, room, at, left_out })
}

/// A table that was written into an image's room. `Display` says what, and where.
#[derive(Clone, Debug)]
pub struct Filled {
    image: PathBuf,
    functions: usize,
    table_len: usize,
    room: u64,
    at: u64,
    left_out: Vec<LeftOut>,
}

impl fmt::Display for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image, functions, table_len, room, at, left_out } = self;
        write!(f, "{}: {functions} functions, {table_len} bytes of {room} at {at:#x}", image.display())?;
        left_out.iter().try_for_each(|left_out| write!(f, "\nnote: {left_out}"))
    }
}

/// Makes the table for an image's room.
fn filling(data: &[u8], contents: &Contents, kept: &Kept) -> Result<Filling> {
    let is_empty_or_ours = |old: &[u8]| match Symbols::in_room(old) {
        Ok(_) | Err(SymbolsError::Absent) => Ok(()),
        Err(error) => Err(error.into()),
    };
    let what = Tables { name: "symbol table", room: "__fentry_symbols_room" };
    Filling::of(data, kept, what, |at| Ok(encode(&contents.functions, at)?), is_empty_or_ours)
}
