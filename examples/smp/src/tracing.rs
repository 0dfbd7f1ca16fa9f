//! What fentry asks of this kernel: a platform, a context and a shadow stack for each task, and a few calls where interrupts
//! are handled and CPUs start.

use crate::cpus::{self, CPUS};
use crate::memory::GIB;
use crate::tasks::{TASKS, TASKS_PER_CPU, Task};
use core::mem::offset_of;
use core::ptr::NonNull;
use fentry::callsite::Layout;
use fentry::context::shadow::ShadowStack;
use fentry::context::{ContextLevel, Interrupted};
use fentry::platform::rounds::{CpuRounds, Cpus};
use fentry::platform::{AliasError, BaseRegister, ContextBase, CpuTimeout};
use fentry::{Engine, Image, Platform, TextAddr, TextRange, TraceContext};

pub(crate) static ENGINE: Engine = Engine::new(&Kernel);
/// What the CPUs ask each other: `cpus.rs` has them go online and answer.
pub(crate) static ROUNDS: CpuRounds<CPUS> = CpuRounds::new();
/// Room for 64 hooked calls inside each other, for each task.
static SHADOW_STACKS: [ShadowStack<64>; TASKS_PER_CPU * CPUS] = [const { ShadowStack::new() }; TASKS_PER_CPU * CPUS];

struct Kernel;

// SAFETY:
// 1. The alias of all text is the block 1 GiB above, which maps the same memory writable for ever.
// 2. and 6. Each CPU is in `ROUNDS` under its own number before it takes interrupts, and answers in their handler, which no
//    other one interrupts. A task that does not run was preempted where it is quiescent: `may_preempt` says so.
// 3. Tasks stay on their CPUs.
// 4. TPIDR_EL1 holds the address of the running task for ever, from before anything is traced.
// 7. and 8. The CPUs are alike, and the defaults are right for all.
// 9. Tasks and their shadow stacks are there for ever.
// 10. There is no lock.
unsafe impl Platform for Kernel {
    fn context_base(&self) -> ContextBase {
        ContextBase { register: BaseRegister::TpidrEl1, offset: offset_of!(Task, trace) as u16 }
    }

    fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
        let alias = core::ptr::with_exposed_provenance_mut(page.get() as usize + GIB);
        NonNull::new(alias).ok_or(AliasError { page, reason: "the page has no alias" })
    }

    fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
        ROUNDS.synchronize(self)
    }

    fn quiesce(&self, stubs: &[TextRange]) -> Result<(), CpuTimeout> {
        ROUNDS.quiesce(self, stubs)
    }

    fn relax(&self) {
        ROUNDS.relax(self, &Task::current().trace);
    }

    fn for_each_context(&self, show: &mut dyn FnMut(&TraceContext)) {
        TASKS.iter().flatten().for_each(|task| show(&task.trace));
    }
}

impl Cpus for Kernel {
    fn this_cpu(&self) -> usize {
        Task::current().cpu
    }

    fn interrupt_others(&self) {
        cpus::ask_others();
    }
}

/// Once, on the boot CPU, before the others start.
pub(crate) fn init() {
    for (task, shadow_stack) in TASKS.iter().flatten().zip(&SHADOW_STACKS) {
        // SAFETY: 1. Its own, in a static. 2. to 4. Nothing is traced yet.
        unsafe { task.trace.set_shadow_stack(shadow_stack) };
        // SAFETY: 1. The task's own stack, and no other's. 2. Its code is compiled.
        unsafe { task.trace.set_stack_bounds(task.stack_bounds()) };
    }
    // SAFETY: 1. fentry.ld defines the symbols, and memory.rs maps what is between them for ever. 2. This kernel runs where
    // it was linked. 3. This is called once.
    let image = unsafe { Image::linked() }.with_layout(Layout::Plain); // Without symbols: -Zpatchable-function-entry=2.
    // SAFETY: there is one CPU yet, and interrupts are masked.
    let report = unsafe { ENGINE.init(image) }.expect("the engine");
    crate::say(format_args!("{} functions can be traced", report.counts.accepted));
}

/// At the beginning of an interrupt's handler, with what it interrupted.
pub(crate) fn begin_interrupt(task: &Task, pc: u64) -> Interrupted {
    ROUNDS.look(task.cpu, &task.trace, TextAddr::new(pc));
    // SAFETY: 1. The running task's. 2. and 3. `end_interrupt` is given it, at the end of the same handler.
    unsafe { task.trace.enter(ContextLevel::Irq) }
}

/// At the end of an interrupt's handler.
pub(crate) fn end_interrupt(task: &Task, outer: Interrupted) {
    // SAFETY: it is what `begin_interrupt` returned in the same handler.
    unsafe { task.trace.leave(outer) };
}

/// Whether another task may run now, in place of this one that was interrupted at `pc`: not inside a callback or a stub, or
/// `quiesce` would have to look at tasks that do not run. If not now, then a moment later: callbacks are short.
pub(crate) fn may_preempt(task: &Task, pc: u64) -> bool {
    ENGINE.is_quiescent(&task.trace, TextAddr::new(pc))
}
