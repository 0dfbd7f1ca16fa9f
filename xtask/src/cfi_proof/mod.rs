//! `cargo xtask cfi-proof`: what the checker says of frames, against a kernel that runs.
//!
//! QEMU executes the kernel one instruction at a time, and logs the registers before each ([`log`]). That alone tells who has
//! called whom, and what each function found at its entry ([`calls`]), and what the kernel has stored on its stack
//! ([`memory`]). Before each instruction everything that the checker's state claims is compared with it ([`claims`]): where
//! the canonical frame address is, and where the return address and the caller's x19 to x29 are, each place of each.

mod calls;
mod claims;
mod log;
mod memory;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use cargo_fentry::progress::Step;
use fentry_verify::{Cfi, Flow, Image, NoReturn, Program};

use crate::kernels::build;
use crate::kernels::toolchain::RustSource;
use crate::kernels::variant::Variant;
use crate::kernels::workspace::Workspace;
use calls::{Calls, Code};
use claims::Compared;
use log::{Log, Registers};
use memory::Memory;

/// How many disagreements are shown.
const SHOWN: usize = 20;

/// Compare what `verify` says of frames with a kernel that is executed one instruction at a time
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask cfi-proof --kernel demo --steps 1000000")]
pub(crate) struct CfiProof {
    /// The kernel to run, on one CPU
    #[arg(long, value_name = "NAME", default_value = "minimal")]
    kernel: String,
    /// The variant to build it for
    #[arg(long, value_name = "NAME", default_value = Variant::default().name, value_parser = Variant::named)]
    variant: &'static Variant,
    /// Run this image, built by whomever, with the variant's CPU
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// How many instructions to execute; the kernel may end earlier
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    steps: u64,
}

/// What has come out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proof {
    /// The instructions that were executed.
    pub(crate) steps: u64,
    /// Those before which claims were compared: of functions whose entry was seen.
    compared_at: u64,
    /// How many functions those are in.
    functions: usize,
    compared: Compared,
    /// How often the chain of calls was lost.
    lost: u64,
    /// How many instructions there are before which a claim is wrong, and the first of them.
    wrong: usize,
    shown: Vec<String>,
}

/// Runs the proof.
///
/// # Errors
/// A claim is wrong, or nothing could be compared.
pub(crate) fn run(args: &CfiProof) -> Result<()> {
    let image = match &args.image {
        Some(image) => image.clone(),
        None => build_kernel(args)?,
    };
    let step = Step::start(format!("executing {}", image.display()));
    let proof = prove(&image, args.variant.cpu, args.steps)?;
    step.finish(&format!("{} instructions", proof.steps));
    let Proof { compared_at, functions, compared: Compared { claims, unseen }, lost, .. } = &proof;
    println!("compared before {compared_at} instructions of {functions} functions: {claims} claims");
    println!("not compared: {unseen} claims of places whose store was not seen");
    println!("the chain of calls was lost {lost} times");
    proof.check()
}

impl Proof {
    /// Whether it is one.
    ///
    /// # Errors
    /// A claim is wrong; the first of them are told. Or little was compared.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(self.wrong == 0, "claims are wrong at {} instructions:\n{}", self.wrong, self.shown.concat());
        let (compared_at, steps) = (self.compared_at, self.steps);
        ensure!(compared_at >= steps / 2, "of {steps} instructions no more than {compared_at} could be compared");
        Ok(())
    }
}

fn build_kernel(args: &CfiProof) -> Result<PathBuf> {
    let workspace = Workspace::load()?;
    let source = RustSource::find(&workspace)?.context("the source of core is missing; `cargo xtask setup` gets it")?;
    let kernel = workspace.kernel(&args.kernel)?;
    let step = Step::start(format!("building {} for {}", args.kernel, args.variant));
    let images = build::images(&workspace, &source, args.variant, std::slice::from_ref(kernel), &step)?;
    step.finish("done");
    Ok(images.first().context("no kernel was built")?.path.clone())
}

/// Executes so many of an image's instructions, and compares.
pub(crate) fn prove(image: &Path, cpu: &str, steps: u64) -> Result<Proof> {
    let data = std::fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let program = Program::new(Image::parse(&data).with_context(|| format!("cannot verify {}", image.display()))?);
    let flow = Flow::follow(&program, &NoReturn::default());
    let cfi = Cfi::of(&flow);
    for single in log::SINGLE {
        let (_running, log) = log::run(image, cpu, single)?;
        let proof = follow(&program, &flow, &cfi, log, steps)?;
        // A release that does not know the option ends at once.
        if proof.steps > 0 {
            return Ok(proof);
        }
    }
    bail!("QEMU has logged nothing")
}

fn follow(program: &Program<'_>, flow: &Flow<'_>, cfi: &Cfi, log: Log<impl Read>, steps: u64) -> Result<Proof> {
    let mut proof = Proof::default();
    let code = Code::new(program);
    let mut calls = Calls::new(&code);
    let mut memory = Memory::default();
    let mut before: Option<Registers> = None;
    let (mut functions, mut wrong_at) = (HashSet::new(), HashSet::new());
    for now in log.take(usize::try_from(steps).unwrap_or(usize::MAX)) {
        let now = now?;
        proof.steps += 1;
        match &before {
            Some(before) => {
                if let Some(id) = code.at(before.pc) {
                    let insn = program.insn(id);
                    memory.execute(&insn, &insn.effects(), before);
                }
                calls.execute(before, &now);
            }
            None => calls.start(&now),
        }
        before = Some(now);
        let Some(frame) = calls.running() else { continue };
        let (Some(function), Some(id)) = (frame.function, code.at(now.pc)) else { continue };
        if code.function_at(now.pc) != Some(function) {
            continue;
        }
        let wrong = match cfi.state(id) {
            Some(state) => claims::compare(state, &now, frame, &memory, &mut proof.compared),
            None if flow.is_followed(function) => "    it is executed, and nothing is said of it\n".to_owned(),
            None => continue,
        };
        proof.compared_at += 1;
        functions.insert(function);
        if !wrong.is_empty() && wrong_at.insert(id) && wrong_at.len() <= SHOWN {
            proof.shown.push(format!("{}: {}\n{wrong}", program.place(id), program.insn(id)));
        }
    }
    (proof.functions, proof.wrong, proof.lost) = (functions.len(), wrong_at.len(), calls.lost);
    Ok(proof)
}
