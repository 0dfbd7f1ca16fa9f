//! Functions that rooms above have generated, in the room for stubs.

use super::Engine;
use super::sets::StubError;
use crate::address::{TextAddr, TextRange};
use crate::insn::EncodeError;
use crate::stub::{Code, MemberPlan, StubBlock, StubRoom, TrampolinePlan};
use crate::text::PokeError;
use core::fmt;

/// Why functions could not be generated.
pub(crate) enum GenerateError {
    NotInitialised,
    NoRoom(TextRange),
    Reach(EncodeError),
    Text(PokeError),
    TooLong,
}

impl GenerateError {
    fn of(error: StubError, room: TextRange) -> Self {
        match error {
            StubError::Room => Self::NoRoom(room),
            StubError::Reach(error) => Self::Reach(error),
            StubError::Text(error) => Self::Text(error),
            StubError::TooLong { .. } => Self::TooLong,
        }
    }
}

/// Why members of ops structs could not be generated.
pub(crate) enum GenerateMembersError {
    /// The platform has no CPU areas, and a member records.
    NoCpuArea,
    Generate(GenerateError),
}

impl From<GenerateError> for GenerateMembersError {
    fn from(error: GenerateError) -> Self {
        Self::Generate(error)
    }
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
    ) -> Result<Option<GeneratedText>, GenerateMembersError> {
        let mut registry = self.lock();
        let poke = registry.poke();
        let env = registry.stub_env.ok_or(GenerateError::NotInitialised)?;
        let plans = || (0..count).filter_map(|number| plan(number).map(|plan| (number, plan)));
        if env.cpu.is_none() && plans().any(|(_, plan)| plan.record.is_some()) {
            return Err(GenerateMembersError::NoCpuArea);
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
            if !unsafe { sets.make_generated(&|code, at| plan.code(code, at, &env), [at, end], poke) } {
                sets.room.give_back(block);
                return Err(GenerateError::of(sets.take_failure(), room).into());
            }
            placed(number, plan.entry(at));
            at = end;
        }
        Ok(Some(GeneratedText { engine: self, block, text: TextRange::new(start, at) }))
    }

    /// Generates the trampoline of a function's attachments.
    ///
    /// It can be called until what is returned is dropped. That must not happen while a thread may be inside it, on its way there,
    /// or inside what it has called.
    pub(crate) fn generate_trampoline(
        &'static self,
        plan: &TrampolinePlan<'_>,
    ) -> Result<GeneratedText, GenerateError> {
        let mut registry = self.lock();
        let poke = registry.poke();
        let env = registry.stub_env.ok_or(GenerateError::NotInitialised)?;
        let generate = |code: &mut Code, at: TextAddr| plan.code(code, at, &env);
        let sets = &mut registry.sets;
        let room = sets.room.text();
        // As long as at the room's start, but for what is out of a BL's reach from there only, or only from elsewhere.
        let bytes = sets.generated_bytes(&generate).map_err(GenerateError::Reach)? + plan.reach_bytes();
        let block = sets.room.take(bytes).ok_or(GenerateError::NoRoom(room))?;
        let start = sets.room.start(block);
        let end = start.offset(4 * StubRoom::words(block) as i64);
        // SAFETY: 1. the block was just taken, and nobody executes it: what had it before was given back when nobody could be
        // there any more.
        if !unsafe { sets.make_generated(&generate, [start, end], poke) } {
            sets.room.give_back(block);
            return Err(GenerateError::of(sets.take_failure(), room));
        }
        Ok(GeneratedText { engine: self, block, text: TextRange::new(start, end) })
    }

    /// Returns where the function that has this address, or an instruction of its callsite, goes on behind its callsite.
    pub(crate) fn body_of(&self, function: TextAddr) -> Option<TextAddr> {
        let registry = self.lock();
        let region = registry.region_of(function)?;
        let callsite = region.table.find(function).and_then(|index| region.table.callsite(index))?;
        Some(callsite.call_addr().offset(4))
    }
}
