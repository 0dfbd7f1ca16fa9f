//! Each allocation failing in its turn.

use super::model::{BASES, Beside, Memory};
use super::{Random, blocks, extent, extents, inode_with};
use crate::Allocated;
use crate::Status::{Delayed, Unwritten, Written};

/// How many sequences, and how many operations in each.
const SEQUENCES: (u64, u32) = if cfg!(miri) { (1, 5) } else { (40, 60) };

#[test]
fn any_one_allocation_can_fail() {
    let (sequences, operations) = SEQUENCES;
    for seed in 0..sequences {
        for &base in BASES {
            for nth in 0.. {
                let mut beside = Beside::new(base, 2, Memory::Short);
                beside.file_system().memory().fail_after(nth);
                let mut random = Random(seed);
                for _ in 0..operations {
                    beside.step(&mut random);
                }
                let was_reached = beside.file_system().memory().tries() > nth;
                beside.finish();
                if !was_reached {
                    assert!(nth > 1, "the sequence allocates");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_failed_split_is_undone_and_run_again() {
    let (file_system, inode) = inode_with(0);
    inode.insert_delayed(blocks(0, 10), Allocated::default());
    file_system.memory().fail_after(0);
    assert_eq!(inode.remove(blocks(4, 2)), 2);
    assert_eq!(extents(&inode), [(0, 4, Delayed), (6, 4, Delayed)]);
    // One for the split, one in case that the next step had needed it.
    assert_eq!((file_system.memory().waited(), file_system.memory().live()), (2, 2));
}

#[test]
fn a_failed_insertion_waits_if_it_must_be_kept() {
    let (file_system, inode) = inode_with(0);
    file_system.memory().fail_after(0);
    inode.insert(extent(0, 10, Written(100)));
    assert_eq!((extents(&inode).len(), file_system.memory().waited()), (0, 0));
    file_system.memory().fail_after(0);
    inode.insert_delayed(blocks(0, 10), Allocated::default());
    assert_eq!((extents(&inode).len(), file_system.memory().waited()), (1, 1));
}

#[test]
fn a_pending_reservation_is_never_left_out() {
    let (file_system, inode) = inode_with(2);
    inode.insert_delayed(blocks(0, 12), Allocated::default());
    // Delayed blocks stay on both sides. The tree takes two nodes; both pending reservations fail.
    for tries in [2, 3] {
        file_system.memory().fail_after(tries);
        inode.insert(extent(2, 8, Unwritten(402)));
        assert!(inode.is_pending(0) && inode.is_pending(8) && !inode.is_pending(4));
        inode.insert_delayed(blocks(0, 12), Allocated::default());
        inode.insert(extent(0, 12, Written(400)));
        assert!(!inode.is_pending(0) && !inode.is_pending(8));
        inode.insert_delayed(blocks(0, 12), Allocated::default());
    }
}
