//! Why a module can't be loaded or unloaded.

use super::memory::{MemoryError, Segment};
use super::regions::RegionError;
use super::reloc::RelocError;
use crate::address::TextAddr;
use crate::callsite::Refusal;
use crate::context::unwind::UnplacedError;
use crate::insn::EncodeError;
use crate::platform::CpuTimeout;
use alloc::collections::TryReserveError;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use thiserror::Error;

/// Copies a text, if the heap has room.
pub(super) fn owned(text: &str) -> Result<String, LoadError> {
    let mut own = String::new();
    own.try_reserve_exact(text.len())?;
    own.push_str(text);
    Ok(own)
}

/// Why a module was not loaded. Nothing of it is left, unless the error is [`Kept`](Self::Kept).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the variants say what their fields are")]
pub enum LoadError {
    /// The bytes are not an ELF file.
    #[error("The module is not an ELF file")]
    NotElf,
    /// It is ELF, but not 64-bit little-endian AArch64 of type ET_REL.
    #[error("The module's {field} is {found:#x} and should be {expected:#x}")]
    WrongKind { field: &'static str, found: u32, expected: u32 },
    /// A part of the file is not inside the file, or not well-formed.
    #[error("The module's {what} ({index}) is not well-formed")]
    Malformed {
        what: &'static str,
        /// The section or symbol, by index; 0 where there is only one.
        index: usize,
    },
    /// The object has no symbol table: it was stripped.
    #[error("The module has no symbol table: don't strip it")]
    NoSymbolTable,
    /// An indirect function (STT_GNU_IFUNC): its address is found by calling a resolver, which the loader does not do.
    #[error("The symbol {index} ({name}) is an indirect function, whose resolver is not called")]
    IndirectFunction { index: usize, name: String },
    /// A section that the loader can't place.
    #[error("The section {index} ({name}) can't be placed: {cause}")]
    Section {
        index: usize,
        name: String,
        #[source]
        cause: SectionCause,
    },
    /// A relocation names a symbol that the object doesn't have.
    #[error("The relocations of section {section} name symbol {symbol}, which isn't there")]
    SymbolIndex { section: usize, symbol: u32 },
    /// A symbol is defined in no section that is there, or beyond its section's end.
    #[error("The symbol {index} ({name}) is not inside a section")]
    SymbolPlace { index: usize, name: String },
    /// A COMMON symbol's alignment is not a power of two, or larger than a page.
    #[error("The alignment {alignment:#x} of the COMMON symbol {index} ({name}) is no power of two up to a page")]
    CommonAlignment { index: usize, name: String, alignment: u64 },
    /// A relocation's place is not inside its section.
    #[error("The relocation at {offset:#x} of section {section} is not inside it")]
    RelocationPlace { section: usize, offset: u64 },
    /// A relocation of a kind that the loader doesn't know.
    #[error("The relocation at {offset:#x} of section {section} (symbol {symbol:?}) has the unknown kind {number}")]
    UnknownRelocation {
        section: String,
        offset: u64,
        number: u32,
        /// The name of the symbol, or of the section, that it refers to.
        symbol: String,
    },
    /// A relocation for thread-local storage: a module in a kernel has none.
    #[error("The module uses thread-local storage (symbol {symbol:?}) at {offset:#x} of section {section}")]
    ThreadLocal { section: String, offset: u64, symbol: String },
    /// A relocation against something that is not loaded, such as a debug section.
    #[error("The section {section} refers to {symbol}, which is not in a section that is loaded")]
    NotLoaded {
        /// The name of the section whose relocation it is.
        section: String,
        /// The name of the symbol, or of the section, that it refers to.
        symbol: String,
    },
    /// A relocation that can't be done.
    #[error("{error} (symbol {symbol:?})")]
    Relocation {
        /// The name of the symbol, or of the section, that it refers to.
        symbol: String,
        #[source]
        error: RelocError,
    },
    /// All symbols that neither the kernel nor a loaded module exports.
    #[error("The module needs {} symbols that nobody exports:{}", .0.len(), fmt::from_fn(|f| .0.iter().try_for_each(|name| write!(f, " {name}"))))]
    Unresolved(Vec<String>),
    /// The module exports a name that is exported already.
    #[error(
        "The module exports {name}, which {}",
        fmt::from_fn(|f| match owner {
            Some(owner) => write!(f, "the module {owner} exports already"),
            None => f.write_str("is exported already"),
        })
    )]
    DuplicateExport {
        name: String,
        /// The module that has it; `None` for the kernel, or for this module itself.
        owner: Option<String>,
    },
    /// An export record's name or address is not inside the module.
    #[error("The module's export record {index} is malformed")]
    BadExport { index: usize },
    /// A record of the list of injectable functions has a name that is not inside the module, or a function, or what runs in
    /// its place, that is not in the module's own text; one in init text is not, either.
    #[error("The module's record {index} of what may be made to fail is malformed, or not about functions of its own")]
    BadInjectable { index: usize },
    /// An entry of `__patchable_function_entries` names no instruction of the module's text.
    #[error("The entry {entry} names no instruction of the text: {refusal}")]
    Callsite {
        entry: TextAddr,
        #[source]
        refusal: Refusal,
    },
    /// An entry of `__patchable_function_entries` that no relocation fills.
    #[error("The patchable entry at {offset:#x} of section {section} names no function")]
    EmptyEntry { section: usize, offset: u64 },
    /// The object's unwind table is wrong.
    #[error("{0}")]
    UnwindTable(#[source] UnplacedError),
    /// The segment's veneers are used up.
    #[error("The {entries} veneers of the {segment} are used up")]
    PltFull { segment: Segment, entries: usize },
    /// A veneer can't reach its target.
    #[error("The veneer to {target:#x} can't be made: {cause}")]
    Veneer {
        target: u64,
        #[source]
        cause: EncodeError,
    },
    /// A segment would be larger than the address space.
    #[error("The module's {0} is larger than memory can be")]
    TooLarge(Segment),
    /// The kernel has no memory for a segment.
    #[error("{0}")]
    Memory(#[from] MemoryError),
    /// The heap has no memory for the loader's own lists.
    #[error("The heap has no memory for the loader's lists")]
    Heap,
    /// A module of this name is already loaded.
    #[error("The module {0} is already loaded")]
    AlreadyLoaded(String),
    /// A CPU did not synchronise.
    #[error("{0}")]
    Cpu(#[from] CpuTimeout),
    /// The module's text can't be traced.
    #[error("{0}")]
    Region(#[source] RegionError),
    /// The module's init function returned this status.
    #[error("The module's init function failed with {0}")]
    Init(i32),
    /// The module was given up, but the tracing of its text could not be ended: its memory is kept, for ever.
    #[error("{cause}; its {bytes:#x} bytes are kept: {error}")]
    Kept {
        /// Why it was given up.
        #[source]
        cause: StartError,
        /// Why its text is still traced.
        error: RegionError,
        bytes: usize,
    },
}

/// Why a module that was complete was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its text can't be traced.
    #[error("{0}")]
    Region(#[source] RegionError),
    /// Its init function returned this status.
    #[error("The module's init function failed with {0}")]
    Init(i32),
}

impl From<StartError> for LoadError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Region(error) => Self::Region(error),
            StartError::Init(status) => Self::Init(status),
        }
    }
}

/// What is wrong with a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SectionCause {
    /// It wants to be writable and executable.
    #[error("it wants to be writable and executable")]
    WritableText,
    /// It has relocations without addends (SHT_REL).
    #[error("its relocations have no addends")]
    ImplicitAddends,
    /// It is, or has, relocations in a form that the loader does not read, by the section type: CREL, RELR, packed ones.
    #[error("its relocations are of the type {0:#x}, which can't be read")]
    Relocations(u32),
    /// It is compressed (SHF_COMPRESSED).
    #[error("it is compressed")]
    Compressed,
    /// It has flags that the loader does not know, which may say that it is not what it looks like.
    #[error("its flags {0:#x} are not known")]
    Flags(u64),
    /// It holds constructors, destructors or pieces of `_init` and `_fini`: the loader calls none of them.
    #[error("it holds constructors or destructors, which nobody would call")]
    NeverCalled,
    /// It is thread-local storage: a module in a kernel has none.
    #[error("it is thread-local storage, which a kernel does not have")]
    ThreadLocal,
    /// Its type is not one that the loader places.
    #[error("its type {0:#x} is not one that can be placed")]
    Type(u32),
    /// Its alignment is not a power of two, or larger than a page.
    #[error("its alignment {0:#x} is no power of two up to a page")]
    Alignment(u64),
    /// Its length is not a whole number of entries.
    #[error("its length {0:#x} is no whole number of entries")]
    Length(u64),
}

impl From<TryReserveError> for LoadError {
    fn from(_: TryReserveError) -> Self {
        Self::Heap
    }
}

impl From<UnplacedError> for LoadError {
    fn from(error: UnplacedError) -> Self {
        match error {
            UnplacedError::Heap => Self::Heap,
            error => Self::UnwindTable(error),
        }
    }
}

/// Why a module was not unloaded. It is still there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UnloadError {
    /// There is no such module.
    #[error("The module is not loaded")]
    NotLoaded,
    /// Other modules use it, or it is held.
    #[error("The module is in use by {users}")]
    InUse {
        /// How many modules and holders of a use.
        users: usize,
    },
    /// Tracing of its text could not be ended. Its exit function has been called; unload it again to try again.
    #[error("{0}")]
    Region(#[source] RegionError),
}
