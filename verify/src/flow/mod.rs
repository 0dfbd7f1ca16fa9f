//! Where control goes: from each instruction on, into which functions, and where it does not come back.
//!
//! # Functions that never return
//! No list of names says which functions those are. At first none is believed to return; following every function, one does
//! whose return, or whose jump to a function that returns, can be reached; then the code behind its calls can be reached as
//! well, and so on until nothing changes. What stays never returns, also where two functions call each other for ever. Only
//! what another file defines has to be named: [`NoReturn`].
//!
//! # Jumps to a register
//! They are a table's, or leave the function as a call that does not come back (a sibling call). Which, and how large the
//! table is, follows from what registers hold there ([`value`](crate::value)). Where it does not follow, the function counts as
//! not followed, and [`Flow::not_followed`] says why.

mod graph;
mod jump;
mod no_return;
mod onward;
mod reach;
mod starts;
mod tables;
#[cfg(test)]
mod tests;
mod walk;

use fentry::insn::Effects;

pub use graph::{Block, Graph};
pub use jump::{NotFollowed, Table, Why};
pub use no_return::NoReturn;
pub use onward::{Callee, Exit, Onward, Targets};
pub(crate) use walk::Walker;

use crate::program::{FunctionId, InsnId, Program};
use jump::{Jump, Jumps};
use onward::Rules;
use reach::Reach;

/// How often jump tables and functions that never return are looked for with what is known of the other.
const ROUNDS: usize = 4;

/// Where control goes in a program.
#[derive(Debug)]
pub struct Flow<'a> {
    program: &'a Program<'a>,
    no_return: NoReturn,
    jumps: Jumps,
    reach: Reach,
}

impl<'a> Flow<'a> {
    /// Follows every function from its entry.
    pub fn follow(program: &'a Program<'a>, no_return: &NoReturn) -> Self {
        let mut jumps = Jumps::new();
        let mut reach = Reach::of(rules(program, &jumps, no_return));
        for round in 0..ROUNDS {
            let starts = if round > 0 { starts::of(program, &jumps) } else { Vec::new() };
            let unknown = |id: &InsnId| matches!(jumps.get(id), None | Some(Jump::NotFollowed(_)));
            let mut functions: Vec<FunctionId> =
                reach.jumps().iter().filter(|id| unknown(id)).filter_map(|id| program.function_of(*id)).collect();
            functions.iter_mut().for_each(|function| *function = program.parent(*function));
            functions.sort_unstable();
            functions.dedup();
            let mut found = Jumps::new();
            for function in functions {
                let rules =
                    Rules { table_starts: (round > 0).then_some(&starts[..]), ..rules(program, &jumps, no_return) };
                found.extend(Walker::new(rules, &reach.returns, true).jumps_of(function));
            }
            found.retain(|id, jump| jumps.get(id) != Some(jump));
            if found.is_empty() {
                break;
            }
            jumps.extend(found);
            reach = Reach::of(rules(program, &jumps, no_return));
        }
        Self { program, no_return: no_return.clone(), jumps, reach }
    }

    /// The program.
    pub fn program(&self) -> &'a Program<'a> {
        self.program
    }

    fn rules(&self) -> Rules<'_> {
        rules(self.program, &self.jumps, &self.no_return)
    }

    /// Walks functions, with what was found out here.
    pub(crate) fn walker(&self) -> Walker<'_> {
        Walker::new(self.rules(), &self.reach.returns, false)
    }

    /// Where control goes from an instruction.
    pub fn onward(&self, id: InsnId) -> Onward<'_> {
        self.onward_by(id, &self.program.insn(id).effects())
    }

    /// The same, of an instruction that has been decoded already.
    pub fn onward_by(&self, id: InsnId, effects: &Effects) -> Onward<'_> {
        let mut onward = self.rules().onward(id, effects);
        if let Some(callee) = onward.call
            && !self.reach.comes_back(&self.rules(), callee)
        {
            onward.next = None;
            onward.exits = [Some(Exit::NoReturn), None];
        }
        onward
    }

    /// Whether control ends at an instruction: a call that does not come back, or a trap.
    pub fn is_dead_end(&self, id: InsnId) -> bool {
        let exits = self.onward(id).exits;
        exits.iter().flatten().any(|exit| matches!(exit, Exit::NoReturn | Exit::Trap))
    }

    /// Whether an instruction can be reached from a function's entry.
    pub fn is_reached(&self, id: InsnId) -> bool {
        self.reach.is_reached(id)
    }

    /// Whether a function never returns to its caller.
    pub fn never_returns(&self, function: FunctionId) -> bool {
        !self.reach.returns(self.program.parent(function))
    }

    /// The table that an instruction jumps by, if it was found.
    pub fn table(&self, id: InsnId) -> Option<&Table> {
        match self.jumps.get(&id) {
            Some(Jump::Table(table)) => Some(table),
            _ => None,
        }
    }

    /// The tables of jumps, with the instructions that jump by them, by address.
    pub fn tables(&self) -> Vec<(InsnId, &Table)> {
        let mut tables: Vec<_> = self.jumps.keys().filter_map(|id| Some((*id, self.table(*id)?))).collect();
        tables.sort_unstable_by_key(|(id, _)| *id);
        tables
    }

    /// The instructions that are reached and from which control could not be followed, by address.
    pub fn not_followed(&self) -> &[NotFollowed] {
        &self.reach.not_followed
    }

    /// Whether all of a function that can be reached was followed.
    pub fn is_followed(&self, function: FunctionId) -> bool {
        !self.program.ranges_of(self.program.parent(function)).any(|range| {
            let from = self.reach.not_followed.partition_point(|not| (not.at.index() as u64) < u64::from(range.start));
            self.reach.not_followed.get(from).is_some_and(|not| (not.at.index() as u64) < u64::from(range.end))
        })
    }
}

fn rules<'a>(program: &'a Program<'a>, jumps: &'a Jumps, no_return: &'a NoReturn) -> Rules<'a> {
    Rules { program, jumps, no_return, table_starts: None }
}
