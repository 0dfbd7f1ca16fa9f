//! The command line: what there is, and what each command needs before it can run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use cargo_fentry::doctor::{self, DoctorArgs};
use cargo_fentry::pieces::{self, GuideArgs, LinkerScriptArgs};
use cargo_fentry::progress::Step;
use cargo_fentry::qemu::{self, Boot, End};
use cargo_fentry::symbols::{self, SymbolsArgs};
use cargo_fentry::terminal::{self, ConsoleChoices};
use clap::{Args, Parser, Subcommand};

use crate::bench::BenchArgs;
use crate::cfi_proof::CfiProof;
use crate::corpus::CorpusArgs;
use crate::insn_proof::InsnProof;
use crate::kernels::build;
use crate::kernels::toolchain::RustSource;
use crate::kernels::variant::{VARIANTS, Variant};
use crate::kernels::workspace::{Kernel, KernelKind, Workspace};
use crate::test::mutants::{self, MutantsArgs};
use crate::test::stress::{self, StressArgs};
use crate::test::suite::{self, Selection};
use crate::test::unwind_proof::{self, UnwindProof};
use crate::test::verify::{self, VerifyArgs};
use crate::test::{host, loader};
use crate::trace::{self, TraceArgs};
use crate::{bench, cfi_proof, corpus, header, insn_proof, setup};

/// fentry's one tool: it gets what is missing, builds kernels, boots them and looks into them.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

/// The one table of tasks.
#[derive(Debug, Subcommand)]
enum Task {
    Demo(DemoArgs),
    Test(TestArgs),
    /// Check formatting, clippy (for the host and for arm64) and documentation
    Check,
    /// Make include/fentry.h anew of src/capi
    Header,
    Miri(MiriArgs),
    Build(BuildArgs),
    Qemu(QemuArgs),
    Setup(SetupArgs),
    Guide(GuideArgs),
    LinkerScript(LinkerScriptArgs),
    Symbols(SymbolsArgs),
    Doctor(DoctorArgs),
    Verify(VerifyArgs),
    Stress(StressArgs),
    Mutants(MutantsArgs),
    Bench(BenchArgs),
    Trace(Box<TraceArgs>),
    Console(ConsoleArgs),
    InsnProof(InsnProof),
    CfiProof(CfiProof),
    UnwindProof(UnwindProof),
    FuzzModule(FuzzModuleArgs),
    Corpus(CorpusArgs),
}

/// Find what building and booting needs, and get what is missing: QEMU, and the source of `core`
///
/// The source of `core` comes from the first of: --rust-src; the toolchain; an earlier setup; `rustup component add
/// rust-src`; Debian's package rust-src of the same release, fetched and unpacked into target/ but not installed; the
/// tree or tarball that the environment variable FENTRY_RUST_SRC names.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo xtask setup\n  cargo xtask setup --rust-src ~/rust-1.95.0-src.tar.xz")]
struct SetupArgs {
    /// A source tree of the toolchain's release, or a tarball of one, to use before all else
    #[arg(long, value_name = "PATH")]
    rust_src: Option<PathBuf>,
    /// Get what only the tests use, too: the readers of exported traces (uftrace, trace-cmd, rsvg-convert), and GCC and
    /// Clang for arm64
    #[arg(long, alias = "trace-readers")]
    for_tests: bool,
}

/// Set up, build the demo kernel, boot it, and show what it says
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask demo --variant hardened42-release")]
struct DemoArgs {
    /// The variant to build and boot
    #[arg(long, value_name = "NAME", default_value = Variant::default().name, value_parser = Variant::named)]
    variant: &'static Variant,
    /// The kernel to show
    #[arg(long, value_name = "NAME", default_value = "demo")]
    kernel: String,
    /// End the boot after this many seconds
    #[arg(long, value_name = "N", default_value_t = 60)]
    timeout_secs: u64,
}

/// Boot a kernel with its console on this terminal, and ask it what it shall trace
///
/// Builds the kernel `console`, or one that you name, which must have fentry's control interface on its console: lines in the
/// words of Linux's tracefs. They are edited, kept in a history and completed here.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo xtask console\n  \
                        cargo xtask console --append 'ftrace=function_graph ftrace_filter=console::*'\n  \
                        cargo xtask console --script trace.txt --save target/trace/console")]
struct ConsoleArgs {
    /// The kernel to build and ask
    #[arg(long, value_name = "NAME", default_value = "console")]
    kernel: String,
    /// The variant to build
    #[arg(long, value_name = "NAME", default_value = Variant::default().name, value_parser = Variant::named)]
    variant: &'static Variant,
    #[command(flatten)]
    choices: ConsoleChoices,
}

/// Run the checks and the host tests, these under Miri as well, then build and boot every kernel in every variant
///
/// Gets what `setup --for-tests` gets, and goes on without what can't be had. Ends with one table and the sum of all, and
/// fails if anything failed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo xtask test --host-only\n  \
                        cargo xtask test --filter registers --variant nop2-release --variant softfloat2-release")]
struct TestArgs {
    /// Only host tests, kernels, and cases of kernels whose names contain this; leaves out the checks and Miri. What has no
    /// match is neither built nor booted; if nothing has, that is an error
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Boot only this variant; may be repeated [default: all]
    #[arg(long = "variant", value_name = "NAME", value_parser = Variant::named)]
    variants: Vec<&'static Variant>,
    /// Boot nothing
    #[arg(long)]
    host_only: bool,
    /// Leave out formatting, clippy and documentation
    #[arg(long)]
    no_check: bool,
    /// Leave out Miri, as a filter does too
    #[arg(long)]
    no_miri: bool,
    /// Only say what would run
    #[arg(long)]
    list: bool,
    /// End a boot after this many seconds
    #[arg(long, value_name = "N", default_value_t = 120)]
    timeout_secs: u64,
}

/// Run the host tests under Miri, with both models of borrowing
///
/// Takes a nightly toolchain, whose components it adds where they are missing; where there is none it says so.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask miri --filter engine::")]
struct MiriArgs {
    /// Only tests whose names contain this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

/// Build kernels and print where their images are
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask build --variant nop42-release --kernel minimal")]
struct BuildArgs {
    /// The variant to build for
    #[arg(long, value_name = "NAME", default_value = Variant::default().name, value_parser = Variant::named)]
    variant: &'static Variant,
    /// The kernel to build: the name of a boot test or an example; may be repeated [default: all]
    #[arg(long = "kernel", value_name = "NAME")]
    kernels: Vec<String>,
}

/// Boot an image in QEMU, with its console on this terminal and its exit status as ours
///
/// This is the runner that cargo uses for the arm64 targets. A boot that does not end within the limit is ended and
/// reported with the console's last lines.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo xtask qemu kernel.elf\n  cargo xtask qemu --gdb --cpu max kernel.elf\n  \
                        cargo xtask qemu --qemu-arg=-d --qemu-arg=int kernel.elf")]
pub(crate) struct QemuArgs {
    /// The ELF image to boot
    image: PathBuf,
    /// QEMU's name of the CPU; `max` has branch targets and pointer authentication
    #[arg(long, default_value = Variant::default().cpu)]
    cpu: String,
    /// The number of CPUs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    cpus: u32,
    /// End the boot after this many seconds
    #[arg(long, value_name = "N", default_value_t = 60)]
    timeout_secs: u64,
    /// Wait for a debugger, without a time limit, and print how to attach one
    #[arg(long)]
    gdb: bool,
    /// Count instructions instead of time, the same each time
    #[arg(long)]
    icount: bool,
    /// The kernel's command line
    #[arg(long, value_name = "TEXT")]
    append: Option<String>,
    /// One more argument for QEMU; may be repeated
    #[arg(long = "qemu-arg", value_name = "ARG", allow_hyphen_values = true)]
    more: Vec<OsString>,
    /// What cargo passes on to the kernel; added to its command line
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<String>,
}

/// Give damaged modules to the loader until the time is up
///
/// A panic, memory that is not given back, or an input that takes seconds is a finding: the input is kept in
/// src/module/tests/inputs, whose files the crate's own tests load. The same seed repeats the same run.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask fuzz-module --seconds 600")]
struct FuzzModuleArgs {
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Where the random numbers begin
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Does what the command line says.
pub(crate) fn run() -> Result<ExitCode> {
    match Cli::parse().command {
        Task::Demo(args) => demo(&args),
        Task::Test(args) => test(args),
        Task::Check => {
            let workspace = Workspace::load()?;
            let source = setup::run(&workspace, None)?;
            Ok(exit_code(host::check(&workspace, Some(&source))?.is_empty()))
        }
        Task::Header => header::write(&Workspace::load()?.root).map(|()| ExitCode::SUCCESS),
        Task::Miri(args) => suite::run_miri(&Workspace::load()?, args.filter.as_deref()).map(exit_code),
        Task::Build(args) => build(&args),
        Task::Qemu(args) => boot(args),
        Task::Setup(args) => {
            setup::run(&Workspace::load()?, args.rust_src.as_deref())?;
            if args.for_tests {
                setup::install_test_programs();
            }
            Ok(ExitCode::SUCCESS)
        }
        Task::Stress(args) => stress::run(&args).map(exit_code),
        Task::Mutants(args) => mutants::run(&args).map(exit_code),
        Task::Bench(args) => bench::run(&args).map(exit_code),
        Task::Trace(args) => trace::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Console(args) => console(&args),
        Task::Doctor(args) => doctor::run(&args).map(exit_code),
        Task::Verify(args) => verify::run(&args).map(exit_code),
        Task::FuzzModule(args) => {
            loader::fuzz::run(&Workspace::load()?, args.seconds, args.seed).map(|()| ExitCode::SUCCESS)
        }
        Task::Corpus(args) => corpus::run(&args).map(exit_code),
        Task::InsnProof(args) => insn_proof::run(&args).map(|()| ExitCode::SUCCESS),
        Task::CfiProof(args) => cfi_proof::run(&args).map(|()| ExitCode::SUCCESS),
        Task::UnwindProof(args) => unwind_proof::run(&args).map(exit_code),
        Task::Guide(args) => pieces::guide(&args).map(|()| ExitCode::SUCCESS),
        Task::LinkerScript(args) => pieces::linker_script(&args).map(|()| ExitCode::SUCCESS),
        Task::Symbols(args) => symbols::run(&args).map(|()| ExitCode::SUCCESS),
    }
}

fn exit_code(success: bool) -> ExitCode {
    if success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn demo(args: &DemoArgs) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let source = setup::run(&workspace, None)?;
    let kernel = workspace.kernel(&args.kernel)?;
    let step = Step::start(format!("building {} for {}", args.kernel, args.variant));
    let images = build::images(&workspace, &source, args.variant, std::slice::from_ref(kernel), &step)?;
    step.finish("done");
    let image = images.first().context("no kernel was built")?;
    let limit = Some(Duration::from_secs(args.timeout_secs));
    let boot = Boot { limit, ..image.kernel.boot(args.variant) };
    eprintln!("    booting {}\n", image.path.display());
    show_boot(&image.path, &boot)
}

fn console(args: &ConsoleArgs) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let source = setup::run(&workspace, None)?;
    let kernel = workspace.kernel(&args.kernel)?;
    let step = Step::start(format!("building {} for {}", args.kernel, args.variant));
    let images = build::images(&workspace, &source, args.variant, std::slice::from_ref(kernel), &step)?;
    step.finish("done");
    let image = images.first().context("no kernel was built")?;
    terminal::run_on(&args.choices, &image.path, image.kernel.boot(args.variant)).map(|()| ExitCode::SUCCESS)
}

fn test(args: TestArgs) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let variants = match args.variants {
        _ if args.host_only => Vec::new(),
        none if none.is_empty() => VARIANTS.iter().collect(),
        some => some,
    };
    let selection = Selection {
        with_checks: !args.no_check && args.filter.is_none(),
        with_miri: !args.no_miri && args.filter.is_none(),
        filter: args.filter,
        variants,
        limit: Duration::from_secs(args.timeout_secs),
    };
    if args.list {
        suite::list(&workspace, &selection);
        return Ok(ExitCode::SUCCESS);
    }
    let source = if !suite::boots_any(&workspace, &selection) {
        RustSource::find(&workspace)
    } else {
        setup::install_test_programs();
        setup::run(&workspace, None).map(Some)
    };
    suite::run(&workspace, source, &selection).map(exit_code)
}

fn build(args: &BuildArgs) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let source = RustSource::find(&workspace)?.context("the source of core is missing; `cargo xtask setup` gets it")?;
    let kernels = select(&workspace, &args.kernels)?;
    let variant = args.variant;
    for kind in KernelKind::ALL {
        let of_kind: Vec<Kernel> = kernels.iter().filter(|kernel| kernel.kind == kind).cloned().collect();
        if !of_kind.is_empty() {
            let step = Step::start(format!("building the {} for {variant}", kind.plural()));
            let images = build::images(&workspace, &source, variant, &of_kind, &step)?;
            step.finish("done");
            images.iter().for_each(|image| println!("{}", image.path.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The kernels of these names, or all.
fn select(workspace: &Workspace, names: &[String]) -> Result<Vec<Kernel>> {
    for name in names {
        workspace.kernel(name)?;
    }
    let is_meant = |kernel: &&Kernel| names.is_empty() || names.contains(&kernel.name);
    Ok(workspace.kernels.iter().filter(is_meant).cloned().collect())
}

fn boot(args: QemuArgs) -> Result<ExitCode> {
    if args.gdb {
        eprintln!("{}", qemu::how_to_attach(&args.image));
    }
    let words: Vec<String> = args.append.into_iter().chain(args.rest).collect();
    let boot = Boot {
        limit: (!args.gdb).then_some(Duration::from_secs(args.timeout_secs)),
        gdb: args.gdb,
        icount: args.icount,
        append: (!words.is_empty()).then(|| words.join(" ")),
        more: args.more,
        ..Boot::new(&args.cpu, args.cpus)
    };
    show_boot(&args.image, &boot)
}

/// Boots with the console on this terminal, and gives the kernel's status as ours.
fn show_boot(image: &Path, boot: &Boot) -> Result<ExitCode> {
    let outcome = qemu::boot(image, boot, |line| println!("{line}"))?;
    Ok(match outcome.end {
        End::Exit(status) => u8::try_from(status).map_or(ExitCode::FAILURE, ExitCode::from),
        End::Killed => {
            eprintln!("error: QEMU was killed");
            ExitCode::FAILURE
        }
        End::Hung => {
            let seconds = boot.limit.unwrap_or_default().as_secs();
            eprintln!(
                "error: the boot was ended after {seconds} s; the console's last lines:\n{}",
                outcome.last_lines()
            );
            ExitCode::FAILURE
        }
    })
}
