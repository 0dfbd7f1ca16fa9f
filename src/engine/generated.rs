//! Functions that rooms above have generated, in the room for stubs.

use super::Engine;
use super::sets::StubError;
use crate::address::{TextAddr, TextRange};
use crate::insn::EncodeError;
use crate::stub::{MemberPlan, StubBlock, StubRoom};
use crate::text::PokeError;
use core::fmt;

/// Why functions could not be generated.
pub(crate) enum GenerateError {
    NotInitialised,
    /// The platform has no CPU areas, and a function records.
    NoCpuArea,
    NoRoom(TextRange),
    Reach(EncodeError),
    Text(PokeError),
    TooLong,
}

/// A part of the room that has generated functions. Dropped, it is given back, and may become something else.
pub(crate) struct GeneratedText {
    engine: &'static Engine,
    block: StubBlock,
    text: TextRange,
}

impl GeneratedText {
    /// All of it.
    pub(crate) const fn text(&self) -> TextRange {
        self.text
    }
}

impl Drop for GeneratedText {
    fn drop(&mut self) {
        self.engine.lock().sets.room.give_back(self.block);
    }
}

impl fmt::Debug for GeneratedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GeneratedText").field(&self.text).finish()
    }
}

impl Engine {
    /// Generates a function for each number below `count` that `plan` returns one for, and calls `placed` with the number and
    /// the entry of each. `None` where it returns none.
    ///
    /// They can be called until what is returned is dropped. That must not happen while a CPU may be inside one of them, or be
    /// called there later.
    pub(crate) fn generate(
        &'static self,
        count: usize,
        plan: &dyn Fn(usize) -> Option<MemberPlan>,
        placed: &mut dyn FnMut(usize, TextAddr),
    ) -> Result<Option<GeneratedText>, GenerateError> {
        let mut registry = self.lock();
        let poke = registry.poke();
        let env = registry.stub_env.ok_or(GenerateError::NotInitialised)?;
        let plans = || (0..count).filter_map(|number| plan(number).map(|plan| (number, plan)));
        if env.cpu.is_none() && plans().any(|(_, plan)| plan.record.is_some()) {
            return Err(GenerateError::NoCpuArea);
        }
        let bytes = plans().map(|(_, plan)| plan.bytes()).sum::<usize>();
        if bytes == 0 {
            return Ok(None);
        }
        let sets = &mut registry.sets;
        let room = sets.room.text();
        let block = sets.room.take(bytes).ok_or(GenerateError::NoRoom(room))?;
        let start = sets.room.start(block);
        let (mut at, block_end) = (start, start.offset(4 * StubRoom::words(block) as i64));
        for (number, plan) in plans() {
            let end = at.offset(plan.bytes() as i64).min(block_end);
            // SAFETY: 1. the block was just taken, and nobody executes it: what had it before was given back when nobody could
            // be there any more. The parts are a multiple of 16 bytes each, and none ends behind it.
            if !unsafe { sets.make_member(&plan, [at, end], &env, poke) } {
                let error = match sets.take_failure() {
                    StubError::Room => GenerateError::NoRoom(room),
                    StubError::Reach(error) => GenerateError::Reach(error),
                    StubError::Text(error) => GenerateError::Text(error),
                    StubError::TooLong { .. } => GenerateError::TooLong,
                };
                sets.room.give_back(block);
                return Err(error);
            }
            placed(number, plan.entry(at));
            at = end;
        }
        Ok(Some(GeneratedText { engine: self, block, text: TextRange::new(start, at) }))
    }
}
