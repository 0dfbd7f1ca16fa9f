//! Memory for nodes, which can fail; and who owns a node that is in no tree.

use alloc::alloc::{alloc, dealloc, handle_alloc_error};
use core::alloc::Layout;
use core::marker::PhantomData;
use core::ptr::NonNull;

use intrusive_collections::UnsafeRef;

use crate::node::{ExtentNode, PendingNode};

/// A slab cache: memory for nodes of one type.
///
/// # Safety
/// Of each pointer that [`try_allocate`](Self::try_allocate) and [`allocate`](Self::allocate) give, an implementation promises,
/// until the node is freed:
/// - it is valid for reads and writes of a `T`, and aligned for one;
/// - the memory is given to nobody else, and nobody else accesses it.
pub unsafe trait Slab<T> {
    /// A node's memory, where some is at hand. It is called with an inode's lock held: it must not wait, nor call back.
    fn try_allocate(&self) -> Option<NonNull<T>>;

    /// A node's memory, without failing. No lock is held: it may wait for memory, and call
    /// [`FileSystem::shrink`](crate::FileSystem::shrink).
    fn allocate(&self) -> NonNull<T>;

    /// Takes a node's memory back.
    ///
    /// # Safety
    /// The pointer came from this slab, was not freed since, and is not used any more.
    unsafe fn free(&self, node: NonNull<T>);
}

/// Both slab caches of a file system: for extents and for pending reservations.
pub trait NodeMemory: Slab<ExtentNode> + Slab<PendingNode> {}

impl<M: Slab<ExtentNode> + Slab<PendingNode>> NodeMemory for M {}

/// Nodes from the kernel's heap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

// SAFETY: the global allocator promises both of a block that it has given and that was not given back.
unsafe impl<T> Slab<T> for Heap {
    fn try_allocate(&self) -> Option<NonNull<T>> {
        const { assert!(size_of::<T>() > 0) };
        // SAFETY: the size is not zero.
        NonNull::new(unsafe { alloc(Layout::new::<T>()) }.cast())
    }

    fn allocate(&self) -> NonNull<T> {
        self.try_allocate().unwrap_or_else(|| handle_alloc_error(Layout::new::<T>()))
    }

    unsafe fn free(&self, node: NonNull<T>) {
        // SAFETY: our caller promises that the block came from here, with this layout, and is given back once.
        unsafe { dealloc(node.as_ptr().cast(), Layout::new::<T>()) };
    }
}

/// A node that is in no tree. It is freed where it is dropped.
///
/// # Invariants
/// The node is from `memory`, initialised, and nobody else has it.
pub(crate) struct Owned<'m, T, M: Slab<T>> {
    node: NonNull<T>,
    memory: &'m M,
    _owns: PhantomData<T>,
}

impl<'m, T: Default, M: Slab<T>> Owned<'m, T, M> {
    /// A node, where its memory is at hand.
    pub(crate) fn try_new(memory: &'m M) -> Option<Self> {
        memory.try_allocate().map(|node| Self::initialised(node, memory))
    }

    /// A node. Not to be called with a lock held.
    pub(crate) fn new(memory: &'m M) -> Self {
        Self::initialised(memory.allocate(), memory)
    }

    // INVARIANT: called with what the memory has just given.
    fn initialised(node: NonNull<T>, memory: &'m M) -> Self {
        // SAFETY: the slab promises that the memory is valid for writes of a `T`, aligned, and nobody else's.
        unsafe { node.write(T::default()) };
        Self { node, memory, _owns: PhantomData }
    }
}

impl<'m, T, M: Slab<T>> Owned<'m, T, M> {
    /// The node, for a tree, which gives it back to [`from_tree`](Self::from_tree).
    pub(crate) fn into_tree(self) -> UnsafeRef<T> {
        let node = self.node;
        core::mem::forget(self);
        // SAFETY: by the invariant it is initialised and nobody else's; it stays until it is freed, by an `Owned` again.
        unsafe { UnsafeRef::from_raw(node.as_ptr()) }
    }

    /// A node that was taken out of a tree.
    ///
    /// # Safety
    /// - The node came from this memory, through [`into_tree`](Self::into_tree).
    /// - It is in no tree any more, and nobody else uses it.
    pub(crate) unsafe fn from_tree(node: UnsafeRef<T>, memory: &'m M) -> Self {
        let node = UnsafeRef::into_raw(node);
        // SAFETY: it is a reference's pointer, which is never null.
        let node = unsafe { NonNull::new_unchecked(node) };
        // INVARIANT: what our caller promises.
        Self { node, memory, _owns: PhantomData }
    }

    /// A second name of the node, which says nothing of how long it is there: what the bug needs, and nothing else.
    #[cfg(feature = "use-after-free")]
    pub(crate) fn alias(&self) -> UnsafeRef<T> {
        // SAFETY: it is initialised. That it stays as long as this name does is not so, which is the bug.
        unsafe { UnsafeRef::from_raw(self.node.as_ptr()) }
    }
}

impl<T, M: Slab<T>> core::ops::Deref for Owned<'_, T, M> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: by the invariant it is initialised and ours.
        unsafe { self.node.as_ref() }
    }
}

impl<T, M: Slab<T>> Drop for Owned<'_, T, M> {
    fn drop(&mut self) {
        // SAFETY: by the invariant it is from this memory and nobody else's, and `self` is not used after this.
        unsafe { self.memory.free(self.node) };
    }
}
