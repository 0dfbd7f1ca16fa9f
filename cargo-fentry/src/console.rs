//! A program that boots a kernel, with the kernel's console as its output: run until it ends, or for as long as it may.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// How many console lines a report of a failed boot shows.
const SHOWN_LINES: usize = 20;

/// How much longer a program may run whose output has been enough.
const GRACE: Duration = Duration::from_secs(2);

/// How a boot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The kernel left, with this status; 0 means that all is well.
    Exit(i32),
    /// The program that ran it was ended by a signal.
    Killed,
    /// The limit was reached.
    Hung,
}

/// A boot that has ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How.
    pub end: End,
    /// Everything that came over the serial line, and what the program itself said.
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

    /// Whether the program of this name has said why it fails, and nothing came from a kernel before.
    pub(crate) fn is_refused_by(&self, program: &str) -> bool {
        let complains = |line: &String| {
            let said = line.strip_prefix(program).and_then(|rest| rest.strip_prefix(": "));
            said.is_some_and(|said| !said.starts_with("warning: "))
        };
        self.console.first().is_some_and(complains)
    }
}

/// Runs a program and gives each line of its output to `on_line` as it comes, until it ends, or the limit is reached, or soon
/// after `on_line` has seen enough: this is a hung one, too.
///
/// # Errors
///
/// The program can't be started.
pub(crate) fn run(
    program: &mut Command,
    limit: Option<Duration>,
    mut on_line: impl FnMut(&str) -> ControlFlow<()>,
) -> io::Result<Outcome> {
    die_with_parent(program);
    let mut child = program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;

    let (sender, lines) = mpsc::channel();
    read_lines(child.stdout.take(), sender.clone());
    read_lines(child.stderr.take(), sender);

    let mut deadline = limit.map(|limit| Instant::now() + limit);
    let mut console = Vec::new();
    let mut hung = false;
    loop {
        let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        match lines.recv_timeout(left) {
            Ok(line) => {
                if on_line(&line).is_break() {
                    let soon = Instant::now() + GRACE;
                    deadline = Some(deadline.map_or(soon, |deadline| deadline.min(soon)));
                }
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
    let status = child.wait()?;
    Ok(Outcome { end: if hung { End::Hung } else { how_it_ended(status) }, console })
}

fn how_it_ended(status: ExitStatus) -> End {
    status.code().map_or(End::Killed, End::Exit)
}

/// Ends a program and all that it has started: an emulator may be a script's or a build tool's.
fn end(child: &mut Child) -> io::Result<()> {
    let started = descendants(child.id());
    child.kill()?;
    started.into_iter().for_each(kill);
    Ok(())
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

/// Lets the kernel of this machine end a program when we end, however that happens.
#[cfg(target_os = "linux")]
pub(crate) fn die_with_parent(program: &mut Command) {
    use std::os::unix::process::CommandExt;

    let ask = || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        Ok(())
    };
    // SAFETY: Between fork and exec only what is async-signal-safe may happen: this is one system call, without memory
    // allocated or locks taken.
    unsafe { program.pre_exec(ask) };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn die_with_parent(_program: &mut Command) {}

/// The processes that a process has started, and those that they have, as far as their parents still run (proc(5), `children`).
#[cfg(target_os = "linux")]
fn descendants(of: u32) -> Vec<u32> {
    let mut found = vec![of];
    let mut at = 0;
    while let Some(parent) = found.get(at) {
        let threads = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        let lists: Vec<String> =
            threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok()).collect();
        found.extend(lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|pid| pid.parse::<u32>().ok()));
        at += 1;
    }
    found.split_off(1)
}

#[cfg(target_os = "linux")]
fn kill(pid: u32) {
    use rustix::process::{Pid, Signal, kill_process};

    // One that has ended meanwhile is as wanted.
    let _ = i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| kill_process(pid, Signal::KILL));
}

#[cfg(not(target_os = "linux"))]
fn descendants(_of: u32) -> Vec<u32> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
fn kill(_pid: u32) {}

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

    #[cfg(target_os = "linux")]
    fn shell(script: &str, on_line: impl FnMut(&str) -> ControlFlow<()>) -> Outcome {
        // Far beyond what any of these takes, so that a machine that is busy changes nothing.
        run(Command::new("sh").args(["-c", script]), Some(Duration::from_secs(600)), on_line).unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_whose_output_is_enough_is_ended_with_all_that_it_started() {
        let mut pid = None;
        let script = "sh -c 'echo $$; exec sleep 500' & sleep 500; echo never";
        let outcome = shell(script, |line| {
            pid = Some(line.to_owned());
            ControlFlow::Break(())
        });
        let pid = pid.unwrap();
        assert_eq!((outcome.end, outcome.console), (End::Hung, vec![pid.clone()]));
        // Its parent is gone, so it may stay a zombie for as long as whoever inherits it lets it.
        let has_ended = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_none_or(|state| state.is_empty() || state.starts_with(['Z', 'X']))
        };
        while !has_ended() {
            thread::yield_now();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_that_ends_by_itself_has_its_status() {
        let outcome = shell("echo one; echo two >&2; printf three; exit 3", |_| ControlFlow::Continue(()));
        assert_eq!((outcome.end, outcome.console.len()), (End::Exit(3), 3));
        let killed = shell("kill -KILL $$", |_| ControlFlow::Continue(()));
        assert_eq!(killed.end, End::Killed);
    }
}
