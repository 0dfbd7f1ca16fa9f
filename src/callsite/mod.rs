//! What compiler and linker left at each function's entry: one callsite, its forms and states; the table of all; veneers.
//!
//! The compiler leaves two NOPs at each function's entry and an address in `__patchable_function_entries`; this room
//! says what is really there.
//!
//! ```text
//!   =2               =2, BTI          =4,2             =4,2, BTI        (with kCFI the hash is the word before all this)
//!                                     NOP  <- entry    NOP  <- entry
//!                                     NOP              NOP
//!   f: NOP <- entry  f: BTI C         f: NOP           f: BTI C
//!      NOP              NOP <- entry     NOP              NOP
//!      ...              NOP              ...              NOP
//!                       ...                               ...
//! ```
//!
//! The two NOPs from `f` on are the callsite. It has three states, and only the second instruction changes while other
//! CPUs may run it: MOV is not among the instructions that may be modified under an executing CPU.
//!
//! | state | first | second | a call costs |
//! |---|---|---|---|
//! | compiled | NOP | NOP | two NOPs |
//! | disabled | MOV X9, LR | NOP | a MOV and a NOP |
//! | enabled | MOV X9, LR | BL target | the target |
//!
//! The two NOPs before a function look like a callsite themselves, and a function may begin with NOPs of its own. What an
//! entry means therefore can't be read from the instructions alone. It follows from where the function begins, which its
//! symbol says: [`Callsite::of_function`]. Without symbols somebody must know how the text was compiled, its [`Layout`]; only
//! where each function begins with BTI C the instructions say it themselves.

mod live;
pub(crate) mod table;
#[cfg(test)]
mod tests;
pub(crate) mod veneer;

pub(crate) use live::{LiveWord, WordChange};
pub use table::{Encoding, InitCounts, TableError};

use crate::address::{TextAddr, TextRange};
use crate::insn::{Branch, BranchOffset, EncodeError, Hint, Insn};
use core::fmt;
use thiserror::Error;

/// `NOP`, the compiled form of both instructions.
pub const NOP: u32 = Insn::NOP.encode();
/// `MOV X9, LR`: keeps the return address where the entry stub finds it (X9 is corruptible at a call, AAPCS64 6.1.1).
pub const MOV_X9_LR: u32 = Insn::MOV_X9_LR.encode();
/// `BTI C`: where a function's first instruction must be a branch target.
pub const BTI_C: u32 = Insn::hint(Hint::BTI_C).encode();

/// Where a callsite's instructions are, and what stands around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callsite {
    mov: TextAddr,
    form: Form,
}

/// What stands around the two instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Form {
    /// Whether `BTI C` comes before the callsite.
    pub landing_pad: LandingPad,
    /// Whether two NOPs come before the function.
    pub prefix: Prefix,
}

/// What a function begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LandingPad {
    /// The callsite itself.
    None,
    /// `BTI C`, then the callsite.
    BtiC,
}

/// What stands before a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// Nothing of ours (`-fpatchable-function-entry=2`).
    None,
    /// Two NOPs, room for one 64-bit literal (`-fpatchable-function-entry=4,2`).
    Literal,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.prefix, self.landing_pad) {
            (Prefix::None, LandingPad::None) => "NOP NOP",
            (Prefix::None, LandingPad::BtiC) => "BTI C, NOP NOP",
            (Prefix::Literal, LandingPad::None) => "two prefix NOPs, NOP NOP",
            (Prefix::Literal, LandingPad::BtiC) => "two prefix NOPs, BTI C, NOP NOP",
        })
    }
}

/// How all of a text was compiled, as far as its entries are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `-fpatchable-function-entry=2`: entries name the callsite.
    Plain,
    /// `-fpatchable-function-entry=4,2`: entries name the first of two NOPs before the function.
    Prefixed,
}

/// What a callsite's two instructions are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// NOP, NOP: as the compiler left it.
    Compiled,
    /// MOV X9, LR; NOP.
    Disabled,
    /// MOV X9, LR; BL to this address.
    Enabled(TextAddr),
}

/// Why an entry of the section is refused: it is reported, and its text is never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The address is not a multiple of 4.
    #[error("its address is not a multiple of 4")]
    Misaligned,
    /// The instructions are not all inside the region's text.
    #[error("its instructions are not inside the text")]
    OutsideText,
    /// Another entry names the same instructions.
    #[error("another entry names the same instructions")]
    Duplicate,
    /// Another entry's callsite shares one of the two instructions. One of the two is damaged, and nothing tells which: both
    /// are refused, since a BL in the place of the other's first instruction would lose the return address.
    #[error("another entry names one of the two instructions as well")]
    Overlapping,
    /// The function's symbol is marked STO_AARCH64_VARIANT_PCS (AAELF64 5.5.1): its callers may rely on registers that a
    /// callsite changes.
    #[error("its function has a calling convention in which x9 to x17 or q16 to q31 may be live")]
    CallingConvention,
    /// The callsite is already initialised or enabled, by somebody else.
    #[error("it is initialised or enabled already")]
    InUse,
    /// No function begins where the entry could belong to it.
    #[error("no function begins where it could belong to one, as far as symbols say")]
    NoFunction,
    /// The function was compiled with another number of prefix NOPs than `=2` (none) or `=4,2` (two).
    #[error("its function begins {nops} NOPs behind it; -fpatchable-function-entry=2 has none there, and =4,2 has two")]
    PrefixSize {
        /// The number of NOPs between the entry and the function.
        nops: u8,
    },
    /// There are no symbols, and the instructions can mean more than one thing.
    #[error("without symbols its instructions can mean more than one thing: give symbols, or the layout")]
    InDoubt,
    /// The instructions are not the compiler's.
    #[error("expected nop; nop and found {}; {}", Insn::decode(.found[0]), Insn::decode(.found[1]))]
    NotPatchable {
        /// The two words where NOP and NOP were expected.
        found: [u32; 2],
    },
}

/// A target that BL can't reach from a callsite: it is farther than 128 MiB, or not an instruction's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the type says what they are")]
#[error("The callsite {callsite} can't call {target}: {cause}")]
pub struct OutOfReach {
    pub callsite: TextAddr,
    pub target: TextAddr,
    #[source]
    pub cause: EncodeError,
}

/// A text's instructions.
struct TextReader<R> {
    text: TextRange,
    read: R,
}

impl<R: FnMut(TextAddr) -> u32> TextReader<R> {
    /// The one at this address, if that is inside.
    #[inline(always)]
    fn at(&mut self, at: TextAddr) -> Option<u32> {
        self.text.contains(at).then(|| (self.read)(at))
    }
}

/// How many NOPs before a function are looked at to say how many they are.
const MAX_PREFIX: u8 = 16;

impl Callsite {
    /// The text that is read to tell what an entry means, in bytes from the entry on.
    pub(crate) const READS: (i64, i64) = (-4, 4 * MAX_PREFIX as i64 + 16);

    /// Decodes the callsite that the section's `entry` names, in text of this layout; `read` returns the instruction at an
    /// address inside the text.
    ///
    /// Returns it with its state, which in a fresh kernel is [`State::Compiled`].
    ///
    /// # Errors
    ///
    /// The [`Refusal`]; `Duplicate`, `Overlapping`, `CallingConvention` and `InUse` are the caller's to say, who knows the
    /// other entries and the symbols.
    #[inline(always)]
    pub fn decode(
        entry: TextAddr,
        text: TextRange,
        layout: Layout,
        read: impl FnMut(TextAddr) -> u32,
    ) -> Result<(Self, State), Refusal> {
        if !entry.is_aligned() {
            return Err(Refusal::Misaligned);
        }
        let mut words = TextReader { text, read };
        match layout {
            Layout::Plain => {
                let behind_pad = Self::is_behind_pad(entry, &mut words);
                Self::decode_at(entry, Prefix::None, behind_pad, &mut words)
            }
            Layout::Prefixed => Self::decode_prefixed(entry, &mut words),
        }
    }

    /// Decodes the callsite that `entry` names by where its function begins, in text of any layout. `begins` says whether a
    /// function (not just any label) begins at an address.
    ///
    /// # Errors
    ///
    /// Those of [`decode`](Self::decode).
    #[inline(always)]
    pub fn of_function(
        entry: TextAddr,
        text: TextRange,
        mut begins: impl FnMut(TextAddr) -> bool,
        read: impl FnMut(TextAddr) -> u32,
    ) -> Result<(Self, State), Refusal> {
        if !entry.is_aligned() {
            return Err(Refusal::Misaligned);
        }
        let mut words = TextReader { text, read };
        // Asked about in ascending order. A function that is no more than BTI C may come before another one.
        let behind_pad = Self::is_behind_pad(entry, &mut words) && begins(entry.offset(-4));
        let here = begins(entry);
        if here || behind_pad {
            return Self::decode_at(entry, Prefix::None, !here, &mut words);
        }
        if !begins(entry.offset(4)) && begins(entry.offset(8)) {
            return Self::decode_prefixed(entry, &mut words);
        }
        Err(Self::no_function(entry, &mut begins, &mut words))
    }

    /// Decodes the callsite that `entry` names from the instructions alone, where they can mean one thing only.
    ///
    /// # Errors
    ///
    /// Those of [`decode`](Self::decode), and [`Refusal::InDoubt`] unless BTI C stands where it does in one form only.
    pub fn beyond_doubt(
        entry: TextAddr,
        text: TextRange,
        read: impl FnMut(TextAddr) -> u32,
    ) -> Result<(Self, State), Refusal> {
        if !entry.is_aligned() {
            return Err(Refusal::Misaligned);
        }
        let mut words = TextReader { text, read };
        let behind_pad = Self::is_behind_pad(entry, &mut words);
        if behind_pad || words.at(entry) == Some(BTI_C) {
            return Self::decode_at(entry, Prefix::None, behind_pad, &mut words);
        }
        if words.at(entry.offset(8)) == Some(BTI_C) {
            return Self::decode_prefixed(entry, &mut words);
        }
        // What is no callsite in any layout is in no doubt.
        Self::decode_at(entry, Prefix::None, false, &mut words).and(Err(Refusal::InDoubt))
    }

    /// Whether `BTI C` comes just before.
    #[inline(always)]
    fn is_behind_pad(at: TextAddr, words: &mut TextReader<impl FnMut(TextAddr) -> u32>) -> bool {
        words.at(at.offset(-4)) == Some(BTI_C)
    }

    /// Why an entry belongs to no function in a way that we know.
    #[cold]
    fn no_function(
        entry: TextAddr,
        begins: &mut impl FnMut(TextAddr) -> bool,
        words: &mut TextReader<impl FnMut(TextAddr) -> u32>,
    ) -> Refusal {
        if words.at(entry).is_none() {
            return Refusal::OutsideText;
        }
        for nops in 1..=MAX_PREFIX {
            let before = entry.offset(4 * (i64::from(nops) - 1));
            if words.at(before) != Some(NOP) {
                break;
            }
            if begins(before.offset(4)) {
                return Refusal::PrefixSize { nops };
            }
        }
        Refusal::NoFunction
    }

    /// Reads the callsite of the function behind the two NOPs at `entry`.
    #[inline]
    fn decode_prefixed(
        entry: TextAddr,
        words: &mut TextReader<impl FnMut(TextAddr) -> u32>,
    ) -> Result<(Self, State), Refusal> {
        let (Some(first), Some(second)) = (words.at(entry), words.at(entry.offset(4))) else {
            return Err(Refusal::OutsideText);
        };
        if (first, second) != (NOP, NOP) {
            return Err(Refusal::NotPatchable { found: [first, second] });
        }
        Self::decode_at(entry.offset(8), Prefix::Literal, false, words)
    }

    /// Reads the callsite of the function at `at`, or of the one whose BTI C is just before. rustc and LLVM point behind it,
    /// older GCC at it.
    #[inline(always)]
    fn decode_at(
        at: TextAddr,
        prefix: Prefix,
        behind_pad: bool,
        words: &mut TextReader<impl FnMut(TextAddr) -> u32>,
    ) -> Result<(Self, State), Refusal> {
        let after_pad = words.at(at) == Some(BTI_C);
        let mov = if after_pad { at.offset(4) } else { at };
        let landing_pad = if after_pad || behind_pad { LandingPad::BtiC } else { LandingPad::None };

        let (Some(first), Some(second)) = (words.at(mov), words.at(mov.offset(4))) else {
            return Err(Refusal::OutsideText);
        };
        let callsite = Self { mov, form: Form { landing_pad, prefix } };
        let state = callsite.state_of(first, second).ok_or(Refusal::NotPatchable { found: [first, second] })?;
        Ok((callsite, state))
    }

    /// A callsite that was decoded before.
    pub(crate) const fn known(mov: TextAddr, form: Form) -> Self {
        Self { mov, form }
    }

    /// Returns the state that two words at the callsite stand for; `None` if it is none of the three.
    #[inline]
    pub fn state_of(&self, first: u32, second: u32) -> Option<State> {
        match (first, second) {
            (NOP, NOP) => Some(State::Compiled),
            (MOV_X9_LR, NOP) => Some(State::Disabled),
            (MOV_X9_LR, call) => match Branch::decode(call)? {
                Branch::Bl { offset } => Some(State::Enabled(TextAddr::new(offset.target(self.call_addr().get())))),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns whether the two callsites share one of their two instructions.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.mov.get().abs_diff(other.mov.get()) == 4
    }

    /// Returns the address of the first instruction: NOP as compiled, then MOV X9, LR.
    pub const fn mov_addr(&self) -> TextAddr {
        self.mov
    }

    /// Returns the address of the second instruction: NOP or BL. This is the `ip` that callbacks are given.
    pub const fn call_addr(&self) -> TextAddr {
        self.mov.offset(4)
    }

    /// Returns the function's own address: its symbol's value, and what a function pointer to it holds.
    pub const fn function(&self) -> TextAddr {
        match self.form.landing_pad {
            LandingPad::None => self.mov,
            LandingPad::BtiC => self.mov.offset(-4),
        }
    }

    /// Returns what stands around the two instructions.
    pub const fn form(&self) -> Form {
        self.form
    }

    /// Returns the place of the 64-bit literal before the function, where it was compiled with one and it is 8-byte aligned.
    pub const fn literal(&self) -> Option<TextAddr> {
        let at = self.function().offset(-8);
        match self.form.prefix {
            Prefix::Literal if at.get().is_multiple_of(8) => Some(at),
            _ => None,
        }
    }

    /// The change that init makes.
    #[inline]
    pub(crate) const fn made_ready(self) -> WordChange<u32> {
        WordChange { at: self.mov, old: NOP, new: MOV_X9_LR }
    }

    /// Whether its BL reaches `target`.
    pub(crate) fn check_reach(&self, target: TextAddr) -> Result<(), OutOfReach> {
        let callsite = self.call_addr();
        match BranchOffset::between(callsite.get(), target.get()) {
            Ok(_) => Ok(()),
            Err(cause) => Err(OutOfReach { callsite, target, cause }),
        }
    }
}
