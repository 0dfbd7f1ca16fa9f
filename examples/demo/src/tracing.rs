//! The demo as `cargo xtask trace` boots it: its command line says what to trace and where the trace goes.
//!
//! Each CPU counts the words of the text, all at the same time, as a task of its own.

use crate::workload;
use alloc::ffi::CString;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;
use fentry::context::shadow::ShadowStack;
use fentry::tracer::kernel::{RecordTo, StoreIn};
use fentry::tracer::profiler::{Profile, ProfileSlot};
use fentry::tracer::ring::{Mode, Ring, RingBlock};
use fentry::tracer::session::{Options, Session};
use fentry::tracer::ticks_per_second;
use semihosting::experimental::env;
use semihosting::fs::File;
use semihosting::io::Write;
use support::percpu::{self, MAX_CPUS};
use support::{println, smp};

/// 1 MiB for each CPU.
const BLOCKS: usize = 256;
static MEMORY: [[RingBlock; BLOCKS]; MAX_CPUS] = [const { [const { RingBlock::new() }; BLOCKS] }; MAX_CPUS];
static RINGS: [Ring; MAX_CPUS] = {
    let mut rings = [const { Ring::new(&MEMORY[0], Mode::Overwrite) }; MAX_CPUS];
    let mut cpu = 1;
    while cpu < MAX_CPUS {
        rings[cpu] = Ring::new(&MEMORY[cpu], Mode::Overwrite);
        cpu += 1;
    }
    rings
};
static SHADOW_STACKS: [ShadowStack<128>; MAX_CPUS] = [const { ShadowStack::new() }; MAX_CPUS];
static SLOTS: [ProfileSlot; 8192] = [const { ProfileSlot::new() }; 8192];
static PROFILE: Profile = Profile::new(&SLOTS);
static SESSION: Session<Demo> = Session::new();

struct Demo;

impl RecordTo for Demo {
    fn ring() -> &'static Ring {
        &RINGS[percpu::this().index()]
    }

    fn task() -> u32 {
        task_of(percpu::this().index())
    }
}

impl StoreIn<Profile> for Demo {
    fn store() -> &'static Profile {
        &PROFILE
    }
}

impl StoreIn<Session<Self>> for Demo {
    fn store() -> &'static Session<Self> {
        &SESSION
    }
}

/// The task of a CPU; there is one for each.
const fn task_of(cpu: usize) -> u32 {
    cpu as u32 + 1
}

/// The words of the command line, without the kernel's own name.
fn words() -> Vec<String> {
    let Ok(words) = env::args::<4096>() else { return Vec::new() };
    words.skip(1).filter_map(|word| word.ok().map(ToString::to_string)).collect()
}

/// Traces as the command line says; whether it says so.
///
/// # Errors
///
/// What went wrong, in words.
pub(crate) fn run() -> Result<bool, String> {
    let words = words();
    let Some(path) = words.iter().find_map(|word| word.strip_prefix("trace-file=")) else { return Ok(false) };
    let options = Options::parse(words.iter().map(String::as_str)).map_err(in_words)?;

    let (engine, _) = support::engine();
    for (cpu, stack) in SHADOW_STACKS.iter().enumerate() {
        // SAFETY: 1. Each CPU has its own, in a static. 2. to 4. Nothing is hooked or traced yet.
        unsafe { percpu::of(cpu).trace.set_shadow_stack(stack) };
        percpu::of(cpu).tell_stack_bounds();
    }
    let cpus = smp::start_all();
    let functions = SESSION.start(engine, &options).map_err(in_words)?;
    smp::on_all(|_| {
        workload::report(workload::TEXT);
    });
    SESSION.stop(engine).map_err(in_words)?;

    let events: u64 = RINGS.iter().map(|ring| ring.counts().produced()).sum();
    println!("{functions} functions traced on {cpus} CPUs: {events} events");
    let unseen: u64 = (0..MAX_CPUS).map(|cpu| percpu::of(cpu).trace.overflows()).sum();
    if unseen > 0 {
        println!("{unseen} calls were not seen: more than 128 inside each other");
    }
    let names: Vec<String> = (0..cpus).map(|cpu| format!("demo/{cpu}")).collect();
    let tasks = names.iter().enumerate().map(|(cpu, name)| (task_of(cpu), name.as_str()));
    let rings: Vec<&Ring> = RINGS.iter().take(cpus).collect();
    let mut file = Buffered::create(path).map_err(in_words)?;
    SESSION.dump(engine, |bytes| file.write(bytes), ticks_per_second(), &rings, tasks).map_err(in_words)?;
    file.flush().map_err(in_words)?;
    println!("the trace is in {path}");
    Ok(true)
}

fn in_words(error: impl Display) -> String {
    error.to_string()
}

/// A file of the host's. Few large writes: each is a trap into the emulator.
struct Buffered {
    file: File,
    bytes: Vec<u8>,
}

impl Buffered {
    const SIZE: usize = 64 * 1024;

    fn create(path: &str) -> semihosting::io::Result<Self> {
        // No word of a command line has a zero in it.
        let path = CString::new(path).unwrap_or_default();
        Ok(Self { file: File::create(path)?, bytes: Vec::with_capacity(Self::SIZE) })
    }

    fn write(&mut self, bytes: &[u8]) -> semihosting::io::Result<()> {
        if self.bytes.len() + bytes.len() > Self::SIZE {
            self.flush()?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> semihosting::io::Result<()> {
        self.file.write_all(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}
