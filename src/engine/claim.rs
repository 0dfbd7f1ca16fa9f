//! Instructions that are no callsites and are claimed by who changes them: one owner a word.
//!
//! The engine's part of a [probe](crate::kprobe): what is known of an instruction, room for generated code beside that of the
//! stubs, and the write of the word while all other CPUs are held. Text with a claimed word is not given back.

use super::Engine;
use super::names::Origin;
use super::region::Region;
use super::registry::Registry;
use crate::address::{TextAddr, TextRange};
use crate::callsite::WordChange;
use crate::filter::is_same_name;
use crate::platform::CpuTimeout;
use crate::stub::StubBlock;
use crate::text::{Cpu, PokeError, TextWord};
use thiserror::Error;

/// Text around an instruction, while the engine is locked.
pub(crate) struct Surroundings<'a> {
    region: &'a Region,
    machine: Cpu,
    /// The function that the instruction is in; without symbols, all between the two nearest callsites.
    pub(crate) function: TextRange,
}

impl Surroundings<'_> {
    /// The instruction at an address, if that is one of the region's text.
    pub(crate) fn word(&self, at: TextAddr) -> Option<u32> {
        self.region.can_read(at).then(|| self.region.read(self.machine, at))
    }
}

/// Why an instruction can't be claimed, as far as the engine knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotClaimed {
    /// The engine has not been initialised.
    #[error("the engine has not been initialised")]
    NotInitialised,
    /// The address is no multiple of 4.
    #[error("it is no instruction's address")]
    Misaligned,
    /// It lies in no text that the engine has.
    #[error("it lies in no text that the engine has")]
    OutsideText,
    /// It is one of the engine's own functions, stubs and veneers.
    #[error("it is the engine's own")]
    EngineText,
    /// It lies in no function of the symbol table: data, or padding.
    #[error("it lies in no function that has a name and a length")]
    NoFunction,
    /// It belongs to a function's callsite.
    #[error("it belongs to the callsite of the function at {function}")]
    Callsite {
        /// The function.
        function: TextAddr,
    },
    /// There is no room for one more piece of generated code.
    #[error("the room for generated code at {room} is full")]
    NoRoom {
        /// The room that is full.
        room: TextRange,
    },
}

/// An instruction that was claimed, and the room for generated code that belongs to it.
///
/// # Invariants
///
/// The address is a multiple of 4 inside text of the engine's, whose region stays as long as this is not
/// [released](Engine::release). The block is nobody else's.
#[derive(Debug)]
pub(crate) struct Claim {
    at: TextAddr,
    block: StubBlock,
    code: TextAddr,
    bytes: usize,
}

impl Claim {
    /// Where the room for code is.
    pub(crate) const fn code(&self) -> TextAddr {
        self.code
    }
}

impl Engine {
    /// Calls `look` with what surrounds the instruction at `at`, if it can be claimed.
    ///
    /// # Errors
    ///
    /// [`NotClaimed`], without a call of `look`.
    pub(crate) fn examine<T>(&self, at: TextAddr, look: impl FnOnce(&Surroundings<'_>) -> T) -> Result<T, NotClaimed> {
        let registry = self.lock();
        registry.surroundings(at).map(|surroundings| look(&surroundings))
    }

    /// Claims the instruction at `at`, with room for so many bytes of code.
    ///
    /// # Errors
    ///
    /// [`NotClaimed`].
    pub(crate) fn claim(&self, at: TextAddr, bytes: usize) -> Result<Claim, NotClaimed> {
        let mut registry = self.lock();
        registry.surroundings(at)?;
        let room = &mut registry.sets.room;
        let block = room.take(bytes).ok_or(NotClaimed::NoRoom { room: room.text() })?;
        let code = room.start(block);
        if let Some(region) = registry.region_with(at) {
            region.claims += 1;
            region.claimed = region.claimed.hull(TextRange::new(at, at.offset(4)));
        }
        // INVARIANT: it was found in a region, which the claim that was just counted keeps; the block was taken.
        Ok(Claim { at, block, code, bytes })
    }

    /// Writes the code that belongs to a claimed instruction.
    ///
    /// # Errors
    ///
    /// [`PokeError`]: it must not be executed.
    ///
    /// # Safety
    ///
    /// 1. No CPU executes the code that was there: the instruction doesn't lead there, and has not since the claim, or since
    ///    every CPU was seen quiescent.
    pub(crate) unsafe fn write_code(&self, claim: &Claim, words: &[u32]) -> Result<(), PokeError> {
        debug_assert!(size_of_val(words) <= claim.bytes);
        let words = words.get(..claim.bytes / size_of::<u32>()).unwrap_or(words);
        let registry = self.lock();
        let mut done = Ok(());
        // SAFETY: 1. a block is aligned to 16, and as long as was asked for; the room for stubs is mapped text (`Image::new`).
        // 2. By the type's invariant the block is the claim's; our caller's promise.
        unsafe { registry.poke().write_code(claim.code, words, &mut done) };
        done
    }

    /// Changes a claimed instruction while all CPUs are held.
    ///
    /// # Errors
    ///
    /// [`PokeError`]; nothing has changed.
    ///
    /// # Safety
    ///
    /// 1. Whoever executes it may execute either word, and go on where they lead.
    pub(crate) unsafe fn change_claimed(&self, claim: &Claim, old: u32, new: u32) -> Result<(), PokeError> {
        let mut registry = self.lock();
        // SAFETY: 1. and 2. the type's invariant.
        let at = unsafe { TextWord::new(claim.at) };
        // SAFETY: 1. our caller's promise.
        let done = unsafe { registry.poke().apply_held(WordChange { at, old, new }) };
        let history = &mut registry.history;
        match done {
            Ok(()) => (history.batches, history.changes) = (history.batches + 1, history.changes + 1),
            Err(_) => history.failures += 1,
        }
        done
    }

    /// Waits until every CPU was seen quiescent.
    ///
    /// # Errors
    ///
    /// A CPU was not.
    pub(crate) fn await_quiescence(&self) -> Result<(), CpuTimeout> {
        self.lock().quiesce()
    }

    /// Gives a claimed instruction back, and its room.
    ///
    /// # Safety
    ///
    /// 1. The instruction is again what it was, and every CPU was seen quiescent since.
    pub(crate) unsafe fn release(&self, claim: Claim) {
        let mut registry = self.lock();
        registry.sets.room.give_back(claim.block);
        if let Some(region) = registry.region_with(claim.at) {
            region.claims -= 1;
            if region.claims == 0 {
                region.claimed = TextRange::EMPTY;
            }
        }
    }

    /// Finds the function of this name, in the kernel and its modules; the first of several.
    pub(crate) fn function_named(&self, name: &str) -> Option<TextAddr> {
        let registry = self.lock();
        let mut found = registry.regions.iter().filter_map(|region| region.origin.symbols()?.lookup_name(name).next());
        found.next().map(|symbol| TextAddr::new(symbol.addr))
    }

    /// Finds the functions of this name, of a module or of all text: where one of them is, and whether there is no other.
    pub(crate) fn functions_named(&self, module: Option<&str>, name: &str) -> Option<(FunctionRange, bool)> {
        let registry = self.lock();
        let is_meant =
            |origin: &Origin| module.is_none_or(|module| origin.module().is_some_and(|own| is_same_name(own, module)));
        let origins = registry.regions.iter().map(|region| &region.origin).filter(|origin| is_meant(origin));
        let tables = origins.filter_map(Origin::symbols);
        let mut found = tables.flat_map(|symbols| symbols.lookup_name(name));
        let first = found.next()?;
        let is_only = found.all(|other| other.addr == first.addr);
        Some((FunctionRange { addr: first.addr, size: first.size }, is_only))
    }

    /// Finds the function that an address is in.
    pub(crate) fn function_around(&self, at: TextAddr) -> Option<FunctionRange> {
        let registry = self.lock();
        let mut tables = registry.regions.iter().filter_map(|region| region.origin.symbols());
        let found = tables.find_map(|symbols| symbols.lookup_addr(at.get()))?;
        Some(FunctionRange { addr: found.symbol.addr, size: found.symbol.size })
    }
}

/// Where a function is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FunctionRange {
    pub(crate) addr: u64,
    /// In bytes; 0 for a label.
    pub(crate) size: u64,
}

impl Registry {
    fn region_with(&mut self, at: TextAddr) -> Option<&mut Region> {
        self.regions.iter_mut().find(|region| region.text.contains(at))
    }

    fn surroundings(&self, at: TextAddr) -> Result<Surroundings<'_>, NotClaimed> {
        if self.stub_env.is_none() {
            return Err(NotClaimed::NotInitialised);
        }
        if !at.is_aligned() {
            return Err(NotClaimed::Misaligned);
        }
        if self.stub_ranges.iter().any(|range| range.contains(at)) {
            return Err(NotClaimed::EngineText);
        }
        let region = self.region_of(at).filter(|region| region.can_read(at)).ok_or(NotClaimed::OutsideText)?;
        if region.excluded.contains(at) {
            return Err(NotClaimed::EngineText);
        }
        if let Some(callsite) = region.callsite_with(at) {
            return Err(NotClaimed::Callsite { function: callsite });
        }
        let function = match region.origin.symbols() {
            Some(symbols) => {
                let found = symbols.lookup_addr(at.get()).filter(|found| found.offset < found.symbol.size);
                let symbol = found.ok_or(NotClaimed::NoFunction)?.symbol;
                let start = TextAddr::new(symbol.addr);
                TextRange::new(start.max(region.text.start), start.offset(symbol.size as i64).min(region.text.end))
            }
            None => region.between_callsites(at),
        };
        Ok(Surroundings { region, machine: self.machine, function })
    }
}

impl Region {
    /// The text from the last function with a callsite before this place to the next one behind it.
    fn between_callsites(&self, at: TextAddr) -> TextRange {
        let behind = self.table.span(TextRange::new(self.text.start, at)).end;
        let function = |index| self.table.callsite(index).map(|callsite| callsite.function());
        let start = behind.checked_sub(1).and_then(function).unwrap_or(self.text.start);
        TextRange::new(start, function(behind).unwrap_or(self.text.end))
    }

    /// The function whose callsite this instruction belongs to, with its landing pad and what stands before it.
    fn callsite_with(&self, at: TextAddr) -> Option<TextAddr> {
        let callsite = |index| self.table.callsite(index);
        if let Some(found) = self.table.find(at).and_then(callsite) {
            return Some(found.function());
        }
        let prefixed = self.table.find(at.offset(8)).or_else(|| self.table.find(at.offset(4))).and_then(callsite)?;
        let literal = prefixed.literal()?;
        TextRange::new(literal, literal.offset(8)).contains(at).then(|| prefixed.function())
    }
}
