//! Who calls whom: what is called by name, and, by a register behind a check of a hash (kCFI), whoever has that hash.

use std::collections::BTreeMap;

use super::hashes::Checks;
use super::taken::Taken;
use crate::flow::{Callee, Exit, Flow};
use crate::program::{FunctionId, InsnId, Program};

/// A call, or a jump out of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call<'a> {
    pub(super) at: InsnId,
    pub(super) to: To<'a>,
    /// Whether it does not come back, in a function that does.
    pub(super) is_panic: bool,
}

/// Where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To<'a> {
    /// To this function; of several that a register may lead to, one.
    Function(FunctionId),
    /// To another file's.
    External(&'a str),
    /// Where no function is known to be: a register says where, or there are no instructions.
    Unknown,
}

/// The calls of a program.
#[derive(Debug)]
pub(super) struct Calls<'a> {
    flow: &'a Flow<'a>,
    /// For each function and part.
    of: Vec<Vec<Call<'a>>>,
    has_callers: Vec<bool>,
    /// The hash that is wanted of what a call by a register reaches.
    wanted: BTreeMap<InsnId, u32>,
    /// The functions whose address is taken, by the hash of their type.
    by_hash: BTreeMap<u32, Vec<FunctionId>>,
}

impl<'a> Calls<'a> {
    /// Finds the calls of all functions.
    pub(super) fn of(flow: &'a Flow<'a>, taken: &Taken, checks: &Checks) -> Self {
        let program = flow.program();
        let mut calls = Self {
            flow,
            of: vec![Vec::new(); program.ranges()],
            has_callers: vec![false; program.ranges()],
            wanted: checks.iter().map(|(call, check)| (call, check.hash)).collect(),
            by_hash: by_hash(program, taken),
        };
        for function in program.functions() {
            let reached = program.of_function(function).filter(|id| flow.is_reached(*id));
            let found: Vec<Call<'a>> = reached.flat_map(|at| calls.at(at)).collect();
            for call in &found {
                if let To::Function(to) = call.to {
                    calls.has_callers[to.index()] |= to != function;
                }
            }
            calls.of[function.index()] = found;
        }
        calls
    }

    /// The calls of a function, by address.
    pub(super) fn of_function(&self, function: FunctionId) -> &[Call<'a>] {
        self.of.get(function.index()).map_or(&[], Vec::as_slice)
    }

    /// Whether another function calls it, as far as is known.
    pub(super) fn has_callers(&self, function: FunctionId) -> bool {
        self.has_callers.get(function.index()).copied().unwrap_or(false)
    }

    /// The calls that one instruction may make.
    pub(super) fn at(&self, at: InsnId) -> Vec<Call<'a>> {
        let program = self.flow.program();
        let onward = self.flow.onward(at);
        let returns = program.function_of(at).is_some_and(|function| !self.flow.never_returns(function));
        let mut found = Vec::new();
        let mut add = |callee, comes_back: bool| {
            let is_panic = returns && !comes_back;
            match callee {
                Callee::Register(_) => match self.wanted.get(&at).and_then(|hash| self.by_hash.get(hash)) {
                    Some(callees) => {
                        found.extend(callees.iter().map(|to| Call { at, to: To::Function(*to), is_panic }));
                    }
                    None => found.push(Call { at, to: To::Unknown, is_panic }),
                },
                callee => found.push(Call { at, to: To::of(program, callee), is_panic }),
            }
        };
        if let Some(callee) = onward.call {
            add(callee, onward.next.is_some());
        }
        for exit in onward.exits.into_iter().flatten() {
            match exit {
                Exit::Sibling(callee) => add(callee, comes_back(self.flow, callee)),
                // It runs on into the next function.
                Exit::FallsOff(Some(next)) if onward.call.is_none() => add(Callee::Inside(next), true),
                _ => {}
            }
        }
        found
    }
}

impl<'a> To<'a> {
    fn of(program: &Program<'_>, callee: Callee<'a>) -> Self {
        match callee {
            Callee::Function(function) => Self::Function(program.parent(function)),
            Callee::Inside(to) => {
                program.function_of(to).map_or(Self::Unknown, |function| Self::Function(program.parent(function)))
            }
            Callee::External(name) => Self::External(name),
            Callee::Outside(_) | Callee::Register(_) => Self::Unknown,
        }
    }
}

fn comes_back(flow: &Flow<'_>, callee: Callee<'_>) -> bool {
    !matches!(callee, Callee::Function(function) if flow.never_returns(function))
}

fn by_hash(program: &Program<'_>, taken: &Taken) -> BTreeMap<u32, Vec<FunctionId>> {
    let mut by_hash: BTreeMap<u32, Vec<FunctionId>> = BTreeMap::new();
    for function in taken.functions() {
        if let Some(hash) = program.function(function).hash() {
            by_hash.entry(hash).or_default().push(function);
        }
    }
    by_hash
}
