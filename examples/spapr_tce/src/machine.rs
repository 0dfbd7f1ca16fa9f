//! A host and its processes, simulated: memory that devices really read and write, and address spaces with a limit of locked
//! pages. For tests, and for kernels that have no user space yet.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use spin::Mutex;

use crate::error::Error;
use crate::page::{HostPage, PAGE_SIZE, UserPage};
use crate::process::{AddressSpace, Privilege, Write};

type Page = Box<[u8; PAGE_SIZE as usize]>;

/// The host's memory.
#[derive(Debug)]
pub struct HostMemory {
    pages: Mutex<Vec<Page>>,
}

impl HostMemory {
    /// So many pages, of zeros. The first has number 0.
    #[must_use]
    pub fn new(pages: usize) -> Self {
        let zero = || Box::new([0; PAGE_SIZE as usize]);
        Self { pages: Mutex::new((0..pages).map(|_| zero()).collect()) }
    }

    fn at<T>(&self, page: HostPage, access: impl FnOnce(&mut Page) -> T) -> Option<T> {
        let page = usize::try_from(page.0).ok()?;
        self.pages.lock().get_mut(page).map(access)
    }

    /// Reads from a page, as far as it goes; from a page that there is not, nothing.
    pub fn read(&self, page: HostPage, offset: usize, into: &mut [u8]) {
        self.at(page, |page| {
            for (to, from) in into.iter_mut().zip(page.iter().skip(offset)) {
                *to = *from;
            }
        });
    }

    /// Writes to a page, as far as it goes; to a page that there is not, nothing.
    pub fn write(&self, page: HostPage, offset: usize, bytes: &[u8]) {
        self.at(page, |page| {
            for (to, from) in page.iter_mut().skip(offset).zip(bytes) {
                *to = *from;
            }
        });
    }
}

/// A process's address space.
#[derive(Debug)]
pub struct Process {
    memory: Arc<HostMemory>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pages: BTreeMap<UserPage, (HostPage, Write)>,
    /// How often each page is pinned.
    pins: BTreeMap<HostPage, u64>,
    dirty: BTreeSet<HostPage>,
    locked: u64,
    limit: u64,
}

impl Process {
    /// A process without pages, that may lock so many.
    #[must_use]
    pub fn new(memory: Arc<HostMemory>, limit: u64) -> Self {
        let (pages, pins, dirty) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { memory, state: Mutex::new(State { pages, pins, dirty, locked: 0, limit }) }
    }

    /// Gives it a page, which it may write where `write` says so.
    pub fn give(&self, page: UserPage, host: HostPage, write: Write) {
        self.state.lock().pages.insert(page, (host, write));
    }

    /// The host's memory.
    #[must_use]
    pub fn memory(&self) -> &HostMemory {
        &self.memory
    }

    /// How many pins its pages have, together.
    #[must_use]
    pub fn pins(&self) -> u64 {
        self.state.lock().pins.values().sum()
    }

    /// How many locked pages it is charged for.
    #[must_use]
    pub fn locked(&self) -> u64 {
        self.state.lock().locked
    }

    /// Whether a device may have written to the page.
    #[must_use]
    pub fn is_dirty(&self, page: HostPage) -> bool {
        self.state.lock().dirty.contains(&page)
    }
}

impl AddressSpace for Process {
    fn pin(&self, page: UserPage, write: Write) -> Result<HostPage, Error> {
        let mut state = self.state.lock();
        let may = |(_, may_write): &&(HostPage, Write)| write == Write::No || *may_write == Write::Yes;
        let fault = Error::PageFault { address: page.address() };
        let (host, _) = *state.pages.get(&page).filter(may).ok_or(fault)?;
        *state.pins.entry(host).or_default() += 1;
        Ok(host)
    }

    fn unpin(&self, page: HostPage, write: Write) {
        let mut state = self.state.lock();
        if write == Write::Yes {
            state.dirty.insert(page);
        }
        let pins = state.pins.remove(&page).unwrap_or_default();
        debug_assert!(pins > 0, "{page:?} has no pin to give back");
        if pins > 1 {
            state.pins.insert(page, pins - 1);
        }
    }

    fn charge(&self, pages: u64, privilege: Privilege) -> Result<(), Error> {
        let mut state = self.state.lock();
        let locked = state.locked.checked_add(pages).ok_or(Error::OverLimit { pages })?;
        if locked > state.limit && privilege == Privilege::Limited {
            return Err(Error::OverLimit { pages });
        }
        state.locked = locked;
        Ok(())
    }

    fn uncharge(&self, pages: u64) {
        let mut state = self.state.lock();
        debug_assert!(pages <= state.locked, "{pages} pages are given back of {} that are charged", state.locked);
        state.locked = state.locked.saturating_sub(pages);
    }
}
