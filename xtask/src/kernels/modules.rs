//! The modules that boot tests load: relocatable objects, made with a variant's flags.
//!
//! The ones in Rust are static libraries, `core` and `alloc` within them, that rust-lld makes into one object each (`-r`). The one in
//! C is compiled by every compiler that is installed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use cargo_fentry::unwind::ModuleTable;
use cargo_metadata::Message;

use crate::kernels::toolchain::{RustSource, kernel_cargo, sysroot, toml_string};
use crate::kernels::variant::{Hardening, Nops, SOFT_FLOAT, Variant};
use crate::kernels::workspace::{Kernel, Module, Workspace};

/// The variable that tells the kernels' side of the modules where they are.
pub(crate) const DIR_VARIABLE: &str = "FENTRY_MODULES_DIR";

const C_SOURCES: &str = "tests/modules/c";

/// Where a variant's modules are made.
fn work_dir(workspace: &Workspace, variant: &Variant) -> PathBuf {
    workspace.target_dir.join("kernels/modules").join(variant.name)
}

/// The directory that holds a variant's modules, if they were built, and nothing else.
pub(crate) fn dir(workspace: &Workspace, variant: &Variant) -> Result<PathBuf> {
    let dir = work_dir(workspace, variant).join("objects");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// The modules of a variant that were built.
pub(crate) fn built(workspace: &Workspace, variant: &Variant) -> Result<Vec<PathBuf>> {
    let dir = dir(workspace, variant)?;
    let entries = std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut modules = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    modules.sort_unstable();
    Ok(modules)
}

/// Why a module in C was not compiled.
enum NotCompiled {
    /// The variant has no use for it.
    Unwanted(String),
    /// No compiler here takes the flags.
    Impossible(String),
    /// One took the flags, and refused the source.
    Failed(anyhow::Error),
}

/// A C compiler, and how it is told that the code is for a kernel on arm64.
pub(crate) struct CCompiler {
    pub(crate) name: &'static str,
    /// By the names that it may have; the first one that can do what is asked is taken.
    pub(crate) programs: &'static [&'static str],
    pub(crate) target: &'static [&'static str],
    /// How it is told to put a hash of its type before each function, as rustc's does; none where it can't.
    kcfi: Option<&'static [&'static str]>,
}

pub(crate) const C_COMPILERS: [CCompiler; 2] = [
    CCompiler { name: "gcc", programs: &["aarch64-linux-gnu-gcc"], target: &[], kcfi: None },
    CCompiler {
        name: "clang",
        programs: &[
            "clang", "clang-22", "clang-21", "clang-20", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15",
            "clang-14",
        ],
        target: &["--target=aarch64-none-elf"],
        kcfi: Some(&["-fsanitize=kcfi", "-fsanitize-cfi-icall-experimental-normalize-integers"]),
    },
];

/// A module in C as it is compiled: its source, the NOPs, how it finds what others export, and what its name ends in.
struct CForm {
    source: &'static str,
    /// None: as the kernel's.
    nops: Option<&'static str>,
    model: &'static str,
    suffix: &'static str,
}

const C_FORMS: [CForm; 4] = [
    CForm { source: "relay", nops: Some("2"), model: "-fPIC", suffix: "-2" },
    CForm { source: "relay", nops: Some("4,2"), model: "-fPIC", suffix: "-42" },
    CForm { source: "relay", nops: Some("2"), model: "-fpic", suffix: "-2-pic" },
    CForm { source: "policy", nops: None, model: "-fPIC", suffix: "" },
];

/// Builds the modules that these kernels of a variant load into [`dir`]; those that this machine has no compiler for, each with
/// the reason.
pub(crate) fn build(
    workspace: &Workspace,
    source: &RustSource,
    variant: &Variant,
    kernels: &[Kernel],
) -> Result<Vec<String>> {
    let (work, dir) = (work_dir(workspace, variant), dir(workspace, variant)?);
    let is_meant = |module: &&Module| module.is_for(kernels);
    let packages: Vec<&str> = workspace.modules.iter().filter(is_meant).map(|module| module.package.as_str()).collect();
    for archive in build_archives(workspace, source, variant, &work, &packages, &[])? {
        let name = name_of(&archive);
        let module = workspace.modules.iter().find(|module| module.package == name);
        let has_table = module.is_some_and(|module| module.settings.unwind_table);
        link(workspace, &archive, &work, &dir.join(name), has_table)?;
    }
    // Apart, since what one package asks of a dependency is every package's in one build.
    for Module { package, settings } in workspace.modules.iter().filter(is_meant) {
        for (name, features) in &settings.also {
            for archive in build_archives(workspace, source, variant, &work, &[package], features)? {
                link(workspace, &archive, &work, &dir.join(name), settings.unwind_table)?;
            }
        }
    }
    let mut left_out = Vec::new();
    for compiler in &C_COMPILERS {
        for form in &C_FORMS {
            let name = format!("{}-{}{}", form.source, compiler.name, form.suffix);
            let kept = dir.join(&name).with_extension("o");
            let made = work.join(&name).with_extension("o");
            let why = match compile_c(workspace, variant, compiler, form, &made) {
                Ok(()) => {
                    ModuleTable::add(&made)?;
                    replace(&made, &kept)?;
                    continue;
                }
                Err(NotCompiled::Failed(error)) => return Err(error),
                Err(NotCompiled::Unwanted(why)) => why,
                Err(NotCompiled::Impossible(why)) => {
                    left_out.push(format!("the module {name}: {why}"));
                    why
                }
            };
            eprintln!("    {name} not built because {why}");
            if kept.exists() {
                std::fs::remove_file(&kept)?;
            }
        }
    }
    Ok(left_out)
}

/// The static libraries of modules in Rust.
fn build_archives(
    workspace: &Workspace,
    source: &RustSource,
    variant: &Variant,
    work: &Path,
    packages: &[&str],
    features: &[String],
) -> Result<Vec<PathBuf>> {
    let mut cargo = kernel_cargo(workspace, source);
    cargo.args(["build", "--locked", "--release", "-Zbuild-std=core,alloc"]);
    cargo.arg("--message-format=json-render-diagnostics");
    cargo.args(["--target", variant.target]).arg("--target-dir").arg(work.join("cargo"));
    let mut flags: Vec<String> = variant.rustflags().into_iter().map(toml_string).collect();
    // What others export may be more than ADRP's 4 GiB away: its address comes from the GOT.
    flags.push(toml_string("-Crelocation-model=pic"));
    cargo.args(["--config", &format!("target.{}.rustflags=[{}]", variant.target, flags.join(","))]);
    // Only what is used of core and alloc, in the same object.
    cargo.args(["--config", "profile.release.lto=\"fat\""]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    if !features.is_empty() {
        cargo.args(["--features", &features.join(",")]);
    }
    let output = cargo.output().context("cargo does not start")?;
    ensure!(output.status.success(), "cargo failed for the modules:\n{}", String::from_utf8_lossy(&output.stderr));
    let mut archives = Vec::new();
    for message in Message::parse_stream(&output.stdout[..]) {
        if let Message::CompilerArtifact(artifact) = message.context("cargo's messages cannot be read")? {
            let is_archive = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "a");
            archives.extend(artifact.filenames.into_iter().map(|path| path.into_std_path_buf()).filter(is_archive));
        }
    }
    ensure!(archives.len() == packages.len(), "cargo made {} modules: {archives:?}", archives.len());
    Ok(archives)
}

/// The linker that comes with the toolchain.
pub(crate) fn rust_lld(workspace: &Workspace) -> Result<Command> {
    let libraries = sysroot(workspace)?.join("lib/rustlib");
    let hosts = std::fs::read_dir(&libraries).with_context(|| format!("cannot read {}", libraries.display()))?;
    let found = hosts.flatten().map(|host| host.path().join("bin/rust-lld")).find(|path| path.is_file());
    let mut linker = Command::new(found.context("the toolchain has no rust-lld")?);
    linker.args(["-flavor", "gnu"]);
    Ok(linker)
}

/// A module's name, of its static library.
fn name_of(archive: &Path) -> &str {
    let name = archive.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    name.strip_prefix("lib").unwrap_or(name)
}

/// Makes the module's object, with its table if it has one, and puts it where kernels take it from.
fn link(workspace: &Workspace, archive: &Path, work: &Path, kept: &Path, has_table: bool) -> Result<()> {
    let made = work.join(kept.file_name().unwrap_or_default()).with_extension("o");
    link_relocatable(workspace, archive, &made)?;
    if has_table {
        ModuleTable::add(&made)?;
    }
    replace(&made, &kept.with_extension("o"))
}

fn link_relocatable(workspace: &Workspace, archive: &Path, output: &Path) -> Result<()> {
    let mut linker = rust_lld(workspace)?;
    linker.args(["-r", "-u", "fentry_module_init", "-u", "fentry_module_exit", "-o"]).arg(output).arg(archive);
    succeed(&mut linker, "rust-lld")
}

/// Whether a compiler that is installed has the kCFI of rustc, which hashes types by their size.
pub(crate) fn has_kcfi() -> bool {
    let of = |compiler: &CCompiler| {
        let flags = [compiler.target, &["-c"], compiler.kcfi?].concat();
        able(compiler.programs, &flags).ok()
    };
    C_COMPILERS.iter().any(|compiler| of(compiler).is_some())
}

/// Compiles the module in C, or says why not.
fn compile_c(
    workspace: &Workspace,
    variant: &Variant,
    compiler: &CCompiler,
    form: &CForm,
    output: &Path,
) -> Result<(), NotCompiled> {
    let is_kcfi = variant.hardening.contains(&Hardening::Kcfi);
    let Some(kcfi_flags) = compiler.kcfi.or((!is_kcfi).then_some(&[])) else {
        let why = format!("{} has no kCFI, and {variant} looks for its hashes", compiler.programs[0]);
        return Err(NotCompiled::Unwanted(why));
    };
    let [own_nops, other_nops] = if variant.nops == Nops::Two { ["2", "4,2"] } else { ["4,2", "2"] };
    let nops = form.nops.unwrap_or(own_nops);
    if is_kcfi && nops != own_nops {
        return Err(NotCompiled::Unwanted(format!("{variant} looks for hashes before {own_nops} NOPs")));
    }
    let nops = format!("-fpatchable-function-entry={nops}");
    let other = format!("-DOTHER_ENTRY={other_nops}");
    let mut flags: Vec<&str> = compiler.target.to_vec();
    flags.extend(["-c", "-O2", "-ffreestanding", form.model, "-fno-stack-protector", "-falign-functions=8"]);
    flags.extend([nops.as_str(), other.as_str()]);
    flags.push(if variant.hardening.contains(&Hardening::BtiPac) {
        "-mbranch-protection=bti+pac-ret"
    } else {
        "-mbranch-protection=none"
    });
    if is_kcfi {
        flags.extend(kcfi_flags);
    }
    if variant.target == SOFT_FLOAT {
        flags.extend(["-mgeneral-regs-only", "-DWITHOUT_FLOAT"]);
    }
    let program = able(compiler.programs, &flags).map_err(NotCompiled::Impossible)?;
    let mut command = Command::new(program);
    let source = workspace.root.join(C_SOURCES).join(form.source).with_extension("c");
    command.args(flags).arg("-o").arg(output).arg(source);
    succeed(&mut command, program).map_err(NotCompiled::Failed)
}

/// The first of these compilers that is there and takes these flags, or why there is none: a release that doesn't know a
/// flag yet, or can't do what it says, shows that with the smallest source.
pub(crate) fn able<'a>(programs: &[&'a str], flags: &[&str]) -> Result<&'a str, String> {
    let mut refused = Vec::new();
    for program in programs {
        let mut attempt = Command::new(program);
        attempt.args(flags).args(["-x", "c", "-", "-o", "/dev/null"]);
        let Ok(output) = output_for(&mut attempt, b"int add(int a, int b) { return a + b; }\n") else { continue };
        if output.status.success() {
            return Ok(program);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        refused.push(format!("{program} refuses its flags ({})", said.lines().next().unwrap_or_default().trim()));
    }
    if refused.is_empty() { Err(format!("{} is not installed", programs[0])) } else { Err(refused.join(", and ")) }
}

/// Runs a command with this as its standard input.
fn output_for(command: &mut Command, input: &[u8]) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that has ended, or wants no input, says what it says by its status.
        let _ = stdin.write_all(input);
    }
    child.wait_with_output()
}

pub(crate) fn succeed(command: &mut Command, what: &str) -> Result<()> {
    let output = command.output().with_context(|| format!("{what} does not start"))?;
    ensure!(output.status.success(), "{what} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Copies what is new, so that nothing is built again for what is not.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let new = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if std::fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    std::fs::write(to, new).with_context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::able;

    /// `false` stands for a release that doesn't know a flag, `true` for one that takes it.
    #[test]
    fn a_compiler_that_refuses_its_flags_makes_way_for_one_that_takes_them() {
        let flags = ["-c", "-fsanitize=kcfi"];
        assert_eq!(able(&["no-such-compiler", "false", "true"], &flags), Ok("true"));
        assert_eq!(able(&["true", "false"], &flags), Ok("true"));
        let why = able(&["false", "no-such-compiler"], &flags).unwrap_err();
        assert!(why.contains("false refuses its flags"), "{why}");
        assert!(able(&["no-such-compiler"], &flags).unwrap_err().contains("is not installed"));
    }
}
