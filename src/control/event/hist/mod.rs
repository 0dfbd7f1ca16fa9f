//! Histograms: how often an event happens by what it has (Linux's Documentation/trace/histogram.rst).
//!
//! `hist:keys=K1[,K2,K3][:vals=V1[,V2,V3]][:sort=S1[,S2]][:size=N][:pause|:continue|:clear] [if FILTER]`. A key is a field, or
//! `stacktrace`. What is counted is in a [map](map::Map) of the kernel's memory; that of a histogram is looked at again before
//! another one gets it.

pub(super) mod map;
mod show;
#[cfg(test)]
mod tests;

pub use map::HistMemory;

use super::fetch::{Shape, Type, number};
use super::filter::{Field, Happening, Named};
use super::limits::{MAX_KEYS, MAX_SORTS, MAX_SUMS, STRING_BYTES};
use super::reason::EventReason;
use super::values::words_of;
use crate::control::line::Word;
use crate::control::reason::{Reason, Refusal};
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use map::{KEY_WORDS, Map};

pub(in crate::control) use show::HistShown;

/// The words of a key that is a string.
const TEXT_WORDS: usize = STRING_BYTES / 8;
/// How many keys a histogram has room for if its line does not say so, as far as there is memory.
const DEFAULT_SIZE: usize = 2048;

/// Room for one histogram, in a `static`.
///
/// ```
/// use fentry::control::{HistMemory, Histogram};
///
/// static MEMORY: [HistMemory<256>; 2] = [const { HistMemory::new() }; 2];
/// static HISTOGRAMS: [Histogram; 2] = [Histogram::new(&MEMORY[0]), Histogram::new(&MEMORY[1])];
/// ```
#[derive(Debug)]
pub struct Histogram {
    map: Map<'static>,
    pub(super) is_used: AtomicBool,
    /// Why it does not count.
    stops: AtomicU8,
}

impl Histogram {
    /// Makes one of this memory, which no other one may have: what is counted in two is counted in neither.
    pub const fn new<const N: usize>(memory: &'static HistMemory<N>) -> Self {
        Self { map: memory.map(), is_used: AtomicBool::new(false), stops: AtomicU8::new(0) }
    }

    /// A line, or a trigger, has paused it.
    const PAUSED: u8 = 1 << 0;
    /// It is about to be cleared: nothing is counted, whatever a trigger does.
    const CLOSED: u8 = 1 << 1;

    fn stop(&self, why: u8, is_so: bool) {
        if is_so {
            self.stops.fetch_or(why, Ordering::Relaxed);
        } else {
            // Who counts then sees what was cleared.
            self.stops.fetch_and(!why, Ordering::Release);
        }
    }

    pub(super) fn pause(&self, is_paused: bool) {
        self.stop(Self::PAUSED, is_paused);
    }

    pub(in crate::control) fn is_paused(&self) -> bool {
        self.stops.load(Ordering::Relaxed) & Self::PAUSED != 0
    }

    pub(super) fn close(&self, is_closed: bool) {
        self.stop(Self::CLOSED, is_closed);
    }

    /// For how many keys there is room.
    pub(in crate::control) const fn room(&self) -> usize {
        self.map.len()
    }

    /// Forgets what it has counted. Nobody may be counting: it was closed, or given back, and every CPU was seen quiescent since.
    pub(super) fn clear(&self) {
        self.map.clear();
    }

    /// Counts an event.
    #[inline]
    pub(super) fn add(&self, hist: &Hist, event: Happening<'_>, stack: impl FnMut(&mut [u64])) {
        if self.stops.load(Ordering::Acquire) == 0 {
            let mut key = ArrayVec::new();
            hist.key(event, stack, &mut key);
            self.map.add(&key, hist.addends(event));
        }
    }
}

/// What a key is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Field(Field, Type),
    Stack,
}

/// How a key is counted and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Modifier {
    None,
    Hex,
    Sym,
    SymOffset,
    Execname,
    Log2,
    Buckets(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    what: What,
    modifier: Modifier,
}

/// A value that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sum {
    /// `None` for the hits.
    field: Option<Field>,
    is_percent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Hits,
    Sum(u8),
    Key(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sort {
    by: By,
    is_descending: bool,
}

/// What is done to a histogram that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum HistCommand {
    Pause,
    Continue,
    Clear,
}

/// A histogram: by what it counts, what it sums up, and how it is sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Hist {
    keys: ArrayVec<Key, MAX_KEYS>,
    /// The hits, then what is summed up.
    sums: ArrayVec<Sum, { 1 + MAX_SUMS }>,
    sorts: ArrayVec<Sort, MAX_SORTS>,
    pub(super) size: Option<usize>,
    /// Which of the kernel's.
    pub(super) number: u8,
}

impl Hist {
    /// Reads what is behind `hist`.
    pub(super) fn parse(options: Word<'_>, named: Named<'_>) -> Result<(Self, Option<HistCommand>), Refusal> {
        let mut hist =
            Self { keys: ArrayVec::new(), sums: ArrayVec::new(), sorts: ArrayVec::new(), size: None, number: 0 };
        hist.sums.push(Sum { field: None, is_percent: false });
        let (mut command, mut sorts) = (None, None);
        let mut rest = Some(options).filter(|options| !options.text().is_empty());
        while let Some(all) = rest {
            let (option, behind) = all.split_once(':').map_or((all, None), |(option, behind)| (option, Some(behind)));
            rest = behind;
            let (name, value) = option.split_once('=').unwrap_or((option, option.end()));
            match name.text() {
                "key" | "keys" => each(value, |word| hist.add_key(word, named))?,
                "val" | "vals" | "values" => each(value, |word| hist.add_sum(word, named))?,
                "sort" => sorts = Some(value),
                "size" => hist.size = Some(size(value)?),
                "pause" => command = Some(HistCommand::Pause),
                "cont" | "continue" => command = Some(HistCommand::Continue),
                "clear" => command = Some(HistCommand::Clear),
                _ => return Err(name.refuse(Reason::Event(EventReason::BadHistOption))),
            }
        }
        if hist.keys.is_empty() {
            return Err(options.refuse(Reason::Event(EventReason::NoKeys)));
        }
        match sorts {
            Some(sorts) => each(sorts, |word| hist.add_sort(word, named))?,
            None => hist.sorts.push(Sort { by: By::Hits, is_descending: false }),
        }
        Ok((hist, command))
    }

    fn add_key(&mut self, word: Word<'_>, named: Named<'_>) -> Result<(), Refusal> {
        let refused = |at: Word<'_>, reason| Err(at.refuse(Reason::Event(reason)));
        let (name, modifier) = word.split_once('.').map_or((word, None), |(name, with)| (name, Some(with)));
        let what = match name.text() {
            "stacktrace" | "common_stacktrace" => What::Stack,
            text => match named(text) {
                Ok((field, kind)) => What::Field(field, kind),
                Err(reason) => return refused(name, reason),
            },
        };
        let modifier = match modifier {
            None => Modifier::None,
            Some(with) => match modifier_of(with.text(), what) {
                Some(modifier) => modifier,
                None => return refused(with, EventReason::BadModifier),
            },
        };
        if self.keys.try_push(Key { what, modifier }).is_err() {
            return refused(word, EventReason::TooManyKeys);
        }
        let stacks = self.keys.iter().filter(|key| key.what == What::Stack).count();
        let others: usize = self.keys.iter().map(|key| key.fixed_words()).sum();
        if stacks > 1 || others + stacks > KEY_WORDS {
            return refused(word, EventReason::KeyTooLong);
        }
        Ok(())
    }

    fn add_sum(&mut self, word: Word<'_>, named: Named<'_>) -> Result<(), Refusal> {
        let refused = |at: Word<'_>, reason| Err(at.refuse(Reason::Event(reason)));
        let (name, with) = word.split_once('.').map_or((word, None), |(name, with)| (name, Some(with)));
        let is_percent = match with {
            None => false,
            Some(with) if with.text() == "percent" => true,
            Some(with) => return refused(with, EventReason::BadModifier),
        };
        if name.text() == "hitcount" {
            self.sums.iter_mut().take(1).for_each(|hits| hits.is_percent = is_percent);
            return Ok(());
        }
        let (field, kind) = named(name.text()).map_err(|reason| name.refuse(Reason::Event(reason)))?;
        if kind.shape == Shape::Text {
            return refused(name, EventReason::NoNumber);
        }
        match self.sums.try_push(Sum { field: Some(field), is_percent }) {
            Ok(()) => Ok(()),
            Err(_) => refused(word, EventReason::TooManySums),
        }
    }

    fn add_sort(&mut self, word: Word<'_>, named: Named<'_>) -> Result<(), Refusal> {
        let refused = |at: Word<'_>, reason| Err(at.refuse(Reason::Event(reason)));
        let (name, with) = word.split_once('.').map_or((word, None), |(name, with)| (name, Some(with)));
        let is_descending = match with.map(|with| (with, with.text())) {
            None | Some((_, "ascending")) => false,
            Some((_, "descending")) => true,
            Some((with, _)) => return refused(with, EventReason::BadModifier),
        };
        let field = named(name.text()).ok().map(|(field, _)| field);
        let is_key = |key: &Key| match key.what {
            What::Field(of_key, _) => Some(of_key) == field,
            What::Stack => matches!(name.text(), "stacktrace" | "common_stacktrace"),
        };
        let by_key = || self.keys.iter().position(is_key).map(|number| By::Key(number as u8));
        let by_sum = || self.sums.iter().position(|sum| sum.field.is_some() && sum.field == field);
        let by = match name.text() {
            "hitcount" => Some(By::Hits),
            _ => by_key().or_else(|| by_sum().map(|number| By::Sum(number as u8))),
        };
        let Some(by) = by else { return refused(name, EventReason::NoSuchSort) };
        match self.sorts.try_push(Sort { by, is_descending }) {
            Ok(()) => Ok(()),
            Err(_) => refused(word, EventReason::TooManySorts),
        }
    }

    /// Whether two count by the same keys: an event can't have both.
    pub(super) fn has_keys_of(&self, other: &Self) -> bool {
        self.keys == other.keys
    }

    /// Whether it looks at the stack.
    pub(super) fn takes_stack(&self) -> bool {
        self.keys.iter().any(|key| key.what == What::Stack)
    }

    /// How many keys it asks for room for.
    pub(super) fn wanted(&self, room: usize) -> usize {
        self.size.unwrap_or(DEFAULT_SIZE.min(room))
    }

    /// Makes the key of an event. (In place, and no longer than it is: most are one word.)
    #[inline]
    fn key(&self, event: Happening<'_>, mut stack: impl FnMut(&mut [u64]), words: &mut ArrayVec<u64, KEY_WORDS>) {
        let others: usize = self.keys.iter().map(|key| key.fixed_words()).sum();
        for key in &self.keys {
            let from = words.len();
            // There is room for all of them, as was seen when it was defined.
            for _ in 0..key.words(others) {
                let _ = words.try_push(0);
            }
            key.fill(event, words.get_mut(from..).unwrap_or_default(), &mut stack);
        }
    }

    /// What is added to the sums.
    #[inline]
    fn addends(&self, event: Happening<'_>) -> [u64; MAX_SUMS] {
        let mut addends = [0; MAX_SUMS];
        let fields = self.sums.iter().filter_map(|sum| sum.field);
        for (place, field) in addends.iter_mut().zip(fields) {
            *place = event.number(field).unwrap_or(0);
        }
        addends
    }
}

impl Key {
    /// How many words it takes; a stack takes what the others leave.
    fn words(&self, others: usize) -> usize {
        if self.what == What::Stack { KEY_WORDS - others } else { self.fixed_words() }
    }

    const fn fixed_words(&self) -> usize {
        match self.what {
            What::Stack => 0,
            What::Field(_, Type { shape: Shape::Text, .. }) => TEXT_WORDS,
            What::Field(..) => 1,
        }
    }

    #[inline]
    fn fill(&self, event: Happening<'_>, words: &mut [u64], stack: &mut impl FnMut(&mut [u64])) {
        match self.what {
            What::Stack => stack(words),
            What::Field(Field::Own(field), Type { shape: Shape::Text, .. }) => {
                let mut text = event.values.text(field.into()).into_iter().flatten();
                for word in words {
                    let bytes = core::array::from_fn(|_| text.next().unwrap_or(0));
                    *word = u64::from_le_bytes(bytes);
                }
            }
            What::Field(Field::Comm, _) => {
                let name = event.comm().unwrap_or_default();
                words.iter_mut().zip(words_of(name)).for_each(|(word, of_name)| *word = of_name);
            }
            What::Field(field, _) => {
                let value = event.number(field).unwrap_or(0);
                words.iter_mut().for_each(|word| *word = self.modifier.of(value));
            }
        }
    }
}

impl Modifier {
    #[inline]
    const fn of(self, value: u64) -> u64 {
        match self {
            // Rounded up, as Linux does: 2^5 is 17 to 32.
            Self::Log2 if value > 1 => 64 - (value - 1).leading_zeros() as u64,
            Self::Log2 => 0,
            Self::Buckets(width) => value - value % width,
            _ => value,
        }
    }
}

fn modifier_of(text: &str, what: What) -> Option<Modifier> {
    let What::Field(field, kind) = what else { return None };
    if kind.shape == Shape::Text {
        return None;
    }
    match text {
        "hex" => Some(Modifier::Hex),
        "sym" => Some(Modifier::Sym),
        "sym-offset" => Some(Modifier::SymOffset),
        "execname" if field == Field::Task => Some(Modifier::Execname),
        "log2" => Some(Modifier::Log2),
        _ => number(text.strip_prefix("buckets=")?).filter(|width| *width > 0).map(Modifier::Buckets),
    }
}

/// A number of keys.
fn size(word: Word<'_>) -> Result<usize, Refusal> {
    let size = word.number()?;
    let is_right = size.is_power_of_two() && (128..=131_072).contains(&size);
    if is_right { Ok(size) } else { Err(word.refuse(Reason::Event(EventReason::BadSize))) }
}

/// Calls `take` with each of the words between commas.
fn each<'a>(list: Word<'a>, mut take: impl FnMut(Word<'a>) -> Result<(), Refusal>) -> Result<(), Refusal> {
    let mut rest = Some(list);
    while let Some(all) = rest {
        let (word, behind) = all.split_once(',').map_or((all, None), |(word, behind)| (word, Some(behind)));
        take(word)?;
        rest = behind;
    }
    Ok(())
}
