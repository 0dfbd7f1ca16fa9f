//! Filters: which events are recorded, `field op value` with `&&`, `||`, `!` and brackets (Linux's
//! Documentation/trace/events.rst), as a program of tests that jump forward only.
//!
//! ```text
//!   a == 1 && (b > 2 || !(c < 3))
//!
//!     0  a == 1     yes: 1    no: refuse
//!     1  b > 2      yes: let  no: 2
//!     2  c < 3      yes: refuse  no: let
//! ```

use super::fetch::{Shape, Type, number};
use super::limits::{MAX_TESTS, PATTERN_BYTES, STRING_BYTES};
use super::reason::EventReason;
use super::values::{Hooks, Values};
use crate::control::line::Word;
use crate::control::reason::{Reason, Refusal};
use crate::filter::Glob;
use arrayvec::{ArrayString, ArrayVec};

/// Where a program ends.
const LET: u8 = u8::MAX;
const REFUSE: u8 = u8::MAX - 1;

/// What an event has by a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Field {
    /// One of its definition.
    Own(u8),
    /// The number of the task in which it happens.
    Task,
    /// What that is called.
    Comm,
    /// Where it is.
    Ip,
    /// Where the function returns to, of an `r` event.
    Parent,
}

/// Says what a name means in an event.
pub(in crate::control) type Named<'a> = &'a dyn Fn(&str) -> Result<(Field, Type), EventReason>;

/// An event that happens now.
#[derive(Clone, Copy)]
pub(in crate::control) struct Happening<'a> {
    pub(in crate::control) values: &'a Values,
    pub(in crate::control) task: u32,
    pub(in crate::control) ip: u64,
    pub(super) hooks: &'a Hooks,
}

impl Happening<'_> {
    /// What its task is called.
    pub(super) fn comm(&self) -> Option<&'static [u8]> {
        self.hooks.comm(self.task)
    }

    /// A field's number; `None` if it could not be read, or is none.
    #[inline]
    pub(in crate::control) fn number(&self, field: Field) -> Option<u64> {
        match field {
            Field::Own(number) => self.values.number(number.into()),
            Field::Task => Some(self.task.into()),
            Field::Ip => Some(self.ip),
            Field::Parent => self.values.parent(),
            Field::Comm => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    HasBits,
    Matches,
}

/// The longer ones first.
const OPS: [(&str, Op); 8] = [
    ("==", Op::Equal),
    ("!=", Op::NotEqual),
    ("<=", Op::LessOrEqual),
    (">=", Op::GreaterOrEqual),
    ("<", Op::Less),
    (">", Op::Greater),
    ("&", Op::HasBits),
    ("~", Op::Matches),
];

/// One test, and where to go on.
#[derive(Clone, Copy, Debug)]
struct Test {
    field: Field,
    op: Op,
    kind: Operand,
    yes: u8,
    no: u8,
}

/// What a field is compared with.
#[derive(Clone, Copy, Debug)]
enum Operand {
    Unsigned(u64),
    Signed(i64),
    /// A part of the patterns.
    Text {
        from: u8,
        length: u8,
    },
}

/// A filter; without tests it lets everything pass.
#[derive(Clone, Debug)]
pub(in crate::control) struct Filter {
    tests: ArrayVec<Test, MAX_TESTS>,
    /// # Invariants
    ///
    /// What `~` compares with can be parsed as a glob.
    patterns: ArrayString<PATTERN_BYTES>,
}

impl Filter {
    /// Lets everything pass.
    pub(in crate::control) const ALL: Self = Self { tests: ArrayVec::new_const(), patterns: ArrayString::new_const() };

    /// Compiles a filter.
    pub(in crate::control) fn parse(text: Word<'_>, named: Named<'_>) -> Result<Self, Refusal> {
        let mut parser = Parser { rest: text.trim(), filter: Self::ALL, named, depth: 0 };
        let whole = parser.any()?;
        if !parser.rest.text().is_empty() {
            let is_stray = parser.rest.text().starts_with(')');
            let reason = if is_stray { EventReason::StrayBracket } else { EventReason::ExpectedConnective };
            return Err(parser.refuse(reason));
        }
        parser.filter.lead(whole.trues, LET);
        parser.filter.lead(whole.falses, REFUSE);
        Ok(parser.filter)
    }

    /// Whether an event passes.
    #[inline]
    pub(in crate::control) fn lets(&self, event: Happening<'_>) -> bool {
        let mut next = 0;
        // Each test leads forward.
        while let Some(test) = self.tests.get(usize::from(next)) {
            next = if self.is_true(test, event) { test.yes } else { test.no };
        }
        next != REFUSE
    }

    fn is_true(&self, test: &Test, event: Happening<'_>) -> bool {
        match test.kind {
            Operand::Unsigned(value) => {
                let found = event.number(test.field);
                found.is_some_and(|found| compare(test.op, &found, &value, found & value != 0))
            }
            Operand::Signed(value) => {
                let found = event.number(test.field).map(u64::cast_signed);
                found.is_some_and(|found| compare(test.op, &found, &value, found & value != 0))
            }
            Operand::Text { from, length } => {
                let from = usize::from(from);
                let pattern = self.patterns.get(from..from + usize::from(length)).unwrap_or_default();
                match test.field {
                    Field::Own(own) => event.values.text(own.into()).is_some_and(|text| is_so(test.op, text, pattern)),
                    Field::Comm => event.comm().is_some_and(|name| is_so(test.op, name.iter().copied(), pattern)),
                    _ => false,
                }
            }
        }
    }

    /// Has these exits lead to a test, or to the end.
    fn lead(&mut self, exits: u16, to: u8) {
        for (number, test) in self.tests.iter_mut().enumerate() {
            if exits >> number & 1 != 0 {
                test.yes = to;
            }
            if exits >> (number + MAX_TESTS) & 1 != 0 {
                test.no = to;
            }
        }
    }
}

/// Compares a text.
fn is_so(op: Op, text: impl Iterator<Item = u8>, pattern: &str) -> bool {
    match op {
        Op::Matches => {
            let text: ArrayVec<u8, STRING_BYTES> = text.take(STRING_BYTES).collect();
            Glob::checked(pattern).matches_bytes(&text)
        }
        op => text.eq(pattern.bytes()) == (op == Op::Equal),
    }
}

fn compare<T: Ord>(op: Op, found: &T, value: &T, has_bits: bool) -> bool {
    match op {
        Op::Equal => found == value,
        Op::NotEqual => found != value,
        Op::Less => found < value,
        Op::LessOrEqual => found <= value,
        Op::Greater => found > value,
        Op::GreaterOrEqual => found >= value,
        Op::HasBits => has_bits,
        Op::Matches => false,
    }
}

/// A part of a program: the exits that are taken where it is true, and where it is false. The lower bits are the tests' `yes`, the
/// upper their `no`.
#[derive(Clone, Copy)]
struct Piece {
    first: u8,
    trues: u16,
    falses: u16,
}

struct Parser<'a> {
    rest: Word<'a>,
    filter: Filter,
    named: Named<'a>,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn refuse(&self, reason: EventReason) -> Refusal {
        self.rest.refuse(Reason::Event(reason))
    }

    /// Goes past this text, if it is next.
    fn take(&mut self, text: &str) -> bool {
        let behind = self.rest.strip_prefix(text);
        self.rest = behind.unwrap_or(self.rest).trim();
        behind.is_some()
    }

    /// Goes past as many bytes.
    fn take_bytes(&mut self, bytes: usize) -> Word<'a> {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest.trim();
        taken
    }

    /// `A || B`.
    fn any(&mut self) -> Result<Piece, Refusal> {
        let mut left = self.all()?;
        while self.take("||") {
            let right = self.all()?;
            self.filter.lead(left.falses, right.first);
            left = Piece { trues: left.trues | right.trues, falses: right.falses, ..left };
        }
        Ok(left)
    }

    /// `A && B`, which binds closer.
    fn all(&mut self) -> Result<Piece, Refusal> {
        let mut left = self.one()?;
        while self.take("&&") {
            let right = self.one()?;
            self.filter.lead(left.trues, right.first);
            left = Piece { trues: right.trues, falses: left.falses | right.falses, ..left };
        }
        Ok(left)
    }

    /// `!A`, `(A)`, or a test.
    fn one(&mut self) -> Result<Piece, Refusal> {
        let is_nested = self.rest.text().starts_with(['!', '(']);
        if !is_nested {
            return self.test();
        }
        if self.depth == MAX_TESTS {
            return Err(self.refuse(EventReason::FilterTooLong));
        }
        self.depth += 1;
        let piece = if self.take("!") {
            let Piece { first, trues, falses } = self.one()?;
            Piece { first, trues: falses, falses: trues }
        } else {
            let open = self.rest;
            self.take("(");
            let inside = self.any()?;
            if !self.take(")") {
                return Err(if self.rest.text().is_empty() {
                    open.refuse(Reason::Event(EventReason::OpenBracket))
                } else {
                    self.refuse(EventReason::ExpectedConnective)
                });
            }
            inside
        };
        self.depth -= 1;
        Ok(piece)
    }

    fn test(&mut self) -> Result<Piece, Refusal> {
        let name = self.rest.text();
        let length = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        let name = self.rest.split_at(length).0;
        let (field, kind) = (self.named)(name.text()).map_err(|reason| self.refuse(reason))?;
        self.take_bytes(length);
        let at_op = self.rest;
        let op = OPS.iter().find(|(text, _)| at_op.text().starts_with(text) && !at_op.text().starts_with("&&"));
        let (text, op) = *op.ok_or(self.refuse(EventReason::BadOperator))?;
        self.take(text);
        let fits = match kind.shape {
            Shape::Text => matches!(op, Op::Equal | Op::NotEqual | Op::Matches),
            _ => op != Op::Matches,
        };
        if !fits {
            return Err(at_op.refuse(Reason::Event(EventReason::OperatorOfOtherType)));
        }
        let kind = if kind.shape == Shape::Text { self.text(op)? } else { self.value(kind)? };
        let number = self.filter.tests.len();
        let test = Test { field, op, kind, yes: LET, no: REFUSE };
        self.filter.tests.try_push(test).map_err(|_| name.refuse(Reason::Event(EventReason::FilterTooLong)))?;
        Ok(Piece { first: number as u8, trues: 1 << number, falses: 1 << (number + MAX_TESTS) })
    }

    /// A number.
    fn value(&mut self, kind: Type) -> Result<Operand, Refusal> {
        let text = self.rest.text();
        let length = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(text.len());
        if length == 0 {
            return Err(self.refuse(EventReason::NoValue));
        }
        let word = self.rest.split_at(length).0;
        let (is_negative, digits) = match word.text().strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, word.text()),
        };
        let value = i128::from(number(digits).ok_or(self.refuse(EventReason::BadNumber))?);
        let value = if is_negative { -value } else { value };
        if !kind.has(value) {
            return Err(self.refuse(EventReason::ValueOutOfRange));
        }
        self.take_bytes(length);
        Ok(match kind.shape {
            Shape::Signed => Operand::Signed(value as i64),
            _ => Operand::Unsigned(value as u64),
        })
    }

    /// A string that is compared so, in quotes or up to white space.
    fn text(&mut self, op: Op) -> Result<Operand, Refusal> {
        let text = self.rest.text();
        let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (string, taken) = match quote {
            Some(quote) => {
                let inside = text.get(1..).unwrap_or_default();
                let length = inside.find(quote).ok_or(self.refuse(EventReason::OpenString))?;
                (inside.get(..length).unwrap_or_default(), length + 2)
            }
            None => {
                let ends = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '&' | '|');
                let length = text.find(ends).unwrap_or(text.len());
                (text.get(..length).unwrap_or_default(), length)
            }
        };
        if taken == 0 {
            return Err(self.refuse(EventReason::NoValue));
        }
        if op == Op::Matches {
            // INVARIANT: it can be.
            Glob::new(string).map_err(|error| self.rest.refuse(Reason::Glob(error)))?;
        }
        let patterns = &mut self.filter.patterns;
        let (from, length) = (patterns.len() as u8, string.len() as u8);
        if patterns.try_push_str(string).is_err() {
            return Err(self.refuse(EventReason::PatternTooLong));
        }
        self.take_bytes(taken);
        Ok(Operand::Text { from, length })
    }
}
