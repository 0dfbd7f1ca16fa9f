//! The container: a group whose DMA window a user may map its pages in, and who pays for them.
//!
//! ```text
//!            attach                enable                      map, unmap
//!   open  ------------>  attached  ------------>  enabled  <---------------->  enabled
//!         <------------            <------------
//!            detach                disable: unmaps all
//! ```
//!
//! - *Enabling* charges the whole window to the caller's address space as locked, once, however little of it will be mapped: a guest
//!   maps and unmaps all the time, on a path that must be quick and has no way to say that it fails.
//! - While it is enabled the container keeps that address space. Only its own caller may map, and it is the one that is
//!   uncharged, whoever disables.
//! - *Disabling* unmaps what is mapped: what is not charged any more is not pinned any more.
//!
//! # Locks
//! Each call holds the container's lock from its first look at the group to its last, so that the table can't go from under it. An
//! address space's and a group's locks are taken inside.

use alloc::sync::Arc;

use spin::Mutex;

use crate::abi::{self, Argument, MapDma, UnmapDma};
use crate::error::Error;
use crate::group::Group;
use crate::page::{BusPage, Pages, UserPage, Window};
use crate::process::{AddressSpace, Caller, Write};
use crate::table::{Access, Mapped};

/// How a group was detached.
#[must_use = "what was not as it should be is a warning's worth"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// As it should be.
    Disabled,
    /// The container was enabled still, and was disabled first.
    Forced,
    /// The group is not the attached one: nothing was done.
    NotAttached,
}

/// A container. Dropping it disables it, and detaches its group.
#[derive(Debug)]
pub struct Container<A: AddressSpace> {
    pub(crate) state: Mutex<State<A>>,
}

#[derive(Debug)]
pub(crate) struct State<A: AddressSpace> {
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

impl<A: AddressSpace> Container<A> {
    /// A container of this type.
    ///
    /// # Errors
    /// [`Error::Type`] for any but [`abi::SPAPR_TCE_IOMMU`].
    pub fn open(kind: u32) -> Result<Self, Error> {
        if kind != abi::SPAPR_TCE_IOMMU {
            return Err(Error::Type { kind });
        }
        Ok(Self { state: Mutex::new(State { group: None, payer: None }) })
    }

    /// Attaches a group, and takes its table from the kernel.
    ///
    /// # Errors
    /// - [`Error::Attached`] where one is already, [`Error::Enabled`];
    /// - [`Error::TableInUse`] and [`Error::TableOwned`] where the table is not to be had.
    pub fn attach(&self, group: &Arc<Group>) -> Result<(), Error> {
        let mut state = self.state.lock();
        if state.payer.is_some() {
            return Err(Error::Enabled);
        }
        if state.group.is_some() {
            return Err(Error::Attached);
        }
        group.take_ownership()?;
        state.group = Some(Arc::clone(group));
        Ok(())
    }

    /// Detaches a group, and gives its table back to the kernel. Disables the container where it is enabled still.
    pub fn detach(&self, group: &Arc<Group>) -> Detached {
        let mut state = self.state.lock();
        if !state.group.as_ref().is_some_and(|attached| Arc::ptr_eq(attached, group)) {
            return Detached::NotAttached;
        }
        state.detach()
    }

    /// Carries out a command as user space gives it. Returns what user space is told: 0, or an extension's answer.
    ///
    /// # Errors
    /// What the command fails with. Whatever the argument's bytes are, nothing else comes of them.
    pub fn ioctl(&self, caller: &Caller<A>, command: u32, mut argument: Argument<'_>) -> Result<u32, Error> {
        match command {
            abi::CHECK_EXTENSION => {
                return Ok(match argument {
                    Argument::Number(extension) if extension == u64::from(abi::SPAPR_TCE_IOMMU) => 1,
                    _ => 0,
                });
            }
            abi::GET_INFO => {
                let state = self.state.lock();
                abi::answer_info(&mut argument, || state.table()?.1.in_32_bits())?;
            }
            abi::MAP_DMA => {
                let map = MapDma::read(&mut argument)?;
                self.state.lock().map(caller, map)?;
            }
            abi::UNMAP_DMA => {
                let unmap = UnmapDma::read(&mut argument)?;
                self.state.lock().unmap(caller, unmap)?;
            }
            abi::ENABLE => self.state.lock().enable(caller)?,
            abi::DISABLE => self.state.lock().disable(),
            _ => return Err(Error::Command { command }),
        }
        Ok(0)
    }
}

impl<A: AddressSpace> State<A> {
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

    fn enable(&mut self, caller: &Caller<A>) -> Result<(), Error> {
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
    fn disable(&mut self) {
        let Some(payer) = self.payer.take() else { return };
        if let Ok((group, window)) = self.table() {
            let all = Pages { first: window.first().0, count: window.pages() };
            unmap_pages(group, &*payer.address_space, all);
        }
        payer.address_space.uncharge(payer.pages);
    }

    fn detach(&mut self) -> Detached {
        let detached = if self.payer.is_some() { Detached::Forced } else { Detached::Disabled };
        self.disable();
        match self.group.take() {
            Some(group) => {
                group.release_ownership();
                detached
            }
            None => Detached::NotAttached,
        }
    }

    fn map(&self, caller: &Caller<A>, map: MapDma) -> Result<(), Error> {
        let (group, window) = self.table()?;
        let payer = self.payer_of(caller)?;
        let access = match map.flags {
            abi::MAP_READ => Access::Read,
            abi::MAP_WRITE => Access::Write,
            flags if flags == abi::MAP_READ | abi::MAP_WRITE => Access::ReadWrite,
            flags => return Err(Error::Flags { flags }),
        };
        let user = Pages::of(map.vaddr, map.size)?;
        let bus = window.pages_of(map.iova, map.size)?;
        map_pages(group, &**payer, user, bus, access)
    }

    fn unmap(&self, caller: &Caller<A>, unmap: UnmapDma) -> Result<(), Error> {
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

impl<A: AddressSpace> Drop for Container<A> {
    fn drop(&mut self) {
        // Nobody is left to be told how.
        let _ = self.state.lock().detach();
    }
}
