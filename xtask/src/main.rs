//! One tool for everything: see `cargo xtask --help`.
//!
//! The same program is also the linker of the kernels: started under the name `fentry-ld` it links, adds the symbol
//! table, and links again.

mod bench;
mod cli;
mod console;
mod corpus;
mod doctor;
mod host;
mod image;
mod insn_proof;
mod kernel_build;
mod linker;
mod miri;
mod modules;
mod mutants;
mod progress;
mod qemu;
mod rooms;
mod setup;
mod stress;
mod suite;
mod symbols;
mod toolchain;
mod trace;
mod variant;
mod workspace;

use std::process::ExitCode;

fn main() -> ExitCode {
    let result = if linker::is_called_as_linker() { linker::run(std::env::args_os().skip(1)) } else { cli::run() };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
