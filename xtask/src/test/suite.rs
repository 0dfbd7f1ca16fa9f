//! The whole suite: checks, host tests, and every kernel booted in every variant, with one summary.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cargo_fentry::progress::{Step, in_words};
use cargo_fentry::qemu::{self, Boot, Outcome};

use crate::bench;
use crate::cfi_proof;
use crate::kernels::build::{self, Image};
use crate::kernels::c;
use crate::kernels::console::{self, Verdict};
use crate::kernels::modules;
use crate::kernels::toolchain::RustSource;
use crate::kernels::variant::{VARIANTS, Variant};
use crate::kernels::workspace::{Kernel, KernelKind, Workspace};
use crate::test::host::{self, Count, Tested};
use crate::test::kept_memory;
use crate::test::miri;
use crate::test::packages;
use crate::test::verify::Verifier;
use crate::test::{asked, c_kernels};
use crate::trace::{self, proof::Proved};

/// What runs without a boot.
const HOST_TESTS: &str = "host tests";
const MIRI: &str = "Miri";
/// The name of what checks a kernel's traces.
const TRACE: &str = "trace";
/// The name of what takes the packed crates elsewhere.
const PACKAGES: &str = "packages";

/// The kernel that is executed one instruction at a time, the variant, which signs return addresses, and how far.
const STEPPED: (&str, &str) = ("minimal", "hardened42-release");
const STEPS: u64 = 150_000;

/// Tells what is wrong with what a kernel has printed.
type Problems = fn(&[String]) -> Vec<String>;

/// The commands that read what kernels print (`prints = "NAME"`), and how each finds out that it could not.
const READERS: [(&str, Problems); 1] = [("bench", bench::problems)];

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// Only kernels and tests whose names contain this.
    pub(crate) filter: Option<String>,
    pub(crate) variants: Vec<&'static Variant>,
    pub(crate) with_checks: bool,
    pub(crate) with_miri: bool,
    /// After how long a boot counts as hung.
    pub(crate) limit: Duration,
}

/// A line of the summary.
pub(super) struct Row {
    what: String,
    count: Count,
    took: Duration,
    /// What could not be done, each with the reason: said once more at the end.
    left_out: Vec<String>,
}

impl Row {
    pub(super) fn new(what: impl Into<String>, count: Count, took: Duration) -> Self {
        Self { what: what.into(), count, took, left_out: Vec::new() }
    }

    pub(super) fn has_passed(&self) -> bool {
        self.count.failed == 0
    }

    pub(super) fn with_left_out(self, left_out: Vec<String>) -> Self {
        Self { left_out, ..self }
    }
}

/// Runs the selection, prints the summary, and says whether all passed.
///
/// Boots need the source of `core`. Where what they need could not be had, all else runs, and that is a failure.
pub(crate) fn run(workspace: &Workspace, source: Result<Option<RustSource>>, selection: &Selection) -> Result<bool> {
    let mut rows = Vec::new();
    let failure = Count { passed: 0, failed: 1 };
    let source = source.unwrap_or_else(|error| {
        eprintln!("error: nothing can be booted: {error:#}");
        rows.push(Row::new("getting what boots need", failure, Duration::ZERO));
        None
    });
    let started = Instant::now();
    if selection.with_checks {
        let failed = host::check(workspace, source.as_ref())?;
        rows.extend(failed.into_iter().map(|what| Row::new(what, failure, Duration::ZERO)));
    }
    rows.push(test_host(workspace, selection)?);
    if selection.with_miri {
        rows.extend(test_under_miri(workspace, None, miri::Extent::Suite)?);
    }
    if let Some(source) = &source {
        rows.extend(boot_all(workspace, source, selection));
    }
    if has_packages(selection) {
        rows.push(take_packages(workspace, source.as_ref()));
    }
    Ok(summarise(&rows, selection.filter.as_deref(), started.elapsed()))
}

/// Runs the host's own tests.
fn test_host(workspace: &Workspace, selection: &Selection) -> Result<Row> {
    let (step, started) = (Step::start(HOST_TESTS), Instant::now());
    let Tested { count, left_out } = host::test(workspace, selection.filter.as_deref())?;
    step.finish(&how(count));
    Ok(Row { left_out, ..Row::new(HOST_TESTS, count, started.elapsed()) })
}

/// Runs the host's own tests under Miri.
fn test_under_miri(workspace: &Workspace, filter: Option<&str>, extent: miri::Extent) -> Result<Vec<Row>> {
    Ok(match miri::run(workspace, filter, extent)? {
        miri::Outcome::LeftOut(reason) => {
            let left_out = vec![format!("{MIRI}: {reason}")];
            vec![Row { left_out, ..Row::new(MIRI, Count::default(), Duration::ZERO) }]
        }
        miri::Outcome::Ran(runs) => {
            let row = |run: miri::Run| {
                let row = Row::new(format!("{MIRI}, {}", run.model), run.tested.count, run.took);
                Row { left_out: run.tested.left_out, ..row }
            };
            runs.into_iter().map(row).collect()
        }
    })
}

/// Runs the host tests under Miri alone, prints the summary, and says whether all passed. That there is no Miri is no failure.
pub(crate) fn run_miri(workspace: &Workspace, filter: Option<&str>) -> Result<bool> {
    let started = Instant::now();
    let rows = test_under_miri(workspace, filter, miri::Extent::All)?;
    let is_left_out = rows.iter().any(|row| !row.left_out.is_empty());
    Ok(summarise(&rows, filter, started.elapsed()) || is_left_out)
}

/// How a step went, in few words.
fn how(count: Count) -> String {
    if count.failed == 0 { format!("{} passed", count.passed) } else { "FAILED".to_owned() }
}

/// The kernels that a variant boots.
fn kernels_for(workspace: &Workspace, variant: &Variant, selection: &Selection) -> Vec<Kernel> {
    let is_meant =
        |kernel: &&Kernel| kernel.has(selection.filter.as_deref()) && kernel.settings.variants.contains(variant);
    workspace.kernels.iter().filter(is_meant).cloned().collect()
}

/// Whether anything of the selection boots.
pub(crate) fn boots_any(workspace: &Workspace, selection: &Selection) -> bool {
    has_packages(selection)
        || selection.variants.iter().any(|variant| {
            let traces = traced_kernels(workspace, variant, selection).next().is_some();
            let in_c = c::kernels_for(workspace, variant, selection.filter.as_deref()).next().is_some();
            traces || in_c || !kernels_for(workspace, variant, selection).is_empty()
        })
}

/// Prints what [`run`] would do.
pub(crate) fn list(workspace: &Workspace, selection: &Selection) {
    if selection.with_checks {
        host::check_names().for_each(|name| println!("check: {name}"));
    }
    println!("{HOST_TESTS}");
    if selection.with_miri {
        println!("{HOST_TESTS} under {MIRI}");
    }
    for variant in &selection.variants {
        for kernel in kernels_for(workspace, variant, selection) {
            println!("{variant}: {}", kernel.name);
        }
        for kernel in c::kernels_for(workspace, variant, selection.filter.as_deref()) {
            println!("{variant}: {}", kernel.name);
        }
        for _ in traced_kernels(workspace, variant, selection) {
            println!("{variant}: {TRACE}");
        }
    }
    if has_packages(selection) {
        println!("{PACKAGES}");
    }
}

/// How many variants may have been built and not yet booted.
const BUILT_AHEAD: usize = 1;

/// A variant's kernels of one kind, or why there are none.
type Built = (&'static Variant, KernelKind, Result<Vec<Image>, Row>);

/// Builds the kernels of each variant, and boots them while the next ones are built.
fn boot_all(workspace: &Workspace, source: &RustSource, selection: &Selection) -> Vec<Row> {
    thread::scope(|scope| {
        let (built, to_boot) = mpsc::sync_channel::<Built>(BUILT_AHEAD * KernelKind::ALL.len());
        scope.spawn(move || {
            let groups = selection.variants.iter().flat_map(|variant| KernelKind::ALL.map(|kind| (*variant, kind)));
            for (variant, kind) in groups {
                let images = build_kernels(workspace, source, variant, kind, selection);
                // Nobody boots any more: that thread has panicked, and tells why.
                if built.send((variant, kind, images)).is_err() {
                    return;
                }
            }
        });
        let mut rows = Vec::new();
        let (mut files, mut stepped) = (Vec::new(), None);
        let mut verifier = Verifier::new(workspace).map_err(|error| {
            eprintln!("error: nothing can be verified: {error:#}");
            rows.push(Row::new("verifying", Count { passed: 0, failed: 1 }, Duration::ZERO));
        });
        for (variant, kind, images) in to_boot {
            match images {
                Ok(images) => {
                    rows.extend(boot_images(variant, &images, selection));
                    files.extend(images.iter().map(|image| image.path.clone()));
                    let image = images.iter().find(|image| (image.kernel.name.as_str(), variant.name) == STEPPED);
                    stepped = image.map(|image| image.path.clone()).or(stepped);
                    if images.iter().any(|image| image.kernel.settings.modules) {
                        match modules::built(workspace, variant) {
                            Ok(modules) => files.extend(modules),
                            Err(error) => {
                                eprintln!("error: {variant}: the modules can't be verified: {error:#}");
                                let what = format!("{variant}: finding the modules");
                                rows.push(Row::new(what, Count { passed: 0, failed: 1 }, Duration::ZERO));
                            }
                        }
                    }
                }
                Err(row) => rows.push(row),
            }
            // What is traced is an example, and built by now.
            if kind == KernelKind::Example {
                rows.extend(c_kernels::boot(workspace, source, variant, selection, &mut files));
                rows.extend(stepped.take().map(|image: PathBuf| prove_frames(variant, &image)));
                let files = std::mem::take(&mut files);
                if let (Ok(verifier), false) = (&mut verifier, files.is_empty()) {
                    rows.push(verifier.verify(format!("{variant}: verifying"), &files));
                }
                for (kernel, functions) in traced_kernels(workspace, variant, selection) {
                    rows.push(check_traces(workspace, source, variant, kernel, functions));
                }
                rows.extend(ask_console(workspace, source, variant, selection));
            }
        }
        let is_all = selection.filter.is_none() && selection.variants.len() == VARIANTS.len();
        rows.extend(verifier.ok().filter(|_| is_all).and_then(|verifier| verifier.unneeded()));
        rows
    })
}

/// Builds a variant's kernels of one kind.
fn build_kernels(
    workspace: &Workspace,
    source: &RustSource,
    variant: &Variant,
    kind: KernelKind,
    selection: &Selection,
) -> Result<Vec<Image>, Row> {
    let mut kernels = kernels_for(workspace, variant, selection);
    kernels.retain(|kernel| kernel.kind == kind);
    if kernels.is_empty() {
        return Ok(Vec::new());
    }
    let what = format!("{variant}: building the {}", kind.plural());
    let (step, started) = (Step::start(what.clone()), Instant::now());
    match build::images(workspace, source, variant, &kernels, &step) {
        Ok(images) => {
            step.finish(&format!("{} kernels", images.len()));
            Ok(images)
        }
        Err(error) => {
            step.finish_with("FAILED", &format!("error: {error:#}\n"));
            Err(Row::new(what, Count { passed: 0, failed: 1 }, started.elapsed()))
        }
    }
}

/// Boots images: one by one where the emulator has a thread for each of several CPUs, the others two at a time.
fn boot_images(variant: &Variant, images: &[Image], selection: &Selection) -> Vec<Row> {
    let has_threads = |image: &Image| image.kernel.settings.cpus > 1 && !image.kernel.settings.icount;
    let (with_threads, without): (Vec<_>, Vec<_>) =
        images.iter().enumerate().partition(|(_, image)| has_threads(image));
    let boot = |(at, image): (usize, &Image)| (at, boot_image(variant, image, selection));
    let next = AtomicUsize::new(0);
    let some_of_the_others = || -> Vec<_> {
        let taken = || without.get(next.fetch_add(1, Ordering::Relaxed));
        core::iter::from_fn(taken).map(|image| boot(*image)).collect()
    };
    let mut rows = thread::scope(|scope| {
        let helper = scope.spawn(some_of_the_others);
        let mut rows = some_of_the_others();
        rows.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        rows
    });
    rows.extend(with_threads.into_iter().map(boot));
    rows.sort_by_key(|(at, _)| *at);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Boots one image, with the cases that are selected.
fn boot_image(variant: &Variant, image: &Image, selection: &Selection) -> Row {
    let what = format!("{variant}: {}", image.kernel.name);
    let whole = image.kernel.is_named(selection.filter.as_deref());
    let append = selection.filter.clone().filter(|_| !whole);
    let boot = Boot { limit: Some(selection.limit), append, ..image.kernel.boot(variant) };
    let step = Step::start(what.clone());
    let started = Instant::now();
    let booted = match image.kernel.settings.boots {
        1 => qemu::boot(&image.path, &boot, |line| step.note(line))
            .map(|outcome| (judge(&image.kernel, whole, &outcome), outcome.last_lines())),
        boots => {
            let directory = image.path.with_extension("memory");
            let judge = |outcome: &Outcome| judge(&image.kernel, whole, outcome);
            kept_memory::boot(&image.path, &boot, boots, &directory, &step, judge)
        }
    };
    let (verdict, shown) = booted.unwrap_or_else(|error| {
        (Verdict { passed: 0, failed: 1, problems: vec![format!("{error:#}")] }, String::new())
    });
    if verdict.failed == 0 {
        step.finish(&format!("{} passed", verdict.passed));
    } else {
        let mut report = String::new();
        for problem in &verdict.problems {
            let _ = writeln!(report, "    {problem}");
        }
        let _ = writeln!(report, "{shown}    the image: {}", image.path.display());
        step.finish_with("FAILED", &report);
    }
    let count = Count { passed: verdict.passed, failed: verdict.failed };
    let left_out = image.left_out.iter().map(|left_out| format!("{what}: {left_out}")).collect();
    Row { left_out, ..Row::new(what, count, started.elapsed()) }
}

/// The kernels whose traces are checked, if that is selected, each with its functions that are traced.
fn traced_kernels<'a>(
    workspace: &'a Workspace,
    variant: &'a Variant,
    selection: &Selection,
) -> impl Iterator<Item = (&'a Kernel, &'a str)> {
    let is_selected = selection.filter.as_deref().is_none_or(|filter| TRACE.contains(filter));
    let is_meant = move |kernel: &&Kernel| is_selected && kernel.settings.variants.contains(variant);
    let kernels = workspace.kernels.iter().filter(is_meant);
    kernels.filter_map(|kernel| Some((kernel, kernel.settings.traced.as_deref()?)))
}

/// Executes a kernel one instruction at a time, and compares its frames with what `verify` says of them.
fn prove_frames(variant: &Variant, image: &Path) -> Row {
    let what = format!("{variant}: frames, step by step");
    let (step, started) = (Step::start(what.clone()), Instant::now());
    let proof = cfi_proof::prove(image, variant.cpu, STEPS).and_then(|proof| proof.check().map(|()| proof.steps));
    let count = match proof {
        Ok(steps) => {
            step.finish(&format!("{steps} instructions"));
            Count { passed: 1, failed: 0 }
        }
        Err(error) => {
            step.finish_with("FAILED", &format!("    {error:#}\n"));
            Count { passed: 0, failed: 1 }
        }
    };
    Row::new(what, count, started.elapsed())
}

/// Traces these functions of a kernel, and has the traces checked.
fn check_traces(
    workspace: &Workspace,
    source: &RustSource,
    variant: &Variant,
    kernel: &Kernel,
    functions: &str,
) -> Row {
    let what = format!("{variant}: {TRACE}");
    let (step, started) = (Step::start(what.clone()), Instant::now());
    let directory = workspace.target_dir.join("trace").join(variant.name);
    let proved = build::images(workspace, source, variant, std::slice::from_ref(kernel), &step).and_then(|images| {
        let image = images.first().context("no kernel was built")?;
        trace::proof::run(&image.path, functions, variant, &directory, &step)
    });
    let (count, left_out) = match proved {
        Ok(Proved { traces, left_out }) => {
            step.finish(&format!("{traces} passed"));
            let reader = |name| format!("{what}: {name} is not installed, and read nothing");
            (Count { passed: traces, failed: 0 }, left_out.into_iter().map(reader).collect())
        }
        Err(error) => {
            step.finish_with("FAILED", &format!("    {error:#}\n    the traces: {}\n", directory.display()));
            (Count { passed: 0, failed: 1 }, Vec::new())
        }
    };
    Row { left_out, ..Row::new(what, count, started.elapsed()) }
}

/// Asks the kernel `console`, if it is selected, in the default variant: what differs between variants is below it.
fn ask_console(workspace: &Workspace, source: &RustSource, variant: &Variant, selection: &Selection) -> Option<Row> {
    let kernel = workspace.kernel(asked::KERNEL).ok()?;
    if variant != Variant::default() || !kernel.is_named(selection.filter.as_deref()) {
        return None;
    }
    let what = format!("{variant}: {}, asked by lines", kernel.name);
    let (step, started) = (Step::start(what.clone()), Instant::now());
    let directory = workspace.target_dir.join("trace").join(&kernel.name);
    let asked = build::images(workspace, source, variant, std::slice::from_ref(kernel), &step).and_then(|images| {
        let image = images.first().context("no kernel was built")?;
        let boot = Boot { limit: Some(selection.limit), ..kernel.boot(variant) };
        asked::run(&image.path, &boot, &directory)
    });
    let count = match asked {
        Ok(lines) => {
            step.finish(&format!("{lines} lines passed"));
            Count { passed: 1, failed: 0 }
        }
        Err(error) => {
            step.finish_with("FAILED", &format!("    {error:#}\n"));
            Count { passed: 0, failed: 1 }
        }
    };
    Some(Row::new(what, count, started.elapsed()))
}

/// Whether the packed crates are selected. Their kernel is built as the default variant is, for itself.
fn has_packages(selection: &Selection) -> bool {
    let is_named = selection.filter.as_deref().is_none_or(|filter| PACKAGES.contains(filter));
    is_named && selection.variants.contains(&Variant::default())
}

/// Packs the crates, and puts them to use where this repository is not.
fn take_packages(workspace: &Workspace, source: Option<&RustSource>) -> Row {
    let Some(source) = source else {
        let left_out = vec![format!("{PACKAGES}: the source of core is missing")];
        return Row { left_out, ..Row::new(PACKAGES, Count::default(), Duration::ZERO) };
    };
    let (step, started) = (Step::start(PACKAGES), Instant::now());
    let (count, left_out) = match packages::run(workspace, source, &step) {
        Ok(packages::Proved { traces, left_out }) => {
            step.finish(&format!("{traces} passed"));
            let why = |why| format!("{PACKAGES}: {why}");
            (Count { passed: traces, failed: 0 }, left_out.into_iter().map(why).collect())
        }
        Err(error) => {
            step.finish("FAILED");
            eprintln!("    {error:#}");
            (Count { passed: 0, failed: 1 }, Vec::new())
        }
    };
    Row { left_out, ..Row::new(PACKAGES, count, started.elapsed()) }
}

/// Judges a boot. Where all cases ran (`whole`), the command that reads what the kernel prints must have been able to.
fn judge(kernel: &Kernel, whole: bool, outcome: &Outcome) -> Verdict {
    let mut verdict = console::judge(outcome, kernel.kind);
    if let Some(command) = &kernel.settings.prints
        && whole
        && verdict.failed == 0
    {
        verdict.problems = match READERS.iter().find(|(name, _)| name == command) {
            Some((_, problems)) => problems(&outcome.console),
            None => vec![format!("no command {command} reads what a kernel prints")],
        };
        verdict.failed = verdict.problems.len();
    }
    // It was booted for what its source lists.
    if verdict == Verdict::default() {
        verdict = Verdict { failed: 1, problems: vec!["no case was run".to_owned()], ..verdict };
    }
    verdict
}

/// Prints the table and the sum. The sum is the last line, alone, because tools read it.
fn summarise(rows: &[Row], filter: Option<&str>, took: Duration) -> bool {
    let width = rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
    println!();
    for Row { what, count: Count { passed, failed }, took, .. } in rows {
        let mark = if *failed == 0 { "" } else { "  <-- FAILED" };
        println!("  {what:width$}  {passed:5} passed {failed:3} failed  {:>10}{mark}", in_words(*took));
    }
    let left_out: Vec<&String> = rows.iter().flat_map(|row| &row.left_out).collect();
    if !left_out.is_empty() {
        println!();
        left_out.iter().for_each(|what| println!("  LEFT OUT: {what}"));
    }
    let passed: usize = rows.iter().map(|row| row.count.passed).sum();
    let failed: usize = rows.iter().map(|row| row.count.failed).sum();
    println!("\n  all in {}", in_words(took));
    let ran_nothing = passed + failed == 0;
    if ran_nothing {
        let filter = filter.map_or(String::new(), |filter| {
            format!(": no host test, kernel or case selected has {filter:?} in its name")
        });
        eprintln!("error: nothing ran{filter}");
    }
    println!("{passed} passed, {failed} failed");
    failed == 0 && !ran_nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[(usize, usize)]) -> bool {
        let row = |&(passed, failed): &(usize, usize)| Row::new("row", Count { passed, failed }, Duration::ZERO);
        summarise(&rows.iter().map(row).collect::<Vec<_>>(), Some("name"), Duration::ZERO)
    }

    #[test]
    fn a_filter_boots_only_kernels_that_have_a_match() {
        let workspace = Workspace::load().unwrap();
        let selected = |filter: Option<&str>| -> Vec<String> {
            let selection = Selection {
                filter: filter.map(str::to_owned),
                variants: vec![Variant::default()],
                with_checks: false,
                with_miri: false,
                limit: Duration::ZERO,
            };
            let kernels = kernels_for(&workspace, Variant::default(), &selection);
            assert_eq!(boots_any(&workspace, &selection), !kernels.is_empty(), "{filter:?}");
            kernels.into_iter().map(|kernel| kernel.name).collect()
        };
        assert_eq!(selected(Some("no kernel, no case")), Vec::<String>::new());
        assert_eq!(selected(Some("arguments_on_the_stack_arrive")), ["registers"]);
        assert_eq!(selected(Some("minimal")), ["minimal"]);
        assert!(selected(Some("returns")).contains(&"returns_unusual".to_owned()));
        assert!(selected(None).len() > 10);
    }

    #[test]
    fn a_boot_that_ran_no_case_has_failed() {
        let workspace = Workspace::load().unwrap();
        let kernel = workspace.kernel("registers").unwrap();
        let console = ["running 0 tests", "", "test result: ok. 0 passed; 0 failed"].map(str::to_owned).to_vec();
        let outcome = Outcome { end: qemu::End::Exit(0), console };
        assert_eq!(judge(kernel, false, &outcome).problems, ["no case was run"]);
    }

    #[test]
    fn a_selection_in_which_nothing_ran_has_not_passed() {
        assert!(sum(&[(3, 0), (0, 0)]));
        assert!(!sum(&[(3, 0), (2, 1)]));
        assert!(!sum(&[(0, 0)]));
        assert!(!sum(&[]));
    }
}
