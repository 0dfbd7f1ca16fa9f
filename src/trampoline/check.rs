//! What callers check before they call by a pointer, and whether a function would pass.
//!
//! LLVM's check (AArch64AsmPrinter, `LowerKCFI_CHECK`), by which rustc and Clang call:
//!
//! ```text
//!     ldur w16, [x8, #-12]          the hash, M words before the entry: here two
//!     movk w17, #0x111f             what it must be
//!     movk w17, #0xd788, lsl #16
//!     cmp  w16, w17
//!     b.eq 1f
//!     brk  #0x8228                  0x8000 | register of the hash << 5 | register of the address
//! 1:  blr  x8
//! ```

use super::description::{Description, Member};
use super::error::OpsError;
use crate::address::TextAddr;
use crate::callsite::MOV_X9_LR;
use crate::engine::Engine;
use crate::insn::{Branch, Cond, Exception, Flow, Insn, MemoryUse, Place, System};

/// How much of a caller is looked at: more than it takes to call by a pointer.
const MAX_CALLER_WORDS: usize = 64;
/// From the load to the BRK.
const CHECK_WORDS: usize = 5;
/// BRK's numbers of this check.
const BRK: core::ops::RangeInclusive<u32> = 0x8000..=0x83ff;
/// The most words between a hash and an entry: LDUR reaches 256 bytes (Arm ARM C6.2, "LDUR").
const MAX_WORDS_BETWEEN: u32 = 63;

/// There is no text that the engine knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotText;

/// The check that callers make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallCheck {
    /// How many words stand between the hash and the entry.
    pub(super) words_between: u32,
}

impl CallCheck {
    /// The check that the callers of an ops struct's members make, if they make one. On a host they make none.
    ///
    /// # Errors
    ///
    /// [`OpsError::NoCaller`].
    pub(super) fn of(engine: &Engine, ops: &Description<'_>) -> Result<Option<Self>, OpsError> {
        if cfg!(not(target_os = "none")) {
            return Ok(None);
        }
        let &Description { name: ops, caller, .. } = ops;
        let check = Self::of_caller(caller, |at| engine.text_word(at).ok_or(NotText));
        check.map_err(|NotText| OpsError::NoCaller { ops, caller })
    }

    /// The check that a caller makes, if it makes one, whose words `word` reads.
    ///
    /// # Errors
    ///
    /// [`NotText`]: not all that it takes to tell is there.
    pub(super) fn of_caller(
        caller: TextAddr,
        word: impl Fn(TextAddr) -> Result<u32, NotText>,
    ) -> Result<Option<Self>, NotText> {
        let at = |index: usize| caller.offset(4 * index as i64);
        for index in 0..MAX_CALLER_WORDS {
            let insn = Insn::decode(word(at(index))?);
            if let Insn::System(System::Exception { kind: Exception::Brk, imm }) = insn
                && BRK.contains(&imm.get())
                && let Some(start) = index.checked_sub(CHECK_WORDS)
            {
                let is_check =
                    matches!(Insn::decode(word(at(index - 1))?), Insn::Branch(Branch::BCond { cond: Cond::Eq, .. }));
                let load = Insn::decode(word(at(start))?).effects();
                return Ok(match (load.memory, load.place) {
                    (MemoryUse::Load(4), Place::Beside(base, bytes))
                        if is_check && u32::from(base.number()) == imm.get() & 31 =>
                    {
                        Self::of_distance(bytes)
                    }
                    _ => None,
                });
            }
            // Behind the call is another function.
            if matches!(insn.effects().flow, Flow::Jump(_) | Flow::IndirectJump(_) | Flow::Return(_)) {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The check that loads a hash so many bytes from the entry.
    fn of_distance(bytes: i64) -> Option<Self> {
        let before = u32::try_from(bytes.checked_neg()?).ok()?;
        let words_between = (before / 4).checked_sub(1).filter(|_| before.is_multiple_of(4))?;
        (words_between <= MAX_WORDS_BETWEEN).then_some(Self { words_between })
    }

    /// Where callers look for the hash of a function.
    pub(super) fn place(self, function: TextAddr) -> TextAddr {
        Self::place_at(function, self.words_between)
    }

    fn place_at(function: TextAddr, words_between: u32) -> TextAddr {
        function.offset(-4 - 4 * i64::from(words_between))
    }

    /// The hash of a member's type, from its stub.
    ///
    /// # Errors
    ///
    /// [`OpsError::NoStub`].
    pub(super) fn hash(
        self,
        ops: &'static str,
        member: &Member,
        word: impl Fn(TextAddr) -> Option<u32>,
    ) -> Result<u32, OpsError> {
        let stub = member.stub();
        word(self.place(stub)).ok_or(OpsError::NoStub { ops, member: member.name(), stub })
    }

    /// Checks that callers will find the member's hash before a function.
    ///
    /// # Errors
    ///
    /// [`OpsError`]: what they would find.
    pub(super) fn member(
        self,
        ops: &'static str,
        member: &Member,
        function: TextAddr,
        word: impl Fn(TextAddr) -> Option<u32>,
    ) -> Result<(), OpsError> {
        let name = member.name();
        let expected = self.hash(ops, member, &word)?;
        let found = function.is_aligned().then(|| word(self.place(function))).flatten();
        let found = found.ok_or(OpsError::NotText { ops, member: name, function })?;
        if found == expected {
            return Ok(());
        }
        Err(match distance(function, expected, &word) {
            Some(found) => OpsError::OtherDistance { ops, member: name, function, expected: self.words_between, found },
            None if is_no_hash(found) => OpsError::NoHash { ops, member: name, function, expected, found },
            None => OpsError::OtherType { ops, member: name, function, expected, found },
        })
    }
}

/// Checks each member of a table.
///
/// # Errors
///
/// [`OpsError`]: the first one that must not be called.
///
/// # Safety
///
/// 1. The table can be read, and is what the description says.
pub(super) unsafe fn check_table(engine: &Engine, ops: &Description<'_>, table: *const ()) -> Result<(), OpsError> {
    let word = |at: TextAddr| engine.text_word(at);
    let call_check = CallCheck::of(engine, ops)?;
    for member in ops.members()? {
        // SAFETY: 1. our caller's promise.
        match (unsafe { member.function(table) }, call_check) {
            (None, _) if member.is_optional() => {}
            (None, _) => return Err(OpsError::Missing { ops: ops.name, member: member.name() }),
            (Some(function), Some(check)) => check.member(ops.name, &member, function, word)?,
            (Some(_), None) => {}
        }
    }
    Ok(())
}

/// How many words stand between the nearest word before a function that is not part of a callsite and its entry, if that word
/// is this hash.
fn distance(function: TextAddr, hash: u32, word: impl Fn(TextAddr) -> Option<u32>) -> Option<u32> {
    for words in 0..=MAX_WORDS_BETWEEN {
        let found = word(CallCheck::place_at(function, words))?;
        if found == hash {
            return Some(words);
        }
        if found != MOV_X9_LR && !matches!(Insn::decode(found), Insn::System(System::Hint(_))) {
            return None;
        }
    }
    None
}

/// Whether a word is what stands before a function that has no hash: the end of another one, or what fills up.
fn is_no_hash(word: u32) -> bool {
    match Insn::decode(word) {
        Insn::System(System::Udf { .. } | System::Hint(_)) => true,
        // (Not B, which every 64th hash looks like.)
        insn => matches!(insn.effects().flow, Flow::IndirectJump(_) | Flow::Return(_) | Flow::Exception),
    }
}
