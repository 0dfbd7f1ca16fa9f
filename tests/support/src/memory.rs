//! The address space: one identity mapping in which nothing is both writable and executable, and the writable aliases of
//! text.
//!
//! | addresses | what | permissions |
//! |---|---|---|
//! | as linked | text, room for stubs | read, execute |
//! | as linked | constants | read |
//! | as linked | data, stacks (less their guards), heap | read, write |
//! | physical | UART, GIC | read, write, device |
//! | text + [`ALIAS_OFFSET`] | text again ([`Alias::Permanent`]) | read, write |
//! | [`WINDOWS`] + CPU's number * 4096 | the page that this CPU writes now ([`Alias::Window`]) | read, write |
//!
//! SCTLR_EL1.WXN is set on top of it: a page that is writable is not executable, whatever its descriptor says.
//!
//! Where the compiler put BTI landing pads, text is mapped as guarded: an indirect branch to anything else faults.

mod walk;

use crate::lock::Lock;
use crate::percpu;
use aarch64_cpu::registers::{ReadWriteable as _, SCTLR_EL1};
use aarch64_paging::Mapping;
use aarch64_paging::descriptor::{El1Attributes, PhysicalAddress};
use aarch64_paging::idmap::IdTranslation;
use aarch64_paging::paging::{Constraints, El1And0, MemoryRegion, VaRange};
use alloc::vec::Vec;
use core::arch::asm;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use fentry::TextAddr;
use fentry::platform::AliasError;

pub use walk::{Mapped, mappings};

/// How far the permanent alias lies above the text.
pub const ALIAS_OFFSET: usize = 0x40_0000_0000;
/// Where the CPUs' windows are.
pub const WINDOWS: usize = 0x60_0000_0000;

const PAGE: usize = 4096;
const ASID: usize = 1;
/// 39 bits of address, as aarch64-rt's TCR_EL1 says.
const ROOT_LEVEL: usize = 1;

const UART: Range<usize> = 0x0900_0000..0x0900_1000;
const GIC: Range<usize> = 0x0800_0000..0x0900_0000;

const DEVICE: El1Attributes = El1Attributes::VALID
    .union(El1Attributes::ATTRIBUTE_INDEX_0)
    .union(El1Attributes::ACCESSED)
    .union(El1Attributes::NON_GLOBAL)
    .union(El1Attributes::PXN)
    .union(El1Attributes::UXN);
const TEXT: El1Attributes = El1Attributes::VALID
    .union(El1Attributes::ATTRIBUTE_INDEX_1)
    .union(El1Attributes::INNER_SHAREABLE)
    .union(El1Attributes::ACCESSED)
    .union(El1Attributes::NON_GLOBAL)
    .union(El1Attributes::READ_ONLY)
    .union(El1Attributes::UXN);
const CONSTANTS: El1Attributes = TEXT.union(El1Attributes::PXN);
const DATA: El1Attributes = CONSTANTS.difference(El1Attributes::READ_ONLY);

type Tables = Mapping<IdTranslation<El1Attributes>, El1And0>;

static TABLES: Lock<Option<Tables>> = Lock::new(None);

/// How text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// All text is mapped a second time, for as long as the kernel runs.
    Permanent,
    /// Each CPU maps the page that it writes, and unmaps it after: at rest no mapping of text is writable.
    Window,
}

/// Whether [`Alias::Window`] is in use.
static WINDOW: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    static __fentry_image_start: u8;
    static __text_stop: u8;
    static __rodata_start: u8;
    static __rodata_stop: u8;
    static __data_start: u8;
    static __heap_stop: u8;
}

/// All executable memory, generated stubs included.
pub fn text() -> Range<usize> {
    (&raw const __fentry_image_start).addr()..(&raw const __text_stop).addr()
}

/// A copy of all text that was linked, without the room for generated stubs, to compare with later.
pub fn copy_of_text() -> Vec<u32> {
    unsafe extern "C" {
        static __fentry_image_stop: u8;
    }
    let text = text().start..(&raw const __fentry_image_stop).addr();
    let start = core::ptr::with_exposed_provenance(text.start);
    // SAFETY: text is mapped readable; a word that changes meanwhile is one of the two that it can be.
    unsafe { core::slice::from_raw_parts(start, text.len() / size_of::<u32>()) }.to_vec()
}

fn constants() -> Range<usize> {
    (&raw const __rodata_start).addr()..(&raw const __rodata_stop).addr()
}

fn data() -> Range<usize> {
    (&raw const __data_start).addr()..(&raw const __heap_stop).addr()
}

/// Makes the tables and switches the boot CPU to them.
pub(crate) fn init() {
    let mut tables = Mapping::with_asid_and_va_range(IdTranslation::new(), ASID, ROOT_LEVEL, El1And0, VaRange::Lower);
    let guarded = if has_landing_pads() { El1Attributes::GP } else { El1Attributes::empty() };
    map(&mut tables, UART, 0, DEVICE);
    map(&mut tables, GIC, 0, DEVICE);
    map(&mut tables, text(), 0, TEXT | guarded);
    map(&mut tables, constants(), 0, CONSTANTS);
    map(&mut tables, data(), 0, DATA);
    for guard in percpu::guard_pages() {
        map(&mut tables, guard..guard + PAGE, 0, El1Attributes::empty());
    }
    map(&mut tables, text(), ALIAS_OFFSET, DATA);
    // Mapped and unmapped once now, so that the tables exist and no later use of a window allocates.
    let windows = MemoryRegion::new(WINDOWS, WINDOWS + percpu::MAX_CPUS * PAGE);
    for attributes in [DATA, El1Attributes::empty()] {
        tables
            .map_range(&windows, PhysicalAddress(text().start), attributes, Constraints::NO_BLOCK_MAPPINGS)
            .expect("the windows are inside the address space");
    }
    *TABLES.lock() = Some(tables);
    activate();
}

/// Maps physical memory `offset` above its own address, in pages: a block could not be changed while in use.
fn map(tables: &mut Tables, physical: Range<usize>, offset: usize, attributes: El1Attributes) {
    let region = MemoryRegion::new(physical.start + offset, physical.end + offset);
    tables
        .map_range(&region, PhysicalAddress(physical.start), attributes, Constraints::NO_BLOCK_MAPPINGS)
        .expect("the kernel's memory is inside the address space");
}

/// Switches the running CPU to the real tables.
pub(crate) fn activate() {
    let tables = TABLES.lock();
    let tables = tables.as_ref().expect("the tables are made before another CPU starts");
    // SAFETY: all that this kernel uses is mapped as it was, at the same addresses, with no more than the permissions that
    // its use needs; the tables are never dropped.
    unsafe { tables.activate() };
    SCTLR_EL1.modify(SCTLR_EL1::WXN::Enable);
    // SAFETY: forgetting translations changes nothing but the time to find them again.
    unsafe { asm!("isb", "tlbi vmalle1", "dsb nsh", "isb", options(nostack, preserves_flags)) };
}

/// Whether this kernel was compiled with landing pads for indirect branches. The compiler doesn't say; a function does.
fn has_landing_pads() -> bool {
    const BTI_C: u32 = 0xd503_245f;
    #[inline(never)]
    extern "C" fn leaf() {}
    let leaf: extern "C" fn() = core::hint::black_box(leaf);
    let first = core::ptr::with_exposed_provenance::<u32>(leaf as usize);
    // SAFETY: the address of a function is that of its first instruction.
    unsafe { first.read_volatile() == BTI_C }
}

/// Chooses how text is written from now on.
///
/// Not while a batch of changes runs.
pub fn use_alias(alias: Alias) {
    let attributes = match alias {
        Alias::Permanent => DATA,
        Alias::Window => El1Attributes::empty(),
    };
    let mut tables = TABLES.lock();
    map(tables.as_mut().expect("the kernel is up"), text(), ALIAS_OFFSET, attributes);
    WINDOW.store(alias == Alias::Window, Ordering::Relaxed);
}

/// How text is written at present.
pub fn alias() -> Alias {
    if WINDOW.load(Ordering::Relaxed) { Alias::Window } else { Alias::Permanent }
}

/// What may be done with memory that [`map_elsewhere`] maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: it isn't mapped.
    None,
    /// Read it; it may become text.
    Read,
    /// Read and execute it.
    Execute,
    /// Read and write it.
    Write,
}

/// Maps `physical` a second time, from `virtual_start` on, and forgets what was there before on every CPU.
///
/// From nothing to reading, from there to anything else, and back to nothing: no other changes.
///
/// # Errors
///
/// The page tables refuse it.
pub fn map_elsewhere(virtual_start: usize, physical: Range<usize>, access: Access) -> Result<(), &'static str> {
    let guarded = if has_landing_pads() { El1Attributes::GP } else { El1Attributes::empty() };
    let attributes = match access {
        Access::None => El1Attributes::empty(),
        Access::Read => CONSTANTS | guarded,
        Access::Execute => TEXT | guarded,
        Access::Write => DATA | guarded,
    };
    let mut tables = TABLES.lock();
    let tables = tables.as_mut().ok_or("there are no page tables yet")?;
    let region = MemoryRegion::new(virtual_start, virtual_start + physical.len());
    tables
        .map_range(&region, PhysicalAddress(physical.start), attributes, Constraints::NO_BLOCK_MAPPINGS)
        .map_err(|_| "the page tables refuse the mapping")?;
    // SAFETY: forgetting translations changes nothing but the time to find them again.
    unsafe { asm!("dsb ishst", "tlbi vmalle1is", "dsb ish", "isb", options(nostack, preserves_flags)) };
    let mut elsewhere = ELSEWHERE.lock();
    elsewhere.retain(|text| text.start != virtual_start);
    if access == Access::Execute {
        elsewhere.push(Elsewhere { start: virtual_start, physical });
    }
    Ok(())
}

/// Text that [`map_elsewhere`] has mapped.
struct Elsewhere {
    start: usize,
    physical: Range<usize>,
}

static ELSEWHERE: Lock<Vec<Elsewhere>> = Lock::new(Vec::new());

/// The kernel's own mapping of a page of text that is mapped elsewhere.
fn elsewhere(page: usize) -> Option<usize> {
    let texts = ELSEWHERE.lock();
    let is_here = |text: &&Elsewhere| (text.start..text.start + text.physical.len()).contains(&page);
    texts.iter().find(is_here).map(|text| text.physical.start + (page - text.start))
}

/// A writable alias of a page of text.
pub(crate) fn map_alias(page: TextAddr) -> Result<NonNull<u8>, AliasError> {
    let physical = page.get() as usize;
    if let Some(alias) = elsewhere(physical).map(core::ptr::with_exposed_provenance_mut) {
        return NonNull::new(alias).ok_or(AliasError { page, reason: "the alias is at address 0" });
    }
    if !text().contains(&physical) {
        return Err(AliasError { page, reason: "it is not text of this kernel" });
    }
    let alias = match alias() {
        Alias::Permanent => physical + ALIAS_OFFSET,
        Alias::Window => {
            let window = window();
            set_window(window, physical, DATA).map_err(|reason| AliasError { page, reason })?;
            window
        }
    };
    let alias = core::ptr::with_exposed_provenance_mut(alias);
    NonNull::new(alias).ok_or(AliasError { page, reason: "the alias is at address 0" })
}

/// Takes an alias back.
pub(crate) fn unmap_alias(page: TextAddr, alias: NonNull<u8>) {
    let window = window();
    if alias.addr().get() == window {
        // What `map_alias` could map can be unmapped; if not, the walk of a test finds it.
        let _ = set_window(window, page.get() as usize, El1Attributes::empty());
    }
}

/// The address of this CPU's window.
fn window() -> usize {
    WINDOWS + percpu::this().index() * PAGE
}

/// Maps or unmaps a window, with the TLB maintenance for it.
fn set_window(window: usize, physical: usize, attributes: El1Attributes) -> Result<(), &'static str> {
    let mut tables = TABLES.lock();
    let tables = tables.as_mut().ok_or("there are no page tables yet")?;
    let region = MemoryRegion::new(window, window + PAGE);
    tables
        .map_range(&region, PhysicalAddress(physical), attributes, Constraints::NO_BLOCK_MAPPINGS)
        .map_err(|_| "the page tables refuse the window")
}
