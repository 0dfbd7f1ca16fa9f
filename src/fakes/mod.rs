//! A machine in memory: text, a writable alias, caches, interrupts, other CPUs. For host tests, of this crate and of its users.
//!
//! Feature `fakes`. A [`FakeKernel`] is the platform and the machine of an [`Engine`]; it does what the traits say
//! to a buffer, remembers in which order it was asked ([`Event`]), and fails where a test wants it to ([`Fault`]).
//!
//! ```
//! use fentry::fakes::{COMPILED, FakeText};
//! use fentry::{Engine, Filter, FtraceRegs, Ops, Rule, TextAddr};
//!
//! extern "C" fn callback(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}
//! static OPS: Ops = Ops::new(callback);
//!
//! let mut text = FakeText::new(0xffff_8000_8000_0000);
//! text.function("draw", COMPILED);
//! text.function("sort", COMPILED);
//! let kernel = text.build();
//! let engine = Engine::with_machine(kernel, kernel);
//! // SAFETY: nothing executes a fake's text.
//! unsafe { engine.init(kernel.image())? };
//! engine.register(&OPS, &Filter::new(&[Rule::name("sort")]))?;
//! assert_eq!(engine.check_text().enabled, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Engine`]: crate::Engine

mod kernel;
#[cfg(feature = "module")]
mod memory;
mod regs;
mod text;

#[cfg(feature = "module")]
pub use memory::{FakeMemory, MemoryFault};

pub use kernel::FakeKernel;
pub use regs::FakeRegs;
pub use text::FakeText;

use crate::address::TextAddr;
use crate::callsite::{Form, LandingPad, Prefix};

/// Two NOPs at the entry and nothing else.
pub const COMPILED: Form = Form { landing_pad: LandingPad::None, prefix: Prefix::None };

/// Something that the engine asked of the machine or the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A batch begins.
    BeginBatch,
    /// A batch is over.
    EndBatch,
    /// A page of text gets an alias.
    Map(TextAddr),
    /// It loses it again.
    Unmap(TextAddr),
    /// A word is written.
    Store(TextAddr, u32),
    /// DC CVAU of this line.
    Clean(TextAddr),
    /// DC CIVAC of this line.
    CleanAndInvalidate(TextAddr),
    /// IC IVAU of this line.
    Invalidate(TextAddr),
    /// DSB ISH.
    Complete,
    /// ISB.
    Synchronize,
    /// Every other CPU is made to synchronise.
    SynchronizeCpus,
    /// Every other CPU is held, as long as something is done.
    HoldCpus,
    /// Every thread of execution is waited for.
    Quiesce,
    /// Interrupts are masked.
    Mask,
    /// Interrupts are as they were.
    Restore,
}

/// What goes wrong. Counts start from 0 whenever a fault is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The write of this number finds another word than the check before it did. Second stores are not counted.
    Write(usize),
    /// The alias of this number is not given.
    Alias(usize),
    /// The alias of this number is not given, and none after it.
    AliasesFrom(usize),
    /// A batch is not begun.
    Batch,
    /// This CPU does not synchronise, the first time that it is asked.
    Cpu(usize),
    /// CPU 1 does not synchronise in the round of this number.
    Round(usize),
    /// This CPU is not seen quiescent, the first time that it is waited for.
    Busy(usize),
    /// This CPU is not held, the first time that it should be.
    Hold(usize),
}
