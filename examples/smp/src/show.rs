//! What is traced, while every CPU works and preempts, and whether what was seen is right.

use crate::cpus::{self, CPUS};
use crate::tasks::{TASKS, TASKS_PER_CPU, Task, workers};
use crate::tracing::ENGINE;
use crate::{say, work};
use core::fmt;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use fentry::tracer::event::{self, Event, Recorded};
use fentry::tracer::graph::Graph;
use fentry::tracer::kernel::RecordTo;
use fentry::tracer::ring::{MAX_RECORD_BYTES, Mode, Ring, RingBlock};
use fentry::tracer::ticks;
use fentry::{Filter, FtraceRegs, Ops, Rule, TextAddr};

/// Functions are named by their addresses, so that this works without a symbol table too. With one it could be
/// `Rule::parse("smp::work::square")`.
fn square() -> TextAddr {
    TextAddr::new((work::square as *const ()).addr() as u64)
}

fn odd() -> TextAddr {
    TextAddr::new((work::odd as *const ()).addr() as u64)
}

/// Whether this callsite is the function's: it is one to three instructions behind the function's address.
fn is_in(ip: TextAddr, function: TextAddr) -> bool {
    (1..=12).contains(&ip.get().wrapping_sub(function.get()))
}

/// A function as a person wants to read it.
fn name(function: TextAddr) -> impl fmt::Display {
    let symbols = ENGINE.symbols();
    fmt::from_fn(move |f| match symbols.and_then(|symbols| symbols.lookup_addr(function.get())) {
        Some(location) => f.write_str(location.symbol.name),
        None => write!(f, "{function}"),
    })
}

/// Lets the other tasks work until this is so.
fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        cpus::wait();
    }
}

/// Lets every task finish some more of its work.
fn let_all_work() {
    let before = TASKS.each_ref().map(|tasks| tasks.each_ref().map(|task| task.done.load(Relaxed)));
    until(|| workers().all(|task| task.done.load(Relaxed) > before[task.cpu][task.index] + 10));
}

fn sum(of: impl Fn(&Task) -> &AtomicU64) -> u64 {
    workers().map(|task| of(task).load(Relaxed)).sum()
}

static WATCH: Ops = Ops::new(watch);
/// The calls that [`watch`] has seen on each CPU.
static SEEN: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];

extern "C" fn watch(ip: TextAddr, _: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
    let [n, ..] = regs.arguments();
    assert!(is_in(ip, square()) && (1..=work::LARGEST).contains(&n), "{ip} was called with {n}");
    let task = Task::current();
    let preempted = task.preempted.load(Relaxed);
    // So that its task's time is sometimes over in the middle of it.
    (0..500).for_each(|turn| _ = black_box(turn));
    assert_eq!(task.preempted.load(Relaxed), preempted, "task {} was preempted in a callback", task.number());
    SEEN[task.cpu].fetch_add(1, Relaxed);
}

/// A callback is registered, sees the calls of every CPU, and is unregistered; again and again.
pub(crate) fn callbacks() {
    const TIMES: u64 = 3;
    let seen = || SEEN.each_ref().map(|calls| calls.load(Relaxed));
    for _ in 0..TIMES {
        let before = seen();
        ENGINE.register(&WATCH, &Filter::new(&[Rule::address(square())])).expect("registration");
        until(|| seen().iter().zip(&before).all(|(now, before)| now > before));
        ENGINE.unregister(&WATCH).expect("the ops is registered");
        let after = seen();
        let_all_work();
        assert_eq!(seen(), after, "nothing is called after `unregister` returned");
    }
    say(format_args!(
        "callback, registered {TIMES} times: each CPU's calls of {} were seen: {:?}",
        name(square()),
        seen()
    ));
}

static COUNTER: Ops = Ops::counter();

/// A counter counts each call, and nothing else.
pub(crate) fn counter() {
    let done_before = sum(|task| &task.done);
    ENGINE.register(&COUNTER, &Filter::new(&[Rule::address(square())])).expect("registration");
    let begun_before = sum(|task| &task.begun);
    let_all_work();
    let done_after = sum(|task| &task.done);
    ENGINE.unregister(&COUNTER).expect("the ops is registered");
    let begun_after = sum(|task| &task.begun);
    let hits = ENGINE.hits(&COUNTER);
    // The tasks go on while callsites change, so some calls may have been counted or not.
    let certain = done_after - begun_before;
    let possible = begun_after - done_before;
    assert!((certain..=possible).contains(&hits), "{hits} hits, and {certain} to {possible} calls");
    say(format_args!("counter: {hits} hits, where the tasks say that they made {certain} to {possible} calls"));
}

static CALLS: Ops = Ops::returning::<Graph<Rings>>();
/// 64 KiB for each CPU.
const BLOCKS: usize = 16;
static MEMORY: [[RingBlock; BLOCKS]; CPUS] = [const { [const { RingBlock::new() }; BLOCKS] }; CPUS];
static RINGS: [Ring; CPUS] = {
    let mut rings = [const { Ring::new(&MEMORY[0], Mode::Overwrite) }; CPUS];
    let mut cpu = 1;
    while cpu < CPUS {
        rings[cpu] = Ring::new(&MEMORY[cpu], Mode::Overwrite);
        cpu += 1;
    }
    rings
};

/// Where the graph tracer records.
struct Rings;

impl RecordTo for Rings {
    fn ring() -> &'static Ring {
        &RINGS[Task::current().cpu]
    }

    fn task() -> u32 {
        Task::current().number() as u32
    }
}

/// Calls and returns are recorded on each CPU, also of tasks that are preempted between the two, and read meanwhile.
pub(crate) fn graph() {
    let split = || TASKS.each_ref().map(|tasks| tasks.iter().map(|task| task.split.load(Relaxed)).sum::<u64>());
    let rules = [Rule::address(square()), Rule::address(odd())];
    ENGINE.register(&CALLS, &Filter::new(&rules)).expect("registration");
    // From here on both functions are hooked everywhere.
    let (since, before) = (ticks(), split());
    let mut squares = [0; CPUS];
    // Again and again: what this task is too late for, since it is preempted as well, is overwritten.
    while squares.contains(&0) || split().iter().zip(&before).any(|(now, before)| now == before) {
        RINGS.iter().zip(&mut squares).for_each(|(ring, squares)| *squares += whole_squares(ring, since));
    }
    ENGINE.unregister(&CALLS).expect("the ops is registered");
    assert_eq!(TASKS.as_flattened().iter().map(|task| task.trace.misses()).sum::<u64>(), 0, "no call was missed");
    say(format_args!("graph: each CPU's ring has squares that are the sum of what they called: {squares:?}"));
}

/// Takes the records out of a ring, and looks that each square is the sum of its odd numbers; returns how many there are.
fn whole_squares(ring: &Ring, since: u64) -> u64 {
    let mut squares = 0;
    let mut bytes = [0; MAX_RECORD_BYTES];
    let mut pass = ring.consume();
    while let Some(block) = pass.next_block() {
        // Blocks are lost as a whole. So in each one, before a task's first square, there may be odd numbers that are not here.
        let mut sums = [None; TASKS_PER_CPU];
        for record in block.records().filter(|record| record.time() >= since) {
            let (Recorded { task, event, .. }, _) = event::decode(record.bytes(&mut bytes)).expect("a record");
            let Event::GraphExit { ip, value, .. } = event else { panic!("no return: {event:?}") };
            let sum = &mut sums[(task as usize - 1) % TASKS_PER_CPU];
            // A call is recorded when it returns, so a square comes after its odd numbers.
            if is_in(ip, odd()) {
                *sum = sum.map(|sum| sum + value);
            } else if let Some(sum) = sum.replace(0) {
                assert!(is_in(ip, square()) && sum == value, "task {task}: a square is {value}, its odd numbers {sum}");
                squares += 1;
            }
        }
        block.consume();
    }
    squares
}

/// Every function is hooked, also those that handle interrupts and choose the next task.
pub(crate) fn everything() {
    let preempted = || sum(|task| &task.preempted);
    let functions = ENGINE.register(&CALLS, &Filter::ALL).expect("registration");
    let before = preempted();
    let_all_work();
    let times = preempted() - before;
    ENGINE.unregister(&CALLS).expect("the ops is registered");
    say(format_args!("everything: {functions} functions were hooked while tasks were preempted {times} times"));
}

/// Text is as it was, and each hooked call has returned.
pub(crate) fn nothing_is_left() {
    assert_eq!(ENGINE.check_text().wrong, 0, "text is not what it should be");
    for Task { trace, .. } in TASKS.iter().flatten() {
        assert_eq!((trace.overflows(), trace.abandoned()), (0, 0), "calls without room, calls that never returned");
    }
    let (preempted, split, postponed) =
        (sum(|task| &task.preempted), sum(|task| &task.split), sum(|task| &task.postponed));
    assert!(postponed > 0, "no task's time was over in a callback");
    say(format_args!("{preempted} times a task was preempted, {split} times in the middle of a call"));
    say(format_args!("{postponed} times it was not, since it was inside a callback or a stub"));
}
