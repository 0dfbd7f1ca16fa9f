//! What validators find, told so that somebody can act on it, and what of it has been waived.

mod rule;
#[cfg(test)]
mod tests;
mod waivers;

use std::fmt;

pub use rule::{Level, Rule};
pub use waivers::{WaiverError, Waivers};

use crate::program::{FunctionId, InsnId, Program};

/// The ends of the engine's own text, as its linker fragment names them.
const ENGINE: (&str, &str) = ("__fentry_text_start", "__fentry_text_stop");

/// The place that is everywhere.
const ANYWHERE: &str = "*";

/// A place where a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// Where.
    pub at: At,
    /// What is wrong, and what to do.
    pub text: String,
    /// How the checker got there, in order.
    pub path: Vec<Step>,
}

/// Where a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    /// At an instruction.
    Insn(InsnId),
    /// At an address that has none.
    Address(u64),
    /// In this line of the waivers, counted from 1.
    Waiver(usize),
}

/// One step of the way to a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The instruction.
    pub at: InsnId,
    /// What happens there.
    pub text: String,
}

impl Step {
    /// A step at an instruction.
    pub fn new(at: InsnId, text: impl Into<String>) -> Self {
        Self { at, text: text.into() }
    }
}

impl Finding {
    /// A finding; `what` is said of the place, and the rule's advice is added.
    pub fn new(rule: Rule, at: At, what: impl fmt::Display) -> Self {
        Self { rule, at, text: format!("{what}; {}", rule.advice()), path: Vec::new() }
    }

    /// The same with the way that led there.
    #[must_use]
    pub fn by(self, path: Vec<Step>) -> Self {
        Self { path, ..self }
    }

    /// The function or part that it is in.
    pub fn function(&self, program: &Program<'_>) -> Option<FunctionId> {
        match self.at {
            At::Insn(id) => program.function_of(id),
            At::Address(_) | At::Waiver(_) => None,
        }
    }

    /// Whether a function's name, or an address, names its place. `*` at the name's start or end stands for anything.
    pub fn is_at(&self, place: &str, program: &Program<'_>, demangled: &dyn Fn(&str) -> String) -> bool {
        let names = |function: FunctionId| {
            let mut symbols = program.function(function).symbols().iter().map(|symbol| program.symbol(*symbol).name);
            symbols.any(|name| is_meant(place, name) || is_meant(place, &demangled(name)))
        };
        let is_in = self.function(program).is_some_and(|function| names(function) || names(program.parent(function)));
        is_in || place == ANYWHERE || self.at.address(program).is_some_and(|address| address == place)
    }
}

/// Whether a place names this function. `*` at its start or end stands for anything.
fn is_meant(place: &str, name: &str) -> bool {
    match (place.strip_prefix('*'), place.strip_suffix('*')) {
        (Some(end), None) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (Some(_), Some(_)) => name.contains(place.trim_matches('*')),
        (None, None) => name == place,
    }
}

impl At {
    /// The address as waivers have it: `0x40081234`; in an object, `.text+0x20`.
    pub fn address(self, program: &Program<'_>) -> Option<String> {
        let place = match self {
            Self::Insn(id) => program.place(id).to_string(),
            Self::Address(address) => return Some(address_of(address, program)),
            Self::Waiver(_) => return None,
        };
        // The place ends in the address, in parentheses.
        place.strip_suffix(')')?.rsplit_once('(').map(|(_, address)| address.to_owned())
    }

    /// Prints it with names.
    pub fn display<'a>(self, program: &'a Program<'_>) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| match self {
            Self::Insn(id) => fmt::Display::fmt(&program.place(id), f),
            Self::Address(address) => f.write_str(&address_of(address, program)),
            Self::Waiver(line) => write!(f, "line {line} of the waivers"),
        })
    }
}

/// An address that has no instruction: in an object, by its section.
fn address_of(address: u64, program: &Program<'_>) -> String {
    match program.image().section_at(address) {
        Some(section) if program.image().is_relocatable() => {
            format!("{}+{:#x}", section.name, address - section.range.start)
        }
        _ => format!("{address:#x}"),
    }
}

/// All findings of a program, by place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    findings: Vec<(Finding, Option<String>)>,
}

impl Report {
    /// Applies waivers to findings. A waiver that waives nothing is a finding itself. `demangled` gives a symbol's name as the
    /// language has it.
    pub fn new(
        program: &Program<'_>,
        findings: Vec<Finding>,
        waivers: &Waivers,
        demangled: &dyn Fn(&str) -> String,
    ) -> Self {
        let mut is_used = vec![false; waivers.all.len()];
        // A module may have a trampoline of the engine's making.
        let has_engine = program.image().between(ENGINE).is_some() || program.image().is_relocatable();
        let mut findings: Vec<_> = findings
            .into_iter()
            .map(|finding| {
                let mut reason = None;
                for (waiver, is_used) in waivers.all.iter().zip(&mut is_used) {
                    let holds = waiver.rule == finding.rule && (waiver.line.is_some() || has_engine);
                    if holds && finding.is_at(&waiver.place, program, demangled) {
                        *is_used = true;
                        reason.get_or_insert_with(|| waiver.reason.clone());
                    }
                }
                (finding, reason)
            })
            .collect();
        for (waiver, _) in waivers.all.iter().zip(is_used).filter(|(_, is_used)| !is_used) {
            let Some(line) = waiver.line else { continue };
            let what = format!("{} is not found at {}", waiver.rule, waiver.place);
            findings.push((Finding::new(Rule::WaiverUnused, At::Waiver(line), what), None));
        }
        findings.sort_by_key(|(finding, _)| (finding.at, finding.rule));
        Self { findings }
    }

    /// All findings, each with the reason for which it is waived.
    pub fn all(&self) -> impl Iterator<Item = (&Finding, Option<&str>)> {
        self.findings.iter().map(|(finding, reason)| (finding, reason.as_deref()))
    }

    /// The findings that are not waived.
    pub fn unwaived(&self) -> impl Iterator<Item = &Finding> {
        self.all().filter(|(_, reason)| reason.is_none()).map(|(finding, _)| finding)
    }

    /// Keeps what `keep` says.
    pub fn retain(&mut self, keep: impl Fn(&Finding) -> bool) {
        self.findings.retain(|(finding, _)| keep(finding));
    }
}
