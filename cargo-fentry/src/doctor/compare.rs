//! Two images of one kernel, of two profiles for example: what is traced in one of them only?
//!
//! An optimised image has fewer functions than another, since many are inlined, and that is no difference here. A crate none
//! of whose functions has a callsite is one, where it has callsites in the other image: it was compiled with other flags, or
//! the linker lost its entries. C and assembly have no crates; their functions are compared by name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::advice;
use super::callsites::{Decoded, shortened};
use super::loaded::Loaded;
use super::report::Report;

/// What an image has.
#[derive(Debug, Default)]
pub(super) struct Traced {
    /// Of each crate, how many functions there are and how many have a callsite.
    crates: BTreeMap<String, Count>,
    /// The functions without a crate, and whether they have a callsite.
    others: BTreeMap<String, bool>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    all: usize,
    traced: usize,
}

impl Traced {
    /// What an image has, as it was examined.
    pub(super) fn of(loaded: &Loaded<'_>, decoded: &Decoded) -> Self {
        let callsites: BTreeSet<u64> = decoded.accepted.iter().map(|callsite| callsite.function().get()).collect();
        let mut traced = Self::default();
        // What has no length is a label.
        for function in loaded.functions.iter().filter(|function| function.size != 0) {
            let has_callsite = callsites.contains(&function.addr);
            if let Some(name) = crate_of(&function.name) {
                let count = traced.crates.entry(name.to_owned()).or_default();
                count.all += 1;
                count.traced += usize::from(has_callsite);
            } else {
                // Of several static functions of one name, one that is traced is enough.
                *traced.others.entry(function.name.to_string()).or_default() |= has_callsite;
            }
        }
        traced
    }
}

/// The crate (or the namespace of C++) in a demangled name: the first word that a path goes on behind.
fn crate_of(name: &str) -> Option<&str> {
    let (before, _) = name.split_once("::")?;
    let start = before.rfind(|letter: char| !letter.is_alphanumeric() && letter != '_').map_or(0, |at| at + 1);
    Some(&before[start..]).filter(|name| !name.is_empty())
}

/// Reports where two images, each with its file's name, differ in what is traced.
pub(super) fn examine(images: [(&Path, &Traced); 2]) -> Report {
    let mut report = Report::default();
    let [first, second] = images;
    for ((file, has), (other, lacks)) in [(first, second), (second, first)] {
        let (file, other) = (file.display(), other.display());
        let crates: Vec<String> = has
            .crates
            .iter()
            .filter(|(_, count)| count.traced > 0)
            .filter_map(|(name, here)| {
                let there = lacks.crates.get(name).filter(|there| there.traced == 0)?;
                Some(format!("{name}: {} of {} functions there, none of {} here", here.traced, here.all, there.all))
            })
            .collect();
        if !crates.is_empty() {
            report.hint_with_cases(
                format!("{} crates have callsites in {file} and none in {other}", crates.len()),
                shortened(crates.into_iter()),
                advice::PROFILES,
            );
        }
        let is_lost = |name: &&String| lacks.others.get(*name) == Some(&false);
        let traced = has.others.iter().filter(|(_, traced)| **traced).map(|(name, _)| name);
        let lost: Vec<&String> = traced.filter(is_lost).collect();
        if !lost.is_empty() {
            report.hint_with_cases(
                format!("{} functions without a crate have callsites in {file} and none in {other}", lost.len()),
                shortened(lost.into_iter().cloned()),
                advice::PROFILES,
            );
        }
    }
    if report.findings.is_empty() {
        let both = |crates: &BTreeMap<String, Count>| crates.values().filter(|count| count.traced > 0).count();
        report.good(format!(
            "the same crates and functions are traced in both, but for what is inlined or missing: {} and {} crates",
            both(&first.1.crates),
            both(&second.1.crates)
        ));
    }
    report
}

#[cfg(test)]
mod tests {
    use super::crate_of;

    #[test]
    fn a_crate_is_the_first_word_of_a_path() {
        for (name, expected) in [
            ("core::fmt::write", Some("core")),
            ("<core::fmt::Arguments as core::fmt::Display>::fmt", Some("core")),
            ("<u32 as core::fmt::Display>::fmt", Some("core")),
            ("<&mut my_kernel::Disk as core::fmt::Write>::write_str", Some("my_kernel")),
            ("<[u8]>::len", None),
            ("memcpy", None),
        ] {
            assert_eq!(crate_of(name), expected, "{name}");
        }
    }
}
