//! `cargo xtask bench`: what each operation costs, compared with Linux.
//!
//! The bench kernel is built with each number of callsites, in two variants, and booted in virtual time, in which one
//! instruction is one nanosecond and every run is the same. Its figures are compared with
//! `xtask/data/situations.toml`.
//!
//! Instruction counts say what work is done, exactly and repeatably. They don't say what that takes: a barrier, a cache
//! miss, a TLB invalidation and an addition count the same. [`mca`] adds the cycles of the stubs' instructions on
//! models of CPUs, which know latencies, but neither misses nor mispredicted branches.

mod compare;
mod growth;
mod image;
mod lines;
mod mca;
mod plot;
mod report;
mod situations;
mod table;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cargo_fentry::progress::{Step, in_words};
use cargo_fentry::qemu::{self, Boot};
use clap::Args;

use crate::kernels::build;
use crate::kernels::console;
use crate::kernels::toolchain::RustSource;
use crate::kernels::variant::Variant;
use crate::kernels::workspace::{Kernel, Workspace};
use crate::setup;
use lines::{Code, Count, Printed};
use report::Report;
use situations::Situations;

/// The kernel, and the variable that tells its build the number of callsites.
const KERNEL: &str = "bench";
const CALLSITES: &str = "FENTRY_BENCH_CALLSITES";
/// The command line of a boot that counts only what depends on the number of callsites.
const GROWTH: &str = "growth";

/// The columns of the table, and the variant of each.
const COLUMNS: [(&str, &str); 2] = [("hard-float", "nop2-release"), (report::FAIR, "softfloat2-release")];

/// Count the instructions of each operation, and compare them with Linux's and with the aims
///
/// Guest instructions repeat exactly; they measure the work that is done, not the time that it takes on a real machine.
/// Linux's figures and the aims stand in xtask/data/situations.toml. Where llvm-mca is installed, the stubs are also
/// simulated on its models of four CPUs.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask bench --save before.json\n  cargo xtask bench --compare before.json\n  \
                        cargo xtask bench --size 1000 --column softfloat\n  cargo xtask bench --plot growth.svg"
)]
pub(crate) struct BenchArgs {
    /// The number of callsites in an image; may be repeated
    #[arg(long = "size", value_name = "N", default_values_t = [100, 1_000, 10_000, 100_000],
          value_parser = clap::value_parser!(u64).range(2..=400_000))]
    sizes: Vec<u64>,
    /// Only this column: hard-float or softfloat
    #[arg(long, value_name = "NAME", value_parser = COLUMNS.map(|(column, _)| column))]
    column: Option<String>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Save the result, for --compare
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compare with a saved result; fail if anything costs over 2 % more
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Plot how costs grow with callsites and with ops, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// End a boot after this many seconds
    #[arg(long, value_name = "N", default_value_t = 300)]
    timeout_secs: u64,
}

/// What one image is built and booted with.
struct Bench<'a> {
    workspace: &'a Workspace,
    source: &'a RustSource,
    kernel: Kernel,
    limit: Duration,
}

/// Counts and prints; returns whether nothing got worse.
pub(crate) fn run(args: &BenchArgs) -> Result<bool> {
    let started = Instant::now();
    let situations = Situations::load()?;
    // First, so that a name that is wrong is known before minutes are spent.
    let before = args.compare.as_deref().map(Report::load).transpose()?;
    let workspace = Workspace::load()?;
    let source = setup::run(&workspace, None)?;
    let kernel = workspace.kernel(KERNEL)?.clone();
    let limit = Duration::from_secs(args.timeout_secs);
    let bench = Bench { workspace: &workspace, source: &source, kernel, limit };

    let mut sizes = args.sizes.clone();
    sizes.sort_unstable();
    sizes.dedup();
    let columns = COLUMNS.iter().filter(|(column, _)| args.column.as_ref().is_none_or(|only| only == column));
    let (mut counted, mut stubs) = (Vec::new(), Vec::new());
    for (column, variant) in columns {
        let Printed { counts, codes } = bench.count_all(variant, &sizes)?;
        counted.push((*column, counts));
        stubs.extend(codes.into_iter().map(|code| (*column, code)));
    }
    let mut report = Report::new(&situations, &sizes, &counted)?;
    report.stubs = pipelines(&stubs)?;

    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).context("the result can't be written as JSON")?);
    } else {
        println!("\n{report}");
        show_sources(&situations, &report);
    }
    if let Some(file) = &args.save {
        report.save(file)?;
    }
    if let Some(file) = &args.plot {
        plot::draw(&report, file)?;
    }
    eprintln!("    all in {}", in_words(started.elapsed()));
    Ok(before.zip(args.compare.as_deref()).is_none_or(|(before, file)| is_no_worse(&before, &report, file)))
}

impl Bench<'_> {
    /// Everything at the first size, and what depends on the size at the others.
    fn count_all(&self, variant: &str, sizes: &[u64]) -> Result<Printed> {
        let variant = Variant::named(variant).map_err(anyhow::Error::msg)?;
        let mut all = Printed::default();
        for (index, size) in sizes.iter().enumerate() {
            let Printed { counts, codes } = self
                .count(variant, *size, index == 0)
                .with_context(|| format!("the bench with {size} callsites, {variant}"))?;
            all.counts.extend(counts);
            all.codes.extend(codes);
        }
        Ok(all)
    }

    fn count(&self, variant: &Variant, size: u64, with_all: bool) -> Result<Printed> {
        let step = Step::start(format!("{variant}, {size} callsites"));
        let kernels = std::slice::from_ref(&self.kernel);
        let variables = [(CALLSITES, size.to_string())];
        let images = build::images_with(self.workspace, self.source, variant, kernels, &variables, &step)?;
        let image = &images.first().context("no kernel was built")?.path;
        let append = (!with_all).then(|| GROWTH.to_owned());
        let boot = Boot { limit: Some(self.limit), append, ..self.kernel.boot(variant) };
        let outcome = qemu::boot(image, &boot, |line| step.note(line))?;
        let verdict = console::judge(&outcome, self.kernel.kind);
        if verdict.failed > 0 {
            bail!("{}\n{}", verdict.problems.join("; "), outcome.last_lines());
        }
        let mut printed = lines::parse(&outcome.console)?;
        ensure!(!printed.counts.is_empty(), "the kernel printed no counts");
        if with_all {
            printed.counts.extend(sizes_of(image)?);
        }
        step.finish(&format!("{} situations", printed.counts.len()));
        Ok(printed)
    }
}

fn sizes_of(image: &Path) -> Result<Vec<Count>> {
    image::sizes(&cargo_fentry::image::map(image)?)
}

/// The stubs on models of CPUs, if llvm-mca is installed.
fn pipelines(stubs: &[(&str, Code)]) -> Result<Vec<mca::Pipeline>> {
    let llvm_mca = match mca::find() {
        Ok(program) => program,
        Err(reason) => {
            eprintln!("    LEFT OUT: cycles of the stubs: {reason}");
            return Ok(Vec::new());
        }
    };
    let mut all = Vec::new();
    for (column, code) in stubs {
        for pipeline in mca::run(&llvm_mca, column, code)? {
            match pipeline {
                Ok(pipeline) => all.push(pipeline),
                Err(error) => eprintln!("    LEFT OUT: cycles of {column}'s {error:#}"),
            }
        }
    }
    Ok(all)
}

/// Prints which Linux kernels the table's figures are from, and how they were measured.
fn show_sources(situations: &Situations, report: &Report) {
    println!("  Linux's figures:");
    for kernel in &situations.kernels {
        if report.rows.iter().any(|row| row.linux.as_ref().is_some_and(|linux| linux.kernel == kernel.name)) {
            println!("  {:6} {}; {}; {}", kernel.name, kernel.built, kernel.machine, kernel.measured);
        }
    }
}

/// Prints what has changed; returns whether none of it is a regression.
fn is_no_worse(before: &Report, now: &Report, file: &Path) -> bool {
    let (worse, others): (Vec<_>, Vec<_>) =
        compare::changes(before, now).into_iter().partition(compare::Change::is_regression);
    eprintln!("    {} figures differ from {}", worse.len() + others.len(), file.display());
    others.iter().for_each(|change| eprintln!("      {change}"));
    if !worse.is_empty() {
        eprintln!("error: {} of them are worse by more than 2 %:", worse.len());
        worse.iter().for_each(|change| eprintln!("      {change}"));
    }
    worse.is_empty()
}

/// Problems in what the kernel printed when it is booted as a test: a line that can't be read, an unknown situation, or none
/// that has an aim.
pub(crate) fn problems(console: &[String]) -> Vec<String> {
    match lines::parse(console).and_then(|printed| is_known(&printed)) {
        Ok(()) => Vec::new(),
        Err(error) => vec![format!("{error:#}")],
    }
}

fn is_known(printed: &Printed) -> Result<()> {
    let report = Report::new(&Situations::load()?, &[], &[(report::FAIR, printed.counts.clone())])?;
    ensure!(report.rows.iter().any(|row| row.aim.is_some()), "nothing that has an aim was counted");
    ensure!(report.rows.iter().any(|row| row.linux.is_some()), "nothing that Linux has a figure for was counted");
    ensure!(!printed.codes.is_empty(), "no stub's instructions were printed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        problems(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_boot_that_tells_nothing_or_nonsense_has_a_problem() {
        let good = "bench: call-ops 30 1\nbench: init 62000 100\nbench-code: stub d65f0120";
        assert!(said(good).is_empty(), "{:?}", said(good));
        assert!(said("")[0].contains("aim"));
        assert!(said("bench: nonsense 1")[0].contains("nonsense"));
        assert!(said("bench: call-ops x 1")[0].contains("call-ops x 1"));
        assert!(said("bench: call-ops 30 1")[0].contains("stub"));
    }

    #[test]
    fn the_columns_are_variants() {
        for (_, variant) in COLUMNS {
            assert!(Variant::named(variant).is_ok());
        }
    }
}
