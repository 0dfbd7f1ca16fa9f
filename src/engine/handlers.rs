//! Text of the kernel that counts as a stub's for a while: of handlers that are called without a guard.

use super::Engine;
use crate::address::{TextAddr, TextRange};
use crate::callsite::veneer::reaches;
use crate::platform::MAX_HANDLER_RANGES;
use core::fmt;

/// A range of text in which no thread is quiescent. Dropped, it is one no more.
pub(crate) struct StubRange {
    engine: &'static Engine,
    range: TextRange,
}

impl StubRange {
    pub(crate) const fn range(&self) -> TextRange {
        self.range
    }
}

impl Drop for StubRange {
    fn drop(&mut self) {
        let mut registry = self.engine.lock();
        registry.remove_stub_range(self.range, &self.engine.stub_text);
        registry.handler_ranges -= 1;
    }
}

impl fmt::Debug for StubRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StubRange").field(&self.range).finish()
    }
}

impl Engine {
    /// Has no thread be quiescent in this text, which is called from generated code by a BL; `None` where that would not reach
    /// it, or there are as many such ranges as there can be.
    pub(crate) fn add_stub_text(&'static self, range: TextRange) -> Option<StubRange> {
        let mut registry = self.lock();
        let room = registry.sets.room.text();
        let is_reached = |from: TextAddr| reaches(from, range.start);
        if usize::from(registry.handler_ranges) == MAX_HANDLER_RANGES
            || !is_reached(room.start)
            || !is_reached(room.end)
        {
            return None;
        }
        registry.handler_ranges += 1;
        registry.add_stub_range(range, &self.stub_text);
        Some(StubRange { engine: self, range })
    }
}
