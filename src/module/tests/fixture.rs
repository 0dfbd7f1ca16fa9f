//! Objects made for the tests, and a kernel on the host to load them.

use crate::address::{TextAddr, TextRange};
use crate::callsite::NOP;
use crate::context::unwind::{
    Cfa, FpHolds, Piece, ReturnAddress, Row, TextSection, Unknown, Unplaced, encode_unplaced,
};
use crate::fakes::FakeMemory;
use crate::fakes::{COMPILED, FakeKernel, FakeText};
use crate::module::{
    Erratum843419, Exports, Kernel, LoadError, Modules, NewRegion, NotRemoved, RegionCause, RegionError, RegionToken,
    Regions,
};
use object::write::{Object, Relocation, SectionId, StandardSection, Symbol, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope, elf,
};
use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::string::{String, ToString};
use std::sync::Mutex;
use std::vec::Vec;

/// Where the kernel of the tests is, and what it exports.
pub(super) const KERNEL: u64 = 0x4020_0000;
pub(super) const PRINTK: u64 = KERNEL + 0x1230;
pub(super) const JIFFIES: u64 = KERNEL + 0x8008;

pub(super) const RET: u32 = 0xd65f_03c0;
pub(super) const BL: u32 = 0x9400_0000;
pub(super) const ADRP_X0: u32 = 0x9000_0000;
pub(super) const ADD_X0_X0: u32 = 0x9100_0000;
pub(super) const LDR_X0_X0: u32 = 0xf940_0000;

/// An object in the making.
pub(super) struct Maker {
    pub(super) object: Object<'static>,
}

impl Maker {
    pub(super) fn new() -> Self {
        Self { object: Object::new(BinaryFormat::Elf, Architecture::Aarch64, Endianness::Little) }
    }

    pub(super) fn text(&mut self) -> SectionId {
        self.object.section_id(StandardSection::Text)
    }

    /// A section with these flags and, where it isn't the usual, type.
    pub(super) fn section(&mut self, name: &str, kind: SectionKind, flags: elf::SectionFlags) -> SectionId {
        let id = self.object.add_section(Vec::new(), name.into(), kind);
        let sh_type = if kind == SectionKind::UninitializedData { elf::SHT_NOBITS } else { elf::SHT_PROGBITS };
        self.object.section_mut(id).flags = SectionFlags::Elf { sh_type, sh_flags: flags };
        id
    }

    pub(super) fn init_text(&mut self) -> SectionId {
        self.section(".init.text", SectionKind::Text, elf::SHF_ALLOC | elf::SHF_EXECINSTR)
    }

    /// Appends words; returns their offset.
    pub(super) fn words(&mut self, section: SectionId, words: &[u32]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.object.append_section_data(section, &bytes, 4)
    }

    pub(super) fn symbol(&mut self, name: &str, kind: SymbolKind, place: SymbolSection, value: u64) -> SymbolId {
        let symbol = Symbol {
            name: name.into(),
            value,
            size: 4,
            kind,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: place,
            flags: SymbolFlags::None,
        };
        self.object.add_symbol(symbol)
    }

    /// A symbol that others must define.
    pub(super) fn undefined(&mut self, name: &str) -> SymbolId {
        match self.object.symbol_id(name.as_bytes()) {
            Some(known) => known,
            None => self.symbol(name, SymbolKind::Unknown, SymbolSection::Undefined, 0),
        }
    }

    pub(super) fn weak(&mut self, name: &str) -> SymbolId {
        let id = self.undefined(name);
        self.object.symbol_mut(id).weak = true;
        id
    }

    pub(super) fn relocate(&mut self, section: SectionId, offset: u64, number: u32, symbol: SymbolId, addend: i64) {
        let flags = RelocationFlags::Elf { r_type: elf::RelocationType(number) };
        self.object.add_relocation(section, Relocation { offset, symbol, addend, flags }).unwrap();
    }

    /// A function of NOP NOP, `body` and RET, with its symbol and its patchable entry; returns its offset.
    pub(super) fn function(&mut self, section: SectionId, name: &str, body: &[u32]) -> (SymbolId, u64) {
        let mut words = std::vec![NOP, NOP];
        words.extend(body);
        words.push(RET);
        let offset = self.words(section, &words);
        let symbol = self.symbol(name, SymbolKind::Text, SymbolSection::Section(section), offset);
        self.object.symbol_mut(symbol).size = words.len() as u64 * 4;
        self.entry(section, offset);
        (symbol, offset)
    }

    /// A patchable entry, in an entries section of its own.
    pub(super) fn entry(&mut self, section: SectionId, offset: u64) {
        let kind = SectionKind::Data;
        let entries = self.section("__patchable_function_entries", kind, elf::SHF_ALLOC | elf::SHF_WRITE);
        self.object.append_section_data(entries, &[0; 8], 8);
        let symbol = self.object.section_symbol(section);
        self.relocate(entries, 0, 257, symbol, offset as i64);
    }

    /// An export record.
    pub(super) fn export(&mut self, name: &str, symbol: SymbolId) {
        let rodata = self.object.section_id(StandardSection::ReadOnlyData);
        let at = self.object.append_section_data(rodata, name.as_bytes(), 1);
        let exports = self.section(".fentry.exports", SectionKind::ReadOnlyData, elf::SHF_ALLOC);
        let mut record = [0; 24];
        record[8..16].copy_from_slice(&(name.len() as u64).to_le_bytes());
        self.object.append_section_data(exports, &record, 8);
        let strings = self.object.section_symbol(rodata);
        self.relocate(exports, 0, 257, strings, at as i64);
        self.relocate(exports, 16, 257, symbol, 0);
    }

    /// What the object has of an unwind table, of these sections. The addresses in it are offsets.
    pub(super) fn unwind_table(&mut self, sections: &[(SectionId, TextSection)]) -> SectionId {
        let described: Vec<TextSection> = sections.iter().map(|(_, section)| section.clone()).collect();
        let table = encode_unplaced(&described).unwrap();
        let id = self.section(".fentry.unwind", SectionKind::Other, elf::SectionFlags(0));
        self.object.append_section_data(id, &table, 8);
        for (place, (section, described)) in Unplaced::parse(&table).unwrap().address_places().zip(sections) {
            let symbol = self.object.section_symbol(*section);
            self.relocate(id, place, 257, symbol, described.pieces[0].start as i64);
        }
        id
    }

    pub(super) fn write(&self) -> Vec<u8> {
        self.object.write().unwrap()
    }
}

/// The row of a function that has made a frame of so many bytes, or none yet.
pub(super) fn row(frame: u32) -> Result<Row, Unknown> {
    let record = (frame != 0).then_some(frame);
    Ok(Row {
        cfa: Cfa::Sp(frame),
        fp: record.map_or(FpHolds::Callers, FpHolds::Frame),
        saved_fp: record,
        return_address: record.map_or(ReturnAddress::Lr, |frame| ReturnAddress::Saved(frame - 8)),
        is_signed: false,
    })
}

/// A module with some of everything.
pub(super) fn sample() -> Vec<u8> {
    let mut maker = Maker::new();
    let text = maker.text();
    let (printk, jiffies) = (maker.undefined("printk"), maker.undefined("jiffies"));
    let (_, hello) = maker.function(text, "_RNvCs1234_6sample5hello", &[BL, ADRP_X0, ADD_X0_X0, BL]);
    let (ticks, at) = maker.function(text, "ticks", &[ADRP_X0, LDR_X0_X0, LDR_X0_X0]);
    maker.relocate(text, hello + 8, 283, printk, 0);
    maker.relocate(text, hello + 20, 283, ticks, 0);
    let rodata = maker.object.section_id(StandardSection::ReadOnlyData);
    maker.object.append_section_data(rodata, b"hello\0", 1);
    let strings = maker.object.section_symbol(rodata);
    maker.relocate(text, hello + 12, 275, strings, 0);
    maker.relocate(text, hello + 16, 277, strings, 0);
    maker.relocate(text, at + 8, 311, jiffies, 0);
    maker.relocate(text, at + 12, 312, jiffies, 0);

    let data = maker.object.section_id(StandardSection::Data);
    maker.object.append_section_data(data, &[0; 16], 8);
    maker.relocate(data, 8, 257, ticks, 4);
    let bss = maker.object.section_id(StandardSection::UninitializedData);
    maker.object.append_section_bss(bss, 0x2000, 16);
    let common = maker.symbol("shared", SymbolKind::Data, SymbolSection::None, 0);
    *maker.object.symbol_mut(common) = Symbol {
        name: b"shared".to_vec(),
        value: 32,
        size: 40,
        kind: SymbolKind::Data,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Common,
        flags: SymbolFlags::None,
    };

    let init_text = maker.init_text();
    let (_, init) = maker.function(init_text, "fentry_module_init", &[BL, BL]);
    maker.relocate(init_text, init + 8, 283, ticks, 0);
    maker.relocate(init_text, init + 12, 283, printk, 0);
    maker.function(text, "fentry_module_exit", &[]);
    maker.export("ticks", ticks);
    let piece =
        |start, rows: &[(u32, u32)]| Piece { start, rows: rows.iter().map(|(at, frame)| (*at, row(*frame))).collect() };
    let pieces = [piece(0, &[(0, 0), (3, 32), (6, 0)]), piece(28, &[(0, 0)]), piece(52, &[(0, 0), (2, 16)])].into();
    maker.unwind_table(&[(text, TextSection { pieces, end: 64 })]);
    maker.write()
}

std::thread_local! {
    /// The functions that were called, and what the next one returns.
    pub(super) static CALLED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    pub(super) static RESULT: Cell<i32> = const { Cell::new(0) };
}

/// Stands in for a call of a module's function.
///
/// # Safety
///
/// None: nothing is called.
unsafe fn note_call(function: TextAddr) -> i32 {
    CALLED.with_borrow_mut(|called| called.push(function.get()));
    RESULT.get()
}

/// A region as it was added.
#[derive(Debug)]
pub(super) struct Added {
    /// Its token's number.
    pub(super) token: u64,
    pub(super) text: TextRange,
    pub(super) module: String,
    pub(super) entries: Vec<u64>,
    pub(super) symbols: Box<[u8]>,
}

/// Regions that are only noted.
#[derive(Debug, Default)]
pub(super) struct Noted {
    pub(super) regions: Mutex<Vec<Added>>,
    /// Of all that were ever added.
    pub(super) count: Mutex<u64>,
    /// The one to refuse, by its place among all that are added.
    pub(super) refuse: Mutex<Option<u64>>,
    /// How many more removals fail.
    pub(super) stuck: Mutex<usize>,
    /// The method whose next call panics while it has the region.
    pub(super) panics: Mutex<Option<&'static str>>,
}

impl Noted {
    fn panic_if_asked(&self, method: &str) {
        let asked = self.panics.lock().unwrap().take_if(|asked| *asked == method);
        assert!(asked.is_none(), "the fault that was asked for");
    }
}

// SAFETY: (1) to (3) It never touches a region. (4) Each is removed by the number of its token.
unsafe impl Regions for Noted {
    unsafe fn add(&self, region: NewRegion<'_>) -> Result<RegionToken, RegionError> {
        let mut count = self.count.lock().unwrap();
        let number = *count;
        *count += 1;
        let NewRegion { module, text, entries, symbols, .. } = region;
        if *self.refuse.lock().unwrap() == Some(number) {
            return Err(REFUSED.at(text));
        }
        let token = RegionToken::fresh();
        let module = module.to_string();
        self.regions.lock().unwrap().push(Added { token: token.number(), text, module, entries, symbols });
        drop(count);
        self.panic_if_asked("add");
        Ok(token)
    }

    fn remove(&self, token: RegionToken) -> Result<(), NotRemoved> {
        self.panic_if_asked("remove");
        let (mut regions, mut stuck) = (self.regions.lock().unwrap(), self.stuck.lock().unwrap());
        let place = regions.iter().position(|added| added.token == token.number()).unwrap();
        if *stuck > 0 {
            *stuck -= 1;
            return Err(NotRemoved { token, error: STUCK.at(regions[place].text) });
        }
        regions.remove(place);
        Ok(())
    }
}

/// What [`Noted`] says.
pub(super) struct Reason(&'static str);
pub(super) const REFUSED: Reason = Reason("the fault that was asked for");
pub(super) const STUCK: Reason = Reason("a CPU does not come out, as was asked for");

impl Reason {
    pub(super) fn at(&self, text: TextRange) -> RegionError {
        RegionError { text, cause: RegionCause::Other(self.0) }
    }
}

/// The kernel around the loader.
pub(super) struct Host {
    pub(super) memory: FakeMemory,
    pub(super) regions: Noted,
    pub(super) machine: &'static FakeKernel,
}

impl Host {
    /// Memory that may be anywhere is at `anywhere`.
    pub(super) fn new(anywhere: u64) -> Self {
        let mut text = FakeText::new(KERNEL);
        text.function("start", COMPILED);
        Self { memory: FakeMemory::new(anywhere), regions: Noted::default(), machine: text.build() }
    }

    pub(super) fn modules(&self) -> Modules<'_> {
        self.modules_with(Erratum843419::Absent)
    }

    pub(super) fn modules_with(&self, erratum_843419: Erratum843419) -> Modules<'_> {
        let kernel = Kernel {
            memory: &self.memory,
            platform: self.machine,
            machine: self.machine,
            regions: &self.regions,
            erratum_843419,
            call: note_call,
        };
        Modules::new(kernel, Exports::new([("printk", PRINTK), ("jiffies", JIFFIES)]).unwrap())
    }

    pub(super) fn word(&self, address: u64) -> u32 {
        let bytes = self.memory.read(address, 4).unwrap();
        u32::from_le_bytes(bytes.try_into().unwrap())
    }

    pub(super) fn long(&self, address: u64) -> u64 {
        u64::from(self.word(address)) | u64::from(self.word(address + 4)) << 32
    }

    /// Loads one object alone, for the error that it must give, and sees that nothing is left of it.
    pub(super) fn error_of(&self, file: &[u8]) -> LoadError {
        let mut modules = self.modules();
        // SAFETY: nothing of a module is executed here.
        let error = unsafe { modules.load("wrong", file, crate::module::Placement::Anywhere) }.unwrap_err();
        assert_eq!(self.memory.lent_bytes(), 0, "{error}");
        assert!(self.regions.regions.lock().unwrap().is_empty());
        assert_eq!(modules.iter().count(), 0);
        error
    }
}
