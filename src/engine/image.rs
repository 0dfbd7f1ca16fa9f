//! What the engine is given at boot: text, callsite section, stubs, symbols.

use super::left_out::LeftOut;
#[cfg(target_os = "none")]
use crate::address::TextAddr;
use crate::address::TextRange;
use crate::callsite::Layout;
use crate::callsite::table::Encoding;
use crate::stub::entry::Stubs;
use crate::symbols::{Symbols, SymbolsError};

/// A kernel's text and what is known about it.
#[derive(Debug)]
pub struct Image {
    /// May hold callsites.
    pub(super) text: TextRange,
    /// The part of the text that is never traced: the engine's own.
    pub(super) excluded: TextRange,
    /// The functions that are never traced.
    pub(super) left_out: &'static [LeftOut],
    /// The callsite section.
    pub(super) section: *mut u64,
    pub(super) section_bytes: usize,
    pub(super) encoding: Encoding,
    pub(super) layout: Option<Layout>,
    pub(super) stubs: Stubs,
    pub(super) symbols: Option<Symbols<'static>>,
    /// What is wrong with the symbol table that the kernel was linked with.
    pub(super) damage: Option<SymbolsError>,
}

impl Image {
    /// Makes an image from its parts; `linked` does it for a kernel that uses the linker fragment.
    ///
    /// # Safety
    ///
    /// 1. The section's bytes are readable, writable, and from now on the engine's alone, for as long as it lives. After an
    ///    init that failed they may be another image's. (Where the MMU says that they can't be written, init fails before it
    ///    writes.)
    /// 2. `text` is mapped readable and executable, and stays so but for what is given back
    ///    ([`Engine::forget`](crate::Engine::forget)); nobody but the engine writes its callsites.
    /// 3. Each address in `stubs` is that of the instruction or the code that its field says, for this one engine: the stubs
    ///    are complete, and mapped readable and executable for ever.
    /// 4. `stubs.text` covers all of their instructions.
    /// 5. `stubs.room` is mapped readable and executable for ever, [`Platform::map_alias`](crate::Platform::map_alias) has an
    ///    alias of all of it, and nobody else writes it, executes it but by calls of what the engine writes there, or reads
    ///    it as data.
    /// 6. What `with_excluded`, `with_encoding` and `with_layout` say is true: text in which the engine and its callbacks
    ///    can't be traced is excluded, and the entries were made that way.
    pub const unsafe fn new(text: TextRange, section: *mut u64, section_bytes: usize, stubs: Stubs) -> Self {
        let (excluded, encoding) = (TextRange::EMPTY, Encoding::Absolute);
        let left_out = &[];
        let (layout, symbols, damage) = (None, None, None);
        Self { text, excluded, left_out, section, section_bytes, encoding, layout, stubs, symbols, damage }
    }

    /// Excludes this part of the text from tracing, for ever.
    #[must_use]
    pub const fn with_excluded(self, excluded: TextRange) -> Self {
        Self { excluded, ..self }
    }

    /// Leaves functions out of tracing, for ever, as if they had been compiled without a callsite: no filter selects them, and
    /// their text is never written. (The attribute `#[patchable_function_entry(prefix_nops = 0, entry_nops = 0)]`, or
    /// `__attribute__((patchable_function_entry(0)))` in C, does it where a function is written.)
    ///
    /// [`InitReport`](super::InitReport) says how many that were, and how many of these mean nothing: a name that has changed
    /// is no error, but is logged. Where the compiler has merged equal functions, the others of them are left out with the one that is
    /// meant. Modules are not concerned.
    #[must_use]
    pub const fn leave_out(self, left_out: &'static [LeftOut]) -> Self {
        Self { left_out, ..self }
    }

    /// Sets how the section's entries give addresses; [`Encoding::Absolute`] if this isn't called.
    #[must_use]
    pub const fn with_encoding(self, encoding: Encoding) -> Self {
        Self { encoding, ..self }
    }

    /// Sets the layout of all entries. A kernel without symbols needs it, unless each of its functions begins with BTI C.
    /// With symbols it is ignored: they say for each function where it begins.
    #[must_use]
    pub const fn with_layout(self, layout: Layout) -> Self {
        Self { layout: Some(layout), ..self }
    }

    /// Adds symbols, for filters by name, and because they say where functions begin. An entry that belongs to no function's
    /// symbol is refused.
    #[must_use]
    pub const fn with_symbols(self, symbols: Symbols<'static>) -> Self {
        Self { symbols: Some(symbols), damage: None, ..self }
    }

    /// Makes the image that the linker script (`linker.ld`, or a kernel's own with `fentry.ld`) describes, with its symbols if
    /// it has some. If their table is damaged, or has another format, init fails with that error.
    ///
    /// # Safety
    ///
    /// 1. The symbols that the script defines enclose what their names say: text and the room for stubs are mapped
    ///    readable and executable, the callsite section readable and writable, all of it for ever.
    /// 2. A position-independent kernel has relocated itself.
    /// 3. Only one image is given to an init that succeeds: the section, the stubs and their room become the engine's. After
    ///    one that failed, this may be called again.
    #[cfg(target_os = "none")]
    pub unsafe fn linked() -> Self {
        unsafe extern "C" {
            static __fentry_image_start: u8;
            static __fentry_image_stop: u8;
            static __fentry_text_start: u8;
            static __fentry_text_stop: u8;
            static mut __fentry_callsites_start: u64;
            static __fentry_callsites_stop: u8;
        }
        let range = |start: *const u8, stop: *const u8| {
            TextRange::new(TextAddr::new(start.addr() as u64), TextAddr::new(stop.addr() as u64))
        };
        let section = &raw mut __fentry_callsites_start;
        let section_bytes = (&raw const __fentry_callsites_stop).addr() - section.addr();
        let text = range(&raw const __fentry_image_start, &raw const __fentry_image_stop);
        // SAFETY: 1. our caller's first and third promises. 2. The first; `text` is what was linked as text. 3. and 4. The
        // labels are those of the crate's own assembly, which the third promise gives to one engine. 5. The first and third.
        // 6. Entries are absolute once the kernel has relocated itself (the second); the crate's own text, excluded below, is
        // what the script encloses as that (the first).
        let image = unsafe { Self::new(text, section, section_bytes, Stubs::linked()) };
        let excluded = range(&raw const __fentry_text_start, &raw const __fentry_text_stop);
        // SAFETY: our caller's first promise; the script puts them into read-only data.
        let symbols = unsafe { Symbols::linked() };
        match symbols {
            Ok(symbols) => Self { excluded, symbols: Some(symbols), ..image },
            Err(SymbolsError::Absent) => Self { excluded, ..image },
            Err(damage) => Self { excluded, damage: Some(damage), ..image },
        }
    }
}
