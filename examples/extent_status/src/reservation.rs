//! Reservations: how much space is promised to delayed blocks.
//!
//! Space is allocated by the cluster: a power of two of blocks. A cluster with delayed blocks holds one reservation, however
//! many of them it has. Where a cluster is allocated already and has delayed blocks besides, no space need be promised: that
//! is a *pending reservation*, and these are kept in a tree of their own.

use alloc::sync::Arc;
use core::ops::RangeInclusive;

use intrusive_collections::{Bound, RBTree};

use crate::extent::{Blocks, Extent, MAX_BLOCKS};
use crate::memory::{NodeMemory, Owned};
use crate::node::{PendingAdapter, PendingNode};
use crate::tree::{NoMemory, Tree};

/// How many blocks a cluster has, as a power of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clusters {
    bits: u32,
}

impl Clusters {
    /// Clusters of 2^`bits` blocks; none for more than 2^31.
    #[must_use]
    pub const fn new(bits: u32) -> Option<Self> {
        if bits < u32::BITS { Some(Self { bits }) } else { None }
    }

    /// Whether a cluster is more than a block, so that delayed and allocated blocks can meet in one.
    pub(crate) fn are_shared(self) -> bool {
        self.bits > 0
    }

    /// The cluster of a block.
    #[must_use]
    pub const fn of(self, block: u32) -> u32 {
        block >> self.bits
    }

    /// The clusters that have a block of the range.
    pub(crate) fn touched(self, blocks: Blocks) -> RangeInclusive<u32> {
        self.of(blocks.start())..=self.of(blocks.last())
    }

    /// The blocks of the cluster that this block is in.
    pub(crate) fn around(self, block: u32) -> Blocks {
        let mask = (1 << self.bits) - 1;
        Blocks::between(block & !mask, (block | mask).min(MAX_BLOCKS - 1))
    }

    /// The blocks of a cluster.
    pub(crate) fn blocks(self, cluster: u32) -> Blocks {
        self.around(cluster << self.bits)
    }

    /// The blocks in front of the range, in its first cluster.
    fn left_of(self, blocks: Blocks) -> Option<Blocks> {
        let first = self.around(blocks.start()).start();
        (first < blocks.start()).then(|| Blocks::between(first, blocks.start() - 1))
    }

    /// The blocks behind the range, in its last cluster.
    fn right_of(self, blocks: Blocks) -> Option<Blocks> {
        let last = self.around(blocks.last()).last();
        (blocks.last() < last).then(|| Blocks::between(blocks.last() + 1, last))
    }
}

/// Which clusters at the ends of the range have reserved blocks outside of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outside {
    pub(crate) left: bool,
    pub(crate) right: bool,
}

/// An inode's pending reservations.
///
/// # Invariants
/// Every node is from `memory`.
pub(crate) struct Pending<M: NodeMemory> {
    nodes: RBTree<PendingAdapter>,
    memory: Arc<M>,
}

// SAFETY: its nodes are reached through the tree alone, so that they go with it; the memory, to which another CPU may give them
// back then, is shared.
unsafe impl<M: NodeMemory + Send + Sync> Send for Pending<M> {}

impl<M: NodeMemory> Pending<M> {
    pub(crate) fn new(memory: Arc<M>) -> Self {
        Self { nodes: RBTree::new(PendingAdapter::new()), memory }
    }

    /// The clusters, in order.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = u32> + '_ {
        self.nodes.iter().map(PendingNode::cluster)
    }

    /// Adds a cluster, with a node of the spare ones or the slab's.
    pub(crate) fn insert(
        &mut self,
        cluster: u32,
        spare: &mut [Option<Owned<'_, PendingNode, M>>],
    ) -> Result<(), NoMemory> {
        let mut cursor = self.nodes.upper_bound_mut(Bound::Included(&cluster));
        if cursor.get().is_some_and(|node| node.cluster() == cluster) {
            return Ok(());
        }
        let spare = spare.iter_mut().find_map(Option::take);
        let node = spare.or_else(|| Owned::try_new(&*self.memory)).ok_or(NoMemory)?;
        node.set_cluster(cluster);
        cursor.insert_after(node.into_tree());
        Ok(())
    }

    /// Removes clusters, and returns how many there were.
    pub(crate) fn remove(&mut self, clusters: RangeInclusive<u32>) -> u32 {
        let mut cursor = self.nodes.lower_bound_mut(Bound::Included(clusters.start()));
        let mut removed = 0;
        while cursor.get().is_some_and(|node| node.cluster() <= *clusters.end()) {
            if let Some(node) = cursor.remove() {
                // SAFETY: by the invariant it is from the memory, and it is out of the tree.
                drop(unsafe { Owned::from_tree(node, &*self.memory) });
                removed += 1;
            }
        }
        removed
    }
}

impl<M: NodeMemory> Drop for Pending<M> {
    fn drop(&mut self) {
        self.remove(0..=u32::MAX);
    }
}

impl<M: NodeMemory> Tree<M> {
    fn has_reserved(&self, blocks: Option<Blocks>) -> bool {
        blocks.is_some_and(|blocks| self.overlapping(blocks).any(|extent| extent.status().is_reserved()))
    }

    /// Which clusters at the range's ends have reserved blocks outside of it.
    pub(crate) fn reserved_outside(&self, blocks: Blocks, clusters: Clusters) -> Outside {
        let (left, right) = (clusters.left_of(blocks), clusters.right_of(blocks));
        Outside { left: self.has_reserved(left), right: self.has_reserved(right) }
    }

    /// The clusters of the range that have no reserved blocks outside of it.
    pub(crate) fn clusters_inside(&self, blocks: Blocks, clusters: Clusters) -> Option<RangeInclusive<u32>> {
        let Outside { left, right } = self.reserved_outside(blocks, clusters);
        let (first, last) = clusters.touched(blocks).into_inner();
        let (first, last) = (first + u32::from(left), last.checked_sub(u32::from(right))?);
        (first <= last).then_some(first..=last)
    }

    /// How many of these clusters have reserved blocks in the range. One that two extents share is one.
    pub(crate) fn reserved_clusters(&self, blocks: Blocks, among: RangeInclusive<u32>, clusters: Clusters) -> u32 {
        let (mut uncounted, last) = among.into_inner();
        let mut count = 0;
        let is_reserved = |extent: &Extent| extent.status().is_reserved();
        for extent in self.overlapping(blocks).filter(is_reserved) {
            let Some(inside) = extent.blocks().intersection(blocks) else { continue };
            let (from, to) = clusters.touched(inside).into_inner();
            let (from, to) = (from.max(uncounted), to.min(last));
            if from <= to {
                count += to - from + 1;
                uncounted = to + 1;
            }
        }
        count
    }
}
