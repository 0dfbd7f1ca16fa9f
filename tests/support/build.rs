//! Gives this crate's own boot test the layout of a kernel.

fn main() {
    println!("cargo:rerun-if-changed=../../linker.ld");
    let target_os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if target_os == "none" {
        let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".into());
        println!("cargo:rustc-link-arg-tests=-T{here}/../../linker.ld");
    }
}
