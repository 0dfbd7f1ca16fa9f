//! Booting a kernel that records: its command line says what, and it writes a dump to a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ValueEnum;
use fentry::Rule;
use fentry::tracer::session::{self, MAX_RULES, Options};

use super::model::Trace;
use crate::progress::Step;
use crate::qemu::{self, Boot, End};
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

/// What a kernel records, and how it is booted.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is an option of the command")]
pub struct Recording {
    pub image: PathBuf,
    pub tracer: Tracer,
    pub filters: Vec<String>,
    pub depth: Option<u32>,
    pub args: Option<u32>,
    /// Text to add to the kernel's command line.
    pub append: Option<String>,
    pub cpu: String,
    pub cpus: u32,
    pub icount: bool,
    pub limit: Duration,
}

impl Recording {
    /// Boots the kernel, which writes its dump to the file, and shows its progress. A kernel that fails after it has written
    /// something is no error here: the result has its failure.
    pub fn run(&self, dump: &Path) -> Result<Recorded> {
        let step = Step::start(format!("recording {}", self.image.display()));
        let recorded = self.boot_noting(dump, |line| step.note(line))?;
        step.finish(&format!("{} bytes", recorded.bytes));
        Ok(recorded)
    }

    /// Boots the kernel without showing anything; its failure is an error.
    pub fn boot(&self, dump: &Path) -> Result<()> {
        self.boot_noting(dump, |_| {})?.failure.map_or(Ok(()), Err)
    }

    /// Gives each console line to `note`.
    fn boot_noting(&self, dump: &Path, note: impl FnMut(&str)) -> Result<Recorded> {
        match std::fs::remove_file(dump) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot replace {}", dump.display()));
            }
            _ => {}
        }
        let (limit, append) = (Some(self.limit), Some(self.command_line(dump)?));
        let boot = Boot { limit, append, icount: self.icount, ..Boot::new(&self.cpu, self.cpus) };
        let outcome = qemu::boot(&self.image, &boot, note)?;
        recorded(outcome.end, &outcome.last_lines(), self.limit, dump)
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

/// The result of a boot whose last console lines are `shown`. A kernel that failed may have written a dump before, or part of
/// one.
fn recorded(end: End, shown: &str, limit: Duration, dump: &Path) -> Result<Recorded> {
    let failure = match end {
        End::Exit(0) => None,
        End::Exit(status) => Some(anyhow!("the kernel exited with status {status}; its last lines:\n{shown}")),
        End::Killed => Some(anyhow!("QEMU was killed; the kernel's last lines:\n{shown}")),
        End::Hung => Some(anyhow!("the boot timed out after {} s; the kernel's last lines:\n{shown}", limit.as_secs())),
    };
    match (std::fs::metadata(dump).map(|file| file.len()), failure) {
        (Ok(bytes), None) => Ok(Recorded { bytes, failure: None }),
        // Not even its header was written: there is nothing to show but the failure.
        (Ok(bytes), failure) if bytes > 0 => Ok(Recorded { bytes, failure }),
        (_, Some(failure)) => Err(failure),
        (Err(_), None) => bail!(
            "the kernel wrote no trace: it must read trace-file=PATH from its command line (see \
             fentry::tracer::session); its last lines:\n{shown}"
        ),
    }
}

/// Quotes a word for the command line that semihosting hands over.
fn quoted(word: &str) -> Result<String> {
    ensure!(!word.contains(['"', '\n', '\0']), "{word:?} can't be passed on a kernel's command line");
    Ok(if word.contains([' ', '\t', '\'']) { format!("\"{word}\"") } else { word.to_owned() })
}

/// Reads a dump, with function names from the image of the kernel that wrote it.
pub(super) fn read(dump: &Path, image: &Path) -> Result<Trace> {
    let elf = crate::image::map(image)?;
    let symbols = symbols::read_image(&elf).with_context(|| format!("cannot use {}", image.display()))?;
    let bytes = std::fs::read(dump).with_context(|| format!("cannot read {}", dump.display()))?;
    Trace::from_dump(&bytes, &symbols.functions).with_context(|| format!("cannot use {}", dump.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_fails_still_leaves_what_it_wrote() {
        let scratch = crate::trace::tests::fixture::Scratch::new("failed");
        let (dump, limit) = (scratch.0.join("dump"), Duration::from_secs(9));
        let ended = |end| recorded(end, "a last word", limit, &dump);
        for end in [End::Exit(0), End::Exit(3), End::Killed, End::Hung] {
            assert!(format!("{:#}", ended(end).unwrap_err()).contains("a last word"));
        }
        std::fs::write(&dump, b"").unwrap();
        assert!(ended(End::Exit(3)).unwrap_err().to_string().contains("status 3"));
        std::fs::write(&dump, b"fentryTR").unwrap();
        assert!(ended(End::Exit(0)).unwrap().failure.is_none());
        for (end, said) in [(End::Exit(3), "status 3"), (End::Killed, "killed"), (End::Hung, "after 9 s")] {
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
            depth: Some(3),
            args: None,
            append: Some("quiet root=\"a b\"".into()),
            cpu: "max".into(),
            cpus: 2,
            icount: false,
            limit: Duration::from_secs(1),
        };
        let expected = "\"trace-file=/some where/dump\" tracer=profile filter=disk::* \
                        \"filter=!<disk::Disk as io::Read>::*\" depth=3 quiet root=\"a b\"";
        assert_eq!(recording.command_line(Path::new("/some where/dump")).unwrap(), expected);
        let odd = Recording { filters: vec!["say \"hi\"".into()], ..recording };
        assert!(odd.command_line(Path::new("dump")).is_err());
    }
}
