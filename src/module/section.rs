//! A section of an object: what it holds, what it is for, and whether the loader knows all that it says.
//!
//! Nothing is passed over that changes what is loaded: a section is known, or refused by name.

use super::error::{LoadError, SectionCause, owned};
use super::kinds::RelocKind;
use alloc::string::String;
use core::ffi::CStr;
use core::fmt;
use object::LittleEndian as Little;
use object::elf;
use object::read::elf::Rela as _;

pub(super) type RelaEntry = elf::Rela64<Little>;

/// A name in a string table. Its end is looked for when its text is asked for: most names decide nothing.
#[derive(Clone, Copy)]
pub(crate) struct ElfName<'a>(&'a [u8]);

impl<'a> ElfName<'a> {
    /// The name at an offset of a table; `None` where the table doesn't reach so far.
    pub(super) fn at(strings: &'a [u8], offset: u32) -> Option<Self> {
        strings.get(offset as usize..).filter(|name| !name.is_empty()).map(Self)
    }

    pub(crate) fn is(self, name: &str) -> bool {
        self.0.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    pub(crate) fn starts_with(self, start: &str) -> bool {
        self.0.starts_with(start.as_bytes())
    }

    /// The name as text; `None` where it isn't UTF-8.
    pub(crate) fn text(self) -> Option<&'a str> {
        CStr::from_bytes_until_nul(self.0).ok()?.to_str().ok()
    }
}

impl fmt::Debug for ElfName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

/// A section.
pub(crate) struct Section<'a> {
    pub(crate) index: usize,
    pub(crate) name: ElfName<'a>,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    pub(crate) alignment: u64,
    pub(crate) bytes: u64,
    /// What the file holds of it; nothing where it is zeros.
    pub(crate) data: &'a [u8],
    /// As the file has them. Each one's kind is known, its symbol is there, and its place is inside the section.
    pub(super) relocations: &'a [RelaEntry],
}

/// A relocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relocation {
    pub(crate) offset: u64,
    pub(crate) kind: RelocKind,
    pub(crate) symbol: u32,
    pub(crate) addend: i64,
}

/// The flags of sections that change nothing for the loader, or that it looks at: the last is SHF_AARCH64_PURECODE, for text
/// that need not be readable.
const KNOWN_FLAGS: u64 = elf::SHF_WRITE.0
    | elf::SHF_ALLOC.0
    | elf::SHF_EXECINSTR.0
    | elf::SHF_MERGE.0
    | elf::SHF_STRINGS.0
    | elf::SHF_INFO_LINK.0
    | elf::SHF_LINK_ORDER.0
    | elf::SHF_GROUP.0
    | elf::SHF_TLS.0
    | elf::SHF_GNU_RETAIN.0
    | elf::SHF_EXCLUDE.0
    | 1 << 29;

/// Whether the loader knows what a section of this type means for others, memory of its own left aside.
pub(super) fn is_known_type(kind: elf::SectionType) -> bool {
    [
        elf::SHT_NULL,
        elf::SHT_PROGBITS,
        elf::SHT_SYMTAB,
        elf::SHT_STRTAB,
        elf::SHT_RELA,
        elf::SHT_REL,
        elf::SHT_NOTE,
        elf::SHT_NOBITS,
        elf::SHT_GROUP,
        elf::SHT_SYMTAB_SHNDX,
    ]
    .contains(&kind)
}

/// Whether a section of this type holds relocations in a form that the loader does not read.
fn is_other_relocations(kind: elf::SectionType) -> bool {
    [elf::SHT_RELR, elf::SHT_CREL, elf::SHT_ANDROID_REL, elf::SHT_ANDROID_RELA, elf::SHT_ANDROID_RELR].contains(&kind)
}

impl Section<'_> {
    /// The relocations that change something.
    pub(crate) fn relocations(&self) -> impl Iterator<Item = Relocation> {
        self.relocations.iter().filter_map(|entry| {
            Some(Relocation {
                offset: entry.r_offset(Little),
                // What has no kind does nothing: it was looked at.
                kind: RelocKind::of(entry.r_type(Little, false).0)?,
                symbol: entry.r_sym(Little, false),
                addend: entry.r_addend(Little),
            })
        })
    }

    /// Refuses a section of which the loader would pass over something that changes what is loaded.
    pub(super) fn check_form(&self) -> Result<(), LoadError> {
        let kind = elf::SectionType(self.kind);
        if is_other_relocations(kind) {
            return Err(self.refused(SectionCause::Relocations(self.kind)));
        }
        if self.is_loaded() {
            if self.has(elf::SHF_COMPRESSED) {
                return Err(self.refused(SectionCause::Compressed));
            }
            if self.flags & !KNOWN_FLAGS != 0 {
                return Err(self.refused(SectionCause::Flags(self.flags & !KNOWN_FLAGS)));
            }
            if self.bytes > 0 && self.is_called_by_nobody() {
                return Err(self.refused(SectionCause::NeverCalled));
            }
        } else if !is_known_type(kind) && (self.kind < elf::SHT_LOOS || self.has(elf::SHF_OS_NONCONFORMING)) {
            // Beyond the generic ABI's own types, what asks for no memory and says no such thing is a note to linkers.
            return Err(self.refused(SectionCause::Type(self.kind)));
        }
        Ok(())
    }

    /// Whether it holds what start-up code calls, by its type or its name: constructors, destructors, and the pieces of the
    /// functions `_init` and `_fini`.
    fn is_called_by_nobody(&self) -> bool {
        let is_array =
            [elf::SHT_INIT_ARRAY, elf::SHT_FINI_ARRAY, elf::SHT_PREINIT_ARRAY].contains(&elf::SectionType(self.kind));
        // The first part of the name: thousands of sections are looked at, and most are `.text.` and something.
        let stem = self.name.0.strip_prefix(b".").and_then(|name| name.split(|byte| matches!(byte, 0 | b'.')).next());
        let is_called = match stem.unwrap_or_default() {
            b"ctors" | b"dtors" | b"init_array" | b"fini_array" | b"preinit_array" => true,
            b"init" | b"fini" => self.is_text() && (self.name.is(".init") || self.name.is(".fini")),
            _ => false,
        };
        is_array || is_called
    }

    /// A copy of the name.
    pub(crate) fn own_name(&self) -> Result<String, LoadError> {
        owned(self.name.text().unwrap_or_default())
    }

    fn has(&self, flag: elf::SectionFlags) -> bool {
        self.flags & flag.0 != 0
    }

    /// Whether the loader does anything with it.
    pub(crate) fn is_loaded(&self) -> bool {
        // Nobody unwinds a module; a note is for the linker.
        self.has(elf::SHF_ALLOC) && self.kind != elf::SHT_NOTE.0 && !self.name.starts_with(".eh_frame")
    }

    pub(crate) fn is_text(&self) -> bool {
        self.has(elf::SHF_EXECINSTR)
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.has(elf::SHF_WRITE)
    }

    pub(crate) fn is_thread_local(&self) -> bool {
        self.has(elf::SHF_TLS)
    }

    /// Whether it is an array of callsites' addresses.
    pub(crate) fn is_patchable_entries(&self) -> bool {
        self.name.is("__patchable_function_entries")
    }

    /// Whether it lists what may be made to fail.
    pub(crate) fn is_injectable_list(&self) -> bool {
        self.name.is(".fentry.injectable")
    }

    /// Whether it is what the object has of its unwind table, which is read and not loaded.
    pub(crate) fn is_unwind_table(&self) -> bool {
        !self.has(elf::SHF_ALLOC) && self.name.is(".fentry.unwind")
    }

    /// Whether it is zeros that the file doesn't hold.
    pub(crate) fn is_zeros(&self) -> bool {
        self.kind == elf::SHT_NOBITS.0
    }

    /// Whether its bytes are the program's own business.
    pub(crate) fn is_program(&self) -> bool {
        self.is_zeros() || self.kind == elf::SHT_PROGBITS.0
    }

    pub(crate) fn refused(&self, cause: SectionCause) -> LoadError {
        match self.own_name() {
            Ok(name) => LoadError::Section { index: self.index, name, cause },
            Err(error) => error,
        }
    }
}
