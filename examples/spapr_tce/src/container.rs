//! The container: groups whose devices reach a user's memory through DMA windows, and the commands that user space has for it.
//!
//! There are two versions, each a file of its own. A container of the `first` pays for a window and pins page by page; one of the
//! `second` registers memory, which is pinned and paid for once, and maps it in windows that it creates.
//!
//! # Locks
//! Each call holds the container's lock from its first look at a group to its last, so that no table can go from under it. An
//! address space's, a group's and a table's locks are taken inside, in this order.

use alloc::sync::Arc;

use spin::Mutex;

use crate::abi::{self, Argument, CreateWindow, MapDma, RegisterMemory, RemoveWindow, UnmapDma};
use crate::error::Error;
use crate::first::First;
use crate::group::Group;
use crate::process::{AddressSpace, Caller};
use crate::second::Second;

/// How a group was detached.
#[must_use = "what was not as it should be is a warning's worth"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// As it should be.
    Disabled,
    /// The container was enabled still, and was disabled first.
    Forced,
    /// The group is not attached: nothing was done.
    NotAttached,
}

/// A container. Dropping it unmaps all, detaches its groups and takes all charges back.
#[derive(Debug)]
pub struct Container<A: AddressSpace> {
    pub(crate) state: Mutex<State<A>>,
}

#[derive(Debug)]
pub(crate) enum State<A: AddressSpace> {
    First(First<A>),
    Second(Second<A>),
}

impl<A: AddressSpace> Container<A> {
    /// A container of this type.
    ///
    /// # Errors
    /// [`Error::Type`] for any but [`abi::SPAPR_TCE_IOMMU`] and [`abi::SPAPR_TCE_V2_IOMMU`].
    pub fn open(kind: u32) -> Result<Self, Error> {
        let state = match kind {
            abi::SPAPR_TCE_IOMMU => State::First(First::new()),
            abi::SPAPR_TCE_V2_IOMMU => State::Second(Second::new()),
            _ => return Err(Error::Type { kind }),
        };
        Ok(Self { state: Mutex::new(state) })
    }

    /// Attaches a group, and takes its table from the kernel. The second version takes several, if their hardware is the same.
    ///
    /// # Errors
    /// - [`Error::Attached`] where it is already, or another one is and may not be joined; [`Error::Enabled`];
    /// - [`Error::TableInUse`] and [`Error::TableOwned`] where the table is not to be had;
    /// - [`Error::NoTable`], [`Error::Incompatible`] and [`Error::WindowRefused`] (second version).
    pub fn attach(&self, group: &Arc<Group>) -> Result<(), Error> {
        match &mut *self.state.lock() {
            State::First(first) => first.attach(group),
            State::Second(second) => second.attach(group),
        }
    }

    /// Detaches a group, and gives its table back to the kernel. Disables a container of the first version that is enabled still.
    pub fn detach(&self, group: &Arc<Group>) -> Detached {
        match &mut *self.state.lock() {
            State::First(first) => first.detach(Some(group)),
            State::Second(second) => second.detach(group),
        }
    }

    /// Carries out a command as user space gives it. Returns what user space is told: 0, or an extension's answer.
    ///
    /// # Errors
    /// What the command fails with. Whatever the argument's bytes are, nothing else comes of them.
    pub fn ioctl(&self, caller: &Caller<A>, command: u32, argument: Argument<'_>) -> Result<u32, Error> {
        if command == abi::CHECK_EXTENSION {
            let extensions = [abi::SPAPR_TCE_IOMMU, abi::SPAPR_TCE_V2_IOMMU].map(u64::from);
            return Ok(match argument {
                Argument::Number(extension) => u32::from(extensions.contains(&extension)),
                Argument::Memory(_) => 0,
            });
        }
        match &mut *self.state.lock() {
            State::First(first) => first_ioctl(first, caller, command, argument)?,
            State::Second(second) => second_ioctl(second, caller, command, argument)?,
        }
        Ok(0)
    }
}

fn first_ioctl<A: AddressSpace>(
    first: &mut First<A>,
    caller: &Caller<A>,
    command: u32,
    mut argument: Argument<'_>,
) -> Result<(), Error> {
    match command {
        abi::GET_INFO => abi::answer_info(&mut argument, || Ok((first.info()?, None))),
        abi::MAP_DMA => first.map(caller, MapDma::read(&mut argument)?),
        abi::UNMAP_DMA => first.unmap(caller, UnmapDma::read(&mut argument)?),
        abi::ENABLE => first.enable(caller),
        abi::DISABLE => {
            first.disable();
            Ok(())
        }
        _ => Err(Error::Command { command }),
    }
}

fn second_ioctl<A: AddressSpace>(
    second: &mut Second<A>,
    caller: &Caller<A>,
    command: u32,
    mut argument: Argument<'_>,
) -> Result<(), Error> {
    match command {
        abi::GET_INFO => abi::answer_info(&mut argument, || second.info()),
        abi::REGISTER_MEMORY => second.register(caller, RegisterMemory::read(&mut argument)?),
        abi::UNREGISTER_MEMORY => second.unregister(caller, RegisterMemory::read(&mut argument)?),
        abi::CREATE_WINDOW => {
            let create = CreateWindow::read(&mut argument)?;
            let start = second.create_window(caller, create)?;
            CreateWindow::answer(&mut argument, start)
        }
        abi::REMOVE_WINDOW => second.remove_window(caller, RemoveWindow::read(&mut argument)?),
        abi::MAP_DMA => second.map(caller, MapDma::read(&mut argument)?),
        abi::UNMAP_DMA => second.unmap(caller, UnmapDma::read(&mut argument)?),
        _ => Err(Error::Command { command }),
    }
}

impl<A: AddressSpace> Drop for Container<A> {
    fn drop(&mut self) {
        match self.state.get_mut() {
            // Nobody is left to be told how.
            State::First(first) => _ = first.detach(None),
            State::Second(second) => second.release(),
        }
    }
}
