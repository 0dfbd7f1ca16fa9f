//! The doctor's findings, and how they are printed.

use std::fmt;

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// As it should be.
    Good,
    /// Worth knowing; nothing needs to be done.
    Note,
    /// Tracing will not work, or not everywhere, until this is changed.
    Problem,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) weight: Weight,
    pub(super) what: String,
    /// Examples.
    pub(super) cases: Vec<String>,
    /// What to change.
    pub(super) advice: Option<String>,
}

/// All findings about an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub(super) findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, weight: Weight, what: String, cases: Vec<String>, advice: Option<&str>) {
        self.findings.push(Finding { weight, what, cases, advice: advice.map(str::to_owned) });
    }

    pub(super) fn good(&mut self, what: impl Into<String>) {
        self.add(Weight::Good, what.into(), Vec::new(), None);
    }

    pub(super) fn note(&mut self, what: impl Into<String>) {
        self.add(Weight::Note, what.into(), Vec::new(), None);
    }

    /// A note that says what could be changed.
    pub(super) fn hint(&mut self, what: impl Into<String>, advice: &str) {
        self.add(Weight::Note, what.into(), Vec::new(), Some(advice));
    }

    pub(super) fn note_with_cases(&mut self, what: impl Into<String>, cases: Vec<String>) {
        self.add(Weight::Note, what.into(), cases, None);
    }

    pub(super) fn hint_with_cases(&mut self, what: impl Into<String>, cases: Vec<String>, advice: &str) {
        self.add(Weight::Note, what.into(), cases, Some(advice));
    }

    pub(super) fn problem(&mut self, what: impl Into<String>, advice: &str) {
        self.add(Weight::Problem, what.into(), Vec::new(), Some(advice));
    }

    pub(super) fn problem_with_cases(&mut self, what: impl Into<String>, cases: Vec<String>, advice: &str) {
        self.add(Weight::Problem, what.into(), cases, Some(advice));
    }

    /// How many problems there are.
    pub fn problems(&self) -> usize {
        self.findings.iter().filter(|finding| finding.weight == Weight::Problem).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { weight, what, cases, advice } in &self.findings {
            let weight = match weight {
                Weight::Good => "ok",
                Weight::Note => "note",
                Weight::Problem => "PROBLEM",
            };
            writeln!(f, "  {weight:<8} {what}")?;
            for case in cases {
                writeln!(f, "             {case}")?;
            }
            for line in advice.iter().flat_map(|advice| advice.lines()) {
                writeln!(f, "           > {line}")?;
            }
        }
        match self.problems() {
            0 => writeln!(f, "  healthy"),
            1 => writeln!(f, "  1 problem"),
            problems => writeln!(f, "  {problems} problems"),
        }
    }
}
