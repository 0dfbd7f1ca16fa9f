//! The container: a map and an unmap, over how many pages and how large the window is.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use spapr_tce::machine::{HostMemory, Process};
use spapr_tce::{
    Argument, BusPage, Caller, Container, Group, HostPage, PAGE_SIZE, Privilege, UserPage, Window, Write, abi,
};

fn argument<const N: usize>(words: [u32; 2], longs: [u64; N]) -> Vec<u8> {
    let mut bytes = words.map(u32::to_ne_bytes).as_flattened().to_vec();
    bytes.extend(longs.map(u64::to_ne_bytes).as_flattened());
    bytes
}

fn map_and_unmap(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("map and unmap");
    for window in [1024, 262_144] {
        let process = Arc::new(Process::new(Arc::new(HostMemory::new(1)), window));
        for page in 0..256 {
            process.give(UserPage(page), HostPage(page), Write::Yes);
        }
        let devices = Arc::new(Group::new(1, Window::new(BusPage(0), window).unwrap()).unwrap());
        let container = Container::open(abi::SPAPR_TCE_IOMMU).unwrap();
        container.attach(&devices).unwrap();
        let caller = Caller { address_space: Some(process), privilege: Privilege::Limited };
        container.ioctl(&caller, abi::ENABLE, Argument::Number(0)).unwrap();
        for pages in [1, 16, 256] {
            let (iova, size) = (window / 2 * PAGE_SIZE, pages * PAGE_SIZE);
            let mut map = argument([32, abi::MAP_READ | abi::MAP_WRITE], [0, iova, size]);
            let mut unmap = argument([24, 0], [iova, size]);
            group.throughput(Throughput::Elements(pages));
            group.bench_function(BenchmarkId::new(format!("{pages} pages"), window), |bencher| {
                bencher.iter(|| {
                    let mapped = container.ioctl(&caller, abi::MAP_DMA, Argument::Memory(black_box(&mut map)));
                    let unmapped = container.ioctl(&caller, abi::UNMAP_DMA, Argument::Memory(black_box(&mut unmap)));
                    (mapped.unwrap(), unmapped.unwrap())
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, map_and_unmap);
criterion_main!(benches);
