//! What the compiler passes is what handlers get: functions of many types, each called a few times.

use crate::ok;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use fentry::trampoline::attach::{Argument, AttachPoint, Class, Fentry, Fexit, Value};
use support::engine;
use support::random::Random;

/// A value that looks like chance, and one that stands for all of its bits.
trait Sample: Copy {
    fn sample(random: &mut Random) -> Self;
    fn hash(self) -> u64;
}

fn mixed(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

macro_rules! numbers {
    ($($type:ty),*) => {
        $(
            impl Sample for $type {
                fn sample(random: &mut Random) -> Self {
                    random.next() as $type
                }
                fn hash(self) -> u64 {
                    let mut bytes = [0; 8];
                    bytes[..size_of::<Self>()].copy_from_slice(&self.to_le_bytes());
                    mixed(1, u64::from_le_bytes(bytes))
                }
            }
        )*
    };
}

numbers! { u8, i8, u16, i16, u32, i32, u64, i64, usize }

impl Sample for () {
    fn sample(_: &mut Random) {}
    fn hash(self) -> u64 {
        7
    }
}

impl Sample for bool {
    fn sample(random: &mut Random) -> Self {
        random.below(2) == 1
    }
    fn hash(self) -> u64 {
        mixed(2, self.into())
    }
}

impl Sample for *const u8 {
    fn sample(random: &mut Random) -> Self {
        core::ptr::without_provenance(random.next() as usize)
    }
    fn hash(self) -> u64 {
        mixed(3, self.addr() as u64)
    }
}

impl Sample for u128 {
    fn sample(random: &mut Random) -> Self {
        u128::from(random.next()) << 64 | u128::from(random.next())
    }
    fn hash(self) -> u64 {
        mixed(mixed(4, self as u64), (self >> 64) as u64)
    }
}

/// Structs of a few fields.
macro_rules! structs {
    ($($(#[$attribute:meta])* $name:ident { $($field:ident: $type:ty),* } = $class:expr;)*) => {
        $(
            $(#[$attribute])*
            #[derive(Clone, Copy)]
            #[repr(C)]
            struct $name { $($field: $type),* }

            // SAFETY: 1. AAPCS64 5.10 and 6.8.2. 2. Of numbers.
            unsafe impl Value for $name {
                const CLASS: Class = $class;
            }

            impl Sample for $name {
                fn sample(random: &mut Random) -> Self {
                    Self { $($field: Sample::sample(random)),* }
                }
                fn hash(self) -> u64 {
                    let mut hash = 5;
                    $(hash = mixed(hash, self.$field.hash());)*
                    hash
                }
            }
        )*
    };
}

structs! {
    Small { a: u16, b: u8 } = Class::composite::<Self>();
    Odd { a: u32, b: u32, c: u8 } = Class::composite::<Self>();
    Pair { a: u64, b: u64 } = Class::composite::<Self>();
    Wide { a: u64, b: u8 } = Class::composite::<Self>();
    #[repr(align(16))]
    Aligned { a: u64, b: u32 } = Class::composite::<Self>();
    Long { a: u128 } = Class::composite_16::<Self>();
    Large { a: Pair, b: Pair, c: u64 } = Class::composite::<Self>();
}

#[cfg(target_feature = "neon")]
structs! {
    Single { a: f64 } = Class::floats::<Self, f64>();
    Two { a: f32, b: f32 } = Class::floats::<Self, f32>();
    Three { a: f32, b: f32, c: f32 } = Class::floats::<Self, f32>();
    Four { a: f64, b: f64, c: f64, d: f64 } = Class::floats::<Self, f64>();
    Mixed { a: f64, b: u64 } = Class::composite::<Self>();
}

macro_rules! arguments {
    ($($type:ty),*) => {
        // SAFETY: 1. Of 16 bytes at most, or of four floats.
        $(unsafe impl Argument for $type {})*
    };
}

arguments! { Small, Odd, Pair, Wide, Aligned, Long }
#[cfg(target_feature = "neon")]
arguments! { Single, Two, Three, Four, Mixed }

#[cfg(target_feature = "neon")]
macro_rules! floats {
    ($($type:ty: $bits:ty),*) => {
        $(
            impl Sample for $type {
                fn sample(random: &mut Random) -> Self {
                    <$type>::from_bits(random.next() as $bits)
                }
                fn hash(self) -> u64 {
                    mixed(6, self.to_bits().into())
                }
            }
        )*
    };
}

#[cfg(target_feature = "neon")]
floats! { f32: u32, f64: u64 }

/// What the function, the handler at the entry and that at the exit were given; and the result at the exit.
static SEEN: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
/// What the function makes its result of.
static SEED: AtomicU64 = AtomicU64::new(0);

fn note(number: usize, hash: u64) {
    SEEN[number].store(hash, Ordering::Relaxed);
}

const CALLS: usize = 8;

macro_rules! cases {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        &[$({
            fn $name(random: &mut Random) {
                type F = extern "C" fn($($type),*) -> $result;
                #[inline(never)]
                extern "C" fn callee($($argument: $type),*) -> $result {
                    let hash = 0;
                    $(let hash = mixed(hash, $argument.hash());)*
                    note(0, hash);
                    Sample::sample(&mut Random::new(SEED.load(Ordering::Relaxed), 0))
                }
                extern "C" fn entry($($argument: $type),*) {
                    let hash = 0;
                    $(let hash = mixed(hash, $argument.hash());)*
                    note(1, hash);
                }
                extern "C" fn exit($($argument: $type,)* result: &$result) {
                    let hash = 0;
                    $(let hash = mixed(hash, $argument.hash());)*
                    note(2, hash);
                    note(3, result.hash());
                }
                static POINT: AttachPoint<F> = AttachPoint::new(callee);
                static ENTRY: Fentry<F> = Fentry::<F>::new(entry);
                static EXIT: Fexit<F> = Fexit::<F>::new(exit);
                let (engine, _) = engine();
                ok(POINT.attach(engine, &ENTRY));
                ok(POINT.attach(engine, &EXIT));
                for _ in 0..CALLS {
                    let hash = 0;
                    $(
                        let $argument = <$type as Sample>::sample(random);
                        let hash = mixed(hash, $argument.hash());
                    )*
                    let seed = random.next();
                    SEED.store(seed, Ordering::Relaxed);
                    let expected: $result = Sample::sample(&mut Random::new(seed, 0));
                    let result = black_box(callee as F)($($argument),*);
                    let seen = SEEN.each_ref().map(|seen| seen.swap(0, Ordering::Relaxed));
                    let name = stringify!($name($($type),*) -> $result);
                    assert_eq!(seen, [hash, hash, hash, expected.hash()], "{name}");
                    assert_eq!(result.hash(), expected.hash(), "{name}");
                }
                ok(POINT.detach(engine, &EXIT));
                ok(POINT.detach(engine, &ENTRY));
            }
            $name as fn(&mut Random)
        }),*]
    };
}

const INTEGERS: &[fn(&mut Random)] = cases! {
    none() -> ();
    one(a: u8) -> u8;
    two(a: i16, b: bool) -> bool;
    narrow(a: u8, b: i8, c: u16, d: i16, e: u32, f: i32, g: bool, h: u8) -> i16;
    narrow_stack(a: u8, b: i8, c: u16, d: i16, e: u32, f: i32, g: bool, h: u8, i: u8, j: i16, k: i32, l: bool) -> i8;
    nine(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64, i: u64) -> u64;
    twelve(a: u64, b: i32, c: u64, d: u8, e: u64, f: u16, g: u64, h: i64, i: u64, j: u32, k: usize, l: u8) -> u32;
    pointers(a: *const u8, b: usize, c: *const u8) -> *const u8;
    small(a: Small, b: u8, c: Small) -> Small;
    odd(a: u8, b: Odd, c: Odd, d: Odd, e: u8) -> Odd;
    pair(a: Pair, b: Pair, c: Pair, d: Pair) -> Pair;
    pair_stack(a: u64, b: Pair, c: Pair, d: Pair, e: Pair, f: u8, g: Small) -> Wide;
    wide(a: Wide, b: u32, c: Wide, d: u32, e: Wide, f: Wide) -> u128;
    long(a: u8, b: u128, c: u8, d: u128, e: u8, f: u128) -> u128;
    long_stack(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u128, i: u8, j: u128) -> Aligned;
    aligned(a: Aligned, b: u8, c: Aligned, d: u8, e: Aligned, f: u8, g: Aligned) -> Pair;
    aligned_stack(a: u8, b: Aligned, c: Aligned, d: Aligned, e: u8, f: Aligned, g: u8) -> ();
    long_struct(a: u8, b: Long, c: u8, d: Long, e: Aligned, f: u64, g: Long, h: u8, i: Long) -> Long;
    large(a: u64, b: u32) -> Large;
    large_stack(a: u64, b: Pair, c: Pair, d: Pair, e: Pair, f: u16, g: u128, h: bool) -> Large;
    seven(a: u64, b: u8, c: u64, d: u8, e: u64, f: u8, g: u64) -> ();
    eight(a: u64, b: u8, c: u64, d: u8, e: u64, f: u8, g: u64, h: u64) -> ();
    mixture(a: bool, b: Small, c: u128, d: i8, e: Wide, f: i16, g: *const u8, h: Pair, i: u8, j: Odd) -> i64;
};

#[cfg(target_feature = "neon")]
const FLOATS: &[fn(&mut Random)] = cases! {
    float(a: f32) -> f32;
    double(a: f64, b: f32) -> f64;
    both(a: u8, b: f64, c: u64, d: f32, e: i16) -> f32;
    nine_floats(a: f64, b: f32, c: f64, d: f32, e: f64, f: f32, g: f64, h: f32, i: f64) -> f64;
    twelve_floats(a: f32, b: f32, c: f32, d: f32, e: f32, f: f32, g: f32, h: f32, i: f32, j: f32, k: u8, l: f64) -> u8;
    single(a: Single, b: Single) -> Single;
    vectors(a: Two, b: Three, c: Two) -> Two;
    vectors_stack(a: Two, b: Three, c: Three, d: Two, e: f32) -> Three;
    four(a: Four, b: u64, c: Four) -> Four;
    four_stack(a: f64, b: Four, c: Four, d: f64, e: u8, f: Three) -> Four;
    mixed_struct(a: Mixed, b: f64, c: Mixed, d: u64) -> Mixed;
    all(a: u8, b: Four, c: Pair, d: f32, e: u128, f: Three, g: Pair, h: f64, i: Small, j: f32, k: Wide, l: Two) -> Large;
};

#[cfg(not(target_feature = "neon"))]
const FLOATS: &[fn(&mut Random)] = &[];

pub(super) fn arguments_and_results_are_those_of_the_call() {
    let mut random = Random::new(24, 7);
    INTEGERS.iter().chain(FLOATS).for_each(|case| case(&mut random));
    support::println!("({} types, {CALLS} calls of each)", INTEGERS.len() + FLOATS.len());
}
