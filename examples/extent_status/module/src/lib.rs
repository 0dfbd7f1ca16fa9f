//! The extent status tree as a loadable module: a file system with a few inodes, and its operations as exported functions.
//!
//! The module is thin. What it adds to the crate is the [`slab`], whose first function may be made to fail, and the functions
//! below, which take numbers, since that is what goes between a module and its kernel.
//!
//! With the feature `use-after-free` it has the bug of the report "KASAN: slab-use-after-free Read in ext4_es_insert_extent".
//! `cargo xtask demo --kernel patients` finds it.
#![no_std]
#![cfg(target_os = "none")]

extern crate alloc;

#[path = "../../../patients/modules/kernel.rs"]
mod kernel;
mod slab;

use alloc::sync::Arc;
use core::ptr::NonNull;

use extent_status::{Allocated, Blocks, Clusters, Extent, FileSystem, Inode, Slab, Spin, Status};
use kernel::export;
use spin::Mutex;

/// How many inodes there are.
const INODES: usize = 4;

/// Both slab caches: places are large enough for either node.
struct Nodes;

// SAFETY: a place is valid, aligned to 8, and given to nobody else until it is freed.
unsafe impl<T> Slab<T> for Nodes {
    fn try_allocate(&self) -> Option<NonNull<T>> {
        const { assert!(size_of::<T>() <= slab::PLACE_BYTES && align_of::<T>() <= 8) };
        NonNull::new(slab::try_allocate(size_of::<T>()).cast())
    }

    fn allocate(&self) -> NonNull<T> {
        const { assert!(size_of::<T>() <= slab::PLACE_BYTES && align_of::<T>() <= 8) };
        NonNull::new(slab::allocate(size_of::<T>()).cast()).expect("the pool is larger than what is asked of it")
    }

    unsafe fn free(&self, node: NonNull<T>) {
        slab::free(node.as_ptr().cast());
    }
}

struct Mounted {
    file_system: Arc<FileSystem<Nodes, Spin>>,
    inodes: [Inode<Nodes, Spin>; INODES],
}

static MOUNTED: Mutex<Option<Arc<Mounted>>> = Mutex::new(None);

/// `-EINVAL`: there is no such inode, extent or block.
const INVALID: i64 = -22;

/// Does something with an inode, if the module has started and there is one of this number.
fn with_inode(inode: usize, operation: impl FnOnce(&Inode<Nodes, Spin>) -> Option<i64>) -> i64 {
    let mounted = MOUNTED.lock().clone();
    let inode = mounted.as_ref().and_then(|mounted| mounted.inodes.get(inode));
    inode.and_then(operation).unwrap_or(INVALID)
}

/// Starts the module.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".init.text")]
extern "C" fn fentry_module_init() -> i32 {
    let file_system = FileSystem::new(Nodes, Clusters::default());
    let inodes = core::array::from_fn(|_| Inode::new(&file_system));
    *MOUNTED.lock() = Some(Arc::new(Mounted { file_system, inodes }));
    0
}

/// Ends it.
#[unsafe(no_mangle)]
extern "C" fn fentry_module_exit() {
    let mounted = MOUNTED.lock().take();
    drop(mounted);
}

/// The statuses, by number: what an inode's blocks are.
const fn status(kind: u32, physical: u64) -> Option<Status> {
    Some(match kind {
        0 => Status::Written(physical),
        1 => Status::Unwritten(physical),
        2 => Status::Delayed,
        3 => Status::UnwrittenDelayed(physical),
        4 => Status::Hole,
        _ => return None,
    })
}

/// Says of `len` blocks from `start` on that they are `kind` (0 written, 1 unwritten, 2 delayed, 3 unwritten and delayed, 4 a
/// hole), from the device's block `physical` on. Returns 0.
#[unsafe(no_mangle)]
extern "C" fn extents_insert(inode: usize, start: u32, len: u32, kind: u32, physical: u64) -> i64 {
    with_inode(inode, |inode| {
        let blocks = Blocks::new(start, len).ok()?;
        match status(kind, physical)? {
            Status::Delayed => inode.insert_delayed(blocks, Allocated::default()),
            status => inode.insert(Extent::new(blocks, status).ok()?),
        }
        Some(0)
    })
}
export!(extents_insert);

/// Forgets what is said of the blocks. Returns how many reservations that gives back.
#[unsafe(no_mangle)]
extern "C" fn extents_remove(inode: usize, start: u32, len: u32) -> i64 {
    with_inode(inode, |inode| Some(inode.remove(Blocks::new(start, len).ok()?).into()))
}
export!(extents_remove);

/// What a block is: its kind in bits 60 to 62, its place on the device below that; [`INVALID`] where nothing is said.
#[unsafe(no_mangle)]
extern "C" fn extents_lookup(inode: usize, block: u32) -> i64 {
    with_inode(inode, |inode| {
        let status = inode.lookup(block)?.extent.status_of(block)?;
        let kind = match status {
            Status::Written(_) => 0,
            Status::Unwritten(_) => 1,
            Status::Delayed => 2,
            Status::UnwrittenDelayed(_) => 3,
            Status::Hole => 4,
        };
        Some(kind << 60 | status.physical().unwrap_or(0).cast_signed())
    })
}
export!(extents_lookup);

/// Takes up to so many nodes that need not be kept, of any inode. Returns how many.
#[unsafe(no_mangle)]
extern "C" fn extents_shrink(nodes: usize) -> i64 {
    let mounted = MOUNTED.lock().clone();
    mounted.map_or(INVALID, |mounted| i64::try_from(mounted.file_system.shrink(nodes)).unwrap_or(INVALID))
}
export!(extents_shrink);

/// Checks all that must hold of an inode. Returns 0 if it does, and else 1.
#[unsafe(no_mangle)]
extern "C" fn extents_check(inode: usize) -> i64 {
    with_inode(inode, |inode| Some(inode.check().is_err().into()))
}
export!(extents_check);

/// How many nodes there are; of 1, how often somebody was ready to wait for one; of 2, how often something was freed that was
/// none.
#[unsafe(no_mangle)]
extern "C" fn extents_usage(what: usize) -> i64 {
    slab::usage().get(what).map_or(INVALID, |count| count.cast_signed())
}
export!(extents_usage);
