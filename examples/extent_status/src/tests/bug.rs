//! The report "KASAN: slab-use-after-free Read in `ext4_es_insert_extent`": what leads there, and what does not.
//!
//! `cargo xtask test` runs these under Miri in the build with the bug as well, and wants the report from the first, and from the
//! others none: each lacks one of the bug's preconditions.

use super::{blocks, extent, extents, inode_with};
use crate::Allocated;
use crate::Status::{Delayed, UnwrittenDelayed, Written};

#[test]
fn the_report_s_insertion() {
    let (file_system, inode) = inode_with(0);
    inode.insert(extent(0, 10, UnwrittenDelayed(100)));
    file_system.memory().fail_after(0);
    inode.insert(extent(4, 2, UnwrittenDelayed(104)));
    assert_eq!(extents(&inode), [(0, 10, UnwrittenDelayed(100))]);
    // Nodes for the split and for the insertion; both are freed again.
    assert_eq!((file_system.memory().waited(), file_system.memory().live()), (2, 1));
}

#[test]
fn without_the_report_s_failing_memory() {
    let (file_system, inode) = inode_with(0);
    inode.insert(extent(0, 10, UnwrittenDelayed(100)));
    inode.insert(extent(4, 2, UnwrittenDelayed(104)));
    assert_eq!(extents(&inode), [(0, 10, UnwrittenDelayed(100))]);
    assert_eq!((file_system.memory().waited(), file_system.memory().live()), (0, 1));
}

#[test]
fn without_the_report_s_delayed_extent() {
    let (file_system, inode) = inode_with(0);
    inode.insert(extent(0, 10, Written(100)));
    file_system.memory().fail_after(0);
    inode.insert(extent(4, 2, Written(104)));
    // Nobody waits for memory. The right part is left out.
    assert_eq!(extents(&inode), [(0, 6, Written(100))]);
    assert_eq!((file_system.memory().waited(), file_system.memory().live()), (0, 1));
}

#[test]
fn without_the_report_s_place_on_the_device() {
    let (file_system, inode) = inode_with(0);
    inode.insert(extent(0, 10, UnwrittenDelayed(100)));
    file_system.memory().fail_after(0);
    inode.insert(extent(4, 2, UnwrittenDelayed(704)));
    let all = [(0, 4, UnwrittenDelayed(100)), (4, 2, UnwrittenDelayed(704)), (6, 4, UnwrittenDelayed(106))];
    assert_eq!(extents(&inode), all);
    assert_eq!((file_system.memory().waited(), file_system.memory().live()), (2, 3));
}

#[test]
fn without_the_report_s_place_in_the_middle() {
    let (file_system, inode) = inode_with(0);
    inode.insert_delayed(blocks(0, 10), Allocated::default());
    file_system.memory().fail_after(0);
    inode.insert_delayed(blocks(6, 4), Allocated::default());
    assert_eq!(extents(&inode), [(0, 10, Delayed)]);
    assert_eq!((file_system.memory().waited(), file_system.memory().live()), (0, 1));
}
