//! Text in memory, laid out as a compiler would.

use crate::address::{TextAddr, TextRange};
use crate::callsite::{BTI_C, Form, LandingPad, NOP, Prefix};
use crate::insn::Insn;
use crate::platform::ALIAS_BYTES;
use crate::symbols;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;
use std::boxed::Box;
use std::string::ToString;
use std::vec::Vec;

/// How much room there is for generated stubs, if a test doesn't say otherwise.
const STUB_ROOM_BYTES: usize = if cfg!(miri) { 8 << 10 } else { 64 << 10 };

pub(super) const RET: u32 = Insn::RET.encode();

/// Builds the text of a [`FakeKernel`](super::FakeKernel).
#[derive(Debug)]
pub struct FakeText {
    pub(super) base: TextAddr,
    pub(super) words: Vec<u32>,
    entries: Vec<u64>,
    functions: Vec<symbols::Function>,
    pub(super) stub_room_bytes: usize,
    pub(super) modules: Vec<FakeText>,
}

impl FakeText {
    /// Makes empty text that begins at `base`, rounded down to a page.
    pub fn new(base: u64) -> Self {
        let base = TextAddr::new(base & !(ALIAS_BYTES - 1));
        let (stub_room_bytes, modules) = (STUB_ROOM_BYTES, Vec::new());
        Self { base, words: Vec::new(), entries: Vec::new(), functions: Vec::new(), stub_room_bytes, modules }
    }

    /// Adds a function with a callsite of this form, as a compiler lays it out, with its entry and its symbol; returns its
    /// address.
    pub fn function(&mut self, name: &str, form: Form) -> TextAddr {
        if !self.words.len().is_multiple_of(2) {
            self.words.push(RET);
        }
        let start = self.here();
        if form.prefix == Prefix::Literal {
            self.words.extend([NOP, NOP]);
        }
        let function = self.here();
        if form.landing_pad == LandingPad::BtiC {
            self.words.push(BTI_C);
        }
        let entry = if form.prefix == Prefix::Literal { start } else { self.here() };
        self.words.extend([NOP, NOP, RET]);
        self.entries.push(entry.get());
        self.symbol(name, function, self.here().get() - function.get());
        function
    }

    /// Adds words as they are; returns the address of the first.
    pub fn words(&mut self, words: &[u32]) -> TextAddr {
        let at = self.here();
        self.words.extend(words);
        at
    }

    /// Adds a symbol: another name for a function, a function without an entry, or with 0 bytes a label.
    pub fn symbol(&mut self, name: &str, at: TextAddr, bytes: u64) {
        self.functions.push(symbols::Function {
            name: name.to_string(),
            addr: at.get(),
            size: bytes,
            convention: symbols::Convention::Base,
        });
    }

    /// Adds an entry to the callsite section.
    pub fn entry(&mut self, address: u64) {
        self.entries.push(address);
    }

    /// Moves on to this many bytes from the start.
    pub fn skip_to(&mut self, offset: usize) {
        self.words.resize(self.words.len().max(offset / 4), RET);
    }

    fn here(&self) -> TextAddr {
        self.base.offset(self.words.len() as i64 * 4)
    }

    /// Leaves this much room for generated stubs; 64 KiB if this isn't called, and under Miri, whose time grows with it, 8.
    pub fn stub_room(&mut self, bytes: usize) {
        self.stub_room_bytes = bytes;
    }

    /// Adds the text of a module, which must not overlap any other. Behind it there is room for veneers.
    pub fn module(&mut self, text: Self) {
        self.modules.push(text);
    }

    /// Its text in memory, with room behind it on a page of its own.
    pub(super) fn piece(self, room_bytes: usize) -> TextPiece {
        let text = TextRange::new(self.base, self.here());
        let text_words = self.words.len().next_multiple_of(ALIAS_BYTES as usize / 4);
        let room_start = self.base.offset(text_words as i64 * 4);
        let mut words = self.words;
        words.extend(std::vec![0; text_words + room_bytes / 4 - words.len()]);
        TextPiece {
            text,
            text_words,
            room: TextRange::new(room_start, room_start.offset(room_bytes as i64)),
            pages: words.chunks(PAGE_WORDS).map(Page::holding).collect(),
            #[cfg(feature = "module")]
            compiled: words,
            entries: self.entries,
            symbols: symbols::encode(&self.functions, 0).unwrap_or_default(),
        }
    }
}

/// How many instructions an alias covers.
pub(super) const PAGE_WORDS: usize = ALIAS_BYTES as usize / 4;

/// A page of text. Each on its own: under Miri a reference to words that may change costs as much as there are words. So
/// there is none to a whole page where a word or an address is enough.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Page(pub(super) [AtomicU32; PAGE_WORDS]);

impl Page {
    /// A page that begins with these words.
    fn holding(words: &[u32]) -> Box<Self> {
        let mut page = Box::new([0; PAGE_WORDS]);
        page[..words.len()].copy_from_slice(words);
        // SAFETY: a `Page` is that many `AtomicU32`, which have the size, the alignment and the values of `u32`; the box is
        // given up here.
        unsafe { Box::from_raw(Box::into_raw(page).cast()) }
    }
}

/// The image's text, or a module's.
#[derive(Debug)]
pub(super) struct TextPiece {
    pub(super) text: TextRange,
    /// How many words there are before the room.
    pub(super) text_words: usize,
    /// For generated stubs, or for veneers.
    pub(super) room: TextRange,
    /// The words as they were at first.
    #[cfg(feature = "module")]
    pub(super) compiled: Vec<u32>,
    pub(super) pages: Vec<Box<Page>>,
    pub(super) entries: Vec<u64>,
    pub(super) symbols: Vec<u8>,
}

impl TextPiece {
    pub(super) fn place(&self, at: TextAddr) -> Option<&AtomicU32> {
        let number = usize::try_from(at.get().checked_sub(self.text.start.get())? / 4).ok()?;
        let page = self.pages.get(number / PAGE_WORDS)?;
        // Of the one word: a reference to the page is as costly as it is long, under Miri.
        Some(&page.0[number % PAGE_WORDS])
    }

    /// The text that an alias stands for, if it is of this piece.
    pub(super) fn text_at(&self, alias: NonNull<u32>) -> Option<TextAddr> {
        let mut text = self.text.start;
        for page in &self.pages {
            let offset = alias.addr().get().wrapping_sub((&raw const **page).addr());
            if offset < size_of::<Page>() {
                return Some(text.offset(offset as i64));
            }
            text = text.offset(ALIAS_BYTES as i64);
        }
        None
    }
}
