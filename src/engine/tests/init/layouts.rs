//! What an entry means: where its function begins, by the symbols or by what is said of all.

use super::refusals;
use crate::address::TextAddr;
use crate::callsite::table::TableError;
use crate::callsite::{LandingPad, Layout, MOV_X9_LR, NOP, Refusal};
use crate::engine::tests::{BASE, COMPILED, FORMS, PADDED, PADDED_PREFIXED, PREFIXED, engine_on, init, ops};
use crate::engine::{Image, InitError, RegisterError};
use crate::fakes::FakeText;
use crate::filter::{Filter, Rule};
use crate::symbols::SymbolsError;
use std::format;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

/// A function that begins with so many NOPs of its own, as one of static branches does, behind those of its callsite.
fn with_nops(text: &mut FakeText, name: &str, nops: usize) -> TextAddr {
    let at = text.words(&vec![NOP; 2 + nops]);
    text.words(&[0]);
    text.symbol(name, at, 4 * (3 + nops as u64));
    text.entry(at.get());
    at
}

/// `-fpatchable-function-entry=TOTAL,BEFORE`; returns the function's address and its entry's.
fn of_size(text: &mut FakeText, name: &str, total: usize, before: usize) -> (TextAddr, TextAddr) {
    let entry = text.words(&vec![NOP; total]);
    text.words(&[0, 0]);
    let function = entry.offset(4 * before as i64);
    text.symbol(name, function, 4 * (total - before + 2) as u64);
    text.entry(entry.get());
    (function, entry)
}

#[test]
fn what_an_entry_means_follows_from_where_its_function_begins() {
    for others in FORMS {
        let mut text = FakeText::new(BASE);
        let label = text.words(&[]);
        text.symbol("__text_start", label, 0);
        for n in 0..3 {
            text.function(&format!("f{n}"), others);
        }
        let branches = with_nops(&mut text, "branches", 2);
        let plain = text.function("plain", COMPILED);
        let prefixed = text.function("prefixed", PREFIXED);
        let (kernel, engine) = engine_on(text);
        let counts = init(kernel, &engine).unwrap().counts;
        assert_eq!((counts.accepted, counts.refused), (6, 0), "{others}");
        for function in [branches, plain, prefixed] {
            assert_eq!(kernel.word(function), MOV_X9_LR, "{others}");
        }
        assert_eq!(engine.register(ops(), &Filter::ALL), Ok(6));
        assert_eq!([8, 12].map(|offset| kernel.word(branches.offset(offset))), [NOP; 2], "{others}: its own");
        assert_eq!([-8, -4].map(|offset| kernel.word(prefixed.offset(offset))), [NOP; 2], "{others}: before it");
    }
}

#[test]
fn other_sizes_than_2_and_4_2_are_refused_by_entry_and_reason() {
    let mut text = FakeText::new(BASE);
    let good = text.function("good", COMPILED);
    let sizes = [(2, 1), (3, 1), (5, 3), (6, 4), (1, 0), (2, 2), (3, 2)];
    let functions = sizes.map(|(total, before)| of_size(&mut text, &format!("f{total}_{before}"), total, before));
    // More NOPs at the function than are wanted are nobody's harm.
    let longer = [(4, 0), (3, 0), (6, 2)].map(|(total, before)| of_size(&mut text, "longer", total, before).0);
    let nobodys = text.words(&[NOP, NOP, 0]);
    text.entry(nobodys.get());
    let (kernel, engine) = engine_on(text);
    let counts = init(kernel, &engine).unwrap().counts;
    assert_eq!((counts.accepted, counts.refused), (4, 8));
    let size = |nops| Refusal::PrefixSize { nops };
    let not_nops = |found| Refusal::NotPatchable { found };
    let reasons = [size(1), size(1), size(3), size(4), not_nops([NOP, 0]), not_nops([0, 0]), not_nops([NOP, 0])];
    let mut expected: Vec<_> = functions.iter().map(|(_, entry)| entry.get()).zip(reasons).collect();
    expected.push((nobodys.get(), Refusal::NoFunction));
    assert_eq!(refusals(&engine), expected);
    for function in [good].into_iter().chain(longer) {
        assert_eq!([0, 4].map(|offset| kernel.word(function.offset(offset))), [MOV_X9_LR, NOP]);
    }
    for (function, entry) in functions {
        let words = (-8..=8).step_by(4).map(|offset| kernel.word(function.offset(offset)));
        assert!(words.into_iter().all(|word| word != MOV_X9_LR), "{entry}");
    }
}

#[test]
fn a_symbol_table_that_can_not_be_used_is_told_and_not_taken_for_none() {
    let mut text = FakeText::new(BASE);
    text.function("f", COMPILED);
    let (kernel, engine) = engine_on(text);
    let damage = SymbolsError::Version { found: 2 };
    let damaged = || Image { symbols: None, damage: Some(damage), ..kernel.image() };
    // SAFETY: nothing executes a fake's text.
    let error = unsafe { engine.init(damaged()) }.unwrap_err();
    assert_eq!((error, error.to_string()), (InitError::Symbols(damage), damage.to_string()));
    assert_eq!(kernel.word(TextAddr::new(BASE)), NOP);
    // SAFETY: as above.
    let report = unsafe { engine.init(damaged().with_symbols(kernel.symbols().unwrap())) };
    assert_eq!(report.map(|report| report.counts.accepted), Ok(1));
}

#[test]
fn without_symbols_the_layout_is_stated_or_beyond_doubt() {
    let counts_of = |text: FakeText, layout: Option<Layout>| {
        let (kernel, engine) = engine_on(text);
        let before = kernel.snapshot();
        let image = Image { symbols: None, layout, ..kernel.image() };
        // SAFETY: nothing executes a fake's text.
        let done = unsafe { engine.init(image) };
        if done.is_err() {
            assert_eq!(kernel.snapshot(), before);
        }
        done.map(|report| (report.counts.accepted, report.counts.with_literal, report.counts.refused))
    };
    for (form, stated, with_literal) in
        [(COMPILED, Layout::Plain, 0), (PREFIXED, Layout::Prefixed, 3), (PADDED, Layout::Plain, 0)]
    {
        let functions = || {
            let mut text = FakeText::new(BASE);
            for n in 0..3 {
                text.function(&format!("f{n}"), form);
            }
            text
        };
        assert_eq!(counts_of(functions(), Some(stated)), Ok((3, with_literal, 0)), "{form}");
        let unstated = counts_of(functions(), None);
        match form.landing_pad {
            LandingPad::BtiC => assert_eq!(unstated, Ok((3, 0, 0)), "{form}"),
            LandingPad::None => {
                let entry = TextAddr::new(BASE);
                assert_eq!(unstated, Err(InitError::Table(TableError::LayoutUnknown { entry })), "{form}");
            }
        }
    }
    // BTI C stands in its place in every function, whatever its form; what is no callsite in any layout is no doubt.
    let mut text = FakeText::new(BASE);
    for form in [PADDED, PADDED_PREFIXED, PADDED] {
        text.function("f", form);
    }
    let damaged = text.words(&[1, 2, 3]);
    text.entry(damaged.get());
    assert_eq!(counts_of(text, None), Ok((3, 1, 1)));
    // One function without it is one too many.
    let mut text = FakeText::new(BASE);
    text.function("f", PADDED);
    let other = text.function("g", COMPILED);
    let error = counts_of(text, None).unwrap_err();
    assert_eq!(error, InitError::Table(TableError::LayoutUnknown { entry: other }));
    assert!(error.to_string().contains("with_layout"), "{error}");
}

#[test]
fn without_symbols_a_rule_by_name_says_that_there_are_none() {
    let mut text = FakeText::new(BASE);
    let functions = [text.function("f", COMPILED), text.function("g", COMPILED)];
    let (kernel, engine) = engine_on(text);
    let image = Image { symbols: None, layout: Some(Layout::Plain), ..kernel.image() };
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(image) }.unwrap();
    let parse = |text| Rule::parse(text).unwrap();
    let refused = |rules: &[Rule<'_>]| engine.register(ops(), &Filter::new(rules)).unwrap_err();
    for by_name in ["f", "f*", "!f", "!f*"] {
        let error = refused(&[Rule::address(functions[0]), parse(by_name)]);
        assert_eq!(error, RegisterError::NoNames { rule: 1 }, "{by_name}");
        assert!(error.to_string().contains("no symbol table"), "{error}");
    }
    // An address needs none, whether something is there or not.
    assert_eq!(refused(&[Rule::address(TextAddr::new(1))]), RegisterError::NothingSelected { rule: 0 });
    let ops = ops();
    assert_eq!(engine.register(ops, &Filter::new(&[Rule::address(functions[1])])), Ok(1));
    assert_eq!(engine.unregister(ops), Ok(1));
}
