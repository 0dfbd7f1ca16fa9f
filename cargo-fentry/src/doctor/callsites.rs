//! The second question: does the engine accept each entry?

use std::collections::{BTreeMap, BTreeSet};
use std::mem::discriminant;

use fentry::callsite::{Callsite, Form, Prefix, Refusal, State};
use fentry::symbols::Convention;
use fentry::{TextAddr, TextRange};

use super::advice;
use super::loaded::Loaded;
use super::report::Report;
use super::section::Entry;

/// How many examples of one kind are shown.
const SHOWN: usize = 5;

/// The entries of the callsite section, sorted out as the engine does at init.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) accepted: Vec<Callsite>,
    pub(super) excluded: usize,
    /// The addresses that the entries name, accepted or not.
    pub(super) named: BTreeSet<u64>,
    refused: Vec<(TextAddr, Refusal)>,
}

/// Decodes the entries, reports on them, and gives the callsites.
pub(super) fn examine(loaded: &Loaded<'_>, entries: &[Entry], report: &mut Report) -> Decoded {
    let decoded = decode_all(loaded, entries);
    let mut forms: BTreeMap<Form, usize> = BTreeMap::new();
    for callsite in &decoded.accepted {
        *forms.entry(callsite.form()).or_default() += 1;
    }
    for (form, count) in &forms {
        report.good(format!("{count} callsites of the form: {form}"));
    }
    if decoded.excluded > 0 {
        report.good(format!("{} entries in the engine's own text, never traced", decoded.excluded));
    }
    if !outside_text(loaded, &decoded, report) {
        refusals(loaded, &decoded, report);
    }
    alignment(loaded, &decoded, report);
    if !decoded.accepted.is_empty() {
        protection(loaded, report);
    }
    decoded
}

/// The text that may be patched: what the linker script says, or else all that is executable.
fn text(loaded: &Loaded<'_>) -> TextRange {
    let executable = || {
        let sections = || loaded.sections.iter().filter(|section| section.is_executable && section.is_allocated);
        let start = sections().map(|section| section.range().start).min()?;
        let end = sections().map(|section| section.range().end).max()?;
        Some(start..end)
    };
    let range = loaded.between("__fentry_image_start", "__fentry_image_stop").or_else(executable).unwrap_or(0..0);
    TextRange::new(TextAddr::new(range.start), TextAddr::new(range.end))
}

fn decode_all(loaded: &Loaded<'_>, entries: &[Entry]) -> Decoded {
    let text = text(loaded);
    let engine = loaded.between("__fentry_text_start", "__fentry_text_stop").unwrap_or(0..0);
    let relative = is_relative(entries, text);
    let mut addrs: Vec<u64> = entries.iter().map(|entry| entry.addr(relative)).filter(|&addr| addr != 0).collect();
    addrs.sort_unstable();

    let read = |at: TextAddr| loaded.read_u32(at.get()).unwrap_or(0);
    // What has no length is a label.
    let functions: BTreeSet<u64> =
        loaded.functions.iter().filter(|function| function.size != 0).map(|function| function.addr).collect();
    let decode = |entry| match functions.is_empty() {
        true => Callsite::beyond_doubt(entry, text, read),
        false => Callsite::of_function(entry, text, |at| functions.contains(&at.get()), read),
    };
    let mut decoded = Decoded { named: addrs.iter().copied().collect(), ..Decoded::default() };
    let mut compiled = Vec::new();
    for addr in addrs {
        if engine.contains(&addr) {
            decoded.excluded += 1;
            continue;
        }
        let entry = TextAddr::new(addr);
        match decode(entry) {
            Ok((callsite, State::Compiled)) => compiled.push((callsite, entry)),
            Ok(_) => decoded.refused.push((entry, Refusal::InUse)),
            Err(refusal) => decoded.refused.push((entry, refusal)),
        }
    }
    compiled.sort_by_key(|(callsite, _)| callsite.mov_addr());
    let neighbours = |index: usize| [index.checked_sub(1), Some(index + 1)].into_iter().flatten();
    let mut kept: Vec<(Callsite, TextAddr)> = Vec::new();
    for (callsite, entry) in compiled {
        if kept.last().is_some_and(|(last, _)| last.mov_addr() == callsite.mov_addr()) {
            decoded.refused.push((entry, Refusal::Duplicate));
        } else {
            kept.push((callsite, entry));
        }
    }
    for (index, (callsite, entry)) in kept.iter().enumerate() {
        let overlaps = |index| kept.get(index).is_some_and(|(other, _)| callsite.overlaps(other));
        if neighbours(index).any(overlaps) {
            decoded.refused.push((*entry, Refusal::Overlapping));
        } else if loaded.convention_of(callsite.function().get()) == Convention::Variant {
            decoded.refused.push((*entry, Refusal::CallingConvention));
        } else {
            decoded.accepted.push(*callsite);
        }
    }
    decoded.refused.sort_by_key(|(entry, _)| *entry);
    decoded
}

impl Entry {
    fn addr(self, relative: bool) -> u64 {
        if relative { self.at.wrapping_add(self.word) } else { self.word }
    }
}

/// Whether the entries are distances from themselves: more of them lie in the text when read so.
fn is_relative(entries: &[Entry], text: TextRange) -> bool {
    let in_text = |relative| entries.iter().filter(|entry| text.contains(TextAddr::new(entry.addr(relative)))).count();
    in_text(true) > in_text(false)
}

/// Whether no entry at all lies inside the text, which is one problem and not one of each entry; reports it.
fn outside_text(loaded: &Loaded<'_>, decoded: &Decoded, report: &mut Report) -> bool {
    let text = text(loaded);
    let is_outside =
        !decoded.named.is_empty() && decoded.named.iter().all(|entry| !text.contains(TextAddr::new(*entry)));
    if is_outside {
        let entries = decoded.named.iter().map(|entry| format!("{entry:#x}  {}", loaded.name_of(*entry)));
        let what = format!("none of the {} entries lies inside the text {text}", decoded.named.len());
        report.problem_with_cases(what, shortened(entries), advice::OUTSIDE_TEXT);
    }
    is_outside
}

fn refusals(loaded: &Loaded<'_>, decoded: &Decoded, report: &mut Report) {
    let mut rest = decoded.refused.clone();
    // Not one in the midst of a function, which is damaged.
    let is_stray = |&(entry, refusal): &(TextAddr, Refusal)| {
        refusal == Refusal::NoFunction && loaded.function_at(entry.get()).is_none()
    };
    while let Some(&case @ (_, first)) = rest.first() {
        let of_strays = is_stray(&case);
        let is_same =
            |case: &(TextAddr, Refusal)| discriminant(&case.1) == discriminant(&first) && is_stray(case) == of_strays;
        let (same, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_same);
        let why = match first {
            Refusal::NotPatchable { .. } => "the instructions there are not two NOPs".to_owned(),
            Refusal::PrefixSize { .. } => "its function does not begin where =2 or =4,2 have it".to_owned(),
            other => other.to_string(),
        };
        let case = |(addr, refusal): &(TextAddr, Refusal)| match refusal {
            Refusal::NotPatchable { .. } | Refusal::PrefixSize { .. } => {
                format!("{addr}  {}: {refusal}", loaded.name_of(addr.get()))
            }
            _ => format!("{addr}  {}", loaded.name_of(addr.get())),
        };
        let cases = shortened(same.iter().map(case));
        let count = same.len();
        match first {
            // Nothing is wrong with these.
            Refusal::CallingConvention => {
                report.hint_with_cases(format!("{count} entries are refused: {why}"), cases, advice::CONVENTION);
            }
            Refusal::NoFunction if of_strays && !decoded.accepted.is_empty() => {
                report.hint_with_cases(format!("{count} entries are refused: {why}"), cases, advice::NO_FUNCTION);
            }
            Refusal::Duplicate => report.hint_with_cases(format!("{count} entries: {why}"), cases, advice::DUPLICATE),
            _ => report.problem_with_cases(format!("{count} entries are refused: {why}"), cases, advice::REFUSED),
        }
        rest = others;
    }
}

/// The pointer before a function is only of use where it can be read in one piece.
fn alignment(loaded: &Loaded<'_>, decoded: &Decoded, report: &mut Report) {
    let prefixed = || decoded.accepted.iter().filter(|callsite| callsite.form().prefix == Prefix::Literal);
    let misaligned: Vec<&Callsite> = prefixed().filter(|callsite| callsite.literal().is_none()).collect();
    if !misaligned.is_empty() {
        let cases = misaligned.iter().map(|callsite| callsite.function());
        report.hint_with_cases(
            format!("{} of {} functions with prefix NOPs are not 8-byte aligned", misaligned.len(), prefixed().count()),
            shortened(cases.map(|addr| format!("{addr}  {}", loaded.name_of(addr.get())))),
            advice::ALIGNMENT,
        );
    }
}

/// The first few of many cases.
pub(super) fn shortened(cases: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let more = cases.len().saturating_sub(SHOWN);
    cases.take(SHOWN).chain((more > 0).then(|| format!("and {more} more"))).collect()
}

/// Whether the loader is asked for text that can be written and executed at once, as a hint: a kernel may well map itself
/// otherwise.
fn protection(loaded: &Loaded<'_>, report: &mut Report) {
    for segment in loaded.segments.iter().filter(|segment| segment.is_executable && segment.is_writable) {
        report.hint(format!("the segment at {:#x} is writable and executable", segment.addr), advice::PROTECTION);
    }
}
