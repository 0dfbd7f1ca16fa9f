//! Decoding, against `llvm-mc --disassemble`.
//!
//! One word a line goes in. What is no instruction is reported with its line; every other line gives one line of text. The
//! comment after `//` is dropped. The texts must then be equal, with one exception: a system register or SYS operation that
//! the model has no name for prints in its generic form, and there only the rest must be equal. That the generic form means
//! the same register is shown by assembling it.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use fentry::insn::{Insn, System};

use super::process::run_with_input;
use super::report::{Report, Step};
use super::words::Words;

const ARGUMENTS: [&str; 3] = ["--disassemble", "-triple=aarch64", "-mattr=+all"];

/// Whether a program knows the newest instructions that the model does.
pub(super) fn probe(llvm_mc: &Path) -> Result<()> {
    let (word, expected) = (0xd503_251f, "chkfeat x16");
    let text = disassemble(llvm_mc, &[word])?.remove(0);
    ensure!(text.as_deref() == Some(expected), "it doesn't know `{expected}`, as LLVM 19 does");
    Ok(())
}

/// What LLVM calls each word; `None` for no instruction.
pub(super) fn disassemble(llvm_mc: &Path, words: &[u32]) -> Result<Vec<Option<String>>> {
    let mut input = String::with_capacity(words.len() * 20);
    for word in words {
        let [a, b, c, d] = word.to_le_bytes();
        writeln!(input, "{a:#04x} {b:#04x} {c:#04x} {d:#04x}")?;
    }
    let output = run_with_input(llvm_mc, &ARGUMENTS, input.into_bytes())?;
    let complaints = String::from_utf8(output.stderr)?;
    let invalid: HashSet<usize> = complaints
        .lines()
        .filter(|line| line.ends_with("invalid instruction encoding"))
        .map(|line| line.split(':').nth(1).and_then(|number| number.parse().ok()).context("no line number"))
        .collect::<Result<_>>()?;
    let text = String::from_utf8(output.stdout)?;
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && line.trim() != ".text");
    let mut texts = Vec::with_capacity(words.len());
    for number in 1..=words.len() {
        texts.push(if invalid.contains(&number) {
            None
        } else {
            Some(normalise(lines.next().with_context(|| format!("no text for line {number}"))?))
        });
    }
    if lines.next().is_some() {
        bail!("llvm-mc printed more lines than it was given words");
    }
    Ok(texts)
}

fn normalise(line: &str) -> String {
    let code = line.split("//").next().unwrap_or_default();
    code.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) fn compare_decoding(
    llvm_mc: &Path,
    words: &Words,
    name: &str,
    jobs: usize,
    report: &mut Report,
) -> Result<()> {
    report.step(name, jobs, &words.pieces(), |piece| {
        let mut step = Step::default();
        let words = piece.words();
        for (&word, theirs) in words.iter().zip(disassemble(llvm_mc, &words)?) {
            compare_one(word, theirs.as_deref(), &mut step);
        }
        Ok(step)
    })
}

fn compare_one(word: u32, theirs: Option<&str>, step: &mut Step) {
    step.compared += 1;
    let insn = Insn::decode(word);
    if insn.encode() != word {
        step.disagree(|| format!("{word:#010x}: encodes to {:#010x}", insn.encode()));
    }
    if let Insn::Unknown { .. } = insn {
        step.known_elsewhere += u64::from(theirs.is_some());
        return;
    }
    step.known += 1;
    let ours = insn.to_string();
    let same = match theirs {
        None => false,
        Some(theirs) => ours == *theirs || same_but_for_a_name(&insn, &ours, theirs),
    };
    if !same {
        step.disagree(|| format!("{word:#010x}: {ours} | {}", theirs.unwrap_or("not an instruction")));
    }
}

/// Whether the model prints a system register or operation in its generic form, LLVM by a name, and all else is the same.
///
/// LLVM's text loses the register of an operation that takes none (`ic iallu` with X3); the generic form keeps it.
fn same_but_for_a_name(insn: &Insn, ours: &str, theirs: &str) -> bool {
    let registers = |text: &str| -> Vec<String> {
        let operands = text.split_once(' ').map_or("", |(_, operands)| operands);
        operands.split(", ").filter(|operand| is_general(operand)).map(str::to_owned).collect()
    };
    match insn {
        Insn::System(System::Mrs { .. } | System::Msr { .. }) => {
            let generic = ours.contains(" S2_") || ours.contains(" S3_");
            generic && ours.split(' ').next() == theirs.split(' ').next() && registers(ours) == registers(theirs)
        }
        Insn::System(System::Sys { rt, .. }) => {
            let (ours_has, theirs_has) = (registers(ours), registers(theirs));
            let same = ours_has == theirs_has || theirs_has.is_empty() || (rt.is_zero() && theirs_has == ["xzr"]);
            ours.starts_with("sys ") && !theirs.starts_with("sys ") && same
        }
        Insn::System(System::Sysl { .. }) => !theirs.starts_with("sysl ") && registers(ours) == registers(theirs),
        _ => false,
    }
}

fn is_general(operand: &str) -> bool {
    operand == "xzr" || operand.strip_prefix('x').is_some_and(|number| number.parse::<u8>().is_ok())
}
