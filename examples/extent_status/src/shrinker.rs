//! The file system: what its inodes share, and the shrinker that takes back from them what need not be in memory.
//!
//! Inodes that have something to take stand in a list, and the shrinker goes round it: each inode that it comes to goes to
//! the end first, so that the next call goes on with the next inode. Inodes whose extents were loaded ahead of use
//! ([`Inode::set_precached`](crate::Inode::set_precached)) are spared as long as others have something, and so are those whose
//! lock somebody has.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use intrusive_collections::{LinkedList, LinkedListAtomicLink, intrusive_adapter};

use crate::inode::{Body, Shared};
use crate::invariant::Broken;
use crate::lock::{Lock, Locks};
use crate::memory::NodeMemory;
use crate::reservation::Clusters;

intrusive_adapter!(
    pub(crate) Listed<M, L> = Arc<Shared<M, L>>: Shared<M, L> { link => LinkedListAtomicLink }
    where M: NodeMemory, L: Locks
);

/// The inodes with something to take.
struct List<M: NodeMemory, L: Locks> {
    inodes: LinkedList<Listed<M, L>>,
    len: usize,
}

/// What all inodes of a file system have in common: memory, counters, and the shrinker's list.
pub struct FileSystem<M: NodeMemory, L: Locks> {
    pub(crate) memory: Arc<M>,
    pub(crate) clusters: Clusters,
    list: L::Lock<List<M, L>>,
    pub(crate) counters: Counters,
}

/// What is counted, each by itself: a sum of one moment is not promised.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    nodes: AtomicU64,
    shrinkable: AtomicU64,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// How many lookups have found an extent.
    pub hits: u64,
    /// How many lookups have found none.
    pub misses: u64,
    /// How many extents are in memory.
    pub nodes: u64,
    /// How many of them the shrinker may take.
    pub shrinkable: u64,
}

impl Counters {
    pub(crate) fn count_lookup(&self, has_found: bool) {
        let counter = if has_found { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn change(&self, before: Sizes, after: Sizes) {
        let change = |counter: &AtomicU64, before: u32, after: u32| {
            if before != after {
                // Modulo 2^64, so that less is added as much more.
                counter.fetch_add(u64::from(after).wrapping_sub(u64::from(before)), Ordering::Relaxed);
            }
        };
        change(&self.nodes, before.all, after.all);
        change(&self.shrinkable, before.shrinkable, after.shrinkable);
    }
}

/// How many nodes a tree has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) all: u32,
    pub(crate) shrinkable: u32,
}

/// Whom the shrinker spares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    SparePrecached,
    SpareNobody,
}

impl<M: NodeMemory, L: Locks> FileSystem<M, L> {
    /// A file system whose nodes are from this memory, and whose clusters have this size.
    pub fn new(memory: M, clusters: Clusters) -> Arc<Self> {
        let list = L::Lock::new(List { inodes: LinkedList::new(Listed::new()), len: 0 });
        Arc::new(Self { memory: Arc::new(memory), clusters, list, counters: Counters::default() })
    }

    /// What was counted.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { hits, misses, nodes, shrinkable } = &self.counters;
        Statistics { hits: read(hits), misses: read(misses), nodes: read(nodes), shrinkable: read(shrinkable) }
    }

    /// The memory of its nodes.
    #[must_use]
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Looks at `scan` extents at most, and takes those that need not be in memory. Returns how many it has taken.
    ///
    /// Delayed extents stay. One that was looked up since the shrinker came by has a second chance. No lock of the file
    /// system or of its inodes may be held by the caller.
    pub fn shrink(&self, scan: usize) -> usize {
        let mut left = scan;
        for pass in [Pass::SparePrecached, Pass::SpareNobody] {
            let (taken, has_skipped) = self.shrink_once(&mut left, pass);
            if taken > 0 || !has_skipped {
                return taken;
            }
        }
        0
    }

    fn shrink_once(&self, left: &mut usize, pass: Pass) -> (usize, bool) {
        let (mut taken, mut has_skipped) = (0, false);
        let mut unvisited = self.list.lock().len;
        while unvisited > 0 && *left > 0 {
            unvisited -= 1;
            let mut list = self.list.lock();
            let Some(inode) = list.inodes.pop_front() else { break };
            list.inodes.push_back(Arc::clone(&inode));
            if pass == Pass::SparePrecached && inode.is_precached() {
                has_skipped = true;
                continue;
            }
            // Its holder may be waiting for the list.
            let Some(mut body) = inode.body.try_lock() else {
                has_skipped = true;
                continue;
            };
            drop(list);
            taken += inode.changing(&mut body, |body: &mut Body<M>| body.tree.reclaim(left));
        }
        (taken, has_skipped)
    }

    /// Puts an inode into the list that has something to take now. Its lock is held.
    pub(crate) fn enlist(&self, inode: &Arc<Shared<M, L>>) {
        let mut list = self.list.lock();
        if !inode.link.is_linked() {
            list.inodes.push_back(Arc::clone(inode));
            list.len += 1;
        }
    }

    /// Takes an inode out of the list that has nothing to take any more. Its lock is held.
    pub(crate) fn delist(&self, inode: &Arc<Shared<M, L>>) {
        let mut list = self.list.lock();
        if inode.link.is_linked() {
            // SAFETY: it is in a list, and its file system's is the only one that it is ever put into.
            let mut cursor = unsafe { list.inodes.cursor_mut_from_ptr(Arc::as_ptr(inode)) };
            cursor.remove();
            list.len -= 1;
        }
    }

    /// Whether an inode is in the list. Its lock is held. Asked under the list's, since the shrinker takes an inode out and puts
    /// it in again.
    pub(crate) fn has_listed(&self, inode: &Shared<M, L>) -> bool {
        let _list = self.list.lock();
        inode.link.is_linked()
    }

    /// Checks the list: each inode in it has something to take. Nothing else may use the file system meanwhile.
    ///
    /// # Errors
    /// What is broken.
    pub fn check(&self) -> Result<(), Broken> {
        let list = self.list.lock();
        let listed = list.inodes.iter().count();
        if listed != list.len {
            return Err(Broken::ListLength { said: list.len, counted: listed });
        }
        let is_empty = |inode: &Shared<M, L>| inode.body.try_lock().is_some_and(|body| body.tree.shrinkable() == 0);
        if list.inodes.iter().any(is_empty) { Err(Broken::Listed { shrinkable: 0 }) } else { Ok(()) }
    }
}

impl<M: NodeMemory, L: Locks> fmt::Debug for FileSystem<M, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSystem").field("clusters", &self.clusters).field("counters", &self.counters).finish()
    }
}
