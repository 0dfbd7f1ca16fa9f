//! Why a module can't be loaded or unloaded.

use super::memory::{MemoryError, Segment};
use super::reloc::RelocError;
use crate::address::TextAddr;
use crate::callsite::Refusal;
use crate::insn::EncodeError;
use crate::module::regions::RegionError;
use crate::platform::CpuTimeout;
use alloc::collections::TryReserveError;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A text of one's own, for as long as there is room.
pub(super) fn owned(text: &str) -> Result<String, LoadError> {
    let mut own = String::new();
    own.try_reserve_exact(text.len())?;
    own.push_str(text);
    Ok(own)
}

/// Why a module was not loaded. Nothing of it is left, unless that is what it says ([`Kept`](Self::Kept)).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes are not an ELF file.
    NotElf,
    /// It is ELF, but not 64-bit little-endian AArch64 of type ET_REL.
    WrongKind {
        /// The field that is wrong.
        field: &'static str,
        /// What it holds.
        found: u32,
        /// What it should hold.
        expected: u32,
    },
    /// A part of the file is not inside the file, or not well-formed.
    Malformed {
        /// What.
        what: &'static str,
        /// The section or symbol, by index; 0 where there is only one.
        index: usize,
    },
    /// The object has no symbol table: it was stripped.
    NoSymbolTable,
    /// An indirect function (STT_GNU_IFUNC): its address is found by calling a resolver, which the loader does not do.
    IndirectFunction {
        /// The symbol's index.
        index: usize,
        /// Its name.
        name: String,
    },
    /// A section that the loader can't place.
    Section {
        /// Its index.
        index: usize,
        /// Its name.
        name: String,
        /// What is wrong with it.
        cause: SectionCause,
    },
    /// A relocation names a symbol that the object doesn't have.
    SymbolIndex {
        /// The section whose relocation it is.
        section: usize,
        /// The symbol's index.
        symbol: u32,
    },
    /// A symbol is defined in no section that is there, or beyond its section's end.
    SymbolPlace {
        /// The symbol's index.
        index: usize,
        /// Its name.
        name: String,
    },
    /// A COMMON symbol's alignment is not a power of two, or larger than a page.
    CommonAlignment {
        /// The symbol's index.
        index: usize,
        /// Its name.
        name: String,
        /// The alignment.
        alignment: u64,
    },
    /// A relocation's place is not inside its section.
    RelocationPlace {
        /// The section's index.
        section: usize,
        /// The offset.
        offset: u64,
    },
    /// A relocation of a kind that the loader doesn't know.
    UnknownRelocation {
        /// The section's name.
        section: String,
        /// The offset.
        offset: u64,
        /// The kind's number.
        number: u32,
        /// The name of the symbol, or of the section, that it refers to.
        symbol: String,
    },
    /// A relocation or section for thread-local storage: a module in a kernel has none.
    ThreadLocal {
        /// The section's name.
        section: String,
        /// The offset; 0 where the section itself is thread-local.
        offset: u64,
        /// The name of the symbol; empty where the section itself is thread-local.
        symbol: String,
    },
    /// A relocation against something that is not loaded, such as a debug section.
    NotLoaded {
        /// The name of the section whose relocation it is.
        section: String,
        /// The name of the symbol, or of the section, that it refers to.
        symbol: String,
    },
    /// A relocation that can't be done.
    Relocation {
        /// The name of the symbol, or of the section, that it refers to.
        symbol: String,
        /// What is wrong.
        error: RelocError,
    },
    /// Symbols that neither the kernel nor a loaded module exports: all of them.
    Unresolved(Vec<String>),
    /// The module exports a name that is exported already.
    DuplicateExport {
        /// The name.
        name: String,
        /// The module that has it; empty for the kernel, or for this module itself.
        owner: String,
    },
    /// An export record is not one.
    BadExport {
        /// The record's index.
        index: usize,
    },
    /// An entry of `__patchable_function_entries` names no instruction of the module's text.
    Callsite {
        /// The entry.
        entry: TextAddr,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// An entry of `__patchable_function_entries` that no relocation fills.
    EmptyEntry {
        /// The section's index.
        section: usize,
        /// The offset.
        offset: u64,
    },
    /// The segment's veneers are used up.
    PltFull {
        /// The segment.
        segment: Segment,
        /// How many it has.
        entries: usize,
    },
    /// A veneer can't reach its target.
    Veneer {
        /// The target.
        target: u64,
        /// The encoder's words.
        cause: EncodeError,
    },
    /// A segment would be larger than the address space.
    TooLarge(Segment),
    /// The kernel has no memory for a segment.
    Memory(MemoryError),
    /// The heap has no memory for the loader's own lists.
    Heap,
    /// A module of this name is loaded.
    AlreadyLoaded(String),
    /// A CPU did not synchronise.
    Cpu(CpuTimeout),
    /// The module's text can't be traced.
    Region(RegionError),
    /// The module's init function returned this.
    Init(i32),
    /// The module was given up, but the tracing of its text could not be ended: its memory is kept, for ever.
    Kept {
        /// Why it was given up.
        cause: StartError,
        /// Why its text is still traced.
        error: RegionError,
        /// How much memory is kept.
        bytes: usize,
    },
}

/// Why a module that was complete was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// Its text can't be traced.
    Region(RegionError),
    /// Its init function returned this.
    Init(i32),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(error) => error.fmt(f),
            Self::Init(status) => write!(f, "The module's init function failed with {status}"),
        }
    }
}

impl core::error::Error for StartError {}

impl From<StartError> for LoadError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Region(error) => Self::Region(error),
            StartError::Init(status) => Self::Init(status),
        }
    }
}

/// What is wrong with a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SectionCause {
    /// It wants to be writable and executable.
    WritableText,
    /// It has relocations without addends (SHT_REL).
    ImplicitAddends,
    /// It is, or has, relocations in a form that the loader does not read, by the section type: CREL, RELR, packed ones.
    Relocations(u32),
    /// It is compressed (SHF_COMPRESSED).
    Compressed,
    /// It has flags that the loader does not know, which may say that it is not what it looks like.
    Flags(u64),
    /// It holds constructors, destructors or pieces of `_init` and `_fini`: the loader calls none of them.
    NeverCalled,
    /// Its type is not one that the loader places.
    Type(u32),
    /// Its alignment is not a power of two, or larger than a page.
    Alignment(u64),
    /// Its length is not a whole number of entries.
    Length(u64),
}

impl fmt::Display for SectionCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WritableText => f.write_str("it wants to be writable and executable"),
            Self::ImplicitAddends => f.write_str("its relocations have no addends"),
            Self::Relocations(found) => write!(f, "its relocations are of the type {found:#x}, which can't be read"),
            Self::Compressed => f.write_str("it is compressed"),
            Self::Flags(found) => write!(f, "its flags {found:#x} are not known"),
            Self::NeverCalled => f.write_str("it holds constructors or destructors, which nobody would call"),
            Self::Type(found) => write!(f, "its type {found:#x} is not one that can be placed"),
            Self::Alignment(found) => write!(f, "its alignment {found:#x} is no power of two up to a page"),
            Self::Length(found) => write!(f, "its length {found:#x} is no whole number of entries"),
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => f.write_str("The module is not an ELF file"),
            Self::WrongKind { field, found, expected } => {
                write!(f, "The module's {field} is {found:#x} and should be {expected:#x}")
            }
            Self::Malformed { what, index } => write!(f, "The module's {what} ({index}) is not well-formed"),
            Self::NoSymbolTable => f.write_str("The module has no symbol table: don't strip it"),
            Self::IndirectFunction { index, name } => {
                write!(f, "The symbol {index} ({name}) is an indirect function, whose resolver is not called")
            }
            Self::Section { index, name, cause } => write!(f, "The section {index} ({name}) can't be placed: {cause}"),
            Self::SymbolIndex { section, symbol } => {
                write!(f, "The relocations of section {section} name symbol {symbol}, which isn't there")
            }
            Self::SymbolPlace { index, name } => write!(f, "The symbol {index} ({name}) is not inside a section"),
            Self::CommonAlignment { index, name, alignment } => {
                let what = "is no power of two up to a page";
                write!(f, "The alignment {alignment:#x} of the COMMON symbol {index} ({name}) {what}")
            }
            Self::RelocationPlace { section, offset } => {
                write!(f, "The relocation at {offset:#x} of section {section} is not inside it")
            }
            Self::UnknownRelocation { section, offset, number, symbol } => {
                write!(f, "The relocation at {offset:#x} of section {section} (symbol {symbol:?}) has ")?;
                write!(f, "the unknown kind {number}")
            }
            Self::ThreadLocal { section, offset: 0, symbol } if symbol.is_empty() => {
                write!(f, "The section {section} is thread-local storage, which a kernel does not have")
            }
            Self::ThreadLocal { section, offset, symbol } => {
                write!(
                    f,
                    "The module uses thread-local storage (symbol {symbol:?}) at {offset:#x} of section {section}"
                )
            }
            Self::NotLoaded { section, symbol } => {
                write!(f, "The section {section} refers to {symbol}, which is not in a section that is loaded")
            }
            Self::Relocation { symbol, error } => write!(f, "{error} (symbol {symbol:?})"),
            Self::Unresolved(names) => {
                write!(f, "The module needs {} symbols that nobody exports:", names.len())?;
                names.iter().try_for_each(|name| write!(f, " {name}"))
            }
            Self::DuplicateExport { name, owner } if owner.is_empty() => {
                write!(f, "The module exports {name}, which is exported already")
            }
            Self::DuplicateExport { name, owner } => {
                write!(f, "The module exports {name}, which the module {owner} exports already")
            }
            Self::BadExport { index } => write!(f, "The module's export record {index} is none"),
            Self::Callsite { entry, refusal } => {
                write!(f, "The entry {entry} names no instruction of the text: {refusal}")
            }
            Self::EmptyEntry { section, offset } => {
                write!(f, "The patchable entry at {offset:#x} of section {section} names no function")
            }
            Self::PltFull { segment, entries } => write!(f, "The {entries} veneers of the {segment} are used up"),
            Self::Veneer { target, cause } => write!(f, "The veneer to {target:#x} can't be made: {cause}"),
            Self::TooLarge(segment) => write!(f, "The module's {segment} is larger than memory can be"),
            Self::Memory(error) => write!(f, "{error}"),
            Self::Heap => f.write_str("The heap has no memory for the loader's lists"),
            Self::AlreadyLoaded(name) => write!(f, "The module {name} is loaded already"),
            Self::Cpu(error) => write!(f, "{error}"),
            Self::Region(error) => write!(f, "{error}"),
            Self::Init(status) => StartError::Init(*status).fmt(f),
            Self::Kept { cause, error, bytes } => write!(f, "{cause}; its {bytes:#x} bytes are kept: {error}"),
        }
    }
}

impl core::error::Error for LoadError {}

impl From<MemoryError> for LoadError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

impl From<TryReserveError> for LoadError {
    fn from(_: TryReserveError) -> Self {
        Self::Heap
    }
}

impl From<CpuTimeout> for LoadError {
    fn from(error: CpuTimeout) -> Self {
        Self::Cpu(error)
    }
}

/// Why a module was not unloaded. It is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnloadError {
    /// There is no such module.
    NotLoaded,
    /// Others use it.
    InUse {
        /// How many modules and holders of a use.
        users: usize,
    },
    /// Tracing of its text could not be ended. Its exit function has been called; unload it again to try again.
    Region(RegionError),
}

impl fmt::Display for UnloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoaded => f.write_str("The module is not loaded"),
            Self::InUse { users } => write!(f, "The module is in use by {users}"),
            Self::Region(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for UnloadError {}
