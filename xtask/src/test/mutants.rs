//! `cargo xtask mutants`: does a test notice when one thing in the core is changed? A random sample of the changes that
//! cargo-mutants can make, against the host tests. `.cargo/mutants.toml` says where and how.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cargo_fentry::progress::in_words;
use clap::Args;

use crate::kernels::toolchain::{self, cargo};
use crate::kernels::workspace::Workspace;

/// The release that the configuration is written for.
const VERSION: &str = "27.1.0";
const CONFIG: &str = ".cargo/mutants.toml";
/// Where it says which tests run.
const ARGUMENTS: &str = "additional_cargo_test_args = ";
/// Its list of what the tests have noticed.
const CAUGHT: &str = "caught.txt";

/// Change one thing in the core at random, many times, and see whether the host tests notice
///
/// Not a part of the tests. The same seed takes the same mutants of the same source. cargo-mutants is installed into
/// target/tools where it is missing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo xtask mutants --count 15\n  cargo xtask mutants --count 500 --seed 7\n  \
                        cargo xtask mutants --list")]
pub(crate) struct MutantsArgs {
    /// How many mutants
    #[arg(long, value_name = "N", default_value_t = 50)]
    count: usize,
    /// Where the random numbers begin
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many are built and tested at a time
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
    /// Only name the mutants that would be taken
    #[arg(long)]
    list: bool,
}

/// Runs the sample; whether every mutant that runs was caught.
pub(crate) fn run(args: &MutantsArgs) -> Result<bool> {
    let workspace = Workspace::load()?;
    let program = ensure_program(&workspace)?;
    let listed = toolchain::output_of(mutants(&workspace, &program).arg("--list"), "which mutants are there")?;
    let all: Vec<&str> = listed.lines().filter(|line| !line.is_empty()).collect();
    let sample = sample(&all, args.count, args.seed);
    println!("{} of {} mutants, seed {}", sample.len(), all.len(), args.seed);
    if args.list {
        sample.iter().for_each(|name| println!("{name}"));
        return Ok(true);
    }

    let output = workspace.target_dir.join("mutants");
    fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    let text = fs::read_to_string(workspace.root.join(CONFIG)).with_context(|| format!("cannot read {CONFIG}"))?;
    let started = Instant::now();
    let pass = |name: &str, config: &str, taken: &[&str]| -> Result<Fates> {
        let output = output.join(name);
        let (file, lists) = (output.with_extension("toml"), output.join("mutants.out"));
        leave_out(&lists, &all, taken)?;
        fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        let mut run = mutants(&workspace, &program);
        run.arg("--config").arg(&file).arg("--output").arg(&output).args(["--iterate", "--no-times", "--jobs"]);
        // Its status says the same as its lists.
        run.arg(args.jobs.to_string()).status().context("cargo-mutants does not start")?;
        Fates::read(&lists, taken.len())
    };
    let mut fates = pass("quick", &text, &sample)?;
    let left: Vec<String> = std::mem::take(&mut fates.missed);
    if !left.is_empty() {
        let left: Vec<&str> = left.iter().map(String::as_str).collect();
        fates.add(pass("long", &with_all_tests(&text), &left)?);
    }
    Ok(fates.report(started))
}

/// Says of all mutants but the sample that they were caught before: that is how cargo-mutants is told by name what to leave
/// out. (Its patterns do not hold back every kind.)
fn leave_out(lists: &Path, all: &[&str], sample: &[&str]) -> Result<()> {
    if lists.exists() {
        fs::remove_dir_all(lists).with_context(|| format!("cannot remove {}", lists.display()))?;
    }
    fs::create_dir_all(lists).with_context(|| format!("cannot make {}", lists.display()))?;
    let sample: HashSet<&str> = sample.iter().copied().collect();
    let others = all.iter().filter(|name| !sample.contains(*name)).map(|name| format!("{name}\n"));
    fs::write(lists.join(CAUGHT), others.collect::<String>()).context("cannot write what to leave out")
}

/// The configuration with the tests that explore for long as well.
fn with_all_tests(config: &str) -> String {
    let (before, rest) = config.split_once(ARGUMENTS).unwrap_or((config, ""));
    let behind = rest.split_once(']').map_or("", |(_, behind)| behind);
    format!("{before}{ARGUMENTS}[\"--lib\", \"--\", \"--skip\", \"insn::\"]{behind}")
}

/// What has become of mutants.
struct Fates {
    caught: Vec<String>,
    missed: Vec<String>,
    timeout: Vec<String>,
    unviable: Vec<String>,
}

impl Fates {
    /// From the lists that cargo-mutants leaves.
    fn read(lists: &Path, taken: usize) -> Result<Self> {
        let read = |name: &str| -> Result<Vec<String>> {
            let path = lists.join(name);
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(text.lines().map(str::to_owned).collect())
        };
        let [caught, missed, timeout, unviable] =
            [read(CAUGHT)?, read("missed.txt")?, read("timeout.txt")?, read("unviable.txt")?];
        let ended = caught.len() + missed.len() + timeout.len() + unviable.len();
        ensure!(ended == taken, "{ended} of {taken} mutants ended; see {}", lists.display());
        Ok(Self { caught, missed, timeout, unviable })
    }

    fn add(&mut self, other: Self) {
        self.caught.extend(other.caught);
        self.missed.extend(other.missed);
        self.timeout.extend(other.timeout);
        self.unviable.extend(other.unviable);
    }

    /// Prints them; whether every mutant that runs was noticed.
    fn report(&self, started: Instant) -> bool {
        let Self { caught, missed, timeout, unviable } = self;
        for (what, names) in [("missed", missed), ("timeout", timeout)] {
            names.iter().for_each(|name| println!("{what:8} {name}"));
        }
        // One that never ends is noticed as well.
        let ran = caught.len() + missed.len() + timeout.len();
        let noticed = caught.len() + timeout.len();
        println!(
            "{} caught, {} missed, {} unviable, {} timeout in {}: {:.1} % of those that ran were noticed",
            caught.len(),
            missed.len(),
            unviable.len(),
            timeout.len(),
            in_words(started.elapsed()),
            100.0 * noticed as f64 / ran.max(1) as f64
        );
        missed.is_empty()
    }
}

/// The program, installed where it is missing.
fn ensure_program(workspace: &Workspace) -> Result<PathBuf> {
    let root = workspace.target_dir.join("tools");
    let program = root.join("bin/cargo-mutants");
    let is_there = || {
        let version = toolchain::output_of(Command::new(&program).args(["mutants", "--version"]), "is it there");
        version.is_ok_and(|version| version.ends_with(VERSION))
    };
    if !is_there() {
        let mut install = cargo();
        install.args(["install", "--locked", "--force", "cargo-mutants", "--version", VERSION, "--root"]);
        let status = install.arg(&root).status().context("cargo does not start")?;
        ensure!(status.success() && is_there(), "cargo-mutants {VERSION} could not be installed");
    }
    Ok(program)
}

fn mutants(workspace: &Workspace, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(&workspace.root).args(["mutants", "--colors", "never"]);
    // A tenth of the usual: most of what they notice, the first hundreds do.
    command.env("FENTRY_RANDOM_SEQUENCES", "200");
    command
}

/// So many of them, in their order (selection sampling; SplitMix64).
fn sample<'a>(all: &[&'a str], count: usize, seed: u64) -> Vec<&'a str> {
    let mut state = seed;
    let mut random = |bound: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound as u64) as usize
    };
    let mut wanted = count.min(all.len());
    let mut taken = Vec::with_capacity(wanted);
    for (place, name) in all.iter().enumerate() {
        if random(all.len() - place) < wanted {
            taken.push(*name);
            wanted -= 1;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::names;

    #[test]
    fn what_the_configuration_names_is_there() {
        let config = fs::read_to_string(names::root().join(CONFIG)).unwrap();
        let config: toml::Table = config.parse().unwrap();
        let strings = |key: &str| config[key].as_array().unwrap().iter().map(|value| value.as_str().unwrap());
        for glob in strings("examine_globs") {
            assert!(names::root().join(glob.split('*').next().unwrap()).exists(), "{glob}");
        }
        let (all, arguments) = (names::all(), strings("additional_cargo_test_args"));
        for (_, name) in arguments.clone().zip(arguments.skip(1)).filter(|(before, _)| *before == "--skip") {
            assert!(all.iter().any(|test| test.contains(name)), "{name}");
        }
    }

    #[test]
    fn what_is_left_is_tried_with_all_tests() {
        let config = "a = 1\nadditional_cargo_test_args = [\n    \"--skip\", \"slow\",\n]\nb = 2\n";
        let all = with_all_tests(config);
        assert_eq!(all, "a = 1\nadditional_cargo_test_args = [\"--lib\", \"--\", \"--skip\", \"insn::\"]\nb = 2\n");
    }

    #[test]
    fn a_sample_repeats_and_has_the_size_that_was_asked_for() {
        let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(sample(&all, 10, 3).len(), 10);
        assert_eq!(sample(&all, 10, 3), sample(&all, 10, 3));
        assert_ne!(sample(&all, 10, 3), sample(&all, 10, 4));
        assert_eq!(sample(&all, 1000, 1), all);
        // Each is as likely as any other: over many samples none is far from a tenth of them.
        let often = (0..1000).flat_map(|seed| sample(&all, 10, seed)).filter(|name| *name == "99").count();
        assert!((60..140).contains(&often), "{often}");
    }
}
