//! Which functions: rules over names and addresses.
//!
//! A filter is a list of rules. A function is selected if a positive rule matches it, or if there is none, and no
//! negative rule does. The words are those of Linux's `set_ftrace_filter`: a plain name, a glob, `!` in front to take
//! away.
//!
//! Names are demangled Rust names (`alloc::vec::Vec<u8>::push`) or a C function's own, and may hold the characters that a
//! glob gives a meaning (`<[u8] as core::fmt::Debug>::fmt`, `*const u8`). [`Rule::name`] takes such a name as it is, and so
//! does a rule in quotes; a glob also matches the name that is written just like it. A function that has several names is
//! selected, or taken away, by each.

mod glob;
#[cfg(feature = "module")]
mod owned;
#[cfg(test)]
mod tests;

pub use glob::GlobError;
#[cfg(feature = "module")]
pub(crate) use owned::OwnedFilter;

use crate::address::TextAddr;
use core::fmt;
pub(crate) use glob::{Glob, is_same_name};

/// A list of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter<'a> {
    rules: &'a [Rule<'a>],
    /// Whether any of them is negative: worked out once, not for each function.
    any_takes_away: bool,
}

impl<'a> Filter<'a> {
    /// Selects every function.
    pub const ALL: Filter<'static> = Filter::new(&[]);

    /// Selects what these rules select.
    pub const fn new(rules: &'a [Rule<'a>]) -> Self {
        let mut any_takes_away = false;
        let mut rest = rules;
        while let [rule, after @ ..] = rest {
            any_takes_away |= matches!(rule.sign, Sign::TakeAway);
            rest = after;
        }
        Self { rules, any_takes_away }
    }

    /// Returns the rules.
    pub const fn rules(&self) -> &'a [Rule<'a>] {
        self.rules
    }

    /// Returns whether the filter selects `function`, whose names are `names` (it may have several, or none); `module` is
    /// `None` for the kernel's own functions.
    pub fn selects<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str, IntoIter: Clone>,
        function: TextAddr,
        module: Option<&str>,
    ) -> bool {
        let names = names.into_iter();
        let has_positive = self.rules.iter().any(|rule| rule.sign == Sign::Select);
        let chosen = !has_positive || self.any_matches(Sign::Select, &names, function, module);
        chosen && !self.takes_away(&names, function, module)
    }

    /// Whether a rule of this sign matches the function.
    #[inline(never)]
    fn any_matches<'n>(
        &self,
        sign: Sign,
        names: &(impl Iterator<Item = &'n str> + Clone),
        function: TextAddr,
        module: Option<&str>,
    ) -> bool {
        for rule in self.rules {
            if rule.sign == sign && rule.concerns(module) && rule.matches(names.clone(), function) {
                return true;
            }
        }
        false
    }

    /// Whether a rule selects the function by its name or address, not by a glob.
    pub(crate) fn asks_for(&self, name: &str, function: TextAddr) -> bool {
        self.rules.iter().any(|rule| match rule.pattern {
            Pattern::Glob(_) => false,
            Pattern::Name(own) => rule.sign == Sign::Select && own == name,
            Pattern::Address(own) => rule.sign == Sign::Select && own == function,
        })
    }

    /// Whether there is a negative rule.
    pub(crate) const fn any_takes_away(&self) -> bool {
        self.any_takes_away
    }

    /// Whether it can select functions of a module that is loaded later.
    pub(crate) fn awaits_module(&self) -> bool {
        self.rules.iter().any(|rule| rule.sign == Sign::Select && rule.awaits_module())
    }

    /// Whether a negative rule matches the function.
    #[inline]
    pub(crate) fn takes_away<'n>(
        &self,
        names: &(impl Iterator<Item = &'n str> + Clone),
        function: TextAddr,
        module: Option<&str>,
    ) -> bool {
        self.any_matches(Sign::TakeAway, names, function, module)
    }
}

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    pub(crate) pattern: Pattern<'a>,
    pub(crate) sign: Sign,
    /// Only functions of these modules.
    module: Option<ModuleName<'a>>,
}

/// The modules that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModuleName<'a> {
    Exactly(&'a str),
    Glob(Glob<'a>),
}

impl ModuleName<'_> {
    /// Whether a module is among them. `-` and `_` are the same in a module's name, as for Linux's `modprobe`.
    #[inline(never)]
    fn is(&self, module: &str) -> bool {
        match self {
            Self::Exactly(name) => is_same_name(name, module),
            Self::Glob(glob) => glob.matches_module(module),
        }
    }
}

/// What a rule does to a function that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Select,
    TakeAway,
}

/// What a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern<'a> {
    Name(&'a str),
    Glob(Glob<'a>),
    Address(TextAddr),
}

impl<'a> Rule<'a> {
    /// Selects the functions of exactly this name.
    pub const fn name(name: &'a str) -> Self {
        Self { pattern: Pattern::Name(name), sign: Sign::Select, module: None }
    }

    /// Selects the functions whose whole name matches: `*` is any characters, `?` one, `[a-z]` one of these, `[!a-z]` one
    /// of the others, and `\` takes the next character as it is.
    ///
    /// # Errors
    ///
    /// [`GlobError`].
    pub fn glob(glob: &'a str) -> Result<Self, GlobError> {
        Ok(Self { pattern: Pattern::Glob(Glob::new(glob)?), sign: Sign::Select, module: None })
    }

    /// Selects the function whose entry, from its first instruction to the end of its callsite, holds this address.
    pub const fn address(addr: TextAddr) -> Self {
        Self { pattern: Pattern::Address(addr), sign: Sign::Select, module: None }
    }

    /// Makes the rule negative: it takes away what it matches.
    #[must_use]
    pub const fn negated(self) -> Self {
        Self { sign: Sign::TakeAway, ..self }
    }

    /// Limits the rule to functions of the module of this name, in which `-` and `_` are the same.
    #[must_use]
    pub const fn in_module(self, name: &'a str) -> Self {
        Self { module: Some(ModuleName::Exactly(name)), ..self }
    }

    /// Parses a rule as a person writes it; white space around it is ignored.
    ///
    /// | text | meaning |
    /// |---|---|
    /// | `!RULE` | takes away what RULE matches |
    /// | `RULE:mod:NAME` | only functions of that module; NAME may be a glob, and without one every module is meant |
    /// | `:mod:NAME` | all functions of that module |
    /// | `0x` and hexadecimal digits | an address |
    /// | `"TEXT"` | a name, whatever characters it has |
    /// | with `*`, `?`, `[` or `\` in it | a glob |
    /// | anything else | a name |
    ///
    /// # Errors
    ///
    /// [`GlobError`].
    pub fn parse(text: &'a str) -> Result<Self, GlobError> {
        let text = text.trim();
        let positive = text.trim_start_matches('!');
        let sign = if positive.len() == text.len() { Sign::Select } else { Sign::TakeAway };
        let (mut pattern, mut module) = (positive.trim_start(), None);
        // In a path a colon has another beside it. A name holds no `:mod:`: of several modules the last one is meant.
        while let Some((before, name)) = pattern.rsplit_once(":mod:")
            && !before.ends_with(':')
            && !name.starts_with(':')
        {
            (pattern, module) = (if before.is_empty() { "*" } else { before }, module.or(Some(name)));
        }
        let module = module.map(|name| match name {
            "" => Glob::new("*").map(ModuleName::Glob),
            name if is_glob(name) => Glob::new(name).map(ModuleName::Glob),
            name => Ok(ModuleName::Exactly(name)),
        });
        Ok(Self { sign, module: module.transpose()?, ..Self::parse_pattern(pattern)? })
    }

    /// Parses what is left without sign and module.
    pub(crate) fn parse_pattern(text: &'a str) -> Result<Self, GlobError> {
        if let Some(digits) = text.strip_prefix("0x")
            && let Ok(addr) = u64::from_str_radix(digits, 16)
        {
            return Ok(Self::address(TextAddr::new(addr)));
        }
        if let Some(name) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            return Ok(Self::name(name));
        }
        if is_glob(text) { Self::glob(text) } else { Ok(Self::name(text)) }
    }

    /// Whether it can concern a module that is loaded later.
    pub(crate) fn awaits_module(&self) -> bool {
        // An address is one of text that is there.
        cfg!(feature = "module") && self.module.is_some() && !matches!(self.pattern, Pattern::Address(_))
    }

    /// Whether it is about functions of this module, or of the kernel's own.
    pub(crate) fn concerns(&self, module: Option<&str>) -> bool {
        self.module.as_ref().is_none_or(|wanted| module.is_some_and(|module| wanted.is(module)))
    }

    /// Whether the pattern matches a function of these names, whatever the rule then does with it.
    #[inline]
    pub(crate) fn matches<'n>(&self, names: impl IntoIterator<Item = &'n str>, function: TextAddr) -> bool {
        // One loop for names and globs, which has little on the stack.
        let (wanted, glob) = match &self.pattern {
            Pattern::Name(name) => (*name, None),
            Pattern::Glob(glob) => (glob.text, Some(glob)),
            // BTI C, MOV, BL: the longest entry there is.
            Pattern::Address(addr) => return function <= *addr && *addr < function.offset(12),
        };
        names.into_iter().any(|name| glob.is_some_and(|glob| glob.matches(name)) || name == wanted)
    }
}

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sign == Sign::TakeAway {
            f.write_str("!")?;
        }
        match self.pattern {
            Pattern::Name(text) if is_glob(text) => write!(f, "\"{text}\""),
            Pattern::Name(text) | Pattern::Glob(Glob { text, .. }) => f.write_str(text),
            Pattern::Address(addr) => write!(f, "{addr}"),
        }?;
        match self.module {
            None => Ok(()),
            Some(ModuleName::Exactly(name) | ModuleName::Glob(Glob { text: name, .. })) => write!(f, ":mod:{name}"),
        }
    }
}

/// Whether a text has a character to which globs give a meaning.
fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}
