//! `cargo xtask doctor`: looks into any arm64 kernel and says whether its functions can be traced, and if not, what to
//! change. It decodes with the engine's own decoder, so that both are of one opinion.

mod advice;
mod callsites;
mod conventions;
mod engine;
mod loaded;
mod report;
mod section;

#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Context, Result};

use loaded::Loaded;
use report::Report;

/// Examines the image, prints what it found, and says whether the kernel is healthy.
pub(crate) fn run(image: &Path) -> Result<bool> {
    let data = std::fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let report = examine(&data).with_context(|| format!("cannot look into {}", image.display()))?;
    println!("{}", image.display());
    print!("{report}");
    Ok(report.problems() == 0)
}

fn examine(data: &[u8]) -> Result<Report> {
    let loaded = Loaded::load(data)?;
    let mut report = Report::default();
    let entries = section::examine(&loaded, &mut report);
    let survey = callsites::examine(&loaded, &entries, &mut report);
    conventions::examine(&loaded, &survey.accepted, &mut report);
    engine::examine(&loaded, &survey.accepted, &mut report);
    Ok(report)
}
