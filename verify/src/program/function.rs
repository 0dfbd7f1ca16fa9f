//! Functions: ranges of text that symbols name.

use std::ops::Range;

use super::id::{InsnId, SymbolId};

/// The number of a function, or of a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(pub(super) u32);

impl FunctionId {
    /// The number of functions and parts before it.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A function, or a part of one: one range of text.
#[derive(Clone, Debug)]
pub struct Function {
    pub(super) range: Range<u32>,
    /// Its symbols: the name first, then aliases.
    pub(super) symbols: Vec<SymbolId>,
    /// The function that it is part of; itself where it is no part.
    pub(super) parent: FunctionId,
    /// The other parts, of a parent.
    pub(super) parts: Vec<FunctionId>,
    /// The NOPs before its entry.
    pub(super) prefix: u8,
    /// The word before those, with kCFI.
    pub(super) hash: Option<u32>,
    pub(super) is_typed: bool,
    pub(super) is_sized: bool,
}

/// What a function begins with before its own code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Landing {
    /// Nothing.
    None,
    /// BTI C, BTI J or BTI JC.
    Bti,
    /// PACIASP or PACIBSP, which are landing pads for calls, too (Arm ARM D8.4.5).
    Pac,
}

impl Function {
    /// Its first word.
    pub fn entry(&self) -> InsnId {
        InsnId(self.range.start)
    }

    /// Whether a word lies in its range, its parts left aside.
    pub fn contains(&self, id: InsnId) -> bool {
        self.range.contains(&id.0)
    }

    /// How many words it has, its parts left aside.
    pub fn words(&self) -> usize {
        self.range.len()
    }

    /// Its symbols: the name first, then aliases.
    pub fn symbols(&self) -> &[SymbolId] {
        &self.symbols
    }

    /// The ranges that jumps from it have been split off to.
    pub fn parts(&self) -> &[FunctionId] {
        &self.parts
    }

    /// How many NOPs stand before its entry: two with `-fpatchable-function-entry=4,2`. Where nothing else stands there,
    /// padding that consists of NOPs counts as well.
    pub fn prefix_nops(&self) -> u8 {
        self.prefix
    }

    /// The hash of its type, which stands before its entry and the prefix NOPs, where callers compare those (kCFI).
    pub fn hash(&self) -> Option<u32> {
        self.hash
    }

    /// Whether its symbol is marked as a function. A global label in assembly, where no function is, counts as one as well.
    pub fn is_typed(&self) -> bool {
        self.is_typed
    }

    /// Whether its symbol has a size. Else it is taken to reach to the next one, or to its section's end.
    pub fn is_sized(&self) -> bool {
        self.is_sized
    }
}
