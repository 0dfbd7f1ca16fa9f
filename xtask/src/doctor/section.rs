//! The first question: is the callsite section there, kept, placed and filled in?

use std::ops::Range;

use fentry::callsite::{BTI_C, NOP};

use super::advice;
use super::loaded::Loaded;
use super::report::Report;

/// The compiler's name of the section.
const SECTION: &str = "__patchable_function_entries";
/// What the linker script puts around it.
const START: &str = "__fentry_callsites_start";
const STOP: &str = "__fentry_callsites_stop";

/// An entry of the section: where it is, and the word that is there once the image is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at: u64,
    pub(super) word: u64,
}

/// Looks for the section, reports on it, and gives its entries.
pub(super) fn examine(loaded: &Loaded, report: &mut Report) -> Vec<Entry> {
    let Some(range) = find(loaded, report) else { return Vec::new() };
    if range.is_empty() {
        report.problem(format!("the callsite section is empty at {:#x}", range.start), missing_advice(loaded));
        return Vec::new();
    }
    place(loaded, &range, report);
    if range.start % 8 != 0 || (range.end - range.start) % 8 != 0 {
        let length = range.end - range.start;
        report.problem(
            format!(
                "the callsite section at {:#x} has {length} bytes: no whole number of aligned entries",
                range.start
            ),
            advice::ENTRIES,
        );
    }
    let places = (range.start.next_multiple_of(8)..range.end.saturating_sub(7)).step_by(8);
    let entries: Vec<Entry> = places.filter_map(|at| Some(Entry { at, word: loaded.read_u64(at)? })).collect();
    fill(loaded, &entries, report);
    entries
}

/// Where the section is, by its linker symbols or else by its name.
fn find(loaded: &Loaded, report: &mut Report) -> Option<Range<u64>> {
    if let Some(range) = loaded.between(START, STOP) {
        return Some(range);
    }
    if loaded.label(START).is_some() || loaded.label(STOP).is_some() {
        report.problem(format!("{START} and {STOP} do not stand around anything"), advice::KEEP);
    }
    let Some(section) = loaded.section(SECTION) else {
        report.problem("there is no callsite section", missing_advice(loaded));
        return None;
    };
    if !section.is_allocated {
        report.problem(format!("the section {SECTION} is not loaded"), advice::KEEP);
        return None;
    }
    report.problem(
        format!(
            "the section {SECTION} is there, at {:#x}, but no linker symbols that the engine could find it by",
            section.addr
        ),
        advice::KEEP,
    );
    Some(section.range())
}

/// Where the section is missing: whether the compiler or the linker left it out shows in the functions.
fn missing_advice(loaded: &Loaded) -> &'static str {
    let patchable = loaded.functions.iter().filter(|function| begins_with_nops(loaded, function.addr)).count();
    if patchable > 0 { advice::KEEP } else { advice::COMPILE }
}

/// Whether a function begins with two NOPs, after a landing pad if it has one.
pub(super) fn begins_with_nops(loaded: &Loaded, addr: u64) -> bool {
    let word = |index: u64| loaded.read_u32(addr.wrapping_add(4 * index));
    let skipped = u64::from(word(0) == Some(BTI_C));
    (skipped..skipped + 2).all(|index| word(index) == Some(NOP))
}

fn place(loaded: &Loaded, range: &Range<u64>, report: &mut Report) {
    let count = (range.end - range.start) / 8;
    match loaded.segment_of(range) {
        None => report.problem(
            format!("the callsite section at {:#x} is in no segment that is loaded", range.start),
            advice::KEEP,
        ),
        Some(segment) if !segment.is_writable => report
            .problem(format!("the callsite section at {:#x} is in a read-only segment", range.start), advice::WRITABLE),
        Some(_) => report.good(format!(
            "the callsite section is kept: {count} entries at {:#x}, in a writable segment",
            range.start
        )),
    }
}

/// Whether the entries hold anything.
fn fill(loaded: &Loaded, entries: &[Entry], report: &mut Report) {
    let zeros = entries.iter().filter(|entry| entry.word == 0).count();
    if loaded.position_independent {
        report.note(format!(
            "position-independent: its {} relocations are applied here; the kernel must do that before the engine's init",
            loaded.relocations
        ));
    }
    if zeros > 0 && zeros == entries.len() {
        let advice = if loaded.position_independent { advice::RELOCATE } else { advice::ENTRIES };
        report.problem(format!("all {zeros} entries of the callsite section are zero"), advice);
    } else if zeros > 0 {
        report
            .problem(format!("{zeros} of {} entries of the callsite section are zero", entries.len()), advice::ENTRIES);
    }
}
