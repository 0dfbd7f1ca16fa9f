//! Sections that can be no table, or only after more has been done to them, and what a failure leaves of them.

use crate::address::{TextAddr, TextRange};
use crate::callsite::table::{Encoding, TableError};
use crate::callsite::{Layout, Refusal};
use crate::engine::tests::{BASE, COMPILED, FORMS, PADDED, PREFIXED, engine_on, init, ops};
use crate::engine::{Image, InitError, RegisterError};
use crate::fakes::{FakeKernel, FakeText, Fault};
use crate::filter::Filter;
use std::boxed::Box;
use std::format;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

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
