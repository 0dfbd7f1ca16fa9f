//! Filters kept for modules that are loaded later.

use super::glob::Glob;
use super::{Filter, ModuleName, Pattern, Rule, Sign};
use alloc::string::String;
use alloc::vec::Vec;

/// A filter that keeps its own rules.
///
/// Rules by address are left out: an address names the code that was there when the rule was made, not what is loaded
/// there later.
#[derive(Default)]
pub(crate) struct OwnedFilter {
    rules: Vec<OwnedRule>,
    /// Whether all rules that select were left out.
    selects_nothing: bool,
}

struct OwnedRule {
    pattern: OwnedPattern,
    sign: Sign,
    module: Option<OwnedPattern>,
}

enum OwnedPattern {
    Name(String),
    Glob(String),
}

impl Filter<'_> {
    /// Copies the rules that apply to modules loaded later.
    pub(crate) fn to_owned(self) -> OwnedFilter {
        let rules: Vec<OwnedRule> = self.rules.iter().filter_map(OwnedRule::of).collect();
        let selects = |sign| sign == Sign::Select;
        let some_left = rules.iter().any(|rule| selects(rule.sign));
        OwnedFilter { rules, selects_nothing: !some_left && self.rules.iter().any(|rule| selects(rule.sign)) }
    }
}

impl OwnedRule {
    fn of(rule: &Rule<'_>) -> Option<Self> {
        let pattern = match rule.pattern {
            Pattern::Name(text) => OwnedPattern::Name(text.into()),
            Pattern::Glob(glob) => OwnedPattern::Glob(glob.text.into()),
            Pattern::Address(_) => return None,
        };
        let module = rule.module.map(|module| match module {
            ModuleName::Exactly(name) => OwnedPattern::Name(name.into()),
            ModuleName::Glob(glob) => OwnedPattern::Glob(glob.text.into()),
        });
        Some(Self { pattern, sign: rule.sign, module })
    }

    fn rule(&self) -> Rule<'_> {
        let pattern = match &self.pattern {
            OwnedPattern::Name(text) => Pattern::Name(text),
            OwnedPattern::Glob(text) => Pattern::Glob(Glob::checked(text)),
        };
        let module = self.module.as_ref().map(|module| match module {
            OwnedPattern::Name(name) => ModuleName::Exactly(name),
            OwnedPattern::Glob(text) => ModuleName::Glob(Glob::checked(text)),
        });
        Rule { pattern, sign: self.sign, module }
    }
}

impl OwnedFilter {
    /// Calls `use_it` with the filter, unless it can select nothing.
    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&Filter<'_>) -> R) -> Option<R> {
        if self.selects_nothing {
            return None;
        }
        let rules: Vec<Rule<'_>> = self.rules.iter().map(OwnedRule::rule).collect();
        Some(use_it(&Filter::new(&rules)))
    }
}
