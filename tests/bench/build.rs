//! Generates the functions that the bench traces, and the linker script that makes them the only callsites.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

/// How many functions; `cargo xtask bench` builds an image for each size.
const COUNT: &str = "FENTRY_BENCH_CALLSITES";
const DEFAULT_COUNT: u32 = 100;

/// The bytes from one function to the next: of the order of a real kernel's, where a callsite has a cache line to itself
/// and shares a page with some ten others.
const SPACING_LOG2: u32 = 8;

/// One function, as the compiler writes it for `-fpatchable-function-entry=2`.
const MACRO: &str = r#"
.section .text.generated,"ax",@progbits
.p2align SPACING_LOG2
.globl generated_functions
generated_functions:

.macro function name
    .section .text.generated,"ax",@progbits
    .p2align SPACING_LOG2
    .type "\name",@function
"\name":
0:  nop
    nop
    mov x0, xzr
    ret
    .size "\name", . - "\name"
    .section __patchable_function_entries,"awo",@progbits,.text.generated
    .p2align 3
    .xword 0b
.endm
"#;

/// What is changed of the repository's linker script: the callsites of all other code are dropped, so that the engine
/// has exactly as many as were asked for.
const SCRIPT_CHANGES: [(&str, &str); 2] = [
    (
        "KEEP(*(EXCLUDE_FILE(*.rcgu.o) __patchable_function_entries))\n        *(__patchable_function_entries)",
        "KEEP(*libgenerated-*.rlib:*(__patchable_function_entries))",
    ),
    ("/DISCARD/ : {", "/DISCARD/ : {\n        *(__patchable_function_entries)"),
];

fn main() {
    let script = "../../linker.ld";
    println!("cargo::rerun-if-env-changed={COUNT}");
    println!("cargo::rerun-if-changed={script}");
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os != "none") {
        return;
    }
    if let Err(error) = generate(script) {
        println!("cargo::error={error}");
    }
}

fn generate(script: &str) -> Result<(), String> {
    let count = match env::var(COUNT) {
        Ok(text) => text.parse().map_err(|error| format!("{COUNT}={text}: {error}"))?,
        Err(_) => DEFAULT_COUNT,
    };
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    let write = |name: &str, text: String| {
        let path = out.join(name);
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok::<PathBuf, String>(path)
    };
    write("functions.s", functions(count))?;
    let layout = [format!("COUNT: usize = {count}"), format!("SPACING: u64 = 1 << {SPACING_LOG2}")];
    write("layout.rs", layout.map(|constant| format!("pub(crate) const {constant};\n")).concat())?;
    let linker_script = write("linker.ld", changed(script)?)?;
    println!("cargo::rustc-link-arg-bins=-T{}", linker_script.display());
    // With an unwind table, for walks.
    println!("cargo::rustc-link-arg-bins=--defsym=__fentry_unwind_wanted=1");
    Ok(())
}

/// The functions, with names as long as those of a Rust kernel are.
fn functions(count: u32) -> String {
    let mut text = MACRO.replace("SPACING_LOG2", &SPACING_LOG2.to_string());
    for number in 0..count {
        // Writing to a string does not fail.
        let _ = writeln!(text, "function \"generated::part_{:03}::function_{number:06}\"", number / 100);
    }
    // What the compiler adds comes after this.
    text.push_str(".text\n");
    text
}

fn changed(script: &str) -> Result<String, String> {
    let mut text = fs::read_to_string(script).map_err(|error| format!("cannot read {script}: {error}"))?;
    for (old, new) in SCRIPT_CHANGES {
        if !text.contains(old) {
            return Err(format!("{script} has no {old}"));
        }
        text = text.replacen(old, new, 1);
    }
    Ok(text)
}
