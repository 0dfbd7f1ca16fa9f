//! An extent status tree: what a file system keeps in memory about each range of a file's blocks. Is data there, on the
//! device or in memory only? Is space allocated for it, or reserved? Was it looked up lately?
//!
//! It is what Linux's ext4 has in `fs/ext4/extents_status.c`, as a `no_std` crate of its own. The words are its words.
//!
//! ```
//! use extent_status::{Allocated, Blocks, Clusters, Extent, FileSystem, Heap, Inode, Spin, Status};
//!
//! let file_system = FileSystem::<Heap, Spin>::new(Heap, Clusters::default());
//! let inode = Inode::new(&file_system);
//! // The file's first 100 blocks are on the device from block 5000 on; a program writes 8 of them anew ...
//! inode.cache(Extent::new(Blocks::new(0, 100)?, Status::Written(5000))?);
//! inode.insert_delayed(Blocks::new(40, 8)?, Allocated::default());
//! assert_eq!(inode.delayed_clusters(Blocks::ALL), 8);
//! // ... and the writeback has found a place for them.
//! inode.insert(Extent::new(Blocks::new(40, 8)?, Status::Written(7000))?);
//! let found = inode.lookup(41).expect("it was inserted");
//! assert_eq!((found.extent.status(), found.next), (Status::Written(7000), Some(48)));
//! # Ok::<(), extent_status::ExtentError>(())
//! ```
//!
//! # What it keeps
//! Of each [`Inode`] a tree of [`Extent`]s, each a range of blocks with one [`Status`]: ordered, without overlap, and no two
//! neighbours that could be one. Two are one if the second goes on where the first ends, in the file, in its status, and, where
//! they are on the device, there too. A reference of either is the joined one's.
//!
//! What is written, unwritten or a hole can be read again from the file's metadata: it may be left out where memory is short,
//! and the [shrinker](FileSystem::shrink) may take it. Delayed blocks are known nowhere else. They are never left out and never
//! taken.
//!
//! # The files
//! | file | what it holds |
//! |---|---|
//! | `extent` | ranges, statuses, extents; what joins |
//! | `memory` | the slab that may fail ([`Slab`]), and nodes that are in no tree |
//! | `node` | a node's 40 bytes |
//! | `tree` | one inode's extents |
//! | `reservation` | clusters, reservations, pending reservations |
//! | `lock` | the kernel's locks ([`Locks`]), and their order |
//! | `inode` | the operations, and what is done where memory fails under the lock |
//! | `shrinker` | what inodes have in common; taking back |
//! | `invariant` | what must hold ([`Inode::check`]) |
//!
//! # Why these trees
//! The trees are the red-black trees of `intrusive-collections`, whose links stand inside the nodes, as Linux's do. An arena of
//! indices would need no `unsafe`, but a stale index reads another node, and no tool can say that it was stale; and its growth
//! is one large allocation, which is what must not fail. `BTreeMap` moves its entries, allocates several at a time, and aborts
//! where that fails. Here each node is one allocation of the kernel's own slab, which can fail by itself, be poisoned, counted
//! and traced, and it stays at its address, so that the node used last can be cached. `unsafe` is in `memory`, which
//! says who owns a node, and where nodes leave a tree.
//!
//! # The bug
//! With the feature `use-after-free` the crate has the bug of the report "KASAN: slab-use-after-free Read in
//! `ext4_es_insert_extent`". It shows where
//! 1. an extent that must be kept (delayed: `fallocate` over delayed blocks makes unwritten, delayed ones)
//! 2. is inserted into in its middle, with the same status and going on on the device, and
//! 3. memory fails when the extent is split, so that the insertion runs again with spare nodes.
//!
//! The spare node becomes the split's right part. The insertion joins left part, middle and right part, and frees the right
//! one's node. Then the node is asked whether it was used, so that it can be freed if not. (`inode` has the protocol, right and
//! wrong.) Nothing else changes with the feature.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod extent;
mod inode;
mod invariant;
mod lock;
mod memory;
mod node;
mod reservation;
mod shrinker;
#[cfg(test)]
mod tests;
mod tree;

pub use extent::{Blocks, Extent, ExtentError, MAX_BLOCKS, MAX_PHYSICAL, Status};
pub use inode::{Allocated, Inode};
pub use invariant::Broken;
pub use lock::{Lock, Locks, Spin};
pub use memory::{Heap, NodeMemory, Slab};
pub use node::{ExtentNode, PendingNode};
pub use reservation::Clusters;
pub use shrinker::{FileSystem, Statistics};
pub use tree::Found;
