//! What must hold of an inode after every operation.

use thiserror::Error;

use crate::extent::{Extent, MAX_BLOCKS};
use crate::inode::Body;
use crate::memory::NodeMemory;
use crate::reservation::Clusters;

/// What does not hold.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Broken {
    /// An extent has no blocks, or blocks that no file has.
    #[error("The extent of {len} blocks at block {start} is none that a file can have")]
    Length {
        /// Its first block.
        start: u32,
        /// Its length.
        len: u32,
    },
    /// An extent begins before the one in front of it ends.
    #[error("The extent at block {start} begins before the one in front of it ends, at block {end}")]
    Order {
        /// Where the one in front ends.
        end: u32,
        /// Where it begins.
        start: u32,
    },
    /// Two neighbours could be one.
    #[error("The extents {0:?} and {1:?} could be one")]
    Mergeable(Extent, Extent),
    /// The number of extents is not what was counted.
    #[error("The tree has {counted} extents, and its count says {said}")]
    Count {
        /// What the count says.
        said: u32,
        /// How many there are.
        counted: u32,
    },
    /// The number of extents that the shrinker may take is not what was counted.
    #[error("The shrinker may take {counted} extents, and the tree's count says {said}")]
    Shrinkable {
        /// What the count says.
        said: u32,
        /// How many there are.
        counted: u32,
    },
    /// The cached node is none of the tree's.
    #[error("The cached node is none of the tree's")]
    Cached,
    /// The inode is in the shrinker's list without anything to take, or the other way.
    #[error(
        "The inode is in the shrinker's list when it should not be, or is not when it should: it may take {shrinkable}"
    )]
    Listed {
        /// How many extents the shrinker may take.
        shrinkable: u32,
    },
    /// The shrinker's list is longer or shorter than it says.
    #[error("The shrinker's list has {counted} inodes, and says {said}")]
    ListLength {
        /// What it says.
        said: usize,
        /// How many there are.
        counted: usize,
    },
    /// A pending reservation's cluster has no reserved blocks.
    #[error("Cluster {cluster} has a pending reservation without reserved blocks")]
    Pending {
        /// The cluster.
        cluster: u32,
    },
}

/// Checks an inode.
pub(crate) fn check<M: NodeMemory>(body: &Body<M>, clusters: Clusters, is_listed: bool) -> Result<(), Broken> {
    let tree = &body.tree;
    let (mut counted, mut shrinkable, mut is_cached) = (0, 0, tree.cached().is_none());
    let mut before: Option<Extent> = None;
    for node in tree.nodes() {
        let (start, len) = (node.start(), node.len());
        if len == 0 || u64::from(start) + u64::from(len) > u64::from(MAX_BLOCKS) {
            return Err(Broken::Length { start, len });
        }
        let extent = node.extent();
        if let Some(before) = before {
            let end = before.blocks().last() + 1;
            if start < end {
                return Err(Broken::Order { end, start });
            }
            if before.joined(extent).is_some() {
                return Err(Broken::Mergeable(before, extent));
            }
        }
        before = Some(extent);
        counted += 1;
        shrinkable += u32::from(!extent.status().is_delayed());
        is_cached |= tree.cached().is_some_and(|cached| core::ptr::eq(cached, node));
    }
    if counted != tree.all() {
        return Err(Broken::Count { said: tree.all(), counted });
    }
    if shrinkable != tree.shrinkable() {
        return Err(Broken::Shrinkable { said: tree.shrinkable(), counted: shrinkable });
    }
    if !is_cached {
        return Err(Broken::Cached);
    }
    if is_listed != (shrinkable > 0) {
        return Err(Broken::Listed { shrinkable });
    }
    let is_reserved = |cluster: &u32| {
        let blocks = clusters.blocks(*cluster);
        tree.overlapping(blocks).any(|extent| extent.status().is_reserved())
    };
    match body.pending.clusters().find(|cluster| !is_reserved(cluster)) {
        Some(cluster) => Err(Broken::Pending { cluster }),
        None => Ok(()),
    }
}
