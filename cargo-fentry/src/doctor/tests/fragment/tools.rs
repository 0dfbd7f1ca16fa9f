//! Which compilers and linkers there are to try the fragment with.

use std::path::PathBuf;
use std::process::Command;

use super::super::rust_lld;

/// The versions that a program may have in its name. The first is the oldest lld that the fragment is for.
const VERSIONS: std::ops::Range<u32> = 14..40;

/// A compiler of C for arm64.
#[derive(Debug)]
pub(super) struct Compiler {
    pub(super) name: String,
    pub(super) arguments: &'static [&'static str],
}

/// Who made a linker: what the fragment says of one of them alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    Gnu,
    Llvm,
}

#[derive(Clone, Debug)]
pub(super) struct Linker {
    pub(super) program: PathBuf,
    pub(super) arguments: &'static [&'static str],
    pub(super) maker: Maker,
}

/// Whether a program starts and works.
pub(super) fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The oldest and the newest of the programs `name-14`, `name-15` ...; or `name`, where there is no other.
fn oldest_and_newest(name: &str) -> Vec<String> {
    let mut found: Vec<String> =
        VERSIONS.map(|version| format!("{name}-{version}")).filter(|program| is_there(program)).collect();
    if found.is_empty() && is_there(name) {
        found.push(name.to_owned());
    }
    let newest = found.pop();
    found.truncate(1);
    found.extend(newest);
    found
}

/// Every compiler, and why others are missing.
pub(super) fn compilers() -> (Vec<Compiler>, Vec<&'static str>) {
    let mut compilers = Vec::new();
    let mut missing = Vec::new();
    if is_there("aarch64-linux-gnu-gcc") {
        compilers.push(Compiler { name: "aarch64-linux-gnu-gcc".to_owned(), arguments: &[] });
    } else {
        missing.push("aarch64-linux-gnu-gcc is not installed");
    }
    let clangs = oldest_and_newest("clang");
    if clangs.is_empty() {
        missing.push("clang is not installed");
    }
    compilers.extend(clangs.into_iter().map(|name| Compiler { name, arguments: &["--target=aarch64-none-elf"] }));
    (compilers, missing)
}

/// Every linker, and why others are missing. GNU's comes with what the images are read with.
pub(super) fn linkers() -> (Vec<Linker>, Vec<&'static str>) {
    let gnu = Linker { program: "aarch64-linux-gnu-ld".into(), arguments: &[], maker: Maker::Gnu };
    let rust = Linker { program: rust_lld(), arguments: &["-flavor", "gnu"], maker: Maker::Llvm };
    let llds = oldest_and_newest("ld.lld");
    let missing = if llds.is_empty() { vec!["there is no ld.lld of 14 or later"] } else { Vec::new() };
    let lld = |program: String| Linker { program: program.into(), arguments: &[], maker: Maker::Llvm };
    ([gnu, rust].into_iter().chain(llds.into_iter().map(lld)).collect(), missing)
}
