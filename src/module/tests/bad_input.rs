//! What is no good module: each an error, and nothing left.

use super::fixture::{ADRP_X0, BL, Host, KERNEL, Maker, RET, sample};
use crate::address::TextRange;
use crate::callsite::Refusal;
use crate::callsite::veneer::STUB_VENEERS;
use crate::module::regions::RegionCause;
use crate::module::{LoadError, MemoryError, Placement, RegionError, RelocCause, Segment, StartError, UnloadError};
use crate::symbols::Symbols;
use object::write::{StandardSection, SymbolSection};
use object::{SectionKind, SymbolKind, elf};
use std::string::{String, ToString};
use std::vec::Vec;

const FAR: u64 = KERNEL + 0x1000_0000;

#[test]
fn what_is_not_an_object_for_this_machine_is_refused() {
    let host = Host::new(FAR);
    let with = |at: usize, byte: u8| {
        let mut file = sample();
        file[at] = byte;
        host.error_of(&file)
    };
    assert_eq!(host.error_of(b"#!/bin/sh"), LoadError::NotElf);
    assert_eq!(with(0, 0), LoadError::NotElf);
    assert_eq!(with(4, 1), LoadError::WrongKind { field: "class", found: 1, expected: 2 });
    assert_eq!(with(5, 2), LoadError::WrongKind { field: "byte order", found: 2, expected: 1 });
    assert_eq!(with(16, 2), LoadError::WrongKind { field: "type", found: 2, expected: 1 });
    assert_eq!(with(18, 62), LoadError::WrongKind { field: "machine", found: 62, expected: 183 });
}

#[test]
fn every_beginning_of_a_module_is_refused() {
    let host = Host::new(FAR);
    let file = sample();
    // Miri takes thousands of times as long.
    for length in (0..file.len()).step_by(if cfg!(miri) { 307 } else { 1 }) {
        host.error_of(&file[..length]);
    }
}

/// Xorshift64: repeats from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn a_damaged_module_is_loaded_or_refused_and_leaves_nothing() {
    let host = Host::new(FAR);
    let file = sample();
    let mut random = Random(0x5eed_0001);
    for round in 0..4000 {
        let mut damaged = file.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(damaged.len());
            damaged[at] = match random.below(4) {
                0 => 0,
                1 => 0xff,
                2 => damaged[at] ^ 1 << random.below(8),
                _ => random.below(256) as u8,
            };
        }
        let mut modules = host.modules();
        // SAFETY: nothing of a module is executed here.
        if let Ok(id) = unsafe { modules.load("damaged", &damaged, Placement::Anywhere) } {
            // SAFETY: as above.
            unsafe { modules.unload(id) }.unwrap();
        }
        assert_eq!(host.memory.lent_bytes(), 0, "round {round}");
    }
}

#[test]
fn every_unresolved_symbol_is_named_once() {
    let mut maker = Maker::new();
    let text = maker.text();
    let names = ["zeta", "alpha", "printk"].map(|name| maker.undefined(name));
    let (_, at) = maker.function(text, "caller", &[BL; 4]);
    for (index, name) in names.into_iter().chain([names[0]]).enumerate() {
        maker.relocate(text, at + 8 + 4 * index as u64, 283, name, 0);
    }
    let expected = LoadError::Unresolved(["alpha", "zeta"].map(ToString::to_string).to_vec());
    assert_eq!(Host::new(FAR).error_of(&maker.write()), expected);
}

#[test]
fn relocations_that_can_not_be_done_are_refused() {
    let host = Host::new(FAR);
    let error = |number: u32, addend: i64, old: u32, offset: u64| {
        let mut maker = Maker::new();
        let text = maker.text();
        maker.words(text, &[RET, old]);
        let place = maker.object.section_symbol(text);
        maker.relocate(text, offset, number, place, addend);
        host.error_of(&maker.write())
    };
    let name = || ".text".to_string();
    let unknown = LoadError::UnknownRelocation { section: name(), offset: 4, number: 9999, symbol: name() };
    assert_eq!(error(9999, 0, BL, 4), unknown);
    assert_eq!(error(549, 0, BL, 4), LoadError::ThreadLocal { section: name(), offset: 4, symbol: name() });
    assert_eq!(error(283, 0, BL, 8), LoadError::RelocationPlace { section: 1, offset: 8 });
    assert_eq!(error(283, 0, BL, 6), LoadError::RelocationPlace { section: 1, offset: 6 });
    let cause = |error| match error {
        LoadError::Relocation { error, .. } => error.cause,
        other => panic!("{other}"),
    };
    assert!(matches!(cause(error(275, 1 << 33, ADRP_X0, 4)), RelocCause::Overflow { .. }));
    assert!(matches!(cause(error(283, 2, BL, 4)), RelocCause::Misaligned { .. }));
    assert!(matches!(cause(error(283, 0, RET, 4)), RelocCause::OtherInstruction { word: RET }));
    // Within one's own text there are no veneers.
    assert!(matches!(error(283, 1 << 40, BL, 4), LoadError::PltFull { segment: Segment::Text, entries: STUB_VENEERS }));
}

#[test]
fn a_common_symbol_with_an_alignment_that_pages_do_not_have_is_refused_by_name() {
    let host = Host::new(FAR);
    let file = |alignment| {
        let mut maker = Maker::new();
        let symbol = maker.symbol("shared", SymbolKind::Data, SymbolSection::Common, 0);
        // The writer would work the value out from where such a symbol is in zeros of its own.
        maker.object.symbol_mut(symbol).value = alignment;
        maker.write()
    };
    for alignment in [0, 48, 8192, 1 << 40] {
        let error = host.error_of(&file(alignment));
        let LoadError::CommonAlignment { name, alignment: found, .. } = &error else { panic!("{error}") };
        assert_eq!((name.as_str(), *found), ("shared", alignment));
        let said = std::format!("The alignment {alignment:#x} of the COMMON symbol ");
        assert!(error.to_string().starts_with(&said), "{error}");
    }
    let mut modules = host.modules();
    // SAFETY: nothing of a module is executed here.
    let id = unsafe { modules.load("common", &file(4096), Placement::Anywhere) }.unwrap();
    assert_eq!(modules.get(id).unwrap().range(Segment::Data).len(), 4);
}

#[test]
fn indices_out_of_range_are_refused() {
    let host = Host::new(FAR);
    // A relocation's symbol, a symbol's section and a relocation section's target, each found by what stands before it.
    let mut maker = Maker::new();
    let data = maker.object.section_id(StandardSection::Data);
    maker.object.append_section_data(data, &[0; 8], 8);
    let symbol = maker.symbol("here", SymbolKind::Data, SymbolSection::Section(data), 0);
    maker.relocate(data, 0, 257, symbol, 0x7777);
    let file = maker.write();
    let find = |wanted: &[u8]| file.windows(wanted.len()).position(|window| window == wanted).unwrap();
    let damaged = |at: usize, bytes: &[u8]| {
        let mut file = file.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        host.error_of(&file)
    };
    let rela = find(&0x7777_u64.to_le_bytes()) - 16;
    assert_eq!(damaged(rela + 12, &[0xff; 4]), LoadError::SymbolIndex { section: 1, symbol: u32::MAX });
    assert_eq!(damaged(rela, &[8]), LoadError::RelocationPlace { section: 1, offset: 8 });
    // The symbol: global data in section 1.
    let defined = find(&[0x11, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]) + 2;
    assert!(matches!(damaged(defined, &[99]), LoadError::SymbolPlace { .. }));
    assert!(matches!(damaged(defined + 2, &[99]), LoadError::SymbolPlace { .. }));
}

#[test]
fn entries_that_name_no_instruction_of_the_text_are_refused() {
    let host = Host::new(FAR);
    let error = |change: fn(&mut Maker)| {
        let mut maker = Maker::new();
        let text = maker.text();
        maker.function(text, "good", &[]);
        change(&mut maker);
        host.error_of(&maker.write())
    };
    let beyond = error(|maker| {
        let text = maker.text();
        maker.entry(text, 0x10_0000);
    });
    assert!(matches!(beyond, LoadError::Callsite { refusal: Refusal::OutsideText, .. }));
    let misaligned = error(|maker| {
        let text = maker.text();
        maker.entry(text, 2);
    });
    assert_eq!(misaligned, LoadError::Callsite { entry: (FAR + 2).into(), refusal: Refusal::Misaligned });
    let empty = error(|maker| {
        let entries = maker.section("__patchable_function_entries", SectionKind::Data, elf::SHF_ALLOC);
        maker.object.append_section_data(entries, &[0; 8], 8);
    });
    assert!(matches!(empty, LoadError::EmptyEntry { offset: 0, .. }));
}

#[test]
fn export_records_must_name_what_is_the_module_s() {
    let host = Host::new(FAR);
    let mut maker = Maker::new();
    let text = maker.text();
    let (function, _) = maker.function(text, "ticks", &[]);
    maker.export("printk", function);
    let taken = LoadError::DuplicateExport { name: "printk".to_string(), owner: None };
    assert_eq!(host.error_of(&maker.write()), taken);

    let mut maker = Maker::new();
    let jiffies = maker.undefined("jiffies");
    maker.export("mine", jiffies);
    assert_eq!(host.error_of(&maker.write()), LoadError::BadExport { index: 0 });
}

#[test]
fn a_module_larger_than_memory_is_refused() {
    let host = Host::new(FAR);
    for size in [1 << 30, 1 << 62, u64::MAX - 15] {
        let mut maker = Maker::new();
        let bss = maker.object.section_id(StandardSection::UninitializedData);
        maker.object.append_section_bss(bss, size, 16);
        let error = host.error_of(&maker.write());
        assert!(matches!(error, LoadError::Memory(_) | LoadError::TooLarge(Segment::Data)), "{error}");
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let error = LoadError::Unresolved(["alpha", "zeta"].map(ToString::to_string).to_vec());
    assert_eq!(error.to_string(), "The module needs 2 symbols that nobody exports: alpha zeta");
    let mut maker = Maker::new();
    let text = maker.text();
    maker.words(text, &[ADRP_X0]);
    let place = maker.undefined("printk");
    maker.relocate(text, 0, 275, place, 1 << 34);
    assert_eq!(
        Host::new(FAR).error_of(&maker.write()).to_string(),
        "The relocation R_AARCH64_ADR_PREL_PG_HI21 at 0x50200000 overflows: the value 0x3f0001000 is not within \
         -0x100000000 to 0xffffffff (symbol \"printk\")"
    );
    let lines: Vec<_> = error.to_string().lines().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 1);
}

#[test]
fn each_error_names_what_it_is_about() {
    let text = |name: &str| name.to_string();
    let memory = MemoryError { segment: Segment::Text, bytes: 0x3000, reason: "the pool is empty" };
    let text_of = TextRange::new(FAR.into(), (FAR + 0x1000).into());
    let region = RegionError { text: text_of, cause: RegionCause::Other("it overlaps another") };
    let kept = LoadError::Kept { cause: StartError::Init(-5), error: region, bytes: 0x2000 };
    let refusal = Refusal::Misaligned;
    for (error, said) in [
        (LoadError::NotElf, "The module is not an ELF file"),
        (
            LoadError::WrongKind { field: "machine", found: 62, expected: 183 },
            "The module's machine is 0x3e and should be 0xb7",
        ),
        (LoadError::Malformed { what: "section", index: 7 }, "The module's section (7) is not well-formed"),
        (
            LoadError::DuplicateExport { name: text("ticks"), owner: Some(text("sample")) },
            "The module exports ticks, which the module sample exports already",
        ),
        (
            LoadError::DuplicateExport { name: text("printk"), owner: None },
            "The module exports printk, which is exported already",
        ),
        (
            LoadError::NotLoaded { section: text(".data"), symbol: text("ticks") },
            "The section .data refers to ticks, which is not in a section that is loaded",
        ),
        (
            LoadError::Callsite { entry: FAR.into(), refusal },
            "The entry 0x50200000 names no instruction of the text: its address is not a multiple of 4",
        ),
        (LoadError::Memory(memory), "The kernel has no memory for 0x3000 bytes of text: the pool is empty"),
        (LoadError::AlreadyLoaded(text("sample")), "The module sample is already loaded"),
        (LoadError::Init(-12), "The module's init function failed with -12"),
    ] {
        assert_eq!(error.to_string(), said);
    }
    let said = kept.to_string();
    assert!(said.starts_with("The module's init function failed with -5; its 0x2000 bytes are kept: "), "{said}");
    assert!(said.ends_with("it overlaps another"), "{said}");
    assert_eq!(UnloadError::InUse { users: 2 }.to_string(), "The module is in use by 2");
    assert_eq!(UnloadError::NotLoaded.to_string(), "The module is not loaded");
}

/// Modules from compilers, and what `cargo xtask fuzz-module` has found.
fn inputs() -> Vec<(String, Vec<u8>)> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/module/tests/inputs");
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn every_beginning_of_a_kept_input_is_refused() {
    let host = Host::new(FAR);
    for (name, file) in inputs() {
        for length in 0..=file.len() {
            let mut modules = host.modules();
            // SAFETY: nothing of a module is executed here.
            let result = unsafe { modules.load("input", &file[..length], Placement::Anywhere) };
            let was_read = matches!(result, Ok(_) | Err(LoadError::Unresolved(_)));
            let is_whole = length == file.len();
            assert!(was_read == is_whole || name.contains("found-"), "{name}, {length} bytes: {result:?}");
            assert_eq!(host.memory.lent_bytes(), 0, "{name}, {length} bytes");
        }
    }
}

#[test]
fn names_that_nest_deep_are_left_as_they_are_on_a_small_stack() {
    let load = || {
        let mut maker = Maker::new();
        let text = maker.text();
        let deep = std::format!("_R{}C0{}", "Nv".repeat(400), "1a".repeat(400));
        maker.function(text, &deep, &[]);
        maker.function(text, "_RNvC4main4call", &[]);
        let host = Host::new(FAR);
        let mut modules = host.modules();
        // SAFETY: nothing of a module is executed here.
        unsafe { modules.load("deep", &maker.write(), Placement::Anywhere) }.unwrap();
        let regions = host.regions.regions.lock().unwrap();
        let symbols = Symbols::parse(&regions[0].symbols).unwrap();
        assert_eq!(symbols.iter().map(|symbol| symbol.name).collect::<Vec<_>>(), [&deep, "main::call"]);
    };
    std::thread::Builder::new().stack_size(64 << 10).spawn(load).unwrap().join().unwrap();
}
