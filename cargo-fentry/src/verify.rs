//! `cargo fentry verify`: proves an arm64 kernel or module safe to trace and to unwind without running it, and says what is
//! not, and what could not be followed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
pub use fentry_verify::Waivers;
use fentry_verify::flow::Why;
use fentry_verify::report::{At, Level};
use fentry_verify::{Cfi, Finding, Flow, FunctionId, Image, NoReturn, Program, Report, Rule, rules};
use rustc_demangle::demangle;
use serde_json::{Value, json};

use crate::image;
use crate::progress::Step;
use crate::stack::Stack;
use crate::unwind::{ModuleTable, UnwindTable};

/// How many findings of one rule are shown, and how many instructions from which control could not be followed.
const LISTED: usize = 20;

/// Prove an arm64 ELF image or object safe to trace and to unwind, without running it
///
/// Reads the instructions: where control goes, and where the caller's registers are at each instruction. Exits with failure
/// if a rule is broken and not waived, or if the file can't be read.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo fentry verify path/to/kernel.elf --waivers verify.waivers\n  cargo fentry verify module.o --no-return kernel.names\n  cargo fentry verify path/to/kernel.elf --stack-limit 16384 --entry kernel::main"
)]
pub struct VerifyArgs {
    /// The linked image or relocatable object, not stripped
    image: PathBuf,
    /// A file of names, one a line: functions of other files that never return
    #[arg(long, value_name = "FILE")]
    no_return: Option<PathBuf>,
    /// A file of waivers, one a line: a rule, a function or an address, ` -- `, and the reason
    #[arg(long, value_name = "FILE")]
    waivers: Option<PathBuf>,
    /// Tell of this rule only
    #[arg(long, value_name = "RULE", value_parser = rule)]
    rule: Option<Rule>,
    /// Tell of this function only
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Tell how deep the stack gets from each function with which a chain of calls begins: one that nobody is known to call,
    /// or whose address is taken
    #[arg(long)]
    stack: bool,
    /// Tell how deep it gets from this function
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
    /// Fail where it gets deeper than so many bytes
    #[arg(long, value_name = "BYTES")]
    stack_limit: Option<u64>,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    /// Write the unwind table of a linked image, as an object file to link
    #[arg(long, value_name = "FILE", conflicts_with = "unwind_in_place")]
    unwind_table: Option<PathBuf>,
    /// Write the unwind table into the image itself, into the room that it was linked with; or into a relocatable object, which
    /// gets a section more, that fentry's loader reads
    #[arg(long)]
    unwind_in_place: bool,
    /// List every finding and everything that could not be followed, not only the first of it
    #[arg(long)]
    all: bool,
}

fn rule(id: &str) -> Result<Rule, String> {
    Rule::of_id(id).ok_or_else(|| format!("the rules are {}", Rule::ALL.map(Rule::id).join(", ")))
}

/// Verifies the image, and prints what was found. Returns whether nothing was that is not waived.
pub fn run(args: &VerifyArgs) -> Result<bool> {
    let (is_proven, table) = examine(args)?;
    if let Some(table) = table {
        match (&table, &args.unwind_table) {
            (Table::Image(table), Some(output)) => table.write(output)?,
            (Table::Image(table), None) => table.fill(&args.image)?,
            (Table::Module(table), _) => table.add_to(&args.image)?,
        }
        match table {
            _ if args.json => {}
            Table::Image(table) => print!("{table}"),
            Table::Module(table) => print!("{table}"),
        }
    }
    Ok(is_proven)
}

/// The unwind table that is asked for.
enum Table {
    Image(UnwindTable),
    /// To be put into the object.
    Module(ModuleTable),
}

impl Table {
    fn of(args: &VerifyArgs, flow: &Flow<'_>, cfi: &Cfi) -> Result<Option<Self>> {
        let is_module = flow.program().image().is_relocatable();
        Ok(match (&args.unwind_table, args.unwind_in_place) {
            (None, false) => None,
            (None, true) if is_module => Some(Self::Module(ModuleTable::of(flow, cfi)?)),
            _ => Some(Self::Image(UnwindTable::of(flow, cfi)?)),
        })
    }
}

/// Verifies the image and makes the table that is asked for. The file is no longer in use then.
fn examine(args: &VerifyArgs) -> Result<(bool, Option<Table>)> {
    let data = image::map(&args.image)?;
    if !data.starts_with(b"\x7fELF") {
        anyhow::bail!(image::what_else(&data));
    }
    let no_return = match &args.no_return {
        Some(path) => NoReturn::parse(&read(path)?),
        None => NoReturn::default(),
    };
    let waivers = match &args.waivers {
        Some(path) => Waivers::parse(&read(path)?).with_context(|| format!("cannot use {}", path.display()))?,
        None => Waivers::default(),
    };
    let waivers = waivers.with_engine();
    let step = Step::start(format!("verifying {}", args.image.display()));
    let image = Image::parse(&data).with_context(|| format!("cannot verify {}", args.image.display()))?;
    let program = Program::new(image);
    step.note("control flow");
    let flow = Flow::follow(&program, &no_return);
    step.note("frames");
    let cfi = Cfi::of(&flow);
    let table = Table::of(args, &flow, &cfi)?;
    step.note("rules");
    let mut findings = rules::check(&flow, &cfi);
    let stack = if args.stack || args.entry.is_some() || args.stack_limit.is_some() {
        step.note("stack");
        let entry = args.entry.as_deref().map(|name| function(&program, name)).transpose()?;
        Some(Stack::of(&flow, &cfi, entry))
    } else {
        None
    };
    if let (Some(stack), Some(limit)) = (&stack, args.stack_limit) {
        findings.extend(stack.deeper_than(limit));
    }
    let mut report = Report::new(&program, findings, &waivers, &demangled);
    if let Some(name) = &args.function {
        function(&program, name)?;
        report.retain(|finding| finding.is_at(name, &program, &demangled));
    }
    report.retain(|finding| args.rule.is_none_or(|rule| finding.rule == rule));
    step.finish(&format!("{} functions", program.functions().count()));
    let listed = if args.all { usize::MAX } else { LISTED };
    if args.json {
        println!("{:#}", json(&program, &report, stack.as_ref()));
    } else {
        print!("{}", Findings { program: &program, report: &report, listed });
        if args.function.is_none() && args.rule.is_none() {
            print!("{}", Summary { program: &program, flow: &flow, cfi: &cfi, listed });
        }
        if let Some(stack) = &stack {
            print!("{}", stack.display(listed));
        }
    }
    Ok((report.unwaived().all(|finding| finding.rule.level() != Level::Defect), table))
}

/// What there is in one of many files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many functions it has.
    pub functions: usize,
    /// The defects that are not waived, each as `cargo fentry verify` prints it.
    pub defects: Vec<String>,
    /// The lines, counted from 1, of waivers that waive nothing in this file. They may be needed for another.
    pub unused: Vec<usize>,
}

/// Verifies one of many files that have their waivers in common.
///
/// # Errors
///
/// The file can't be read, or is no ELF image or object for arm64 with its symbols.
pub fn verify(path: &Path, waivers: &Waivers) -> Result<Verified> {
    let data = image::map(path)?;
    let image = Image::parse(&data).with_context(|| format!("cannot verify {}", path.display()))?;
    let program = Program::new(image);
    let flow = Flow::follow(&program, &NoReturn::default());
    let report = Report::new(&program, rules::check(&flow, &Cfi::of(&flow)), waivers, &demangled);
    let mut verified = Verified { functions: program.functions().count(), ..Verified::default() };
    for finding in report.unwaived() {
        match finding.at {
            At::Waiver(line) => verified.unused.push(line),
            _ if finding.rule.level() == Level::Defect => verified.defects.push(told(&program, finding).to_string()),
            _ => {}
        }
    }
    Ok(verified)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A symbol's name without the hash that changes with each build.
pub(crate) fn demangled(name: &str) -> String {
    format!("{:#}", demangle(name))
}

fn function(program: &Program<'_>, name: &str) -> Result<FunctionId> {
    let found = program.functions().find(|function| is_named(program, *function, name));
    found.with_context(|| format!("there is no function {name}"))
}

fn is_named(program: &Program<'_>, function: FunctionId, name: &str) -> bool {
    let symbols = program.function(function).symbols();
    symbols.iter().map(|symbol| program.symbol(*symbol).name).any(|symbol| symbol == name || demangled(symbol) == name)
}

/// Where a finding is, with the function's name as the language has it.
pub(crate) fn place(program: &Program<'_>, at: At) -> String {
    let place = at.display(program).to_string();
    let At::Insn(id) = at else { return place };
    let Some(name) = program.function_of(id).map(|function| program.name(function)) else { return place };
    place.replacen(name, &demangled(name), 1)
}

/// A finding, with the way to it.
fn told<'a>(program: &'a Program<'a>, finding: &'a Finding) -> impl fmt::Display + 'a {
    fmt::from_fn(move |f| {
        writeln!(f, "{}: {}", finding.rule, place(program, finding.at))?;
        writeln!(f, "    {}", finding.text)?;
        for step in &finding.path {
            writeln!(f, "    {}: {}: {}", place(program, At::Insn(step.at)), program.insn(step.at), step.text)?;
        }
        Ok(())
    })
}

/// The findings, for people.
struct Findings<'a> {
    program: &'a Program<'a>,
    report: &'a Report,
    listed: usize,
}

impl fmt::Display for Findings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, report, listed } = *self;
        let mut counts: BTreeMap<Rule, usize> = BTreeMap::new();
        for finding in report.unwaived() {
            let count = counts.entry(finding.rule).or_default();
            *count += 1;
            // Of what is no defect, the number is told, unless everything is asked for.
            let is_shown = *count <= listed && (finding.rule.level() == Level::Defect || listed == usize::MAX);
            if is_shown {
                write!(f, "{}", told(program, finding))?;
            }
        }
        let waived = report.all().filter(|(_, reason)| reason.is_some()).count();
        for (rule, count) in &counts {
            let level = match rule.level() {
                Level::Defect => "",
                Level::Trace => ", which only traces show",
                Level::Unproven => ", which may be right",
            };
            writeln!(f, "{count:6}  {rule}{level}")?;
        }
        writeln!(f, "{:6}  findings, and {waived} waived", counts.values().sum::<usize>())
    }
}

/// The findings, for machines.
fn json(program: &Program<'_>, report: &Report, stack: Option<&Stack<'_>>) -> Value {
    let symbol = |at: At| match at {
        At::Insn(id) => program.function_of(id).map(|function| program.name(function)),
        At::Address(_) | At::Waiver(_) => None,
    };
    let findings = report.all().map(|(finding, waived)| {
        let path = finding.path.iter().map(|step| {
            let at = At::Insn(step.at);
            json!({ "address": at.address(program), "place": place(program, at), "text": step.text })
        });
        json!({
            "rule": finding.rule.id(),
            "level": match finding.rule.level() {
                Level::Defect => "defect",
                Level::Trace => "trace",
                Level::Unproven => "unproven",
            },
            "symbol": symbol(finding.at),
            "address": finding.at.address(program),
            "place": place(program, finding.at),
            "text": finding.text,
            "path": path.collect::<Vec<_>>(),
            "waived": waived,
        })
    });
    let mut all = json!({ "findings": findings.collect::<Vec<_>>() });
    if let Some(stack) = stack {
        all["stack"] = stack.json();
    }
    all
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
