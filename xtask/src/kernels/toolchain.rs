//! The pinned Rust toolchain: where its parts are, and cargo prepared for building kernels with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::kernels::workspace::Workspace;

/// Environment variables that would add to, or replace, the flags that a kernel is built with.
const FOREIGN_FLAGS: [&str; 6] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_AARCH64_UNKNOWN_NONE_RUSTFLAGS",
    "CARGO_TARGET_AARCH64_UNKNOWN_NONE_SOFTFLOAT_RUSTFLAGS",
];

/// The source of `core` and `alloc`, which kernels build for themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RustSource {
    /// Where rustup puts it; cargo finds it there.
    Sysroot,
    /// The directory `library` of a source tree elsewhere.
    Elsewhere(PathBuf),
}

/// `cargo`, of the toolchain that the repository pins.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// `rustc`, of the toolchain that the repository pins.
pub(crate) fn rustc(workspace: &Workspace) -> Command {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.current_dir(&workspace.root);
    rustc
}

/// What a program prints, without the line's end. `purpose` is for the error.
pub(crate) fn output_of(command: &mut Command, purpose: &str) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("{program} does not start ({purpose})"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} failed ({purpose}): {}", said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The directory that the toolchain is installed in.
pub(crate) fn sysroot(workspace: &Workspace) -> Result<PathBuf> {
    output_of(rustc(workspace).args(["--print", "sysroot"]), "where is the toolchain").map(PathBuf::from)
}

/// The number of the toolchain's release, such as `1.95.0`.
pub(crate) fn release(workspace: &Workspace) -> Result<String> {
    let version = output_of(rustc(workspace).arg("--version"), "which toolchain is this")?;
    version.split(' ').nth(1).map(str::to_owned).with_context(|| format!("rustc has a strange version: {version}"))
}

/// Whether `library` holds all of the source that building `core` and `alloc` needs.
pub(crate) fn is_library(library: &Path) -> bool {
    ["Cargo.lock", "core/src/lib.rs", "alloc/src/lib.rs", "sysroot/Cargo.toml"]
        .iter()
        .all(|part| library.join(part).is_file())
}

/// Whether the toolchain came with that source.
pub(crate) fn sysroot_has_source(workspace: &Workspace) -> Result<bool> {
    Ok(is_library(&sysroot(workspace)?.join("lib/rustlib/src/rust/library")))
}

/// Whether a way to the source is to be left out, so that the others can be tried where that one would do.
pub(crate) fn is_left_out(way: &str) -> bool {
    std::env::var("FENTRY_RUST_SRC_LEAVE_OUT").is_ok_and(|ways| ways.split(',').any(|name| name == way))
}

impl RustSource {
    /// Where a source tree is kept that did not come with the toolchain.
    pub(crate) fn kept_dir(workspace: &Workspace, release: &str) -> PathBuf {
        workspace.target_dir.join("rust-src").join(release)
    }

    /// The source if it is already there. One that was set up comes before the toolchain's, because somebody may have
    /// named it.
    pub(crate) fn find(workspace: &Workspace) -> Result<Option<Self>> {
        let kept = Self::kept_dir(workspace, &release(workspace)?).join("library");
        if is_library(&kept) {
            return Ok(Some(Self::Elsewhere(kept)));
        }
        let in_sysroot = !is_left_out("sysroot") && sysroot_has_source(workspace)?;
        Ok(in_sysroot.then_some(Self::Sysroot))
    }
}

/// `cargo` for building kernels: unstable options allowed, `core` and `alloc` from source, no flags but the kernel's.
pub(crate) fn kernel_cargo(workspace: &Workspace, source: &RustSource) -> Command {
    let mut cargo = cargo();
    cargo.current_dir(&workspace.root).env("RUSTC_BOOTSTRAP", "1");
    for name in FOREIGN_FLAGS {
        cargo.env_remove(name);
    }
    if let RustSource::Elsewhere(library) = source {
        // Cargo has no public name for this; it is the one that its own tests use.
        cargo.env("__CARGO_TESTS_ONLY_SRC_ROOT", library);
    }
    cargo
}

/// A string as TOML writes it.
pub(crate) fn toml_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
