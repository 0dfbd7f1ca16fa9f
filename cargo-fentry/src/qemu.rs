//! QEMU's virtual machine: a kernel booted, its console read, its exit status brought back.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The program that emulates the machine.
pub const PROGRAM: &str = "qemu-system-aarch64";

/// The CPU where none is named: it has all that QEMU knows, branch targets and pointer authentication too.
pub const DEFAULT_CPU: &str = "max";

/// How many console lines a report of a failed boot shows.
const SHOWN_LINES: usize = 20;

/// How to boot.
#[derive(Clone, Debug)]
pub struct Boot {
    /// QEMU's name of the CPU.
    pub cpu: String,
    /// The number of CPUs.
    pub cpus: u32,
    /// After how long a boot counts as hung.
    pub limit: Option<Duration>,
    /// Wait for a debugger before the first instruction.
    pub gdb: bool,
    /// Run in virtual time, one instruction a nanosecond, the same each time.
    pub icount: bool,
    /// The kernel's command line.
    pub append: Option<String>,
    /// More arguments for QEMU.
    pub more: Vec<OsString>,
}

impl Boot {
    /// Boots on so many of these CPUs, for as long as it takes.
    pub fn new(cpu: &str, cpus: u32) -> Self {
        let (cpu, more) = (cpu.to_owned(), Vec::new());
        Self { cpu, cpus, limit: None, gdb: false, icount: false, append: None, more }
    }
}

/// How a boot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The kernel left, with this status; 0 means that all is well.
    Exit(i32),
    /// QEMU was ended by a signal.
    Killed,
    /// The limit was reached.
    Hung,
}

/// A boot that has ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How.
    pub end: End,
    /// Everything that came over the serial line, and what QEMU itself said.
    pub console: Vec<String>,
}

impl Outcome {
    /// The end of the console's output, indented, for a report.
    pub fn last_lines(&self) -> String {
        let skipped = self.console.len().saturating_sub(SHOWN_LINES);
        let mut text = match skipped {
            0 => String::new(),
            _ => format!("    | ({skipped} lines before)\n"),
        };
        for line in &self.console[skipped..] {
            text.push_str("    | ");
            text.push_str(line);
            text.push('\n');
        }
        if self.console.is_empty() {
            text.push_str("    | (the console stayed empty)\n");
        }
        text
    }
}

/// The command that boots `image`.
pub fn command(image: &Path, boot: &Boot) -> Command {
    let mut qemu = Command::new(PROGRAM);
    qemu.args(["-machine", "virt,gic-version=3", "-m", "512M", "-cpu", &boot.cpu, "-smp", &boot.cpus.to_string()]);
    qemu.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-net", "none", "-no-reboot"]);
    qemu.args(["-semihosting-config", "enable=on,target=native"]);
    if boot.icount {
        qemu.args(["-icount", "shift=0"]);
    }
    if boot.gdb {
        qemu.args(["-s", "-S"]);
    }
    if let Some(text) = &boot.append {
        qemu.args(["-append", text]);
    }
    qemu.args(&boot.more).arg("-kernel").arg(image);
    qemu
}

/// Boots `image` and gives each console line to `on_line` as it comes.
pub fn boot(image: &Path, boot: &Boot, mut on_line: impl FnMut(&str)) -> Result<Outcome> {
    std::fs::metadata(image).with_context(|| format!("there is no image {}", image.display()))?;
    let mut qemu = command(image, boot);
    die_with_parent(&mut qemu);
    let mut child =
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(|| {
            format!("{PROGRAM} does not start: install QEMU 7.2 or later for arm64 (Debian: qemu-system-arm)")
        })?;

    let (sender, lines) = mpsc::channel();
    read_lines(child.stdout.take(), sender.clone());
    read_lines(child.stderr.take(), sender);

    let deadline = boot.limit.map(|limit| Instant::now() + limit);
    let mut console = Vec::new();
    let mut hung = false;
    loop {
        let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        match lines.recv_timeout(left) {
            Ok(line) => {
                on_line(&line);
                console.push(line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if hung => break,
            Err(RecvTimeoutError::Timeout) => {
                hung = true;
                end(&mut child)?;
            }
        }
        // A kernel that never stops printing hangs as well.
        if !hung && left.is_zero() {
            hung = true;
            end(&mut child)?;
        }
    }
    let status = child.wait().context("QEMU was lost")?;
    Ok(Outcome { end: if hung { End::Hung } else { how_it_ended(status) }, console })
}

fn how_it_ended(status: ExitStatus) -> End {
    status.code().map_or(End::Killed, End::Exit)
}

fn end(child: &mut Child) -> Result<()> {
    child.kill().context("QEMU cannot be ended")
}

/// Sends each line of `stream`, and what stands after the last line's end.
fn read_lines(stream: Option<impl Read + Send + 'static>, sender: Sender<String>) {
    let Some(stream) = stream else { return };
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            if sender.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
}

/// Lets the kernel of this machine end QEMU when we end, however that happens.
#[cfg(target_os = "linux")]
fn die_with_parent(qemu: &mut Command) {
    use std::os::unix::process::CommandExt;

    let ask = || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        Ok(())
    };
    // SAFETY: Between fork and exec only what is async-signal-safe may happen: this is one system call, without memory
    // allocated or locks taken.
    unsafe { qemu.pre_exec(ask) };
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_qemu: &mut Command) {}

/// What to tell a person who wants to debug `image`.
pub fn how_to_attach(image: &Path) -> String {
    let image = image.canonicalize().unwrap_or_else(|_| PathBuf::from(image));
    let image = image.display();
    format!(
        "QEMU waits for a debugger on port 1234. In another terminal, one of:\n\
         \n  gdb-multiarch {image} -ex 'target remote :1234'\
         \n  RUST_GDB=gdb-multiarch rust-gdb {image} -ex 'target remote :1234'\
         \n  lldb {image} -o 'gdb-remote 1234'\n\
         \nthen `continue`. Ctrl-C here ends QEMU.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(lines: usize) -> Outcome {
        Outcome { end: End::Hung, console: (0..lines).map(|line| format!("line {line}")).collect() }
    }

    #[test]
    fn a_report_shows_the_console_s_last_lines() {
        let text = outcome(25).last_lines();
        assert!(text.starts_with("    | (5 lines before)\n    | line 5\n"));
        assert!(text.ends_with("    | line 24\n"));
        assert_eq!(outcome(1).last_lines(), "    | line 0\n");
        assert_eq!(outcome(0).last_lines(), "    | (the console stayed empty)\n");
    }

    #[test]
    fn the_machine_is_the_one_that_kernels_expect() {
        let more = vec!["-trace".into()];
        let boot = Boot { gdb: true, icount: true, append: Some("filter".into()), more, ..Boot::new("max", 4) };
        let command = command(Path::new("kernel"), &boot);
        let args: Vec<_> = command.get_args().filter_map(|arg| arg.to_str()).collect();
        for expected in ["virt,gic-version=3", "max", "4", "shift=0", "-S", "filter", "-trace"] {
            assert!(args.contains(&expected), "{expected} is missing in {args:?}");
        }
        assert_eq!(args.last(), Some(&"kernel"));
    }
}
