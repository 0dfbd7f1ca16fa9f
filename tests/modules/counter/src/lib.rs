//! A module that the boot test loads after the module greeter, whose functions it calls.
#![no_std]
#![cfg(target_os = "none")]

#[path = "../../kernel.rs"]
mod kernel;

use core::sync::atomic::{AtomicU64, Ordering};
use kernel::{KERNEL_NUMBER, export, kernel_note};

unsafe extern "C" {
    safe fn greeter_sum(
        a: u64,
        b: u64,
        c: u64,
        d: u64,
        e: u64,
        f: u64,
        g: u64,
        h: u64,
        i: u64,
        j: u64,
        k: f64,
        l: f64,
        m: f64,
        n: f64,
        o: f64,
        p: f64,
        q: f64,
        r: f64,
        s: f64,
        t: f64,
    ) -> f64;
}

/// In data, in zeros, and in constants that hold an address.
static COUNT: AtomicU64 = AtomicU64::new(100);
static ROOM: [AtomicU64; 1000] = [const { AtomicU64::new(0) }; 1000];
static STEPS: [fn(u64) -> u64; 2] = [one_more, twice];

#[inline(never)]
fn one_more(number: u64) -> u64 {
    number + 1
}

#[inline(never)]
fn twice(number: u64) -> u64 {
    number * 2
}

/// Starts the module.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".init.text")]
extern "C" fn fentry_module_init() -> i32 {
    const LINE: &str = "counter: here";
    kernel_note(LINE.as_ptr(), LINE.len());
    0
}

/// Counts, and says how far; by the kernel's number.
#[unsafe(no_mangle)]
extern "C" fn counter_next(step: usize) -> u64 {
    let count = STEPS[step % 2](COUNT.load(Ordering::Relaxed)) + KERNEL_NUMBER % 2;
    COUNT.store(count, Ordering::Relaxed);
    ROOM[count as usize % 1000].fetch_add(1, Ordering::Relaxed);
    count
}
export!(counter_next);

/// Passes twenty arguments on to the other module, each one greater.
#[rustfmt::skip]
#[unsafe(no_mangle)]
extern "C" fn counter_sum(
    a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64, i: u64, j: u64,
    k: f64, l: f64, m: f64, n: f64, o: f64, p: f64, q: f64, r: f64, s: f64, t: f64,
) -> f64 {
    greeter_sum(
        a + 1, b + 1, c + 1, d + 1, e + 1, f + 1, g + 1, h + 1, i + 1, j + 1,
        k + 1.0, l + 1.0, m + 1.0, n + 1.0, o + 1.0, p + 1.0, q + 1.0, r + 1.0, s + 1.0, t + 1.0,
    )
}
export!(counter_sum);

/// What the kernel calls by a table: which goes next, and, if anybody wants to know, that one was sent.
#[derive(Debug)]
#[repr(C)]
pub struct Policy<Sent> {
    /// Which goes next.
    pub pick: Option<extern "C" fn(u64, u64) -> u64>,
    /// One was sent.
    pub sent: Option<extern "C" fn(Sent)>,
}

extern "C" fn pick(waiting: u64, last: u64) -> u64 {
    COUNT.load(Ordering::Relaxed) * waiting + last
}

extern "C" fn sent(number: u32) {
    COUNT.fetch_add(number.into(), Ordering::Relaxed);
}

extern "C" fn sent_of_another_type(number: u64) {
    COUNT.fetch_add(number, Ordering::Relaxed);
}

static POLICY: Policy<u32> = Policy { pick: Some(pick), sent: Some(sent) };
static WRONG: Policy<u64> = Policy { pick: Some(pick), sent: Some(sent_of_another_type) };

/// Shows the table, or one with a member of another type than the kernel's.
#[unsafe(no_mangle)]
extern "C" fn counter_policy(is_right: bool) -> *const () {
    if is_right { (&raw const POLICY).cast() } else { (&raw const WRONG).cast() }
}
export!(counter_policy);
