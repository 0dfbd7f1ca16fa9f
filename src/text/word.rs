//! Where text may be read and written: the one promise that everything in this room builds on.

use super::machine::Cpu;
#[cfg(target_os = "none")]
use super::machine::Machine as _;
use crate::address::TextAddr;

/// The address of an instruction in mapped text.
///
/// # Invariants
///
/// 1. It is a multiple of 4.
/// 2. It is inside text that is mapped and readable, and stays so for as long as the value is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextWord(TextAddr);

impl TextWord {
    /// Takes an address in text that is known to be mapped.
    ///
    /// # Safety
    ///
    /// 1. `at` is a multiple of 4.
    /// 2. It is inside text that is mapped and readable for as long as the value is used.
    #[inline(always)]
    pub(crate) const unsafe fn new(at: TextAddr) -> Self {
        debug_assert!(at.is_aligned());
        // INVARIANT: 1. and 2. our caller's promises.
        Self(at)
    }

    /// The address.
    #[inline(always)]
    pub(crate) const fn addr(self) -> TextAddr {
        self.0
    }

    /// Reads the instruction, through the executable mapping.
    #[inline(always)]
    pub(crate) fn load(self, machine: Cpu) -> u32 {
        // SAFETY: 1. and 2. the type's invariants.
        unsafe { machine.load(self.0) }
    }
}
