//! Links the kernels with the repository's linker script.

/// More bytes than the table of this package's largest kernel takes, unoptimised.
const UNWIND_ROOM: u32 = 160 * 1024;

fn main() {
    println!("cargo::rerun-if-changed=../../linker.ld");
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rustc-link-arg-bins=-T{here}/../../linker.ld");
    // Room for the table that it walks by: xtask fills it in.
    println!("cargo::rustc-link-arg-bin=unwind=--defsym=__fentry_unwind_room={UNWIND_ROOM}");
}
