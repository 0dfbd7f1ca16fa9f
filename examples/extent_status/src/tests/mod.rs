//! - `operations`, `shrinking`: what each operation says, by example.
//! - `model`: random operations beside a map of every block, also where memory fails and the shrinker takes.
//! - `failing`: each allocation failing in its turn.
//! - `concurrent`: the locks' order (`loom`).
//! - `bug`: what the report says, which Miri finds in the build with `use-after-free`.

mod bug;
mod concurrent;
mod failing;
mod model;
mod operations;
mod shrinking;

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::vec::Vec;

use crate::{Blocks, Clusters, Extent, FileSystem, Heap, Inode, Slab, Spin, Status};

/// No allocation has this number.
const NONE: u64 = u64::MAX;

/// The heap, but that it fails where a test wants it to, and counts.
#[derive(Debug)]
struct Failing {
    /// How many tries there were.
    tries: AtomicU64,
    /// The number of the try that fails.
    nth: AtomicU64,
    /// Where tries fail at random: the generator's state. 0: they don't.
    random: AtomicU64,
    /// How many nodes are given out.
    live: AtomicU64,
    /// How many allocations have waited.
    waited: AtomicU64,
}

impl Failing {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { tries: zero(), nth: AtomicU64::new(NONE), random: zero(), live: zero(), waited: zero() }
    }

    /// Has the try after `tries` more fail, and no other.
    fn fail_after(&self, tries: u64) {
        self.nth.store(self.tries() + tries, Ordering::Relaxed);
    }

    /// Has every third try fail, at random.
    fn fail_often(&self, seed: u64) {
        self.random.store(seed | 1, Ordering::Relaxed);
    }

    fn tries(&self) -> u64 {
        self.tries.load(Ordering::Relaxed)
    }

    fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    fn waited(&self) -> u64 {
        self.waited.load(Ordering::Relaxed)
    }

    fn fails(&self) -> bool {
        let is_nth = self.tries.fetch_add(1, Ordering::Relaxed) == self.nth.load(Ordering::Relaxed);
        let state = self.random.load(Ordering::Relaxed);
        if state == 0 {
            return is_nth;
        }
        let mut random = Random(state);
        let fails = random.below(3) == 0;
        self.random.store(random.0, Ordering::Relaxed);
        fails
    }
}

// SAFETY: all memory is the heap's.
unsafe impl<T> Slab<T> for Failing {
    fn try_allocate(&self) -> Option<NonNull<T>> {
        if self.fails() {
            return None;
        }
        self.live.fetch_add(1, Ordering::Relaxed);
        Heap.try_allocate()
    }

    fn allocate(&self) -> NonNull<T> {
        self.waited.fetch_add(1, Ordering::Relaxed);
        self.live.fetch_add(1, Ordering::Relaxed);
        Heap.allocate()
    }

    unsafe fn free(&self, node: NonNull<T>) {
        self.live.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: what our caller promises.
        unsafe { Heap.free(node) };
    }
}

/// SplitMix64: repeats from its seed.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() % u64::from(end)).unwrap()
    }
}

type TestFileSystem = Arc<FileSystem<Failing, Spin>>;
type TestInode = Inode<Failing, Spin>;

/// A file system with clusters of 2^`bits` blocks, and an inode of it.
fn inode_with(bits: u32) -> (TestFileSystem, TestInode) {
    let file_system = FileSystem::new(Failing::new(), Clusters::new(bits).unwrap());
    let inode = Inode::new(&file_system);
    (file_system, inode)
}

fn blocks(start: u32, len: u32) -> Blocks {
    Blocks::new(start, len).unwrap()
}

fn extent(start: u32, len: u32, status: Status) -> Extent {
    Extent::new(blocks(start, len), status).unwrap()
}

/// All extents of an inode, after its check.
fn extents(inode: &TestInode) -> Vec<(u32, u32, Status)> {
    inode.check().unwrap();
    let mut all = Vec::new();
    inode.for_each(|extent| all.push((extent.blocks().start(), extent.blocks().len(), extent.status())));
    all
}
