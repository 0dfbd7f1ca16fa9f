//! What instructions read and write, against LLVM's description of them, by way of `llvm-mca`.
//!
//! No LLVM tool prints the registers that an instruction implicitly uses. But `llvm-mca` simulates a pipeline that waits for
//! them, and its timeline tells when each instruction started. So each instruction is put between a slow producer and a
//! consumer of one register, for each register in turn:
//!
//! ```text
//! udiv x27, x27, x27     slow
//! add  xR, x27, #1       R is ready late
//! <the instruction>      starts late: it reads R
//! add  w28, wR, #1       starts early, or only after the instruction has: the instruction writes R
//! ```
//!
//! The consumer reads the narrow register, since a write of W5 leaves the simulator waiting for X5's old upper half.
//!
//! Where LLVM's description says less or more than the architecture, an exception is listed in [`is_coarse`] and [`is_excepted`].

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use fentry::insn::{Effects, FloatMove, Flow, Insn, Simd, System};

use super::process::Scratch;
use super::report::{Report, Step};
use super::words;

/// The simulated processors: LLVM describes most instructions for the first, and the atomic ones for the second only.
const CPU: &str = "-mcpu=neoverse-v2";
const CPU_FOR_ATOMICS: &str = "-mcpu=thunderx3t110";
/// Registers that the frame around the instruction uses.
const FRAME: u32 = 1 << 27 | 1 << 28;
/// How many instructions go to one process.
const BATCH: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    General(u8),
    Sp,
    Flags,
    Vector(u8),
}

impl Probe {
    fn all() -> impl Iterator<Item = Self> {
        let general = (0..31).filter(|number| FRAME >> number & 1 == 0).map(Self::General);
        let vector = (0..32).filter(|number| *number != 28).map(Self::Vector);
        general.chain([Self::Sp, Self::Flags]).chain(vector)
    }

    fn producer(self) -> String {
        match self {
            Self::General(number) => format!("add x{number}, x27, #1"),
            Self::Sp => "add sp, x27, #1".to_owned(),
            Self::Flags => "cmp x27, #1".to_owned(),
            Self::Vector(number) => format!("dup v{number}.2d, x27"),
        }
    }

    fn consumer(self) -> String {
        match self {
            Self::General(number) => format!("add w28, w{number}, #1"),
            Self::Sp => "add w28, wsp, #1".to_owned(),
            Self::Flags => "csinc w28, w27, wzr, eq".to_owned(),
            Self::Vector(number) => format!("sqabs b28, b{number}"),
        }
    }

    /// Whether the model says that this is read, and that it is written.
    fn claimed(self, effects: &Effects) -> (bool, bool) {
        let bit = |set: u32, number: u8| set >> number & 1 == 1;
        match self {
            Self::General(number) => (bit(effects.reads.bits(), number), bit(effects.writes.bits(), number)),
            Self::Sp => (effects.reads.contains_sp(), effects.writes.contains_sp()),
            Self::Flags => (effects.reads_flags, effects.writes_flags),
            Self::Vector(number) => {
                (bit(effects.vector_reads.bits(), number), bit(effects.vector_writes.bits(), number))
            }
        }
    }
}

/// When an instruction started and ended.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
}

/// Whether a program has the simulated processors and the timeline.
pub(super) fn probe(llvm_mca: &Path, scratch: &Scratch) -> Result<()> {
    for cpu in [CPU, CPU_FOR_ATOMICS] {
        let spans = simulate(llvm_mca, scratch, cpu, "nop\n")?;
        ensure!(spans.is_some_and(|spans| spans.len() == 1), "it has no timeline for {cpu}");
    }
    Ok(())
}

pub(super) fn compare(llvm_mca: &Path, scratch: &Scratch, name: &str, jobs: usize, report: &mut Report) -> Result<()> {
    let words: Vec<u32> = words::representatives(7, 2)
        .into_iter()
        .filter(|word| {
            let insn = Insn::decode(*word);
            let effects = insn.effects();
            let busy = (effects.reads.bits() | effects.writes.bits()) & FRAME != 0;
            let busy_vector = (effects.vector_reads.bits() | effects.vector_writes.bits()) >> 28 & 1 == 1;
            !busy && !busy_vector && !insn.is_unpredictable() && !is_excepted(&insn)
        })
        .collect();
    let (atomics, others): (Vec<u32>, Vec<u32>) =
        words.into_iter().partition(|word| matches!(Insn::decode(*word), Insn::Atomic(_)));
    let others = others.chunks(BATCH).map(|piece| (CPU, piece));
    let atomics = atomics.chunks(BATCH).map(|piece| (CPU_FOR_ATOMICS, piece));
    let pieces: Vec<(&str, &[u32])> = others.chain(atomics).collect();
    report.step(name, jobs, &pieces, |(cpu, piece)| compare_piece(llvm_mca, scratch, cpu, piece))
}

/// What LLVM describes otherwise than the architecture: a call reads SP, FMOV into a register's upper half does not keep the
/// lower one, and SYSL's result is an operand.
fn is_coarse(insn: &Insn, probe: Probe) -> bool {
    match insn {
        Insn::Branch(_) => probe == Probe::Sp && matches!(insn.effects().flow, Flow::Call(_) | Flow::IndirectCall(_)),
        Insn::Simd(Simd::FromGeneral { part: FloatMove::Upper, rd, .. }) => probe == Probe::Vector(rd.number()),
        Insn::System(System::Sysl { rt, .. }) => probe == Probe::General(rt.number()),
        _ => false,
    }
}

/// Instructions that are left out.
fn is_excepted(insn: &Insn) -> bool {
    match insn {
        // Described as reading and writing the flags, whatever the system register.
        Insn::System(System::Mrs { .. } | System::Msr { .. } | System::MsrImm(_)) => true,
        // Not described for any processor.
        Insn::System(System::Sb) => true,
        _ => false,
    }
}

fn compare_piece(llvm_mca: &Path, scratch: &Scratch, cpu: &str, words: &[u32]) -> Result<Step> {
    let probes: Vec<Probe> = Probe::all().collect();
    let mut source = String::new();
    for word in words {
        for probe in &probes {
            writeln!(source, "# LLVM-MCA-BEGIN\nudiv x27, x27, x27\n{}", probe.producer())?;
            writeln!(source, "{}\n{}\n# LLVM-MCA-END", Insn::decode(*word), probe.consumer())?;
        }
    }
    let Some(spans) = simulate(llvm_mca, scratch, cpu, &source)? else {
        return match words {
            [] => Ok(Step::default()),
            [word] => {
                println!("    not described for {cpu}: {}", Insn::decode(*word));
                Ok(Step::default())
            }
            _ => {
                let (first, second) = words.split_at(words.len() / 2);
                let mut step = compare_piece(llvm_mca, scratch, cpu, first)?;
                step.merge(compare_piece(llvm_mca, scratch, cpu, second)?);
                Ok(step)
            }
        };
    };
    let mut spans = spans.chunks_exact(4);
    let mut step = Step::default();
    for word in words {
        let insn = Insn::decode(*word);
        let effects = insn.effects();
        step.compared += 1;
        step.known += 1;
        for probe in &probes {
            let [_, ready, insn_span, consumer] = spans.next().context("too few regions")? else {
                bail!("a region of another size");
            };
            let reads = insn_span.start >= ready.end;
            let writes = if reads {
                consumer.start > insn_span.start
            } else {
                // Of a value that nobody wrote since, the consumer starts the moment that it is ready: not earlier, and
                // not later, as it does behind an instruction that is slow itself or waits for the divider.
                consumer.start != ready.end
            };
            let claimed = probe.claimed(&effects);
            if claimed != (reads, writes) && !is_coarse(&insn, *probe) {
                step.disagree(|| {
                    format!("{word:#010x}: {insn} {probe:?} read, written: {claimed:?} | {:?}", (reads, writes))
                });
            }
        }
    }
    Ok(step)
}

/// The timeline of every instruction in the source, region after region; `None` when LLVM does not describe one of them.
fn simulate(llvm_mca: &Path, scratch: &Scratch, cpu: &str, source: &str) -> Result<Option<Vec<Span>>> {
    let file = scratch.file("s");
    fs::write(&file, source)?;
    let output = Command::new(llvm_mca)
        .args(["-mtriple=aarch64", cpu, "-mattr=+all", "-iterations=1", "-all-views=false"])
        .args(["-timeline", "-timeline-max-cycles=0"])
        .arg(&file)
        .output()?;
    fs::remove_file(&file)?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        if complaint.contains("lack-sched") {
            return Ok(None);
        }
        bail!("llvm-mca: {complaint}");
    }
    let text = String::from_utf8(output.stdout)?;
    // A line is `[0,1]     D====eeeER .  .   add	x1, x9, x2`: the columns of dispatch, execution and retirement.
    text.lines()
        .filter(|line| line.starts_with("[0,"))
        .map(|line| {
            let chart = line.get(10..).context("a short line")?;
            // What is never executed, a NOP, is over when it is dispatched.
            let end = chart.find(['E', 'D']).context("never dispatched")?;
            let end = chart.find('E').unwrap_or(end);
            let start = chart.find('e').filter(|start| *start < end).unwrap_or(end);
            Ok(Span { start, end })
        })
        .collect::<Result<_>>()
        .map(Some)
}
