//! The numbers that instructions, sections and symbols have.

use std::fmt;

/// The number of an instruction, or of a word of data among them. Numbers order as addresses do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InsnId(pub(super) u32);

/// The number of an executable section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectionId(pub(super) u32);

/// The number of a symbol, in [`Image::symbols`](crate::image::Image::symbols).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SymbolId(pub(super) u32);

impl InsnId {
    pub(crate) const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The number of words before it, in all executable sections.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for InsnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}
