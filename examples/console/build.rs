//! Links the kernel with the repository's linker script.

fn main() {
    println!("cargo::rerun-if-changed=../../linker.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-T{here}/../../linker.ld");
        // Where the caller is at each instruction, for stack traces that are true (xtask/src/kernels/linker.rs).
        println!("cargo::rustc-link-arg-bins=--defsym=__fentry_unwind_wanted=1");
    }
}
