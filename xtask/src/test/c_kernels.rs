//! The part of the suite that is kernels in C.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use cargo_fentry::progress::Step;
use cargo_fentry::qemu::Boot;

use crate::kernels::c::{self, CKernel};
use crate::kernels::console::Verdict;
use crate::kernels::toolchain::RustSource;
use crate::kernels::variant::Variant;
use crate::kernels::workspace::Workspace;
use crate::test::host::Count;
use crate::test::suite::{Row, Selection};

/// Builds a variant's kernels in C, each with several compilers and linkers, and boots them. The images come to `images`.
pub(super) fn boot(
    workspace: &Workspace,
    source: &RustSource,
    variant: &Variant,
    selection: &Selection,
    images: &mut Vec<PathBuf>,
) -> Vec<Row> {
    let kernels: Vec<_> = c::kernels_for(workspace, variant, selection.filter.as_deref()).collect();
    if kernels.is_empty() {
        return Vec::new();
    }
    let what = format!("{variant}: building libfentry.a");
    let (step, started) = (Step::start(what.clone()), Instant::now());
    let library = match c::library(workspace, source, variant) {
        Ok(library) => library,
        Err(error) => {
            step.finish_with("FAILED", &format!("error: {error:#}\n"));
            return vec![Row::new(what, Count { passed: 0, failed: 1 }, started.elapsed())];
        }
    };
    step.finish("done");
    let boot = Boot { limit: Some(selection.limit), ..Boot::new(variant.cpu, 1) };
    let mut boot_kernel = |kernel: &CKernel| {
        let what = format!("{variant}: {}", kernel.name);
        let (step, started) = (Step::start(what.clone()), Instant::now());
        let booted = c::boot_all(workspace, kernel, &library, variant, &boot, &step).unwrap_or_else(|error| {
            let verdict = Verdict { passed: 0, failed: 1, problems: vec![format!("{error:#}")] };
            c::Booted { verdict, ..c::Booted::default() }
        });
        let Verdict { passed, failed, problems } = booted.verdict;
        if failed == 0 {
            step.finish(&format!("{passed} passed"));
        } else {
            let mut report = String::new();
            for problem in &problems {
                let _ = writeln!(report, "    {problem}");
            }
            step.finish_with("FAILED", &report);
        }
        images.extend(booted.images);
        let left_out = booted.left_out.iter().map(|why| format!("{what}: {why}")).collect();
        Row::new(what, Count { passed, failed }, started.elapsed()).with_left_out(left_out)
    };
    kernels.into_iter().map(&mut boot_kernel).collect()
}
