//! What the patch has wrong: each test fails on a container that does it the patch's way.

use std::boxed::Box;
use std::sync::Arc;

use super::{PAGES, READ, Setting, WRITE, argument, bus, caller_of, group_at, process_with, user};
use crate::{AddressSpace, Argument, BusPage, DmaFault, Errno, Error, HostPage, PAGE_SIZE, Privilege, Window, abi};

#[test]
fn nothing_is_mapped_before_somebody_pays() {
    let setting = Setting::attached();
    let refused = setting.map(READ, user(0), bus(0), PAGE_SIZE).unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::NotEnabled, Errno::EPERM));
    assert_eq!(setting.unmap(0, bus(0), PAGE_SIZE), Err(Error::NotEnabled));
    assert_eq!(setting.process.process.pins(), 0);
}

#[test]
fn a_disabled_container_has_nothing_mapped() {
    let setting = Setting::enabled();
    let memory = setting.process.process.memory();
    setting.map(READ | WRITE, user(0), bus(0), 3 * PAGE_SIZE).unwrap();
    setting.group.dma_write(memory, bus(0), &[1]).unwrap();
    setting.disable();
    assert_eq!((setting.process.process.pins(), setting.process.process.locked()), (0, 0));
    assert_eq!(setting.group.dma_write(memory, bus(0), &[1]), Err(DmaFault::NotMapped { address: bus(0) }));
}

#[test]
fn who_was_charged_is_uncharged() {
    let setting = Setting::enabled();
    setting.map(WRITE, user(0), bus(0), PAGE_SIZE).unwrap();
    let other = process_with(PAGES);
    other.charge(PAGES, Privilege::Limited).unwrap();
    let disabled = setting.container.ioctl(&caller_of(&other), abi::DISABLE, Argument::Number(0));
    assert_eq!(disabled, Ok(0));
    assert_eq!((setting.process.process.locked(), other.process.locked()), (0, PAGES));
    assert_eq!(setting.process.process.pins(), 0);
}

#[test]
fn only_who_pays_maps() {
    let setting = Setting::enabled();
    let other = process_with(PAGES);
    let refused = super::map(&setting.container, &caller_of(&other), READ, user(0), bus(0), PAGE_SIZE).unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::OtherAddressSpace, Errno::EPERM));
    assert_eq!((other.process.pins(), setting.group.mapped().len()), (0, 0));
}

#[test]
fn a_range_is_in_the_window_whole() {
    let setting = Setting::enabled();
    setting.map(READ, user(0), bus(15), PAGE_SIZE).unwrap();
    let before = setting.group.mapped();
    for (page, count) in [(15, 2), (0, 17), (14, 3), (1, 16)] {
        let (iova, size) = (bus(page), count * PAGE_SIZE);
        assert_eq!(setting.map(READ, user(0), iova, size), Err(Error::OutsideWindow { iova, size }));
        assert_eq!(setting.unmap(0, iova, size), Err(Error::OutsideWindow { iova, size }));
    }
    // No page of such a range is touched, inside or not.
    assert_eq!(setting.group.mapped(), before);
}

#[test]
fn a_range_does_not_wrap_into_the_window() {
    let setting = Setting::enabled();
    let whole = 0_u64.wrapping_sub(PAGE_SIZE);
    let ranges = [(bus(1), whole), (whole, PAGE_SIZE + bus(1)), (bus(0), 1 << 63), (bus(15), whole - bus(14))];
    let is_refused = |said: Result<u32, Error>, size: u64| {
        let refused = said.unwrap_err();
        assert_eq!(refused.errno(), Errno::EINVAL);
        // The range, and not a page of it, that was come to.
        matches!(refused, Error::Wraps { size: of, .. } | Error::OutsideWindow { size: of, .. } if of == size)
    };
    for (iova, size) in ranges {
        assert!(is_refused(setting.map(READ, user(0), iova, size), size), "{iova:#x} {size:#x}");
    }
    for (iova, size) in ranges {
        assert!(is_refused(setting.unmap(0, iova, size), size), "{iova:#x} {size:#x}");
    }
    // Nor do the user's addresses.
    let refused = setting.map(READ, whole, bus(0), 2 * PAGE_SIZE);
    assert_eq!(refused, Err(Error::Wraps { start: whole, size: 2 * PAGE_SIZE }));
    setting.check();
}

#[test]
fn a_window_behind_32_bits_is_not_told_as_another() {
    for (first, pages) in [(1 << 20, 4), (0x100, 1 << 20), ((1 << 20) + 0x100, 4)] {
        let setting = Setting::with(group_at(first, pages));
        let mut bytes = argument([16, 0], [0]);
        let refused = setting.container.ioctl(&setting.caller, abi::GET_INFO, Argument::Memory(&mut bytes));
        assert_eq!(refused.map_err(Error::errno), Err(Errno::EOVERFLOW));
        assert_eq!(bytes, argument([16, 0], [0]));
    }
    assert_eq!(Window::new(BusPage(1 << 51), (1 << 51) + 1), None);
    assert_eq!(Window::new(BusPage(u64::MAX), 2), None);
}

#[test]
fn the_group_is_not_detached_under_a_call() {
    let setting = Setting::enabled();
    let container = Arc::new(setting.container);
    let (seen, held) = (Arc::new(spin::Mutex::new(0)), Arc::downgrade(&container));
    *setting.process.in_pin.lock() = Some({
        let seen = Arc::clone(&seen);
        Box::new(move || {
            // Whoever detaches now must wait.
            let container = held.upgrade().unwrap();
            assert!(container.state.try_lock().is_none(), "the table is used without the lock");
            *seen.lock() += 1;
        })
    });
    super::map(&container, &setting.caller, READ, user(0), bus(0), 3 * PAGE_SIZE).unwrap();
    assert_eq!(*seen.lock(), 3);
}

#[test]
fn a_mapping_has_a_permission() {
    let setting = Setting::enabled();
    assert_eq!(setting.map(0, user(0), bus(0), PAGE_SIZE), Err(Error::Flags { flags: 0 }));
    setting.check();
}

#[test]
fn a_page_that_does_not_get_into_the_table_is_not_pinned() {
    let setting = Setting::enabled();
    setting.map(READ, user(0), bus(0), PAGE_SIZE).unwrap();
    assert_eq!(setting.map(WRITE, user(1), bus(0), PAGE_SIZE), Err(Error::EntryInUse { iova: bus(0) }));
    assert_eq!(setting.process.process.pins(), 1);
    // And no device has written to it.
    assert!(!setting.process.process.is_dirty(HostPage(9)));
}
