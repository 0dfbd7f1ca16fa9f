//! What linkers do to callsites: other names for the section, entries collected, functions folded.

use std::path::Path;
use std::process::Command;

use super::{
    BROKEN, Function, GOOD, PLAIN, RET, UNTRACED, assert_problem, assert_says, diagnose, directory, examine,
    examine_with, link, object_file, problems, sections, usual,
};
use crate::doctor::{compare, look_into};
use crate::left_out::leave_out;
use crate::symbols::Kept;

const GCC: &str = "aarch64-linux-gnu-gcc";
const LD: &str = "aarch64-linux-gnu-ld";

#[test]
fn a_kernel_may_keep_its_callsites_as_linux_does() {
    let dir = directory("linux");
    let input = dir.join("input.o");
    std::fs::write(&input, object_file(&[PLAIN, ("too", PLAIN.1, Some(0))])).unwrap();
    let script = "
        .text : { *(.text .text.*) }
        .init.data : ALIGN(4096) {
            __start_mcount_loc = .;
            KEEP(*(__patchable_function_entries))
            __stop_mcount_loc = .;
        }";
    let image = link(&dir, &[input], &sections(script), &[]);
    std::fs::remove_dir_all(&dir).unwrap();
    let advised = "--section __mcount_loc --symbols __start_mcount_loc,__stop_mcount_loc";
    assert_problem(&examine(&image).unwrap(), "there is no callsite section", advised);
    let linux = Kept::new("__mcount_loc", "__start_mcount_loc", "__stop_mcount_loc");
    let report = examine_with(&image, &linux).unwrap();
    assert_says(&report, "2 callsites of the form: NOP NOP");
    assert_eq!(problems(&report), Vec::<&str>::new(), "{report}");
}

#[test]
fn a_function_that_lost_its_entry_is_named() {
    let lost: Function<'_> = ("lost", PLAIN.1, None);
    let report = diagnose("lost", &[PLAIN, lost, BROKEN], GOOD, &[]);
    assert_problem(&report, "1 functions begin with the NOPs of a callsite and have no entry", "GCC before 13");
    assert_says(&report, "  lost");
    assert_says(&report, "1 of 3 functions and labels begin with a callsite");
}

#[test]
fn a_duplicate_entry_costs_nothing() {
    // Its entry is the one of `plain`, which comes right behind it.
    let before: Function<'_> = ("before", &[RET, RET], Some(8));
    let report = diagnose("duplicate", &[before, PLAIN], GOOD, &[]);
    assert_says(&report, "1 callsites of the form: NOP NOP");
    assert_says(&report, "1 entries: another entry names the same instructions");
    assert_says(&report, "these functions are traced, once");
    assert_eq!(problems(&report), ["The kernel was linked without a symbol table"]);
}

/// The linker takes the symbol of a weak function for the strong one, and leaves its code where it is.
#[test]
fn an_overridden_weak_function_is_no_problem() {
    if !is_installed(GCC) {
        return;
    }
    let dir = directory("weak");
    let weak = compile(
        &dir,
        "weak",
        "__attribute__((weak)) int arch(int x) { return x * 7; } int plain(int x) { return arch(x) + 1; }",
    );
    let strong = compile(&dir, "strong", "int arch(int x) { return x * 3; }");
    let image = link(&dir, &[weak, strong], &sections(GOOD), &[]);
    std::fs::remove_dir_all(&dir).unwrap();
    let report = examine(&image).unwrap();
    assert_says(&report, "2 callsites of the form: NOP NOP");
    assert_says(&report, "1 entries are refused: no function begins where it could belong to one");
    assert_says(&report, "weak functions that others have overridden");
    assert_eq!(problems(&report), ["The kernel was linked without a symbol table"]);
}

/// Three functions of one section, as an assembler leaves them, are no work of --gc-sections.
#[test]
fn functions_in_assembly_with_nops_of_their_own_are_no_problem() {
    if !is_installed(GCC) {
        return;
    }
    let dir = directory("assembly");
    let plain = dir.join("plain.o");
    std::fs::write(&plain, object_file(&[PLAIN])).unwrap();
    let functions = ["one", "two", "three"].map(|name| {
        format!(".globl {name}\n.type {name}, %function\n{name}: nop\n nop\n ret\n.size {name}, . - {name}\n")
    });
    let (source, object) = (dir.join("a.s"), dir.join("a.o"));
    std::fs::write(&source, functions.concat()).unwrap();
    succeed(Command::new(GCC).arg("-c").arg("-o").arg(&object).arg(&source));
    let image = link(&dir, &[plain, object], &sections(GOOD), &[]);
    std::fs::remove_dir_all(&dir).unwrap();
    let report = examine(&image).unwrap();
    assert_says(&report, "3 functions begin with the NOPs of a callsite and have no entry");
    assert_says(&report, "NOPs of their own");
    assert_eq!(problems(&report), ["The kernel was linked without a symbol table"]);
}

/// The same functions in both images but for `debug`, which the release profile has inlined; a crate and a function of C have
/// lost their callsites.
#[test]
fn images_that_differ_in_what_is_traced_are_told_apart() {
    const FORMAT: &str = "_RNvNtCs1234_4core3fmt5write";
    let function = |name, entry| -> Function<'_> { (name, PLAIN.1, entry) };
    let untraced = |name| -> Function<'_> { (name, UNTRACED.1, None) };
    let dir = directory("profiles");
    let image = |name: &str, functions: &[Function<'_>]| {
        let input = dir.join(name).with_extension("o");
        std::fs::write(&input, object_file(functions)).unwrap();
        let file = dir.join(name);
        std::fs::write(&file, link(&dir, &[input], &sections(GOOD), &[])).unwrap();
        file
    };
    let debug =
        image("debug", &[PLAIN, function(FORMAT, Some(0)), function("in_c", Some(0)), function("inlined", Some(0))]);
    let release = image("release", &[PLAIN, untraced(FORMAT), untraced("in_c")]);
    let compared = |first: &Path, second: &Path| {
        let images =
            [first, second].map(|file| (file, look_into(&std::fs::read(file).unwrap(), &usual()).unwrap().traced));
        compare::examine([(images[0].0, &images[0].1), (images[1].0, &images[1].1)])
    };
    let (same, there, back) = (compared(&debug, &debug), compared(&debug, &release), compared(&release, &debug));
    std::fs::remove_dir_all(&dir).unwrap();
    assert_says(&same, "the same crates and functions are traced in both");
    for report in [there, back] {
        assert_says(
            &report,
            &format!("1 crates have callsites in {} and none in {}", debug.display(), release.display()),
        );
        assert_says(&report, "core: 1 of 1 functions there, none of 1 here");
        assert_says(&report, "1 functions without a crate have callsites in");
        assert_says(&report, "  in_c");
        assert_says(&report, "-Zbuild-std to both");
        assert!(!report.to_string().contains("  inlined"), "{report}");
        assert_eq!(report.findings.len(), 2, "{report}");
    }
}

/// Whether a program is there; says of this test that it is left out where it isn't.
fn is_installed(program: &str) -> bool {
    let is_there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_there {
        leave_out(&format!("{program} is not installed"));
    }
    is_there
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn compile(dir: &Path, name: &str, source: &str) -> std::path::PathBuf {
    let (file, object) = (dir.join(name).with_extension("c"), dir.join(name).with_extension("o"));
    std::fs::write(&file, source).unwrap();
    let flags = [
        "-c",
        "-O2",
        "-ffreestanding",
        "-ffunction-sections",
        "-fpatchable-function-entry=2",
        "-mbranch-protection=none",
    ];
    succeed(Command::new(GCC).args(flags).arg("-o").arg(&object).arg(&file));
    object
}

/// With a GCC before 13 the entries of `used` go where `unused`, the first function of their object, goes.
#[test]
fn entries_that_gcc_has_tied_to_a_collected_function_are_missed() {
    if !is_installed(GCC) || !is_installed(LD) {
        return;
    }
    let dir = directory("gcc");
    let kernel = compile(&dir, "kernel", "int used(int); int plain(int x) { return used(x) + 1; }");
    let driver = compile(
        &dir,
        "driver",
        "int unused(int x) { return x * 7; } __attribute__((noinline)) int used(int x) { return x * 3; }",
    );
    let (script, image) = (dir.join("linker.ld"), dir.join("image"));
    // Without KEEP, as an orphan would be.
    std::fs::write(
        &script,
        sections(&GOOD.replace("KEEP(*(__patchable_function_entries))", "*(__patchable_function_entries)")),
    )
    .unwrap();
    let mut linker = Command::new(LD);
    linker.args(["--gc-sections", "-e", "plain", "-T"]).arg(&script).arg("-o").arg(&image);
    succeed(linker.args([kernel, driver]));
    let report = examine(&std::fs::read(&image).unwrap()).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    if report.to_string().contains("2 callsites of the form") {
        leave_out("this GCC ties each entry to its own function");
        return;
    }
    assert_problem(&report, "1 functions begin with the NOPs of a callsite and have no entry", "GCC before 13");
    assert_says(&report, "  used");
}

#[test]
fn folded_functions_are_traced_and_said_to_be() {
    if !is_installed(GCC) {
        return;
    }
    let dir = directory("icf");
    let first = compile(&dir, "first", "int one(int x) { return x * 7; } int plain(int x) { return one(x); }");
    let second = compile(&dir, "second", "int two(int x) { return x * 7; }");
    let image = link(&dir, &[first, second], &sections(GOOD), &["--icf=all"]);
    std::fs::remove_dir_all(&dir).unwrap();
    let report = examine(&image).unwrap();
    assert_says(&report, "another entry names the same instructions");
    assert_says(&report, "3 of 3 functions and labels begin with a callsite");
    assert_eq!(problems(&report), ["The kernel was linked without a symbol table"]);
}
