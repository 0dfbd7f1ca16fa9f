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
use fentry::TextAddr;
use fentry::fakes::{COMPILED, FakeKernel, FakeMemory, FakeText};
use fentry::module::{Erratum843419, Exports, Kernel, LoadError, Modules, Placement, Untraced};

use crate::kernels::workspace::Workspace;
use crate::progress::Step;

/// The kept inputs.
pub(crate) const INPUTS: &str = "src/module/tests/inputs";
const KERNEL: u64 = 0x4020_0000;
const MODULE: u64 = 0x5020_0000;
/// What the inputs need.
const EXPORTS: [&str; 6] =
    ["KERNEL_NUMBER", "greeter_sum", "kernel_note", "kernel_panic", "kernel_sum", "kernel_total"];
/// A round that takes longer is a finding: an input has a few kilobytes.
const LIMIT: Duration = Duration::from_secs(5);

/// Xorshift64*: repeats from its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// How long the tests of damaged files go on, where `FENTRY_DAMAGE_SECONDS` says so, instead of for their usual rounds:
/// `FENTRY_DAMAGE_SECONDS=600 cargo test --package xtask damaged -- --nocapture`.
#[cfg(test)]
pub(crate) fn seconds_of_damage() -> Option<Duration> {
    std::env::var("FENTRY_DAMAGE_SECONDS").ok()?.parse().ok().map(Duration::from_secs)
}

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

pub(crate) fn change_bytes(file: &mut [u8], random: &mut Random) {
    let at = random.below(file.len());
    if let Some(byte) = file.get_mut(at) {
        *byte = random.next() as u8;
    }
}

/// Changes an aligned field of 1, 2, 4 or 8 bytes in a part of the file.
pub(crate) fn change_field(file: &mut [u8], start: usize, bytes: usize, random: &mut Random) {
    let width = 1 << random.below(4);
    let at = start.saturating_add(random.below(bytes) / width * width);
    let old = number(file, at, width);
    let new = match random.below(10) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << random.below(64),
        3 => (1_u64 << random.below(64)).wrapping_sub(1),
        4 => old.wrapping_add(1),
        5 => old.wrapping_sub(1),
        6 => random.next() % 64,
        7 => file.len() as u64,
        8 => number(file, start.saturating_add(random.below(bytes) / width * width), width),
        _ => random.next(),
    };
    if let Some(field) = at.checked_add(width).and_then(|end| file.get_mut(at..end)) {
        field.copy_from_slice(&new.to_le_bytes()[..width]);
    }
}

/// The little-endian number at a place of the file; 0 beyond its end.
pub(crate) fn number(file: &[u8], at: usize, width: usize) -> u64 {
    let mut bytes = [0; 8];
    if let Some(field) = at.checked_add(width).and_then(|end| file.get(at..end)) {
        bytes[..width].copy_from_slice(field);
    }
    u64::from_le_bytes(bytes)
}

/// FNV-1a, for a name.
fn checksum(file: &[u8]) -> u64 {
    file.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
