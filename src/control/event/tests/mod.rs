//! Events as lines define them, on simulated text.

extern crate std;

use super::reason::EventReason;
use super::store::Events;
use crate::address::{TextAddr, TextRange};
use crate::context::TraceContext;
use crate::context::regs::PtRegs;
use crate::context::shadow::HookedCall;
use crate::control::switches::Switches;
use crate::control::{Control, HistMemory, Histogram, Reason, Refusal, Tracing};
use crate::engine::Engine;
use crate::fakes::{COMPILED, FakeKernel, FakeRegs, FakeText, Fault};
use crate::inject::{Injectable, Injection};
use crate::kprobe::{Handled, Kprobes};
use crate::ops::{Action, Ops, leave, thread};
use crate::tracer::kernel::{RecordTo, StoreIn};
use crate::tracer::profiler::{Profile, ProfileSlot};
use crate::tracer::ring::{Mode, Ring, RingBlock};
use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// How many events there can be.
const EVENTS: usize = 3;
const BASE: u64 = 0xffff_8000_8000_0000;
/// Where the module is loaded.
const MODULE: u64 = BASE + (1 << 30);
const FUNCTIONS: [&str; 4] = ["disk::read", "disk::seek", "<[u8; 4] as Debug>::fmt", "twice"];

/// What events can read: from 0x1000 on.
const MEMORY: [u8; 96] = {
    let mut memory = [b'x'; 96];
    let (name, at) = (b"sda1\0", 0x10_u64.to_le_bytes());
    let mut n = 0;
    while n < 8 {
        // A string, a pointer to it, a number.
        memory[n] = if n < name.len() { name[n] } else { 0xff };
        memory[8 + n] = [0x00, 0x10, 0, 0, 0, 0, 0, 0][n];
        memory[16 + n] = [0xfe, 0xff, 0xff, 0xff, 0x01, 0x80, 0, 0][n];
        memory[24 + n] = at[n];
        n += 1;
    }
    memory
};

pub(super) fn read(address: u64, bytes: &mut [u8]) -> bool {
    let from = address.wrapping_sub(0x1000) as usize;
    let found = from.checked_add(bytes.len()).and_then(|end| MEMORY.get(from..end));
    found.inspect(|found| bytes.copy_from_slice(found)).is_some()
}

/// A kernel with one CPU, its events and its control interface.
struct Fixture {
    kernel: &'static FakeKernel,
    engine: &'static Engine,
    kprobes: &'static Kprobes<4>,
    context: &'static TraceContext,
    switches: &'static Switches,
    control: Control<1>,
}

macro_rules! fixture {
    ($with:expr) => {{
        static MEMORY: [RingBlock; 2] = [const { RingBlock::new() }; 2];
        static RING: Ring = Ring::new(&MEMORY, Mode::Overwrite);
        static SPARE_MEMORY: [RingBlock; 2] = [const { RingBlock::new() }; 2];
        static SPARE: Ring = Ring::new(&SPARE_MEMORY, Mode::Overwrite);
        static SLOTS: [ProfileSlot; 4] = [const { ProfileSlot::new() }; 4];
        static PROFILE: Profile = Profile::new(&SLOTS);
        static TRACING: Tracing<Kernel> = Tracing::new();
        static STORE: spin::Once<Events<Kernel, EVENTS>> = spin::Once::new();
        struct Kernel;
        impl RecordTo for Kernel {
            fn ring() -> &'static Ring {
                &RING
            }
            fn task() -> u32 {
                7
            }
            fn spare_ring() -> Option<&'static Ring> {
                Some(&SPARE)
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
        impl StoreIn<Events<Self, EVENTS>> for Kernel {
            fn store() -> &'static Events<Self, EVENTS> {
                STORE.wait()
            }
        }
        let (kernel, engine, kprobes, context) = machine();
        let with: fn(Events<Kernel, EVENTS>) -> Events<Kernel, EVENTS> = $with;
        let events = STORE.call_once(|| with(Events::new(kprobes)));
        let control = Control::new(engine, TRACING.parts(), [&RING], || 1_000_000_000)
            .with_spare_rings([&SPARE])
            .with_events(events.parts());
        Fixture { kernel, engine, kprobes, context, switches: TRACING.parts().switches, control }
    }};
    () => {{
        static HISTS: [HistMemory<128>; 2] = [const { HistMemory::new() }; 2];
        static HISTOGRAMS: [Histogram; 2] = [Histogram::new(&HISTS[0]), Histogram::new(&HISTS[1])];
        fixture!(|events| events.with_memory(read).with_histograms(&HISTOGRAMS))
    }};
}

fn machine() -> (&'static FakeKernel, &'static Engine, &'static Kprobes<4>, &'static TraceContext) {
    let mut text = FakeText::new(BASE);
    for name in FUNCTIONS {
        text.function(name, COMPILED);
    }
    text.function("twice", COMPILED);
    // MOV X0, X0, thrice; RET
    let at = text.words(&[0xaa00_03e0, 0xaa00_03e0, 0xaa00_03e0, 0xd65f_03c0]);
    text.symbol("untraced", at, 16);
    text.words(&[0; 4]);
    // A module that is not loaded: it has a function of a name that the kernel has too.
    let mut module = FakeText::new(MODULE);
    module.function("disk::read", COMPILED);
    module.function("disk::format", COMPILED);
    text.module(module);
    let kernel = text.build();
    let engine = Box::leak(Box::new(Engine::with_machine(kernel, kernel)));
    let context = thread();
    kernel.set_context(context);
    kernel.set_brk_range(Some(TextRange::new(TextAddr::new(0x1000), TextAddr::new(0x2000))));
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    (kernel, engine, Box::leak(Box::new(Kprobes::new(engine))), context)
}

/// Registers of which each is 0x100 and its number, but for x0 and x1.
fn regs(x0: u64, x1: u64) -> PtRegs {
    let mut regs = PtRegs { regs: core::array::from_fn(|n| 0x100 + n as u64), sp: 0x1008, pc: BASE + 8, pstate: 5 };
    (regs.regs[0], regs.regs[1]) = (x0, x1);
    regs
}

impl Fixture {
    fn run(&mut self, line: &str) -> String {
        let mut out = String::new();
        let done = self.control.execute(line, &mut out);
        assert_eq!(done, Ok(()), "{line}: {out}");
        out
    }

    fn refused(&mut self, line: &str) -> Refusal {
        self.control.execute(line, &mut String::new()).unwrap_err()
    }

    /// The ops at the entry of a function.
    fn ops_at(&self, function: u64) -> Vec<&'static Ops> {
        let mut here = Vec::new();
        self.engine.for_each_callsite(|status| {
            if status.callsite.function().get() == function {
                here.extend(status.ops().map(core::ptr::from_ref));
            }
        });
        self.engine.all_ops().into_iter().filter(|ops| here.contains(&core::ptr::from_ref(*ops))).collect()
    }

    /// The function of this number is called with these in x0 and x1, and returns `result`.
    fn call(&self, number: u64, [x0, x1]: [u64; 2], result: u64) {
        let (function, parent) = (BASE + number * 16, BASE + 0x28);
        let mut hooked = Vec::new();
        for ops in self.ops_at(function) {
            if matches!(ops.action(), Action::Return) {
                let hook = ops.hook.load(Ordering::Relaxed);
                let call = HookedCall { return_address: parent, function: function + 8, sp: 0x9000, hook };
                assert!(self.context.calls.push(call).is_some());
                hooked.push(ops);
                continue;
            }
            let mut saved = FakeRegs::new(&regs(x0, x1));
            if ops.flags().contains(crate::ops::OpsFlags::SAVE_REGS) {
                saved = saved.with_all_saved();
            }
            (ops.callback)(TextAddr::new(function + 4), TextAddr::new(parent), ops, saved.view());
        }
        for ops in hooked.into_iter().rev() {
            leave(self.context, ops, [result, 2, 3, 4, 5, 6, 7, 8]);
        }
    }

    /// What was recorded since this was asked for last, without what stands in front.
    fn recorded(&mut self) -> Vec<String> {
        let shown = self.run("cat trace_pipe");
        shown.lines().map(|line| line.split_once(": ").map_or(line, |(_, event)| event).to_string()).collect()
    }

    /// All that a line can change.
    fn all(&mut self) -> String {
        let files = ["kprobe_events", "set_event", "trace", "kprobe_profile", "events/enable"];
        let mut all = files.map(|file| self.run(&format!("cat {file}"))).concat();
        for file in self.run("ls").lines().filter(|file| file.contains("/kprobes/")) {
            all += &self.run(&format!("cat {file}"));
        }
        all
    }
}

mod commands;
mod definitions;
mod filters;
mod histograms;
mod triggers;

#[test]
fn functions_fail_as_lines_say() {
    static INJECTION: Injection = Injection::new();
    let mut fixture = fixture!();
    for file in ["inject", "injectable", "probability", "interval", "times", "space", "task-filter", "verbose"] {
        assert_eq!(fixture.refused(&format!("cat fail_function/{file}")).reason, Reason::NothingFails, "{file}");
    }
    let site = |number: u64, name| {
        let function = core::ptr::without_provenance((BASE + number * 16) as usize);
        // SAFETY: 1. and 2. nothing executes a fake's text.
        unsafe { Injectable::new(name, function, function) }
    };
    let sites = Box::leak(Box::new([site(0, FUNCTIONS[0]), site(1, FUNCTIONS[1]), site(9, "gone")]));
    fixture.control = fixture.control.with_injection(&INJECTION, sites);
    assert_eq!(fixture.run("cat fail_function/injectable"), "disk::read\ndisk::seek\ngone\n");
    for (line, failing) in [
        ("echo disk::seek > fail_function/inject", "disk::seek\n"),
        ("echo disk::read >> fail_function/inject", "disk::seek\ndisk::read\n"),
        ("echo '!disk::seek' > fail_function/inject", "disk::read\n"),
        ("echo > fail_function/inject", ""),
        ("echo disk::read disk::seek > fail_function/inject", "disk::read\ndisk::seek\n"),
        ("echo disk::read > fail_function/inject", "disk::read\n"),
    ] {
        fixture.run(line);
        assert_eq!(fixture.run("cat fail_function/inject"), failing, "{line}");
        let enabled = fixture.run("cat enabled_functions");
        let names: Vec<&str> = enabled.lines().filter_map(|line| line.split(' ').next()).collect();
        let mut expected: Vec<&str> = failing.lines().collect();
        expected.sort_unstable();
        assert_eq!(names, expected, "{line}");
    }
    let all = |fixture: &mut Fixture| {
        ["inject", "probability", "interval", "times", "space", "task-filter", "verbose"]
            .map(|file| fixture.run(&format!("cat fail_function/{file}")))
            .concat()
    };
    assert_eq!(all(&mut fixture), "disk::read\n0\n1\n-1\n0\nN\n2\n");
    for (file, value) in [
        ("probability", "50"),
        ("interval", "7"),
        ("times", "3"),
        ("space", "9"),
        ("task-filter", "Y"),
        ("verbose", "1"),
    ] {
        fixture.run(&format!("echo {value} > fail_function/{file}"));
    }
    let before = "disk::read\n50\n7\n3\n9\nY\n1\n";
    assert_eq!(all(&mut fixture), before);
    for (line, column, reason) in [
        ("echo 101 > fail_function/probability", 5, Reason::Expected("0 to 100")),
        ("echo -2 > fail_function/times", 5, Reason::Expected("A number")),
        ("echo 4294967296 > fail_function/interval", 5, Reason::Expected("A number of 32 bits")),
        ("echo maybe > fail_function/task-filter", 5, Reason::Expected("Y or N")),
        ("echo 3 > fail_function/verbose", 5, Reason::Expected("0, 1 or 2")),
        ("echo disk::seek nosuch > fail_function/inject", 16, Reason::NotInjectable),
        ("echo 1 > fail_function/injectable", 9, Reason::NotWritable),
    ] {
        let refusal = fixture.refused(line);
        assert_eq!((refusal.at, refusal.reason), (column, reason), "{line}");
        assert_eq!(all(&mut fixture), before, "{line}");
    }
    // It can't be attached there, and is where it was.
    assert!(matches!(fixture.refused("echo gone > fail_function/inject").reason, Reason::Register(_)));
    assert_eq!(all(&mut fixture), before);
    assert_eq!(fixture.run("cat enabled_functions").lines().count(), 1);
    fixture.run("echo -1 > fail_function/times");
    fixture.run("echo > fail_function/inject");
    assert_eq!(fixture.engine.statistics().ops, 0);
}

#[test]
fn functions_can_be_made_to_fail_after_any_failure() {
    static INJECTION: Injection = Injection::new();
    let mut fixture = fixture!();
    let site = |number: u64| {
        let function = core::ptr::without_provenance((BASE + number * 16) as usize);
        // SAFETY: 1. and 2. nothing executes a fake's text.
        unsafe { Injectable::new(FUNCTIONS[number as usize], function, function) }
    };
    fixture.control = fixture.control.with_injection(&INJECTION, Box::leak(Box::new([site(0), site(1)])));
    let mut stuck = 0;
    for before in ["disk::read", ""] {
        for fault in (0..12).map(Fault::AliasesFrom).chain([Fault::Busy(1), Fault::Cpu(1), Fault::Batch]) {
            fixture.run(&format!("echo {before} > fail_function/inject"));
            fixture.kernel.set_fault(Some(fault));
            let done = fixture.control.execute("echo disk::seek > fail_function/inject", &mut String::new());
            fixture.kernel.set_fault(None);
            // What is listed is what may fail.
            let listed = fixture.run("cat fail_function/inject");
            if done.is_err() {
                assert!(listed.trim_end() == before || listed.is_empty(), "{fault:?}: {listed}");
                stuck += usize::from(listed.trim_end() != before);
            }
            fixture.run("echo disk::seek > fail_function/inject");
            assert_eq!(fixture.run("cat enabled_functions"), "disk::seek (1) I\n", "{fault:?}");
        }
    }
    assert!(stuck > 0, "the faults are no such faults");
    fixture.run("echo > fail_function/inject");
}

/// Definitions, filters and triggers as somebody may type them who does not know how.
#[test]
fn no_line_about_events_panics_and_a_refused_one_changes_nothing() {
    const PARTS: [&str; 46] = [
        "p",
        "r",
        "-",
        "!",
        ":",
        "e",
        "f",
        "/",
        " disk::read",
        " disk::seek",
        "+",
        "8",
        "(",
        ")",
        "%x0",
        "%x31",
        "$arg1",
        "$retval",
        "$stack",
        "@",
        "0x1008",
        "\\",
        "=",
        "a",
        " ",
        " && ",
        "||",
        "==",
        "<",
        "~",
        "\"",
        ":string",
        ":u8",
        ":b3@1/8",
        "traceoff",
        "stacktrace",
        "enable_event",
        "disable_hist",
        "snapshot",
        "kprobes",
        "hist:keys=",
        ".log2",
        ",",
        " if ",
        "common_pid",
        "\u{e9}",
    ];
    const STARTS: [&str; 8] = [
        "p:e disk::read a=",
        "r:f disk::seek ",
        "-:",
        "a ==",
        "!(a",
        "hist:keys=",
        "enable_event:kprobes:",
        "traceoff:",
    ];
    const FILES: [&str; 8] = [
        "kprobe_events",
        "events/kprobes/e/filter",
        "events/kprobes/e/trigger",
        "events/kprobes/f/trigger",
        "events/kprobes/f/enable",
        "events/enable",
        "set_event",
        "events/kprobes/f/filter",
    ];
    let mut fixture = fixture!();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |count: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % count
    };
    let lines = if cfg!(miri) { 40 } else { 4_000 };
    let (mut refused, mut before) = (0, fixture.all());
    for _ in 0..lines {
        let file = FILES[below(FILES.len())];
        let mut line = String::from("echo '");
        if file.contains("enable") {
            line += ["0", "1"][below(2)];
        } else {
            line += if below(3) > 0 { STARTS[below(STARTS.len())] } else { "" };
            (0..below(6)).for_each(|_| line += PARTS[below(PARTS.len())]);
        }
        line += &format!("' {} {file}", [">", ">>"][usize::from(below(4) > 0)]);
        let done = fixture.control.execute(&line, &mut String::new());
        fixture.call(0, [0x1000, 1], 0);
        fixture.call(1, [5, 1], 0);
        fixture.recorded();
        let after = fixture.all();
        if let Err(refusal) = done {
            refused += 1;
            // But for what is counted meanwhile.
            let without_counts = |all: &str| -> Vec<String> {
                let counts = |line: &&str| !(line.starts_with("  ") || line.contains("count") || line.contains("Hits"));
                all.lines().filter(counts).map(String::from).collect()
            };
            assert_eq!(without_counts(&after), without_counts(&before), "{line} was refused: {refusal}");
        }
        before = after;
    }
    // Neither kind is rare.
    assert!((lines / 5..lines * 19 / 20).contains(&refused), "{refused} of {lines}");
    assert_eq!(fixture.engine.check_text().wrong, 0);
}
