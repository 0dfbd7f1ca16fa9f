//! `cargo fentry console`: boots a kernel that is asked by lines of text, with its console on this terminal.
//!
//! The kernel gives lines to its control interface, `fentry::control`. Here they are edited, completed and kept: what comes to
//! the kernel is a whole line. The two speak so:
//!
//! | from here | from the kernel |
//! |---|---|
//! | `console=host` on the command line | |
//! | | whatever it says, and then the byte ENQ: a line can come |
//! | a line, ended by a line feed | what it says to that, and ENQ |
//! | the byte ETX (^C), while it reads a trace | the same, soon |
//! | the line `exit` | its end |
//!
//! A line that is refused has its refusal, as `fentry::control` puts it in words, in what the kernel says to it.
//!
//! [examples/console](https://docs.rs/fentry) is such a kernel.

mod editor;
mod kernel;
mod refusal;
mod waiting;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;

use crate::qemu::{Boot, DEFAULT_CPU, is_virt};
use crate::trace;
use editor::{Editor, Typed};
use kernel::{Ended, Kernel};
use refusal::refusal;
use waiting::Interrupts;

/// Ask a kernel, on this terminal, what it shall trace
///
/// Boots the kernel, which must have fentry's control interface on its console, in QEMU. Lines are edited, kept in a history and
/// completed: commands, files, and the names of the image's functions. ^C ends the reading of a trace, three of them a kernel that
/// says nothing, ^D the kernel.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo fentry console --image kernel.elf --cpus 4\n  \
                        cargo fentry console --image kernel.elf --script trace.txt --save target/trace")]
pub struct ConsoleArgs {
    /// The kernel's ELF file, with symbols
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    #[command(flatten)]
    choices: ConsoleChoices,
}

/// What to ask, and how to boot: all but which kernel.
#[derive(Debug, Args)]
pub struct ConsoleChoices {
    /// Ask what the lines of this file say, instead of a person's; a line that is refused makes the command fail
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// At the end, write what was recorded into this directory, in every format of `trace`
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// In a script, read trace_pipe for so many milliseconds
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pipe_millis: u64,
    /// The number of CPUs [default: 1, or what a kernel of this repository asks for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    cpus: Option<u32>,
    /// The CPU model, as QEMU names it [default: max, or a variant's own]
    #[arg(long)]
    cpu: Option<String>,
    /// The machine, as QEMU names it, with its options [default: virt,gic-version=3]
    #[arg(long, value_name = "MACHINE")]
    machine: Option<String>,
    /// Load this file, which was made of the image, a flat one for example [default: the image]
    #[arg(long, value_name = "FILE")]
    boot: Option<PathBuf>,
    /// Text to add to the kernel's command line: `ftrace=function_graph ftrace_filter=..` traces its boot
    #[arg(long, value_name = "TEXT")]
    append: Option<String>,
    /// One more argument for QEMU; may be repeated
    #[arg(long = "qemu-arg", value_name = "ARG", allow_hyphen_values = true)]
    more: Vec<std::ffi::OsString>,
    /// Give the kernel up if it says nothing for so many seconds while it boots, or to a line of a script
    #[arg(long, value_name = "N", default_value_t = 60)]
    timeout_secs: u64,
}

/// Boots somebody's kernel and asks it.
///
/// # Errors
///
/// The kernel can't be booted, does not ask for lines, or fails; a line of a script is refused; a file can't be written.
pub fn run(args: &ConsoleArgs) -> Result<()> {
    run_on(&args.choices, &args.image, Boot::new(DEFAULT_CPU, 1))
}

/// Does the same with a kernel of which more is known.
///
/// # Errors
///
/// As [`run`].
pub fn run_on(choices: &ConsoleChoices, image: &Path, usual: Boot) -> Result<()> {
    let functions = trace::functions_of(image)?;
    let script = match &choices.script {
        Some(path) => Some(std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?),
        None => None,
    };
    let limit = Duration::from_secs(choices.timeout_secs);
    let boot = choices.boot.as_deref().unwrap_or(image);
    // From the boot on: the emulator does not end by itself with this program.
    let interrupts = Interrupts::catch()?;
    let mut kernel = Kernel::boot(boot, &machine(choices, usual), limit, Some(&interrupts), show)?;
    let done = match &script {
        Some(script) => ask_script(&mut kernel, script, Duration::from_millis(choices.pipe_millis)),
        None => ask_person(&mut kernel, &functions, &interrupts),
    };
    // What was recorded is kept, also where a line was refused.
    let saved = match &choices.save {
        Some(directory) if kernel.is_running() => save(&mut kernel, image, directory).map(|told| println!("{told}")),
        _ => Ok(()),
    };
    // One that came while that was written has nothing to end any more.
    interrupts.forget();
    all([done, saved, kernel.end()])
}

/// One error that tells of all.
fn all(done: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let mut errors = done.into_iter().filter_map(Result::err);
    match errors.next() {
        None => Ok(()),
        Some(first) => Err(errors.fold(first, |errors, one| anyhow!("{errors:#}; and {one:#}"))),
    }
}

/// Shows what the kernel says, as it comes.
fn show(text: &str) {
    print!("{text}");
    // Where nobody can see it, nobody misses it.
    let _ = std::io::stdout().flush();
}

/// Boots a kernel, asks it these lines, and returns what it said to each, the refusals too; what reads on for ever is ended after
/// so long. Then exports what was recorded into a directory.
///
/// # Errors
///
/// The kernel can't be booted, does not ask for lines, or fails; a file can't be written.
pub fn ask_all(image: &Path, boot: &Boot, lines: &[&str], pipe: Duration, directory: &Path) -> Result<Vec<String>> {
    let limit = boot.limit.unwrap_or(Duration::from_secs(60));
    let boot = Boot { append: Some(append(None)), ..boot.clone() };
    let mut kernel = Kernel::boot(image, &boot, limit, None, |_| {})?;
    let said = lines.iter().map(|line| kernel.ask(line, reads_on(line, pipe), |_| {})).collect::<Result<_>>()?;
    save(&mut kernel, image, directory)?;
    kernel.end()?;
    Ok(said)
}

/// For how long a line reads that has no end of its own.
fn reads_on(line: &str, pipe: Duration) -> Option<Duration> {
    line.contains("trace_pipe").then_some(pipe)
}

/// The kernel's command line.
fn append(more: Option<&str>) -> String {
    ["console=host"].into_iter().chain(more).collect::<Vec<_>>().join(" ")
}

/// The machine that is asked for.
fn machine(args: &ConsoleChoices, usual: Boot) -> Boot {
    let asked = match args.machine.clone() {
        Some(machine) if is_virt(&machine) => Boot { machine, ..usual },
        Some(machine) => Boot::on(&machine),
        None => usual,
    };
    let (cpu, cpus) = (args.cpu.clone().or_else(|| asked.cpu.clone()), args.cpus.or(asked.cpus));
    Boot { cpu, cpus, append: Some(append(args.append.as_deref())), more: args.more.clone(), ..asked }
}

/// Asks what the lines of a script say, and shows them as a person would have typed them.
fn ask_script(kernel: &mut Kernel, script: &str, pipe: Duration) -> Result<()> {
    for (number, line) in script.lines().enumerate() {
        println!("# {line}");
        if line.trim() == "exit" {
            return Ok(());
        }
        // The kernel's console would act on it.
        let is_text = !line.contains(|c: char| c.is_control() && c != '\t');
        ensure!(is_text, "line {} of the script has a control character in it", number + 1);
        let said = kernel.ask(line, reads_on(line, pipe), show)?;
        if let Some(refusal) = refusal(&said, line) {
            bail!("line {} of the script is refused: {refusal}", number + 1);
        }
    }
    Ok(())
}

/// Asks what a person types.
fn ask_person(kernel: &mut Kernel, functions: &[fentry::symbols::Function], interrupts: &Interrupts) -> Result<()> {
    let files = kernel.ask("ls", None, |_| {})?;
    let files = files.lines().map(str::to_owned).collect();
    let mut editor = Editor::new(files, functions.iter().map(|function| function.name.clone()).collect())?;
    println!("`help` says what there is, Tab completes, ^C ends the reading of a trace, ^D ends the kernel.");
    println!("(Three ^C give up a kernel that says nothing.)");
    loop {
        let typed = editor.read()?;
        // A ^C that came too late for the line before.
        interrupts.forget();
        match typed {
            Typed::Line(line) if line.trim() == "exit" => return Ok(()),
            Typed::Line(line) => match kernel.ask_for_person(&line, show) {
                Err(error) if error.is::<Ended>() => {
                    println!("the kernel has ended");
                    return Ok(());
                }
                other => drop(other?),
            },
            Typed::Nothing => {}
            Typed::End => return Ok(()),
        }
    }
}

/// Writes what the kernel has recorded in every format; returns how each is read.
fn save(kernel: &mut Kernel, image: &Path, directory: &Path) -> Result<String> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let said = kernel.ask("cat trace_dump", None, |_| {})?;
    let bytes = trace::dump_in(said.as_bytes());
    ensure!(!bytes.is_empty(), "the kernel has no file trace_dump, or it is empty: {said}");
    let dump = directory.join("trace.dump");
    std::fs::write(&dump, bytes).with_context(|| format!("cannot write {}", dump.display()))?;
    trace::export(&dump, image, directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_hides_another() {
        assert!(all([Ok(()), Ok(())]).is_ok());
        let first = || Err(anyhow!("the cause").context("line 2 is refused"));
        assert_eq!(format!("{:#}", all([Ok(()), first()]).unwrap_err()), "line 2 is refused: the cause");
        let error = all([first(), Ok(()), Err(anyhow!("the kernel has ended with 3"))]).unwrap_err();
        assert_eq!(format!("{error:#}"), "line 2 is refused: the cause; and the kernel has ended with 3");
    }
}
