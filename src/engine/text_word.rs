//! Words of text, for rooms above that look at code.

use super::Engine;
use crate::address::TextAddr;
use crate::text::TextWord;

impl Engine {
    /// Reads a word of the text of a region, or of the room for generated code; `None` elsewhere, and before init.
    pub(crate) fn text_word(&self, at: TextAddr) -> Option<u32> {
        let registry = self.lock();
        let is_known = match registry.region_of(at) {
            Some(region) => region.can_read(at),
            None => at.is_aligned() && registry.sets.room.text().contains(at),
        };
        // SAFETY: 1. just checked. 2. A region's text is mapped but for what was forgotten, as long as the region is there, which
        // the lock sees to; and so is the room for generated code (`Image::new`, 2 and 5).
        (is_known && registry.stub_env.is_some()).then(|| unsafe { TextWord::new(at) }.load(registry.machine))
    }
}
