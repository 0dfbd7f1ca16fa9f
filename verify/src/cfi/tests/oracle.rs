//! States against the compilers' own account of their frames.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::flow::NoReturn;
use crate::proof::{Compared, DIES, Explanation, compare, source};

/// A folder for what compilers write; it goes away with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("fentry-verify-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Says, past the harness, that a test could not do its work.
fn leave_out(why: &str) {
    use std::io::Write as _;
    let test = std::thread::current();
    let line = format!("LEFT OUT: {}: {why}\n", test.name().unwrap_or_default());
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// The first of these programs that runs.
fn program(names: &[&'static str]) -> Option<&'static str> {
    names
        .iter()
        .copied()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|ran| ran.status.success()))
}

/// Compiles a made-up program in each of these ways, and compares.
fn compile_and_compare(compiler: &str, target: &[&str], ways: &[&[&str]]) -> Compared {
    let scratch = Scratch::new(compiler);
    let mut all = Compared::default();
    for (number, way) in ways.iter().enumerate() {
        let floats = !way.contains(&"-mgeneral-regs-only");
        let (input, output) = (scratch.0.join("made-up.c"), scratch.0.join("made-up.o"));
        fs::write(&input, source(number as u64, 30, floats)).unwrap();
        let mut command = Command::new(compiler);
        command
            .args(target)
            .args(["-w", "-c", "-fasynchronous-unwind-tables"])
            .args(*way)
            .arg(&input)
            .arg("-o")
            .arg(&output);
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
        let compared = compare(&fs::read(&output).unwrap(), &NoReturn::parse(DIES)).unwrap();
        assert!(compared.wrong.is_empty(), "{command:?}: {:#?}", first_wrong(&compared));
        all.instructions += compared.instructions;
        for (why, count) in compared.explained {
            *all.explained.entry(why).or_default() += count;
        }
    }
    all
}

/// One wrong claim of each function.
fn first_wrong(compared: &Compared) -> BTreeMap<&str, &str> {
    let wrong = compared.wrong.iter();
    wrong.map(|(function, wrong)| (function.as_str(), wrong.first().map_or("", String::as_str))).collect()
}

#[test]
fn states_agree_with_gccs_frames() {
    let Some(gcc) = program(&["aarch64-linux-gnu-gcc"]) else {
        return leave_out("aarch64-linux-gnu-gcc is not installed");
    };
    let ways: [&[&str]; 7] = [
        &["-O0"],
        &["-O1", "-mbranch-protection=standard"],
        &["-O2", "-fstack-clash-protection"],
        &["-O2", "-mgeneral-regs-only", "-fpatchable-function-entry=2"],
        &["-Os", "-fomit-frame-pointer"],
        &["-O3", "-fno-omit-frame-pointer"],
        &["-O2", "-fno-optimize-sibling-calls", "-fpatchable-function-entry=4,2"],
    ];
    let compared = compile_and_compare(gcc, &[], &ways);
    assert!(compared.instructions > 40_000, "{compared:?}");
    // Whatever else is not believed has to be looked at first.
    assert!(compared.explained.keys().all(|why| *why == Explanation::Contradiction), "{compared:?}");
}

#[test]
fn states_agree_with_clangs_frames() {
    let Some(clang) = program(&["clang", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15"]) else {
        return leave_out("clang is not installed");
    };
    let ways: [&[&str]; 7] = [
        &["-O0"],
        &["-O1", "-mbranch-protection=standard"],
        &["-O2", "-fstack-clash-protection"],
        &["-O2", "-mgeneral-regs-only", "-fpatchable-function-entry=2"],
        &["-Os", "-fomit-frame-pointer"],
        // gimli does not read what Clang says of key B (augmentation `B`).
        &["-O3", "-mbranch-protection=pac-ret+leaf"],
        &["-O2", "-fno-optimize-sibling-calls", "-fpatchable-function-entry=4,2"],
    ];
    let compared = compile_and_compare(clang, &["--target=aarch64-linux-gnu"], &ways);
    assert!(compared.instructions > 40_000, "{compared:?}");
}

/// What is not compiled in glibc 2.36 but written, with a description by hand that is of another frame, or wrong: returns
/// by another register than LR, stacks of which nothing is known.
const BY_HAND: [&str; 4] = ["__rawmemchr", "_dl_runtime_profile", "swapcontext", "thread_start"];
/// What has code behind a call that does not come back for the arguments that it is given there (`__libc_message`): the
/// compiler knows, and nothing in the callee says so.
const BEHIND_A_DEATH: [&str; 2] = ["_int_free", "sysmalloc"];

#[test]
fn states_agree_with_a_c_librarys_frames() {
    let archive = Path::new("/usr/aarch64-linux-gnu/lib/libc.a");
    let Some(linker) = program(&["aarch64-linux-gnu-ld"]).filter(|_| archive.exists()) else {
        return leave_out("there is no C library for arm64 (Debian: libc6-dev-arm64-cross) or no linker");
    };
    let scratch = Scratch::new("libc");
    let output = scratch.0.join("libc.o");
    let mut command = Command::new(linker);
    command.args(["-r", "-z", "muldefs", "--whole-archive"]).arg(archive).arg("-o").arg(&output);
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut compared = compare(&fs::read(&output).unwrap(), &NoReturn::default()).unwrap();
    assert!(compared.instructions > 100_000, "{}", compared.instructions);
    compared.wrong.retain(|name, _| !BY_HAND.contains(&name.as_str()) && !BEHIND_A_DEATH.contains(&name.as_str()));
    assert!(compared.wrong.is_empty(), "{:#?}", first_wrong(&compared));
}

/// What makes rustc compile `core` and `alloc` whole, and `fmt`, `BTreeMap` and the allocator's face for itself.
const RUST: &str = "#![no_std]
extern crate alloc;
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! { loop {} }
struct Nothing;
unsafe impl core::alloc::GlobalAlloc for Nothing {
    unsafe fn alloc(&self, _: core::alloc::Layout) -> *mut u8 { core::ptr::null_mut() }
    unsafe fn dealloc(&self, _: *mut u8, _: core::alloc::Layout) {}
}
#[global_allocator]
static NOTHING: Nothing = Nothing;
#[unsafe(no_mangle)]
pub extern \"C\" fn count(number: u64) -> u64 {
    let mut map = alloc::collections::BTreeMap::new();
    (0..number).for_each(|number| drop(map.insert(alloc::format!(\"{number:?}\"), number)));
    map.values().sum()
}
";

#[test]
#[ignore = "builds core and alloc three times, which takes minutes"]
fn states_agree_with_rustcs_frames() {
    let Some(linker) = program(&["aarch64-linux-gnu-ld"]) else {
        return leave_out("aarch64-linux-gnu-ld is not installed");
    };
    let scratch = Scratch::new("rustc");
    fs::create_dir_all(scratch.0.join("src")).unwrap();
    let manifest = "[package]\nname = \"whole\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"staticlib\"]\n\
                    [profile.release]\npanic = \"abort\"\n[workspace]\n";
    fs::write(scratch.0.join("Cargo.toml"), manifest).unwrap();
    fs::write(scratch.0.join("src/lib.rs"), RUST).unwrap();
    let ways = [
        "-Copt-level=0 -Cforce-frame-pointers=yes",
        "-Copt-level=3 -Cforce-frame-pointers=yes -Zpatchable-function-entry=2",
        "-Copt-level=3 -Zbranch-protection=bti,pac-ret",
    ];
    for (number, way) in ways.iter().enumerate() {
        let target = scratch.0.join(number.to_string());
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(&scratch.0).env("RUSTC_BOOTSTRAP", "1").env_remove("CARGO_ENCODED_RUSTFLAGS");
        cargo.env("RUSTFLAGS", format!("-Cforce-unwind-tables=yes {way}"));
        cargo.args([
            "build",
            "--release",
            "-Zbuild-std=core,alloc",
            "--target",
            "aarch64-unknown-none",
            "--target-dir",
        ]);
        cargo.arg(&target);
        let ran = cargo.output().unwrap();
        if !ran.status.success() {
            return leave_out(&format!("core can't be built: {}", String::from_utf8_lossy(&ran.stderr)));
        }
        let (archive, output) = (target.join("aarch64-unknown-none/release/libwhole.a"), scratch.0.join("whole.o"));
        let mut link = Command::new(linker);
        let ran =
            link.args(["-r", "-z", "muldefs", "--whole-archive"]).arg(archive).arg("-o").arg(&output).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let compared = compare(&fs::read(&output).unwrap(), &NoReturn::default()).unwrap();
        assert!(compared.instructions > 50_000, "{}", compared.instructions);
        assert!(compared.wrong.is_empty(), "{way}: {:#?}", first_wrong(&compared));
    }
}
