//! What is live at functions' entries, to a fixed point over all of them.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::body::{Body, Line};
use super::set::{CHANGED, Set, names};
use crate::flow::Flow;
use crate::program::{FunctionId, InsnId, Program};
use crate::report::Step;
use crate::rules::sites::Sites;

/// A call over which something is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) call: InsnId,
    /// The instruction to which it comes back.
    pub(super) behind: InsnId,
    pub(super) live: Set,
}

/// What is known of all functions.
#[derive(Debug)]
pub(in crate::rules) struct Solved {
    bodies: HashMap<FunctionId, Body>,
    /// What is live at functions' entries, where that is anything.
    at_entry: HashMap<FunctionId, Set>,
    /// What of that nobody gives them.
    not_given: HashMap<FunctionId, Set>,
    callers: HashMap<FunctionId, HashSet<FunctionId>>,
    /// Functions that call what is not known.
    open: HashSet<FunctionId>,
}

impl Solved {
    /// Solves all functions, and those again that have to do with what turns out to be given to nobody.
    pub(in crate::rules) fn of(flow: &Flow<'_>) -> Self {
        let functions: Vec<FunctionId> = flow.program().functions().collect();
        let bodies: HashMap<_, _> = functions.iter().map(|function| (*function, Body::of(flow, *function))).collect();
        let (mut callers, mut open) = (HashMap::<_, HashSet<_>>::new(), HashSet::new());
        for (function, body) in &bodies {
            for line in body.lines() {
                for callee in &line.callees {
                    callers.entry(*callee).or_default().insert(*function);
                }
                if line.is_open {
                    open.insert(*function);
                }
            }
        }
        let mut solved = Self { bodies, at_entry: HashMap::new(), not_given: HashMap::new(), callers, open };
        solved.settle(functions);
        while solved.find_not_given(flow.program()) {
            // Less is given than was believed: where nothing was live, nothing will be.
            let again = std::mem::take(&mut solved.at_entry).into_keys().collect();
            solved.settle(again);
        }
        solved
    }

    /// Solves functions until none of their callees' entries changes any more. Sets only grow, so this ends.
    fn settle(&mut self, functions: Vec<FunctionId>) {
        let mut waiting: HashSet<FunctionId> = functions.iter().copied().collect();
        let mut to_do = VecDeque::from(functions);
        while let Some(function) = to_do.pop_front() {
            waiting.remove(&function);
            let Some(body) = self.bodies.get(&function) else { continue };
            let live = self.live(body, Self::reads).get(body.graph.entry()).copied().unwrap_or(0);
            if live != self.at_entry.get(&function).copied().unwrap_or(0) {
                self.at_entry.insert(function, live);
                let callers = self.callers.get(&function).into_iter().flatten();
                to_do.extend(callers.filter(|caller| waiting.insert(**caller)));
            }
        }
    }

    /// What is live at a function's entry, and given to it.
    pub(in crate::rules) fn at_entry(&self, function: FunctionId) -> Set {
        self.at_entry.get(&function).map_or(0, |live| live & !self.not_given(function))
    }

    fn not_given(&self, function: FunctionId) -> Set {
        self.not_given.get(&function).copied().unwrap_or(0)
    }

    /// Finds what is live at entries, and is given by no caller or not by each; returns whether that is more than before.
    fn find_not_given(&mut self, program: &Program<'_>) -> bool {
        let mut found = Vec::new();
        for function in self.at_entry.keys().copied().filter(|function| self.at_entry(*function) & CHANGED != 0) {
            let live = self.at_entry(function);
            let callers = self.callers.get(&function);
            let mut given = if callers.is_none() && !is_open(program, function) { 0 } else { Set::MAX };
            for (caller, body) in callers.into_iter().flatten().filter_map(|caller| self.bodies.get_key_value(caller)) {
                let passed_on = !self.not_given(*caller);
                let calls = body.lines().filter(|line| line.callees.contains(&function));
                given = calls.fold(given, |given, line| given & (line.fresh | line.untouched & passed_on));
            }
            if live & CHANGED & !given != 0 {
                found.push(function);
            }
        }
        // A call that comes without one of them shows that the function has no convention of its own.
        self.not_given.extend(found.iter().map(|function| (*function, CHANGED)));
        !found.is_empty()
    }

    /// The calls over which functions keep something, by address.
    pub(super) fn kept(&self) -> Vec<(FunctionId, Kept)> {
        let mut all: BTreeMap<InsnId, (FunctionId, Kept)> = BTreeMap::new();
        for (function, body) in &self.bodies {
            let mut keep = |line: &Line, live| {
                if let (Some(behind), 1..) = (line.comes_back_to, live) {
                    let kept = Kept { call: line.id, behind, live: 0 };
                    all.entry(line.id).or_insert((*function, kept)).1.live |= live;
                }
            };
            let (live, copied) = (self.live(body, Self::reads), self.live(body, Self::copies));
            for block in 0..live.len() {
                self.before(body, &live, block, Self::reads, |line, live| keep(line, live & CHANGED));
                self.before(body, &copied, block, Self::copies, |line, copied| {
                    keep(line, copied & line.unread & CHANGED);
                });
            }
        }
        all.into_values().collect()
    }

    /// What is live before each block, by what `reads` says of instructions.
    fn live(&self, body: &Body, reads: fn(&Self, &Line) -> Set) -> Vec<Set> {
        let mut live = vec![0; body.blocks.len()];
        let mut to_do: Vec<usize> = (0..live.len()).collect();
        while let Some(block) = to_do.pop() {
            let before = self.before(body, &live, block, reads, |_, _| {});
            if before != live[block] {
                live[block] = before;
                to_do.extend(&body.graph.blocks()[block].before);
            }
        }
        live
    }

    /// What is live before a block, by what is live before others; `each` is told what is live behind each instruction.
    fn before(
        &self,
        body: &Body,
        live: &[Set],
        block: usize,
        reads: fn(&Self, &Line) -> Set,
        mut each: impl FnMut(&Line, Set),
    ) -> Set {
        let mut now = body.graph.blocks()[block].after.iter().fold(0, |all, after| all | live[*after]);
        for line in body.blocks[block].iter().rev() {
            each(line, now);
            now = reads(self, line) | (now & !line.writes);
        }
        now
    }

    /// What an instruction reads, and the callee that it goes to, of what was not just written.
    fn reads(&self, line: &Line) -> Set {
        self.copies(line) & !line.fresh
    }

    /// The same of all, also where what is read may have no value.
    fn copies(&self, line: &Line) -> Set {
        line.callees.iter().fold(line.reads, |all, callee| all | self.at_entry(*callee))
    }

    /// The functions that can be patched, and those that may come to call one of them.
    pub(super) fn changing(&self, program: &Program<'_>, sites: &Sites) -> HashSet<FunctionId> {
        let patchable = sites.functions().map(|(function, _)| function);
        let mut to_do: Vec<FunctionId> = patchable.chain(self.open.iter().copied()).collect();
        let mut changing = HashSet::new();
        while let Some(function) = to_do.pop() {
            let function = program.parent(function);
            if changing.insert(function) {
                to_do.extend(self.callers.get(&function).into_iter().flatten());
            }
        }
        changing
    }

    /// Where the values are read that are live at an instruction, each with one reader.
    pub(in crate::rules) fn readers(&self, flow: &Flow<'_>, from: InsnId, live: Set) -> Vec<Step> {
        let Some(function) = flow.program().function_of(from) else { return Vec::new() };
        let Some(body) = self.bodies.get(&flow.program().parent(function)) else { return Vec::new() };
        let lines: HashMap<InsnId, &Line> = body.lines().map(|line| (line.id, line)).collect();
        let bits = (0..Set::BITS).map(|bit| 1 << bit).filter(|bit| live & bit != 0);
        bits.filter_map(|bit| {
            let mut seen = HashSet::new();
            let mut to_do = VecDeque::from([from]);
            while let Some(id) = to_do.pop_front() {
                let line = lines.get(&id);
                if line.is_some_and(|line| self.copies(line) & bit != 0) {
                    return Some(Step::new(id, names(bit, "read here")));
                }
                if line.is_none_or(|line| line.writes & bit == 0) {
                    to_do.extend(flow.onward(id).successors().filter(|next| seen.insert(*next)));
                }
            }
            None
        })
        .collect()
    }
}

/// Whether another file's code may call a function by its name.
fn is_open(program: &Program<'_>, function: FunctionId) -> bool {
    let mut symbols = program.function(function).symbols().iter().map(|symbol| program.symbol(*symbol));
    program.image().is_relocatable() && symbols.any(|symbol| symbol.is_exported)
}
