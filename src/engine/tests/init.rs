//! Init: what becomes a callsite, what is refused, and that a failure leaves nothing behind.

use super::{BASE, COMPILED, FORMS, PADDED, PADDED_PREFIXED, PREFIXED, engine_on, init, ops};
use crate::address::{TextAddr, TextRange};
use crate::callsite::table::{Encoding, TableError};
use crate::callsite::{LandingPad, Layout, MOV_X9_LR, NOP, Refusal};
use crate::engine::{Engine, Image, InitError, LeftOut, RegisterError};
use crate::fakes::{FakeKernel, FakeText, Fault};
use crate::filter::{Filter, Rule};
use crate::symbols::{Convention, Function, Symbols, SymbolsError, encode};
use crate::text::PokeCause;
use std::boxed::Box;
use std::format;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

fn refusals(engine: &Engine) -> Vec<(u64, Refusal)> {
    let mut all = Vec::new();
    engine.for_each_refusal(|(at, refusal)| all.push((at.get(), refusal)));
    all
}

#[test]
fn init_writes_the_first_instruction_of_every_form_and_nothing_else() {
    let mut text = FakeText::new(BASE);
    let functions = FORMS.map(|form| text.function("f", form));
    let (kernel, engine) = engine_on(text);
    let before = kernel.snapshot();
    let counts = init(kernel, &engine).unwrap().counts;
    assert_eq!((counts.accepted, counts.with_landing_pad, counts.with_literal), (4, 2, 2));

    let stubs = kernel.stubs();
    let changed: Vec<u64> = (before.iter().zip(kernel.snapshot()).enumerate())
        .filter(|(_, (old, new))| *old != new)
        .map(|(word, _)| BASE + word as u64 * 4)
        .collect();
    let pads = [0, 4, 0, 4];
    let mut expected: Vec<u64> = functions.iter().zip(pads).map(|(function, pad)| function.get() + pad).collect();
    expected.extend([stubs.caller, stubs.regs_caller, stubs.returning].map(|stub| stub.offset.get()));
    assert_eq!(changed, expected);
    for at in &changed[..4] {
        assert_eq!(kernel.word(TextAddr::new(*at)), MOV_X9_LR);
    }
    // ADD X10, X10, #0x40: the platform's context offset.
    assert_eq!(kernel.word(stubs.caller.offset), 0x9101_014a);
}

#[test]
fn before_init_nothing_can_be_registered_and_after_it_no_second_image() {
    let mut text = FakeText::new(BASE);
    text.function("f", COMPILED);
    let (kernel, engine) = engine_on(text);
    assert_eq!(engine.register(ops(), &Filter::ALL), Err(RegisterError::NotInitialised));
    init(kernel, &engine).unwrap();
    assert_eq!(init(kernel, &engine), Err(InitError::AlreadyDone));
}

#[test]
fn entries_that_are_no_callsites_are_refused_with_the_reason_and_never_written() {
    let mut text = FakeText::new(BASE);
    let good = text.function("good", COMPILED);
    let corrupt = text.words(&[NOP, 0x1234_5678, NOP, 0]);
    let in_use = text.words(&[MOV_X9_LR, NOP]);
    text.symbol("corrupt", corrupt, 8);
    text.symbol("in_use", in_use, 8);
    let unaligned = good.get() + 2;
    for entry in [corrupt.get(), in_use.get(), unaligned, 0x10, good.get()] {
        text.entry(entry);
    }
    let (kernel, engine) = engine_on(text);
    let beyond = BASE + kernel.snapshot().len() as u64 * 4;
    let counts = init(kernel, &engine).unwrap().counts;
    assert_eq!((counts.accepted, counts.refused), (1, 5));
    assert!(beyond > corrupt.get());
    assert_eq!(
        refusals(&engine),
        [
            (0x10, Refusal::OutsideText),
            (good.get(), Refusal::Duplicate),
            (unaligned, Refusal::Misaligned),
            (corrupt.get(), Refusal::NotPatchable { found: [NOP, 0x1234_5678] }),
            (in_use.get(), Refusal::InUse),
        ]
    );
    assert_eq!(kernel.word(corrupt), NOP);
    let ops = ops();
    assert_eq!(engine.register(ops, &Filter::ALL), Ok(1));
    assert_eq!(kernel.word(in_use.offset(4)), NOP);
}

#[test]
fn a_damaged_function_does_not_hide_behind_the_nops_before_it() {
    let mut text = FakeText::new(BASE);
    text.function("whole", PREFIXED);
    text.function("whole too", PREFIXED);
    let damaged = text.function("damaged", PREFIXED);
    let (kernel, engine) = engine_on(text);
    kernel.overwrite(damaged.offset(4), 0x123);
    // SAFETY: nothing executes a fake's text.
    let counts = unsafe { engine.init(kernel.image()) }.unwrap().counts;
    assert_eq!((counts.accepted, counts.refused), (2, 1));
    assert_eq!(refusals(&engine), [(damaged.get() - 8, Refusal::NotPatchable { found: [NOP, 0x123] })]);
    assert_eq!(kernel.word(damaged.offset(-8)), NOP);
}

#[test]
fn a_callsite_at_the_very_end_of_the_text_is_not_read_beyond_it() {
    let mut text = FakeText::new(BASE);
    text.function("f", COMPILED);
    let (kernel, engine) = engine_on(text);
    let last = kernel.stubs().regs_caller.offset.get() + 4;
    let section = Box::leak(vec![last, BASE].into_boxed_slice());
    // SAFETY: the section was leaked for this image.
    let image = unsafe {
        Image::new(
            TextRange::new(TextAddr::new(BASE), TextAddr::new(last + 4)),
            section.as_mut_ptr(),
            16,
            kernel.stubs(),
        )
    }
    .with_layout(Layout::Plain);
    // SAFETY: nothing executes a fake's text.
    let counts = unsafe { engine.init(image) }.unwrap().counts;
    assert_eq!((counts.accepted, counts.refused), (1, 1));
}

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
fn sections_that_can_be_no_table_are_refused_whole() {
    let mut text = FakeText::new(BASE);
    text.function("f", COMPILED);
    let (kernel, engine) = engine_on(text);
    let all = TextRange::new(TextAddr::new(BASE), TextAddr::new(BASE + 64));
    let attempt = |entries: Vec<u64>, bytes: usize, shift: usize| {
        let section = Box::leak(entries.into_boxed_slice()).as_mut_ptr().wrapping_byte_add(shift);
        // SAFETY: the section was leaked for this image; where it is misaligned, it must not be accessed.
        let image = unsafe { Image::new(all, section, bytes, kernel.stubs()) }.with_layout(Layout::Plain);
        // SAFETY: nothing executes a fake's text.
        unsafe { engine.init(image) }
    };
    let truncated = |result| matches!(result, Err(InitError::Table(TableError::Truncated { .. })));
    assert!(truncated(attempt(vec![BASE, BASE], 15, 0)));
    assert!(truncated(attempt(vec![BASE, BASE], 8, 4)));
    assert_eq!(attempt(vec![], 0, 0), Err(InitError::Table(TableError::Empty)));
    assert_eq!(attempt(vec![0; 3], 24, 0), Err(InitError::Table(TableError::NotRelocated { entries: 3 })));
    init(kernel, &engine).unwrap();
}

#[test]
fn relative_entries_give_the_same_callsites() {
    let mut text = FakeText::new(BASE);
    let functions = FORMS.map(|form| text.function("f", form));
    let (kernel, engine) = engine_on(text);
    let entries = [0, 4, -8, -8].iter().zip(functions).map(|(shift, function)| function.offset(*shift).get());
    let section = Box::leak(entries.collect::<Vec<u64>>().into_boxed_slice());
    for entry in &mut *section {
        *entry = entry.wrapping_sub(core::ptr::from_ref(entry).addr() as u64);
    }
    let text = TextRange::new(functions[0], kernel.stubs().regs_caller.offset);
    // SAFETY: the section was leaked for this image.
    let image = unsafe { Image::new(text, section.as_mut_ptr(), 32, kernel.stubs()) };
    let image = image.with_encoding(Encoding::Relative).with_symbols(kernel.symbols().unwrap());
    // SAFETY: nothing executes a fake's text.
    let counts = unsafe { engine.init(image) }.unwrap().counts;
    assert_eq!((counts.accepted, counts.with_literal), (4, 2));
    let mut found = Vec::new();
    engine.for_each_callsite(|status| found.push(status.callsite.function()));
    assert_eq!(found, functions);
}

/// A kernel's image with these entries and all of its text.
fn image_of(kernel: &FakeKernel, section: &'static mut [u64]) -> Image {
    let text = TextRange::new(TextAddr::new(BASE), TextAddr::new(BASE + kernel.snapshot().len() as u64 * 4));
    // SAFETY: the section was leaked by the caller, for images of which one is used at a time.
    let image = unsafe { Image::new(text, section.as_mut_ptr(), size_of_val(section), kernel.stubs()) };
    image.with_symbols(kernel.symbols().unwrap())
}

#[test]
fn a_failed_init_of_relative_entries_can_be_tried_again() {
    let mut text = FakeText::new(BASE);
    let functions = [text.function("f", COMPILED), text.function("g", PREFIXED), text.function("h", PADDED)];
    let broken = text.words(&[0, 0]);
    let (kernel, engine) = engine_on(text);
    let entries = [functions[2].offset(4), functions[1].offset(-8), broken, functions[0]];
    let section = Box::leak(entries.map(TextAddr::get).to_vec().into_boxed_slice());
    for entry in &mut *section {
        *entry = entry.wrapping_sub(core::ptr::from_ref(entry).addr() as u64);
    }
    let start = section.as_mut_ptr();
    let attempt = || {
        // SAFETY: leaked above, and used by one image at a time.
        let section = unsafe { core::slice::from_raw_parts_mut(start, 4) };
        let image = image_of(kernel, section).with_encoding(Encoding::Relative);
        // SAFETY: nothing executes a fake's text.
        unsafe { engine.init(image) }
    };
    for fault in [Fault::Batch, Fault::Write(1), Fault::Cpu(0)] {
        kernel.set_fault(Some(fault));
        assert!(matches!(attempt(), Err(InitError::Text(_))), "{fault:?}");
        kernel.set_fault(None);
        kernel.repair();
    }
    let counts = attempt().unwrap().counts;
    assert_eq!((counts.accepted, counts.with_literal, counts.with_landing_pad, counts.refused), (3, 1, 1, 1));
    let mut found = Vec::new();
    engine.for_each_callsite(|status| found.push(status.callsite.function()));
    assert_eq!(found, functions);
}

#[test]
fn a_section_of_which_nothing_is_accepted_is_an_error_that_leaves_it_as_it_was() {
    let mut text = FakeText::new(BASE);
    let functions = [text.function("f", COMPILED), text.function("g", COMPILED)];
    let (kernel, engine) = engine_on(text);
    // Where the kernel was linked, and has not relocated itself from yet.
    let section = Box::leak(functions.map(|function| function.get() - (1 << 40)).to_vec().into_boxed_slice());
    let start = section.as_mut_ptr();
    let whole = || {
        // SAFETY: leaked above, and used by one at a time.
        unsafe { core::slice::from_raw_parts_mut(start, 2) }
    };
    // SAFETY: nothing executes a fake's text.
    let attempt = |change: fn(Image) -> Image| unsafe { engine.init(change(image_of(kernel, whole()))) };
    let (text, first) = (image_of(kernel, whole()).text, functions[0].offset(-(1 << 40)));
    let outside = InitError::Table(TableError::OutsideText { entries: 2, text, first });
    assert_eq!(attempt(|image| image), Err(outside));
    assert!(outside.to_string().contains("relocate the kernel before init"), "{outside}");
    // The wrong encoding, and then the kernel relocates itself.
    let wrong = attempt(|image| image.with_encoding(Encoding::Relative));
    assert!(matches!(wrong, Err(InitError::Table(TableError::OutsideText { entries: 2, .. }))), "{wrong:?}");
    // One that lies inside, and is nothing there, says that the kernel is where it should be.
    let broken = functions[0].offset(8);
    whole()[1] = broken.get();
    let first = Some((functions[0].offset(-(1 << 40)), Refusal::OutsideText));
    let nothing = InitError::Table(TableError::NothingAccepted { refused: 2, excluded: 0, first });
    assert_eq!(attempt(|image| image), Err(nothing));
    assert!(nothing.to_string().contains("2 refused, 0 excluded"), "{nothing}");
    whole()[1] = functions[1].get() - (1 << 40);
    assert_eq!(engine.register(ops(), &Filter::ALL), Err(RegisterError::NotInitialised));
    for (entry, function) in whole().iter_mut().zip(functions) {
        assert_eq!(*entry, function.get() - (1 << 40), "what was there");
        *entry += 1 << 40;
    }
    let own = |image: Image| image.with_excluded(TextRange::new(TextAddr::new(BASE), TextAddr::new(BASE + 4096)));
    let excluded = InitError::Table(TableError::NothingAccepted { refused: 0, excluded: 2, first: None });
    assert_eq!(attempt(own), Err(excluded));
    assert_eq!(attempt(|image| image).map(|report| report.counts.accepted), Ok(2));
}

#[test]
fn of_callsites_that_overlap_none_is_accepted() {
    for (name, entries, refused, accepted) in [
        ("two", vec![0, 4], vec![0, 4], vec![20]),
        ("three", vec![0, 4, 8], vec![0, 4, 8], vec![20]),
        ("one of them twice", vec![0, 0, 4], vec![0, 0, 4], vec![20]),
        ("none", vec![0, 8], vec![], vec![0, 8, 20]),
        ("a chain", vec![12, 16], vec![12, 16, 20], vec![]),
    ] {
        let mut text = FakeText::new(BASE);
        text.function("good", COMPILED);
        let nops = text.words(&[NOP; 5]);
        let next = text.function("next", COMPILED);
        assert_eq!(next, nops.offset(20));
        entries.iter().for_each(|entry| text.entry(nops.offset(*entry).get()));
        let (kernel, engine) = engine_on(text);
        let image = Image { symbols: None, ..kernel.image() }.with_layout(Layout::Plain);
        // SAFETY: nothing executes a fake's text.
        let counts = unsafe { engine.init(image) }.unwrap().counts;
        assert_eq!((counts.accepted, counts.refused), (1 + accepted.len(), refused.len()), "{name}");
        let expected = refused.iter().map(|at| (nops.offset(*at).get(), Refusal::Overlapping));
        assert_eq!(refusals(&engine), expected.collect::<Vec<_>>(), "{name}");
        for word in (0..28).step_by(4).filter(|word| !accepted.contains(word)) {
            let at = nops.offset(word);
            assert!(kernel.word(at) != MOV_X9_LR, "{name}: {word} was written");
        }
        assert_eq!(engine.register(ops(), &Filter::ALL), Ok(1 + accepted.len()), "{name}");
        assert_eq!(engine.check_text().wrong, 0, "{name}");
    }
}

#[test]
fn callsites_in_another_order_than_their_entries_overlap_all_the_same() {
    let mut text = FakeText::new(BASE);
    let start = text.words(&[NOP, NOP, NOP, NOP, 0]);
    // Two functions that overlap, as only damaged symbols say.
    text.symbol("f", start.offset(8), 12);
    text.symbol("g", start.offset(4), 16);
    for entry in [start.offset(4), start.offset(8)] {
        text.entry(entry.get());
    }
    let good = text.function("good", COMPILED);
    let (kernel, engine) = engine_on(text);
    let counts = init(kernel, &engine).unwrap().counts;
    assert_eq!((counts.accepted, counts.refused, counts.with_literal), (1, 2, 0));
    assert!(refusals(&engine).iter().all(|(_, refusal)| *refusal == Refusal::Overlapping), "{:?}", refusals(&engine));
    assert_eq!(kernel.word(good), MOV_X9_LR);
    assert!((0..4).all(|word| kernel.word(start.offset(4 * word)) == NOP));
}

#[test]
fn functions_of_another_calling_convention_are_refused_and_never_written() {
    for form in FORMS {
        let mut text = FakeText::new(BASE);
        let [plain, vector, behind] = ["plain", "vector", "behind"].map(|name| text.function(name, form));
        let (kernel, engine) = engine_on(text);
        // Under its second name only, and in the midst of another function.
        let function = |name: &str, addr: TextAddr, convention| Function {
            name: name.into(),
            addr: addr.get(),
            size: 8,
            convention,
        };
        let symbols = encode(
            &[
                function("plain", plain, Convention::Base),
                function("vector", vector, Convention::Base),
                function("vector_alias", vector, Convention::Variant),
                function("behind", behind, Convention::Base),
                Function { size: 0, ..function("inside", behind.offset(4), Convention::Variant) },
            ],
            0,
        );
        let symbols = Symbols::parse(symbols.unwrap().leak()).unwrap();
        // SAFETY: nothing executes a fake's text.
        let counts = unsafe { engine.init(kernel.image().with_symbols(symbols)) }.unwrap().counts;
        assert_eq!((counts.accepted, counts.refused), (2, 1), "{form}");
        let refused = refusals(&engine);
        assert_eq!(refused.iter().map(|(_, refusal)| *refusal).collect::<Vec<_>>(), [Refusal::CallingConvention]);
        let entry = vector.get() - 8..vector.get() + 8;
        assert!(entry.contains(&refused[0].0), "{form}: {:#x}", refused[0].0);
        assert!((0..4).all(|word| kernel.word(vector.offset(4 * word)) != MOV_X9_LR), "{form}");
        assert_eq!(engine.register(ops(), &Filter::ALL), Ok(2), "{form}");
    }
}

#[test]
fn a_failed_init_leaves_text_as_it_was_and_can_be_tried_again() {
    for fault in [Fault::Write(9), Fault::Alias(1), Fault::Batch, Fault::Cpu(0)] {
        let mut text = FakeText::new(BASE);
        // On two pages.
        for (n, form) in FORMS.into_iter().cycle().take(16).enumerate() {
            text.skip_to(n * 512);
            text.function(&format!("f{n}"), form);
        }
        let (kernel, engine) = engine_on(text);
        let before = kernel.snapshot();
        kernel.set_fault(Some(fault));
        let error = init(kernel, &engine).unwrap_err();
        assert!(matches!(error, InitError::Text(_)), "{fault:?}: {error:?}");
        kernel.set_fault(None);
        if let InitError::Text(poke) = error
            && let PokeCause::Mismatch { expected, .. } = poke.cause
        {
            kernel.overwrite(poke.at, expected);
        }
        assert_eq!(kernel.snapshot(), before, "{fault:?}");
        assert_eq!(init(kernel, &engine).map(|report| report.counts.accepted), Ok(16), "{fault:?}");
    }
}

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

#[test]
fn a_section_that_can_not_be_written_is_an_error_and_is_left_as_it_is() {
    // More than a page of entries.
    let mut text = FakeText::new(BASE);
    for number in 0..600 {
        text.function(&format!("f{number}"), COMPILED);
    }
    let (kernel, engine) = engine_on(text);
    let of_kernel = kernel.image();
    // SAFETY: the fake has leaked the section; nobody writes it now.
    let entries = unsafe { core::slice::from_raw_parts(of_kernel.section, of_kernel.section_bytes / 8) };
    let shuffled: Vec<u64> = entries.iter().rev().copied().collect();
    let section = Box::leak(shuffled.clone().into_boxed_slice());
    let (start, bytes) = (section.as_mut_ptr(), size_of_val(section));
    let image = || {
        // SAFETY: the section was leaked for this kernel alone; the fake's `load` serves all of the text.
        let image = unsafe { Image::new(of_kernel.text, start, bytes, kernel.stubs()) };
        image.with_symbols(kernel.symbols().unwrap())
    };
    for read_only in [start.addr(), start.addr() + bytes - 1] {
        kernel.set_read_only(read_only as u64);
        // SAFETY: nothing executes a fake's text.
        let error = unsafe { engine.init(image()) }.unwrap_err();
        let at = start.addr().max(read_only / 4096 * 4096) as u64;
        assert_eq!(error, InitError::Table(TableError::NotWritable { start: start.addr() as u64, at }));
        assert!(error.to_string().contains(&format!("{at:#x}")), "{error}");
        // SAFETY: init has failed, so it is ours again.
        let now = unsafe { core::slice::from_raw_parts(start, bytes / 8) };
        assert_eq!(now, shuffled);
    }
    kernel.set_read_only(0);
    // SAFETY: as above.
    assert_eq!(unsafe { engine.init(image()) }.unwrap().counts.accepted, 600);
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
