//! Random calls beside a plain map.

use std::collections::BTreeMap;

use super::{SECOND, Second};
use crate::tests::{FIRST, PAGES, READ, Random, WRITABLE, WRITE, bus, user};
use crate::{Access, Detached, Errno, Error, PAGE_SIZE};

const CALLS: u32 = if cfg!(miri) { 200 } else { 1_000_000 };

/// What should be so. Pages are numbers of the process's and of bus addresses.
#[derive(Default)]
struct Expected {
    attached: [bool; 2],
    is_default_pending: bool,
    /// The sizes of both windows.
    windows: [Option<u64>; 2],
    /// Registered memory: its size, by its first page.
    regions: BTreeMap<u64, u64>,
    /// The process's page and the flags, by the page of bus addresses.
    mapped: BTreeMap<u64, (u64, u32)>,
}

/// Where windows begin.
const STARTS: [u64; 2] = [FIRST, SECOND / PAGE_SIZE];

impl Expected {
    fn locked(&self) -> u64 {
        // Every table is a page.
        self.regions.values().sum::<u64>() + u64::try_from(self.windows.iter().flatten().count()).unwrap()
    }

    fn region_of(&self, page: u64) -> Option<u64> {
        let (first, count) = self.regions.range(..=page).next_back()?;
        (page < first + count).then_some(*first)
    }

    fn register(&mut self, first: u64, count: u64) -> Result<(), Errno> {
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        if self.regions.get(&first) == Some(&count) {
            return Err(Errno::EBUSY);
        }
        if (first..first + count).any(|page| self.region_of(page).is_some()) {
            return Err(Errno::EINVAL);
        }
        if self.locked() + count > 2 * PAGES {
            return Err(Errno::ENOMEM);
        }
        if first + count > WRITABLE {
            return Err(Errno::EFAULT);
        }
        self.regions.insert(first, count);
        Ok(())
    }

    fn unregister(&mut self, first: u64, count: u64) -> Result<(), Errno> {
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        if self.regions.get(&first) != Some(&count) {
            return Err(Errno::ENOENT);
        }
        if self.mapped.values().any(|(page, _)| (first..first + count).contains(page)) {
            return Err(Errno::EBUSY);
        }
        self.regions.remove(&first);
        Ok(())
    }

    fn create_default(&mut self) -> Result<(), Errno> {
        if self.is_default_pending {
            if self.locked() == 2 * PAGES {
                return Err(Errno::ENOMEM);
            }
            self.windows[0] = Some(PAGES);
            self.is_default_pending = false;
        }
        Ok(())
    }

    fn create(&mut self, count: u64) -> Result<u64, Errno> {
        if self.attached == [false; 2] {
            return Err(Errno::ENXIO);
        }
        self.create_default()?;
        let number = self.windows.iter().position(Option::is_none).ok_or(Errno::ENOSPC)?;
        if self.locked() == 2 * PAGES {
            return Err(Errno::ENOMEM);
        }
        self.windows[number] = Some(count);
        Ok(STARTS[number] * PAGE_SIZE)
    }

    fn remove(&mut self, number: usize) -> Result<(), Errno> {
        if number == 0 && self.is_default_pending && self.attached != [false; 2] {
            self.is_default_pending = false;
            return Ok(());
        }
        let count = self.windows[number].take().ok_or(Errno::EINVAL)?;
        self.mapped.retain(|page, _| !(STARTS[number]..STARTS[number] + count).contains(page));
        Ok(())
    }

    fn is_in_window(&self, first: u64, count: u64) -> bool {
        STARTS.iter().zip(&self.windows).any(|(start, size)| {
            size.is_some_and(|size| *start <= first && first < start + size && first + count <= start + size)
        })
    }

    fn map(&mut self, flags: u32, from: u64, to: u64, count: u64) -> Result<(), Errno> {
        if self.attached == [false; 2] {
            return Err(Errno::ENXIO);
        }
        self.create_default()?;
        if !self.is_in_window(to, count) {
            return Err(Errno::EINVAL);
        }
        for page in 0..count {
            if self.region_of(from + page).is_none() {
                return Err(Errno::EINVAL);
            }
            if self.mapped.contains_key(&(to + page)) {
                return Err(Errno::EBUSY);
            }
        }
        self.mapped.extend((0..count).map(|page| (to + page, (from + page, flags))));
        Ok(())
    }

    fn unmap(&mut self, first: u64, count: u64) -> Result<(), Errno> {
        if self.attached == [false; 2] {
            return Err(Errno::ENXIO);
        }
        if !self.is_in_window(first, count) {
            return Err(Errno::EINVAL);
        }
        self.mapped.retain(|page, _| !(first..first + count).contains(page));
        Ok(())
    }
}

fn step(second: &Second, expected: &mut Expected, random: &mut Random) {
    let number = usize::try_from(random.below(2)).unwrap();
    let (from, count) = (random.below(WRITABLE + 2), random.below(5));
    let to = STARTS[number] + random.below(PAGES + 1);
    let size = count * PAGE_SIZE;
    match random.below(32) {
        0..4 => {
            let said = second.register(user(from), size).map_err(Error::errno);
            assert_eq!(said, expected.register(from, count));
        }
        4..8 => {
            let said = second.unregister(user(from), size).map_err(Error::errno);
            assert_eq!(said, expected.unregister(from, count));
        }
        8..18 => {
            let flags = [READ, WRITE, READ | WRITE][usize::try_from(random.below(3)).unwrap()];
            let said = second.map(flags, user(from), to * PAGE_SIZE, size).map_err(Error::errno);
            assert_eq!(said, expected.map(flags, from, to, count), "{from} {to:#x} {count}");
        }
        18..26 => {
            let said = second.unmap(to * PAGE_SIZE, size).map_err(Error::errno);
            assert_eq!(said, expected.unmap(to, count));
        }
        26..28 => {
            let pages = 1 << random.below(6);
            let said = second.create(12, pages * PAGE_SIZE, 1).map_err(Error::errno);
            assert_eq!(said, expected.create(pages));
        }
        28 => {
            let said = second.remove(STARTS[number] * PAGE_SIZE).map_err(Error::errno);
            assert_eq!(said, expected.remove(number));
        }
        29 => {
            let said = second.container.detach(&second.groups[number]) != Detached::NotAttached;
            assert_eq!(said, expected.attached[number]);
            expected.attached[number] = false;
        }
        _ => {
            let said = second.container.attach(&second.groups[number]).map_err(Error::errno);
            assert_eq!(said, if expected.attached[number] { Err(Errno::EBUSY) } else { Ok(()) });
            expected.is_default_pending |= expected.attached == [false; 2] && expected.windows == [None; 2];
            expected.attached[number] = true;
        }
    }
    compare(second, expected);
}

fn compare(second: &Second, expected: &Expected) {
    assert_eq!(second.locked(), expected.locked());
    assert_eq!(second.pins(), expected.regions.values().sum());
    let flags = |access| match access {
        Access::Read => READ,
        Access::Write => WRITE,
        Access::ReadWrite => READ | WRITE,
    };
    for (group, is_attached) in second.groups.iter().zip(expected.attached) {
        let windows: std::vec::Vec<u64> = group.windows().iter().map(|window| window.pages()).collect();
        let mapped = group.mapped();
        if is_attached {
            assert!(windows.iter().eq(expected.windows.iter().flatten()), "{windows:?}");
            // The process's first page is the host's eighth.
            let said = mapped.iter().map(|(page, mapped)| (page.0, (mapped.page.0 - 8, flags(mapped.access))));
            assert!(said.eq(expected.mapped.iter().map(|(page, what)| (*page, *what))), "{mapped:x?}");
        } else {
            assert!(windows.is_empty() && mapped.is_empty());
        }
    }
}

#[test]
fn the_container_does_what_maps_do() {
    let second = Second::attached();
    let mut expected = Expected { attached: [true; 2], is_default_pending: true, ..Expected::default() };
    let mut random = Random(bus(0));
    // Who uses it is settled at once, so that each call is refused for what the model knows.
    assert_eq!(second.unregister(user(0), PAGE_SIZE).map_err(Error::errno), expected.unregister(0, 1));
    for _ in 0..CALLS {
        step(&second, &mut expected, &mut random);
    }
    let Second { container, process, .. } = second;
    drop(container);
    assert_eq!((process.process.pins(), process.process.locked()), (0, 0));
}
