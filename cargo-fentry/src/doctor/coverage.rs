//! Which functions can be traced at all: whether some were meant to and lost their entries on the way, and whether `core`
//! and `alloc` are among them.

use std::collections::BTreeSet;

use fentry::callsite::NOP;
use fentry::symbols::Function;

use super::advice;
use super::callsites::{Decoded, shortened};
use super::loaded::Loaded;
use super::report::Report;
use super::section::begins_with_nops;

/// Looks at every function and reports on them together.
pub(super) fn examine(loaded: &Loaded<'_>, decoded: &Decoded, report: &mut Report) {
    let callsites: BTreeSet<u64> = decoded.accepted.iter().map(|callsite| callsite.function().get()).collect();
    let all = loaded.functions.len();
    let is_traceable = |function: &&Function| callsites.contains(&function.addr);
    let traceable = loaded.functions.iter().filter(is_traceable).count();
    report.note(format!("{traceable} of {all} functions and labels begin with a callsite"));
    without_entry(loaded, decoded, report);

    let is_library =
        |name: &str| ["core::", "alloc::", "<core::", "<alloc::"].iter().any(|path| name.starts_with(path));
    let library: Vec<_> = loaded.functions.iter().filter(|function| is_library(&function.name)).collect();
    if !library.is_empty() && !library.iter().any(is_traceable) {
        report.hint(
            format!("none of the {} functions of core and alloc can be traced", library.len()),
            advice::BUILD_STD,
        );
    }
}

/// Functions that were compiled to be traced and that no entry names: the linker dropped the entry and kept the function.
fn without_entry(loaded: &Loaded<'_>, decoded: &Decoded, report: &mut Report) {
    let has_prefix = |addr: u64| [8, 4].iter().all(|back| loaded.read_u32(addr.wrapping_sub(*back)) == Some(NOP));
    // An entry names the function, its first NOP behind a landing pad, or the first prefix NOP.
    let is_named = |addr: u64| {
        let prefixed = || has_prefix(addr) && decoded.named.contains(&addr.wrapping_sub(8));
        decoded.named.contains(&addr) || decoded.named.contains(&addr.wrapping_add(4)) || prefixed()
    };
    let is_lost = |function: &&Function| begins_with_nops(loaded, function.addr) && !is_named(function.addr);
    let mut lost: Vec<&Function> = loaded.functions.iter().filter(is_lost).collect();
    lost.dedup_by_key(|function| function.addr);
    if lost.is_empty() {
        return;
    }
    let cases = shortened(lost.iter().map(|function| format!("{:#x}  {}", function.addr, function.name)));
    let what =
        format!("{} functions begin with the NOPs of a callsite and have no entry: they stay untraced", lost.len());
    let sections = section_starts(loaded);
    let begins_one =
        |function: &&&Function| [0, 8].iter().any(|prefix| sections.contains(&function.addr.wrapping_sub(*prefix)));
    let first = lost.iter().filter(begins_one).count();
    // Where --gc-sections can take functions one by one each begins an input section; few of those in assembly do.
    if sections.is_empty() || 2 * first >= lost.len() {
        report.problem_with_cases(what, cases, advice::COLLECTED);
    } else {
        report.hint_with_cases(what, cases, advice::ASSEMBLY);
    }
}

/// Where instructions begin in input sections and behind data, which the assembler marks by `$x` (AAELF64 5.5.4). Empty where
/// the marks have been stripped.
fn section_starts(loaded: &Loaded<'_>) -> BTreeSet<u64> {
    loaded.labels_where(|name| name == "$x" || name.starts_with("$x.")).collect()
}
