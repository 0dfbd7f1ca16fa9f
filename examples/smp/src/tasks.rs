//! Tasks: four on each CPU, which take turns; and the exception vectors, which switch from one to the next.
//!
//! TPIDR_EL1 holds the address of the running [`Task`]. An interrupt saves all registers on the task's stack; the handler
//! returns the task to go on with, and the vector's last part takes that one's registers from its own stack:
//!
//! ```text
//!   vector:   save on task A's stack     handler: -> task B     TPIDR_EL1 = B, SP = B's frame     restore, ERET to B
//! ```
//!
//! So the base register changes in assembly, which has no callsite, and every function of Rust returns in the task that
//! called it: any of them may be traced, the handler too. A kernel that switches in a function leaves that one out.

use crate::cpus::{self, CPUS};
use crate::work;
use aarch64_rt::Stack;
use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

// integration
use crate::tracing;
use fentry::TraceContext;
// end of integration

/// How many tasks a CPU has. The first is what the CPU began with; the others [`work`].
pub(crate) const TASKS_PER_CPU: usize = 4;

/// A thread of execution. It stays on its CPU.
#[repr(C)]
pub(crate) struct Task {
    /// Where its registers are, while it does not run.
    frame: AtomicPtr<Frame>,
    pub(crate) cpu: usize,
    /// Its number on that CPU.
    pub(crate) index: usize,
    /// How often it was preempted, and how often it could not be where its time was over.
    pub(crate) preempted: AtomicU64,
    pub(crate) postponed: AtomicU64,
    /// How often its work was begun, and done; and how often it was preempted in the middle of it.
    pub(crate) begun: AtomicU64,
    pub(crate) done: AtomicU64,
    pub(crate) split: AtomicU64,
    // integration
    pub(crate) trace: TraceContext,
    // end of integration
}

pub(crate) static TASKS: [[Task; TASKS_PER_CPU]; CPUS] = {
    let mut tasks = [const { [const { Task::new() }; TASKS_PER_CPU] }; CPUS];
    let mut number = 0;
    while number < CPUS * TASKS_PER_CPU {
        let task = &mut tasks[number / TASKS_PER_CPU][number % TASKS_PER_CPU];
        (task.cpu, task.index) = (number / TASKS_PER_CPU, number % TASKS_PER_CPU);
        number += 1;
    }
    tasks
};

/// The tasks' stacks; only the boot CPU's first one has another, aarch64-rt's boot stack.
#[unsafe(link_section = ".stack.tasks")]
static mut STACKS: [[Stack<4>; TASKS_PER_CPU]; CPUS] = [const { [const { Stack::new() }; TASKS_PER_CPU] }; CPUS];

/// All registers of an interrupted task. On its stack, so that SP is known.
#[repr(C, align(16))]
struct Frame {
    x: [u64; 31],
    elr: u64,
    spsr: u64,
    fpsr: u64,
    fpcr: u64,
    q: [u128; if cfg!(target_feature = "neon") { 32 } else { 0 }],
}

impl Task {
    const fn new() -> Self {
        Self {
            frame: AtomicPtr::new(core::ptr::null_mut()),
            cpu: 0,
            index: 0,
            preempted: AtomicU64::new(0),
            postponed: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
            split: AtomicU64::new(0),
            // integration
            trace: TraceContext::new(),
            // end of integration
        }
    }

    /// The running task.
    pub(crate) fn current() -> &'static Self {
        let task: *const Self;
        // SAFETY: reading the register changes nothing. Not `nomem`: a task may have been switched to meanwhile.
        unsafe { asm!("mrs {}, tpidr_el1", out(reg) task, options(nostack, preserves_flags)) };
        // SAFETY: `init_cpu` and the vectors put the address of one of `TASKS` there.
        unsafe { &*task }
    }

    /// Its number among all tasks, from 1.
    pub(crate) fn number(&self) -> usize {
        self.cpu * TASKS_PER_CPU + self.index + 1
    }

    /// Its stack, from the lowest address to behind the highest.
    pub(crate) fn stack_bounds(&self) -> Range<u64> {
        // The boot CPU began on aarch64-rt's boot stack; kernel.ld says where that ends.
        unsafe extern "C" {
            static boot_stack: u8;
            static boot_stack_end: u8;
        }
        let own = stack(self.cpu, self.index);
        let (start, end) = match self.number() {
            1 => ((&raw const boot_stack).addr(), (&raw const boot_stack_end).addr()),
            _ => (own.addr(), own.wrapping_add(1).addr()),
        };
        start as u64..end as u64
    }

    /// Whose turn comes after this one's.
    fn next(&self) -> &'static Self {
        &TASKS[self.cpu][(self.index + 1) % TASKS_PER_CPU]
    }
}

/// The tasks that [`work`].
pub(crate) fn workers() -> impl Iterator<Item = &'static Task> {
    TASKS.iter().flat_map(|tasks| &tasks[1..])
}

/// A task's stack.
pub(crate) fn stack(cpu: usize, index: usize) -> *mut Stack<4> {
    (&raw mut STACKS).cast::<Stack<4>>().wrapping_add(cpu * TASKS_PER_CPU + index)
}

/// Gives each task that works its first registers, and the boot CPU its first task.
pub(crate) fn init() {
    const EL1_WITH_ITS_OWN_SP: u64 = 0b0101;
    for task in workers() {
        let top = stack(task.cpu, task.index).wrapping_add(1);
        let frame = top.cast::<Frame>().wrapping_sub(1);
        let elr = (work::run as extern "C" fn() -> ! as *const ()).addr() as u64;
        let first = Frame { x: [0; 31], elr, spsr: EL1_WITH_ITS_OWN_SP, fpsr: 0, fpcr: 0, q: Default::default() };
        // SAFETY: inside the stack, which nothing uses yet, and aligned as its end is.
        unsafe { frame.write(first) };
        task.frame.store(frame, Ordering::Relaxed);
    }
    set_current(&TASKS[0][0]);
}

/// Gives this CPU its vectors and its first task.
pub(crate) fn init_cpu(cpu: usize) {
    unsafe extern "C" {
        static smp_vectors: u8;
    }
    // SAFETY: the table below is complete and aligned, and stays mapped.
    unsafe { asm!("msr vbar_el1, {}", "isb", in(reg) &raw const smp_vectors, options(nostack, preserves_flags)) };
    set_current(&TASKS[cpu][0]);
}

fn set_current(task: &'static Task) {
    // SAFETY: this CPU begins with that task.
    unsafe { asm!("msr tpidr_el1, {}", in(reg) task, options(nostack, preserves_flags)) };
}

/// Lets interrupts come.
pub(crate) fn enable_interrupts() {
    // SAFETY: vectors, GIC and tasks are ready.
    unsafe { asm!("msr daifclr, #3", options(nostack, preserves_flags)) };
}

/// An interrupt: returns the task to go on with.
extern "C" fn interrupted(frame: &mut Frame) -> *const Task {
    let task = Task::current();
    task.frame.store(frame, Ordering::Relaxed);
    // integration
    let outer = tracing::begin_interrupt(task, frame.elr);
    // end of integration
    let is_time_over = cpus::serve(task);
    // integration
    tracing::end_interrupt(task, outer);
    // end of integration
    if !is_time_over {
        return task;
    }
    // integration
    if !tracing::may_preempt(task, frame.elr) {
        task.postponed.fetch_add(1, Ordering::Relaxed);
        cpus::postpone();
        return task;
    }
    // end of integration
    task.preempted.fetch_add(1, Ordering::Relaxed);
    task.next()
}

/// Any other exception.
extern "C" fn fault(esr: u64, elr: u64, far: u64) -> ! {
    panic!("An exception: ESR {esr:#x}, ELR {elr:#x}, FAR {far:#x}")
}

global_asm!(
    r#"
    .pushsection .text.smp_vectors, "ax"
    .balign 0x800
    .global smp_vectors
smp_vectors:
    .rept 5                             // with SP_EL0: all four; with SP_EL1: synchronous
    .balign 0x80
    b       smp_fault
    .endr
    .balign 0x80
    b       smp_interrupt               // with SP_EL1: IRQ
    .rept 10
    .balign 0x80
    b       smp_fault
    .endr
    .balign 0x80

smp_fault:
    mrs     x0, esr_el1
    mrs     x1, elr_el1
    mrs     x2, far_el1
    b       {fault}

smp_interrupt:
    sub     sp, sp, #{SIZE}
    stp     x0, x1, [sp, #16 * 0]
    stp     x2, x3, [sp, #16 * 1]
    stp     x4, x5, [sp, #16 * 2]
    stp     x6, x7, [sp, #16 * 3]
    stp     x8, x9, [sp, #16 * 4]
    stp     x10, x11, [sp, #16 * 5]
    stp     x12, x13, [sp, #16 * 6]
    stp     x14, x15, [sp, #16 * 7]
    stp     x16, x17, [sp, #16 * 8]
    stp     x18, x19, [sp, #16 * 9]
    stp     x20, x21, [sp, #16 * 10]
    stp     x22, x23, [sp, #16 * 11]
    stp     x24, x25, [sp, #16 * 12]
    stp     x26, x27, [sp, #16 * 13]
    stp     x28, x29, [sp, #16 * 14]
    mrs     x0, elr_el1
    stp     x30, x0, [sp, #16 * 15]
    mrs     x0, spsr_el1
    str     x0, [sp, #{SPSR}]
    .if {FP}
    mrs     x0, fpsr
    mrs     x1, fpcr
    str     x0, [sp, #{FPSR}]
    str     x1, [sp, #{FPCR}]
    add     x0, sp, #{Q}
    stp     q0, q1, [x0, #32 * 0]
    stp     q2, q3, [x0, #32 * 1]
    stp     q4, q5, [x0, #32 * 2]
    stp     q6, q7, [x0, #32 * 3]
    stp     q8, q9, [x0, #32 * 4]
    stp     q10, q11, [x0, #32 * 5]
    stp     q12, q13, [x0, #32 * 6]
    stp     q14, q15, [x0, #32 * 7]
    stp     q16, q17, [x0, #32 * 8]
    stp     q18, q19, [x0, #32 * 9]
    stp     q20, q21, [x0, #32 * 10]
    stp     q22, q23, [x0, #32 * 11]
    stp     q24, q25, [x0, #32 * 12]
    stp     q26, q27, [x0, #32 * 13]
    stp     q28, q29, [x0, #32 * 14]
    stp     q30, q31, [x0, #32 * 15]
    .endif

    mov     x0, sp
    bl      {interrupted}
    msr     tpidr_el1, x0               // x0 = the task to go on with
    ldr     x1, [x0, #{FRAME}]
    mov     sp, x1

    .if {FP}
    add     x0, sp, #{Q}
    ldp     q0, q1, [x0, #32 * 0]
    ldp     q2, q3, [x0, #32 * 1]
    ldp     q4, q5, [x0, #32 * 2]
    ldp     q6, q7, [x0, #32 * 3]
    ldp     q8, q9, [x0, #32 * 4]
    ldp     q10, q11, [x0, #32 * 5]
    ldp     q12, q13, [x0, #32 * 6]
    ldp     q14, q15, [x0, #32 * 7]
    ldp     q16, q17, [x0, #32 * 8]
    ldp     q18, q19, [x0, #32 * 9]
    ldp     q20, q21, [x0, #32 * 10]
    ldp     q22, q23, [x0, #32 * 11]
    ldp     q24, q25, [x0, #32 * 12]
    ldp     q26, q27, [x0, #32 * 13]
    ldp     q28, q29, [x0, #32 * 14]
    ldp     q30, q31, [x0, #32 * 15]
    ldr     x0, [sp, #{FPSR}]
    ldr     x1, [sp, #{FPCR}]
    msr     fpsr, x0
    msr     fpcr, x1
    .endif
    ldr     x0, [sp, #{SPSR}]
    msr     spsr_el1, x0
    ldp     x30, x0, [sp, #16 * 15]
    msr     elr_el1, x0
    ldp     x28, x29, [sp, #16 * 14]
    ldp     x26, x27, [sp, #16 * 13]
    ldp     x24, x25, [sp, #16 * 12]
    ldp     x22, x23, [sp, #16 * 11]
    ldp     x20, x21, [sp, #16 * 10]
    ldp     x18, x19, [sp, #16 * 9]
    ldp     x16, x17, [sp, #16 * 8]
    ldp     x14, x15, [sp, #16 * 7]
    ldp     x12, x13, [sp, #16 * 6]
    ldp     x10, x11, [sp, #16 * 5]
    ldp     x8, x9, [sp, #16 * 4]
    ldp     x6, x7, [sp, #16 * 3]
    ldp     x4, x5, [sp, #16 * 2]
    ldp     x2, x3, [sp, #16 * 1]
    ldp     x0, x1, [sp, #16 * 0]
    add     sp, sp, #{SIZE}
    eret
    .popsection
    "#,
    SIZE = const size_of::<Frame>(),
    SPSR = const offset_of!(Frame, spsr),
    FPSR = const offset_of!(Frame, fpsr),
    FPCR = const offset_of!(Frame, fpcr),
    Q = const offset_of!(Frame, q),
    FP = const cfg!(target_feature = "neon") as usize,
    FRAME = const offset_of!(Task, frame),
    interrupted = sym interrupted,
    fault = sym fault,
);
