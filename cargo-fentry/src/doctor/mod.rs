//! `cargo fentry doctor`: examines any arm64 kernel's image, and says whether its functions can be traced and, if not, what to
//! change. It decodes with the engine's own decoder, so that both agree.

mod advice;
mod callsites;
mod compare;
mod conventions;
mod coverage;
mod engine;
mod loaded;
mod report;
mod section;
mod unwind;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::image;
use crate::symbols::Kept;
use compare::Traced;
use loaded::Loaded;
pub use report::Report;
pub use section::{is_linux, linux, usual};

/// Check whether the functions of an arm64 ELF kernel can be traced, and say what to change
///
/// Reads the callsite section as the engine does at boot (relocations applied), decodes every entry, and checks what the
/// linker script must provide, and that the unwind table says what following the functions gives. Exits with failure if there is
/// a problem.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo fentry doctor path/to/kernel.elf\n  \
                        cargo fentry doctor debug/kernel --compare release/kernel\n  cargo fentry doctor --section __mcount_loc \
                        --symbols __start_mcount_loc,__stop_mcount_loc vmlinux")]
pub struct DoctorArgs {
    /// The linked image, not stripped
    image: PathBuf,
    /// Another image of the same kernel, of another profile for example: examine it too, and say which crates, and which
    /// functions of C and assembly, have callsites in one of the two only
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// The callsite section [default: __patchable_function_entries]
    #[arg(long, value_name = "NAME")]
    section: Option<String>,
    /// The symbols at its start and end [default: __fentry_callsites_start,__fentry_callsites_stop]
    #[arg(long, value_name = "START,STOP", value_parser = Kept::symbols_around)]
    symbols: Option<(String, String)>,
}

/// Examines the image, and the one to compare it with, prints what it found, and says whether all is healthy.
pub fn run(args: &DoctorArgs) -> Result<bool> {
    let kept = usual().but(args.section.as_deref(), args.symbols.as_ref());
    let look = |image: &Path| {
        let data = image::map(image)?;
        let examined = look_into(&data, &kept).with_context(|| format!("cannot examine {}", image.display()))?;
        println!("{}", image.display());
        print!("{}", examined.report);
        Ok::<_, anyhow::Error>(examined)
    };
    let first = look(&args.image)?;
    let Some(other) = &args.compare else { return Ok(first.report.problems() == 0) };
    let second = look(other)?;
    println!("compared");
    let compared = compare::examine([(&args.image, &first.traced), (other, &second.traced)]);
    print!("{compared}");
    Ok([&first.report, &second.report, &compared].iter().all(|report| report.problems() == 0))
}

/// Examines an image.
///
/// # Errors
///
/// It is not an arm64 kernel's image, or it contradicts itself.
pub fn examine(data: &[u8], kept: &Kept) -> Result<Report> {
    look_into(data, kept).map(|examined| examined.report)
}

/// An examined image.
struct Examined {
    report: Report,
    traced: Traced,
}

fn look_into(data: &[u8], kept: &Kept) -> Result<Examined> {
    let loaded = Loaded::load(data)?;
    let mut report = Report::default();
    let entries = section::examine(&loaded, kept, &mut report);
    let decoded = callsites::examine(&loaded, &entries, &mut report);
    if !decoded.accepted.is_empty() {
        coverage::examine(&loaded, &decoded, &mut report);
    }
    conventions::examine(&loaded, &decoded.accepted, &mut report);
    engine::examine(&loaded, &decoded.accepted, &mut report);
    unwind::examine(data, &loaded, &mut report);
    Ok(Examined { report, traced: Traced::of(&loaded, &decoded) })
}
