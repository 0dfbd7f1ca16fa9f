//! What can be reached, and which functions return: both to a fixed point.

use std::collections::HashMap;

use super::jump::NotFollowed;
use super::onward::{Callee, Exit, Rules};
use crate::program::{FunctionId, InsnId};

/// What is done when a function turns out to return.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    /// Control goes on here, behind its call.
    Behind(InsnId),
    /// This function returns as well, which ends by jumping there.
    Returns(FunctionId),
}

/// What can be reached from functions' entries.
#[derive(Debug)]
pub(super) struct Reach {
    /// A bit for each word.
    reached: Vec<u64>,
    /// For each function and part.
    pub(super) returns: Vec<bool>,
    /// By address.
    pub(super) not_followed: Vec<NotFollowed>,
    /// Jumps to registers.
    jumps: Vec<InsnId>,
}

impl Reach {
    /// Follows everything from the functions' entries.
    pub(super) fn of(rules: Rules<'_>) -> Self {
        let program = rules.program;
        let reach = Self {
            reached: vec![0; program.words().div_ceil(64)],
            returns: vec![false; program.ranges()],
            not_followed: Vec::new(),
            jumps: Vec::new(),
        };
        let mut following = Following { rules, reach, waiting: HashMap::new(), to_do: Vec::new() };
        for function in program.functions() {
            following.to_do.push(program.function(function).entry());
            following.follow();
        }
        let mut reach = following.reach;
        reach.not_followed.sort_unstable();
        reach.not_followed.dedup();
        reach.jumps.sort_unstable();
        reach
    }

    pub(super) fn is_reached(&self, id: InsnId) -> bool {
        self.reached.get(id.index() / 64).is_some_and(|word| word >> (id.index() % 64) & 1 == 1)
    }

    /// Notes that an instruction is reached; returns whether it was not before.
    fn reach(&mut self, id: InsnId) -> bool {
        let Some(word) = self.reached.get_mut(id.index() / 64) else { return false };
        let bit = 1 << (id.index() % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    pub(super) fn returns(&self, function: FunctionId) -> bool {
        self.returns.get(function.index()).copied().unwrap_or(true)
    }

    /// The jumps to registers that are reached, by address.
    pub(super) fn jumps(&self) -> &[InsnId] {
        &self.jumps
    }

    pub(super) fn comes_back(&self, rules: &Rules<'_>, callee: Callee<'_>) -> bool {
        comes_back(rules, &self.returns, callee)
    }
}

/// Whether a call comes back.
pub(super) fn comes_back(rules: &Rules<'_>, returns: &[bool], callee: Callee<'_>) -> bool {
    match callee {
        Callee::Function(function) => returns.get(function.index()).copied().unwrap_or(true),
        Callee::External(name) => !rules.no_return.has(name),
        Callee::Inside(_) | Callee::Outside(_) | Callee::Register(_) => true,
    }
}

struct Following<'a> {
    rules: Rules<'a>,
    reach: Reach,
    waiting: HashMap<FunctionId, Vec<Waiting>>,
    to_do: Vec<InsnId>,
}

impl<'a> Following<'a> {
    fn follow(&mut self) {
        while let Some(mut id) = self.to_do.pop() {
            while self.reach.reach(id) {
                match self.step(id) {
                    Some(next) => id = next,
                    None => break,
                }
            }
        }
    }

    /// Follows one instruction; returns the one behind it, if control goes on there.
    fn step(&mut self, id: InsnId) -> Option<InsnId> {
        let program = self.rules.program;
        let effects = program.insn(id).effects();
        if let fentry::insn::Flow::IndirectJump(_) = effects.flow {
            self.reach.jumps.push(id);
        }
        let onward = self.rules.onward(id, &effects);
        self.to_do.extend(onward.targets.iter());
        let owner = program.function_of(id).map(|function| program.parent(function));
        for exit in onward.exits.iter().flatten() {
            self.leave(id, owner, *exit, onward.call.is_some());
        }
        let next = onward.next?;
        match onward.call {
            Some(Callee::Function(callee)) if !self.reach.returns(callee) => {
                self.waiting.entry(callee).or_default().push(Waiting::Behind(next));
                None
            }
            Some(callee) if !self.reach.comes_back(&self.rules, callee) => None,
            _ => Some(next),
        }
    }

    fn leave(&mut self, id: InsnId, owner: Option<FunctionId>, exit: Exit<'a>, is_call: bool) {
        let program = self.rules.program;
        let to = match exit {
            Exit::Trap | Exit::NoReturn => return,
            Exit::Sibling(callee) => callee,
            // A compiler that has put nothing behind a call knows that it does not come back: by an attribute, or for these very
            // arguments.
            Exit::FallsOff(_) if is_call => return,
            // What it falls into returns for it.
            Exit::FallsOff(Some(next)) => match program.function_of(next) {
                Some(function) if program.function(function).entry() == next => Callee::Function(function),
                _ => return,
            },
            Exit::FallsOff(None) => return,
            // ERET counts: whoever it goes to may come back.
            Exit::Return(_) | Exit::ExceptionReturn => {
                owner.into_iter().for_each(|owner| self.does_return(owner));
                return;
            }
            // What is not known may do anything, and returning is the more careful guess.
            Exit::NotFollowed(why) => {
                self.reach.not_followed.push(NotFollowed { at: id, why });
                owner.into_iter().for_each(|owner| self.does_return(owner));
                return;
            }
        };
        let Some(owner) = owner else { return };
        match to {
            Callee::Function(function) if !self.reach.returns(function) => {
                self.waiting.entry(function).or_default().push(Waiting::Returns(owner));
            }
            callee if self.reach.comes_back(&self.rules, callee) => self.does_return(owner),
            _ => {}
        }
    }

    /// Notes that a function returns, and goes on with what has waited for that.
    fn does_return(&mut self, function: FunctionId) {
        let mut returning = vec![function];
        while let Some(function) = returning.pop() {
            match self.reach.returns.get_mut(function.index()) {
                Some(returns) if !*returns => *returns = true,
                _ => continue,
            }
            for waiting in self.waiting.remove(&function).unwrap_or_default() {
                match waiting {
                    Waiting::Behind(id) => self.to_do.push(id),
                    Waiting::Returns(function) => returning.push(function),
                }
            }
        }
    }
}
