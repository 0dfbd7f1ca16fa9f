//! Small kernels, written as object files and linked by the toolchain's own linker under several scripts.

mod advice;
mod cpp;
mod damaged;
mod files;
mod fragment;
mod heap;
mod linked;
mod room;

use std::path::{Path, PathBuf};
use std::process::Command;

use fentry::callsite::{BTI_C, NOP};
use object::write::{self, Relocation, StandardSection, StandardSegment, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope, elf,
};

use super::report::{Report, Weight};
use super::{examine as examine_with, usual};

const RET: u32 = 0xd65f_03c0;

/// A script that does all that is needed.
const GOOD: &str = "
    __fentry_image_start = .;
    .text : { *(.text .text.*) }
    __fentry_image_stop = .;
    .fentry.symbols : ALIGN(4096) { __fentry_symbols_start = .; KEEP(*(.fentry.symbols)) __fentry_symbols_stop = .; }
    .fentry.callsites : ALIGN(4096) {
        __fentry_callsites_start = .;
        KEEP(*(__patchable_function_entries))
        __fentry_callsites_stop = .;
    }
    .data : { *(.data) }
";

/// The end of the names of functions that are marked.
const VARIANT_PCS: &str = "$variant_pcs";

/// A function: its name, its instructions, and which of them the section's entry names.
type Function<'a> = (&'a str, &'a [u32], Option<u64>);

const PLAIN: Function<'_> = ("plain", &[NOP, NOP, RET, RET], Some(0));
const PADDED: Function<'_> = ("padded", &[BTI_C, NOP, NOP, RET], Some(4));
const BROKEN: Function<'_> = ("broken", &[RET, RET, RET, RET], Some(0));
/// Its entry is nobody's: the linker has discarded the function.
const GONE: Function<'_> = ("gone", &[RET], Some(0));
const UNTRACED: Function<'_> = ("core::untraced", &[RET, RET, RET, RET], None);

/// An object file with these functions.
fn object_file(functions: &[Function<'_>]) -> Vec<u8> {
    let mut object = write::Object::new(BinaryFormat::Elf, Architecture::Aarch64, Endianness::Little);
    let text = object.section_id(StandardSection::Text);
    let segment = object.segment_name(StandardSegment::Data).to_vec();
    let entries = object.add_section(segment, b"__patchable_function_entries".to_vec(), SectionKind::Data);
    object.section_mut(entries).flags =
        SectionFlags::Elf { sh_type: elf::SHT_PROGBITS, sh_flags: elf::SHF_ALLOC | elf::SHF_WRITE };
    for (name, words, entry) in functions {
        if *name == GONE.0 {
            object.append_section_data(entries, &[0; 8], 8);
            continue;
        }
        let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let at = object.append_section_data(text, &code, 8);
        let symbol = object.add_symbol(Symbol {
            name: name.as_bytes().to_vec(),
            value: at,
            size: code.len() as u64,
            kind: SymbolKind::Text,
            scope: SymbolScope::Linkage,
            weak: false,
            section: SymbolSection::Section(text),
            flags: if name.ends_with(VARIANT_PCS) {
                let st_info = elf::SymbolInfo::new(elf::STB_GLOBAL, elf::STT_FUNC);
                SymbolFlags::Elf { st_info, st_other: elf::STO_AARCH64_VARIANT_PCS }
            } else {
                SymbolFlags::None
            },
        });
        if let Some(offset) = entry {
            let offset_in_section = object.append_section_data(entries, &[0; 8], 8);
            let flags = RelocationFlags::Elf { r_type: elf::R_AARCH64_ABS64 };
            let addend = i64::try_from(*offset).unwrap();
            object.add_relocation(entries, Relocation { offset: offset_in_section, symbol, addend, flags }).unwrap();
        }
    }
    object.write().unwrap()
}

/// A linker script with these output sections.
fn sections(body: &str) -> String {
    format!("SECTIONS {{ . = 0x40080000; {body} }}")
}

/// A directory of this test's own.
fn directory(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("fentry-doctor-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn rust_lld() -> PathBuf {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "target-libdir"]).output().unwrap();
    let libdir = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    libdir.with_file_name("bin").join("rust-lld")
}

fn link(dir: &Path, inputs: &[PathBuf], script: &str, args: &[&str]) -> Vec<u8> {
    let (script_file, image) = (dir.join("linker.ld"), dir.join("image"));
    std::fs::write(&script_file, script).unwrap();
    let mut linker = Command::new(rust_lld());
    linker
        .args(["-flavor", "gnu", "-e", "plain", "-T"])
        .arg(&script_file)
        .arg("-o")
        .arg(&image)
        .args(args)
        .args(inputs);
    let output = linker.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(image).unwrap()
}

/// Links `functions` into these output sections and examines the image.
fn diagnose(name: &str, functions: &[Function<'_>], body: &str, args: &[&str]) -> Report {
    diagnose_whole(name, functions, &sections(body), args)
}

/// Links `functions` with this whole script and examines the image.
fn diagnose_whole(name: &str, functions: &[Function<'_>], script: &str, args: &[&str]) -> Report {
    let dir = directory(name);
    let input = dir.join("input.o");
    std::fs::write(&input, object_file(functions)).unwrap();
    let image = link(&dir, &[input], script, args);
    std::fs::remove_dir_all(&dir).unwrap();
    examine(&image).unwrap()
}

/// What there is to say about an image that keeps its callsites as examples/fentry.ld does.
fn examine(image: &[u8]) -> anyhow::Result<Report> {
    examine_with(image, &usual())
}

fn problems(report: &Report) -> Vec<&str> {
    let problems = report.findings.iter().filter(|finding| finding.weight == Weight::Problem);
    problems.map(|finding| finding.what.as_str()).collect()
}

#[track_caller]
fn assert_problem(report: &Report, what: &str, advice: &str) {
    let found = report.findings.iter().find(|finding| finding.weight == Weight::Problem && finding.what.contains(what));
    let found = found.unwrap_or_else(|| panic!("no problem says {what:?}:\n{report}"));
    let advised = found.advice.as_deref().unwrap_or_default();
    assert!(advised.contains(advice), "{advised:?} does not say {advice:?}");
}

#[track_caller]
fn assert_says(report: &Report, what: &str) {
    assert!(report.to_string().contains(what), "it does not say {what:?}:\n{report}");
}

#[test]
fn callsites_are_counted_by_form() {
    let report = diagnose("forms", &[PLAIN, PADDED, ("too", PLAIN.1, Some(0))], GOOD, &[]);
    assert_says(&report, "2 callsites of the form: NOP NOP");
    assert_says(&report, "1 callsites of the form: BTI C, NOP NOP");
    assert_says(&report, "kept: 3 entries");
    assert_says(&report, "3 of 3 functions and labels begin with a callsite");
    // Only the second link is missing.
    assert_eq!(problems(&report), ["The kernel was linked without a symbol table"]);
}

#[test]
fn a_refused_entry_is_named_with_its_words() {
    let report = diagnose("refused", &[PLAIN, BROKEN, ("inside", PADDED.1, Some(2))], GOOD, &[]);
    assert_problem(&report, "1 entries are refused: the instructions there are not two NOPs", "same -fpatchable");
    assert_says(&report, "broken+0x0/0x10: expected nop; nop and found ret; ret");
    assert_problem(&report, "1 entries are refused: its address is not a multiple of 4", "same -fpatchable");
    assert_says(&report, "inside+0x2/0x10");
}

#[test]
fn entries_that_all_lie_outside_the_text_are_one_problem() {
    // The image's range is not where the functions are.
    let body = GOOD
        .replace("__fentry_image_start = .;", "__fentry_image_start = . - 64;")
        .replace("__fentry_image_stop = .;", "__fentry_image_stop = __fentry_image_start + 64;");
    let report = diagnose("outside", &[PLAIN, PADDED], &body, &[]);
    let outside = "none of the 2 entries lies inside the text [0x4007ffc0, 0x40080000)";
    assert_problem(&report, outside, "TableError::OutsideText");
    assert_says(&report, "0x40080000  plain+0x0/0x10");
    assert_eq!(problems(&report).len(), 2, "{report}");
    // One inside is enough for it not to be that.
    let report = diagnose("not-outside", &[PLAIN, BROKEN], GOOD, &[]);
    assert!(!report.to_string().contains("lies inside the text"), "{report}");
}

#[test]
fn callsites_that_overlap_are_all_refused() {
    let nops: Function<'_> = ("nops", &[NOP, NOP, NOP, NOP, RET], Some(0));
    let again: Function<'_> = ("again", &[NOP, NOP, RET], Some(0));
    // The entry of `before` is in the midst of `nops`, which comes right behind it.
    let before: Function<'_> = ("before", &[RET, RET], Some(12));
    let report = diagnose("overlap", &[PLAIN, before, nops, again], GOOD, &[]);
    assert_problem(
        &report,
        "1 entries are refused: no function begins where it could belong to one",
        "same -fpatchable",
    );
    assert_says(&report, "nops+0x4/0x14");
    assert_says(&report, "3 callsites of the form: NOP NOP");
}

#[test]
fn the_form_of_a_callsite_follows_from_its_function() {
    // A function that begins with NOPs of its own does not make the others' forms doubtful.
    let branches: Function<'_> = ("branches", &[NOP, NOP, NOP, NOP, RET], Some(0));
    let report = diagnose("branches", &[PLAIN, branches], GOOD, &[]);
    assert_says(&report, "2 callsites of the form: NOP NOP");
    assert_eq!(problems(&report), ["The kernel was linked without a symbol table"]);
    // -fpatchable-function-entry=3,1 and =5,3: the entry is before the function.
    let one: Function<'_> = ("before one", &[RET, NOP], Some(4));
    let three: Function<'_> = ("before three", &[RET, NOP, NOP, NOP], Some(4));
    let nops: Function<'_> = ("nops", &[NOP, NOP, RET], None);
    let report = diagnose("sizes", &[PLAIN, one, nops, three, ("more nops", nops.1, None)], GOOD, &[]);
    assert_problem(&report, "2 entries are refused: its function does not begin where", "=2 or =4,2");
    assert_says(&report, "before one+0x4/0x8: its function begins 1 NOPs behind it");
    assert_says(&report, "before three+0x4/0x10: its function begins 3 NOPs behind it");
    assert_says(&report, "1 callsites of the form: NOP NOP");
}

#[test]
fn a_function_of_another_calling_convention_is_left_out_and_healthy() {
    let vector: Function<'_> = ("vector$variant_pcs", PADDED.1, Some(4));
    let report = diagnose("convention", &[PLAIN, vector], GOOD, &[]);
    assert_says(&report, "1 entries are refused: its function has a calling convention");
    assert_says(&report, "patchable_function_entry(0)");
    assert_says(&report, "1 callsites of the form: NOP NOP");
    assert_eq!(problems(&report), ["The kernel was linked without a symbol table"]);
}

#[test]
fn functions_that_take_x18_and_rust_that_changes_it_are_a_problem() {
    const TAKE: u32 = 0xb940_0241;
    const CHANGE: u32 = 0xaa00_03f2;
    let nested: Function<'_> = ("nested.0", &[NOP, NOP, TAKE, RET], Some(0));
    let rust: Function<'_> = ("_RNvCs1234_6kernel8callback", &[NOP, NOP, CHANGE, RET], Some(0));
    let c: Function<'_> = ("callback", rust.1, Some(0));
    let report = diagnose("x18", &[nested, rust, c], GOOD, &[]);
    assert_problem(&report, "1 functions take a value in x18, and 1 Rust functions", "-Zfixed-x18");
    assert_says(&report, "nested.0");
    assert_says(&diagnose("x18-c", &[nested, c], GOOD, &[]), "1 functions take a value in x18, and no Rust");
    assert!(!diagnose("x18-rust", &[PLAIN, rust], GOOD, &[]).to_string().contains("x18"));
}

#[test]
fn a_section_that_the_linker_dropped_is_told_from_one_that_the_compiler_never_made() {
    let dropped = ".text : { *(.text) } /DISCARD/ : { *(__patchable_function_entries) }";
    assert_problem(
        &diagnose("dropped", &[PLAIN], dropped, &[]),
        "there is no callsite section",
        "KEEP(*(EXCLUDE_FILE(*.rcgu.o) __patch",
    );
    let collected = ".text : { *(.text) } .data : { *(__patchable_function_entries) }";
    let report = diagnose("collected", &[PLAIN], collected, &["--gc-sections"]);
    assert_problem(&report, "there is no callsite section", "KEEP(*(EXCLUDE_FILE(*.rcgu.o) __patch");
    let report = diagnose("never", &[UNTRACED], GOOD, &[]);
    assert_problem(&report, "the callsite section is empty", "-Zpatchable-function-entry=2");
}

#[test]
fn an_orphaned_section_is_found_by_its_name() {
    let report = diagnose("orphan", &[PLAIN], ".text : { *(.text) }", &[]);
    assert_problem(&report, "no linker symbols", "__fentry_callsites_start");
    assert_says(&report, "1 callsites of the form: NOP NOP");
}

#[test]
fn a_section_in_read_only_memory_is_a_problem() {
    let body = GOOD.replace("*(.text .text.*) }", "*(.text .text.*) } :all");
    let script = format!("PHDRS {{ all PT_LOAD FLAGS(5); }} {}", sections(&body));
    let report = diagnose_whole("read-only", &[PLAIN], &script, &[]);
    assert_problem(&report, "read-only segment", "flags RW");
}

#[test]
fn a_position_independent_image_is_read_after_its_relocations() {
    let script = format!("{GOOD} .rela.dyn : {{ *(.rela.dyn) }} .dynamic : {{ *(.dynamic) }}");
    for (name, args) in
        [("rela", &["-pie"][..]), ("relr", &["-pie", "--pack-dyn-relocs=relr"]), ("filled", &["-pie", "-z", "rel"])]
    {
        let report = diagnose(name, &[PLAIN, PADDED], &script, args);
        assert_says(&report, "position-independent: its 2 relocations");
        assert_says(&report, "1 callsites of the form: BTI C, NOP NOP");
    }
}

#[test]
fn relocations_that_are_gone_leave_zeros() {
    let script = format!("{GOOD} /DISCARD/ : {{ *(.rela.dyn) }}");
    let report = diagnose("gone", &[PLAIN], &script, &["-pie"]);
    assert_problem(&report, "all 1 entries of the callsite section are zero", "relocated itself");
}

#[test]
fn the_engine_s_own_text_must_be_gathered() {
    let own: Function<'_> = ("_RNvNtCs1234_6fentry4text4poke", PLAIN.1, Some(0));
    assert_problem(
        &diagnose("loose", &[PLAIN, own], GOOD, &[]),
        "nothing gathers",
        "*(.text.fentry_stubs .text.*_6fentry*)",
    );
    let gathered = GOOD.replace("*(.text .text.*)", "__fentry_text_start = .; *(.text) __fentry_text_stop = .;");
    let report = diagnose("gathered", &[own], &gathered, &[]);
    assert_says(&report, "the engine's own text is gathered: 1 functions");
    assert_says(&report, "1 entries in the engine's own text, never traced");
    let elsewhere = gathered.replace("*(.text) __fentry_text_stop = .;", "__fentry_text_stop = .; *(.text .text.*)");
    let outside = diagnose("outside", &[own], &elsewhere, &[]);
    assert_problem(&outside, "1 of the engine's 1 functions are outside", "*(.text.fentry_stubs .text.*_6fentry*)");
    let merged = format!("{elsewhere}\n_RNvCs9_5other5equal = _RNvNtCs1234_6fentry4text4poke;");
    let report = diagnose("merged", &[own], &merged, &[]);
    assert_says(&report, "1 functions of the engine are merged with equal ones of others");
    assert!(!report.to_string().contains("are outside its gathered text"), "{report}");
}

/// The good script with the engine's text and room for stubs at the end of its text, with `between` and `after` them.
fn with_engine(between: &str, after: &str) -> String {
    let engine = format!(
        "*(.text .text.*) {between}
            __fentry_text_start = .; . += 64; __fentry_text_stop = .;
            __fentry_stubs_start = .; . += 64; __fentry_stubs_stop = .;
            {after}"
    );
    GOOD.replace("*(.text .text.*)", &engine)
}

#[test]
fn an_end_of_text_before_the_engine_s_is_noticed() {
    const SAYS: &str = "the kernel's own symbol for the end of its text";
    let report = diagnose("etext", &[PLAIN], &with_engine("_etext = .;", "__text_end = .;"), &[]);
    assert_says(&report, SAYS);
    assert_says(&report, "_etext is 0x40080010, and the engine's own text lies in 0x40080010..0x40080050");
    assert_says(&report, "_etext is 0x40080010, and the room for generated stubs lies in 0x40080050..0x40080090");
    assert_says(&report, "hangs at the first call of the engine");
    assert!(!report.to_string().contains("__text_end is"), "{report}");
    assert_eq!(problems(&report), ["The kernel was linked without a symbol table"]);
    // Behind all of it; or of another mapping.
    for (after, mapping) in [("_etext = .;", ""), ("", "_etext = ADDR(.text) - 0x40000000;")] {
        let report = diagnose("etext-good", &[PLAIN], &(with_engine("", after) + mapping), &[]);
        assert!(!report.to_string().contains(SAYS), "{report}");
    }
}

#[test]
fn the_engine_s_text_and_room_must_be_mapped_executable() {
    let good = diagnose("mapped", &[PLAIN], &with_engine("", ""), &[]);
    assert_eq!(problems(&good), ["The kernel was linked without a symbol table"], "{good}");
    // A room that the script puts behind all sections, or among the data.
    let room =
        |place: &str| with_engine("", "").replace("__fentry_stubs_start = .; . += 64; __fentry_stubs_stop = .;", place);
    let behind = room("") + "__fentry_stubs_start = . + 0x1000000; __fentry_stubs_stop = __fentry_stubs_start + 64;";
    let report = diagnose("unmapped-room", &[PLAIN], &behind, &[]);
    assert_problem(&report, "the room for generated stubs, 0x4108", "the flags R E");
    assert_says(&report, "is in no segment that is loaded from 0x4108");
    let data = room("").replace(
        "__fentry_callsites_stop = .;",
        "__fentry_callsites_stop = .; __fentry_stubs_start = .; . += 64; __fentry_stubs_stop = .;",
    );
    let report = diagnose("data-room", &[PLAIN], &data, &[]);
    assert_problem(&report, "the room for generated stubs", "the flags R E");
    assert_says(&report, "is in a segment that is not executable from 0x4008");
    // The engine's text begins in the kernel's and ends outside.
    let cut = with_engine("", "").replace("__fentry_text_stop = .;", "__fentry_text_stop = . + 0x100000;");
    assert_problem(&diagnose("cut", &[PLAIN], &cut, &[]), "the engine's own text, 0x40080010..", "the flags R E");
}

#[test]
fn a_callsite_section_that_a_segment_ends_in_is_a_problem() {
    let cut = GOOD.replace("__fentry_callsites_stop = .;", "__fentry_callsites_stop = . + 0x100000;");
    assert_problem(
        &diagnose("cut-section", &[PLAIN], &cut, &[]),
        "is in no segment that is loaded from 0x4008",
        "KEEP(*(EXCLUDE_FILE(*.rcgu.o) __patch",
    );
    // In the text, which is loaded but not writable; the place is told.
    let text = ".text : { *(.text) . = ALIGN(8); __fentry_callsites_start = .; KEEP(*(__patchable_function_entries))
        __fentry_callsites_stop = .; }";
    let script =
        format!("PHDRS {{ all PT_LOAD FLAGS(5); }} {}", sections(&text.replace("stop = .; }", "stop = .; } :all")));
    assert_problem(&diagnose_whole("in-text", &[PLAIN], &script, &[]), "read-only segment", "flags RW");
}

#[test]
fn a_core_without_callsites_is_noticed() {
    assert_says(
        &diagnose("core", &[PLAIN, UNTRACED], GOOD, &[]),
        "none of the 1 functions of core and alloc can be traced",
    );
}

#[test]
fn callsites_beyond_a_branch_s_reach_are_a_problem() {
    let stub: Function<'_> = ("ftrace_caller", &[RET, RET], None);
    let dir = directory("far");
    let (near, away) = (dir.join("near.o"), dir.join("away.o"));
    std::fs::write(&near, object_file(&[PLAIN])).unwrap();
    std::fs::write(&away, object_file(&[stub])).unwrap();
    let script = GOOD.replace("*(.text .text.*)", "*near.o(.text) . += 160M; *away.o(.text)");
    let image = link(&dir, &[near, away], &sections(&script), &[]);
    std::fs::remove_dir_all(&dir).unwrap();
    assert_problem(&examine(&image).unwrap(), "160 MiB away", "128 MiB");
}

#[test]
fn a_symbol_table_of_another_link_is_noticed() {
    let dir = directory("stale");
    let (input, table) = (dir.join("input.o"), dir.join("symbols.o"));
    std::fs::write(&input, object_file(&[PLAIN, PADDED])).unwrap();
    let first = link(&dir, std::slice::from_ref(&input), &sections(GOOD), &[]);
    let contents = crate::symbols::read_image(&first).unwrap();
    std::fs::write(&table, crate::symbols::object_file(&contents, None).unwrap()).unwrap();
    let inputs = [input.clone(), table];
    let healthy = examine(&link(&dir, &inputs, &sections(GOOD), &[])).unwrap();
    assert_eq!(problems(&healthy), Vec::<&str>::new(), "{healthy}");
    assert_says(&healthy, "the symbol table has all 2 names");

    std::fs::write(&input, object_file(&[BROKEN, PLAIN, PADDED])).unwrap();
    let stale = examine(&link(&dir, &inputs, &sections(GOOD), &[])).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_problem(&stale, "of another link: 3 functions", "link again");
}

#[test]
fn what_is_no_image_of_an_arm64_kernel_is_refused() {
    assert!(examine(b"text").unwrap_err().to_string().contains("ELF"));
    assert!(examine(&object_file(&[PLAIN])).unwrap_err().to_string().contains("object file"));
}
