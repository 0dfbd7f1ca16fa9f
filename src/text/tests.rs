//! What a batch does where the platform gets in its way.

use super::{CacheType, PokeCause, PokeError, TextPoke, TextWord, Undone};
use crate::address::{TextAddr, TextRange};
use crate::callsite::{NOP, WordChange};
use crate::fakes::{Event, FakeKernel, FakeText, Fault};
use crate::platform::{ALIAS_BYTES, AliasError, ContextBase, CpuTimeout, Platform};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

const BRK: u32 = 0xd420_0000;

type Meddle = fn(&FakeKernel, TextAddr, NonNull<u8>) -> Result<NonNull<u8>, AliasError>;

/// A fake whose alias of this number is what `alias` makes of it.
struct Meddling {
    kernel: &'static FakeKernel,
    maps: AtomicUsize,
    number: usize,
    alias: Meddle,
}

// SAFETY: as the fake's own, whose text nothing executes; it is the engine's duty to refuse what `alias` makes.
unsafe impl Platform for Meddling {
    fn context_base(&self) -> ContextBase {
        self.kernel.context_base()
    }

    fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
        let alias = self.kernel.map_alias(page)?;
        if self.maps.fetch_add(1, Ordering::Relaxed) == self.number {
            (self.alias)(self.kernel, page, alias)
        } else {
            Ok(alias)
        }
    }

    fn unmap_alias(&self, page: TextAddr, alias: NonNull<u8>) {
        self.kernel.unmap_alias(page, alias);
    }

    fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
        self.kernel.synchronize_cpus()
    }

    fn quiesce(&self, stubs: &[TextRange]) -> Result<(), CpuTimeout> {
        self.kernel.quiesce(stubs)
    }
}

/// A fake of which another CPU than the running one is a Cortex-A53 r0p2.
struct Mixed(&'static FakeKernel);

// SAFETY: as the fake's own.
unsafe impl Platform for Mixed {
    fn context_base(&self) -> ContextBase {
        self.0.context_base()
    }

    fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
        self.0.map_alias(page)
    }

    fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
        self.0.synchronize_cpus()
    }

    fn quiesce(&self, stubs: &[TextRange]) -> Result<(), CpuTimeout> {
        self.0.quiesce(stubs)
    }

    fn has_clean_errata(&self) -> bool {
        true
    }
}

/// Three pages, each with a NOP at its start.
fn three_pages() -> (&'static FakeKernel, [TextAddr; 3]) {
    let mut text = FakeText::new(0xffff_8000_8000_0000);
    let places = [0, 1, 2].map(|page| {
        text.skip_to(page * ALIAS_BYTES as usize);
        text.words(&[NOP])
    });
    (text.build(), places)
}

fn change_all(kernel: &'static FakeKernel, platform: &dyn Platform, places: [TextAddr; 3]) -> Result<(), PokeError> {
    let word = |at| {
        // SAFETY: 1. and 2. a page of the fake's text begins there.
        unsafe { TextWord::new(at) }
    };
    let changes = || places.into_iter().map(|at| WordChange { at: word(at), old: NOP, new: BRK });
    // SAFETY: 1. nothing executes the fake's text.
    unsafe { TextPoke::new(platform, kernel).apply_quiet(&changes) }
}

#[test]
fn one_word_that_cannot_be_written_back_does_not_keep_the_others_from_it() {
    let (kernel, places) = three_pages();
    let alias = |kernel: &FakeKernel, page: TextAddr, _| {
        kernel.overwrite(page.offset(-2 * ALIAS_BYTES as i64), 0);
        Err(AliasError { page, reason: "somebody else is at work" })
    };
    let platform = Meddling { kernel, maps: AtomicUsize::new(0), number: 2, alias };
    let error = change_all(kernel, &platform, places).unwrap_err();
    assert_eq!((error.at, error.undone), (places[2], Undone::AllBut(1)));
    assert_eq!(places.map(|at| kernel.word(at)), [0, NOP, NOP]);
}

#[test]
fn what_can_not_be_stored_again_is_undone() {
    for number in 3..6 {
        let (kernel, places) = three_pages();
        let alias = |_: &FakeKernel, page, _| Err(AliasError { page, reason: "somebody else is at work" });
        let platform = Meddling { kernel, maps: AtomicUsize::new(0), number, alias };
        let error = change_all(kernel, &platform, places).unwrap_err();
        assert!(matches!(error.cause, PokeCause::Alias(_)), "{error}");
        assert_eq!((error.at, error.undone), (places[number - 3], Undone::Entirely));
        assert_eq!(places.map(|at| kernel.word(at)), [NOP; 3]);
        let events = kernel.take_events();
        let told = events.iter().rposition(|event| *event == Event::SynchronizeCpus).unwrap();
        let again = events[told..].iter().filter_map(|event| match event {
            Event::Store(at, word) => Some((*at, *word)),
            _ => None,
        });
        // The way back is from the first word on as well.
        assert!(again.eq(places.map(|at| (at, NOP))), "{events:?}");
    }
}

#[test]
fn what_can_not_be_stored_again_on_the_way_back_either_is_not_confirmed() {
    let (kernel, places) = three_pages();
    let alias = |kernel: &FakeKernel, page, _| {
        // Three aliases to write it back, and then one to store it again.
        kernel.set_fault(Some(Fault::Alias(3)));
        Err(AliasError { page, reason: "somebody else is at work" })
    };
    let platform = Meddling { kernel, maps: AtomicUsize::new(0), number: 4, alias };
    let error = change_all(kernel, &platform, places).unwrap_err();
    assert_eq!((error.at, error.undone), (places[1], Undone::Unconfirmed));
    assert_eq!(places.map(|at| kernel.word(at)), [NOP; 3]);
}

#[test]
fn an_alias_of_another_page_is_not_stored_to_again() {
    let (kernel, places) = three_pages();
    let alias = |_: &FakeKernel, _, alias: NonNull<u8>| {
        // SAFETY: inside the text, which goes on behind this page: another word, which is not what was written.
        Ok(unsafe { alias.add(4) })
    };
    let platform = Meddling { kernel, maps: AtomicUsize::new(0), number: 3, alias };
    let error = change_all(kernel, &platform, places).unwrap_err();
    assert!(matches!(error.cause, PokeCause::WrongAlias { text: BRK, .. }), "{error}");
    assert!(!kernel.take_events().iter().any(|event| matches!(event, Event::Store(at, _) if !places.contains(at))));
}

#[test]
fn a_platform_on_hardware_has_each_word_stored_once() {
    let (kernel, places) = three_pages();
    kernel.set_may_be_emulated(false);
    change_all(kernel, kernel, places).unwrap();
    let events = kernel.take_events();
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Store(..))).count(), places.len());
    assert!(events.ends_with(&[Event::SynchronizeCpus, Event::EndBatch]), "{events:?}");
}

#[test]
fn where_a_clean_must_invalidate_every_line_is_cleaned_so() {
    let (kernel, places) = three_pages();
    // CTR_EL0 and MIDR_EL1 of a Cortex-A53 r0p2.
    kernel.set_cache_type(CacheType::from_ctr(0x8444_8004).on_cpu(0x410f_d032));
    change_all(kernel, kernel, places).unwrap();
    let events = kernel.take_events();
    let cleaned = events.iter().filter_map(|event| match event {
        Event::CleanAndInvalidate(line) => Some(*line),
        Event::Clean(line) => panic!("{line} was cleaned without"),
        _ => None,
    });
    assert!(cleaned.eq(places), "{events:?}");

    // And where only the platform knows of such a CPU.
    let (kernel, places) = three_pages();
    change_all(kernel, &Mixed(kernel), places).unwrap();
    let events = kernel.take_events();
    assert!(events.contains(&Event::CleanAndInvalidate(places[0])), "{events:?}");
    assert!(!events.iter().any(|event| matches!(event, Event::Clean(_))), "{events:?}");
}

#[test]
fn nothing_is_undone_and_nobody_interrupted_where_nothing_was_written() {
    let (kernel, places) = three_pages();
    kernel.set_fault(Some(Fault::Write(0)));
    let error = change_all(kernel, kernel, places).unwrap_err();
    assert_eq!(error.undone, Undone::Entirely);
    assert!(!kernel.take_events().contains(&Event::SynchronizeCpus));
}

#[test]
fn an_alias_that_is_not_aligned_is_given_back_and_not_written_to() {
    let (kernel, places) = three_pages();
    // SAFETY: inside the page.
    let alias = |_: &FakeKernel, _, alias: NonNull<u8>| Ok(unsafe { alias.add(2) });
    let platform = Meddling { kernel, maps: AtomicUsize::new(0), number: 0, alias };
    let error = change_all(kernel, &platform, places).unwrap_err();
    assert!(matches!(error.cause, PokeCause::Alias(AliasError { page, .. }) if page == places[0]), "{error}");
    let page = places[0];
    assert_eq!(kernel.take_events(), [Event::Mask, Event::Map(page), Event::Unmap(page), Event::Restore]);
}
