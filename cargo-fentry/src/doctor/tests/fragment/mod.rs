//! The linker fragment with real linkers, and what the doctor says of the images.
//!
//! A kernel in C by each compiler, with the engine in a static library, and one in Rust; by GNU ld, the oldest and the newest
//! lld, and Rust's own; position-independent and not, with and without --gc-sections; under a script that knows nothing of
//! fentry, and one that names its segments and, with lld, includes the fragment. What the table must hold, binutils say.

mod inputs;
mod oracle;
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use fentry::callsite::TableError;
use fentry::engine::InitError;
use fentry::fakes::FakeText;
use fentry::{Engine, LINKER_FRAGMENT, TextAddr};

use super::{assert_problem, assert_says, directory, examine, problems};
use crate::left_out::leave_out;
use inputs::{Kernel, Rust};
use oracle::{Entry, Objects, Segment};
use tools::{Linker, Maker};

/// A script of a kernel's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    /// It knows nothing of fentry.
    Plain,
    /// It has program headers, sets `. = .;` where the fragment says so, and takes all `.rela*`.
    Advised,
}

/// How an image is linked.
#[derive(Clone, Debug)]
struct Way {
    linker: Linker,
    script: Script,
    is_pie: bool,
    collects: bool,
}

/// A linked image.
#[derive(Debug)]
struct Linked {
    case: String,
    way: Way,
    /// What it was made of.
    objects: Objects,
    file: Vec<u8>,
    image: oracle::Image,
}

/// Functions that nobody calls.
const GONE_FROM_RUST: &str = "gone_from_glue";
const GONE_FROM_C: [&str; 2] = ["gone", "gone_first"];

impl Way {
    fn arguments(&self, fragment: &str) -> Vec<String> {
        let script = match (self.script, self.linker.maker) {
            (Script::Plain, _) => "kernel.ld",
            (Script::Advised, Maker::Gnu) => "headers.ld",
            (Script::Advised, Maker::Llvm) => "including.ld",
        };
        let mut arguments = if script == "including.ld" { Vec::new() } else { vec![format!("-T{fragment}")] };
        arguments.push(format!("-T{script}"));
        arguments.extend(self.is_pie.then(|| "-pie".to_owned()));
        arguments.extend(self.collects.then(|| "--gc-sections".to_owned()));
        arguments
    }

    fn link(&self, dir: &Path, fragment: &str, inputs: &[PathBuf], image: &Path) -> Output {
        let mut linker = Command::new(&self.linker.program);
        linker.current_dir(dir).args(self.linker.arguments).arg("--entry=kernel_main").args(self.arguments(fragment));
        linker.args(inputs).arg("-o").arg(image).output().unwrap()
    }
}

impl Linked {
    fn read(case: String, way: &Way, objects: Objects, image: &Path) -> Self {
        let (file, read) = (std::fs::read(image).unwrap(), oracle::image(image));
        std::fs::remove_file(image).unwrap();
        Self { case, way: way.clone(), objects, file, image: read }
    }

    fn at(&self, symbol: &str) -> u64 {
        *self.image.symbols.get(symbol).unwrap_or_else(|| panic!("{}: no {symbol}", self.case))
    }

    fn has(&self, function: &str) -> bool {
        self.image.symbols.contains_key(function)
    }

    /// The words of the table as the file has them, by address.
    fn table_in_file(&self) -> BTreeMap<u64, u64> {
        let (start, stop) = (self.at("__fentry_callsites_start"), self.at("__fentry_callsites_stop"));
        assert!(start.is_multiple_of(8) && start <= stop, "{}: {start:#x}..{stop:#x}", self.case);
        let word = |at: u64| Some((at, u64::from_le_bytes(self.bytes(at, 8)?.try_into().unwrap())));
        (start..stop)
            .step_by(8)
            .map(|at| word(at).unwrap_or_else(|| panic!("{}: not in the file", self.case)))
            .collect()
    }

    fn bytes(&self, at: u64, bytes: u64) -> Option<&[u8]> {
        let holds = |segment: &&Segment| segment.addr <= at && at + bytes <= segment.addr + segment.bytes_in_file;
        let segment = self.image.segments.iter().find(holds)?;
        let start = usize::try_from(segment.offset + at - segment.addr).unwrap();
        self.file.get(start..start + usize::try_from(bytes).unwrap())
    }

    /// The table once the kernel has relocated itself, sorted and without what is empty.
    fn table(&self) -> Vec<u64> {
        let words = self.table_in_file().into_iter();
        let mut entries: Vec<u64> =
            words.map(|(at, word)| self.image.relative.get(&at).copied().unwrap_or(word)).collect();
        entries.retain(|entry| *entry != 0);
        entries.sort_unstable();
        entries
    }

    /// The entries of the functions that are linked, and those of them that the linker drops with another function, which only
    /// GCC before 13 ties them to.
    fn expected(&self) -> (Vec<u64>, BTreeSet<&str>) {
        let is_dropped =
            |entry: &Entry| self.way.linker.maker == Maker::Llvm && self.way.collects && !self.has(&entry.tied_to);
        let linked = self.objects.entries.iter().filter(|entry| self.has(&entry.function));
        let (lost, kept): (Vec<_>, Vec<_>) = linked.partition(|entry| is_dropped(entry));
        let mut addresses: Vec<u64> =
            kept.iter().map(|entry| self.at(&entry.function).checked_add_signed(entry.offset).unwrap()).collect();
        addresses.sort_unstable();
        (addresses, lost.iter().map(|entry| &*entry.function).collect())
    }

    /// Whether each entry goes with its own function.
    fn ties_each(&self) -> bool {
        self.objects.entries.iter().all(|entry| entry.tied_to == entry.function)
    }
}

/// Every image, linked once for all tests; none where the programs are missing that read them.
fn matrix() -> &'static [Linked] {
    static MATRIX: OnceLock<Vec<Linked>> = OnceLock::new();
    MATRIX.get_or_init(|| {
        if !tools::is_there("aarch64-linux-gnu-ld") {
            leave_out("aarch64-linux-gnu-ld is not installed");
            return Vec::new();
        }
        let dir = directory("fragment");
        let images = link_all(&dir);
        std::fs::remove_dir_all(&dir).unwrap();
        images
    })
}

fn write_scripts(dir: &Path) {
    let headers = include_str!("headers.ld");
    std::fs::write(dir.join("fentry.ld"), LINKER_FRAGMENT).unwrap();
    std::fs::write(dir.join("kernel.ld"), include_str!("kernel.ld")).unwrap();
    std::fs::write(dir.join("headers.ld"), headers).unwrap();
    std::fs::write(dir.join("including.ld"), format!("INCLUDE fentry.ld\n{headers}")).unwrap();
}

fn link_all(dir: &Path) -> Vec<Linked> {
    write_scripts(dir);
    let (linkers, missing_linkers) = tools::linkers();
    let (compilers, missing_compilers) = tools::compilers();
    missing_linkers.into_iter().chain(missing_compilers).for_each(leave_out);
    let layouts = ["2", "4,2"].map(|nops| {
        let kernels: Vec<Kernel> = compilers.iter().map(|compiler| Kernel::compile(dir, nops, compiler)).collect();
        (Rust::compile(dir, nops), kernels)
    });
    std::thread::scope(|scope| {
        let of_linker = |linker: Linker, number: usize| {
            let layouts = &layouts;
            let own = dir.join(number.to_string());
            std::fs::create_dir_all(&own).unwrap();
            let image = own.join("image");
            scope.spawn(move || {
                let both = layouts.iter().flat_map(|(rust, kernels)| link_with(dir, &linker, rust, kernels, &image));
                both.collect::<Vec<Linked>>()
            })
        };
        let threads: Vec<_> =
            linkers.into_iter().enumerate().map(|(number, linker)| of_linker(linker, number)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn link_with(dir: &Path, linker: &Linker, rust: &Rust, kernels: &[Kernel], image: &Path) -> Vec<Linked> {
    let mut images = Vec::new();
    // What comes before a function doesn't matter to a script.
    let scripts = if rust.nops == "2" { &[Script::Plain, Script::Advised][..] } else { &[Script::Advised] };
    for (script, is_pie) in scripts.iter().flat_map(|&script| [(script, false), (script, true)]) {
        for collects in [false, true] {
            let way = Way { linker: linker.clone(), script, is_pie, collects };
            for kernel in kernels {
                let case = format!("{} and {way:?}", kernel.compiler);
                let inputs: Vec<PathBuf> = kernel.objects.iter().chain([&rust.archive]).cloned().collect();
                let output = way.link(dir, "fentry.ld", &inputs, image);
                assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stderr));
                images.push(Linked::read(case, &way, kernel.of_objects.and(&rust.of_archive), image));
            }
        }
        // rustc collects always.
        let way = Way { linker: linker.clone(), script, is_pie, collects: true };
        let arguments = way.arguments("fentry.ld").into_iter().map(|argument| match argument.strip_prefix("-T") {
            Some(script) => format!("-T{}", dir.join(script).display()),
            None => argument,
        });
        let arguments: Vec<String> = arguments.chain([format!("-L{}", dir.display())]).collect();
        let objects = rust.link(linker, &arguments, image);
        images.push(Linked::read(format!("rustc ={} and {way:?}", rust.nops), &way, objects, image));
    }
    images
}

#[test]
fn the_table_holds_what_the_compilers_made_of_the_functions_that_are_linked() {
    for image in matrix() {
        let (expected, lost) = image.expected();
        assert!(expected.len() >= 6, "{}: {expected:x?}", image.case);
        assert_eq!(image.table(), expected, "{}", image.case);
        let (start, stop) = (image.at("__fentry_image_start"), image.at("__fentry_image_stop"));
        assert!(expected.iter().all(|entry| (start..stop).contains(entry)), "{}: {start:#x}..{stop:#x}", image.case);
        assert!(lost.is_empty() || !image.ties_each(), "{}: {lost:?}", image.case);
    }
}

/// From libraries as rustc links them, and from a static library, whose members have the crates' names.
#[test]
fn the_engine_and_compiler_builtins_are_gathered_and_nothing_else() {
    for image in matrix() {
        let engine = image.at("__fentry_text_start")..image.at("__fentry_text_stop");
        for function in ["fentry_init", "memcpy"] {
            assert!(engine.contains(&image.at(function)), "{}: {function}", image.case);
        }
        let mut gathered = 0;
        for (function, object) in image.objects.functions.iter().filter(|(function, _)| image.has(function)) {
            let is_own = ["fentry-", "compiler_builtins-"].iter().any(|name| object.starts_with(name));
            let is_own = is_own || function.contains("_6fentry");
            assert_eq!(engine.contains(&image.at(function)), is_own, "{}: {function} of {object}", image.case);
            gathered += usize::from(is_own);
        }
        assert!(gathered >= 4, "{}", image.case);
    }
}

#[test]
fn the_engine_and_the_room_for_stubs_are_text_in_the_file() {
    for image in matrix() {
        let (engine, engine_stop) = (image.at("__fentry_text_start"), image.at("__fentry_text_stop"));
        let (room, room_stop) = (image.at("__fentry_stubs_start"), image.at("__fentry_stubs_stop"));
        assert!(room.is_multiple_of(4096) && engine_stop <= room && room - engine_stop < 4096, "{}", image.case);
        assert_eq!(room_stop - room, 0x10000, "{}", image.case);
        let holds = |segment: &&Segment| segment.addr <= engine && room_stop <= segment.addr + segment.bytes_in_file;
        let segment = image.image.segments.iter().find(holds);
        assert!(segment.is_some_and(|segment| segment.is_executable), "{}: {:x?}", image.case, image.image.segments);
    }
}

#[test]
fn a_kernels_own_ends_lie_where_the_fragment_says() {
    for image in matrix() {
        let ends = [("etext", "__fentry_stubs_stop"), ("edata", "__fentry_callsites_stop")];
        let skips = image.way.script == Script::Plain && image.way.linker.maker == Maker::Gnu;
        for (end, own) in ends {
            assert_eq!(image.at(end) < image.at(own), skips, "{}: {end} and {own}", image.case);
        }
        let relocations = (image.at("rela_end") - image.at("rela_start")) / 24;
        let misses = skips && image.way.is_pie;
        assert_eq!(relocations < image.image.relative.len() as u64, misses, "{}: {relocations}", image.case);
    }
}

#[test]
fn unused_functions_of_rust_go_and_of_c_where_nothing_needs_keep() {
    for image in matrix().iter().filter(|image| image.way.collects) {
        assert!(!image.has(GONE_FROM_RUST), "{}", image.case);
        let is_free = image.way.linker.maker == Maker::Llvm && image.ties_each();
        assert!(!is_free || GONE_FROM_C.iter().all(|function| !image.has(function)), "{}", image.case);
    }
}

/// What the fragment says of GNU ld and compilers that tie each entry to its function.
#[test]
fn without_keep_gnu_ld_drops_unused_c_and_loses_nothing() {
    let (compilers, _) = tools::compilers();
    if !tools::is_there("aarch64-linux-gnu-ld") {
        return leave_out("aarch64-linux-gnu-ld is not installed");
    }
    let dir = directory("without-keep");
    write_scripts(&dir);
    let keep = "        KEEP(*(EXCLUDE_FILE(*.rcgu.o) __patchable_function_entries))\n";
    assert!(LINKER_FRAGMENT.contains(keep));
    std::fs::write(dir.join("without.ld"), LINKER_FRAGMENT.replace(keep, "")).unwrap();
    let rust = Rust::compile(&dir, "2");
    let (linkers, _) = tools::linkers();
    let way = Way { linker: linkers[0].clone(), script: Script::Plain, is_pie: false, collects: true };
    assert_eq!(way.linker.maker, Maker::Gnu);
    let mut tried = 0;
    for compiler in &compilers {
        let kernel = Kernel::compile(&dir, "2", compiler);
        let inputs: Vec<PathBuf> = kernel.objects.iter().chain([&rust.archive]).cloned().collect();
        let path = dir.join("image");
        let output = way.link(&dir, "without.ld", &inputs, &path);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let image = Linked::read(kernel.compiler, &way, kernel.of_objects.and(&rust.of_archive), &path);
        if image.ties_each() {
            tried += 1;
            assert!(GONE_FROM_C.iter().all(|function| !image.has(function)), "{}", image.case);
            assert_eq!(image.table(), image.expected().0, "{}", image.case);
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
    if tried == 0 {
        leave_out("no compiler of C ties each entry to its function");
    }
}

#[test]
fn the_wrong_order_stops_the_link() {
    let dir = directory("order");
    write_scripts(&dir);
    let rust = Rust::compile(&dir, "2");
    for linker in tools::linkers().0.into_iter().filter(|linker| tools::is_there(&linker.program.display().to_string()))
    {
        let mut command = Command::new(&linker.program);
        // An archive doesn't tell lld what to link for.
        command.args(linker.arguments).args((linker.maker == Maker::Llvm).then_some("-maarch64elf"));
        command.current_dir(&dir).args(["-Tkernel.ld", "-Tfentry.ld", "--entry=fentry_init"]);
        let output = command.arg(&rust.archive).args(["-o", "image"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let expected = match linker.maker {
            Maker::Gnu => ".text not found for insert",
            Maker::Llvm => "fentry.ld must be given before",
        };
        assert!(!output.status.success() && said.contains(expected), "{linker:?}: {said}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn an_included_fragment_brings_gnu_ld_s_default_script_and_the_doctor_says_so() {
    let dir = directory("included");
    write_scripts(&dir);
    let rust = Rust::compile(&dir, "2");
    for linker in tools::linkers().0.into_iter().filter(|linker| tools::is_there(&linker.program.display().to_string()))
    {
        let mut command = Command::new(&linker.program);
        command.args(linker.arguments).args((linker.maker == Maker::Llvm).then_some("-maarch64elf"));
        command.current_dir(&dir).args(["-Tincluding.ld", "--entry=fentry_init"]);
        let output = command.arg(&rust.archive).args(["-o", "image"]).output().unwrap();
        assert!(output.status.success(), "{linker:?}: {}", String::from_utf8_lossy(&output.stderr));
        let report = examine(&std::fs::read(dir.join("image")).unwrap()).unwrap();
        let what = "GNU ld has added its default script to the kernel's own";
        match linker.maker {
            Maker::Gnu => assert_problem(&report, what, "by a -T of its own"),
            Maker::Llvm => assert!(!report.to_string().contains(what), "{linker:?}: {report}"),
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Before a position-independent kernel has relocated itself, its section is empty, or (GNU ld) holds what is right at the
/// linked address only. Init tells both from a table of which nothing fits, and succeeds afterwards.
#[test]
fn init_before_relocation_is_an_error_by_every_linker() {
    const SLIDE: u64 = 1 << 40;
    for image in matrix().iter().filter(|image| image.way.is_pie) {
        let (start, stop) = (image.at("__fentry_image_start"), image.at("__fentry_image_stop"));
        let base = start & !4095;
        let lead = usize::try_from(start - base).unwrap() / 4;
        let words =
            image.bytes(start, stop - start).unwrap().as_chunks().0.iter().map(|word| u32::from_le_bytes(*word));
        let words: Vec<u32> = std::iter::repeat_n(0, lead).chain(words).collect();
        let init = |base: u64, entries: &mut dyn Iterator<Item = u64>| {
            let mut text = FakeText::new(base);
            text.words(&words);
            entries.for_each(|entry| text.entry(entry));
            for function in image.objects.functions.keys().filter(|function| image.has(function)) {
                text.symbol(function, TextAddr::new(image.at(function) - start + base + (start & 4095)), 4);
            }
            let kernel = text.build();
            // SAFETY: nothing executes a fake's text.
            unsafe { Engine::with_machine(kernel, kernel).init(kernel.image()) }
        };
        let in_file = image.table_in_file();
        let before = init(base + SLIDE, &mut in_file.values().copied());
        match image.way.linker.maker {
            Maker::Gnu => {
                assert!(
                    matches!(before, Err(InitError::Table(TableError::OutsideText { .. }))),
                    "{}: {before:?}",
                    image.case
                );
            }
            Maker::Llvm => {
                assert!(
                    matches!(before, Err(InitError::Table(TableError::NotRelocated { .. }))),
                    "{}: {before:?}",
                    image.case
                );
            }
        }
        let table = image.table();
        let after = init(base + SLIDE, &mut table.iter().map(|entry| entry + SLIDE));
        assert_eq!(after.map(|report| report.counts.refused), Ok(0), "{}", image.case);
    }
}

#[test]
fn the_doctor_finds_the_image_healthy_or_says_what_a_script_misses() {
    for image in matrix() {
        let report = examine(&image.file).unwrap();
        let (_, lost) = image.expected();
        let is_gnu_plain = image.way.script == Script::Plain && image.way.linker.maker == Maker::Gnu;
        let mut expected = 1;
        if !lost.is_empty() {
            expected += 1;
            assert_problem(
                &report,
                &format!("{} functions begin with the NOPs of a callsite and have no entry", lost.len()),
                "GCC before 13",
            );
            lost.iter().for_each(|function| assert_says(&report, &format!("  {function}\n")));
        }
        if is_gnu_plain && image.way.is_pie {
            expected += 1;
            assert_problem(&report, "relocations of the callsites lie behind rela_end", "*(.rela .rela*)");
        }
        assert_eq!(problems(&report).len(), expected, "{}: {report}", image.case);
        assert_problem(&report, "linked without a symbol table", "cargo fentry symbols");
        assert_says(&report, "the engine's own text is gathered");
        let hints = report.to_string().contains("the kernel's own symbol for the end of its text");
        assert_eq!(hints, is_gnu_plain, "{}: {report}", image.case);
        assert_eq!(report.to_string().contains("position-independent: its "), image.way.is_pie, "{}", image.case);
    }
}
