//! The first version: one group with its own window, which is paid for as a whole.
//!
//! ```text
//!   attached  -- enable: charges the window -->  enabled  <-- map, unmap: pin, unpin -->
//!             <-- disable: unmaps all --------
//! ```
//!
//! - *Enabling* charges the whole window to the caller's address space as locked, once, however little of it will be mapped: a guest
//!   maps and unmaps all the time, on a path that must be quick and has no way to say that it fails.
//! - While it is enabled the container keeps that address space. Only its own caller may map, and it is the one that is
//!   uncharged, whoever disables.
//! - *Disabling* unmaps what is mapped: what is not charged any more is not pinned any more.

use alloc::sync::Arc;

use crate::abi::{MapDma, UnmapDma};
use crate::container::Detached;
use crate::error::Error;
use crate::group::Group;
use crate::page::{BusPage, Pages, UserPage, Window};
use crate::process::{AddressSpace, Caller, Write};
use crate::table::{Access, Mapped};

/// A container's state.
#[derive(Debug)]
pub(crate) struct First<A: AddressSpace> {
    /// The attached group.
    group: Option<Arc<Group>>,
    /// Who has enabled it.
    payer: Option<Payer<A>>,
}

/// An address space that was charged.
///
/// # Invariants
/// It is charged for `pages`, and not uncharged yet.
#[derive(Debug)]
struct Payer<A> {
    address_space: Arc<A>,
    pages: u64,
}

impl<A: AddressSpace> First<A> {
    pub(crate) fn new() -> Self {
        Self { group: None, payer: None }
    }

    pub(crate) fn attach(&mut self, group: &Arc<Group>) -> Result<(), Error> {
        if self.payer.is_some() {
            return Err(Error::Enabled);
        }
        if self.group.is_some() {
            return Err(Error::Attached);
        }
        group.take_ownership()?;
        self.group = Some(Arc::clone(group));
        Ok(())
    }

    /// Detaches this group; any where none is given.
    pub(crate) fn detach(&mut self, group: Option<&Arc<Group>>) -> Detached {
        let is_meant = |attached: &Arc<Group>| group.is_none_or(|group| Arc::ptr_eq(attached, group));
        if !self.group.as_ref().is_some_and(is_meant) {
            return Detached::NotAttached;
        }
        let detached = if self.payer.is_some() { Detached::Forced } else { Detached::Disabled };
        self.disable();
        if let Some(group) = self.group.take() {
            group.release_ownership();
        }
        detached
    }

    /// The window, in 32 bits.
    pub(crate) fn info(&self) -> Result<(u32, u32), Error> {
        self.table()?.1.in_32_bits()
    }

    /// The group, and its table's window.
    fn table(&self) -> Result<(&Arc<Group>, Window), Error> {
        let group = self.group.as_ref().ok_or(Error::NoTable)?;
        Ok((group, group.window().ok_or(Error::NoTable)?))
    }

    /// The address space of a caller that may map: of the one that has enabled the container.
    fn payer_of(&self, caller: &Caller<A>) -> Result<&Arc<A>, Error> {
        let Payer { address_space, .. } = self.payer.as_ref().ok_or(Error::NotEnabled)?;
        let is_its = caller.address_space.as_ref().is_some_and(|of_caller| Arc::ptr_eq(of_caller, address_space));
        if is_its { Ok(address_space) } else { Err(Error::OtherAddressSpace) }
    }

    pub(crate) fn enable(&mut self, caller: &Caller<A>) -> Result<(), Error> {
        let (_, window) = self.table()?;
        let address_space = caller.address_space.as_ref().ok_or(Error::NoAddressSpace)?;
        if self.payer.is_some() {
            return Err(Error::Enabled);
        }
        let pages = window.pages();
        address_space.charge(pages, caller.privilege)?;
        // INVARIANT: just charged.
        self.payer = Some(Payer { address_space: Arc::clone(address_space), pages });
        Ok(())
    }

    /// Unmaps all, and takes the charge back from whom it was made to.
    pub(crate) fn disable(&mut self) {
        let Some(payer) = self.payer.take() else { return };
        if let Ok((group, window)) = self.table() {
            let all = Pages { first: window.first().0, count: window.pages() };
            unmap_pages(group, &*payer.address_space, all);
        }
        payer.address_space.uncharge(payer.pages);
    }

    pub(crate) fn map(&self, caller: &Caller<A>, map: MapDma) -> Result<(), Error> {
        let (group, window) = self.table()?;
        let payer = self.payer_of(caller)?;
        let access = map.access()?;
        let user = Pages::of(map.vaddr, map.size)?;
        let bus = window.pages_of(map.iova, map.size)?;
        map_pages(group, &**payer, user, bus, access)
    }

    pub(crate) fn unmap(&self, caller: &Caller<A>, unmap: UnmapDma) -> Result<(), Error> {
        let (group, window) = self.table()?;
        let payer = self.payer_of(caller)?;
        if unmap.flags != 0 {
            return Err(Error::Flags { flags: unmap.flags });
        }
        let bus = window.pages_of(unmap.iova, unmap.size)?;
        unmap_pages(group, &**payer, bus);
        Ok(())
    }
}

/// Pins each page and puts it into the table; on failure all of that is undone. The hardware learns of it at the end.
fn map_pages<A: AddressSpace>(
    group: &Group,
    address_space: &A,
    user: Pages,
    bus: Pages,
    access: Access,
) -> Result<(), Error> {
    for done in 0..bus.count {
        let page = UserPage(user.first + done);
        if let Err(error) = map_page(group, address_space, page, BusPage(bus.first + done), access) {
            unmap_pages(group, address_space, Pages { first: bus.first, count: done });
            return Err(error);
        }
    }
    group.flush();
    Ok(())
}

/// Pins a page and puts it into the table. One that can't be put is not pinned any more; no device has written to it.
fn map_page<A: AddressSpace>(
    group: &Group,
    address_space: &A,
    user: UserPage,
    bus: BusPage,
    access: Access,
) -> Result<(), Error> {
    let page = address_space.pin(user, access.write())?;
    group.put(bus, Mapped { page, access }).inspect_err(|_| address_space.unpin(page, Write::No))
}

/// How many pages are unmapped between two flushes.
const BATCH: usize = 64;

/// Takes what is mapped of these pages out of the table, has the hardware forget it, and gives the pins back: not before,
/// since until then devices can reach the pages.
fn unmap_pages<A: AddressSpace>(group: &Group, address_space: &A, bus: Pages) {
    let mut pages = (bus.first..bus.first + bus.count).map(BusPage);
    loop {
        let mut batch = [None; BATCH];
        let mut unmapped = pages.by_ref().filter_map(|page| group.clear(page));
        for (place, mapped) in batch.iter_mut().zip(unmapped.by_ref()) {
            *place = Some(mapped);
        }
        group.flush();
        for Mapped { page, access } in batch.into_iter().flatten() {
            address_space.unpin(page, access.write());
        }
        if batch[BATCH - 1].is_none() {
            return;
        }
    }
}
