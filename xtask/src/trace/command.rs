//! The command line of `cargo xtask trace`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use super::formats::{Format, folded, summary};
use super::model::Trace;
use super::record::{self, Recording, Tracer};
use crate::kernels::build;
use crate::kernels::variant::Variant;
use crate::kernels::workspace::Workspace;
use crate::progress::Step;
use crate::setup;

/// The kernel that is traced where none is named.
const KERNEL: &str = "demo";

/// Trace a kernel and export the trace to other tools' formats
///
/// Boots the demo, or the kernel that you name, in QEMU. The kernel's command line says what to trace and where to write
/// the records (fentry::tracer::session); function names come from its image. --from exports a saved dump again, in
/// other formats.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo xtask trace\n  \
                        cargo xtask trace --cpus 4 --filter '*' --filter '!support::*' --format all\n  \
                        cargo xtask trace --tracer profile --filter 'alloc::*'\n  \
                        cargo xtask trace --image kernel.elf --tracer function --args 2\n  \
                        cargo xtask trace --from target/trace/trace.dump --image kernel.elf --format svg")]
pub(crate) struct TraceArgs {
    /// What to record of each call
    #[arg(long, value_enum, default_value_t = Tracer::Graph)]
    tracer: Tracer,
    /// Trace these functions, by name or glob; a leading ! excludes them; may be repeated [default: the demo's own
    /// functions; all functions of other kernels]
    #[arg(long = "filter", value_name = "GLOB")]
    filters: Vec<String>,
    /// Graph tracer: record calls to this depth only
    #[arg(long, value_name = "N")]
    depth: Option<u32>,
    /// Function tracer: record the first N arguments
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=8))]
    args: Option<u32>,
    /// The number of CPUs [default: what the kernel asks for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    cpus: Option<u32>,
    /// The kernel to build and trace
    #[arg(long, value_name = "NAME", default_value = KERNEL)]
    kernel: String,
    /// The variant to build
    #[arg(long, value_name = "NAME", default_value = Variant::default().name, value_parser = Variant::named)]
    variant: &'static Variant,
    /// Trace this image instead; its kernel must read these words and write files by semihosting
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kernel", "variant"])]
    image: Option<PathBuf>,
    /// The CPU model, as QEMU names it [default: the variant's]
    #[arg(long)]
    cpu: Option<String>,
    /// Text to add to the kernel's command line
    #[arg(long, value_name = "TEXT")]
    append: Option<String>,
    /// Export this dump, or as much of it as is intact, instead of booting a kernel
    #[arg(long, value_name = "FILE", requires = "image")]
    from: Option<PathBuf>,
    /// Output format; may be repeated
    #[arg(long = "format", value_enum, value_name = "FORMAT", default_value = "text")]
    formats: Vec<Choice>,
    /// Where to write: a file for one format, a directory for several [default: target/trace, named by the format]
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// End the boot after this many seconds
    #[arg(long, value_name = "N", default_value_t = 60)]
    timeout_secs: u64,
}

/// An argument of --format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    One(Format),
    All,
}

impl ValueEnum for Choice {
    fn value_variants<'a>() -> &'a [Self] {
        use Format::{Folded, Perfetto, Svg, Text, TraceDat, Uftrace};
        &[
            Self::One(Text),
            Self::One(Uftrace),
            Self::One(TraceDat),
            Self::One(Perfetto),
            Self::One(Folded),
            Self::One(Svg),
            Self::All,
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::One(format) => format.to_possible_value(),
            Self::All => Some(PossibleValue::new("all").help("All of them")),
        }
    }
}

/// Traces a kernel, exports the trace, and prints the summary.
pub(crate) fn run(args: &TraceArgs) -> Result<()> {
    let workspace = Workspace::load()?;
    let directory = workspace.target_dir.join("trace");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let (dump, image, failure) = match (&args.from, &args.image) {
        (Some(from), Some(image)) => (from.clone(), image.clone(), None),
        _ => {
            let recording = recording(&workspace, args)?;
            let dump = directory.join("trace.dump");
            let recorded = recording.run(&dump)?;
            (dump, recording.image, recorded.failure)
        }
    };
    with_failure(show(args, &dump, &image, &directory), failure)
}

/// The command's result: a kernel's failure counts more than an error in exporting what it left.
fn with_failure(shown: Result<()>, failure: Option<anyhow::Error>) -> Result<()> {
    let Some(failure) = failure else { return shown };
    if let Err(error) = shown {
        eprintln!("{error:#}");
    }
    Err(failure)
}

/// Exports a dump and prints its summary.
fn show(args: &TraceArgs, dump: &Path, image: &Path, directory: &Path) -> Result<()> {
    let step = Step::start("reading the records");
    let trace = record::read(dump, image)?;
    step.finish(&format!("{} events", trace.events.len()));
    let Written { files, left_out } = write_all(&trace, &args.formats, args.output.as_deref(), directory)?;
    let mut table = Vec::new();
    summary::write(&trace, &mut table)?;
    println!("\n{}", String::from_utf8_lossy(&table).trim_end());
    println!();
    files.iter().for_each(|(format, output)| println!("{}", format.how_to_read(output)));
    left_out.iter().for_each(|(format, why)| println!("no {}: {why}", format.default_output()));
    println!("{}, for --from", dump.display());
    Ok(())
}

/// What to record; builds the kernel if it is one of this repository's.
fn recording(workspace: &Workspace, args: &TraceArgs) -> Result<Recording> {
    let (image, settings) = match &args.image {
        Some(image) => (image.clone(), None),
        None => {
            let kernel = workspace.kernel(&args.kernel)?;
            let source = setup::run(workspace, None)?;
            let step = Step::start(format!("building {} for {}", kernel.name, args.variant));
            let images = build::images(workspace, &source, args.variant, std::slice::from_ref(kernel), &step)?;
            step.finish("done");
            (images.into_iter().next().context("no kernel was built")?.path, Some(&kernel.settings))
        }
    };
    let mut filters = args.filters.clone();
    if filters.is_empty() {
        filters.extend(settings.and_then(|settings| settings.traced.clone()));
    }
    Ok(Recording {
        image,
        tracer: args.tracer,
        filters,
        depth: args.depth,
        args: args.args,
        append: args.append.clone(),
        cpu: args.cpu.clone().unwrap_or_else(|| args.variant.cpu.to_owned()),
        cpus: args.cpus.or(settings.map(|settings| settings.cpus)).unwrap_or(1),
        icount: settings.is_some_and(|settings| settings.icount),
        limit: Duration::from_secs(args.timeout_secs),
    })
}

/// The exported formats.
#[derive(Debug, Default)]
struct Written {
    /// Each with its path.
    files: Vec<(Format, PathBuf)>,
    /// Those without anything to show, of formats that were not asked for by name, and why.
    left_out: Vec<(Format, String)>,
}

/// Writes the chosen formats.
fn write_all(trace: &Trace, choices: &[Choice], output: Option<&Path>, directory: &Path) -> Result<Written> {
    let is_chosen = |format: &Format| choices.contains(&Choice::All) || choices.contains(&Choice::One(*format));
    let mut formats: Vec<Format> = Format::ALL.into_iter().filter(is_chosen).collect();
    if !trace.profile.is_empty() {
        // There are no events to show.
        ensure!(
            choices.iter().all(|choice| matches!(choice, Choice::One(Format::Text) | Choice::All)),
            "a profile is a table, and can be written as text only"
        );
        formats = vec![Format::Text];
    }
    let mut written = Written::default();
    if formats.iter().any(|format| format.needs_durations())
        && let Err(error) = folded::Stacks::of(trace)
    {
        let is_named = |format: &Format| choices.contains(&Choice::One(*format));
        // All are asked for: those that can be.
        let hopeless = formats.extract_if(.., |format| format.needs_durations() && !is_named(format));
        written.left_out = hopeless.map(|format| (format, error.to_string())).collect();
    }
    let several = choices.len() > 1 || choices.contains(&Choice::All);
    for format in formats {
        let output = match output {
            Some(output) if several => output.join(format.default_output()),
            Some(output) => output.to_owned(),
            None => directory.join(format.default_output()),
        };
        if several && let Some(parent) = output.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        let step = Step::start(format!("writing {}", output.display()));
        format.write(trace, &output).with_context(|| format!("cannot write {}", output.display()))?;
        step.finish("done");
        written.files.push((format, output));
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::tests::fixture::{self, Scratch};

    #[test]
    fn every_format_is_written_where_it_is_asked_for() {
        let can_be_named = |format| Choice::value_variants().contains(&Choice::One(format));
        assert!(Format::ALL.into_iter().all(can_be_named));
        let scratch = Scratch::new("command");
        let output = scratch.0.join("all");
        let written = write_all(&fixture::damaged(), &[Choice::All], Some(&output), Path::new("nowhere")).unwrap();
        assert_eq!((written.files.len(), written.left_out.len()), (Format::ALL.len(), 0));
        for (format, output) in written.files {
            let file = if output.is_dir() { output.join("info") } else { output };
            let begins: &[u8] = match format {
                Format::Text => b"# tracer: function_graph\n",
                Format::Uftrace => b"Ftrace!\0",
                Format::TraceDat => b"\x17\x08\x44tracing6\0",
                Format::Perfetto => b"{\"displayTimeUnit\":\"ns\"",
                Format::Folded => b"worker;kernel::main",
                Format::Svg => b"<svg xmlns",
            };
            assert!(std::fs::read(&file).unwrap().starts_with(begins), "{format:?}");
        }
        let one = scratch.0.join("one.svg");
        let written =
            write_all(&fixture::graph(), &[Choice::One(Format::Svg)], Some(&one), Path::new("nowhere")).unwrap();
        assert_eq!(written.files, [(Format::Svg, one.clone())]);
        assert!(one.is_file());
        let two = [Choice::One(Format::Text), Choice::One(Format::Folded), Choice::One(Format::Text)];
        let written = write_all(&fixture::graph(), &two, None, &scratch.0).unwrap();
        assert_eq!(
            written.files,
            [Format::Text, Format::Folded].map(|format| (format, scratch.0.join(format.default_output())))
        );
    }

    #[test]
    fn a_profile_is_written_as_text_only() {
        let scratch = Scratch::new("profile");
        let trace = fixture::profile();
        let written = write_all(&trace, &[Choice::All], None, &scratch.0).unwrap();
        assert_eq!(written.files, [(Format::Text, scratch.0.join("trace.txt"))]);
        let table = std::fs::read_to_string(&written.files[0].1).unwrap();
        assert!(table.lines().nth(1).is_some_and(|line| line.ends_with("kernel::step")), "{table}");
        let error = write_all(&trace, &[Choice::One(Format::Svg)], None, &scratch.0).unwrap_err();
        assert!(error.to_string().contains("text only"), "{error}");
    }

    #[test]
    fn all_formats_of_function_events_are_those_that_show_any() {
        let scratch = Scratch::new("functions-all");
        let trace = fixture::functions();
        let written = write_all(&trace, &[Choice::All], None, &scratch.0).unwrap();
        let formats: Vec<_> = written.files.iter().map(|(format, _)| *format).collect();
        assert_eq!(formats, [Format::Text, Format::Uftrace, Format::TraceDat, Format::Perfetto]);
        let left_out: Vec<_> = written.left_out.iter().map(|(format, _)| *format).collect();
        assert_eq!(left_out, [Format::Folded, Format::Svg]);
        assert!(written.left_out.iter().all(|(_, why)| why.contains("no call in this trace has a duration")));
        // What was asked for by its name is missed.
        for choices in [&[Choice::One(Format::Svg)][..], &[Choice::All, Choice::One(Format::Folded)]] {
            assert!(write_all(&trace, choices, None, &scratch.0).is_err());
        }
    }

    #[test]
    fn a_kernel_that_failed_makes_the_command_fail_whatever_was_shown() {
        let (good, bad) = (|| Ok(()), || Err(anyhow::anyhow!("cannot write")));
        let failure = || Some(anyhow::anyhow!("status 3"));
        assert!(with_failure(good(), None).is_ok());
        assert_eq!(with_failure(bad(), None).unwrap_err().to_string(), "cannot write");
        for shown in [good(), bad()] {
            assert_eq!(with_failure(shown, failure()).unwrap_err().to_string(), "status 3");
        }
    }

    #[test]
    fn errors_name_the_file() {
        let scratch = Scratch::new("errors");
        let output = scratch.0.join("nowhere/trace.txt");
        let error = write_all(&fixture::graph(), &[Choice::One(Format::Text)], Some(&output), &scratch.0).unwrap_err();
        assert!(format!("{error:#}").contains("nowhere/trace.txt"), "{error:#}");
        let error = record::read(&scratch.0.join("dump"), &scratch.0.join("kernel.elf")).unwrap_err();
        assert!(format!("{error:#}").contains("kernel.elf"), "{error:#}");
    }
}
