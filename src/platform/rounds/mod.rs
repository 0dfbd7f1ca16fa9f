//! Rounds among CPUs: one asks, each of the others answers in an interrupt, and the one waits with a deadline.
//!
//! [`synchronize_cpus`](super::Platform::synchronize_cpus), [`quiesce`](super::Platform::quiesce) and
//! [`hold_cpus`](super::Platform::hold_cpus) are such rounds, and easy to get nearly right. Two CPUs that ask at once with interrupts masked wait for each other; one that comes online between
//! the request and the interrupt is never asked, or never answers; an answer after the deadline is taken for one to the next
//! round. [`CpuRounds`] is all of them ready made, for kernels that tell it four things ([`Cpus`]).
//!
//! ```text
//!   asks      number 7, interrupt ---- waits: answers others ---- all have 7: Ok
//!   CPU 1             handler: look, ISB, "7"
//!   CPU 2     asks too: 8 ----------- answers 7 and 8 while it waits -----------> Ok
//!   CPU 3                    comes online: starts with the last number
//!
//!   holds     number 9, interrupt ---- waits ---- all have 9: writes ---- lets them go
//!   CPU 1             handler: "9", waits ------------------------------> ISB, goes on
//! ```

mod protocol;
#[cfg(test)]
mod tests;

use super::{CpuTimeout, HoldError, MAX_STUB_RANGES};
use crate::address::{TextAddr, TextRange};
use crate::context::{TraceContext, clock};
use core::sync::atomic::AtomicU64;
use protocol::{Kind, Protocol};
use thiserror::Error;

/// What [`CpuRounds`] asks of a kernel.
pub trait Cpus {
    /// Returns the number of the CPU that this runs on, from 0. Called with interrupts masked.
    fn this_cpu(&self) -> usize;

    /// Interrupts all other CPUs that are online, as by an SGI to all but this one; spurious interrupts do no harm. Called
    /// with interrupts masked, and only when another CPU is online. What the interrupt is about is in memory by then (a
    /// DSB ISHST was executed).
    fn interrupt_others(&self);

    /// Returns the time, in a unit of the kernel's. By default CNTVCT_EL0, which stands still on a host.
    fn ticks(&self) -> u64 {
        clock::ticks()
    }

    /// Returns how long a round waits, in the unit of [`ticks`](Self::ticks). By default ten seconds of CNTVCT_EL0: long,
    /// since a hypervisor or an emulator may not run a CPU for a while, and what comes after is a batch that is undone.
    fn timeout_ticks(&self) -> u64 {
        #[cfg(target_arch = "aarch64")]
        return clock::ticks_per_second().saturating_mul(10);
        #[cfg(not(target_arch = "aarch64"))]
        u64::MAX
    }

    /// Waits a moment; called with interrupts as they were when the round began.
    fn pause(&self) {
        core::hint::spin_loop();
    }
}

/// The rounds of a kernel with `CPUS` CPUs at most: in a `static`, private to whoever implements
/// [`Platform`](super::Platform).
///
/// For kernels that never preempt kernel code, or preempt it only where it is
/// [quiescent](crate::Engine::is_quiescent). Where tasks are preempted anywhere, [`synchronize`](Self::synchronize) is
/// right as well, but [`quiesce`](Self::quiesce) looks at running tasks only: those that were preempted inside a callback are
/// the kernel's to look at.
///
/// The caller's interrupts may be masked or not; while it waits, it answers the rounds of others. Each turn of the waiting
/// loop masks them for itself, so the caller may move to another CPU between turns.
///
/// The numbers of CPUs are taken at their word: promises 2 and 6 of [`Platform`](super::Platform#safety) rest on them.
///
/// # Examples
/// ```
/// use fentry::platform::rounds::{CpuRounds, Cpus};
/// use fentry::platform::{CpuTimeout, HoldError};
/// use fentry::{TextAddr, TextRange, TraceContext};
/// # fn cpu_number() -> usize { 0 }
/// # fn send_sgi_to_others(_: u32) {}
/// # const ROUND_SGI: u32 = 1;
/// # static CONTEXTS: [TraceContext; 8] = [const { TraceContext::new() }; 8];
///
/// static ROUNDS: CpuRounds<8> = CpuRounds::new();
///
/// struct MyCpus;
///
/// impl Cpus for MyCpus {
///     fn this_cpu(&self) -> usize {
///         cpu_number()
///     }
///     fn interrupt_others(&self) {
///         send_sgi_to_others(ROUND_SGI);
///     }
/// }
///
/// // In `impl Platform`:
/// fn hold_cpus(act: &mut dyn FnMut()) -> Result<(), HoldError> {
///     ROUNDS.hold(&MyCpus, act)
/// }
/// fn synchronize_cpus() -> Result<(), CpuTimeout> {
///     ROUNDS.synchronize(&MyCpus)
/// }
/// fn quiesce(stubs: &[TextRange]) -> Result<(), CpuTimeout> {
///     ROUNDS.quiesce(&MyCpus, stubs)
/// }
/// fn relax() {
///     ROUNDS.relax(&MyCpus, &CONTEXTS[cpu_number()]);
/// }
///
/// // The handler of ROUND_SGI, with interrupts masked and what ELR_EL1 was at its entry:
/// fn handle_round(elr: u64) {
///     let cpu = cpu_number();
///     ROUNDS.look(cpu, &CONTEXTS[cpu], TextAddr::new(elr));
///     ROUNDS.answer(cpu);
/// }
///
/// // Each CPU, the first as well, once it can take the interrupt, and before it lets any come:
/// fn start_cpu() {
///     ROUNDS.go_online(cpu_number()).expect("eight CPUs at most");
/// }
/// # start_cpu();
/// # assert_eq!(synchronize_cpus(), Ok(()));
/// # assert_eq!(quiesce(&[]), Ok(()));
/// # let mut acts = 0;
/// # assert_eq!((hold_cpus(&mut || acts += 1), acts), (Ok(()), 1));
/// # relax();
/// # handle_round(0);
/// ```
/// A loop of the kernel's own that waits with interrupts masked, as a spin lock's may, calls [`answer`](Self::answer) in each
/// turn; or it keeps CPUs waiting until the deadline that wait for this one.
#[derive(Debug)]
pub struct CpuRounds<const CPUS: usize> {
    protocol: Protocol<CPUS, MAX_STUB_RANGES, AtomicU64>,
}

/// How many turns of waiting there are between two interrupts of a round of quiescence. Each interrupt is a look; between two
/// of them the CPU goes on a little.
const TURNS_BETWEEN_LOOKS: u32 = 100;

impl<const CPUS: usize> CpuRounds<CPUS> {
    /// Makes the rounds of CPUs that are all offline.
    pub const fn new() -> Self {
        Self { protocol: Protocol::new() }
    }

    /// Brings this CPU into the rounds; from now on it is asked, and must answer. Also in the middle of others' rounds.
    ///
    /// Called on the CPU itself, with interrupts masked, when its part of the interrupt controller takes the interrupt. What
    /// it ran before is text that nobody changes meanwhile: its start code is never traced, or it starts while the engine is
    /// not used.
    ///
    /// # Errors
    ///
    /// [`NoSuchCpu`]: there are fewer.
    pub fn go_online(&self, cpu: usize) -> Result<(), NoSuchCpu> {
        let seated = self.protocol.go_online(cpu, synchronize_context_after_loads, yield_turn);
        if seated { Ok(()) } else { Err(NoSuchCpu { cpu, cpus: CPUS }) }
    }

    /// Takes this CPU out of the rounds. Called on the CPU itself, with interrupts masked, inside no callback; until
    /// [`go_online`](Self::go_online) it runs only text that nobody changes.
    pub fn go_offline(&self, cpu: usize) {
        self.protocol.go_offline(cpu);
    }

    /// Returns whether this CPU is in the rounds.
    pub fn is_online(&self, cpu: usize) -> bool {
        self.protocol.is_online(cpu)
    }

    /// Answers a round of synchronising, if there is one, and waits here as long as this CPU is held: the handler's side, with
    /// interrupts masked, and that of each loop that waits with interrupts masked. Executes ISB then, and costs three loads
    /// else.
    #[inline]
    pub fn answer(&self, cpu: usize) {
        self.protocol.answer(cpu, synchronize_context, yield_turn);
    }

    /// Looks whether this CPU was interrupted where it is quiescent, if a round waits for that: the handler's side.
    /// `context` is what the base register led to, and `pc` what was interrupted (ELR).
    ///
    /// For the handler of the round's interrupt, or of every interrupt. Not for a handler that has interrupted another one:
    /// what that one has interrupted is nowhere looked at.
    pub fn look(&self, cpu: usize, context: &TraceContext, pc: TextAddr) {
        if !context.in_callback() {
            self.protocol.look(cpu, pc);
        }
    }

    /// One turn of a loop that waits for the engine: [`Platform::relax`](super::Platform::relax). Answers both kinds of
    /// rounds, then pauses. `context` is the running thread's; in a callback it is not quiescent, wherever it waits.
    pub fn relax(&self, cpus: &impl Cpus, context: &TraceContext) {
        masked(|| {
            let cpu = cpus.this_cpu();
            if !context.in_callback() {
                self.protocol.note_waiting(cpu);
            }
            self.answer(cpu);
        });
        cpus.pause();
    }

    /// Makes every other CPU that is online execute a context synchronisation event, and waits until each has:
    /// [`Platform::synchronize_cpus`](super::Platform::synchronize_cpus). Any number of CPUs may do so at once, also while
    /// one is in [`quiesce`](Self::quiesce).
    ///
    /// # Errors
    ///
    /// A CPU did not answer in time. The next round does not take a late answer for its own.
    pub fn synchronize(&self, cpus: &impl Cpus) -> Result<(), CpuTimeout> {
        let (round, has_others) = masked(|| {
            let round = self.protocol.begin_synchronize();
            // This CPU as well: the caller may go on on another one, which was not asked by it.
            let this = cpus.this_cpu();
            self.answer(this);
            (round, self.interrupt_others(cpus, this))
        });
        // Who comes online from here on starts with this round's number.
        if !has_others {
            return Ok(());
        }
        let deadline = Deadline::new(cpus);
        loop {
            // First the time: a CPU that was not run until after the deadline looks once more for answers.
            let is_late = deadline.is_over(cpus);
            masked(|| self.answer(cpus.this_cpu()));
            match self.protocol.missing(Kind::Synchronize, round) {
                None => return Ok(()),
                Some(cpu) if is_late => return Err(CpuTimeout { cpu }),
                Some(_) => cpus.pause(),
            }
        }
    }

    /// Waits until every other CPU that is online was seen outside of callbacks and of `stubs`:
    /// [`Platform::quiesce`](super::Platform::quiesce). Two at once wait for each other's end.
    ///
    /// # Errors
    ///
    /// A CPU was not seen so in time.
    pub fn quiesce(&self, cpus: &impl Cpus, stubs: &[TextRange]) -> Result<(), CpuTimeout> {
        let deadline = Deadline::new(cpus);
        let round = loop {
            let is_late = deadline.is_over(cpus);
            if let Some(round) = self.protocol.begin_quiesce(stubs) {
                break round;
            }
            if is_late {
                return Err(CpuTimeout { cpu: masked(|| cpus.this_cpu()) });
            }
            masked(|| self.wait_quiescent(cpus.this_cpu()));
            cpus.pause();
        };
        let ended = self.await_quiescence(cpus, round, &deadline);
        self.protocol.end_quiesce();
        ended
    }

    fn await_quiescence(&self, cpus: &impl Cpus, round: u64, deadline: &Deadline) -> Result<(), CpuTimeout> {
        let mut turn = 0_u32;
        loop {
            let is_late = deadline.is_over(cpus);
            masked(|| {
                let this = cpus.this_cpu();
                self.wait_quiescent(this);
                if turn.is_multiple_of(TURNS_BETWEEN_LOOKS) && self.protocol.missing(Kind::Quiesce, round).is_some() {
                    self.interrupt_others(cpus, this);
                }
            });
            match self.protocol.missing(Kind::Quiesce, round) {
                None => return Ok(()),
                Some(cpu) if is_late => return Err(CpuTimeout { cpu }),
                Some(_) => cpus.pause(),
            }
            turn = turn.wrapping_add(1);
        }
    }

    /// Calls `act` while every other CPU that is online waits in its handler or in a waiting loop of its own, with interrupts
    /// masked: [`Platform::hold_cpus`](super::Platform::hold_cpus). Two at once come one after the other.
    ///
    /// # Errors
    ///
    /// A CPU did not come to wait in time; `act` was not called.
    pub fn hold(&self, cpus: &impl Cpus, act: &mut dyn FnMut()) -> Result<(), HoldError> {
        let deadline = Deadline::new(cpus);
        loop {
            let is_late = deadline.is_over(cpus);
            // Masked to the end: who is held waits for this thread, which so neither is interrupted nor moves.
            let held = masked(|| {
                let this = cpus.this_cpu();
                let Some(hold) = self.protocol.begin_hold(this) else {
                    self.answer(this);
                    return None;
                };
                let held = self.await_held(cpus, this, hold, &deadline);
                if held.is_ok() {
                    act();
                }
                self.protocol.end_hold(hold);
                Some(held)
            });
            match held {
                Some(held) => return held,
                None if is_late => return Err(HoldError::Timeout(CpuTimeout { cpu: masked(|| cpus.this_cpu()) })),
                None => cpus.pause(),
            }
        }
    }

    fn await_held(&self, cpus: &impl Cpus, this: usize, hold: u64, deadline: &Deadline) -> Result<(), HoldError> {
        self.interrupt_others(cpus, this);
        loop {
            let is_late = deadline.is_over(cpus);
            match self.protocol.missing(Kind::Hold, hold) {
                None => return Ok(()),
                Some(cpu) if is_late => return Err(HoldError::Timeout(CpuTimeout { cpu })),
                Some(_) => yield_turn(),
            }
        }
    }

    /// A turn of who waits in [`quiesce`](Self::quiesce), and so is quiescent.
    fn wait_quiescent(&self, this: usize) {
        self.protocol.note_waiting(this);
        self.answer(this);
    }

    /// Interrupts the other CPUs that are online; returns whether there are any.
    fn interrupt_others(&self, cpus: &impl Cpus, this: usize) -> bool {
        let has_others = self.protocol.has_others(this);
        if has_others {
            complete_stores();
            cpus.interrupt_others();
        }
        has_others
    }
}

impl<const CPUS: usize> Default for CpuRounds<CPUS> {
    fn default() -> Self {
        Self::new()
    }
}

/// A CPU has a number that the rounds have no place for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("The CPU {cpu} can't come online: there are rounds for {cpus} CPUs, numbered from 0")]
pub struct NoSuchCpu {
    /// The CPU.
    pub cpu: usize,
    /// How many there are.
    pub cpus: usize,
}

/// The moment after which somebody is late.
struct Deadline {
    start: u64,
    timeout: u64,
}

impl Deadline {
    fn new(cpus: &impl Cpus) -> Self {
        Self { start: cpus.ticks(), timeout: cpus.timeout_ticks() }
    }

    fn is_over(&self, cpus: &impl Cpus) -> bool {
        // Another CPU's counter may read a little less than the start: no time has passed then.
        let passed = cpus.ticks().wrapping_sub(self.start).cast_signed().max(0);
        passed.cast_unsigned() > self.timeout
    }
}

/// Calls `f` with interrupts masked.
#[cfg(target_os = "none")]
fn masked<R>(f: impl FnOnce() -> R) -> R {
    use core::arch::asm;
    let daif: u64;
    // No `nomem` in either: accesses stay between them.
    // SAFETY: masking interrupts only delays them.
    unsafe { asm!("mrs {}, daif", "msr daifset, #3", out(reg) daif, options(nostack, preserves_flags)) };
    let result = f();
    // SAFETY: they were so before, and what needed them masked is over.
    unsafe { asm!("msr daif, {}", in(reg) daif, options(nostack, preserves_flags)) };
    result
}

/// A host has no interrupts.
#[cfg(not(target_os = "none"))]
fn masked<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// A turn of waiting with interrupts masked. YIELD, and not the ISB of [`core::hint::spin_loop`]: an emulator with one thread for
/// all CPUs goes on to the next one at a YIELD, and else after its whole turn.
fn yield_turn() {
    #[cfg(target_os = "none")]
    // SAFETY: a hint.
    unsafe {
        core::arch::asm!("yield", options(nostack, preserves_flags));
    }
    #[cfg(not(target_os = "none"))]
    core::hint::spin_loop();
}

/// ISB. Not `nomem`: the compiler must not move accesses across it.
#[inline]
fn synchronize_context() {
    #[cfg(target_os = "none")]
    // SAFETY: an ISB is always safe.
    unsafe {
        core::arch::asm!("isb", options(nostack, preserves_flags));
    }
}

/// ISB after a DSB, which waits for the loads before it: there is no branch on what they gave.
fn synchronize_context_after_loads() {
    #[cfg(target_os = "none")]
    // SAFETY: barriers are always safe.
    unsafe {
        core::arch::asm!("dsb ish", "isb", options(nostack, preserves_flags));
    }
}

/// DSB ISHST: an interrupt controller is told by a system register or a device, which no other barrier orders.
fn complete_stores() {
    #[cfg(target_os = "none")]
    // SAFETY: a barrier is always safe.
    unsafe {
        core::arch::asm!("dsb ishst", options(nostack, preserves_flags));
    }
}
