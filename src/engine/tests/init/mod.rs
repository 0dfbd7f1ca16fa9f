//! Init: what becomes a callsite, what is refused, and that a failure leaves nothing behind.

mod layouts;
mod left_out;
mod sections;

use super::{BASE, COMPILED, FORMS, PREFIXED, engine_on, init, ops};
use crate::address::{TextAddr, TextRange};
use crate::callsite::{Layout, MOV_X9_LR, NOP, Refusal};
use crate::engine::{Engine, Image, InitError, RegisterError};
use crate::fakes::{FakeText, Fault};
use crate::filter::Filter;
use crate::symbols::{Convention, Function, Symbols, encode};
use crate::text::PokeCause;
use std::boxed::Box;
use std::format;
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
