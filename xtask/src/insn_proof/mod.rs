//! `cargo xtask insn-proof`: the instruction model against assemblers that we did not write.
//!
//! | step | what is compared | with |
//! |---|---|---|
//! | decode | each word's text, or that there is none | `llvm-mc --disassemble`, `objdump -D` (GNU) |
//! | encode | the word that our text assembles to | `llvm-mc`, `as` (GNU) |
//! | effects | which registers an instruction waits for, and which wait for it | `llvm-mca`'s timeline |
//! | places | where an access goes, which registers it moves, sums, LR's signature | `llvm-mc`'s text, read anew |
//! | share | how many words of real code are known | the ELF images and archives given |
//! | exhaustive | decode, encode, print, for all 2^32 words | the model itself |
//!
//! The words: random ones; a walk through each encoding class (each of a class's bits flipped around words that are
//! known); and every field of every instruction at its edges, which is the same walk started from one word per variant.
//!
//! A word that the model calls unknown is never a disagreement. A word that it claims to know must be known to both
//! disassemblers, with the same text but for the spelling differences that [`gnu`] lists.

mod assemble;
mod effects;
mod exhaustive;
mod gnu;
mod llvm;
mod places;
mod process;
mod report;
mod share;
mod tools;
mod vectors;
mod words;

use std::path::PathBuf;

use anyhow::{Result, anyhow};

use assemble::Assembler;
use report::Report;
use tools::Tools;
use words::Words;

/// Compare the instruction model with llvm-mc, llvm-mca and GNU binutils
///
/// A step whose program is missing or too old is left out, and the output says so.
#[derive(Debug, clap::Args)]
pub(crate) struct InsnProof {
    /// The number of random words to decode
    #[arg(long, default_value_t = 10_000_000)]
    words: u64,
    /// Seed of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the share of known words in this ELF image, object or archive; may be repeated
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// Also decode, encode and print all 2^32 words; takes some minutes
    #[arg(long)]
    exhaustive: bool,
    /// Write src/insn/tests/vectors.txt, which the crate's tests read, and do nothing else
    #[arg(long)]
    renew_vectors: bool,
    /// Only these steps
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// The number of parallel processes
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// A part of the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Words to text: the walk and the random ones
    Decode,
    /// Text to words
    Encode,
    /// Registers read and written
    Effects,
    /// Where accesses go, and what becomes of LR's signature
    Places,
    /// Known words in real code
    Share,
}

impl InsnProof {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

/// Runs the proof. A step whose program is missing, or of a release that can't do it, is left out and said so.
///
/// # Errors
/// The model and a program disagree, or there is no program to compare with.
pub(crate) fn run(args: &InsnProof) -> Result<()> {
    let mut report = Report::default();
    if args.renew_vectors {
        let tools = Tools::ensure()?;
        return vectors::renew(tools.llvm_mc.as_deref().map_err(|why| anyhow!("{why}"))?);
    }
    if [Part::Decode, Part::Encode, Part::Effects, Part::Places].into_iter().any(|part| args.wants(part)) {
        with_programs(args, &mut report)?;
    }
    if args.wants(Part::Share) {
        share::print(&args.image)?;
    }
    if args.exhaustive {
        exhaustive::run(args.jobs, &mut report)?;
    }
    report.finish()
}

fn with_programs(args: &InsnProof, report: &mut Report) -> Result<()> {
    let tools = Tools::ensure()?;
    tools.print_versions()?;
    let (Tools { scratch, .. }, jobs) = (&tools, args.jobs);
    let walked = words::walk(args.seed);
    if args.wants(Part::Decode) {
        let random = Words::random(args.seed, args.words);
        for (words, name) in [(&walked, "walk"), (&random, "random")] {
            let step = format!("decode, {name}, llvm-mc");
            if let Some(llvm_mc) = report.usable(&step, &tools.llvm_mc) {
                llvm::compare_decoding(llvm_mc, words, &step, jobs, report)?;
            }
            let step = format!("decode, {name}, GNU objdump");
            if let Some(objdump) = report.usable(&step, &tools.gnu_objdump) {
                gnu::compare_decoding(objdump, scratch, words, &step, jobs, report)?;
            }
        }
    }
    if args.wants(Part::Encode) {
        let programs = [
            ("encode, walk, llvm-mc", Assembler::Llvm, &tools.llvm_mc),
            ("encode, walk, GNU as", Assembler::Gnu, &tools.gnu_as),
        ];
        for (step, assembler, program) in programs {
            if let Some(program) = report.usable(step, program) {
                assemble::compare(assembler, program, scratch, &walked, step, jobs, report)?;
            }
        }
    }
    if args.wants(Part::Effects) {
        let step = "effects, llvm-mca";
        if let Some(llvm_mca) = report.usable(step, &tools.llvm_mca) {
            effects::compare(llvm_mca, scratch, step, jobs, report)?;
        }
    }
    if args.wants(Part::Places) {
        let random = Words::random(args.seed, args.words / 10);
        for (words, step) in [(&walked, "places, walk, llvm-mc"), (&random, "places, random, llvm-mc")] {
            if let Some(llvm_mc) = report.usable(step, &tools.llvm_mc) {
                places::compare(llvm_mc, words, step, jobs, report)?;
            }
        }
        let step = "unknown vector instructions, llvm-mc";
        if let Some(llvm_mc) = report.usable(step, &tools.llvm_mc) {
            places::compare_unknown(llvm_mc, args.seed, step, jobs, report)?;
        }
    }
    Ok(())
}
