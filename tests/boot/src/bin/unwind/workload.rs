//! What is executed one instruction at a time, and traced: functions of every shape that compilers make.

use crate::modules;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::arch::naked_asm;
use core::hint::black_box;

/// Runs each of them once; wherever it is traced, the result is the same.
#[inline(never)]
pub(crate) fn run() {
    let mut sum = leaf(1) + recursive(4);
    sum += tail_calls(sum) + large_frame(sum as usize) + variable_frame(4);
    sum += through_pointers(&[leaf, doubled, tail_calls]);
    sum += virtual_call(black_box(&Addends(3)));
    sum += many_arguments(1, 2, 3, 4, 5, 6, 7, 8, 9, 10) + floats(sum as f64) as u64;
    // SAFETY: it is called as it wants to be.
    sum += unsafe { variadic(3, 1, 2, 3) };
    sum += modules::run();
    // Unoptimised, that is four fifths of all.
    if !cfg!(debug_assertions) {
        sum += collections();
    }
    black_box(sum);
}

#[inline(never)]
pub(crate) fn leaf(x: u64) -> u64 {
    black_box(x) ^ 5
}

#[inline(never)]
pub(crate) fn doubled(x: u64) -> u64 {
    black_box(leaf(x)) * 2
}

#[inline(never)]
pub(crate) fn recursive(depth: u64) -> u64 {
    if depth == 0 { leaf(depth) } else { black_box(recursive(depth - 1)) + 1 }
}

/// Where the compiler optimises, these are jumps.
#[inline(never)]
pub(crate) fn tail_calls(x: u64) -> u64 {
    if black_box(x) & 1 == 0 { to_the_left(x + 1) } else { to_the_right(x) }
}

#[inline(never)]
fn to_the_left(x: u64) -> u64 {
    to_the_right(black_box(x) + 2)
}

#[inline(never)]
fn to_the_right(x: u64) -> u64 {
    doubled(black_box(x) & 0xff)
}

/// A frame that is more than one page: the stack is probed.
#[inline(never)]
fn large_frame(x: usize) -> u64 {
    let mut room = core::mem::MaybeUninit::<[u64; 1200]>::uninit();
    let place = room.as_mut_ptr().cast::<u64>();
    let at = black_box(place.wrapping_add(x % 1200));
    // SAFETY: within the array.
    unsafe { at.write(7) };
    // SAFETY: it was just written.
    leaf(unsafe { *at })
}

/// A frame whose size is not known before it runs, as alloca makes it: x0 = how many times 16 bytes.
#[unsafe(naked)]
extern "C" fn variable_frame(blocks: u64) -> u64 {
    naked_asm!(
        "hint #25", // PACIASP
        "nop",
        "nop",
        "stp x29, x30, [sp, #-32]!",
        "mov x29, sp",
        "str x19, [sp, #16]",
        "sub sp, sp, x0, lsl #4",
        "mov x19, x0",
        "str x19, [sp]",
        "bl {called}",
        "ldr x1, [sp]",
        "add x0, x0, x1",
        "mov sp, x29",
        "ldr x19, [sp, #16]",
        "ldp x29, x30, [sp], #32",
        "hint #29", // AUTIASP
        "ret",
        called = sym called_from_assembly,
    )
}

/// A function with more arguments than are named, as GCC begins it: x0 = how many there are.
#[unsafe(naked)]
unsafe extern "C" fn variadic(count: u64, a: u64, b: u64, c: u64) -> u64 {
    naked_asm!(
        "hint #25",
        "nop",
        "nop",
        "stp x29, x30, [sp, #-112]!",
        "mov x29, sp",
        "stp x1, x2, [sp, #56]",
        "stp x3, x4, [sp, #72]",
        "stp x5, x6, [sp, #88]",
        "str x7, [sp, #104]",
        "add x1, sp, #56",
        "mov x9, #0",
        "1: cbz x0, 2f",
        "ldr x10, [x1], #8",
        "add x9, x9, x10",
        "sub x0, x0, #1",
        "b 1b",
        "2: mov x0, x9",
        "bl {called}",
        "ldp x29, x30, [sp], #112",
        "hint #29",
        "ret",
        called = sym called_from_assembly,
    )
}

#[inline(never)]
extern "C" fn called_from_assembly(x: u64) -> u64 {
    doubled(x)
}

#[inline(never)]
fn through_pointers(functions: &[fn(u64) -> u64]) -> u64 {
    functions.iter().map(|function| black_box(*function)(1)).sum()
}

trait Adds {
    fn add(&self, x: u64) -> u64;
}

struct Addends(u64);

impl Adds for Addends {
    #[inline(never)]
    fn add(&self, x: u64) -> u64 {
        leaf(self.0) + x
    }
}

#[inline(never)]
fn virtual_call(adds: &dyn Adds) -> u64 {
    adds.add(2)
}

#[inline(never)]
#[expect(clippy::too_many_arguments, reason = "some of them are on the stack")]
fn many_arguments(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64, i: u64, j: u64) -> u64 {
    black_box([a, b, c, d, e, f, g, h, i, j]).iter().map(|x| leaf(*x)).sum()
}

#[inline(never)]
fn floats(x: f64) -> f64 {
    black_box(x) * 1.5 + 2.0
}

#[inline(never)]
fn collections() -> u64 {
    let mut map = BTreeMap::new();
    for (place, word) in "a b c b".split(' ').enumerate() {
        *map.entry(word).or_insert(0) += place;
    }
    let mut text: Vec<_> = map.into_iter().map(|(word, places)| format!("{word}{places:>3}")).collect();
    text.sort_by_key(|text| core::cmp::Reverse(text.len()));
    leaf(text.concat().len() as u64)
}
