//! The command line of `cargo fentry trace`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use fentry::symbols::Function;

use super::formats::{Format, folded, summary};
use super::memory;
use super::model::Trace;
use super::record::{self, Booter, Recording, Tracer};
use super::runner::Runner;
use crate::progress::Step;
use crate::qemu::{Boot, DEFAULT_CPU, is_virt};

/// Trace a kernel and export the trace to other tools' formats
///
/// Boots the kernel in QEMU, or by a command of your own. Its command line says what to trace and where to write the records
/// (fentry::tracer::session), which it writes by semihosting, or as lines on its console (fentry::tracer::dump::DumpLines);
/// function names come from its image. --from exports a saved dump, or console output that has one, in other formats.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo fentry trace --image kernel.elf --tracer function --args 2\n  \
                        cargo fentry trace --image kernel.elf --cpus 4 --filter 'my_kernel::*' --format all\n  \
                        cargo fentry trace --image kernel.elf --boot Image --machine virt,gic-version=2\n  \
                        cargo fentry trace --image kernel.elf --runner './run.sh {image} \"{append}\"'\n  \
                        cargo fentry trace --from target/trace/trace.dump --image kernel.elf --format svg")]
pub struct TraceArgs {
    /// The kernel's ELF file, with symbols
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    #[command(flatten)]
    choices: TraceChoices,
}

/// What to record, how to boot, and what to write: all but which kernel.
#[derive(Debug, Args)]
pub struct TraceChoices {
    /// What to record of each call
    #[arg(long, value_enum, default_value_t = Tracer::Graph)]
    tracer: Tracer,
    /// Trace these functions, by name or glob; a leading ! excludes them; may be repeated [default: all functions;
    /// the demo's own, where that is traced]
    #[arg(long = "filter", value_name = "GLOB")]
    filters: Vec<String>,
    /// Graph tracer: record only calls of these functions, and calls inside them, by name or glob; may be repeated
    #[arg(long = "under", value_name = "GLOB")]
    under: Vec<String>,
    /// Graph tracer: record no calls of these functions, nor any inside them, by name or glob; may be repeated
    #[arg(long = "not-under", value_name = "GLOB")]
    not_under: Vec<String>,
    /// Graph tracer: record calls to this depth only
    #[arg(long, value_name = "N")]
    depth: Option<u32>,
    /// Function tracer: record the first N arguments
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=8))]
    args: Option<u32>,
    /// The number of CPUs [default: 1, or what a kernel of this repository asks for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    cpus: Option<u32>,
    /// The CPU model, as QEMU names it [default: max, or a variant's own]
    #[arg(long)]
    cpu: Option<String>,
    /// The machine, as QEMU names it, with its options; one that is not `virt` has its own CPUs and memory where nothing is
    /// said of them [default: virt,gic-version=3]
    #[arg(long, value_name = "MACHINE")]
    machine: Option<String>,
    /// Load this file, which was made of the image, a flat one for example [default: the image]
    #[arg(long, value_name = "FILE", requires = "image")]
    boot: Option<PathBuf>,
    /// One more argument for QEMU; may be repeated
    #[arg(long = "qemu-arg", value_name = "ARG", allow_hyphen_values = true)]
    more: Vec<OsString>,
    /// Boot with this command instead of QEMU, and find the dump in its output; in its words {boot} and {image} stand for
    /// the files, {append} for the kernel's command line
    #[arg(long, value_name = "COMMAND", value_parser = Runner::parse)]
    #[arg(conflicts_with_all = ["cpus", "cpu", "machine", "more"])]
    runner: Option<Runner>,
    /// Text to add to the kernel's command line
    #[arg(long, value_name = "TEXT")]
    append: Option<String>,
    /// Export this dump, or as much of it as is intact, instead of booting a kernel
    #[arg(long, value_name = "FILE", requires = "image", conflicts_with_all = ["boot", "runner", "machine", "more"])]
    from: Option<PathBuf>,
    /// Export what is left in an image of a machine's memory (QEMU's pmemsave or dump-guest-memory, a panic's) by rings that
    /// are found in it (fentry::tracer::kept), instead of booting a kernel
    #[arg(long, value_name = "FILE", requires = "image", conflicts_with_all = ["from", "boot", "runner", "machine", "more"])]
    memory: Option<PathBuf>,
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

/// A kernel to trace, and what is assumed of it where the command line does not say.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The linked image, from which the names come.
    pub image: PathBuf,
    /// What to trace.
    pub filters: Vec<String>,
    /// The machine.
    pub boot: Boot,
}

impl Kernel {
    /// Somebody's kernel, of which nothing is known but its image.
    pub fn new(image: &Path) -> Self {
        Self { image: image.to_owned(), filters: Vec::new(), boot: Boot::new(DEFAULT_CPU, 1) }
    }
}

/// Traces a kernel, exports the trace into `directory` if nothing else is said, and prints the summary.
///
/// # Errors
///
/// The kernel can't be booted, fails, or writes no trace that can be read; a file can't be written.
pub fn run(args: &TraceArgs, directory: &Path) -> Result<()> {
    run_on(&args.choices, Kernel::new(&args.image), directory)
}

/// Does the same with a kernel of which more is known.
///
/// # Errors
///
/// As [`run`].
pub fn run_on(choices: &TraceChoices, kernel: Kernel, directory: &Path) -> Result<()> {
    let functions = record::functions_of(&kernel.image)?;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let dump = directory.join("trace.dump");
    let (dump, failure) = match (&choices.from, &choices.memory) {
        (Some(from), _) => (from.clone(), None),
        (None, Some(memory)) => {
            memory::to_dump(memory, &dump)?;
            (dump, None)
        }
        (None, None) => {
            let recorded = recording(choices, kernel)?.run(&dump)?;
            (dump, recorded.failure)
        }
    };
    with_failure(show(choices, &dump, &functions, directory), failure)
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
fn show(args: &TraceChoices, dump: &Path, functions: &[Function], directory: &Path) -> Result<()> {
    let step = Step::start("reading the records");
    let trace = record::read(dump, functions)?;
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

/// Exports a dump into a directory, in every format that has something to show; returns how each is read.
pub(crate) fn export(dump: &Path, image: &Path, directory: &Path) -> Result<String> {
    let trace = record::read(dump, &record::functions_of(image)?)?;
    let Written { files, left_out } = write_all(&trace, &[Choice::All], Some(directory), directory)?;
    let written = files.iter().map(|(format, output)| format.how_to_read(output).to_string());
    let left_out = left_out.iter().map(|(format, why)| format!("no {}: {why}", format.default_output()));
    Ok(written.chain(left_out).collect::<Vec<_>>().join("\n"))
}

/// What to record of a kernel, and how it is booted.
fn recording(args: &TraceChoices, kernel: Kernel) -> Result<Recording> {
    ensure!(
        args.tracer == Tracer::Graph || args.under.is_empty() && args.not_under.is_empty(),
        "only the graph tracer knows what a call is below: --under and --not-under are for it"
    );
    let booter = match &args.runner {
        Some(runner) => {
            let numbers = args.depth.is_some() || args.args.is_some();
            let functions = [&args.filters, &args.under, &args.not_under].iter().any(|rules| !rules.is_empty());
            let is_told = args.tracer != Tracer::Graph || functions || numbers || args.append.is_some();
            ensure!(
                runner.takes_command_line() || !is_told,
                "the runner has no {{append}}, so the kernel would not be told what to record: put it where the kernel's \
                 command line goes"
            );
            Booter::Runner(runner.clone())
        }
        None => Booter::Qemu(machine(args, kernel.boot)),
    };
    Ok(Recording {
        boot: args.boot.clone().unwrap_or_else(|| kernel.image.clone()),
        image: kernel.image,
        tracer: args.tracer,
        filters: if args.filters.is_empty() { kernel.filters } else { args.filters.clone() },
        under: args.under.clone(),
        not_under: args.not_under.clone(),
        depth: args.depth,
        args: args.args,
        append: args.append.clone(),
        booter,
        limit: Duration::from_secs(args.timeout_secs),
    })
}

/// The machine that is asked for: `usual`, but for what the arguments say.
fn machine(args: &TraceChoices, usual: Boot) -> Boot {
    let asked = match args.machine.clone() {
        Some(machine) if is_virt(&machine) => Boot { machine, ..usual },
        Some(machine) => Boot { icount: usual.icount, ..Boot::on(&machine) },
        None => usual,
    };
    let (cpu, cpus) = (args.cpu.clone().or_else(|| asked.cpu.clone()), args.cpus.or(asked.cpus));
    Boot { cpu, cpus, more: args.more.clone(), ..asked }
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
        let error = record::functions_of(&scratch.0.join("kernel.elf")).unwrap_err();
        assert!(format!("{error:#}").contains("kernel.elf"), "{error:#}");
        let error = record::read(&scratch.0.join("trace.dump"), &[]).unwrap_err();
        assert!(format!("{error:#}").contains("trace.dump"), "{error:#}");
    }

    /// What a command line makes of the usual machine.
    fn booted(args: &[&str]) -> Result<Recording> {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            trace: TraceArgs,
        }
        let args = ["trace", "--image", "kernel.elf"].iter().chain(args);
        let Line { trace } = clap::Parser::try_parse_from(args)?;
        recording(&trace.choices, Kernel::new(&trace.image))
    }

    #[test]
    fn any_machine_can_be_asked_for() {
        let machine = |args: &[&str]| match booted(args).unwrap().booter {
            Booter::Qemu(Boot { machine, cpu, cpus, more, .. }) => (machine, cpu, cpus, more),
            Booter::Runner(runner) => panic!("{runner:?}"),
        };
        let max = || Some("max".to_owned());
        assert_eq!(machine(&[]), ("virt,gic-version=3".to_owned(), max(), Some(1), vec![]));
        let other = "virt,gic-version=2,virtualization=on";
        assert_eq!(machine(&["--machine", other, "--cpus", "2"]), (other.to_owned(), max(), Some(2), vec![]));
        assert_eq!(
            machine(&["--machine", "raspi3b", "--qemu-arg=-m", "--qemu-arg", "-1G"]),
            ("raspi3b".to_owned(), None, None, vec!["-m".into(), "-1G".into()])
        );
        let cortex = Some("cortex-a53".to_owned());
        assert_eq!(machine(&["--machine", "raspi3b", "--cpu", "cortex-a53"]).1, cortex);
    }

    #[test]
    fn what_is_loaded_may_be_another_file_than_names_come_from() {
        let recording = booted(&["--boot", "Image"]).unwrap();
        assert_eq!((recording.boot, recording.image), ("Image".into(), "kernel.elf".into()));
        assert_eq!(booted(&[]).unwrap().boot, Path::new("kernel.elf"));
        let refused = |args: &[&str]| booted(args).unwrap_err().to_string();
        assert!(refused(&["--from", "dump", "--boot", "Image"]).contains("cannot be used with"));
        assert!(refused(&["--runner", "run {boot}", "--machine", "virt"]).contains("cannot be used with"));
    }

    #[test]
    fn only_the_graph_is_asked_for_what_is_below() {
        for below in ["--under=disk::read", "--not-under=disk::read"] {
            let error = booted(&["--tracer", "function", below]).unwrap_err().to_string();
            assert!(error.contains("only the graph tracer"), "{below}: {error}");
        }
        let recording = booted(&["--under", "disk::read", "--under=net::*", "--not-under", "disk::poll"]).unwrap();
        assert_eq!((recording.under.len(), &recording.not_under[..]), (2, &["disk::poll".to_owned()][..]));
    }

    #[test]
    fn a_runner_that_can_t_tell_the_kernel_what_to_record_is_refused() {
        for asked in
            ["--filter=disk::*", "--under=disk::read", "--tracer=profile", "--depth=2", "--args=1", "--append=quiet"]
        {
            let error = booted(&["--runner", "run {boot}", asked]).unwrap_err().to_string();
            assert!(error.contains("the runner has no {append}"), "{asked}: {error}");
        }
        for args in [&["--runner", "run {boot} {append}", "--filter", "disk::*"][..], &["--runner", "run"]] {
            assert!(matches!(booted(args).unwrap().booter, Booter::Runner(_)), "{args:?}");
        }
    }
}
