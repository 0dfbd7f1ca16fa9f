//! A kernel is asked by lines of text: Linux's `ftracetest`, the groups `00basic` and `ftrace`, as far as there are such files.
//!
//! Each script is a case: lines that begin with `$ ` go to the control interface, `! work`, `! slow` and `! events` call what is
//! traced, and what follows is what the line must write: `...` in it is any text, and a line of its own any lines.
#![no_std]
#![no_main]

extern crate alloc;

mod events;
mod instances;
mod work;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::hint::black_box;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use fentry::context::shadow::ShadowStack;
use fentry::context::unwind::Frames;
use fentry::control::{Control, Tracing};
use fentry::record::flight::FlightSlot;
use fentry::tracer::kernel::{RecordTo, StoreIn};
use fentry::tracer::profiler::{Profile, ProfileSlot};
use fentry::tracer::ring::{Mode, Ring, RingBlock};
use fentry::tracer::stack::{DeepestStack, Stacks, deepest};
use fentry::tracer::ticks_per_second;
use fentry::{Engine, FtraceRegs, Ops, TextAddr};
use support::{percpu, smp};
use work::{slow, work};

/// Makes cases of scripts and, behind a `;`, of functions.
macro_rules! script_boot_tests {
    ($($script:ident),+; $($case:ident),+ $(,)?) => {
        $(fn $script() -> Result<(), String> {
            run_script(include_str!(concat!("scripts/", stringify!($script), ".txt")))
        })+
        support::boot_tests!($($script,)+ $($case),+);
    };
}

script_boot_tests! {
    basic_files,
    basic_tracers,
    basic_trace_stays,
    basic_trace_pipe_consumes,
    basic_trace_is_cleared,
    basic_tracing_on,
    basic_marker,
    basic_buffer_size,
    error_log,
    filter_name,
    filter_globs,
    filter_append,
    filter_negative,
    filter_exact_name,
    filter_while_traced,
    filter_nothing,
    notrace,
    function_callers,
    function_switch_to_graph,
    graph_nesting,
    graph_filter,
    graph_depth,
    graph_threshold,
    graph_tracing_off,
    latency,
    flight_recorder,
    tracers_of_files,
    profile,
    profile_beside_function,
    enabled_functions,
    events_arrays,
    events_comm,
    events_fprobe,
    events_kprobe,
    events_inside,
    events_syntax,
    events_filter,
    events_triggers,
    events_hist,
    events_hist_of_event,
    events_snapshot,
    fail_function,
    graph_function,
    graph_function_with_filter,
    graph_function_depth,
    graph_function_off_and_on,
    graph_function_refused,
    graph_function_globs,
    graph_notrace,
    graph_function_and_notrace,
    graph_function_of_function,
    graph_beside_profile,
    graph_options,
    command_traceoff,
    command_traceon,
    command_graph,
    command_stacktrace,
    command_snapshot,
    command_dump,
    command_refused,
    command_of_module,
    command_events,
    tasks,
    tasks_of_graph,
    cpumask,
    options,
    options_stack,
    per_cpu,
    snapshot,
    marker_in_graph_of_snapshot,
    help,
    stack_trace;
    an_instance_traces_beside_the_first_tracers,
    a_function_is_chosen_by_its_line,
    all_functions_are_listed,
    everything_is_traced_while_the_trace_is_read,
}

const CPUS: usize = 4;

static MEMORY: [[RingBlock; 8]; CPUS] = [const { [const { RingBlock::new() }; 8] }; CPUS];
static RINGS: [Ring; CPUS] = [
    Ring::new(&MEMORY[0], Mode::Overwrite),
    Ring::new(&MEMORY[1], Mode::Overwrite),
    Ring::new(&MEMORY[2], Mode::Overwrite),
    Ring::new(&MEMORY[3], Mode::Overwrite),
];
static SPARE_MEMORY: [[RingBlock; 8]; CPUS] = [const { [const { RingBlock::new() }; 8] }; CPUS];
static SPARES: [Ring; CPUS] = [
    Ring::new(&SPARE_MEMORY[0], Mode::Overwrite),
    Ring::new(&SPARE_MEMORY[1], Mode::Overwrite),
    Ring::new(&SPARE_MEMORY[2], Mode::Overwrite),
    Ring::new(&SPARE_MEMORY[3], Mode::Overwrite),
];
static SLOTS: [ProfileSlot; 64] = [const { ProfileSlot::new() }; 64];
static PROFILE: Profile = Profile::new(&SLOTS);
static TRACING: Tracing<Kernel> = Tracing::new();
static DEEPEST: DeepestStack = DeepestStack::new();
static DEEP: Ops = deepest::<Kernel>();
static FLIGHTS: [[FlightSlot; 64]; CPUS] = [const { [const { FlightSlot::new() }; 64] }; CPUS];
static RECORDER: Ops = Ops::recorder(1);
static SHADOWS: [ShadowStack<64>; CPUS] = [const { ShadowStack::new() }; CPUS];

struct Kernel;

impl RecordTo for Kernel {
    fn ring() -> &'static Ring {
        &RINGS[percpu::this().index() % CPUS]
    }

    fn task() -> u32 {
        percpu::this().index() as u32 + 1
    }

    fn spare_ring() -> Option<&'static Ring> {
        Some(&SPARES[percpu::this().index() % CPUS])
    }

    fn frames(regs: &FtraceRegs<'_>, frames: &mut [TextAddr]) -> usize {
        let Some(stack) = percpu::stack_around(regs.stack_pointer()) else { return 0 };
        // SAFETY: 1. A stack of this kernel's, which are never given back.
        let found = unsafe { Frames::new(regs.frame_pointer(), stack) };
        frames.iter_mut().zip(found).map(|(place, frame)| *place = frame).count()
    }
}

impl StoreIn<Profile> for Kernel {
    fn store() -> &'static Profile {
        &PROFILE
    }
}

impl StoreIn<DeepestStack> for Kernel {
    fn store() -> &'static DeepestStack {
        &DEEPEST
    }
}

// SAFETY: 1. A stack of this kernel's, which are never given back.
unsafe impl Stacks for Kernel {
    fn stack() -> Range<u64> {
        percpu::thread_stack(percpu::this().index())
    }
}

impl StoreIn<Tracing<Self>> for Kernel {
    fn store() -> &'static Tracing<Self> {
        &TRACING
    }
}

fn engine() -> &'static Engine {
    static GIVEN: AtomicBool = AtomicBool::new(false);
    let (engine, _) = support::engine();
    if !GIVEN.swap(true, Ordering::Relaxed) {
        // SAFETY: 1. It is the boot CPU's alone, and lives for ever. 2. No return is hooked. 3., 4. This is the thread, in no
        // callback.
        unsafe { percpu::this().trace.set_shadow_stack(&SHADOWS[0]) };
        for (cpu, slots) in FLIGHTS.iter().enumerate() {
            percpu::of(cpu).area.set_ring(slots).expect("it has none");
        }
    }
    engine
}

fn control() -> Control<CPUS> {
    let rings = [&RINGS[0], &RINGS[1], &RINGS[2], &RINGS[3]];
    let control = Control::new(engine(), TRACING.parts(), rings, ticks_per_second)
        .with_deepest_stack(&DEEP, &DEEPEST)
        .with_flight_recorder(&RECORDER, [0, 1, 2, 3].map(|cpu| &percpu::of(cpu).area))
        .with_spare_rings([&SPARES[0], &SPARES[1], &SPARES[2], &SPARES[3]])
        .with_task_names(events::task_name);
    events::control(control)
}

/// The state in which a script begins and ends.
const RESET: [&str; 23] = [
    "echo > fail_function/inject",
    "echo 0 > events/enable",
    "echo > dynamic_events",
    "echo nop > current_tracer",
    "echo 0 > function_profile_enabled",
    "echo 0 > stack_tracer_enabled",
    "echo > set_ftrace_filter",
    "echo > set_ftrace_notrace",
    "echo > set_graph_function",
    "echo > set_graph_notrace",
    "echo > set_ftrace_pid",
    "echo f > tracing_cpumask",
    "echo print-parent > trace_options",
    "echo nosym-offset > trace_options",
    "echo nofunc_stack_trace > trace_options",
    "echo nofuncgraph-retval > trace_options",
    "echo funcgraph-duration > trace_options",
    "echo 0 > snapshot",
    "echo 1 > tracing_on",
    "echo 0 > max_graph_depth",
    "echo 0 > tracing_thresh",
    "echo 0 > tracing_max_latency",
    "echo > trace",
];

fn reset(control: &mut Control<CPUS>) -> Result<(), String> {
    for line in RESET {
        let mut out = String::new();
        control.execute(line, &mut out).map_err(|_| out)?;
    }
    let (check, statistics) = (engine().check_text(), engine().statistics());
    if (check.enabled, check.wrong, statistics.ops) == (0, 0, 0) {
        return Ok(());
    }
    Err(format!("something is left behind: {check:?}, {} ops", statistics.ops))
}

/// Whether a text is as expected, where `...` is any text.
fn is_as_expected(text: &str, expected: &str) -> bool {
    let Some((expected, last)) = expected.rsplit_once("...") else { return text == expected };
    let (first, middle) = expected.split_once("...").unwrap_or((expected, ""));
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for piece in middle.split("...") {
        let Some((_, behind)) = rest.split_once(piece) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

/// Whether lines are as expected, where a line of `...` is any lines.
fn are_as_expected(lines: &[&str], expected: &[&str]) -> bool {
    match (lines, expected) {
        (_, ["...", expected @ ..]) => (0..=lines.len()).any(|skipped| are_as_expected(&lines[skipped..], expected)),
        ([line, lines @ ..], [first, expected @ ..]) => is_as_expected(line, first) && are_as_expected(lines, expected),
        ([], []) => true,
        _ => false,
    }
}

fn an_instance_traces_beside_the_first_tracers() -> Result<(), String> {
    run_script_with(instances::beside(control()), include_str!("scripts/instances.txt"))
}

fn run_script(script: &str) -> Result<(), String> {
    run_script_with(control(), script)
}

fn run_script_with(mut control: Control<CPUS>, script: &str) -> Result<(), String> {
    let is_command = |line: &str| line.starts_with("$ ") || line.starts_with("! ");
    let lines: Vec<&str> = script.lines().collect();
    let next = |from: usize| (from..lines.len()).find(|number| is_command(lines[*number])).unwrap_or(lines.len());
    let mut number = next(0);
    while number < lines.len() {
        let (command, end) = (lines[number], next(number + 1));
        let expected = &lines[number + 1..end];
        let mut out = String::new();
        match command.strip_prefix("$ ") {
            // What is refused says so in the output.
            Some(line) => drop(control.execute(line, &mut out)),
            None if command == "! slow" => drop(black_box(slow())),
            None if command == "! events" => drop(black_box(events::work())),
            None => drop(black_box(work())),
        }
        // What a command at a function has asked for.
        let _ = control.attend(&mut out);
        let written: Vec<&str> = out.lines().collect();
        if !are_as_expected(&written, expected) {
            let (line, expected) = (number + 1, expected.join("\n"));
            return Err(format!("line {line}: {command}\n--- expected\n{expected}\n--- written\n{out}---"));
        }
        number = end;
    }
    reset(&mut control)
}

fn read(control: &mut Control<CPUS>, line: &str) -> String {
    let mut out = String::new();
    let done = control.execute(line, &mut out);
    assert_eq!(done, Ok(()), "{line}: {out}");
    out
}

fn a_function_is_chosen_by_its_line() -> Result<(), String> {
    let mut control = control();
    let available = read(&mut control, "cat available_filter_functions");
    let line = available.lines().position(|name| name == "control::work::disk::seek").unwrap() + 1;
    read(&mut control, &format!("echo {line} > set_ftrace_filter"));
    assert_eq!(read(&mut control, "cat set_ftrace_filter"), "control::work::disk::seek\n");
    reset(&mut control)
}

fn all_functions_are_listed() -> Result<(), String> {
    let mut control = control();
    let callsites = engine().statistics().callsites;
    assert_eq!(read(&mut control, "cat available_filter_functions").lines().count(), callsites);
    assert!(read(&mut control, "cat dyn_ftrace_total_info").starts_with(&format!("{callsites} pages:")));
    // Never the engine's own functions, nor the control interface's.
    read(&mut control, "echo function > current_tracer");
    let enabled = read(&mut control, "cat enabled_functions");
    assert_eq!(enabled.lines().count(), callsites);
    assert!(!enabled.contains("fentry::control::"));
    reset(&mut control)
}

/// A slow console, which is traced itself.
struct Console {
    lines: u64,
}

impl Write for Console {
    #[inline(never)]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.put(byte));
        Ok(())
    }
}

impl Console {
    #[inline(never)]
    fn put(&mut self, byte: u8) {
        self.lines += u64::from(black_box(byte) == b'\n');
    }
}

fn everything_is_traced_while_the_trace_is_read() -> Result<(), String> {
    static WORKED: AtomicU64 = AtomicU64::new(0);
    let mut control = control();
    smp::start_all();
    smp::on_all(|cpu| {
        // SAFETY: 1. It is this CPU's alone, and lives for ever. 2. No return is hooked. 3., 4. This is the thread, in no
        // callback.
        unsafe { percpu::this().trace.set_shadow_stack(&SHADOWS[cpu]) };
    });
    let done = AtomicBool::new(false);
    let control_and_read = spin::Mutex::new((&mut control, Console { lines: 0 }));
    smp::on_all(|cpu| {
        if cpu != 0 {
            while !done.load(Ordering::Acquire) {
                black_box(work());
                WORKED.fetch_add(1, Ordering::Relaxed);
                smp::wait();
            }
            return;
        }
        let mut held = control_and_read.lock();
        let (control, console) = &mut *held;
        for tracer in ["function", "function_graph"] {
            read(control, &format!("echo {tracer} > current_tracer"));
            // Each reading ends, though it makes events itself; enough of them to have gone through the rings several times.
            let before = console.lines;
            while console.lines < before + 5_000 {
                for line in ["cat trace_pipe", "cat trace"] {
                    assert_eq!(control.execute(line, console), Ok(()));
                }
            }
        }
        read(control, "echo nop > current_tracer");
        done.store(true, Ordering::Release);
    });
    assert!(WORKED.load(Ordering::Relaxed) > 0);
    reset(&mut control)
}
