//! Follows one function with what is known of its registers and stack, until every place knows what all paths to it agree in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fentry::insn::Flow as InsnFlow;
use fentry::insn::{Branch, Effects, Insn, Reg};

use super::jump::{Jump, Jumps, Why};
use super::onward::{Onward, Rules, Targets};
use super::reach::comes_back;
use super::tables;
use crate::program::{FunctionId, InsnId};
use crate::value::{CallerReg, Context, Machine, Shapes, Value};

/// No block begins here.
const NO_BLOCK: u32 = u32::MAX;

/// Where a block begins, and what is known there.
#[derive(Debug)]
struct Start {
    at: InsnId,
    known: Option<Machine>,
    is_queued: bool,
}

/// Follows functions, one at a time.
#[derive(Debug)]
pub(crate) struct Walker<'a> {
    rules: Rules<'a>,
    returns: &'a [bool],
    /// Whether jumps to registers are still to be found out.
    resolves: bool,
    shapes: Shapes,
    /// The function's ranges, each with the number of words before it.
    ranges: Vec<(std::ops::Range<u32>, usize)>,
    /// For each word of the function, the block that begins there.
    block_at: Vec<u32>,
    starts: Vec<Start>,
    queue: BinaryHeap<Reverse<(InsnId, u32)>>,
    /// Blocks that were found while others had been followed through them.
    found_late: bool,
    jumps: Jumps,
    function: Option<FunctionId>,
}

/// An instruction, and what is known before it.
pub(crate) struct Visit<'a> {
    pub(crate) id: InsnId,
    pub(crate) known: &'a Machine,
    /// Whether it is a block's first, so that what is known has not come from the one before it in the text.
    pub(crate) begins_block: bool,
}

/// What control goes along: an edge between blocks, or into the next one.
pub(crate) struct Edge<'a> {
    pub(crate) from: InsnId,
    pub(crate) to: InsnId,
    pub(crate) known: &'a Machine,
}

impl<'a> Walker<'a> {
    pub(super) fn new(rules: Rules<'a>, returns: &'a [bool], resolves: bool) -> Self {
        Self {
            rules,
            returns,
            resolves,
            shapes: Shapes::default(),
            ranges: Vec::new(),
            block_at: Vec::new(),
            starts: Vec::new(),
            queue: BinaryHeap::new(),
            found_late: false,
            jumps: Jumps::new(),
            function: None,
        }
    }

    /// Where the function's jumps to registers go.
    pub(super) fn jumps_of(mut self, function: FunctionId) -> Jumps {
        self.walk(function);
        self.jumps
    }

    /// Follows a function to its fixed point.
    pub(crate) fn walk(&mut self, function: FunctionId) {
        let program = self.rules.program;
        self.function = Some(function);
        self.ranges.clear();
        let mut words = 0;
        for range in program.ranges_of(function) {
            let len = range.len();
            self.ranges.push((range, words));
            words += len;
        }
        self.block_at.clear();
        self.block_at.resize(words, NO_BLOCK);
        self.starts.clear();
        self.add_blocks(function);
        loop {
            self.found_late = false;
            self.jumps.clear();
            for start in &mut self.starts {
                start.known = None;
                start.is_queued = false;
            }
            let entry = program.function(function).entry();
            let at_entry = Machine::at_entry(entry, self.resolves);
            self.arrive(entry, &at_entry);
            while let Some(Reverse((at, block))) = self.queue.pop() {
                let start = &mut self.starts[block as usize];
                start.is_queued = false;
                if let Some(known) = start.known.clone() {
                    self.follow(at, known, |_| {}, |this, [_, to], known| this.arrive(to, known));
                }
            }
            if !self.found_late {
                return;
            }
        }
    }

    /// Begins a block at the entry and wherever a direct jump goes.
    fn add_blocks(&mut self, function: FunctionId) {
        let program = self.rules.program;
        self.block(program.function(function).entry());
        for range in program.ranges_of(function) {
            for id in range.map(InsnId::new) {
                let word = program.word(id);
                if !is_direct_jump(word) || program.is_data(id) {
                    continue;
                }
                let onward = self.rules.onward(id, &Insn::decode(word).effects());
                for to in onward.targets.iter() {
                    self.block(to);
                }
            }
        }
    }

    /// The block that begins at an instruction of the function; a new one if there is none.
    fn block(&mut self, at: InsnId) -> Option<usize> {
        let word = self.word_of(at)?;
        if self.block_at[word] == NO_BLOCK {
            self.block_at[word] = self.starts.len() as u32;
            self.starts.push(Start { at, known: None, is_queued: false });
            self.found_late = true;
        }
        Some(self.block_at[word] as usize)
    }

    /// An instruction's place among the function's words.
    fn word_of(&self, at: InsnId) -> Option<usize> {
        let index = at.index() as u32;
        let (range, before) = self.ranges.iter().find(|(range, _)| range.contains(&index))?;
        Some(before + (index - range.start) as usize)
    }

    fn begins_block(&self, at: InsnId) -> bool {
        self.word_of(at).is_some_and(|word| self.block_at[word] != NO_BLOCK)
    }

    /// Takes in what is known on one more path to a block.
    fn arrive(&mut self, to: InsnId, known: &Machine) {
        let Some(block) = self.block(to) else { return };
        let start = &mut self.starts[block];
        let is_new = match &mut start.known {
            None => {
                start.known = Some(known.clone());
                true
            }
            Some(before) => before.join(known, to),
        };
        if is_new && !start.is_queued {
            start.is_queued = true;
            self.queue.push(Reverse((start.at, block as u32)));
        }
    }

    /// Follows a block to its end; `visit` is told of each instruction and what is known before it, `arrive` of what it goes on
    /// to, and from which instruction.
    fn follow(
        &mut self,
        from: InsnId,
        mut known: Machine,
        mut visit: impl FnMut(Visit<'_>),
        mut arrive: impl FnMut(&mut Self, [InsnId; 2], &Machine),
    ) {
        let program = self.rules.program;
        let mut id = from;
        loop {
            visit(Visit { id, known: &known, begins_block: id == from });
            let insn = program.insn(id);
            let effects = insn.effects();
            let resolved = self.resolve(id, &effects, &known);
            known.step(id, &insn, &effects, &mut Context { program, shapes: &mut self.shapes });
            let onward = match (&resolved, effects.flow) {
                (Some(jump), InsnFlow::IndirectJump(reg)) => {
                    let nowhere = Onward { next: None, targets: Targets::None, call: None, exits: [None, None] };
                    self.rules.by_register(id, reg, jump, nowhere)
                }
                _ => self.rules.onward(id, &effects),
            };
            if let Some(callee) = onward.call {
                if !comes_back(&self.rules, self.returns, callee) {
                    return;
                }
                known.after_call(id, program);
            }
            let condition = match insn {
                Insn::Branch(Branch::BCond { cond, .. }) if !cond.is_always() => Some(cond),
                _ => None,
            };
            for to in onward.targets.iter() {
                match condition {
                    Some(condition) => {
                        let mut known = known.clone();
                        if known.refine(condition) {
                            arrive(self, [id, to], &known);
                        }
                    }
                    None => arrive(self, [id, to], &known),
                }
            }
            let Some(next) = onward.next else { return };
            if condition.is_some_and(|condition| !known.refine(condition.inverted())) {
                return;
            }
            if self.begins_block(next) {
                arrive(self, [id, next], &known);
                return;
            }
            id = next;
        }
    }

    /// Finds out where a jump to a register goes.
    fn resolve(&mut self, id: InsnId, effects: &Effects, known: &Machine) -> Option<Jump> {
        let InsnFlow::IndirectJump(reg) = effects.flow else { return None };
        if !self.resolves {
            return None;
        }
        let jump = self.where_to(reg, known);
        self.jumps.insert(id, jump.clone());
        Some(jump)
    }

    fn where_to(&self, reg: Reg, known: &Machine) -> Jump {
        let Some(function) = self.function else {
            return Jump::NotFollowed(Why::Register(reg));
        };
        let shape = match reg.or_sp().map(|reg| known.register(reg)) {
            Some(Value::Const(address)) => return Jump::Always(address),
            Some(Value::Target(shape)) => self.shapes.get(shape),
            Some(Value::Element(shape)) => self.shapes.get(shape).filter(|shape| shape.log2_bytes == 3),
            _ => None,
        };
        match shape.map(|shape| tables::read(&self.rules, function, shape)) {
            Some(jump @ (Jump::Table(_) | Jump::NotFollowed(Why::Unbounded { .. } | Why::NoElement { .. }))) => jump,
            // A table of functions, one of which is called in the last place.
            Some(_) if shape.is_some_and(|shape| shape.log2_bytes == 3) && has_callers_frame(known) => Jump::Sibling,
            Some(jump) => jump,
            None if has_callers_frame(known) => Jump::Sibling,
            None => Jump::NotFollowed(Why::Register(reg)),
        }
    }

    /// Tells of every instruction of the function that was followed what is known before it, block by block, and of every
    /// edge what is known along it and, where it ends, of all paths together.
    pub(crate) fn each(&mut self, mut visit: impl FnMut(Visit<'_>), mut along: impl FnMut(&Edge<'_>, &Machine)) {
        let mut blocks: Vec<usize> = (0..self.starts.len()).collect();
        blocks.sort_unstable_by_key(|block| self.starts[*block].at);
        for block in blocks {
            let Start { at, known: Some(known), .. } = &self.starts[block] else { continue };
            let (at, known) = (*at, known.clone());
            let mut edges = Vec::new();
            self.follow(at, known, &mut visit, |_, edge, known| edges.push((edge, known.clone())));
            for ([from, to], known) in &edges {
                let block = self.word_of(*to).map(|word| self.block_at[word]);
                let start = block.and_then(|block| self.starts.get(block as usize));
                if let Some(joined) = start.and_then(|start| start.known.as_ref()) {
                    along(&Edge { from: *from, to: *to, known }, joined);
                }
            }
        }
    }
}

/// Whether SP and the registers that a function keeps for its caller are as at its entry.
fn has_callers_frame(known: &Machine) -> bool {
    known.sp() == Some(0)
        && CallerReg::all().filter_map(CallerReg::as_general).all(|reg| {
            let value = reg.or_sp().map(|reg| known.register(reg));
            matches!(value, Some(Value::Caller(kept, _)) if kept.as_general() == Some(reg))
        })
}

/// B, B.cond, CBZ, CBNZ, TBZ, TBNZ, by the word's top byte.
fn is_direct_jump(word: u32) -> bool {
    matches!(word >> 24, 0x14..=0x17 | 0x54 | 0x34..=0x37 | 0xb4..=0xb7)
}
