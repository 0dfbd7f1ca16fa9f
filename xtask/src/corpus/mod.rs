//! `cargo xtask corpus`: runs third-party objects and images through the loader, the engine and the doctor.
//!
//! Each relocatable object is loaded at three distances from a made-up kernel that defines whatever the object wants; all of
//! its callsites are enabled and disabled, and its text is compared word for word. Near the kernel it is also linked by an
//! installed linker, to the same addresses. The doctor examines each image. What the loader refuses is counted by kind. What
//! our code gets wrong, a panic included, is a fault, and the command fails.

mod linked;
mod machine;
mod module;
mod object;
mod summary;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use ::object::elf;
use anyhow::{Context, Result, ensure};
use cargo_fentry::{doctor, image};
use clap::Args;

use linked::{Linked, Linker};
use module::{Bench, DISTANCES, Placed};
use summary::Summary;

/// Run third-party objects and images through the loader, the engine and the doctor
///
/// Loads each relocatable object (.o, .ko) below the directory near a simulated kernel, 200 MiB and 6 GiB from it; enables
/// and disables all of its callsites and compares its text word for word; and compares its sections with an installed
/// linker's output. The doctor examines each image. Fails only where our own code is wrong, not where it refuses an input
/// with a reason.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo run --release -p xtask -- corpus /lib/modules")]
pub(crate) struct CorpusArgs {
    /// The directory to search
    dir: PathBuf,
    /// The linker to compare with, GNU ld or lld [default: aarch64-linux-gnu-ld or ld.lld, if installed]
    #[arg(long, value_name = "PROGRAM")]
    linker: Option<String>,
    /// The number of threads [default: one for each CPU]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// A file that takes longer than this counts as one that never ends.
const LIMIT: Duration = Duration::from_secs(300);

/// A file's result.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// An object: how it was loaded at each distance, or the fault in our code.
    Module { placed: Vec<Result<Placed, String>>, linked: Option<Linked> },
    /// An image: the number of its problems, or why it was not examined.
    Image(Result<usize, String>),
    /// A file that looked like either and is not.
    LeftOut(String),
    /// Any other file.
    Other,
    /// Our code panicked outside of loading.
    Fault(String),
}

/// Tests every file below the directory, prints a line for each and a summary; returns whether our code has no fault.
///
/// # Errors
///
/// The directory can't be read, or the linker that was asked for can't be run.
pub(crate) fn run(args: &CorpusArgs) -> Result<bool> {
    let CorpusArgs { dir, linker, threads } = args;
    let files = files_below(dir)?;
    let linker = match linker {
        Some(program) => {
            Some(Linker::named(program).with_context(|| format!("{program} is not a linker, or does not run"))?)
        }
        None => Linker::installed(),
    };
    if linker.is_none() {
        println!("LEFT OUT: the comparison with a linker: none for arm64 is installed (aarch64-linux-gnu-ld, ld.lld)");
    }
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let summary = take_through(dir, &files, linker.as_ref(), threads.unwrap_or(available).max(1))?;
    print!("{summary}");
    Ok(summary.faults() == 0)
}

/// Every file, in the order of names. Links are not followed.
fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        let entries = std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    ensure!(!files.is_empty(), "there are no files in {}", dir.display());
    files.sort();
    Ok(files)
}

/// Tests the files with this many threads, and prints each one's line in the order of names.
fn take_through(dir: &Path, files: &[PathBuf], linker: Option<&Linker>, threads: usize) -> Result<Summary> {
    let (next, started) = (AtomicUsize::new(0), Instant::now());
    let current = Mutex::new(vec![None; threads]);
    let (sender, outcomes) = mpsc::channel();
    let mut summary = Summary::new(linker.map(|linker| linker.program.clone()));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (sender, next, current) = (sender.clone(), &next, &current);
            scope.spawn(move || {
                let mut worker = Worker::new(linker, thread);
                while let Some((index, file)) = next_of(files, next) {
                    lock(current)[thread] = Some(file);
                    if sender.send((index, worker.outcome(file))).is_err() {
                        return;
                    }
                }
                lock(current)[thread] = None;
            });
        }
        drop(sender);
        let mut done: Vec<Option<Outcome>> = vec![None; files.len()];
        let mut shown = 0;
        loop {
            match outcomes.recv_timeout(LIMIT) {
                Ok((index, outcome)) => done[index] = Some(outcome),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let stuck =
                        lock(&current).iter().flatten().map(|file| file.display().to_string()).collect::<Vec<_>>();
                    eprintln!("FAULT: no end within {} s: {}", LIMIT.as_secs(), stuck.join(" "));
                    // The thread that does not come back can't be ended by itself.
                    std::process::exit(1);
                }
            }
            while let Some(outcome) = done.get_mut(shown).and_then(Option::take) {
                let file = files[shown].strip_prefix(dir).unwrap_or(&files[shown]);
                summary.add(file, &outcome);
                shown += 1;
            }
        }
        ensure!(shown == files.len(), "a thread was lost, and {} files with it", files.len() - shown);
        Ok(())
    })?;
    summary.took = started.elapsed();
    Ok(summary)
}

fn next_of<'a>(files: &'a [PathBuf], next: &AtomicUsize) -> Option<(usize, &'a Path)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    files.get(index).map(|file| (index, &**file))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one thread has.
struct Worker<'a> {
    linker: Option<&'a Linker>,
    /// Where it links.
    dir: PathBuf,
    /// Made anew after a panic, which may have left anything.
    bench: Option<Bench>,
}

impl<'a> Worker<'a> {
    fn new(linker: Option<&'a Linker>, thread: usize) -> Self {
        let dir = std::env::temp_dir().join(format!("fentry-corpus-{}-{thread}", std::process::id()));
        Self { linker, dir, bench: None }
    }

    fn outcome(&mut self, path: &Path) -> Outcome {
        match caught(|| self.look_at(path)) {
            Ok(outcome) => outcome.unwrap_or_else(|error| Outcome::LeftOut(format!("{error:#}"))),
            Err(panic) => Outcome::Fault(panic),
        }
    }

    fn look_at(&mut self, path: &Path) -> Result<Outcome> {
        let is_named_like_one = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.ends_with(".o") || name.contains(".ko"));
        if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0) {
            return Ok(Outcome::Other);
        }
        let data = image::map(path)?;
        Ok(match object::kind_of(&data) {
            Some(elf::ET_REL) => self.load(&data)?,
            Some(elf::ET_EXEC | elf::ET_DYN) => Outcome::Image(look_into(&data)),
            _ if data.starts_with(b"\x7fELF") => {
                Outcome::LeftOut("it is ELF, but no image or object for arm64".to_owned())
            }
            _ if is_named_like_one => Outcome::LeftOut(image::what_else(&data)),
            _ => Outcome::Other,
        })
    }

    /// Loads an object at every distance.
    fn load(&mut self, file: &[u8]) -> Result<Outcome> {
        // What others can't read, ours has to refuse as well, or to load without them.
        let (facts, linker) = match object::read(file) {
            Ok(facts) => (facts, self.linker),
            Err(_) => (object::Facts::default(), None),
        };
        std::fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {}", self.dir.display()))?;
        let (mut placed, mut linked) = (Vec::new(), None);
        for (index, distance) in DISTANCES.iter().enumerate() {
            let bench = match self.bench.take() {
                Some(bench) => bench,
                None => Bench::new()?,
            };
            let compared = linker.filter(|_| index == 0);
            let attempt = caught(|| {
                bench.run(file, &facts, distance, |contents, ready| {
                    if let Some(linker) = compared {
                        let compared = linker.compare(&self.dir, file, &facts, contents, ready);
                        linked = Some(compared.unwrap_or_else(|error| Linked::LeftOut(format!("{error:#}"))));
                    }
                })
            });
            placed.push(match attempt {
                Ok(Ok(placed)) => {
                    self.bench = Some(bench);
                    Ok(placed)
                }
                Ok(Err(error)) => Err(format!("{error:#}")),
                Err(panic) => Err(panic),
            });
        }
        Ok(Outcome::Module { placed, linked })
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Lets the doctor examine an image; Linux's, by Linux's names.
fn look_into(data: &[u8]) -> Result<usize, String> {
    let kept = if doctor::is_linux(data) { doctor::linux() } else { doctor::usual() };
    doctor::examine(data, &kept).map(|report| report.problems()).map_err(|error| format!("{error:#}"))
}

/// What `f` returns, or its panic's message. What it was about to change is not used any more then.
fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let words =
            panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        format!("a panic: {}", words.unwrap_or("without words"))
    })
}
