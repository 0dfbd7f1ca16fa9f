//! Globs over names.
//!
//! Names are UTF-8, and so are globs; but characters matter only to `?` and to classes, so what is taken as it is
//! goes byte by byte. What a glob begins and ends with is known before any name is looked at, and compared from its end:
//! functions of one module have long beginnings in common.

use thiserror::Error;

/// Why a text is no glob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GlobError {
    /// A `[` without its `]`; it starts at this byte.
    #[error("The glob's '[' at byte {0} has no ']'")]
    OpenClass(usize),
    /// A `\` at the end, with nothing to take literally.
    #[error("The glob ends in '\\', with nothing after it")]
    TrailingEscape,
}

/// A glob, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Glob<'a> {
    pub(super) text: &'a str,
    /// # Invariants
    ///
    /// `text` is this, `middle` and `suffix`, one after the other; this and `suffix` are to be taken as they are.
    prefix: &'a [u8],
    middle: &'a str,
    suffix: &'a [u8],
}

impl<'a> Glob<'a> {
    /// Takes a glob apart.
    pub(crate) fn new(text: &'a str) -> Result<Self, GlobError> {
        let mut special = None;
        let mut at = 0;
        while let Some(element) = Element::at(text, at)? {
            let end = at + element.len();
            if !matches!(element, Element::Byte(_)) {
                special = Some((special.map_or(at, |(first, _)| first), end));
            }
            at = end;
        }
        let (first, end) = special.unwrap_or((text.len(), text.len()));
        // INVARIANT: special elements begin and end between characters.
        let (prefix, rest) = text.split_at(first);
        let (middle, suffix) = rest.split_at(end - first);
        Ok(Self { text, prefix: prefix.as_bytes(), middle, suffix: suffix.as_bytes() })
    }

    /// Reads a glob that [`new`](Self::new) has accepted before.
    pub(crate) fn checked(text: &'a str) -> Self {
        Self::new(text).unwrap_or(Self { text, prefix: text.as_bytes(), middle: "", suffix: &[] })
    }

    /// Whether it matches the whole of a name.
    #[inline]
    pub(super) fn matches(&self, name: &str) -> bool {
        self.matches_with(name.as_bytes(), as_it_is)
    }

    /// Whether it matches the whole of a text that should be UTF-8; where it is none, only what takes bytes as they are, and `*`,
    /// goes past it.
    pub(crate) fn matches_bytes(&self, text: &[u8]) -> bool {
        self.matches_with(text, as_it_is)
    }

    /// Whether it matches the whole of a module's name.
    pub(super) fn matches_module(&self, name: &str) -> bool {
        self.matches_with(name.as_bytes(), in_module_name)
    }

    /// Whether it matches, comparing bytes as `fold` maps them.
    #[inline]
    fn matches_with(&self, name: &[u8], fold: impl Fn(u8) -> u8 + Copy) -> bool {
        let Some((begin, rest)) = name.split_at_checked(self.prefix.len()) else { return false };
        let Some(between) = rest.len().checked_sub(self.suffix.len()) else { return false };
        let (between, end) = rest.split_at(between);
        is_same(end, self.suffix, fold)
            && is_same(begin, self.prefix, fold)
            && matches_middle(self.middle, between, fold)
    }
}

/// Whether two are one module's name.
pub(super) fn is_same_name(a: &str, b: &str) -> bool {
    a.len() == b.len() && is_same(a.as_bytes(), b.as_bytes(), in_module_name)
}

const fn as_it_is(byte: u8) -> u8 {
    byte
}

/// A file's name has `-` where the module's has `_`.
const fn in_module_name(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

/// Whether two texts of one length are the same, from their ends on.
#[inline]
fn is_same(a: &[u8], b: &[u8], fold: impl Fn(u8) -> u8) -> bool {
    a.iter().zip(b).rev().all(|(a, b)| fold(*a) == fold(*b))
}

/// Matches what is between prefix and suffix, going back to the last `*` only, which is enough for globs and takes
/// O(glob x name) at the worst. Apart from the two comparisons, after which few names are left.
#[inline(never)]
fn matches_middle(glob: &str, name: &[u8], fold: impl Fn(u8) -> u8 + Copy) -> bool {
    let (mut in_glob, mut in_name) = (0, 0);
    // Behind the last `*`: in the glob, and in the name where it was tried last.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let (element, c) = match (Element::at(glob, in_glob), name.get(in_name)) {
            (Err(_), _) => return false,
            (Ok(None), None) => return true,
            (Ok(element), c) => (element, c.copied()),
        };
        let matched = match (&element, c) {
            (Some(Element::Any), _) => {
                in_glob += 1;
                if in_glob == glob.len() {
                    return true;
                }
                retry = Some((in_glob, in_name));
                continue;
            }
            (_, None) => return false,
            (None, Some(_)) => None,
            (Some(Element::Byte(wanted)), Some(c)) => (fold(*wanted) == fold(c)).then_some(1),
            (Some(Element::Escaped(wanted)), Some(_)) => {
                char_at(name, in_name).filter(|c| c == wanted).map(char::len_utf8)
            }
            (Some(Element::One), Some(_)) => char_at(name, in_name).map(char::len_utf8),
            (Some(Element::Class(class)), Some(_)) => {
                char_at(name, in_name).filter(|c| class.has(*c)).map(char::len_utf8)
            }
        };
        (in_glob, in_name) = match (matched, element, retry) {
            (Some(len), Some(element), _) => (in_glob + element.len(), in_name + len),
            (_, _, Some((star, tried))) => {
                let Some(next) = next_try(glob.as_bytes()[star], name, tried + 1, fold) else { return false };
                retry = Some((star, next));
                (star, next)
            }
            (_, _, None) => return false,
        };
    }
}

/// Where what follows a `*`, beginning with this byte, is to be tried next.
fn next_try(first: u8, name: &[u8], from: usize, fold: impl Fn(u8) -> u8) -> Option<usize> {
    let rest = name.get(from..)?;
    match first {
        b'?' | b'[' | b'\\' | b'*' => Some(from),
        first => rest.iter().position(|c| fold(*c) == fold(first)).map(|skipped| from + skipped),
    }
}

/// The character of a name that begins here; none in the middle of one.
fn char_at(name: &[u8], at: usize) -> Option<char> {
    let rest = name.get(at..)?;
    let len = match rest.first()? {
        0..0x80 => return Some(char::from(rest[0])),
        0x80..0xc0 => return None,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0.. => 4,
    };
    core::str::from_utf8(rest.get(..len)?).ok()?.chars().next()
}

/// One element of a glob.
enum Element<'a> {
    /// `*`
    Any,
    /// `?`
    One,
    /// A byte of a character that is taken as it is.
    Byte(u8),
    /// The character behind `\`.
    Escaped(char),
    Class(Class<'a>),
}

/// `[...]`
struct Class<'a> {
    /// With its brackets.
    text: &'a str,
    members: &'a str,
    negated: bool,
}

impl<'a> Element<'a> {
    /// The element at this byte of the glob, which is not inside another one.
    fn at(glob: &'a str, at: usize) -> Result<Option<Self>, GlobError> {
        let Some(first) = glob.as_bytes().get(at) else { return Ok(None) };
        Ok(Some(match first {
            b'*' => Self::Any,
            b'?' => Self::One,
            b'\\' => Self::Escaped(char_at(glob.as_bytes(), at + 1).ok_or(GlobError::TrailingEscape)?),
            b'[' => Self::Class(glob.get(at..).and_then(Class::take).ok_or(GlobError::OpenClass(at))?),
            byte => Self::Byte(*byte),
        }))
    }

    /// How many bytes of the glob it takes.
    const fn len(&self) -> usize {
        match self {
            Self::Any | Self::One | Self::Byte(_) => 1,
            Self::Escaped(c) => 1 + c.len_utf8(),
            Self::Class(class) => class.text.len(),
        }
    }
}

impl<'a> Class<'a> {
    /// Reads the class that the glob begins with. A `]` right at the start is a member.
    fn take(glob: &'a str) -> Option<Self> {
        let rest = glob.strip_prefix('[')?;
        let (negated, rest) = match rest.strip_prefix(['!', '^']) {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let from = rest.chars().next()?.len_utf8();
        let end = rest.as_bytes().get(from..)?.iter().position(|byte| *byte == b']')? + from;
        let text = glob.get(..glob.len() - rest.len() + end + 1)?;
        Some(Self { text, members: rest.get(..end)?, negated })
    }

    fn has(&self, c: char) -> bool {
        let mut members = self.members.chars();
        while let Some(low) = members.next() {
            let mut after = members.clone();
            let high = match (after.next(), after.next()) {
                (Some('-'), Some(high)) => {
                    members = after;
                    high
                }
                _ => low,
            };
            if (low..=high).contains(&c) {
                return !self.negated;
            }
        }
        self.negated
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;
    use std::string::String;
    use std::vec::Vec;
    extern crate std;

    /// The plain definition: every way to divide the name.
    fn by_definition(glob: &[char], name: &[char]) -> bool {
        match (glob, name) {
            ([], name) => name.is_empty(),
            (['*', rest @ ..], name) => (0..=name.len()).any(|taken| by_definition(rest, &name[taken..])),
            ([_, ..], []) => false,
            (['?', rest @ ..], [_, name @ ..]) => by_definition(rest, name),
            (['[', 'a', '-', 'b', ']', rest @ ..], [c, name @ ..]) => "ab".contains(*c) && by_definition(rest, name),
            (['\\', literal, rest @ ..], [c, name @ ..]) | ([literal, rest @ ..], [c, name @ ..]) => {
                literal == c && by_definition(rest, name)
            }
        }
    }

    /// All texts of up to so many of these pieces.
    fn all(pieces: &[&str], most: usize) -> Vec<String> {
        let mut texts = std::vec![String::new()];
        let mut begin = 0;
        for _ in 0..most {
            let end = texts.len();
            for text in begin..end {
                texts.extend(pieces.iter().map(|piece| std::format!("{}{piece}", texts[text])).collect::<Vec<_>>());
            }
            begin = end;
        }
        texts
    }

    #[test]
    fn all_small_globs_match_what_they_should() {
        let names = all(&["a", "c", "é", "ê"], 4);
        for glob in all(&["a", "é", "*", "?", "[a-b]", "\\*", "\\é"], 4) {
            let parsed = Glob::new(&glob).unwrap();
            let chars: Vec<char> = glob.chars().collect();
            for name in &names {
                let expected = by_definition(&chars, &name.chars().collect::<Vec<_>>());
                assert_eq!(parsed.matches(name), expected, "{glob} on {name}");
            }
        }
    }
}
