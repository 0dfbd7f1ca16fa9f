//! One inode: its operations, its lock, and what is done where memory fails under it.
//!
//! # Memory under the lock
//! With the lock held nobody may wait, so that memory for a node can fail; and a delayed extent is known nowhere else, so that
//! it must not be lost. An operation therefore runs up to a few times:
//!
//! ```text
//!   lock; remove what was said of the blocks; insert; note pending reservations; unlock
//!     | done: return
//!     | no memory: the step that failed has changed nothing
//!   allocate, waiting, what the steps from there on can need:
//!     a node for the split, a node for the insertion, nodes for pending reservations
//!   and run again
//! ```
//!
//! Each step can be done twice. A spare node that its step did not use is freed right after that step, and not later: the next
//! step can join the node that was used with its neighbour, and free it. Whether the spare one was used is then no longer to
//! be read from it. In safe Rust that can't be written otherwise: the tree takes the node, and who gave it has nothing left
//! to look at. With the feature `use-after-free` a second name is kept across both steps, and read.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use intrusive_collections::LinkedListAtomicLink;

use crate::extent::{Blocks, Extent};
use crate::invariant::{self, Broken};
use crate::lock::{Lock, Locks};
use crate::memory::{NodeMemory, Owned};
use crate::node::PendingNode;
use crate::reservation::{Clusters, Pending};
use crate::shrinker::{FileSystem, Sizes};
use crate::tree::{Found, NoMemory, Spare, Tree};

/// An inode's extents. Dropping it forgets all of them, delayed ones too.
pub struct Inode<M: NodeMemory, L: Locks>(Arc<Shared<M, L>>);

/// What the shrinker has in common with the inode's users.
pub(crate) struct Shared<M: NodeMemory, L: Locks> {
    file_system: Arc<FileSystem<M, L>>,
    pub(crate) link: LinkedListAtomicLink,
    is_precached: AtomicBool,
    pub(crate) body: L::Lock<Body<M>>,
}

/// What the inode's lock protects (`i_es_lock`).
pub(crate) struct Body<M: NodeMemory> {
    pub(crate) tree: Tree<M>,
    pub(crate) pending: Pending<M>,
}

/// Which of the clusters at a range's ends are allocated already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocated {
    /// The cluster of the first block.
    pub first: bool,
    /// The cluster of the last block.
    pub last: bool,
}

/// What is at hand when an operation runs again.
struct Spares<'m, M: NodeMemory> {
    split: Spare<'m, M>,
    insertion: Spare<'m, M>,
    /// For a range's two ends.
    pending: [Option<Owned<'m, PendingNode, M>>; 2],
}

/// The step that had no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Remove,
    Insert,
    Pending,
}

impl<'m, M: NodeMemory> Spares<'m, M> {
    fn none() -> Self {
        Self { split: None, insertion: None, pending: [None, None] }
    }

    /// Allocates what this step and those after it can need. No lock is held.
    fn fill(&mut self, step: Step, clusters: Clusters, memory: &'m M) {
        if step <= Step::Remove {
            self.split.get_or_insert_with(|| Owned::new(memory));
        }
        if step <= Step::Insert {
            self.insertion.get_or_insert_with(|| Owned::new(memory));
        }
        if clusters.are_shared() {
            self.pending.iter_mut().for_each(|spare| {
                spare.get_or_insert_with(|| Owned::new(memory));
            });
        }
    }
}

impl<M: NodeMemory, L: Locks> Inode<M, L> {
    /// An inode of this file system, of whose blocks nothing is known.
    #[must_use]
    pub fn new(file_system: &Arc<FileSystem<M, L>>) -> Self {
        let tree = Tree::new(Arc::clone(&file_system.memory));
        let pending = Pending::new(Arc::clone(&file_system.memory));
        Self(Arc::new(Shared {
            file_system: Arc::clone(file_system),
            link: LinkedListAtomicLink::new(),
            is_precached: AtomicBool::new(false),
            body: L::Lock::new(Body { tree, pending }),
        }))
    }

    /// Says this of the blocks, and forgets what was said of them before. It never fails for its caller: where there is no
    /// memory, a delayed extent waits for some, and what need not be kept is left out.
    pub fn insert(&self, extent: Extent) {
        self.insert_with(extent, |body, clusters, spares| body.revise_pending(extent, clusters, spares));
    }

    /// Says that the blocks are delayed, and forgets what was said of them before; it never fails.
    ///
    /// A cluster at an end that is allocated already has a pending reservation from now on, instead of one that its caller
    /// has made.
    pub fn insert_delayed(&self, blocks: Blocks, allocated: Allocated) {
        self.insert_with(Extent::delayed(blocks), |body, clusters, spares| {
            let (first, last) = clusters.touched(blocks).into_inner();
            for (cluster, is_pending) in [(first, allocated.first), (last, allocated.last)] {
                if is_pending && clusters.are_shared() {
                    body.pending.insert(cluster, spares)?;
                }
            }
            Ok(())
        });
    }

    fn insert_with<'m>(
        &'m self,
        extent: Extent,
        note_pending: impl Fn(&mut Body<M>, Clusters, &mut [Option<Owned<'m, PendingNode, M>>]) -> Result<(), NoMemory>,
    ) {
        let clusters = self.0.file_system.clusters;
        self.run(|body, spares| {
            #[cfg(feature = "use-after-free")]
            let es1 = spares.split.as_ref().map(Owned::alias);
            body.tree.remove(extent.blocks(), &mut spares.split).map_err(|NoMemory| Step::Remove)?;
            #[cfg(not(feature = "use-after-free"))]
            drop(spares.split.take());
            let inserted = body.tree.insert(extent, &mut spares.insertion);
            #[cfg(feature = "use-after-free")]
            free_if_unused(es1, &mut spares.split, &self.0.file_system.memory);
            inserted.map_err(|NoMemory| Step::Insert)?;
            drop(spares.insertion.take());
            note_pending(body, clusters, &mut spares.pending).map_err(|NoMemory| Step::Pending)
        });
    }

    /// Says this of the blocks where nothing is said of any of them; it may be left out. For what was read from the file's
    /// metadata.
    pub fn cache(&self, extent: Extent) {
        self.0.locked(|body| {
            if body.tree.overlapping(extent.blocks()).next().is_none() {
                // What can't be kept is left out; nobody waits for memory here.
                let _ = body.tree.insert(extent, &mut None);
            }
        });
    }

    /// Forgets what is said of the blocks, and returns how many reservations that gives back: one for each cluster whose last
    /// reserved blocks they were, but for those with a pending reservation, which end.
    #[must_use = "what is given back can be promised to others"]
    pub fn remove(&self, blocks: Blocks) -> u32 {
        let clusters = self.0.file_system.clusters;
        self.run(|body, spares| {
            let inside = body.tree.clusters_inside(blocks, clusters);
            let count = |among| body.tree.reserved_clusters(blocks, among, clusters);
            let reserved = inside.clone().map_or(0, count);
            body.tree.remove(blocks, &mut spares.split).map_err(|NoMemory| Step::Remove)?;
            let pending = inside.map_or(0, |inside| body.pending.remove(inside));
            Ok(reserved.saturating_sub(pending))
        })
    }

    /// What is said of a block. It counts as referenced, and as a hit or a miss.
    #[must_use]
    pub fn lookup(&self, block: u32) -> Option<Found> {
        let found = self.0.locked(|body| body.tree.lookup(block));
        self.0.file_system.counters.count_lookup(found.is_some());
        found
    }

    /// The first extent with a block in the range that the predicate holds for.
    #[must_use]
    pub fn find(&self, blocks: Blocks, mut predicate: impl FnMut(&Extent) -> bool) -> Option<Extent> {
        self.0.locked(|body| body.tree.overlapping(blocks).find(|extent| predicate(extent)))
    }

    /// Whether the predicate holds for an extent with a block in the range.
    #[must_use]
    pub fn scan(&self, blocks: Blocks, predicate: impl FnMut(&Extent) -> bool) -> bool {
        self.find(blocks, predicate).is_some()
    }

    /// Whether the predicate holds for an extent with a block in this block's cluster.
    #[must_use]
    pub fn scan_cluster(&self, block: u32, predicate: impl FnMut(&Extent) -> bool) -> bool {
        self.scan(self.0.file_system.clusters.around(block), predicate)
    }

    /// How many of the range's clusters have reserved blocks in it. A cluster that two extents share is one.
    #[must_use]
    pub fn delayed_clusters(&self, blocks: Blocks) -> u32 {
        let clusters = self.0.file_system.clusters;
        self.0.locked(|body| body.tree.reserved_clusters(blocks, clusters.touched(blocks), clusters))
    }

    /// Whether this block's cluster has a pending reservation.
    #[must_use]
    pub fn is_pending(&self, block: u32) -> bool {
        let cluster = self.0.file_system.clusters.of(block);
        self.0.locked(|body| body.pending.clusters().any(|pending| pending == cluster))
    }

    /// Forgets all that need not be kept: everything but delayed extents.
    pub fn clear(&self) {
        self.0.locked(|body| body.tree.clear());
    }

    /// Says that the extents were loaded ahead of use: the shrinker takes others' first.
    pub fn set_precached(&self) {
        self.0.is_precached.store(true, Ordering::Relaxed);
    }

    /// All extents, in order.
    pub fn for_each(&self, each: impl FnMut(Extent)) {
        self.0.locked(|body| body.tree.overlapping(Blocks::ALL).for_each(each));
    }

    /// Checks all that must hold of the extents, the pending reservations, the counts and the shrinker's list.
    ///
    /// # Errors
    /// What is broken.
    pub fn check(&self) -> Result<(), Broken> {
        let Shared { file_system, .. } = &*self.0;
        self.0.locked(|body| invariant::check(body, file_system.clusters, file_system.has_listed(&self.0)))
    }

    /// Runs an operation under the lock until no step of it has failed.
    fn run<'m, T>(&'m self, mut operation: impl FnMut(&mut Body<M>, &mut Spares<'m, M>) -> Result<T, Step>) -> T {
        let FileSystem { memory, clusters, .. } = &*self.0.file_system;
        let mut spares = Spares::none();
        loop {
            match self.0.locked(|body| operation(body, &mut spares)) {
                Ok(done) => return done,
                Err(step) => spares.fill(step, *clusters, memory),
            }
        }
    }
}

/// The bug: whether the split has used its spare node is asked only now, of a node that the insertion may have freed.
///
/// A function of its own that goes on after its last call, for stack traces to name it.
#[cfg(feature = "use-after-free")]
#[inline(never)]
fn free_if_unused<M: NodeMemory>(
    es1: Option<intrusive_collections::UnsafeRef<crate::node::ExtentNode>>,
    split: &mut Spare<'_, M>,
    memory: &M,
) {
    if let Some(es1) = es1.filter(|es1| es1.len() == 0) {
        let unused = split.take().unwrap_or_else(|| {
            // SAFETY: it has none. The node was used, so it is the tree's, or was freed.
            unsafe { Owned::from_tree(es1, memory) }
        });
        drop(unused);
        core::hint::black_box(());
    }
}

impl<M: NodeMemory, L: Locks> Shared<M, L> {
    pub(crate) fn is_precached(&self) -> bool {
        self.is_precached.load(Ordering::Relaxed)
    }

    fn locked<T>(self: &Arc<Self>, access: impl FnOnce(&mut Body<M>) -> T) -> T {
        self.changing(&mut self.body.lock(), access)
    }

    /// Changes what the lock protects, and has the counters and the shrinker's list follow.
    pub(crate) fn changing<T>(self: &Arc<Self>, body: &mut Body<M>, change: impl FnOnce(&mut Body<M>) -> T) -> T {
        let before = body.sizes();
        let result = change(body);
        let after = body.sizes();
        self.file_system.counters.change(before, after);
        match (before.shrinkable, after.shrinkable) {
            (0, 1..) => self.file_system.enlist(self),
            (1.., 0) => self.file_system.delist(self),
            _ => {}
        }
        result
    }
}

impl<M: NodeMemory> Body<M> {
    fn sizes(&self) -> Sizes {
        Sizes { all: self.tree.all(), shrinkable: self.tree.shrinkable() }
    }

    /// What an insertion means for the clusters of its blocks. One that has no reserved blocks any more has no pending
    /// reservation; one at an end that has some outside, and is allocated now, has one.
    ///
    /// It asks only about blocks outside, and so is right also where the extent was left out.
    fn revise_pending(
        &mut self,
        extent: Extent,
        clusters: Clusters,
        spares: &mut [Option<Owned<'_, PendingNode, M>>],
    ) -> Result<(), NoMemory> {
        if extent.status().is_reserved() || !clusters.are_shared() {
            return Ok(());
        }
        if let Some(inside) = self.tree.clusters_inside(extent.blocks(), clusters) {
            self.pending.remove(inside);
        }
        if extent.status().physical().is_none() {
            return Ok(());
        }
        let outside = self.tree.reserved_outside(extent.blocks(), clusters);
        let (first, last) = clusters.touched(extent.blocks()).into_inner();
        for (cluster, is_pending) in [(first, outside.left), (last, outside.right)] {
            if is_pending {
                self.pending.insert(cluster, spares)?;
            }
        }
        Ok(())
    }
}

impl<M: NodeMemory, L: Locks> Drop for Inode<M, L> {
    fn drop(&mut self) {
        self.0.locked(|body| {
            let memory = &self.0.file_system.memory;
            // The shrinker may have the inode for a moment longer: what it finds is empty.
            *body = Body { tree: Tree::new(Arc::clone(memory)), pending: Pending::new(Arc::clone(memory)) };
        });
    }
}

impl<M: NodeMemory, L: Locks> fmt::Debug for Inode<M, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        self.for_each(|extent| {
            list.entry(&extent);
        });
        list.finish()
    }
}
