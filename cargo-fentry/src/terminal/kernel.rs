//! A kernel that is asked by lines: its program, what it says, and when it can be asked.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::waiting::{Interrupts, Now, Waiting, Who};
use crate::qemu::{self, Boot};

/// A line can come.
const ENQ: u8 = 5;
/// ^C.
const ETX: u8 = 3;

/// How often the clock and ^C are looked at.
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

/// What has become of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// By itself.
    Ended,
    /// By us, who have said why.
    GivenUp,
}

/// A booted kernel.
pub(super) struct Kernel {
    child: Child,
    stdin: ChildStdin,
    output: Receiver<Vec<u8>>,
    /// For how long it may say nothing to a program.
    limit: Duration,
    interrupts: Interrupts,
    state: State,
}

impl Kernel {
    /// Boots it, shows what it says, and waits until a line can come. With `interrupts`, ^C on this terminal does what those say,
    /// and does not reach the emulator.
    pub(super) fn boot(
        image: &Path,
        boot: &Boot,
        limit: Duration,
        interrupts: Option<&Interrupts>,
        show: impl FnMut(&str),
    ) -> Result<Self> {
        ensure!(image.is_file(), "there is no image {}", image.display());
        let mut command = qemu::command(image, boot);
        #[cfg(unix)]
        if interrupts.is_some() {
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
        }
        Self::start(command, limit, interrupts.cloned().unwrap_or_default(), show)
    }

    /// Starts the program that is its emulator.
    fn start(mut command: Command, limit: Duration, interrupts: Interrupts, show: impl FnMut(&str)) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
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
        let mut kernel = Self { child, stdin, output, limit, interrupts, state: State::Running };
        kernel.listen(Who::Program, show).context("the kernel does not say that a line can come")?;
        Ok(kernel)
    }

    pub(super) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// Asks a line, gives what the kernel says to `show` as it comes, and returns it. What reads on for ever is ended after so
    /// long.
    pub(super) fn ask(&mut self, line: &str, reads_on: Option<Duration>, show: impl FnMut(&str)) -> Result<String> {
        self.ask_as(reads_on.map_or(Who::Program, Who::Reader), line, show)
    }

    /// The same for a person, who ends it by ^C.
    pub(super) fn ask_for_person(&mut self, line: &str, show: impl FnMut(&str)) -> Result<String> {
        self.ask_as(Who::Person, line, show)
    }

    fn ask_as(&mut self, who: Who, line: &str, show: impl FnMut(&str)) -> Result<String> {
        ensure!(!line.contains(['\n', '\r']), "a line has no line break in it");
        self.send(format!("{line}\n").as_bytes())?;
        self.listen(who, show)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = self.stdin.write_all(bytes).and_then(|()| self.stdin.flush());
        sent.map_err(|_| self.ended())
    }

    fn ended(&mut self) -> anyhow::Error {
        self.state = State::Ended;
        Ended.into()
    }

    /// Listens until a line can come.
    fn listen(&mut self, who: Who, mut show: impl FnMut(&str)) -> Result<String> {
        let (mut said, mut waiting) = (String::new(), Waiting::new(who, self.limit, Instant::now()));
        // The beginning of a character whose rest is still to come.
        let mut open = Vec::new();
        loop {
            match self.output.recv_timeout(LOOK) {
                Ok(bytes) => {
                    waiting.heard(Instant::now());
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
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            }
            match waiting.next(Instant::now(), self.interrupts.take()) {
                Now::Listen => {}
                Now::SendInterrupt => self.send(&[ETX])?,
                Now::GiveUp(reason) => {
                    self.state = State::GivenUp;
                    self.child.kill()?;
                    return Err(anyhow!(reason));
                }
            }
        }
    }

    /// Ends it; its failure is an error, unless it was given up, which was one.
    pub(super) fn end(mut self) -> Result<()> {
        match self.state {
            State::GivenUp => return Ok(()),
            State::Ended => {}
            // If it has ended meanwhile, so much the better.
            State::Running => drop(self.send(b"exit\n")),
        }
        let deadline = Instant::now() + self.limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the kernel has ended with {status}");
                return Ok(());
            }
            ensure!(!self.interrupts.take(), "interrupted by ^C before the kernel had ended");
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// Far beyond what any of these takes.
    const LIMIT: Duration = Duration::from_secs(600);

    fn emulator(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_person_s_line_may_have_nothing_to_show_for_longer_than_the_limit_of_a_boot() {
        // What it reads on, it ends by ^C.
        let script =
            r"printf 'booted\005'; read line; head -c 1 > /dev/null; printf '%s has ended\005' $line; read exit";
        let interrupts = Interrupts::default();
        let mut kernel = Kernel::start(emulator(script), LIMIT, interrupts.clone(), |_| {}).unwrap();
        kernel.limit = Duration::ZERO;
        let typist = thread::spawn(move || {
            thread::sleep(5 * LOOK);
            interrupts.tell();
        });
        assert_eq!(kernel.ask_for_person("trace_pipe", |_| {}).unwrap(), "trace_pipe has ended");
        typist.join().unwrap();
        kernel.limit = LIMIT;
        kernel.end().unwrap();
    }

    #[test]
    fn an_interrupt_ends_the_emulator_in_its_boot_and_in_a_script() {
        let interrupts = Interrupts::default();
        let mut pid = String::new();
        let booted = Kernel::start(emulator("echo $$; exec sleep 500"), LIMIT, interrupts.clone(), |text| {
            pid.push_str(text);
            interrupts.tell();
        });
        assert!(format!("{:#}", booted.err().unwrap()).ends_with("interrupted by ^C"));
        let signalled = Command::new("kill").args(["-0", pid.trim()]).output().unwrap();
        assert!(!signalled.status.success(), "{pid} still runs");

        let mut kernel =
            Kernel::start(emulator(r"printf '\005'; exec sleep 500"), LIMIT, interrupts.clone(), |_| {}).unwrap();
        interrupts.tell();
        let asked = kernel.ask("cat trace", None, |_| {});
        assert_eq!(asked.unwrap_err().to_string(), "interrupted by ^C");
        assert!(!kernel.is_running());
        // That has been said.
        kernel.end().unwrap();
    }

    #[test]
    fn a_kernel_s_failure_is_told_once_it_has_ended() {
        let mut kernel =
            Kernel::start(emulator(r"printf '\005'; read line; exit 3"), LIMIT, Interrupts::default(), |_| {}).unwrap();
        assert!(kernel.ask("echo", None, |_| {}).unwrap_err().is::<Ended>());
        assert!(kernel.end().unwrap_err().to_string().contains('3'));
    }
}
