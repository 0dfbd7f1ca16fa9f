//! Proves the command: traces the demo, checks that the trace is whole, and compares what the real readers show with it. A part
//! of `cargo xtask test`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cargo_fentry::progress::Step;
use cargo_fentry::qemu::Boot;
use cargo_fentry::trace::{Booter, Recording, Tracer, proof};

use crate::kernels::variant::Variant;

/// The proof's result.
#[derive(Debug, Default)]
pub(crate) struct Proved {
    /// How many traces were checked.
    pub(crate) traces: usize,
    /// The readers that are not installed.
    pub(crate) left_out: Vec<&'static str>,
}

/// Traces these functions of a kernel with each tracer, and checks each trace.
pub(crate) fn run(image: &Path, functions: &str, variant: &Variant, directory: &Path, step: &Step) -> Result<Proved> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let left_out = proof::missing_readers();
    let mut proved = Proved { traces: 0, left_out };
    let mut of_one_cpu = Vec::new();
    for (tracer, cpus) in [(Tracer::Graph, 1), (Tracer::Function, 1), (Tracer::Profile, 1), (Tracer::Graph, 4)] {
        step.note(&format!("{tracer:?} on {cpus} CPUs"));
        let recording = Recording {
            image: image.to_owned(),
            tracer,
            filters: vec![functions.to_owned()],
            under: Vec::new(),
            not_under: Vec::new(),
            depth: None,
            args: Some(2).filter(|_| tracer == Tracer::Function),
            append: None,
            boot: image.to_owned(),
            booter: Booter::Qemu(Boot { icount: true, ..Boot::new(variant.cpu, cpus) }),
            limit: Duration::from_secs(60),
        };
        let dump = directory.join("trace.dump");
        let calls = recording
            .boot(&dump)
            .and_then(|()| proof::check(&dump, image, directory, &proved.left_out))
            .with_context(|| format!("{tracer:?} on {cpus} CPUs"))?;
        if cpus == 1 {
            of_one_cpu.push(calls);
        }
        proved.traces += 1;
    }
    let [graph, function, profile] = &of_one_cpu[..] else { return Ok(proved) };
    ensure!(!graph.is_empty() && graph == function && graph == profile, "the tracers disagree: {of_one_cpu:?}");
    Ok(proved)
}
