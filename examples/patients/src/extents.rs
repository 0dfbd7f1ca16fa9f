//! The module `extents`: its operations as Rust functions, a workload beside a map of every block, and the insertion of the
//! report "KASAN: slab-use-after-free Read in ext4_es_insert_extent".

use alloc::format;
use alloc::string::String;

use fentry::Rule;
use support::random::Random;

use crate::loaded::Loaded;

/// The module with the bug, and the one without.
pub const WRONG: &str = "extents-use-after-free";
/// The module as it should be.
pub const RIGHT: &str = "extents";

type Insert = extern "C" fn(inode: usize, start: u32, len: u32, kind: u32, physical: u64) -> i64;
type Remove = extern "C" fn(inode: usize, start: u32, len: u32) -> i64;
type Lookup = extern "C" fn(inode: usize, block: u32) -> i64;
type Number = extern "C" fn(usize) -> i64;

/// What a block is, by the module's numbers.
pub const WRITTEN: u32 = 0;
/// Delayed: its data is in memory only, so that it must not be forgotten.
pub const DELAYED: u32 = 2;
/// Space was allocated for delayed data.
pub const UNWRITTEN_DELAYED: u32 = 3;

/// The module's operations.
#[derive(Clone, Copy, Debug)]
pub struct Extents {
    insert: Insert,
    remove: Remove,
    lookup: Lookup,
    shrink: Number,
    check: Number,
    usage: Number,
}

impl Extents {
    /// Takes what the module exports.
    ///
    /// # Safety
    ///
    /// 1. The module is `extents`, in either build, and stays loaded as long as this is used.
    pub unsafe fn of(module: &Loaded) -> Self {
        // SAFETY: the module's function has this type.
        let insert = unsafe { core::mem::transmute::<*const (), Insert>(module.export("extents_insert")) };
        // SAFETY: as above.
        let remove = unsafe { core::mem::transmute::<*const (), Remove>(module.export("extents_remove")) };
        // SAFETY: as above.
        let lookup = unsafe { core::mem::transmute::<*const (), Lookup>(module.export("extents_lookup")) };
        // SAFETY: as above.
        let shrink = unsafe { core::mem::transmute::<*const (), Number>(module.export("extents_shrink")) };
        // SAFETY: as above.
        let check = unsafe { core::mem::transmute::<*const (), Number>(module.export("extents_check")) };
        // SAFETY: as above.
        let usage = unsafe { core::mem::transmute::<*const (), Number>(module.export("extents_usage")) };
        Self { insert, remove, lookup, shrink, check, usage }
    }

    /// Says of `len` blocks from `start` on what they are, and where on the device.
    pub fn insert(&self, inode: usize, start: u32, len: u32, kind: u32, physical: u64) -> i64 {
        (self.insert)(inode, start, len, kind, physical)
    }

    /// What a block is, and where on the device.
    pub fn lookup(&self, inode: usize, block: u32) -> Option<(u32, u64)> {
        let found = u64::try_from((self.lookup)(inode, block)).ok()?;
        Some(((found >> 60) as u32, found & ((1 << 60) - 1)))
    }

    /// Whether all holds that must hold of an inode.
    pub fn is_right(&self, inode: usize) -> bool {
        (self.check)(inode) == 0
    }

    /// How many nodes are given out.
    pub fn nodes(&self) -> i64 {
        (self.usage)(0)
    }

    /// How often an operation was ready to wait for memory.
    pub fn waited(&self) -> i64 {
        (self.usage)(1)
    }

    /// How often something was freed that was not given out.
    pub fn wrong_frees(&self) -> i64 {
        (self.usage)(2)
    }

    /// Forgets an inode's blocks.
    pub fn clear(&self, inode: usize) {
        (self.remove)(inode, 0, u32::MAX);
    }

    /// What the report says: ten delayed blocks, for which space was allocated, and then an insertion into their middle that
    /// goes on in status and on the device. The bug shows if memory fails in the second one.
    pub fn report(&self) {
        self.insert(0, 0, 10, UNWRITTEN_DELAYED, 100);
        self.insert(0, 4, 2, UNWRITTEN_DELAYED, 104);
    }

    /// Random operations on an inode's first blocks, beside a map of every block; the shrinker comes between.
    ///
    /// # Errors
    ///
    /// Where the module says something else than the map, or what must hold does not.
    pub fn work(&self, inode: usize, steps: u32) -> Result<(), String> {
        const BLOCKS: u32 = 64;
        // Of a block that need not be kept the module may forget what it was told.
        let mut map: [Option<(u32, u64)>; BLOCKS as usize] = [None; BLOCKS as usize];
        let mut random = Random::new(7, inode as u64);
        let mut below = |bound: u32| random.below(bound.into()) as u32;
        for step in 0..steps {
            let (start, kind) = (below(BLOCKS), below(5));
            let len = 1 + below(BLOCKS - start);
            let is_removed = below(4) == 0;
            // Places on the device by which neighbours can become one.
            let physical = 1000 * u64::from(1 + below(2)) + u64::from(start);
            if is_removed {
                (self.remove)(inode, start, len);
            } else {
                self.insert(inode, start, len, kind, physical);
            }
            for (ahead, block) in map.iter_mut().skip(start as usize).take(len as usize).enumerate() {
                let place = if matches!(kind, DELAYED | 4) { 0 } else { physical + ahead as u64 };
                *block = (!is_removed).then_some((kind, place));
            }
            if step % 16 == 0 {
                (self.shrink)(3);
            }
            for (block, expected) in (0..).zip(&map) {
                let found = self.lookup(inode, block);
                let must_be_kept = expected.is_some_and(|(kind, _)| matches!(kind, DELAYED | UNWRITTEN_DELAYED));
                if found != *expected && (must_be_kept || found.is_some()) {
                    return Err(format!("step {step}, block {block}: {found:?}, and not {expected:?}"));
                }
            }
            if !self.is_right(inode) {
                return Err(format!("step {step}: what must hold does not"));
            }
        }
        self.clear(inode);
        Ok(())
    }
}

/// The functions of the module's slab that give a node out.
pub fn allocating(module: &str) -> [Rule<'_>; 2] {
    ["extents::slab::try_allocate", "extents::slab::allocate"].map(|name| Rule::name(name).in_module(module))
}

/// The one that takes a node back.
pub fn freeing(module: &str) -> [Rule<'_>; 1] {
    [Rule::name("extents::slab::free").in_module(module)]
}
