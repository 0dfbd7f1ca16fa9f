//! `cargo xtask fuzz-module`: damaged modules given to the loader until the time is up.
//!
//! Each round takes one of the kept inputs, damages a few places of it, and loads it into memory that is not executed. The
//! loader may refuse it or load it; it may not panic, take long, or keep memory. What makes it do so is kept among the
//! inputs, and the crate's own tests load all of those.
//!
//! The damage is drawn where a loader looks: whole fields of the file header, section headers, symbols and relocations get
//! values from the edges of their ranges or from a neighbour. No instrumented build is needed, so it runs with the pinned
//! toolchain.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cargo_fentry::damage::{Random, change_bytes, change_field, number};
use cargo_fentry::progress::Step;
use fentry::TextAddr;
use fentry::fakes::{COMPILED, FakeKernel, FakeMemory, FakeText};
use fentry::module::{Erratum843419, Exports, Kernel, LoadError, Modules, Placement, Untraced};

use crate::kernels::workspace::Workspace;

/// The kept inputs.
pub(crate) const INPUTS: &str = "src/module/tests/inputs";
const KERNEL: u64 = 0x4020_0000;
const MODULE: u64 = 0x5020_0000;
/// What the inputs need.
const EXPORTS: [&str; 6] =
    ["KERNEL_NUMBER", "greeter_sum", "kernel_note", "kernel_panic", "kernel_sum", "kernel_total"];
/// A round that takes longer is a finding: an input has a few kilobytes.
const LIMIT: Duration = Duration::from_secs(5);

/// Runs for so long; fails where something was found.
pub(crate) fn run(workspace: &Workspace, seconds: u64, seed: u64) -> Result<()> {
    let dir = workspace.root.join(INPUTS);
    let inputs = read_inputs(&dir)?;
    let machine = machine();
    let mut random = Random(seed.max(1));
    let step = Step::start(format!("damaging {} modules, seed {seed}", inputs.len()));
    let started = Instant::now();
    let (mut rounds, mut loaded) = (0_u64, 0_u64);
    while started.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..100 {
            let mut file = inputs[random.below(inputs.len())].clone();
            damage(&mut file, &mut random);
            rounds += 1;
            match load(machine, &file) {
                Ok(was_loaded) => loaded += u64::from(was_loaded),
                Err(why) => {
                    step.finish("FAILED");
                    let kept = dir.join(format!("found-{:016x}.o", checksum(&file)));
                    std::fs::write(&kept, &file).with_context(|| format!("cannot write {}", kept.display()))?;
                    bail!("round {rounds}: {why}; the input is kept as {}", kept.display());
                }
            }
        }
        step.note(&format!("{rounds} rounds"));
    }
    step.finish(&format!("nothing found in {rounds} rounds, {loaded} of them loaded"));
    Ok(())
}

fn read_inputs(dir: &Path) -> Result<Vec<Vec<u8>>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let inputs = paths.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>().context("an input cannot be read")?;
    ensure!(!inputs.is_empty(), "there are no inputs in {}", dir.display());
    Ok(inputs)
}

fn machine() -> &'static FakeKernel {
    let mut text = FakeText::new(KERNEL);
    text.function("start", COMPILED);
    text.build()
}

/// Nothing of a module is executed here.
///
/// # Safety
///
/// None: nothing is called.
unsafe fn no_call(_: TextAddr) -> i32 {
    0
}

/// Loads a file; whether it was one, or what is wrong with the loader.
fn load(machine: &'static FakeKernel, file: &[u8]) -> Result<bool, String> {
    let memory = FakeMemory::new(MODULE);
    let started = Instant::now();
    let attempt = || -> Result<(), LoadError> {
        let kernel = Kernel {
            memory: &memory,
            platform: machine,
            machine,
            regions: &Untraced,
            erratum_843419: Erratum843419::Present,
            call: no_call,
        };
        let exports = EXPORTS.iter().zip(1..).map(|(name, index)| (*name, KERNEL + index * 0x1000));
        let mut modules = Modules::new(kernel, Exports::new(exports)?);
        // SAFETY: nothing of a module is executed here.
        let id = unsafe { modules.load("damaged", file, Placement::Anywhere) }?;
        // SAFETY: as above.
        let _ = unsafe { modules.unload(id) };
        Ok(())
    };
    let result = catch_unwind(AssertUnwindSafe(attempt)).map_err(|_| "the loader panicked".to_owned())?;
    machine.take_events();
    let took = started.elapsed();
    if took > LIMIT {
        return Err(format!("the loader took {took:?}"));
    }
    match memory.lent_bytes() {
        0 => Ok(result.is_ok()),
        bytes => Err(format!("{bytes:#x} bytes were not given back ({result:?})")),
    }
}

/// Changes one to four places.
fn damage(file: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        match random.below(16) {
            0 => file.truncate(random.below(file.len() + 1)),
            1 => change_bytes(file, random),
            2..=4 => change_field(file, 0, 64, random),
            5..=9 => {
                // A section header.
                let (table, count) = (number(file, 40, 8) as usize, number(file, 60, 2) as usize);
                let at = table.saturating_add(64 * random.below(count));
                change_field(file, at, 64, random);
            }
            _ => {
                // Something inside a section: symbols, relocations, records.
                let (table, count) = (number(file, 40, 8) as usize, number(file, 60, 2) as usize);
                let header = table.saturating_add(64 * random.below(count));
                let field = |at| number(file, header.saturating_add(at), 8) as usize;
                let (start, bytes) = (field(24), field(32));
                change_field(file, start, bytes, random);
            }
        }
    }
}

/// FNV-1a, for a name.
fn checksum(file: &[u8]) -> u64 {
    file.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
