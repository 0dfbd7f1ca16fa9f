//! The loader's arithmetic against two linkers': the same object at the same addresses, byte for byte.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fentry::TextAddr;
use fentry::fakes::{COMPILED, FakeMemory, FakeText};
use fentry::module::{Erratum843419, Exports, Kernel, Modules, Placement, Segment, Untraced};
use object::read::elf::{ElfFile64, FileHeader as _};
use object::write::{Object as Maker, Relocation, SectionId, StandardSection, Symbol, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, LittleEndian, Object, ObjectSection, ObjectSymbol, RelocationFlags,
    RelocationTarget, SymbolFlags, SymbolKind, SymbolScope, elf,
};

use crate::kernels::modules::{rust_lld, succeed};
use crate::kernels::workspace::Workspace;

/// What others export: within BL's reach of the module, but for the number.
const EXPORTS: [(&str, u64); 9] = [
    ("function", 0x4020_1234),
    ("variable", 0x4030_5678),
    ("number", 0x1234),
    ("kernel_sum", 0x4020_5670),
    ("kernel_note", 0x4020_6670),
    ("kernel_panic", 0x4020_7670),
    ("greeter_sum", 0x4020_8670),
    ("kernel_total", 0x4020_9670),
    ("KERNEL_NUMBER", 0x4030_7008),
];

/// A relocation: its number, the word that it changes, what it refers to, the addend.
type Case = (u32, u32, &'static str, i64);

/// Each kind several times: forwards and backwards, to the module's own sections and to others'.
#[rustfmt::skip]
const TEXT_CASES: [Case; 54] = [
    (263, 0xd280_0001, "number", 0), (264, 0xf280_0002, "variable", 4), (265, 0xd2a0_0003, "variable", 0),
    (266, 0xf2a0_0004, "constants", 0), (267, 0xd2c0_0005, "variable", 0), (268, 0xf2c0_0006, "variable", -8),
    (269, 0xd2e0_0007, "variable", 0), (269, 0xf2e0_0007, "number", -0x2000),
    (270, 0xd280_0008, "number", 8), (270, 0xd280_0008, "number", -0x2000), (271, 0xd2a0_0009, "variable", 0),
    (271, 0x92a0_0009, "number", -0x20_0000), (272, 0xd2c0_000a, "constants", 0), (272, 0x92c0_000a, "number", -0x2000),
    (273, 0x5800_000b, "text", 0), (273, 0x1800_000b, "constants", 8), (273, 0x9c00_000b, "data", 16),
    (274, 0x1000_000c, "text", 3), (274, 0x1000_000c, "constants", 1), (274, 0x1000_000c, "data", -5),
    (275, 0x9000_000d, "text", 0), (275, 0x9000_000d, "constants", 0x1_2345), (275, 0x9000_000d, "variable", 0),
    (275, 0x9000_000d, "number", 0), (276, 0x9000_000e, "data", 0), (276, 0x9000_000e, "variable", 0x7000_0000_0000),
    (277, 0x9100_01ef, "constants", 0x123), (277, 0x9100_01ef, "variable", 1),
    (278, 0x3940_0210, "data", 7), (279, 0x3608_0011, "text", 0), (279, 0xb718_0011, "text", 0x100),
    (280, 0x5400_0000, "text", 0), (280, 0xb500_0013, "text", 0x200), (280, 0x3400_0013, "constants", 4),
    (282, 0x1400_0000, "function", 0), (282, 0x1400_0000, "text", 8), (283, 0x9400_0000, "function", 0x10),
    (283, 0x9400_0000, "text", 0x40), (284, 0x7940_0294, "data", 6), (285, 0xb940_02b5, "data", 12),
    (285, 0xbd40_02b5, "variable", 0), (286, 0xf940_02d6, "data", 24), (286, 0xfd00_02d6, "constants", 8),
    (299, 0x3dc0_02f7, "constants", 16), (287, 0xd280_0018, "text", 0x20), (288, 0xf280_0018, "variable", 0),
    (289, 0xd2a0_0019, "variable", 0), (290, 0xf2a0_0019, "variable", 0), (291, 0xd2c0_001a, "variable", 0),
    (292, 0xf2c0_001a, "variable", 0), (293, 0xd2e0_001b, "constants", 0),
    (311, 0x9000_001c, "variable", 0), (312, 0xf940_039c, "variable", 0), (313, 0xf940_039c, "variable", 0),
];

/// Cases at places of eight bytes in data.
const DATA_CASES: [Case; 14] = [
    (257, 0, "variable", 0),
    (257, 0, "text", 0x10),
    (257, 0, "number", -0x2000),
    (258, 0, "variable", 4),
    (258, 0, "number", -0x2000),
    (259, 0, "number", 1),
    (259, 0, "number", -0x2000),
    (260, 0, "text", 0),
    (260, 0, "variable", 0),
    (261, 0, "constants", 0),
    (261, 0, "variable", 0x10),
    (262, 0, "data", 0x20),
    (314, 0, "function", 0),
    (315, 0, "variable", 0),
];

/// Who the loader is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Linker {
    RustLld,
    /// GNU ld, of the binutils.
    Gnu,
}

const GNU_LD: &str = "aarch64-linux-gnu-ld";

impl Linker {
    /// The linkers that are there; says which one isn't.
    fn installed() -> Vec<Self> {
        let mut all = vec![Self::RustLld];
        if Command::new(GNU_LD).arg("--version").output().is_ok_and(|output| output.status.success()) {
            all.push(Self::Gnu);
        } else {
            eprintln!("{GNU_LD} is not installed: the loader is compared with rust-lld only");
        }
        all
    }

    fn command(self, workspace: &Workspace) -> Result<Command> {
        match self {
            Self::RustLld => {
                let mut linker = rust_lld(workspace)?;
                // -O0: strings stay where they are.
                linker.args(["-O0", "--no-relax"]);
                Ok(linker)
            }
            Self::Gnu => Ok(Command::new(GNU_LD)),
        }
    }

    /// The bytes of the GOT that come before the first entry.
    fn got_header(self) -> u64 {
        match self {
            Self::RustLld => 0,
            // One entry, for the address of the dynamic section.
            Self::Gnu => 8,
        }
    }

    /// The object as this linker is given it.
    fn input(self, file: &[u8]) -> Result<Vec<u8>> {
        let mut input = file.to_vec();
        if self == Self::Gnu {
            // It merges equal strings, whatever its options.
            let header = elf::FileHeader64::<LittleEndian>::parse(file)?;
            let table = header.e_shoff(LittleEndian) as usize;
            for index in 0..header.sections(LittleEndian, file)?.len() {
                let flags = table + 64 * index + 8;
                input[flags] &= !((elf::SHF_MERGE.0 | elf::SHF_STRINGS.0) as u8);
            }
        }
        Ok(input)
    }
}

/// A segment as the loader made it: where, and what.
struct Loaded {
    start: u64,
    bytes: Vec<u8>,
}

/// Loads `file` next to where the exports are, and gives text, constants and data.
fn load(file: &[u8]) -> Result<[Loaded; 3]> {
    let memory = FakeMemory::new(0x4600_0000);
    let mut text = FakeText::new(0x4020_0000);
    text.function("start", COMPILED);
    let machine = text.build();
    let kernel = Kernel {
        memory: &memory,
        platform: machine,
        machine,
        regions: &Untraced,
        erratum_843419: Erratum843419::Absent,
        call: no_call,
    };
    let mut modules = Modules::new(kernel, Exports::new(EXPORTS)?);
    // SAFETY: nothing of the module is executed here.
    let id = unsafe { modules.load("proof", file, Placement::Anywhere) }?;
    let module = modules.get(id).context("it was loaded")?;
    let segment = |segment| {
        let range = module.range(segment);
        let bytes = memory.read(range.start.get(), range.len() as usize).context("it has memory")?;
        Ok::<_, anyhow::Error>(Loaded { start: range.start.get(), bytes })
    };
    Ok([segment(Segment::Text)?, segment(Segment::Rodata)?, segment(Segment::Data)?])
}

/// Nothing of a module is executed here.
///
/// # Safety
///
/// None: nothing is called.
unsafe fn no_call(_: TextAddr) -> i32 {
    0
}

/// What the loader puts into text, constants and data, as a linker script says it; init text is left out on both sides.
const SECTIONS: [(&str, &str); 3] = [
    (".text", ".text .text.*"),
    (".rodata", ".rodata .rodata.* .data.rel.ro .data.rel.ro.* .fentry.exports"),
    (".data", ".data .data.* .bss .bss.*"),
];

/// How many GOT entries the object's relocations ask for.
fn got_entries(file: &[u8]) -> Result<usize> {
    let object = ElfFile64::<LittleEndian>::parse(file)?;
    let relocations = object.sections().flat_map(|section| section.relocations());
    let targets = relocations.filter_map(|(_, relocation)| match relocation.flags() {
        RelocationFlags::Elf { r_type } if [309, 310, 311, 312, 313, 315].contains(&r_type.0) => {
            let RelocationTarget::Symbol(index) = relocation.target() else { return None };
            let name = object.symbol_by_index(index).and_then(|symbol| symbol.name()).unwrap_or_default();
            Some((name, relocation.addend()))
        }
        _ => None,
    });
    Ok(targets.collect::<std::collections::BTreeSet<_>>().len())
}

/// Has a linker link `file` to the same addresses, and compares what both made of text, constants and data.
fn compare(workspace: &Workspace, dir: &Path, file: &[u8], by: Linker) -> Result<usize> {
    let loaded = load(file)?;
    let constants = &loaded[1];
    let got = constants.start + constants.bytes.len() as u64 - 8 * got_entries(file)? as u64 - by.got_header();
    let mut script = format!(
        "SECTIONS {{\n/DISCARD/ : {{ *(__patchable_function_entries .init.* .eh_frame* .note.* .comment) }}\n\
         .got {got:#x} : {{ *(.got) }}\n"
    );
    for ((name, inputs), segment) in SECTIONS.iter().zip(&loaded) {
        script.push_str(&format!("{name} {:#x} : {{ *({inputs}) }}\n", segment.start));
    }
    script.push('}');
    let paths = ["proof.o", "proof.ld", "proof.elf"].map(|name| dir.join(name));
    let [input, script_path, output] = &paths;
    std::fs::create_dir_all(dir).context("no room for the proof")?;
    std::fs::write(input, by.input(file)?).context("the object cannot be written")?;
    std::fs::write(script_path, script).context("the script cannot be written")?;
    let mut linker = by.command(workspace)?;
    linker.args(["--no-check-sections", "-e", "0", "-T"]).arg(script_path);
    for (name, address) in EXPORTS {
        linker.arg(format!("--defsym={name}={address:#x}"));
    }
    succeed(linker.arg("-o").arg(output).arg(input), "the linker")?;
    let linked = std::fs::read(output).context("the linker wrote nothing")?;
    let linked = ElfFile64::<LittleEndian>::parse(&*linked)?;
    let mut compared = 0;
    for ((name, _), ours) in SECTIONS.iter().zip(&loaded) {
        let Some(section) = linked.section_by_name(name).filter(|section| section.size() > 0) else { continue };
        ensure!(section.address() == ours.start, "{name} is at {:#x} and not {:#x}", section.address(), ours.start);
        let theirs = section.data()?;
        let ours = ours.bytes.get(..theirs.len()).with_context(|| format!("our {name} is shorter"))?;
        for (index, (our, their)) in ours.chunks(4).zip(theirs.chunks(4)).enumerate() {
            let is_same = our == their || by == Linker::Gnu && does_the_same(our, their, constants, &linked)?;
            ensure!(is_same, "{name}+{:#x}: {our:02x?} and not {their:02x?}", index * 4);
        }
        compared += theirs.len();
    }
    Ok(compared)
}

/// Whether two words differ in what GNU ld does its own way: it has another order of GOT entries, and calls of a weak symbol
/// that nobody defines are NOPs, where ours go on behind themselves (AAELF64 5.7.1 allows both).
fn does_the_same(our: &[u8], their: &[u8], constants: &Loaded, linked: &ElfFile64<'_, LittleEndian>) -> Result<bool> {
    const IMM12: u32 = 0xfff << 10;
    const BL_NEXT: [u8; 4] = 0x9400_0001_u32.to_le_bytes();
    const NOP: [u8; 4] = 0xd503_201f_u32.to_le_bytes();
    if our == BL_NEXT && their == NOP {
        return Ok(true);
    }
    let got = linked.section_by_name(".got").context("there is no GOT")?;
    let theirs = Loaded { start: got.address(), bytes: got.data()?.to_vec() };
    let entry = |word: &[u8], got: &Loaded| {
        let word = u32::from_le_bytes(word.try_into().ok()?);
        // The GOT's last entry is the last of the constants, and all are in one page.
        let page = (got.start + got.bytes.len() as u64 - 8) & !0xfff;
        let address = page + u64::from((word & IMM12) >> 10) * 8;
        let at = address.checked_sub(got.start)? as usize;
        Some((word & !IMM12, got.bytes.get(at..at + 8)?.to_vec()))
    };
    let (ours, theirs) = (entry(our, constants), entry(their, &theirs));
    // LDR of 64 bits by an unsigned offset.
    Ok(ours.is_some() && ours == theirs && ours.is_some_and(|(word, _)| word >> 22 == 0b11_1110_0101))
}

/// What GNU ld refuses: negative numbers in fields of 32 and 16 bits, which AAELF64 5.7.5 has, and two newer kinds.
fn is_refused_by_gnu_ld(case: &Case) -> bool {
    matches!(case, (258 | 259, _, "number", ..0) | (314 | 315, ..))
}

/// The object with all cases in it that the linker takes.
fn object(linker: Linker) -> Result<Vec<u8>> {
    let mut maker = Maker::new(BinaryFormat::Elf, Architecture::Aarch64, Endianness::Little);
    let [text, constants, data] =
        [StandardSection::Text, StandardSection::ReadOnlyData, StandardSection::Data].map(|s| maker.section_id(s));
    maker.append_section_data(constants, &[0x11; 0x200], 16);
    let words: Vec<u8> = TEXT_CASES.iter().flat_map(|case| case.1.to_le_bytes()).collect();
    maker.append_section_data(text, &words, 16);
    maker.append_section_data(text, &[0; 0x200], 16);
    maker.append_section_data(data, &[0; 8 * DATA_CASES.len()], 16);
    maker.append_section_data(data, &[0; 0x100], 16);
    for (index, case) in TEXT_CASES.iter().enumerate() {
        relocate(&mut maker, text, 4 * index as u64, *case, [text, constants, data])?;
    }
    let is_taken = |case: &Case| linker == Linker::RustLld || !is_refused_by_gnu_ld(case);
    for (index, case) in DATA_CASES.iter().enumerate().filter(|(_, case)| is_taken(case)) {
        relocate(&mut maker, data, 8 * index as u64, *case, [text, constants, data])?;
    }
    maker.write().context("the object cannot be made")
}

fn relocate(maker: &mut Maker<'_>, section: SectionId, offset: u64, case: Case, own: [SectionId; 3]) -> Result<()> {
    let (number, _, name, addend) = case;
    let [text, constants, data] = own;
    let symbol = match name {
        "text" => maker.section_symbol(text),
        "constants" => maker.section_symbol(constants),
        "data" => maker.section_symbol(data),
        name => undefined(maker, name),
    };
    let flags = RelocationFlags::Elf { r_type: elf::RelocationType(number) };
    maker.add_relocation(section, Relocation { offset, symbol, addend, flags }).context("a relocation is refused")
}

fn undefined(maker: &mut Maker<'_>, name: &str) -> SymbolId {
    maker.symbol_id(name.as_bytes()).unwrap_or_else(|| {
        maker.add_symbol(Symbol {
            name: name.into(),
            value: 0,
            size: 0,
            kind: SymbolKind::Unknown,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Undefined,
            flags: SymbolFlags::None,
        })
    })
}

#[test]
fn every_relocation_gives_the_bytes_that_the_linkers_give() {
    let workspace = Workspace::load().unwrap();
    for linker in Linker::installed() {
        let file = object(linker).unwrap();
        let dir = workspace.target_dir.join(format!("proofs/modules-{linker:?}"));
        let compared = compare(&workspace, &dir, &file, linker).unwrap_or_else(|error| panic!("{linker:?}: {error:#}"));
        assert!(compared >= 4 * TEXT_CASES.len() + 8 * DATA_CASES.len());
    }
}

#[test]
fn modules_from_compilers_become_what_the_linkers_make_of_them() {
    let workspace = Workspace::load().unwrap();
    for linker in Linker::installed() {
        for name in ["counter", "relay-gcc-2", "relay-gcc-2-pic", "relay-clang-42"] {
            let input = workspace.root.join(super::fuzz::INPUTS).join(name).with_extension("o");
            let file = std::fs::read(input).unwrap();
            let dir = workspace.target_dir.join(format!("proofs/{name}-{linker:?}"));
            let compared = compare(&workspace, &dir, &file, linker);
            let compared = compared.unwrap_or_else(|error| panic!("{name}, {linker:?}: {error:#}"));
            assert!(compared > 200, "{name}: {compared} bytes");
        }
    }
}
