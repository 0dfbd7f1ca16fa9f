//! What stands in memory: nodes, each an extent or a pending reservation, and how trees are made of them.

use core::cell::Cell;

use intrusive_collections::{KeyAdapter, RBTreeLink, UnsafeRef, intrusive_adapter};

use crate::extent::{Blocks, Extent, Status};

/// The bits of the last word above the physical block.
const WRITTEN: u64 = 1 << 59;
const UNWRITTEN: u64 = 1 << 60;
const DELAYED: u64 = 1 << 61;
const HOLE: u64 = 1 << 62;
const REFERENCED: u64 = 1 << 63;
const PHYSICAL: u64 = WRITTEN - 1;

/// An extent in a tree: 40 bytes, as `struct extent_status` has them.
///
/// ```text
///   0   the tree's links (24 bytes)
///   24  the first logical block
///   28  how many blocks: what the report of the use after free says was read
///   32  the physical block (59 bits), written, unwritten, delayed, hole, referenced
/// ```
#[derive(Debug, Default)]
#[repr(C)]
pub struct ExtentNode {
    link: RBTreeLink,
    start: Cell<u32>,
    len: Cell<u32>,
    word: Cell<u64>,
}

const _: () = assert!(size_of::<ExtentNode>() == size_of::<[usize; 3]>() + 16);

intrusive_adapter!(pub(crate) ExtentAdapter = UnsafeRef<ExtentNode>: ExtentNode { link => RBTreeLink });

impl KeyAdapter<'_> for ExtentAdapter {
    type Key = u32;

    fn get_key(&self, node: &ExtentNode) -> u32 {
        node.start.get()
    }
}

impl ExtentNode {
    /// What it says. Its length is not 0.
    pub(crate) fn extent(&self) -> Extent {
        let blocks = Blocks::between(self.start.get(), self.start.get() + (self.len.get() - 1));
        let word = self.word.get();
        let physical = word & PHYSICAL;
        let status = match word & (WRITTEN | UNWRITTEN | DELAYED | HOLE) {
            WRITTEN => Status::Written(physical),
            UNWRITTEN => Status::Unwritten(physical),
            DELAYED => Status::Delayed,
            HOLE => Status::Hole,
            _ => Status::UnwrittenDelayed(physical),
        };
        Extent::of_node(blocks, status)
    }

    /// Says this from now on; whether it was referenced stays.
    pub(crate) fn set(&self, extent: Extent) {
        self.start.set(extent.blocks().start());
        self.len.set(extent.blocks().len());
        let status = match extent.status() {
            Status::Written(physical) => WRITTEN | physical,
            Status::Unwritten(physical) => UNWRITTEN | physical,
            Status::Delayed => DELAYED | PHYSICAL,
            Status::UnwrittenDelayed(physical) => UNWRITTEN | DELAYED | physical,
            Status::Hole => HOLE | PHYSICAL,
        };
        self.word.set(status | self.word.get() & REFERENCED);
    }

    /// The first block.
    pub(crate) fn start(&self) -> u32 {
        self.start.get()
    }

    /// How many blocks; 0 where it was never used.
    pub(crate) fn len(&self) -> u32 {
        self.len.get()
    }

    /// The last block. Its length is not 0.
    pub(crate) fn last(&self) -> u32 {
        self.start.get() + (self.len.get() - 1)
    }

    /// Whether it was looked up since the shrinker came by.
    pub(crate) fn is_referenced(&self) -> bool {
        self.word.get() & REFERENCED != 0
    }

    /// Notes that it was looked up.
    pub(crate) fn reference(&self) {
        self.word.set(self.word.get() | REFERENCED);
    }

    /// Takes its second chance.
    pub(crate) fn unreference(&self) {
        self.word.set(self.word.get() & !REFERENCED);
    }
}

/// A pending reservation in its tree: a cluster that is allocated and has delayed blocks besides.
#[derive(Debug, Default)]
pub struct PendingNode {
    link: RBTreeLink,
    cluster: Cell<u32>,
}

intrusive_adapter!(pub(crate) PendingAdapter = UnsafeRef<PendingNode>: PendingNode { link => RBTreeLink });

impl KeyAdapter<'_> for PendingAdapter {
    type Key = u32;

    fn get_key(&self, node: &PendingNode) -> u32 {
        node.cluster.get()
    }
}

impl PendingNode {
    /// The cluster.
    pub(crate) fn cluster(&self) -> u32 {
        self.cluster.get()
    }

    /// Is about this cluster from now on, before it is in a tree.
    pub(crate) fn set_cluster(&self, cluster: u32) {
        self.cluster.set(cluster);
    }
}
