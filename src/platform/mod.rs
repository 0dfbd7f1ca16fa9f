//! What the kernel around the engine supplies.
//!
//! The engine knows instructions, callsites and ops; it does not know how this kernel maps memory, how it
//! reaches its other CPUs, or where it keeps what belongs to one thread of execution. That is the whole of [`Platform`].

pub mod rounds;

use crate::address::{TextAddr, TextRange};
use crate::context::TraceContext;
use crate::record::CpuArea;
use core::fmt;
use core::ptr::NonNull;
use thiserror::Error;

/// The size in bytes of a piece of text that [`Platform::map_alias`] is asked for; it is aligned to its size.
///
/// The smallest translation granule of the architecture (Arm ARM D8.1.8), so it fits in one page of every kernel.
pub const ALIAS_BYTES: u64 = 4096;

/// The most ranges that [`Platform::quiesce`] is given: the linked stubs' two, the room for generated ones, the veneers
/// of each piece of text that has callsites (the kernel's, and up to 127 of modules), and up to 8 attached handlers that call
/// nothing.
pub const MAX_STUB_RANGES: usize = MAX_HANDLER_RANGES + if cfg!(feature = "module") { 131 } else { 4 };
/// The most of them that are of handlers ([`trampoline::attach`](crate::trampoline::attach)).
pub(crate) const MAX_HANDLER_RANGES: usize = 8;

/// The services that the engine needs from a kernel.
///
/// Where there are several CPUs, [`rounds`] has [`synchronize_cpus`](Self::synchronize_cpus), [`quiesce`](Self::quiesce),
/// [`hold_cpus`](Self::hold_cpus) and [`relax`](Self::relax) ready made.
///
/// # What runs at the same time
/// An engine calls everything from [`begin_batch`](Self::begin_batch) to [`end_batch`](Self::end_batch), and
/// [`quiesce`](Self::quiesce), under its one lock: of these at most one call is under way, and
/// [`synchronize_cpus`](Self::synchronize_cpus) never meets [`quiesce`](Self::quiesce). A loader of modules calls
/// [`synchronize_cpus`](Self::synchronize_cpus) once a module, without that lock. So where modules are loaded while another
/// CPU uses the engine or loads one too, that method runs beside itself and beside [`quiesce`](Self::quiesce), and each
/// call must wait for answers of its own. All other methods may be called on several CPUs at once.
///
/// # Safety
///
/// The engine writes to live text through what this trait returns. An implementation promises:
///
/// 1. An alias from [`map_alias`](Self::map_alias) is aligned to 4 bytes, is writable, is coherent with the text that it
///    stands for (the same physical memory, Normal Inner Shareable Write-Back), covers [`ALIAS_BYTES`] bytes, and stays so
///    until the matching [`unmap_alias`](Self::unmap_alias).
/// 2. [`synchronize_cpus`](Self::synchronize_cpus) returns `Ok` only after every other CPU that can execute the kernel's
///    text has gone through a context synchronisation event (Arm ARM, "Context synchronization event") since the call.
/// 3. A task that is moved to another CPU in the middle of kernel code has a DSB ISH executed on the CPU that it leaves, so
///    that maintenance which it began there is complete, and a context synchronisation event on the CPU that it comes to.
/// 4. [`context_base`](Self::context_base) tells the truth: in every context in which a traced function may run, that
///    register holds either zero or a valid base, and the [`TraceContext`] at the offset belongs to the
///    thread of execution that reads it.
/// 5. [`cpu_base`](Self::cpu_base), where it is `Some`, tells the truth as well: in every context in which a traced function
///    may run, that register holds either zero or a valid base, and a [`CpuArea`] stands at the offset for ever. It should be
///    the running CPU's, but a thread may still use it after it was moved to another one.
/// 6. [`quiesce`](Self::quiesce) returns `Ok` only after what its description says.
/// 7. CTR_EL0 and ID_AA64ISAR0_EL1.Atomic say the same on all CPUs that execute the text, or trap and are emulated so.
/// 8. [`may_be_emulated`](Self::may_be_emulated) and [`has_clean_errata`](Self::has_clean_errata) return `false` only where
///    their descriptions let them.
/// 9. [`for_each_context`](Self::for_each_context) shows contexts only that live, with their shadow stacks, as long as it
///    runs.
/// 10. None of the methods waits for a lock that a callback can hold. They may be called with interrupts masked; two CPUs
///     that wait for each other there answer each other.
/// 11. [`hold_cpus`](Self::hold_cpus) calls what it is given only as its description says, and
///     [`for_each_brk_range`](Self::for_each_brk_range) returns `true` only where that is so of all it shows.
pub unsafe trait Platform: Sync {
    /// Returns where the entry stubs find the [`TraceContext`] of the running thread. Called once, at init.
    fn context_base(&self) -> ContextBase;

    /// Returns where the stubs of [counters](crate::Ops::counter) and [recorders](crate::Ops::recorder) find the [`CpuArea`]
    /// of the running CPU. Called once, at init.
    ///
    /// A kernel whose context base belongs to the CPU gives the same register with another offset; one whose contexts are
    /// the tasks' has a register for its CPUs as well (Linux: SP_EL0 for the task, TPIDR_EL1 for the CPU). While the
    /// register holds zero, nothing on that CPU is counted or recorded. The offset is a multiple of 8, 3584 at most.
    ///
    /// By default `None`: all CPUs share one counter then, and there are no recorders.
    fn cpu_base(&self) -> Option<ContextBase> {
        None
    }

    /// Calls `show` with every [`CpuArea`] that [`cpu_base`](Self::cpu_base) can ever have led to, those of CPUs that are off
    /// included: what is left out is missing in the sums.
    fn for_each_cpu_area(&self, show: &mut dyn FnMut(&CpuArea)) {
        let _ = show;
    }

    /// Prepares for a batch of changes to text: what the kernel does once for any number of writes.
    ///
    /// # Errors
    ///
    /// Any error ends the batch before it began; [`end_batch`](Self::end_batch) is not called then.
    fn begin_batch(&self) -> Result<(), AliasError> {
        Ok(())
    }

    /// Ends a batch, whether it was carried out or undone.
    fn end_batch(&self) {}

    /// Returns a writable alias of the [`ALIAS_BYTES`] of text that start at `page`.
    ///
    /// Called only between [`begin_batch`](Self::begin_batch) and [`end_batch`](Self::end_batch), with interrupts masked,
    /// and one at a time. A kernel that maps all text writable somewhere returns the address there; one that keeps no such
    /// mapping maps a window here.
    ///
    /// # Errors
    ///
    /// The page is not text of this kernel, or could not be mapped. The batch is then undone.
    fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError>;

    /// Unmaps the alias of `page`, and invalidates its TLB entries. Nothing to do for a permanent mapping.
    fn unmap_alias(&self, page: TextAddr, alias: NonNull<u8>) {
        let (_, _) = (page, alias);
    }

    /// Makes every other CPU execute a context synchronisation event, and waits until each has.
    ///
    /// With one CPU: `Ok(())`. With several, an interrupt whose handler executes ISB (or whose exception entry and return
    /// are such events, as they are without FEAT_ExS) and an acknowledgement that is waited for.
    ///
    /// # Errors
    ///
    /// A CPU did not answer within the time that this kernel allows.
    fn synchronize_cpus(&self) -> Result<(), CpuTimeout>;

    /// Waits until every thread of execution has been quiescent at some moment since the call.
    ///
    /// `stubs` are the ranges of text in which a thread may be on its way to a callback, [`MAX_STUB_RANGES`] at most.
    /// Quiescent are:
    ///
    /// - a thread that is interrupted or preempted at `pc`, if
    ///   [`TraceContext::is_quiescent`](crate::TraceContext::is_quiescent) says so of its context and that `pc`. Where
    ///   exceptions are nested, an NMI in the handler of an interrupt for instance, there is one `pc` for each of them that
    ///   has not returned, on any stack of that thread, and it must say so of every one. A task that was preempted at the end
    ///   of a handler has the `pc` that the handler will return to, not that of the switch;
    /// - a thread that gave up its CPU by itself, or waits in [`relax`](Self::relax), unless it is inside a callback
    ///   ([`TraceContext::in_callback`](crate::TraceContext::in_callback)), or an exception that it is still in has
    ///   interrupted it where it was not quiescent;
    /// - a thread that does not exist yet, or has ended.
    ///
    /// What is asked of whom depends on the kernel:
    ///
    /// - kernel code is never preempted: each CPU is a thread. Interrupt it (with its interrupts enabled, so that no handler
    ///   is interrupted) and look at what was interrupted; if that isn't quiescent, again a little later.
    /// - kernel code is preempted, and may go on on another CPU: each task is a thread, with a context of its own. Look at
    ///   every task that does not run, where it stopped, and interrupt those that run.
    ///
    /// The CPU that calls this is quiescent: with one CPU and without preemption, `Ok(())`.
    ///
    /// # Errors
    ///
    /// A CPU, or a task that last ran on it, was not seen quiescent within the time that this kernel allows.
    fn quiesce(&self, stubs: &[TextRange]) -> Result<(), CpuTimeout>;

    /// Calls `act` once, while every other CPU that can execute the kernel's text executes none but a loop in which it waits, and
    /// takes no interrupt; each goes through a context synchronisation event before it goes on. For a word that may not be
    /// changed while it is executed: that of a [probe](crate::kprobe).
    ///
    /// With one CPU: `act()` with its interrupts masked. Called with interrupts masked, under the engine's lock, between
    /// [`begin_batch`](Self::begin_batch) and [`end_batch`](Self::end_batch), while an alias is mapped.
    ///
    /// By default [`HoldError::Unsupported`].
    ///
    /// # Errors
    ///
    /// [`HoldError`]; `act` was not called, and nobody waits any more.
    fn hold_cpus(&self, act: &mut dyn FnMut()) -> Result<(), HoldError> {
        let _ = act;
        Err(HoldError::Unsupported)
    }

    /// Calls `show` with every range of text that a CPU executes, with a BRK of a [probe](crate::kprobe), between the exception
    /// and [`Kprobes::handle_brk`](crate::kprobe::Kprobes::handle_brk), and between the end of that and the ERET; and of text that
    /// a CPU executes before its exceptions come there, or while its base register
    /// ([`context_base`](Self::context_base)) is not right. Returns whether BRK exceptions are brought there at all. No probe is
    /// put into those ranges: it would lead into itself, or nowhere.
    ///
    /// All of that way has interrupts masked, as the exception leaves them. By default `false`: there are probes at functions'
    /// entries only.
    fn for_each_brk_range(&self, show: &mut dyn FnMut(TextRange)) -> bool {
        let _ = show;
        false
    }

    /// Returns whether this kernel may be running on an emulator that translates text into code of its host, as QEMU does
    /// without KVM or another hypervisor (its TCG).
    ///
    /// Releases of QEMU up to 7.2 that give each CPU a thread can keep the translation of an old word: where one CPU is
    /// translating while another one stores the new word, no maintenance and no synchronisation takes that translation out
    /// any more, only another store to the word. So the engine stores each word that it has written a second time,
    /// unchanged, once every CPU has synchronised. On a CPU that is not emulated this changes nothing, and costs a store for
    /// each word, and an alias for each page.
    ///
    /// `false` is right on hardware only, virtual machines of a hypervisor included: there a kernel that never runs anywhere
    /// else saves the second store. Where this wrongly says `false`, a callback may be called after `unregister` returned,
    /// a call after `register` be missed, and a generated stub be executed that is there no more.
    fn may_be_emulated(&self) -> bool {
        true
    }

    /// Returns whether any CPU that this kernel runs on is a Cortex-A53 before r0p3, on which cleaning a data cache line
    /// without invalidating it may lose data (Arm's errata 819472, 824069, 826319 and 827319).
    ///
    /// The engine asks the running CPU's MIDR_EL1 itself. So this is for machines with CPUs of several kinds, and for
    /// hypervisors that show another MIDR_EL1; for all others, `false` is right.
    fn has_clean_errata(&self) -> bool {
        false
    }

    /// Returns how far above its linked addresses this kernel runs, modulo 2^64: it is loaded at a random address (KASLR), or
    /// has relocated itself to where it was put. By default 0; a kernel that gives the engine its symbol table need not
    /// implement this, since the table shows it.
    ///
    /// A trace names functions by their linked addresses ([`DumpWriter::names`](crate::tracer::dump::DumpWriter::names)).
    fn slide(&self) -> u64 {
        0
    }

    /// Waits a little: called in a loop by a CPU that waits until another one is done with the engine.
    ///
    /// Where a CPU may get here with interrupts masked, it answers requests to synchronise here: the other CPU may be
    /// waiting in [`synchronize_cpus`](Self::synchronize_cpus) for just this one.
    fn relax(&self) {
        core::hint::spin_loop();
    }

    /// Calls `show` with every [`TraceContext`], so that [`lost_return`](Self::lost_return) is told which one has a lost call.
    /// By default with none.
    fn for_each_context(&self, show: &mut dyn FnMut(&TraceContext)) {
        let _ = show;
    }

    /// Ends the kernel: a function whose return is hooked has returned, and its call is not among those of the running
    /// thread, so nobody knows where to go on.
    ///
    /// Called where the function returned, with interrupts as they were, and with the recursion guard of the context taken
    /// to which the base register leads, whosever that is. By default it panics.
    fn lost_return(&self, lost: &LostReturn) -> ! {
        panic!("{lost}")
    }
}

/// Where the stubs find the running thread's [`TraceContext`], or the running CPU's [`CpuArea`]: a base register and an
/// offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextBase {
    /// The system register that holds the base. While it holds zero, nothing on that CPU is traced.
    pub register: BaseRegister,
    /// The offset in bytes from that base: a multiple of 8, below 4096.
    pub offset: u16,
}

/// The system registers that kernels keep a per-CPU or per-task pointer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BaseRegister {
    /// TPIDR_EL1: a kernel at EL1 (Arm ARM D24.2.211).
    TpidrEl1,
    /// TPIDR_EL2: a kernel or hypervisor at EL2.
    TpidrEl2,
    /// TPIDR_EL0: a kernel that compiles with the TLS register of user space for itself.
    TpidrEl0,
    /// TPIDRRO_EL0.
    TpidrroEl0,
    /// SP_EL0, as Linux keeps `current` in it.
    SpEl0,
}

/// A return whose call is not on the running thread's shadow stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub struct LostReturn {
    /// The SP of the return, and so of the call.
    pub sp: u64,
    /// The address of the [`TraceContext`] of the running thread, as the base register has it; `None` where that is zero.
    pub context: Option<u64>,
    /// The call, if [`Platform::for_each_context`] shows a context that has it.
    pub call: Option<LostCall>,
}

/// A call that was found in another context than that of the thread that returns from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostCall {
    /// The function, by its callsite.
    pub function: TextAddr,
    /// Where it should have returned to.
    pub return_address: TextAddr,
    /// The address of the context that it was called in.
    pub context: u64,
}

impl fmt::Display for LostReturn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sp = self.sp;
        match self.call {
            Some(LostCall { function, return_address, context }) => write!(
                f,
                "The function at {function}, called with SP {sp:#x} to return to {return_address}, has returned in \
                 another context than the one at {context:#x} in which it was called: "
            )?,
            None => write!(f, "A hooked function has returned with SP {sp:#x}, and no context has its call: ")?,
        }
        match self.context {
            Some(context) => write!(f, "the base register leads to {context:#x}"),
            None => f.write_str("the base register is zero"),
        }
    }
}

/// The platform could not give a writable alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("The platform gave no writable alias of the text at {page}: {reason}")]
pub struct AliasError {
    /// The text that was asked for.
    pub page: TextAddr,
    /// What the platform says of it.
    pub reason: &'static str,
}

/// A CPU did not go through a context synchronisation event in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("The CPU {cpu} did not synchronise its instruction stream in time")]
pub struct CpuTimeout {
    /// The CPU, as the platform counts them.
    pub cpu: usize,
}

/// The other CPUs were not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HoldError {
    /// The platform has no way to do so.
    #[error("The platform can't hold the other CPUs")]
    Unsupported,
    /// A CPU did not stop in time.
    #[error("The CPU {} could not be held in time", .0.cpu)]
    Timeout(#[source] CpuTimeout),
}
