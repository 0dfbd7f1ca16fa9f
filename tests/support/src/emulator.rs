//! What must be done for the emulator's sake, and a CPU does not need.
//!
//! QEMU translates text into code of the host and throws a translation away when its text is written. Up to release 8.0
//! there is a gap: a CPU that has read the old instruction and is still translating it keeps what it makes, if another CPU
//! writes in that moment. From then on all CPUs execute the old instruction, though memory holds the new one, until it is
//! written again; maintenance of instruction caches does nothing there. It takes one thread for each CPU to happen, so with
//! `-icount` or `thread=single` it can't.
//!
//! So once every CPU has synchronised, and is done with what it was translating, the callsites of the pages that were written
//! are written again, with the words that they hold. What this could hide, no test on an emulator could have seen: it keeps
//! its instructions coherent anyway.

use crate::interrupts::Masked;
use crate::memory;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use fentry::TextAddr;
use fentry::callsite::MOV_X9_LR;
use fentry::platform::ALIAS_BYTES;

const MAX_PAGES: usize = 64;

/// The pages written since the CPUs last synchronised; only the engine writes, one batch at a time.
static PAGES: [AtomicU64; MAX_PAGES] = [const { AtomicU64::new(0) }; MAX_PAGES];
static WRITTEN: AtomicUsize = AtomicUsize::new(0);

/// Notes that a page of text is about to be written.
pub(crate) fn note_page(page: TextAddr) {
    let index = WRITTEN.fetch_add(1, Ordering::Relaxed);
    if let Some(place) = PAGES.get(index) {
        place.store(page.get(), Ordering::Relaxed);
    }
}

/// Writes the callsites of all noted pages again. Once all CPUs have synchronised.
pub(crate) fn rewrite_callsites() {
    let written = WRITTEN.swap(0, Ordering::Relaxed);
    if crate::smp::online().nth(1).is_none() || crate::count::start().is_some() {
        return;
    }
    if written <= MAX_PAGES {
        PAGES[..written].iter().for_each(|page| rewrite(TextAddr::new(page.load(Ordering::Relaxed))));
    } else {
        memory::text().step_by(ALIAS_BYTES as usize).for_each(|page| rewrite(TextAddr::new(page as u64)));
    }
}

fn rewrite(page: TextAddr) {
    let _masked = Masked::new();
    let Ok(alias) = memory::map_alias(page) else { return };
    let words = alias.as_ptr().cast::<u32>();
    // A callsite in two pages has its second word first in the next one; that word is written in any case.
    let mut previous = MOV_X9_LR;
    for index in 0..ALIAS_BYTES as usize / size_of::<u32>() {
        let word = words.wrapping_add(index);
        // SAFETY: inside the page's alias, which is mapped.
        let value = unsafe { word.read_volatile() };
        if previous == MOV_X9_LR {
            // SAFETY: as above, and writable; the engine, which alone writes text, waits for us.
            unsafe { word.write_volatile(value) };
        }
        previous = value;
    }
    memory::unmap_alias(page, alias);
}
