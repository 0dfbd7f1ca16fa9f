//! Events that lines define: the memory for them, how they read the kernel's, and what they are at.

use crate::{CPUS, Kernel};
use core::arch::global_asm;
use core::ffi::{CStr, c_char};
use core::hint::black_box;
use fentry::control::{Events, HistMemory, Histogram, Tracing};
use fentry::inject::{Injectable, Injection};
use fentry::tracer::kernel::StoreIn;
use support::engine::KPROBES;
use support::peek::read;

const EVENTS: usize = 8;

static EVENTS_OF_KERNEL: Events<Kernel, EVENTS> = {
    let events = Events::new(&KPROBES).with_memory(read).with_histograms(&HISTOGRAMS);
    // SAFETY:
    // 1. Compilers put no data among the instructions of this kernel's functions, and those in assembly have none.
    // 2. All of them run on a thread's stack or an exception's, but for the vectors, which are the platform's range.
    unsafe { events.anywhere() }
};

static HISTOGRAM_MEMORY: [HistMemory<128>; 2] = [const { HistMemory::new() }; 2];
static HISTOGRAMS: [Histogram; 2] = [Histogram::new(&HISTOGRAM_MEMORY[0]), Histogram::new(&HISTOGRAM_MEMORY[1])];

impl StoreIn<Events<Self, EVENTS>> for Kernel {
    fn store() -> &'static Events<Self, EVENTS> {
        &EVENTS_OF_KERNEL
    }
}

static FAILING: Injection = Injection::new().with_report(Tracing::<Kernel>::report_failure);

fentry::injectable! {
    // SAFETY: whoever opens takes any result.
    unsafe extern "C" fn files::close(handle: i64) -> i64 { -5 }
}

pub(crate) fn control(control: fentry::control::Control<CPUS>) -> fentry::control::Control<CPUS> {
    // SAFETY: the linker script has the section, and nothing else in it.
    let functions = unsafe { Injectable::linked() };
    control.with_events(EVENTS_OF_KERNEL.parts()).with_injection(&FAILING, functions)
}

// Without a callsite, and always the same: x0 + x1, twice.
global_asm!(
    ".pushsection .text.events_sum, \"ax\", %progbits",
    ".global events_sum",
    ".type events_sum, %function",
    "events_sum:",
    "    add   x0, x0, x1",
    "    mov   x9, x0",
    "    add   x0, x0, x9",
    "    ret",
    ".size events_sum, . - events_sum",
    ".popsection",
);

unsafe extern "C" {
    safe fn events_sum(a: u64, b: u64) -> u64;
}

/// What the scripts call by `! events`.
#[inline(never)]
pub(crate) fn work() -> u64 {
    let names: [&CStr; 3] = [c"sda", c"sdb1", c"nosuch"];
    let mut opened = 0;
    for (name, flags) in names.into_iter().zip([1, 2, 0]) {
        opened += files::open(name.as_ptr(), flags);
    }
    opened as u64 + events_sum(black_box(3), black_box(4))
}

mod files {
    use super::{black_box, c_char};

    #[inline(never)]
    pub(super) extern "C" fn open(name: *const c_char, flags: u32) -> i64 {
        black_box(name);
        match black_box(flags) {
            0 => close(-2),
            flags => close(i64::from(flags) + 2),
        }
    }

    #[inline(never)]
    pub(super) extern "C" fn close(handle: i64) -> i64 {
        black_box(handle)
    }
}
