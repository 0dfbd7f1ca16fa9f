//! The control interface on simulated text.

use super::{Control, File, LINE_BYTES, MAX_RULES, Reason, Refusal, Tracer, Tracing, TracingParts, Value};
use crate::address::TextAddr;
use crate::context::regs::{FtraceRegs, PtRegs};
use crate::engine::{Engine, RegisterError};
use crate::fakes::{COMPILED, FakeKernel, FakeRegs, FakeText, Fault};
use crate::filter::GlobError;
use crate::ops::Ops;
use crate::record::CpuArea;
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
    parts: TracingParts,
    /// The tracer `function`.
    function: &'static Ops,
    is_on: fn() -> bool,
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
        let is_on = || TRACING.is_on();
        Fixture { kernel, engine, rings, profile: &PROFILE, parts, function: parts.function, is_on, control }
    }};
}

mod chosen;
mod functions;
mod instances;
mod lines;
mod own;
mod shown;
mod typist;
mod written;

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
            "tracing_max_latency",
            "tracing_on",
            "tracing_thresh",
        ];
        files.map(|file| self.run(&format!("cat {file}"))).concat()
    }
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

/// A call of a function whose callsite calls these ops.
fn call(number: u64, ops: &'static Ops) {
    let mut regs = FakeRegs::new(&PtRegs { regs: [0; 31], sp: 0, pc: at(number).get(), pstate: 0 });
    (ops.callback)(at(number), at(5).offset(8), ops, regs.view());
}
