//! The values of one event's fields: fetched where it happens, recorded as words, read back where it is shown.

use super::fetch::{Extent, Fetch, NameTask, ReadMemory, Registers, Shape};
use super::limits::{MAX_FIELDS, STRING_BYTES};
use arrayvec::ArrayVec;

/// A length that says that a string could not be read.
const UNREAD: u64 = u64::MAX;

/// Strings are read up to addresses that are multiples of this, so that none is read over the end of what is mapped.
const CHUNK: u64 = 16;

/// The most words of an event: where it returns to, what could not be read, and fields that are all strings.
const MAX_WORDS: usize = 2 + MAX_FIELDS * (1 + STRING_BYTES / 8);

/// What an event has: the fields of a definition, and what stands in front of them.
#[derive(Clone, Copy, Debug)]
pub(in crate::control) struct Layout<'a> {
    pub(super) fields: &'a [Fetch],
    /// Whether there is the address that is returned to.
    pub(super) is_return: bool,
    /// Whether there is a word for what could not be read.
    pub(super) has_faults: bool,
}

impl<'a> Layout<'a> {
    pub(super) fn new(fields: &'a [Fetch], is_return: bool) -> Self {
        Self { fields, is_return, has_faults: fields.iter().any(Fetch::may_fail) }
    }

    fn head(&self) -> usize {
        usize::from(self.is_return) + usize::from(self.has_faults)
    }
}

/// What a kernel lets events look at besides registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hooks {
    pub(super) memory: Option<ReadMemory>,
    pub(super) name_task: Option<NameTask>,
}

impl Hooks {
    /// What a task is called.
    pub(super) fn comm(&self, task: u32) -> Option<&'static [u8]> {
        let name = (self.name_task?)(task)?.as_bytes();
        Some(name.get(..STRING_BYTES).unwrap_or(name))
    }
}

/// The values of one event.
///
/// ```text
///   returns to (of `r`) | faults, one bit a field (where one may fail) | fields: a number, or a length in bytes and a text
/// ```
#[derive(Clone, Debug)]
pub(in crate::control) struct Values {
    words: ArrayVec<u64, MAX_WORDS>,
    /// Where each field begins.
    at: ArrayVec<u8, MAX_FIELDS>,
    faults: u64,
    parent: Option<u64>,
}

impl Values {
    /// None.
    #[inline]
    pub(in crate::control) fn none() -> Self {
        Self { words: ArrayVec::new(), at: ArrayVec::new(), faults: 0, parent: None }
    }

    /// Fetches the values of an event that happens now. (In place: there is room for long ones, which would be copied.)
    #[inline]
    pub(super) fn fetch(&mut self, layout: Layout<'_>, regs: &dyn Registers, parent: u64, task: u32, hooks: &Hooks) {
        let values = self;
        values.parent = layout.is_return.then_some(parent);
        values.parent.into_iter().for_each(|parent| values.push(parent));
        if layout.has_faults {
            values.push(0);
        }
        for (number, field) in layout.fields.iter().enumerate() {
            // There is a place for each, and fewer words than 256.
            let _ = values.at.try_push(values.words.len() as u8);
            let is_read = match (field.value(regs, hooks.memory), field.kind.extent) {
                (Some(address), Extent::Text) => values.push_text(address, hooks.memory),
                (None, Extent::Comm) => values.push_bytes(hooks.comm(task)),
                (value, _) => {
                    values.push(value.unwrap_or(0));
                    value.is_some()
                }
            };
            values.faults |= u64::from(!is_read) << number;
        }
        let place = usize::from(layout.is_return);
        if layout.has_faults
            && let Some(word) = values.words.get_mut(place)
        {
            *word = values.faults;
        }
    }

    fn push(&mut self, word: u64) {
        // There is room for what a definition can have.
        let _ = self.words.try_push(word);
    }

    /// Fetches a text, up to its first zero or as much of it as there is room for; whether it could be read.
    fn push_text(&mut self, address: u64, memory: Option<ReadMemory>) -> bool {
        let mut text = [0; STRING_BYTES];
        let length = memory.and_then(|memory| read_text(address, &mut text, memory));
        self.push_bytes(length.and_then(|length| text.get(..length)))
    }

    /// Puts a text there, if it could be read, and says whether.
    fn push_bytes(&mut self, text: Option<&[u8]>) -> bool {
        self.push(text.map_or(UNREAD, |text| text.len() as u64));
        words_of(text.unwrap_or_default()).for_each(|word| self.push(word));
        text.is_some()
    }

    /// Reads what was recorded; `None` if it is nothing of this form.
    pub(in crate::control) fn recorded(layout: Layout<'_>, words: impl Iterator<Item = u64>) -> Option<Self> {
        let mut all = ArrayVec::new();
        for word in words {
            all.try_push(word).ok()?;
        }
        let head = layout.head();
        let parent = if layout.is_return { Some(*all.first()?) } else { None };
        let faults = if layout.has_faults { *all.get(head - 1)? } else { 0 };
        let mut values = Self { words: all, at: ArrayVec::new(), faults, parent };
        let mut at = head;
        for field in layout.fields {
            values.at.try_push(u8::try_from(at).ok()?).ok()?;
            let first = *values.words.get(at)?;
            let text = if field.kind.shape == Shape::Text && first != UNREAD { first.div_ceil(8) } else { 0 };
            at = at.checked_add(1)?.checked_add(usize::try_from(text).ok()?)?;
        }
        (at == values.words.len()).then_some(values)
    }

    /// What is recorded.
    pub(in crate::control) fn words(&self) -> &[u64] {
        &self.words
    }

    /// Where an `r` event's function returns to.
    pub(in crate::control) const fn parent(&self) -> Option<u64> {
        self.parent
    }

    /// A field's number; `None` if it could not be read.
    pub(in crate::control) fn number(&self, field: usize) -> Option<u64> {
        if self.faults >> field & 1 != 0 {
            return None;
        }
        self.words.get(usize::from(*self.at.get(field)?)).copied()
    }

    /// A field's text, byte by byte; `None` if it could not be read.
    pub(in crate::control) fn text(&self, field: usize) -> Option<impl Iterator<Item = u8> + Clone + '_> {
        let length = usize::try_from(self.number(field)?).ok()?;
        let words = self.words.get(usize::from(*self.at.get(field)?) + 1..)?;
        Some(words.iter().flat_map(|word| word.to_le_bytes()).take(length))
    }
}

/// The words of a text, the last one with zeros behind it.
pub(super) fn words_of(text: &[u8]) -> impl Iterator<Item = u64> {
    text.chunks(8).map(|part| part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
}

/// Reads a text up to its first zero; its length.
fn read_text(address: u64, text: &mut [u8; STRING_BYTES], memory: ReadMemory) -> Option<usize> {
    let mut length = 0;
    while length < STRING_BYTES {
        let from = address.wrapping_add(length as u64);
        let bytes = ((CHUNK - from % CHUNK) as usize).min(STRING_BYTES - length);
        let part = text.get_mut(length..length + bytes)?;
        if !memory(from, part) {
            // What is there before the end of what can be read is as good as a string that is too long.
            return (length > 0).then_some(length);
        }
        if let Some(end) = part.iter().position(|byte| *byte == 0) {
            return Some(length + end);
        }
        length += bytes;
    }
    Some(length)
}
