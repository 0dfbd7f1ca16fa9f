//! The objects that are linked: a kernel in C by each compiler, with the engine and its glue in a static library; and one in
//! Rust, which rustc links with the engine's library.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::oracle::{self, Objects, said};
use super::tools::{Compiler, Linker, Maker};

/// In the order in which they need each other.
const CRATES: [(&str, &str); 3] = [
    ("mini", include_str!("rust/mini.rs")),
    ("compiler_builtins", include_str!("rust/compiler_builtins.rs")),
    ("fentry", include_str!("rust/fentry.rs")),
];
const GLUE: &str = include_str!("rust/glue.rs");
const C: [(&str, &str); 2] = [("kernel", include_str!("kernel.c")), ("driver", include_str!("driver.c"))];

/// What is compiled for one layout of callsites.
#[derive(Debug)]
pub(super) struct Rust {
    /// `2` or `4,2`.
    pub(super) nops: &'static str,
    /// Where the libraries are.
    dir: PathBuf,
    /// The engine and the glue for a kernel in C.
    pub(super) archive: PathBuf,
    pub(super) of_archive: Objects,
    of_libraries: Objects,
}

/// A kernel in C.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) compiler: String,
    pub(super) objects: Vec<PathBuf>,
    pub(super) of_objects: Objects,
}

/// rustc, for arm64, in a directory that no other one works in at the time: it leaves objects there.
fn rustc(dir: &Path, nops: &str, name: &str) -> Command {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.current_dir(dir).env("RUSTC_BOOTSTRAP", "1").args(["--edition=2024", "--target=aarch64-unknown-none"]);
    rustc.arg(format!("-Zpatchable-function-entry={nops}")).arg("-Zmin-function-alignment=8");
    rustc.args(["-Csymbol-mangling-version=v0", "-Copt-level=1", "-Cpanic=abort", "--cap-lints=allow"]);
    rustc.args(["--crate-name", name]);
    rustc
}

impl Rust {
    pub(super) fn compile(dir: &Path, nops: &'static str) -> Self {
        let dir = dir.join(format!("rust-{nops}"));
        std::fs::create_dir_all(&dir).unwrap();
        let mut libraries = Vec::new();
        for (name, source) in CRATES {
            std::fs::write(dir.join(name).with_extension("rs"), source).unwrap();
            // As cargo does, which the names of files and members come from.
            let library = ["-L.", "--crate-type=rlib", "-Cextra-filename=-0123456789abcdef"];
            said(rustc(&dir, nops, name).args(library).arg(format!("{name}.rs")));
            libraries.push(dir.join(format!("lib{name}-0123456789abcdef.rlib")));
        }
        std::fs::write(dir.join("glue.rs"), GLUE).unwrap();
        said(rustc(&dir, nops, "glue").args(["-L.", "--crate-type=staticlib", "glue.rs"]));
        let archive = dir.join("libglue.a");
        let of_archive = oracle::objects(std::slice::from_ref(&archive));
        Self { nops, of_libraries: oracle::objects(&libraries), dir, archive, of_archive }
    }

    /// Links the kernel in Rust, as rustc does, and says what it was made of.
    pub(super) fn link(&self, linker: &Linker, arguments: &[String], image: &Path) -> Objects {
        let object = image.with_extension("kernel.o");
        let mut rustc = rustc(image.parent().unwrap(), self.nops, "kernel");
        rustc.args(["--cfg=kernel", "--crate-type=bin", "-Clink-arg=--entry=kernel_main", "-L"]).arg(&self.dir);
        rustc.arg(self.dir.join("glue.rs"));
        rustc.arg(format!("--emit=obj={},link={}", object.display(), image.display()));
        rustc.arg(format!("-Clinker={}", linker.program.display()));
        rustc.arg(if linker.maker == Maker::Gnu { "-Clinker-flavor=ld" } else { "-Clinker-flavor=ld.lld" });
        said(rustc.args(arguments.iter().map(|argument| format!("-Clink-arg={argument}"))));
        self.of_libraries.and(&oracle::objects(&[object]))
    }
}

impl Kernel {
    pub(super) fn compile(dir: &Path, nops: &str, compiler: &Compiler) -> Self {
        let Compiler { name, arguments } = compiler;
        let object = |(file, source): (&str, &str)| {
            let (input, output) = (dir.join(file).with_extension("c"), dir.join(format!("{file}-{name}-{nops}.o")));
            std::fs::write(&input, source).unwrap();
            let mut compile = Command::new(name);
            compile.args(*arguments).args(["-c", "-O1", "-ffreestanding", "-fno-builtin", "-mgeneral-regs-only"]);
            compile.args(["-ffunction-sections", "-fdata-sections", "-fno-pic", "-mbranch-protection=none"]);
            said(compile.arg(format!("-fpatchable-function-entry={nops}")).arg("-o").arg(&output).arg(&input));
            output
        };
        let objects: Vec<PathBuf> = C.into_iter().map(object).collect();
        Self { compiler: format!("{name} ={nops}"), of_objects: oracle::objects(&objects), objects }
    }
}
