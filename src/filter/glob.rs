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
        while let Some(first) = text.as_bytes().get(at) {
            let end = end_of(text, at)?;
            if matches!(first, b'*' | b'?' | b'[' | b'\\') {
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
pub(crate) fn is_same_name(a: &str, b: &str) -> bool {
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
    // Behind the last `*`, 0 where there was none; and where in the name it was tried last.
    let (mut star, mut tried) = (0, 0);
    loop {
        let (of_glob, of_name) = match (glob.as_bytes().get(in_glob), name.get(in_name)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                in_glob += 1;
                if in_glob == glob.len() {
                    return true;
                }
                (star, tried) = (in_glob, in_name);
                continue;
            }
            (Some(_), None) => return false,
            (None, Some(_)) => (0, 0),
            (Some(b'?' | b'[' | b'\\'), Some(_)) => taken_of_both(glob, in_glob, name, in_name),
            (Some(wanted), Some(c)) if fold(*wanted) == fold(*c) => (1, 1),
            (Some(_), Some(_)) => (0, 0),
        };
        if of_glob > 0 {
            (in_glob, in_name) = (in_glob + of_glob, in_name + of_name);
        } else if star > 0
            && let Some(next) = next_try(glob.as_bytes()[star], name, tried + 1, fold)
        {
            (in_glob, in_name) = (star, next);
            tried = next;
        } else {
            return false;
        }
    }
}

/// How many bytes of the glob the `?`, class or escape there takes, and how many of the name the character there, which it
/// matches; none where it doesn't. Not inlined: few globs have one, and it takes stack.
#[inline(never)]
fn taken_of_both(glob: &str, in_glob: usize, name: &[u8], in_name: usize) -> (usize, usize) {
    let Some(c) = char_at(name, in_name) else { return (0, 0) };
    let special = glob.get(in_glob..).unwrap_or_default();
    let taken = match special.as_bytes() {
        [b'[', ..] => Class::take(special).filter(|class| class.has(c)).map(|class| class.text.len()),
        [b'\\', ..] => char_at(special.as_bytes(), 1).filter(|wanted| c == *wanted).map(|wanted| 1 + wanted.len_utf8()),
        _ => Some(1),
    };
    taken.map_or((0, 0), |of_glob| (of_glob, c.len_utf8()))
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

/// Where what begins at this byte of the glob ends: a byte that is taken as it is, `*`, `?`, a class, or an escape.
fn end_of(glob: &str, at: usize) -> Result<usize, GlobError> {
    match glob.as_bytes().get(at) {
        Some(b'\\') => match char_at(glob.as_bytes(), at + 1) {
            Some(escaped) => Ok(at + 1 + escaped.len_utf8()),
            None => Err(GlobError::TrailingEscape),
        },
        Some(b'[') => match glob.get(at..).and_then(Class::take) {
            Some(class) => Ok(at + class.text.len()),
            None => Err(GlobError::OpenClass(at)),
        },
        _ => Ok(at + 1),
    }
}

/// `[...]`
struct Class<'a> {
    /// With its brackets.
    text: &'a str,
    members: &'a str,
    negated: bool,
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
