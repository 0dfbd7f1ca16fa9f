//! A line, taken apart: the command, the file, the value, and where in the line each of them stands.

use super::reason::{LINE_BYTES, Reason, Refusal};
use crate::tracer::session::words;

/// A part of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Word<'a> {
    /// A whole line.
    const fn line(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Returns its text.
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// Returns the refusal of this part of the line.
    pub const fn refuse(&self, reason: Reason) -> Refusal {
        Refusal { at: self.at, reason }
    }

    /// Reads a decimal number.
    ///
    /// # Errors
    ///
    /// [`Reason::Expected`], for anything else.
    pub fn number(&self) -> Result<usize, Refusal> {
        let is_decimal = self.text.bytes().all(|byte| byte.is_ascii_digit());
        let number = self.text.parse().ok().filter(|_| is_decimal);
        number.ok_or(self.refuse(Reason::Expected("A number")))
    }

    /// The place behind a line.
    pub(super) const fn end_of(line: &'a str) -> Self {
        Self::line(line).end()
    }

    /// Divides it at a byte between two characters.
    pub(super) fn split_at(self, at: usize) -> (Self, Self) {
        let (before, behind) = self.text.split_at_checked(at).unwrap_or((self.text, ""));
        (Self { text: before, at: self.at }, Self { text: behind, at: self.at + before.len() })
    }

    /// What is before and behind the first of this character, which goes.
    pub(super) fn split_once(self, c: char) -> Option<(Self, Self)> {
        let at = self.text.find(c)?;
        let (before, behind) = self.split_at(at);
        Some((before, behind.split_at(c.len_utf8()).1))
    }

    /// What is before and behind the last of this character, which goes.
    pub(super) fn rsplit_once(self, c: char) -> Option<(Self, Self)> {
        let at = self.text.rfind(c)?;
        let (before, behind) = self.split_at(at);
        Some((before, behind.split_at(c.len_utf8()).1))
    }

    /// What is behind this beginning.
    pub(super) fn strip_prefix(self, prefix: &str) -> Option<Self> {
        self.text.strip_prefix(prefix).map(|text| Self { text, at: self.at + prefix.len() })
    }

    /// What is before this end.
    pub(super) fn strip_suffix(self, suffix: &str) -> Option<Self> {
        self.text.strip_suffix(suffix).map(|text| Self { text, ..self })
    }

    /// Without the white space around it.
    pub(super) fn trim(self) -> Self {
        let text = self.text.trim_start();
        Self { text: text.trim_end(), at: self.at + self.text.len() - text.len() }
    }

    /// The place behind it.
    pub(super) const fn end(self) -> Self {
        Self { text: "", at: self.at + self.text.len() }
    }

    /// The first of its words, up to white space or a `>`, and the rest.
    fn first(self) -> (Self, Self) {
        let end = self.text.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(self.text.len());
        let (first, rest) = self.split_at(end);
        (first, rest.trim())
    }

    /// Without what a shell would take away: quotes around all of it, with none of their kind inside.
    fn unquoted(self) -> Self {
        let inside = |quote| self.text.strip_prefix(quote)?.strip_suffix(quote).filter(|text| !text.contains(quote));
        match inside('\'').or_else(|| inside('"')) {
            Some(text) => Self { text, at: self.at + 1 },
            None => self,
        }
    }
}

/// What becomes of what a file had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirection {
    /// `>`: it is replaced.
    Replace,
    /// `>>`: the value is added to it.
    Append,
}

/// What is written to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    all: Word<'a>,
    /// What becomes of what the file had.
    pub redirection: Redirection,
}

impl<'a> Value<'a> {
    /// Returns all of it.
    pub const fn all(&self) -> Word<'a> {
        self.all
    }

    /// Divides it into words: at white space, but not inside brackets that belong together or what stands in `"`, since names
    /// have spaces. A word in `'` loses them; one in `"` keeps them, which [`Rule::parse`](crate::Rule::parse) wants.
    pub fn words(&self) -> impl Iterator<Item = Word<'a>> + use<'a> {
        let Word { text: all, at } = self.all;
        words(all).map(move |word| {
            // What lies in a text begins that much behind it.
            let start = word.as_ptr().addr() - all.as_ptr().addr();
            let (before, end) = (start.wrapping_sub(1), start + word.len() + 1);
            let quoted = all.get(before..end).filter(|text| text.starts_with('"') && text.ends_with('"'));
            match quoted {
                Some(text) => Word { text, at: at + before },
                None if word.starts_with('\'') => Word { text: word, at: at + start }.unquoted(),
                None => Word { text: word, at: at + start },
            }
        })
    }

    /// Reads `0` or `1`.
    ///
    /// # Errors
    ///
    /// [`Reason::Expected`], for anything else.
    pub fn switch(&self) -> Result<bool, Refusal> {
        match self.all.text {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(self.all.refuse(Reason::Expected("0 or 1"))),
        }
    }
}

/// What a line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Nothing,
    List,
    HelpAll,
    Help(Word<'a>),
    Show(Word<'a>),
    MakeInstance(Word<'a>),
    RemoveInstance(Word<'a>),
    Write { file: Word<'a>, value: Value<'a> },
}

/// Takes bytes for a line: without the line break at its end.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if bytes.len() > LINE_BYTES {
        return Err(Refusal { at: LINE_BYTES, reason: Reason::TooLong });
    }
    let text =
        core::str::from_utf8(bytes).map_err(|error| Refusal { at: error.valid_up_to(), reason: Reason::NotUtf8 })?;
    match text.find(|c: char| c.is_control() && c != '\t') {
        Some(at) => Err(Refusal { at, reason: Reason::ControlCharacter }),
        None => Ok(text),
    }
}

/// Takes a line apart.
pub(super) fn parse(line: &str) -> Result<Command<'_>, Refusal> {
    let line = Word::line(line).trim();
    if line.text.is_empty() || line.text.starts_with('#') {
        return Ok(Command::Nothing);
    }
    let (command, rest) = line.first();
    match command.text {
        "ls" => nothing(rest).map(|()| Command::List),
        "help" if rest.text.is_empty() => Ok(Command::HelpAll),
        "help" => only_file(rest).map(Command::Help),
        "cat" => only_file(rest).map(Command::Show),
        "echo" => redirected(rest),
        "mkdir" => only_file(rest).map(Command::MakeInstance),
        "rmdir" => only_file(rest).map(Command::RemoveInstance),
        _ => Err(command.refuse(Reason::UnknownCommand)),
    }
}

fn nothing(rest: Word<'_>) -> Result<(), Refusal> {
    if rest.text.is_empty() { Ok(()) } else { Err(rest.refuse(Reason::Extra)) }
}

/// One name of a file, and nothing else.
fn only_file(rest: Word<'_>) -> Result<Word<'_>, Refusal> {
    let (file, extra) = rest.first();
    if file.text.is_empty() {
        return Err(file.refuse(Reason::NoFile));
    }
    nothing(extra).map(|()| file)
}

/// `V > F` or `V >> F`. Names of functions have a `>` too, but none that only a file's name follows.
fn redirected(rest: Word<'_>) -> Result<Command<'_>, Refusal> {
    let not_redirected = || rest.end().refuse(Reason::NotRedirected);
    let arrow = rest.text.rfind('>').ok_or_else(not_redirected)?;
    let (before, behind) = rest.split_at(arrow);
    let file = behind.split_at(1).1.trim();
    let is_in_file_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    if file.text.split_whitespace().next().is_some_and(|name| !name.chars().all(is_in_file_name)) {
        return Err(not_redirected());
    }
    let file = only_file(file)?;
    let (before, redirection) = match before.text.strip_suffix('>') {
        Some(text) => (Word { text, ..before }, Redirection::Append),
        None => (before, Redirection::Replace),
    };
    let before = before.trim();
    if let Some(at) = ends_a_command(before.text) {
        return Err(before.split_at(at).1.refuse(Reason::OneCommand));
    }
    // A line break at the value's end matters to no file.
    let value = match before.first() {
        (Word { text: "-n", .. }, rest) => rest,
        _ => before,
    };
    Ok(Command::Write { file, value: Value { all: value.unquoted(), redirection } })
}

/// Where a shell would end the command that has this text, and begin another one: at `;`, `|` or `&`, but not in quotes, nor in
/// the brackets of a function's name.
fn ends_a_command(text: &str) -> Option<usize> {
    let (mut quote, mut depth) = (None, 0_usize);
    text.find(|c| {
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('<' | '[' | '(' | '{', None) => depth += 1,
            ('>' | ']' | ')' | '}', None) => depth = depth.saturating_sub(1),
            (';' | '|' | '&', None) => return depth == 0,
            _ => {}
        }
        false
    })
}
