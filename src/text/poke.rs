//! Verified writes, in batches that happen as a whole or not at all.
//!
//! Floor 2. The head of [`text`](super) has the order of things. What this file adds is the way back: whatever fails, a
//! word that was written is written back, and the caches and CPUs are told again. Only if the way back fails too does
//! anything stay changed, and the error says how much.
//!
//! A [`Batch`] makes iterators over its changes: one for the check, one for the writes, and one over the addresses alone for
//! each kind of maintenance. So no memory is needed for it.

use super::cache;
#[cfg(target_os = "none")]
use super::machine::Machine as _;
use super::machine::{Cpu, InterruptMask, machine};
use crate::address::TextAddr;
use crate::callsite::{Change, LiveWord};
use crate::platform::{ALIAS_BYTES, AliasError, CpuTimeout, Platform};
use core::fmt;
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
    /// The changes, in ascending order of their addresses where that is cheap; each time the same ones.
    fn changes(&self) -> impl Iterator<Item = Change<Word>>;

    /// The addresses of the same changes in the same order; a batch that has them more cheaply says so.
    fn addresses(&self) -> impl Iterator<Item = TextAddr> {
        self.changes().map(|change| change.at)
    }
}

/// Any function that makes the same iterator each time.
impl<Word, I: Iterator<Item = Change<Word>>, F: Fn() -> I> Batch<Word> for F {
    fn changes(&self) -> impl Iterator<Item = Change<Word>> {
        self()
    }
}

/// A batch for live text, as words.
struct Words<'a, B>(&'a B);

impl<B: Batch<LiveWord>> Batch<u32> for Words<'_, B> {
    #[inline]
    fn changes(&self) -> impl Iterator<Item = Change<u32>> {
        self.0.changes().map(Change::words)
    }

    #[inline]
    fn addresses(&self) -> impl Iterator<Item = TextAddr> {
        self.0.addresses()
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

    /// # Safety
    ///
    /// Every address is a multiple of 4 inside text that is mapped, and may be changed from the old to the new word now.
    unsafe fn apply(&self, batch: &impl Batch<u32>) -> Result<(), PokeError> {
        let Some(first) = batch.addresses().next() else { return Ok(()) };
        for change in batch.changes() {
            // SAFETY: our caller promises that the address is aligned and mapped.
            unsafe { self.verify(change) }.map_err(|cause| undone(change.at, cause))?;
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
        let (written, failure) = match unsafe { self.write_all(batch.changes()) } {
            Ok(written) => match self.publish(|| batch.addresses()) {
                Ok(()) => return Ok(()),
                Err(timeout) => (written, (first, PokeCause::Cpu(timeout))),
            },
            Err(stopped) => (stopped.written, (stopped.at, stopped.cause)),
        };
        let (at, cause) = failure;
        if written == 0 {
            return Err(undone(at, cause));
        }
        // SAFETY: what may be changed from old to new may be changed back.
        let left = unsafe { self.write_back(|| batch.changes().take(written).map(Change::reversed)) };
        let undone = match (left, self.publish(|| batch.addresses().take(written))) {
            (0, Ok(())) => Undone::Entirely,
            (0, Err(_)) => Undone::Unconfirmed,
            (left, _) => Undone::AllBut(left),
        };
        Err(PokeError { at, cause, undone })
    }

    /// Writes every change that can be written; how many can't.
    ///
    /// # Safety
    ///
    /// As for [`apply`](Self::apply).
    unsafe fn write_back<I: Iterator<Item = Change<u32>>>(&self, changes: impl Fn() -> I) -> usize {
        let (mut tried, mut left) = (0, 0);
        loop {
            // SAFETY: our caller's promise.
            let Err(stopped) = (unsafe { self.write_all(changes().skip(tried)) }) else { return left };
            tried += stopped.written + 1;
            left += 1;
        }
    }

    /// Makes every CPU see what was written at these addresses.
    fn publish<I: Iterator<Item = TextAddr>>(&self, addresses: impl Fn() -> I) -> Result<(), CpuTimeout> {
        cache::make_visible(machine(&self.machine), addresses);
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
    unsafe fn write_all(&self, changes: impl Iterator<Item = Change<u32>>) -> Result<usize, Stopped> {
        let mut written = 0;
        let mut window: Option<Window<'_>> = None;
        for change in changes {
            let at = change.at;
            let page = TextAddr::new(at.get() & !(ALIAS_BYTES - 1));
            if window.as_ref().is_none_or(|window| window.page != page) {
                // The old one goes before the new one comes: a platform may have room for one only.
                drop(window.take());
                let opened = Window::open(*self, page);
                window = Some(opened.map_err(|error| Stopped { written, at, cause: PokeCause::Alias(error) })?);
            }
            let Some(window) = &window else { continue };
            // SAFETY: our caller's promise; `window` is of this change's page.
            unsafe { self.write(window, change) }.map_err(|cause| Stopped { written, at, cause })?;
            written += 1;
        }
        Ok(written)
    }

    /// Compares through the alias, then writes one word there.
    ///
    /// # Safety
    ///
    /// As for [`apply`](Self::apply), and `window` is open on the change's page.
    #[inline]
    unsafe fn write(&self, window: &Window<'_>, change: Change<u32>) -> Result<(), PokeCause> {
        let offset = (change.at.get() - window.page.get()) as usize;
        // SAFETY: the offset is inside the alias's ALIAS_BYTES, by our caller's promise about the page.
        let place: NonNull<u32> = unsafe { window.alias.byte_add(offset) }.cast();
        // SAFETY: a multiple of 4 from an aligned alias is aligned; the platform promises that the alias is mapped.
        let found = unsafe { self.machine.load_alias(place) };
        if found != change.old {
            // SAFETY: our caller's promise about the address.
            unsafe { self.verify(change)? };
            return Err(PokeCause::WrongAlias { text: change.old, alias: found });
        }
        // SAFETY: as above; the platform promises that the alias is writable.
        unsafe { self.machine.store(place, change.new) };
        Ok(())
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
