//! Handlers that call nothing.
//!
//! Whether a handler does is in its instructions: where every way through them ends in a RET and none has a call or leads
//! elsewhere, it can't come back to the function that it is attached to, and needs no guard. Nor is a thread that is
//! interrupted there recognised by a guard, then: so the handler's text becomes one of the ranges in which no thread is
//! quiescent.
//!
//! A handler has a callsite as any function has, at which ops may be registered that call something, or that go elsewhere. So
//! it is called behind it: a handler that calls nothing is not traced.

use crate::address::{TextAddr, TextRange};
use crate::engine::{Engine, StubRange};
use crate::insn::{Flow, Insn, Reg};

/// The longest that are followed, in instructions: as many as a mask has bits.
const MAX_INSTRUCTIONS: u32 = u128::BITS;

/// A handler that calls nothing.
pub(super) struct Leaf {
    range: StubRange,
}

impl Leaf {
    /// Where it is called.
    pub(super) const fn function(&self) -> TextAddr {
        self.range.range().start
    }
}

/// Finds out whether a handler calls nothing, and has threads not be quiescent there; `None` where it may call something, or
/// nobody can tell, or there are as many as there can be.
pub(super) fn leaf_of(engine: &'static Engine, handler: TextAddr) -> Option<Leaf> {
    let start = engine.body_of(handler).unwrap_or(handler);
    let text = follow(start, |at| engine.text_word(at))?;
    engine.add_stub_text(text).map(|range| Leaf { range })
}

/// All instructions to which those at `start` lead, if every way ends in a RET.
pub(super) fn follow(start: TextAddr, word: impl Fn(TextAddr) -> Option<u32>) -> Option<TextRange> {
    let (mut seen, mut pending) = (0_u128, 1_u128);
    while pending != 0 {
        let index = pending.trailing_zeros();
        pending &= pending - 1;
        seen |= 1 << index;
        let mut leads_to = |instructions: i64| {
            let target =
                u32::try_from(i64::from(index) + instructions).ok().filter(|index| *index < MAX_INSTRUCTIONS)?;
            pending |= (1 << target) & !seen;
            Some(())
        };
        match Insn::decode(word(start.offset(4 * i64::from(index)))?).effects().flow {
            Flow::Next => leads_to(1)?,
            Flow::Jump(bytes) => leads_to(bytes / 4)?,
            Flow::CondJump(bytes) => {
                leads_to(1)?;
                leads_to(bytes / 4)?;
            }
            Flow::Return(Reg::LR) => {}
            _ => return None,
        }
    }
    let end = MAX_INSTRUCTIONS - seen.leading_zeros();
    Some(TextRange::new(start, start.offset(4 * i64::from(end))))
}
