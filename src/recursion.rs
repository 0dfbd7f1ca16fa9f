//! The guard that keeps a callback from being called inside itself.
//!
//! Floor 1. A callback is compiled code of a kernel whose functions are nearly all callsites: it will call traced
//! functions. The entry stubs therefore look, before anything of Rust runs, into the [`TraceContext`] of the thread of
//! execution: one bit a [`Level`] says that a callback is already running there. If so the call goes straight on to the
//! function and is counted as a miss.
//!
//! The check is in the assembly, not in Rust, because in an unoptimised kernel even an atomic load is a function of `core`
//! with a callsite of its own. Plain loads and stores are enough: a context is only touched by the thread of execution
//! that it belongs to and by interrupts on top of it, and an interrupt leaves the bits as it found them.
//!
//! ```text
//!   thread:  ....[callback.........................]....      bit Thread set
//!   irq:                  ....[callback]...                   bit Irq set as well: its own level, so it is traced
//!   either level again, inside its own callback:              skipped, misses += 1
//! ```

use crate::address::{TextAddr, TextRange};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What kind of context is running; each can be inside a callback once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Level {
    /// A task, or a kernel's only thread.
    Thread = 1,
    /// An interrupt handler.
    Irq = 2,
    /// What can interrupt an interrupt handler: an FIQ used as NMI, an SError, a debug exception.
    Nmi = 4,
}

/// The engine's own few words for one thread of execution.
///
/// Where the kernel never switches tasks inside kernel code, one for each CPU; where it does, one for each task. Its
/// address, less the offset of [`ContextBase`](crate::platform::ContextBase), is what the kernel puts into the base
/// register. It must live as long as it can be reached through that register.
///
/// # Invariants
///
/// `level` holds exactly one bit, that of the running [`Level`]; `active` holds the bits of those levels that are inside a
/// callback now.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct TraceContext {
    pub(crate) level: AtomicU32,
    pub(crate) active: AtomicU32,
    pub(crate) misses: AtomicU64,
}

impl TraceContext {
    /// A context at [`Level::Thread`] with no callback running.
    pub const fn new() -> Self {
        // INVARIANT: one bit of `level`, none of `active`.
        Self { level: AtomicU32::new(Level::Thread as u32), active: AtomicU32::new(0), misses: AtomicU64::new(0) }
    }

    /// Tells that an exception handler of this level begins; returns what [`leave`](Self::leave) must be given at its end.
    ///
    /// A kernel that never calls this is traced all the same; what its interrupt handlers call while they interrupt a
    /// callback is then counted as a miss.
    pub fn enter(&self, level: Level) -> Outer {
        let outer = self.level.load(Ordering::Relaxed);
        // INVARIANT: `Level as u32` is one bit.
        self.level.store(level as u32, Ordering::Relaxed);
        Outer(outer)
    }

    /// Tells that the exception handler is over.
    pub fn leave(&self, outer: Outer) {
        // INVARIANT: an `Outer` holds what `level` held.
        self.level.store(outer.0, Ordering::Relaxed);
    }

    /// Whether this thread of execution is inside a callback, at any level.
    pub fn in_callback(&self) -> bool {
        self.active.load(Ordering::Relaxed) != 0
    }

    /// Whether the thread of execution, interrupted or preempted at `pc`, is quiescent: it is inside no callback, and not on
    /// the few instructions of a stub before the guard is taken or after it is given back.
    pub fn is_quiescent(&self, pc: TextAddr, stubs: &[TextRange]) -> bool {
        !self.in_callback() && !stubs.iter().any(|stub| stub.contains(pc))
    }

    /// How many calls went untraced because their level was inside a callback already.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }
}

impl Default for TraceContext {
    fn default() -> Self {
        Self::new()
    }
}

/// The level that an exception interrupted.
#[derive(Debug)]
#[must_use = "give it back to `TraceContext::leave` when the handler ends"]
pub struct Outer(u32);

#[cfg(test)]
mod tests {
    use super::{Level, TraceContext};
    use crate::address::{TextAddr, TextRange};

    #[test]
    fn inside_a_callback_or_a_stub_nothing_is_quiescent() {
        let context = TraceContext::new();
        let stubs = [TextRange::new(TextAddr::new(0x100), TextAddr::new(0x180))];
        assert!(context.is_quiescent(TextAddr::new(0xfc), &stubs));
        assert!(!context.is_quiescent(TextAddr::new(0x17c), &stubs));
        context.active.store(Level::Irq as u32, core::sync::atomic::Ordering::Relaxed);
        assert!(!context.is_quiescent(TextAddr::new(0xfc), &stubs));
    }

    #[test]
    fn levels_nest_and_come_back() {
        let context = TraceContext::new();
        let thread = context.enter(Level::Irq);
        let irq = context.enter(Level::Nmi);
        assert_eq!(context.level.load(core::sync::atomic::Ordering::Relaxed), Level::Nmi as u32);
        context.leave(irq);
        assert_eq!(context.level.load(core::sync::atomic::Ordering::Relaxed), Level::Irq as u32);
        context.leave(thread);
        assert_eq!(context.level.load(core::sync::atomic::Ordering::Relaxed), Level::Thread as u32);
    }
}
