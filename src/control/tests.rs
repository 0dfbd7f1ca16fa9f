use super::{Control, File, LINE_BYTES, MAX_RULES, Reason, Refusal, Tracer, Tracing, Value};
use crate::address::TextAddr;
use crate::context::regs::{FtraceRegs, PtRegs};
use crate::engine::{Engine, RegisterError};
use crate::fakes::{COMPILED, FakeKernel, FakeRegs, FakeText, Fault};
use crate::filter::GlobError;
use crate::ops::Ops;
use crate::tracer::event::EventWriter;
use crate::tracer::kernel::{RecordTo, StoreIn};
use crate::tracer::profiler::{Profile, ProfileSlot};
use crate::tracer::ring::{Mode, Ring, RingBlock};
use core::fmt::Write;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::boxed::Box;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// A kernel with two CPUs, and its control interface. Its rings and its tracers are `static`s: of each test its own.
struct Fixture {
    kernel: &'static FakeKernel,
    engine: &'static Engine,
    rings: [&'static Ring; 2],
    profile: &'static Profile,
    /// The tracer `function`.
    function: &'static Ops,
    control: Control<2>,
}

const BASE: u64 = 0xffff_8000_8000_0000;
const FUNCTIONS: [&str; 6] =
    ["disk::poll", "disk::read", "disk::seek", "net::send", "<[u8; 4] as Debug>::fmt", "<[u8] as Debug>::fmt"];

fn engine() -> (&'static FakeKernel, &'static Engine) {
    let mut text = FakeText::new(BASE);
    for name in FUNCTIONS {
        text.function(name, COMPILED);
    }
    let kernel = text.build();
    let engine = Box::leak(Box::new(Engine::with_machine(kernel, kernel)));
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    (kernel, engine)
}

macro_rules! fixture {
    () => {{
        static MEMORY: [[RingBlock; 2]; 2] = [const { [const { RingBlock::new() }; 2] }; 2];
        static RINGS: [Ring; 2] = [Ring::new(&MEMORY[0], Mode::Overwrite), Ring::new(&MEMORY[1], Mode::Overwrite)];
        static SPARE_MEMORY: [[RingBlock; 2]; 2] = [const { [const { RingBlock::new() }; 2] }; 2];
        static SPARES: [Ring; 2] =
            [Ring::new(&SPARE_MEMORY[0], Mode::Overwrite), Ring::new(&SPARE_MEMORY[1], Mode::Overwrite)];
        static SLOTS: [ProfileSlot; 16] = [const { ProfileSlot::new() }; 16];
        static PROFILE: Profile = Profile::new(&SLOTS);
        static TRACING: Tracing<Kernel> = Tracing::new();
        struct Kernel;
        impl RecordTo for Kernel {
            fn ring() -> &'static Ring {
                &RINGS[0]
            }
            fn task() -> u32 {
                1
            }
            fn spare_ring() -> Option<&'static Ring> {
                Some(&SPARES[0])
            }
            fn frames(_: &FtraceRegs<'_>, frames: &mut [TextAddr]) -> usize {
                frames[0] = at(5).offset(4);
                1
            }
        }
        impl StoreIn<Profile> for Kernel {
            fn store() -> &'static Profile {
                &PROFILE
            }
        }
        impl StoreIn<Tracing<Self>> for Kernel {
            fn store() -> &'static Tracing<Self> {
                &TRACING
            }
        }
        let (kernel, engine) = engine();
        let rings = [&RINGS[0], &RINGS[1]];
        let parts = TRACING.parts();
        let control = Control::new(engine, parts, rings, || 1_000_000_000)
            .with_spare_rings([&SPARES[0], &SPARES[1]])
            .with_task_names(|task| [None, Some("main"), Some("disk reader")].get(task as usize).copied().flatten());
        Fixture { kernel, engine, rings, profile: &PROFILE, function: parts.function, control }
    }};
}

mod chosen;
mod lines;

impl Fixture {
    /// What a line writes that is carried out.
    fn run(&mut self, line: &str) -> String {
        let mut out = String::new();
        let done = self.control.execute(line, &mut out);
        assert_eq!(done, Ok(()), "{line}: {out}");
        out
    }

    /// Why a line is refused, and what it writes.
    fn refused(&mut self, line: impl AsRef<[u8]>) -> (Refusal, String) {
        let mut out = String::new();
        let refusal = self.control.execute(line.as_ref(), &mut out).unwrap_err();
        (refusal, out)
    }

    /// The names of the functions that call something.
    fn enabled(&self) -> Vec<&'static str> {
        let mut enabled = Vec::new();
        self.engine.for_each_callsite(|status| {
            if status.ops().next().is_some() {
                enabled.extend(FUNCTIONS.iter().filter(|name| Some(**name) == status.name));
            }
        });
        enabled
    }

    /// All that a line can change.
    fn all(&mut self) -> String {
        let files = [
            "current_tracer",
            "enabled_functions",
            "function_profile_enabled",
            "max_graph_depth",
            "set_ftrace_filter",
            "set_ftrace_notrace",
            "set_ftrace_pid",
            "set_graph_function",
            "set_graph_notrace",
            "snapshot",
            "trace",
            "trace_options",
            "tracing_cpumask",
            "tracing_on",
        ];
        files.map(|file| self.run(&format!("cat {file}"))).concat()
    }
}

#[test]
fn a_line_is_refused_with_its_file_the_column_the_reason_and_a_caret() {
    let mut fixture = fixture!();
    for (line, file, column, reason) in [
        ("trace", "control", 1, Reason::UnknownCommand),
        ("  catalogue x", "control", 3, Reason::UnknownCommand),
        ("cat", "control", 4, Reason::NoFile),
        ("cat nosuch", "nosuch", 5, Reason::UnknownFile),
        ("cat trace trace", "control", 11, Reason::Extra),
        ("ls trace", "control", 4, Reason::Extra),
        ("echo 1", "control", 7, Reason::NotRedirected),
        ("echo f::<u8>", "control", 13, Reason::NoFile),
        ("echo <A as B>::f", "control", 17, Reason::NotRedirected),
        ("echo nop > current_tracer; echo > trace", "control", 26, Reason::OneCommand),
        ("echo a | b > trace_marker", "control", 8, Reason::OneCommand),
        ("echo [u8; 4]; > trace_marker", "control", 13, Reason::OneCommand),
        ("echo 1 > tracing_on 2", "control", 21, Reason::Extra),
        ("cat trace_marker", "trace_marker", 5, Reason::NotReadable),
        ("echo 1 > available_tracers", "available_tracers", 10, Reason::NotWritable),
        ("echo 2 > tracing_on", "tracing_on", 6, Reason::Expected("0 or 1")),
        ("echo > tracing_on", "tracing_on", 6, Reason::Expected("0 or 1")),
        ("echo -1 > max_graph_depth", "max_graph_depth", 6, Reason::Expected("A number")),
        ("echo '+1' > max_graph_depth", "max_graph_depth", 7, Reason::Expected("A number")),
        ("echo grph >current_tracer", "current_tracer", 6, Reason::UnknownTracer),
        ("echo 'disk::* nosuch' > set_ftrace_filter", "set_ftrace_filter", 15, Reason::NothingSelected),
        ("echo disk::* !nosuch* > set_ftrace_filter", "set_ftrace_filter", 14, Reason::NothingTakenAway),
        ("echo disk::read:enable_event:a:b > set_ftrace_filter", "set_ftrace_filter", 17, Reason::FunctionCommand),
        ("echo disk::read:traceoff:many > set_ftrace_filter", "set_ftrace_filter", 26, Reason::Expected("A number")),
        ("echo nosuch:traceoff > set_ftrace_filter", "set_ftrace_filter", 6, Reason::NothingSelected),
        ("echo net::send !disk::read:dump > set_ftrace_filter", "set_ftrace_filter", 17, Reason::NoSuchCommand),
        ("echo disk::[a:dump > set_ftrace_filter", "set_ftrace_filter", 6, Reason::Glob(GlobError::OpenClass(6))),
        ("echo nosuch > set_graph_function", "set_graph_function", 6, Reason::NothingSelected),
        ("echo !disk::read >> set_graph_notrace", "set_graph_notrace", 6, Reason::NoSuchRule),
        ("echo 7 main > set_ftrace_pid", "set_ftrace_pid", 8, Reason::Expected("A number")),
        (
            "echo 0 > set_ftrace_notrace_pid",
            "set_ftrace_notrace_pid",
            6,
            Reason::Expected("The number of a task, which is not 0,"),
        ),
        (
            "echo 8 > tracing_cpumask",
            "tracing_cpumask",
            6,
            Reason::Expected("A hexadecimal mask of CPUs, one of them at least,"),
        ),
        ("echo nosuch > trace_options", "trace_options", 6, Reason::UnknownOption),
        ("echo 2 > options/sym-offset", "options/sym-offset", 6, Reason::Expected("0 or 1")),
        ("cat options/nosuch", "options/nosuch", 5, Reason::UnknownFile),
        ("cat per_cpu/cpu2/trace", "per_cpu/cpu2/trace", 5, Reason::UnknownFile),
        ("echo 1 > per_cpu/cpu1/stats", "per_cpu/cpu1/stats", 6, Reason::NotWritable),
        ("echo 0 > set_ftrace_filter", "set_ftrace_filter", 6, Reason::NoSuchLine { lines: 6 }),
        ("echo 1 7 > set_ftrace_filter", "set_ftrace_filter", 8, Reason::NoSuchLine { lines: 6 }),
        ("echo !net::send >> set_ftrace_notrace", "set_ftrace_notrace", 6, Reason::NoSuchRule),
        ("echo \x1b[2J > trace_marker", "control", 6, Reason::ControlCharacter),
        ("cat \u{e9}t\u{e9}", "\u{e9}t\u{e9}", 5, Reason::UnknownFile),
        ("echo \u{e9}t\u{e9} > current_tracer", "current_tracer", 6, Reason::UnknownTracer),
        ("echo '\u{e9} x' > set_ftrace_filter", "set_ftrace_filter", 7, Reason::NothingSelected),
        ("echo \u{e9} > \u{e9}", "control", 11, Reason::NotRedirected),
    ] {
        let before = fixture.all();
        let (refusal, out) = fixture.refused(line);
        assert_eq!(refusal.reason, reason, "{line}");
        let shown = line.replace('\x1b', "?");
        let caret = " ".repeat(column - 1);
        assert_eq!(
            out,
            format!("{file}: {column}: error: {reason}\n  Command: {shown}\n           {caret}^\n"),
            "{line}"
        );
        assert_eq!(fixture.all(), before, "{line}");
    }
    let (refusal, _) = fixture.refused(b"cat tr\xffce");
    assert_eq!(refusal, Refusal { at: 6, reason: Reason::NotUtf8 });
    // What is too long for the message is cut, and nothing comes behind the cut.
    let (_, out) = fixture.refused(format!("cat {}\u{e9}", "x".repeat(63)));
    assert!(out.starts_with(&format!("{}: 5: error: There", "x".repeat(63))), "{out}");
    assert_eq!(fixture.refused("x".repeat(LINE_BYTES + 1)).0, Refusal { at: LINE_BYTES, reason: Reason::TooLong });
    assert_eq!(fixture.refused("x".repeat(LINE_BYTES)).0, Refusal { at: 0, reason: Reason::UnknownCommand });
}

#[test]
fn the_last_refusals_stay_in_the_log() {
    let mut fixture = fixture!();
    assert_eq!(fixture.run("cat error_log"), "");
    let told: Vec<String> = (0..11).map(|number| fixture.refused(format!("cat file{number}")).1).collect();
    let log: String = told[3..].iter().map(|told| format!("[    0.000000] {told}")).collect();
    assert_eq!(fixture.run("cat error_log"), log);
    assert_eq!(fixture.run("echo > error_log"), "");
    assert_eq!(fixture.run("cat error_log"), "");
}

#[test]
fn lines_may_be_written_as_on_linux() {
    let mut fixture = fixture!();
    for line in ["", "   ", "# a comment", "\r\n"] {
        assert_eq!(fixture.run(line), "");
    }
    for (line, depth) in [
        ("echo 1 > max_graph_depth", "1\n"),
        ("echo 2>max_graph_depth\r\n", "2\n"),
        ("  echo  -n  '3'  >  /sys/kernel/tracing/max_graph_depth", "3\n"),
        ("echo \"4\" >> /sys/kernel/debug/tracing/max_graph_depth\n", "4\n"),
    ] {
        fixture.run(line);
        assert_eq!(fixture.run("cat max_graph_depth"), depth, "{line}");
    }
    let files: Vec<String> = fixture.run("ls").lines().map(String::from).collect();
    assert!(files.contains(&"set_ftrace_filter".to_string()) && files.is_sorted());
    for file in files {
        assert!(fixture.run(&format!("help {file}")).starts_with(&format!("{file}: ")));
        assert!(fixture.run("help").contains(&format!("\n{file}: ")));
    }
}

#[test]
fn functions_are_chosen_as_on_linux() {
    let mut fixture = fixture!();
    fixture.run("echo function > current_tracer");
    assert_eq!(fixture.enabled(), FUNCTIONS);
    assert_eq!(fixture.run("cat set_ftrace_filter"), "#### all functions enabled ####\n");
    let [poll, read, seek, send, array, slice] = FUNCTIONS;
    for (line, expected) in [
        ("echo disk::read > set_ftrace_filter", &[read][..]),
        ("echo net::* >> set_ftrace_filter", &[read, send]),
        ("echo 'disk::*' > set_ftrace_filter", &[poll, read, seek]),
        ("echo !disk::poll >> set_ftrace_filter", &[read, seek]),
        ("echo disk::poll >> set_ftrace_filter", &[poll, read, seek]),
        ("echo !disk::* >> set_ftrace_filter", &[poll]),
        ("echo 2 4 > set_ftrace_filter", &[read, send]),
        ("echo '*' > set_ftrace_filter", &FUNCTIONS),
        ("echo 'disk::*' 'net::*' > set_ftrace_filter", &[poll, read, seek, send]),
        ("echo '\"<[u8; 4] as Debug>::fmt\"' > set_ftrace_filter", &[array]),
        ("echo <[u8; 4] as Debug>::fmt net::send > set_ftrace_filter", &[send, array]),
        ("echo '\"<[u8] as Debug>::fmt\" disk::read'> set_ftrace_filter", &[read, slice]),
        ("echo !*Debug* > set_ftrace_filter", &[poll, read, seek, send]),
        ("echo \"\" >> set_ftrace_filter", &[poll, read, seek, send]),
    ] {
        assert_eq!(fixture.run(line), "");
        assert_eq!(fixture.enabled(), expected, "{line}");
        let listed = fixture.run("cat set_ftrace_filter");
        assert_eq!(listed.lines().collect::<Vec<_>>(), expected, "{line}");
    }
    fixture.run("echo > set_ftrace_filter");
    assert_eq!(fixture.run("cat set_ftrace_notrace"), "#### no functions disabled ####\n");
    fixture.run("echo disk::* > set_ftrace_notrace");
    fixture.run("echo net::send >> set_ftrace_notrace");
    assert_eq!(fixture.enabled(), [array, slice]);
    assert_eq!(fixture.run("cat set_ftrace_notrace"), "disk::poll\ndisk::read\ndisk::seek\nnet::send\n");
    fixture.run("echo !disk::* >> set_ftrace_notrace");
    assert_eq!(fixture.enabled(), [poll, read, seek, array, slice]);
    // Nothing would be left: the filter that was in force stays so.
    assert_eq!(
        fixture.refused("echo net::send > set_ftrace_filter").0.reason,
        Reason::Register(RegisterError::EmptySelection)
    );
    assert_eq!(fixture.enabled(), [poll, read, seek, array, slice]);
    fixture.run("echo > set_ftrace_notrace");
    fixture.run("echo nop > current_tracer");
    assert_eq!(fixture.enabled(), [""; 0]);
    // Chosen while nothing is traced, for the next tracer.
    fixture.run("echo disk::read > set_ftrace_filter");
    assert_eq!(fixture.run("cat set_ftrace_filter"), "disk::read\n");
    fixture.run("echo function > current_tracer");
    assert_eq!(fixture.run("cat enabled_functions"), "disk::read (1)\n");
}

#[test]
fn a_filter_has_no_more_rules_than_there_is_room_for() {
    let mut fixture = fixture!();
    fixture.run("echo function > current_tracer");
    // All of them match.
    let rule = |number: usize| format!("{}disk::read", "*".repeat(number));
    let rules = |count| (0..count).map(rule).collect::<Vec<_>>().join(" ");
    fixture.run(&format!("echo {} > set_ftrace_filter", rules(20)));
    (20..MAX_RULES - 1).for_each(|number| drop(fixture.run(&format!("echo {} >> set_ftrace_filter", rule(number)))));
    fixture.run("echo disk::read >> set_ftrace_filter");
    fixture.run("echo net::send > set_ftrace_notrace");
    let before = fixture.all();
    for line in [format!("echo {} >> set_ftrace_filter", rule(40)), "echo net::s* >> set_ftrace_notrace".to_string()] {
        assert_eq!(fixture.refused(&line).0.reason, Reason::TooManyRules, "{line}");
    }
    assert_eq!(fixture.all(), before);
    fixture.run("echo > set_ftrace_notrace");
    fixture.run(&format!("echo {} > set_ftrace_filter", "*".repeat(400)));
    fixture.run(&format!("echo {} >> set_ftrace_filter", "*".repeat(401)));
    let (refusal, _) = fixture.refused(format!("echo {} >> set_ftrace_filter", "*".repeat(402)));
    assert_eq!(refusal.reason, Reason::TooManyRules);
}

#[test]
fn a_tracer_that_can_not_be_leaves_the_one_that_is() {
    let mut fixture = fixture!();
    fixture.run("echo disk::* > set_ftrace_filter");
    fixture.run("echo function > current_tracer");
    let before = fixture.all();
    for fault in [Fault::Batch, Fault::Cpu(0), Fault::Alias(0), Fault::Write(1)] {
        fixture.kernel.set_fault(Some(fault));
        let (refusal, _) = fixture.refused("echo function_graph > current_tracer");
        fixture.kernel.repair();
        assert!(matches!(refusal.reason, Reason::Register(_)), "{fault:?}: {refusal}");
        assert_eq!(fixture.all(), before, "{fault:?}");
        fixture.kernel.set_fault(Some(fault));
        let (refusal, _) = fixture.refused("echo net::* > set_ftrace_filter");
        fixture.kernel.repair();
        assert!(matches!(refusal.reason, Reason::Register(_)), "{fault:?}: {refusal}");
        assert_eq!(fixture.all(), before, "{fault:?}");
    }
    fixture.run("echo function_graph > current_tracer");
    assert_eq!(fixture.run("cat current_tracer"), "function_graph\n");
    assert_eq!(fixture.enabled(), FUNCTIONS[..3]);
    assert_eq!(fixture.engine.statistics().ops, 1);
}

#[test]
fn an_old_tracer_that_is_waited_for_in_vain_can_be_taken_again() {
    let mut fixture = fixture!();
    fixture.run("echo function > current_tracer");
    fixture.kernel.set_fault(Some(Fault::Busy(1)));
    fixture.run("echo nop > current_tracer");
    assert_eq!((fixture.enabled(), fixture.engine.statistics().ops), (Vec::new(), 1), "the fault is no such fault");
    fixture.run("echo function > current_tracer");
    assert_eq!(fixture.enabled(), FUNCTIONS);
    fixture.run("echo nop > current_tracer");
    assert_eq!((fixture.enabled(), fixture.engine.statistics().ops), (Vec::new(), 0));
}

fn at(number: u64) -> TextAddr {
    TextAddr::new(BASE + number * 16 + 4)
}

fn writer(
    fixture: &Fixture,
    cpu: usize,
    task: u32,
    time: u64,
) -> EventWriter<'static, impl Fn() -> u64 + Copy + use<>> {
    EventWriter { ring: fixture.rings[cpu], task, clock: move || time }
}

#[test]
fn calls_are_shown_in_the_order_of_their_times_and_stay_until_they_are_taken_out() {
    let mut fixture = fixture!();
    fixture.run("echo function > current_tracer");
    let name = |number: u64| FUNCTIONS[number as usize];
    let base = |number: u64| at(number);
    writer(&fixture, 1, 2, 5_000_001_499).function(base(1), base(0).offset(4), &[]);
    writer(&fixture, 0, 1, 5_000_000_000).function(base(0), TextAddr::new(0x404), &[7, 0x10]);
    writer(&fixture, 0, 99, 5_000_003_000).marker("one\ntwo");
    let head = "\
# tracer: function
#
# entries-in-buffer/entries-written: 3/3   #P:2
#
#           TASK-PID     CPU#  flags  TIMESTAMP  FUNCTION
#              | |         |     |       |         |
";
    let events = format!(
        "            main-1       [000] .....     5.000000: {}(0x7, 0x10) <-0x400
     disk reader-2       [001] .....     5.000001: {} <-{}
           <...>-99      [000] .....     5.000003: tracing_mark_write: one two
",
        name(0),
        name(1),
        name(0),
    );
    for _ in 0..2 {
        assert_eq!(fixture.run("cat trace"), format!("{head}{events}"));
    }
    assert_eq!(fixture.run("cat trace_pipe"), events);
    assert_eq!(fixture.run("cat trace_pipe"), "");
    assert_eq!(fixture.run("cat trace"), head.replace("3/3", "0/0"));
    writer(&fixture, 1, 2, 6_000_000_000).marker("gone");
    fixture.run("echo >> trace");
    assert!(fixture.run("cat trace").contains("gone"));
    fixture.run("echo > trace");
    assert_eq!(fixture.run("cat trace"), head.replace("3/3", "0/0"));
}

#[test]
fn calls_are_shown_inside_each_other() {
    let mut fixture = fixture!();
    fixture.run("echo function_graph > current_tracer");
    let call = |cpu, task, time, number| {
        writer(&fixture, cpu, task, time).graph_entry(at(number), at(5), u16::from(number != 1));
    };
    let exit = |cpu, task, time, number, entry| {
        writer(&fixture, cpu, task, time).graph_exit(at(number), entry, u16::from(number != 1), 0);
    };
    call(0, 1, 1_000, 1);
    call(0, 1, 1_100, 2);
    call(1, 2, 1_150, 1);
    exit(0, 1, 1_916, 2, 1_100);
    exit(0, 1, 14_000, 1, 1_000);
    call(0, 2, 15_000, 3);
    let graph = "\
# tracer: function_graph
#
# CPU  DURATION                  FUNCTION CALLS
# |     |   |                     |   |   |   |
 0)               |  disk::read() {
 0)   0.816 us    |    disk::seek();
 1)               |  disk::read() {
 0) + 13.000 us   |  } /* disk::read */
 ------------------------------------------
 0)     main-1     =>   disk re-2   
 ------------------------------------------

 0)               |    net::send() {
";
    assert_eq!(fixture.run("cat trace"), graph);
    assert_eq!(
        fixture.run("cat trace_pipe"),
        graph.lines().skip(4).map(|line| format!("{line}\n")).collect::<String>()
    );
    // What another tracer has recorded goes with it.
    writer(&fixture, 0, 1, 20_000).marker("old");
    fixture.run("echo function > current_tracer");
    assert!(!fixture.run("cat trace").contains("old"));
}

#[test]
fn nothing_is_recorded_while_tracing_is_off() {
    let mut fixture = fixture!();
    fixture.run("echo function > current_tracer");
    let function = fixture.function;
    let call = || {
        let mut regs = FakeRegs::new(&PtRegs { regs: [0; 31], sp: 0, pc: at(1).get(), pstate: 0 });
        (function.callback)(at(1), at(2), function, regs.view());
    };
    call();
    assert_eq!(fixture.run("cat trace").matches("disk::read <-disk::seek").count(), 1);
    fixture.run("echo 0 > tracing_on");
    call();
    assert_eq!(fixture.refused("echo hello > trace_marker").0.reason, Reason::TracingIsOff);
    assert_eq!(fixture.run("cat trace").lines().count(), 7);
    fixture.run("echo 1 > tracing_on");
    call();
    fixture.run("echo 'hello; world' > trace_marker");
    assert_eq!(fixture.run("cat trace").lines().count(), 9);
    assert_eq!(fixture.run("cat buffer_size_kb"), "8\n");
    assert_eq!(fixture.run("cat buffer_total_size_kb"), "16\n");
}

#[test]
fn a_profile_is_the_longest_first() {
    let mut fixture = fixture!();
    fixture.run("echo disk::* > set_ftrace_filter");
    fixture.run("echo 1 > function_profile_enabled");
    assert_eq!(fixture.enabled(), FUNCTIONS[..3]);
    fixture.run("echo disk::re* > set_ftrace_filter");
    assert_eq!(fixture.enabled(), FUNCTIONS[1..2], "the filter is the profiler's too");
    for (number, nanos) in [(0, 1_000), (1, 2_000_500), (0, 3_000), (2, 2_000_500)] {
        fixture.profile.add(at(number), nanos, 0);
    }
    let expected = [
        "  Function                               Hit    Time            Avg             Max",
        "  --------                               ---    ----            ---             ---",
        "  disk::seek                               1    2000.500 us     2000.500 us     2000.500 us",
        "  disk::read                               1    2000.500 us     2000.500 us     2000.500 us",
        "  disk::poll                               2    4.000 us        2.000 us        3.000 us",
    ];
    assert_eq!(fixture.run("cat trace_stat/function").lines().collect::<Vec<_>>(), expected);
    fixture.run("echo 0 > function_profile_enabled");
    assert_eq!(fixture.enabled(), [""; 0]);
    fixture.run("echo 1 > function_profile_enabled");
    assert_eq!(fixture.run("cat trace_stat/function").lines().count(), 2, "from zero");
}

static CALLS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

struct Calls;

impl File for Calls {
    fn name(&self) -> &str {
        "options/calls"
    }
    fn help(&self) -> &str {
        "the calls"
    }
    fn read(&self, out: &mut dyn Write) -> Result<(), Reason> {
        Ok(writeln!(out, "{}", CALLS.load(Ordering::Relaxed))?)
    }
    fn write(&self, value: &Value<'_>) -> Result<(), Refusal> {
        CALLS.store(value.all().number()?, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn a_kernel_adds_tracers_and_files_of_its_own() {
    static COUNT: Ops = Ops::new(count);
    static TRACERS: [Tracer; 1] = [Tracer { name: "count", ops: &COUNT }];
    let mut fixture = fixture!();
    fixture.control = fixture.control.with_tracers(&TRACERS).with_files(&[&Calls]);
    assert_eq!(fixture.run("cat available_tracers"), "function_graph function count nop\n");
    fixture.run("echo net::send > set_ftrace_filter");
    fixture.run("echo count > current_tracer");
    assert_eq!(fixture.engine.statistics().ops, 1);
    assert_eq!(fixture.run("cat enabled_functions"), "net::send (1)\n");
    assert!(fixture.run("ls").ends_with("\noptions/calls\n"));
    assert_eq!(fixture.run("help options/calls"), "options/calls: the calls\n");
    fixture.run("echo 41 > options/calls");
    assert_eq!(fixture.run("cat options/calls"), "41\n");
    let (refusal, out) = fixture.refused("echo many > options/calls");
    assert_eq!((refusal.at, out.lines().count()), (5, 3));
}

#[test]
fn a_reader_goes_on_as_long_as_it_is_told_to() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let mut fixture = fixture!();
    fixture.control = fixture.control.while_it_goes_on(|| ASKED.fetch_add(1, Ordering::Relaxed) < 10);
    writer(&fixture, 0, 1, 1).marker("one");
    writer(&fixture, 0, 1, 2).marker("two");
    assert_eq!(fixture.run("cat trace_pipe").lines().count(), 2);
    assert_eq!(ASKED.load(Ordering::Relaxed), 11);
}

/// Lines as somebody may type them who does not know how, and worse.
struct Typist(u64);

impl Typist {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % count
    }

    fn line(&mut self) -> Vec<u8> {
        const PARTS: [&str; 50] = [
            "echo",
            "cat",
            "ls",
            "help",
            " ",
            " ",
            " ",
            ">",
            ">>",
            " > ",
            " >> ",
            "'",
            "\"",
            "!",
            "*",
            "?",
            "[",
            "]",
            "\\",
            ":mod:",
            ":",
            "::",
            "0",
            "1",
            "99",
            "disk::",
            "read",
            "net::send",
            "<[u8; 4] as Debug>::fmt",
            "function",
            "nop",
            "function_graph",
            "current_tracer",
            "set_ftrace_filter",
            "set_ftrace_notrace",
            "tracing_on",
            "trace",
            "\t",
            "\u{e9}",
            "function_profile_enabled",
            "set_graph_function",
            "set_graph_notrace",
            "set_ftrace_pid",
            "tracing_cpumask",
            "trace_options",
            "snapshot",
            "disk::poll",
            ":traceoff",
            ":stacktrace:3",
            "nofuncgraph-cpu",
        ];
        let mut line = Vec::new();
        if self.below(4) > 0 {
            line.extend(["echo ", "cat "][self.below(8) / 7].as_bytes());
        }
        for _ in 0..self.below(8) {
            match self.below(12) {
                0 => line.push(self.below(256) as u8),
                _ => line.extend(PARTS[self.below(PARTS.len())].as_bytes()),
            }
        }
        if self.below(3) > 0 {
            let file = PARTS[[32, 33, 34, 35, 36, 39, 40, 41, 42, 43, 44, 45][self.below(12)]];
            line.extend(format!("{}{file}", [" > ", " >> "][self.below(2)]).as_bytes());
        }
        line
    }
}

#[test]
fn no_line_panics_and_a_refused_one_changes_nothing() {
    let mut fixture = fixture!();
    let mut typist = Typist(0x9e37_79b9_7f4a_7c15);
    // `FENTRY_LINES_SECONDS=600 cargo test no_line_panics` goes on for ten minutes.
    let seconds = std::env::var("FENTRY_LINES_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let end = seconds.map(|seconds| std::time::Instant::now() + std::time::Duration::from_secs(seconds));
    let usual = if cfg!(miri) { 60 } else { 20_000 };
    let (mut lines, mut refused, mut before) = (0, 0, fixture.all());
    while end.map_or(lines < usual, |end| std::time::Instant::now() < end) {
        lines += 1;
        let line = typist.line();
        let mut out = String::new();
        let done = fixture.control.execute(&line, &mut out);
        let after = fixture.all();
        if let Err(refusal) = done {
            refused += 1;
            let line = String::from_utf8_lossy(&line);
            assert_eq!(after, before, "{line:?} was refused: {refusal}");
            assert!(out.contains(": error: ") && out.ends_with("^\n"), "{line:?}: {out}");
        }
        before = after;
    }
    // Neither kind is rare.
    assert!((lines / 4..lines * 19 / 20).contains(&refused), "{refused} of {lines}");
    assert_eq!(fixture.engine.check_text().wrong, 0);
}
