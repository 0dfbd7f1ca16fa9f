//! The commands, their arguments, and what they refuse.

use std::vec;

use super::{PAGES, READ, Setting, USER_PAGES, WRITABLE, WRITE, argument, bus, group_at, user};
use crate::{Access, Argument, BusPage, Errno, Error, HostPage, Mapped, PAGE_SIZE, abi};

#[test]
fn the_numbers_are_linux_s() {
    assert_eq!([abi::CHECK_EXTENSION, abi::GET_INFO, abi::MAP_DMA], [0x3b65, 0x3b70, 0x3b71]);
    assert_eq!([abi::UNMAP_DMA, abi::ENABLE, abi::DISABLE], [0x3b72, 0x3b73, 0x3b74]);
    assert_eq!([abi::REGISTER_MEMORY, abi::UNREGISTER_MEMORY], [0x3b75, 0x3b76]);
    assert_eq!([abi::CREATE_WINDOW, abi::REMOVE_WINDOW], [0x3b77, 0x3b78]);
}

#[test]
fn both_versions_are_extensions() {
    let setting = Setting::attached();
    let ask = |extension| setting.container.ioctl(&setting.caller, abi::CHECK_EXTENSION, Argument::Number(extension));
    assert_eq!([0, 1, 2, 3, 7, u64::MAX, 1 << 32 | 2].map(ask), [0, 0, 1, 0, 1, 0, 0].map(Ok));
}

#[test]
fn unknown_commands_are_told_apart() {
    let setting = Setting::enabled();
    let of_second = abi::REGISTER_MEMORY..=abi::REMOVE_WINDOW;
    let of_nobody = [0, abi::CHECK_EXTENSION - 1, abi::CHECK_EXTENSION + 1, abi::REMOVE_WINDOW + 1, u32::MAX];
    for command in of_second.chain(of_nobody) {
        let refused = setting.container.ioctl(&setting.caller, command, Argument::Number(0)).unwrap_err();
        assert_eq!((refused, refused.errno()), (Error::Command { command }, Errno::ENOTTY));
    }
}

#[test]
fn the_window_is_told() {
    let setting = Setting::attached();
    let mut bytes = argument([16, 0xffff_ffff], [u64::MAX, u64::MAX]);
    let told = setting.container.ioctl(&setting.caller, abi::GET_INFO, Argument::Memory(&mut bytes));
    assert_eq!(told, Ok(0));
    // The size stays; flags, start, size. What is behind belongs to the caller.
    let answer = [16_u32, 0, 0x10_0000, 0x1_0000].map(u32::to_ne_bytes);
    assert_eq!((&bytes[..16], &bytes[16..]), (answer.as_flattened(), &[0xff; 8][..]));
}

#[test]
fn arguments_say_how_long_they_are() {
    let setting = Setting::enabled();
    for (command, least) in [(abi::GET_INFO, 16), (abi::MAP_DMA, 32), (abi::UNMAP_DMA, 24)] {
        let ask = |said: u32, there: usize| {
            let mut bytes = argument([said, 0], [0; 4]);
            bytes.resize(there, 0);
            setting.container.ioctl(&setting.caller, command, Argument::Memory(&mut bytes)).map_err(Error::errno)
        };
        assert_eq!(ask(least - 1, 40), Err(Errno::EINVAL), "{command:#x}");
        assert_eq!(ask(0, 40), Err(Errno::EINVAL));
        // What can't be read is noticed first.
        for there in [0, 3, usize::try_from(least).unwrap() - 1] {
            assert_eq!(ask(least, there), Err(Errno::EFAULT));
        }
        let nowhere = setting.container.ioctl(&setting.caller, command, Argument::Number(0x1000));
        assert_eq!(nowhere.map_err(Error::errno), Err(Errno::EFAULT));
    }
    // A longer one is as good.
    let mut bytes = argument([4096, READ], [user(0), bus(0), PAGE_SIZE]);
    assert_eq!(setting.container.ioctl(&setting.caller, abi::MAP_DMA, Argument::Memory(&mut bytes)), Ok(0));
}

#[test]
fn what_is_mapped_stands_in_the_table() {
    let setting = Setting::enabled();
    assert_eq!(setting.map(READ, user(2), bus(1), 2 * PAGE_SIZE), Ok(0));
    assert_eq!(setting.map(WRITE, user(0), bus(15), PAGE_SIZE), Ok(0));
    assert_eq!(setting.map(READ | WRITE, user(0), bus(7), PAGE_SIZE), Ok(0));
    let entry = |page: u64, host: u64, access| (BusPage(0x100 + page), Mapped { page: HostPage(host + 8), access });
    let all = vec![
        entry(1, 2, Access::Read),
        entry(2, 3, Access::Read),
        entry(7, 0, Access::ReadWrite),
        entry(15, 0, Access::Write),
    ];
    assert_eq!(setting.group.mapped(), all);
    assert_eq!(setting.process.process.pins(), 4);
    // Holes on the way are no error.
    assert_eq!(setting.unmap(0, bus(2), 13 * PAGE_SIZE), Ok(0));
    assert_eq!(setting.group.mapped(), [all[0], all[3]]);
    setting.check();
}

#[test]
fn what_is_not_whole_pages_is_refused() {
    let setting = Setting::enabled();
    for (vaddr, iova, size) in [(1, 0, 0), (0, 1, 0), (0, 0, 1), (2048, 0, 0), (0, 0, 2048)] {
        let (vaddr, iova, size) = (user(0) + vaddr, bus(0) + iova, PAGE_SIZE + size);
        assert_eq!(setting.map(READ, vaddr, iova, size).map_err(Error::errno), Err(Errno::EINVAL));
    }
    assert_eq!(setting.unmap(0, bus(0) + 1, PAGE_SIZE), Err(Error::Unaligned { value: bus(0) + 1 }));
    assert_eq!(setting.unmap(0, bus(0), PAGE_SIZE - 1), Err(Error::Unaligned { value: PAGE_SIZE - 1 }));
}

#[test]
fn unknown_flags_are_refused() {
    let setting = Setting::enabled();
    for flags in [4, 7, 1 << 31] {
        assert_eq!(setting.map(flags, user(0), bus(0), PAGE_SIZE), Err(Error::Flags { flags }));
    }
    for flags in [READ, WRITE, 1 << 31] {
        assert_eq!(setting.unmap(flags, bus(0), PAGE_SIZE), Err(Error::Flags { flags }));
    }
}

#[test]
fn an_entry_in_use_stays() {
    let setting = Setting::enabled();
    setting.map(READ, user(0), bus(3), PAGE_SIZE).unwrap();
    let before = setting.group.mapped();
    let refused = setting.map(READ, user(8), bus(1), 4 * PAGE_SIZE).unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::EntryInUse { iova: bus(3) }, Errno::EBUSY));
    assert_eq!(setting.group.mapped(), before);
    setting.check();
}

#[test]
fn a_user_maps_only_what_it_could_access() {
    let setting = Setting::enabled();
    // The page behind its last, on the way; and one that it may not write.
    let refused = setting.map(READ, user(USER_PAGES - 2), bus(0), 4 * PAGE_SIZE).unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::PageFault { address: user(USER_PAGES) }, Errno::EFAULT));
    let refused = setting.map(WRITE, user(WRITABLE - 1), bus(0), 2 * PAGE_SIZE);
    assert_eq!(refused, Err(Error::PageFault { address: user(WRITABLE) }));
    assert_eq!(setting.group.mapped(), []);
    assert_eq!(setting.map(READ, user(WRITABLE - 1), bus(0), 2 * PAGE_SIZE), Ok(0));
    setting.check();
}

#[test]
fn no_pages_are_mapped_without_harm() {
    let setting = Setting::enabled();
    assert_eq!(setting.map(READ, user(0), bus(0), 0), Ok(0));
    assert_eq!(setting.unmap(0, bus(PAGES - 1), 0), Ok(0));
    assert_eq!(setting.map(READ, user(0), bus(PAGES), 0).map_err(Error::errno), Err(Errno::EINVAL));
    setting.check();
}

#[test]
fn a_large_window_is_unmapped_whole() {
    let setting = Setting::with(group_at(0x1000, 300));
    let mut caller = super::caller_of(&setting.process);
    caller.privilege = crate::Privilege::MayLock;
    setting.container.ioctl(&caller, abi::ENABLE, Argument::Number(0)).unwrap();
    for page in 0..300 {
        setting.map(READ, user(page % USER_PAGES), (0x1000 + page) * PAGE_SIZE, PAGE_SIZE).unwrap();
    }
    assert_eq!(setting.process.process.pins(), 300);
    setting.unmap(0, 0x1000 * PAGE_SIZE, 299 * PAGE_SIZE).unwrap();
    assert_eq!((setting.process.process.pins(), setting.group.mapped().len()), (1, 1));
}
