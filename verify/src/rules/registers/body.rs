//! What a function's instructions do with these registers.

use std::collections::HashMap;

use fentry::insn::{DataImm, DataRegister, Effects, HalfWord, Insn, MemoryUse, MoveWide, Place, RegSet, VRegSet};

use super::set::{FLAGS, REGISTERS, Set};
use crate::flow::{Block, Callee, Exit, Flow, Graph, Onward};
use crate::program::{FunctionId, InsnId};

/// A function's instructions, as far as they matter here.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) graph: Graph,
    /// As many as the graph has.
    pub(super) blocks: Vec<Vec<Line>>,
}

/// What one instruction does, if it does anything.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: InsnId,
    pub(super) reads: Set,
    pub(super) writes: Set,
    /// What of that it stores.
    stores: Set,
    /// What was written on some path that leads here, with no call since; or to another store of the same words.
    pub(super) fresh: Set,
    /// What was written on all paths that lead here, with no call and no read since.
    pub(super) unread: Set,
    /// What is on some path as it was at the entry, with no call since.
    pub(super) untouched: Set,
    /// Whom it calls, or jumps to at the end.
    pub(super) callees: Vec<FunctionId>,
    /// Whether it goes to what is not known.
    pub(super) is_open: bool,
    /// The instruction behind, if it is a call that comes back.
    pub(super) comes_back_to: Option<InsnId>,
}

impl Line {
    fn does_anything(&self) -> bool {
        self.reads | self.writes != 0 || !self.callees.is_empty() || self.is_open || self.comes_back_to.is_some()
    }
}

impl Body {
    pub(super) fn of(flow: &Flow<'_>, function: FunctionId) -> Self {
        let graph = flow.graph(function);
        let line = |id: InsnId| {
            let insn = flow.program().insn(id);
            let effects = insn.effects();
            let onward = flow.onward_by(id, &effects);
            let mut line = Line {
                id,
                reads: reads(&insn, &effects),
                writes: writes(&insn, &effects),
                stores: stores(&effects),
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
            lines.retain(Line::does_anything);
            lines
        };
        let blocks = graph.blocks().iter().map(lines).collect();
        let mut body = Self { graph, blocks };
        body.find_fresh();
        body.join_copies(|id| flow.program().word(id));
        body.find_unread();
        body
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &Line> {
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

    /// Takes stores of the same registers to the same place as one: each ends a copy of a path on which compilers have it once.
    fn join_copies(&mut self, word: impl Fn(InsnId) -> u32) {
        let mut fresh: HashMap<u32, Set> = HashMap::new();
        for line in self.lines().filter(|line| line.stores != 0) {
            *fresh.entry(word(line.id)).or_default() |= line.fresh & line.stores;
        }
        for line in self.blocks.iter_mut().flatten().filter(|line| line.stores != 0) {
            line.fresh |= fresh.get(&word(line.id)).copied().unwrap_or(0);
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

fn reads(insn: &Insn, effects: &Effects) -> Set {
    match insn {
        Insn::Unknown { .. } => 0,
        _ => effects.reads.bits() & REGISTERS | if effects.reads_flags { FLAGS } else { 0 },
    }
}

/// The registers that are stored beside a base, and are not that.
fn stores(effects: &Effects) -> Set {
    let (MemoryUse::Store(_), Place::Beside(base, _), Some(moved)) = (effects.memory, effects.place, effects.moved)
    else {
        return 0;
    };
    let stored = |register| match register {
        DataRegister::General(reg) if !reg.is_zero() => 1 << reg.number(),
        DataRegister::General(_) | DataRegister::Vector(_) => 0,
    };
    (stored(moved.first) | moved.second.map_or(0, stored)) & REGISTERS & !(1 << base.number())
}

fn writes(insn: &Insn, effects: &Effects) -> Set {
    match insn {
        // Data processing whose result is in no register has it in the flags: FCMPE, FCCMP.
        Insn::Unknown { .. } if effects.writes == RegSet::EMPTY && effects.vector_writes == VRegSet::EMPTY => FLAGS,
        Insn::Unknown { .. } => 0,
        _ => effects.writes.bits() & REGISTERS | if effects.writes_flags { FLAGS } else { 0 },
    }
}
