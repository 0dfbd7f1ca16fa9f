//! The section's entries: what each means, and how those that are callsites become records.

use super::record::CallsiteRecord;
use crate::address::{TextAddr, TextRange};
use crate::callsite::{Callsite, LandingPad, Layout, Refusal, State};
use crate::symbols::{Cursor, Symbols};

/// What init found in a section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InitCounts {
    /// Callsites accepted.
    pub accepted: usize,
    /// Of these, how many begin with BTI C.
    pub with_landing_pad: usize,
    /// Of these, how many have room for a literal before the function.
    pub with_literal: usize,
    /// Entries in text that is never traced: the engine's own.
    pub excluded: usize,
    /// Callsites of functions that were [left out](crate::Image::leave_out).
    pub left_out: usize,
    /// Entries that are no callsites.
    pub refused: usize,
}

/// Entries becoming records.
pub(super) struct Filling<'a> {
    pub(super) text: TextRange,
    pub(super) excluded: TextRange,
    pub(super) slots: &'a mut [u64],
    pub(super) counts: InitCounts,
    /// Whether a callsite begins before the one of the entry before has ended.
    pub(super) crowded: bool,
    /// The first entry that can mean more than one thing.
    pub(super) in_doubt: Option<TextAddr>,
}

impl Filling<'_> {
    /// Moves the accepted to the front, as records; the rest stay entries.
    #[inline(always)]
    pub(super) fn fill(&mut self, mut decode: impl FnMut(TextAddr) -> Result<(Callsite, State), Refusal>) {
        let Self { text, excluded, slots, counts, .. } = self;
        let mut end = TextAddr::new(0);
        for index in 0..slots.len() {
            let entry = TextAddr::new(slots[index]);
            if excluded.contains(entry) {
                counts.excluded += 1;
                continue;
            }
            match decode(entry) {
                Ok((callsite, State::Compiled)) => {
                    let Some(record) = CallsiteRecord::new(text.start, &callsite) else { continue };
                    counts.with_landing_pad += usize::from(callsite.form().landing_pad == LandingPad::BtiC);
                    counts.with_literal += usize::from(callsite.literal().is_some());
                    self.crowded |= callsite.mov_addr() < end;
                    end = callsite.call_addr().offset(4);
                    // Between `accepted` and here lie entries set aside only: the accepted ones keep their order.
                    slots.swap(counts.accepted, index);
                    slots[counts.accepted] = record.0;
                    counts.accepted += 1;
                }
                Err(Refusal::InDoubt) => self.in_doubt = self.in_doubt.or(Some(entry)),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// What says what an entry means.
pub(super) enum Reading<'a> {
    /// Where functions begin.
    Functions(Cursor<'a>),
    /// Who compiled the text.
    Stated(Layout),
    /// The instructions alone.
    Text,
}

impl<'a> Reading<'a> {
    pub(super) fn new(symbols: Option<&'a Symbols<'a>>, layout: Option<Layout>) -> Self {
        match (symbols, layout) {
            (Some(symbols), _) => Self::Functions(symbols.cursor()),
            (None, Some(layout)) => Self::Stated(layout),
            (None, None) => Self::Text,
        }
    }

    /// The callsite that an entry stands for, and the state that its text says.
    pub(super) fn decode(
        &mut self,
        entry: TextAddr,
        text: TextRange,
        read: impl FnMut(TextAddr) -> u32,
    ) -> Result<(Callsite, State), Refusal> {
        match self {
            Self::Functions(symbols) => Callsite::of_function(entry, text, |at| symbols.is_at_function(at.get()), read),
            Self::Stated(layout) => Callsite::decode(entry, text, *layout, read),
            Self::Text => Callsite::beyond_doubt(entry, text, read),
        }
    }
}
