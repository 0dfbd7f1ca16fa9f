//! How deep the stack gets: what each function takes, and the deepest chain of calls from each.
//!
//! What a function takes is how far SP is below its entry's, at the lowest; a chain adds to that, at each call, what the callee
//! takes. Interrupts, and what a traced function's stub and callbacks take, come on top.
//!
//! Where no bound follows, the depth is what is known without, and it is said what is not: a call by a register, unless its
//! check of a hash (kCFI) says whom it may reach; a call into another file; a function that calls itself, which counts once; a
//! frame whose size is known only when it runs.

use std::collections::BTreeSet;
use std::fmt;

use super::calls::{Call, Calls, To};
use super::hashes::Checks;
use super::sites::Sites;
use super::taken::Taken;
use crate::cfi::{Cfa, Cfi};
use crate::flow::Flow;
use crate::program::{FunctionId, InsnId, Program};
use crate::report::{At, Finding, Rule, Step};

/// Which calls count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// All.
    All,
    /// Not those that don't come back, of functions that do: no panics, and nothing that they call.
    Returning,
}

/// The depths of all functions.
#[derive(Debug)]
pub struct Depths<'a> {
    program: &'a Program<'a>,
    calls: Calls<'a>,
    taken: Taken,
    counted: Counted,
    /// For each function and part.
    depths: Vec<Depth>,
}

/// How deep a function gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// What it takes itself, in bytes.
    pub frame: u64,
    /// What it takes with the deepest of the chains of calls that begin with it, in bytes.
    pub bytes: u64,
    /// Whether it can't be more.
    pub is_bounded: bool,
    /// The call with which that chain goes on, by its place among the function's calls.
    next: Option<usize>,
    /// An instruction where it takes an unknown number of bytes.
    dynamic: Option<InsnId>,
    /// A call with which it comes back to itself.
    recursion: Option<usize>,
}

/// A part of a chain of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The function.
    pub function: FunctionId,
    /// How far SP is below the function's entry's where it calls the next one; of the last one, at the lowest.
    pub bytes: u64,
    /// Its call of the next one.
    pub call: Option<InsnId>,
}

/// Why a depth is not bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unbounded<'a> {
    /// A register says what is called.
    Register(InsnId),
    /// Another file has what is called.
    External(InsnId, &'a str),
    /// The call leads back to the function that makes it.
    Recursion(InsnId),
    /// A frame has a size that only a register says.
    Dynamic(InsnId),
    /// Control could not be followed.
    NotFollowed(InsnId),
}

impl<'a> Depths<'a> {
    /// Works out how deep each function gets.
    pub fn of(flow: &'a Flow<'a>, cfi: &Cfi, counted: Counted) -> Self {
        let program = flow.program();
        let taken = Taken::of(program, &Sites::of(program));
        let calls = Calls::of(flow, &taken, &Checks::of(program));
        let mut depths = Self { program, calls, taken, counted, depths: vec![Depth::default(); program.ranges()] };
        for function in program.functions() {
            let (frame, dynamic) = frame(program, cfi, function);
            let is_bounded = dynamic.is_none() && flow.is_followed(function);
            depths.depths[function.index()] = Depth { frame, dynamic, is_bounded, ..Depth::default() };
        }
        for together in depths.callees_first() {
            depths.solve(cfi, &together);
        }
        depths
    }

    /// How deep a function gets.
    pub fn depth(&self, function: FunctionId) -> Depth {
        self.depths.get(self.program.parent(function).index()).copied().unwrap_or_default()
    }

    /// Where chains begin: functions that nobody is known to call, and those whose address is taken. The deepest is first.
    pub fn entries(&self) -> Vec<FunctionId> {
        let begins = |function: &FunctionId| !self.calls.has_callers(*function) || self.taken.has(*function);
        let mut entries: Vec<FunctionId> = self.program.functions().filter(begins).collect();
        entries.sort_by_key(|function| std::cmp::Reverse(self.depth(*function).bytes));
        entries
    }

    /// The deepest chain of calls from a function on.
    pub fn chain(&self, from: FunctionId) -> Vec<Link> {
        let mut chain = Vec::new();
        let mut function = self.program.parent(from);
        loop {
            let Depth { frame, bytes, next, .. } = self.depth(function);
            let call = next.and_then(|index| self.calls.of_function(function).get(index));
            let Some(Call { at, to: To::Function(callee), .. }) = call else {
                chain.push(Link { function, bytes: frame, call: None });
                return chain;
            };
            let bytes = bytes - self.depth(*callee).bytes;
            chain.push(Link { function, bytes, call: Some(*at) });
            function = *callee;
        }
    }

    /// All that keeps a function's depth from being bounded, in the order of addresses.
    pub fn unbounded(&self, flow: &Flow<'_>, from: FunctionId) -> Vec<Unbounded<'a>> {
        let mut seen = BTreeSet::new();
        let mut to_do = vec![self.program.parent(from)];
        let mut found = BTreeSet::new();
        while let Some(function) = to_do.pop() {
            if self.depth(function).is_bounded || !seen.insert(function) {
                continue;
            }
            let Depth { dynamic, recursion, .. } = self.depth(function);
            found.extend(dynamic.map(Unbounded::Dynamic));
            let calls = self.calls.of_function(function);
            found.extend(recursion.and_then(|index| calls.get(index)).map(|call| Unbounded::Recursion(call.at)));
            let is_ours = |at: InsnId| self.program.function_of(at).map(|other| self.program.parent(other));
            let not = flow.not_followed().iter().filter(|not| is_ours(not.at) == Some(function));
            found.extend(not.map(|not| Unbounded::NotFollowed(not.at)));
            for call in calls.iter().filter(|call| self.counts(call)) {
                match call.to {
                    To::Function(callee) => to_do.push(callee),
                    To::External(name) => {
                        found.insert(Unbounded::External(call.at, name));
                    }
                    To::Unknown => {
                        found.insert(Unbounded::Register(call.at));
                    }
                }
            }
        }
        found.into_iter().collect()
    }

    /// Findings for those of these functions that get deeper than so many bytes.
    pub fn deeper_than(&self, limit: u64, functions: &[FunctionId]) -> Vec<Finding> {
        let is_deep = |function: &&FunctionId| self.depth(**function).bytes > limit;
        let finding = |function: &FunctionId| {
            let Depth { bytes, is_bounded, .. } = self.depth(*function);
            let least = if is_bounded { "" } else { " at least" };
            let what = format!("it takes {bytes} bytes of stack{least}, more than {limit}");
            let path = self.chain(*function).into_iter().map(|link| {
                let at = link.call.unwrap_or_else(|| self.program.function(link.function).entry());
                Step::new(at, format!("{} bytes", link.bytes))
            });
            let at = At::Insn(self.program.function(*function).entry());
            Finding::new(Rule::StackDepth, at, what).by(path.collect())
        };
        functions.iter().filter(is_deep).map(finding).collect()
    }

    fn counts(&self, call: &Call<'_>) -> bool {
        self.counted == Counted::All || !call.is_panic
    }

    /// Functions that call each other are solved together, when all that they call is.
    fn solve(&mut self, cfi: &Cfi, together: &[FunctionId]) {
        let mut solved = Vec::new();
        for function in together {
            let mut depth = self.depth(*function);
            depth.bytes = depth.frame;
            for (index, call) in self.calls.of_function(*function).iter().enumerate() {
                // What CFI does not reach is never called.
                let Some(state) = cfi.state(call.at).filter(|_| self.counts(call)) else { continue };
                let To::Function(callee) = call.to else {
                    depth.is_bounded = false;
                    continue;
                };
                if together.contains(&callee) {
                    depth.is_bounded = false;
                    depth.recursion.get_or_insert(index);
                    continue;
                }
                let callees = self.depth(callee);
                let here = state.sp().map_or(depth.frame, |sp| u64::try_from(sp).unwrap_or(0));
                depth.is_bounded &= callees.is_bounded;
                if here + callees.bytes > depth.bytes {
                    depth.bytes = here + callees.bytes;
                    depth.next = Some(index);
                }
            }
            solved.push((*function, depth));
        }
        // Who can be reached again is not bounded, even by calls that are.
        let is_bounded = solved.iter().all(|(_, depth)| depth.is_bounded);
        for (function, depth) in solved {
            self.depths[function.index()] = Depth { is_bounded, ..depth };
        }
    }

    /// The functions, callees before their callers; those that reach each other, together (Tarjan's strongly connected
    /// components, without recursion of its own).
    fn callees_first(&self) -> Vec<Vec<FunctionId>> {
        const NONE: usize = usize::MAX;
        let mut number = vec![NONE; self.depths.len()];
        let mut lowest = vec![NONE; self.depths.len()];
        let mut is_open = vec![false; self.depths.len()];
        let (mut open, mut next, mut components) = (Vec::new(), 0, Vec::new());
        for root in self.program.functions() {
            let mut path: Vec<(FunctionId, usize)> = Vec::new();
            if number[root.index()] == NONE {
                path.push((root, 0));
            }
            while let Some((function, call)) = path.last_mut() {
                let (function, at) = (*function, function.index());
                if number[at] == NONE {
                    (number[at], lowest[at], is_open[at]) = (next, next, true);
                    next += 1;
                    open.push(function);
                }
                let calls = self.calls.of_function(function);
                let Some(Call { to, .. }) = calls.get(*call) else {
                    path.pop();
                    if let Some((caller, _)) = path.last() {
                        lowest[caller.index()] = lowest[caller.index()].min(lowest[at]);
                    }
                    if lowest[at] == number[at] {
                        let from = open.iter().rposition(|other| *other == function).unwrap_or(0);
                        let component = open.split_off(from);
                        component.iter().for_each(|member: &FunctionId| is_open[member.index()] = false);
                        components.push(component);
                    }
                    continue;
                };
                *call += 1;
                if let To::Function(callee) = to {
                    let to = callee.index();
                    if number[to] == NONE {
                        path.push((*callee, 0));
                    } else if is_open[to] {
                        lowest[at] = lowest[at].min(number[to]);
                    }
                }
            }
        }
        components
    }
}

/// How far SP gets below a function's entry's, and where that is not known.
fn frame(program: &Program<'_>, cfi: &Cfi, function: FunctionId) -> (u64, Option<InsnId>) {
    let (mut frame, mut dynamic) = (0, None);
    for id in program.of_function(function) {
        match cfi.state(id).map(|state| state.cfa()) {
            // While a loop probes a large frame page by page, another register has SP's lowest.
            Some(Cfa::Sp(bytes) | Cfa::Other(_, bytes)) => frame = frame.max(u64::try_from(bytes).unwrap_or(0)),
            Some(Cfa::Fp(_) | Cfa::Unknown) => {
                dynamic.get_or_insert(id);
            }
            None => {}
        }
    }
    (frame, dynamic)
}

impl Unbounded<'_> {
    /// The instruction.
    pub fn at(self) -> InsnId {
        match self {
            Self::Register(at)
            | Self::External(at, _)
            | Self::Recursion(at)
            | Self::Dynamic(at)
            | Self::NotFollowed(at) => at,
        }
    }
}

impl fmt::Display for Unbounded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register(_) => f.write_str("a register says what is called"),
            Self::External(_, name) => write!(f, "another file has {name}"),
            Self::Recursion(_) => f.write_str("the call leads back here"),
            Self::Dynamic(_) => f.write_str("the frame's size is known only when it runs"),
            Self::NotFollowed(_) => f.write_str("control could not be followed"),
        }
    }
}
