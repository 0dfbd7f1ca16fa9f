//! The seam to whoever traces: a module's text and callsites are handed over when it is complete, and taken back before
//! it is freed. Text that can't be taken back is not freed.
//!
//! Feature `module`: below the engine, which takes regions, and the loader, which hands them over.
//!
//! Whatever is handed over is read and written, so that takes `unsafe`, and what tells a region can't be made up or used
//! twice:
//!
//! ```compile_fail,E0133
//! # use fentry::{Engine, module::{NewRegion, Regions}};
//! fn hand_over(engine: &Engine, anything: NewRegion<'_>) {
//!     let _ = engine.add(anything);
//! }
//! ```
//! ```compile_fail,E0423
//! # use fentry::{Engine, module::{RegionToken, Regions}};
//! fn take_away(engine: &Engine) {
//!     let _ = engine.remove(RegionToken(1));
//! }
//! ```
//! ```compile_fail,E0382
//! # use fentry::{Engine, module::{RegionToken, Regions}};
//! fn twice(engine: &Engine, token: RegionToken) {
//!     let _ = engine.remove(token);
//!     let _ = engine.remove(token);
//! }
//! ```

use crate::address::{TextAddr, TextRange};
use crate::callsite::OutOfReach;
use crate::callsite::table::TableError;
use crate::insn::EncodeError;
use crate::platform::CpuTimeout;
use crate::symbols::SymbolsError;
use crate::text::PokeError;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;

/// A module's text, or its init text, ready but for its callsites. [`Regions::add`] says what must be true of it.
#[derive(Debug)]
pub struct NewRegion<'a> {
    /// The module's name.
    pub module: &'a str,
    /// The addresses of the text.
    pub text: TextRange,
    /// The entries of `__patchable_function_entries` for it, absolute and sorted.
    pub entries: Vec<u64>,
    /// Its symbols, as [`Symbols::parse`](crate::Symbols::parse) reads them: they say where functions begin. Empty where it
    /// has none.
    pub symbols: Box<[u8]>,
    /// Room in it for veneers to stubs: 16 bytes each, and aligned to that.
    pub veneers: TextRange,
}

/// A region that was added: the one thing by which it can be removed.
///
/// It has a number that no other region ever gets, whoever traces it, and can be neither copied nor made again. The text's
/// address would not do: text is freed, and something else comes to stand there.
#[derive(Debug, PartialEq, Eq)]
pub struct RegionToken(u64);

impl RegionToken {
    /// Makes a token unlike any other, for a region that is being added.
    pub fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the number, by which whoever traces finds the region again.
    pub const fn number(&self) -> u64 {
        self.0
    }
}

/// Why a region was not added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("The text {text} can't be added or removed: {cause}")]
#[expect(missing_docs, reason = "the type says what they are")]
pub struct RegionError {
    pub text: TextRange,
    #[source]
    pub cause: RegionCause,
}

/// What keeps a region from being added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegionCause {
    /// The engine has not been initialised.
    #[error("the engine has not been initialised")]
    NotInitialised,
    /// The tracer has memory for fewer regions.
    #[error("there is no memory for as many regions: there would be {needed}")]
    TooManyRegions {
        /// How many there would be.
        needed: usize,
    },
    /// The text, or the room for veneers, does not begin at an instruction.
    #[error("it does not begin at an instruction")]
    Misaligned,
    /// The text overlaps another region.
    #[error("it overlaps a region that is there already")]
    Overlapping,
    /// There is no such region.
    #[error("there is no such region")]
    Unknown,
    /// There are probes in it, which must be removed first.
    #[error("{instructions} of its instructions are probed")]
    Probed {
        /// How many of its instructions.
        instructions: u32,
    },
    /// The heap has no memory for what the tracer notes of it.
    #[error("the heap has no memory for it")]
    Heap,
    /// Its callsites can't become a table.
    #[error("{0}")]
    Table(#[source] TableError),
    /// Its symbol table can't be used.
    #[error("{0}")]
    Symbols(#[source] SymbolsError),
    /// Text could not be written.
    #[error("{0}")]
    Text(#[source] PokeError),
    /// Two ops that are registered exclude each other at a callsite.
    #[error("two ops that are registered exclude each other at {function}")]
    Conflict {
        /// The function.
        function: TextAddr,
    },
    /// The tracer has memory for fewer different sets of ops than callsites would have.
    #[error("there is no memory for as many different sets of ops as callsites would have: {needed}")]
    TooManySets {
        /// How many there would be, with the empty one.
        needed: usize,
    },
    /// There is no room for one more stub, or for one more veneer to a stub.
    #[error("the room for generated code at {room} is full")]
    NoRoom {
        /// The room that is full.
        room: TextRange,
    },
    /// A stub can't be made where there is room for it.
    #[error("a stub can't be made in the room for it: {0}")]
    Stub(#[source] EncodeError),
    /// A stub would be longer than the room that was taken for it.
    #[error("a stub would be longer than the {bytes} bytes that it has room for")]
    StubTooLong {
        /// How many bytes it has room for.
        bytes: usize,
    },
    /// A callsite can't reach what it is to call.
    #[error("{0}")]
    OutOfReach(#[source] OutOfReach),
    /// A CPU may still be inside a callback on behalf of the region.
    #[error("CPU {} may still be inside a callback", .0.cpu)]
    NotQuiescent(#[source] CpuTimeout),
    /// A tracer's own reason.
    #[error("{0}")]
    Other(&'static str),
}

/// A region was not removed.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{error}")]
pub struct NotRemoved {
    /// The region's token, for trying again.
    pub token: RegionToken,
    /// The reason.
    #[source]
    pub error: RegionError,
}

/// Who traces the text of modules.
///
/// # Safety
///
/// The loader lets CPUs execute what an implementation leaves in the text, and frees the text when it says that it is done
/// with it. An implementation promises:
///
/// 1. From [`add`](Self::add) on it writes nothing of the region but the two instructions of each callsite and the room for
///    veneers, and only so that the functions do what they did before.
/// 2. When `add` has returned an error, it neither reads nor writes the region any more.
/// 3. When [`remove`](Self::remove) has returned `Ok`, it neither reads nor writes the region any more, and no CPU is in, or
///    on its way to, a stub, a veneer or a callback because of one of the region's callsites.
/// 4. Given a token that its own `add` returned, `remove` takes back the region that was added with it and no other.
pub unsafe trait Regions: Sync {
    /// Adds a region: makes its callsites ready and applies the filters that are set.
    ///
    /// # Errors
    ///
    /// The region was not added. Its text is as it was, unless the platform failed a second time on the way back.
    ///
    /// # Safety
    ///
    /// 1. The region's text and the room for veneers are mapped readable, and stay so until [`remove`](Self::remove) has
    ///    returned `Ok`; they belong to no other region and not to the kernel's image.
    /// 2. Nobody else writes them in that time.
    /// 3. No CPU executes them before this has returned; if it returns an error, none ever does.
    /// 4. The region's entries are those that the compiler or linker made for this text: where one decodes as a callsite,
    ///    a function begins, for which the second promise of [`Engine::init`](crate::Engine::init) holds.
    /// 5. The room for veneers is aligned to 4 bytes, nothing is in it, and no CPU gets there but by a callsite of the
    ///    region.
    unsafe fn add(&self, region: NewRegion<'_>) -> Result<RegionToken, RegionError>;

    /// Removes a region: its callsites call nothing, and no CPU is in a stub or callback on their behalf.
    ///
    /// # Errors
    ///
    /// The region is still there then, and its text must stay. Its callsites may call nothing already.
    fn remove(&self, region: RegionToken) -> Result<(), NotRemoved>;
}

/// Traces nothing: for a kernel whose modules are loaded without tracing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untraced;

// SAFETY: (1) to (3) it never touches a region. (4) It holds none, so that there is nothing to be mistaken for another.
unsafe impl Regions for Untraced {
    unsafe fn add(&self, _region: NewRegion<'_>) -> Result<RegionToken, RegionError> {
        Ok(RegionToken::fresh())
    }

    fn remove(&self, _region: RegionToken) -> Result<(), NotRemoved> {
        Ok(())
    }
}
