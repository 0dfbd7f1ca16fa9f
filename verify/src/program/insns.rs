//! From one instruction to the next and the one before, within a section, a function or a symbol; and all of one.

use std::iter::FusedIterator;
use std::ops::Range;

use super::{FunctionId, InsnId, Program, SectionId, SymbolId};

/// Instructions in order, from either end. Data among them is left out.
#[derive(Clone, Debug)]
pub struct Insns<'a> {
    program: &'a Program<'a>,
    /// The range that is gone through from its start, those behind it, and the one that is gone through from its end.
    front: Range<u32>,
    middle: std::collections::VecDeque<Range<u32>>,
}

impl<'a> Insns<'a> {
    fn new(program: &'a Program<'a>, ranges: impl IntoIterator<Item = Range<u32>>) -> Self {
        let mut middle: std::collections::VecDeque<_> = ranges.into_iter().collect();
        Self { program, front: middle.pop_front().unwrap_or(0..0), middle }
    }

    fn one(program: &'a Program<'a>, range: Range<u32>) -> Self {
        Self::new(program, std::iter::once(range))
    }
}

impl Iterator for Insns<'_> {
    type Item = InsnId;

    fn next(&mut self) -> Option<InsnId> {
        loop {
            for index in self.front.by_ref() {
                if !self.program.is_data(InsnId(index)) {
                    return Some(InsnId(index));
                }
            }
            self.front = self.middle.pop_front()?;
        }
    }
}

impl DoubleEndedIterator for Insns<'_> {
    fn next_back(&mut self) -> Option<InsnId> {
        loop {
            let last = self.middle.back_mut().unwrap_or(&mut self.front);
            while let Some(index) = last.next_back() {
                if !self.program.is_data(InsnId(index)) {
                    return Some(InsnId(index));
                }
            }
            self.middle.pop_back()?;
        }
    }
}

impl FusedIterator for Insns<'_> {}

impl Program<'_> {
    /// All instructions, by address.
    pub fn all(&self) -> Insns<'_> {
        Insns::new(self, self.sections().map(|section| self.section_range(section)))
    }

    /// The instructions of a section.
    pub fn of_section(&self, section: SectionId) -> Insns<'_> {
        Insns::one(self, self.section_range(section))
    }

    /// The instructions of a function, then those of its parts. Of a part, its own.
    pub fn of_function(&self, function: FunctionId) -> Insns<'_> {
        Insns::new(self, self.ranges_of(function))
    }

    /// The ranges of a function and its parts.
    pub(crate) fn ranges_of(&self, function: FunctionId) -> impl Iterator<Item = Range<u32>> + '_ {
        let function = self.function(function);
        let parts = function.parts.iter().map(|part| self.function(*part).range.clone());
        std::iter::once(function.range.clone()).chain(parts)
    }

    /// The instructions of a symbol, as far as its size says.
    pub fn of_symbol(&self, symbol: SymbolId) -> Insns<'_> {
        Insns::one(self, self.symbol_range(symbol))
    }

    fn symbol_range(&self, symbol: SymbolId) -> Range<u32> {
        let symbol = self.symbol(symbol);
        let Some(first) = self.word_at(symbol.address & !3) else { return 0..0 };
        let end = self.section_range(self.section_of(first)).end;
        let words = u32::try_from(symbol.size.div_ceil(4)).unwrap_or(u32::MAX);
        first.0..first.0.saturating_add(words).min(end)
    }

    /// The instructions from this one on, to its section's end.
    pub fn from(&self, id: InsnId) -> Insns<'_> {
        Insns::one(self, id.0..self.section_range(self.section_of(id)).end)
    }

    /// The instructions before this one, from its section's start; with `.rev()`, backwards from here.
    pub fn before(&self, id: InsnId) -> Insns<'_> {
        Insns::one(self, self.section_range(self.section_of(id)).start..id.0)
    }

    /// The last instruction of a section.
    pub fn last_of(&self, section: SectionId) -> Option<InsnId> {
        self.of_section(section).next_back()
    }

    /// The next instruction of the section.
    pub fn next_in_section(&self, id: InsnId) -> Option<InsnId> {
        self.from(id).find(|other| *other != id)
    }

    /// The word behind an instruction in its section: an instruction or data.
    pub(crate) fn behind(&self, id: InsnId) -> Option<InsnId> {
        let next = InsnId(id.0 + 1);
        self.section_range(self.section_of(id)).contains(&next.0).then_some(next)
    }

    /// The instruction before this one in the section.
    pub fn prev_in_section(&self, id: InsnId) -> Option<InsnId> {
        self.before(id).next_back()
    }

    /// The next instruction of the function; after its last one, the first of its first part.
    pub fn next_in_function(&self, id: InsnId) -> Option<InsnId> {
        self.beside_in_function(id, |insns, id| insns.find(|other| *other > id), |insns| insns.next(), 1)
    }

    /// The instruction before this one in the function; before a part's first one, the last of what comes before it.
    pub fn prev_in_function(&self, id: InsnId) -> Option<InsnId> {
        let before = |insns: &mut Insns<'_>, id| insns.by_ref().rev().find(|other| *other < id);
        self.beside_in_function(id, before, |insns| insns.next_back(), -1)
    }

    /// The instruction beside this one in its range, or else at the near end of the range that is `step` on.
    fn beside_in_function(
        &self,
        id: InsnId,
        beside: impl Fn(&mut Insns<'_>, InsnId) -> Option<InsnId>,
        near_end: impl Fn(&mut Insns<'_>) -> Option<InsnId>,
        step: isize,
    ) -> Option<InsnId> {
        let function = self.parent(self.function_of(id)?);
        let ranges: Vec<Range<u32>> = self.ranges_of(function).collect();
        let at = ranges.iter().position(|range| range.contains(&id.0))?;
        let here = match step {
            1.. => id.0..ranges[at].end,
            _ => ranges[at].start..id.0,
        };
        if let Some(found) = beside(&mut Insns::one(self, here), id) {
            return Some(found);
        }
        let mut at = at.checked_add_signed(step)?;
        loop {
            if let Some(found) = near_end(&mut Insns::one(self, ranges.get(at)?.clone())) {
                return Some(found);
            }
            at = at.checked_add_signed(step)?;
        }
    }

    /// The next instruction of a symbol.
    pub fn next_in_symbol(&self, symbol: SymbolId, id: InsnId) -> Option<InsnId> {
        let range = self.symbol_range(symbol);
        let within = range.start.max(id.0.saturating_add(1))..range.end;
        Insns::one(self, within).next()
    }

    /// The instruction before this one in a symbol.
    pub fn prev_in_symbol(&self, symbol: SymbolId, id: InsnId) -> Option<InsnId> {
        let range = self.symbol_range(symbol);
        Insns::one(self, range.start..range.end.min(id.0)).next_back()
    }
}
