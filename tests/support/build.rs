//! Gives this crate's own boot test the layout of a kernel.

fn main() {
    println!("cargo::rerun-if-changed=../../linker.ld");
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rustc-link-arg-bins=-T{here}/../../linker.ld");
}
