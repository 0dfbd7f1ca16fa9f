//! Words of text, for rooms above that look at code.

use super::Engine;
use crate::address::{TextAddr, TextRange};
use crate::text::TextWord;

impl Engine {
    /// Reads a word of the text of a region, or of the room for generated code; `None` elsewhere, and before init.
    pub(crate) fn text_word(&self, at: TextAddr) -> Option<u32> {
        let registry = self.lock();
        let end = at.offset(4);
        let is_inside = |text: TextRange| text.start <= at && end <= text.end;
        let text = registry.region_of(at).map_or(registry.sets.room.text(), |region| region.text);
        let forgotten = registry.forgotten;
        let is_known = at.is_aligned() && registry.stub_env.is_some() && is_inside(text);
        let is_there = end <= forgotten.start || forgotten.end <= at;
        // SAFETY: 1. just checked. 2. A region's text is mapped but for what was forgotten, as long as the region is there, which
        // the lock sees to; and so is the room for generated code (`Image::new`, 2 and 5).
        (is_known && is_there).then(|| unsafe { TextWord::new(at) }.load(registry.machine))
    }
}
