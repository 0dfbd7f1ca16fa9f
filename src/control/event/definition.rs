//! A line of `kprobe_events` or `dynamic_events`, taken apart: `p[:[GRP/][EVENT]] PLACE [ARGS]`,
//! `r[MAX][:[GRP/][EVENT]] PLACE [ARGS]`, `f[MAX][:[GRP/][EVENT]] FUNCTION[%return] [ARGS]`, `-:[GRP/]EVENT` (Linux's
//! Documentation/trace/kprobetrace.rst, fprobetrace.rst).

use super::fetch::{Fetch, Point, Scope, Shape, Type, number, with_offset};
use super::filter::Field;
use super::is_identifier;
use super::limits::{GROUP_BYTES, MAX_FIELD_WORDS, MAX_FIELDS, NAME_BYTES, TEXT_BYTES};
use super::reason::EventReason;
use super::values::Layout;
use crate::address::TextAddr;
use crate::control::line::{Value, Word};
use crate::control::log::cut;
use crate::control::reason::{Reason, Refusal};
use crate::engine::Engine;
use arrayvec::{ArrayString, ArrayVec};

/// What an event is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Kind {
    /// `p` and `r`: an instruction, or a function's return.
    Kprobe,
    /// `f`: a function's entry or return, without its registers.
    Fprobe,
}

impl Kind {
    /// The group of events that name none.
    const fn default_group(self) -> &'static str {
        match self {
            Self::Kprobe => "kprobes",
            Self::Fprobe => "fprobes",
        }
    }
}

/// Which events a file is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Kinds {
    Kprobes,
    All,
}

impl Kinds {
    /// Whether an event is one of them.
    pub(in crate::control) fn have(self, definition: &Definition) -> bool {
        self == Self::All || definition.kind == Kind::Kprobe
    }
}

/// The fields that all events have.
pub(super) const COMMON_FIELDS: [&str; 4] = ["common_pid", "__probe_ip", "__probe_func", "__probe_ret_ip"];

/// What a line of the file asks for.
#[expect(clippy::large_enum_variant, reason = "nothing is boxed: there may be no heap")]
pub(in crate::control) enum Asked<'a> {
    Define(Definition),
    /// Removes the event of this name, in this group or in any.
    Remove {
        group: Option<Word<'a>>,
        name: Word<'a>,
    },
}

/// An event as it was defined.
#[derive(Clone, Debug)]
pub(in crate::control) struct Definition {
    pub(in crate::control) kind: Kind,
    pub(in crate::control) group: ArrayString<GROUP_BYTES>,
    pub(in crate::control) name: ArrayString<NAME_BYTES>,
    pub(in crate::control) at: TextAddr,
    pub(in crate::control) point: Point,
    /// `NAME=ARGUMENT`, each ended by a line break.
    fields: ArrayString<TEXT_BYTES>,
    pub(in crate::control) fetches: ArrayVec<Fetch, MAX_FIELDS>,
}

impl Definition {
    pub(in crate::control) const fn is_return(&self) -> bool {
        matches!(self.point, Point::Return)
    }

    /// Its fields as they were written: each one's name, and what is fetched.
    pub(in crate::control) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.lines().filter_map(|field| field.split_once('='))
    }

    /// What a name means in this event: one of its fields, or one that all have.
    pub(in crate::control) fn named(&self, name: &str, has_task_names: bool) -> Result<(Field, Type), EventReason> {
        let own = self.fields().position(|(field, _)| field == name);
        if let Some((number, fetch)) = own.and_then(|number| Some((number, self.fetches.get(number)?))) {
            if fetch.elements().is_some() {
                return Err(EventReason::ArrayField);
            }
            return Ok((Field::Own(number as u8), fetch.kind));
        }
        match (name, self.is_return()) {
            ("common_pid", _) => Ok((Field::Task, Type::new(Shape::Unsigned, 4))),
            ("__probe_ip", false) | ("__probe_func", true) => Ok((Field::Ip, Type::new(Shape::Hex, 8))),
            ("__probe_ret_ip", true) => Ok((Field::Parent, Type::new(Shape::Hex, 8))),
            ("comm" | "COMM", _) if has_task_names => Ok((Field::Comm, Type::COMM)),
            ("comm" | "COMM", _) => Err(EventReason::NoTaskNames),
            _ => Err(EventReason::NoSuchField),
        }
    }

    pub(in crate::control) fn layout(&self) -> Layout<'_> {
        Layout::new(&self.fetches, self.is_return())
    }

    pub(super) fn takes_all_registers(&self) -> bool {
        self.point != Point::Return && self.fetches.iter().any(Fetch::takes_all_registers)
    }

    /// Whether it is the event of this name, in this group or in any.
    pub(in crate::control) fn is_named(&self, group: Option<&str>, name: &str) -> bool {
        group.is_none_or(|group| *self.group == *group) && *self.name == *name
    }

    fn add_field(&mut self, word: Word<'_>, scope: &Scope<'_>) -> Result<(), Refusal> {
        let refused = |at: Word<'_>, reason| Err(at.refuse(Reason::Event(reason)));
        let number = self.fetches.len() + 1;
        let (name, argument) = match word.split_once('=') {
            Some((name, _)) if name.text().is_empty() => return refused(name, EventReason::NoFieldName),
            Some((name, _)) if !is_identifier(name.text()) => return refused(name, EventReason::BadFieldName),
            Some((name, argument)) if argument.text().is_empty() => {
                let _ = name;
                return refused(argument, EventReason::NoFetch);
            }
            Some((name, argument)) => (cut::<NAME_BYTES>(name.text()), argument),
            None => (cut(format_args!("arg{number}")), word),
        };
        if COMMON_FIELDS.contains(&&*name) || self.fields().any(|(known, _)| *known == *name) {
            return refused(word, EventReason::FieldExists);
        }
        let fetch = Fetch::parse(argument, scope)?;
        let words: usize = self.fetches.iter().map(Fetch::words).sum();
        if self.fetches.len() < MAX_FIELDS && words + fetch.words() > MAX_FIELD_WORDS {
            return refused(word, EventReason::FieldsTooLong);
        }
        if self.fetches.try_push(fetch).is_err() {
            return refused(word, EventReason::TooManyFields);
        }
        let parts = [&name, "=", argument.text(), "\n"];
        if parts.iter().any(|part| self.fields.try_push_str(part).is_err()) {
            return refused(word, EventReason::TooLong);
        }
        Ok(())
    }
}

/// What a definition is looked up in.
#[derive(Clone, Copy)]
pub(in crate::control) struct Surroundings {
    pub(in crate::control) engine: &'static Engine,
    pub(in crate::control) has_memory: bool,
    pub(in crate::control) has_task_names: bool,
}

/// Takes a line apart that is about these events; `None` if it is empty.
pub(in crate::control) fn parse<'a>(
    value: &Value<'a>,
    kinds: Kinds,
    surroundings: Surroundings,
) -> Result<Option<Asked<'a>>, Refusal> {
    let mut words = value.words();
    let Some(head) = words.next() else { return Ok(None) };
    let is_removal = head.text().starts_with(['-', '!']);
    let (letter, names) = match head.split_once(':') {
        Some((letter, names)) => (letter, Some(names)),
        None => (head, None),
    };
    let (group, name) = names.map_or(Ok((None, None)), group_and_name)?;
    if is_removal {
        // `!p:EVENT PLACE ARGS`, as it was defined, removes it as well.
        let name = name.ok_or(head.end().refuse(Reason::Event(EventReason::NoEventName)))?;
        return Ok(Some(Asked::Remove { group, name }));
    }
    let of_function = letter.strip_prefix("f").filter(|_| kinds == Kinds::All);
    let is_return = if of_function.is_some() { false } else { is_return(letter)? };
    let place = words.next().ok_or(value.all().end().refuse(Reason::Event(EventReason::NoPlace)))?;
    let (at, point) = find(place, is_return, surroundings.engine)?;
    let kind = of_function.map_or(Ok(Kind::Kprobe), |count| fprobe(count, letter, place, point))?;
    let mut definition = Definition {
        kind,
        group: cut(group.map_or(kind.default_group(), |group| group.text())),
        name: name.map_or_else(|| name_of(kind, place.text(), point), |name| cut(name.text())),
        at,
        point,
        fields: ArrayString::new(),
        fetches: ArrayVec::new(),
    };
    let symbol = |name: &str| surroundings.engine.function_named(name).map(TextAddr::get);
    let Surroundings { has_memory, has_task_names, .. } = surroundings;
    let has_registers = kind == Kind::Kprobe;
    let scope = Scope { point, has_registers, has_memory, has_task_names, symbol: &symbol };
    words.try_for_each(|word| definition.add_field(word, &scope))?;
    Ok(Some(Asked::Define(definition)))
}

/// `p` or `r[MAX]`: whether it is at the return.
fn is_return(letter: Word<'_>) -> Result<bool, Refusal> {
    if let Some(count) = letter.strip_prefix("r") {
        return max_active(count).map(|()| true);
    }
    let Some(count) = letter.strip_prefix("p") else { return Err(letter.refuse(Reason::Event(EventReason::Kind))) };
    no_max_active(count, letter).map(|()| false)
}

/// `f[MAX]`: a function's entry, or its return, where alone a number may stand.
fn fprobe(count: Word<'_>, letter: Word<'_>, place: Word<'_>, point: Point) -> Result<Kind, Refusal> {
    match point {
        Point::Entry => no_max_active(count, letter)?,
        Point::Return => max_active(count)?,
        Point::Inside => return Err(place.refuse(Reason::Event(EventReason::FunctionInside))),
    }
    Ok(Kind::Fprobe)
}

fn max_active(count: Word<'_>) -> Result<(), Refusal> {
    let is_right = count.text().is_empty() || number(count.text()).is_some_and(|count| count <= 4096);
    if is_right { Ok(()) } else { Err(count.refuse(Reason::Event(EventReason::MaxActive))) }
}

fn no_max_active(count: Word<'_>, letter: Word<'_>) -> Result<(), Refusal> {
    if count.text().is_empty() {
        return Ok(());
    }
    let is_count = number(count.text()).is_some();
    let reason = if is_count { EventReason::MaxActiveOfProbe } else { EventReason::Kind };
    Err(if is_count { count } else { letter }.refuse(Reason::Event(reason)))
}

/// `[GRP/][EVENT]`, or as older tools have it `[GRP.][EVENT]`.
fn group_and_name(names: Word<'_>) -> Result<(Option<Word<'_>>, Option<Word<'_>>), Refusal> {
    let refused = |at: Word<'_>, reason| Err(at.refuse(Reason::Event(reason)));
    let (group, name) = match names.split_once('/').or_else(|| names.split_once('.')) {
        Some((group, _)) if group.text().is_empty() => return refused(group, EventReason::NoGroupName),
        Some((group, _)) if group.text().len() > GROUP_BYTES => return refused(group, EventReason::GroupTooLong),
        Some((group, _)) if !is_identifier(group.text()) => return refused(group, EventReason::BadGroupName),
        Some((group, name)) => (Some(group), name),
        None => (None, names),
    };
    match name.text() {
        "" if group.is_some() => Ok((group, None)),
        "" => refused(name, EventReason::NoEventName),
        text if text.len() > NAME_BYTES => refused(name, EventReason::NameTooLong),
        text if !is_identifier(text) => refused(name, EventReason::BadEventName),
        _ => Ok((group, Some(name))),
    }
}

/// The name of an event that was given none: `p_my_kernel__disk__read_0`, or `my_kernel__disk__read__entry`; of a long place its
/// end.
pub(super) fn name_of(kind: Kind, place: &str, point: Point) -> ArrayString<NAME_BYTES> {
    let place = place.rsplit_once('%').map_or(place, |(place, _)| place);
    let (place, offset) = match kind {
        Kind::Kprobe => place.rsplit_once('+').unwrap_or((place, "0")),
        Kind::Fprobe => (place, if point == Point::Return { "_exit" } else { "_entry" }),
    };
    let begin = match (kind, point) {
        (Kind::Kprobe, Point::Return) => "r_",
        (Kind::Kprobe, Point::Entry | Point::Inside) => "p_",
        // Of an address.
        (Kind::Fprobe, _) if place.starts_with(|c: char| c.is_ascii_digit()) => "_",
        (Kind::Fprobe, _) => "",
    };
    let room = NAME_BYTES - begin.len();
    let letters = place.chars().filter(char::is_ascii).count() + 1 + offset.len();
    let sanitised = place.chars().filter(char::is_ascii).map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    let all = sanitised.chain(['_']).chain(offset.chars()).skip(letters.saturating_sub(room));
    let mut name = ArrayString::new();
    for c in begin.chars().chain(all) {
        // There is room, and what is not there is cut.
        let _ = name.try_push(c);
    }
    name
}

/// `MODULE:SYMBOL`, taken apart at a `:` that is part of no `::` and in no brackets or quotes, as `{shim:vtable#0}` is; or a symbol
/// of any text. Without quotes.
fn of_module(symbol: &str) -> (Option<&str>, &str) {
    let (mut depth, mut in_quotes) = (0_usize, false);
    let colon = symbol.char_indices().find(|&(at, c)| {
        match c {
            '"' => in_quotes = !in_quotes,
            '<' | '(' | '[' | '{' => depth += 1,
            '>' | ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        let is_single = || !symbol[..at].ends_with(':') && !symbol[at + 1..].starts_with(':');
        c == ':' && depth == 0 && !in_quotes && is_single()
    });
    match colon {
        Some((at, _)) => (Some(&symbol[..at]), symbol[at + 1..].trim_matches('"')),
        None => (None, symbol.trim_matches('"')),
    }
}

/// `[MODULE:]SYMBOL[+OFFSET]`, `[MODULE:]SYMBOL%return`, or an address.
fn find(place: Word<'_>, is_return: bool, engine: &Engine) -> Result<(TextAddr, Point), Refusal> {
    let refused = |at: Word<'_>, reason| Err(at.refuse(Reason::Event(reason)));
    let (place, is_return) = match place.strip_suffix("%return") {
        Some(place) => (place, true),
        None => (place, is_return),
    };
    let (function, offset) = if place.text().starts_with(|c: char| c.is_ascii_digit()) {
        let Some(address) = number(place.text()) else { return refused(place, EventReason::BadOffset) };
        let Some(function) = engine.function_around(TextAddr::new(address)) else {
            return refused(place, EventReason::BadPlace);
        };
        (function, address - function.addr)
    } else {
        let (symbol, offset) = with_offset(place)?;
        let (module, name) = of_module(symbol.text());
        let Some((function, is_only)) = engine.functions_named(module, name) else {
            return refused(symbol, EventReason::BadPlace);
        };
        if !is_only {
            return refused(symbol, EventReason::NotUnique);
        }
        let Ok(offset) = u64::try_from(offset) else { return refused(place, EventReason::BadOffset) };
        (function, offset)
    };
    if offset > 0 && offset >= function.size {
        return refused(place, EventReason::BeyondFunction { bytes: function.size });
    }
    let point = match (is_return, offset) {
        (true, 0) => Point::Return,
        (true, _) => return refused(place, EventReason::ReturnInside),
        (false, 0) => Point::Entry,
        (false, _) => Point::Inside,
    };
    Ok((TextAddr::new(function.addr + offset), point))
}

#[cfg(test)]
mod tests {
    use super::of_module;

    #[test]
    fn a_colon_of_a_name_parts_no_module_from_it() {
        for (text, expected) in [
            ("disk::read", (None, "disk::read")),
            ("module:disk::read", (Some("module"), "disk::read")),
            ("module:read", (Some("module"), "read")),
            (
                "<A as FnOnce<(u8, u8)>>::call_once::{shim:vtable#0}",
                (None, "<A as FnOnce<(u8, u8)>>::call_once::{shim:vtable#0}"),
            ),
            ("module:<A as B>::c::{shim:vtable#0}", (Some("module"), "<A as B>::c::{shim:vtable#0}")),
            ("\"a:b\"", (None, "a:b")),
            ("module:\"a b\"", (Some("module"), "a b")),
        ] {
            assert_eq!(of_module(text), expected, "{text}");
        }
    }
}
