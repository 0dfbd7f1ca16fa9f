//! Registers at callsites: an enabled callsite, and the stub that it calls, change x9 to x17 and the flags.
//!
//! AAPCS64 6.1.1 lets a callee do that, and compilers that know a callee may still rely on what it does not do (inter-procedural
//! register allocation, `preserve_most`, `rust-cold`). So both sides are proven:
//!
//! - a function that can be patched reads none of them at its entry, by liveness against the direction of control;
//! - nobody keeps a value in one of them over a call of such a function, or of one that calls such a function in its turn.
//!
//! A call is taken to change none of them, and to read what its callee reads at its entry: a value that somebody keeps over a
//! call is seen for what it is. An unknown instruction is taken to read none; a function with one is told of as not followed.
//!
//! # What does not count as a read
//! Compilers copy what has no value: the payload of an enum's variant that has none lies in a register that was never written
//! on that path, and is stored all the same. Such a read has a path on which the register was written since the last call, for
//! the variants that have a payload. So a read counts only where no such path leads to it. What is kept over a call on one
//! path and written behind it on another looks the same. There the write before the call decides: no compiler writes what
//! nobody reads. So such a value counts as kept where it was written before the call and not read until then.
//!
//! Where the path has been copied as well, the register seems to be live at the function's entry. It is if somebody gives the
//! function something in it: so it counts where every direct call comes with the register written since the call before, or
//! as the caller itself was given it. What calls by a pointer gives nothing in these registers, since it does not know whom it
//! calls. In a relocatable object, other files' code may, which calls what the object exports.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use fentry::insn::{DataImm, HalfWord, Insn, MoveWide, Reg, RegSet, VRegSet, Width};

use super::sites::Sites;
use crate::flow::{Block, Callee, Exit, Flow, Graph, Onward};
use crate::program::{FunctionId, InsnId, Program};
use crate::report::{At, Finding, Rule, Step};

/// x9 to x18 in bits 9 to 18, the flags in bit 0.
pub(super) type Set = u32;

const REGISTERS: Set = 0x7fe00;
const FLAGS: Set = 1;
/// The platform's register, which stubs leave alone.
pub(super) const X18: Set = 1 << 18;
/// What callsites and stubs change.
const CHANGED: Set = REGISTERS & !X18 | FLAGS;

pub(super) fn check(flow: &Flow<'_>, sites: &Sites, solved: &Solved) -> Vec<Finding> {
    let changes = solved.changing(flow.program(), sites);
    let mut findings = Vec::new();
    for (function, callsite) in sites.functions() {
        let live = solved.at_entry(function) & CHANGED;
        let Some(at) = flow.program().at(callsite.mov_addr()).filter(|_| live != 0) else { continue };
        let what = format!("{} at its callsite, which changes them", names(live, "live"));
        let path = solved.readers(flow, at, live);
        findings.push(Finding::new(Rule::LiveAtCallsite, At::Insn(at), what).by(path));
    }
    for (function, kept) in &solved.kept {
        for Kept { call, behind, live } in kept {
            let onward = flow.onward(*call);
            let Some(callee) = onward.call else { continue };
            let name = match callee {
                Callee::Function(callee) if changes.contains(&callee) => flow.program().name(callee),
                Callee::Inside(_) | Callee::Function(_) | Callee::Outside(_) => continue,
                Callee::External(name) => name,
                Callee::Register(_) => "whatever a register says",
            };
            let of = flow.program().name(*function);
            let what = format!("{} by {of} over this call of {name}, which may change them", names(*live, "kept"));
            findings
                .push(Finding::new(Rule::KeptOverCall, At::Insn(*call), what).by(solved.readers(flow, *behind, *live)));
        }
    }
    findings
}

/// A call over which something is kept.
#[derive(Clone, Copy, Debug)]
struct Kept {
    call: InsnId,
    /// The instruction to which it comes back.
    behind: InsnId,
    live: Set,
}

/// What is known of all functions.
#[derive(Debug, Default)]
pub(super) struct Solved {
    /// What is live at functions' entries, where that is anything.
    at_entry: HashMap<FunctionId, Set>,
    /// What of that nobody gives them.
    not_given: HashMap<FunctionId, Set>,
    kept: HashMap<FunctionId, Vec<Kept>>,
    callers: HashMap<FunctionId, HashSet<FunctionId>>,
    /// Functions that call what is not known.
    open: HashSet<FunctionId>,
}

impl Solved {
    /// Solves all functions, and those again that have to do with what turns out to be given to nobody.
    pub(super) fn of(flow: &Flow<'_>) -> Self {
        let mut solved = Self::default();
        solved.settle(flow, flow.program().functions().collect());
        while solved.find_not_given(flow) {
            let has_kept = solved.kept.iter().filter(|(_, kept)| !kept.is_empty()).map(|(function, _)| *function);
            let again: HashSet<FunctionId> = solved.at_entry.keys().copied().chain(has_kept).collect();
            solved.at_entry.clear();
            solved.settle(flow, again.into_iter().collect());
        }
        solved
    }

    /// Solves functions until none of their callees' entries changes any more. Sets only grow, so this ends.
    fn settle(&mut self, flow: &Flow<'_>, mut to_do: Vec<FunctionId>) {
        while let Some(function) = to_do.pop() {
            let live = self.solve(flow, function);
            if live != self.at_entry.get(&function).copied().unwrap_or(0) {
                self.at_entry.insert(function, live);
                to_do.extend(self.callers.get(&function).into_iter().flatten());
            }
        }
    }

    /// What is live at a function's entry, and given to it.
    pub(super) fn at_entry(&self, function: FunctionId) -> Set {
        self.at_entry.get(&function).map_or(0, |live| live & !self.not_given(function))
    }

    fn not_given(&self, function: FunctionId) -> Set {
        self.not_given.get(&function).copied().unwrap_or(0)
    }

    /// Finds what is live at entries, and is given by no caller or not by each; returns whether that is more than before.
    fn find_not_given(&mut self, flow: &Flow<'_>) -> bool {
        let mut found = Vec::new();
        for function in self.at_entry.keys().copied().filter(|function| self.at_entry(*function) & CHANGED != 0) {
            let live = self.at_entry(function);
            let callers = self.callers.get(&function);
            let mut given = if callers.is_none() && !is_open(flow.program(), function) { 0 } else { Set::MAX };
            for caller in callers.into_iter().flatten() {
                let passed_on = !self.not_given(*caller);
                let body = Body::of(flow, *caller);
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

    /// What is live at the function's entry; notes whom it calls, and what it keeps.
    fn solve(&mut self, flow: &Flow<'_>, function: FunctionId) -> Set {
        let body = Body::of(flow, function);
        let live = self.live(&body, Self::reads);
        let copied = self.live(&body, Self::copies);
        let mut kept: BTreeMap<InsnId, Kept> = BTreeMap::new();
        let mut keep = |line: &Line, live| {
            if let (Some(behind), 1..) = (line.comes_back_to, live) {
                kept.entry(line.id).or_insert(Kept { call: line.id, behind, live: 0 }).live |= live;
            }
        };
        for block in 0..live.len() {
            self.before(&body, &live, block, Self::reads, |line, live| keep(line, live & CHANGED));
            self.before(&body, &copied, block, Self::copies, |line, copied| keep(line, copied & line.unread & CHANGED));
        }
        for callee in body.lines().flat_map(|line| &line.callees) {
            self.callers.entry(*callee).or_default().insert(function);
        }
        if body.lines().any(|line| line.is_open) {
            self.open.insert(function);
        }
        // Solved again, it may keep more.
        self.kept.insert(function, kept.into_values().collect());
        live.get(body.graph.entry()).copied().unwrap_or(0)
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
    fn changing(&self, program: &Program<'_>, sites: &Sites) -> HashSet<FunctionId> {
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
    pub(super) fn readers(&self, flow: &Flow<'_>, from: InsnId, live: Set) -> Vec<Step> {
        let Some(function) = flow.program().function_of(from) else { return Vec::new() };
        let body = Body::of(flow, flow.program().parent(function));
        let lines: HashMap<InsnId, &Line> = body.lines().map(|line| (line.id, line)).collect();
        let bits = (0..Set::BITS).map(|bit| 1 << bit).filter(|bit| live & bit != 0);
        bits.filter_map(|bit| {
            let mut seen = HashSet::new();
            let mut to_do = VecDeque::from([from]);
            while let Some(id) = to_do.pop_front() {
                let line = lines.get(&id)?;
                if self.copies(line) & bit != 0 {
                    return Some(Step::new(id, names(bit, "read here")));
                }
                if line.writes & bit == 0 {
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

/// A function's instructions, as far as they matter here.
#[derive(Debug)]
struct Body {
    graph: Graph,
    /// As many as the graph has.
    blocks: Vec<Vec<Line>>,
}

/// What one instruction does.
#[derive(Debug)]
struct Line {
    id: InsnId,
    reads: Set,
    writes: Set,
    /// What was written on some path that leads here, with no call since.
    fresh: Set,
    /// What was written on all paths that lead here, with no call and no read since.
    unread: Set,
    /// What is on some path as it was at the entry, with no call since.
    untouched: Set,
    /// Whom it calls, or jumps to at the end.
    callees: Vec<FunctionId>,
    /// Whether it goes to what is not known.
    is_open: bool,
    /// The instruction behind, if it is a call that comes back.
    comes_back_to: Option<InsnId>,
}

impl Body {
    fn of(flow: &Flow<'_>, function: FunctionId) -> Self {
        let graph = flow.graph(function);
        let line = |id: InsnId| {
            let insn = flow.program().insn(id);
            let onward = flow.onward_by(id, &insn.effects());
            let mut line = Line {
                id,
                reads: reads(&insn),
                writes: writes(&insn),
                fresh: 0,
                unread: 0,
                untouched: 0,
                callees: Vec::new(),
                is_open: false,
                comes_back_to: onward.next.filter(|_| onward.call.is_some()),
            };
            for callee in callees_of(&onward) {
                match callee {
                    Callee::Function(callee) => line.callees.push(callee),
                    Callee::Register(_) | Callee::External(_) => line.is_open = true,
                    Callee::Inside(_) | Callee::Outside(_) => {}
                }
            }
            line
        };
        let insns = |block: &Block| {
            let (start, end) = (*block.insns.start(), *block.insns.end());
            flow.program().from(start).take_while(move |id| *id <= end)
        };
        let lines = |block: &Block| {
            let mut lines: Vec<Line> = insns(block).map(line).collect();
            for at in 1..lines.len() {
                let [first, second] = [at - 1, at].map(|at| flow.program().insn(lines[at].id));
                if is_number_in_halves(&first, &second) {
                    lines[at - 1].reads = 0;
                }
            }
            lines
        };
        let blocks = graph.blocks().iter().map(lines).collect();
        let mut body = Self { graph, blocks };
        body.find_fresh();
        body.find_unread();
        body
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.blocks.iter().flatten()
    }

    fn find_fresh(&mut self) {
        let mut before = vec![(0, 0); self.blocks.len()];
        if let Some((_, untouched)) = before.get_mut(self.graph.entry()) {
            *untouched = REGISTERS | FLAGS;
        }
        let mut to_do: Vec<usize> = (0..before.len()).collect();
        while let Some(block) = to_do.pop() {
            let (mut fresh, mut untouched) = before[block];
            for line in &mut self.blocks[block] {
                (line.fresh, line.untouched) = (fresh, untouched);
                (fresh, untouched) = match line.comes_back_to {
                    Some(_) => (0, 0),
                    None => (fresh | line.writes, untouched & !line.writes),
                };
            }
            for after in &self.graph.blocks()[block].after {
                let known = before[*after];
                before[*after] = (known.0 | fresh, known.1 | untouched);
                if before[*after] != known {
                    to_do.push(*after);
                }
            }
        }
    }

    fn find_unread(&mut self) {
        let mut before = vec![Set::MAX; self.blocks.len()];
        // Nothing was written before the entry, and what is not reached from there is not asked for.
        if let Some(entry) = before.get_mut(self.graph.entry()) {
            *entry = 0;
        }
        let mut to_do: Vec<usize> = vec![self.graph.entry()];
        let mut is_seen = vec![false; self.blocks.len()];
        while let Some(block) = to_do.pop() {
            let Some(lines) = self.blocks.get_mut(block) else { return };
            is_seen[block] = true;
            let mut now = before[block];
            for line in lines {
                line.unread = now;
                // The base that an access moves on is written by the way.
                now = if line.comes_back_to.is_some() {
                    0
                } else {
                    now & !line.reads | line.writes & !line.reads & !FLAGS
                };
            }
            for after in &self.graph.blocks()[block].after {
                if before[*after] & !now != 0 || !is_seen[*after] {
                    before[*after] &= now;
                    to_do.push(*after);
                }
            }
        }
    }
}

/// What is called, or jumped to at the end.
fn callees_of<'a>(onward: &Onward<'a>) -> impl Iterator<Item = Callee<'a>> + use<'a> {
    let siblings = onward.exits.into_iter().flatten().filter_map(|exit| match exit {
        Exit::Sibling(callee) => Some(callee),
        _ => None,
    });
    onward.call.into_iter().chain(siblings)
}

/// Whether the second of two instructions overwrites all that the first has left of a register's old value: a number of 32
/// bits in two MOVK, which is how LLVM's kCFI writes a hash.
fn is_number_in_halves(first: &Insn, second: &Insn) -> bool {
    let half = |insn: &Insn| match *insn {
        Insn::DataImm(DataImm::MoveWide {
            op: MoveWide::Keep, rd, at: at @ (HalfWord::W0 | HalfWord::W16), ..
        }) => Some((rd, at)),
        _ => None,
    };
    matches!((half(first), half(second)), (Some((one, half)), Some((other, rest))) if one == other && half != rest)
}

fn reads(insn: &Insn) -> Set {
    let effects = insn.effects();
    match insn {
        Insn::Unknown { .. } => 0,
        _ => effects.reads.bits() & REGISTERS | if effects.reads_flags { FLAGS } else { 0 },
    }
}

fn writes(insn: &Insn) -> Set {
    let effects = insn.effects();
    match insn {
        // Data processing whose result is in no register has it in the flags: FCMPE, FCCMP.
        Insn::Unknown { .. } if effects.writes == RegSet::EMPTY && effects.vector_writes == VRegSet::EMPTY => FLAGS,
        Insn::Unknown { .. } => 0,
        _ => effects.writes.bits() & REGISTERS | if effects.writes_flags { FLAGS } else { 0 },
    }
}

/// `x9 is live`, `x9, x10 and the flags are live`.
fn names(set: Set, how: &str) -> String {
    let registers = (9..=18).filter(|number| set >> number & 1 == 1);
    let mut names: Vec<String> =
        registers.filter_map(|number| Some(Reg::x(number)?.name(Width::X).to_string())).collect();
    if set & FLAGS != 0 {
        names.push("the flags".to_owned());
    }
    let is_one = names.len() == 1 && set & FLAGS == 0;
    format!("{} {} {how}", names.join(", "), if is_one { "is" } else { "are" })
}
