//! Progress of long steps, of which several may run at the same time: spinners on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// The spinners of all steps, one below the other.
static SPINNERS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A running step; it ends when it is finished or dropped.
#[derive(Debug)]
pub struct Step {
    what: String,
    started: Instant,
    spinner: Option<ProgressBar>,
}

impl Step {
    /// Starts a step, described by `what` in a few words, such as `building nop2-release`.
    pub fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        let spinner = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix} ({elapsed}) {wide_msg:.dim}");
            let bar = SPINNERS.add(ProgressBar::new_spinner()).with_prefix(what.clone());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(TICK);
            bar
        });
        if spinner.is_none() {
            eprintln!("... {what}");
        }
        Self { what, started: Instant::now(), spinner }
    }

    /// Shows what the step is doing now, if there is a spinner.
    pub fn note(&self, doing: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(doing.trim().to_owned());
        }
    }

    /// Ends the step, and prints how it went and how long it took.
    pub fn finish(self, how: &str) {
        self.finish_with(how, "");
    }

    /// Ends the step as [`finish`](Self::finish) does, with what else there is to tell: whole lines, kept together.
    pub fn finish_with(self, how: &str, more: &str) {
        let took = in_words(self.started.elapsed());
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        SPINNERS.suspend(|| eprint!("    {}: {how} in {took}\n{more}", self.what));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// A duration at the precision that matters to somebody who waited.
pub fn in_words(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1} s", duration.as_secs_f32()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!(in_words(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(in_words(Duration::from_secs(127)), "2 min 7 s");
    }
}
