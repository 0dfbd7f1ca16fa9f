//! The fake kernel: the platform and the machine around a [`FakeText`]. It remembers what it was asked, and fails where a
//! test wants it to.

use super::text::{FakeText, PAGE_WORDS, RET, TextPiece};
use super::{Event, Fault};
use crate::address::{TextAddr, TextRange};
use crate::callsite::BTI_C;
use crate::callsite::veneer::{ENTRY_BYTES, STUB_VENEERS};
use crate::context::TraceContext;
use crate::engine::Image;
#[cfg(feature = "module")]
use crate::module::NewRegion;
use crate::platform::{AliasError, BaseRegister, ContextBase, CpuTimeout, HoldError, Platform};
use crate::stub::entry::{LinkedStub, Stubs};
use crate::symbols::Symbols;
use crate::text::{CacheType, InterruptMask, Machine};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::boxed::Box;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

/// How far a context is above what the base register holds.
const CONTEXT_OFFSET: u16 = 0x40;
const MRS_X10_TPIDR_EL1: u32 = 0xd538_d08a;
const ADD_X10_X10_0: u32 = 0x9100_014a;

impl FakeText {
    /// Builds the kernel that has this text. It is never freed, as a kernel isn't.
    pub fn build(mut self) -> &'static FakeKernel {
        let stub = |words: &mut Vec<u32>| {
            let entry = self.base.offset(words.len() as i64 * 4);
            words.extend([BTI_C, MRS_X10_TPIDR_EL1, ADD_X10_X10_0, RET]);
            LinkedStub { entry, base: entry.offset(4), offset: entry.offset(8) }
        };
        let [caller, regs_caller, returning] = [(); 3].map(|()| stub(&mut self.words));
        let modules = core::mem::take(&mut self.modules);
        let room_bytes = self.stub_room_bytes;
        let image = self.piece(room_bytes);
        Box::leak(Box::new(FakeKernel {
            stubs: Stubs {
                caller,
                regs_caller,
                returning,
                miss: caller.offset,
                skip: caller.offset.offset(4),
                text: [TextRange::new(caller.entry, regs_caller.offset), TextRange::EMPTY],
                room: image.room,
            },
            image,
            modules: modules.into_iter().map(|text| text.piece(STUB_VENEERS * ENTRY_BYTES as usize)).collect(),
            // 64-byte lines, neither IDC nor DIC.
            caches: Mutex::new(CacheType::from_ctr(0x8444_c004)),
            may_be_emulated: AtomicBool::new(true),
            slide: AtomicU64::new(0),
            read_only: AtomicU64::new(0),
            context: AtomicU64::new(0),
            state: Mutex::new(Observed::default()),
        }))
    }
}

/// What was seen, and what goes wrong.
#[derive(Debug, Default)]
struct Observed {
    events: Vec<Event>,
    fault: Option<Fault>,
    writes: usize,
    maps: usize,
    rounds: usize,
    /// What `quiesce` was given last.
    quiesced: Vec<TextRange>,
    /// What is executed between a BRK and its handler; `None` for nothing.
    brk_range: Option<TextRange>,
    has_no_brk: bool,
    /// Whether all CPUs have synchronised and nothing has failed since: what is stored then is stored again.
    storing_again: bool,
    /// A word that a fault changed, with what was there.
    damaged: Option<(TextAddr, u32)>,
}

/// A kernel in memory.
#[derive(Debug)]
pub struct FakeKernel {
    image: TextPiece,
    modules: Vec<TextPiece>,
    stubs: Stubs,
    caches: Mutex<CacheType>,
    may_be_emulated: AtomicBool,
    slide: AtomicU64,
    /// An address that can't be written; 0 for none.
    read_only: AtomicU64,
    /// What the base register holds.
    context: AtomicU64,
    state: Mutex<Observed>,
}

impl FakeKernel {
    /// Makes a fresh image of this kernel.
    pub fn image(&self) -> Image {
        let section = Box::leak(self.image.entries.clone().into_boxed_slice());
        let bytes = size_of_val(section);
        // SAFETY: the section was leaked for this image alone; the fake's `load` serves all of the text.
        let image = unsafe { Image::new(self.image.text, section.as_mut_ptr(), bytes, self.stubs) };
        match self.symbols() {
            Some(symbols) => image.with_symbols(symbols),
            None => image,
        }
    }

    /// Returns the image's symbols; none if they were too many or too far apart.
    pub fn symbols(&self) -> Option<Symbols<'static>> {
        Symbols::parse(Box::leak(self.image.symbols.clone().into_boxed_slice())).ok()
    }

    /// Loads the module that was added as this number, from 0: its text is as compiled again.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[cfg(feature = "module")]
    pub fn module(&self, number: usize) -> NewRegion<'static> {
        let piece = &self.modules[number];
        for (page, words) in piece.pages.iter().zip(piece.compiled.chunks(PAGE_WORDS)) {
            for (place, word) in page.0.iter().zip(words) {
                place.store(*word, Ordering::Relaxed);
            }
        }
        NewRegion {
            module: "module",
            text: piece.text,
            entries: piece.entries.clone(),
            symbols: piece.symbols.clone().into_boxed_slice(),
            veneers: piece.room,
        }
    }

    /// Returns the entry stubs' places.
    pub const fn stubs(&self) -> Stubs {
        self.stubs
    }

    /// Copies all of the text as it is now, without the room for stubs and veneers.
    pub fn snapshot(&self) -> Vec<u32> {
        let mut words = Vec::new();
        for piece in self.pieces() {
            let before = words.len();
            words.resize(before + piece.text_words, 0);
            // Loops over arrays, and no iterators inside each other: thousands of words, under Miri each step of them.
            for (copy, page) in words[before..].chunks_mut(PAGE_WORDS).zip(&piece.pages) {
                for (copy, word) in copy.iter_mut().zip(&page.0) {
                    *copy = word.load(Ordering::Relaxed);
                }
            }
        }
        words
    }

    /// Returns the word at an address of the text.
    ///
    /// # Panics
    ///
    /// If the address is not inside the text.
    pub fn word(&self, at: TextAddr) -> u32 {
        self.place(at).load(Ordering::Relaxed)
    }

    /// Writes a word behind the engine's back.
    ///
    /// # Panics
    ///
    /// If the address is not inside the text.
    pub fn overwrite(&self, at: TextAddr, word: u32) {
        self.place(at).store(word, Ordering::Relaxed);
    }

    /// Returns the ranges that [`Platform::quiesce`] was given last.
    pub fn quiesced(&self) -> Vec<TextRange> {
        self.state().quiesced.clone()
    }

    /// Sets what goes wrong from now on; `None` for nothing.
    pub fn set_fault(&self, fault: Option<Fault>) {
        let mut state = self.state();
        (state.fault, state.writes, state.maps, state.rounds) = (fault, 0, 0, 0);
        state.storing_again = false;
    }

    /// Clears the fault, and undoes what [`Fault::Write`] did to the text.
    pub fn repair(&self) {
        self.set_fault(None);
        if let Some((at, word)) = self.state().damaged.take()
            && self.word(at) == !word
        {
            self.overwrite(at, word);
        }
    }

    /// Sets CTR_EL0. At first it has 64-byte lines, and IDC and DIC are clear.
    pub fn set_cache_type(&self, caches: CacheType) {
        *self.caches.lock().unwrap_or_else(PoisonError::into_inner) = caches;
    }

    /// Sets what [`Platform::may_be_emulated`] returns; at first `true`.
    pub fn set_may_be_emulated(&self, may: bool) {
        self.may_be_emulated.store(may, Ordering::Relaxed);
    }

    /// Sets what [`Platform::slide`] returns; at first 0.
    pub fn set_slide(&self, slide: u64) {
        self.slide.store(slide, Ordering::Relaxed);
    }

    /// Makes the page that holds this address one that can't be written; none for 0, as at first.
    pub fn set_read_only(&self, at: u64) {
        self.read_only.store(at, Ordering::Relaxed);
    }

    /// Makes this the context of whoever runs; at first there is none.
    pub fn set_context(&self, context: &'static TraceContext) {
        let context = core::ptr::from_ref(context).expose_provenance() as u64;
        self.context.store(context - u64::from(CONTEXT_OFFSET), Ordering::Relaxed);
    }

    /// Sets the text that is executed between a BRK and its handler; with `None` no BRK is brought to one. At first none is
    /// executed there.
    pub fn set_brk_range(&self, range: Option<TextRange>) {
        let mut state = self.state();
        (state.brk_range, state.has_no_brk) = (range, range.is_none());
    }

    /// Takes the events since the last call.
    pub fn take_events(&self) -> Vec<Event> {
        core::mem::take(&mut self.state().events)
    }

    /// Takes the events, without the batches that wrote stubs, which nobody executes yet.
    #[cfg(test)]
    pub(crate) fn take_live_events(&self) -> Vec<Event> {
        let events = self.take_events();
        let is_stub = |event: &Event| matches!(event, Event::Store(at, _) if self.stubs.room.contains(*at));
        let batches = events.chunk_by(|event, _| *event != Event::EndBatch);
        batches.filter(|batch| !batch.iter().any(is_stub)).flatten().copied().collect()
    }

    fn state(&self) -> MutexGuard<'_, Observed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: Event) {
        self.state().events.push(event);
    }

    fn pieces(&self) -> impl Iterator<Item = &TextPiece> {
        core::iter::once(&self.image).chain(&self.modules)
    }

    fn place(&self, at: TextAddr) -> &AtomicU32 {
        assert!(at.is_aligned(), "an access to {at}, which is no instruction's address");
        let place = self.pieces().find_map(|piece| piece.place(at));
        place.unwrap_or_else(|| panic!("an access to {at}, where there is no text"))
    }

    /// The text that an alias stands for.
    fn text_at(&self, alias: NonNull<u32>) -> TextAddr {
        let text = self.pieces().find_map(|piece| piece.text_at(alias));
        text.unwrap_or_else(|| panic!("an access to {alias:?}, which is no alias"))
    }
}

// SAFETY: an alias is the buffer itself, which lives as long as the fake; there are no other CPUs; nothing executes the
// text, so no stub ever uses the context base, and a context that is set lives for ever.
unsafe impl Platform for FakeKernel {
    fn context_base(&self) -> ContextBase {
        ContextBase { register: BaseRegister::TpidrEl1, offset: CONTEXT_OFFSET }
    }

    fn hold_cpus(&self, act: &mut dyn FnMut()) -> Result<(), HoldError> {
        self.note(Event::HoldCpus);
        let mut state = self.state();
        if let Some(Fault::Hold(cpu)) = state.fault {
            state.fault = None;
            return Err(HoldError::Timeout(CpuTimeout { cpu }));
        }
        drop(state);
        act();
        Ok(())
    }

    fn for_each_brk_range(&self, show: &mut dyn FnMut(TextRange)) -> bool {
        let state = self.state();
        state.brk_range.into_iter().for_each(show);
        !state.has_no_brk
    }

    fn begin_batch(&self) -> Result<(), AliasError> {
        self.note(Event::BeginBatch);
        let mut state = self.state();
        state.storing_again = false;
        match state.fault {
            Some(Fault::Batch) => {
                Err(AliasError { page: self.image.text.start, reason: "the fault that was asked for" })
            }
            _ => Ok(()),
        }
    }

    fn end_batch(&self) {
        self.note(Event::EndBatch);
    }

    fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
        self.note(Event::Map(page));
        let mut state = self.state();
        let number = state.maps;
        state.maps += 1;
        let from = if let Some(Fault::AliasesFrom(from)) = state.fault { from } else { usize::MAX };
        if state.fault == Some(Fault::Alias(number)) || from <= number {
            state.storing_again = false;
            return Err(AliasError { page, reason: "the fault that was asked for" });
        }
        drop(state);
        let first = self.pieces().find_map(|piece| piece.place(page));
        first.map(|first| NonNull::from(first).cast()).ok_or(AliasError { page, reason: "not this kernel's text" })
    }

    fn unmap_alias(&self, page: TextAddr, _alias: NonNull<u8>) {
        self.note(Event::Unmap(page));
    }

    fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
        self.note(Event::SynchronizeCpus);
        let mut state = self.state();
        let number = state.rounds;
        state.rounds += 1;
        let answered = match state.fault {
            Some(Fault::Cpu(cpu)) => {
                state.fault = None;
                Err(CpuTimeout { cpu })
            }
            Some(Fault::Round(round)) if round == number => Err(CpuTimeout { cpu: 1 }),
            _ => Ok(()),
        };
        state.storing_again = answered.is_ok();
        answered
    }

    fn may_be_emulated(&self) -> bool {
        self.may_be_emulated.load(Ordering::Relaxed)
    }

    fn slide(&self) -> u64 {
        self.slide.load(Ordering::Relaxed)
    }

    fn quiesce(&self, stubs: &[TextRange]) -> Result<(), CpuTimeout> {
        self.note(Event::Quiesce);
        let mut state = self.state();
        state.quiesced = stubs.to_vec();
        match state.fault {
            Some(Fault::Busy(cpu)) => {
                state.fault = None;
                Err(CpuTimeout { cpu })
            }
            _ => Ok(()),
        }
    }
}

// SAFETY: each access is one atomic one to the one word; there are no caches or interrupts to do anything to.
unsafe impl Machine for FakeKernel {
    unsafe fn load(&self, at: TextAddr) -> u32 {
        self.word(at)
    }

    unsafe fn load_alias(&self, alias: NonNull<u32>) -> u32 {
        let mut state = self.state();
        let at = self.text_at(alias);
        if state.storing_again {
            return self.word(at);
        }
        let number = state.writes;
        state.writes += 1;
        if state.fault == Some(Fault::Write(number)) {
            state.damaged = Some((at, self.word(at)));
            self.overwrite(at, !self.word(at));
        }
        self.word(at)
    }

    unsafe fn store(&self, alias: NonNull<u32>, word: u32) {
        let at = self.text_at(alias);
        self.note(Event::Store(at, word));
        self.overwrite(at, word);
    }

    fn cache_type(&self) -> CacheType {
        *self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn base(&self, _register: BaseRegister) -> u64 {
        self.context.load(Ordering::Relaxed)
    }

    fn can_write(&self, at: *const u8) -> bool {
        at.addr() as u64 / 4096 != self.read_only.load(Ordering::Relaxed) / 4096
    }

    unsafe fn clean_data_line(&self, at: TextAddr) {
        self.note(Event::Clean(at));
    }

    unsafe fn clean_and_invalidate_data_line(&self, at: TextAddr) {
        self.note(Event::CleanAndInvalidate(at));
    }

    unsafe fn invalidate_instruction_line(&self, at: TextAddr) {
        self.note(Event::Invalidate(at));
    }

    fn complete(&self) {
        self.note(Event::Complete);
    }

    fn synchronize(&self) {
        self.note(Event::Synchronize);
    }

    fn mask_interrupts(&self) -> InterruptMask {
        self.note(Event::Mask);
        // SAFETY: this machine has no interrupts.
        unsafe { InterruptMask::from_daif(0) }
    }

    unsafe fn restore_interrupts(&self, _mask: InterruptMask) {
        self.note(Event::Restore);
    }
}
