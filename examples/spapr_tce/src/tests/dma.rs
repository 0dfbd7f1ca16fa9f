//! What devices reach.

use super::{READ, Setting, WRITE, bus, user};
use crate::{Access, DmaFault, HostPage, Mapped, PAGE_SIZE};

#[test]
fn a_device_writes_into_the_user_s_pages() {
    let setting = Setting::enabled();
    let memory = setting.process.process.memory();
    setting.map(READ | WRITE, user(4), bus(0), PAGE_SIZE).unwrap();
    setting.map(READ | WRITE, user(9), bus(1), PAGE_SIZE).unwrap();
    // Across the two pages, which are not neighbours in the host's memory.
    setting.group.dma_write(memory, bus(1) - 3, b"abcdef").unwrap();
    let (mut end, mut begin, mut both) = ([0; 3], [0; 3], [0; 6]);
    memory.read(HostPage(12), 4093, &mut end);
    memory.read(HostPage(17), 0, &mut begin);
    assert_eq!((&end, &begin), (b"abc", b"def"));
    setting.group.dma_read(memory, bus(1) - 3, &mut both).unwrap();
    assert_eq!(&both, b"abcdef");
}

#[test]
fn a_device_outside_its_mappings_is_isolated() {
    let setting = Setting::enabled();
    let memory = setting.process.process.memory();
    setting.map(READ, user(0), bus(0), PAGE_SIZE).unwrap();
    let mut byte = [0];
    for (address, write) in [(bus(0), true), (bus(1), false), (bus(0) - 1, false), (bus(16), false), (u64::MAX, true)] {
        assert!(!setting.group.is_isolated());
        let before = setting.group.faults();
        let accessed = if write {
            setting.group.dma_write(memory, address, &[1])
        } else {
            setting.group.dma_read(memory, address, &mut byte)
        };
        assert_eq!(accessed, Err(DmaFault::NotMapped { address }));
        assert_eq!(setting.group.faults(), before + 1);
        // From now on, nothing gets through, and is not counted again.
        assert_eq!(setting.group.dma_read(memory, bus(0), &mut byte), Err(DmaFault::Isolated));
        assert_eq!(setting.group.faults(), before + 1);
        setting.group.reset();
        assert_eq!(setting.group.dma_read(memory, bus(0), &mut byte), Ok(()));
    }
}

#[test]
fn what_was_unmapped_is_out_of_reach_although_it_was_used() {
    let setting = Setting::enabled();
    let memory = setting.process.process.memory();
    setting.map(WRITE, user(0), bus(0), PAGE_SIZE).unwrap();
    setting.group.dma_write(memory, bus(0), &[1]).unwrap();
    setting.unmap(0, bus(0), PAGE_SIZE).unwrap();
    assert_eq!(setting.group.dma_write(memory, bus(0), &[2]), Err(DmaFault::NotMapped { address: bus(0) }));
    setting.group.reset();
    // Another page comes there, and is the one that is reached.
    setting.map(WRITE, user(1), bus(0), PAGE_SIZE).unwrap();
    setting.group.dma_write(memory, bus(0), &[3]).unwrap();
    let mut bytes = [0; 2];
    memory.read(HostPage(8), 0, &mut bytes[..1]);
    memory.read(HostPage(9), 0, &mut bytes[1..]);
    assert_eq!(bytes, [1, 3]);
}

#[test]
fn pages_that_a_device_could_write_are_dirty() {
    let setting = Setting::enabled();
    setting.map(READ, user(0), bus(0), PAGE_SIZE).unwrap();
    setting.map(WRITE, user(1), bus(1), PAGE_SIZE).unwrap();
    setting.unmap(0, bus(0), 2 * PAGE_SIZE).unwrap();
    assert_eq!([8, 9].map(|page| setting.process.process.is_dirty(HostPage(page))), [false, true]);
}

#[test]
fn the_kernel_s_mappings_do_not_outlive_its_ownership() {
    let setting = Setting::enabled();
    let memory = setting.process.process.memory();
    drop(setting.container);
    let page = setting.group.kernel_map(Mapped { page: HostPage(1), access: Access::Read }).unwrap().unwrap();
    let mut byte = [0];
    setting.group.dma_read(memory, page.address(), &mut byte).unwrap();
    setting.group.kernel_unmap(page).unwrap();
    let container = crate::Container::<super::Failing>::open(crate::abi::SPAPR_TCE_IOMMU).unwrap();
    container.attach(&setting.group).unwrap();
    assert!(setting.group.dma_read(memory, page.address(), &mut byte).is_err());
}
