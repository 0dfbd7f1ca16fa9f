//! Random signatures, against a plain call.

use crate::ok;
use crate::recorders::{
    Call, FOUND, Found, NOTHING, RESULTS, Results, attach_caller, attach_entry, attach_entry_that_calls, attach_exit,
    attach_exit_that_calls, attach_function, attach_modify, attach_modify_that_calls,
};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use fentry::TextAddr;
use fentry::trampoline::attach::{Class, Signature, UntypedPoint, When};
use support::random::Random;
use support::{engine, println};

const SIGNATURES: u32 = 2500;

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
    let (to_results, to_found) = (&raw mut RESULTS, &raw mut FOUND);
    // SAFETY: nothing else runs that uses it.
    unsafe { to_results.write(results) };
    // SAFETY: so too.
    unsafe { to_found.write([NOTHING; 4]) };
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
    let found = unsafe { to_found.read() };
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
