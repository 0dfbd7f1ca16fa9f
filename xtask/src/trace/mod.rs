//! `cargo xtask trace`: `cargo fentry trace` with this repository's kernels, which it builds, the demo first of all.

pub(crate) mod proof;

use std::path::PathBuf;

use anyhow::{Context, Result};
use cargo_fentry::progress::Step;
use cargo_fentry::qemu::Boot;
use cargo_fentry::trace::{self, TraceChoices};
use clap::Args;

use crate::kernels::build;
use crate::kernels::variant::Variant;
use crate::kernels::workspace::Workspace;
use crate::setup;

/// The kernel that is traced where none is named.
const KERNEL: &str = "demo";

/// Trace a kernel and export the trace to other tools' formats
///
/// Boots the demo, or the kernel that you name, in QEMU. The kernel's command line says what to trace and where to write
/// the records (fentry::tracer::session); function names come from its image. --from exports a saved dump again, in
/// other formats.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo xtask trace\n  \
                        cargo xtask trace --cpus 4 --filter '*' --filter '!support::*' --format all\n  \
                        cargo xtask trace --tracer profile --filter 'alloc::*'\n  \
                        cargo xtask trace --image kernel.elf --tracer function --args 2\n  \
                        cargo xtask trace --from target/trace/trace.dump --image kernel.elf --format svg")]
pub(crate) struct TraceArgs {
    /// The kernel to build and trace
    #[arg(long, value_name = "NAME", default_value = KERNEL)]
    kernel: String,
    /// The variant to build
    #[arg(long, value_name = "NAME", default_value = Variant::default().name, value_parser = Variant::named)]
    variant: &'static Variant,
    /// Trace this image instead; its kernel must read these words and write files by semihosting
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kernel", "variant"])]
    image: Option<PathBuf>,
    #[command(flatten)]
    choices: TraceChoices,
}

/// Traces a kernel, exports the trace, and prints the summary.
pub(crate) fn run(args: &TraceArgs) -> Result<()> {
    let workspace = Workspace::load()?;
    let kernel = match &args.image {
        Some(image) => trace::Kernel { boot: Boot::new(Variant::default().cpu, 1), ..trace::Kernel::new(image) },
        None => build(&workspace, args)?,
    };
    trace::run_on(&args.choices, kernel, &workspace.target_dir.join("trace"))
}

/// Builds one of this repository's kernels.
fn build(workspace: &Workspace, args: &TraceArgs) -> Result<trace::Kernel> {
    let kernel = workspace.kernel(&args.kernel)?;
    let source = setup::run(workspace, None)?;
    let step = Step::start(format!("building {} for {}", kernel.name, args.variant));
    let images = build::images(workspace, &source, args.variant, std::slice::from_ref(kernel), &step)?;
    step.finish("done");
    let image = images.into_iter().next().context("no kernel was built")?.path;
    let filters = kernel.settings.traced.iter().cloned().collect();
    Ok(trace::Kernel { image, filters, boot: kernel.boot(args.variant) })
}
