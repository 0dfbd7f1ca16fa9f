//! The host tests under Miri, which sees undefined behaviour that a run on the host's own CPU survives.
//!
//! Two models say what a reference promises, and what one of them allows the other may not: the tests run under both, at the
//! same time. Miri is a part of nightly toolchains only. Where there is none, that is said, and nothing has failed.
//!
//! What can't run there, or not in minutes, is in a list here with the reason, or does less of the same under `cfg!(miri)`.
//! The rest takes long.
//!
//! An example has a bug that can be built in. Miri must find it there: a Miri that finds nothing would look the same as code
//! in which nothing is wrong.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use cargo_fentry::progress::{Step, in_words};

use crate::kernels::toolchain;
use crate::kernels::workspace::Workspace;
use crate::test::host::{self, Count, Tested};

/// What the command needs of a nightly toolchain.
const COMPONENTS: [&str; 2] = ["miri", "rust-src"];

/// The models, and the flag that chooses each.
const MODELS: [(&str, Option<&str>); 2] = [("stacked borrows", None), ("tree borrows", Some("-Zmiri-tree-borrows"))];

/// What Miri is asked to run.
const TESTS: [&str; 7] = ["--package", "fentry", "--package", "safe", "--package", EXTENTS, "--lib"];

/// The example with the bug that can be built in, and the feature that does.
const EXTENTS: &str = "extent-status";
const BUG: &str = "use-after-free";

/// The test that meets the bug, and the beginning of the names of those that miss it by one step each.
const MEETS_THE_BUG: &str = "the_report_s_insertion";
const MISS_THE_BUG: &str = "without_the_report_s_";

/// What Miri says of memory that was freed: of a reference, of a pointer.
const FREED: [&str; 2] = ["dangling reference (use-after-free)", "has been freed, so this pointer is dangling"];

/// What all runs are given. Fakes are never freed, as a kernel isn't; addresses of stubs and contexts are exposed.
const FLAGS: &str = "-Zmiri-ignore-leaks -Zmiri-permissive-provenance";

/// Tests that are left to the host, by a part of their names: Miri takes a thousand times as long.
const LEFT_TO_THE_HOST: [(&str, &str); 21] = [
    ("filter::tests::a_rule_of_any_length", "rules of a million letters"),
    ("insn::", "whole instruction fields, and nothing there is unsafe"),
    ("several::as_many_", "every number that an ops and a set can have"),
    ("engine::tests::random::", "a sequence takes minutes, and others take each of its steps"),
    ("regions::where_there_is_no_room_for_a_veneer", "a registration for each veneer that a region can have"),
    ("regions::a_veneer_that_no_callsite", "the same"),
    ("symbols::tests::every_damage_of_one_bit", "thousands of damaged tables"),
    ("symbols::tests::a_damaged_table", "thousands of damaged tables"),
    ("unwind::tests::a_damaged_table", "thousands of damaged tables"),
    ("engine::tests::protocol::", "every order of the steps of a model, and nothing there is unsafe"),
    ("stub::tests::recorder::", "every order of the steps of a model"),
    ("ring::tests::concurrent::", "loom has threads of its own, which Miri has not"),
    ("rounds::tests::concurrent::", "the same"),
    ("flight::giving::", "the same"),
    ("ring::tests::nested::", "every step of every writer interrupted"),
    ("ring::tests::stress::", "minutes of writing; the outside crate has a shorter one"),
    ("tracer::dump::tests::", "thousands of damaged dumps; the outside crate writes and reads some"),
    ("glob::tests::all_small_globs", "every glob of a few letters"),
    ("bad_input::a_damaged_module", "thousands of damaged modules"),
    (
        "bad_input::every_beginning_of_a_kept_input",
        "reads files, which Miri keeps from tests, and loads each thousands of times",
    ),
    ("loading::a_thousand_loads", "a thousand loads"),
];

/// What the suite, whose time is short, has Miri run: the rooms in which references and raw pointers meet, and the outside
/// crate. `cargo xtask miri` runs all.
const IN_THE_SUITE: [&str; 16] = [
    "inject::tests::what_is_attached_to_a_module",
    "shadow::",
    "regs::",
    "ops::",
    "unwind::",
    "stub::exit::",
    "hits::",
    "owned::",
    "context::",
    "counted::",
    "recorded::",
    "tests::bug::",
    "tests::failing::",
    "tests::model::short_memory_",
    "tests::operations::",
    "tests::shrinking::",
];

/// What has such a name as well, and takes long.
const NOT_IN_THE_SUITE: [&str; 5] = ["engine::", "tracer::", "unwind::tests::", "unwind::own::", "unwinder::"];

/// How long each model may take in the suite.
const LIMIT: Duration = Duration::from_secs(600);

/// How much of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All that can run there, however long it takes.
    All,
    /// What the suite has time for.
    Suite,
}

/// Variables by which the pinned toolchain, under which this program runs, would reach into the other one.
const PINNED: [&str; 5] = ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS"];

/// One model's run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) model: &'static str,
    pub(crate) tested: Tested,
    pub(crate) took: Duration,
}

/// What there is to tell.
#[derive(Debug)]
pub(crate) enum Outcome {
    Ran(Vec<Run>),
    /// There is no Miri: the reason.
    LeftOut(String),
}

/// Runs the tests whose names contain `filter` under each model.
pub(crate) fn run(workspace: &Workspace, filter: Option<&str>, extent: Extent) -> Result<Outcome> {
    let step = Step::start("Miri");
    let toolchain = match find(workspace) {
        Ok(toolchain) => toolchain,
        Err(error) => {
            step.finish("left out");
            return Ok(Outcome::LeftOut(format!("{error:#}")));
        }
    };
    step.note("building");
    // First, for both: what each then does at the same time needs no lock.
    let built = output(&mut test(workspace, &toolchain, None, &["--no-run"]))?;
    if !built.status.success() {
        step.finish("FAILED");
        let tested = host::judge(&built);
        return Ok(Outcome::Ran(vec![Run { model: "building", tested, took: Duration::ZERO }]));
    }
    step.note("running");
    let of_model = |(model, flag): (&'static str, Option<&str>)| {
        let started = Instant::now();
        let mut command = test(workspace, &toolchain, flag, &[]);
        command.arg("--").args(filter);
        LEFT_TO_THE_HOST.iter().for_each(|(name, _)| {
            command.args(["--skip", name]);
        });
        let tested = match extent {
            Extent::All => host::judge(&output(&mut command)?),
            Extent::Suite => {
                command.args(IN_THE_SUITE);
                NOT_IN_THE_SUITE.iter().for_each(|name| {
                    command.args(["--skip", name]);
                });
                let log = workspace.target_dir.join(format!("miri-{}.log", model.replace(' ', "-")));
                let mut tested = within(LIMIT, &mut command, &log)?;
                tested
                    .left_out
                    .push(format!("most tests under Miri, {model}: `cargo xtask miri` runs them, and takes long"));
                tested
            }
        };
        Ok(Run { model, tested, took: started.elapsed() })
    };
    let runs: Vec<Result<Run>> = thread::scope(|scope| {
        let started = MODELS.map(|model| scope.spawn(move || of_model(model)));
        started.map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a thread was lost")))).into()
    });
    let mut runs = runs.into_iter().collect::<Result<Vec<_>>>()?;
    if filter.is_none_or(|filter| MEETS_THE_BUG.contains(filter)) {
        runs.push(find_the_bug(workspace, &toolchain)?);
    }
    let failed = runs.iter().any(|run| run.tested.count.failed > 0);
    let passed: Vec<String> =
        runs.iter().map(|run| format!("{} passed under {}", run.tested.count.passed, run.model)).collect();
    step.finish(if failed { "FAILED".to_owned() } else { passed.join(", ") }.as_str());
    Ok(Outcome::Ran(runs))
}

/// Builds the bug in, and has Miri find it: in the test that meets it, and in no other.
fn find_the_bug(workspace: &Workspace, toolchain: &str) -> Result<Run> {
    let started = Instant::now();
    let with_the_bug = |name: &str| {
        let mut cargo = cargo_miri(workspace, toolchain);
        cargo.args(["test", "--package", EXTENTS, "--lib", "--features", BUG, "--locked", "--target-dir"]);
        cargo.arg(workspace.target_dir.join("miri")).args(["--", name]).env("MIRIFLAGS", FLAGS);
        output(&mut cargo)
    };
    let mut tested = host::judge(&with_the_bug(MISS_THE_BUG)?);
    let met = with_the_bug(MEETS_THE_BUG)?;
    let complained = String::from_utf8_lossy(&met.stderr);
    if !met.status.success() && FREED.iter().any(|freed| complained.contains(freed)) {
        tested.count.passed += 1;
    } else {
        tested.count.failed += 1;
        let said = [met.stdout, met.stderr].concat();
        eprint!("Miri has not found the bug of {EXTENTS}'s feature {BUG}\n{}", String::from_utf8_lossy(&said));
    }
    Ok(Run { model: "a bug built in", tested, took: started.elapsed() })
}

/// The toolchain that has Miri; with its components added, where a nightly is there without them.
fn find(workspace: &Workspace) -> Result<String> {
    let mut list = rustup(workspace);
    list.args(["toolchain", "list", "--quiet"]);
    let listed = toolchain::output_of(&mut list, "which toolchains are there")?;
    let toolchain = nightly_in(&listed).context(
        "there is no nightly toolchain; `rustup toolchain install nightly --component miri,rust-src` gets one",
    )?;
    let ask = || {
        let mut cargo = cargo_miri(workspace, toolchain);
        toolchain::output_of(cargo.arg("--version"), "is Miri there")
    };
    if ask().is_err() {
        let mut add = rustup(workspace);
        add.args(["component", "add", "--toolchain", toolchain]).args(COMPONENTS);
        toolchain::output_of(&mut add, "getting Miri")?;
        ask()?;
    }
    // Builds its own standard library, the first time.
    toolchain::output_of(cargo_miri(workspace, toolchain).arg("setup"), "preparing Miri")?;
    Ok(toolchain.to_owned())
}

/// The newest nightly: the one without a date, or else the last.
fn nightly_in(listed: &str) -> Option<&str> {
    let is_dated = |name: &str| name.split('-').nth(1).is_some_and(|word| word.parse::<u32>().is_ok());
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    let nightlies = names.filter(|name| name.starts_with("nightly"));
    nightlies.max_by_key(|name| (!is_dated(name), *name))
}

fn rustup(workspace: &Workspace) -> Command {
    let mut rustup = Command::new("rustup");
    rustup.current_dir(&workspace.root);
    PINNED.iter().for_each(|name| {
        rustup.env_remove(name);
    });
    rustup
}

fn cargo_miri(workspace: &Workspace, toolchain: &str) -> Command {
    let mut cargo = rustup(workspace);
    cargo.args(["run", toolchain, "cargo", "miri"]);
    cargo
}

fn test(workspace: &Workspace, toolchain: &str, flag: Option<&str>, args: &[&str]) -> Command {
    let mut cargo = cargo_miri(workspace, toolchain);
    cargo.arg("test").args(TESTS).args(["--locked", "--no-fail-fast", "--target-dir"]);
    cargo.arg(workspace.target_dir.join("miri")).args(args);
    cargo.env("MIRIFLAGS", format!("{FLAGS} {}", flag.unwrap_or_default()));
    cargo
}

/// Runs the tests for so long at most; what has not run by then is left out.
fn within(limit: Duration, command: &mut Command, log: &Path) -> Result<Tested> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let complaints = file.try_clone().context("cannot share the log")?;
    // A group of its own, since what starts Miri does not end it.
    let child = command.stdin(Stdio::null()).stdout(file).stderr(complaints).process_group(0).spawn();
    let mut child = child.context("rustup does not start for Miri")?;
    let started = Instant::now();
    let status = loop {
        match child.try_wait().context("waiting for Miri")? {
            Some(status) => break Some(status),
            None if started.elapsed() > limit => break None,
            None => thread::sleep(Duration::from_millis(200)),
        }
    };
    let said = || fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()));
    if let Some(status) = status {
        let stdout = said()?.into_bytes();
        return Ok(host::judge(&Output { status, stdout, stderr: Vec::new() }));
    }
    Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status().context("ending Miri")?;
    child.wait().context("waiting for Miri")?;
    let said = said()?;
    let count = |end: &str| said.lines().filter(|line| line.starts_with("test ") && line.ends_with(end)).count();
    let count = Count { passed: count("... ok"), failed: count("... FAILED") };
    Ok(Tested { count, left_out: vec![format!("what Miri has not come to in {}", in_words(limit))] })
}

fn output(command: &mut Command) -> Result<Output> {
    command.output().context("rustup does not start for Miri")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::names;

    #[test]
    fn every_name_is_a_test_s() {
        let all = names::all();
        let left = LEFT_TO_THE_HOST.iter().map(|(name, _)| name);
        for name in left.chain(&IN_THE_SUITE).chain(&NOT_IN_THE_SUITE).chain(&[MEETS_THE_BUG, MISS_THE_BUG]) {
            assert!(all.iter().any(|test| test.contains(name)), "{name}");
        }
    }

    #[test]
    fn the_nightly_without_a_date_is_the_newest() {
        let listed = "stable-x86_64-unknown-linux-gnu\nnightly-2025-11-02-x86_64-unknown-linux-gnu\n\
                      nightly-x86_64-unknown-linux-gnu (active)\n1.95.0-x86_64-unknown-linux-gnu\n";
        assert_eq!(nightly_in(listed), Some("nightly-x86_64-unknown-linux-gnu"));
        assert_eq!(nightly_in("nightly-2025-01-01-x\nnightly-2026-01-01-x\n"), Some("nightly-2026-01-01-x"));
        assert_eq!(nightly_in("stable-x86_64-unknown-linux-gnu (default)\n"), None);
        assert_eq!(nightly_in("no installed toolchains\n"), None);
    }
}
