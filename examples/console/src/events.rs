//! Events that lines define, and functions that lines make fail.

use crate::tracing::{Kernel, task_name};
use fentry::control::{Events, HistMemory, Histogram, Tracing};
use fentry::inject::{Injectable, Injection};
use fentry::tracer::kernel::StoreIn;
use support::engine::KPROBES;
use support::peek;

const EVENTS: usize = 8;

static EVENTS_OF_KERNEL: Events<Kernel, EVENTS> = {
    let events = Events::new(&KPROBES).with_memory(peek::read).with_histograms(&HISTOGRAMS).with_task_names(task_name);
    // SAFETY:
    // 1. Compilers put no data among the instructions of this kernel's functions, and those in assembly have none.
    // 2. All of them run on a thread's stack or an exception's, but for the vectors, which are the platform's range.
    unsafe { events.anywhere() }
};

static HISTOGRAM_MEMORY: [HistMemory<512>; 4] = [const { HistMemory::new() }; 4];
static HISTOGRAMS: [Histogram; 4] = {
    let [a, b, c, d] = &HISTOGRAM_MEMORY;
    [Histogram::new(a), Histogram::new(b), Histogram::new(c), Histogram::new(d)]
};

impl StoreIn<Events<Self, EVENTS>> for Kernel {
    fn store() -> &'static Events<Self, EVENTS> {
        &EVENTS_OF_KERNEL
    }
}

static FAILING: Injection = Injection::new().with_report(Tracing::<Kernel>::report_failure);

/// Adds both to the control interface.
pub(crate) fn add<const CPUS: usize>(control: fentry::control::Control<CPUS>) -> fentry::control::Control<CPUS> {
    // SAFETY: the linker script has the section, and nothing else in it.
    let functions = unsafe { Injectable::linked() };
    control.with_events(EVENTS_OF_KERNEL.parts()).with_injection(&FAILING, functions)
}
