//! Boots the stress test again and again, each time with another seed and another way in which QEMU runs the CPUs.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use cargo_fentry::progress::{Step, in_words};
use cargo_fentry::qemu::{self, Boot};
use clap::Args;

use crate::kernels::build;
use crate::kernels::console;
use crate::kernels::toolchain::RustSource;
use crate::kernels::variant::Variant;
use crate::kernels::workspace::{KernelKind, Workspace};

/// The boot test that is run.
const KERNEL: &str = "live_stress";

/// Patch and call at once, for as long as you like: the boot test `live_stress` with new seeds, under several kinds of QEMU
///
/// Boots with one thread for each CPU, with one for all, and with counted instructions of several lengths, in turn. Each
/// boot prints its seed. The first failure ends the run, with the console's last lines and the command that repeats it;
/// where instructions are counted it repeats exactly.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo xtask stress --seconds 600\n  \
                        cargo xtask stress --seconds 60 --cpus 8 --variant hardened42-release --seed 7")]
pub(crate) struct StressArgs {
    /// Begin no new boot after this many seconds
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// The seed that all boots' seeds are made from [default: from the clock]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The number of CPUs; may be repeated, and is then taken in turn [default: 4, 2, 8 and 1 in turn]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    cpus: Vec<u32>,
    /// The variant to build and boot
    #[arg(long, value_name = "NAME", default_value = Variant::default().name, value_parser = Variant::named)]
    variant: &'static Variant,
    /// Changed callsites in each of a boot's parts
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    changes: u64,
    /// End a boot after this many seconds, and count it as hung
    #[arg(long, value_name = "N", default_value_t = 300)]
    timeout_secs: u64,
}

/// How QEMU runs the CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accel {
    /// One thread for each.
    Threads,
    /// All in one thread.
    OneThread,
    /// All in one thread, and each instruction takes 2^shift nanoseconds.
    Counted { shift: u32 },
}

/// In this order, again and again. With four numbers of CPUs all pairs come up: there are nine of these.
const ACCELS: [Accel; 9] = [
    Accel::Threads,
    Accel::Counted { shift: 0 },
    Accel::Counted { shift: 4 },
    Accel::Threads,
    Accel::Counted { shift: 1 },
    Accel::OneThread,
    Accel::Counted { shift: 6 },
    Accel::Counted { shift: 2 },
    Accel::Counted { shift: 3 },
];
const CPUS: [u32; 4] = [4, 2, 8, 1];

impl Accel {
    fn arguments(self) -> [OsString; 2] {
        match self {
            Self::Threads => ["-accel".into(), "tcg,thread=multi".into()],
            Self::OneThread => ["-accel".into(), "tcg,thread=single".into()],
            Self::Counted { shift } => ["-icount".into(), format!("shift={shift}").into()],
        }
    }

    /// The time between two ticks: some thousand instructions, so that handlers leave time for what they interrupt.
    fn tick_ns(self, seed: u64) -> u64 {
        match self {
            Self::Threads | Self::OneThread => 100_000 + seed % 7 * 50_000,
            Self::Counted { shift } => (8_000 + seed % 7 * 4_000) << shift,
        }
    }
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads => f.pad("a thread for each"),
            Self::OneThread => f.pad("one thread"),
            Self::Counted { shift } => f.pad(&format!("counted, shift={shift}")),
        }
    }
}

/// One boot to be done.
struct Round {
    accel: Accel,
    cpu: &'static str,
    cpus: u32,
    boot: Boot,
    seed: u64,
}

impl Round {
    fn new(args: &StressArgs, base: u64, number: usize) -> Self {
        let seed = mixed(base, number as u64);
        let accel = ACCELS[number % ACCELS.len()];
        let cpus = if args.cpus.is_empty() { &CPUS[..] } else { &args.cpus };
        let (cpus, limit) = (cpus[number % cpus.len()], Duration::from_secs(args.timeout_secs));
        let append = format!("seed={seed} changes={} tick-ns={}", args.changes, accel.tick_ns(seed));
        let more = accel.arguments().to_vec();
        let cpu = args.variant.cpu;
        let boot = Boot { limit: Some(limit), append: Some(append), more, ..Boot::new(cpu, cpus) };
        Self { accel, cpu, cpus, boot, seed }
    }

    /// The command that does the same again.
    fn command(&self, image: &Path) -> String {
        let limit = self.boot.limit.unwrap_or_default().as_secs();
        let more: Vec<String> = self.boot.more.iter().map(|arg| format!("--qemu-arg={}", arg.display())).collect();
        format!(
            "cargo xtask qemu --cpu {} --cpus {} --timeout-secs {limit} {} --append '{}' {}",
            self.cpu,
            self.cpus,
            more.join(" "),
            self.boot.append.as_deref().unwrap_or_default(),
            image.display()
        )
    }
}

/// A seed that is short enough to be typed.
fn mixed(base: u64, number: u64) -> u64 {
    let mixed = (base.wrapping_add(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 31) & 0xffff_ffff
}

/// Runs until the time is over or a boot fails; whether none did.
pub(crate) fn run(args: &StressArgs) -> Result<bool> {
    let workspace = Workspace::load()?;
    let source = RustSource::find(&workspace)?.context("the source of core is missing; `cargo xtask setup` gets it")?;
    let kernel = workspace.kernel(KERNEL)?;
    let step = Step::start(format!("building {KERNEL} for {}", args.variant));
    let images = build::images(&workspace, &source, args.variant, std::slice::from_ref(kernel), &step)?;
    step.finish("done");
    let image = &images.first().context("no kernel was built")?.path;

    let base = args.seed.unwrap_or_else(seed_of_the_clock);
    println!("seed {base}");
    let started = Instant::now();
    let mut done = Done::default();
    for number in 0.. {
        if started.elapsed() >= Duration::from_secs(args.seconds) {
            break;
        }
        let round = Round::new(args, base, number);
        let outcome = qemu::boot(image, &round.boot, |_| {})?;
        let verdict = console::judge(&outcome, KernelKind::BootTest);
        let changed = changed_callsites(&outcome.console);
        done.add(round.accel, changed);
        let (cpus, accel, seed) = (round.cpus, round.accel, round.seed);
        let result = if verdict.failed == 0 { "ok" } else { "FAILED" };
        let elapsed = in_words(started.elapsed());
        println!(
            "{number:4}  {cpus} CPUs, {accel:16}  seed={seed:<10}  {changed:8} changes  {result:6}  {elapsed:>10}"
        );
        if verdict.failed != 0 {
            verdict.problems.iter().for_each(|problem| println!("    {problem}"));
            print!("{}", outcome.last_lines());
            println!("\nto repeat it:\n  {}", round.command(image));
            return Ok(false);
        }
    }
    println!("\n{done} in {}: no failure", in_words(started.elapsed()));
    Ok(true)
}

fn seed_of_the_clock() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |time| time.as_secs())
}

/// What the kernel says of itself.
fn changed_callsites(console: &[String]) -> u64 {
    console.iter().filter_map(|line| line.split_once(" callsites changed")?.0.parse::<u64>().ok()).sum()
}

/// What a run has done.
#[derive(Default)]
struct Done {
    boots: [u64; 3],
    changes: u64,
}

impl Done {
    fn add(&mut self, accel: Accel, changes: u64) {
        let kind = match accel {
            Accel::Threads => 0,
            Accel::OneThread => 1,
            Accel::Counted { .. } => 2,
        };
        self.boots[kind] += 1;
        self.changes += changes;
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [threads, one, counted] = self.boots;
        write!(
            f,
            "{} changes in {} boots ({threads} with a thread for each CPU, {one} with one, {counted} counted)",
            self.changes,
            threads + one + counted
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: StressArgs,
    }

    #[test]
    fn every_number_of_cpus_meets_every_way_to_run_them() {
        let args = Line::parse_from(["stress"]).args;
        let mut met: Vec<_> = (0..36)
            .map(|number| Round::new(&args, 1, number))
            .map(|round| (round.cpus, round.boot.more.clone()))
            .collect();
        met.sort();
        met.dedup();
        let ways = 8; // of nine, one is there twice
        assert_eq!(met.len(), ways * CPUS.len());
    }

    #[test]
    fn a_failure_names_the_command_that_repeats_it() {
        let args = Line::parse_from(["stress", "--cpus", "8", "--changes", "5"]).args;
        let command = Round::new(&args, 7, 1).command(Path::new("kernel.elf"));
        for expected in ["--cpus 8", "--qemu-arg=-icount --qemu-arg=shift=0", "changes=5 ", "' kernel.elf"] {
            assert!(command.contains(expected), "{expected} is missing in {command}");
        }
    }

    #[test]
    fn changes_are_read_off_the_console() {
        let console = ["12 callsites changed, 0 refused", "noise", "30 callsites changed, 1"].map(str::to_owned);
        assert_eq!(changed_callsites(&console), 42);
    }
}
