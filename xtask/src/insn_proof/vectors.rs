//! The vectors of the ordinary test run: a word of each kind of instruction, with LLVM's text.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use fentry::insn::Insn;

use super::llvm;
use super::tools::version;
use super::words;

const FILE: &str = "src/insn/tests/vectors.txt";
const HEAD: &str = "\
# Words and what LLVM's disassembler calls them. `-` is no instruction, or one that the model does not claim.
# Made by: cargo xtask insn-proof --renew-vectors
";

pub(super) fn renew(llvm_mc: &Path) -> Result<()> {
    let mut words = words::representatives(11, 1);
    let mut random = words::Random::new(12);
    // Neighbours of known words, and others, that must stay unknown.
    let unknown: Vec<u32> = words.iter().map(|word| word ^ 1 << (random.next() % 32)).collect();
    words.extend(unknown.into_iter().filter(|word| matches!(Insn::decode(*word), Insn::Unknown { .. })));
    words.sort_unstable();
    words.dedup();
    let texts = llvm::disassemble(llvm_mc, &words)?;
    let mut file = format!("{HEAD}# By: llvm-mc, {}\n", version(llvm_mc)?);
    for (word, text) in words.iter().zip(texts) {
        let insn = Insn::decode(*word);
        match text {
            Some(text) if insn.to_string() == text => writeln!(file, "{word:08x} {text}")?,
            _ if matches!(insn, Insn::Unknown { .. }) => writeln!(file, "{word:08x} -")?,
            // A name that LLVM has and the model has not, or the other way round.
            Some(_) if insn.to_string().contains(['S', 's']) => {}
            Some(text) => bail!("{word:08x}: {insn} | {text}"),
            None => bail!("{word:08x}: {insn} | not an instruction"),
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no parent folder")?;
    let path = root.join(FILE);
    fs::write(&path, &file)?;
    println!("{}: {} words", path.display(), file.lines().count() - 3);
    Ok(())
}
