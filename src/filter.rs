//! Which functions: rules over names and addresses.
//!
//! Floor 1. A filter is a list of rules. A function is selected if a positive rule matches it, or if there is none, and no
//! negative rule does. The words are those of Linux's `set_ftrace_filter`: a plain name, a glob, `!` in front to take
//! away.
//!
//! Names are demangled Rust names (`alloc::vec::Vec<u8>::push`) or a C function's own, and may hold the characters that a
//! glob gives a meaning (`<[u8] as core::fmt::Debug>::fmt`, `*const u8`); [`Rule::name`] takes such a name as it is.

use crate::address::TextAddr;
use core::fmt;

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

    /// Whether the function is selected; `name` is `None` where the kernel has no name for it.
    pub fn selects(&self, name: Option<&str>, function: TextAddr) -> bool {
        let mut positive = self.rules.iter().filter(|rule| rule.sign == Sign::Select).peekable();
        let chosen = positive.peek().is_none() || positive.any(|rule| rule.matches(name, function));
        chosen && !self.takes_away(name, function)
    }

    /// Whether there is a negative rule at all.
    pub(crate) const fn any_takes_away(&self) -> bool {
        self.any_takes_away
    }

    /// Whether a negative rule matches the function.
    pub(crate) fn takes_away(&self, name: Option<&str>, function: TextAddr) -> bool {
        self.rules.iter().any(|rule| rule.sign == Sign::TakeAway && rule.matches(name, function))
    }
}

/// A filter that keeps its own rules.
#[cfg(feature = "module")]
pub(crate) struct OwnedFilter {
    rules: alloc::vec::Vec<(OwnedPattern, Sign)>,
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
            Pattern::Glob(text) => OwnedPattern::Glob(text.into()),
            Pattern::Address(addr) => OwnedPattern::Address(addr),
        };
        OwnedFilter { rules: self.rules.iter().map(|rule| (own(rule.pattern), rule.sign)).collect() }
    }
}

#[cfg(feature = "module")]
impl OwnedPattern {
    fn rule(&self, sign: Sign) -> Rule<'_> {
        let pattern = match self {
            Self::Name(text) => Pattern::Name(text),
            Self::Glob(text) => Pattern::Glob(text),
            Self::Address(addr) => Pattern::Address(*addr),
        };
        Rule { pattern, sign }
    }
}

#[cfg(feature = "module")]
impl OwnedFilter {
    /// Calls `use_it` with the filter.
    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&Filter<'_>) -> R) -> R {
        let rules: alloc::vec::Vec<Rule<'_>> = self.rules.iter().map(|(pattern, sign)| pattern.rule(*sign)).collect();
        use_it(&Filter::new(&rules))
    }
}

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    pub(crate) pattern: Pattern<'a>,
    pub(crate) sign: Sign,
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
    Glob(&'a str),
    Address(TextAddr),
}

/// A glob that can't be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobError {
    /// A `[` without its `]`; it starts at this byte.
    OpenClass(usize),
    /// A `\` at the end, with nothing to take literally.
    TrailingEscape,
}

impl fmt::Display for GlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenClass(at) => write!(f, "The glob's '[' at byte {at} has no ']'"),
            Self::TrailingEscape => f.write_str("The glob ends in '\\', with nothing after it"),
        }
    }
}

impl core::error::Error for GlobError {}

impl<'a> Rule<'a> {
    /// The function of just this name.
    pub const fn name(name: &'a str) -> Self {
        Self { pattern: Pattern::Name(name), sign: Sign::Select }
    }

    /// The functions whose whole name matches: `*` is any characters, `?` one, `[a-z]` one of these, `[!a-z]` one of the
    /// others, and `\` takes the next character as it is.
    ///
    /// # Errors
    ///
    /// [`GlobError`].
    pub fn glob(glob: &'a str) -> Result<Self, GlobError> {
        check_glob(glob)?;
        Ok(Self { pattern: Pattern::Glob(glob), sign: Sign::Select })
    }

    /// The function whose entry, from its first instruction to the end of its callsite, holds this address.
    pub const fn address(addr: TextAddr) -> Self {
        Self { pattern: Pattern::Address(addr), sign: Sign::Select }
    }

    /// The same rule, taking away.
    #[must_use]
    pub const fn negated(self) -> Self {
        Self { sign: Sign::TakeAway, ..self }
    }

    /// Reads a rule as a person writes it: `!` in front takes away; `0x` and hexadecimal digits are an address; with `*`,
    /// `?`, `[` or `\` it is a glob; else a name.
    ///
    /// # Errors
    ///
    /// [`GlobError`].
    pub fn parse(text: &'a str) -> Result<Self, GlobError> {
        if let Some(rest) = text.strip_prefix('!') {
            return Self::parse(rest).map(Self::negated);
        }
        if let Some(digits) = text.strip_prefix("0x")
            && let Ok(addr) = u64::from_str_radix(digits, 16)
        {
            return Ok(Self::address(TextAddr::new(addr)));
        }
        if text.contains(['*', '?', '[', '\\']) { Self::glob(text) } else { Ok(Self::name(text)) }
    }

    /// Whether the pattern matches, whatever the rule then does with it.
    pub(crate) fn matches(&self, name: Option<&str>, function: TextAddr) -> bool {
        match self.pattern {
            Pattern::Name(wanted) => name == Some(wanted),
            Pattern::Glob(glob) => name.is_some_and(|name| glob_matches(glob, name)),
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
            Pattern::Name(text) | Pattern::Glob(text) => f.write_str(text),
            Pattern::Address(addr) => write!(f, "{addr}"),
        }
    }
}

fn check_glob(glob: &str) -> Result<(), GlobError> {
    let mut rest = glob;
    while let Some((token, after)) = Token::take(rest) {
        if let Token::Bad(error) = token {
            let at = glob.len() - rest.len();
            return Err(if error == GlobError::TrailingEscape { error } else { GlobError::OpenClass(at) });
        }
        rest = after;
    }
    Ok(())
}

/// Matches a whole name, going back to the last `*` only, which is enough for globs and takes O(glob x name) at the worst.
fn glob_matches(mut glob: &str, mut name: &str) -> bool {
    let mut retry: Option<(&str, &str)> = None;
    loop {
        let matched = match (Token::take(glob), first_char(name)) {
            (None, None) => return true,
            (Some((Token::Any, after)), _) => {
                retry = Some((after, name));
                glob = after;
                continue;
            }
            (Some((token, after)), Some((c, rest))) if token.accepts(c) => Some((after, rest)),
            (_, None) => return false,
            _ => None,
        };
        (glob, name) = match (matched, retry) {
            (Some(next), _) => next,
            (None, Some((after_star, from))) => {
                let Some((_, rest)) = first_char(from) else { return false };
                retry = Some((after_star, rest));
                (after_star, rest)
            }
            (None, None) => return false,
        };
    }
}

fn first_char(text: &str) -> Option<(char, &str)> {
    let mut chars = text.chars();
    chars.next().map(|c| (c, chars.as_str()))
}

/// One element of a glob.
enum Token<'a> {
    Any,
    One,
    Literal(char),
    Class { members: &'a str, negated: bool },
    Bad(GlobError),
}

impl<'a> Token<'a> {
    fn take(glob: &'a str) -> Option<(Self, &'a str)> {
        let (c, rest) = first_char(glob)?;
        Some(match c {
            '*' => (Self::Any, rest),
            '?' => (Self::One, rest),
            '\\' => match first_char(rest) {
                Some((literal, rest)) => (Self::Literal(literal), rest),
                None => (Self::Bad(GlobError::TrailingEscape), rest),
            },
            '[' => Self::take_class(rest),
            literal => (Self::Literal(literal), rest),
        })
    }

    /// Reads a class, from behind its `[`. A `]` right at the start is a member.
    fn take_class(rest: &'a str) -> (Self, &'a str) {
        let (negated, rest) = match rest.strip_prefix(['!', '^']) {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let from = first_char(rest).map_or(0, |(c, _)| c.len_utf8());
        let end = rest.get(from..).and_then(|tail| tail.find(']')).map(|at| at + from);
        match end.and_then(|end| Some((rest.get(..end)?, rest.get(end + 1..)?))) {
            Some((members, rest)) => (Self::Class { members, negated }, rest),
            None => (Self::Bad(GlobError::OpenClass(0)), ""),
        }
    }

    fn accepts(&self, c: char) -> bool {
        match self {
            Self::One => true,
            Self::Literal(literal) => *literal == c,
            Self::Class { members, negated } => class_has(members, c) != *negated,
            Self::Any | Self::Bad(_) => false,
        }
    }
}

fn class_has(mut members: &str, c: char) -> bool {
    while let Some((low, rest)) = first_char(members) {
        if let Some((high, after)) = rest.strip_prefix('-').and_then(first_char) {
            if (low..=high).contains(&c) {
                return true;
            }
            members = after;
        } else {
            if low == c {
                return true;
            }
            members = rest;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{Filter, GlobError, Rule};
    use crate::address::TextAddr;

    const AT: TextAddr = TextAddr::new(0x4000);

    fn glob(glob: &str, name: &str) -> bool {
        Rule::glob(glob).unwrap().matches(Some(name), AT)
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
    fn bad_globs_are_refused() {
        assert_eq!(Rule::glob("a[b"), Err(GlobError::OpenClass(1)));
        assert_eq!(Rule::glob("a\\"), Err(GlobError::TrailingEscape));
        assert_eq!(Rule::parse("!x[").unwrap_err(), GlobError::OpenClass(1));
    }

    #[test]
    fn negative_rules_take_away_from_positive_ones_or_from_everything() {
        let rules = [Rule::parse("alloc::*").unwrap(), Rule::parse("!alloc::fmt::*").unwrap()];
        let filter = Filter::new(&rules);
        assert!(filter.selects(Some("alloc::vec::x"), AT));
        assert!(!filter.selects(Some("alloc::fmt::x"), AT));
        assert!(!filter.selects(Some("core::x"), AT));
        let only_negative = [Rule::name("f").negated()];
        assert!(Filter::new(&only_negative).selects(Some("g"), AT));
        assert!(!Filter::new(&only_negative).selects(Some("f"), AT));
        assert!(Filter::ALL.selects(None, AT));
    }

    #[test]
    fn addresses_select_by_the_functions_entry() {
        let rule = Rule::parse("0x4004").unwrap();
        assert!(rule.matches(None, AT));
        assert!(!rule.matches(None, AT.offset(8)));
        assert!(!rule.matches(None, AT.offset(-8)));
    }
}
