//! 2. The two linker scripts: fentry's fragment first, then the kernel's own. (fentry.ld says why in this order.)

fn main() {
    println!("cargo:rerun-if-changed=kernel.ld");
    // integration
    println!("cargo:rerun-if-changed=../fentry.ld");
    // end of integration
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        // integration
        println!("cargo:rustc-link-arg-bins=-T{here}/../fentry.ld");
        // end of integration
        println!("cargo:rustc-link-arg-bins=-T{here}/kernel.ld");
        // Asks this repository's linker for the unwind table; elsewhere, `cargo fentry symbols --unwind` makes it.
        println!("cargo:rustc-link-arg-bins=--defsym=__fentry_unwind_wanted=1");
    }
}
