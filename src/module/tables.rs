//! What the loader adds to a module's segments: veneers and a GOT.
//!
//! They are counted before there is memory, as one for each distinct target.
//!
//! ```text
//!   text, init text    sections | veneers: the entry stubs' two, one a target beyond the segment, one a forbidden ADRP
//!   rodata             sections | GOT
//!   data               sections | COMMON symbols
//! ```

use super::erratum::Erratum843419;
use super::error::LoadError;
use super::layout::{SegmentLayout, SegmentOffset, TEXTS};
use super::memory::Segment;
use super::object::Object;
use super::resolve::{RelocTarget, SymbolValues};
use super::targets::{TargetCollector, TargetSet};
use crate::callsite::veneer::{ENTRY_BYTES, STUB_VENEERS, is_erratum_843419_place};

/// The room for veneers and the GOT, and what is to be reached by them.
#[derive(Debug)]
pub(crate) struct LinkTables {
    /// Each segment's veneers.
    veneers: [Option<TableRoom>; Segment::ALL.len()],
    /// What branches of text and of init text refer to beyond their own segment: the targets of veneers.
    pub(crate) branches: [TargetSet; 2],
    pub(crate) got: TableRoom,
    /// The targets of the GOT's entries.
    pub(crate) in_got: TargetSet,
}

/// Room for entries at the end of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableRoom {
    pub(crate) start: SegmentOffset,
    pub(crate) entries: usize,
}

impl LinkTables {
    /// Counts what a module needs, and appends the room for it to the layout.
    pub(crate) fn append_to(
        layout: &mut SegmentLayout,
        object: &Object<'_>,
        values: &SymbolValues,
        erratum: Erratum843419,
    ) -> Result<Self, LoadError> {
        // What branches refer to beyond their own segment, and forbidden ADRPs, of text and of init text.
        let mut targets = [TargetCollector::default(), TargetCollector::default()];
        let mut forbidden = [0, 0];
        let (mut in_got, mut needs_got) = (TargetCollector::default(), false);
        for (section, start) in object.sections.iter().zip(&layout.sections) {
            let Some(start) = start else { continue };
            let text = TEXTS.iter().position(|segment| *segment == start.segment);
            for relocation in section.relocations() {
                let kind = relocation.kind;
                // What isn't loaded is refused by name when it is applied.
                let Some(target) = values.target(&relocation) else { continue };
                match target {
                    // Something of no length may be all that a segment has, and has an address.
                    RelocTarget::Here(segment, _) if layout.bytes[segment.index()] == 0 => {
                        layout.bytes[segment.index()] = 1;
                    }
                    RelocTarget::Got(_) => needs_got = true,
                    _ => {}
                }
                if kind.needs_got() {
                    in_got.note(target)?;
                }
                let Some(text) = text else { continue };
                if kind.is_branch() && !target.is_in(start.segment) {
                    targets[text].note(target)?;
                }
                let is_forbidden = kind.is_adrp()
                    && erratum == Erratum843419::Present
                    && is_erratum_843419_place(start.offset + relocation.offset);
                forbidden[text] += usize::from(is_forbidden);
            }
        }
        let branches = targets.map(TargetCollector::finish);
        let mut veneers = [None; Segment::ALL.len()];
        for ((segment, branches), forbidden) in TEXTS.into_iter().zip(&branches).zip(forbidden) {
            if layout.bytes[segment.index()] > 0 {
                let entries = STUB_VENEERS + branches.len() + forbidden;
                let start = layout.append(segment, ENTRY_BYTES, ENTRY_BYTES * entries as u64)?;
                veneers[segment.index()] = Some(TableRoom { start, entries });
            }
        }
        let in_got = in_got.finish();
        let entries = in_got.len().max(usize::from(needs_got));
        let start = layout.append(Segment::Rodata, 8, 8 * entries as u64)?;
        Ok(Self { veneers, branches, got: TableRoom { start, entries }, in_got })
    }

    /// The place of a segment's veneer of this index; `None` beyond the last.
    pub(crate) fn veneer(&self, segment: Segment, index: usize) -> Option<SegmentOffset> {
        let TableRoom { start, .. } = self.veneers[segment.index()].filter(|room| index < room.entries)?;
        Some(SegmentOffset { offset: start.offset + ENTRY_BYTES * index as u64, ..start })
    }

    /// The error for a segment that has no veneer left.
    pub(crate) fn no_veneer_left(&self, segment: Segment) -> LoadError {
        LoadError::PltFull { segment, entries: self.veneers[segment.index()].map_or(0, |room| room.entries) }
    }
}
