//! What each operation says, by example.

use std::sync::Arc;
use std::vec;

use super::{blocks, extent, extents, inode_with};
use crate::Status::{Delayed, Hole, Unwritten, UnwrittenDelayed, Written};
use crate::{Allocated, Blocks, Clusters, Extent, ExtentError, ExtentNode, FileSystem, Heap, Inode, MAX_BLOCKS, Spin};

#[test]
fn a_node_has_the_report_s_layout() {
    if size_of::<usize>() == 8 {
        assert_eq!(size_of::<ExtentNode>(), 40);
    }
}

#[test]
fn ranges_that_no_file_has_are_refused() {
    assert_eq!(Blocks::new(7, 0), Err(ExtentError::Empty { start: 7 }));
    assert_eq!(Blocks::new(MAX_BLOCKS, 1), Err(ExtentError::TooLong { start: MAX_BLOCKS, len: 1 }));
    assert_eq!(Blocks::new(1, MAX_BLOCKS), Err(ExtentError::TooLong { start: 1, len: MAX_BLOCKS }));
    assert_eq!(blocks(MAX_BLOCKS - 1, 1).last(), MAX_BLOCKS - 1);
    let physical = (1 << 59) - 3;
    assert_eq!(Extent::new(blocks(0, 4), Written(physical)), Err(ExtentError::PhysicalTooHigh { physical, len: 4 }),);
    assert!(Extent::new(blocks(0, 4), Unwritten(u64::MAX)).is_err());
    assert!(Extent::new(blocks(0, 3), Written(physical)).is_ok());
}

#[test]
fn neighbours_join_by_status_and_place() {
    for (left, right, are_one) in [
        (Written(100), Written(110), true),
        (Written(100), Written(111), false),
        (Written(100), Unwritten(110), false),
        (Unwritten(100), Unwritten(110), true),
        (UnwrittenDelayed(100), UnwrittenDelayed(110), true),
        (UnwrittenDelayed(100), UnwrittenDelayed(0), false),
        (UnwrittenDelayed(100), Delayed, false),
        (Delayed, Delayed, true),
        (Hole, Hole, true),
        (Hole, Delayed, false),
    ] {
        // From either side.
        for is_left_first in [true, false] {
            let (_, inode) = inode_with(0);
            let (one, other) = (extent(20, 10, left), extent(30, 10, right));
            let (one, other) = if is_left_first { (one, other) } else { (other, one) };
            inode.insert(one);
            inode.insert(other);
            let apart = vec![(20, 10, left), (30, 10, right)];
            assert_eq!(extents(&inode), if are_one { vec![(20, 20, left)] } else { apart });
        }
    }
}

#[test]
fn what_closes_a_gap_joins_both_sides() {
    let (file_system, inode) = inode_with(0);
    inode.insert(extent(0, 10, Written(100)));
    inode.insert(extent(20, 10, Written(120)));
    assert_eq!(file_system.statistics().nodes, 2);
    inode.insert(extent(10, 10, Written(110)));
    assert_eq!(extents(&inode), [(0, 30, Written(100))]);
    assert_eq!((file_system.statistics().nodes, file_system.memory().live()), (1, 1));
}

#[test]
fn the_longest_extent_is_every_block_of_a_file() {
    let (_, inode) = inode_with(0);
    inode.insert(extent(0, MAX_BLOCKS - 1, Hole));
    inode.insert(extent(MAX_BLOCKS - 1, 1, Hole));
    assert_eq!(extents(&inode), [(0, MAX_BLOCKS, Hole)]);
    assert_eq!(inode.remove(blocks(1, MAX_BLOCKS - 2)), 0);
    assert_eq!(extents(&inode), [(0, 1, Hole), (MAX_BLOCKS - 1, 1, Hole)]);
}

#[test]
fn an_insertion_replaces_what_was_there() {
    let (_, inode) = inode_with(0);
    inode.insert(extent(0, 30, Written(100)));
    inode.insert(extent(40, 10, Hole));
    inode.insert(extent(10, 35, Unwritten(900)));
    assert_eq!(extents(&inode), [(0, 10, Written(100)), (10, 35, Unwritten(900)), (45, 5, Hole)]);
}

#[test]
fn the_cache_takes_only_what_overlaps_nothing() {
    let (_, inode) = inode_with(0);
    inode.insert_delayed(blocks(10, 5), Allocated::default());
    for (start, len) in [(0, 11), (12, 1), (14, 5), (5, 20)] {
        inode.cache(extent(start, len, Written(700)));
    }
    assert_eq!(extents(&inode), [(10, 5, Delayed)]);
    inode.cache(extent(0, 10, Written(700)));
    inode.cache(extent(15, 5, Hole));
    assert_eq!(extents(&inode), [(0, 10, Written(700)), (10, 5, Delayed), (15, 5, Hole)]);
}

#[test]
fn the_cache_waits_for_no_memory() {
    let (file_system, inode) = inode_with(0);
    file_system.memory().fail_after(0);
    inode.cache(extent(0, 10, Written(700)));
    assert_eq!((extents(&inode), file_system.memory().waited()), (vec![], 0));
}

#[test]
fn a_removal_cuts_front_back_and_middle() {
    for (removed, left) in [
        (blocks(5, 10), vec![(15, 15, Written(105)), (40, 10, Written(300))]),
        (blocks(25, 10), vec![(10, 15, Written(100)), (40, 10, Written(300))]),
        (blocks(15, 5), vec![(10, 5, Written(100)), (20, 10, Written(110)), (40, 10, Written(300))]),
        (blocks(15, 30), vec![(10, 5, Written(100)), (45, 5, Written(305))]),
        (blocks(10, 20), vec![(40, 10, Written(300))]),
        (blocks(30, 10), vec![(10, 20, Written(100)), (40, 10, Written(300))]),
        (Blocks::ALL, vec![]),
    ] {
        let (_, inode) = inode_with(0);
        inode.insert(extent(10, 20, Written(100)));
        inode.insert(extent(40, 10, Written(300)));
        assert_eq!(inode.remove(removed), 0);
        assert_eq!(extents(&inode), left, "{removed:?}");
    }
}

#[test]
fn a_lookup_says_where_the_next_begins() {
    let (file_system, inode) = inode_with(0);
    inode.insert(extent(10, 10, Written(100)));
    inode.insert_delayed(blocks(40, 2), Allocated::default());
    // Twice: by the tree, and by the node that was used last.
    for _ in 0..2 {
        let found = inode.lookup(13).unwrap();
        assert_eq!((found.extent, found.next), (extent(10, 10, Written(100)), Some(40)));
        assert_eq!(found.extent.status_of(13), Some(Written(103)));
    }
    assert_eq!(inode.lookup(41).unwrap().next, None);
    assert_eq!((inode.lookup(9), inode.lookup(20), inode.lookup(42)), (None, None, None));
    let said = file_system.statistics();
    assert_eq!((said.hits, said.misses, said.nodes, said.shrinkable), (3, 3, 2, 1));
}

#[test]
fn extents_are_found_by_predicate() {
    let (_, inode) = inode_with(3);
    inode.insert(extent(0, 10, Written(100)));
    inode.insert_delayed(blocks(10, 4), Allocated::default());
    inode.insert(extent(14, 10, Hole));
    let is_delayed = |extent: &Extent| extent.status().is_delayed();
    assert_eq!(inode.find(Blocks::ALL, is_delayed), Some(extent(10, 4, Delayed)));
    assert_eq!(inode.find(blocks(0, 10), is_delayed), None);
    assert!(inode.scan(blocks(13, 5), is_delayed) && !inode.scan(blocks(14, 5), is_delayed));
    // Clusters of 8 blocks: the second is 8 to 15.
    assert!(inode.scan_cluster(15, is_delayed) && !inode.scan_cluster(16, is_delayed));
}

#[test]
fn a_cluster_that_two_extents_share_is_one_reservation() {
    let (_, inode) = inode_with(2);
    inode.insert_delayed(blocks(0, 2), Allocated::default());
    inode.insert(extent(2, 1, Hole));
    inode.insert_delayed(blocks(3, 6), Allocated::default());
    assert_eq!(inode.delayed_clusters(Blocks::ALL), 3);
    assert_eq!(inode.delayed_clusters(blocks(2, 1)), 0);
    // The first cluster keeps blocks 0 and 1, and with them its reservation; the last one keeps block 8.
    assert_eq!(inode.remove(blocks(2, 6)), 1);
    assert_eq!(inode.remove(blocks(0, 2)), 1);
    assert_eq!(inode.remove(blocks(8, 1)), 1);
    assert_eq!(extents(&inode), []);
}

#[test]
fn a_pending_reservation_gives_nothing_back() {
    let (_, inode) = inode_with(2);
    // Block 0 is on the device, so that its cluster is allocated; block 1 is delayed.
    inode.insert(extent(0, 1, Written(400)));
    inode.insert_delayed(blocks(1, 1), Allocated { first: true, last: true });
    assert!(inode.is_pending(3) && !inode.is_pending(4));
    assert_eq!(inode.remove(blocks(1, 1)), 0);
    assert!(!inode.is_pending(0));
}

#[test]
fn an_allocation_beside_delayed_blocks_leaves_a_pending_reservation() {
    let (_, inode) = inode_with(2);
    inode.insert_delayed(blocks(0, 12), Allocated::default());
    // The middle cluster, one block of the first and one of the last are written back.
    inode.insert(extent(3, 6, Written(403)));
    assert_eq!([0, 4, 8].map(|block| inode.is_pending(block)), [true, false, true]);
    // The rest of the first cluster follows.
    inode.insert(extent(0, 3, Written(400)));
    assert_eq!([0, 4, 8].map(|block| inode.is_pending(block)), [false, false, true]);
    assert_eq!(inode.remove(Blocks::ALL), 0);
}

#[test]
fn clearing_leaves_what_is_delayed() {
    let (file_system, inode) = inode_with(0);
    inode.insert(extent(0, 5, Written(100)));
    inode.insert_delayed(blocks(5, 5), Allocated::default());
    inode.insert(extent(10, 5, Hole));
    assert!(inode.lookup(0).is_some());
    inode.clear();
    assert_eq!(extents(&inode), [(5, 5, Delayed)]);
    file_system.check().unwrap();
}

#[test]
fn nothing_is_left_of_a_dropped_inode() {
    let (file_system, inode) = inode_with(2);
    inode.insert(extent(0, 5, Written(100)));
    inode.insert_delayed(blocks(5, 1), Allocated { first: true, last: false });
    assert_eq!(file_system.memory().live(), 3);
    drop(inode);
    assert_eq!(file_system.memory().live(), 0);
    let said = file_system.statistics();
    assert_eq!((said.nodes, said.shrinkable), (0, 0));
    assert_eq!(Arc::strong_count(&file_system), 1);
}

#[test]
fn inodes_can_be_shared_between_cpus() {
    fn shared<T: Send + Sync>(_: &T) {}
    let file_system = FileSystem::<Heap, Spin>::new(Heap, Clusters::default());
    shared(&file_system);
    shared(&Inode::new(&file_system));
}
