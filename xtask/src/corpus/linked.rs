//! Compares the loader's output with a linker's: the same sections at the same addresses, byte for byte.
//!
//! The linker is given a copy of the object in which every section has a name of its own, so that a script can say where each
//! goes; and without the flags by which a linker would merge or sort them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fentry::module::Segment;
use object::read::elf::{ElfFile64, FileHeader, SectionHeader};
use object::{LittleEndian, Object, ObjectSection, elf};

use super::machine::Contents;
use super::module::{is_made_ready, segment, symbols};
use super::object::{Facts, Section};

/// A linker that is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Linker {
    pub(super) program: String,
    is_gnu: bool,
}

/// Linkers for arm64 by name.
const LINKERS: [&str; 6] = ["aarch64-linux-gnu-ld", "ld.lld", "ld.lld-22", "ld.lld-21", "ld.lld-20", "ld.lld-19"];

/// A comparison's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Linked {
    /// The number of bytes, all of which are the same.
    Same(u64),
    /// The first difference.
    Differs(String),
    /// Why there is nothing to compare with.
    LeftOut(String),
}

impl Linker {
    /// The first that is installed.
    pub(super) fn installed() -> Option<Self> {
        LINKERS.into_iter().find_map(Self::named)
    }

    /// The linker of this name, GNU's or LLVM's, if it is installed.
    pub(super) fn named(program: &str) -> Option<Self> {
        let output = Command::new(program).arg("--version").output().ok().filter(|output| output.status.success())?;
        let is_gnu = String::from_utf8_lossy(&output.stdout).contains("GNU ld");
        Some(Self { program: program.to_owned(), is_gnu })
    }

    /// Links `file` in `dir` to where `contents` is, and compares. `ready` are the callsites' first instructions, which the
    /// engine has changed.
    pub(super) fn compare(
        &self,
        dir: &Path,
        file: &[u8],
        facts: &Facts,
        contents: &[Contents],
        ready: &BTreeSet<u64>,
    ) -> Result<Linked> {
        if facts.has_common {
            return Ok(Linked::LeftOut("it has COMMON symbols".to_owned()));
        }
        let [input, script, output] = ["module.o", "module.ld", "module.elf"].map(|name| dir.join(name));
        std::fs::write(&input, renamed(file)?).context("cannot write the linker's input")?;
        std::fs::write(&script, script_of(file, facts, contents)?).context("cannot write the linker's script")?;
        if let Some(why) = self.link(&[input, script], &output)? {
            return Ok(Linked::LeftOut(why));
        }
        let linked = std::fs::read(&output).context("the linker wrote nothing")?;
        let linked = ElfFile64::<LittleEndian>::parse(&*linked).context("the linker wrote no ELF file")?;
        let mut ready = ready.clone();
        ready.extend(ready_in_init(facts, contents));
        let mut compared = 0;
        for section in facts.sections.iter().filter(|section| section.is_in_file && section.bytes > 0) {
            match compare_section(section, contents, &ready, &linked)? {
                Some(difference) => return Ok(Linked::Differs(difference)),
                None => compared += section.bytes,
            }
        }
        Ok(Linked::Same(compared))
    }

    /// Links; gives what the linker complains of, if it does.
    fn link(&self, [input, script]: &[PathBuf; 2], output: &Path) -> Result<Option<String>> {
        let mut linker = Command::new(&self.program);
        let own: &[&str] = if self.is_gnu { &["--no-warn-rwx-segments"] } else { &["-O0", "--no-relax"] };
        linker.args(own).args(["-static", "--no-check-sections", "-z", "max-page-size=4096", "-e", "0", "-T"]);
        let said = linker.arg(script).arg("-o").arg(output).arg(input).output().context("the linker does not start")?;
        let complaint = String::from_utf8_lossy(&said.stderr);
        let first = complaint.lines().find(|line| !line.contains("warning:")).unwrap_or_default();
        let first = first.replace(&input.display().to_string(), "");
        Ok((!said.status.success()).then(|| format!("{} refuses it: {}", self.program, first.trim())))
    }
}

/// Where the callsites of init text may begin, which are gone before the engine can be asked: at the entry, or behind a landing
/// pad and two prefix NOPs.
fn ready_in_init(facts: &Facts, contents: &[Contents]) -> BTreeSet<u64> {
    let entries = facts.init_entries.iter().filter_map(|(index, place)| {
        let section = facts.sections.iter().find(|section| section.index == *index)?;
        Some(segment(contents, section.segment)?.address + section.offset + place)
    });
    entries.flat_map(|entry| [0, 4, 8, 12].map(|behind| entry + behind)).collect()
}

/// The name that section `index` has for the linker.
fn name(index: usize) -> String {
    format!("s{index}")
}

/// The object with a name for each section, and without what would move, merge or sort them.
fn renamed(file: &[u8]) -> Result<Vec<u8>> {
    let header = elf::FileHeader64::<LittleEndian>::parse(file)?;
    let table = usize::try_from(header.e_shoff(LittleEndian))?;
    let names_at = header.shstrndx(LittleEndian, file)? as usize;
    let mut copy = file.to_vec();
    let old = header.sections(LittleEndian, file)?.section(object::SectionIndex(names_at))?.data(LittleEndian, file)?;
    // Clang has the symbols' names in the same section: they stay where they are.
    let (mut names, names_start) = (old.to_vec(), file.len() as u64);
    for (index, section) in header.sections(LittleEndian, file)?.enumerate() {
        let index = index.0;
        let at = table + 64 * index;
        let mut put = |field: usize, bytes: &[u8]| copy[at + field..at + field + bytes.len()].copy_from_slice(bytes);
        put(0, &u32::try_from(names.len())?.to_le_bytes());
        names.extend(name(index).bytes().chain([0]));
        let moved = elf::SHF_MERGE.0 | elf::SHF_STRINGS.0 | elf::SHF_LINK_ORDER.0 | elf::SHF_GROUP.0;
        put(8, &(section.sh_flags(LittleEndian).0 & !moved).to_le_bytes());
        match section.sh_type(LittleEndian) {
            elf::SHT_GROUP => put(4, &elf::SHT_NULL.0.to_le_bytes()),
            elf::SHT_NOTE => put(4, &elf::SHT_PROGBITS.0.to_le_bytes()),
            _ => {}
        }
    }
    let at = table + 64 * names_at;
    copy[at + 24..at + 32].copy_from_slice(&names_start.to_le_bytes());
    copy[at + 32..at + 40].copy_from_slice(&(names.len() as u64).to_le_bytes());
    copy.extend(names);
    Ok(copy)
}

fn script_of(file: &[u8], facts: &Facts, contents: &[Contents]) -> Result<String> {
    let mut script = String::from("SECTIONS {\n");
    for kind in Segment::ALL {
        let Some(of_kind) = segment(contents, kind) else { continue };
        write!(script, "{} {:#x} : {{", output_name(kind), of_kind.address)?;
        for section in facts.sections.iter().filter(|section| section.segment == kind) {
            write!(script, " *({})", name(section.index))?;
        }
        writeln!(script, " }}")?;
    }
    let header = elf::FileHeader64::<LittleEndian>::parse(file)?;
    let placed: BTreeSet<usize> = facts.sections.iter().map(|section| section.index).collect();
    let count = header.sections(LittleEndian, file)?.len();
    let others = (1..count).filter(|index| !placed.contains(index)).map(name);
    writeln!(script, "/DISCARD/ : {{ *({}) }}\n}}", others.collect::<Vec<_>>().join(" "))?;
    for (symbol, address) in symbols(facts) {
        writeln!(script, "\"{symbol}\" = {address:#x};")?;
    }
    Ok(script)
}

fn output_name(segment: Segment) -> String {
    format!("segment{}", segment as usize)
}

/// Compares a section; gives the first difference.
fn compare_section(
    section: &Section,
    contents: &[Contents],
    ready: &BTreeSet<u64>,
    linked: &ElfFile64<'_, LittleEndian>,
) -> Result<Option<String>> {
    let Section { index, offset, bytes, .. } = *section;
    let ours = segment(contents, section.segment).context("the loader has placed nothing there")?;
    let theirs =
        linked.section_by_name(&output_name(section.segment)).context("the linker has placed nothing there")?;
    ensure!(theirs.address() == ours.address, "the linker has placed it at {:#x}", theirs.address());
    let range = usize::try_from(offset)?..usize::try_from(offset + bytes)?;
    let (our, their) = (ours.bytes.get(range.clone()), theirs.data()?.get(range));
    let (Some(our), Some(their)) = (our, their) else {
        return Ok(Some(format!("the section {index} is not all there")));
    };
    let places = (ours.address + offset..).step_by(4).zip((0..).step_by(4));
    let is_same = |our: &[u8], their: &[u8], at: u64, word: u64| {
        our == their || section.got_words.contains(&word) || ready.contains(&at) && is_made_ready(our, their)
    };
    let mut words = our.chunks(4).zip(their.chunks(4)).zip(places);
    let different = words.find(|((our, their), (at, word))| !is_same(our, their, *at, *word));
    Ok(different.map(|((our, their), (at, word))| {
        format!("the section {index} has {our:02x?} at {word:#x} ({at:#x}), and the linker {their:02x?}")
    }))
}
