//! One inode's extents: ordered, without overlap, and no two neighbours that could be one.
//!
//! Only [`insert`](Tree::insert) and the split in [`remove`](Tree::remove) need memory. They take a spare node that the caller
//! brings, or else ask the slab. Without either, an extent that must be kept makes them fail with nothing changed; any other
//! is left out, since the file's own metadata says the same.

use alloc::sync::Arc;
use core::fmt;

use intrusive_collections::{Bound, RBTree, UnsafeRef};

use crate::extent::{Blocks, Extent, MAX_BLOCKS};
use crate::memory::{NodeMemory, Owned};
use crate::node::{ExtentAdapter, ExtentNode};

/// A node for the tree, made before the lock was taken; taken out where it is used.
pub(crate) type Spare<'m, M> = Option<Owned<'m, ExtentNode, M>>;

/// There was no memory for what must be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoMemory;

/// A found extent, and where the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The extent.
    pub extent: Extent,
    /// The first block of the next extent in the tree.
    pub next: Option<u32>,
}

/// An inode's extents.
///
/// # Invariants
/// - Every node is from `memory`.
/// - `cached` is a node of `nodes`, or none.
pub(crate) struct Tree<M: NodeMemory> {
    nodes: RBTree<ExtentAdapter>,
    /// The node that was used last (`cache_es`).
    cached: Option<UnsafeRef<ExtentNode>>,
    /// How many nodes.
    all: u32,
    /// How many nodes the shrinker may take: those that aren't delayed.
    shrinkable: u32,
    /// The block from which the shrinker goes on.
    shrink_from: u32,
    memory: Arc<M>,
}

// SAFETY: its nodes are reached through the tree alone, `cached` included, so that they go with it; the memory, to which another
// CPU may give them back then, is shared.
unsafe impl<M: NodeMemory + Send + Sync> Send for Tree<M> {}

impl<M: NodeMemory> Tree<M> {
    pub(crate) fn new(memory: Arc<M>) -> Self {
        Self { nodes: RBTree::new(ExtentAdapter::new()), cached: None, all: 0, shrinkable: 0, shrink_from: 0, memory }
    }

    /// How many nodes.
    pub(crate) fn all(&self) -> u32 {
        self.all
    }

    /// How many nodes the shrinker may take.
    pub(crate) fn shrinkable(&self) -> u32 {
        self.shrinkable
    }

    /// The nodes, in order.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &ExtentNode> {
        self.nodes.iter()
    }

    /// The cached node.
    pub(crate) fn cached(&self) -> Option<&ExtentNode> {
        self.cached.as_deref()
    }

    /// The extents that have a block in the range, whole, in order.
    pub(crate) fn overlapping(&self, blocks: Blocks) -> impl Iterator<Item = Extent> + '_ {
        let mut cursor = self.nodes.upper_bound(Bound::Included(&blocks.start()));
        if cursor.get().is_none_or(|node| node.last() < blocks.start()) {
            cursor.move_next();
        }
        core::iter::from_fn(move || {
            let extent = cursor.get().filter(|node| node.start() <= blocks.last())?.extent();
            cursor.move_next();
            Some(extent)
        })
    }

    /// The extent at a block, which counts as looked up.
    pub(crate) fn lookup(&mut self, block: u32) -> Option<Found> {
        let cached = self.cached.as_ref().filter(|node| node.start() <= block && block <= node.last());
        let cursor = match cached {
            // SAFETY: by the invariant it is a node of this tree.
            Some(node) => unsafe { self.nodes.cursor_from_ptr(&raw const **node) },
            None => self.nodes.upper_bound(Bound::Included(&block)),
        };
        let node = cursor.get().filter(|node| block <= node.last())?;
        node.reference();
        let found = Found { extent: node.extent(), next: cursor.peek_next().get().map(ExtentNode::start) };
        // INVARIANT: the cursor is at a node of the tree.
        self.cached = cursor.clone_pointer();
        Some(found)
    }

    /// Inserts an extent whose blocks are in no other, joined with the neighbours that it goes on from or that go on from it.
    ///
    /// Fails where it must be kept and there is no memory. One that need not be kept is left out then.
    pub(crate) fn insert(&mut self, extent: Extent, spare: &mut Spare<'_, M>) -> Result<(), NoMemory> {
        let memory = &*self.memory;
        let mut cursor = self.nodes.upper_bound_mut(Bound::Included(&extent.blocks().start()));
        if let Some((left, joined)) = cursor.get().and_then(|left| Some((left, left.extent().joined(extent)?))) {
            left.set(joined);
            // INVARIANT: a node of the tree.
            self.cached = cursor.as_cursor().clone_pointer();
            let next = cursor.peek_next();
            if let Some((right, whole)) = next.get().and_then(|right| Some((right, joined.joined(right.extent())?))) {
                if right.is_referenced() {
                    left.reference();
                }
                left.set(whole);
                cursor.move_next();
                let shrinkable = u32::from(!whole.status().is_delayed());
                if let Some(right) = cursor.remove() {
                    // SAFETY: by the invariant it is from the memory; it is out of the tree, and the cached one is to its left.
                    drop(unsafe { Owned::from_tree(right, memory) });
                    self.all -= 1;
                    self.shrinkable -= shrinkable;
                }
            }
            return Ok(());
        }
        let next = cursor.peek_next();
        if let Some((right, joined)) = next.get().and_then(|right| Some((right, extent.joined(right.extent())?))) {
            right.set(joined);
            // INVARIANT: a node of the tree.
            self.cached = next.clone_pointer();
            return Ok(());
        }
        let Some(node) = spare.take().or_else(|| Owned::try_new(memory)) else {
            return if extent.status().is_delayed() { Err(NoMemory) } else { Ok(()) };
        };
        node.set(extent);
        cursor.insert_after(node.into_tree());
        cursor.move_next();
        // INVARIANT: a node of the tree.
        self.cached = cursor.as_cursor().clone_pointer();
        self.all += 1;
        self.shrinkable += u32::from(!extent.status().is_delayed());
        Ok(())
    }

    /// Removes what is said of the blocks.
    ///
    /// Blocks inside one extent split it, which takes a node. It fails, with nothing changed, where the extent must be kept and
    /// there is no memory; of one that need not be kept the right part is left out then.
    pub(crate) fn remove(&mut self, blocks: Blocks, spare: &mut Spare<'_, M>) -> Result<(), NoMemory> {
        let memory = &*self.memory;
        // INVARIANT: none, before any node goes.
        self.cached = None;
        let mut cursor = self.nodes.upper_bound_mut(Bound::Included(&blocks.start()));
        if cursor.get().is_none_or(|node| node.last() < blocks.start()) {
            cursor.move_next();
        }
        if let Some(node) = cursor.get().filter(|node| node.start() < blocks.start()) {
            let (whole, last) = (node.extent(), node.last());
            node.set(whole.before(blocks.start()));
            if last > blocks.last() {
                let is_delayed = whole.status().is_delayed();
                let Some(right) = spare.take().or_else(|| Owned::try_new(memory)) else {
                    if is_delayed {
                        node.set(whole);
                        return Err(NoMemory);
                    }
                    return Ok(());
                };
                right.set(whole.from(blocks.last() + 1));
                if node.is_referenced() {
                    right.reference();
                }
                cursor.insert_after(right.into_tree());
                self.all += 1;
                self.shrinkable += u32::from(!is_delayed);
                return Ok(());
            }
            cursor.move_next();
        }
        while let Some(covered) = cursor.get().filter(|node| node.last() <= blocks.last()) {
            self.shrinkable -= u32::from(!covered.extent().status().is_delayed());
            self.all -= 1;
            if let Some(covered) = cursor.remove() {
                // SAFETY: by the invariant it is from the memory; it is out of the tree, and not cached.
                drop(unsafe { Owned::from_tree(covered, memory) });
            }
        }
        if let Some(node) = cursor.get().filter(|node| node.start() <= blocks.last()) {
            node.set(node.extent().from(blocks.last() + 1));
        }
        Ok(())
    }

    /// Removes nodes that need not be kept, of the next `scan` nodes at most, and counts `scan` down by those that it has looked
    /// at. Returns how many were removed.
    ///
    /// It goes on where it stopped the last time, and comes round once. One that was referenced since then is only marked as
    /// not.
    pub(crate) fn reclaim(&mut self, scan: &mut usize) -> usize {
        // INVARIANT: none, before any node goes.
        self.cached = None;
        let from = self.shrink_from;
        let behind = self.reclaim_between(from, MAX_BLOCKS - 1, scan);
        match from.checked_sub(1) {
            Some(before) if *scan > 0 => behind + self.reclaim_between(0, before, scan),
            _ => behind,
        }
    }

    fn reclaim_between(&mut self, from: u32, last: u32, scan: &mut usize) -> usize {
        let memory = &*self.memory;
        let mut cursor = self.nodes.lower_bound_mut(Bound::Included(&from));
        let mut removed = 0;
        while *scan > 0 {
            let Some(node) = cursor.get() else {
                self.shrink_from = 0;
                return removed;
            };
            if node.start() > last {
                break;
            }
            *scan -= 1;
            if node.extent().status().is_delayed() {
                cursor.move_next();
            } else if node.is_referenced() {
                node.unreference();
                cursor.move_next();
            } else if let Some(node) = cursor.remove() {
                // SAFETY: by the invariant it is from the memory; it is out of the tree, and not cached.
                drop(unsafe { Owned::from_tree(node, memory) });
                self.all -= 1;
                self.shrinkable -= 1;
                removed += 1;
            }
        }
        self.shrink_from = cursor.get().map_or(0, ExtentNode::start);
        removed
    }

    /// Removes all but what must be kept.
    pub(crate) fn clear(&mut self) {
        let mut scan = usize::MAX;
        self.nodes.iter().for_each(ExtentNode::unreference);
        self.reclaim(&mut scan);
    }
}

impl<M: NodeMemory> Drop for Tree<M> {
    fn drop(&mut self) {
        let memory = &*self.memory;
        self.cached = None;
        let mut cursor = self.nodes.front_mut();
        while let Some(node) = cursor.remove() {
            // SAFETY: by the invariant it is from the memory; it is out of the tree, and not cached.
            drop(unsafe { Owned::from_tree(node, memory) });
        }
    }
}

impl<M: NodeMemory> fmt::Debug for Tree<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.nodes().map(ExtentNode::extent)).finish()
    }
}
