//! What a call costs beyond the same call with the callsite disabled.

use crate::counted::{counted, tell, tell_sized};
use crate::events::events;
use crate::kernel::{ENGINE, address, engine, function, init};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::arch::{asm, naked_asm};
use core::hint::black_box;
use fentry::context::shadow::ShadowStack;
use fentry::control::{Control, Tracing};
use fentry::inject::{Injectable, Injection};
use fentry::kprobe::{Handled, Kprobe, KprobeRegs, Kprobes, ServedBy};
use fentry::ops::direct::Trampoline;
use fentry::ops::{Entry, Exit, Probe};
use fentry::record::flight::FlightSlot;
use fentry::tracer;
use fentry::tracer::graph::Graph;
use fentry::tracer::kernel::{RecordTo, StoreIn};
use fentry::tracer::profiler::{Profile, ProfileSlot, Profiler};
use fentry::tracer::ring::{Mode, Ring, RingBlock};
use fentry::tracer::ticks_per_second;
use fentry::tracer::under::{Scope, Under};
use fentry::trampoline::Implementations;
use fentry::trampoline::attach::{Attach, AttachPoint, Fentry, Fexit, ModifyReturn};
use fentry::{Filter, Ops, OpsFlags, PtRegs, Rule, Symbols, TextAddr};
use spin::Once;
use support::exceptions::SKIPPED_BRK;
use support::{exceptions, percpu, print, println, smallest};

/// The function that is called, and one that is not.
const CALLED: usize = 0;
const OTHER: usize = 1;

/// Handlers that do nothing, as they are compiled.
struct Empty;

impl Probe for Empty {
    type Data = ();

    fn entry(_: &mut Entry<'_>) -> Option<()> {
        Some(())
    }

    fn exit(_: &mut Exit<'_>, (): &()) {}
}

/// Where this kernel's tracers record.
pub(crate) struct Kernel;

static BLOCKS: [RingBlock; 16] = [const { RingBlock::new() }; 16];
static RING: Ring = Ring::new(&BLOCKS, Mode::Overwrite);
static SLOTS: [ProfileSlot; 64] = [const { ProfileSlot::new() }; 64];
static PROFILE: Profile = Profile::new(&SLOTS);
static FLIGHT: [FlightSlot; 16] = [const { FlightSlot::new() }; 16];
static SHADOW: ShadowStack<8> = ShadowStack::new();

impl RecordTo for Kernel {
    #[inline]
    fn ring() -> &'static Ring {
        &RING
    }

    #[inline]
    fn task() -> u32 {
        1
    }
}

impl StoreIn<Profile> for Kernel {
    #[inline]
    fn store() -> &'static Profile {
        &PROFILE
    }
}

/// The instructions of a call.
pub(crate) fn call() -> u32 {
    let once = || counted(|| function(CALLED)()).1;
    // Once before, so that what is only done the first time is done.
    once();
    once()
}

/// What a call costs beyond `disabled` while these are registered on the function with this number.
fn with(together: &[&'static Ops], number: usize, disabled: u32) -> u32 {
    let rules = [Rule::address(address(number))];
    for ops in together {
        assert_eq!(engine().register(ops, &Filter::new(&rules)), Ok(1));
    }
    let enabled = call();
    for ops in together {
        assert_eq!(engine().unregister(ops), Ok(1));
    }
    enabled - disabled
}

/// What a call that is not made to fail costs: while nothing is, and while calls are counted.
fn injections(disabled: u32) -> [u32; 2] {
    static SITE: Once<Injectable<'static>> = Once::new();
    fn instead() {}
    let site = SITE.call_once(|| {
        // SAFETY: 1. All functions that the bench calls are of this type. 2. None does anything.
        unsafe { Injectable::new("function", function(CALLED) as *const (), instead as fn() as *const ()) }
    });
    INJECTION.attach(engine(), [site]).expect("nothing else is registered");
    let costs = [0, 100].map(|probability| {
        INJECTION.set_interval(1_000_000);
        INJECTION.set_probability(probability);
        call() - disabled
    });
    INJECTION.detach(engine()).expect("it is attached");
    costs
}

/// As small as a probe's handler can be.
#[unsafe(naked)]
extern "C" fn no_handler(_: TextAddr, _: TextAddr, _: &'static Kprobe, _: KprobeRegs<'_>) {
    naked_asm!("hint #34", "ret")
}

#[unsafe(link_section = ".text.exceptions")]
fn handle_brk(regs: &mut PtRegs, comment: u16) -> Handled {
    KPROBES.handle_brk(regs, comment)
}

pub(crate) static KPROBES: Kprobes<4> = Kprobes::new(&ENGINE);
static AT_ENTRY: Kprobe = Kprobe::new(no_handler);
static BY_JUMP: Kprobe = Kprobe::new(no_handler);
static BY_BREAKPOINT: Kprobe = Kprobe::new(no_handler).with_pc();

/// What a probe with an empty handler costs: at a function's entry, and at an instruction by a jump and by a breakpoint. And what
/// an exception costs for which nothing is done.
fn probes(disabled: u32) -> [u32; 4] {
    exceptions::on_brk(handle_brk);
    let cost = |probe: &'static Kprobe, at: TextAddr, wanted: ServedBy| {
        // SAFETY: 1. and 2. An instruction of a function that is called here.
        assert_eq!(unsafe { KPROBES.register(probe, at) }, Ok(wanted));
        let cost = call() - disabled;
        assert_eq!(KPROBES.unregister(probe), Ok(()));
        cost
    };
    let at = address(CALLED);
    let entry = cost(&AT_ENTRY, at, ServedBy::Callsite);
    // Behind the callsite.
    let jump = cost(&BY_JUMP, at.offset(8), ServedBy::Jump);
    let breakpoint = cost(&BY_BREAKPOINT, at.offset(8), ServedBy::Breakpoint);
    let empty = counted(|| ()).1;
    // SAFETY: this kernel's handler goes on behind it.
    let exception = || counted(|| unsafe { asm!("brk #{}", const SKIPPED_BRK) }).1;
    exception();
    [entry, jump, breakpoint, exception() - empty]
}

type Two = extern "C" fn(u64, u64) -> u64;

/// The function that is called.
static ATTACHED: AttachPoint<Two> = {
    let first: extern "C" fn() = generated::generated_functions;
    // SAFETY: it does nothing, so that it takes any arguments and returns the first.
    AttachPoint::new(unsafe { core::mem::transmute::<extern "C" fn(), Two>(first) })
};
static ENTRY: Fentry<Two> = Fentry::<Two>::new(smallest::entry);
static GUARDED_ENTRY: Fentry<Two> = Fentry::<Two>::new(smallest::entry_that_calls);
// SAFETY: 1. Its callers take any number. 2. They rely on nothing else.
static MODIFY: ModifyReturn<Two> = unsafe { ModifyReturn::<Two>::new(smallest::modify) };
static EXIT: Fexit<Two> = Fexit::<Two>::new(smallest::exit);
static GUARDED_EXIT: Fexit<Two> = Fexit::<Two>::new(smallest::exit_that_calls);

/// What a call costs beyond `disabled` while this is attached.
fn attached(attachment: &'static impl Attach<Two>, disabled: u32) -> u32 {
    assert_eq!(ATTACHED.attach(engine(), attachment), Ok(()));
    let cost = call() - disabled;
    assert_eq!(ATTACHED.detach(engine(), attachment), Ok(()));
    cost
}

fentry::ops_struct! {
    /// A table that is called by.
    struct PolicyOps => Policy {
        fn pick(waiting: u64, last: u64) -> u64;
    }
}

extern "C" fn oldest(_waiting: u64, last: u64) -> u64 {
    last + 1
}

static PLAIN: PolicyOps = PolicyOps { pick: Some(oldest) };
static POLICY: Implementations<PolicyOps> = Implementations::new();

#[inline(never)]
fn plain(table: &PolicyOps, rounds: u64) -> u64 {
    (0..rounds).fold(0, |last, _| table.pick.map_or(0, |pick| pick(7, last)))
}

#[inline(never)]
fn by_face(policy: &Policy, rounds: u64) -> u64 {
    (0..rounds).fold(0, |last, _| policy.pick(7, last))
}

/// What a call by the registry costs beyond an indirect one.
fn by_table() -> u32 {
    const ROUNDS: u64 = 1000;
    drop(POLICY.prepare(engine(), "oldest", &PLAIN).unwrap_or_else(|error| panic!("{error}")).put_in_use());
    let policy = POLICY.user().expect("in use");
    let (_, plain) = counted(|| plain(black_box(&PLAIN), ROUNDS));
    let (last, by_face) = counted(|| by_face(black_box(&policy), ROUNDS));
    assert_eq!(last, ROUNDS);
    by_face.saturating_sub(plain) / ROUNDS as u32
}

pub(crate) static TRACING: Tracing<Kernel> = Tracing::new();
static UNDER: Under<Kernel> = Under::new();

impl StoreIn<Tracing<Self>> for Kernel {
    #[inline]
    fn store() -> &'static Tracing<Self> {
        &TRACING
    }
}

impl StoreIn<Under<Self>> for Kernel {
    #[inline]
    fn store() -> &'static Under<Self> {
        &UNDER
    }
}

/// Tells what a call costs with what lines of the control interface ask for, but not now, not of this task, or not here.
fn asked_for(disabled: u32) {
    let mut control = Control::new(engine(), TRACING.parts(), [&RING], ticks_per_second);
    let mut run = |line: &str| control.execute(line, &mut String::new()).expect("the line is right");
    let function = address(CALLED);
    run(&format!("echo {function} > set_ftrace_filter"));
    run("echo function > current_tracer");
    run("echo 2 > set_ftrace_pid");
    tell("call-event-filtered", call() - disabled);
    run("echo > set_ftrace_pid");
    run("echo 0 > tracing_on");
    tell("call-event-off", call() - disabled);
    run("echo function_graph > current_tracer");
    tell("call-graph-off", call() - disabled);
    run("echo nop > current_tracer");
    run("echo 1 > tracing_on");
    run(&format!("echo {function}:traceon > set_ftrace_filter"));
    tell("call-command", call() - disabled);
    run(&format!("echo !{function}:traceon > set_ftrace_filter"));

    let (inside, root) = ([Rule::address(function)], [Rule::address(address(OTHER))]);
    assert_eq!(UNDER.start(engine(), &Scope { filter: &inside, under: &root, not_under: &[] }), Ok(2));
    tell("call-graph-outside", call() - disabled);
    assert_eq!(UNDER.start(engine(), &Scope { filter: &inside, under: &inside, not_under: &[] }), Ok(1));
    tell("call-graph-root", call() - disabled);
    assert_eq!(UNDER.stop(engine()), Ok(1));
}

/// The instructions of a registration on one function.
fn to_register(ops: &'static Ops) -> u32 {
    let rules = [Rule::address(address(CALLED))];
    let once = || {
        let (registered, count) = counted(|| engine().register(ops, &Filter::new(&rules)));
        assert_eq!((registered, engine().unregister(ops)), (Ok(1), Ok(1)));
        count
    };
    once();
    once()
}

static MANY: [Ops; 100] = [const { Ops::new(smallest::callback) }; 100];
static REGS: Ops = Ops::new(smallest::callback).with_flags(OpsFlags::SAVE_REGS);
static DIRECT: Ops = {
    // SAFETY: it keeps to the convention.
    let trampoline = unsafe { Trampoline::new(smallest::trampoline) };
    Ops::direct_call(trampoline)
};
static PROBE: Ops = Ops::returning::<Empty>();
static EVENT: Ops = Ops::recorder(0);
static RECORDER: Ops = Ops::recorder(4);
static COUNTER: Ops = Ops::counter();
static INJECTION: Injection = Injection::new();
static FUNCTION: Ops = tracer::function::function::<Kernel, 0>();
static ARGUMENTS: Ops = tracer::function::function::<Kernel, 4>();
static GRAPH: Ops = Ops::returning::<Graph<Kernel>>();
static PROFILER: Ops = Ops::returning::<Profiler<Kernel>>();

pub(crate) fn calls() {
    engine();
    let this = percpu::this();
    // SAFETY: nothing is hooked yet, and there is one CPU.
    unsafe { this.trace.set_shadow_stack(&SHADOW) };
    this.area.set_ring(&FLIGHT).expect("a power of two");
    let disabled = call();
    let cost = |together: &[&'static Ops]| with(together, CALLED, disabled);
    let [first, ..] = &MANY;

    tell("call-untraced", disabled - init().compiled_call);
    tell("call-unrelated", with(&[first], OTHER, disabled));
    for size in [1, 2, 10, 100] {
        let together: Vec<&'static Ops> = MANY.iter().take(size).collect();
        tell_sized("call-ops", cost(&together), size);
    }
    // The same: there is none without a guard.
    tell("call-guarded", cost(&[first]));
    tell("call-regs", cost(&[&REGS]));
    tell("call-direct", cost(&[&DIRECT]));
    tell("call-direct-ops", cost(&[&DIRECT, first]));
    tell("call-entry", cost(&[first]));
    tell("call-entry-exit", cost(&[&PROBE]));
    tell("call-return-hook", cost(&[&PROBE]));
    tell("call-event", cost(&[&EVENT]));
    tell("call-ring-event", cost(&[&FUNCTION]));
    tell("call-ring-arguments", cost(&[&ARGUMENTS]));
    tell("call-graph", cost(&[&GRAPH]));
    // (When an event goes, so do the rings' records.)
    events(CALLED, disabled);
    asked_for(disabled);
    tell("call-counter", cost(&[&COUNTER]));
    tell("call-recorder", cost(&[&RECORDER]));
    tell("call-profiler", cost(&[&PROFILER]));
    let [off, counted] = injections(disabled);
    tell("call-injection-off", off);
    tell("call-injection", counted);
    tell("call-fentry", attached(&ENTRY, disabled));
    tell("call-fentry-guarded", attached(&GUARDED_ENTRY, disabled));
    tell("call-modify-return", attached(&MODIFY, disabled));
    tell("call-fexit", attached(&EXIT, disabled));
    tell("call-fexit-guarded", attached(&GUARDED_EXIT, disabled));
    tell("call-ops-struct", by_table());
    let [entry, jump, breakpoint, exception] = probes(disabled);
    tell("call-kprobe", entry);
    tell("call-kprobe-jump", jump);
    tell("call-kprobe-brk", breakpoint);
    tell("exception", exception);
    tell("register-direct", to_register(&DIRECT));
    tell("register-entry", to_register(first));
    tell("register-graph", to_register(&GRAPH));
    assert!(PROFILE.functions().count() == 1 && RING.counts().kept > 0 && this.area.recording().count() > 0);
}

/// The instructions of the stubs, for a model of a CPU's pipeline.
pub(crate) fn code() {
    // SAFETY: the script puts its symbols around the table, which is read-only data.
    let symbols = unsafe { Symbols::linked() }.expect("this kernel is linked with its symbols");
    for name in ["ftrace_caller", "ftrace_regs_caller", "fentry_return"] {
        let stub = symbols.lookup_name(name).next().expect("the engine has this stub");
        print!("bench-code: {name}");
        for at in (stub.addr..stub.addr + stub.size).step_by(4) {
            let word = core::ptr::with_exposed_provenance::<u32>(at as usize);
            // SAFETY: text is mapped readable.
            print!(" {:08x}", unsafe { word.read_volatile() });
        }
        println!();
    }
}
