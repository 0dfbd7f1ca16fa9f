//! The functions that are called and patched, of three shapes, and what each must answer.
//!
//! Each is given a [`Tally`], in which the callback counts: so a caller knows of each call whether it was traced, and by
//! which ops, whatever its own interrupts call meanwhile.

use core::hint::black_box;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};
use fentry::TextAddr;

/// The most ops that can count.
pub(crate) const MAX_OPS: usize = 4;

/// How many callbacks ran, by ops.
#[derive(Default)]
pub(crate) struct Tally([AtomicU32; MAX_OPS]);

impl Tally {
    /// Counts a callback of this ops.
    pub(crate) fn count(&self, ops: usize) {
        self.0[ops].fetch_add(1, Ordering::Relaxed);
    }

    /// How many callbacks ran.
    pub(crate) fn all(&self) -> u32 {
        self.0.iter().map(|one| one.load(Ordering::Relaxed)).sum()
    }

    /// How many callbacks of this ops ran.
    pub(crate) fn of(&self, ops: usize) -> u32 {
        self.0[ops].load(Ordering::Relaxed)
    }
}

/// What is passed by a pointer, and answered by x8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
struct Four([u64; 4]);

type Leaf = extern "C" fn(u64, &Tally) -> u64;
type Wide = extern "C" fn(u64, &Tally, Four, u64, u64, u64, u64, u64, u64, f64, f64) -> Four;

/// No call inside, and no stack frame.
#[inline(never)]
extern "C" fn leaf<const N: u64>(x: u64, _: &Tally) -> u64 {
    mix(x, N)
}

/// Calls a leaf.
#[inline(never)]
extern "C" fn nested<const N: u64>(x: u64, tally: &Tally) -> u64 {
    black_box(LEAVES[N as usize])(x, tally) ^ N
}

/// Uses every register that carries an argument, the stack and x8.
#[inline(never)]
extern "C" fn wide<const N: u64>(
    x: u64,
    _: &Tally,
    Four(array): Four,
    a: u64,
    b: u64,
    c: u64,
    d: u64,
    e: u64,
    f: u64,
    p: f64,
    q: f64,
) -> Four {
    let sum = [a, b, c, d, e, f].iter().fold(array[3], |sum, n| sum.wrapping_mul(3).wrapping_add(*n));
    Four([mix(x, N), sum, (p * 2.0 + q).to_bits(), array[0] ^ array[1] ^ array[2]])
}

#[inline(always)]
const fn mix(x: u64, n: u64) -> u64 {
    (x ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).rotate_left(n as u32 % 64).wrapping_add(n)
}

macro_rules! instances {
    ($function:ident as $type:ty: $($eights:literal)*) => { [$(
        $function::<{ 8 * $eights }> as $type,
        $function::<{ 8 * $eights + 1 }> as $type,
        $function::<{ 8 * $eights + 2 }> as $type,
        $function::<{ 8 * $eights + 3 }> as $type,
        $function::<{ 8 * $eights + 4 }> as $type,
        $function::<{ 8 * $eights + 5 }> as $type,
        $function::<{ 8 * $eights + 6 }> as $type,
        $function::<{ 8 * $eights + 7 }> as $type,
    )*] };
}

/// How many functions there are of each shape.
const EACH: usize = 128;
/// How many functions there are.
pub(crate) const COUNT: usize = 3 * EACH;

static LEAVES: [Leaf; EACH] = instances!(leaf as Leaf: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
static NESTED: [Leaf; EACH] = instances!(nested as Leaf: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
static WIDE: [Wide; EACH] = instances!(wide as Wide: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);

/// The address of a function by its number.
pub(crate) fn address(function: usize) -> TextAddr {
    let (shape, n) = (function / EACH, function % EACH);
    let pointer = match shape {
        0 => LEAVES[n] as *const (),
        1 => NESTED[n] as *const (),
        _ => WIDE[n] as *const (),
    };
    TextAddr::new(pointer.addr() as u64)
}

/// The functions whose callsites a call of this one goes through.
pub(crate) fn entered(function: usize) -> impl Iterator<Item = usize> {
    let inner =
        if (EACH..2 * EACH).contains(&function) { function - EACH..function - EACH + 1 } else { Range::default() };
    core::iter::once(function).chain(inner)
}

/// Calls a function by its number and looks at what it answers.
#[inline(always)]
pub(crate) fn call(function: usize, x: u64, tally: &Tally) {
    let (shape, n) = (function / EACH, function % EACH);
    let expected = mix(x, n as u64);
    match shape {
        0 => assert_eq!(black_box(LEAVES[n])(x, tally), expected, "leaf {n} of {x:#x}"),
        1 => assert_eq!(black_box(NESTED[n])(x, tally), expected ^ n as u64, "nested {n} of {x:#x}"),
        _ => {
            let y = x.rotate_left(17);
            let (p, q) = ((x >> 12) as f64, 0.5);
            let found = black_box(WIDE[n])(x, tally, Four([y, y ^ 5, 9, y]), 1, 2, 3, 4, 5, y, p, q);
            let sum = [1, 2, 3, 4, 5, y].iter().fold(y, |sum: u64, n| sum.wrapping_mul(3).wrapping_add(*n));
            assert_eq!(found, Four([expected, sum, (p * 2.0 + q).to_bits(), 5 ^ 9]), "wide {n} of {x:#x}");
        }
    }
}
