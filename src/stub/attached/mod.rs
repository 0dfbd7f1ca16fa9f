//! The trampoline of a function's attachments (`trampoline::attach` has what they are for): generated for that function's type
//! and that set of handlers, and called by the callsite itself.
//!
//! ```text
//!     BTI C                                   for veneers and lists of ops; a BL goes to the instruction behind it
//!     (guard)                                 where a handler may call something
//!     STP X29, X9, [SP, #-16]!; MOV X29, SP   the caller's frame record, as the function is about to make it
//!     STP X29, X30, [SP, #-n]!; MOV X29, SP   a record of the function: a walker finds both (AAPCS64 6.4.6)
//!     (arguments to the frame)                those registers that the function's type says, and no others
//!     BL handler ...                          entries, then those that may answer: CBNZ X0, answered
//!     (guard given back)
//!
//!   without exits                             with exits
//!     (arguments back)                          (one more call is under way)
//!     LDP, LDP; RET X9                          (arguments back); BL function, behind its callsite
//!                                               (result to the frame; one call less is under way)
//!                                               (guard); BL handler ...; (guard given back)
//!                                               (result back); LDP, LDP; RET
//! ```
//!
//! - **How the function goes on**: by RET X9 where it is only gone back to, since it has no landing pad there and RET needs
//!   none, as every other stub does. Where it is *called*, by BL, which needs none either, and which tells the CPU's return
//!   predictor of the RET that will come; out of BL's reach, by a BL to two instructions here, of which the second is a RET to
//!   the function. So there is a call before each return address, as [`Unwinder`](crate::context::unwind::Unwinder) asks.
//! - **Arguments on the stack** are further away for who is called from here, and belong to whom they are passed
//!   (AAPCS64 6.8.2): so they are copied for each call. The function that is gone back to finds them where they were.
//! - **Narrow arguments** are handed to handlers with the bits above them cleared, whatever the caller left there; the function
//!   gets what it was called with.
//! - **Handlers** are called by BL, or by BLR with the address from a literal, so no hash is looked at (kCFI).
//!
//! While a thread is inside the function it has a return address in here, for as long as that takes. So those calls are
//! counted, in one word for each trampoline.

mod writer;

use super::LANDING_PAD_BYTES;
use super::code::Code;
use super::entry::StubEnv;
use crate::address::TextAddr;
use crate::callsite::BTI_C;
use crate::insn::{Access, EncodeError, PairSize, Reg};
use core::sync::atomic::AtomicU64;
use writer::Writer;

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
    const fn mask(self) -> u64 {
        match self {
            Self::Bit => 1,
            Self::Byte => 0xff,
            Self::Half => 0xffff,
            Self::Word => 0xffff_ffff,
            Self::Whole => u64::MAX,
        }
    }

    /// What loads it with zeros above it, but for those above one bit.
    const fn load(self) -> Access {
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
        // A load and a literal for each handler, and three instructions for the function.
        4 * (3 * self.handlers.len() + 3)
    }

    /// Where a BL goes, in what is generated for address `at`.
    pub(crate) const fn entry(at: TextAddr) -> TextAddr {
        at.offset(LANDING_PAD_BYTES)
    }

    fn has(&self, kind: HandlerKind) -> bool {
        self.handlers.iter().any(|handler| handler.kind == kind)
    }

    /// Whether handlers of one of these kinds need a guard.
    fn guards(&self, kinds: &[HandlerKind]) -> bool {
        self.handlers.iter().any(|handler| handler.may_call && kinds.contains(&handler.kind))
    }

    /// Generates the trampoline for address `at`.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]: something is out of reach from there.
    pub(crate) fn code(&self, code: &mut Code, at: TextAddr, env: &StubEnv) -> Result<(), EncodeError> {
        use HandlerKind::{Entry, Exit, Modify};
        code.begin(at);
        code.word(BTI_C);
        let has_exits = self.has(Exit);
        let mut writer = Writer::new(self, code, env);
        let is_guarded = self.guards(&[Entry, Modify]);
        let passed_over = is_guarded.then(|| writer.take_guard());
        writer.save();
        writer.call_handlers(Entry);
        let answered = writer.call_handlers(Modify);
        if is_guarded {
            writer.give_guard_back();
        }
        let mut exits = None;
        if has_exits {
            writer.call_function();
            exits = Some(writer.here());
            writer.call_exits();
            writer.leave(Reg::LR);
        } else {
            writer.load_arguments(false);
            writer.leave(Reg::X9);
        }
        if !answered.is_empty() {
            writer.answered(answered);
            if exits.is_some() {
                writer.store_result();
            }
            if is_guarded {
                writer.give_guard_back();
            }
            match exits {
                Some(exits) => writer.jump(exits),
                None => writer.leave(Reg::LR),
            }
        }
        if let Some(passed_over) = passed_over {
            writer.pass_over(passed_over);
        }
        writer.place_literals();
        code.end()
    }
}
