//! Functions that lines make fail: which there are, and which were chosen.

use crate::inject::{Injectable, Injection, MAX_SITES};
use arrayvec::ArrayVec;
use core::fmt;

/// What can fail, and what makes it.
#[derive(Clone)]
pub(super) struct Failing {
    pub(super) injection: &'static Injection,
    pub(super) functions: &'static [Injectable<'static>],
    /// Which of them it is attached to.
    pub(super) chosen: Chosen,
}

/// The numbers of some functions that can fail.
pub(super) type Chosen = ArrayVec<usize, MAX_SITES>;

impl fmt::Debug for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failing").field("injection", self.injection).finish_non_exhaustive()
    }
}

impl Failing {
    /// Those of these numbers.
    pub(super) fn sites<'a>(&'a self, chosen: &'a [usize]) -> impl Iterator<Item = &'static Injectable<'static>> + 'a {
        chosen.iter().filter_map(|number| self.functions.get(*number))
    }
}
