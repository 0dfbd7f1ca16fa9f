//! What is left out, though it has callsites.

use super::refusals;
use crate::address::{TextAddr, TextRange};
use crate::callsite::NOP;
use crate::callsite::table::TableError;
use crate::engine::tests::{BASE, COMPILED, FORMS, PADDED, engine_on, ops};
use crate::engine::{Image, InitError, LeftOut, RegisterError};
use crate::fakes::FakeText;
use crate::filter::{Filter, Rule};
use std::boxed::Box;
use std::format;
use std::vec::Vec;

#[test]
fn the_engines_own_text_is_left_out_and_counted() {
    let mut text = FakeText::new(BASE);
    let own = text.function("own", COMPILED);
    text.function("theirs", COMPILED);
    let (kernel, engine) = engine_on(text);
    let image = kernel.image().with_excluded(TextRange::new(own, own.offset(12)));
    // SAFETY: nothing executes a fake's text.
    let counts = unsafe { engine.init(image) }.unwrap().counts;
    assert_eq!((counts.accepted, counts.excluded, counts.refused), (1, 1, 0));
    assert_eq!(refusals(&engine), []);
    assert_eq!(kernel.word(own), NOP);
}

#[test]
fn what_is_left_out_by_name_and_by_range_is_never_selected_nor_written() {
    let mut text = FakeText::new(BASE);
    let functions: Vec<TextAddr> = (0..12).map(|n| text.function(&format!("f{n}"), FORMS[n % FORMS.len()])).collect();
    text.symbol("traps::irq", functions[3], 8);
    let (kernel, engine) = engine_on(text);
    let range = TextRange::new(functions[5], functions[7]);
    let left_out: &'static [LeftOut] = Box::leak(Box::new([
        LeftOut::names("f1*"),
        LeftOut::range(range),
        LeftOut::names("traps::*"),
        LeftOut::names("f6"),
        LeftOut::names("\"f[2]\""),
        LeftOut::names("nobody::*"),
        LeftOut::range(TextRange::EMPTY),
    ]));
    let before = kernel.snapshot();
    // SAFETY: nothing executes a fake's text.
    let report = unsafe { engine.init(kernel.image().leave_out(left_out)) }.unwrap();
    // f1, f10, f11, f5, f6, f3; f6 twice.
    let hits: Vec<usize> = left_out.iter().map(LeftOut::functions).collect();
    assert_eq!(hits, [3, 2, 1, 1, 0, 0, 0]);
    assert_eq!((report.counts.accepted, report.counts.left_out, report.counts.refused), (6, 6, 0));
    assert_eq!((report.unmatched, refusals(&engine).len()), (3, 0));
    let left = [1, 3, 5, 6, 10, 11].map(|n| functions[n]);
    assert_eq!(engine.register(ops(), &Filter::ALL), Ok(6));
    let word = |at: TextAddr| ((at.get() - BASE) / 4) as usize;
    for function in left {
        let words = word(function.offset(-8))..word(function.offset(12));
        assert_eq!(kernel.snapshot()[words.clone()], before[words], "{function}");
        let rules = [Rule::address(function)];
        let refused = engine.register(ops(), &Filter::new(&rules));
        assert_eq!(refused, Err(RegisterError::NothingSelected { rule: 0 }));
    }
    // Text that is forgotten is nothing to them.
    assert_eq!(engine.forget(TextRange::new(functions[8], functions[10])), Ok(2));
    assert_eq!(engine.check_text().enabled, 4);
}

#[test]
fn a_pattern_that_is_no_glob_and_nothing_left_over_are_errors_and_names_without_symbols_are_noted() {
    let image = |left_out| {
        let mut text = FakeText::new(BASE);
        text.function("f", PADDED);
        text.function("g", PADDED);
        let (kernel, engine) = engine_on(text);
        (kernel.image().leave_out(left_out), engine)
    };
    static BAD: [LeftOut; 2] = [LeftOut::names("f"), LeftOut::names("[")];
    let (bad, engine) = image(&BAD);
    let (section, bytes) = (bad.section, bad.section_bytes);
    // SAFETY: nothing executes a fake's text.
    let error = unsafe { engine.init(bad) }.unwrap_err();
    assert!(matches!(error, InitError::LeftOut { pattern: "[", .. }), "{error}");
    // SAFETY: init has failed, so it is ours again.
    let entries = unsafe { core::slice::from_raw_parts(section, bytes / 8) };
    assert!(entries.iter().all(|entry| *entry > BASE && *entry < BASE + 0x1000), "{entries:x?}");

    static ALL: [LeftOut; 1] = [LeftOut::names("?")];
    let (all, engine) = image(&ALL);
    // SAFETY: as above.
    let error = unsafe { engine.init(all) }.unwrap_err();
    let nothing = TableError::NothingAccepted { refused: 0, excluded: 2, first: None };
    assert_eq!(error, InitError::Table(nothing));

    static NAMES: [LeftOut; 1] = [LeftOut::names("f")];
    let (named, engine) = image(&NAMES);
    // SAFETY: as above.
    let report = unsafe { engine.init(Image { symbols: None, ..named }) }.unwrap();
    assert_eq!((report.counts.accepted, report.counts.left_out, report.unmatched), (2, 0, 1));
}
