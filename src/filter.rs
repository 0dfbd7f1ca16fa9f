//! Which functions: rules over names and addresses.
//!
//! Floor 1. A filter is a list of rules. A function is selected if a positive rule matches it, or if there is none, and no
//! negative rule does. The words are those of Linux's `set_ftrace_filter`: a plain name, a glob, `!` in front to take
//! away.
//!
//! Names are demangled Rust names (`alloc::vec::Vec<u8>::push`) or a C function's own, and may hold the characters that a
//! glob gives a meaning (`<[u8] as core::fmt::Debug>::fmt`, `*const u8`); [`Rule::name`] takes such a name as it is.

mod glob;

pub use glob::GlobError;

use crate::address::TextAddr;
use core::fmt;
use glob::Glob;

/// A list of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter<'a> {
    rules: &'a [Rule<'a>],
    /// Whether any of them takes away: looked at once, not for each function.
    any_takes_away: bool,
}

impl<'a> Filter<'a> {
    /// Every function.
    pub const ALL: Filter<'static> = Filter::new(&[]);

    /// The functions that these rules select.
    pub const fn new(rules: &'a [Rule<'a>]) -> Self {
        let mut any_takes_away = false;
        let mut rest = rules;
        while let [rule, after @ ..] = rest {
            any_takes_away |= matches!(rule.sign, Sign::TakeAway);
            rest = after;
        }
        Self { rules, any_takes_away }
    }

    /// The rules.
    pub const fn rules(&self) -> &'a [Rule<'a>] {
        self.rules
    }

    /// Whether the function is selected; `name` is `None` where the kernel has no name for it, `module` where it is one of
    /// the kernel's own.
    pub fn selects(&self, name: Option<&str>, function: TextAddr, module: Option<&str>) -> bool {
        let mut positive = self.rules.iter().filter(|rule| rule.sign == Sign::Select).peekable();
        let matches = |rule: &Rule<'_>| rule.concerns(module) && rule.matches(name, function);
        let chosen = positive.peek().is_none() || positive.any(matches);
        chosen && !self.takes_away(name, function, module)
    }

    /// Whether a rule selects the function by its name or its address, and not by a glob.
    pub(crate) fn asks_for(&self, name: &str, function: TextAddr) -> bool {
        self.rules.iter().any(|rule| match rule.pattern {
            Pattern::Glob(_) => false,
            Pattern::Name(own) => rule.sign == Sign::Select && own == name,
            Pattern::Address(own) => rule.sign == Sign::Select && own == function,
        })
    }

    /// Whether there is a negative rule at all.
    pub(crate) const fn any_takes_away(&self) -> bool {
        self.any_takes_away
    }

    /// Whether it can select something in a module that is yet to come.
    pub(crate) fn awaits_module(&self) -> bool {
        self.rules.iter().any(Rule::awaits_module)
    }

    /// Whether a negative rule matches the function.
    pub(crate) fn takes_away(&self, name: Option<&str>, function: TextAddr, module: Option<&str>) -> bool {
        let matches = |rule: &Rule<'_>| rule.concerns(module) && rule.matches(name, function);
        self.rules.iter().any(|rule| rule.sign == Sign::TakeAway && matches(rule))
    }
}

/// A filter that keeps its own rules.
#[cfg(feature = "module")]
#[derive(Default)]
pub(crate) struct OwnedFilter {
    rules: alloc::vec::Vec<OwnedRule>,
}

#[cfg(feature = "module")]
struct OwnedRule {
    pattern: OwnedPattern,
    sign: Sign,
    module: Option<alloc::string::String>,
}

#[cfg(feature = "module")]
enum OwnedPattern {
    Name(alloc::string::String),
    Glob(alloc::string::String),
    Address(TextAddr),
}

#[cfg(feature = "module")]
impl Filter<'_> {
    /// The same filter, which does not borrow its rules.
    pub(crate) fn to_owned(self) -> OwnedFilter {
        let own = |pattern| match pattern {
            Pattern::Name(text) => OwnedPattern::Name(text.into()),
            Pattern::Glob(glob) => OwnedPattern::Glob(glob.text.into()),
            Pattern::Address(addr) => OwnedPattern::Address(addr),
        };
        let rules = self.rules.iter().map(|rule| OwnedRule {
            pattern: own(rule.pattern),
            sign: rule.sign,
            module: rule.module.map(Into::into),
        });
        OwnedFilter { rules: rules.collect() }
    }
}

#[cfg(feature = "module")]
impl OwnedRule {
    fn rule(&self) -> Rule<'_> {
        let pattern = match &self.pattern {
            OwnedPattern::Name(text) => Pattern::Name(text),
            OwnedPattern::Glob(text) => Pattern::Glob(Glob::checked(text)),
            OwnedPattern::Address(addr) => Pattern::Address(*addr),
        };
        Rule { pattern, sign: self.sign, module: self.module.as_deref() }
    }
}

#[cfg(feature = "module")]
impl OwnedFilter {
    /// Calls `use_it` with the filter.
    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&Filter<'_>) -> R) -> R {
        let rules: alloc::vec::Vec<Rule<'_>> = self.rules.iter().map(OwnedRule::rule).collect();
        use_it(&Filter::new(&rules))
    }
}

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    pub(crate) pattern: Pattern<'a>,
    pub(crate) sign: Sign,
    /// Only functions of the module of this name.
    module: Option<&'a str>,
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
    /// The function of just this name.
    pub const fn name(name: &'a str) -> Self {
        Self { pattern: Pattern::Name(name), sign: Sign::Select, module: None }
    }

    /// The functions whose whole name matches: `*` is any characters, `?` one, `[a-z]` one of these, `[!a-z]` one of the
    /// others, and `\` takes the next character as it is.
    ///
    /// # Errors
    ///
    /// [`GlobError`].
    pub fn glob(glob: &'a str) -> Result<Self, GlobError> {
        Ok(Self { pattern: Pattern::Glob(Glob::new(glob)?), sign: Sign::Select, module: None })
    }

    /// The function whose entry, from its first instruction to the end of its callsite, holds this address.
    pub const fn address(addr: TextAddr) -> Self {
        Self { pattern: Pattern::Address(addr), sign: Sign::Select, module: None }
    }

    /// The same rule, taking away.
    #[must_use]
    pub const fn negated(self) -> Self {
        Self { sign: Sign::TakeAway, ..self }
    }

    /// The same rule, for functions of the module of this name only.
    #[must_use]
    pub const fn in_module(self, name: &'a str) -> Self {
        Self { module: Some(name), ..self }
    }

    /// Reads a rule as a person writes it: `!` in front takes away; `:mod:NAME` at the end means functions of that module
    /// only, and with nothing before it all of them; `0x` and hexadecimal digits are an address; with `*`, `?`, `[` or `\`
    /// it is a glob; else a name.
    ///
    /// # Errors
    ///
    /// [`GlobError`].
    pub fn parse(text: &'a str) -> Result<Self, GlobError> {
        let positive = text.trim_start_matches('!');
        let sign = if positive.len() == text.len() { Sign::Select } else { Sign::TakeAway };
        let (mut pattern, mut module) = (positive, None);
        // In a path a colon has another beside it. A name holds no `:mod:`: of several modules the last one is meant.
        while let Some((before, name)) = pattern.rsplit_once(":mod:")
            && !before.ends_with(':')
            && !name.starts_with(':')
        {
            (pattern, module) = (if before.is_empty() { "*" } else { before }, module.or(Some(name)));
        }
        Ok(Self { sign, module, ..Self::parse_pattern(pattern)? })
    }

    /// Reads what is left without sign and module.
    fn parse_pattern(text: &'a str) -> Result<Self, GlobError> {
        if let Some(digits) = text.strip_prefix("0x")
            && let Ok(addr) = u64::from_str_radix(digits, 16)
        {
            return Ok(Self::address(TextAddr::new(addr)));
        }
        if text.contains(['*', '?', '[', '\\']) { Self::glob(text) } else { Ok(Self::name(text)) }
    }

    /// Whether it can select something in a module that is yet to come.
    pub(crate) fn awaits_module(&self) -> bool {
        cfg!(feature = "module") && self.sign == Sign::Select && self.module.is_some()
    }

    /// Whether it is about functions of this module, or of the kernel's own.
    pub(crate) fn concerns(&self, module: Option<&str>) -> bool {
        self.module.is_none() || self.module == module
    }

    /// Whether the pattern matches, whatever the rule then does with it.
    #[inline]
    pub(crate) fn matches(&self, name: Option<&str>, function: TextAddr) -> bool {
        match self.pattern {
            Pattern::Name(wanted) => name == Some(wanted),
            Pattern::Glob(glob) => name.is_some_and(|name| glob.matches(name)),
            // BTI C, MOV, BL: the longest entry there is.
            Pattern::Address(addr) => function <= addr && addr < function.offset(12),
        }
    }
}

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sign == Sign::TakeAway {
            f.write_str("!")?;
        }
        match self.pattern {
            Pattern::Name(text) | Pattern::Glob(Glob { text, .. }) => f.write_str(text),
            Pattern::Address(addr) => write!(f, "{addr}"),
        }?;
        self.module.map_or(Ok(()), |module| write!(f, ":mod:{module}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, GlobError, Rule, Sign};
    use crate::address::TextAddr;
    use std::string::ToString;
    extern crate std;

    const AT: TextAddr = TextAddr::new(0x4000);

    fn glob(glob: &str, name: &str) -> bool {
        Rule::glob(glob).unwrap().matches(Some(name), AT)
    }

    #[test]
    fn a_function_is_asked_for_by_its_name_or_address_and_not_by_a_glob_or_in_order_to_leave_it_out() {
        let at = TextAddr::new(0x1000);
        let asks = |rule: Rule<'_>| Filter::new(&[rule]).asks_for("setjmp", at);
        assert!(asks(Rule::name("setjmp")) && asks(Rule::address(at)));
        let others = [Rule::name("longjmp"), Rule::address(at.offset(4))];
        let negative = Rule::parse("!setjmp").unwrap();
        let negative_address = Rule { sign: Sign::TakeAway, ..Rule::address(at) };
        let glob = Rule::parse("set*").unwrap();
        assert!(!others.into_iter().chain([negative, negative_address, glob]).any(asks));
    }

    #[test]
    fn globs_match_whole_names() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("alloc::*", "alloc::vec::Vec<u8>::push", true),
            ("alloc::*", "core::alloc::x", false),
            ("*::push", "alloc::vec::Vec<u8>::push", true),
            ("*::push", "alloc::vec::Vec<u8>::push_within", false),
            ("*vec*p?sh", "alloc::vec::Vec<u8>::push", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("sort[0-9]", "sort7", true),
            ("sort[0-9]", "sortx", false),
            ("sort[!0-9]", "sortx", true),
            ("sort[]x]", "sort]", true),
            ("sort[a-]", "sort-", true),
            ("<\\[u8\\]>::\\*", "<[u8]>::*", true),
            ("?", "é", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(glob(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn a_glob_of_many_stars_does_not_take_exponential_time() {
        let name = "a".repeat(2000);
        assert!(!glob("*a*a*a*a*a*a*a*a*a*a*a*a*b", &name));
    }

    #[test]
    fn a_rule_for_a_module_concerns_its_functions_only() {
        for (rule, module, name, expected) in [
            (":mod:net", Some("net"), "send", true),
            (":mod:net", Some("disk"), "send", false),
            (":mod:net", None, "send", false),
            ("send:mod:net", Some("net"), "send", true),
            ("send:mod:net", Some("net"), "receive", false),
            ("s*:mod:net", Some("net"), "send", true),
            ("a::mod::b", None, "a::mod::b", true),
            ("!:mod:net", Some("net"), "send", false),
            ("!:mod:net", Some("disk"), "send", true),
        ] {
            let rules = [Rule::parse(rule).unwrap()];
            assert_eq!(Filter::new(&rules).selects(Some(name), AT, module), expected, "{rule} on {name} of {module:?}");
            assert!(rules[0].to_string().ends_with(rule.trim_start_matches(['!', ':'])), "{}", rules[0]);
            assert_eq!(rules[0].to_string().starts_with('!'), rule.starts_with('!'), "{}", rules[0]);
        }
    }

    #[test]
    fn a_rule_of_any_length_is_read_without_recursion() {
        const LENGTH: usize = 2_000_000;
        for (text, expected) in [
            ("!".repeat(LENGTH) + "f", Rule::name("f").negated()),
            (":mod:m".repeat(LENGTH / 6), Rule::glob("*").unwrap().in_module("m")),
            (std::format!("f{}", ":mod:m".repeat(LENGTH / 6)), Rule::name("f").in_module("m")),
        ] {
            assert_eq!(Rule::parse(&text), Ok(expected), "{}", &text[..20]);
        }
    }

    #[test]
    fn bad_globs_are_refused() {
        assert_eq!(Rule::glob("a[b"), Err(GlobError::OpenClass(1)));
        assert_eq!(Rule::glob("a\\"), Err(GlobError::TrailingEscape));
        assert_eq!(Rule::parse("!x[").unwrap_err(), GlobError::OpenClass(1));
    }

    #[test]
    fn negative_rules_take_away_from_positive_ones_or_from_everything() {
        let rules = [Rule::parse("alloc::*").unwrap(), Rule::parse("!alloc::fmt::*").unwrap()];
        let filter = Filter::new(&rules);
        assert!(filter.selects(Some("alloc::vec::x"), AT, None));
        assert!(!filter.selects(Some("alloc::fmt::x"), AT, None));
        assert!(!filter.selects(Some("core::x"), AT, None));
        let only_negative = [Rule::name("f").negated()];
        assert!(Filter::new(&only_negative).selects(Some("g"), AT, None));
        assert!(!Filter::new(&only_negative).selects(Some("f"), AT, None));
        assert!(Filter::ALL.selects(None, AT, None));
    }

    #[test]
    fn addresses_select_by_the_functions_entry() {
        let rule = Rule::parse("0x4004").unwrap();
        assert!(rule.matches(None, AT));
        assert!(!rule.matches(None, AT.offset(8)));
        assert!(!rule.matches(None, AT.offset(-8)));
    }
}
