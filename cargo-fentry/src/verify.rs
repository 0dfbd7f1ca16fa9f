//! `cargo fentry verify`: follows every function of an arm64 kernel or module without running it, and says what could not be
//! followed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use fentry_verify::flow::Why;
use fentry_verify::{Cfi, Flow, Image, NoReturn, Program};
use rustc_demangle::demangle;

use crate::image;
use crate::progress::Step;

/// How many places of each kind are listed.
const LISTED: usize = 20;

/// Follow every function of an arm64 ELF image or object, and say what could not be followed
///
/// Reads the instructions: where control goes, and where the caller's registers are at each instruction. Exits with failure
/// if the file can't be read.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo fentry verify path/to/kernel.elf\n  cargo fentry verify module.o --no-return kernel.names"
)]
pub struct VerifyArgs {
    /// The linked image or relocatable object, not stripped
    image: PathBuf,
    /// A file of names, one a line: functions of other files that never return
    #[arg(long, value_name = "FILE")]
    no_return: Option<PathBuf>,
    /// List every place that could not be followed or where paths disagree, not only the first ones
    #[arg(long)]
    all: bool,
}

/// Follows the image, and prints the summary.
pub fn run(args: &VerifyArgs) -> Result<bool> {
    let data = image::map(&args.image)?;
    if !data.starts_with(b"\x7fELF") {
        anyhow::bail!(image::what_else(&data));
    }
    let no_return = match &args.no_return {
        Some(path) => {
            let names = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            NoReturn::parse(&names)
        }
        None => NoReturn::default(),
    };
    let step = Step::start(format!("following {}", args.image.display()));
    let image = Image::parse(&data).with_context(|| format!("cannot verify {}", args.image.display()))?;
    let program = Program::new(image);
    step.note("control flow");
    let flow = Flow::follow(&program, &no_return);
    step.note("frames");
    let cfi = Cfi::of(&flow);
    step.finish(&format!("{} functions", program.functions().count()));
    print!(
        "{}",
        Summary { program: &program, flow: &flow, cfi: &cfi, listed: if args.all { usize::MAX } else { LISTED } }
    );
    Ok(true)
}

/// What was followed and what was not.
struct Summary<'a> {
    program: &'a Program<'a>,
    flow: &'a Flow<'a>,
    cfi: &'a Cfi,
    listed: usize,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, flow, cfi, listed } = *self;
        let functions = program.functions().count();
        let parts = program.ranges() - functions;
        let in_functions = program.functions().flat_map(|function| program.of_function(function)).count();
        let followed = program.all().filter(|id| flow.is_reached(*id)).count();
        let never = program.functions().filter(|function| flow.never_returns(*function)).count();
        writeln!(f, "functions     {functions}, and {parts} parts of them; {never} never return")?;
        writeln!(f, "instructions  {in_functions} in functions, {followed} followed")?;
        let tables = flow.tables();
        let guessed = tables.iter().filter(|(_, table)| !table.is_compared).count();
        writeln!(f, "jump tables   {}, {guessed} of them with a size that only their layout tells", tables.len())?;
        writeln!(f, "frames        {} different states", cfi.states())?;
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for not in flow.not_followed() {
            *kinds.entry(kind(not.why)).or_default() += 1;
        }
        writeln!(f, "not followed  {}", flow.not_followed().len())?;
        for (kind, count) in &kinds {
            writeln!(f, "    {count:6}  {kind}")?;
        }
        for not in flow.not_followed().iter().take(listed) {
            let function = program.function_of(not.at).map_or("?", |function| program.name(function));
            writeln!(f, "    {:#} {}: {}", demangle(function), program.address(not.at), not.why)?;
        }
        let more = |f: &mut fmt::Formatter<'_>, count: usize| {
            if count > listed { writeln!(f, "    ... (--all lists them)") } else { Ok(()) }
        };
        more(f, flow.not_followed().len())?;
        writeln!(f, "disagreeing   {} places where paths meet with different frames", cfi.conflicts().len())?;
        for conflict in cfi.conflicts().iter().take(listed) {
            let function = program.function_of(conflict.to).map_or("?", |function| program.name(function));
            let lost: Vec<String> = conflict.lost.iter().map(ToString::to_string).collect();
            let (from, to) = (program.address(conflict.from), program.address(conflict.to));
            writeln!(f, "    {:#} {from} -> {to}: {}", demangle(function), lost.join("; "))?;
        }
        more(f, cfi.conflicts().len())?;
        for oddity in program.oddities() {
            writeln!(f, "odd           {}", oddity.display(program))?;
        }
        Ok(())
    }
}

/// The reason in general.
fn kind(why: Why) -> &'static str {
    match why {
        Why::Register(_) => "jump to a register of which nothing is known",
        Why::Unbounded { .. } => "jump by a table that nothing bounds",
        Why::NoElement { .. } => "jump by a table that is not in the file",
        Why::TableLeaves { .. } => "jump by a table that leads out of the function",
        Why::Unknown { .. } => "instruction that is not known",
        Why::Data => "run into data",
        _ => "other",
    }
}
