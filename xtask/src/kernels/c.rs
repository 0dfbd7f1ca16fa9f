//! The kernels in C: how they are compiled and linked, with the library that `cargo fentry staticlib` builds.
//!
//! The list of a Makefile, for several compilers and linkers. Two kernels are on the one board: `examples/minimal-c`, and a boot
//! test of everything that the header declares.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cargo_fentry::progress::Step;
use cargo_fentry::qemu::{self, Boot};
use cargo_fentry::staticlib::{Built, Core, Library};
use cargo_fentry::symbols::{self, Kept};
use cargo_fentry::trace::{Booter, Recording, Tracer, proof};

use crate::kernels::console::{self, Verdict};
use crate::kernels::modules::{C_COMPILERS, CCompiler, able, rust_lld, succeed};
use crate::kernels::toolchain::{RustSource, kernel_cargo};
use crate::kernels::variant::{Hardening, Nops, SOFT_FLOAT, Variant};
use crate::kernels::workspace::{KernelKind, Workspace};

/// A kernel in C.
#[derive(Debug)]
pub(crate) struct CKernel {
    pub(crate) name: &'static str,
    pub(crate) kind: KernelKind,
    sources: &'static [&'static str],
    /// What it records where its command line asks for a graph of these functions: how often each is called.
    graph: &'static [(&'static str, u64)],
    /// What a line of its console has, and how many lines do.
    says: (&'static str, usize),
}

/// Where the board is, and the script.
const BOARD: &str = "examples/minimal-c";

pub(crate) const KERNELS: [CKernel; 2] = [
    CKernel {
        name: "minimal-c",
        kind: KernelKind::Example,
        sources: &["examples/minimal-c/start.S", "examples/minimal-c/board.c", "examples/minimal-c/main.c"],
        graph: &[("greet", 3), ("party", 1)],
        says: (" <- party+0x", 3),
    },
    CKernel {
        name: "interface-c",
        kind: KernelKind::BootTest,
        sources: &["examples/minimal-c/start.S", "examples/minimal-c/board.c", "tests/c/interface.c"],
        graph: &[],
        says: ("test result: ok. ", 1),
    },
];

/// The variants that they are booted in: `=2` and `=4,2`, both float ABIs, and BTI with signed return addresses.
const VARIANTS: [&str; 3] = ["nop42-release", "bti42-release", "softfloat2-release"];

/// A compiler and a linker.
struct Tools {
    compiler: &'static CCompiler,
    /// The compiler's names, if not its own.
    programs: Option<&'static [&'static str]>,
    linker: Linker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Linker {
    Gnu,
    /// The toolchain's.
    Lld,
}

const GNU_LD: &str = "aarch64-linux-gnu-ld";

const TOOLS: [Tools; 4] = [
    Tools { compiler: &C_COMPILERS[0], programs: None, linker: Linker::Gnu },
    Tools { compiler: &C_COMPILERS[0], programs: None, linker: Linker::Lld },
    Tools { compiler: &C_COMPILERS[1], programs: None, linker: Linker::Lld },
    // The oldest that can be had.
    Tools { compiler: &C_COMPILERS[1], programs: Some(&["clang-14", "clang-15", "clang-16"]), linker: Linker::Gnu },
];

/// All flags but those of the variant.
const FLAGS: [&str; 12] = [
    "-c",
    "-O2",
    "-std=gnu11",
    "-ffreestanding",
    "-fno-pic",
    "-fno-stack-protector",
    "-fno-omit-frame-pointer",
    "-mno-outline-atomics",
    "-falign-functions=8",
    "-Wall",
    "-Wextra",
    "-Werror",
];

/// Those of a variant.
fn flags_of(variant: &Variant) -> Vec<&'static str> {
    let mut flags = match variant.nops {
        Nops::Two => vec!["-fpatchable-function-entry=2"],
        Nops::TwoAndTwoBefore => vec!["-fpatchable-function-entry=4,2", "-DPREFIXED"],
    };
    if variant.target == SOFT_FLOAT {
        flags.push("-mgeneral-regs-only");
    }
    if has_landing_pads(variant) {
        flags.push("-DLIBRARY_HAS_LANDING_PADS");
    }
    if variant.hardening.contains(&Hardening::BtiPac) {
        flags.push("-mbranch-protection=standard");
    }
    flags
}

impl CKernel {
    /// Whether a filter selects it: its name contains the text, or a case's does.
    pub(crate) fn has(&self, workspace: &Workspace, filter: Option<&str>) -> bool {
        let Some(filter) = filter else { return true };
        let cases = || self.sources.iter().map(|source| std::fs::read_to_string(workspace.root.join(source)));
        let is_case = |line: &str| {
            let name = line.trim().strip_prefix("CASE(").and_then(|rest| rest.split(')').next());
            name.is_some_and(|name| name.contains(filter))
        };
        self.name.contains(filter) || cases().flatten().any(|text| text.lines().any(is_case))
    }
}

/// The kernels in C that a variant boots.
pub(crate) fn kernels_for(
    workspace: &Workspace,
    variant: &Variant,
    filter: Option<&str>,
) -> impl Iterator<Item = &'static CKernel> {
    let is_booted = VARIANTS.contains(&variant.name);
    KERNELS.iter().filter(move |kernel| is_booted && kernel.has(workspace, filter))
}

/// Whether a variant's library has landing pads: where any variant of the target needs them.
fn has_landing_pads(variant: &Variant) -> bool {
    // Where nothing asks for them they do no harm, and one library less is built.
    variant.target != SOFT_FLOAT
}

/// Builds a variant's library: one for each target.
pub(crate) fn library(workspace: &Workspace, source: &RustSource, variant: &Variant) -> Result<Built> {
    let bti = has_landing_pads(variant);
    let library = Library {
        target: variant.target.to_owned(),
        bti,
        pic: false,
        fixed_x18: false,
        fentry: Some(workspace.root.clone()),
    };
    let directory = workspace.target_dir.join("kernels/c");
    let name = format!("library-{}{}", variant.target, if bti { "-bti" } else { "" });
    library.build(kernel_cargo(workspace, source), Core::Source, &directory.join("build"), &directory.join(name))
}

/// What became of a kernel's boots.
#[derive(Debug, Default)]
pub(crate) struct Booted {
    pub(crate) verdict: Verdict,
    pub(crate) images: Vec<PathBuf>,
    /// The compilers and linkers that were left out, with the reasons.
    pub(crate) left_out: Vec<String>,
}

/// Builds a kernel with each compiler and linker, and boots each build.
pub(crate) fn boot_all(
    workspace: &Workspace,
    kernel: &CKernel,
    library: &Built,
    variant: &Variant,
    boot: &Boot,
    step: &Step,
) -> Result<Booted> {
    let mut booted = Booted::default();
    for tools in &TOOLS {
        let flags = [tools.compiler.target, &FLAGS, &flags_of(variant)].concat();
        let compiler = match able(tools.programs.unwrap_or(tools.compiler.programs), &flags) {
            Ok(compiler) => compiler,
            Err(why) => {
                booted.left_out.push(why);
                continue;
            }
        };
        if tools.linker == Linker::Gnu && Command::new(GNU_LD).arg("--version").output().is_err() {
            booted.left_out.push(format!("{GNU_LD} is not installed"));
            continue;
        }
        let what = format!("{compiler}-{:?}", tools.linker).to_lowercase();
        step.note(&what);
        let directory = images_dir(workspace, variant).join(format!("{}-{what}", kernel.name));
        let found = build(workspace, kernel, library, compiler, &flags, tools.linker, &directory)
            .and_then(|image| {
                let found = boot_one(kernel, &image, boot);
                booted.images.push(image);
                found
            })
            .with_context(|| format!("{} of {what}, in {}", kernel.name, directory.display()))?;
        booted.verdict.passed += found.passed;
        booted.verdict.failed += found.failed;
        booted.verdict.problems.extend(found.problems.into_iter().map(|problem| format!("{what}: {problem}")));
    }
    Ok(booted)
}

/// The directory with one for each kernel, compiler and linker.
fn images_dir(workspace: &Workspace, variant: &Variant) -> PathBuf {
    workspace.target_dir.join("kernels/c").join(variant.name)
}

/// The kernels of a variant that were built, by any compiler and linker.
pub(crate) fn built(workspace: &Workspace, variant: &Variant) -> Vec<PathBuf> {
    let directories = std::fs::read_dir(images_dir(workspace, variant)).into_iter().flatten().flatten();
    let images = directories
        .flat_map(|directory| KERNELS.map(|kernel| directory.path().join(kernel.name).with_extension("elf")));
    let mut images: Vec<PathBuf> = images.filter(|image| image.is_file()).collect();
    images.sort_unstable();
    images
}

/// Compiles and links, and fills in the symbol table.
fn build(
    workspace: &Workspace,
    kernel: &CKernel,
    library: &Built,
    compiler: &str,
    flags: &[&str],
    linker: Linker,
    directory: &Path,
) -> Result<PathBuf> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let header = library.header.parent().context("the header has no directory")?;
    let mut objects = Vec::new();
    for source in kernel.sources {
        let source = workspace.root.join(source);
        let object = directory.join(source.file_stem().context("a source has no name")?).with_extension("o");
        let mut compile = Command::new(compiler);
        compile.args(flags).arg("-I").arg(header).arg("-I").arg(workspace.root.join(BOARD));
        succeed(compile.arg(&source).arg("-o").arg(&object), compiler)?;
        objects.push(object);
    }
    let image = directory.join(kernel.name).with_extension("elf");
    let mut link = match linker {
        Linker::Gnu => Command::new(GNU_LD),
        Linker::Lld => rust_lld(workspace)?,
    };
    link.args(["-nostdlib", "-static", "--defsym=__fentry_symbols_room=64K"]);
    link.arg("-T").arg(&library.linker_script).arg("-T").arg(workspace.root.join(BOARD).join("kernel.ld"));
    link.args(&objects).arg(&library.library).arg("-o").arg(&image);
    succeed(&mut link, "the linker")?;
    symbols::fill(&image, &Kept::symbols())?;
    Ok(image)
}

/// Boots an image, and looks at what it says; and again as `cargo fentry trace` does, and looks at what it records.
fn boot_one(kernel: &CKernel, image: &Path, boot: &Boot) -> Result<Verdict> {
    let outcome = qemu::boot(image, boot, |_| {})?;
    let mut verdict = console::judge(&outcome, kernel.kind);
    let (text, expected) = kernel.says;
    let said = outcome.console.iter().filter(|line| line.contains(text)).count();
    if said != expected {
        verdict.problems.push(format!("{said} lines and not {expected} have {text:?}"));
    }
    verdict.failed = verdict.failed.max(usize::from(!verdict.problems.is_empty()));
    if !verdict.problems.is_empty() {
        verdict.problems.push(outcome.last_lines());
    } else if !kernel.graph.is_empty() {
        let calls = record(kernel, image, boot)?;
        let expected = kernel.graph.iter().map(|(name, calls)| ((*name).to_owned(), *calls)).collect();
        ensure!(calls == expected, "the graph has the calls {calls:?} and not {expected:?}");
        verdict.passed += 1;
    }
    Ok(verdict)
}

/// How often a kernel says that it has called each function.
fn record(kernel: &CKernel, image: &Path, boot: &Boot) -> Result<BTreeMap<String, u64>> {
    let recording = Recording {
        image: image.to_owned(),
        tracer: Tracer::Graph,
        filters: kernel.graph.iter().map(|(name, _)| (*name).to_owned()).collect(),
        under: Vec::new(),
        not_under: Vec::new(),
        depth: None,
        args: None,
        append: None,
        boot: image.to_owned(),
        booter: Booter::Qemu(boot.clone()),
        limit: boot.limit.unwrap_or(Duration::from_secs(60)),
    };
    let dump = image.with_extension("dump");
    recording.boot(&dump)?;
    proof::calls(&dump, image)
}
