//! What building and booting kernels needs beyond a Rust toolchain: found where it is, fetched where it is missing.

pub(crate) mod debian;
mod emulator;
pub(crate) mod packages;
mod rust_source;
mod test_programs;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::kernels::toolchain::{self, RustSource};
use crate::kernels::workspace::Workspace;

pub(crate) use test_programs::install_missing as install_test_programs;

/// Gets what is missing and says what it found. `named` is a tree or a tarball of the source of `core`, tried first.
pub(crate) fn run(workspace: &Workspace, named: Option<&Path>) -> Result<RustSource> {
    emulator::ensure()?;
    let source = rust_source::ensure(workspace, named)?;
    match &source {
        RustSource::Sysroot => eprintln!("    the source of core: the toolchain's own"),
        RustSource::Elsewhere(library) => eprintln!("    the source of core: {}", library.display()),
    }
    Ok(source)
}

/// Runs a program to its end and shows what it does; an error where it fails.
fn show(command: &mut Command) -> Result<()> {
    eprintln!("    $ {}", in_shell_words(command));
    let program = command.get_program().display().to_string();
    let status = command.status().with_context(|| format!("{program} does not start"))?;
    anyhow::ensure!(status.success(), "{program} failed ({status})");
    Ok(())
}

/// Runs a program to its end without showing its output; an error, with what it said, where it fails.
fn quietly(command: &mut Command, purpose: &str) -> Result<String> {
    toolchain::output_of(command.env("RUST_BACKTRACE", "0"), purpose)
}

fn in_shell_words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.display().to_string()).collect::<Vec<_>>().join(" ")
}
