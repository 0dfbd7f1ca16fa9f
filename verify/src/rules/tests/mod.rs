//! Defects, put into assembly on purpose, and what comes near to being one. An assembler that we did not write makes the
//! objects.

mod callsites;
mod compiled;
mod conventions;
mod depth;
mod engine;
mod hashes;
mod landing;
mod registers;
mod stack;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::flow::{Flow, NoReturn};
use crate::image::Image;
use crate::program::Program;
use crate::report::{At, Finding};
use crate::{Cfi, rules};

/// Assemblers, each with what it needs to be told.
const ASSEMBLERS: [(&str, &[&str]); 2] = [
    ("aarch64-linux-gnu-as", &["-march=armv8.5-a"]),
    ("llvm-mc", &["--triple=aarch64", "--mattr=+v8.5a", "--filetype=obj"]),
];

/// Linkers that take an object and give an image.
const LINKERS: [&str; 3] = ["aarch64-linux-gnu-ld", "ld.lld", "ld.lld-19"];

/// What every source may use: functions, and the compiler's callsites.
const MACROS: &str = "
    .macro function name
    .globl \\name
    .type \\name, %function
    \\name:
    .endm
    .macro end name
    .size \\name, . - \\name
    .endm
    .macro entry place
    .pushsection __patchable_function_entries, \"aw\", %progbits
    .balign 8
    .quad \\place
    .popsection
    .endm
    .macro patchable name
    .balign 4
    entry 99f
    function \\name
    99: nop
    nop
    .endm
    .macro framed name
    patchable \\name
    stp x29, x30, [sp, #-32]!
    mov x29, sp
    .endm
    .macro leave
    ldp x29, x30, [sp], #32
    ret
    .endm
    .text
";

/// Says, past the harness, that a test could not do its work.
fn leave_out(why: &str) {
    let test = std::thread::current();
    let line = format!("LEFT OUT: {}: {why}\n", test.name().unwrap_or_default());
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Assembles a source. Without an assembler it says so, loudly, and gives `None`.
fn assemble(source: &str) -> Option<Vec<u8>> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let is_there = |(name, _): &&(&str, _)| Command::new(name).arg("--version").output().is_ok();
    let Some((assembler, options)) = ASSEMBLERS.iter().find(is_there) else {
        leave_out("neither aarch64-linux-gnu-as nor llvm-mc is installed");
        return None;
    };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let object = std::env::temp_dir().join(format!("fentry-verify-rules-{}-{number}.o", std::process::id()));
    let mut command = Command::new(assembler);
    command.args(*options).arg("-o").arg(&object).arg("-").stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().unwrap();
    running.stdin.take().unwrap().write_all(format!("{MACROS}{source}").as_bytes()).unwrap();
    let ran = running.wait_with_output().unwrap();
    assert!(ran.status.success(), "{source}\n{}", String::from_utf8_lossy(&ran.stderr));
    let bytes = std::fs::read(&object).unwrap();
    std::fs::remove_file(&object).unwrap();
    Some(bytes)
}

/// Links an object at an address of its own, and keeps no relocations. Without a linker it says so, loudly, and gives `None`.
fn link(object: &[u8]) -> Option<Vec<u8>> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let is_there = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
    let Some(linker) = LINKERS.iter().find(is_there) else {
        leave_out(&format!("none of {} is installed", LINKERS.join(", ")));
        return None;
    };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let file =
        |kind: &str| std::env::temp_dir().join(format!("fentry-verify-rules-{}-{number}.{kind}", std::process::id()));
    let (from, to) = (file("linked.o"), file("elf"));
    std::fs::write(&from, object).unwrap();
    let ran = Command::new(linker).arg("-Ttext=0x40080000").arg("-o").arg(&to).arg(&from).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let image = std::fs::read(&to).unwrap();
    [from, to].iter().for_each(|path| std::fs::remove_file(path).unwrap());
    Some(image)
}

/// Looks at a file that was followed, or at nothing where it could not be made.
fn with_program(file: Option<Vec<u8>>, look: impl FnOnce(&Flow<'_>, &Cfi)) {
    let Some(object) = file else { return };
    let program = Program::new(Image::parse(&object).unwrap());
    let flow = Flow::follow(&program, &NoReturn::default());
    look(&flow, &Cfi::of(&flow));
}

/// Looks at everything that is found in a source.
fn with_findings(source: &str, look: impl FnOnce(&Program<'_>, &[Finding])) {
    with_findings_in(assemble(source), look);
}

/// The same of a file.
fn with_findings_in(file: Option<Vec<u8>>, look: impl FnOnce(&Program<'_>, &[Finding])) {
    with_program(file, |flow, cfi| look(flow.program(), &rules::check(flow, cfi)));
}

/// The address of a source's symbol.
fn address(program: &Program<'_>, name: &str) -> u64 {
    let symbol = program.image().symbols().iter().find(|symbol| symbol.name == name);
    symbol.unwrap_or_else(|| panic!("there is no {name}")).address
}

/// Asserts that a source breaks these rules, each at this symbol, and no other.
#[track_caller]
fn finds(source: &str, expected: &[(&str, &str)]) {
    finds_in(source, assemble(source), expected);
}

/// The same of the image that is linked of it.
#[track_caller]
fn finds_linked(source: &str, expected: &[(&str, &str)]) {
    finds_in(source, assemble(source).and_then(|object| link(&object)), expected);
}

#[track_caller]
fn finds_in(source: &str, file: Option<Vec<u8>>, expected: &[(&str, &str)]) {
    with_findings_in(file, |program, findings| {
        let at = |finding: &Finding| match finding.at {
            At::Insn(id) => program.address(id).get(),
            At::Address(address) => address,
            At::Waiver(_) => 0,
        };
        let mut found: Vec<_> = findings.iter().map(|finding| (finding.rule.id(), at(finding))).collect();
        let mut expected: Vec<_> = expected.iter().map(|(rule, symbol)| (*rule, address(program, symbol))).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{source}\n{findings:#?}");
    });
}

/// Asserts that nothing is found.
#[track_caller]
fn passes(source: &str) {
    finds(source, &[]);
}
