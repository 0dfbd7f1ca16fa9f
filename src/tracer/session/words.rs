//! The words of a command line.

use core::fmt::{self, Display, Write};

/// Divides a command line into words: at white space. A name may have white space in it: between brackets that
/// belong together, and between two `"`, none divides words; but a `key=` always begins one. A word that is in `"` as a whole
/// loses them.
pub fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    core::iter::from_fn(move || {
        rest = rest.trim_start();
        let word;
        (word, rest) = rest.split_at(word_len(rest));
        let unquoted = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
        (!word.is_empty()).then_some(unquoted.unwrap_or(word))
    })
}

/// Returns how long the word is that a text begins with. Where what it opens is not closed, it ends at the first white space.
fn word_len(text: &str) -> usize {
    let (mut depth, mut in_quotes, mut before) = (0_usize, false, ' ');
    for (at, c) in text.char_indices() {
        match c {
            '"' => in_quotes = !in_quotes,
            _ if in_quotes => {}
            '<' | '[' | '(' | '{' => depth += 1,
            // `Fn(u8) -> u8`
            '>' if before == '-' => {}
            '>' | ']' | ')' | '}' => depth = depth.saturating_sub(1),
            c if c.is_whitespace() && (depth == 0 || begins_with_key(&text[at..])) => return at,
            _ => {}
        }
        before = c;
    }
    let is_closed = depth == 0 && !in_quotes;
    if is_closed { text.len() } else { text.find(char::is_whitespace).unwrap_or(text.len()) }
}

/// Returns whether the next word is a `key=`.
fn begins_with_key(text: &str) -> bool {
    let key = text.trim_start().split('=').next().unwrap_or_default();
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    is_key && text.trim_start().len() > key.len()
}

/// One word of a line as [`words`] reads it: in `"` where it has white space, but not where it has `"` itself.
pub(super) struct Word<T>(pub(super) T);

impl<T: Display> Display for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut found = Found::default();
        write!(found, "{}", self.0)?;
        let quote = if found.white_space && !found.quote { "\"" } else { "" };
        write!(f, "{quote}{}{quote}", self.0)
    }
}

/// What there is in a text that is written to it.
#[derive(Default)]
struct Found {
    white_space: bool,
    quote: bool,
}

impl Write for Found {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.white_space |= text.contains(char::is_whitespace);
        self.quote |= text.contains('"');
        Ok(())
    }
}
