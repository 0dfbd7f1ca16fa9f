//! Verified writes, in batches that happen as a whole or not at all.
//!
//! The head of [`text`](super) has the order of things. What this file adds is the way back: whatever fails, a
//! word that was written is written back, and the caches and CPUs are told again. Only if the way back fails too does
//! anything stay changed, and the error says how much. The second store, for emulators, is no exception: a batch whose
//! words could not all be stored again is undone as any other, so that there is no third outcome for callers to know.
//!
//! A [`Batch`] walks over its changes: once for the check, which its owner asks for first, once for the writes, and over the
//! addresses alone for each kind of maintenance. So no memory is needed for it; and the batch has the loop, in which it
//! keeps what neighbours share.

use super::cache::{Contiguous, Places, make_visible};
use super::error::{PokeCause, PokeError, Undone};
#[cfg(target_os = "none")]
use super::machine::Machine as _;
use super::machine::{Cpu, InterruptMask, machine};
use super::word::TextWord;
use crate::address::TextAddr;
use crate::callsite::{LiveWord, MOV_X9_LR, WordChange};
use crate::platform::{ALIAS_BYTES, AliasError, CpuTimeout, Platform};
use core::ops::{ControlFlow, Range};
use core::ptr::NonNull;

/// Changes that are made together or not at all.
pub(crate) trait Batch<Word> {
    /// Calls `each` with the changes until it breaks, in ascending order of their addresses where that is cheap; each
    /// time with the same ones.
    fn for_each_change<B>(&self, each: impl FnMut(WordChange<Word, TextWord>) -> ControlFlow<B>) -> ControlFlow<B>;

    /// Calls `each` with the changes' addresses until it breaks; a batch that has them more cheaply says so.
    fn for_each_address<B>(&self, mut each: impl FnMut(TextWord) -> ControlFlow<B>) -> ControlFlow<B> {
        self.for_each_change(|change| each(change.at))
    }
}

/// Any function that makes the same iterator each time.
impl<Word, I: Iterator<Item = WordChange<Word, TextWord>>, F: Fn() -> I> Batch<Word> for F {
    #[inline]
    fn for_each_change<B>(&self, each: impl FnMut(WordChange<Word, TextWord>) -> ControlFlow<B>) -> ControlFlow<B> {
        self().try_for_each(each)
    }
}

/// A batch for live text, as words.
struct Words<'a, B>(&'a B);

impl<B: Batch<LiveWord>> Batch<u32> for Words<'_, B> {
    #[inline]
    fn for_each_change<T>(&self, mut each: impl FnMut(WordChange<u32, TextWord>) -> ControlFlow<T>) -> ControlFlow<T> {
        self.0.for_each_change(|change| each(change.words()))
    }

    #[inline]
    fn for_each_address<T>(&self, each: impl FnMut(TextWord) -> ControlFlow<T>) -> ControlFlow<T> {
        self.0.for_each_address(each)
    }
}

/// The changes of a batch that have these numbers, reversed.
struct Undoing<'a, B> {
    batch: &'a B,
    numbers: Range<usize>,
}

impl<B: Batch<u32>> Batch<u32> for Undoing<'_, B> {
    fn for_each_change<T>(&self, mut each: impl FnMut(WordChange<u32, TextWord>) -> ControlFlow<T>) -> ControlFlow<T> {
        let mut number = 0;
        let flow = self.batch.for_each_change(|change| {
            let (here, begun) = (number, self.numbers.start <= number);
            number += 1;
            match here < self.numbers.end {
                true if begun => each(change.reversed()).map_break(Some),
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(None),
            }
        });
        match flow {
            ControlFlow::Break(Some(broken)) => ControlFlow::Break(broken),
            ControlFlow::Break(None) | ControlFlow::Continue(()) => ControlFlow::Continue(()),
        }
    }

    fn for_each_address<T>(&self, mut each: impl FnMut(TextWord) -> ControlFlow<T>) -> ControlFlow<T> {
        let mut broken = None;
        let _ = self.addresses(&mut |at| each(at).map_break(|value| broken = Some(value)));
        broken.map_or(ControlFlow::Continue(()), ControlFlow::Break)
    }
}

impl<B: Batch<u32>> Undoing<'_, B> {
    /// Calls `each` with their addresses. Undoing has time, and one loop for all that is done at them is less to compile.
    #[cold]
    #[inline(never)]
    fn addresses(&self, each: &mut dyn FnMut(TextWord) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut number = 0;
        self.batch.for_each_address(|at| {
            let here = number;
            number += 1;
            match here {
                here if here >= self.numbers.end => ControlFlow::Break(()),
                here if here >= self.numbers.start => each(at),
                _ => ControlFlow::Continue(()),
            }
        })
    }
}

/// Where a batch writes.
struct PlacesOf<'a, B>(&'a B);

impl<B: Batch<u32>> Places for PlacesOf<'_, B> {
    #[inline]
    fn for_each_word<T>(&self, each: impl FnMut(TextWord) -> ControlFlow<T>) -> ControlFlow<T> {
        self.0.for_each_address(each)
    }
}

/// The one way to write text.
#[derive(Clone, Copy)]
pub(crate) struct TextPoke<'a> {
    platform: &'a dyn Platform,
    machine: Cpu,
}

impl<'a> TextPoke<'a> {
    pub(crate) const fn new(platform: &'a dyn Platform, machine: Cpu) -> Self {
        Self { platform, machine }
    }

    /// Checks that the text is what the batch starts from, and that it is callsites: each word changed has MOV X9, LR before it.
    ///
    /// # Errors
    ///
    /// The first place where it isn't, as [`PokeCause::Mismatch`].
    ///
    /// # Safety
    ///
    /// 1. The word before each of the batch's is inside mapped text as well.
    pub(crate) unsafe fn check_live(&self, batch: &impl Batch<LiveWord>) -> Result<(), PokeError> {
        let mut wrong = None;
        let _ = Words(batch).for_each_change(|change| {
            // SAFETY: 1. a multiple of 4 from a word. 2. Our caller's promise.
            let at = unsafe { TextWord::new(change.at.addr().offset(-4)) };
            let places = [change, WordChange { at, old: MOV_X9_LR, new: MOV_X9_LR }];
            // Noted, not returned: each of the batch's loops would have room for it on the stack.
            let found = places
                .into_iter()
                .find_map(|change| self.verify(change).err().map(|cause| undone(change.at.addr(), cause)));
            let Some(error) = found else { return ControlFlow::Continue(()) };
            wrong = Some(error);
            ControlFlow::Break(())
        });
        wrong.map_or(Ok(()), Err)
    }

    /// Changes text that any CPU may be executing meanwhile.
    ///
    /// What fails is noted in `done`, which comes without: an error that is returned takes the stack of each who hands it on.
    ///
    /// # Safety
    ///
    /// 1. Each word is a callsite's second one: [`check_live`](Self::check_live) has found MOV X9, LR before it.
    /// 2. What the old and the new words call is complete, and stays so until no CPU can be on its way there.
    #[inline]
    pub(crate) unsafe fn apply_live(&self, batch: &impl Batch<LiveWord>, done: &mut Result<(), PokeError>) {
        // SAFETY: 1. both words of each change may be swung while they run, and whoever comes to a callsite (our caller's
        // first promise) may go on where either leads (the second).
        unsafe { self.apply(&Words(batch), done) }
    }

    /// Changes text that nobody executes until this has returned.
    ///
    /// # Errors
    ///
    /// See [`PokeError`].
    ///
    /// # Safety
    ///
    /// 1. No CPU executes any of these instructions meanwhile.
    pub(crate) unsafe fn apply_quiet(&self, batch: &impl Batch<u32>) -> Result<(), PokeError> {
        let mut done = self.check(batch);
        if done.is_ok() {
            // SAFETY: 1. our caller's promise: what nobody executes may be changed to anything.
            unsafe { self.apply(batch, &mut done) };
        }
        done
    }

    /// Changes a word that any CPU may be executing to any other, while all other CPUs are held.
    ///
    /// Needs no [second store](super#the-second-store): a CPU that is held translates nothing.
    ///
    /// # Errors
    ///
    /// See [`PokeError`]; nothing has changed.
    ///
    /// # Safety
    ///
    /// 1. Whoever executes the word may execute the old or the new one, each as a whole; and what comes behind the new one is
    ///    complete, and stays so until no CPU can be on its way there.
    pub(crate) unsafe fn apply_held(&self, change: WordChange<u32, TextWord>) -> Result<(), PokeError> {
        let at = change.at.addr();
        let mut done = Ok(());
        if self.begin(at, &mut done) {
            // SAFETY: 1. our caller's promise.
            unsafe { self.write_held(change, &mut done) };
            self.platform.end_batch();
        }
        done
    }

    /// # Safety
    ///
    /// As for [`apply_held`](Self::apply_held).
    unsafe fn write_held(&self, change: WordChange<u32, TextWord>, done: &mut Result<(), PokeError>) {
        let at = change.at.addr();
        if let Err(cause) = self.verify(change) {
            *done = Err(undone(at, cause));
            return;
        }
        let mut pages = Pages::new(self, Some(done));
        // Before anybody is held: the platform may take a lock for it, which one of them may have.
        let Some(alias) = pages.open_on(change.at) else { return };
        let offset = (at.get() & (ALIAS_BYTES - 1)) as usize;
        // SAFETY: the offset is inside the alias's ALIAS_BYTES.
        let place: NonNull<u32> = unsafe { alias.byte_add(offset) }.cast();
        let machine = machine(&self.machine);
        let caches = machine.cache_type().with_clean_errata(self.platform.has_clean_errata());
        // SAFETY: 1. and 2. the word is in mapped text, by `TextWord`'s invariants.
        let places = unsafe { Contiguous::new(at, 4) };
        let mut written = Ok(());
        let held = self.platform.hold_cpus(&mut || {
            // SAFETY: 1. no other CPU executes it, and this one is here; from then on our caller's promise. 2. The window on
            // the word's page is open, and its alias aligned.
            written = unsafe { self.write(place, change) };
            make_visible(machine, caches, &places);
        });
        match (held, written) {
            (Err(error), _) => pages.note(undone(at, PokeCause::Hold(error))),
            (Ok(()), Err(found)) => pages.refuse(change.at, change.old, found),
            (Ok(()), Ok(())) => {}
        }
    }

    /// Writes `words` from `at` on, whatever is there, and makes them visible to every CPU.
    ///
    /// What fails is noted in `done`, which comes without; some of the words may have been written then, and the place must
    /// not be executed.
    ///
    /// # Safety
    ///
    /// 1. `at` is a multiple of 4, and all the words lie inside text that is mapped.
    /// 2. No CPU executes any of it before this has returned, and nothing there is in use.
    #[inline(never)]
    pub(crate) unsafe fn write_code(&self, at: TextAddr, words: &[u32], done: &mut Result<(), PokeError>) {
        if self.begin(at, done) {
            // SAFETY: 1. and 2. our caller's promises.
            unsafe { self.write_words(at, words, done) };
            if done.is_ok() {
                // SAFETY: 1. and 2. our caller's first promise.
                let places = unsafe { Contiguous::new(at, size_of_val(words) as u64) };
                self.publish(&places, at, done);
            }
            self.platform.end_batch();
        }
    }

    /// # Safety
    ///
    /// As for [`write_code`](Self::write_code).
    #[inline(never)]
    unsafe fn write_words(&self, mut at: TextAddr, mut words: &[u32], done: &mut Result<(), PokeError>) {
        let mut pages = Pages::new(self, Some(done));
        while !words.is_empty() {
            let offset = (at.get() & (ALIAS_BYTES - 1)) as usize;
            let here;
            (here, words) = words.split_at(words.len().min((ALIAS_BYTES as usize - offset) / 4));
            // SAFETY: 1. and 2. our caller's first promise.
            let word = unsafe { TextWord::new(at) };
            let Some(alias) = pages.open_on(word) else { return };
            // SAFETY: the offset is inside the alias's ALIAS_BYTES.
            let place: NonNull<u32> = unsafe { alias.byte_add(offset) }.cast();
            for (number, word) in here.iter().enumerate() {
                // SAFETY: `here` ends with the page.
                let place = unsafe { place.add(number) };
                // SAFETY: 1. a multiple of 4 from an aligned alias. 2. The window on this page is open. 3. Nobody executes
                // it, by our caller's second promise.
                unsafe { self.machine.store(place, *word) };
            }
            at = at.offset(here.len() as i64 * 4);
        }
    }

    fn check(&self, batch: &impl Batch<u32>) -> Result<(), PokeError> {
        let verified = batch.for_each_change(|change| match self.verify(change) {
            Ok(()) => ControlFlow::Continue(()),
            Err(cause) => ControlFlow::Break(undone(change.at.addr(), cause)),
        });
        verified.break_value().map_or(Ok(()), Err)
    }

    /// Changes the words; notes what fails.
    ///
    /// # Safety
    ///
    /// 1. Each word may be changed from the old to the new one now, and back.
    #[inline]
    unsafe fn apply(&self, batch: &impl Batch<u32>, done: &mut Result<(), PokeError>) {
        if let Some(first) = first_of(batch)
            && self.begin(first, done)
        {
            // SAFETY: 1. our caller's promise.
            let written = unsafe { self.write_all(batch, Some(done)) };
            if done.is_ok() {
                self.publish(&PlacesOf(batch), first, done);
            }
            if let Err(error) = done
                && written > 0
            {
                // SAFETY: 1. our caller's promise.
                error.undone = unsafe { self.undo(batch, written) };
            }
            self.platform.end_batch();
        }
    }

    /// Has the platform begin a batch, whose first place is this; returns whether it did.
    #[inline(never)]
    fn begin(&self, first: TextAddr, done: &mut Result<(), PokeError>) -> bool {
        match self.platform.begin_batch() {
            Ok(()) => true,
            Err(error) => {
                *done = Err(undone(first, PokeCause::Alias(error)));
                false
            }
        }
    }

    /// Writes back the first `written` words of a batch that failed; returns how far that went.
    ///
    /// # Safety
    ///
    /// As for [`apply`](Self::apply).
    #[cold]
    #[inline(never)]
    unsafe fn undo(&self, batch: &impl Batch<u32>, written: usize) -> Undone {
        // SAFETY: 1. our caller's promise.
        let left = unsafe { self.write_back(batch, written) };
        // All lines of the batch, which are more than were written, but not more to compile.
        let is_told = self.tell(&PlacesOf(batch)).is_ok();
        let again = PlacesOf(&Undoing { batch, numbers: 0..written });
        let is_confirmed = is_told && (!self.platform.may_be_emulated() || self.store_again(&again, None));
        match left {
            0 if is_confirmed => Undone::Entirely,
            0 => Undone::Unconfirmed,
            left => Undone::AllBut(left),
        }
    }

    /// Undoes each of the first `written` changes that can be undone; returns how many can't.
    ///
    /// # Safety
    ///
    /// As for [`apply`](Self::apply).
    #[inline]
    unsafe fn write_back(&self, batch: &impl Batch<u32>, written: usize) -> usize {
        let (mut tried, mut left) = (0, 0);
        while tried < written {
            let undoing = Undoing { batch, numbers: tried..written };
            // SAFETY: 1. our caller's promise: what may be changed from old to new may be changed back.
            tried += unsafe { self.write_all(&undoing, None) };
            if tried < written {
                tried += 1;
                left += 1;
            }
        }
        left
    }

    /// Makes every CPU execute what was written at these words. Notes where that failed, and why.
    #[inline]
    fn publish(&self, places: &impl Places, first: TextAddr, done: &mut Result<(), PokeError>) {
        if let Err(timeout) = self.tell(places) {
            *done = Err(undone(first, PokeCause::Cpu(timeout)));
        } else if self.platform.may_be_emulated() {
            self.store_again(places, Some(done));
        }
    }

    /// Makes what was written at these words visible, and has every CPU synchronise.
    #[inline(never)]
    fn tell(&self, places: &impl Places) -> Result<(), CpuTimeout> {
        let machine = machine(&self.machine);
        let caches = machine.cache_type().with_clean_errata(self.platform.has_clean_errata());
        make_visible(machine, caches, places);
        self.platform.synchronize_cpus()
    }

    /// Stores each word again with the value that it has, so that an emulator throws away what it translated from the word
    /// before. Every CPU has synchronised, so none is still translating it. Returns whether that succeeded, and notes where it
    /// failed, and why.
    ///
    /// No maintenance follows: to a CPU, nothing has changed.
    #[inline(never)]
    fn store_again(&self, places: &impl Places, done: Option<&mut Result<(), PokeError>>) -> bool {
        let mut pages = Pages::new(self, done);
        // What the loop needs of the window; no page starts at an odd address.
        let (mut page, mut alias) = (TextAddr::new(1), NonNull::dangling());
        let again = places.for_each_word(|word| {
            let at = word.addr();
            let offset = at.get() & (ALIAS_BYTES - 1);
            let page_now = TextAddr::new(at.get() - offset);
            if page_now != page {
                let Some(opened) = pages.open_on(word) else { return ControlFlow::Break(()) };
                (page, alias) = (page_now, opened);
            }
            // SAFETY: the offset is inside the alias's ALIAS_BYTES.
            let place: NonNull<u32> = unsafe { alias.byte_add(offset as usize) }.cast();
            // SAFETY: 1. a multiple of 4 from an aligned alias. 2. The window on this page is open.
            let word = unsafe { self.machine.load_alias(place) };
            // SAFETY: 1. and 2. as above. 3. The word is there already, and the engine's lock keeps it from changing between.
            unsafe { self.machine.store(place, word) };
            ControlFlow::Continue(())
        });
        again.is_continue()
    }

    /// Checks that the old word is there.
    #[inline]
    fn verify(&self, change: WordChange<u32, TextWord>) -> Result<(), PokeCause> {
        let found = change.at.load(self.machine);
        if found == change.old { Ok(()) } else { Err(PokeCause::Mismatch { expected: change.old, found }) }
    }

    /// Writes every change, page by page; returns how many, and notes where it stopped.
    ///
    /// # Safety
    ///
    /// As for [`apply`](Self::apply).
    #[inline(never)]
    unsafe fn write_all(&self, batch: &impl Batch<u32>, done: Option<&mut Result<(), PokeError>>) -> usize {
        let mut written = 0;
        let mut pages = Pages::new(self, done);
        // What the loop needs of the window; no page starts at an odd address.
        let (mut page, mut alias) = (TextAddr::new(1), NonNull::dangling());
        let _ = batch.for_each_change(|change| {
            let at = change.at.addr();
            let offset = at.get() & (ALIAS_BYTES - 1);
            let page_now = TextAddr::new(at.get() - offset);
            if page_now != page {
                let Some(opened) = pages.open(at) else { return ControlFlow::Break(()) };
                (page, alias) = (page_now, opened);
            }
            // SAFETY: the offset is inside the alias's ALIAS_BYTES.
            let place: NonNull<u32> = unsafe { alias.byte_add(offset as usize) }.cast();
            // SAFETY: 1. our caller's promise. 2. The window on this page is open, and its alias aligned.
            if let Err(found) = unsafe { self.write(place, change) } {
                pages.refuse(change.at, change.old, found);
                return ControlFlow::Break(());
            }
            written += 1;
            ControlFlow::Continue(())
        });
        written
    }

    /// Compares through the alias, then writes one word there.
    ///
    /// # Errors
    ///
    /// The word that is there, if it is another one.
    ///
    /// # Safety
    ///
    /// 1. As for [`apply`](Self::apply).
    /// 2. `place` is that of the change in the open window on its page, and aligned.
    #[inline]
    unsafe fn write(&self, place: NonNull<u32>, change: WordChange<u32, TextWord>) -> Result<(), u32> {
        // SAFETY: 1. and 2. our caller's second promise; the platform promises that an open window is mapped.
        let found = unsafe { self.machine.load_alias(place) };
        if found != change.old {
            return Err(found);
        }
        // SAFETY: 1. and 2. as above, and writable. 3. Our caller's first promise: the old word was there.
        unsafe { self.machine.store(place, change.new) };
        Ok(())
    }

    /// Why another word than the old one, `alias`, was found at the alias.
    fn cause_of(&self, at: TextWord, old: u32, alias: u32) -> PokeCause {
        match self.verify(WordChange { at, old, new: old }) {
            Ok(()) => PokeCause::WrongAlias { text: old, alias },
            Err(cause) => cause,
        }
    }
}

/// Makes the error of a batch that failed before any write.
const fn undone(at: TextAddr, cause: PokeCause) -> PokeError {
    PokeError { at, cause, undone: Undone::Entirely }
}

/// The first place of a batch.
#[inline(never)]
fn first_of(batch: &impl Batch<u32>) -> Option<TextAddr> {
    batch.for_each_address(ControlFlow::Break).break_value().map(TextWord::addr)
}

/// The pages that a walk over text comes to, of which one is open at a time.
///
/// What fails is noted, not returned: each of a batch's loops would have room for it on the stack. And [`open`](Self::open) is not
/// inlined into them, which so keep their registers.
struct Pages<'a> {
    poke: &'a TextPoke<'a>,
    window: Option<Window<'a>>,
    /// Where what fails is noted, if anywhere.
    done: Option<&'a mut Result<(), PokeError>>,
}

impl<'a> Pages<'a> {
    /// None is open yet.
    const fn new(poke: &'a TextPoke<'a>, done: Option<&'a mut Result<(), PokeError>>) -> Self {
        Self { poke, window: None, done }
    }

    /// Opens the page of this address; returns its alias.
    #[inline(never)]
    fn open(&mut self, at: TextAddr) -> Option<NonNull<u8>> {
        // The old one goes before the new one comes: a platform may have room for one only.
        drop(self.window.take());
        match Window::open(self.poke, TextAddr::new(at.get() & !(ALIAS_BYTES - 1))) {
            Ok(opened) => Some(self.window.insert(opened).alias),
            Err(error) => {
                self.note(undone(at, PokeCause::Alias(error)));
                None
            }
        }
    }

    /// Opens the page of this word, and checks that the alias shows it; returns the alias.
    #[inline]
    fn open_on(&mut self, word: TextWord) -> Option<NonNull<u8>> {
        let opened = self.open(word.addr())?;
        let offset = word.addr().get() & (ALIAS_BYTES - 1);
        // SAFETY: the offset is inside the alias's ALIAS_BYTES.
        let place = unsafe { opened.byte_add(offset as usize) }.cast();
        let text = word.load(self.poke.machine);
        // SAFETY: 1. a multiple of 4 from an aligned alias. 2. The window is open.
        let alias = unsafe { self.poke.machine.load_alias(place) };
        if text == alias {
            return Some(opened);
        }
        self.note(undone(word.addr(), PokeCause::WrongAlias { text, alias }));
        None
    }

    /// Notes that another word than the old one, `found`, is at the alias.
    #[cold]
    #[inline(never)]
    fn refuse(&mut self, at: TextWord, old: u32, found: u32) {
        self.note(undone(at.addr(), self.poke.cause_of(at, old, found)));
    }

    fn note(&mut self, error: PokeError) {
        if let Some(done) = &mut self.done {
            **done = Err(error);
        }
    }
}

/// A writable alias of one page, with interrupts masked while it is open.
///
/// # Invariants
///
/// `alias` is aligned for an instruction. `interrupts` is what masking gave on this CPU, and was not restored yet: with
/// interrupts masked nobody moves the thread that has the window.
struct Window<'a> {
    poke: &'a TextPoke<'a>,
    page: TextAddr,
    alias: NonNull<u8>,
    interrupts: InterruptMask,
}

impl<'a> Window<'a> {
    fn open(poke: &'a TextPoke<'a>, page: TextAddr) -> Result<Self, AliasError> {
        let interrupts = poke.machine.mask_interrupts();
        match poke.platform.map_alias(page) {
            Ok(alias) => {
                // Not aligned, it is given back as any other.
                let window = Self { poke, page, alias, interrupts };
                // A store to it would not be single-copy atomic: another CPU might execute half of each word.
                let aligned = alias.cast::<u32>().is_aligned();
                if aligned { Ok(window) } else { Err(AliasError { page, reason: "the alias is not aligned" }) }
            }
            Err(error) => {
                // SAFETY: 1. just masked, by us. 2. The platform's method leaves the mask as it finds it.
                unsafe { poke.machine.restore_interrupts(interrupts) };
                Err(error)
            }
        }
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        self.poke.platform.unmap_alias(self.page, self.alias);
        // SAFETY: 1. and 2. by the type's invariant: a window is dropped once, and none is opened inside of another.
        unsafe { self.poke.machine.restore_interrupts(self.interrupts) };
    }
}
