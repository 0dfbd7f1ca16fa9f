//! The kernel's side of the boot tests with modules: what it exports, the modules themselves, memory for them, loading and
//! unloading.
#![no_std]
#![cfg(target_os = "none")]

extern crate alloc;

pub mod memory;

use crate::memory::PAGES;
use alloc::alloc::{Layout, alloc, dealloc};
use alloc::string::String;
use alloc::vec::Vec;
use fentry::TextAddr;
use fentry::module::{Erratum843419, Exports, Kernel, LoadError, ModuleId, Modules, Placement, call};
use fentry::text::Hardware;
use spin::Mutex;
use support::{PLATFORM, engine};

include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// Near the kernel, beyond BL's reach and beyond ADRP's. The first is behind the heap.
pub const PLACES: [(&str, u64); 3] = [("near", 0x4600_0000), ("far", 0x5020_0000), ("very far", 0x20_0000_0000)];

/// A sum in which every argument counts differently.
#[rustfmt::skip]
#[inline(never)]
pub extern "C" fn kernel_sum(
    a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64, i: u64, j: u64,
    k: f64, l: f64, m: f64, n: f64, o: f64, p: f64, q: f64, r: f64, s: f64, t: f64,
) -> f64 {
    let whole = [a, b, c, d, e, f, g, h, i, j];
    let parts = [k, l, m, n, o, p, q, r, s, t];
    let mut sum = 0.0;
    for (weight, (whole, part)) in (1_u32..).zip(whole.into_iter().zip(parts)) {
        sum += f64::from(weight) * (whole as f64) + f64::from(weight * 100) * part;
    }
    sum
}

/// Sums ten whole numbers, weighted: for modules built without floating point.
#[rustfmt::skip]
#[inline(never)]
pub extern "C" fn kernel_total(
    a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64, i: u64, j: u64,
) -> u64 {
    [a, b, c, d, e, f, g, h, i, j].into_iter().zip(1..).map(|(number, weight)| number * weight).sum()
}

/// What the modules have said.
pub static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

extern "C" fn kernel_note(text: *const u8, bytes: usize) {
    // SAFETY: a module passes a text of this length.
    let text = unsafe { core::slice::from_raw_parts(text, bytes) };
    NOTES.lock().push(String::from_utf8_lossy(text).into_owned());
}

/// Memory for a module; null where there is none.
unsafe extern "C" fn kernel_allocate(bytes: usize, alignment: usize) -> *mut u8 {
    let Ok(layout) = Layout::from_size_align(bytes, alignment) else { return core::ptr::null_mut() };
    // SAFETY: a module asks for some bytes, and not for none.
    unsafe { alloc(layout) }
}

unsafe extern "C" fn kernel_free(memory: *mut u8, bytes: usize, alignment: usize) {
    let Ok(layout) = Layout::from_size_align(bytes, alignment) else { return };
    // SAFETY: a module gives back what it was given, with this layout.
    unsafe { dealloc(memory, layout) };
}

extern "C" fn kernel_panic() -> ! {
    panic!("a module panicked");
}

/// What is done when a module that asks for it exits.
pub static AT_EXIT: Mutex<Option<fn()>> = Mutex::new(None);

extern "C" fn kernel_at_exit() {
    let call = AT_EXIT.lock().take();
    if let Some(call) = call {
        call();
    }
}

/// What the modules refer to of the kernel's data.
pub static KERNEL_NUMBER: u64 = 0x1234_5678_9abc_def1;

fentry::export!(kernel_sum);
fentry::export!(kernel_total);
fentry::export!(kernel_note);
fentry::export!(kernel_allocate);
fentry::export!(kernel_free);
fentry::export!(kernel_panic);
fentry::export!(kernel_at_exit);
fentry::export!(static KERNEL_NUMBER);

fn kernel(erratum_843419: Erratum843419) -> Kernel<'static> {
    Kernel { memory: &PAGES, platform: &PLATFORM, machine: &Hardware, regions: engine().0, erratum_843419, call }
}

/// No modules yet.
pub fn modules() -> Modules<'static> {
    modules_on(Erratum843419::Absent)
}

/// No modules yet, on CPUs that have the erratum or don't.
pub fn modules_on(erratum: Erratum843419) -> Modules<'static> {
    // SAFETY: (1) and (2) The linker script gathers the section in this kernel's constants, which nobody writes; the kernel
    // runs where it is linked. (3) Every record is one of `export!`.
    let exports = unsafe { Exports::linked() }.expect("the kernel's exports");
    Modules::new(kernel(erratum), exports)
}

/// Every module's name.
pub fn names() -> impl Iterator<Item = &'static str> {
    MODULES.iter().map(|(name, _)| *name)
}

/// The module of this name.
pub fn file(name: &str) -> &'static [u8] {
    MODULES.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("there is no module {name}")).1
}

/// Loads a module from `place` on.
pub fn load(modules: &mut Modules<'static>, name: &str, place: u64) -> Result<ModuleId, LoadError> {
    // SAFETY: (1) to (3) The modules are this test's own, made for these exports; none keeps a pointer to its init sections.
    unsafe { modules.load(name, file(name), Placement::Near(TextAddr::new(place))) }
}

/// Unloads what nobody calls any more.
pub fn unload(modules: &mut Modules<'static>, id: ModuleId) {
    // SAFETY: (1) and (2) This test calls nothing of the module any more, and what is registered of it, its exit function
    // takes back. (3) It isn't tried again.
    unsafe { modules.unload(id) }.unwrap_or_else(|error| panic!("{error}"));
}
