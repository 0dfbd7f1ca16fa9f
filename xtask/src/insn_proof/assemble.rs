//! Encoding: the text of each known word, assembled by `llvm-mc` and by GNU `as`, must give the word.
//!
//! Distances are written for GNU `as` as `.+8`, and ADRP is left out there: without a symbol it cannot be written.
//! `llvm-mc` takes the text as it is, but refuses what the architecture leaves unpredictable (a load that writes one register
//! twice): the model knows those, and they are left out there.
//!
//! A bitmask immediate may have rotation bits that do not matter; an assembler leaves them zero, and so does the word that
//! is expected.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use fentry::insn::{BitmaskImm, Branch, DataImm, Insn, Memory, SimdMemory};
use object::{Object, ObjectSection};

use super::process::Scratch;
use super::report::{Report, Step};
use super::words::Words;

/// Binutils' name for everything that it knows.
const GNU_ARCH: &str =
    "-march=armv9.3-a+crc+memtag+sve2+profile+rng+ssbs+sb+predres+flagm+ls64+lse+rcpc+pauth+fp16fml+tme";

#[derive(Clone, Copy, Debug)]
pub(super) enum Assembler {
    Llvm,
    Gnu,
}

impl Assembler {
    fn run(self, program: &Path, source: &Path, object: &Path) -> Result<Output> {
        let mut command = Command::new(program);
        match self {
            Self::Llvm => command.args(["-triple=aarch64", "-mattr=+all", "--filetype=obj"]),
            Self::Gnu => command.arg(GNU_ARCH),
        };
        command.arg("-o").arg(object).arg(source).output().context("cannot run the assembler")
    }

    /// Whether a program takes the options that it is given here.
    pub(super) fn probe(self, program: &Path, scratch: &Scratch) -> Result<()> {
        let (source, object) = (scratch.file("s"), scratch.file("o"));
        fs::write(&source, "nop\n")?;
        let output = self.run(program, &source, &object)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", complaint.lines().next().unwrap_or("it fails"));
        Ok(())
    }

    /// The text as this assembler takes it; `None` for what it has no way to write.
    fn text(self, insn: &Insn) -> Option<String> {
        let text = insn.to_string();
        match self {
            Self::Llvm if insn.is_unpredictable() => None,
            Self::Llvm => Some(text),
            Self::Gnu => {
                if matches!(insn, Insn::DataImm(DataImm::Adrp { .. })) || gnu_lacks(&text) {
                    return None;
                }
                if !refers_to_a_place(insn) {
                    return Some(text);
                }
                let (start, distance) = text.rsplit_once('#')?;
                let sign = if distance.starts_with('-') { "" } else { "+" };
                Some(format!("{start}.{sign}{distance}"))
            }
        }
    }
}

/// Encodes a bitmask immediate as assemblers do.
fn canonical(insn: Insn) -> Insn {
    let same = |imm: BitmaskImm| BitmaskImm::new(imm.width(), imm.value()).unwrap_or(imm);
    match insn {
        Insn::DataImm(DataImm::Logical { op, rd, rn, imm }) => {
            Insn::DataImm(DataImm::Logical { op, rd, rn, imm: same(imm) })
        }
        Insn::DataImm(DataImm::LogicalFlags { rd, rn, imm }) => {
            Insn::DataImm(DataImm::LogicalFlags { rd, rn, imm: same(imm) })
        }
        other => other,
    }
}

/// What binutils 2.40 cannot write by these names.
fn gnu_lacks(text: &str) -> bool {
    matches!(text, "clrbhb" | "chkfeat x16" | "gcsb dsync" | "pacm" | "dfb")
        || (text.starts_with("prf") && text.contains("slc"))
}

fn refers_to_a_place(insn: &Insn) -> bool {
    match insn {
        Insn::Branch(branch) => matches!(
            branch,
            Branch::B { .. }
                | Branch::Bl { .. }
                | Branch::BCond { .. }
                | Branch::CompareBranch { .. }
                | Branch::TestBranch { .. }
        ),
        Insn::DataImm(DataImm::Adr { .. }) => true,
        Insn::Memory(Memory::Literal { .. } | Memory::PrefetchLiteral { .. }) => true,
        Insn::SimdMemory(SimdMemory::Literal { .. }) => true,
        _ => false,
    }
}

pub(super) fn compare(
    assembler: Assembler,
    program: &Path,
    scratch: &Scratch,
    words: &Words,
    name: &str,
    jobs: usize,
    report: &mut Report,
) -> Result<()> {
    report.step(name, jobs, &words.pieces(), |piece| compare_piece(assembler, program, scratch, &piece.words()))
}

fn compare_piece(assembler: Assembler, program: &Path, scratch: &Scratch, words: &[u32]) -> Result<Step> {
    let mut step = Step::default();
    let mut sources: Vec<(u32, String)> = words
        .iter()
        .filter_map(|&word| {
            let insn = Insn::decode(word);
            if matches!(insn, Insn::Unknown { .. }) {
                return None;
            }
            Some((canonical(insn).encode(), assembler.text(&insn)?))
        })
        .collect();
    step.compared += sources.len() as u64;
    step.known += sources.len() as u64;
    // Lines that are refused are reported and left out; the rest is assembled again.
    let assembled = loop {
        let (source, object) = (scratch.file("s"), scratch.file("o"));
        let text: String = sources.iter().flat_map(|(_, text)| [text.as_str(), "\n"]).collect();
        fs::write(&source, text)?;
        let output = assembler.run(program, &source, &object)?;
        fs::remove_file(&source)?;
        if output.status.success() {
            let data = fs::read(&object)?;
            fs::remove_file(&object)?;
            break data;
        }
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        let refused = refused_lines(&complaints);
        if refused.is_empty() {
            bail!("{}: {complaints}", program.display());
        }
        for (line, complaint) in refused.into_iter().rev() {
            if line == 0 || line > sources.len() {
                bail!("{}: {complaint}", program.display());
            }
            let (word, text) = sources.remove(line - 1);
            step.disagree(|| format!("{word:#010x}: {text} | {complaint}"));
        }
    };
    let file = object::File::parse(assembled.as_slice())?;
    let code = file.section_by_name(".text").context("no .text")?.data()?.to_vec();
    if code.len() != sources.len() * 4 {
        bail!("{}: {} bytes for {} instructions", program.display(), code.len(), sources.len());
    }
    for ((word, text), bytes) in sources.iter().zip(code.chunks_exact(4)) {
        let theirs = u32::from_le_bytes(bytes.try_into()?);
        if theirs != *word {
            step.disagree(|| format!("{word:#010x}: {text} | {theirs:#010x}"));
        }
    }
    Ok(step)
}

/// The lines that an assembler would not take, each once, in order, with what it said.
fn refused_lines(complaints: &str) -> Vec<(usize, String)> {
    let mut refused = std::collections::BTreeMap::new();
    for line in complaints.lines() {
        let lower = line.to_lowercase();
        if !lower.contains("error:") {
            continue;
        }
        let number = line.split(':').find_map(|part| part.trim().parse::<usize>().ok());
        if let Some(number) = number {
            refused.entry(number).or_insert_with(|| line.rsplit(':').next().unwrap_or(line).trim().to_owned());
        }
    }
    refused.into_iter().collect()
}
