//! What a trampoline is generated from.

use crate::address::TextAddr;
use crate::insn::{Access, PairSize};
use crate::stub::LANDING_PAD_BYTES;
use core::sync::atomic::AtomicU64;

/// The most handlers at a function.
pub(crate) const MAX_HANDLERS: usize = 16;
/// The most words of arguments on the stack: twelve of 32 bytes each.
pub(crate) const MAX_STACK_WORDS: usize = 48;
/// The registers of each kind that have arguments (AAPCS64 6.8.2).
pub(crate) const ARGUMENT_REGISTERS: usize = 8;

/// How much of a register, or of eight bytes of the stack, is an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// One bit: a `bool`.
    Bit,
    /// Eight.
    Byte,
    /// Sixteen.
    Half,
    /// Thirty-two.
    Word,
    /// All of it, or what has no meaning of its own.
    Whole,
}

impl Part {
    pub(super) const fn mask(self) -> u64 {
        match self {
            Self::Bit => 1,
            Self::Byte => 0xff,
            Self::Half => 0xffff,
            Self::Word => 0xffff_ffff,
            Self::Whole => u64::MAX,
        }
    }

    /// What loads it with zeros above it, but for those above one bit.
    pub(super) const fn load(self) -> Access {
        match self {
            Self::Bit | Self::Byte => Access::LoadByte,
            Self::Half => Access::LoadHalf,
            Self::Word => Access::LoadW,
            Self::Whole => Access::LoadX,
        }
    }
}

/// Where a result is (AAPCS64 6.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResultPlace {
    /// There is none.
    Nowhere,
    /// In X0, so much of it.
    General(Part),
    /// In X0 and X1.
    GeneralPair,
    /// In so many vector registers from V0 on, 1 to 4, each of this size.
    Vectors(u8, PairSize),
    /// In memory, at the address that was in X8.
    Memory,
}

/// Where a call's arguments and its result are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallShape {
    /// Of X0 and on.
    pub(crate) general: [Part; ARGUMENT_REGISTERS],
    /// How many of them have arguments, with what was skipped between them.
    pub(crate) generals: u8,
    /// The number of the general register in which one more pointer would be; 8 where it would be on the stack.
    pub(crate) next_general: u8,
    /// How many of V0 and on have arguments.
    pub(crate) vectors: u8,
    /// Of the stack, for each eight bytes.
    pub(crate) stack: [Part; MAX_STACK_WORDS],
    /// How many times eight bytes there are.
    pub(crate) stack_words: u8,
    pub(crate) result: ResultPlace,
}

/// When a handler is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandlerKind {
    /// At the entry.
    Entry,
    /// After those; where X0 is not zero when it returns, that is the function's result.
    Modify,
    /// When the function has returned, or was answered for, with a pointer to the result behind the arguments.
    Exit,
}

/// A function that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handler {
    pub(crate) kind: HandlerKind,
    pub(crate) function: TextAddr,
    /// Whether it calls something, or may. Else it needs no guard.
    pub(crate) may_call: bool,
}

/// A trampoline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrampolinePlan<'a> {
    pub(crate) shape: &'a CallShape,
    /// In the order in which those of a kind are called.
    pub(crate) handlers: &'a [Handler],
    /// Where the function goes on behind its callsite.
    pub(crate) body: TextAddr,
    /// How many calls of the function are under way.
    pub(crate) calls: &'static AtomicU64,
    /// How often no handler was called.
    pub(crate) misses: &'static AtomicU64,
}

impl TrampolinePlan<'_> {
    /// Returns a bound of what the distance of what is called adds to its length.
    pub(crate) const fn reach_bytes(&self) -> usize {
        // An instruction and a literal for each handler, three instructions for the function, and the literals' alignment.
        4 * (3 * self.handlers.len() + 4)
    }

    /// Where a BL goes, in what is generated for address `at`.
    pub(crate) const fn entry(at: TextAddr) -> TextAddr {
        at.offset(LANDING_PAD_BYTES)
    }

    pub(super) fn has(&self, kind: HandlerKind) -> bool {
        self.handlers.iter().any(|handler| handler.kind == kind)
    }

    /// Whether handlers of one of these kinds need a guard.
    pub(super) fn guards(&self, kinds: &[HandlerKind]) -> bool {
        self.handlers.iter().any(|handler| handler.may_call && kinds.contains(&handler.kind))
    }
}
