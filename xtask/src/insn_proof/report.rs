//! What was compared, and what disagreed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::process::in_parallel;

/// How many disagreements are listed for each mnemonic, and for each step.
const LISTED_ALIKE: usize = 3;
const LISTED: usize = 60;

/// One step's numbers.
#[derive(Debug, Default)]
pub(super) struct Step {
    name: String,
    /// Words or instructions looked at.
    pub(super) compared: u64,
    /// Of those, words that the model claims to know.
    pub(super) known: u64,
    /// Words known to the other side alone.
    pub(super) known_elsewhere: u64,
    disagreements: u64,
    listed: Vec<String>,
    alike: BTreeMap<String, usize>,
}

impl Step {
    pub(super) fn disagree(&mut self, what: impl FnOnce() -> String) {
        self.disagreements += 1;
        if self.listed.len() < LISTED {
            self.list(what());
        }
    }

    fn list(&mut self, line: String) {
        let mnemonic = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let alike = self.alike.entry(mnemonic).or_default();
        *alike += 1;
        if *alike <= LISTED_ALIKE && self.listed.len() < LISTED {
            self.listed.push(line);
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.compared += other.compared;
        self.known += other.known;
        self.known_elsewhere += other.known_elsewhere;
        self.disagreements += other.disagreements;
        for line in other.listed {
            self.list(line);
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, compared, known, known_elsewhere, disagreements, listed, .. } = self;
        write!(f, "{name}: {compared} compared, {known} known, {disagreements} disagreements")?;
        if *known_elsewhere > 0 {
            write!(f, " ({known_elsewhere} more are known to the other side alone)")?;
        }
        for line in listed {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

/// All steps.
#[derive(Debug, Default)]
pub(super) struct Report {
    steps: Vec<Step>,
    left_out: Vec<String>,
}

impl Report {
    /// Does a step, piece by piece, and prints what came of it.
    pub(super) fn step<T: Sync>(
        &mut self,
        name: impl Into<String>,
        jobs: usize,
        pieces: &[T],
        work: impl Fn(&T) -> Result<Step> + Sync,
    ) -> Result<()> {
        let mut step = Step { name: name.into(), ..Step::default() };
        in_parallel(jobs, pieces, work, |piece| step.merge(piece))?;
        println!("{step}");
        self.steps.push(step);
        Ok(())
    }

    /// The program that a step needs; says why the step is left out where it can't be used.
    pub(super) fn usable<'a>(&mut self, step: &str, program: &'a Result<PathBuf, String>) -> Option<&'a Path> {
        match program {
            Ok(program) => Some(program),
            Err(why) => {
                println!("LEFT OUT: {step}: {why}");
                self.left_out.push(step.to_owned());
                None
            }
        }
    }

    pub(super) fn disagreements(&self) -> u64 {
        self.steps.iter().map(|step| step.disagreements).sum()
    }

    /// Prints the sum.
    ///
    /// # Errors
    /// The model and a program disagree, or no program that was asked for can be used.
    pub(super) fn finish(&self) -> Result<()> {
        let compared: u64 = self.steps.iter().map(|step| step.compared).sum();
        println!("in all: {compared} compared, {} disagreements", self.disagreements());
        if !self.left_out.is_empty() {
            println!("left out: {}", self.left_out.join("; "));
        }
        ensure!(self.disagreements() == 0, "the model and the assemblers disagree");
        ensure!(self.left_out.is_empty() || !self.steps.is_empty(), "nothing could be compared");
        Ok(())
    }
}
