//! The module `container`: its driver's operations, which can be replaced while they are called, and a user of both versions whose
//! every step may fail.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Deref;
use core::sync::atomic::AtomicU64;

use fentry::record::times::CallTimes;
use fentry::trampoline::{Body, Implementations, OpsError, Prepared, Replaced};
use fentry::{Engine, Rule};
use spapr_tce::{PAGE_SIZE, abi};

use crate::loaded::Loaded;

#[path = "../../spapr_tce/module/src/driver.rs"]
pub mod driver;

use driver::{Seen, USER, WINDOW, WINDOW_PAGES};

/// The module's name.
pub const NAME: &str = "container";

/// The type of the first version.
pub const FIRST: u32 = abi::SPAPR_TCE_IOMMU;

fentry::ops_struct! {
    /// The driver's operations ([`driver::Driver`]), as this kernel calls them.
    pub struct DriverOps => Driver {
        /// Opens a container of this type; returns its number.
        fn open(kind: u32) -> i64;
        /// Attaches a group.
        fn attach(container: u32, group: u32) -> i64;
        /// Carries out a process's command.
        ///
        /// # Safety
        ///
        /// 1. The argument is `bytes` bytes that nobody else uses meanwhile; or null, for the number `bytes`.
        [unsafe] fn ioctl(container: u32, process: u32, command: u32, argument: *mut u8, bytes: usize) -> i64;
        /// Detaches a group. Returns 1 where the container was enabled still.
        fn detach(container: u32, group: u32) -> i64;
        /// Closes a container.
        fn release(container: u32) -> i64;
    }
}

const _: () = assert!(size_of::<DriverOps>() == size_of::<driver::Driver>());

/// The driver that is in use: the module's own, or one that is generated in front of it.
static DRIVER: Implementations<DriverOps> = Implementations::new();

/// Puts the module's driver in use.
///
/// # Errors
///
/// [`OpsError`].
///
/// # Safety
///
/// 1. The module is `container`, and stays loaded until [`take_driver_out`] has returned.
pub unsafe fn put_driver_in_use(engine: &Engine, module: &Loaded) -> Result<(), OpsError> {
    // SAFETY: our caller's promise.
    let before = unsafe { prepare(engine, module) }?.put_in_use();
    before.into_iter().for_each(free);
    Ok(())
}

/// # Safety
///
/// 1. As for [`put_driver_in_use`].
unsafe fn prepare(engine: &Engine, module: &Loaded) -> Result<Prepared<'static, DriverOps>, OpsError> {
    // SAFETY: the module's static is such a table, and never written.
    let table = unsafe { &*module.export("container_driver").cast::<DriverOps>() };
    DRIVER.prepare(engine, NAME, table)
}

/// Takes the driver out of use, and waits until nobody is inside it.
pub fn take_driver_out() {
    DRIVER.take_out().into_iter().for_each(free);
}

fn free(driver: Replaced<'static, DriverOps>) {
    let mut left = driver.try_free();
    while let Err(still) = left {
        core::hint::spin_loop();
        left = still.try_free();
    }
}

/// What a generated driver takes down of the one behind it.
#[derive(Debug)]
pub struct Watching {
    /// How long each command took.
    pub ioctls: CallTimes,
    /// How many containers were opened.
    pub opened: AtomicU64,
}

/// Puts a generated driver in front of the module's own, while requests run; it is in use until `until` returns.
///
/// # Errors
///
/// [`OpsError`].
///
/// # Safety
///
/// 1. As for [`put_driver_in_use`].
///
/// # Panics
///
/// No driver is in use.
pub unsafe fn watch_driver(
    engine: &'static Engine,
    module: &Loaded,
    seen: &'static Watching,
    until: impl FnOnce(),
) -> Result<(), OpsError> {
    let behind = DRIVER.user().expect("a driver is in use");
    let bodies = [("ioctl", Body::timed(&seen.ioctls)), ("open", Body::forward().counting(&seen.opened))];
    let watching = DRIVER.prepare_generated(engine, "watching", &behind, &bodies)?;
    drop(behind);
    // SAFETY: our caller's promise.
    let plain = unsafe { prepare(engine, module) }?;
    let replaced = watching.put_in_use();
    until();
    // What was generated goes first: it is a user of the table behind it.
    plain.put_in_use().into_iter().chain(replaced).for_each(free);
    Ok(())
}

type Dma = extern "C" fn(group: u32, address: u64, byte: u8) -> i64;
type Look = unsafe extern "C" fn(process: u32, group: u32, seen: *mut Seen) -> i64;

/// The driver that is in use, as one process uses it with one group.
#[derive(Clone, Copy, Debug)]
pub struct User {
    dma: Dma,
    look: Look,
    process: u32,
    group: u32,
}

/// An address in the group's window, of a page.
pub const fn bus(page: u64) -> u64 {
    (WINDOW + page) * PAGE_SIZE
}

const fn user(page: u64) -> u64 {
    (USER + page) * PAGE_SIZE
}

/// An argument: words of 32 bits, and then of 64.
fn argument<const N: usize>(words: &[u32], longs: [u64; N]) -> Vec<u8> {
    let words = words.iter().flat_map(|word| word.to_ne_bytes());
    words.chain(longs.into_iter().flat_map(u64::to_ne_bytes)).collect()
}

impl User {
    /// The process and the group of this number.
    ///
    /// # Safety
    ///
    /// 1. The module is `container`, and stays loaded as long as this is used; its driver is [in use](put_driver_in_use).
    pub unsafe fn of(module: &Loaded, number: u32) -> Self {
        // SAFETY: the module's function has this type.
        let dma = unsafe { core::mem::transmute::<*const (), Dma>(module.export("container_dma")) };
        // SAFETY: as above.
        let look = unsafe { core::mem::transmute::<*const (), Look>(module.export("container_look")) };
        Self { dma, look, process: number, group: number }
    }

    /// The driver, for one call.
    fn driver() -> impl Deref<Target = Driver> {
        DRIVER.user().expect("a driver is in use")
    }

    /// Opens a container of this type.
    pub fn open(&self, kind: u32) -> i64 {
        Self::driver().open(kind)
    }

    /// Attaches the group.
    pub fn attach(&self, container: u32) -> i64 {
        Self::driver().attach(container, self.group)
    }

    /// Detaches the group.
    pub fn detach(&self, container: u32) -> i64 {
        Self::driver().detach(container, self.group)
    }

    /// Closes the container.
    pub fn release(&self, container: u32) -> i64 {
        Self::driver().release(container)
    }

    fn ioctl(&self, container: u32, command: u32, argument: &mut [u8]) -> i64 {
        let (pointer, bytes) =
            (if argument.is_empty() { core::ptr::null_mut() } else { argument.as_mut_ptr() }, argument.len());
        // SAFETY: 1. Null, or so many bytes that are ours alone.
        unsafe { Self::driver().ioctl(container, self.process, command, pointer, bytes) }
    }

    /// Enables the container.
    pub fn enable(&self, container: u32) -> i64 {
        self.ioctl(container, abi::ENABLE, &mut [])
    }

    /// Disables it.
    pub fn disable(&self, container: u32) -> i64 {
        self.ioctl(container, abi::DISABLE, &mut [])
    }

    /// Maps so many of the process's pages, for reading and writing.
    pub fn map(&self, container: u32, first: u64, iova: u64, pages: u64) -> i64 {
        self.ioctl(
            container,
            abi::MAP_DMA,
            &mut argument(&[32, abi::MAP_READ | abi::MAP_WRITE], [user(first), iova, pages * PAGE_SIZE]),
        )
    }

    /// Unmaps so many pages.
    pub fn unmap(&self, container: u32, iova: u64, pages: u64) -> i64 {
        self.ioctl(container, abi::UNMAP_DMA, &mut argument(&[24, 0], [iova, pages * PAGE_SIZE]))
    }

    fn register(&self, container: u32, pages: u64, command: u32) -> i64 {
        self.ioctl(container, command, &mut argument(&[24, 0], [user(0), pages * PAGE_SIZE]))
    }

    /// Creates a window of so many pages, and tells where it is.
    fn create_window(&self, container: u32, pages: u64, start: &mut u64) -> i64 {
        let mut bytes = argument(&[40, 0, 12, 0], [pages * PAGE_SIZE, 1, 0]);
        let created = self.ioctl(container, abi::CREATE_WINDOW, &mut bytes);
        if let Some(answer) = bytes.last_chunk() {
            *start = u64::from_ne_bytes(*answer);
        }
        created
    }

    fn remove_window(&self, container: u32, start: u64) -> i64 {
        self.ioctl(container, abi::REMOVE_WINDOW, &mut argument(&[16, 0], [start]))
    }

    /// Whether a device of the group can write to this address, and read it back.
    pub fn device_reaches(&self, address: u64, byte: u8) -> bool {
        (self.dma)(self.group, address, byte) == 0
    }

    /// What there is to see of the process and the group.
    pub fn look(&self) -> Seen {
        let mut seen = Seen::default();
        // SAFETY: 1. It is ours.
        unsafe { (self.look)(self.process, self.group, &raw mut seen) };
        seen
    }

    /// Uses containers of both versions, and closes them.
    ///
    /// Any step may be made to fail. What must hold is checked after each: one that has failed has changed nothing; there are as
    /// many pins as the version says; and when it is closed nothing is left.
    ///
    /// # Errors
    ///
    /// What does not hold.
    pub fn use_both(&self) -> Result<Used, String> {
        let mut used = Used { user: *self, steps: 0, failed: None };
        let before = self.look();
        self.use_first(&mut used)?;
        self.use_second(&mut used)?;
        let (before, after) = (Seen { faults: 0, ..before }, Seen { faults: 0, ..self.look() });
        if before == after { Ok(used) } else { Err(format!("{after:x?} is left of {before:x?}")) }
    }

    fn use_first(&self, used: &mut Used) -> Result<(), String> {
        let Ok(container) = u32::try_from(used.step("open", || self.open(FIRST))?) else { return Ok(()) };
        used.step("attach", || self.attach(container))?;
        used.step("enable", || self.enable(container))?;
        let paid = self.look().locked;
        used.step("map 4 pages", || self.map(container, 0, bus(0), 4))?;
        used.step("map 2 pages", || self.map(container, 8, bus(8), 2))?;
        let Seen { locked, pins, mapped, .. } = self.look();
        if pins != mapped || locked != paid || (locked != 0 && locked != WINDOW_PAGES) {
            return Err(format!("{pins} pins of {mapped} mapped pages, and {locked} pages paid for"));
        }
        used.step("unmap 3 pages", || self.unmap(container, bus(1), 3))?;
        used.step("disable", || self.disable(container))?;
        used.step("detach", || self.detach(container))?;
        used.step("release", || self.release(container)).map(drop)
    }

    fn use_second(&self, used: &mut Used) -> Result<(), String> {
        let Ok(container) = u32::try_from(used.step("open", || self.open(abi::SPAPR_TCE_V2_IOMMU))?) else {
            return Ok(());
        };
        used.step("attach", || self.attach(container))?;
        let is_registered = used.step("register 8 pages", || self.register(container, 8, abi::REGISTER_MEMORY))? == 0;
        // The group's own window comes with the first thing that needs one, and stays also if that fails: so nothing is asked
        // for that fails for another reason.
        if is_registered && used.step("map 2 pages", || self.map(container, 0, bus(0), 2))? == 0 {
            used.step("unmap 2 pages", || self.unmap(container, bus(0), 2))?;
        }
        let mut start = 0;
        let has_window = self.look().locked > if is_registered { 8 } else { 0 };
        if has_window && used.step("create a window", || self.create_window(container, 8, &mut start))? == 0 {
            used.step("map 4 pages", || self.map(container, 2, start, 4))?;
            used.step("unmap 4 pages", || self.unmap(container, start, 4))?;
            used.step("remove the window", || self.remove_window(container, start))?;
        }
        used.step("unregister 8 pages", || self.register(container, 8, abi::UNREGISTER_MEMORY))?;
        used.step("detach", || self.detach(container))?;
        used.step("release", || self.release(container)).map(drop)
    }
}

/// How a use of both versions went.
#[derive(Debug)]
pub struct Used {
    user: User,
    /// How many steps were made.
    pub steps: u32,
    /// The first step that has failed, and with what.
    pub failed: Option<(&'static str, i64)>,
}

impl Used {
    /// Makes a step, and checks that it has changed nothing if it has failed.
    fn step(&mut self, what: &'static str, make: impl FnOnce() -> i64) -> Result<i64, String> {
        let before = self.user.look();
        let result = make();
        let after = self.user.look();
        self.steps += 1;
        if result < 0 {
            self.failed.get_or_insert((what, result));
            if before != after {
                return Err(format!("{what} has failed ({result}) and changed {before:x?} to {after:x?}"));
            }
        }
        Ok(result)
    }
}

/// The module's function that maps.
pub const MAP: Rule<'static> = Rule::name("container::map").in_module(NAME);
/// The one that unmaps.
pub const UNMAP: Rule<'static> = Rule::name("container::unmap").in_module(NAME);
