//! What building and booting kernels needs beyond a Rust toolchain: found where it is, fetched where it is missing.

mod emulator;
pub(crate) mod packages;
mod rust_source;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::kernels::toolchain::{self, RustSource};
use crate::kernels::workspace::Workspace;

/// Gets what is missing and says what it found. `named` is a tree or a tarball of the source of `core`, tried first.
pub(crate) fn run(workspace: &Workspace, named: Option<&Path>) -> Result<RustSource> {
    let version = emulator::ensure()?;
    eprintln!("    QEMU {version}");
    let source = rust_source::ensure(workspace, named)?;
    match &source {
        RustSource::Sysroot => eprintln!("    the source of core: the toolchain's own"),
        RustSource::Elsewhere(library) => eprintln!("    the source of core: {}", library.display()),
    }
    Ok(source)
}

/// What reads exported traces, as Debian and Ubuntu name it; some of the tests do with them what a user would.
const TRACE_READERS: [&str; 3] = ["uftrace", "trace-cmd", "libtraceevent1-plugin"];

/// Installs the readers of exported traces, unless they are there.
pub(crate) fn install_trace_readers() -> Result<()> {
    // Whether it starts; `trace-cmd --version` fails after it has said its version.
    let are_there =
        || ["uftrace", "trace-cmd"].iter().all(|program| Command::new(program).arg("--version").output().is_ok());
    if !are_there() {
        packages::install(&TRACE_READERS)?;
        anyhow::ensure!(are_there(), "{} are installed, but cannot be started", TRACE_READERS.join(", "));
    }
    eprintln!("    uftrace and trace-cmd: there");
    Ok(())
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
