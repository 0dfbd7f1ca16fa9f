//! Attachments that come and go while functions are called.

use crate::ok;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use fentry::trampoline::attach::{AttachError, AttachPoint, Fentry, Fexit, ModifyReturn};
use support::{engine, println, smp};

type Waits = extern "C" fn(u64) -> u64;

static IS_INSIDE: AtomicBool = AtomicBool::new(false);
static MAY_GO_ON: AtomicBool = AtomicBool::new(false);
static EXITS: AtomicU64 = AtomicU64::new(0);

#[inline(never)]
extern "C" fn waits(x: u64) -> u64 {
    IS_INSIDE.store(true, Ordering::Release);
    while !MAY_GO_ON.load(Ordering::Acquire) {
        core::hint::spin_loop();
    }
    black_box(x + 1)
}

extern "C" fn waited(x: u64, result: &u64) {
    assert_eq!(*result, x + 1);
    EXITS.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn entered(_: u64) {}

/// A thread that is inside the function, for as long as it likes, returns to a trampoline that no callsite calls any more.
pub(super) fn what_a_thread_returns_to_stays() {
    static POINT: AttachPoint<Waits, 2> = AttachPoint::new(waits);
    static WAITED: Fexit<Waits> = Fexit::<Waits>::new(waited);
    static ENTERED: Fentry<Waits> = Fentry::<Waits>::new(entered);
    let (engine, _) = engine();
    let before = engine.statistics().stub_bytes;
    ok(POINT.attach(engine, &WAITED));
    smp::start_all();
    smp::on_all(|cpu| match cpu {
        0 => {
            while !IS_INSIDE.load(Ordering::Acquire) {
                smp::pause();
            }
            ok(POINT.detach(engine, &WAITED));
            for _ in 0..3 {
                assert_eq!(ok(POINT.reclaim(engine)), 1, "it is freed with a thread inside");
            }
            let with_one = engine.statistics().stub_bytes;
            assert!(with_one > before);
            // The other place is free, and is so again: nothing is called from this one.
            for _ in 0..3 {
                ok(POINT.attach(engine, &ENTERED));
                ok(POINT.detach(engine, &ENTERED));
                assert_eq!(engine.statistics().stub_bytes, with_one);
            }
            // With both it can't be changed.
            ok(POINT.attach(engine, &ENTERED));
            assert_eq!(POINT.attach(engine, &WAITED), Err(AttachError::NoPlace { places: 2 }));
            ok(POINT.detach(engine, &ENTERED));
            assert_eq!(EXITS.load(Ordering::Relaxed), 0);
            MAY_GO_ON.store(true, Ordering::Release);
            while ok(POINT.reclaim(engine)) > 0 {
                smp::pause();
            }
            assert_eq!(engine.statistics().stub_bytes, before);
        }
        1 => assert_eq!(black_box(waits as Waits)(7), 8),
        _ => {}
    });
    assert_eq!(EXITS.load(Ordering::Relaxed), 1, "the call had begun");
}

type Work = extern "C" fn(u64, u32) -> u64;

/// Odd while they are attached; those at the exit, until no call is under way.
static ENTRIES: AtomicU64 = AtomicU64::new(0);
static LEAVINGS: AtomicU64 = AtomicU64::new(0);
/// How often each was called.
static COUNTS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

const ANSWERED: u64 = 1 << 40;

#[inline(always)]
const fn answer(x: u64) -> u64 {
    x.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) | 1
}

#[inline(never)]
extern "C" fn work(x: u64, y: u32) -> u64 {
    take_some_time();
    black_box(answer(x ^ u64::from(y)))
}

fn take_some_time() {
    for turn in 0..20 {
        black_box(turn);
    }
}

/// Checks that it is attached as long as it runs.
fn during(epoch: &AtomicU64, number: usize) {
    let before = epoch.load(Ordering::Acquire);
    assert!(!before.is_multiple_of(2), "a handler runs that is not attached");
    take_some_time();
    assert_eq!(epoch.load(Ordering::Acquire), before, "detached inside a handler");
    COUNTS[number].fetch_add(1, Ordering::Relaxed);
}

extern "C" fn enter(_x: u64, y: u32) {
    assert_eq!(y, 3);
    during(&ENTRIES, 0);
}

/// Calls nothing.
extern "C" fn enter_quickly(_: u64, _: u32) {
    QUICK.store(1, Ordering::Relaxed);
}

static QUICK: AtomicU64 = AtomicU64::new(0);

extern "C" fn modify(x: u64, y: u32) -> u64 {
    assert_eq!(y, 3);
    during(&ENTRIES, 1);
    if x.is_multiple_of(8) { ANSWERED } else { 0 }
}

extern "C" fn leave(x: u64, y: u32, result: &u64) {
    during(&LEAVINGS, 2);
    let is_answered = *result == ANSWERED && x.is_multiple_of(8);
    assert!(*result == answer(x ^ u64::from(y)) || is_answered, "{x:#x}: {result:#x}");
}

static POINT: AttachPoint<Work> = AttachPoint::new(work);
static ENTER: Fentry<Work> = Fentry::<Work>::new(enter);
static QUICKLY: Fentry<Work> = Fentry::<Work>::new(enter_quickly);
// SAFETY: 1. Its callers take any number. 2. They rely on nothing else.
static MODIFY: ModifyReturn<Work> = unsafe { ModifyReturn::<Work>::new(modify) };
static LEAVE: Fexit<Work> = Fexit::<Work>::new(leave);

/// Tries again while calls are under way in all trampolines.
fn change(change: impl Fn() -> Result<(), AttachError>) {
    loop {
        match change() {
            Err(AttachError::NoPlace { .. }) => smp::pause(),
            done => return ok(done),
        }
    }
}

fn patch(rounds: u64) {
    let (engine, _) = engine();
    for round in 0..rounds {
        ENTRIES.fetch_add(1, Ordering::AcqRel);
        LEAVINGS.fetch_add(1, Ordering::AcqRel);
        match round % 4 {
            0 => change(|| POINT.attach(engine, &ENTER)),
            1 => {
                change(|| POINT.attach(engine, &LEAVE));
                change(|| POINT.attach(engine, &ENTER));
            }
            2 => {
                change(|| POINT.attach(engine, &QUICKLY));
                change(|| POINT.attach(engine, &LEAVE));
                change(|| POINT.attach(engine, &MODIFY));
            }
            _ => {
                change(|| POINT.attach(engine, &QUICKLY));
                change(|| POINT.replace(engine, &QUICKLY, &MODIFY));
            }
        }
        (0..200).for_each(|_| smp::pause());
        for entry in [&ENTER, &QUICKLY] {
            match POINT.detach(engine, entry) {
                Err(AttachError::NotAttached) => {}
                done => {
                    if let Err(AttachError::NoPlace { .. }) = done {
                        change(|| POINT.detach(engine, entry));
                    } else {
                        ok(done);
                    }
                }
            }
        }
        if round % 4 >= 2 {
            change(|| POINT.detach(engine, &MODIFY));
        }
        ENTRIES.fetch_add(1, Ordering::AcqRel);
        if round % 4 == 1 || round % 4 == 2 {
            change(|| POINT.detach(engine, &LEAVE));
        }
        while ok(POINT.reclaim(engine)) > 0 {
            smp::pause();
        }
        LEAVINGS.fetch_add(1, Ordering::AcqRel);
    }
}

pub(super) fn attachments_come_and_go_while_four_cpus_call() {
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    static CALLS: AtomicU64 = AtomicU64::new(0);
    const ROUNDS: u64 = 16;
    let (engine, _) = engine();
    let (bytes, text) = (engine.statistics().stub_bytes, support::memory::copy_of_text());
    smp::start_all();
    smp::on_all(|cpu| {
        if cpu == 0 {
            let mut rounds = 0;
            // The others come when they come.
            while rounds < ROUNDS || COUNTS[..3].iter().any(|count| count.load(Ordering::Relaxed) < 100) {
                patch(4);
                rounds += 4;
            }
            IS_OVER.store(true, Ordering::Relaxed);
            return;
        }
        let mut x = cpu as u64;
        while !IS_OVER.load(Ordering::Relaxed) {
            let result = black_box(work as Work)(x, 3);
            assert!(result == answer(x ^ 3) || (result == ANSWERED && x.is_multiple_of(8)), "{x:#x}: {result:#x}");
            x += 1;
            CALLS.fetch_add(1, Ordering::Relaxed);
        }
    });
    let counts = COUNTS.each_ref().map(|count| count.load(Ordering::Relaxed));
    println!("({} calls, {counts:?} of handlers)", CALLS.load(Ordering::Relaxed));
    assert_eq!(POINT.misses(), 0);
    assert_eq!(engine.statistics().stub_bytes, bytes);
    assert!(support::memory::copy_of_text() == text, "text is not what it was");
}
