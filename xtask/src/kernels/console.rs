//! What a boot test says on its console, and what to think of it.
//!
//! ```text
//! running 2 tests
//! test callee_sees_its_arguments ... ok
//! test failed_batch_changes_nothing ... FAILED
//!
//! test result: FAILED. 1 passed; 1 failed
//! ```
//!
//! Any other text may stand between. An example announces nothing: it has one case, which is to boot and to leave with
//! success. A boot test that leaves before it has announced its cases has failed, however it left.

use cargo_fentry::qemu::{End, Outcome};

use crate::kernels::workspace::KernelKind;

/// The result of one boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// What went wrong, a line each.
    pub(crate) problems: Vec<String>,
}

/// What the console has said so far.
#[derive(Debug, Default)]
struct Transcript {
    announced: Option<usize>,
    passed: usize,
    failed: Vec<String>,
    /// The case whose name has been printed and whose end has not.
    running: Option<String>,
    has_result: bool,
}

impl Transcript {
    fn read(&mut self, line: &str) {
        let line = line.trim();
        if let Some(count) = line.strip_prefix("running ").and_then(|rest| rest.strip_suffix(" tests")) {
            self.announced = count.parse().ok();
        } else if line == "running 1 test" {
            self.announced = Some(1);
        } else if line.starts_with("test result: ") {
            self.has_result = true;
        } else if let Some((name, end)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ...")) {
            self.running = Some(name.to_owned());
            self.settle(end.trim());
        } else {
            self.settle(line);
        }
    }

    /// Takes the end of the case that is running, if `end` is one.
    fn settle(&mut self, end: &str) {
        match end {
            "ok" => self.passed += usize::from(self.running.take().is_some()),
            "FAILED" => self.failed.extend(self.running.take()),
            _ => {}
        }
    }
}

/// Judges a boot that has ended, of a kernel of this kind.
pub(crate) fn judge(outcome: &Outcome, kind: KernelKind) -> Verdict {
    let mut transcript = Transcript::default();
    outcome.console.iter().for_each(|line| transcript.read(line));

    let mut problems: Vec<String> = transcript.failed.iter().map(|name| format!("{name} failed")).collect();
    let mut failed = transcript.failed.len();
    let ended_well = match outcome.end {
        End::Exit(0) => true,
        End::Exit(status) => {
            problems.push(format!("the kernel left with status {status}"));
            false
        }
        End::Killed => {
            problems.push("QEMU was killed".to_owned());
            false
        }
        End::Hung => {
            problems.push("the boot hung and was ended".to_owned());
            false
        }
    };
    let Some(announced) = transcript.announced else {
        if kind == KernelKind::BootTest {
            problems.push("the kernel ended before it had announced its cases".to_owned());
            return Verdict { passed: 0, failed: 1, problems };
        }
        return Verdict { passed: usize::from(ended_well), failed: usize::from(!ended_well), problems };
    };

    let missing = announced.saturating_sub(transcript.passed + failed);
    if missing > 0 {
        let last = transcript.running.map_or(String::new(), |name| format!("; the last one started was {name}"));
        problems.push(format!("{missing} of {announced} cases did not end{last}"));
    } else if !transcript.has_result {
        problems.push("the kernel died before its last line".to_owned());
    }
    failed += missing;
    // Whatever else is wrong is one failure, so that it can't get lost in a sum.
    failed = failed.max(usize::from(!problems.is_empty()));
    Verdict { passed: transcript.passed, failed, problems }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(end: End, console: &str) -> Verdict {
        verdict_of(KernelKind::BootTest, end, console)
    }

    fn verdict_of(kind: KernelKind, end: End, console: &str) -> Verdict {
        judge(&Outcome { end, console: console.lines().map(str::to_owned).collect() }, kind)
    }

    #[test]
    fn a_good_run_has_no_problems() {
        let good = "boot\nrunning 2 tests\ntest a ... ok\ntest b ...\nb says something\nok\n\n\
                    test result: ok. 2 passed; 0 failed";
        assert_eq!(verdict(End::Exit(0), good), Verdict { passed: 2, failed: 0, problems: vec![] });
    }

    #[test]
    fn a_failed_case_is_named() {
        let bad = "running 2 tests\ntest a ... FAILED\n  why\ntest b ... ok\ntest result: FAILED. 1 passed; 1 failed";
        let Verdict { passed, failed, problems } = verdict(End::Exit(1), bad);
        assert_eq!((passed, failed), (1, 1));
        assert_eq!(problems, ["a failed", "the kernel left with status 1"]);
    }

    #[test]
    fn cases_that_never_ended_failed() {
        let dead = "running 3 tests\ntest a ... ok\ntest b ... panicked at";
        let Verdict { passed, failed, problems } = verdict(End::Hung, dead);
        assert_eq!((passed, failed), (1, 2));
        assert_eq!(problems, ["the boot hung and was ended", "2 of 3 cases did not end; the last one started was b"]);
    }

    #[test]
    fn success_without_the_last_line_is_none() {
        let Verdict { passed, failed, .. } = verdict(End::Exit(0), "running 1 test\ntest a ... ok");
        assert_eq!((passed, failed), (1, 1));
        let all_ok = "running 1 test\ntest a ... ok\ntest result: ok. 1 passed; 0 failed";
        assert_eq!(verdict(End::Exit(3), all_ok).failed, 1);
    }

    #[test]
    fn an_example_passes_by_leaving_with_success() {
        let example = |end, console| verdict_of(KernelKind::Example, end, console);
        assert_eq!(example(End::Exit(0), "hello"), Verdict { passed: 1, failed: 0, problems: vec![] });
        assert_eq!(example(End::Killed, "").failed, 1);
    }

    #[test]
    fn a_boot_test_that_announces_no_cases_has_failed() {
        let Verdict { passed, failed, problems } = verdict(End::Exit(0), "hello");
        assert_eq!((passed, failed), (0, 1));
        assert_eq!(problems, ["the kernel ended before it had announced its cases"]);
        // That none was selected is announced.
        assert_eq!(verdict(End::Exit(0), "running 0 tests\n\ntest result: ok. 0 passed; 0 failed"), Verdict::default());
    }
}
