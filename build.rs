//! Gives the boot tests their linker script.
//!
//! Only in the repository and only for a bare-metal target: a user of the crate has no boot tests, and brings a linker
//! script of its own.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=linker.ld");
    println!("cargo::rerun-if-changed=tests");

    let bare_metal = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    let root = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    if bare_metal && has_boot_tests(&root) {
        println!("cargo::rustc-link-arg-tests=-T{}", root.join("linker.ld").display());
    }
}

/// Whether `tests` has files beside its directories. (Cargo refuses flags for tests where there are none.)
fn has_boot_tests(root: &std::path::Path) -> bool {
    let Ok(entries) = fs::read_dir(root.join("tests")) else { return false };
    entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "rs"))
}
