//! The first question: is the callsite section there, kept, placed and filled in?

use std::ops::Range;

use fentry::callsite::{BTI_C, NOP};
use object::Object;

use super::advice;
use super::loaded::{Loaded, Words};
use super::report::Report;
use crate::image;
use crate::symbols::Kept;

/// How Linux keeps it (include/asm-generic/vmlinux.lds.h, MCOUNT_REC).
const LINUX: [&str; 3] = ["__mcount_loc", "__start_mcount_loc", "__stop_mcount_loc"];
/// The output section of examples/fentry.ld, by whose name it is found where there are no symbols.
const OURS: &str = ".fentry.callsites";

/// What the compiler and examples/fentry.ld call it.
pub fn usual() -> Kept {
    Kept::new("__patchable_function_entries", "__fentry_callsites_start", "__fentry_callsites_stop")
}

/// What Linux calls it.
pub fn linux() -> Kept {
    let [section, start, stop] = LINUX;
    Kept::new(section, start, stop)
}

/// Whether an image keeps its callsites as Linux does.
pub fn is_linux(data: &[u8]) -> bool {
    image::parse(data).is_ok_and(|image| image.symbol_by_name(LINUX[1]).is_some())
}

/// An entry of the section that is not zero: where it is, and the word that is there once the image is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at: u64,
    pub(super) word: u64,
}

/// Looks for the section, reports on it, and gives its entries.
pub(super) fn examine(loaded: &Loaded<'_>, kept: &Kept, report: &mut Report) -> Vec<Entry> {
    if loaded.is_stripped() {
        report.problem("the image has no symbols: it is stripped", advice::STRIPPED);
    }
    let Some(range) = find(loaded, kept, report) else { return Vec::new() };
    if range.is_empty() {
        report.problem(format!("the callsite section is empty at {:#x}", range.start), &missing_advice(loaded));
        return Vec::new();
    }
    let length = range.end - range.start;
    if loaded.segment_of(&range).is_none() {
        let from = loaded.first_outside(&range, |_| true).map_or(range.start, |(at, _)| at);
        report.problem(
            format!(
                "the callsite section, {length:#x} bytes at {:#x}, is in no segment that is loaded from {from:#x} on",
                range.start
            ),
            &advice::keep(),
        );
        return Vec::new();
    }
    place(loaded, &range, report);
    if range.start % 8 != 0 || length % 8 != 0 {
        report.problem(
            format!(
                "the callsite section at {:#x} has {length} bytes: no whole number of aligned entries",
                range.start
            ),
            advice::ENTRIES,
        );
    }
    let Some(start) = range.start.checked_next_multiple_of(8).filter(|start| *start < range.end) else {
        return Vec::new();
    };
    let words = loaded.words(&(start..range.end));
    fill(loaded, &words, report);
    bracketed(loaded, &range, report);
    words.set.into_iter().map(|(at, word)| Entry { at, word }).collect()
}

/// Where the section is, by its linker symbols or else by its name.
fn find(loaded: &Loaded<'_>, kept: &Kept, report: &mut Report) -> Option<Range<u64>> {
    let Kept { section: name, start, stop } = kept;
    if let Some(range) = loaded.between(start, stop) {
        return Some(range);
    }
    if loaded.label(start).is_some() || loaded.label(stop).is_some() {
        report.problem(format!("{start} and {stop} are not in order, or one of them is missing"), &advice::keep());
    }
    let ours = || loaded.section(OURS).filter(|_| loaded.is_stripped());
    let Some(section) = loaded.section(name).or_else(ours) else {
        if !loaded.is_stripped() {
            report.problem("there is no callsite section", &missing_advice(loaded));
        }
        return None;
    };
    if !section.is_allocated {
        report.problem(format!("the section {name} is not loaded"), &advice::keep());
        return None;
    }
    if !loaded.is_stripped() {
        let at = section.addr;
        report.problem(
            format!("the section {name} is there, at {at:#x}, but no linker symbols that the engine could find it by"),
            &advice::keep(),
        );
    }
    Some(section.range())
}

/// Where the section is missing: whether the compiler or the linker left it out shows in the functions; and Linux has
/// another name for it.
fn missing_advice(loaded: &Loaded<'_>) -> String {
    let [section, start, stop] = LINUX;
    if loaded.section(section).is_some() || loaded.between(start, stop).is_some_and(|range| !range.is_empty()) {
        return format!("this kernel keeps it as Linux does: give\n  --section {section} --symbols {start},{stop}");
    }
    let patchable = loaded.functions.iter().filter(|function| begins_with_nops(loaded, function.addr)).count();
    if patchable > 0 { advice::keep() } else { advice::COMPILE.to_owned() }
}

/// Whether a function begins with two NOPs, after a landing pad if it has one.
pub(super) fn begins_with_nops(loaded: &Loaded<'_>, addr: u64) -> bool {
    let word = |index: u64| loaded.read_u32(addr.wrapping_add(4 * index));
    let skipped = u64::from(word(0) == Some(BTI_C));
    (skipped..skipped + 2).all(|index| word(index) == Some(NOP))
}

fn place(loaded: &Loaded<'_>, range: &Range<u64>, report: &mut Report) {
    let (start, count) = (range.start, (range.end - range.start) / 8);
    if loaded.segment_of(range).is_some_and(|segment| segment.is_writable) {
        report.good(format!("the callsite section is kept: {count} entries at {start:#x}, in a writable segment"));
    } else {
        report.problem(format!("the callsite section at {start:#x} is in a read-only segment"), advice::WRITABLE);
    }
}

/// Whether the entries hold anything.
fn fill(loaded: &Loaded<'_>, words: &Words, report: &mut Report) {
    let Words { set, zeros } = words;
    let all = zeros + set.len() as u64;
    if loaded.position_independent {
        report.note(format!(
            "position-independent: its {} relocations are applied here; the kernel must do that before the engine's init",
            loaded.relocations
        ));
    }
    let what = if set.is_empty() { format!("all {zeros}") } else { format!("{zeros} of {all}") };
    let what = format!("{what} entries of the callsite section are zero");
    match (zeros, set.is_empty(), loaded.position_independent) {
        (0, ..) => {}
        (_, true, true) => report.problem(what, advice::RELOCATE),
        (_, true, false) => report.problem(what, advice::DISCARDED),
        // Only the function that was named is gone, and with it what could have been traced.
        (_, false, false) => report.hint(what, advice::DISCARDED),
        (_, false, true) => report.problem(what, advice::DISCARDED_OR_NOT_RELOCATED),
    }
}

/// Whether a name is one that linker scripts give the end of the relocations: `__rela_end`, `rela_dyn_stop` ...
fn is_end_of_relocations(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("rela") && ["end", "stop", "limit"].iter().any(|end| name.contains(end))
}

/// Whether a kernel that goes by its own symbol for the end of its relocations applies those of the callsites.
fn bracketed(loaded: &Loaded<'_>, range: &Range<u64>, report: &mut Report) {
    let Some(records) = loaded.records() else { return };
    let ends = loaded.labels_named(is_end_of_relocations);
    // One elsewhere is the end of something else.
    let Some((end, name)) = ends.iter().rfind(|(end, _)| (records.start..=records.end).contains(end)) else { return };
    let behind = loaded.records_for(range).filter(|at| at >= end).count();
    if behind > 0 {
        let what = format!("{behind} relocations of the callsites lie behind {name}, {end:#x}");
        report.problem(what, advice::BRACKETED);
    }
}
