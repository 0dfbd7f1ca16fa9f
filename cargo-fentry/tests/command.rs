//! The program as it is called: by cargo, with its own name first, and by itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_cargo-fentry");

fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn it_is_called_by_cargo_or_by_itself() {
    for args in [&["fentry", "doctor", "/no/kernel.elf"][..], &["doctor", "/no/kernel.elf"]] {
        let output = run(args);
        assert!(!output.status.success());
        assert!(said(&output).contains("error: cannot read /no/kernel.elf"), "{}", said(&output));
    }
    // Cargo finds it on the PATH, by its name.
    let programs = Path::new(PROGRAM).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = std::iter::once(programs).chain(std::env::split_paths(&path)).collect();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Outside this repository, whose alias comes first.
    cargo.args(["fentry", "--help"]).env("PATH", std::env::join_paths(path).unwrap()).current_dir(std::env::temp_dir());
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    for command in ["guide", "linker-script", "doctor", "symbols", "trace", "verify"] {
        assert!(said(&output).contains(&format!("\n  {command} ")), "{}", said(&output));
    }
}

#[test]
fn a_trace_needs_an_image() {
    let output = run(&["fentry", "trace"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("--image <FILE>"), "{}", said(&output));
}

#[test]
fn the_program_has_the_pieces_of_the_guide() {
    let output = run(&["fentry", "linker-script"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), fentry::LINKER_FRAGMENT);
    let guide = said(&run(&["fentry", "guide"]));
    assert!(guide.contains("cargo fentry linker-script") && guide.contains("[dependencies]\nfentry = "), "{guide}");
}

#[test]
fn a_boot_s_files_are_named_where_they_are_missing() {
    let output = run(&["fentry", "trace", "--image", "/no/kernel.elf", "--boot", "/no/Image"]);
    assert!(said(&output).contains("cannot read /no/kernel.elf"), "{}", said(&output));
    // A flat image has no names.
    let flat = std::env::temp_dir().join(format!("fentry-flat-{}", std::process::id()));
    let mut header = [0; 64];
    header[56..60].copy_from_slice(b"ARM\x64");
    std::fs::write(&flat, header).unwrap();
    let output = run(&["fentry", "trace", "--image", flat.to_str().unwrap()]);
    std::fs::remove_file(&flat).unwrap();
    assert!(said(&output).contains("--boot for what is loaded"), "{}", said(&output));
    assert!(said(&output).contains("flat Image"), "{}", said(&output));
}

#[test]
fn verify_refuses_what_is_no_image_and_follows_what_is_one() {
    let output = run(&["verify", PROGRAM]);
    assert!(!output.status.success());
    // The program itself is an image for the host, unless that is an arm64 one.
    if cfg!(target_arch = "x86_64") {
        assert!(said(&output).contains("not for arm64"), "{}", said(&output));
    }
    let file = std::env::temp_dir().join(format!("fentry-verify-command-{}.o", std::process::id()));
    std::fs::write(&file, object_of([0x0400_0000, 0xd65f_03c0])).unwrap();
    let output = run(&["verify", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("not-followed: f+0x0 (.text+0x0)"), "{}", said(&output));
    assert!(said(&output).contains("functions     1, and 0 parts of them; 0 never return"), "{}", said(&output));
    assert!(said(&output).contains("instructions  2 in functions, 1 followed"), "{}", said(&output));
    assert!(said(&output).contains("f 0x100000000: the instruction 0x04000000 is not known"), "{}", said(&output));
}

#[test]
fn verify_fails_while_a_finding_is_not_waived() {
    let file = |end: &str| std::env::temp_dir().join(format!("fentry-verify-waived-{}.{end}", std::process::id()));
    let (object, waivers) = (file("o"), file("waivers"));
    let with = |args: &[&str]| run(&[&["verify", object.to_str().unwrap()], args].concat());
    let waived = |text: &str| {
        std::fs::write(&waivers, text).unwrap();
        with(&["--waivers", waivers.to_str().unwrap()])
    };
    // Two NOPs that no entry names.
    std::fs::write(&object, object_of([0xd503_201f, 0xd503_201f, 0xd65f_03c0])).unwrap();
    let output = with(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("callsite-missing: f+0x0 (.text+0x0)"), "{}", said(&output));
    let output = with(&["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let finding = &json["findings"][0];
    assert_eq!((output.status.code(), &finding["rule"]), (Some(1), &"callsite-missing".into()));
    assert_eq!((&finding["symbol"], &finding["address"]), (&"f".into(), &".text+0x0".into()));
    let output = waived("callsite-missing f -- it is never traced");
    assert!(output.status.success() && said(&output).contains("0  findings, and 1 waived"), "{}", said(&output));
    // Nothing else may be asked for than there is; nothing else is told than was asked for.
    assert!(with(&["--rule", "callsite-stray"]).status.success());
    assert!(!with(&["--rule", "callsite"]).status.success() && !with(&["--function", "g"]).status.success());
    assert_eq!(with(&["--function", "f", "--rule", "callsite-missing"]).status.code(), Some(1));
    // A waiver says why, and is needed.
    let output = waived("callsite-missing f");
    assert!(!output.status.success() && said(&output).contains("line 1: "), "{}", said(&output));
    let output = waived("callsite-missing f -- it is never traced\ncallsite-stray f -- nor this");
    assert!(!output.status.success() && said(&output).contains("line 2 of the waivers"), "{}", said(&output));
    std::fs::remove_file(&object).unwrap();
    std::fs::remove_file(&waivers).unwrap();
}

#[test]
fn verify_tells_how_deep_the_stack_gets_and_fails_where_that_is_too_deep() {
    let object = std::env::temp_dir().join(format!("fentry-verify-stack-{}.o", std::process::id()));
    let with = |args: &[&str]| run(&[&["verify", object.to_str().unwrap()], args].concat());
    // stp x29, x30, [sp, #-32]!; mov x29, sp; blr x1; ldp x29, x30, [sp], #32; ret
    let words = [0xa9be_7bfd, 0x9100_03fd, 0xd63f_0020, 0xa8c2_7bfd, 0xd65f_03c0];
    std::fs::write(&object, object_of(words)).unwrap();
    assert!(with(&[]).status.success() && !said(&with(&[])).contains("chain of calls"), "{}", said(&with(&[])));
    let output = with(&["--stack"]);
    assert!(output.status.success(), "{}", said(&output));
    for line in
        ["       32+        32+  f", "the deepest chain of calls:", "f+0x8 (.text+0x8): a register says what is called"]
    {
        assert!(said(&output).contains(line), "{line}\n{}", said(&output));
    }
    let json: serde_json::Value = serde_json::from_slice(&with(&["--entry", "f", "--json"]).stdout).unwrap();
    let stack = &json["stack"][0];
    assert_eq!((&stack["function"], &stack["bytes"], &stack["bounded"]), (&"f".into(), &32.into(), &false.into()));
    assert_eq!((&stack["chain"][0]["bytes"], &stack["unknown"][0]["address"]), (&32.into(), &".text+0x8".into()));
    assert!(with(&["--stack-limit", "32"]).status.success());
    let output = with(&["--stack-limit", "31"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("stack-depth: f+0x0 (.text+0x0)"), "{}", said(&output));
    assert!(said(&output).contains("it takes 32 bytes of stack at least, more than 31"), "{}", said(&output));
    assert!(said(&with(&["--entry", "g"])).contains("there is no function g"));
    std::fs::remove_file(&object).unwrap();
}

#[test]
fn an_unwind_table_is_made_of_linked_images_only() {
    let file = |end: &str| std::env::temp_dir().join(format!("fentry-unwind-{}.{end}", std::process::id()));
    let (object, table) = (file("o"), file("table.o"));
    std::fs::write(&object, object_of([0xd65f_03c0])).unwrap();
    let output = run(&["verify", object.to_str().unwrap(), "--unwind-table", table.to_str().unwrap()]);
    std::fs::remove_file(&object).unwrap();
    assert!(!output.status.success() && said(&output).contains("made of a linked image"), "{}", said(&output));
    assert!(!table.exists());
}

/// A directory with an image, a script for the console, and an emulator that is this shell script.
#[cfg(unix)]
struct Machine(PathBuf);

#[cfg(unix)]
impl Machine {
    fn new(name: &str, emulator: &str, lines: &str) -> Self {
        let machine = Self(std::env::temp_dir().join(format!("fentry-console-{name}-{}", std::process::id())));
        std::fs::create_dir_all(&machine.0).unwrap();
        std::fs::write(machine.0.join("emulator"), format!("#!/bin/sh\n{emulator}\n")).unwrap();
        // Made by another process: while another test forks, a file that this one has written may be busy.
        let mut install = Command::new("install");
        install.args(["-m", "755", "emulator", "qemu-system-aarch64"]).current_dir(&machine.0);
        assert!(install.status().unwrap().success());
        std::fs::write(machine.0.join("kernel.o"), object_of([0xd65f_03c0])).unwrap();
        std::fs::write(machine.0.join("lines"), lines).unwrap();
        machine
    }

    fn ask(&self) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path: Vec<PathBuf> = std::iter::once(self.0.clone()).chain(std::env::split_paths(&path)).collect();
        let mut command = Command::new(PROGRAM);
        command.args(["console", "--image", "kernel.o", "--script", "lines"]).current_dir(&self.0);
        command.env("PATH", std::env::join_paths(path).unwrap());
        command
    }
}

#[cfg(unix)]
impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_a_boot_and_is_told() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;
    let machine = Machine::new("interrupt", "echo booting; exec sleep 500", "");
    let mut program = machine.ask().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "booting\n");
    assert!(Command::new("kill").args(["-INT", &program.id().to_string()]).status().unwrap().success());
    let status = program.wait().unwrap();
    let mut errors = String::new();
    program.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((status.code(), errors.contains("interrupted by ^C")), (Some(1), true), "{status}: {errors}");
}

#[cfg(unix)]
#[test]
fn a_script_goes_on_until_a_line_is_refused_and_all_that_failed_is_told() {
    let emulator = r"printf 'booted\n\005'
        read line; printf ' main-1 [000] 0.1: tracing_mark_write: cat: 5: error: marked\n\005'
        read line; printf 'nosuch: 5: error: There is no such file\n  Command: cat nosuch\n               ^\n\005'
        read line; exit 3";
    let machine = Machine::new("script", emulator, "cat trace\ncat nosuch\ncat never\n");
    let output = machine.ask().output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    for expected in [
        "error: marked\n# cat nosuch\n",
        "line 2 of the script is refused: nosuch: 5: error: There",
        "; and the kernel has ended with ",
    ] {
        assert!(said(&output).contains(expected), "{expected}\n{}", said(&output));
    }
    assert!(!said(&output).contains("cat never"), "{}", said(&output));
}

/// An object with one function of these instructions.
fn object_of<const N: usize>(words: [u32; N]) -> Vec<u8> {
    use object::write::{Object, StandardSection, Symbol, SymbolSection};
    use object::{Architecture, BinaryFormat, Endianness, SymbolFlags, SymbolKind, SymbolScope};
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Aarch64, Endianness::Little);
    let text = object.section_id(StandardSection::Text);
    let words = words.map(u32::to_le_bytes).concat();
    object.append_section_data(text, &words, 4);
    object.add_symbol(Symbol {
        name: b"f".to_vec(),
        value: 0,
        size: words.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(text),
        flags: SymbolFlags::None,
    });
    object.write().unwrap()
}
