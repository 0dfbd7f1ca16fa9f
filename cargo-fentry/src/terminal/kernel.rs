//! A kernel that is asked by lines: its program, what it says, and when it can be asked.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::qemu::{self, Boot};

/// A line can come.
const ENQ: u8 = 5;
/// ^C.
const ETX: u8 = 3;

/// How often somebody is asked whether they want to go on.
const LOOK: Duration = Duration::from_millis(20);

/// The kernel has ended.
#[derive(Debug)]
pub(super) struct Ended;

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the kernel has ended")
    }
}

impl std::error::Error for Ended {}

/// A booted kernel.
pub(super) struct Kernel {
    child: Child,
    stdin: ChildStdin,
    output: Receiver<Vec<u8>>,
    /// For how long it may say nothing.
    limit: Duration,
    is_running: bool,
}

impl Kernel {
    /// Boots it, shows what it says, and waits until a line can come.
    pub(super) fn boot(image: &Path, boot: &Boot, limit: Duration, show: impl FnMut(&str)) -> Result<Self> {
        ensure!(image.is_file(), "there is no image {}", image.display());
        let mut command = qemu::command(image, boot);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // ^C on this terminal is for the kernel, not for the emulator.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        crate::console::die_with_parent(&mut command);
        let mut child = command.spawn().with_context(|| format!("{} does not start", qemu::PROGRAM))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (stdin, mut stdout) = stdin.zip(stdout).context("the emulator has no console")?;
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut kernel = Self { child, stdin, output, limit, is_running: true };
        kernel.listen(|| false, show).context("the kernel does not say that a line can come")?;
        Ok(kernel)
    }

    pub(super) fn is_running(&self) -> bool {
        self.is_running
    }

    /// Asks a line, gives what the kernel says to `show` as it comes, and returns it. What reads on for ever is ended after so
    /// long.
    pub(super) fn ask(&mut self, line: &str, reads_on: Option<Duration>, show: impl FnMut(&str)) -> Result<String> {
        let mut end = reads_on.map(|for_so_long| Instant::now() + for_so_long);
        // Once.
        let is_over = || end.take_if(|end| Instant::now() >= *end).is_some();
        self.ask_until(line, is_over, show)
    }

    /// The same, where ^C is sent whenever `interrupts` says so.
    pub(super) fn ask_until(
        &mut self,
        line: &str,
        interrupts: impl FnMut() -> bool,
        show: impl FnMut(&str),
    ) -> Result<String> {
        ensure!(!line.contains(['\n', '\r']), "a line has no line break in it");
        self.send(format!("{line}\n").as_bytes())?;
        self.listen(interrupts, show)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = self.stdin.write_all(bytes).and_then(|()| self.stdin.flush());
        sent.map_err(|_| self.ended())
    }

    fn ended(&mut self) -> anyhow::Error {
        self.is_running = false;
        Ended.into()
    }

    /// Listens until a line can come.
    fn listen(&mut self, mut interrupts: impl FnMut() -> bool, mut show: impl FnMut(&str)) -> Result<String> {
        let (mut said, mut silent_since) = (String::new(), Instant::now());
        // The beginning of a character whose rest is still to come.
        let mut open = Vec::new();
        loop {
            match self.output.recv_timeout(LOOK) {
                Ok(bytes) => {
                    silent_since = Instant::now();
                    open.extend(bytes);
                    let can_come = open.last() == Some(&ENQ);
                    let whole = match std::str::from_utf8(&open) {
                        Err(error) if error.error_len().is_none() => error.valid_up_to(),
                        _ => open.len(),
                    };
                    let text: String = String::from_utf8_lossy(&open[..whole]).replace([char::from(ENQ), '\r'], "");
                    open.drain(..whole);
                    show(&text);
                    said.push_str(&text);
                    if can_come {
                        return Ok(said);
                    }
                }
                Err(RecvTimeoutError::Timeout) if silent_since.elapsed() > self.limit => {
                    self.is_running = false;
                    self.child.kill()?;
                    bail!("the kernel has said nothing for {} s", self.limit.as_secs());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            }
            if interrupts() {
                self.send(&[ETX])?;
            }
        }
    }

    /// Ends it; its failure is an error.
    pub(super) fn end(mut self) -> Result<()> {
        if self.is_running {
            // If it has ended meanwhile, so much the better.
            let _ = self.send(b"exit\n");
        }
        let deadline = Instant::now() + self.limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the kernel has ended with {status}");
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        bail!("the kernel does not end")
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // It has ended, usually.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether somebody has typed ^C.
#[derive(Clone, Debug)]
pub(super) struct Interrupts(Arc<AtomicBool>);

impl Interrupts {
    /// Whether somebody has, since it was asked last.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    pub(super) fn forget(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Has ^C be told, and no longer end this program; once.
pub(super) fn interrupts() -> Result<Interrupts> {
    let interrupts = Interrupts(Arc::new(AtomicBool::new(false)));
    let told = interrupts.clone();
    ctrlc::set_handler(move || told.0.store(true, Ordering::Relaxed))?;
    Ok(interrupts)
}
