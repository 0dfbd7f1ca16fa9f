//! Random signatures: a function and handlers in assembly that write down all that they find, and change all that they may.

use crate::ok;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};
use fentry::TextAddr;
use fentry::trampoline::attach::{Class, Signature, UntypedPoint, When};
use support::random::Random;
use support::{engine, println};

const SIGNATURES: u32 = 2500;

/// So many words of the stack are written down.
const STACK_WORDS: usize = 52;

/// What somebody found when it was called.
#[derive(Clone, Copy)]
#[repr(C)]
struct Found {
    x: [u64; 9],
    d: [u64; 8],
    sp: u64,
    fp: u64,
    lr: u64,
    stack: [u64; STACK_WORDS],
}

const NOTHING: Found = Found { x: [0; 9], d: [0; 8], sp: 0, fp: 0, lr: 0, stack: [0; STACK_WORDS] };
const FOUND_BYTES: usize = size_of::<Found>();

/// By the function, at the entry, by what may answer, at the exit.
static mut FOUND: [Found; 4] = [NOTHING; 4];

/// What the function returns: x0, x1, d0 to d3; and, where that is not 0, to where it stores the first.
#[repr(C)]
struct Results {
    x: [u64; 2],
    d: [u64; 4],
    is_large: u64,
    /// What is answered.
    answer: u64,
    /// How many words of its arguments each one changes.
    changed: u64,
}

static mut RESULTS: Results = Results { x: [0; 2], d: [0; 4], is_large: 0, answer: 0, changed: 0 };

/// What the caller passes, and what it gets.
#[repr(C)]
struct Call {
    given: Found,
    x: [u64; 2],
    d: [u64; 4],
    /// Whether x18 to x29, d8 to d15 and SP were what they had been.
    kept: u64,
}

unsafe extern "C" {
    fn attach_caller(call: *mut Call);
    fn attach_function();
    fn attach_entry();
    fn attach_entry_that_calls();
    fn attach_modify();
    fn attach_modify_that_calls();
    fn attach_exit();
    fn attach_exit_that_calls();
}

#[cfg(target_feature = "neon")]
macro_rules! simd {
    ($code:literal) => {
        $code
    };
}
#[cfg(not(target_feature = "neon"))]
macro_rules! simd {
    ($code:literal) => {
        ""
    };
}

global_asm!(
    ".macro attach_record slot",
    "    adrp  x16, {found}",
    "    add   x16, x16, :lo12:{found}",
    "    add   x16, x16, #(\\slot * {FOUND_BYTES})",
    "    stp   x0, x1, [x16]",
    "    stp   x2, x3, [x16, #16]",
    "    stp   x4, x5, [x16, #32]",
    "    stp   x6, x7, [x16, #48]",
    "    str   x8, [x16, #64]",
    simd!("stp   d0, d1, [x16, #72]
           stp   d2, d3, [x16, #88]
           stp   d4, d5, [x16, #104]
           stp   d6, d7, [x16, #120]"),
    "    mov   x17, sp",
    "    str   x17, [x16, #136]",
    "    stp   x29, x30, [x16, #144]",
    "    add   x16, x16, #160",
    "    mov   x15, {STACK_WORDS}",
    "1:  ldr   x14, [x17], #8",
    "    str   x14, [x16], #8",
    "    subs  x15, x15, #1",
    "    b.ne  1b",
    // What its arguments are in is its own.
    "    adrp  x16, {results}",
    "    add   x16, x16, :lo12:{results}",
    "    ldr   x15, [x16, #64]",
    "    mov   x17, sp",
    "2:  cbz   x15, 3f",
    "    str   x16, [x17], #8",
    "    sub   x15, x15, #1",
    "    b     2b",
    "3:",
    ".irp n, 0,1,2,3,4,5,6,7,9,10,11,12,13,14,15,17",
    "    mvn   x\\n, x16",
    ".endr",
    simd!(".irp n, 0,1,2,3,4,5,6,7,16,17,31
           fmov  d\\n, x17
           .endr"),
    "    adds  xzr, x17, x17",
    ".endm",

    ".macro attach_handler name, slot",
    "    .balign 8",
    "    .global attach_\\name",
    "    .type attach_\\name, %function",
    "attach_\\name:",
    "    hint  #34", // BTI C
    "    attach_record \\slot",
    "    mov   x8, xzr",
    "    ldr   x0, [x16, #56]",
    "    ret",
    "    .size attach_\\name, . - attach_\\name",
    "    .global attach_\\name\\()_that_calls",
    "    .type attach_\\name\\()_that_calls, %function",
    "attach_\\name\\()_that_calls:",
    "    hint  #34", // BTI C
    "    mov   x9, x30",
    "    bl    attach_nothing",
    "    mov   x30, x9",
    "    attach_record \\slot",
    "    mov   x8, xzr",
    "    ldr   x0, [x16, #56]",
    "    ret",
    "    .size attach_\\name\\()_that_calls, . - attach_\\name\\()_that_calls",
    ".endm",

    ".pushsection .text.attach, \"ax\", %progbits",
    "    .balign 8",
    "    .global attach_function",
    "    .type attach_function, %function",
    "attach_function:",
    "    hint  #34", // BTI C
    "attach_function_nops:",
    "    nop",
    "    nop",
    "    .pushsection __patchable_function_entries, \"awo\", %progbits, .text.attach",
    "    .balign 8",
    "    .quad attach_function_nops",
    "    .popsection",
    "    attach_record 0",
    "    ldr   x15, [x16, #48]",
    "    ldp   x0, x1, [x16]",
    "    cbz   x15, 4f",
    "    str   x0, [x8]",
    "4:  mov   x8, xzr",
    simd!("ldp   d0, d1, [x16, #16]
           ldp   d2, d3, [x16, #32]"),
    "    ret",
    "    .size attach_function, . - attach_function",

    "    attach_handler entry, 1",
    "    attach_handler modify, 2",
    "    attach_handler exit, 3",

    "    .type attach_nothing, %function",
    "attach_nothing:",
    "    ret",
    "    .size attach_nothing, . - attach_nothing",

    "    .balign 8",
    "    .global attach_caller",
    "    .type attach_caller, %function",
    "attach_caller:",
    "    hint  #34", // BTI C
    "    stp   x29, x30, [sp, #-192]!",
    "    mov   x29, sp",
    "    stp   x19, x20, [sp, #16]",
    "    stp   x21, x22, [sp, #32]",
    "    stp   x23, x24, [sp, #48]",
    "    stp   x25, x26, [sp, #64]",
    "    stp   x27, x28, [sp, #80]",
    "    stp   x18, x0, [sp, #96]",
    simd!("stp   d8, d9, [sp, #112]
           stp   d10, d11, [sp, #128]
           stp   d12, d13, [sp, #144]
           stp   d14, d15, [sp, #160]
           .irp n, 8,9,10,11,12,13,14,15
           fmov  d\\n, x29
           .endr"),
    ".irp n, 18,20,21,22,23,24,25,26,27,28",
    "    add   x\\n, x29, #\\n",
    ".endr",
    "    mov   x19, x0",
    // The arguments on the stack.
    "    sub   sp, sp, #(8 * {STACK_WORDS})",
    "    add   x16, x19, #160",
    "    mov   x17, sp",
    "    mov   x15, {STACK_WORDS}",
    "1:  ldr   x14, [x16], #8",
    "    str   x14, [x17], #8",
    "    subs  x15, x15, #1",
    "    b.ne  1b",
    simd!("ldp   d0, d1, [x19, #72]
           ldp   d2, d3, [x19, #88]
           ldp   d4, d5, [x19, #104]
           ldp   d6, d7, [x19, #120]"),
    "    ldp   x0, x1, [x19]",
    "    ldp   x2, x3, [x19, #16]",
    "    ldp   x4, x5, [x19, #32]",
    "    ldp   x6, x7, [x19, #48]",
    "    ldr   x8, [x19, #64]",
    "    bl    attach_function",
    "    add   x16, x19, #{CALL_X}",
    "    stp   x0, x1, [x16]",
    simd!("stp   d0, d1, [x16, #16]
           stp   d2, d3, [x16, #32]"),
    // Whatever differs sets a bit.
    "    add   x17, sp, #(8 * {STACK_WORDS})",
    "    eor   x15, x17, x29",
    ".irp n, 18,20,21,22,23,24,25,26,27,28",
    "    add   x14, x17, #\\n",
    "    eor   x14, x14, x\\n",
    "    orr   x15, x15, x14",
    ".endr",
    simd!(
        ".irp n, 8,9,10,11,12,13,14,15
           fmov  x14, d\\n
           eor   x14, x14, x17
           orr   x15, x15, x14
           .endr"
    ),
    "    str   x15, [x16, #48]",
    "    mov   sp, x17",
    simd!("ldp   d8, d9, [sp, #112]
           ldp   d10, d11, [sp, #128]
           ldp   d12, d13, [sp, #144]
           ldp   d14, d15, [sp, #160]"),
    "    ldr   x18, [sp, #96]",
    "    ldp   x19, x20, [sp, #16]",
    "    ldp   x21, x22, [sp, #32]",
    "    ldp   x23, x24, [sp, #48]",
    "    ldp   x25, x26, [sp, #64]",
    "    ldp   x27, x28, [sp, #80]",
    "    ldp   x29, x30, [sp], #192",
    "    ret",
    "    .size attach_caller, . - attach_caller",
    ".popsection",
    ".purgem attach_record",
    ".purgem attach_handler",
    found = sym FOUND,
    results = sym RESULTS,
    FOUND_BYTES = const FOUND_BYTES,
    STACK_WORDS = const STACK_WORDS,
    CALL_X = const core::mem::offset_of!(Call, x),
);

const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(Found, d) == 72 && offset_of!(Found, sp) == 136 && offset_of!(Found, stack) == 160);
    assert!(offset_of!(Results, is_large) == 48 && offset_of!(Results, answer) == 56);
    assert!(offset_of!(Results, changed) == 64 && offset_of!(Call, kept) == offset_of!(Call, x) + 48);
    assert!(STACK_WORDS.is_multiple_of(2));
};

/// What an argument is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Bits(u32),
    Composite { words: usize, align: usize },
    Floats { count: usize, bytes: usize },
}

/// Where eight bytes of an argument are.
#[derive(Clone, Copy, Debug)]
enum At {
    X(usize),
    D(usize),
    Stack(usize),
}

fn kind(random: &mut Random) -> (Class, Kind) {
    let floats = if cfg!(target_feature = "neon") { 6 } else { 0 };
    match random.below(12 + floats) {
        0 => (Class::BOOL, Kind::Bits(1)),
        1 => (Class::BITS_8, Kind::Bits(8)),
        2 => (Class::BITS_16, Kind::Bits(16)),
        3 => (Class::BITS_32, Kind::Bits(32)),
        4..8 => (Class::BITS_64, Kind::Bits(64)),
        8 => (Class::composite::<[u16; 3]>(), Kind::Composite { words: 1, align: 8 }),
        9 => (Class::composite::<[u32; 3]>(), Kind::Composite { words: 2, align: 8 }),
        10 => (Class::composite::<[u64; 2]>(), Kind::Composite { words: 2, align: 8 }),
        11 => (Class::BITS_128, Kind::Composite { words: 2, align: 16 }),
        12 => (Class::F32, Kind::Floats { count: 1, bytes: 4 }),
        13 => (Class::F64, Kind::Floats { count: 1, bytes: 8 }),
        14 => (Class::floats::<[f32; 2], f32>(), Kind::Floats { count: 2, bytes: 4 }),
        15 => (Class::floats::<[f32; 3], f32>(), Kind::Floats { count: 3, bytes: 4 }),
        16 => (Class::floats::<[f64; 2], f64>(), Kind::Floats { count: 2, bytes: 8 }),
        _ => (Class::floats::<[f64; 4], f64>(), Kind::Floats { count: 4, bytes: 8 }),
    }
}

/// Where the arguments are, with how many bits of each part are its own; how many words are on the stack; where one more
/// pointer would be. (AAPCS64 6.8.2; the functions of `typed` hold the crate to what the compiler makes of it.)
fn places(kinds: &[Kind]) -> (Vec<(At, u32)>, usize, At) {
    let (mut x, mut d, mut stack) = (0, 0, 0);
    let mut all = Vec::new();
    for kind in kinds {
        let (bits, words, align) = match *kind {
            Kind::Bits(bits) => (bits, 1, 8),
            Kind::Composite { words, align } => (64, words, align),
            Kind::Floats { count, bytes } if d + count <= 8 => {
                all.extend((d..d + count).map(|n| (At::D(n), 8 * bytes as u32)));
                d += count;
                continue;
            }
            Kind::Floats { count, bytes } => {
                d = 8;
                let words = (count * bytes).div_ceil(8);
                all.extend((0..words).map(|n| (At::Stack(stack + n), 64)));
                stack += words;
                continue;
            }
        };
        if align == 16 && x % 2 == 1 {
            x += 1;
        }
        if x + words <= 8 {
            all.extend((x..x + words).map(|n| (At::X(n), bits)));
            x += words;
        } else {
            x = 8;
            stack += usize::from(align == 16 && stack % 2 == 1);
            all.extend((0..words).map(|n| (At::Stack(stack + n), bits)));
            stack += words;
        }
    }
    (all, stack, if x < 8 { At::X(x) } else { At::Stack(stack) })
}

fn mask(bits: u32) -> u64 {
    if bits == 64 { u64::MAX } else { (1 << bits) - 1 }
}

impl Found {
    fn at(&self, at: At) -> u64 {
        match at {
            At::X(n) => self.x[n],
            At::D(n) => self.d[n],
            At::Stack(n) => self.stack[n],
        }
    }
}

/// What it was called with, of which somebody found this.
fn check(given: &Found, found: &Found, places: &[(At, u32)], for_handler: bool, what: &str) {
    for (at, bits) in places {
        let (expected, found) = (given.at(*at), found.at(*at));
        let (expected, found) = match at {
            At::D(_) => (expected & mask(*bits), found & mask(*bits)),
            // With nothing above.
            _ if for_handler => (expected & mask(*bits), found),
            _ => (expected, found),
        };
        assert_eq!(found, expected, "{what}: {at:?}, {bits} bits");
    }
    assert_eq!(found.sp % 16, 0, "{what}");
}

static LARGE: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

fn address(function: unsafe extern "C" fn()) -> TextAddr {
    TextAddr::new((function as *const ()).addr() as u64)
}

fn fill(random: &mut Random, words: &mut [u64]) {
    words.iter_mut().for_each(|word| *word = random.next());
}

/// One call, from all sides; returns how many handlers it had.
fn one(random: &mut Random) -> u64 {
    let (engine, _) = engine();
    let (classes, kinds): (Vec<Class>, Vec<Kind>) = (0..random.below(13)).map(|_| kind(random)).unzip();
    let (places, stack_words, pointer) = places(&kinds);
    let (result, result_kind) = match random.below(6) {
        0 => (Class::UNIT, None),
        1 => (Class::composite::<[u64; 4]>(), None),
        _ => {
            let (class, kind) = kind(random);
            (class, Some(kind))
        }
    };
    let is_large = result == Class::composite::<[u64; 4]>();
    let signature = Signature { arguments: classes.leak(), result };
    // SAFETY: 1. The function takes all and returns all. 2. and 3. So it does.
    let point: UntypedPoint<2> = unsafe { UntypedPoint::new(address(attach_function), signature) };
    let point: &'static UntypedPoint<2> = Box::leak(Box::new(point));

    let mut call = Call { given: NOTHING, x: [0; 2], d: [0; 4], kept: 0 };
    let Found { x, d, stack, .. } = &mut call.given;
    fill(random, x);
    fill(random, d);
    fill(random, stack);
    call.given.x[8] = LARGE[0].as_ptr().addr() as u64;
    let mut results = Results { x: [0; 2], d: [0; 4], is_large: is_large.into(), answer: 0, changed: 0 };
    fill(random, &mut results.x);
    fill(random, &mut results.d);
    let given = results.x;
    let floats = results.d;

    let with_calls = random.below(2) == 1;
    let mut handlers: Vec<(When, TextAddr, usize)> = Vec::new();
    let set = 1 + random.below(7);
    let mut add = |bit: u64, when, [plain, calling]: [unsafe extern "C" fn(); 2], slot| {
        if set & bit != 0 {
            handlers.push((when, address(if with_calls { calling } else { plain }), slot));
        }
    };
    add(1, When::Entry, [attach_entry, attach_entry_that_calls], 1);
    let bits = match result_kind {
        Some(Kind::Bits(bits)) => Some(bits),
        _ => None,
    };
    if bits.is_some() {
        add(2, When::Modify, [attach_modify, attach_modify_that_calls], 2);
    }
    add(4, When::Exit, [attach_exit, attach_exit_that_calls], 3);
    let has = |handlers: &[(When, TextAddr, usize)], slot| handlers.iter().any(|handler| handler.2 == slot);
    let mut is_answered = false;
    if let Some(bits) = bits {
        // What is above the result's bits is anything, and no answer.
        let above = random.next() & !mask(bits);
        is_answered = has(&handlers, 2) && random.below(2) == 1;
        results.answer = above | if is_answered { 1 << random.below(bits.into()) } else { 0 };
    }
    let answer = results.answer;
    results.changed = stack_words as u64;
    // SAFETY: nothing else runs that uses it.
    unsafe { (&raw mut RESULTS).write(results) };
    // SAFETY: so too.
    unsafe { (&raw mut FOUND).write([NOTHING; 4]) };
    LARGE[0].store(0, Ordering::Relaxed);
    for (when, handler, _) in &handlers {
        // SAFETY: 1. They take all, and return what a function of any type may. 2. They stay.
        ok(unsafe { point.attach(engine, *when, *handler) });
    }
    // SAFETY: the function keeps to the convention, and so does what is around it, which is what is found out.
    unsafe { attach_caller(&raw mut call) };
    for (_, handler, _) in &handlers {
        ok(point.detach(engine, *handler));
    }
    // SAFETY: nothing else runs that uses it.
    let found = unsafe { (&raw const FOUND).read() };
    for (_, _, slot) in &handlers {
        check(&call.given, &found[*slot], &places, true, ["", "entry", "modify", "exit"][*slot]);
    }
    let has_run = found[0].sp != 0;
    assert_eq!(has_run, !is_answered);
    if has_run {
        check(&call.given, &found[0], &places, false, "function");
    }
    assert_eq!(call.kept, 0, "registers that are not the function's");
    // The result, for the caller and at the exit.
    let expected = if is_answered { answer } else { given[0] };
    let in_registers = match result_kind {
        Some(Kind::Bits(bits)) => Vec::from([(call.x[0], expected, bits)]),
        Some(Kind::Composite { words, .. }) => (0..words).map(|n| (call.x[n], given[n], 64)).collect(),
        Some(Kind::Floats { count, bytes }) => (0..count).map(|n| (call.d[n], floats[n], 8 * bytes as u32)).collect(),
        None => Vec::new(),
    };
    for (got, expected, bits) in &in_registers {
        assert_eq!(got & mask(*bits), expected & mask(*bits), "the result, {result:?}");
    }
    if is_large {
        assert_eq!(LARGE[0].load(Ordering::Relaxed), given[0]);
    }
    if has(&handlers, 3) {
        assert!(found[3].at(pointer) != 0, "the result's address");
        assert!(!is_large || found[3].at(pointer) == call.given.x[8]);
    }
    assert_eq!(ok(point.reclaim(engine)), 0);
    // SAFETY: it was a box, and nobody knows of it any more: nothing is attached, and no trampoline is left.
    drop(unsafe { Box::from_raw(core::ptr::from_ref(point).cast_mut()) });
    handlers.len() as u64
}

pub(super) fn random_signatures_are_called_as_plain_calls_are() {
    let mut random = Random::new(2026, 11);
    let handlers: u64 = (0..SIGNATURES).map(|_| one(&mut random)).sum();
    println!("({SIGNATURES} signatures, {handlers} handlers)");
}
