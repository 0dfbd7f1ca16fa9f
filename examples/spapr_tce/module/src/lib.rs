//! The IOMMU container as a loadable module: the driver's operations, in a `struct` of functions that it exports, on a simulated
//! machine of a few processes, and a few groups of devices.
//!
//! The module is thin. What it adds to the crate is numbers instead of references, and functions of their own for what may
//! fail, [`pin`] and [`charge`], and for what is timed, [`map`] and [`unmap`].
#![no_std]
#![cfg(target_os = "none")]

extern crate alloc;

pub mod driver;
#[path = "../../../patients/modules/kernel.rs"]
mod kernel;

use alloc::sync::Arc;

use driver::{COUNT, Driver, LIMIT, Seen, USER, USER_PAGES, WINDOW, WINDOW_PAGES};
use kernel::{export, injectable};
use spapr_tce::machine::{HostMemory, Process};
use spapr_tce::{
    AddressSpace, Argument, BusPage, Caller, Container, Detached, Errno, Error, Group, HostPage, Privilege, UserPage,
    Window, Write, abi,
};
use spin::Mutex;

/// How many containers can be open.
const CONTAINERS: usize = 8;

/// A process's address space, whose pins and charges go through functions that may be made to fail.
#[derive(Debug)]
struct Space(Process);

#[inline(never)]
fn pin(space: &Process, page: UserPage, write: Write) -> Result<HostPage, Error> {
    space.pin(page, write)
}

#[inline(never)]
fn unpin(space: &Process, page: HostPage, write: Write) {
    space.unpin(page, write);
}

#[inline(never)]
fn uncharge(space: &Process, pages: u64) {
    space.uncharge(pages);
}

#[inline(never)]
fn charge(space: &Process, pages: u64, privilege: Privilege) -> Result<(), Error> {
    space.charge(pages, privilege)
}

injectable! {
    // SAFETY: the container undoes what it has done where a page is not to be had.
    unsafe fn pin(space: &Process, page: UserPage, write: Write) -> Result<HostPage, Error> {
        Err(Error::PageFault { address: page.address() })
    }
}
injectable! {
    // SAFETY: the container changes nothing where it may not be paid for.
    unsafe fn charge(space: &Process, pages: u64, privilege: Privilege) -> Result<(), Error> {
        Err(Error::OverLimit { pages })
    }
}

impl AddressSpace for Space {
    fn pin(&self, page: UserPage, write: Write) -> Result<HostPage, Error> {
        pin(&self.0, page, write)
    }

    fn unpin(&self, page: HostPage, write: Write) {
        unpin(&self.0, page, write);
    }

    fn charge(&self, pages: u64, privilege: Privilege) -> Result<(), Error> {
        charge(&self.0, pages, privilege)
    }

    fn uncharge(&self, pages: u64) {
        uncharge(&self.0, pages);
    }
}

/// What is simulated. Each process has pages of its own, of which a device may write all but the last 8.
struct Machine {
    memory: Arc<HostMemory>,
    processes: [Arc<Space>; COUNT as usize],
    groups: [Arc<Group>; COUNT as usize],
    containers: [Mutex<Option<Arc<Container<Space>>>>; CONTAINERS],
}

static MACHINE: Mutex<Option<Arc<Machine>>> = Mutex::new(None);

/// The machine, once the module has started.
fn machine() -> Option<Arc<Machine>> {
    MACHINE.lock().clone()
}

impl Machine {
    fn new() -> Option<Self> {
        let memory = Arc::new(HostMemory::new((u64::from(COUNT) * USER_PAGES) as usize));
        let processes = core::array::from_fn(|number| {
            let process = Process::new(Arc::clone(&memory), LIMIT);
            for page in 0..USER_PAGES {
                let write = if page < USER_PAGES - 8 { Write::Yes } else { Write::No };
                process.give(UserPage(USER + page), HostPage(number as u64 * USER_PAGES + page), write);
            }
            Arc::new(Space(process))
        });
        let window = Window::new(BusPage(WINDOW), WINDOW_PAGES)?;
        let group = |number| Group::new(number, window).map(Arc::new);
        let groups = [group(0)?, group(1)?, group(2)?, group(3)?];
        Some(Self { memory, processes, groups, containers: [const { Mutex::new(None) }; CONTAINERS] })
    }

    fn group(&self, number: u32) -> Option<&Arc<Group>> {
        self.groups.get(number as usize)
    }

    fn container(&self, number: u32) -> Option<Arc<Container<Space>>> {
        self.containers.get(number as usize)?.lock().clone()
    }
}

/// Starts the module.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".init.text")]
extern "C" fn fentry_module_init() -> i32 {
    let machine = Machine::new().map(Arc::new);
    let is_made = machine.is_some();
    *MACHINE.lock() = machine;
    if is_made { 0 } else { negative(Errno::ENOMEM) as i32 }
}

/// Ends it.
#[unsafe(no_mangle)]
extern "C" fn fentry_module_exit() {
    let machine = MACHINE.lock().take();
    drop(machine);
}

const fn negative(errno: Errno) -> i64 {
    -(errno as i64)
}

/// What an operation returns; `None` where there is no such number.
fn returned(result: Option<Result<i64, Error>>) -> i64 {
    match result {
        Some(Ok(value)) => value,
        Some(Err(error)) => negative(error.errno()),
        None => negative(Errno::ENOENT),
    }
}

extern "C" fn open(kind: u32) -> i64 {
    returned(machine().and_then(|machine| {
        let container = match Container::open(kind) {
            Ok(container) => Arc::new(container),
            Err(error) => return Some(Err(error)),
        };
        for (number, place) in machine.containers.iter().enumerate() {
            let mut place = place.lock();
            if place.is_none() {
                *place = Some(container);
                return Some(Ok(number as i64));
            }
        }
        None
    }))
}

extern "C" fn attach(container: u32, group: u32) -> i64 {
    returned(machine().and_then(|machine| {
        let attached = machine.container(container)?.attach(machine.group(group)?);
        Some(attached.map(|()| 0))
    }))
}

extern "C" fn detach(container: u32, group: u32) -> i64 {
    returned(machine().and_then(|machine| match machine.container(container)?.detach(machine.group(group)?) {
        Detached::Disabled => Some(Ok(0)),
        Detached::Forced => Some(Ok(1)),
        Detached::NotAttached => None,
    }))
}

extern "C" fn release(container: u32) -> i64 {
    returned(machine().and_then(|machine| {
        let closed = machine.containers.get(container as usize)?.lock().take()?;
        drop(closed);
        Some(Ok(0))
    }))
}

/// Maps a user's pages.
#[inline(never)]
fn map(container: &Container<Space>, caller: &Caller<Space>, argument: Argument<'_>) -> Result<u32, Error> {
    container.ioctl(caller, abi::MAP_DMA, argument)
}

/// Unmaps pages.
#[inline(never)]
fn unmap(container: &Container<Space>, caller: &Caller<Space>, argument: Argument<'_>) -> Result<u32, Error> {
    container.ioctl(caller, abi::UNMAP_DMA, argument)
}

/// # Safety
///
/// 1. The argument is null, or `bytes` bytes that nobody else uses meanwhile.
unsafe extern "C" fn ioctl(container: u32, process: u32, command: u32, argument: *mut u8, bytes: usize) -> i64 {
    let argument = if argument.is_null() {
        Argument::Number(bytes as u64)
    } else {
        // SAFETY: our caller's promise.
        Argument::Memory(unsafe { core::slice::from_raw_parts_mut(argument, bytes) })
    };
    returned(machine().and_then(|machine| {
        let container = machine.container(container)?;
        let space = machine.processes.get(process as usize)?;
        let caller = Caller { address_space: Some(Arc::clone(space)), privilege: Privilege::Limited };
        let done = match command {
            abi::MAP_DMA => map(&container, &caller, argument),
            abi::UNMAP_DMA => unmap(&container, &caller, argument),
            command => container.ioctl(&caller, command, argument),
        };
        Some(done.map(i64::from))
    }))
}

/// The driver's operations.
#[unsafe(no_mangle)]
static container_driver: Driver = Driver { open, attach, ioctl, detach, release };
export!(static container_driver);

/// A device of the group writes a byte, and reads it back. Returns 0, or 1 where it was stopped; then its group is reset.
#[unsafe(no_mangle)]
extern "C" fn container_dma(group: u32, address: u64, byte: u8) -> i64 {
    returned(machine().and_then(|machine| {
        let (group, mut read) = (machine.group(group)?, [0]);
        let done = group.dma_write(&machine.memory, address, &[byte]);
        let done = done.and_then(|()| group.dma_read(&machine.memory, address, &mut read));
        if done.is_err() {
            group.reset();
        }
        Some(Ok(i64::from(done.is_err() || read != [byte])))
    }))
}
export!(container_dma);

/// What there is to see of a process and of a group. Returns 0.
///
/// # Safety
///
/// 1. `seen` can be written, and nobody else uses it meanwhile.
#[unsafe(no_mangle)]
unsafe extern "C" fn container_look(process: u32, group: u32, seen: *mut Seen) -> i64 {
    returned(machine().and_then(|machine| {
        let (space, group) = (machine.processes.get(process as usize)?, machine.group(group)?);
        let (locked, pins) = (space.0.locked(), space.0.pins());
        let found = Seen { locked, pins, mapped: group.mapped().len() as u64, faults: group.faults() };
        // SAFETY: our caller's promise.
        unsafe { seen.write(found) };
        Some(Ok(0))
    }))
}
export!(container_look);
