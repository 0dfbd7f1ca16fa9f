//! The fourth question: is the engine itself out of reach of its own tracing, within reach of a BL, and does it know names?

use std::collections::BTreeSet;
use std::ops::Range;

use fentry::callsite::Callsite;
use fentry::symbols::{Function, Symbols};
use fentry::{TextAddr, TextRange};

use super::advice;
use super::loaded::Loaded;
use super::report::Report;

/// How far a BL reaches, in both directions.
const REACH: u64 = 128 << 20;

/// The stubs that callsites call.
const STUBS: [&str; 2] = ["ftrace_caller", "ftrace_regs_caller"];

/// What of the engine is executed, and the symbols around it.
const OWN_TEXT: [(&str, &str, &str); 2] = [
    ("the engine's own text", "__fentry_text_start", "__fentry_text_stop"),
    ("the room for generated stubs", "__fentry_stubs_start", "__fentry_stubs_stop"),
];

/// Looks at the engine and reports on it.
pub(super) fn examine(loaded: &Loaded<'_>, callsites: &[Callsite], report: &mut Report) {
    gathered(loaded, report);
    mapped(loaded, report);
    within_the_kernels_text(loaded, report);
    within_reach(loaded, callsites, report);
    names(loaded, report);
    own_script_alone(loaded, report);
}

/// Whether a mangled name has the crate `fentry` in it, and not one whose name only ends like it.
fn is_engine(name: &str) -> bool {
    let Some(at) = name.find("6fentry") else { return false };
    is_mangled(name) && !name[..at].ends_with(|before: char| before.is_ascii_digit())
}

fn is_mangled(name: &str) -> bool {
    name.starts_with("_R") || name.starts_with("_ZN")
}

fn gathered(loaded: &Loaded<'_>, report: &mut Report) {
    let in_text = |addr: &u64| {
        loaded
            .sections
            .iter()
            .any(|section| section.is_executable && section.is_allocated && section.range().contains(addr))
    };
    let own: BTreeSet<u64> = loaded.labels_where(is_engine).filter(in_text).collect();
    if own.is_empty() {
        report.note("the engine is not linked in (yet)");
        return;
    }
    let Some(range) = loaded.between("__fentry_text_start", "__fentry_text_stop") else {
        report.problem("nothing gathers the engine's own text: it would trace itself", &advice::gather());
        return;
    };
    // LLVM makes one of equal functions, with the names of all, where any of them stood.
    let others: BTreeSet<u64> = loaded.labels_where(|name| is_mangled(name) && !is_engine(name)).collect();
    let (merged, outside): (Vec<u64>, Vec<u64>) =
        own.iter().filter(|addr| !range.contains(addr)).partition(|addr| others.contains(addr));
    if !merged.is_empty() {
        let cases = merged.iter().take(5).map(|&addr| format!("{addr:#x}  {}", loaded.name_of(addr))).collect();
        report.note_with_cases(
            format!(
                "{} functions of the engine are merged with equal ones of others, and traced with those",
                merged.len()
            ),
            cases,
        );
    }
    if outside.is_empty() {
        let text = TextRange::new(TextAddr::new(range.start), TextAddr::new(range.end));
        report.good(format!("the engine's own text is gathered: {} functions in {text}", own.len()));
        return;
    }
    let cases = outside.iter().take(5).map(|&addr| format!("{addr:#x}  {}", loaded.name_of(addr))).collect();
    report.problem_with_cases(
        format!("{} of the engine's {} functions are outside its gathered text", outside.len(), own.len()),
        cases,
        &advice::gather(),
    );
}

/// Whether a name is one that linker scripts give the end of all text: `_etext`, `etext`, `__text_end`, `_end_of_text` ...
fn is_end_of_text(name: &str) -> bool {
    let letters = name.replace('_', "").to_ascii_lowercase();
    ["etext", "textend", "textstop", "endtext", "endoftext"].contains(&letters.as_str())
}

/// The engine's text and the room for its stubs, where the image has them.
fn own_text(loaded: &Loaded<'_>) -> impl Iterator<Item = (&'static str, Range<u64>)> {
    OWN_TEXT.into_iter().filter_map(|(what, start, stop)| {
        let range = loaded.between(start, stop)?;
        (!range.is_empty()).then_some((what, range))
    })
}

/// Whether the program headers have the engine's text and its room executable, by which boot loaders and many kernels map.
fn mapped(loaded: &Loaded<'_>, report: &mut Report) {
    for (what, range) in own_text(loaded) {
        let Some((at, segment)) = loaded.first_outside(&range, |segment| segment.is_executable) else { continue };
        let how =
            if segment.is_some() { "in a segment that is not executable" } else { "in no segment that is loaded" };
        report.problem(
            format!("{what}, {:#x}..{:#x}, is {how} from {at:#x} on", range.start, range.end),
            advice::EXECUTABLE,
        );
    }
}

/// A kernel that maps its text up to a symbol of its own has not mapped what lies behind it. Nothing says that it does, so
/// this is a hint.
fn within_the_kernels_text(loaded: &Loaded<'_>, report: &mut Report) {
    let text = loaded.sections.iter().filter(|section| section.is_executable && section.is_allocated);
    // Not of the addresses of another mapping, or of none.
    let Some(first) = text.map(|section| section.addr).min() else { return };
    let ends = loaded.labels_named(is_end_of_text);
    let mut cases = Vec::new();
    for (what, range) in own_text(loaded) {
        let before = ends.iter().filter(|(end, _)| first < *end && *end < range.end);
        cases.extend(before.map(|(end, name)| {
            let Range { start, end: stop } = range;
            format!("{name} is {end:#x}, and {what} lies in {start:#x}..{stop:#x}")
        }));
    }
    if !cases.is_empty() {
        let what = "the kernel's own symbol for the end of its text lies before the end of the engine's text";
        report.hint_with_cases(what, cases, advice::END_OF_TEXT);
    }
}

fn within_reach(loaded: &Loaded<'_>, callsites: &[Callsite], report: &mut Report) {
    let calls = || callsites.iter().map(|callsite| callsite.call_addr().get());
    let (Some(first), Some(last)) = (calls().min(), calls().max()) else { return };
    let stubs: Vec<u64> = STUBS.iter().filter_map(|name| loaded.label(name)).collect();
    let farthest = match (stubs.iter().min(), stubs.iter().max()) {
        (Some(&low), Some(&high)) => high.abs_diff(first).max(low.abs_diff(last)),
        // Before the engine is linked in: it may come at either end.
        _ => last - first,
    };
    if farthest >= REACH {
        report.problem(format!("some callsites are {} MiB away from what they call", farthest >> 20), advice::REACH);
    } else {
        report.good(format!("every callsite is within reach of a BL: {} KiB at most", farthest.div_ceil(1024)));
    }
}

/// Whether GNU ld has laid out the image by its default script too: that one's symbols are then where nothing is.
fn own_script_alone(loaded: &Loaded<'_>, report: &mut Report) {
    const BY_DEFAULT: [&str; 3] = ["_bss_end__", "__bss_end__", "__end__"];
    let is_outside = |addr: u64| {
        let mut loaded = loaded.sections.iter().filter(|section| section.is_allocated);
        !loaded.any(|section| section.range().contains(&addr) || section.range().end == addr)
    };
    let ends: Option<Vec<u64>> = BY_DEFAULT.iter().map(|name| loaded.label(name)).collect();
    if let Some(&[first, .., last]) = ends.as_deref()
        && first == last
        && is_outside(first)
    {
        report.problem(
            format!("GNU ld has added its default script to the kernel's own: __end__ is {last:#x}, where nothing is"),
            advice::INCLUDED,
        );
    }
}

fn names(loaded: &Loaded<'_>, report: &mut Report) {
    let Some(range) = loaded.between("__fentry_symbols_start", "__fentry_symbols_stop") else {
        report.hint("there is no place for a symbol table: functions are found by address only", &advice::symbols());
        return;
    };
    let bytes = loaded.bytes(&range).unwrap_or_default();
    match Symbols::in_room(bytes) {
        Err(error) => report.problem(error.to_string(), advice::RELINK),
        Ok(symbols) => {
            let is_right =
                |function: &Function| symbols.lookup_name(&function.name).any(|symbol| symbol.addr == function.addr);
            let far: BTreeSet<u64> =
                loaded.left_out.iter().flat_map(|far| &far.functions).map(|far| far.addr).collect();
            let is_wrong = |function: &&Function| !is_right(function) && !far.contains(&function.addr);
            let wrong = loaded.functions.iter().filter(is_wrong).count();
            loaded.left_out.iter().for_each(|left_out| report.note(left_out.to_string()));
            if wrong == 0 {
                report.good(format!("the symbol table has all {} names", symbols.len()));
            } else {
                report.problem(
                    format!("the symbol table is of another link: {wrong} functions are not in it"),
                    advice::RELINK,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{is_end_of_text, is_engine};

    #[test]
    fn the_crate_is_told_from_others_by_its_length() {
        assert!(is_engine("_RNvNtCs1234_6fentry4text4poke"));
        assert!(is_engine("_RINvNtC4core3ptr13drop_in_placeNtCs1234_6fentry6EngineE"));
        assert!(is_engine("_ZN6fentry4text4poke17h0123456789abcdefE"));
        assert!(!is_engine("_RNvCs1234_16fentry_benchmark4main"));
        assert!(!is_engine("kmain_6fentry"));
        assert!(!is_engine("memcpy"));
    }
    #[test]
    fn the_end_of_text_has_many_names() {
        for name in
            ["etext", "_etext", "__etext", "__text_end", "_text_end", "__TEXT_END__", "_end_of_text", "__text_stop"]
        {
            assert!(is_end_of_text(name), "{name}");
        }
        for name in ["__fentry_text_stop", "__init_text_end", "_stext", "edata", "_end", "context_end"] {
            assert!(!is_end_of_text(name), "{name}");
        }
    }
}
