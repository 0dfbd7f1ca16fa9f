//! Random operations beside a map of every block, which is slow and plain.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Random, TestFileSystem, TestInode, inode_with};
use crate::Status::{Delayed, Hole, Unwritten, UnwrittenDelayed, Written};
use crate::{Allocated, Blocks, Extent, MAX_BLOCKS, Status};

/// How many blocks the operations are about.
const BLOCKS: u32 = 64;

/// How many operations, in all runs together.
const OPERATIONS: u32 = if cfg!(miri) { 96 } else { 1_000_000 };

/// Whether the tree may know less than it was told: memory fails, or the shrinker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    Enough,
    Short,
}

/// An inode, and all that should be known of its blocks.
pub(super) struct Beside {
    file_system: TestFileSystem,
    inode: TestInode,
    /// The first of the blocks.
    base: u32,
    bits: u32,
    known: [Option<Status>; BLOCKS as usize],
    pending: BTreeSet<u32>,
    memory: Memory,
}

impl Beside {
    pub(super) fn new(base: u32, bits: u32, memory: Memory) -> Self {
        let (file_system, inode) = inode_with(bits);
        let known = [None; BLOCKS as usize];
        Self { file_system, inode, base, bits, known, pending: BTreeSet::new(), memory }
    }

    pub(super) fn file_system(&self) -> &TestFileSystem {
        &self.file_system
    }

    /// One operation, with all that can be seen of it.
    pub(super) fn step(&mut self, random: &mut Random) {
        let range = self.any_range(random);
        match random.below(20) {
            0..6 => self.insert(range, random),
            6..8 => self.cache(range, random),
            8..11 => self.insert_delayed(range, random),
            11..14 => self.remove(range),
            14..16 => self.lookup(range.start()),
            16 => self.ask(range),
            17 if random.below(20) == 0 => self.clear(),
            _ if self.memory == Memory::Short => {
                let scan = usize::try_from(random.below(6)).unwrap();
                self.file_system.shrink(scan);
            }
            _ => self.ask(range),
        }
        self.compare();
    }

    fn any_range(&self, random: &mut Random) -> Blocks {
        let first = random.below(BLOCKS);
        let longest = (BLOCKS - first).min(if random.below(8) == 0 { BLOCKS } else { 12 });
        Blocks::new(self.base + first, 1 + random.below(longest)).unwrap()
    }

    /// Many go on from each other on the device.
    fn any_extent(&self, range: Blocks, random: &mut Random) -> Extent {
        let physical = 1000 + u64::from(range.start() - self.base) + if random.below(4) == 0 { 500 } else { 0 };
        let statuses = [Written(physical), Unwritten(physical), UnwrittenDelayed(physical), Hole];
        Extent::new(range, statuses[usize::try_from(random.below(4)).unwrap()]).unwrap()
    }

    fn index(&self, block: u32) -> usize {
        usize::try_from(block - self.base).unwrap()
    }

    fn of(&self, block: u32) -> Option<Status> {
        // Blocks around are nobody's.
        let index = block.checked_sub(self.base).filter(|index| *index < BLOCKS)?;
        self.known[usize::try_from(index).unwrap()]
    }

    fn set(&mut self, extent: Extent) {
        for block in extent.blocks().start()..=extent.blocks().last() {
            self.known[self.index(block)] = extent.status_of(block);
        }
    }

    fn blocks_of(&self, cluster: u32) -> impl Iterator<Item = u32> + use<> {
        let bits = self.bits;
        (0..1_u64 << bits).filter_map(move |index| u32::try_from((u64::from(cluster) << bits) + index).ok())
    }

    fn clusters(&self, range: Blocks) -> impl Iterator<Item = u32> + use<> {
        range.start() >> self.bits..=range.last() >> self.bits
    }

    /// Whether the cluster has reserved blocks among those that are asked for.
    fn has_reserved(&self, cluster: u32, asked: impl Fn(u32) -> bool) -> bool {
        self.blocks_of(cluster).any(|block| asked(block) && self.of(block) == Some(Delayed))
    }

    fn insert(&mut self, range: Blocks, random: &mut Random) {
        let extent = self.any_extent(range, random);
        self.inode.insert(extent);
        self.set(extent);
        if self.bits == 0 {
            return;
        }
        for cluster in self.clusters(range) {
            if !self.has_reserved(cluster, |_| true) {
                self.pending.remove(&cluster);
            } else if extent.status().physical().is_some() {
                self.pending.insert(cluster);
            }
        }
    }

    fn cache(&mut self, range: Blocks, random: &mut Random) {
        let extent = self.any_extent(range, random);
        if extent.status().is_delayed() {
            return;
        }
        self.inode.cache(extent);
        if (range.start()..=range.last()).all(|block| self.of(block).is_none()) {
            self.set(extent);
        }
    }

    fn insert_delayed(&mut self, range: Blocks, random: &mut Random) {
        let allocated = Allocated { first: random.below(4) == 0, last: random.below(4) == 0 };
        self.inode.insert_delayed(range, allocated);
        self.set(Extent::new(range, Delayed).unwrap());
        let ends = [(range.start(), allocated.first), (range.last(), allocated.last)];
        for (block, _) in ends.iter().filter(|(_, is_allocated)| *is_allocated && self.bits > 0) {
            self.pending.insert(block >> self.bits);
        }
    }

    fn remove(&mut self, range: Blocks) {
        let mut given_back = 0;
        for cluster in self.clusters(range) {
            if !self.has_reserved(cluster, |block| !range.contains(block)) {
                let was_reserved = self.has_reserved(cluster, |block| range.contains(block));
                let was_pending = self.pending.remove(&cluster);
                given_back += u32::from(was_reserved && !was_pending);
            }
        }
        for block in range.start()..=range.last() {
            self.known[self.index(block)] = None;
        }
        assert_eq!(self.inode.remove(range), given_back, "{range:?}");
    }

    fn lookup(&mut self, block: u32) {
        let found = self.inode.lookup(block);
        if self.memory == Memory::Enough {
            assert_eq!(found.and_then(|found| found.extent.status_of(block)), self.of(block));
            if let Some(found) = found {
                let next =
                    (found.extent.blocks().last() + 1..self.base + BLOCKS).find(|block| self.of(*block).is_some());
                assert_eq!(found.next, next);
            }
        }
    }

    fn ask(&self, range: Blocks) {
        let inside = |block| range.contains(block);
        let reserved = self.clusters(range).filter(|cluster| self.has_reserved(*cluster, inside)).count();
        assert_eq!(usize::try_from(self.inode.delayed_clusters(range)), Ok(reserved), "{range:?}");
        let is_delayed = |extent: &Extent| extent.status().is_delayed();
        let first = (range.start()..=range.last()).find(|block| self.of(*block).is_some_and(Status::is_delayed));
        let found = self.inode.find(range, is_delayed);
        assert_eq!(found.map(|found| found.blocks().start().max(range.start())), first);
        let cluster = range.start() >> self.bits;
        let is_reserved = |extent: &Extent| extent.status().is_reserved();
        assert_eq!(self.inode.scan_cluster(range.start(), is_reserved), self.has_reserved(cluster, |_| true));
        assert_eq!(self.inode.is_pending(range.start()), self.pending.contains(&cluster));
    }

    fn clear(&mut self) {
        self.inode.clear();
        for known in &mut self.known {
            *known = known.filter(|status| status.is_delayed());
        }
    }

    /// Compares every block, and checks what must hold.
    fn compare(&mut self) {
        self.inode.check().unwrap();
        self.file_system.check().unwrap();
        let mut said = [None; BLOCKS as usize];
        let base = self.base;
        let mut nodes = 0;
        self.inode.for_each(|extent| {
            nodes += 1;
            for block in extent.blocks().start()..=extent.blocks().last() {
                said[usize::try_from(block - base).unwrap()] = extent.status_of(block);
            }
        });
        for (index, (said, known)) in said.iter().zip(&mut self.known).enumerate() {
            if self.memory == Memory::Short && said.is_none() && known.is_some_and(|status| !status.is_delayed()) {
                *known = None;
            }
            assert_eq!(said, known, "block {index}");
        }
        assert_eq!(self.file_system.statistics().nodes, nodes);
        assert_eq!(self.file_system.memory().live(), nodes + u64::try_from(self.pending.len()).unwrap());
    }

    /// Nothing is left once the inode is gone.
    pub(super) fn finish(self) {
        drop(self.inode);
        assert_eq!(self.file_system.memory().live(), 0);
        assert_eq!(Arc::strong_count(&self.file_system), 1);
    }
}

/// Where the blocks are: at a file's beginning, and at the last block that it can have.
pub(super) const BASES: &[u32] = if cfg!(miri) { &[MAX_BLOCKS - BLOCKS] } else { &[0, MAX_BLOCKS - BLOCKS] };

/// The sizes of clusters.
const BITS: &[u32] = if cfg!(miri) { &[2] } else { &[0, 2, 3] };

fn random_operations(memory: Memory) {
    let operations = OPERATIONS / (2 * u32::try_from(BASES.len() * BITS.len()).unwrap());
    for &base in BASES {
        for &bits in BITS {
            let mut beside = Beside::new(base, bits, memory);
            let mut random = Random(u64::from(base) << 8 | u64::from(bits));
            if memory == Memory::Short {
                beside.file_system().memory().fail_often(random.next());
            }
            for _ in 0..operations {
                beside.step(&mut random);
            }
            beside.finish();
        }
    }
}

#[test]
fn the_tree_says_what_a_map_of_all_blocks_says() {
    random_operations(Memory::Enough);
}

#[test]
fn short_memory_and_the_shrinker_lose_only_what_need_not_be_kept() {
    random_operations(Memory::Short);
}
