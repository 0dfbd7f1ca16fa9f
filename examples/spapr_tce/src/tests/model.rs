//! Random calls beside a plain map.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    FIRST, PAGES, READ, Random, Setting, USER, USER_PAGES, WRITABLE, WRITE, bus, caller_of, map, process_with, user,
};
use crate::{Access, Argument, Detached, Errno, Error, HostPage, PAGE_SIZE, abi};

/// How many calls.
const CALLS: u32 = if cfg!(miri) { 300 } else { 1_000_000 };

/// What should be so.
#[derive(Default)]
struct Expected {
    is_attached: bool,
    is_enabled: bool,
    /// Host page and flags, by the page of the window.
    mapped: BTreeMap<u64, (u64, u32)>,
}

impl Expected {
    /// What a mapping comes to, checked in the order of the container's.
    fn map(&mut self, flags: u32, from: u64, to: u64, count: u64) -> Result<u32, Errno> {
        if !self.is_attached {
            return Err(Errno::ENXIO);
        }
        if !self.is_enabled {
            return Err(Errno::EPERM);
        }
        if !(1..=3).contains(&flags) || to >= PAGES || to + count > PAGES {
            return Err(Errno::EINVAL);
        }
        for page in 0..count {
            let last = if flags & WRITE == 0 { USER_PAGES } else { WRITABLE };
            if from + page >= last {
                return Err(Errno::EFAULT);
            }
            if self.mapped.contains_key(&(to + page)) {
                return Err(Errno::EBUSY);
            }
        }
        self.mapped.extend((0..count).map(|page| (to + page, (from + page + 8, flags))));
        Ok(0)
    }

    fn unmap(&mut self, flags: u32, from: u64, count: u64) -> Result<u32, Errno> {
        if !self.is_attached {
            return Err(Errno::ENXIO);
        }
        if !self.is_enabled {
            return Err(Errno::EPERM);
        }
        if flags != 0 || from >= PAGES || from + count > PAGES {
            return Err(Errno::EINVAL);
        }
        self.mapped.retain(|page, _| !(from..from + count).contains(page));
        Ok(0)
    }

    fn enable(&mut self) -> Result<u32, Errno> {
        if !self.is_attached {
            return Err(Errno::ENXIO);
        }
        if self.is_enabled {
            return Err(Errno::EBUSY);
        }
        self.is_enabled = true;
        Ok(0)
    }

    fn disable(&mut self) {
        self.is_enabled = false;
        self.mapped.clear();
    }
}

fn step(setting: &Setting, expected: &mut Expected, random: &mut Random) {
    let (to, count) = (random.below(PAGES + 2), random.below(6));
    match random.below(64) {
        0..24 => {
            let flags = [READ, WRITE, READ | WRITE, READ | WRITE, 0, 4][usize::try_from(random.below(6)).unwrap()];
            let from = random.below(USER_PAGES + 1);
            let said = setting.map(flags, user(from), bus(to), count * PAGE_SIZE).map_err(Error::errno);
            assert_eq!(said, expected.map(flags, from, to, count), "{flags} {from} {to} {count}");
        }
        24..48 => {
            let flags = u32::from(random.below(10) == 0);
            let said = setting.unmap(flags, bus(to), count * PAGE_SIZE).map_err(Error::errno);
            assert_eq!(said, expected.unmap(flags, to, count), "{flags} {to} {count}");
        }
        48..56 => access(setting, expected, random),
        56..59 => assert_eq!(setting.enable().map_err(Error::errno), expected.enable()),
        59 => {
            setting.disable();
            expected.disable();
        }
        60 => {
            let other = caller_of(&process_with(0));
            let said = map(&setting.container, &other, READ, user(0), bus(to), PAGE_SIZE).map_err(Error::errno);
            assert_eq!(said, Err(if expected.is_attached { Errno::EPERM } else { Errno::ENXIO }));
        }
        61 => {
            let said = setting.container.detach(&setting.group);
            assert_eq!(
                said,
                match (expected.is_attached, expected.is_enabled) {
                    (false, _) => Detached::NotAttached,
                    (true, false) => Detached::Disabled,
                    (true, true) => Detached::Forced,
                }
            );
            expected.is_attached = false;
            expected.disable();
        }
        _ => {
            let said = setting.container.attach(&setting.group).map_err(Error::errno);
            assert_eq!(said, if expected.is_attached { Err(Errno::EBUSY) } else { Ok(()) });
            expected.is_attached = true;
        }
    }
    compare(setting, expected);
}

/// A device accesses a page of the window or beside it.
fn access(setting: &Setting, expected: &Expected, random: &mut Random) {
    let memory = setting.process.process.memory();
    let page = random.below(PAGES + 1);
    let is_write = random.below(2) == 0;
    let needed = if is_write { WRITE } else { READ };
    let reached = expected.mapped.get(&page).filter(|(_, flags)| flags & needed != 0);
    let mut byte = [random.next().to_le_bytes()[0]];
    let said = if is_write {
        setting.group.dma_write(memory, bus(page) + 5, &byte)
    } else {
        setting.group.dma_read(memory, bus(page) + 5, &mut byte)
    };
    assert_eq!(said.is_ok(), reached.is_some());
    assert_eq!(setting.group.is_isolated(), reached.is_none());
    setting.group.reset();
    if let Some((host, _)) = reached {
        let mut there = [0];
        memory.read(HostPage(*host), 5, &mut there);
        assert_eq!(there, byte);
    }
}

fn compare(setting: &Setting, expected: &Expected) {
    let mapped = setting.group.mapped();
    let flags = |access| match access {
        Access::Read => READ,
        Access::Write => WRITE,
        Access::ReadWrite => READ | WRITE,
    };
    let said = mapped.iter().map(|(page, mapped)| (page.0 - FIRST, (mapped.page.0, flags(mapped.access))));
    assert!(said.eq(expected.mapped.iter().map(|(page, what)| (*page, *what))), "{mapped:x?}");
    assert_eq!(setting.process.process.locked(), if expected.is_enabled { PAGES } else { 0 });
    assert_eq!(setting.process.process.pins(), u64::try_from(mapped.len()).unwrap());
}

#[test]
fn the_container_does_what_a_map_does() {
    let setting = Setting::attached();
    let mut expected = Expected { is_attached: true, ..Expected::default() };
    let mut random = Random(USER);
    for _ in 0..CALLS {
        step(&setting, &mut expected, &mut random);
    }
    let Setting { container, group, process, caller } = setting;
    // What can be asked of any container.
    assert_eq!(container.ioctl(&caller, abi::CHECK_EXTENSION, Argument::Number(2)), Ok(1));
    drop(container);
    assert_eq!((group.mapped().len(), process.process.pins(), process.process.locked()), (0, 0, 0));
    drop(caller);
    assert_eq!((Arc::strong_count(&group), Arc::strong_count(&process)), (1, 1));
}
