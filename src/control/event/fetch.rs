//! What the fields of an event are fetched from: the arguments of Linux's kprobe events
//! (Documentation/trace/kprobetrace.rst).

use super::limits::{MAX_DEREFERENCES, MAX_ELEMENTS, STRING_WORDS};
use super::reason::EventReason;
use crate::control::line::Word;
use crate::control::reason::{Reason, Refusal};

/// Reads as many bytes of memory as there is room for from this address on, as they are now; returns whether it could. Called in
/// a callback, for any address: it must not fault.
pub type ReadMemory = fn(address: u64, bytes: &mut [u8]) -> bool;

/// Says what the task of a number is called, as [`Events::with_task_names`](super::store::Events::with_task_names) says.
pub(super) type NameTask = fn(u32) -> Option<&'static str>;

/// The registers where an event happens.
pub(in crate::control) trait Registers {
    /// x`n`, if it is there.
    fn x(&self, n: usize) -> Option<u64>;
    fn sp(&self) -> Option<u64>;
    fn pc(&self) -> Option<u64>;
    fn pstate(&self) -> Option<u64>;
}

/// Where an event happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Point {
    /// At a function's beginning.
    Entry,
    /// At another instruction.
    Inside,
    /// Where a function returns.
    Return,
}

/// Where a field begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    X(u8),
    Sp,
    Pc,
    Pstate,
    Value(u64),
    /// The name of the task.
    Comm,
}

/// How a field's value is shown and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Shape {
    Unsigned,
    Signed,
    Hex,
    Char,
    Symbol,
    Text,
}

/// What a field's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Extent {
    Number,
    /// A text in memory.
    Text,
    /// The text that a task is called.
    Comm,
    /// Numbers, one behind the other in memory; or pointers to texts.
    Array,
}

/// A field's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) struct Type {
    pub(in crate::control) shape: Shape,
    pub(in crate::control) extent: Extent,
    /// 1, 2, 4 or 8; of an element.
    pub(in crate::control) bytes: u8,
    /// The lowest bit of it, and how many there are.
    bits: (u8, u8),
}

/// One field: what is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) struct Fetch {
    source: Source,
    /// What is added to an address before what is there is read, in the order of reading.
    offsets: [i64; MAX_DEREFERENCES],
    dereferences: u8,
    pub(in crate::control) kind: Type,
    /// How many elements an array has.
    elements: u8,
}

impl Type {
    /// The name of a task.
    pub(in crate::control) const COMM: Self = Self { extent: Extent::Comm, ..Self::new(Shape::Text, 8) };

    pub(in crate::control) const fn new(shape: Shape, bytes: u8) -> Self {
        let extent = if matches!(shape, Shape::Text) { Extent::Text } else { Extent::Number };
        Self { shape, extent, bytes, bits: (0, bytes * 8) }
    }

    /// Whether a number, signed as the type is, can be one of its values.
    pub(super) fn has(self, value: i128) -> bool {
        let (_, width) = self.bits;
        let (low, high) = match self.shape {
            Shape::Signed => (-(1_i128 << (width - 1)), (1_i128 << (width - 1)) - 1),
            _ => (0, (1_i128 << width) - 1),
        };
        (low..=high).contains(&value)
    }

    /// Reads it out of a register, or of as many bytes of memory: a signed value is extended to 64 bits.
    #[inline]
    pub(super) fn of(self, value: u64) -> u64 {
        let (lowest, width) = self.bits;
        let above = 64_u32.saturating_sub(width.into());
        let moved = (value >> (lowest & 63)) << (above & 63);
        match self.shape {
            Shape::Signed => (moved.cast_signed() >> (above & 63)).cast_unsigned(),
            _ => moved >> (above & 63),
        }
    }

    /// As C has it, for the file `format`.
    pub(in crate::control) const fn c_name(self) -> &'static str {
        match (self.shape, self.bytes) {
            (Shape::Text, _) => "__data_loc char[]",
            (Shape::Char, _) => "char",
            (Shape::Signed, 1) => "s8",
            (Shape::Signed, 2) => "s16",
            (Shape::Signed, 4) => "s32",
            (Shape::Signed, _) => "s64",
            (_, 1) => "u8",
            (_, 2) => "u16",
            (_, 4) => "u32",
            _ => "u64",
        }
    }

    fn parse(word: Word<'_>) -> Result<Self, Refusal> {
        let refuse = |reason| Err(word.refuse(Reason::Event(reason)));
        match word.text() {
            "string" => return Ok(Self::new(Shape::Text, 8)),
            "symbol" => return Ok(Self::new(Shape::Symbol, 8)),
            "char" => return Ok(Self::new(Shape::Char, 1)),
            "ustring" => return refuse(EventReason::UserMemory),
            _ => {}
        }
        if let Some(bits) = word.strip_prefix("b").filter(|bits| bits.text().contains(['@', '/'])) {
            return Self::parse_bits(bits).ok_or(word.refuse(Reason::Event(EventReason::BadBits)));
        }
        let shapes = [("u", Shape::Unsigned), ("s", Shape::Signed), ("x", Shape::Hex)];
        let found = shapes.iter().find_map(|(letter, shape)| Some((*shape, word.text().strip_prefix(letter)?)));
        let bytes = |bits| [("8", 1), ("16", 2), ("32", 4), ("64", 8)].iter().find(|(text, _)| *text == bits);
        let parsed = found.and_then(|(shape, bits)| bytes(bits).map(|(_, bytes)| Self::new(shape, *bytes)));
        parsed.ok_or(word.refuse(Reason::Event(EventReason::BadType)))
    }

    /// `TYPE` or `TYPE[N]`: the type, and how many elements there are of an array.
    fn parse_any(word: Word<'_>) -> Result<(Self, u8), Refusal> {
        let Some((element, elements)) = word.split_once('[') else { return Ok((Self::parse(word)?, 0)) };
        let kind = Self::parse(element)?;
        let refuse = |at: Word<'_>, reason| Err(at.refuse(Reason::Event(reason)));
        let Some((elements, behind)) = elements.split_once(']') else {
            return refuse(elements.end(), EventReason::OpenBracket);
        };
        if !behind.text().is_empty() {
            return refuse(behind, EventReason::BehindArray);
        }
        match number(elements.text()) {
            Some(count @ 1..=MAX_ELEMENTS) => Ok((Self { extent: Extent::Array, ..kind }, count as u8)),
            _ => refuse(elements, EventReason::BadElements),
        }
    }

    /// `WIDTH@OFFSET/SIZE`.
    fn parse_bits(word: Word<'_>) -> Option<Self> {
        let (width, rest) = word.text().split_once('@')?;
        let (offset, size) = rest.split_once('/')?;
        let (width, offset, size): (u8, u8, u8) = (width.parse().ok()?, offset.parse().ok()?, size.parse().ok()?);
        let fits = width > 0 && matches!(size, 8 | 16 | 32 | 64) && width.checked_add(offset)? <= size;
        fits.then_some(Self { bits: (offset, width), ..Self::new(Shape::Unsigned, size / 8) })
    }
}

/// What an argument may name and use.
#[derive(Clone, Copy)]
pub(in crate::control) struct Scope<'a> {
    pub(in crate::control) point: Point,
    pub(in crate::control) has_registers: bool,
    pub(in crate::control) has_memory: bool,
    pub(in crate::control) has_task_names: bool,
    pub(in crate::control) symbol: &'a dyn Fn(&str) -> Option<u64>,
}

/// A number as C writes it, decimal or hexadecimal.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = |digits: &str, radix| {
        let all = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        u64::from_str_radix(digits, radix).ok().filter(|_| all)
    };
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hexadecimal) => digits(hexadecimal, 16),
        None => digits(text, 10),
    }
}

impl Fetch {
    /// Reads `ARGUMENT[:TYPE]`.
    pub(in crate::control) fn parse(word: Word<'_>, scope: &Scope<'_>) -> Result<Self, Refusal> {
        let (argument, kind) = match type_of(word) {
            Some((argument, kind)) => (argument, Some(Type::parse_any(kind)?)),
            None => (word, None),
        };
        let mut fetch = Self {
            source: Source::Value(0),
            offsets: [0; MAX_DEREFERENCES],
            dereferences: 0,
            kind: kind.map_or(Type::new(Shape::Hex, 8), |(kind, _)| kind),
            elements: kind.map_or(0, |(_, elements)| elements),
        };
        fetch.parse_argument(argument, scope)?;
        if fetch.source == Source::Comm {
            return fetch.of_comm(word, kind.map(|(kind, _)| kind));
        }
        if !fetch.reads() && fetch.kind.extent != Extent::Number {
            let is_array = fetch.elements().is_some();
            let reason = if is_array { EventReason::ArrayNotInMemory } else { EventReason::StringNotInMemory };
            return Err(word.refuse(Reason::Event(reason)));
        }
        if fetch.reads() && !scope.has_memory {
            return Err(argument.refuse(Reason::Event(EventReason::NoMemory)));
        }
        Ok(fetch)
    }

    /// The name of the task, which is a string and has no address.
    fn of_comm(self, word: Word<'_>, kind: Option<Type>) -> Result<Self, Refusal> {
        let is_string = kind.is_none_or(|kind| kind == Type::new(Shape::Text, 8));
        if is_string && self.dereferences == 0 {
            return Ok(Self { kind: Type::COMM, ..self });
        }
        Err(word.refuse(Reason::Event(EventReason::CommIsString)))
    }

    fn parse_argument(&mut self, word: Word<'_>, scope: &Scope<'_>) -> Result<(), Refusal> {
        // From the outside in; what is inside is read first.
        let mut inner = word;
        while inner.text().starts_with(['+', '-']) {
            let (offset, inside) = dereference(inner)?;
            self.then_read(offset, inner)?;
            inner = inside;
        }
        let outer = self.dereferences;
        self.parse_source(inner, scope)?;
        let offsets = self.offsets.get_mut(..self.dereferences.into()).unwrap_or_default();
        // What the source reads by itself stands behind those around it.
        offsets.reverse();
        debug_assert!(outer <= self.dereferences);
        Ok(())
    }

    /// Has what is at so many bytes behind it read.
    fn then_read(&mut self, offset: i64, word: Word<'_>) -> Result<(), Refusal> {
        let place = self.offsets.get_mut(usize::from(self.dereferences));
        *place.ok_or(word.refuse(Reason::Event(EventReason::TooDeep)))? = offset;
        self.dereferences += 1;
        Ok(())
    }

    fn parse_source(&mut self, word: Word<'_>, scope: &Scope<'_>) -> Result<(), Refusal> {
        let refused = |reason| word.refuse(Reason::Event(reason));
        let rest = |prefix| word.strip_prefix(prefix);
        if let Some(register) = rest("%") {
            if !scope.has_registers {
                return Err(refused(EventReason::RegisterOfFunction));
            }
            self.source = register_named(register.text()).ok_or(refused(EventReason::BadRegister))?;
            let is_there = matches!(self.source, Source::X(0..8)) || scope.point != Point::Return;
            return if is_there { Ok(()) } else { Err(refused(EventReason::NotAtReturn)) };
        }
        if let Some(variable) = rest("$") {
            return self.parse_variable(word, variable.text(), scope);
        }
        if let Some(value) = rest("\\") {
            let negative = value.text().strip_prefix('-');
            let value = number(negative.unwrap_or(value.text())).ok_or(refused(EventReason::BadNumber))?;
            self.source = Source::Value(if negative.is_some() { value.wrapping_neg() } else { value });
            return Ok(());
        }
        let Some(place) = rest("@") else { return Err(refused(EventReason::BadFetch)) };
        let address = if place.text().starts_with(|c: char| c.is_ascii_digit()) {
            number(place.text()).ok_or(refused(EventReason::BadNumber))?
        } else {
            let (symbol, offset) = with_offset(place)?;
            let symbol = (scope.symbol)(symbol.text()).ok_or(refused(EventReason::BadPlace))?;
            symbol.wrapping_add_signed(offset)
        };
        self.source = Source::Value(address);
        self.then_read(0, word)
    }

    fn parse_variable(&mut self, word: Word<'_>, name: &str, scope: &Scope<'_>) -> Result<(), Refusal> {
        let refused = |reason| Err(word.refuse(Reason::Event(reason)));
        if name == "retval" {
            self.source = Source::X(0);
            return if scope.point == Point::Return { Ok(()) } else { refused(EventReason::ResultOfProbe) };
        }
        if let Some(argument) = name.strip_prefix("arg") {
            let Some(argument @ 1..=8) = number(argument) else { return refused(EventReason::BadVariable) };
            self.source = Source::X(argument as u8 - 1);
            return if scope.point == Point::Entry { Ok(()) } else { refused(EventReason::ArgumentNotAtEntry) };
        }
        if matches!(name, "comm" | "COMM") {
            self.source = Source::Comm;
            return if scope.has_task_names { Ok(()) } else { refused(EventReason::NoTaskNames) };
        }
        let Some(of_stack) = name.strip_prefix("stack") else { return refused(EventReason::BadVariable) };
        if scope.point == Point::Return {
            return refused(EventReason::NotAtReturn);
        }
        self.source = Source::Sp;
        if of_stack.is_empty() {
            return Ok(());
        }
        match number(of_stack).and_then(|entry| i32::try_from(entry).ok()) {
            Some(entry) => self.then_read(i64::from(entry) * 8, word),
            None => refused(EventReason::BadVariable),
        }
    }

    /// How many elements it has, if it is an array.
    pub(in crate::control) fn elements(&self) -> Option<u8> {
        (self.kind.extent == Extent::Array).then_some(self.elements)
    }

    /// The most words that are recorded of it.
    pub(super) fn words(&self) -> usize {
        let elements = usize::from(self.elements);
        match (self.kind.extent, self.kind.shape) {
            (Extent::Number, _) => 1,
            (Extent::Text | Extent::Comm, _) => STRING_WORDS,
            (Extent::Array, Shape::Text) => elements * STRING_WORDS,
            // In front, which ones could not be read.
            (Extent::Array, _) => 1 + (elements * usize::from(self.kind.bytes)).div_ceil(8),
        }
    }

    /// Whether memory is read.
    const fn reads(&self) -> bool {
        self.dereferences > 0
    }

    /// Whether there may be no value.
    pub(super) const fn may_fail(&self) -> bool {
        self.reads() || matches!(self.source, Source::Comm)
    }

    /// Whether it takes more registers than those that are saved at every entry.
    pub(in crate::control) const fn takes_all_registers(&self) -> bool {
        matches!(self.source, Source::X(9..=28) | Source::Pstate)
    }

    /// The number; `None` where it can't be read.
    #[inline]
    pub(super) fn number(&self, regs: &dyn Registers, memory: Option<ReadMemory>) -> Option<u64> {
        self.value(regs, memory, |address| Some(self.kind.of(read(memory, address, self.kind.bytes.into())?)))
    }

    /// The address of what is read last; `None` where what leads there can't be read.
    #[inline]
    pub(super) fn address(&self, regs: &dyn Registers, memory: Option<ReadMemory>) -> Option<u64> {
        self.value(regs, memory, Some)
    }

    /// The value, of what memory is read for what `at` makes of the last address.
    #[inline]
    fn value(
        &self,
        regs: &dyn Registers,
        memory: Option<ReadMemory>,
        at: impl FnOnce(u64) -> Option<u64>,
    ) -> Option<u64> {
        let mut value = match self.source {
            Source::X(n) => regs.x(n.into())?,
            Source::Sp => regs.sp()?,
            Source::Pc => regs.pc()?,
            Source::Pstate => regs.pstate()?,
            Source::Value(value) => value,
            // It is no number, and is not asked for as one.
            Source::Comm => return None,
        };
        let offsets = self.offsets.get(..self.dereferences.into()).unwrap_or_default();
        let Some((last, offsets)) = offsets.split_last() else { return Some(self.kind.of(value)) };
        for offset in offsets {
            value = read(memory, value.wrapping_add_signed(*offset), 8)?;
        }
        at(value.wrapping_add_signed(*last))
    }
}

/// Reads a number of up to 8 bytes.
#[inline]
pub(super) fn read(memory: Option<ReadMemory>, address: u64, bytes: usize) -> Option<u64> {
    let mut number = [0; 8];
    let is_read = memory?(address, number.get_mut(..bytes)?);
    is_read.then_some(u64::from_le_bytes(number))
}

fn register_named(name: &str) -> Option<Source> {
    match name {
        "sp" => Some(Source::Sp),
        "pc" => Some(Source::Pc),
        "pstate" => Some(Source::Pstate),
        "lr" => Some(Source::X(30)),
        _ => {
            let n = number(name.strip_prefix('x')?).filter(|n| *n <= 30)?;
            Some(Source::X(n as u8))
        }
    }
}

/// `+OFFSET(INSIDE)`: the offset, and what is inside.
fn dereference(word: Word<'_>) -> Result<(i64, Word<'_>), Refusal> {
    let refused = |at: Word<'_>, reason| Err(at.refuse(Reason::Event(reason)));
    let Some((offset, inside)) = word.split_once('(') else { return refused(word, EventReason::NoBracket) };
    if offset.text().get(1..).is_some_and(|offset| offset.starts_with('u')) {
        return refused(offset, EventReason::UserMemory);
    }
    let value = signed(offset.text()).ok_or(offset.refuse(Reason::Event(EventReason::BadNumber)))?;
    match inside.strip_suffix(")") {
        Some(inside) => Ok((value, inside)),
        None => refused(inside.end(), EventReason::OpenBracket),
    }
}

/// A number with its sign in front.
fn signed(text: &str) -> Option<i64> {
    let (sign, digits) = text.split_at_checked(1)?;
    let value = i64::try_from(number(digits)?).ok()?;
    match sign {
        "+" => Some(value),
        "-" => Some(-value),
        _ => None,
    }
}

/// `SYMBOL[+-OFFSET]`. Names of functions may have these signs in them, but none that only a number follows.
pub(super) fn with_offset(word: Word<'_>) -> Result<(Word<'_>, i64), Refusal> {
    let sign = word.text().rfind(['+', '-']).filter(|at| *at > 0);
    let Some((symbol, offset)) = sign.map(|at| word.split_at(at)) else { return Ok((word, 0)) };
    match signed(offset.text()) {
        Some(offset) => Ok((symbol, offset)),
        // `Fn() -> u8`, `dyn A + Send>`: inside a name.
        None if offset.text().starts_with("->") || offset.text().contains(['>', ')', ' ']) => Ok((word, 0)),
        None => Err(offset.refuse(Reason::Event(EventReason::BadOffset))),
    }
}

/// Divides an argument from its type, at a `:` that is part of no `::`.
fn type_of(word: Word<'_>) -> Option<(Word<'_>, Word<'_>)> {
    let (before, kind) = word.rsplit_once(':')?;
    (!before.text().ends_with(':')).then_some((before, kind))
}
