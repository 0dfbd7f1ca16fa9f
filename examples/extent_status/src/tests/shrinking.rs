//! What the shrinker takes, and what it leaves.

use super::{TestInode, blocks, extent, extents, inode_with};
use crate::Status::{Delayed, Hole, Written};
use crate::{Allocated, Inode};

/// Ten extents that can't be joined, the last of them delayed, at blocks 0, 10, ...
fn fill(inode: &TestInode) {
    for index in 0..9 {
        inode.insert(extent(index * 10, 5, Written(1000 + u64::from(index) * 7)));
    }
    inode.insert_delayed(blocks(90, 5), Allocated::default());
}

fn starts(inode: &TestInode) -> std::vec::Vec<u32> {
    extents(inode).into_iter().map(|(start, ..)| start).collect()
}

#[test]
fn delayed_extents_are_never_taken() {
    let (file_system, inode) = inode_with(0);
    fill(&inode);
    assert_eq!(file_system.shrink(usize::MAX), 9);
    assert_eq!(extents(&inode), [(90, 5, Delayed)]);
    assert_eq!(file_system.statistics().shrinkable, 0);
    assert_eq!(file_system.shrink(usize::MAX), 0);
    file_system.check().unwrap();
}

#[test]
fn what_was_looked_up_has_a_second_chance() {
    let (file_system, inode) = inode_with(0);
    fill(&inode);
    assert!(inode.lookup(32).is_some() && inode.lookup(50).is_some());
    assert_eq!(file_system.shrink(10), 7);
    assert_eq!(starts(&inode), [30, 50, 90]);
    assert_eq!(file_system.shrink(10), 2);
    assert_eq!(starts(&inode), [90]);
}

#[test]
fn a_join_keeps_either_side_s_second_chance() {
    for looked_up in [0, 20] {
        let (file_system, inode) = inode_with(0);
        inode.insert(extent(0, 10, Hole));
        inode.insert(extent(20, 10, Hole));
        assert!(inode.lookup(looked_up).is_some());
        inode.insert(extent(10, 10, Hole));
        assert_eq!((file_system.shrink(1), extents(&inode).len()), (0, 1));
        assert_eq!((file_system.shrink(1), extents(&inode).len()), (1, 0));
    }
}

#[test]
fn it_goes_on_where_it_stopped_and_comes_round() {
    let (file_system, inode) = inode_with(0);
    fill(&inode);
    assert_eq!(file_system.shrink(3), 3);
    assert_eq!(starts(&inode), [30, 40, 50, 60, 70, 80, 90]);
    inode.insert(extent(0, 5, Hole));
    assert_eq!(file_system.shrink(3), 3);
    assert_eq!(starts(&inode), [0, 60, 70, 80, 90]);
    // Four to the end, one of them delayed, and round.
    assert_eq!(file_system.shrink(5), 4);
    assert_eq!(starts(&inode), [90]);
}

#[test]
fn inodes_take_turns() {
    let (file_system, first) = inode_with(0);
    let second = Inode::new(&file_system);
    for inode in [&first, &second] {
        fill(inode);
    }
    assert_eq!((file_system.shrink(4), file_system.shrink(4)), (4, 4));
    assert_eq!((extents(&first).len(), extents(&second).len()), (6, 6));
    file_system.check().unwrap();
}

#[test]
fn what_was_loaded_ahead_goes_last() {
    let (file_system, ahead) = inode_with(0);
    let other = Inode::new(&file_system);
    for inode in [&ahead, &other] {
        fill(inode);
    }
    ahead.set_precached();
    assert_eq!(file_system.shrink(usize::MAX), 9);
    assert_eq!((extents(&ahead).len(), extents(&other).len()), (10, 1));
    assert_eq!(file_system.shrink(usize::MAX), 9);
    assert_eq!(extents(&ahead).len(), 1);
}
