//! Histograms as Linux prints them.

use super::map::{Counted, KEY_WORDS};
use super::{By, Hist, Histogram, Key, Modifier, Sum, What};
use crate::control::event::definition::Definition;
use crate::control::event::fetch::{Shape, Type};
use crate::control::event::filter::Field;
use crate::control::event::limits::{MAX_SUMS, STRING_BYTES};
use crate::control::log::cut;
use crate::control::names::Names;
use arrayvec::ArrayString;
use core::cmp::Ordering as Order;
use core::fmt::{self, Write};

/// What a histogram is shown with.
#[derive(Clone, Copy)]
pub(in crate::control) struct HistShown<'a> {
    pub(in crate::control) definition: &'a Definition,
    pub(in crate::control) names: Names<'a>,
    pub(in crate::control) task_name: fn(u32) -> Option<&'static str>,
}

/// The name of what an event has.
fn name(definition: &Definition, field: Field) -> &str {
    match field {
        Field::Own(number) => definition.fields().nth(number.into()).map_or("", |(name, _)| name),
        Field::Task => "common_pid",
        Field::Comm => "comm",
        Field::Ip if definition.is_return() => "__probe_func",
        Field::Ip => "__probe_ip",
        Field::Parent => "__probe_ret_ip",
    }
}

impl Key {
    fn name<'d>(&self, definition: &'d Definition) -> &'d str {
        match self.what {
            What::Field(field, _) => name(definition, field),
            What::Stack => "stacktrace",
        }
    }

    fn compare(&self, a: &[u64], b: &[u64]) -> Order {
        let in_order = |word: u64| match self.what {
            What::Field(_, Type { shape: Shape::Text, .. }) => word.swap_bytes(),
            What::Field(_, Type { shape: Shape::Signed, .. }) => word ^ 1 << 63,
            _ => word,
        };
        a.iter().map(|word| in_order(*word)).cmp(b.iter().map(|word| in_order(*word)))
    }

    fn write(&self, words: &[u64], shown: HistShown<'_>, out: &mut dyn Write) -> fmt::Result {
        write!(out, "{}:", self.name(shown.definition))?;
        let first = words.first().copied().unwrap_or(0);
        if self.what == What::Stack {
            out.write_str("\n")?;
            for frame in words.iter().take_while(|frame| **frame != 0) {
                out.write_str("         ")?;
                shown.names.write_place(*frame, out)?;
                out.write_str("\n")?;
            }
            return Ok(());
        }
        let symbol = |with_offset: bool, width: usize, out: &mut dyn Write| {
            let mut name = ArrayString::<128>::new();
            // A longer one is cut.
            let _ = if with_offset {
                shown.names.write_place(first, &mut name)
            } else {
                shown.names.write(first, &mut name)
            };
            write!(out, " [{first:x}] {name:<width$}")
        };
        match (self.modifier, self.what) {
            (_, What::Field(_, Type { shape: Shape::Text, .. })) => {
                let bytes = words.iter().flat_map(|word| word.to_le_bytes()).take_while(|byte| *byte != 0);
                let mut text = ArrayString::<{ STRING_BYTES * 4 }>::new();
                let _ = crate::control::event::show::write_text(bytes, &mut text);
                write!(out, " {text:<35}")
            }
            (Modifier::Hex, _) => write!(out, " {first:x}"),
            (Modifier::Sym, _) => symbol(false, 45, out),
            (Modifier::SymOffset, _) => symbol(true, 55, out),
            (Modifier::Execname, _) => {
                let task = (shown.task_name)(first as u32).unwrap_or("<...>");
                write!(out, " {task:<16}[{first:>10}]")
            }
            (Modifier::Log2, _) => write!(out, " ~ 2^{first:<2}"),
            (Modifier::Buckets(width), _) => write!(out, " ~ {first}-{}", first.saturating_add(width - 1)),
            (Modifier::None, What::Field(_, Type { shape: Shape::Signed, .. })) => {
                write!(out, " {:>10}", first.cast_signed())
            }
            (Modifier::None, What::Field(_, Type { shape: Shape::Symbol, .. })) => symbol(true, 55, out),
            (Modifier::None, _) => write!(out, " {first:>10}"),
        }
    }
}

impl fmt::Display for Modifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Hex => f.write_str(".hex"),
            Self::Sym => f.write_str(".sym"),
            Self::SymOffset => f.write_str(".sym-offset"),
            Self::Execname => f.write_str(".execname"),
            Self::Log2 => f.write_str(".log2"),
            Self::Buckets(width) => write!(f, ".buckets={width}"),
        }
    }
}

impl Hist {
    /// Writes it as it could be written to `trigger`.
    pub(in crate::control) fn write(&self, size: usize, definition: &Definition, out: &mut dyn Write) -> fmt::Result {
        out.write_str("hist:keys=")?;
        for (number, key) in self.keys.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(out, "{comma}{}{}", key.name(definition), key.modifier)?;
        }
        out.write_str(":vals=")?;
        for (number, sum) in self.sums.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let percent = if sum.is_percent { ".percent" } else { "" };
            write!(out, "{comma}{}{percent}", sum.name(definition))?;
        }
        out.write_str(":sort=")?;
        for (number, sort) in self.sorts.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let by = match sort.by {
                By::Hits => "hitcount",
                By::Sum(sum) => self.sums.get(usize::from(sum)).map_or("", |sum| sum.name(definition)),
                By::Key(key) => self.keys.get(usize::from(key)).map_or("", |key| key.name(definition)),
            };
            write!(out, "{comma}{by}{}", if sort.is_descending { ".descending" } else { "" })?;
        }
        write!(out, ":size={size}")
    }

    /// The words of a key of this number.
    fn words_of<'w>(&self, number: usize, words: &'w [u64; KEY_WORDS]) -> &'w [u64] {
        let others: usize = self.keys.iter().map(|key| key.fixed_words()).sum();
        let mut rest = words.as_slice();
        for (at, key) in self.keys.iter().enumerate() {
            let (own, behind) = rest.split_at(key.words(others).min(rest.len()));
            if at == number {
                return own;
            }
            rest = behind;
        }
        &[]
    }

    /// The order in which entries are shown; only one entry has each key.
    fn compare(&self, a: &Counted, b: &Counted) -> Order {
        let by_key = |number: usize| {
            let compare = |key: &Key| key.compare(self.words_of(number, &a.key), self.words_of(number, &b.key));
            self.keys.get(number).map_or(Order::Equal, compare)
        };
        for sort in &self.sorts {
            let order = match sort.by {
                By::Hits => a.hits.cmp(&b.hits),
                By::Sum(number) => a.value(number.into()).cmp(&b.value(number.into())),
                By::Key(number) => by_key(number.into()),
            };
            let order = if sort.is_descending { order.reverse() } else { order };
            if order != Order::Equal {
                return order;
            }
        }
        let in_order = (0..self.keys.len()).map(by_key);
        in_order.fold(Order::Equal, Order::then).then(a.key.cmp(&b.key))
    }
}

impl Sum {
    fn name<'d>(&self, definition: &'d Definition) -> &'d str {
        self.field.map_or("hitcount", |field| name(definition, field))
    }
}

impl Counted {
    /// The value of this number: the hits, then the sums.
    fn value(&self, number: usize) -> u64 {
        number.checked_sub(1).map_or(self.hits, |sum| self.sums.get(sum).copied().unwrap_or(0))
    }
}

impl Histogram {
    /// Writes a histogram's entries, and what there is in all. Right where it is paused, or nothing happens meanwhile.
    pub(in crate::control) fn write(&self, hist: &Hist, shown: HistShown<'_>, out: &mut dyn Write) -> fmt::Result {
        let (mut hits, mut entries, mut totals) = (0_u64, 0_usize, [0_u64; 1 + MAX_SUMS]);
        for entry in self.map.entries() {
            hits = hits.wrapping_add(entry.hits);
            entries += 1;
            for (number, total) in totals.iter_mut().enumerate() {
                *total = total.wrapping_add(entry.value(number));
            }
        }
        let mut last: Option<Counted> = None;
        // Sorted without memory: the next one is searched for each time. No more than there were, as some may grow meanwhile.
        for _ in 0..entries {
            let behind = |entry: &Counted| last.is_none_or(|last| hist.compare(entry, &last) == Order::Greater);
            let Some(next) = self.map.entries().filter(behind).min_by(|a, b| hist.compare(a, b)) else { break };
            write_entry(hist, &next, &totals, shown, out)?;
            last = Some(next);
        }
        let dropped = self.map.dropped();
        write!(out, "\nTotals:\n    Hits: {hits}\n    Entries: {entries}\n    Dropped: {dropped}\n")
    }

    /// Whether it counts, in the word that stands behind it.
    pub(in crate::control) fn state(&self) -> &'static str {
        if self.is_paused() { "paused" } else { "active" }
    }
}

fn write_entry(
    hist: &Hist,
    entry: &Counted,
    totals: &[u64; 1 + MAX_SUMS],
    shown: HistShown<'_>,
    out: &mut dyn Write,
) -> fmt::Result {
    out.write_str("{ ")?;
    for (number, key) in hist.keys.iter().enumerate() {
        out.write_str(if number == 0 { "" } else { ", " })?;
        key.write(hist.words_of(number, &entry.key), shown, out)?;
    }
    let is_stack = hist.keys.last().is_some_and(|key| key.what == What::Stack);
    out.write_str(if is_stack { "}" } else { " }" })?;
    for (number, (sum, total)) in hist.sums.iter().zip(totals).enumerate() {
        let (name, value) = (sum.name(shown.definition), entry.value(number));
        let space = if number == 0 { " " } else { "  " };
        if sum.is_percent {
            let hundredths = u128::from(value) * 10_000 / u128::from((*total).max(1));
            let percent: ArrayString<16> = cut(format_args!("{}.{:02}", hundredths / 100, hundredths % 100));
            write!(out, "{space}{name} (%): {percent:>6}")?;
        } else {
            write!(out, "{space}{name}: {value:>10}")?;
        }
    }
    out.write_str("\n")
}
