//! Programs of others that the tests use where they are there: what reads exported traces, what compiles C, and what links.
//!
//! A test whose program is missing says that it was left out. So nothing here is an error: what can't be had is named, and
//! the tests go on without it.

use std::process::Command;

use super::packages::Apt;
use crate::kernels::modules;

/// A program, and the packages that have it, as Debian and Ubuntu name them.
struct Program {
    name: &'static str,
    is_there: fn() -> bool,
    /// The first of these that can be installed is taken.
    packages: &'static [&'static [&'static str]],
}

const PROGRAMS: [Program; 6] = [
    Program { name: "uftrace", is_there: || starts("uftrace"), packages: &[&["uftrace"]] },
    // Without the plugin it does not indent calls.
    Program {
        name: "trace-cmd",
        is_there: || starts("trace-cmd"),
        packages: &[&["trace-cmd", "libtraceevent1-plugin"]],
    },
    Program { name: "rsvg-convert", is_there: || starts("rsvg-convert"), packages: &[&["librsvg2-bin"]] },
    // With its binutils, which the loader is compared with.
    Program {
        name: "aarch64-linux-gnu-gcc",
        is_there: || starts("aarch64-linux-gnu-gcc"),
        packages: &[&["gcc-aarch64-linux-gnu"]],
    },
    Program { name: "clang with kCFI", is_there: modules::has_kcfi, packages: &[&["clang-19"], &["clang"]] },
    // The linker fragment is for this and all later ones; Rust's own is among the latest.
    Program { name: "ld.lld-14", is_there: || starts("ld.lld-14"), packages: &[&["lld-14"]] },
];

/// Whether a program starts; some fail after they have told their version.
fn starts(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

impl Program {
    fn install(&self, apt: &Apt) {
        let is_installed = self.packages.iter().any(|packages| match apt.install(packages) {
            Ok(()) => true,
            Err(error) => {
                eprintln!("    {} not installed: {error:#}", packages.join(", "));
                false
            }
        });
        if !is_installed || !(self.is_there)() {
            eprintln!("    going on without {}", self.name);
        }
    }
}

/// Installs those that are missing, where that is possible.
pub(crate) fn install_missing() {
    let missing: Vec<&Program> = PROGRAMS.iter().filter(|program| !(program.is_there)()).collect();
    if missing.is_empty() {
        return;
    }
    let names: Vec<_> = missing.iter().map(|program| program.name).collect();
    eprintln!("    not installed: {}", names.join(", "));
    match Apt::updated() {
        Ok(apt) => missing.iter().for_each(|program| program.install(&apt)),
        Err(error) => eprintln!("    going on without them: {error:#}"),
    }
}
