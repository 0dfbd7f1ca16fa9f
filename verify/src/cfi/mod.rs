//! Where the caller's registers are, at each instruction: what an unwinder has to know, worked out from the instructions.
//!
//! A [`State`] holds before its instruction, also when an interrupt comes just there. The canonical frame address (CFA) is
//! what SP was at the function's entry (AADWARF64 4.4), and everything is counted from it.
//!
//! ```text
//!     stp x29, x30, [sp, #-32]!   CFA = SP             x29, x30, x19 in their registers
//!     mov x29, sp                 CFA = SP + 32        x29 at CFA - 32, x30 at CFA - 24
//!     str x19, [sp, #16]          CFA = SP + 32, x29 + 32
//!     ...                                              x19 at CFA - 16
//! ```
//!
//! Where paths meet whose states differ, what they differ in is not known from there on, and a [`Conflict`] tells of it.

mod state;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

pub use state::{Cfa, Difference, Fp, Saved, State};

use crate::flow::Flow;
use crate::program::InsnId;

/// The number of a state, the same for equal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateId(u32);

impl StateId {
    /// Of instructions that were not reached.
    const NONE: Self = Self(u32::MAX);
}

/// Paths that meet with different states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The last instruction of one of the paths.
    pub from: InsnId,
    /// Where they meet.
    pub to: InsnId,
    /// What was known on that path, and is not where they have met.
    pub lost: Vec<Difference>,
}

/// The states of a program's instructions.
#[derive(Debug)]
pub struct Cfi {
    /// For each word.
    rows: Vec<StateId>,
    states: Vec<State>,
    conflicts: Vec<Conflict>,
}

impl Cfi {
    /// Works out the state of every instruction that can be reached from its function's entry.
    pub fn of(flow: &Flow<'_>) -> Self {
        let program = flow.program();
        let mut states = Interned::default();
        let mut rows = vec![StateId::NONE; program.words()];
        let mut conflicts = Vec::new();
        let mut walker = flow.walker();
        for function in program.functions() {
            walker.walk(function);
            let mut before: Option<(u32, StateId)> = None;
            walker.each(
                |visit| {
                    // Within a block most instructions leave the state as it is.
                    let version = visit.known.version();
                    let state = match before.filter(|(before, _)| *before == version && !visit.begins_block) {
                        Some((_, state)) => state,
                        None => states.intern(State::of(visit.known)),
                    };
                    before = Some((version, state));
                    if let Some(row) = rows.get_mut(visit.id.index()) {
                        *row = state;
                    }
                },
                |edge, joined| {
                    let lost = State::of(edge.known).lost_in(&State::of(joined));
                    if !lost.is_empty() {
                        conflicts.push(Conflict { from: edge.from, to: edge.to, lost });
                    }
                },
            );
        }
        Self { rows, states: states.states, conflicts }
    }

    /// The state before an instruction; `None` where no path from its function's entry leads there.
    pub fn state(&self, id: InsnId) -> Option<&State> {
        self.states.get(self.state_id(id)?.0 as usize)
    }

    /// The number of the state before an instruction.
    pub fn state_id(&self, id: InsnId) -> Option<StateId> {
        self.rows.get(id.index()).copied().filter(|row| *row != StateId::NONE)
    }

    /// How many different states there are.
    pub fn states(&self) -> usize {
        self.states.len()
    }

    /// Where paths with different states meet.
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }
}

/// States, each once.
#[derive(Debug, Default)]
struct Interned {
    states: Vec<State>,
    ids: HashMap<State, StateId>,
    last: Option<StateId>,
}

impl Interned {
    fn intern(&mut self, state: State) -> StateId {
        // Most instructions leave the state as it is.
        if let Some(last) = self.last
            && self.states.get(last.0 as usize) == Some(&state)
        {
            return last;
        }
        let next = StateId(self.states.len() as u32);
        let id = match self.ids.entry(state) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.states.push(new.key().clone());
                *new.insert(next)
            }
        };
        self.last = Some(id);
        id
    }
}
