//! The extent status tree beside a plain `BTreeMap`, over how many extents there are.
//!
//! The map knows a start and a length and status for each extent. It is given no lock, no counters, no second chance, no memory
//! that can fail: what it costs is what such a tree can cost at the least.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use extent_status::{Blocks, Clusters, Extent, FileSystem, Heap, Inode, Spin, Status};

/// How many extents there are.
const SIZES: [u32; 3] = [100, 10_000, 1_000_000];

/// The blocks of each, and from one's beginning to the next one's.
const LEN: u32 = 8;
const STRIDE: u32 = 16;

/// An extent's physical block. None goes on from another.
fn physical(index: u32) -> u64 {
    u64::from(index) * 1000
}

fn extent(start: u32, len: u32, status: Status) -> Extent {
    Extent::new(Blocks::new(start, len).unwrap(), status).unwrap()
}

fn inode(size: u32) -> (Arc<FileSystem<Heap, Spin>>, Inode<Heap, Spin>) {
    let file_system = FileSystem::new(Heap, Clusters::default());
    let inode = Inode::new(&file_system);
    for index in 0..size {
        inode.insert(extent(index * STRIDE, LEN, Status::Written(physical(index))));
    }
    (file_system, inode)
}

type Map = BTreeMap<u32, (u32, Status)>;

fn map(size: u32) -> Map {
    (0..size).map(|index| (index * STRIDE, (LEN, Status::Written(physical(index))))).collect()
}

/// Every extent once, in an order that jumps.
fn jumping(size: u32) -> impl FnMut() -> u32 {
    let mut index = 0;
    move || {
        index = (index + 7_368_787) % size;
        index
    }
}

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    for size in SIZES {
        let (_, inode) = inode(size);
        let mut next = jumping(size);
        group.bench_function(BenchmarkId::new("tree", size), |bencher| {
            bencher.iter(|| inode.lookup(black_box(next() * STRIDE + 3)));
        });
        group.bench_function(BenchmarkId::new("tree, the same again", size), |bencher| {
            bencher.iter(|| inode.lookup(black_box(size / 2 * STRIDE + 3)));
        });
        let (map, mut next) = (map(size), jumping(size));
        group.bench_function(BenchmarkId::new("BTreeMap", size), |bencher| {
            bencher.iter(|| {
                let block = black_box(next() * STRIDE + 3);
                map.range(..=block).next_back().filter(|(start, (len, _))| block < *start + len)
            });
        });
    }
    group.finish();
}

/// A block in the middle of an extent is removed and comes back: a split, and a join of three.
fn split_and_join(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("split and join");
    for size in SIZES {
        let (_, inode) = inode(size);
        let mut next = jumping(size);
        group.bench_function(BenchmarkId::new("tree", size), |bencher| {
            bencher.iter(|| {
                let index = black_box(next());
                let (block, physical) = (index * STRIDE + 3, physical(index) + 3);
                let given_back = inode.remove(Blocks::new(block, 1).unwrap());
                inode.insert(extent(block, 1, Status::Written(physical)));
                given_back
            });
        });
        let (mut map, mut next) = (map(size), jumping(size));
        group.bench_function(BenchmarkId::new("BTreeMap", size), |bencher| {
            bencher.iter(|| {
                let index = black_box(next());
                let (start, block) = (index * STRIDE, index * STRIDE + 3);
                let (_, whole) = map.range_mut(..=block).next_back().unwrap();
                let status = whole.1;
                whole.0 = 3;
                map.insert(block + 1, (LEN - 4, Status::Written(physical(index) + 4)));
                map.remove(&(block + 1));
                map.insert(start, (LEN, status));
            });
        });
    }
    group.finish();
}

/// What the shrinker needs for each extent that it takes, of 1,024.
fn shrink(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shrink by 1,024");
    for size in [10_000, 100_000] {
        group.bench_function(BenchmarkId::new("tree", size), |bencher| {
            bencher.iter_batched_ref(|| inode(size), |(files, _)| files.shrink(1024), BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, lookup, split_and_join, shrink);
criterion_main!(benches);
