//! - `states`, `commands`, `dma`: what each call says and does, by example.
//! - `flaws`: what the patch has wrong.
//! - `model`: random calls beside a plain map.
//! - `failing`: each failure in its turn.
//! - `bytes`: any bytes as arguments.
//! - `threads`: four at once.
//! - `second`: the second version.

mod bytes;
mod commands;
mod dma;
mod failing;
mod flaws;
mod model;
mod second;
mod states;
mod threads;

use core::sync::atomic::{AtomicU64, Ordering};
use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;

use spin::Mutex;

use crate::machine::{HostMemory, Process};
use crate::{
    AddressSpace, Argument, BusPage, Caller, Container, Error, Group, HostPage, PAGE_SIZE, Privilege, UserPage, Window,
    Write, abi,
};

/// The window: 16 pages of bus addresses from 1 MiB on.
const FIRST: u64 = 0x100;
const PAGES: u64 = 16;

/// The process has 32 pages from 4 MiB on, of which it may not write the last 8.
const USER: u64 = 0x400;
const USER_PAGES: u64 = 32;
const WRITABLE: u64 = 24;

/// A process that fails where a test wants it to.
struct Failing {
    process: Process,
    /// How many calls that can fail there were.
    calls: AtomicU64,
    /// The number of the one that fails.
    nth: AtomicU64,
    /// Run in each pin.
    in_pin: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

impl Failing {
    fn fails(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) == self.nth.load(Ordering::Relaxed)
    }

    /// Has the call after `calls` more fail, and no other.
    fn fail_after(&self, calls: u64) {
        self.nth.store(self.calls.load(Ordering::Relaxed) + calls, Ordering::Relaxed);
    }
}

impl AddressSpace for Failing {
    fn pin(&self, page: UserPage, write: Write) -> Result<HostPage, Error> {
        if let Some(hook) = &mut *self.in_pin.lock() {
            hook();
        }
        if self.fails() {
            return Err(Error::PageFault { address: page.address() });
        }
        self.process.pin(page, write)
    }

    fn unpin(&self, page: HostPage, write: Write) {
        self.process.unpin(page, write);
    }

    fn charge(&self, pages: u64, privilege: Privilege) -> Result<(), Error> {
        if self.fails() {
            return Err(Error::OverLimit { pages });
        }
        self.process.charge(pages, privilege)
    }

    fn uncharge(&self, pages: u64) {
        self.process.uncharge(pages);
    }
}

/// A process that may lock so many pages.
fn process_with(limit: u64) -> Arc<Failing> {
    let process = Process::new(Arc::new(HostMemory::new(64)), limit);
    for page in 0..USER_PAGES {
        let write = if page < WRITABLE { Write::Yes } else { Write::No };
        process.give(UserPage(USER + page), HostPage(page + 8), write);
    }
    let zero = || AtomicU64::new(0);
    let nth = AtomicU64::new(u64::MAX);
    Arc::new(Failing { process, calls: zero(), nth, in_pin: Mutex::new(None) })
}

fn group_at(first: u64, pages: u64) -> Arc<Group> {
    Arc::new(Group::new(1, Window::new(BusPage(first), pages).unwrap()).unwrap())
}

/// A group, a container and a process that may lock the window twice.
struct Setting {
    container: Container<Failing>,
    group: Arc<Group>,
    process: Arc<Failing>,
    caller: Caller<Failing>,
}

fn caller_of(process: &Arc<Failing>) -> Caller<Failing> {
    Caller { address_space: Some(Arc::clone(process)), privilege: Privilege::Limited }
}

impl Setting {
    /// With the group attached.
    fn attached() -> Self {
        Self::with(group_at(FIRST, PAGES))
    }

    fn with(group: Arc<Group>) -> Self {
        let container = Container::open(abi::SPAPR_TCE_IOMMU).unwrap();
        container.attach(&group).unwrap();
        let process = process_with(2 * PAGES);
        let caller = caller_of(&process);
        Self { container, group, process, caller }
    }

    /// And enabled.
    fn enabled() -> Self {
        let setting = Self::attached();
        setting.enable().unwrap();
        setting
    }

    fn enable(&self) -> Result<u32, Error> {
        self.container.ioctl(&self.caller, abi::ENABLE, Argument::Number(0))
    }

    fn disable(&self) {
        assert_eq!(self.container.ioctl(&self.caller, abi::DISABLE, Argument::Number(0)), Ok(0));
    }

    fn map(&self, flags: u32, vaddr: u64, iova: u64, size: u64) -> Result<u32, Error> {
        map(&self.container, &self.caller, flags, vaddr, iova, size)
    }

    fn unmap(&self, flags: u32, iova: u64, size: u64) -> Result<u32, Error> {
        let mut bytes = argument([24, flags], [iova, size]);
        self.container.ioctl(&self.caller, abi::UNMAP_DMA, Argument::Memory(&mut bytes))
    }

    /// What must hold whatever was called.
    fn check(&self) {
        let is_enabled = self.process.process.locked() > 0;
        let mapped = self.group.mapped();
        assert!(is_enabled || mapped.is_empty(), "{mapped:x?}");
        assert_eq!(self.process.process.locked(), if is_enabled { PAGES } else { 0 });
        assert_eq!(usize::try_from(self.process.process.pins()), Ok(mapped.len()));
        assert!(mapped.iter().all(|(page, _)| (FIRST..FIRST + PAGES).contains(&page.0)));
    }
}

fn map(
    container: &Container<Failing>,
    caller: &Caller<Failing>,
    flags: u32,
    vaddr: u64,
    iova: u64,
    size: u64,
) -> Result<u32, Error> {
    let mut bytes = argument([32, flags], [vaddr, iova, size]);
    container.ioctl(caller, abi::MAP_DMA, Argument::Memory(&mut bytes))
}

fn argument<const N: usize>(words: [u32; 2], longs: [u64; N]) -> Vec<u8> {
    let mut bytes = words.map(u32::to_ne_bytes).as_flattened().to_vec();
    bytes.extend(longs.map(u64::to_ne_bytes).as_flattened());
    bytes
}

/// The address of a page of the window, and of a page of the process.
fn bus(page: u64) -> u64 {
    (FIRST + page) * PAGE_SIZE
}

fn user(page: u64) -> u64 {
    (USER + page) * PAGE_SIZE
}

const READ: u32 = abi::MAP_READ;
const WRITE: u32 = abi::MAP_WRITE;

/// SplitMix64: repeats from its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
