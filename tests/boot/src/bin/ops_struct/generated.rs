//! Members that are generated: what they do, what they leave alone, and where a trace finds their caller.

use crate::{FIFO, LIFO, Large, POLICY, Pick, PolicyOps, is_checked, put};
use alloc::format;
use core::arch::global_asm;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use fentry::context::unwind::{FoundBy, Unwinder};
use fentry::record::flight::FlightSlot;
use fentry::record::times::CallTimes;
use fentry::trampoline::{Body, Condition, Test};
use fentry::{PtRegs, TextAddr};
use support::unwind::KernelStacks;
use support::vectors::ExceptionFrame;
use support::{engine, percpu, println, simd, smp, step};

static CALLS: AtomicU64 = AtomicU64::new(0);
static TIMES: CallTimes = CallTimes::new();

/// Puts a table in use of which some members are generated, and waits until the one that was in use has no other user.
fn generate(bodies: &[(&str, Body)]) {
    let behind = POLICY.user().expect("in use");
    let prepared = POLICY.prepare_generated(engine().0, "generated", &behind, bodies);
    // The table behind stays.
    drop(prepared.unwrap_or_else(|error| panic!("{error}")).put_in_use());
}

/// The function of a member of the table that is in use, which only a face calls otherwise.
fn pick_in_use() -> usize {
    let policy = POLICY.user().expect("in use");
    // SAFETY: the table stays in use until the test ends.
    let table = unsafe { policy.0.table() };
    table.pick.map_or(0, |pick| pick as *const () as usize)
}

pub(super) fn generated_members_do_what_their_bodies_say() {
    put("fifo", &FIFO);
    CALLS.store(0, Ordering::Relaxed);
    let five = Condition { argument: 1, test: Test::Equal, value: 5 };
    generate(&[
        ("pick", Body::answer(42_u64).only_if(five).counting(&CALLS)),
        ("weigh", Body::forward().counting(&CALLS)),
        ("large", Body::timed(&TIMES).counting(&CALLS)),
        ("sent", Body::answer(())),
    ]);
    let policy = POLICY.user().expect("in use");
    assert_eq!(policy.name(), "generated");
    assert_eq!((policy.pick(9, 4), policy.pick(9, 5), policy.pick(5, 6)), (5, 42, 7));
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    let sum = policy.weigh(1, u32::MAX, -3, 0xff, &5, 6, 7, 8, u64::MAX, 0x8000_0000);
    assert_eq!(sum, crate::weigh(1, u32::MAX, -3, 0xff, &5, 6, 7, 8, u64::MAX, 0x8000_0000));
    for number in 0..10 {
        assert_eq!(policy.large(&Large([1, 2, 3, 4, number]), 6), Large([7, 8, 9, 10, number + 6]));
    }
    assert_eq!((policy.sent(3), CALLS.load(Ordering::Relaxed), TIMES.calls()), (Some(()), 12, 10));
    assert!(TIMES.ticks() >= TIMES.longest(), "{TIMES:?}");
    let at = TextAddr::new(pick_in_use() as u64);
    let name = POLICY.name_of(engine().0, at.offset(8)).map(|name| format!("{name}"));
    assert_eq!(name.as_deref(), Some("PolicyOps.pick [generated]"));
    // Compared without what is above an argument's bits, and without a sign.
    drop(policy);
    put("fifo", &FIFO);
    let small = |argument, test, value| Condition { argument, test, value };
    for (condition, arguments) in [
        (small(1, Test::Below, 7), (6_u32, -1_i16, 0_u8)),
        (small(1, Test::AtLeast, 7), (7, -1, 0)),
        (small(2, Test::Equal, 0xffff), (0, -1, 0)),
        (small(2, Test::AtLeast, 0x8000), (0, i16::MIN, 0)),
        (small(3, Test::NotEqual, 0x1ff), (0, 0, 0xfe)),
    ] {
        generate(&[("weigh", Body::answer(1_u64).only_if(condition))]);
        let policy = POLICY.user().expect("in use");
        let (b, c, d) = arguments;
        let mine = policy.weigh(100, black_box(b), black_box(c), black_box(d), &5, 6, 7, 8, 9, 10);
        // Of these, none meets it.
        let (b, c, d) = (if b == 6 { 7 } else { 6 }, 3, 0xff);
        let others = policy.weigh(100, black_box(b), black_box(c), black_box(d), &5, 6, 7, 8, 9, 10);
        assert_eq!((mine, others), (1, crate::weigh(100, b, c, d, &5, 6, 7, 8, 9, 10)), "{condition:?}");
        drop(policy);
        put("fifo", &FIFO);
    }
}

pub(super) fn calls_are_recorded_with_the_member_and_its_caller() {
    static SLOTS: [FlightSlot; 8] = [const { FlightSlot::new() }; 8];
    let area = &percpu::this().area;
    area.set_ring(&SLOTS).expect("nobody has given one");
    put("lifo", &LIFO);
    generate(&[("pick", Body::forward().recording(2))]);
    let policy = POLICY.user().expect("in use");
    assert_eq!((policy.pick(100, 3), policy.pick(100, 4)), (103, 104));
    let entry = pick_in_use() as u64;
    let records: alloc::vec::Vec<_> = area.recording().collect();
    let arguments: alloc::vec::Vec<_> = records.iter().map(|record| record.arguments).collect();
    assert_eq!(arguments, [[100, 3, 0, 0], [100, 4, 0, 0]]);
    for record in records {
        assert_eq!(record.ip.get(), entry);
        let symbols = engine().0.symbols().expect("this kernel has symbols");
        let caller = symbols.lookup_addr(record.parent_ip.get()).expect("in a function");
        assert!(format!("{caller}").contains("calls_are_recorded"), "{caller}");
    }
}

/// What the function behind sees, and what its caller gets back.
#[repr(C)]
struct Seen {
    x: [u64; 31],
    sp: u64,
    caller_sp: u64,
    returned_sp: u64,
    returned_x: [u64; 31],
    returned_d: [u64; 8],
}

static mut MEMBERS_SEEN: Seen =
    Seen { x: [0; 31], sp: 0, caller_sp: 0, returned_sp: 0, returned_x: [0; 31], returned_d: [0; 8] };

unsafe extern "C" {
    fn members_caller(function: usize);
    fn members_callee();
}

global_asm!(
    ".pushsection .text.members, \"ax\"",
    ".balign 8",
    ".global members_callee",
    ".type members_callee, %function",
    "members_callee:",
    "hint #34", // BTI C
    "adrp x16, {seen}",
    "add x16, x16, :lo12:{seen}",
    ".irp n, 0,2,4,6,8,10,12,14,16,18,20,22,24,26,28",
    "str x\\n, [x16, #(8 * \\n)]",
    ".endr",
    ".irp n, 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29",
    "str x\\n, [x16, #(8 * \\n)]",
    ".endr",
    "str x30, [x16, #240]",
    "mov x17, sp",
    "str x17, [x16, #248]",
    // Results, and all else that a function may.
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17",
    "mov x\\n, #(0x4000 + \\n)",
    ".endr",
    "ret",
    ".size members_callee, . - members_callee",
    ".balign 8",
    ".global members_caller",
    ".type members_caller, %function",
    "members_caller:",
    "hint #34", // BTI C
    "stp x29, x30, [sp, #-176]!",
    "mov x29, sp",
    ".irp n, 19,21,23,25,27",
    "str x\\n, [sp, #(16 + 8 * (\\n - 19))]",
    ".endr",
    ".irp n, 20,22,24,26,28",
    "str x\\n, [sp, #(16 + 8 * (\\n - 19))]",
    ".endr",
    simd!(".irp n, 8,9,10,11,12,13,14,15\nstr d\\n, [sp, #(96 + 8 * (\\n - 8))]\nfmov d\\n, x29\n.endr"),
    "mov x17, x0",
    "adrp x16, {seen}",
    "add x16, x16, :lo12:{seen}",
    "mov x15, sp",
    "str x15, [x16, #256]",
    "str x29, [sp, #160]",
    ".irp n, 0,1,2,3,4,5,6,7,8,18,19,20,21,22,23,24,25,26,27,28,29",
    "mov x\\n, #(0x1000 + \\n)",
    ".endr",
    "blr x17",
    "adrp x16, {seen}",
    "add x16, x16, :lo12:{seen}",
    "add x16, x16, #272",
    ".irp n, 0,1,2,3,4,5,6,7,8,18,19,20,21,22,23,24,25,26,27,28,29",
    "str x\\n, [x16, #(8 * \\n)]",
    ".endr",
    "mov x15, sp",
    "str x15, [x16, #-8]",
    "ldr x29, [sp, #160]",
    simd!(".irp n, 8,9,10,11,12,13,14,15\nstr d\\n, [x16, #(248 + 8 * (\\n - 8))]\nldr d\\n, [sp, #(96 + 8 * (\\n - 8))]\n.endr"),
    ".irp n, 19,21,23,25,27",
    "ldr x\\n, [sp, #(16 + 8 * (\\n - 19))]",
    ".endr",
    ".irp n, 20,22,24,26,28",
    "ldr x\\n, [sp, #(16 + 8 * (\\n - 19))]",
    ".endr",
    "ldp x29, x30, [sp], #176",
    "ret",
    ".size members_caller, . - members_caller",
    ".popsection",
    seen = sym MEMBERS_SEEN,
);

const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(Seen, caller_sp) == 256 && offset_of!(Seen, returned_x) == 272);
    assert!(offset_of!(Seen, returned_d) == 272 + 248);
};

pub(super) fn every_register_is_as_aapcs64_asks() {
    if is_checked() {
        println!("(left out: assembly has no hash, so it can't be a member where calls are checked)");
        return;
    }
    // SAFETY: it takes and returns what it gets in registers.
    let pick = unsafe { core::mem::transmute::<unsafe extern "C" fn(), Pick>(members_callee) };
    let table = PolicyOps { pick: Some(pick), ..FIFO };
    let other = Condition { argument: 0, test: Test::Equal, value: 0 };
    let mine = Condition { argument: 1, test: Test::Equal, value: 0x1001 };
    let bodies = [
        ("forward", Body::forward(), 0),
        ("count and record", Body::forward().counting(&CALLS).recording(4), 0),
        ("not for it", Body::answer(7_u64).only_if(other), 0),
        ("for it", Body::forward().only_if(mine).counting(&CALLS), 0),
        ("timed", Body::timed(&TIMES), 32),
        ("all", Body::timed(&TIMES).only_if(mine).counting(&CALLS).recording(4), 32),
    ];
    for (what, body, frame) in bodies {
        put("assembly", &table);
        generate(&[("pick", body)]);
        // SAFETY: it keeps to the convention, if the member does, which is what is found out.
        unsafe { members_caller(pick_in_use()) };
        let seen = &raw const MEMBERS_SEEN;
        // SAFETY: nothing else runs that writes it.
        let seen = unsafe { &*seen };
        let live = (0..=8).chain(18..=28);
        live.clone().for_each(|n| assert_eq!(seen.x[n], 0x1000 + n as u64, "{what}: x{n} at the function behind"));
        assert_eq!(seen.caller_sp - seen.sp, frame, "{what}: SP at the function behind");
        if frame == 0 {
            assert_eq!(seen.x[29], 0x101d, "{what}: x29 at the function behind");
        } else {
            assert_eq!(seen.x[29], seen.sp, "{what}: the frame record");
        }
        (0..=8).for_each(|n| assert_eq!(seen.returned_x[n], 0x4000 + n as u64, "{what}: x{n} at the return"));
        (18..=29).for_each(|n| assert_eq!(seen.returned_x[n], 0x1000 + n as u64, "{what}: x{n} at the return"));
        assert_eq!(seen.returned_sp, seen.caller_sp, "{what}: SP at the return");
        if cfg!(target_feature = "neon") {
            assert!(seen.returned_d.iter().all(|d| *d == seen.caller_sp), "{what}: {:x?}", seen.returned_d);
        }
    }
    put("fifo", &FIFO);
}

/// What is walked from, and what was found.
static TEXT: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static RETURNS: AtomicU64 = AtomicU64::new(0);
static WALKS: AtomicU64 = AtomicU64::new(0);

fn walk(frame: &ExceptionFrame) {
    let [start, end] = TEXT.each_ref().map(|at| at.load(Ordering::Relaxed));
    if !(start..end).contains(&frame.elr) {
        return;
    }
    if frame.elr == start {
        RETURNS.store(frame.x[30], Ordering::Relaxed);
    }
    let regs: PtRegs = frame.pt_regs();
    // SAFETY: 1. There is none. 2. What was interrupted does not run meanwhile.
    let mut walk = unsafe { Unwinder::new(&regs, &[], &KernelStacks) };
    let here = walk.next().expect("the place itself");
    let caller = walk.next().expect("its caller");
    assert_eq!(here.pc.get(), frame.elr);
    let returns = TextAddr::new(RETURNS.load(Ordering::Relaxed));
    assert_eq!((caller.pc, caller.found_by), (returns, FoundBy::Stub), "from {}", here.pc);
    WALKS.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn the_caller_is_found_from_each_instruction() {
    let always = Condition { argument: 0, test: Test::NotEqual, value: 0 };
    for (body, instructions) in [
        (Body::forward(), 2),
        (Body::answer(1_u64).only_if(always).counting(&CALLS), 9),
        (Body::timed(&TIMES).only_if(always).counting(&CALLS).recording(4), 35),
    ] {
        put("fifo", &FIFO);
        generate(&[("pick", body)]);
        let start = pick_in_use() as u64;
        TEXT[0].store(start, Ordering::Relaxed);
        TEXT[1].store(start + 0x180, Ordering::Relaxed);
        WALKS.store(0, Ordering::Relaxed);
        let policy = POLICY.user().expect("in use");
        step::start(walk);
        let result = policy.pick(3, 4);
        step::stop();
        let walks = WALKS.load(Ordering::Relaxed);
        println!("({walks} instructions, {result})");
        assert!(walks >= instructions, "{walks} walks");
        drop(policy);
        put("fifo", &FIFO);
    }
}

pub(super) fn generated_members_come_and_go_while_four_cpus_call() {
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    static ALL: AtomicU64 = AtomicU64::new(0);
    const ROUNDS: u64 = 200;

    let (engine, _) = engine();
    put("fifo", &FIFO);
    let before = engine.statistics().stub_bytes;
    CALLS.store(0, Ordering::Relaxed);
    smp::start_all();
    smp::on_all(|cpu| {
        if cpu == 0 {
            let mut round = 0;
            // The others come when they come.
            while round < ROUNDS || CALLS.load(Ordering::Relaxed) < ROUNDS {
                round += 1;
                let body = match round % 3 {
                    0 => Body::forward().counting(&CALLS),
                    1 => Body::timed(&TIMES).counting(&CALLS),
                    _ => Body::answer(1_u64).counting(&CALLS),
                };
                generate(&[("pick", body), ("weigh", Body::forward())]);
                put("fifo", &FIFO);
            }
            IS_OVER.store(true, Ordering::Relaxed);
            return;
        }
        let mut mine = 0;
        while !IS_OVER.load(Ordering::Relaxed) {
            let policy = POLICY.user().expect("one is always in use");
            for last in 10..18 {
                let next = policy.pick(100, last);
                assert!(next == last + 1 || next == 1 && policy.name() == "generated", "{}: {next}", policy.name());
            }
            mine += if policy.name() == "generated" { 8 } else { 0 };
        }
        ALL.fetch_add(mine, Ordering::Relaxed);
    });
    POLICY.reclaim();
    println!("({} calls of generated members, of {ROUNDS} tables and more)", CALLS.load(Ordering::Relaxed));
    assert_eq!(ALL.load(Ordering::Relaxed), CALLS.load(Ordering::Relaxed));
    assert_eq!(engine.statistics().stub_bytes, before);
}
