//! The part of the suite that proves images and modules safe to trace and to unwind, as `cargo fentry verify` does; and
//! `cargo xtask verify`, which does that alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cargo_fentry::progress::Step;
use cargo_fentry::verify::{Verified, Waivers, verify};
use clap::Args;

use crate::kernels::variant::VARIANTS;
use crate::kernels::workspace::Workspace;
use crate::kernels::{build, c, modules};
use crate::test::c_library;
use crate::test::host::Count;
use crate::test::suite::Row;

/// The waivers of what this repository's kernels and modules have in assembly. A line `[NAME]` begins those of one image alone,
/// or of one module.
const WAIVERS: &str = "tests/verify.waivers";

/// Prove kernels and modules safe to trace and to unwind, without booting them
///
/// Does what `cargo fentry verify` does, with the waivers of tests/verify.waivers, to all kernels and modules that `build` and
/// `test` have built, or to some files.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask verify\n  cargo xtask verify kernel.elf module.o\n  cargo xtask verify \
                        --c-library"
)]
pub(crate) struct VerifyArgs {
    /// The linked images and relocatable objects [default: all that were built]
    files: Vec<PathBuf>,
    /// A C library instead: fetch Debian's source of musl, compile all of it with callsites, link it, and verify that
    #[arg(long, conflicts_with = "files")]
    c_library: bool,
}

/// Verifies files, and keeps in mind which waivers no file has needed.
pub(crate) struct Verifier {
    text: String,
    /// The lines of the waivers, counted from 1, that a file has needed.
    needed: BTreeSet<usize>,
}

impl Verifier {
    /// Reads the waivers.
    pub(super) fn new(workspace: &Workspace) -> Result<Self> {
        let path = workspace.root.join(WAIVERS);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { text, needed: BTreeSet::new() })
    }

    /// Verifies files, counts those without a finding, and prints the findings of the others.
    pub(super) fn verify(&mut self, what: String, files: &[PathBuf]) -> Row {
        let (step, started) = (Step::start(what.clone()), Instant::now());
        let mut count = Count::default();
        let mut report = String::new();
        for (path, verified) in all(files, &self.text, &step) {
            let problems = self.problems(path, verified);
            if problems.is_empty() {
                count.passed += 1;
            } else {
                count.failed += 1;
                report.push_str(&format!("{}:\n{}", path.display(), problems.concat()));
            }
        }
        if count.failed == 0 {
            step.finish(&format!("{} passed", count.passed));
        } else {
            step.finish_with("FAILED", &report);
        }
        Row::new(what, count, started.elapsed())
    }

    /// What is wrong with a file.
    fn problems(&mut self, path: &Path, verified: Result<Verified>) -> Vec<String> {
        match verified {
            Ok(Verified { defects, unused, .. }) => {
                self.needed.extend(lines_of(&waivers_of(path, &self.text)).filter(|line| !unused.contains(line)));
                defects
            }
            Err(error) => vec![format!("error: {error:#}\n")],
        }
    }

    /// A row that has failed, if there are waivers that no file has needed. Only of all files together can that be told.
    pub(super) fn unneeded(&self) -> Option<Row> {
        let is_section = |line: &usize| section(self.text.lines().nth(line - 1).unwrap_or_default()).is_some();
        let unneeded = lines_of(&self.text).filter(|line| !is_section(line) && !self.needed.contains(line));
        let lines: Vec<String> = unneeded.map(|line| line.to_string()).collect();
        let what = format!("{WAIVERS}: nothing needs line {}", lines.join(", "));
        (!lines.is_empty()).then(|| Row::new(what, Count { passed: 0, failed: 1 }, Duration::ZERO))
    }
}

/// The name in `[NAME]`.
fn section(line: &str) -> Option<&str> {
    line.trim().strip_prefix('[')?.strip_suffix(']')
}

/// The lines, counted from 1, that have something in them.
fn lines_of(text: &str) -> impl Iterator<Item = usize> + '_ {
    let is_empty = |line: &str| line.trim().is_empty() || line.trim().starts_with('#');
    text.lines().enumerate().filter(move |(_, line)| !is_empty(line)).map(|(index, _)| index + 1)
}

/// The waivers of a file: those of all, and its own. Other lines are left empty, so that each keeps its number.
fn waivers_of(path: &Path, text: &str) -> String {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut is_meant = true;
    let lines = text.lines().map(|line| match section(line) {
        Some(other) => {
            is_meant = other == name;
            ""
        }
        None if is_meant => line,
        None => "",
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Verifies files, several at a time, and gives what there is in each, in their order.
fn all<'a>(files: &'a [PathBuf], waivers: &str, step: &Step) -> Vec<(&'a Path, Result<Verified>)> {
    let next = AtomicUsize::new(0);
    let some = || -> Vec<(usize, Result<Verified>)> {
        let taken = || {
            let at = next.fetch_add(1, Ordering::Relaxed);
            files.get(at).map(|path| (at, path))
        };
        let look = |(at, path): (usize, &PathBuf)| {
            step.note(&path.display().to_string());
            let waivers = Waivers::parse(&waivers_of(path, waivers)).with_context(|| format!("cannot use {WAIVERS}"));
            (at, waivers.and_then(|waivers| verify(path, &waivers.with_engine())))
        };
        core::iter::from_fn(taken).map(look).collect()
    };
    let mut verified = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(some)).collect();
        let mut verified = some();
        for helper in helpers {
            verified.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        verified
    });
    verified.sort_by_key(|(at, _)| *at);
    verified.into_iter().map(|(at, verified)| (files[at].as_path(), verified)).collect()
}

/// `cargo xtask verify`: says whether nothing was found.
pub(crate) fn run(args: &VerifyArgs) -> Result<bool> {
    let workspace = Workspace::load()?;
    if args.c_library {
        return c_library::run(&workspace);
    }
    let mut verifier = Verifier::new(&workspace)?;
    let mut groups: Vec<(String, Vec<PathBuf>)> = Vec::new();
    if args.files.is_empty() {
        for variant in &VARIANTS {
            let mut files = build::built(&workspace, variant);
            files.extend(modules::built(&workspace, variant)?);
            files.extend(c::built(&workspace, variant));
            groups.push((format!("{variant}: verifying"), files));
        }
        groups.retain(|(_, files)| !files.is_empty());
        ensure!(!groups.is_empty(), "nothing has been built yet; `cargo xtask build` does it");
    } else {
        groups.push(("verifying".to_owned(), args.files.clone()));
    }
    let rows: Vec<Row> = groups.into_iter().map(|(what, files)| verifier.verify(what, &files)).collect();
    Ok(rows.iter().all(Row::has_passed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# all\nunreachable f -- a\n\n[one]\nunreachable g -- b\n[two]\nunreachable h -- c\n";

    #[test]
    fn a_file_has_the_waivers_of_all_and_its_own() {
        let of = |path: &str| waivers_of(Path::new(path), TEXT);
        assert_eq!(of("a/other"), "# all\nunreachable f -- a\n\n\n\n\n\n");
        assert_eq!(of("a/two.elf"), "# all\nunreachable f -- a\n\n\n\n\nunreachable h -- c\n");
        assert_eq!(lines_of(&of("one")).collect::<Vec<_>>(), [2, 5]);
    }

    #[test]
    fn waivers_that_no_file_needs_are_told_of() {
        let mut verifier = Verifier { text: TEXT.to_owned(), needed: BTreeSet::new() };
        let verified = |unused: &[usize]| Ok(Verified { unused: unused.to_vec(), ..Verified::default() });
        assert!(verifier.problems(Path::new("one"), verified(&[5])).is_empty());
        assert!(verifier.problems(Path::new("two"), verified(&[2])).is_empty());
        assert!(verifier.unneeded().is_some_and(|row| !row.has_passed()));
        assert_eq!(verifier.needed, BTreeSet::from([2, 7]));
        assert!(verifier.problems(Path::new("one"), verified(&[2])).is_empty());
        assert!(verifier.unneeded().is_none());
    }

    #[test]
    fn the_waivers_of_the_repository_can_be_read() {
        let workspace = Workspace::load().unwrap();
        let text = Verifier::new(&workspace).unwrap().text;
        let names = text.lines().filter_map(section).chain(["any other"]);
        names.for_each(|name| drop(Waivers::parse(&waivers_of(Path::new(name), &text)).unwrap()));
    }

    /// A file that is there and no kernel, as one that can't be read, is a failure and not left out.
    #[test]
    fn what_cannot_be_verified_has_failed() {
        let workspace = Workspace::load().unwrap();
        let mut verifier = Verifier::new(&workspace).unwrap();
        let row =
            verifier.verify("test".to_owned(), &[workspace.root.join("Cargo.toml"), workspace.root.join("no file")]);
        assert!(!row.has_passed());
    }
}
