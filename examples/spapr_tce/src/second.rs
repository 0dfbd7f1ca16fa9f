//! The second version: memory is registered first, pinned and paid for page by page; windows are created and removed; and
//! several groups may share them.
//!
//! ```text
//!   register -> region: pinned, charged           create -> window: a table, charged, programmed into each group
//!                        \                                  /
//!                         map: an entry of the window names a page of the region
//! ```
//!
//! - The container keeps the address space that uses it first. Nobody else may use it.
//! - Charged is what is registered, and what the windows' tables take: no more and no less.
//! - A region that an entry names can't be unregistered.
//! - A user that creates no window has one: the groups' own, made when it first maps.
//! - Every group's hardware has the same windows. A group that refuses one leaves none of them with it, and a group that does not
//!   take all of them is not attached.

use alloc::sync::Arc;
use alloc::vec::Vec;

use spin::Mutex;

use crate::abi::{CreateWindow, MapDma, RegisterMemory, RemoveWindow, UnmapDma, Windows};
use crate::container::Detached;
use crate::error::Error;
use crate::group::{Group, SharedTable, WINDOWS};
use crate::page::{BusPage, PAGE_SHIFT, PAGE_SIZE, Pages, UserPage, Window};
use crate::process::{AddressSpace, Caller, Write};
use crate::region::Region;
use crate::table::{Access, Mapped, Table};

/// Where a container's second window begins: far above every address that a device with 32 bits can have.
const SECOND_START: BusPage = BusPage(1 << (59 - PAGE_SHIFT));

/// The largest window: 4 GiB, whose table takes 8 MiB.
const LARGEST: u64 = 1 << 32;

/// The bytes of an entry.
const ENTRY_SIZE: u64 = 8;

/// A container's state.
#[derive(Debug)]
pub(crate) struct Second<A: AddressSpace> {
    groups: Vec<Arc<Group>>,
    windows: [Option<DmaWindow>; WINDOWS],
    /// Whether the groups' own window is made when the user first maps.
    is_default_pending: bool,
    /// Who uses the container, and is charged.
    address_space: Option<Arc<A>>,
    regions: Vec<Region>,
}

/// A window that was created.
#[derive(Debug)]
struct DmaWindow {
    window: Window,
    table: SharedTable,
    /// The user's page of each entry that is mapped.
    users: Vec<UserPage>,
}

/// What a window's table takes, in pages.
fn table_pages(window: Window) -> u64 {
    (window.pages() * ENTRY_SIZE).div_ceil(PAGE_SIZE)
}

impl DmaWindow {
    fn new(window: Window) -> Result<Self, Error> {
        let table = Arc::new(Mutex::new(Table::new(window)?));
        let count = usize::try_from(window.pages()).map_err(|_| Error::NoMemory)?;
        let mut users = Vec::new();
        users.try_reserve_exact(count).map_err(|_| Error::NoMemory)?;
        users.resize(count, UserPage(0));
        Ok(Self { window, table, users })
    }

    fn map(&mut self, regions: &mut [Region], user: Pages, bus: Pages, access: Access) -> Result<(), Error> {
        for done in 0..bus.count {
            let (from, to) = (UserPage(user.first + done), BusPage(bus.first + done));
            if let Err(error) = self.map_page(regions, from, to, access) {
                self.unmap(regions, Pages { first: bus.first, count: done });
                return Err(error);
            }
        }
        self.table.lock().flush();
        Ok(())
    }

    fn map_page(&mut self, regions: &mut [Region], user: UserPage, bus: BusPage, access: Access) -> Result<(), Error> {
        let mapped = regions.iter_mut().find_map(|region| Some((region.map(user)?, region)));
        let (page, region) = mapped.ok_or(Error::PageNotRegistered { address: user.address() })?;
        let put = self.table.lock().put(bus, Mapped { page, access });
        if put.is_err() {
            region.unmap(user, Write::No);
        }
        put?;
        if let Some(place) = self.window.entry_of(bus).and_then(|entry| self.users.get_mut(entry)) {
            *place = user;
        }
        Ok(())
    }

    /// Unmaps what is mapped of these pages. The regions stay pinned, and can't be unregistered before the flush at the end.
    fn unmap(&self, regions: &mut [Region], bus: Pages) {
        let mut table = self.table.lock();
        for page in (bus.first..bus.first + bus.count).map(BusPage) {
            let Some(Mapped { access, .. }) = table.clear(page) else { continue };
            let user = self.window.entry_of(page).and_then(|entry| self.users.get(entry));
            if let Some((user, region)) = user.and_then(|user| Some((*user, region_of(regions, *user)?))) {
                region.unmap(user, access.write());
            }
        }
        table.flush();
    }

    fn all(&self) -> Pages {
        Pages { first: self.window.first().0, count: self.window.pages() }
    }
}

/// The region that has the page.
fn region_of(regions: &mut [Region], page: UserPage) -> Option<&mut Region> {
    regions.iter_mut().find(|region| region.range().contains(page.0))
}

impl<A: AddressSpace> Second<A> {
    pub(crate) fn new() -> Self {
        let windows = [const { None }; WINDOWS];
        Self { groups: Vec::new(), windows, is_default_pending: false, address_space: None, regions: Vec::new() }
    }

    /// The caller's address space, which is the container's from the first time on.
    fn used_by(&mut self, caller: &Caller<A>) -> Result<Arc<A>, Error> {
        let of_caller = caller.address_space.as_ref().ok_or(Error::NoAddressSpace)?;
        let kept = self.address_space.get_or_insert_with(|| Arc::clone(of_caller));
        if Arc::ptr_eq(kept, of_caller) { Ok(Arc::clone(kept)) } else { Err(Error::OtherAddressSpace) }
    }

    /// A group that is attached, and the groups' own window.
    fn hardware(&self) -> Result<(&Group, Window), Error> {
        let group = self.groups.first().ok_or(Error::NoTable)?;
        Ok((group, group.window().ok_or(Error::NoTable)?))
    }

    pub(crate) fn info(&self) -> Result<((u32, u32), Option<Windows>), Error> {
        let (group, window) = self.hardware()?;
        let count = u32::try_from(WINDOWS).unwrap_or(u32::MAX);
        Ok((window.in_32_bits()?, Some(Windows { page_sizes: group.page_sizes(), count, levels: 1 })))
    }

    pub(crate) fn attach(&mut self, group: &Arc<Group>) -> Result<(), Error> {
        if self.groups.iter().any(|attached| Arc::ptr_eq(attached, group)) {
            return Err(Error::Attached);
        }
        let window = group.window().ok_or(Error::NoTable)?;
        if let Ok((other, of_other)) = self.hardware()
            && (other.page_sizes(), of_other) != (group.page_sizes(), window)
        {
            return Err(Error::Incompatible);
        }
        self.groups.try_reserve(1).map_err(|_| Error::NoMemory)?;
        group.take_ownership()?;
        for (number, window) in self.windows.iter().enumerate() {
            let Some(window) = window else { continue };
            if let Err(error) = group.set_window(number, &window.table) {
                (0..number).for_each(|number| group.unset_window(number));
                group.release_ownership();
                return Err(error);
            }
        }
        let has_window = self.windows.iter().any(Option::is_some);
        self.is_default_pending |= self.groups.is_empty() && !has_window;
        self.groups.push(Arc::clone(group));
        Ok(())
    }

    pub(crate) fn detach(&mut self, group: &Arc<Group>) -> Detached {
        let attached = self.groups.iter().position(|attached| Arc::ptr_eq(attached, group));
        let Some(attached) = attached else { return Detached::NotAttached };
        let group = self.groups.remove(attached);
        (0..WINDOWS).for_each(|number| group.unset_window(number));
        group.release_ownership();
        Detached::Disabled
    }

    pub(crate) fn register(&mut self, caller: &Caller<A>, memory: RegisterMemory) -> Result<(), Error> {
        let RegisterMemory { flags, vaddr: start, size } = memory;
        let range = memory_range(memory)?;
        if flags != 0 {
            return Err(Error::Flags { flags });
        }
        let address_space = self.used_by(caller)?;
        if self.regions.iter().any(|region| region.range() == range) {
            return Err(Error::Registered { start, size });
        }
        if self.regions.iter().any(|region| region.range().overlaps(range)) {
            return Err(Error::Overlaps { start, size });
        }
        self.regions.try_reserve(1).map_err(|_| Error::NoMemory)?;
        self.regions.push(Region::register(&*address_space, caller.privilege, range)?);
        Ok(())
    }

    pub(crate) fn unregister(&mut self, caller: &Caller<A>, memory: RegisterMemory) -> Result<(), Error> {
        let RegisterMemory { flags, vaddr: start, size } = memory;
        let range = memory_range(memory)?;
        if flags != 0 {
            return Err(Error::Flags { flags });
        }
        let address_space = self.used_by(caller)?;
        let found = self.regions.iter().position(|region| region.range() == range);
        let found = found.ok_or(Error::NotRegistered { start, size })?;
        match self.regions.get(found).map_or(0, Region::mapped) {
            0 => self.regions.swap_remove(found).release(&*address_space),
            entries => return Err(Error::StillMapped { entries }),
        }
        Ok(())
    }

    pub(crate) fn create_window(&mut self, caller: &Caller<A>, create: CreateWindow) -> Result<u64, Error> {
        let CreateWindow { flags, page_shift, size, levels } = create;
        if flags != 0 {
            return Err(Error::Flags { flags });
        }
        let (group, own) = self.hardware()?;
        let has_pages = page_shift == PAGE_SHIFT && group.page_sizes() & 1 << PAGE_SHIFT != 0;
        if !has_pages {
            return Err(Error::PageShift { shift: page_shift });
        }
        let wrong = Error::WindowSize { size, levels };
        if levels != 1 || !size.is_power_of_two() || !(PAGE_SIZE..=LARGEST).contains(&size) {
            return Err(wrong);
        }
        self.used_by(caller)?;
        self.create_default(caller)?;
        let number = self.windows.iter().position(Option::is_none).ok_or(Error::NoFreeWindow)?;
        let first = if number == 0 { own.first() } else { SECOND_START };
        let window = Window::new(first, size >> PAGE_SHIFT).ok_or(wrong)?;
        self.program(caller, number, window)?;
        Ok(first.address())
    }

    /// Makes the groups' own window, where it is to be made.
    fn create_default(&mut self, caller: &Caller<A>) -> Result<(), Error> {
        if self.is_default_pending {
            let (_, own) = self.hardware()?;
            self.program(caller, 0, own)?;
            self.is_default_pending = false;
        }
        Ok(())
    }

    /// Makes a window's table, charges for it, and programs it into each group; on failure all of that is undone.
    fn program(&mut self, caller: &Caller<A>, number: usize, window: Window) -> Result<(), Error> {
        let address_space = self.used_by(caller)?;
        let place = self.windows.get_mut(number).ok_or(Error::NoFreeWindow)?;
        let pages = table_pages(window);
        address_space.charge(pages, caller.privilege)?;
        let programmed = DmaWindow::new(window).and_then(|window| {
            for (done, group) in self.groups.iter().enumerate() {
                if let Err(error) = group.set_window(number, &window.table) {
                    self.groups.iter().take(done).for_each(|group| group.unset_window(number));
                    return Err(error);
                }
            }
            Ok(window)
        });
        *place = Some(programmed.inspect_err(|_| address_space.uncharge(pages))?);
        Ok(())
    }

    pub(crate) fn remove_window(&mut self, caller: &Caller<A>, remove: RemoveWindow) -> Result<(), Error> {
        let RemoveWindow { flags, start } = remove;
        if flags != 0 {
            return Err(Error::Flags { flags });
        }
        self.used_by(caller)?;
        if self.is_default_pending && self.hardware().is_ok_and(|(_, own)| own.first().address() == start) {
            self.is_default_pending = false;
            return Ok(());
        }
        let begins =
            |window: &Option<DmaWindow>| window.as_ref().is_some_and(|window| window.window.first().address() == start);
        let number = self.windows.iter().position(begins).ok_or(Error::NoSuchWindow { start })?;
        self.remove(number);
        Ok(())
    }

    fn remove(&mut self, number: usize) {
        let Some(window) = self.windows.get_mut(number).and_then(Option::take) else { return };
        window.unmap(&mut self.regions, window.all());
        self.groups.iter().for_each(|group| group.unset_window(number));
        if let Some(address_space) = &self.address_space {
            address_space.uncharge(table_pages(window.window));
        }
    }

    pub(crate) fn map(&mut self, caller: &Caller<A>, map: MapDma) -> Result<(), Error> {
        self.hardware()?;
        self.used_by(caller)?;
        let access = map.access()?;
        let user = Pages::of(map.vaddr, map.size)?;
        Pages::of(map.iova, map.size)?;
        self.create_default(caller)?;
        let (window, bus) = window_of(&mut self.windows, map.iova, map.size)?;
        window.map(&mut self.regions, user, bus, access)
    }

    pub(crate) fn unmap(&mut self, caller: &Caller<A>, unmap: UnmapDma) -> Result<(), Error> {
        self.hardware()?;
        self.used_by(caller)?;
        if unmap.flags != 0 {
            return Err(Error::Flags { flags: unmap.flags });
        }
        Pages::of(unmap.iova, unmap.size)?;
        let (window, bus) = window_of(&mut self.windows, unmap.iova, unmap.size)?;
        window.unmap(&mut self.regions, bus);
        Ok(())
    }

    /// Removes all windows, detaches all groups, and unregisters all memory.
    pub(crate) fn release(&mut self) {
        (0..WINDOWS).for_each(|number| self.remove(number));
        self.groups.drain(..).for_each(|group| group.release_ownership());
        if let Some(address_space) = self.address_space.take() {
            self.regions.drain(..).for_each(|region| region.release(&*address_space));
        }
    }
}

/// The pages of memory that is to be registered or unregistered.
fn memory_range(memory: RegisterMemory) -> Result<Pages, Error> {
    let range = Pages::of(memory.vaddr, memory.size)?;
    if range.count == 0 { Err(Error::NoPages { start: memory.vaddr }) } else { Ok(range) }
}

/// The window that has all of these bytes.
fn window_of(
    windows: &mut [Option<DmaWindow>; WINDOWS],
    iova: u64,
    size: u64,
) -> Result<(&mut DmaWindow, Pages), Error> {
    let found = windows.iter_mut().flatten().find_map(|window| {
        let bus = window.window.pages_of(iova, size).ok()?;
        Some((window, bus))
    });
    found.ok_or(Error::OutsideWindow { iova, size })
}
