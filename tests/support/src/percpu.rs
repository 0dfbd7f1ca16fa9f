//! What belongs to one CPU: a block whose address is in its TPIDR_EL1, and stacks.

use crate::exceptions::Catch;
use crate::smp::Job;
use core::arch::asm;
use core::mem::offset_of;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use fentry::{CpuArea, TraceContext};

/// The most CPUs that this kernel runs on.
pub const MAX_CPUS: usize = 8;

const PAGE: usize = 4096;
/// With less than this left on its stack, a fault is handled on the emergency stack.
const RESERVE: u64 = 16 * 1024;

/// One CPU's own data. Only the fields that say so are written by other CPUs.
#[derive(Debug)]
#[repr(C)]
pub struct PerCpu {
    /// A synchronous exception with SP below this switches to the emergency stack.
    pub(crate) stack_reserve: AtomicU64,
    pub(crate) stack_top: AtomicU64,
    pub(crate) emergency_top: AtomicU64,
    /// Of the stack for handlers that want one of their own.
    pub(crate) handler_top: AtomicU64,
    /// fentry's words for what runs on this CPU: there are no tasks to switch between. Not first, so that a stub which forgets
    /// the offset reaches another field.
    pub trace: TraceContext,
    /// Where x18 starts: the shadow call stack grows upwards. Nothing uses it where the compiler has none.
    pub(crate) shadow_start: AtomicU64,
    /// Where a fault goes that somebody expects.
    pub(crate) catch: AtomicPtr<Catch>,
    /// Whether a fault is being reported here; a second one then ends the machine at once.
    pub(crate) reporting: AtomicBool,
    /// MPIDR_EL1's affinity fields.
    pub(crate) mpidr: AtomicU64,
    /// Work for this CPU, put here by others.
    pub(crate) job: AtomicPtr<Job>,
    /// A function to be called by the next call interrupt, put here by others.
    pub(crate) interrupt_call: AtomicPtr<()>,
    pub(crate) tick_period: AtomicU64,
    pub(crate) ticks: AtomicU64,
    /// fentry's counters and its ring. Last, since it is large.
    pub area: CpuArea,
}

const _: () = assert!(offset_of!(PerCpu, trace) != 0);

impl PerCpu {
    const fn new() -> Self {
        Self {
            stack_reserve: AtomicU64::new(0),
            stack_top: AtomicU64::new(0),
            emergency_top: AtomicU64::new(0),
            handler_top: AtomicU64::new(0),
            trace: TraceContext::new(),
            shadow_start: AtomicU64::new(0),
            catch: AtomicPtr::new(core::ptr::null_mut()),
            reporting: AtomicBool::new(false),
            mpidr: AtomicU64::new(0),
            job: AtomicPtr::new(core::ptr::null_mut()),
            interrupt_call: AtomicPtr::new(core::ptr::null_mut()),
            tick_period: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            area: CpuArea::new(),
        }
    }

    /// Tells the trace context where its thread's stack is: once more when it was given a shadow stack.
    pub fn tell_stack_bounds(&self) {
        let [reserve, top] = [&self.stack_reserve, &self.stack_top].map(|bound| bound.load(Ordering::Relaxed));
        // SAFETY: 1. The CPU's own stack, and no other. 2. Its code is compiled.
        unsafe { self.trace.set_stack_bounds(reserve - RESERVE..top) };
    }

    /// The number of this CPU, from 0.
    pub fn index(&self) -> usize {
        BLOCKS.element_offset(self).unwrap_or(0)
    }

    /// How many timer interrupts this CPU has taken.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }
}

static BLOCKS: [PerCpu; MAX_CPUS] = [const { PerCpu::new() }; MAX_CPUS];

/// The stacks of one CPU; the guards are left unmapped.
#[repr(C, align(4096))]
pub(crate) struct Stacks {
    guard: [u8; PAGE],
    thread: [u8; 64 * PAGE],
    emergency_guard: [u8; PAGE],
    emergency: [u8; 8 * PAGE],
    handler_guard: [u8; PAGE],
    handler: [u8; 8 * PAGE],
    shadow_guard: [u8; PAGE],
    shadow: [u8; 2 * PAGE],
}

/// Of the first of these the boot CPU, whose thread runs on the boot stack, uses all but the thread's.
#[unsafe(link_section = ".stack.percpu")]
pub(crate) static mut STACKS: [Stacks; MAX_CPUS] = [const {
    Stacks {
        guard: [0; PAGE],
        thread: [0; 64 * PAGE],
        emergency_guard: [0; PAGE],
        emergency: [0; 8 * PAGE],
        handler_guard: [0; PAGE],
        handler: [0; 8 * PAGE],
        shadow_guard: [0; PAGE],
        shadow: [0; 2 * PAGE],
    }
}; MAX_CPUS];

/// Where in [`Stacks`] the shadow call stack begins.
pub(crate) const SHADOW_OFFSET: usize = offset_of!(Stacks, shadow);

unsafe extern "C" {
    static __boot_stack_guard: u8;
    static __boot_stack_start: u8;
    static boot_stack_end: u8;
}

/// The block of one CPU.
///
/// # Panics
///
/// There is no such CPU.
pub fn of(cpu: usize) -> &'static PerCpu {
    &BLOCKS[cpu]
}

/// The block of the running CPU.
///
/// # Panics
///
/// This CPU has none yet: it is still starting.
pub fn this() -> &'static PerCpu {
    try_this().expect("this CPU has no per-CPU block yet")
}

/// The block of the running CPU, if it has one already.
#[inline]
pub fn try_this() -> Option<&'static PerCpu> {
    let base: *const PerCpu;
    // SAFETY: reading this register changes nothing.
    unsafe { asm!("mrs {}, tpidr_el1", out(reg) base, options(nomem, nostack, preserves_flags)) };
    // SAFETY: the register holds zero from the CPU's first instructions on, and later what `install` put there.
    unsafe { base.as_ref() }
}

/// Fills in the blocks' stack pointers. The boot CPU is CPU 0 until it is known better.
pub(crate) fn init() {
    let stacks = (&raw const STACKS).cast::<Stacks>();
    for (cpu, block) in BLOCKS.iter().enumerate() {
        let own = stacks.wrapping_add(cpu).addr();
        let thread = own + offset_of!(Stacks, thread);
        let emergency = own + offset_of!(Stacks, emergency);
        let handler = own + offset_of!(Stacks, handler);
        block.stack_reserve.store(thread as u64 + RESERVE, Ordering::Relaxed);
        block.stack_top.store((thread + 64 * PAGE) as u64, Ordering::Relaxed);
        block.emergency_top.store((emergency + 8 * PAGE) as u64, Ordering::Relaxed);
        block.handler_top.store((handler + 8 * PAGE) as u64, Ordering::Relaxed);
        block.shadow_start.store((own + SHADOW_OFFSET) as u64, Ordering::Relaxed);
    }
    let boot = &BLOCKS[0];
    boot.stack_reserve.store((&raw const __boot_stack_start).addr() as u64 + RESERVE, Ordering::Relaxed);
    boot.stack_top.store((&raw const boot_stack_end).addr() as u64, Ordering::Relaxed);
    BLOCKS.iter().for_each(PerCpu::tell_stack_bounds);
    install(boot);
}

/// Makes `block` that of the running CPU.
pub(crate) fn install(block: &'static PerCpu) {
    // SAFETY: nothing reads the register but `try_this` and the vectors, which want exactly this.
    unsafe { asm!("msr tpidr_el1, {}", in(reg) &raw const *block, options(nostack, preserves_flags)) };
}

/// The stack of a CPU's thread.
///
/// # Panics
///
/// There is no such CPU.
pub fn thread_stack(cpu: usize) -> Range<u64> {
    let [reserve, top] = [&of(cpu).stack_reserve, &of(cpu).stack_top].map(|bound| bound.load(Ordering::Relaxed));
    reserve - RESERVE..top
}

/// The stack that `address` is on.
pub fn stack_around(address: u64) -> Option<Range<u64>> {
    let stacks = (&raw const STACKS).cast::<Stacks>();
    let boot = (&raw const __boot_stack_start).addr()..(&raw const boot_stack_end).addr();
    let own = (0..MAX_CPUS).flat_map(move |cpu| {
        let base = stacks.wrapping_add(cpu).addr();
        let thread = base + offset_of!(Stacks, thread)..base + offset_of!(Stacks, emergency_guard);
        let emergency = base + offset_of!(Stacks, emergency)..base + offset_of!(Stacks, handler_guard);
        let handler = base + offset_of!(Stacks, handler)..base + offset_of!(Stacks, shadow_guard);
        [thread, emergency, handler]
    });
    let mut all = core::iter::once(boot).chain(own).map(|stack| stack.start as u64..stack.end as u64);
    all.find(|stack| stack.contains(&address))
}

/// The pages that stay unmapped, so that a stack that overflows faults.
pub(crate) fn guard_pages() -> impl Iterator<Item = usize> {
    let stacks = (&raw const STACKS).cast::<Stacks>();
    let own = (0..MAX_CPUS).flat_map(move |cpu| {
        let base = stacks.wrapping_add(cpu).addr();
        let guards = [offset_of!(Stacks, emergency_guard), offset_of!(Stacks, handler_guard)];
        [base, base + guards[0], base + guards[1], base + offset_of!(Stacks, shadow_guard)]
    });
    core::iter::once((&raw const __boot_stack_guard).addr()).chain(own)
}
