//! Running such a program: files, standard input, several at a time.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use anyhow::{Context, Result};

/// A folder for files that programs exchange; it goes away with its owner.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

static SERIAL: AtomicUsize = AtomicUsize::new(0);

impl Scratch {
    pub(super) fn new() -> Result<Self> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("insn-proof-{}-{serial}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self(folder))
    }

    /// A new file's path.
    pub(super) fn file(&self, suffix: &str) -> PathBuf {
        self.0.join(format!("{}.{suffix}", SERIAL.fetch_add(1, Ordering::Relaxed)))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind in a temporary folder does no harm.
        drop(fs::remove_dir_all(&self.0));
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
