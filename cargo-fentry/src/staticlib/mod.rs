//! `libfentry.a`: the engine for kernels in C, built for a target and flags.
//!
//! Cargo makes a static library of a package only, so a small one is written: a few lines of Rust around the crate, with the panic
//! handler. It is compiled without `-fpatchable-function-entry`, so that nothing in the library is ever traced, `memcpy` and its
//! like included.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::progress::Step;

/// Build libfentry.a for a kernel in C, and write it with fentry.h and fentry.ld
///
/// The target says whether the library uses floating-point and SIMD registers: it must be as the kernel is
/// (aarch64-unknown-none-softfloat for -mgeneral-regs-only, else aarch64-unknown-none).
///
/// Takes `rustup target add TARGET`; or, which --bti and --fixed-x18 always need, `rustup component add rust-src`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo fentry staticlib --target aarch64-unknown-none-softfloat --out lib")]
pub struct StaticlibArgs {
    /// aarch64-unknown-none-softfloat or aarch64-unknown-none
    #[arg(long, value_name = "TARGET", value_parser = ["aarch64-unknown-none", "aarch64-unknown-none-softfloat"])]
    target: String,
    /// With landing pads and signed return addresses: for -mbranch-protection
    #[arg(long)]
    bti: bool,
    /// For a position-independent kernel
    #[arg(long)]
    pic: bool,
    /// Leave x18 alone: for -ffixed-x18, and where a shadow call stack is in it
    #[arg(long)]
    fixed_x18: bool,
    /// The directory to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The source of the crate fentry [default: the one that this program was built beside, or crates.io's of its version]
    #[arg(long, value_name = "DIR")]
    fentry: Option<PathBuf>,
}

/// What to build.
#[derive(Clone, Debug)]
pub struct Library {
    /// Rust's name of the target.
    pub target: String,
    /// With landing pads and signed return addresses.
    pub bti: bool,
    /// For a position-independent kernel.
    pub pic: bool,
    /// With x18 left alone.
    pub fixed_x18: bool,
    /// Where the crate fentry is, if it isn't to come from crates.io.
    pub fentry: Option<PathBuf>,
}

/// What a build has made.
#[derive(Clone, Debug)]
pub struct Built {
    /// `libfentry.a`.
    pub library: PathBuf,
    /// `fentry.h`.
    pub header: PathBuf,
    /// `fentry.ld`.
    pub linker_script: PathBuf,
}

/// Builds the library that the arguments ask for.
///
/// # Errors
///
/// What is missing to build it, and how to get it; or what cargo says.
pub fn run(args: &StaticlibArgs) -> Result<()> {
    let StaticlibArgs { target, bti, pic, fixed_x18, out, fentry } = args;
    let fentry = fentry.clone().or_else(beside_this_program);
    let library = Library { target: target.clone(), bti: *bti, pic: *pic, fixed_x18: *fixed_x18, fentry };
    let core = library.find_core()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    if core == Core::Source {
        cargo.env("RUSTC_BOOTSTRAP", "1");
    }
    let step = Step::start(format!("building libfentry.a for {target}"));
    let built = library.build(cargo, core, &out.join("build"), out)?;
    step.finish("done");
    println!("{}\n{}\n{}", built.library.display(), built.header.display(), built.linker_script.display());
    println!("\nfentry.h says how to compile and link with them.");
    Ok(())
}

/// The crate that stands beside this program's own source, where that is the repository's.
fn beside_this_program() -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let manifest = std::fs::read_to_string(directory.join("Cargo.toml")).ok()?;
    manifest.contains("name = \"fentry\"").then(|| directory.to_owned())
}

/// Where `core` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    /// It was compiled by whoever made the toolchain.
    Compiled,
    /// It is built with the library's own flags.
    Source,
}

impl Library {
    /// The flags that everything in the library is compiled with, `core` too where it comes from its source.
    fn rustflags(&self) -> Vec<&'static str> {
        // v0: the linker fragment tells the engine's functions by their names.
        let mut flags = vec!["-Cforce-frame-pointers=yes", "-Cforce-unwind-tables=no", "-Csymbol-mangling-version=v0"];
        if self.bti {
            flags.push("-Zbranch-protection=bti,pac-ret");
        }
        if self.pic {
            flags.push("-Crelocation-model=pic");
        }
        if self.fixed_x18 {
            flags.push("-Zfixed-x18");
        }
        flags
    }

    /// Where `core` can come from on this machine.
    ///
    /// # Errors
    ///
    /// From nowhere; the error says what to install.
    fn find_core(&self) -> Result<Core> {
        let target = &self.target;
        let libraries = ask_rustc(&["--print", "target-libdir", "--target", target])?;
        let is_core = |name: &str| name.starts_with("libcore-");
        let is_compiled = std::fs::read_dir(libraries)
            .is_ok_and(|files| files.flatten().any(|file| file.file_name().to_str().is_some_and(is_core)));
        let needs_source = self.bti || self.fixed_x18;
        if is_compiled && !needs_source {
            return Ok(Core::Compiled);
        }
        let source = Path::new(&ask_rustc(&["--print", "sysroot"])?).join("lib/rustlib/src/rust/library/Cargo.lock");
        if source.is_file() {
            return Ok(Core::Source);
        }
        match needs_source {
            true => bail!("core must be built with these flags: its source comes with `rustup component add rust-src`"),
            false => bail!("this toolchain has no core for {target}: `rustup target add {target}` gets it"),
        }
    }

    /// Builds the library with this cargo, to which arguments and variables are added, in the directory `package`, and writes it
    /// and its files into `out`.
    ///
    /// # Errors
    ///
    /// What cargo says; or a file can't be written.
    pub fn build(&self, mut cargo: Command, core: Core, package: &Path, out: &Path) -> Result<Built> {
        self.write_package(package)?;
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let target_dir = package.join("target");
        cargo.arg("build").arg("--manifest-path").arg(package.join("Cargo.toml"));
        cargo.args(["--release", "--target", &self.target]).arg("--target-dir").arg(&target_dir);
        if core == Core::Source {
            cargo.arg("-Zbuild-std=core");
        }
        // What a configuration file says of flags, `-Zpatchable-function-entry` for one, is not meant for the library.
        cargo.env("CARGO_ENCODED_RUSTFLAGS", self.rustflags().join("\x1f"));
        let output = cargo.stdin(Stdio::null()).output().context("cargo does not start")?;
        ensure!(output.status.success(), "cargo failed:\n{}", String::from_utf8_lossy(&output.stderr));
        let made = target_dir.join(&self.target).join("release/libfentry_staticlib.a");
        let built = Built {
            library: out.join("libfentry.a"),
            header: out.join("fentry.h"),
            linker_script: out.join("fentry.ld"),
        };
        std::fs::copy(&made, &built.library).with_context(|| format!("cannot copy {}", made.display()))?;
        write_if_new(&built.header, fentry::C_HEADER)?;
        write_if_new(&built.linker_script, fentry::LINKER_FRAGMENT)?;
        Ok(built)
    }

    /// Writes the package that becomes the library.
    fn write_package(&self, directory: &Path) -> Result<()> {
        let source = directory.join("src");
        std::fs::create_dir_all(&source).with_context(|| format!("cannot make {}", source.display()))?;
        write_if_new(&source.join("lib.rs"), include_str!("library.rs"))?;
        let from = match &self.fentry {
            Some(path) => {
                let path = path.canonicalize().with_context(|| format!("there is no {}", path.display()))?;
                // The versions that the crate was tested with.
                let lock = std::fs::read_to_string(path.join("Cargo.lock"));
                let kept = directory.join("Cargo.lock");
                if let (Ok(lock), false) = (lock, kept.exists()) {
                    write_if_new(&kept, &lock)?;
                }
                format!("path = {:?}", path.display().to_string())
            }
            None => format!("version = \"={}\"", env!("CARGO_PKG_VERSION")),
        };
        let manifest = include_str!("package.toml").replace("{from}", &from);
        write_if_new(&directory.join("Cargo.toml"), &manifest)
    }
}

/// What rustc prints.
fn ask_rustc(args: &[&str]) -> Result<String> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let output =
        rustc.args(args).output().context("rustc does not start: it comes with Rust, from https://rustup.rs")?;
    ensure!(output.status.success(), "rustc failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Writes a file whose contents are new, so that nothing is built again for what is not.
fn write_if_new(path: &Path, contents: &str) -> Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == contents) {
        return Ok(());
    }
    std::fs::write(path, contents).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(bti: bool, fixed_x18: bool) -> Library {
        let target = "aarch64-unknown-none".to_owned();
        Library { target, bti, pic: false, fixed_x18, fentry: None }
    }

    #[test]
    fn flags_are_those_that_were_asked_for() {
        assert!(library(false, false).rustflags().iter().all(|flag| !flag.starts_with("-Z")));
        let flags = library(true, true).rustflags();
        assert!(flags.contains(&"-Zbranch-protection=bti,pac-ret") && flags.contains(&"-Zfixed-x18"), "{flags:?}");
    }

    #[test]
    fn the_crate_beside_this_program_is_found_and_its_files_are_handed_on() {
        let beside = beside_this_program().unwrap();
        let file = |name: &str| std::fs::read_to_string(beside.join(name)).unwrap();
        assert_eq!(fentry::C_HEADER, file("include/fentry.h"));
        assert_eq!(fentry::LINKER_FRAGMENT, file("examples/fentry.ld"));
    }
}
