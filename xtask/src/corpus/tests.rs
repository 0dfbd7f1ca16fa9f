//! A handful of files through everything, and faults that must be seen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cargo_fentry::left_out::leave_out;
use fentry::callsite::{MOV_X9_LR, NOP};
use fentry::module::Segment;

use super::linked::{Linked, Linker};
use super::machine::Contents;
use super::module::{Bench, DISTANCES, Placed, enabled, returned};
use super::summary::Summary;
use super::{Outcome, caught, files_below, object, take_through};
use crate::test::loader::fuzz::INPUTS;

const GCC: &str = "aarch64-linux-gnu-gcc";

/// An input of the fuzzer's, which a compiler made.
fn input(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read(root.join(INPUTS).join(name)).unwrap()
}

fn directory(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("fentry-corpus-test-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// A driver in C that has some of everything: calls and data of others, its own data, init text, constants.
const DRIVER: &str = r#"
extern int printk(const char *, ...);
extern unsigned long jiffies;
static int count;
static int (*table[])(const char *, ...) = { printk };
__attribute__((noinline)) int step(int x) { count += x; return table[0]("%d", count); }
int late(void) { return jiffies > 5 ? step(3) : printk("early"); }
__attribute__((section(".init.text"))) int fentry_module_init(void) { return step(1) - late(); }
"#;

fn compile(dir: &Path, name: &str, flags: &[&str]) {
    let source = dir.join("driver.c");
    std::fs::write(&source, DRIVER).unwrap();
    let mut compiler = Command::new(GCC);
    compiler.args(["-c", "-O2", "-ffreestanding", "-fno-pic"]).args(flags).arg("-o").arg(dir.join(name)).arg(&source);
    let output = compiler.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_file(source).unwrap();
}

#[test]
fn a_handful_of_files_goes_through_and_no_bad_one_ends_it() {
    let dir = directory("handful");
    let mut modules = vec!["relay-gcc-2.o", "relay-clang-42.o"];
    for name in &modules {
        std::fs::write(dir.join(name), input(name)).unwrap();
    }
    if Command::new(GCC).arg("--version").output().is_ok() {
        compile(&dir, "plain.ko", &["-fpatchable-function-entry=2"]);
        compile(&dir, "prefixed.ko", &["-fpatchable-function-entry=4,2", "-mbranch-protection=standard"]);
        modules.extend(["plain.ko", "prefixed.ko"]);
    } else {
        leave_out("aarch64-linux-gnu-gcc is not installed");
    }
    std::fs::create_dir_all(dir.join("below")).unwrap();
    std::fs::write(dir.join("below/cut.o"), &input("relay-gcc-2.o")[..700]).unwrap();
    std::fs::write(dir.join("below/packed.ko.xz"), b"\xfd7zXZ\0\0").unwrap();
    std::fs::write(dir.join("below/empty.o"), b"").unwrap();
    std::fs::write(dir.join("below/README"), b"words").unwrap();
    let mut image = input("relay-gcc-2.o");
    // An image, by its type, with nothing in it that is loaded.
    image[16] = 2;
    std::fs::write(dir.join("vmlinux"), image).unwrap();

    let linker = Linker::installed();
    let files = files_below(&dir).unwrap();
    let summary = take_through(&dir, &files, linker.as_ref(), 2).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let said = summary.to_string();
    assert_eq!(summary.faults(), 0, "{said}");
    let count = modules.len();
    assert!(said.contains(&format!("{} modules, 1 images, 2 other files", count + 1)), "{said}");
    assert!(
        said.contains("near     refused:     1  its section table is not well-formed (first: below/cut.o)"),
        "{said}"
    );
    for distance in ["near   ", "200 MiB"] {
        assert!(said.contains(&format!("{distance}  {count} loaded")), "{said}");
    }
    assert!(said.contains("packed with xz"), "{said}");
    if count == 4 {
        assert!(said.contains("6 GiB    refused:     2  a relocation R_AARCH64_ADR_PREL_PG_HI21 overflows"), "{said}");
    }
    match linker {
        Some(linker) => assert!(said.contains(&format!("{}: {count} modules are the same", linker.program)), "{said}"),
        None => leave_out("no linker for arm64 is installed"),
    }
}

#[test]
fn a_byte_that_the_linker_has_otherwise_is_a_fault() {
    let Some(linker) = Linker::installed() else { return leave_out("no linker for arm64 is installed") };
    let (dir, file) = (directory("byte"), input("relay-gcc-2.o"));
    let facts = object::read(&file).unwrap();
    let bench = Bench::new().unwrap();
    let mut compared = Vec::new();
    let placed = bench.run(&file, &facts, &DISTANCES[0], |contents, ready| {
        let text = contents.iter().position(|contents| contents.segment == Segment::Text).unwrap();
        for flipped in [0, 1] {
            let copy = |contents: &Contents| Contents { bytes: contents.bytes.clone(), ..*contents };
            let mut contents: Vec<Contents> = contents.iter().map(copy).collect();
            contents[text].bytes[8] ^= flipped;
            compared.push(linker.compare(&dir, &file, &facts, &contents, ready).unwrap());
        }
    });
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(matches!(placed, Ok(Placed::Traced { callsites: 1.., .. })), "{placed:?}");
    assert!(matches!(compared[0], Linked::Same(100..)), "{compared:?}");
    assert!(matches!(&compared[1], Linked::Differs(how) if how.contains("at 0x8 ")), "{compared:?}");
}

/// Text of four words, before and after.
fn texts(before: [u32; 4], after: [u32; 4]) -> [Vec<Contents>; 2] {
    [before, after].map(|words| {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        vec![Contents { segment: Segment::Text, address: 0x1000, bytes }]
    })
}

#[test]
fn each_change_of_text_must_be_the_call_of_a_callsite() {
    const RET: u32 = 0xd65f_03c0;
    /// From 0x1004 to 0x2004.
    const CALL: u32 = 0x9400_0400;
    let ready = BTreeSet::from([0x1000]);
    let as_made = [MOV_X9_LR, NOP, RET, RET];
    let judge = |after| {
        let [before, after] = texts(as_made, after);
        enabled(&before, &after, &ready, |target| target.get() == 0x2004).map_err(|error| error.to_string())
    };
    assert_eq!(judge([MOV_X9_LR, CALL, RET, RET]), Ok(()));
    assert!(judge(as_made).unwrap_err().contains("0 of 1 callsites were enabled"));
    assert!(judge([MOV_X9_LR, CALL, RET, NOP]).unwrap_err().contains("the word at 0x100c, of no callsite"));
    assert!(judge([MOV_X9_LR, CALL + 1, RET, RET]).unwrap_err().contains("no call of a stub"));
    assert!(judge([NOP, CALL, RET, RET]).unwrap_err().contains("of no callsite"));

    let [before, after] = texts(as_made, [MOV_X9_LR, NOP, RET, NOP]);
    assert!(returned(&before, &after, &(0..0)).unwrap_err().to_string().contains("the word at 0x100c"));
    assert!(returned(&before, &after, &(0x100c..0x1010)).is_ok());
}

#[test]
fn a_panic_is_a_fault() {
    let attempt = caught(|| {
        if DISTANCES.len() == 3 {
            panic!("as asked for")
        }
    });
    assert_eq!(attempt, Err("a panic: as asked for".to_owned()));
    let mut summary = Summary::new(None);
    summary.took = Duration::from_secs(1);
    let placed = vec![Err("a panic: as asked for".to_owned())];
    summary.add(Path::new("bad.ko"), &Outcome::Module { placed, linked: None });
    assert_eq!(summary.faults(), 1);
    summary.add(Path::new("worse.ko"), &Outcome::Fault("a panic".to_owned()));
    assert_eq!(summary.faults(), 2);
    assert!(summary.to_string().contains("FAULT: bad.ko, near: a panic: as asked for"), "{summary}");
}
