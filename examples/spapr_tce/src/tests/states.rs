//! The container's states.

use std::sync::Arc;

use super::{FIRST, PAGES, READ, Setting, WRITE, bus, caller_of, group_at, process_with, user};
use crate::{
    Access, Argument, Caller, Container, Detached, Errno, Error, Group, HostPage, Mapped, PAGE_SIZE, Privilege, abi,
};

#[test]
fn only_its_own_type_is_opened() {
    for kind in [0, 1, 3, u32::MAX] {
        let refused = Container::<crate::machine::Process>::open(kind).unwrap_err();
        assert_eq!((refused, refused.errno()), (Error::Type { kind }, Errno::EINVAL));
    }
}

#[test]
fn one_group_is_attached_at_a_time() {
    let setting = Setting::attached();
    let other = group_at(0x800, 4);
    let refused = setting.container.attach(&other).unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::Attached, Errno::EBUSY));
    assert_eq!(setting.container.detach(&other), Detached::NotAttached);
    assert_eq!(setting.container.detach(&setting.group), Detached::Disabled);
    assert_eq!(setting.container.attach(&other), Ok(()));
}

#[test]
fn a_group_is_in_one_container() {
    let setting = Setting::attached();
    let other = Container::<super::Failing>::open(abi::SPAPR_TCE_IOMMU).unwrap();
    assert_eq!(other.attach(&setting.group), Err(Error::TableOwned));
    drop(setting.container);
    assert_eq!(other.attach(&setting.group), Ok(()));
}

#[test]
fn nothing_is_attached_to_an_enabled_container() {
    let setting = Setting::enabled();
    let refused = setting.container.attach(&group_at(0x800, 4)).unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::Enabled, Errno::EBUSY));
}

#[test]
fn enabling_charges_the_whole_window_once() {
    let setting = Setting::attached();
    assert_eq!(setting.enable(), Ok(0));
    assert_eq!(setting.process.process.locked(), PAGES);
    let refused = setting.enable().unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::Enabled, Errno::EBUSY));
    assert_eq!(setting.process.process.locked(), PAGES);
    // Twice is as good as once.
    setting.disable();
    setting.disable();
    assert_eq!(setting.process.process.locked(), 0);
}

#[test]
fn the_limit_holds_for_who_is_not_privileged() {
    let mut setting = Setting::attached();
    setting.process = process_with(PAGES - 1);
    setting.caller = caller_of(&setting.process);
    let refused = setting.enable().unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::OverLimit { pages: PAGES }, Errno::ENOMEM));
    assert_eq!(setting.process.process.locked(), 0);
    assert_eq!(setting.map(READ, user(0), bus(0), PAGE_SIZE), Err(Error::NotEnabled));
    setting.caller.privilege = Privilege::MayLock;
    assert_eq!(setting.enable(), Ok(0));
    assert_eq!(setting.process.process.locked(), PAGES);
}

#[test]
fn enabling_needs_a_table_and_an_address_space() {
    let setting = Setting::with(Arc::new(Group::without_table(3)));
    assert_eq!(setting.enable().map_err(Error::errno), Err(Errno::ENXIO));
    let detached = Container::<super::Failing>::open(abi::SPAPR_TCE_IOMMU).unwrap();
    for command in [abi::ENABLE, abi::GET_INFO, abi::MAP_DMA, abi::UNMAP_DMA] {
        let mut bytes = super::argument([32, 0], [0; 3]);
        let refused = detached.ioctl(&setting.caller, command, Argument::Memory(&mut bytes));
        assert_eq!(refused.map_err(Error::errno), Err(Errno::ENXIO), "{command:#x}");
    }
    let setting = Setting::attached();
    let kernel_thread = Caller { address_space: None, privilege: Privilege::MayLock };
    let refused = setting.container.ioctl(&kernel_thread, abi::ENABLE, Argument::Number(0));
    assert_eq!(refused.map_err(Error::errno), Err(Errno::ESRCH));
}

#[test]
fn detaching_disables_by_force() {
    let setting = Setting::enabled();
    setting.map(READ | WRITE, user(0), bus(0), 4 * PAGE_SIZE).unwrap();
    assert_eq!(setting.container.detach(&setting.group), Detached::Forced);
    setting.check();
    assert_eq!(setting.process.process.locked(), 0);
    assert_eq!(setting.container.detach(&setting.group), Detached::NotAttached);
}

#[test]
fn nothing_is_left_of_a_released_container() {
    let Setting { container, group, process, caller } = Setting::enabled();
    super::map(&container, &caller, WRITE, user(3), bus(5), 2 * PAGE_SIZE).unwrap();
    assert_eq!((process.process.pins(), group.mapped().len()), (2, 2));
    drop(container);
    assert_eq!((process.process.pins(), process.process.locked(), group.mapped().len()), (0, 0, 0));
    assert_eq!(Arc::strong_count(&group), 1);
}

#[test]
fn the_kernel_s_mappings_keep_a_table() {
    let group = group_at(FIRST, PAGES);
    let of_driver = Mapped { page: HostPage(1), access: Access::Read };
    let page = group.kernel_map(of_driver).unwrap().unwrap();
    let container = Container::<super::Failing>::open(abi::SPAPR_TCE_IOMMU).unwrap();
    let refused = container.attach(&group).unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::TableInUse { entries: 1 }, Errno::EBUSY));
    assert_eq!(group.mapped(), [(page, of_driver)]);
    group.kernel_unmap(page).unwrap();
    assert_eq!(container.attach(&group), Ok(()));
    // The kernel finds no free entry meanwhile, and all afterwards.
    assert_eq!(group.kernel_map(of_driver), Ok(None));
    let process = process_with(PAGES);
    container.ioctl(&caller_of(&process), abi::ENABLE, Argument::Number(0)).unwrap();
    super::map(&container, &caller_of(&process), READ, user(0), page.address(), PAGE_SIZE).unwrap();
    group.kernel_unmap(page).unwrap();
    assert_eq!(group.mapped().len(), 1);
    drop(container);
    assert_eq!(group.kernel_map(of_driver), Ok(Some(page)));
}

#[test]
fn bus_address_0_is_the_kernel_s_reservation_only() {
    let setting = Setting::with(group_at(0, 4));
    setting.enable().unwrap();
    assert_eq!(setting.map(READ, user(0), 0, PAGE_SIZE), Ok(0));
    drop(setting.container);
    let of_driver = Mapped { page: HostPage(1), access: Access::Read };
    assert_eq!(setting.group.kernel_map(of_driver).unwrap().unwrap().address(), PAGE_SIZE);
}
