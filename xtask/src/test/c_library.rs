//! What `verify` says of code that nobody here has written: a C library, by whatever GCC for arm64 there is, with callsites, and
//! linked with it what this repository has in C.
//!
//! musl has some two thousand functions, among them large ones of formatted printing, regular expressions and mathematics, and a
//! few in assembly. What is found in C is a mistake of the checker's, or of the compiler's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};
use cargo_fentry::progress::Step;
use cargo_fentry::verify::{Verified, Waivers, verify};

use crate::kernels::toolchain::output_of;
use crate::kernels::workspace::Workspace;
use crate::setup::debian::{Debian, Kind};

/// The package, and where the list of it is.
const PACKAGE: (&str, &str) = ("musl", "stable");
const GCC: &str = "aarch64-linux-gnu-gcc";
const FLAGS: &str = "-O2 -fno-omit-frame-pointer -fpatchable-function-entry=2 -mno-outline-atomics";
/// What this repository has in C: a module, and a kernel without its assembly.
const SOURCES: [&str; 3] = ["tests/modules/c/relay.c", "tests/c/interface.c", "examples/minimal-c/board.c"];
/// The waivers of its assembly.
const WAIVERS: &str = include_str!("../../data/c-library.waivers");

/// As a kernel's script has it, without the engine, which would be at zero: within the reach of a call.
const SCRIPT: &str = "SECTIONS
{
    . = 0x80000;
    .text : { *(.text .text.* .init .fini) }
    .rodata : ALIGN(4096) { *(.rodata .rodata.*) }
    .data : ALIGN(4096) { *(.data .data.*) }
    .fentry.callsites : ALIGN(8) {
        __fentry_callsites_start = .;
        KEEP(*(__patchable_function_entries))
        __fentry_callsites_stop = .;
    }
    .tdata : { *(.tdata .tdata.*) }
    .tbss : { *(.tbss .tbss.*) }
    .bss : { *(.bss .bss.* COMMON) }
}
";

/// Fetches its source from Debian where that was not done yet, compiles and links all of it, and verifies the image; says whether
/// nothing was found.
pub(super) fn run(workspace: &Workspace) -> Result<bool> {
    let work = workspace.target_dir.join("c-library");
    let step = Step::start(format!("the C library {}", PACKAGE.0));
    let image = image(&work, workspace, &step).context("there is no C library to verify")?;
    let waivers = Waivers::parse(WAIVERS).context("cannot use its waivers")?;
    let Verified { functions, defects, unused } = verify(&image, &waivers)?;
    let is_right = defects.is_empty() && unused.is_empty();
    if is_right {
        step.finish(&format!("{functions} functions"));
    } else {
        let unused = unused.iter().map(|line| format!("    nothing needs line {line} of its waivers\n"));
        step.finish_with("FAILED", &defects.into_iter().chain(unused).collect::<String>());
    }
    Ok(is_right)
}

/// All of the library and of the sources, linked.
fn image(work: &Path, workspace: &Workspace, step: &Step) -> Result<PathBuf> {
    let source = match source_in(work) {
        Some(source) => source,
        None => {
            step.note("fetching its source");
            fetch(work)?;
            source_in(work).context("the package has no source tree")?
        }
    };
    step.note("compiling");
    run_in(
        &source,
        Command::new("./configure")
            .args(["--target=aarch64-linux-gnu", "--disable-shared"])
            .args([format!("CC={GCC}"), format!("CFLAGS={FLAGS}")]),
    )?;
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    run_in(&source, Command::new("make").args([format!("-j{jobs}").as_str(), "lib/libc.a"]))?;
    let (script, image) = (work.join("library.ld"), work.join("library.elf"));
    fs::write(&script, SCRIPT).with_context(|| format!("cannot write {}", script.display()))?;
    let mut link = Command::new(GCC);
    link.args(["-nostdlib", "-static", "-Wl,--unresolved-symbols=ignore-all,--entry=printf,--build-id=none", "-T"]);
    link.arg(&script).arg("-Wl,--whole-archive").arg(source.join("lib/libc.a")).arg("-Wl,--no-whole-archive");
    let root = &workspace.root;
    for source in SOURCES.map(|source| root.join(source)) {
        let object = work.join(source.with_extension("o").file_name().unwrap_or_default());
        let mut compile = Command::new(GCC);
        compile.args(FLAGS.split(' ')).args(["-ffreestanding", "-I"]).arg(root.join("include"));
        compile.arg("-I").arg(root.join("examples/minimal-c")).arg("-c").arg(&source).arg("-o").arg(&object);
        run_in(work, &mut compile)?;
        link.arg(object);
    }
    run_in(work, link.arg("-lgcc").arg("-o").arg(&image))?;
    Ok(image)
}

/// The unpacked tree.
fn source_in(work: &Path) -> Option<PathBuf> {
    let mut entries = fs::read_dir(work).ok()?.flatten().map(|entry| entry.path());
    entries.find(|path| path.join("configure").is_file() && path.join("Makefile").is_file())
}

fn fetch(work: &Path) -> Result<()> {
    let (package, suite) = PACKAGE;
    let debian = Debian::read(work, Kind::Source, suite)?;
    run_in(work, debian.apt("apt-get").args(["source", "--download-only", package]))?;
    let archive = fs::read_dir(work)?.flatten().map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(package) && name.contains(".orig.tar") && !name.ends_with(".asc")
    });
    let archive = archive.context("apt-get left no source behind")?;
    run_in(work, Command::new("tar").arg("-xf").arg(&archive))
}

/// Runs a program there; an error, with the end of what it said, where it fails.
fn run_in(directory: &Path, command: &mut Command) -> Result<()> {
    ensure!(directory.is_dir(), "there is no {}", directory.display());
    output_of(command.current_dir(directory), "what it takes").map(drop)
}
