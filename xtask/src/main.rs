//! One tool for everything: see `cargo xtask --help`.
//!
//! The same program is also the linker of the kernels: started under the name `fentry-ld` it links, adds the symbol
//! table, and links again.

mod bench;
mod cfi_proof;
mod cli;
mod corpus;
mod header;
mod insn_proof;
mod kernels;
mod llvm;
mod rooms;
mod setup;
mod test;
mod trace;

use std::process::ExitCode;

use kernels::linker;

fn main() -> ExitCode {
    let result = if linker::is_called_as_linker() { linker::run(std::env::args_os().skip(1)) } else { cli::run() };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
