//! An IOMMU container, as VFIO gives it to user space on Power: a user maps its own pages into the DMA window of a platform's
//! translation table, so that a device can reach them and nothing else.
//!
//! It is the driver of the patch "powerpc/vfio: Implement IOMMU driver for VFIO", and the second version that Linux has made of
//! it, as a `no_std` crate without `unsafe` code, on simulated hardware: a [translation table](Group) whose entries (*TCEs*)
//! devices' accesses really go through, and a host whose memory they really reach ([`machine`]).
//!
//! ```
//! use std::sync::Arc;
//!
//! use spapr_tce::machine::{HostMemory, Process};
//! use spapr_tce::{Argument, BusPage, Caller, Container, Group, HostPage, Privilege, UserPage, Window, Write, abi};
//!
//! let memory = Arc::new(HostMemory::new(4));
//! let process = Arc::new(Process::new(Arc::clone(&memory), 16));
//! process.give(UserPage(0x10), HostPage(3), Write::Yes);
//! // Sixteen pages of bus addresses, from 1 MiB on.
//! let group = Arc::new(Group::new(7, Window::new(BusPage(0x100), 16).unwrap()).unwrap());
//!
//! let container = Container::open(abi::SPAPR_TCE_IOMMU)?;
//! container.attach(&group)?;
//! let caller = Caller { address_space: Some(process), privilege: Privilege::Limited };
//! container.ioctl(&caller, abi::ENABLE, Argument::Number(0))?;
//! // { argsz, flags; vaddr, iova, size }
//! let mut map = Vec::new();
//! map.extend([32_u32, abi::MAP_WRITE].map(u32::to_ne_bytes).as_flattened());
//! map.extend([0x10_000_u64, 0x100_000, 0x1000].map(u64::to_ne_bytes).as_flattened());
//! container.ioctl(&caller, abi::MAP_DMA, Argument::Memory(&mut map))?;
//!
//! group.dma_write(&memory, 0x100_800, b"from a device").unwrap();
//! let mut read = [0; 13];
//! memory.read(HostPage(3), 0x800, &mut read);
//! assert_eq!(&read, b"from a device");
//! # Ok::<(), spapr_tce::Error>(())
//! ```
//!
//! # What the patch has wrong
//! Its faults are not here, and each has a test that finds it if it comes back (`tests/flaws.rs`):
//!
//! | in the patch | here |
//! |---|---|
//! | pages are mapped without the container being enabled: pinned, and nobody charged | [`Error::NotEnabled`] |
//! | disabling leaves what is mapped | it is unmapped before the charge is taken back |
//! | disabling uncharges who calls, not who was charged | the container keeps who was; nobody else may map |
//! | only a range's first page is checked against the window | all of it is |
//! | a window's size, and an address with its size, overflow | both are computed checked |
//! | the table is looked at without the lock that detaching takes | all is done under the container's lock |
//! | mapping without a permission pins a page that no entry names | [`Error::Flags`] |
//! | a page that can't be put into the table stays pinned | its pin is given back |
//!
//! The later driver's second version has some of its own: a window that can't be made stays charged, an entry that can't be
//! counted is reported as mapped, undoing an attachment meets windows that there are not (`tests/second`).
//!
//! # The files
//! | file | what it holds |
//! |---|---|
//! | [`abi`] | the commands and their arguments |
//! | `container` | the container, its commands |
//! | `first` | the first version: a window that is paid for, pages that are pinned as they are mapped |
//! | `second`, `region` | the second: registered memory, windows created and removed, several groups |
//! | `group` | devices' accesses, the bus that counts their faults |
//! | `table` | entries, and who owns the table |
//! | `process` | what is asked of the kernel around: pins, charges |
//! | `page` | ranges that don't wrap, windows |
//! | `error` | what fails, and its number for user space |
//! | [`machine`] | a simulated host |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod abi;
mod container;
mod error;
mod first;
mod group;
pub mod machine;
mod page;
mod process;
mod region;
mod second;
mod table;
#[cfg(test)]
mod tests;

pub use abi::Argument;
pub use container::{Container, Detached};
pub use error::{Errno, Error};
pub use group::{DmaFault, Group};
pub use page::{BusPage, HostPage, PAGE_SHIFT, PAGE_SIZE, UserPage, Window};
pub use process::{AddressSpace, Caller, Privilege, Write};
pub use table::{Access, Mapped};
