//! The assemblers, disassemblers and the simulator of other people, found and run.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use anyhow::{Context, Result, bail};

use crate::setup::packages;

/// What the proof needs, as Debian and Ubuntu name it.
const PACKAGES: [&str; 2] = ["llvm-19", "binutils-aarch64-linux-gnu"];

/// Where the tools are.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) llvm_mc: PathBuf,
    pub(super) llvm_mca: PathBuf,
    pub(super) gnu_as: PathBuf,
    pub(super) gnu_objdump: PathBuf,
    scratch: Scratch,
}

/// A folder that goes away with its owner.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind in a temporary folder does no harm.
        drop(fs::remove_dir_all(&self.0));
    }
}

static SERIAL: AtomicUsize = AtomicUsize::new(0);

fn find(names: &[&str]) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    for name in names {
        if let Some(found) = env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file()) {
            return Ok(found);
        }
    }
    bail!(
        "{} is not installed; this installs all that the proof needs on Debian or Ubuntu:\n    \
         sudo apt-get install --no-install-recommends {}",
        names.join(" or "),
        PACKAGES.join(" ")
    )
}

impl Tools {
    /// Finds the tools; installs them where they are missing and this user may.
    pub(super) fn ensure() -> Result<Self> {
        let missing = match Self::find() {
            Ok(tools) => return Ok(tools),
            Err(missing) => missing,
        };
        eprintln!("    {missing:#}");
        match packages::install(&PACKAGES) {
            Ok(()) => Self::find(),
            Err(error) => Err(missing.context(error)),
        }
    }

    fn find() -> Result<Self> {
        let scratch = env::temp_dir().join(format!("insn-proof-{}", std::process::id()));
        fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        Ok(Self {
            llvm_mc: find(&["llvm-mc-19", "llvm-mc"])?,
            llvm_mca: find(&["llvm-mca-19", "llvm-mca"])?,
            gnu_as: find(&["aarch64-linux-gnu-as"])?,
            gnu_objdump: find(&["aarch64-linux-gnu-objdump"])?,
            scratch: Scratch(scratch),
        })
    }

    /// The tools' own words about their versions.
    pub(super) fn versions(&self) -> Result<String> {
        let mut lines = Vec::new();
        for tool in [&self.llvm_mc, &self.gnu_as] {
            let output = Command::new(tool).arg("--version").output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let version = text.lines().find(|line| line.contains("version") || line.contains("assembler"));
            lines.push(format!("{}: {}", tool.display(), version.unwrap_or("?").trim()));
        }
        Ok(lines.join("\n"))
    }

    /// A new file's path in a folder that goes away in the end.
    pub(super) fn scratch(&self, suffix: &str) -> PathBuf {
        self.scratch.0.join(format!("{}.{suffix}", SERIAL.fetch_add(1, Ordering::Relaxed)))
    }
}

/// Runs a program with this as its standard input.
pub(super) fn run_with_input(program: &Path, arguments: &[&str], input: Vec<u8>) -> Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    // Written by a thread of its own: the program's output fills its pipes meanwhile. A program that stops early closes
    // its input; what it says about that is in its output.
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output()?;
    drop(writer.join());
    Ok(output)
}

/// Shares pieces of work among threads.
pub(super) fn in_parallel<T: Sync, R: Send>(
    jobs: usize,
    pieces: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
    mut take: impl FnMut(R) + Send,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sender.send(work(piece)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for result in receiver {
            take(result?);
        }
        Ok(())
    })
}
