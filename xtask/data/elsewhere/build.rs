//! What the linker is given: fentry's fragment, the kernel's own script, and the names of the functions with the unwind table.

use std::path::Path;

fn main() {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let link = |argument: &str| println!("cargo::rustc-link-arg-bins={argument}");
    let names = format!("{here}/symbols.o");
    if std::env::var_os("CARGO_FEATURE_IN_PLACE").is_some() {
        // Room for the names and the unwind table, which `cargo fentry symbols --in-place --unwind` fills. Before the fragment.
        link("--defsym=__fentry_symbols_room=64K");
        link("--defsym=__fentry_unwind_room=64K");
    } else {
        // The two tables, which `cargo fentry symbols --unwind -o symbols.o` makes of what was linked. Always an argument, and
        // empty at first: an empty file is an empty linker script.
        if !Path::new(&names).exists() {
            std::fs::write(&names, "").expect("the kernel's directory can be written to");
        }
        link(&names);
    }
    link(&format!("-T{here}/fentry.ld"));
    link(&format!("-T{here}/kernel.ld"));
    // What cargo links again for: it looks into no argument of the linker itself.
    for file in ["symbols.o", "fentry.ld", "kernel.ld"] {
        println!("cargo::rerun-if-changed={here}/{file}");
    }
}
