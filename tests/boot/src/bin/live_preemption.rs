//! A kernel that preempts kernel code: tasks are stopped in the middle of callbacks, and go on on another CPU.
//!
//! There are more tasks than CPUs. At a tick a CPU puts the task that it interrupted into a pool and takes another one out of
//! it, whatever either was doing. A task's [`TraceContext`] is its own and moves with it: TPIDR_EL0 holds its address. The
//! platform's `quiesce` is that of such a kernel: it looks at tasks in the pool where they stopped, and at the others when
//! their CPU is interrupted.
//!
//! Task 0 registers and unregisters, and is preempted as any other; the rest call. Each task has a shadow stack of its own, so
//! that calls whose return is hooked begin on one CPU and return on another.
#![no_std]
#![no_main]

extern crate alloc;

use core::arch::{asm, naked_asm};
use core::hint::black_box;
use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use fentry::context::shadow::ShadowStack;
use fentry::ops::{Entry, Exit, Probe};
use fentry::platform::{AliasError, BaseRegister, ContextBase, CpuTimeout};
use fentry::trampoline::attach::{AttachPoint, Fentry, Fexit};
use fentry::{
    CpuArea, Engine, Filter, FtraceRegs, Image, Ops, OpsFlags, Platform, Rule, TextAddr, TextRange, TraceContext,
};
use support::interrupts::{self, Masked};
use support::random::Random;
use support::vectors::ExceptionFrame;
use support::{PLATFORM, percpu, println, smp};

support::boot_tests! {
    tasks_preempted_in_callbacks_go_on_on_other_cpus,
}

/// Tasks that begin in the pool, beside the one that each CPU begins with.
const IN_POOL: usize = 3;
const MAX_TASKS: usize = percpu::MAX_CPUS + IN_POOL;
const STACK_BYTES: usize = 64 * 1024;
/// How often task 0 registers. An unoptimised kernel takes longer.
const ROUNDS: u64 = if cfg!(debug_assertions) { 20 } else { 150 };

/// A thread of execution.
#[repr(C)]
struct Task {
    /// Where it stopped, while it is in the pool.
    pc: AtomicU64,
    sp: AtomicU64,
    /// The last request to be quiescent that it was seen so for.
    quiescent: AtomicU64,
    calls: AtomicU64,
    counted: AtomicU64,
    callbacks: AtomicU64,
    /// Calls from inside callbacks that were missed: there must be no other misses.
    inner: AtomicU64,
    /// Callbacks that ended on another CPU than they began on.
    moved: AtomicU64,
    /// Hooked calls that returned, and those of them that did so on another CPU than they began on.
    returns: AtomicU64,
    carried: AtomicU64,
    /// Whether it stays in `outer` until [`LET_GO`] says otherwise.
    stays: AtomicBool,
    /// What else a task has: so much that what follows is beyond the offsets of LDP and STP.
    rest: [u64; 64],
    context: TraceContext,
}

/// Where the stubs find the context, from the task that the base register points to.
const CONTEXT: u16 = offset_of!(Task, context) as u16;
const _: () = assert!(CONTEXT > 504, "LDP reaches it");

static TASKS: [Task; MAX_TASKS] = [const {
    Task {
        pc: AtomicU64::new(0),
        sp: AtomicU64::new(0),
        quiescent: AtomicU64::new(0),
        calls: AtomicU64::new(0),
        counted: AtomicU64::new(0),
        callbacks: AtomicU64::new(0),
        inner: AtomicU64::new(0),
        moved: AtomicU64::new(0),
        returns: AtomicU64::new(0),
        carried: AtomicU64::new(0),
        stays: AtomicBool::new(false),
        rest: [0; 64],
        context: TraceContext::new(),
    }
}; MAX_TASKS];

/// For `outer` and `traced`, and two more.
static SHADOWS: [ShadowStack<4>; MAX_TASKS] = [const { ShadowStack::new() }; MAX_TASKS];

/// The numbers of the tasks that do not run. Only with [`POOL_TAKEN`].
static POOL: [AtomicUsize; IN_POOL] = [const { AtomicUsize::new(0) }; IN_POOL];
/// Whether a CPU is using the pool; from before a task goes in until its registers are saved.
static POOL_TAKEN: AtomicBool = AtomicBool::new(false);
/// Whether each CPU shall go back to the task that it began with.
static ENDING: AtomicBool = AtomicBool::new(false);
static SWITCHES: AtomicU64 = AtomicU64::new(0);
/// How often a task was seen in the pool that had stopped inside a callback or a stub, so that `quiesce` had to wait.
static WAITED_FOR: AtomicU64 = AtomicU64::new(0);

impl Task {
    fn number(&self) -> usize {
        TASKS.element_offset(self).unwrap_or(0)
    }
}

/// The running task.
fn current() -> Option<&'static Task> {
    let task: *const Task;
    // SAFETY: reading this register changes nothing.
    unsafe { asm!("mrs {}, tpidr_el0", out(reg) task, options(nostack, preserves_flags)) };
    // SAFETY: it holds zero, or what `set_current` put there.
    unsafe { task.as_ref() }
}

fn set_current(task: Option<&'static Task>) {
    let task = task.map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: nothing uses the register but `current` and the stubs, which want just this.
    unsafe { asm!("msr tpidr_el0, {}", in(reg) task, options(nostack, preserves_flags)) };
}

/// Saves what a function call keeps on the stack and the stack pointer at `save`, and goes on on the stack `load`.
///
/// DSB: maintenance that the task began here is complete before it goes on elsewhere.
#[unsafe(naked)]
unsafe extern "C" fn switch_stacks(save: *const AtomicU64, load: u64) {
    naked_asm!(
        "hint #34", // BTI C
        "sub sp, sp, #176",
        "stp x19, x20, [sp]",
        "stp x21, x22, [sp, #16]",
        "stp x23, x24, [sp, #32]",
        "stp x25, x26, [sp, #48]",
        "stp x27, x28, [sp, #64]",
        "stp x29, x30, [sp, #80]",
        "str x18, [sp, #96]",
        ".if {FP}",
        "stp d8, d9, [sp, #112]",
        "stp d10, d11, [sp, #128]",
        "stp d12, d13, [sp, #144]",
        "stp d14, d15, [sp, #160]",
        ".endif",
        "mov x9, sp",
        "str x9, [x0]",
        "dsb ish",
        "mov sp, x1",
        ".if {FP}",
        "ldp d8, d9, [sp, #112]",
        "ldp d10, d11, [sp, #128]",
        "ldp d12, d13, [sp, #144]",
        "ldp d14, d15, [sp, #160]",
        ".endif",
        "ldr x18, [sp, #96]",
        "ldp x29, x30, [sp, #80]",
        "ldp x27, x28, [sp, #64]",
        "ldp x25, x26, [sp, #48]",
        "ldp x23, x24, [sp, #32]",
        "ldp x21, x22, [sp, #16]",
        "ldp x19, x20, [sp]",
        "add sp, sp, #176",
        "isb",
        "ret",
        FP = const cfg!(target_feature = "neon") as usize,
    )
}

/// Gives a task of the pool a stack on which [`switch_stacks`] finds the way into [`begin`].
fn prepare(task: &Task) {
    const SAVED_WORDS: usize = 176 / 8;
    let stack = alloc::vec![0_u64; STACK_BYTES / 8].leak();
    let saved = STACK_BYTES / 8 - SAVED_WORDS;
    stack[saved + 11] = (begin as extern "C" fn() -> ! as *const ()).addr() as u64;
    let sp = (&raw const stack[saved]).addr() & !0xf;
    assert_eq!(sp, (&raw const stack[saved]).addr(), "the stack is aligned");
    task.sp.store(sp as u64, Ordering::Relaxed);
    // Not in a stub.
    task.pc.store(0, Ordering::Relaxed);
}

/// Where a task of the pool begins, in a tick that interrupted another one.
extern "C" fn begin() -> ! {
    POOL_TAKEN.store(false, Ordering::Release);
    // SAFETY: the tick's hook went on here.
    unsafe { interrupts::end_tick() };
    let task = current().expect("a task runs");
    let mut random = Random::new(1, task.number() as u64);
    loop {
        work(task, &mut random);
    }
}

/// At a tick: looks at the interrupted task, and puts another one in its place.
fn tick(frame: &ExceptionFrame) {
    let Some(task) = current() else { return };
    task.pc.store(frame.elr, Ordering::Relaxed);
    look_at(task);
    if POOL_TAKEN.swap(true, Ordering::Acquire) {
        return;
    }
    let home = percpu::this().index();
    let slot = if !ENDING.load(Ordering::Relaxed) {
        Some(SWITCHES.load(Ordering::Relaxed) as usize % IN_POOL)
    } else if task.number() == home {
        None
    } else {
        let at_home = POOL.iter().position(|slot| slot.load(Ordering::Relaxed) == home);
        let any = SWITCHES.load(Ordering::Relaxed) as usize % IN_POOL;
        Some(at_home.unwrap_or(any))
    };
    if let Some(slot) = slot {
        let next = &TASKS[POOL[slot].swap(task.number(), Ordering::Relaxed)];
        SWITCHES.fetch_add(1, Ordering::Relaxed);
        set_current(Some(next));
        // SAFETY: `next` was saved by this function, or made by `prepare`; nobody else can take it, or `task`, before the pool
        // is given back.
        unsafe { switch_stacks(&raw const task.sp, next.sp.load(Ordering::Relaxed)) };
        // Another tick, perhaps another CPU: the one that took us out of the pool.
    }
    POOL_TAKEN.store(false, Ordering::Release);
}

static REQUEST: AtomicU64 = AtomicU64::new(0);
/// The start and the end of each piece of stub text: the assembly at entries and at returns, and the room for generated code.
static STUBS: [[AtomicU64; 2]; 3] = [const { [const { AtomicU64::new(0) }; 2] }; 3];

/// Notes whether the task, which stopped at its `pc`, is quiescent.
fn look_at(task: &Task) -> bool {
    let request = REQUEST.load(Ordering::Acquire);
    let address = |at: &AtomicU64| TextAddr::new(at.load(Ordering::Relaxed));
    let stubs = STUBS.each_ref().map(|[start, end]| TextRange::new(address(start), address(end)));
    let quiescent = task.context.is_quiescent(address(&task.pc), &stubs);
    if quiescent {
        task.quiescent.store(request, Ordering::Release);
    }
    quiescent
}

struct Preemptible;

static PREEMPTIBLE: Preemptible = Preemptible;
static ENGINE: Engine = Engine::new(&PREEMPTIBLE);

// SAFETY: aliases and synchronising are `PLATFORM`'s. A task that moves has executed DSB, and comes to its new CPU by ISB and
// ERET. TPIDR_EL0 is zero until a CPU has a task, and then that task's; TPIDR_EL1 and the areas are `PLATFORM`'s. `quiesce`
// sees every task where it stopped.
unsafe impl Platform for Preemptible {
    fn context_base(&self) -> ContextBase {
        ContextBase { register: BaseRegister::TpidrEl0, offset: CONTEXT }
    }

    fn cpu_base(&self) -> Option<ContextBase> {
        PLATFORM.cpu_base()
    }

    fn for_each_cpu_area(&self, show: &mut dyn FnMut(&CpuArea)) {
        PLATFORM.for_each_cpu_area(show);
    }

    fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
        PLATFORM.map_alias(page)
    }

    fn unmap_alias(&self, page: TextAddr, alias: NonNull<u8>) {
        PLATFORM.unmap_alias(page, alias);
    }

    fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
        PLATFORM.synchronize_cpus()
    }

    fn quiesce(&self, stubs: &[TextRange]) -> Result<(), CpuTimeout> {
        assert_eq!(stubs.len(), STUBS.len());
        for (place, stub) in STUBS.iter().zip(stubs) {
            place[0].store(stub.start.get(), Ordering::Relaxed);
            place[1].store(stub.end.get(), Ordering::Relaxed);
        }
        let request = REQUEST.fetch_add(1, Ordering::AcqRel) + 1;
        let tasks = smp::online().count() + IN_POOL;
        let late = interrupts::now_ns() + 10_000_000_000;
        let me = current().map(Task::number);
        while let Some(busy) =
            (0..tasks).find(|number| Some(*number) != me && TASKS[*number].quiescent.load(Ordering::Acquire) < request)
        {
            if interrupts::now_ns() > late {
                return Err(CpuTimeout { cpu: busy });
            }
            // Those that run are looked at in their CPU's ticks.
            look_into_the_pool();
            smp::wait();
        }
        Ok(())
    }

    fn relax(&self) {
        smp::wait();
    }
}

fn look_into_the_pool() {
    let _masked = Masked::new();
    if POOL_TAKEN.swap(true, Ordering::Acquire) {
        return;
    }
    for slot in &POOL {
        if !look_at(&TASKS[slot.load(Ordering::Relaxed)]) {
            WAITED_FOR.fetch_add(1, Ordering::Relaxed);
        }
    }
    POOL_TAKEN.store(false, Ordering::Release);
}

static LIVE: Ops = Ops::new(callback).with_data(0);
static COUNTER: Ops = Ops::counter();
static FULL: Ops = Ops::new(callback).with_data(1).with_flags(OpsFlags::SAVE_REGS);
static RETURNS: Ops = Ops::returning::<Carried>().with_data(2);
/// Odd while an ops may call; the last, while attached handlers may.
static EPOCHS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Looks that a call's exit is that of its entry, in the same task.
struct Carried;

impl Probe for Carried {
    /// The argument, the task's number, the CPU's.
    type Data = (u64, u32, u32);

    fn entry(call: &mut Entry<'_>) -> Option<Self::Data> {
        assert!(!EPOCHS[call.ops().data()].load(Ordering::Acquire).is_multiple_of(2), "an entry of no registered ops");
        take_some_time();
        let task = current().expect("a task runs");
        Some((call.regs.argument(0)?, task.number() as u32, percpu::this().index() as u32))
    }

    fn exit(call: &mut Exit<'_>, (argument, number, cpu): &Self::Data) {
        let epoch = EPOCHS[call.ops().data()].load(Ordering::Acquire);
        assert!(!epoch.is_multiple_of(2), "an exit of no registered ops");
        let task = current().expect("a task runs");
        assert_eq!(task.number() as u32, *number, "a call returned in another task");
        assert_eq!(call.value(), answer(*argument));
        take_some_time();
        task.returns.fetch_add(1, Ordering::Relaxed);
        if percpu::this().index() as u32 != *cpu {
            task.carried.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(EPOCHS[call.ops().data()].load(Ordering::Acquire), epoch, "unregistered inside the exit handler");
    }
}

type One = extern "C" fn(u64) -> u64;

static ATTACHED: AttachPoint<One> = {
    // SAFETY: it takes a number and returns one, each in X0.
    AttachPoint::new(unsafe { core::mem::transmute::<fn(u64) -> u64, One>(outer) })
};
static ENTERED: Fentry<One> = Fentry::<One>::new(entered);
static LEFT: Fexit<One> = Fexit::<One>::new(left);
/// How often each was called.
static HANDLED: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Checks that it is attached as long as it runs.
fn handle(number: usize) {
    let epoch = EPOCHS[3].load(Ordering::Acquire);
    assert!(!epoch.is_multiple_of(2), "a handler is called that is not attached");
    let task = current().expect("a task runs");
    take_some_time();
    assert!(core::ptr::eq(task, current().expect("a task runs")), "the handler goes on in another task");
    assert_eq!(EPOCHS[3].load(Ordering::Acquire), epoch, "freed while a task is inside a handler");
    HANDLED[number].fetch_add(1, Ordering::Relaxed);
}

extern "C" fn entered(_: u64) {
    handle(0);
    // One task then stays in the function, which only a trampoline has called.
    if STAY.swap(false, Ordering::Relaxed) {
        current().expect("a task runs").stays.store(true, Ordering::Relaxed);
    }
}

extern "C" fn left(x: u64, result: &u64) {
    assert_eq!(*result, answer(x));
    handle(1);
}

/// Handlers at a function in which tasks are preempted, and from which they return on other CPUs to a trampoline that no callsite
/// calls any more.
fn attach() {
    let ok = |done: Result<(), _>| done.unwrap_or_else(|error| panic!("{error}"));
    EPOCHS[3].fetch_add(1, Ordering::AcqRel);
    LET_GO.store(false, Ordering::Relaxed);
    STAY.store(true, Ordering::Relaxed);
    ok(ATTACHED.attach(&ENGINE, &LEFT));
    ok(ATTACHED.attach(&ENGINE, &ENTERED));
    while STAYING.load(Ordering::Relaxed) == 0 {
        smp::wait();
    }
    ok(ATTACHED.detach(&ENGINE, &ENTERED));
    ok(ATTACHED.detach(&ENGINE, &LEFT));
    let switches = SWITCHES.load(Ordering::Relaxed);
    let in_use = || ATTACHED.reclaim(&ENGINE).unwrap_or_else(|error| panic!("{error}"));
    // However often the task is preempted there, and looked at: it will come back to the trampoline.
    while SWITCHES.load(Ordering::Relaxed) < switches + 4 * IN_POOL as u64 {
        assert!(in_use() > 0, "freed while a task is inside the function");
        smp::wait();
    }
    LET_GO.store(true, Ordering::Relaxed);
    while in_use() > 0 {
        smp::wait();
    }
    assert_eq!(STAYING.load(Ordering::Relaxed), 0);
    STAYED.fetch_add(1, Ordering::Relaxed);
    EPOCHS[3].fetch_add(1, Ordering::AcqRel);
}

/// Whether the next task that is called by a trampoline shall stay; how many do; until when; and how often one did.
static STAY: AtomicBool = AtomicBool::new(false);
static STAYING: AtomicU64 = AtomicU64::new(0);
static LET_GO: AtomicBool = AtomicBool::new(false);
static STAYED: AtomicU64 = AtomicU64::new(0);

fn stay_if_asked() {
    let Some(task) = current().filter(|task| task.stays.swap(false, Ordering::Relaxed)) else { return };
    STAYING.fetch_add(1, Ordering::Relaxed);
    while !LET_GO.load(Ordering::Relaxed) {
        core::hint::spin_loop();
    }
    assert!(core::ptr::eq(task, current().expect("a task runs")));
    STAYING.fetch_sub(1, Ordering::Relaxed);
}

fn take_some_time() {
    for turn in 0..200 {
        black_box(turn);
    }
}

/// Takes so long that it is often preempted.
extern "C" fn callback(_: TextAddr, _: TextAddr, ops: &'static Ops, _: FtraceRegs<'_>) {
    let epoch = EPOCHS[ops.data()].load(Ordering::Acquire);
    assert!(!epoch.is_multiple_of(2), "an ops calls that is not registered");
    let task = current().expect("a task runs");
    let from = percpu::this().index();
    assert!(task.context.in_callback());
    take_some_time();
    if task.callbacks.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
        let misses = task.context.misses();
        assert_eq!(black_box(traced as fn(u64) -> u64)(epoch), answer(epoch));
        // None if the callsite was disabled meanwhile.
        let missed = task.context.misses() - misses;
        assert!(missed <= 1);
        task.inner.fetch_add(missed, Ordering::Relaxed);
    }
    assert!(core::ptr::eq(task, current().expect("a task runs")), "the callback goes on in another task");
    if percpu::this().index() != from {
        task.moved.fetch_add(1, Ordering::Relaxed);
    }
    assert_eq!(EPOCHS[ops.data()].load(Ordering::Acquire), epoch, "unregistered while a task is inside the callback");
}

#[inline(never)]
fn traced(x: u64) -> u64 {
    answer(black_box(x))
}

/// Counted, all the time: a task may be moved between the instruction that finds its CPU's counter and the one that adds.
#[inline(never)]
fn counted(x: u64) -> u64 {
    black_box(x)
}

/// Long enough to be preempted in.
#[inline(never)]
fn outer(x: u64) -> u64 {
    take_some_time();
    stay_if_asked();
    black_box(traced as fn(u64) -> u64)(x)
}

#[inline(always)]
const fn answer(x: u64) -> u64 {
    x.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

fn work(task: &Task, random: &mut Random) {
    let x = random.next();
    assert_eq!(black_box(outer as fn(u64) -> u64)(x), answer(x));
    for turn in 0..20 {
        assert_eq!(black_box(counted as fn(u64) -> u64)(turn), turn);
        task.counted.fetch_add(1, Ordering::Relaxed);
    }
    task.calls.fetch_add(1, Ordering::Relaxed);
}

fn patch() {
    let at = |function: fn(u64) -> u64| Rule::address(TextAddr::new((function as *const ()).addr() as u64));
    let (one, both) = ([at(traced)], [at(traced), at(outer)]);
    let bytes = ENGINE.statistics().stub_bytes;
    for round in 0..ROUNDS {
        // Each alone, and hooks beside a callback.
        let all: &[(&'static Ops, &[Rule<'_>])] = match round % 4 {
            0 => &[(&LIVE, &one)],
            1 => &[(&FULL, &one)],
            2 => &[(&RETURNS, &both)],
            _ => &[(&LIVE, &one), (&RETURNS, &both)],
        };
        for (ops, rules) in all {
            EPOCHS[ops.data()].fetch_add(1, Ordering::AcqRel);
            assert_eq!(ENGINE.register(ops, &Filter::new(rules)), Ok(rules.len()));
        }
        for _ in 0..2_000 {
            smp::wait();
        }
        for (ops, rules) in all {
            assert_eq!(ENGINE.unregister(ops), Ok(rules.len()));
            EPOCHS[ops.data()].fetch_add(1, Ordering::AcqRel);
        }
        if round % 16 == 0 {
            attach();
            assert_eq!(ENGINE.statistics().stub_bytes, bytes);
        }
    }
}

fn tasks_preempted_in_callbacks_go_on_on_other_cpus() {
    set_current(None);
    {
        let _masked = Masked::new();
        // SAFETY: the script puts the symbols around what they say; this kernel does so once, and nowhere else.
        let image = unsafe { Image::linked() };
        // SAFETY: one CPU runs, with interrupts masked.
        unsafe { ENGINE.init(image) }.expect("the image is good");
    }
    // For good: at the end tasks of the pool may have stopped in its stub.
    let rules = [Rule::address(TextAddr::new((counted as *const ()).addr() as u64))];
    assert_eq!(ENGINE.register(&COUNTER, &Filter::new(&rules)), Ok(1));
    let before = support::memory::copy_of_text();
    for (task, shadow) in TASKS.iter().zip(&SHADOWS) {
        // SAFETY: no task runs yet, and each has a stack of its own.
        unsafe { task.context.set_shadow_stack(shadow) };
    }
    let cpus = smp::start_all();
    for (slot, number) in POOL.iter().zip(cpus..) {
        prepare(&TASKS[number]);
        slot.store(number, Ordering::Relaxed);
    }
    interrupts::on_tick(Some(tick));
    smp::on_all(|home| {
        let task = &TASKS[home];
        set_current(Some(task));
        interrupts::start_ticks(Duration::from_micros(50));
        let mut random = Random::new(2, home as u64);
        if home == 0 {
            patch();
            ENDING.store(true, Ordering::Release);
        }
        loop {
            work(task, &mut random);
            let _masked = Masked::new();
            if ENDING.load(Ordering::Acquire) && percpu::this().index() == home {
                interrupts::stop_ticks();
                set_current(None);
                break;
            }
        }
    });
    interrupts::on_tick(None);
    report(&TASKS[..cpus + IN_POOL]);
    assert!(support::memory::copy_of_text() == before, "text is not what it was");
    assert_eq!(ENGINE.check_text().wrong, 0);
}

fn report(tasks: &[Task]) {
    let sum = |of: fn(&Task) -> &AtomicU64| tasks.iter().map(|task| of(task).load(Ordering::Relaxed)).sum::<u64>();
    let (switches, waited) = (SWITCHES.load(Ordering::Relaxed), WAITED_FOR.load(Ordering::Relaxed));
    let (callbacks, moved) = (sum(|task| &task.callbacks), sum(|task| &task.moved));
    println!("{} tasks: {switches} switches, {} calls, {callbacks} callbacks", tasks.len(), sum(|task| &task.calls));
    println!("{moved} callbacks ended on another CPU; {waited} times a task in the pool was waited for");
    // A task of the pool may have stopped between its last hit and what it notes of it.
    let (counted, hits) = (sum(|task| &task.counted), ENGINE.hits(&COUNTER));
    println!("{hits} hits, {counted} noted");
    assert!((counted..=counted + IN_POOL as u64).contains(&hits));
    let (returns, carried) = (sum(|task| &task.returns), sum(|task| &task.carried));
    println!("{returns} hooked returns, {carried} of them on another CPU than the call");
    let [entries, exits] = HANDLED.each_ref().map(|count| count.load(Ordering::Relaxed));
    let stayed = STAYED.load(Ordering::Relaxed);
    println!(
        "{entries} and {exits} calls of attached handlers; {stayed} times a task stayed in the function behind them"
    );
    assert!(entries > 0 && exits > 0 && stayed > 0 && ATTACHED.misses() == 0);
    for task in tasks {
        let inner = task.inner.load(Ordering::Relaxed);
        assert_eq!(task.context.misses(), inner, "task {}: misses, and those inside callbacks", task.number());
        assert!(!task.context.in_callback());
        assert_eq!((task.context.overflows(), task.context.abandoned()), (0, 0));
        // Tasks in the pool end wherever they are, also inside hooked calls.
        assert!(task.context.depth() == 0 || task.number() >= tasks.len() - IN_POOL);
    }
    assert!(returns > 0 && (carried > 0 || smp::online().nth(1).is_none()));
    assert!(callbacks > 0 && (moved > 0 || smp::online().nth(1).is_none()));
}
