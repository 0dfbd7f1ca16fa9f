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
        embed_modules();
    }
}

/// Makes the table of modules that the boot test of that name has in it, from what `cargo xtask` has built.
fn embed_modules() {
    const DIR: &str = "FENTRY_MODULES_DIR";
    println!("cargo::rerun-if-env-changed={DIR}");
    let mut table = String::new();
    if let Some(dir) = env::var_os(DIR).map(PathBuf::from) {
        println!("cargo::rerun-if-changed={}", dir.display());
        let mut objects: Vec<PathBuf> = fs::read_dir(&dir).into_iter().flatten().flatten().map(|f| f.path()).collect();
        objects.sort();
        for object in objects {
            let name = object.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            table.push_str(&format!("    ({name:?}, include_bytes!({:?})),\n", object.display().to_string()));
        }
    }
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    let text = format!("static MODULES: &[(&str, &[u8])] = &[\n{table}];\n");
    if let Err(error) = fs::write(out.join("modules.rs"), text) {
        println!("cargo::error=cannot write the table of modules: {error}");
    }
}

/// Whether `tests` has files beside its directories. (Cargo refuses flags for tests where there are none.)
fn has_boot_tests(root: &std::path::Path) -> bool {
    let Ok(entries) = fs::read_dir(root.join("tests")) else { return false };
    entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "rs"))
}
