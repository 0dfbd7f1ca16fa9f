//! What runs on the host: the checks of style, and the tests that need no boot.

use std::process::{Command, Output};

use anyhow::{Context, Result};
use cargo_fentry::left_out::LEFT_OUT;
use cargo_fentry::progress::Step;

use crate::header;
use crate::kernels::toolchain::{self, RustSource, cargo, kernel_cargo};
use crate::kernels::variant::HARD_FLOAT;
use crate::kernels::workspace::{Kernel, KernelKind, Workspace};
use crate::rooms::{self, Verdict};

/// One check, and the component of the toolchain that it needs.
struct Check {
    what: &'static str,
    component: Option<&'static str>,
    by: By,
}

/// What does a check's work.
enum By {
    /// A command, where what it needs is there.
    Cargo(fn(&Workspace, Option<&RustSource>) -> Option<Command>),
    /// Our own check of the crates' imports.
    Rooms,
    /// Whether the C header is what the crate says.
    Header,
}

/// The folders of the crates whose first page has an order of rooms.
const WITH_ROOMS: [&str; 2] = ["", "verify/"];

/// The packages of the examples that are no kernels of their own: they stand on the support of the tests.
const ON_SUPPORT: [&str; 3] = ["console", "demo", "patients"];

/// Every check, the quickest first.
const CHECKS: [Check; 11] = [
    Check { what: "formatting", component: Some("fmt"), by: By::Cargo(formatting) },
    Check { what: "imports between the rooms", component: None, by: By::Rooms },
    Check { what: "the C header", component: None, by: By::Header },
    Check { what: "clippy for the host", component: Some("clippy"), by: By::Cargo(clippy_host) },
    Check { what: "clippy without features", component: Some("clippy"), by: By::Cargo(clippy_bare) },
    Check { what: "clippy of the fakes alone", component: Some("clippy"), by: By::Cargo(clippy_fakes) },
    Check { what: "clippy of the C interface alone", component: Some("clippy"), by: By::Cargo(clippy_capi) },
    Check { what: "clippy for arm64", component: Some("clippy"), by: By::Cargo(clippy_arm64) },
    Check { what: "clippy of the examples", component: Some("clippy"), by: By::Cargo(clippy_examples) },
    Check { what: "clippy of the demo", component: Some("clippy"), by: By::Cargo(clippy_demo) },
    Check { what: "documentation", component: None, by: By::Cargo(documentation) },
];

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// What tests have said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tested {
    pub(crate) count: Count,
    /// The tests that could not do their work, each with the reason. They have not passed.
    pub(crate) left_out: Vec<String>,
}

/// The names of the checks.
pub(crate) fn check_names() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|check| check.what)
}

/// Runs every check, shows what is wrong, and gives the names of those that failed.
///
/// Without the source of `core`, what needs it is left out.
pub(crate) fn check(workspace: &Workspace, source: Option<&RustSource>) -> Result<Vec<&'static str>> {
    let mut failed = Vec::new();
    for check in CHECKS {
        let step = Step::start(check.what);
        match check.run(workspace, source)? {
            Outcome::Good(how) => step.finish(&how),
            Outcome::LeftOut(why) => step.finish(&format!("left out, because {why};")),
            Outcome::Wrong(complaint) => {
                step.finish("FAILED");
                eprint!("{complaint}");
                failed.push(check.what);
            }
        }
    }
    Ok(failed)
}

/// How a check went.
enum Outcome {
    Good(String),
    LeftOut(&'static str),
    Wrong(String),
}

impl Check {
    fn run(&self, workspace: &Workspace, source: Option<&RustSource>) -> Result<Outcome> {
        if self.component.is_some_and(|component| !has_component(workspace, component)) {
            return Ok(Outcome::LeftOut("this toolchain does not have it"));
        }
        match self.by {
            By::Cargo(command) => {
                let Some(mut command) = command(workspace, source) else {
                    return Ok(Outcome::LeftOut("the source of core is missing"));
                };
                let output = command.output().with_context(|| format!("cargo does not start for {}", self.what))?;
                if output.status.success() {
                    return Ok(Outcome::Good("good".to_owned()));
                }
                Ok(Outcome::Wrong(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()))
            }
            By::Rooms => {
                let mut counts = Vec::new();
                for crate_with_rooms in WITH_ROOMS {
                    match rooms::check(&workspace.root.join(crate_with_rooms))? {
                        Verdict::Holds(count) => counts.push(count),
                        Verdict::Broken(wrong) => {
                            let lines: String =
                                wrong.iter().map(|line| format!("{crate_with_rooms}{line}\n")).collect();
                            return Ok(Outcome::Wrong(lines));
                        }
                    }
                }
                Ok(Outcome::Good(format!("good ({})", counts.join("; "))))
            }
            By::Header => Ok(match header::check(&workspace.root)? {
                None => Outcome::Good("good".to_owned()),
                Some(wrong) => Outcome::Wrong(wrong),
            }),
        }
    }
}

fn has_component(workspace: &Workspace, component: &str) -> bool {
    let mut ask = cargo();
    ask.args([component, "--version"]).current_dir(&workspace.root);
    toolchain::output_of(&mut ask, "is it there").is_ok()
}

fn in_root(workspace: &Workspace, args: &[&str]) -> Command {
    let mut command = cargo();
    command.current_dir(&workspace.root).args(args);
    command
}

fn formatting(workspace: &Workspace, _source: Option<&RustSource>) -> Option<Command> {
    Some(in_root(workspace, &["fmt", "--all", "--check"]))
}

fn clippy_host(workspace: &Workspace, _source: Option<&RustSource>) -> Option<Command> {
    Some(in_root(workspace, &["clippy", "--quiet", "--locked", "--all-targets", "--", "-D", "warnings"]))
}

/// Clippy of the crate as a kernel without modules has it.
fn clippy_bare(workspace: &Workspace, _source: Option<&RustSource>) -> Option<Command> {
    Some(in_root(
        workspace,
        &["clippy", "--quiet", "--locked", "-p", "fentry", "--no-default-features", "--", "-D", "warnings"],
    ))
}

/// Clippy of the crate as the host tests of a kernel without modules have it.
fn clippy_fakes(workspace: &Workspace, _source: Option<&RustSource>) -> Option<Command> {
    let features = ["--no-default-features", "--features", "fakes"];
    let mut command = in_root(workspace, &["clippy", "--quiet", "--locked", "-p", "fentry"]);
    command.args(features).args(["--", "-D", "warnings"]);
    Some(command)
}

/// Clippy of the crate as a kernel in C has it, but for the host.
fn clippy_capi(workspace: &Workspace, _source: Option<&RustSource>) -> Option<Command> {
    let features = ["--no-default-features", "--features", "capi"];
    let mut command = in_root(workspace, &["clippy", "--quiet", "--locked", "-p", "fentry"]);
    command.args(features).args(["--", "-D", "warnings"]);
    Some(command)
}

/// Clippy of what is built for arm64, in a target directory of its own: the crate, the boot tests, their modules.
fn clippy_arm64(workspace: &Workspace, source: Option<&RustSource>) -> Option<Command> {
    let mut cargo = clippy_kernels(workspace, source?, |kernel| kernel.kind == KernelKind::BootTest);
    cargo.args(["--package", "fentry", "--lib", "--features", "fentry/capi"]);
    for module in &workspace.modules {
        cargo.args(["--package", &module.package]);
    }
    cargo.args(["--", "-D", "warnings"]);
    Some(cargo)
}

/// Clippy of the examples that are kernels of their own. Apart, because the features that the boot tests need are not theirs.
fn clippy_examples(workspace: &Workspace, source: Option<&RustSource>) -> Option<Command> {
    let mut cargo =
        clippy_kernels(workspace, source?, |kernel| kernel.kind == KernelKind::Example && !stands_on_support(kernel));
    cargo.args(["--", "-D", "warnings"]);
    Some(cargo)
}

fn stands_on_support(kernel: &Kernel) -> bool {
    ON_SUPPORT.contains(&kernel.package.as_str())
}

/// Clippy of the examples that stand on the tests' support and have the crate with its features.
fn clippy_demo(workspace: &Workspace, source: Option<&RustSource>) -> Option<Command> {
    let mut cargo = clippy_kernels(workspace, source?, stands_on_support);
    cargo.args(["--", "-D", "warnings"]);
    Some(cargo)
}

fn clippy_kernels(workspace: &Workspace, source: &RustSource, is_meant: fn(&Kernel) -> bool) -> Command {
    let mut cargo = kernel_cargo(workspace, source);
    cargo.args(["clippy", "--quiet", "--locked", "-Zbuild-std=core,alloc", "--target", HARD_FLOAT, "--target-dir"]);
    cargo.arg(workspace.target_dir.join("kernels/clippy"));
    for kernel in workspace.kernels.iter().filter(|kernel| is_meant(kernel)) {
        cargo.args(["--package", &kernel.package, "--bin", &kernel.name]);
    }
    cargo
}

fn documentation(workspace: &Workspace, _source: Option<&RustSource>) -> Option<Command> {
    let mut cargo = in_root(workspace, &["doc", "--quiet", "--locked", "--no-deps"]);
    cargo.env("RUSTDOCFLAGS", "-D warnings");
    Some(cargo)
}

/// Runs the tests of the workspace's host packages, those whose names contain `filter`, and counts them.
pub(crate) fn test(workspace: &Workspace, filter: Option<&str>) -> Result<Tested> {
    let mut cargo = in_root(workspace, &["test", "--locked", "--no-fail-fast"]);
    cargo.arg("--").args(filter);
    let output = cargo.output().context("cargo does not start for the host tests")?;
    Ok(judge(&output))
}

/// Counts what `cargo test` says, and shows all of it where something is wrong.
pub(crate) fn judge(output: &Output) -> Tested {
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let mut tested = read(&said, &complained);
    if !output.status.success() {
        // What did not compile has no line with its result.
        tested.count.failed = tested.count.failed.max(1);
        eprint!("{complained}{said}");
    }
    tested
}

/// Sums all lines `test result: ok. 8 passed; 0 failed; ...`, and takes back the tests that were left out.
fn read(said: &str, complained: &str) -> Tested {
    let mut count = Count::default();
    for line in said.lines().filter(|line| line.starts_with("test result: ")) {
        let number_before = |word: &str| {
            let (before, _) = line.split_once(word)?;
            before.trim_end().rsplit(' ').next()?.parse::<usize>().ok()
        };
        count.passed += number_before(" passed").unwrap_or(0);
        count.failed += number_before(" failed").unwrap_or(0);
    }
    let left_out: Vec<String> =
        complained.lines().filter_map(|line| line.strip_prefix(LEFT_OUT)).map(str::to_owned).collect();
    // The harness has no third outcome, and takes their return for success.
    count.passed = count.passed.saturating_sub(left_out.len());
    Tested { count, left_out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_test_programs_are_summed() {
        let said = "running 3 tests\n...\n\
                    test result: ok. 11 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                    test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n";
        assert_eq!(read(said, "").count, Count { passed: 12, failed: 2 });
        assert_eq!(read("", "").count, Count::default());
    }

    #[test]
    fn what_was_left_out_has_not_passed() {
        let said = "test result: ok. 11 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        let complained = "   Compiling fentry\nLEFT OUT: a::b: uftrace is not installed\nwarning: x\n";
        let Tested { count, left_out } = read(said, complained);
        assert_eq!(count, Count { passed: 10, failed: 0 });
        assert_eq!(left_out, ["a::b: uftrace is not installed"]);
    }
}
