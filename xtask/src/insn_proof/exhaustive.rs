//! All 2^32 words, through the model alone: what is claimed encodes to the same word, prints without a panic, and tells
//! its effects without one.
//!
//! This takes the place of fuzzing: the domain is small enough to walk.

use std::fmt::{self, Write};

use anyhow::Result;
use fentry::insn::{Change, Insn, MemoryUse, Place};

use super::report::{Report, Step};

/// Counts the letters that are printed, and keeps none.
#[derive(Default)]
struct Letters(u64);

impl Write for Letters {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len() as u64;
        Ok(())
    }
}

pub(super) fn run(jobs: usize, report: &mut Report) -> Result<()> {
    let pieces: Vec<u32> = (0..4096).collect();
    report.step("exhaustive", jobs, &pieces, |&piece| {
        let mut step = Step::default();
        let first = piece << 20;
        for word in first..=first | 0xf_ffff {
            check(word, &mut step)?;
        }
        Ok(step)
    })
}

fn check(word: u32, step: &mut Step) -> Result<()> {
    step.compared += 1;
    let insn = Insn::decode(word);
    let again = insn.encode();
    if again != word {
        step.disagree(|| format!("{word:#010x}: encodes to {again:#010x}"));
    }
    if matches!(insn, Insn::Unknown { .. }) {
        return Ok(());
    }
    step.known += 1;
    if Insn::decode(again) != insn {
        step.disagree(|| format!("{word:#010x}: decodes to another instruction the second time"));
    }
    let effects = insn.effects();
    if effects.sp != Change::Kept && !effects.writes.contains_sp() {
        step.disagree(|| format!("{word:#010x}: changes SP and does not write it"));
    }
    if matches!(effects.sp, Change::By(_) | Change::From(..)) && effects.sum.is_none() {
        step.disagree(|| format!("{word:#010x}: moves SP and tells no sum"));
    }
    if (effects.place == Place::None) != (effects.memory == MemoryUse::None) {
        step.disagree(|| format!("{word:#010x}: uses memory nowhere, or none somewhere"));
    }
    let mut letters = Letters::default();
    write!(letters, "{insn}")?;
    if letters.0 < 2 {
        step.disagree(|| format!("{word:#010x}: prints nothing"));
    }
    Ok(())
}
