//! Makes the table of the modules' files from what `cargo xtask` has built.

use std::path::PathBuf;
use std::{env, fs};

/// The variable that says where they are.
const DIR: &str = "FENTRY_MODULES_DIR";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={DIR}");
    let mut table = String::new();
    if let Some(dir) = env::var_os(DIR).map(PathBuf::from) {
        println!("cargo::rerun-if-changed={}", dir.display());
        let mut objects: Vec<PathBuf> = fs::read_dir(&dir).into_iter().flatten().flatten().map(|f| f.path()).collect();
        objects.sort();
        for object in objects {
            let name = object.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let path = object.display().to_string();
            table.push_str(&format!("    ({name:?}, &Aligned(*include_bytes!({path:?})).0),\n"));
        }
    }
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    // Aligned as a file is, so that what is in them looks like no addresses of the kernel.
    let aligned =
        if table.is_empty() { "" } else { "#[repr(align(8))]\nstruct Aligned<const BYTES: usize>([u8; BYTES]);\n" };
    let text = format!("{aligned}static MODULES: &[(&str, &[u8])] = &[\n{table}];\n");
    if let Err(error) = fs::write(out.join("modules.rs"), text) {
        println!("cargo::error=cannot write the table of modules: {error}");
    }
}
