//! The values of one event's fields: fetched where it happens, recorded as words, read back where it is shown.

use super::fetch::{Extent, Fetch, NameTask, ReadMemory, Registers, Shape, Type, read};
use super::limits::{MAX_FIELD_WORDS, MAX_FIELDS, STRING_BYTES};
use arrayvec::ArrayVec;

/// A length that says that a string could not be read.
const UNREAD: u64 = u64::MAX;

/// Strings are read up to addresses that are multiples of this, so that none is read over the end of what is mapped.
const CHUNK: u64 = 16;

/// The most words of an event: where it returns to, what could not be read, and its fields.
const MAX_WORDS: usize = 2 + MAX_FIELD_WORDS;

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
///   returns to (of `r`) | faults, one bit a field (where one may fail) | fields
///
///   a number          its word
///   a text            its length in bytes, or UNREAD | its bytes
///   an array          faults, one bit an element     | the elements' bytes
///     of texts        each as a text
/// ```
/// Of a text or an array whose address could not be found out there is one word.
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
            let is_read = if field.kind.extent == Extent::Number {
                let value = field.number(regs, hooks.memory);
                values.push(value.unwrap_or(0));
                value.is_some()
            } else {
                values.push_long(field, regs, task, hooks)
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
    #[inline]
    fn push_text(&mut self, address: u64, memory: Option<ReadMemory>) -> bool {
        let mut text = [0; STRING_BYTES];
        let length = memory.and_then(|memory| read_text(address, &mut text, memory));
        self.push_bytes(length.and_then(|length| text.get(..length)))
    }

    /// Puts a text there, if it could be read, and says whether.
    #[inline]
    fn push_bytes(&mut self, text: Option<&[u8]>) -> bool {
        self.push(text.map_or(UNREAD, |text| text.len() as u64));
        words_of(text.unwrap_or_default()).for_each(|word| self.push(word));
        text.is_some()
    }

    /// Fetches what takes more than a word, out of the way of the numbers that most fields are; whether it could be found.
    #[inline(never)]
    fn push_long(&mut self, field: &Fetch, regs: &dyn Registers, task: u32, hooks: &Hooks) -> bool {
        if field.kind.extent == Extent::Comm {
            return self.push_bytes(hooks.comm(task));
        }
        let Some(address) = field.address(regs, hooks.memory) else {
            self.push(0);
            return false;
        };
        match (field.elements(), field.kind.shape) {
            (None, _) => return self.push_text(address, hooks.memory),
            (Some(elements), Shape::Text) => self.push_texts(address, elements.into(), hooks.memory),
            (Some(elements), _) => self.push_numbers(address, elements.into(), field.kind, hooks.memory),
        }
        true
    }

    /// Fetches an array of texts, each from where a pointer leads, and each for itself.
    fn push_texts(&mut self, pointers: u64, elements: u64, memory: Option<ReadMemory>) {
        for element in 0..elements {
            let _ = match read(memory, pointers.wrapping_add(element * 8), 8) {
                Some(text) => self.push_text(text, memory),
                None => self.push_bytes(None),
            };
        }
    }

    /// Fetches an array of numbers, by the word or, where that can't be read, each for itself.
    fn push_numbers(&mut self, address: u64, elements: u64, kind: Type, memory: Option<ReadMemory>) {
        let bytes = u64::from(kind.bytes);
        let read = |from: u64, count: u64| read(memory, address.wrapping_add(from * bytes), (count * bytes) as usize);
        let (at, in_word, mut faults) = (self.words.len(), 8 / bytes, 0_u64);
        self.push(0);
        for first in (0..elements).step_by(in_word as usize) {
            let count = in_word.min(elements - first);
            self.push(read(first, count).unwrap_or_else(|| {
                (0..count).fold(0, |word, number| {
                    let one = read(first + number, 1);
                    faults |= u64::from(one.is_none()) << (first + number);
                    word | one.unwrap_or(0) << (number * bytes * 8)
                })
            }));
        }
        self.words.iter_mut().skip(at).take(1).for_each(|word| *word = faults);
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
        for (number, field) in layout.fields.iter().enumerate() {
            values.at.try_push(u8::try_from(at).ok()?).ok()?;
            let is_unread = faults >> number & 1 != 0;
            at = if is_unread { at.checked_add(1)? } else { values.end(at, field)? };
        }
        (at == values.words.len()).then_some(values)
    }

    /// Where a field ends that begins there.
    fn end(&self, at: usize, field: &Fetch) -> Option<usize> {
        match (field.kind.shape, field.elements()) {
            (Shape::Text, elements) => (0..elements.unwrap_or(1)).try_fold(at, |at, _| self.end_of_text(at)),
            _ => at.checked_add(field.words()),
        }
    }

    fn end_of_text(&self, at: usize) -> Option<usize> {
        let length = Some(*self.words.get(at)?).filter(|length| *length != UNREAD).unwrap_or(0);
        at.checked_add(1)?.checked_add(usize::try_from(length.div_ceil(8)).ok()?)
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
        self.number(field)?;
        self.text_at((*self.at.get(field)?).into())
    }

    #[inline]
    fn text_at(&self, at: usize) -> Option<impl Iterator<Item = u8> + Clone + '_> {
        let length = Some(*self.words.get(at)?).filter(|length| *length != UNREAD)?;
        let words = self.words.get(at + 1..)?;
        Some(words.iter().flat_map(|word| word.to_le_bytes()).take(usize::try_from(length).ok()?))
    }

    /// A number of a field that is an array; `None` if it could not be read.
    pub(super) fn element(&self, field: usize, element: usize, kind: Type) -> Option<u64> {
        let at = usize::from(*self.at.get(field)?);
        if self.words.get(at)? >> element & 1 != 0 {
            return None;
        }
        let offset = element * usize::from(kind.bytes);
        Some(kind.of(self.words.get(at + 1 + offset / 8)? >> (offset % 8 * 8)))
    }

    /// The texts of a field that is an array of them, each `None` if it could not be read.
    pub(super) fn texts(
        &self,
        field: usize,
        elements: u8,
    ) -> impl Iterator<Item = Option<impl Iterator<Item = u8> + Clone + '_>> {
        let mut next = self.at.get(field).map(|at| usize::from(*at));
        (0..elements).map(move |_| {
            let at = next?;
            next = self.end_of_text(at);
            self.text_at(at)
        })
    }
}

/// The words of a text, the last one with zeros behind it.
pub(super) fn words_of(text: &[u8]) -> impl Iterator<Item = u64> {
    let (words, rest) = text.as_chunks::<8>();
    let last = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    words.iter().map(|word| u64::from_le_bytes(*word)).chain((!rest.is_empty()).then_some(last))
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
