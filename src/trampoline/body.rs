//! What a generated member does.

use super::kinds::{Scalar, ScalarKind};
use crate::record::times::CallTimes;
use core::sync::atomic::AtomicU64;

/// What a generated member does ([`Implementations::prepare_generated`](super::Implementations::prepare_generated)).
///
/// Made of one of [`forward`](Self::forward), [`timed`](Self::timed) and [`answer`](Self::answer), and what comes before that.
///
/// | | instructions | with FEAT_LSE |
/// |---|---|---|
/// | a landing pad, and the jump to the function behind | 2 | 2 |
/// | [`only_if`](Self::only_if) | 3 to 7 | 3 to 7 |
/// | [`counting`](Self::counting) | 5 | 3 |
/// | [`recording`](Self::recording) | 23 | 20 |
/// | [`timed`](Self::timed), instead of the jump | 28 | 19 |
/// | [`answer`](Self::answer), instead of the jump | 2 to 5 | 2 to 5 |
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Body {
    pub(super) condition: Option<Condition>,
    pub(super) count: Option<&'static AtomicU64>,
    pub(super) record: Option<u8>,
    pub(super) end: End,
}

/// How it ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Forward,
    Answer { kind: ScalarKind, bits: u64 },
    Time(&'static CallTimes),
}

impl Body {
    const fn ending(end: End) -> Self {
        Self { condition: None, count: None, record: None, end }
    }

    /// Goes on in the function behind, with all arguments as they are: there is no call in between, nor a frame.
    pub const fn forward() -> Self {
        Self::ending(End::Forward)
    }

    /// Calls the function behind, and adds how long that took. For members whose arguments are all in registers.
    pub const fn timed(times: &'static CallTimes) -> Self {
        Self::ending(End::Time(times))
    }

    /// Returns this, and doesn't call the function behind. For members with this type of result.
    pub fn answer<R: Scalar>(result: R) -> Self {
        Self::ending(End::Answer { kind: R::KIND, bits: result.bits() })
    }

    /// Counts each call here.
    pub const fn counting(self, calls: &'static AtomicU64) -> Self {
        Self { count: Some(calls), ..self }
    }

    /// Records each call in the [flight recorder](crate::record::flight), with X0 to X3, of which `arguments` are kept: 4 at most.
    /// The function of the record is the generated one, and its caller is who called that.
    pub const fn recording(self, arguments: usize) -> Self {
        Self { record: Some(if arguments > 4 { 4 } else { arguments as u8 }), ..self }
    }

    /// Does all of it for those calls only of which the condition holds; the others go on in the function behind.
    pub const fn only_if(self, condition: Condition) -> Self {
        Self { condition: Some(condition), ..self }
    }
}

/// What is asked of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, from 0. It and those before it are numbers, `bool`s or pointers; one of the first eight.
    pub argument: usize,
    /// What is asked.
    pub test: Test,
    /// The value that it is compared with: as many bits of it as the argument has.
    pub value: u64,
}

/// How an argument is compared with a value: by its bits, without a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// The same.
    Equal,
    /// Another one.
    NotEqual,
    /// Less.
    Below,
    /// Not less.
    AtLeast,
}
