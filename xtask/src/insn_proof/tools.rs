//! The assemblers, disassemblers and the simulator of other people: which are there, and can do what is asked of them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::assemble::Assembler;
use super::process::Scratch;
use super::{effects, gnu};
use crate::llvm;
use crate::setup::packages;

/// What the proof needs, as Debian and Ubuntu name it.
const PACKAGES: [&str; 2] = ["llvm-19", "binutils-aarch64-linux-gnu"];

/// The programs; for each that can't be used, the reason.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) llvm_mc: Result<PathBuf, String>,
    pub(super) llvm_mca: Result<PathBuf, String>,
    pub(super) gnu_as: Result<PathBuf, String>,
    pub(super) gnu_objdump: Result<PathBuf, String>,
    pub(super) scratch: Scratch,
}

impl Tools {
    /// Finds the programs; installs them where one is missing and this user may.
    pub(super) fn ensure() -> Result<Self> {
        let tools = Self::find()?;
        let missing: Vec<&String> = tools.all().filter_map(|program| program.as_ref().err()).collect();
        if missing.is_empty() {
            return Ok(tools);
        }
        missing.iter().for_each(|why| eprintln!("    {why}"));
        match packages::install(&PACKAGES) {
            Ok(()) => Self::find(),
            Err(error) => {
                let packages = PACKAGES.join(" ");
                eprintln!("    {error:#}; by hand: sudo apt-get install --no-install-recommends {packages}");
                Ok(tools)
            }
        }
    }

    fn find() -> Result<Self> {
        let scratch = Scratch::new()?;
        Ok(Self {
            llvm_mc: llvm::newest("llvm-mc", super::llvm::probe),
            llvm_mca: llvm::newest("llvm-mca", |path| effects::probe(path, &scratch)),
            gnu_as: binutils("aarch64-linux-gnu-as", |path| Assembler::Gnu.probe(path, &scratch)),
            gnu_objdump: binutils("aarch64-linux-gnu-objdump", |path| gnu::probe(path, &scratch)),
            scratch,
        })
    }

    fn all(&self) -> impl Iterator<Item = &Result<PathBuf, String>> {
        [&self.llvm_mc, &self.llvm_mca, &self.gnu_as, &self.gnu_objdump].into_iter()
    }

    /// Prints which programs are used, and their versions.
    pub(super) fn print_versions(&self) -> Result<()> {
        for program in self.all().filter_map(|program| program.as_ref().ok()) {
            println!("{}: {}", program.display(), version(program)?);
        }
        Ok(())
    }
}

/// One of binutils' programs, if it can do what it is tried with.
fn binutils(name: &str, probe: impl Fn(&Path) -> Result<()>) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    let found = found.ok_or_else(|| format!("{name} is not installed"))?;
    probe(&found).map_err(|error| llvm::unusable(&found, &error))?;
    Ok(found)
}

/// A program's own words about its version.
pub(super) fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| ["version", "assembler", "objdump"].iter().any(|word| line.contains(word)));
    Ok(line.unwrap_or("?").trim().to_owned())
}
