//! The second version: registered memory, windows, several groups.

mod model;

use std::sync::Arc;
use std::vec::Vec;

use super::{FIRST, Failing, PAGES, READ, WRITABLE, WRITE, argument, bus, caller_of, group_at, process_with, user};
use crate::{
    Access, Argument, BusPage, Caller, Container, Detached, DmaFault, Errno, Error, Group, HostPage, Mapped, PAGE_SIZE,
    Window, abi,
};

/// Where a second window begins.
const SECOND: u64 = 1 << 59;

/// A container of the second version with two groups, and a process that may lock 32 pages.
pub(super) struct Second {
    pub(super) container: Container<Failing>,
    groups: [Arc<Group>; 2],
    process: Arc<Failing>,
    pub(super) caller: Caller<Failing>,
}

impl Second {
    pub(super) fn attached() -> Self {
        let groups = [1, 2].map(|_| group_at(FIRST, PAGES));
        let container = Container::open(abi::SPAPR_TCE_V2_IOMMU).unwrap();
        for group in &groups {
            container.attach(group).unwrap();
        }
        let process = process_with(2 * PAGES);
        let caller = caller_of(&process);
        Self { container, groups, process, caller }
    }

    fn call(&self, command: u32, mut bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        self.container.ioctl(&self.caller, command, Argument::Memory(&mut bytes)).map(|_| bytes)
    }

    fn register(&self, vaddr: u64, size: u64) -> Result<(), Error> {
        self.call(abi::REGISTER_MEMORY, argument([24, 0], [vaddr, size])).map(drop)
    }

    fn unregister(&self, vaddr: u64, size: u64) -> Result<(), Error> {
        self.call(abi::UNREGISTER_MEMORY, argument([24, 0], [vaddr, size])).map(drop)
    }

    fn create(&self, page_shift: u32, size: u64, levels: u32) -> Result<u64, Error> {
        let bytes = argument([40, 0], [u64::from(page_shift), size, u64::from(levels), u64::MAX]);
        let answer = self.call(abi::CREATE_WINDOW, bytes)?;
        Ok(u64::from_ne_bytes(*answer[32..].first_chunk().unwrap()))
    }

    fn remove(&self, start: u64) -> Result<(), Error> {
        self.call(abi::REMOVE_WINDOW, argument([16, 0], [start])).map(drop)
    }

    fn map(&self, flags: u32, vaddr: u64, iova: u64, size: u64) -> Result<(), Error> {
        self.call(abi::MAP_DMA, argument([32, flags], [vaddr, iova, size])).map(drop)
    }

    fn unmap(&self, iova: u64, size: u64) -> Result<(), Error> {
        self.call(abi::UNMAP_DMA, argument([24, 0], [iova, size])).map(drop)
    }

    fn locked(&self) -> u64 {
        self.process.process.locked()
    }

    fn pins(&self) -> u64 {
        self.process.process.pins()
    }

    /// What must hold whatever was called: charged is what is pinned and what the windows' tables take, and the groups have
    /// the same windows, with no entry outside of them.
    pub(super) fn check(&self) {
        let windows = self.groups[0].windows();
        assert_eq!(windows, self.groups[1].windows());
        let tables: u64 = windows.iter().map(|window| (window.pages() * 8).div_ceil(PAGE_SIZE)).sum();
        assert_eq!(self.locked(), self.pins() + tables);
        let mapped = self.groups[0].mapped();
        assert_eq!(mapped, self.groups[1].mapped());
        let is_inside = |page: BusPage, window: &Window| {
            let first = window.first().0;
            (first..first + window.pages()).contains(&page.0)
        };
        assert!(mapped.iter().all(|(page, _)| windows.iter().any(|window| is_inside(*page, window))));
    }
}

#[test]
fn memory_is_pinned_and_paid_for_once() {
    let second = Second::attached();
    let size = 4 * PAGE_SIZE;
    assert_eq!(second.register(user(2), size), Ok(()));
    assert_eq!((second.locked(), second.pins()), (4, 4));
    let refused = second.register(user(2), size).unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::Registered { start: user(2), size }, Errno::EBUSY));
    let refused = second.register(user(5), size).unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::Overlaps { start: user(5), size }, Errno::EINVAL));
    assert_eq!(second.register(user(6), size), Ok(()));
    let refused = second.unregister(user(3), size).unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::NotRegistered { start: user(3), size }, Errno::ENOENT));
    assert_eq!((second.locked(), second.pins()), (8, 8));
    assert_eq!((second.unregister(user(2), size), second.unregister(user(6), size)), (Ok(()), Ok(())));
    assert_eq!((second.locked(), second.pins()), (0, 0));
}

#[test]
fn memory_that_cannot_be_had_leaves_nothing() {
    let second = Second::attached();
    for (vaddr, size, errno) in [
        (user(0) + 1, PAGE_SIZE, Errno::EINVAL),
        (user(0), PAGE_SIZE - 1, Errno::EINVAL),
        (user(0), 0, Errno::EINVAL),
        (0_u64.wrapping_sub(PAGE_SIZE), 2 * PAGE_SIZE, Errno::EINVAL),
        (user(0), 33 * PAGE_SIZE, Errno::ENOMEM),
        (user(0), 1 << 63, Errno::ENOMEM),
        // A device may write to it, which the user may not.
        (user(WRITABLE - 3), 4 * PAGE_SIZE, Errno::EFAULT),
    ] {
        assert_eq!(second.register(vaddr, size).map_err(Error::errno), Err(errno), "{vaddr:#x} {size:#x}");
        assert_eq!((second.locked(), second.pins()), (0, 0));
    }
    // The charge, and each of the pins.
    for nth in 0..5 {
        second.process.fail_after(nth);
        assert!(second.register(user(0), 4 * PAGE_SIZE).is_err());
        assert_eq!((second.locked(), second.pins()), (0, 0));
    }
}

#[test]
fn mapped_memory_stays_registered() {
    let second = Second::attached();
    second.register(user(0), 4 * PAGE_SIZE).unwrap();
    second.map(READ, user(1), bus(0), 2 * PAGE_SIZE).unwrap();
    let refused = second.unregister(user(0), 4 * PAGE_SIZE).unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::StillMapped { entries: 2 }, Errno::EBUSY));
    second.unmap(bus(0), PAGE_SIZE).unwrap();
    assert_eq!(second.unregister(user(0), 4 * PAGE_SIZE), Err(Error::StillMapped { entries: 1 }));
    second.unmap(bus(0), 2 * PAGE_SIZE).unwrap();
    assert_eq!(second.unregister(user(0), 4 * PAGE_SIZE), Ok(()));
    second.check();
}

#[test]
fn only_registered_memory_is_mapped() {
    let second = Second::attached();
    second.register(user(0), 2 * PAGE_SIZE).unwrap();
    second.register(user(2), PAGE_SIZE).unwrap();
    // Across both, and one more.
    let refused = second.map(READ, user(0), bus(0), 4 * PAGE_SIZE).unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::PageNotRegistered { address: user(3) }, Errno::EINVAL));
    assert_eq!(second.groups[0].mapped(), []);
    assert_eq!(second.map(READ, user(0), bus(0), 3 * PAGE_SIZE), Ok(()));
    // An entry in use stays, and what was mapped before it is undone.
    let before = second.groups[0].mapped();
    second.unmap(bus(0), PAGE_SIZE).unwrap();
    assert_eq!(second.map(WRITE, user(0), bus(0), 2 * PAGE_SIZE), Err(Error::EntryInUse { iova: bus(1) }));
    assert_eq!(second.groups[0].mapped(), before[1..]);
    second.unmap(bus(0), PAGES * PAGE_SIZE).unwrap();
    assert_eq!(second.unregister(user(0), 2 * PAGE_SIZE), Ok(()));
    second.check();
}

#[test]
fn the_groups_own_window_comes_with_the_first_mapping() {
    let second = Second::attached();
    second.register(user(0), PAGE_SIZE).unwrap();
    assert_eq!(second.groups[1].windows(), []);
    second.map(WRITE, user(0), bus(3), PAGE_SIZE).unwrap();
    assert_eq!(second.groups[1].windows(), [Window::new(BusPage(FIRST), PAGES).unwrap()]);
    // One page for the memory, one for the table.
    assert_eq!(second.locked(), 2);
    let memory = second.process.process.memory();
    for group in &second.groups {
        assert_eq!(group.dma_write(memory, bus(3), &[7]), Ok(()));
    }
    second.remove(bus(0)).unwrap();
    assert_eq!((second.locked(), second.pins()), (1, 1));
    for group in &second.groups {
        assert_eq!(group.dma_write(memory, bus(3), &[7]), Err(DmaFault::NotMapped { address: bus(3) }));
    }
    // It does not come back by itself.
    assert_eq!(second.map(WRITE, user(0), bus(3), PAGE_SIZE).map_err(Error::errno), Err(Errno::EINVAL));
    assert_eq!(second.unregister(user(0), PAGE_SIZE), Ok(()));
    assert!(second.process.process.is_dirty(HostPage(8)));
}

#[test]
fn the_groups_own_window_can_be_declined() {
    let second = Second::attached();
    second.remove(bus(0)).unwrap();
    assert_eq!(second.create(12, 64 * PAGE_SIZE, 1), Ok(bus(0)));
    assert_eq!(second.groups[0].windows(), [Window::new(BusPage(FIRST), 64).unwrap()]);
    second.check();
}

#[test]
fn there_are_two_windows_at_most() {
    let second = Second::attached();
    // The groups' own is the first.
    assert_eq!(second.create(12, 512 * PAGE_SIZE, 1), Ok(SECOND));
    assert_eq!(second.locked(), 2);
    let refused = second.create(12, PAGE_SIZE, 1).unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::NoFreeWindow, Errno::ENOSPC));
    second.register(user(0), PAGE_SIZE).unwrap();
    second.map(READ, user(0), SECOND + 511 * PAGE_SIZE, PAGE_SIZE).unwrap();
    second.map(READ, user(0), bus(0), PAGE_SIZE).unwrap();
    let mut byte = [0];
    let memory = second.process.process.memory();
    assert_eq!(second.groups[0].dma_read(memory, SECOND + 512 * PAGE_SIZE - 1, &mut byte), Ok(()));
    let refused = second.remove(PAGE_SIZE).unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::NoSuchWindow { start: PAGE_SIZE }, Errno::EINVAL));
    second.remove(SECOND).unwrap();
    assert_eq!(second.groups[0].mapped().len(), 1);
    assert_eq!(second.create(12, PAGE_SIZE, 1), Ok(SECOND));
    second.check();
}

#[test]
fn windows_that_the_hardware_has_not_are_refused() {
    let second = Second::attached();
    for shift in [0, 11, 13, 16, 24, 63, 64, u32::MAX] {
        assert_eq!(second.create(shift, 1 << 16, 1), Err(Error::PageShift { shift }));
    }
    for (size, levels) in [(0, 1), (PAGE_SIZE / 2, 1), (3 * PAGE_SIZE, 1), (1 << 33, 1), (1 << 16, 0), (1 << 16, 2)] {
        assert_eq!(second.create(12, size, levels), Err(Error::WindowSize { size, levels }));
    }
    // The table of the largest is more than the process may lock.
    assert_eq!(second.create(12, 1 << 32, 1), Err(Error::OverLimit { pages: 2048 }));
    second.check();
    assert_eq!(second.locked(), 1);
}

#[test]
fn a_refused_window_is_in_no_group_and_not_charged() {
    let second = Second::attached();
    second.groups[1].refuse_window_after(1);
    assert_eq!(second.create(12, PAGE_SIZE, 1).map_err(Error::errno), Err(Errno::EIO));
    // The groups' own came first, and is there.
    assert_eq!((second.groups[0].windows().len(), second.groups[1].windows().len(), second.locked()), (1, 1, 1));
    second.check();
    assert_eq!(second.create(12, PAGE_SIZE, 1), Ok(SECOND));
}

#[test]
fn groups_come_and_go() {
    let second = Second::attached();
    assert_eq!(second.container.attach(&second.groups[0]), Err(Error::Attached));
    second.register(user(0), PAGE_SIZE).unwrap();
    second.create(12, PAGE_SIZE, 1).unwrap();
    second.map(READ, user(0), SECOND, PAGE_SIZE).unwrap();
    let third = group_at(FIRST, PAGES);
    let of_driver = Mapped { page: HostPage(0), access: Access::Read };
    // It has both windows or none, and where none, its table is the kernel's again.
    for windows in 0..2 {
        third.refuse_window_after(windows);
        assert_eq!(second.container.attach(&third).map_err(Error::errno), Err(Errno::EIO));
        assert_eq!(third.windows(), []);
        let page = third.kernel_map(of_driver).unwrap().expect("the table is the kernel's");
        third.kernel_unmap(page).unwrap();
    }
    assert_eq!(second.container.attach(&third), Ok(()));
    let (memory, mut byte) = (second.process.process.memory(), [0]);
    assert_eq!(third.dma_read(memory, SECOND, &mut byte), Ok(()));
    assert_eq!(second.container.detach(&third), Detached::Disabled);
    assert_eq!(second.container.detach(&third), Detached::NotAttached);
    assert!(third.dma_read(memory, SECOND, &mut byte).is_err());
    assert_eq!(second.groups[1].dma_read(memory, SECOND, &mut byte), Ok(()));
    second.check();
}

#[test]
fn groups_of_other_hardware_are_refused() {
    let second = Second::attached();
    let other_window = group_at(FIRST, PAGES / 2);
    let window = Window::new(BusPage(FIRST), PAGES).unwrap();
    let other_pages = Arc::new(Group::new(4, window).unwrap().with_page_sizes(1 << 12 | 1 << 16));
    for group in [other_window, other_pages] {
        let refused = second.container.attach(&group).unwrap_err();
        assert_eq!((refused, refused.errno()), (Error::Incompatible, Errno::EPERM));
        assert!(group.kernel_map(Mapped { page: HostPage(0), access: Access::Read }).unwrap().is_some());
    }
    let without = Arc::new(Group::without_table(5));
    assert_eq!(second.container.attach(&without), Err(Error::NoTable));
}

#[test]
fn one_address_space_uses_a_container() {
    let second = Second::attached();
    second.register(user(0), PAGE_SIZE).unwrap();
    let other = Second { caller: caller_of(&process_with(PAGES)), ..second };
    assert_eq!(other.register(user(1), PAGE_SIZE), Err(Error::OtherAddressSpace));
    assert_eq!(other.unregister(user(0), PAGE_SIZE), Err(Error::OtherAddressSpace));
    assert_eq!(other.create(12, PAGE_SIZE, 1), Err(Error::OtherAddressSpace));
    assert_eq!(other.remove(bus(0)), Err(Error::OtherAddressSpace));
    assert_eq!(other.map(READ, user(0), bus(0), PAGE_SIZE), Err(Error::OtherAddressSpace));
    assert_eq!(other.unmap(bus(0), PAGE_SIZE), Err(Error::OtherAddressSpace));
    other.check();
}

#[test]
fn there_is_nothing_to_enable() {
    let second = Second::attached();
    for command in [abi::ENABLE, abi::DISABLE] {
        let refused = second.container.ioctl(&second.caller, command, Argument::Number(0));
        assert_eq!(refused, Err(Error::Command { command }));
    }
}

#[test]
fn what_can_be_created_is_told_where_there_is_room() {
    let second = Second::attached();
    let told = second.call(abi::GET_INFO, argument([32, 9], [7, 7, 7])).unwrap();
    let mut answer = [32_u32, 1, 0x10_0000, 0x1_0000].map(u32::to_ne_bytes).as_flattened().to_vec();
    answer.extend((1_u64 << 12).to_ne_bytes());
    answer.extend([2_u32, 1].map(u32::to_ne_bytes).as_flattened());
    assert_eq!(told, answer);
    let told = second.call(abi::GET_INFO, argument([31, 9], [7, 7, 7])).unwrap();
    assert_eq!((&told[4..8], &told[16..]), (&[0; 4][..], &argument([7, 0], [7])[..]));
}

#[test]
fn what_was_unmapped_is_out_of_reach_although_it_was_used() {
    let second = Second::attached();
    let memory = second.process.process.memory();
    second.register(user(0), 2 * PAGE_SIZE).unwrap();
    second.map(WRITE, user(0), bus(0), PAGE_SIZE).unwrap();
    second.groups[0].dma_write(memory, bus(0), &[1]).unwrap();
    second.unmap(bus(0), PAGE_SIZE).unwrap();
    let fault = DmaFault::NotMapped { address: bus(0) };
    assert_eq!(second.groups[0].dma_write(memory, bus(0), &[3]), Err(fault));
    second.groups[0].reset();
    second.map(WRITE, user(1), bus(0), PAGE_SIZE).unwrap();
    second.groups[0].dma_write(memory, bus(0), &[2]).unwrap();
    let mut bytes = [0; 2];
    memory.read(HostPage(8), 0, &mut bytes[..1]);
    memory.read(HostPage(9), 0, &mut bytes[1..]);
    assert_eq!(bytes, [1, 2]);
}

#[test]
fn any_one_failure_leaves_what_must_hold() {
    // Two registrations, of six pages, and two windows.
    let all = 10;
    for nth in 0..=all {
        let second = Second::attached();
        second.process.fail_after(nth);
        let mut has_failed = false;
        for called in [
            second.register(user(0), 4 * PAGE_SIZE),
            second.map(READ | WRITE, user(0), bus(0), 4 * PAGE_SIZE),
            second.register(user(8), 2 * PAGE_SIZE),
            second.create(12, 1 << 16, 1).map(drop),
            second.map(READ, user(8), SECOND, 2 * PAGE_SIZE),
            second.unmap(bus(0), 4 * PAGE_SIZE),
            second.unregister(user(0), 4 * PAGE_SIZE),
        ] {
            has_failed |= called.is_err();
            second.check();
        }
        let Second { container, groups, process, .. } = second;
        drop(container);
        assert_eq!((process.process.pins(), process.process.locked()), (0, 0));
        assert!(groups.iter().all(|group| group.windows().is_empty() && Arc::strong_count(group) == 1));
        assert_eq!(has_failed, nth < all);
    }
}
