//! The command line: what there is, and what each command needs before it can run.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};

use crate::progress::Step;
use crate::qemu::{self, Boot, End};
use crate::toolchain::RustSource;
use crate::variant::Variant;
use crate::workspace::{Kernel, Workspace};
use crate::{kernel_build, setup, symbols};

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
    Build(BuildArgs),
    Qemu(QemuArgs),
    Setup(SetupArgs),
    Symbols(SymbolsArgs),
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

/// Make the object file that holds the symbol table of a linked image
///
/// For a kernel with a build of its own: link it, run this on the image, and link it again with the object file added.
/// The linker script must keep the section `.fentry.symbols` after all text.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask symbols kernel.elf -o symbols.o")]
struct SymbolsArgs {
    /// The linked image
    image: PathBuf,
    /// The object file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Does what the command line says.
pub(crate) fn run() -> Result<ExitCode> {
    match Cli::parse().command {
        Task::Build(args) => build(&args),
        Task::Qemu(args) => boot(args),
        Task::Setup(args) => setup::run(&Workspace::load()?, args.rust_src.as_deref()).map(|_| ExitCode::SUCCESS),
        Task::Symbols(args) => symbols::write_object(&args.image, &args.output).map(|()| ExitCode::SUCCESS),
    }
}

fn build(args: &BuildArgs) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let source = RustSource::find(&workspace)?.context("the source of core is missing; `cargo xtask setup` gets it")?;
    let kernels = select(&workspace, &args.kernels)?;
    let variant = args.variant;
    let step = Step::start(format!("building {variant}"));
    let images = kernel_build::build(&workspace, &source, variant, &kernels, &step)?;
    step.finish("done");
    for image in images {
        println!("{}", image.path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The kernels of these names, or all.
fn select(workspace: &Workspace, names: &[String]) -> Result<Vec<Kernel>> {
    let kernels = workspace.kernels();
    for name in names {
        let known: Vec<&str> = kernels.iter().map(|kernel| kernel.name.as_str()).collect();
        ensure!(known.contains(&name.as_str()), "there is no kernel {name}; there are: {}", known.join(", "));
    }
    Ok(kernels.into_iter().filter(|kernel| names.is_empty() || names.contains(&kernel.name)).collect())
}

fn boot(args: QemuArgs) -> Result<ExitCode> {
    if args.gdb {
        eprintln!("{}", qemu::how_to_attach(&args.image));
    }
    let words: Vec<String> = args.append.into_iter().chain(args.rest).collect();
    let boot = Boot {
        cpu: args.cpu,
        cpus: args.cpus,
        limit: (!args.gdb).then_some(Duration::from_secs(args.timeout_secs)),
        gdb: args.gdb,
        icount: args.icount,
        append: (!words.is_empty()).then(|| words.join(" ")),
        more: args.more,
    };
    let outcome = qemu::boot(&args.image, &boot, |line| println!("{line}"))?;
    Ok(match outcome.end {
        End::Exit(status) => u8::try_from(status).map_or(ExitCode::FAILURE, ExitCode::from),
        End::Killed => {
            eprintln!("error: QEMU was killed");
            ExitCode::FAILURE
        }
        End::Hung => {
            let seconds = args.timeout_secs;
            eprintln!(
                "error: the boot was ended after {seconds} s; the console's last lines:\n{}",
                outcome.last_lines()
            );
            ExitCode::FAILURE
        }
    })
}
