//! Links the kernels with the repository's linker script.

/// The kernels that get an unwind table (xtask/src/kernels/linker.rs).
const UNWOUND: [&str; 5] = ["cost_unwind", "crash", "modules", "modules_patients", "unwind"];

fn main() {
    println!("cargo::rerun-if-changed=../../linker.ld");
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rustc-link-arg-bins=-T{here}/../../linker.ld");
    for kernel in UNWOUND {
        println!("cargo::rustc-link-arg-bin={kernel}=--defsym=__fentry_unwind_wanted=1");
    }
}
