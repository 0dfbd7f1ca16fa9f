//! What the container asks of the kernel around it: address spaces whose pages can be pinned, and a caller.

use alloc::sync::Arc;

use crate::error::Error;
use crate::page::{HostPage, UserPage};

/// A user's address space.
pub trait AddressSpace {
    /// Pins the page that the user has there, for a device that may also write where `write` says so, until
    /// [`unpin`](Self::unpin).
    ///
    /// # Errors
    /// [`Error::PageFault`] where the user has no such page, or may not write it.
    fn pin(&self, page: UserPage, write: Write) -> Result<HostPage, Error>;

    /// Gives a pin back; the page is dirty where the device could write.
    fn unpin(&self, page: HostPage, write: Write);

    /// Charges locked pages.
    ///
    /// # Errors
    /// [`Error::OverLimit`] where there would be more than the limit, and the caller is not privileged; nothing is charged then.
    fn charge(&self, pages: u64, privilege: Privilege) -> Result<(), Error>;

    /// Takes a charge back.
    fn uncharge(&self, pages: u64);
}

/// Whether a device may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// It only reads.
    No,
    /// It may write.
    Yes,
}

/// Whether a caller may lock more memory than its limit (`CAP_IPC_LOCK`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// The limit holds.
    Limited,
    /// It does not.
    MayLock,
}

/// Who calls.
#[derive(Debug)]
pub struct Caller<A> {
    /// Its address space: a kernel thread has none.
    pub address_space: Option<Arc<A>>,
    /// What it may lock.
    pub privilege: Privilege,
}
