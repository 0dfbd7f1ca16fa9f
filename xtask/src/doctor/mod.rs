//! `cargo xtask doctor`: looks into any arm64 kernel and says whether its functions can be traced, and if not, what to
//! change. It decodes with the engine's own decoder, so that both are of one opinion.

mod advice;
mod callsites;
mod conventions;
mod coverage;
mod engine;
mod loaded;
mod report;
mod section;

#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::{Context, Result};

use crate::image;
use crate::symbols::Kept;
use loaded::Loaded;
pub(crate) use report::Report;
pub(crate) use section::usual;

/// Examines the image, whose callsites are kept so, prints what it found, and says whether the kernel is healthy.
pub(crate) fn run(image: &Path, kept: &Kept) -> Result<bool> {
    let data = image::map(image)?;
    let report = examine(&data, kept).with_context(|| format!("cannot look into {}", image.display()))?;
    println!("{}", image.display());
    print!("{report}");
    Ok(report.problems() == 0)
}

/// What there is to say about an image.
///
/// # Errors
///
/// It is no image of a kernel for arm64, or contradicts itself.
pub(crate) fn examine(data: &[u8], kept: &Kept) -> Result<Report> {
    let loaded = Loaded::load(data)?;
    let mut report = Report::default();
    let entries = section::examine(&loaded, kept, &mut report);
    let survey = callsites::examine(&loaded, &entries, &mut report);
    if !survey.accepted.is_empty() {
        coverage::examine(&loaded, &survey, &mut report);
    }
    conventions::examine(&loaded, &survey.accepted, &mut report);
    engine::examine(&loaded, &survey.accepted, &mut report);
    Ok(report)
}
