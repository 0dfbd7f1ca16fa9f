//! The whole suite: checks, host tests, and every kernel booted in every variant, with one summary.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench;
use crate::console::{self, Verdict};
use crate::host::{self, Count};
use crate::kernel_build::{self, Image};
use crate::progress::{Step, in_words};
use crate::qemu::{self, Boot, Outcome};
use crate::toolchain::RustSource;
use crate::trace::{self, proof::Proved};
use crate::variant::Variant;
use crate::workspace::{Kernel, KernelKind, Workspace};

/// The name of what traces the demo.
const TRACE: &str = "trace";

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// Only kernels and tests whose names contain this.
    pub(crate) filter: Option<String>,
    pub(crate) variants: Vec<&'static Variant>,
    pub(crate) with_checks: bool,
    /// After how long a boot counts as hung.
    pub(crate) limit: Duration,
}

/// A line of the summary.
struct Row {
    what: String,
    count: Count,
    took: Duration,
}

/// Runs the selection, prints the summary, and says whether all passed.
///
/// Boots need the source of `core`: without it, the selection has no variants.
pub(crate) fn run(workspace: &Workspace, source: Option<&RustSource>, selection: &Selection) -> Result<bool> {
    let mut rows = Vec::new();
    let started = Instant::now();
    if selection.with_checks {
        let failed = host::check(workspace, source)?;
        rows.extend(failed.into_iter().map(|what| Row {
            what: what.to_owned(),
            count: Count { passed: 0, failed: 1 },
            took: Duration::ZERO,
        }));
    }
    let host_started = Instant::now();
    let count = host::test(workspace, selection.filter.as_deref())?;
    rows.push(Row { what: "host tests".to_owned(), count, took: host_started.elapsed() });
    if let Some(source) = source {
        for variant in &selection.variants {
            for kind in KernelKind::ALL {
                rows.extend(boot_kernels(workspace, source, variant, kind, selection));
            }
            rows.extend(trace_demo(workspace, source, variant, selection));
        }
    }
    Ok(summarise(&rows, started.elapsed()))
}

/// The kernels that a variant boots.
fn kernels_for(workspace: &Workspace, variant: &Variant, selection: &Selection) -> Vec<Kernel> {
    let mut kernels = workspace.kernels();
    kernels.retain(|kernel| {
        // A boot test's cases can be selected one by one when it runs; an example is one case.
        let selected = kernel.kind == KernelKind::BootTest || matches_filter(kernel, selection.filter.as_deref());
        selected && workspace.settings(kernel).allows(variant)
    });
    kernels
}

fn matches_filter(kernel: &Kernel, filter: Option<&str>) -> bool {
    filter.is_none_or(|filter| kernel.name.contains(filter))
}

/// Prints what [`run`] would do.
pub(crate) fn list(workspace: &Workspace, selection: &Selection) {
    if selection.with_checks {
        host::check_names().for_each(|name| println!("check: {name}"));
    }
    println!("host tests");
    for variant in &selection.variants {
        for kernel in kernels_for(workspace, variant, selection) {
            println!("{variant}: {}", kernel.name);
        }
        if traced_kernel(workspace, variant, selection).is_some() {
            println!("{variant}: {TRACE}");
        }
    }
}

/// Builds and boots a variant's kernels of one kind.
fn boot_kernels(
    workspace: &Workspace,
    source: &RustSource,
    variant: &Variant,
    kind: KernelKind,
    selection: &Selection,
) -> Vec<Row> {
    let mut kernels = kernels_for(workspace, variant, selection);
    kernels.retain(|kernel| kernel.kind == kind);
    if kernels.is_empty() {
        return Vec::new();
    }
    let what = format!("{variant}: building the {}", kind.plural());
    let step = Step::start(what.clone());
    let started = Instant::now();
    match kernel_build::build(workspace, source, variant, &kernels, &step) {
        Ok(images) => {
            step.finish(&format!("{} kernels", images.len()));
            images.iter().filter_map(|image| boot_image(workspace, variant, image, selection)).collect()
        }
        Err(error) => {
            step.finish("FAILED");
            eprintln!("error: {error:#}");
            vec![Row { what, count: Count { passed: 0, failed: 1 }, took: started.elapsed() }]
        }
    }
}

/// Boots one image; nothing where no case of it was selected.
fn boot_image(workspace: &Workspace, variant: &Variant, image: &Image, selection: &Selection) -> Option<Row> {
    let what = format!("{variant}: {}", image.kernel.name);
    let settings = workspace.settings(&image.kernel);
    let whole = matches_filter(&image.kernel, selection.filter.as_deref());
    let boot = Boot {
        cpu: variant.cpu.to_owned(),
        cpus: settings.cpus,
        limit: Some(selection.limit),
        gdb: false,
        icount: settings.icount,
        append: selection.filter.clone().filter(|_| !whole),
        more: Vec::new(),
    };
    let step = Step::start(what.clone());
    let started = Instant::now();
    let (verdict, shown) = match qemu::boot(&image.path, &boot, |line| step.note(line)) {
        Ok(outcome) => (judge(&image.kernel, whole, &outcome), outcome.last_lines()),
        Err(error) => (Verdict { passed: 0, failed: 1, problems: vec![format!("{error:#}")] }, String::new()),
    };
    if verdict.failed == 0 {
        step.finish(&format!("{} passed", verdict.passed));
    } else {
        step.finish("FAILED");
        verdict.problems.iter().for_each(|problem| eprintln!("    {problem}"));
        eprint!("{shown}");
        eprintln!("    the image: {}", image.path.display());
    }
    let count = Count { passed: verdict.passed, failed: verdict.failed };
    (count != Count::default()).then(|| Row { what, count, took: started.elapsed() })
}

/// The kernel that is traced, if that is selected.
fn traced_kernel(workspace: &Workspace, variant: &Variant, selection: &Selection) -> Option<Kernel> {
    let is_selected = selection.filter.as_deref().is_none_or(|filter| TRACE.contains(filter));
    let kernel = workspace.kernels().into_iter().find(|kernel| kernel.name == trace::proof::KERNEL)?;
    (is_selected && workspace.settings(&kernel).allows(variant)).then_some(kernel)
}

/// Traces the demo, and has the traces checked.
fn trace_demo(workspace: &Workspace, source: &RustSource, variant: &Variant, selection: &Selection) -> Option<Row> {
    let kernel = traced_kernel(workspace, variant, selection)?;
    let what = format!("{variant}: {TRACE}");
    let (step, started) = (Step::start(what.clone()), Instant::now());
    let directory = workspace.target_dir.join("trace").join(variant.name);
    let proved = kernel_build::build(workspace, source, variant, &[kernel], &step).and_then(|images| {
        let image = images.first().context("no kernel was built")?;
        trace::proof::run(&image.path, variant, &directory, &step)
    });
    let count = match proved {
        Ok(Proved { traces, left_out }) => {
            step.finish(&format!("{traces} passed"));
            for reader in left_out {
                eprintln!("    LEFT OUT: {reader} is not installed, and read nothing");
            }
            Count { passed: traces, failed: 0 }
        }
        Err(error) => {
            step.finish("FAILED");
            eprintln!("    {error:#}");
            eprintln!("    the traces: {}", directory.display());
            Count { passed: 0, failed: 1 }
        }
    };
    Some(Row { what, count, took: started.elapsed() })
}

/// Judges a boot. The bench kernel must also have told what `cargo xtask bench` reads; `whole` says that all its cases ran.
fn judge(kernel: &Kernel, whole: bool, outcome: &Outcome) -> Verdict {
    let mut verdict = console::judge(outcome);
    if kernel.name == bench::KERNEL && whole && verdict.failed == 0 {
        verdict.problems = bench::problems(&outcome.console);
        verdict.failed = verdict.problems.len();
    }
    verdict
}

/// Prints the table and the sum. The sum is the last line, alone, because tools read it.
fn summarise(rows: &[Row], took: Duration) -> bool {
    let width = rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
    println!();
    for Row { what, count: Count { passed, failed }, took } in rows {
        let mark = if *failed == 0 { "" } else { "  <-- FAILED" };
        println!("  {what:width$}  {passed:5} passed {failed:3} failed  {:>10}{mark}", in_words(*took));
    }
    let passed: usize = rows.iter().map(|row| row.count.passed).sum();
    let failed: usize = rows.iter().map(|row| row.count.failed).sum();
    println!("\n  all in {}", in_words(took));
    println!("{passed} passed, {failed} failed");
    failed == 0
}
