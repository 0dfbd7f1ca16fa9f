//! Verified writes, in batches that happen as a whole or not at all.
//!
//! Floor 2. The head of [`text`](super) has the order of things. What this file adds is the way back: whatever fails, a
//! word that was written is written back, and the caches and CPUs are told again. Only if the way back fails too does
//! anything stay changed, and the error says how much.
//!
//! A [`Batch`] walks over its changes: once for the check, once for the writes, and over the addresses alone for each kind
//! of maintenance. So no memory is needed for it; and the batch has the loop, in which it keeps what neighbours share.

use super::cache::{Contiguous, Places, make_visible};
#[cfg(target_os = "none")]
use super::machine::Machine as _;
use super::machine::{Cpu, InterruptMask, machine};
use crate::address::TextAddr;
use crate::callsite::{Change, LiveWord};
use crate::platform::{ALIAS_BYTES, AliasError, CpuTimeout, Platform};
use core::convert::Infallible;
use core::fmt;
use core::ops::{ControlFlow, Range};
use core::ptr::NonNull;

/// Why a batch was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PokeError {
    /// The first instruction that could not be changed, or the first of the batch where it failed as a whole.
    pub at: TextAddr,
    /// What went wrong there.
    pub cause: PokeCause,
    /// Whether text is as it was before.
    pub undone: Undone,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PokeCause {
    /// Another word is there than should be; it was left alone.
    Mismatch {
        /// The word that should be there.
        expected: u32,
        /// The word that is.
        found: u32,
    },
    /// The platform gave no writable alias.
    Alias(AliasError),
    /// The platform's alias is not one of this text: it shows another word. Nothing was written through it.
    WrongAlias {
        /// The word in the text.
        text: u32,
        /// The word at the alias.
        alias: u32,
    },
    /// A CPU did not synchronise in time.
    Cpu(CpuTimeout),
}

/// How far a failed batch was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// Every word is as it was.
    Entirely,
    /// Every word is as it was, but not every CPU has confirmed that it will execute the old ones.
    Unconfirmed,
    /// So many words could not be written back; all others are as they were.
    AllBut(usize),
}

impl fmt::Display for PokeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match self.cause {
            PokeCause::Mismatch { expected, found } => {
                write!(f, "The text at {at} should hold {expected:#010x} and holds {found:#010x}")?;
            }
            PokeCause::Alias(error) => write!(f, "{error}")?,
            PokeCause::WrongAlias { text, alias } => {
                write!(f, "The alias of {at} is not of that text: it shows {alias:#010x}, the text {text:#010x}")?;
            }
            PokeCause::Cpu(error) => write!(f, "{error}")?,
        }
        match self.undone {
            Undone::Entirely => f.write_str("; nothing stays changed"),
            Undone::Unconfirmed => {
                f.write_str("; text is as before, but a CPU may still execute what was there between")
            }
            Undone::AllBut(count) => write!(f, "; {count} instructions stay changed"),
        }
    }
}

impl core::error::Error for PokeError {}

/// Changes that belong together.
pub(crate) trait Batch<Word> {
    /// Calls `each` with the changes until it breaks, in ascending order of their addresses where that is cheap; each
    /// time with the same ones.
    fn for_each_change<B>(&self, each: impl FnMut(Change<Word>) -> ControlFlow<B>) -> ControlFlow<B>;

    /// The same for the changes' addresses; a batch that has them more cheaply says so.
    fn for_each_address<B>(&self, mut each: impl FnMut(TextAddr) -> ControlFlow<B>) -> ControlFlow<B> {
        self.for_each_change(|change| each(change.at))
    }
}

/// Any function that makes the same iterator each time.
impl<Word, I: Iterator<Item = Change<Word>>, F: Fn() -> I> Batch<Word> for F {
    #[inline]
    fn for_each_change<B>(&self, each: impl FnMut(Change<Word>) -> ControlFlow<B>) -> ControlFlow<B> {
        self().try_for_each(each)
    }
}

/// A batch for live text, as words.
struct Words<'a, B>(&'a B);

impl<B: Batch<LiveWord>> Batch<u32> for Words<'_, B> {
    #[inline]
    fn for_each_change<T>(&self, mut each: impl FnMut(Change<u32>) -> ControlFlow<T>) -> ControlFlow<T> {
        self.0.for_each_change(|change| each(change.words()))
    }

    #[inline]
    fn for_each_address<T>(&self, each: impl FnMut(TextAddr) -> ControlFlow<T>) -> ControlFlow<T> {
        self.0.for_each_address(each)
    }
}

/// Those changes of a batch that have these numbers, the other way round.
struct Undoing<'a, B> {
    batch: &'a B,
    numbers: Range<usize>,
}

impl<B: Batch<u32>> Batch<u32> for Undoing<'_, B> {
    fn for_each_change<T>(&self, mut each: impl FnMut(Change<u32>) -> ControlFlow<T>) -> ControlFlow<T> {
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
}

/// Where a batch writes.
struct PlacesOf<'a, B>(&'a B);

impl<B: Batch<u32>> Places for PlacesOf<'_, B> {
    #[inline]
    fn for_each_place(&self, mut each: impl FnMut(TextAddr)) {
        let all: ControlFlow<Infallible> = self.0.for_each_address(|at| {
            each(at);
            ControlFlow::Continue(())
        });
        let ControlFlow::Continue(()) = all;
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

    /// Changes text that any CPU may be executing meanwhile.
    ///
    /// # Errors
    ///
    /// See [`PokeError`].
    ///
    /// # Safety
    ///
    /// Every address is a multiple of 4 inside text that is mapped and executable.
    pub(crate) unsafe fn apply_live(&self, batch: &impl Batch<LiveWord>) -> Result<(), PokeError> {
        // SAFETY: our caller's promise about the addresses; both words of each change may be swung while they run.
        unsafe { self.apply(&Words(batch)) }
    }

    /// Changes text that nobody executes until this has returned.
    ///
    /// # Errors
    ///
    /// See [`PokeError`].
    ///
    /// # Safety
    ///
    /// - Every address is a multiple of 4 inside text that is mapped.
    /// - No CPU executes any of these instructions meanwhile.
    pub(crate) unsafe fn apply_quiet(&self, batch: &impl Batch<u32>) -> Result<(), PokeError> {
        // SAFETY: both of our caller's promises.
        unsafe { self.apply(batch) }
    }

    /// Writes `words` from `at` on, whatever is there, and makes them visible to every CPU.
    ///
    /// # Errors
    ///
    /// See [`PokeError`]; some of the words may have been written then.
    ///
    /// # Safety
    ///
    /// - `at` is a multiple of 4, and all the words lie inside text that is mapped.
    /// - No CPU executes any of it before this has returned, and what was there is nobody's.
    pub(crate) unsafe fn write_code(&self, at: TextAddr, words: &[u32]) -> Result<(), PokeError> {
        self.platform.begin_batch().map_err(|error| undone(at, PokeCause::Alias(error)))?;
        // SAFETY: our caller's promises.
        let written = unsafe { self.write_words(at, words) };
        let result = written.and_then(|()| {
            self.publish(&Contiguous { at, bytes: size_of_val(words) as u64 })
                .map_err(|cpu| undone(at, PokeCause::Cpu(cpu)))
        });
        self.platform.end_batch();
        result
    }

    /// # Safety
    ///
    /// As for [`write_code`](Self::write_code).
    unsafe fn write_words(&self, mut at: TextAddr, mut words: &[u32]) -> Result<(), PokeError> {
        while !words.is_empty() {
            let page = TextAddr::new(at.get() & !(ALIAS_BYTES - 1));
            let offset = (at.get() - page.get()) as usize;
            let here;
            (here, words) = words.split_at(words.len().min((ALIAS_BYTES as usize - offset) / 4));
            let window = Window::open(*self, page).map_err(|error| undone(at, PokeCause::Alias(error)))?;
            // SAFETY: the offset is inside the alias's ALIAS_BYTES.
            let place: NonNull<u32> = unsafe { window.alias.byte_add(offset) }.cast();
            // SAFETY: our caller promises that the address is mapped; aligned it is as well.
            let text = unsafe { self.machine.load(at) };
            // SAFETY: the platform promises that the alias is mapped, and the window that it is aligned.
            let alias = unsafe { self.machine.load_alias(place) };
            if text != alias {
                return Err(undone(at, PokeCause::WrongAlias { text, alias }));
            }
            for (number, word) in here.iter().enumerate() {
                // SAFETY: `here` ends with the page.
                let place = unsafe { place.add(number) };
                // SAFETY: aligned, and the platform promises that the alias is writable.
                unsafe { self.machine.store(place, *word) };
            }
            at = at.offset(here.len() as i64 * 4);
        }
        Ok(())
    }

    /// # Safety
    ///
    /// Every address is a multiple of 4 inside text that is mapped, and may be changed from the old to the new word now.
    unsafe fn apply(&self, batch: &impl Batch<u32>) -> Result<(), PokeError> {
        let ControlFlow::Break(first) = batch.for_each_address(ControlFlow::Break) else { return Ok(()) };
        let verified = batch.for_each_change(|change| {
            // SAFETY: our caller promises that the address is aligned and mapped.
            match unsafe { self.verify(change) } {
                Ok(()) => ControlFlow::Continue(()),
                Err(cause) => ControlFlow::Break(undone(change.at, cause)),
            }
        });
        if let ControlFlow::Break(error) = verified {
            return Err(error);
        }
        self.platform.begin_batch().map_err(|error| undone(first, PokeCause::Alias(error)))?;
        // SAFETY: our caller's promise.
        let result = unsafe { self.carry_out(batch, first) };
        self.platform.end_batch();
        result
    }

    /// Writes the batch and makes it visible; undoes it if either fails.
    ///
    /// # Safety
    ///
    /// As for [`apply`](Self::apply).
    unsafe fn carry_out(&self, batch: &impl Batch<u32>, first: TextAddr) -> Result<(), PokeError> {
        // SAFETY: our caller's promise.
        let (written, failure) = match unsafe { self.write_all(batch) } {
            Ok(written) => match self.publish(&PlacesOf(batch)) {
                Ok(()) => return Ok(()),
                Err(timeout) => (written, (first, PokeCause::Cpu(timeout))),
            },
            Err(stopped) => (stopped.written, (stopped.at, stopped.cause)),
        };
        let (at, cause) = failure;
        if written == 0 {
            return Err(undone(at, cause));
        }
        // SAFETY: our caller's promise.
        let left = unsafe { self.write_back(batch, written) };
        let undone = match (left, self.publish(&PlacesOf(&Undoing { batch, numbers: 0..written }))) {
            (0, Ok(())) => Undone::Entirely,
            (0, Err(_)) => Undone::Unconfirmed,
            (left, _) => Undone::AllBut(left),
        };
        Err(PokeError { at, cause, undone })
    }

    /// Undoes every one of the first changes, so many, that can be undone; how many can't.
    ///
    /// # Safety
    ///
    /// As for [`apply`](Self::apply).
    unsafe fn write_back(&self, batch: &impl Batch<u32>, written: usize) -> usize {
        let (mut tried, mut left) = (0, 0);
        loop {
            let undoing = Undoing { batch, numbers: tried..written };
            // SAFETY: our caller's promise: what may be changed from old to new may be changed back.
            let Err(stopped) = (unsafe { self.write_all(&undoing) }) else { return left };
            tried += stopped.written + 1;
            left += 1;
        }
    }

    /// Makes every CPU see what was written at these addresses.
    fn publish(&self, places: &impl Places) -> Result<(), CpuTimeout> {
        make_visible(machine(&self.machine), places);
        self.platform.synchronize_cpus()
    }

    /// Whether the old word is there.
    ///
    /// # Safety
    ///
    /// The address is a multiple of 4 inside text that is mapped.
    #[inline]
    unsafe fn verify(&self, change: Change<u32>) -> Result<(), PokeCause> {
        // SAFETY: our caller's promise is the one that `load` asks for.
        let found = unsafe { self.machine.load(change.at) };
        if found == change.old { Ok(()) } else { Err(PokeCause::Mismatch { expected: change.old, found }) }
    }

    /// Writes every change, page by page; how many, or where it stopped.
    ///
    /// # Safety
    ///
    /// As for [`apply`](Self::apply).
    unsafe fn write_all(&self, batch: &impl Batch<u32>) -> Result<usize, Stopped> {
        let mut written = 0;
        let mut window: Option<Window<'_>> = None;
        // What the loop needs of the window; no page starts at an odd address.
        let (mut page, mut alias) = (TextAddr::new(1), NonNull::dangling());
        let flow = batch.for_each_change(|change| {
            let offset = change.at.get() & (ALIAS_BYTES - 1);
            let page_now = TextAddr::new(change.at.get() - offset);
            if page_now != page {
                match Window::reopen(*self, &mut window, page_now) {
                    Ok(opened) => (page, alias) = (page_now, opened),
                    Err(error) => return ControlFlow::Break((change.at, PokeCause::Alias(error))),
                }
            }
            // SAFETY: the offset is inside the alias's ALIAS_BYTES.
            let place: NonNull<u32> = unsafe { alias.byte_add(offset as usize) }.cast();
            // SAFETY: our caller's promise; the window on this page is open, and its alias aligned.
            if let Err(found) = unsafe { self.write(place, change) } {
                // SAFETY: our caller's promise about the address.
                let cause = unsafe { self.cause_of(change.at, change.old, found) };
                return ControlFlow::Break((change.at, cause));
            }
            written += 1;
            ControlFlow::Continue(())
        });
        match flow {
            ControlFlow::Continue(()) => Ok(written),
            ControlFlow::Break((at, cause)) => Err(Stopped { written, at, cause }),
        }
    }

    /// Compares through the alias, then writes one word there; the word that is there, where it is another one.
    ///
    /// # Safety
    ///
    /// As for [`apply`](Self::apply), and `place` is that of the change in the open window on its page.
    #[inline]
    unsafe fn write(&self, place: NonNull<u32>, change: Change<u32>) -> Result<(), u32> {
        // SAFETY: a multiple of 4 from an aligned alias is aligned; the platform promises that the alias is mapped.
        let found = unsafe { self.machine.load_alias(place) };
        if found != change.old {
            return Err(found);
        }
        // SAFETY: as above; the platform promises that the alias is writable.
        unsafe { self.machine.store(place, change.new) };
        Ok(())
    }

    /// Why another word was found at the alias.
    ///
    /// # Safety
    ///
    /// As for [`verify`](Self::verify).
    #[cold]
    #[inline(never)]
    unsafe fn cause_of(&self, at: TextAddr, old: u32, alias: u32) -> PokeCause {
        // SAFETY: our caller's promise.
        match unsafe { self.verify(Change { at, old, new: old }) } {
            Ok(()) => PokeCause::WrongAlias { text: old, alias },
            Err(cause) => cause,
        }
    }
}

/// A batch's failure before any write.
const fn undone(at: TextAddr, cause: PokeCause) -> PokeError {
    PokeError { at, cause, undone: Undone::Entirely }
}

/// Where a walk of writes stopped.
struct Stopped {
    written: usize,
    at: TextAddr,
    cause: PokeCause,
}

/// A writable alias of one page, with interrupts masked as long as it is open.
///
/// # Invariants
///
/// `alias` is aligned for an instruction.
struct Window<'a> {
    poke: TextPoke<'a>,
    page: TextAddr,
    alias: NonNull<u8>,
    interrupts: InterruptMask,
}

impl<'a> Window<'a> {
    /// Opens the window on another page; its alias. Apart from the loop over a page's changes, which keeps its registers.
    #[inline(never)]
    fn reopen(poke: TextPoke<'a>, window: &mut Option<Self>, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
        // The old one goes before the new one comes: a platform may have room for one only.
        drop(window.take());
        Self::open(poke, page).map(|opened| window.insert(opened).alias)
    }

    fn open(poke: TextPoke<'a>, page: TextAddr) -> Result<Self, AliasError> {
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
                poke.machine.restore_interrupts(interrupts);
                Err(error)
            }
        }
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        self.poke.platform.unmap_alias(self.page, self.alias);
        self.poke.machine.restore_interrupts(self.interrupts);
    }
}
