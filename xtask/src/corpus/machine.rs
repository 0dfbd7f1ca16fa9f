//! A machine to load modules on: the crate's fake kernel, and memory behind which the engine finds the modules' text.
//!
//! The crate's own fakes have either a kernel with all of its text, or memory for modules that nobody traces. Here both are
//! one: what is not a module's is the fake kernel's to answer.

use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fentry::fakes::FakeKernel;
use fentry::module::{Allocation, MemoryError, ModuleMemory, Permission, Placement, Request, Segment};
use fentry::platform::{AliasError, ContextBase, CpuTimeout, Platform};
use fentry::text::{CacheType, InterruptMask, Machine};
use fentry::{TextAddr, TextRange};

/// No module asks for more in one piece.
const MOST_BYTES: usize = 512 << 20;

/// Memory of one segment. Only pointers that come from `start` reach it, the loader's as well.
#[derive(Debug)]
struct Piece {
    segment: Segment,
    address: u64,
    start: NonNull<u32>,
    words: usize,
}

// SAFETY: a piece owns its memory, as a box does.
unsafe impl Send for Piece {}

impl Piece {
    fn new(segment: Segment, address: u64, bytes: usize) -> Self {
        let words: Box<[u32]> = vec![0xaaaa_aaaa; bytes.div_ceil(4)].into_boxed_slice();
        let words = Box::leak(words);
        Self { segment, address, words: words.len(), start: NonNull::from(words).cast() }
    }

    fn end(&self) -> u64 {
        self.address + self.words as u64 * 4
    }

    /// Where an instruction is in the memory.
    fn place(&self, at: u64) -> Option<NonNull<u32>> {
        let offset = at.checked_sub(self.address).filter(|offset| offset.is_multiple_of(4))?;
        let index = usize::try_from(offset / 4).ok().filter(|index| *index < self.words)?;
        // SAFETY: the index is inside.
        Some(unsafe { self.start.add(index) })
    }

    fn has(&self, place: NonNull<u32>) -> bool {
        let start = self.start.addr().get();
        (start..start + 4 * self.words).contains(&place.addr().get())
    }

    fn bytes(&self) -> Vec<u8> {
        // SAFETY: so many words are there, and nothing writes them while this runs: a machine has one thread, and we hold
        // its lock.
        let words = unsafe { NonNull::slice_from_raw_parts(self.start, self.words).as_ref() };
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let words = NonNull::slice_from_raw_parts(self.start, self.words);
        // SAFETY: it was leaked from a box when the piece was made; whoever was lent it has given it back, or is lost.
        drop(unsafe { Box::from_raw(words.as_ptr()) });
    }
}

/// What a segment held.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) segment: Segment,
    pub(super) address: u64,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    lent: Vec<Piece>,
    /// What was given back and may still be asked for.
    freed: Vec<Piece>,
}

/// A fake kernel and memory for modules. One thread uses it.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) kernel: &'static FakeKernel,
    state: Mutex<State>,
}

impl Host {
    pub(super) fn new(kernel: &'static FakeKernel) -> Self {
        Self { kernel, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, at: TextAddr) -> Option<NonNull<u32>> {
        self.state().lent.iter().find_map(|piece| piece.place(at.get()))
    }

    fn is_module_s(&self, place: NonNull<u32>) -> bool {
        self.state().lent.iter().any(|piece| piece.has(place))
    }

    /// All that is lent now, then what was given back since the last [`forget`](Self::forget).
    pub(super) fn contents(&self) -> Vec<Contents> {
        let state = self.state();
        let pieces = state.lent.iter().chain(&state.freed);
        let contents =
            |piece: &Piece| Contents { segment: piece.segment, address: piece.address, bytes: piece.bytes() };
        pieces.map(contents).collect()
    }

    /// What text is lent now.
    pub(super) fn text(&self) -> Vec<Contents> {
        let state = self.state();
        let text = state.lent.iter().filter(|piece| piece.segment.is_text());
        text.map(|piece| Contents { segment: piece.segment, address: piece.address, bytes: piece.bytes() }).collect()
    }

    /// How many bytes are lent.
    pub(super) fn lent_bytes(&self) -> usize {
        self.state().lent.iter().map(|piece| 4 * piece.words).sum()
    }

    /// Lets go of what was given back, and of what the fake kernel has noted.
    pub(super) fn forget(&self) {
        self.state().freed.clear();
        self.kernel.take_events();
    }
}

// SAFETY: (1) to (3) Each piece is a box of its own until it is forgotten, after it was freed; nothing executes it. (4) There
// are no translations. (5) `allocate` lends memory of any length.
unsafe impl ModuleMemory for Host {
    fn allocate(&self, request: &Request) -> Result<Allocation, MemoryError> {
        let Request { segment, bytes, placement } = *request;
        if bytes > MOST_BYTES {
            return Err(MemoryError { segment, bytes, reason: "no module is so large" });
        }
        let mut state = self.state();
        let Placement::Near(near) = placement else {
            return Err(MemoryError { segment, bytes, reason: "a place is wanted" });
        };
        let mut address = near.get() & !0xfff;
        // Behind everything that is in the way.
        let overlaps = |piece: &&Piece, address: u64| piece.address < address + bytes as u64 && address < piece.end();
        while let Some(other) = state.lent.iter().find(|piece| overlaps(piece, address)) {
            address = other.end();
        }
        let piece = Piece::new(segment, address, bytes);
        let writable = piece.start.cast();
        state.lent.push(piece);
        Ok(Allocation { segment, address, bytes, writable })
    }

    unsafe fn protect(&self, _allocation: &Allocation, _permission: Permission) -> Result<(), MemoryError> {
        Ok(())
    }

    unsafe fn free(&self, allocation: Allocation) {
        let mut state = self.state();
        let place = state.lent.iter().position(|piece| piece.address == allocation.address);
        let piece = state.lent.remove(place.expect("what is freed was lent"));
        state.freed.push(piece);
    }
}

// SAFETY: an alias is the memory itself, which stays until the module is gone, or the fake kernel's; there are no other CPUs,
// nothing is executed, and nothing is emulated.
unsafe impl Platform for Host {
    fn context_base(&self) -> ContextBase {
        self.kernel.context_base()
    }

    fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
        self.place(page).map_or_else(|| self.kernel.map_alias(page), |place| Ok(place.cast()))
    }

    fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
        Ok(())
    }

    fn quiesce(&self, _stubs: &[TextRange]) -> Result<(), CpuTimeout> {
        Ok(())
    }

    fn may_be_emulated(&self) -> bool {
        false
    }
}

// SAFETY: each access is one to the one word, by the only thread; there are no caches or interrupts to do anything to.
unsafe impl Machine for Host {
    unsafe fn load(&self, at: TextAddr) -> u32 {
        match self.place(at) {
            // SAFETY: `place` gives a word of memory that is lent.
            Some(place) => unsafe { place.read() },
            // SAFETY: our caller's promises.
            None => unsafe { self.kernel.load(at) },
        }
    }

    unsafe fn load_alias(&self, alias: NonNull<u32>) -> u32 {
        if self.is_module_s(alias) {
            // SAFETY: a word of memory that is lent.
            unsafe { alias.read() }
        } else {
            // SAFETY: our caller's promises.
            unsafe { self.kernel.load_alias(alias) }
        }
    }

    unsafe fn store(&self, alias: NonNull<u32>, word: u32) {
        if self.is_module_s(alias) {
            // SAFETY: a word of memory that is lent.
            unsafe { alias.write(word) };
        } else {
            // SAFETY: our caller's promises.
            unsafe { self.kernel.store(alias, word) };
        }
    }

    fn cache_type(&self) -> CacheType {
        self.kernel.cache_type()
    }

    unsafe fn clean_data_line(&self, _at: TextAddr) {}

    unsafe fn clean_and_invalidate_data_line(&self, _at: TextAddr) {}

    unsafe fn invalidate_instruction_line(&self, _at: TextAddr) {}

    fn complete(&self) {}

    fn synchronize(&self) {}

    fn mask_interrupts(&self) -> InterruptMask {
        self.kernel.mask_interrupts()
    }

    unsafe fn restore_interrupts(&self, mask: InterruptMask) {
        // SAFETY: our caller's promises.
        unsafe { self.kernel.restore_interrupts(mask) };
    }
}
