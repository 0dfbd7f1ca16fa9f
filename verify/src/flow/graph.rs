//! A function's blocks and the edges between them, both ways: for what has to be worked out against the direction of control.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::Flow;
use crate::program::{FunctionId, InsnId};

/// Instructions that follow each other without a jump into or out of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its first instruction and its last.
    pub insns: RangeInclusive<InsnId>,
    /// The numbers of the blocks that can be next.
    pub after: Vec<usize>,
    /// The numbers of the blocks that can be before.
    pub before: Vec<usize>,
}

/// The blocks of a function that can be reached, by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    blocks: Vec<Block>,
    entry: usize,
}

impl Flow<'_> {
    /// The blocks of a function, its parts included.
    pub fn graph(&self, function: FunctionId) -> Graph {
        let program = self.program;
        let reached = || program.of_function(function).filter(|id| self.is_reached(*id));
        let entry = program.function(function).entry();
        let mut starts = vec![entry];
        let mut lasts = Vec::new();
        for id in reached() {
            let onward = self.onward(id);
            let is_last = onward.targets.iter().next().is_some() || onward.next.is_none();
            starts.extend(onward.targets.iter());
            if is_last {
                lasts.push(id);
                starts.extend(onward.next);
            }
        }
        starts.sort_unstable();
        starts.dedup();
        starts.retain(|id| self.is_reached(*id));
        let mut blocks: Vec<Block> = Vec::with_capacity(starts.len());
        for (index, start) in starts.iter().enumerate() {
            // A block ends where it jumps, or before the next one.
            let last = lasts.get(lasts.partition_point(|last| last < start)).copied();
            let before_next = starts.get(index + 1).and_then(|next| program.prev_in_section(*next));
            let end = match (last, before_next) {
                (Some(last), Some(before)) if before >= *start => last.min(before),
                (Some(last), _) => last,
                (None, Some(before)) if before >= *start => before,
                (None, _) => *start,
            };
            blocks.push(Block { insns: *start..=end, after: Vec::new(), before: Vec::new() });
        }
        for from in 0..blocks.len() {
            let after: Vec<usize> = self
                .onward(*blocks[from].insns.end())
                .successors()
                .filter_map(|to| blocks.binary_search_by_key(&to, |block| *block.insns.start()).ok())
                .collect();
            for to in &after {
                blocks[*to].before.push(from);
            }
            blocks[from].after = after;
        }
        let entry = blocks.iter().position(|block| *block.insns.start() == entry).unwrap_or(0);
        Graph { blocks, entry }
    }
}

impl Graph {
    /// The blocks, by address.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The number of the block that begins at the function's entry.
    pub fn entry(&self) -> usize {
        self.entry
    }

    /// The number of the block that an instruction is in.
    pub fn block_of(&self, id: InsnId) -> Option<usize> {
        let after = self.blocks.partition_point(|block| *block.insns.start() <= id);
        let index = after.checked_sub(1)?;
        self.blocks[index].insns.contains(&id).then_some(index)
    }

    /// A shortest way from the function's entry to an instruction: the first instruction of each block on it, then the
    /// instruction itself. Empty where there is no way.
    pub fn path_to(&self, id: InsnId) -> Vec<InsnId> {
        let Some(to) = self.block_of(id) else { return Vec::new() };
        let mut came_from: Vec<Option<usize>> = vec![None; self.blocks.len()];
        let mut queue = VecDeque::from([self.entry]);
        while let Some(block) = queue.pop_front() {
            if block == to {
                break;
            }
            for after in &self.blocks[block].after {
                if came_from[*after].is_none() && *after != self.entry {
                    came_from[*after] = Some(block);
                    queue.push_back(*after);
                }
            }
        }
        if to != self.entry && came_from[to].is_none() {
            return Vec::new();
        }
        let mut path: Vec<InsnId> = std::iter::successors(Some(to), |block| came_from[*block])
            .map(|block| *self.blocks[block].insns.start())
            .collect();
        path.reverse();
        if path.last() != Some(&id) {
            path.push(id);
        }
        path
    }
}
