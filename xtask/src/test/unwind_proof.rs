//! `cargo xtask unwind-proof`: walks by the unwind table at each instruction, in every variant, a million times.

use std::time::Duration;

use anyhow::{Context, Result};
use cargo_fentry::progress::Step;
use cargo_fentry::qemu::{self, Boot};
use clap::Args;

use crate::kernels::build;
use crate::kernels::console;
use crate::kernels::toolchain::RustSource;
use crate::kernels::variant::{Profile, VARIANTS, Variant};
use crate::kernels::workspace::{KernelKind, Workspace};

/// The boot test that is run.
const KERNEL: &str = "unwind";

/// Compare walks by the unwind table with the calls that are under way, before each instruction of a workload
///
/// Boots the test `unwind`, which executes its workload one instruction at a time, traced in each way that there is.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask unwind-proof --variant hardened42-release --steps 100000")]
pub(crate) struct UnwindProof {
    /// The variant to build and boot; may be repeated [default: all]
    #[arg(long = "variant", value_name = "NAME", value_parser = Variant::named)]
    variants: Vec<&'static Variant>,
    /// How many instructions to execute for each way of tracing, at least
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    steps: u64,
    /// End a boot after this many seconds
    #[arg(long, value_name = "N", default_value_t = 600)]
    timeout_secs: u64,
}

/// Runs it; whether every trace that was said to be true was.
pub(crate) fn run(args: &UnwindProof) -> Result<bool> {
    let workspace = Workspace::load()?;
    let source = RustSource::find(&workspace)?.context("the source of core is missing; `cargo xtask setup` gets it")?;
    let kernel = workspace.kernel(KERNEL)?;
    let variants = if args.variants.is_empty() { VARIANTS.iter().collect() } else { args.variants.clone() };
    let mut sum = Traces::default();
    for variant in variants {
        let step = Step::start(format!("{variant}: building {KERNEL}"));
        let images = build::images(&workspace, &source, variant, std::slice::from_ref(kernel), &step)?;
        step.finish("done");
        let image = &images.first().context("no kernel was built")?.path;
        // From every instruction. Unoptimised that takes hours, and the kernel has its own mind.
        let every = if variant.profile == Profile::Release { " every=1" } else { "" };
        let append = Some(format!("steps={}{every}", args.steps));
        let limit = Some(Duration::from_secs(args.timeout_secs));
        let step = Step::start(format!("{variant}: walking"));
        let outcome = qemu::boot(image, &Boot { limit, append, ..kernel.boot(variant) }, |line| step.note(line))?;
        let verdict = console::judge(&outcome, KernelKind::BootTest);
        if verdict.failed != 0 {
            let problems: String = verdict.problems.iter().map(|problem| format!("    {problem}\n")).collect();
            step.finish_with("FAILED", &format!("{problems}{}", outcome.last_lines()));
            return Ok(false);
        }
        let traces =
            outcome.console.iter().find_map(|line| Traces::read(line)).context("the kernel told no numbers")?;
        step.finish(&traces.to_string());
        sum = Traces { all: sum.all + traces.all, reliable: sum.reliable + traces.reliable };
    }
    println!("{sum}; none of these was wrong");
    Ok(true)
}

/// What the kernel says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Traces {
    all: u64,
    reliable: u64,
}

impl Traces {
    fn read(line: &str) -> Option<Self> {
        let (all, rest) = line.split_once(" traces, ")?;
        let (reliable, _) = rest.split_once(" of them reliable")?;
        Some(Self { all: all.parse().ok()?, reliable: reliable.parse().ok()? })
    }
}

impl std::fmt::Display for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = self.reliable as f64 * 100.0 / self.all.max(1) as f64;
        write!(f, "{} traces, {} of them reliable ({share:.3} %)", self.all, self.reliable)
    }
}

#[cfg(test)]
mod tests {
    use super::Traces;

    #[test]
    fn the_kernel_s_numbers_are_read() {
        let line = "171098 traces, 171097 of them reliable: 99.99 %";
        assert_eq!(Traces::read(line), Some(Traces { all: 171_098, reliable: 171_097 }));
        assert_eq!(Traces::read("traces"), None);
    }
}
