//! Booting a kernel that records: its command line says what, and it writes a dump to a file, or on its console.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ValueEnum;
use fentry::Rule;
use fentry::symbols::Function;
use fentry::tracer::dump::MAGIC;
use fentry::tracer::session::{self, MAX_RULES, Options};
use fentry::tracer::under::MAX_UNDER;

use super::lines::{self, Lines};
use super::model::Trace;
use super::runner::{Given, Runner};
use crate::console::{self, End, Outcome};
use crate::progress::Step;
use crate::qemu::{self, Boot};
use crate::symbols;

/// What the kernel does at each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tracer {
    /// Calls with their nesting, durations and results
    Graph,
    /// Calls with their callers
    Function,
    /// Only counts and times
    Profile,
}

/// What boots a kernel.
#[derive(Clone, Debug)]
pub enum Booter {
    /// Our own call of QEMU. Its limit and the kernel's command line are the recording's.
    Qemu(Boot),
    /// Somebody's own command.
    Runner(Runner),
}

/// What a kernel records, and how it is booted.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is an option of the command")]
pub struct Recording {
    pub image: PathBuf,
    pub tracer: Tracer,
    pub filters: Vec<String>,
    pub under: Vec<String>,
    pub not_under: Vec<String>,
    pub depth: Option<u32>,
    pub args: Option<u32>,
    /// Text to add to the kernel's command line.
    pub append: Option<String>,
    /// The file that is loaded: the image, or what was made of it.
    pub boot: PathBuf,
    pub booter: Booter,
    pub limit: Duration,
}

impl Recording {
    /// Boots the kernel, which leaves its dump in the file, and shows its progress. A kernel that fails after it has written
    /// something is no error here: the result has its failure.
    pub fn run(&self, dump: &Path) -> Result<Recorded> {
        let step = Step::start(format!("recording {}", self.boot.display()));
        let recorded = self.boot_noting(dump, |line| step.note(line))?;
        step.finish(&format!("{} bytes", recorded.bytes));
        Ok(recorded)
    }

    /// Boots the kernel without showing anything; its failure is an error.
    pub fn boot(&self, dump: &Path) -> Result<()> {
        self.boot_noting(dump, |_| {})?.failure.map_or(Ok(()), Err)
    }

    /// Gives each console line to `note`, but for those of the dump.
    fn boot_noting(&self, dump: &Path, mut note: impl FnMut(&str)) -> Result<Recorded> {
        match std::fs::remove_file(dump) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot replace {}", dump.display()));
            }
            _ => {}
        }
        let mut on_console = Lines::default();
        let mut outcome = self.boot_by(self.command_line(dump)?, |line| {
            if lines::is_one(line) {
                return on_console.take(line);
            }
            note(line);
            ControlFlow::Continue(())
        })?;
        outcome.console.retain(|line| !lines::is_one(line));
        if !dump.exists() && !on_console.bytes.is_empty() {
            std::fs::write(dump, &on_console.bytes).with_context(|| format!("cannot write {}", dump.display()))?;
        }
        if on_console.is_whole && outcome.end == End::Hung {
            // It has said all, and is ended as a kernel is that never leaves.
            outcome.end = End::Exit(0);
        }
        recorded(&outcome, self.booter.name(), self.limit, dump)
    }

    /// Boots the kernel with this command line until `on_line` has seen enough.
    fn boot_by(&self, append: String, on_line: impl FnMut(&str) -> ControlFlow<()>) -> Result<Outcome> {
        let limit = Some(self.limit);
        match &self.booter {
            Booter::Qemu(boot) => {
                let boot = Boot { limit, append: Some(append), ..boot.clone() };
                qemu::boot_until(&self.boot, &boot, on_line)
            }
            Booter::Runner(runner) => {
                ensure!(self.boot.is_file(), "there is no file {}", self.boot.display());
                let mut command = runner.command(Given { image: &self.image, boot: &self.boot, append: &append });
                console::run(&mut command, limit, on_line).with_context(|| {
                    let program = runner.program();
                    format!("the runner {program} does not start; it is no shell's command: for one, sh -c '...'")
                })
            }
        }
    }

    /// The kernel's command line.
    fn command_line(&self, dump: &Path) -> Result<String> {
        let file = quoted(&format!("trace-file={}", std::path::absolute(dump)?.display()))?;
        let asked = self.session_words()?;
        Ok(match &self.append {
            Some(more) => format!("{file} {asked} {more}"),
            None => format!("{file} {asked}"),
        })
    }

    /// The words by which a session in the kernel is asked for this.
    fn session_words(&self) -> Result<String> {
        let tracer = match self.tracer {
            Tracer::Graph => session::Tracer::Graph,
            Tracer::Function => session::Tracer::Function,
            Tracer::Profile => session::Tracer::Profile,
        };
        let mut options = Options { tracer, ..Options::default() };
        for filter in &self.filters {
            let rule = Rule::parse(filter).with_context(|| format!("cannot use the filter {filter:?}"))?;
            let pushed = options.rules.try_push(rule);
            ensure!(pushed.is_ok(), "a session has {MAX_RULES} filters at most");
        }
        for (functions, rules) in [(&self.under, &mut options.under), (&self.not_under, &mut options.not_under)] {
            for function in functions {
                let rule = Rule::parse(function).with_context(|| format!("cannot use the function {function:?}"))?;
                ensure!(
                    rules.try_push(rule).is_ok(),
                    "a session has {MAX_UNDER} functions at most that calls are below"
                );
            }
        }
        options.depth = self.depth.map_or(options.depth, |depth| depth as usize);
        options.arguments = self.args.map_or(options.arguments, |args| args as usize);
        let written = options.to_string();
        let is_read_as_meant = match Options::parse(session::words(&written)) {
            Ok(read) => read == options,
            Err(error) => bail!("{error}"),
        };
        let can_be_passed = is_read_as_meant && !written.contains(['\n', '\0']);
        ensure!(can_be_passed, "{written:?} can't be passed on a kernel's command line");
        Ok(written)
    }
}

/// What a kernel has recorded.
#[derive(Debug)]
pub struct Recorded {
    /// The dump's length.
    pub bytes: u64,
    /// How the kernel failed, if it did.
    pub failure: Option<anyhow::Error>,
}

impl Booter {
    /// Its name in an error.
    fn name(&self) -> &'static str {
        match self {
            Self::Qemu(_) => "QEMU",
            Self::Runner(_) => "the runner",
        }
    }
}

/// The result of a boot. A kernel that failed may have written a dump before, or part of one.
fn recorded(outcome: &Outcome, booter: &str, limit: Duration, dump: &Path) -> Result<Recorded> {
    let shown = outcome.last_lines();
    let failure = match outcome.end {
        End::Exit(0) => None,
        End::Exit(status) if outcome.is_refused_by(qemu::PROGRAM) => {
            Some(anyhow!("QEMU refuses (status {status}); what it says:\n{shown}"))
        }
        End::Exit(status) => Some(anyhow!("{booter} exited with the status {status}; the last lines:\n{shown}")),
        End::Killed => Some(anyhow!("{booter} was killed; the last lines:\n{shown}")),
        End::Hung => Some(anyhow!(
            "the boot timed out after {} s (--timeout-secs sets the limit); the last lines:\n{shown}",
            limit.as_secs()
        )),
    };
    match (std::fs::metadata(dump).map(|file| file.len()), failure) {
        (Ok(bytes), None) => Ok(Recorded { bytes, failure: None }),
        // Not even its header was written: there is nothing to show but the failure.
        (Ok(bytes), failure) if bytes > 0 => Ok(Recorded { bytes, failure }),
        (_, Some(failure)) => Err(failure),
        (Err(_), None) => bail!(
            "the kernel left no trace: it must write the file that trace-file=PATH of its command line names \
             (fentry::tracer::session), or the lines of a dump on its console (fentry::tracer::dump::DumpLines); the last \
             lines:\n{shown}"
        ),
    }
}

/// Quotes a word for the command line that semihosting hands over.
fn quoted(word: &str) -> Result<String> {
    ensure!(!word.contains(['"', '\n', '\0']), "{word:?} can't be passed on a kernel's command line");
    Ok(if word.contains([' ', '\t', '\'']) { format!("\"{word}\"") } else { word.to_owned() })
}

/// The functions of the kernel whose image this is.
pub(crate) fn functions_of(image: &Path) -> Result<Vec<Function>> {
    let elf = crate::image::map(image)?;
    let symbols = symbols::read_image(&elf).with_context(|| {
        format!("cannot take names from {} (--image is for those, --boot for what is loaded)", image.display())
    })?;
    Ok(symbols.functions)
}

/// Reads a dump, as it is or among the lines of a console, with the functions of the kernel that wrote it.
pub(super) fn read(dump: &Path, functions: &[Function]) -> Result<Trace> {
    let mut bytes = std::fs::read(dump).with_context(|| format!("cannot read {}", dump.display()))?;
    if !bytes.starts_with(&MAGIC) {
        let lines = Lines::in_text(&bytes);
        bytes = if lines.bytes.is_empty() { bytes } else { lines.bytes };
    }
    Trace::from_dump(&bytes, functions).with_context(|| format!("cannot use {}", dump.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_fails_still_leaves_what_it_wrote() {
        let scratch = crate::trace::tests::fixture::Scratch::new("failed");
        let (dump, limit) = (scratch.0.join("dump"), Duration::from_secs(9));
        let console = vec!["a last word".to_owned()];
        let ended = |end| recorded(&Outcome { end, console: console.clone() }, "QEMU", limit, &dump);
        for end in [End::Exit(0), End::Exit(3), End::Killed, End::Hung] {
            assert!(format!("{:#}", ended(end).unwrap_err()).contains("a last word"));
        }
        std::fs::write(&dump, b"").unwrap();
        assert!(ended(End::Exit(3)).unwrap_err().to_string().contains("the status 3"));
        std::fs::write(&dump, b"fentryTR").unwrap();
        assert!(ended(End::Exit(0)).unwrap().failure.is_none());
        for (end, said) in [(End::Exit(3), "the status 3"), (End::Killed, "killed"), (End::Hung, "after 9 s")] {
            let Recorded { bytes: 8, failure: Some(failure) } = ended(end).unwrap() else { panic!() };
            assert!(failure.to_string().contains(said), "{failure}");
        }
    }

    #[test]
    fn the_command_line_says_what_was_asked_for() {
        let recording = Recording {
            image: "kernel".into(),
            tracer: Tracer::Profile,
            filters: vec!["disk::*".into(), "!<disk::Disk as io::Read>::*".into()],
            under: vec!["disk::read".into()],
            not_under: vec!["<disk::Disk as io::Read>::read".into()],
            depth: Some(3),
            args: None,
            append: Some("quiet root=\"a b\"".into()),
            boot: "kernel".into(),
            booter: Booter::Qemu(Boot::new("max", 2)),
            limit: Duration::from_secs(1),
        };
        let expected = "\"trace-file=/some where/dump\" tracer=profile filter=disk::* \
                        \"filter=!<disk::Disk as io::Read>::*\" under=disk::read \
                        \"not-under=<disk::Disk as io::Read>::read\" depth=3 quiet root=\"a b\"";
        assert_eq!(recording.command_line(Path::new("/some where/dump")).unwrap(), expected);
        let odd = Recording { filters: vec!["say \"hi\"".into()], ..recording };
        assert!(odd.command_line(Path::new("dump")).is_err());
    }

    #[test]
    fn what_qemu_refuses_is_told_from_what_a_kernel_says() {
        let refused = |console: &[&str]| {
            let console = console.iter().map(|line| (*line).to_owned()).collect();
            let outcome = Outcome { end: End::Exit(1), console };
            recorded(&outcome, "QEMU", Duration::ZERO, Path::new("/no/dump")).unwrap_err().to_string()
        };
        let unknown = ["qemu-system-aarch64: unsupported machine type", "Use -machine help to list supported machines"];
        assert!(refused(&unknown).starts_with("QEMU refuses (status 1); what it says:\n"), "{}", refused(&unknown));
        let warned = ["qemu-system-aarch64: warning: an option", "the kernel's panic"];
        assert!(refused(&warned).starts_with("QEMU exited with the status 1"), "{}", refused(&warned));
    }

    #[test]
    #[cfg(unix)]
    fn a_runner_s_output_has_the_dump_or_says_why_not() {
        let scratch = crate::trace::tests::fixture::Scratch::new("runner");
        let (dump, kernel) = (scratch.0.join("dump"), scratch.0.join("kernel"));
        std::fs::write(&kernel, b"").unwrap();
        let recording = |runner: &str| Recording {
            image: kernel.clone(),
            tracer: Tracer::Graph,
            filters: Vec::new(),
            under: Vec::new(),
            not_under: Vec::new(),
            depth: None,
            args: None,
            append: None,
            boot: kernel.clone(),
            booter: Booter::Runner(Runner::parse(runner).unwrap()),
            limit: Duration::from_secs(600),
        };
        // A kernel that goes on when it has said all is as good as one that leaves.
        for behind in ["", "; sleep 500"] {
            let said =
                format!("sh -c 'echo booting {{boot}}; echo fentry-dump 61626364; echo fentry-dump end{behind}'");
            let recorded = recording(&said).run(&dump).unwrap();
            assert!(recorded.failure.is_none());
            assert_eq!(std::fs::read(&dump).unwrap(), b"abcd");
        }
        let Recorded { bytes: 2, failure: Some(failure) } =
            recording("sh -c 'echo fentry-dump 6162; echo a panic; exit 7'").run(&dump).unwrap()
        else {
            panic!()
        };
        assert!(failure.to_string().starts_with("the runner exited with the status 7"), "{failure}");
        assert!(failure.to_string().ends_with("    | a panic\n"), "{failure}");
        let no_dump = recording("echo only words").run(&dump).unwrap_err().to_string();
        assert!(no_dump.contains("left no trace") && no_dump.contains("only words"), "{no_dump}");
        let missing = format!("{:#}", recording("/no/runner {boot}").run(&dump).unwrap_err());
        assert!(missing.contains("the runner /no/runner does not start"), "{missing}");
        std::fs::remove_file(&kernel).unwrap();
        let no_file = recording("true").run(&dump).unwrap_err().to_string();
        assert!(no_file.contains("there is no file"), "{no_file}");
    }
}
