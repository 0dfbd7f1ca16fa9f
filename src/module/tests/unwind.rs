//! What an object has of an unwind table becomes the module's, or is refused.

use super::fixture::{Host, KERNEL, Maker, RET, row};
use crate::address::TextAddr;
use crate::callsite::NOP;
use crate::context::unwind::{Piece, TextSection, Unknown, UnplacedError, UnwindTableError};
use crate::module::{LoadError, Placement, Segment};
use object::write::{SectionId, StandardSection};
use object::{SectionKind, elf};
use std::vec::Vec;

const FAR: u64 = KERNEL + 0x1000_0000;

type Sections = Vec<(SectionId, TextSection)>;

/// A section of so many words, of which the first has no frame yet and the others have one of so many bytes.
fn section(maker: &mut Maker, name: &str, words: usize, frame: u32) -> (SectionId, TextSection) {
    let id = maker.section(name, SectionKind::Text, elf::SHF_ALLOC | elf::SHF_EXECINSTR);
    maker.object.append_section_data(id, &NOP.to_le_bytes().repeat(words), 64);
    maker.symbol(name, object::SymbolKind::Text, object::write::SymbolSection::Section(id), 0);
    let pieces = [Piece { start: 0, rows: [(0, row(0)), (1, row(frame))].into() }].into();
    (id, TextSection { pieces, end: 4 * words as u64 })
}

fn sections(maker: &mut Maker) -> Sections {
    [("one", 3, 16), ("two", 70_000, 32), ("three", 20, 48)]
        .map(|(name, words, frame)| section(maker, name, words, frame))
        .into()
}

#[test]
fn each_section_has_its_rows_where_the_loader_has_put_it() {
    let mut maker = Maker::new();
    let sections = sections(&mut maker);
    maker.unwind_table(&sections);
    let host = Host::new(FAR);
    let mut modules = host.modules();
    // SAFETY: nothing of a module is executed here.
    let id = unsafe { modules.load("sections", &maker.write(), Placement::Anywhere) }.unwrap();
    let module = modules.get(id).unwrap();
    let (table, text) = (module.unwind_table().unwrap(), module.range(Segment::Text));
    let [mut start, end] = [text.start.get(), module.stub_veneers().unwrap().start.get()];
    for (words, frame) in [(3, 16), (70_000, 32), (20, 48)] {
        let at = |word: u64| table.row(TextAddr::new(start + 4 * word));
        assert_eq!((at(0), at(1), at(words - 1)), (row(0), row(frame), row(frame)), "{frame}");
        start = (start + 4 * words).next_multiple_of(64);
    }
    assert!(start.abs_diff(end) < 64);
    // The loader's veneers are not its business.
    assert_eq!(table.row(TextAddr::new(end)), Err(Unknown::NoText));
    assert_eq!((module.veneers().start.get(), module.veneers().end), (end, text.end));
    assert_eq!(std::format!("{:?}", table.text()), std::format!("{:?}", module.unwind_table().unwrap().text()));
    // SAFETY: as above.
    unsafe { modules.unload(id) }.unwrap();
}

#[test]
fn a_module_without_a_table_has_none() {
    let mut maker = Maker::new();
    let text = maker.text();
    maker.function(text, "f", &[RET]);
    let host = Host::new(FAR);
    let mut modules = host.modules();
    // SAFETY: nothing of a module is executed here.
    let id = unsafe { modules.load("none", &maker.write(), Placement::Anywhere) }.unwrap();
    assert!(modules.get(id).unwrap().unwind_table().is_none());
}

#[test]
fn what_is_about_other_places_than_the_modules_text_is_refused() {
    let refused = |change: &dyn Fn(&mut Maker, &mut Sections)| {
        let mut maker = Maker::new();
        let mut sections = sections(&mut maker);
        change(&mut maker, &mut sections);
        maker.unwind_table(&sections);
        match Host::new(FAR).error_of(&maker.write()) {
            LoadError::UnwindTable(error) => error,
            other => panic!("{other}"),
        }
    };
    let at = |error| match error {
        UnplacedError::Section { index, .. } => index,
        other => panic!("{other}"),
    };
    assert_eq!(at(refused(&|_, sections| sections.swap(0, 1))), 1);
    // Beyond the text's end, and into the next section.
    assert_eq!(at(refused(&|_, sections| sections[2].1.end += 4096)), 2);
    assert_eq!(at(refused(&|_, sections| sections[0].1.end += 64)), 1);
    let data = |maker: &mut Maker, sections: &mut Sections| {
        sections[1].0 = maker.object.section_id(StandardSection::Data);
        maker.object.append_section_data(sections[1].0, &[0; 64], 8);
    };
    assert_eq!(at(refused(&data)), 1);
    let init = |maker: &mut Maker, sections: &mut Sections| {
        sections[2].0 = maker.init_text();
        maker.words(sections[2].0, &[RET; 20]);
    };
    assert_eq!(at(refused(&init)), 2);
}

#[test]
fn what_is_no_table_of_an_object_is_refused() {
    let error = |change: &dyn Fn(&mut [u8]), more: &[u8]| {
        let mut maker = Maker::new();
        let sections = sections(&mut maker);
        let id = maker.unwind_table(&sections);
        change(maker.object.section_mut(id).data_mut());
        maker.object.append_section_data(id, more, 1);
        Host::new(FAR).error_of(&maker.write())
    };
    let wrong = |error| LoadError::UnwindTable(UnplacedError::Table(error));
    assert!(matches!(
        error(&|_| {}, &[0]),
        LoadError::UnwindTable(UnplacedError::Table(UnwindTableError::Length { .. }))
    ));
    // One that has its place already.
    assert_eq!(error(&|table| table[3] = b'w', &[]), wrong(UnwindTableError::Magic { found: *b"funw" }));
    assert_eq!(error(&|table| table[4] = 2, &[]), wrong(UnwindTableError::Version { found: 2 }));
    assert_eq!(error(&|table| table[28] = 3, &[]), wrong(UnwindTableError::Header { at: 28, found: 3 }));
    // The number of the first section's pieces, and where the third one's starts.
    assert_eq!(error(&|table| table[32 + 12] = 2, &[]), wrong(UnwindTableError::Piece { index: 3 }));
    assert_eq!(error(&|table| table[32 + 48 + 8] = 20, &[]), wrong(UnwindTableError::Piece { index: 2 }));
    // A list's place, then: what a table of its own would be refused for.
    assert_eq!(error(&|table| table[32 + 48 + 12 + 1] = 0xff, &[]), wrong(UnwindTableError::List { index: 0 }));
}

#[test]
fn relocations_that_fill_in_no_address_of_a_section_are_refused() {
    let error = |offset: u64, number: u32| {
        let mut maker = Maker::new();
        let sections = sections(&mut maker);
        let id = maker.unwind_table(&sections);
        let symbol = maker.object.section_symbol(sections[0].0);
        maker.relocate(id, offset, number, symbol, 0);
        Host::new(FAR).error_of(&maker.write())
    };
    assert!(matches!(error(8, 257), LoadError::RelocationPlace { offset: 8, .. }));
    assert!(matches!(error(32, 258), LoadError::UnknownRelocation { offset: 32, number: 258, .. }));
}
