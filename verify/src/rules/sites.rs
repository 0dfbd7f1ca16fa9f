//! The entries of the callsite section, taken as the engine takes them at init.

use std::collections::HashMap;
use std::ops::Range;

use fentry::callsite::{Callsite, Refusal, State};
use fentry::{TextAddr, TextRange};

use crate::image::{Image, Pointer};
use crate::program::{FunctionId, InsnId, Program};

/// What linker scripts call the section's ends: ours, and Linux's (include/asm-generic/vmlinux.lds.h, MCOUNT_REC).
const ENDS: [(&str, &str); 2] =
    [("__fentry_callsites_start", "__fentry_callsites_stop"), ("__start_mcount_loc", "__stop_mcount_loc")];
/// What the section is called where no symbols say where it is: by compilers, by examples/fentry.ld, by Linux.
const NAMES: [&str; 3] = ["__patchable_function_entries", ".fentry.callsites", "__mcount_loc"];
/// The ends of the engine's own text, whose entries it leaves out.
const ENGINE: (&str, &str) = ("__fentry_text_start", "__fentry_text_stop");

/// An entry of the section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where it is.
    pub(super) at: u64,
    /// What it names; zero if that is another file's.
    pub(super) names: u64,
}

/// What an entry means.
pub(super) type Taken = Result<(Callsite, State), Refusal>;

/// The callsites of a program.
#[derive(Debug)]
pub struct Sites {
    pub(super) entries: Vec<(Entry, Taken)>,
    of_function: HashMap<FunctionId, Callsite>,
    engine: Range<u64>,
}

impl Sites {
    /// Reads the section. Entries that are zero stand for functions that the linker has dropped.
    pub fn of(program: &Program<'_>) -> Self {
        let image = program.image();
        let executable = || image.sections().iter().filter(|section| section.is_executable);
        let start = executable().map(|section| section.range.start).min().unwrap_or(0);
        let end = executable().map(|section| section.range.end).max().unwrap_or(0);
        let text = TextRange::new(TextAddr::new(start), TextAddr::new(end));
        let engine = image.between(ENGINE).unwrap_or(0..0);
        let mut sites = Self { entries: Vec::new(), of_function: HashMap::new(), engine };
        for entry in entries(image, text) {
            if sites.engine.contains(&entry.names) {
                continue;
            }
            let begins = |at: TextAddr| function_at(program, at).is_some();
            let read = |at: TextAddr| image.number_at(at.get(), 4).map_or(0, |word| word as u32);
            let taken = Callsite::of_function(TextAddr::new(entry.names), text, begins, read);
            if let Ok((callsite, _)) = taken
                && let Some(function) = function_at(program, callsite.function())
            {
                sites.of_function.insert(function, callsite);
            }
            sites.entries.push((entry, taken));
        }
        sites
    }

    /// The callsite of a function that can be patched.
    pub fn of_function(&self, function: FunctionId) -> Option<Callsite> {
        self.of_function.get(&function).copied()
    }

    /// The functions that can be patched, in no order.
    pub fn functions(&self) -> impl Iterator<Item = (FunctionId, Callsite)> {
        self.of_function.iter().map(|(function, callsite)| (*function, *callsite))
    }

    /// Whether no function can be patched.
    pub fn is_empty(&self) -> bool {
        self.of_function.is_empty()
    }

    /// Whether an instruction is the engine's own, and so never patched.
    pub(super) fn is_engines(&self, address: TextAddr) -> bool {
        self.engine.contains(&address.get())
    }
}

/// The function that begins at an address.
pub(super) fn function_at(program: &Program<'_>, at: TextAddr) -> Option<FunctionId> {
    let id: InsnId = program.at(at)?;
    program.function_of(id).filter(|function| program.function(*function).entry() == id)
}

fn entries(image: &Image<'_>, text: TextRange) -> Vec<Entry> {
    let by_symbols = ENDS.into_iter().find_map(|ends| image.between(ends)).filter(|range| !range.is_empty());
    let ranges: Vec<Range<u64>> = match by_symbols {
        Some(range) => vec![range],
        // In an object each section of functions may have its own.
        None => {
            let sections = image.sections().iter().filter(|section| NAMES.contains(&section.name));
            sections.map(|section| section.range.clone()).collect()
        }
    };
    let words = ranges.into_iter().flat_map(|range| {
        (range.start.next_multiple_of(8)..range.end).step_by(8).filter_map(|at| match image.pointer_at(at)? {
            Pointer::Address(0) => None,
            Pointer::Address(names) => Some(Entry { at, names }),
            Pointer::External(..) => Some(Entry { at, names: 0 }),
        })
    });
    let absolute: Vec<Entry> = words.collect();
    let relative: Vec<Entry> =
        absolute.iter().map(|entry| Entry { names: entry.at.wrapping_add(entry.names), ..*entry }).collect();
    // Either all are addresses, or all are distances from themselves.
    let in_text = |all: &[Entry]| all.iter().filter(|entry| text.contains(TextAddr::new(entry.names))).count();
    if in_text(&relative) > in_text(&absolute) { relative } else { absolute }
}
