//! Counters: the sum over the CPUs, given and taken back, and a callsite's own.

extern crate std;

use crate::address::{TextAddr, TextRange};
use crate::engine::{Engine, InitError, RegisterError};
use crate::fakes::{COMPILED, FakeKernel, FakeText, Fault};
use crate::filter::{Filter, Rule};
use crate::ops::Ops;
use crate::platform::{AliasError, BaseRegister, ContextBase, CpuTimeout, Platform};
use crate::record::hits::CallsiteHits;
use crate::record::{COUNTERS, CpuArea};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::boxed::Box;
use std::vec::Vec;
/// A fake with areas for two CPUs.
struct WithAreas {
    kernel: &'static FakeKernel,
    offset: u16,
    areas: [CpuArea; 2],
}

// SAFETY: as the fake's own, whose text nothing executes.
unsafe impl Platform for WithAreas {
    fn context_base(&self) -> ContextBase {
        self.kernel.context_base()
    }

    fn cpu_base(&self) -> Option<ContextBase> {
        Some(ContextBase { register: BaseRegister::TpidrEl1, offset: self.offset })
    }

    fn for_each_cpu_area(&self, show: &mut dyn FnMut(&CpuArea)) {
        self.areas.iter().for_each(show);
    }

    fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
        self.kernel.map_alias(page)
    }

    fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
        self.kernel.synchronize_cpus()
    }

    fn quiesce(&self, stubs: &[TextRange]) -> Result<(), CpuTimeout> {
        self.kernel.quiesce(stubs)
    }
}

fn kernel() -> &'static FakeKernel {
    let mut text = FakeText::new(0xffff_8000_0000_0000);
    text.function("sort", COMPILED);
    text.build()
}

fn engine_at(offset: u16) -> (&'static WithAreas, Engine, Result<(), InitError>) {
    let kernel = kernel();
    let platform = Box::leak(Box::new(WithAreas { kernel, offset, areas: [const { CpuArea::new() }; 2] }));
    let engine = Engine::with_machine(platform, kernel);
    // SAFETY: nothing executes a fake's text.
    let done = unsafe { engine.init(kernel.image()) }.map(drop);
    (platform, engine, done)
}

/// The counters of an area that say anything.
fn said(area: &CpuArea) -> Vec<u64> {
    (0..COUNTERS).map(|number| area.hits(number)).filter(|hits| *hits != 0).collect()
}

/// Counts so much in a counter, as a stub on this CPU would.
fn hit(platform: &WithAreas, cpu: usize, counter: usize, hits: u64) {
    let first = (&raw const platform.areas[cpu]).cast::<u8>();
    let counter = first.wrapping_add(CpuArea::counter(counter).into()).cast::<AtomicU64>();
    // SAFETY: the counter's place in the area.
    unsafe { &*counter }.fetch_add(hits, Ordering::Relaxed);
}

#[test]
fn what_the_cpus_count_is_summed_and_goes_into_the_ops_at_the_end() {
    static OPS: [Ops; 2] = [const { Ops::counter() }; 2];
    let (platform, engine, done) = engine_at(0x40);
    done.unwrap();
    for ops in &OPS {
        engine.register(ops, &Filter::ALL).unwrap();
    }
    hit(platform, 0, 0, 3);
    hit(platform, 1, 0, 4);
    hit(platform, 1, 1, 50);
    assert_eq!(OPS.each_ref().map(|ops| engine.hits(ops)), [7, 50]);
    engine.unregister(&OPS[0]).unwrap();
    assert_eq!(OPS.each_ref().map(|ops| engine.hits(ops)), [7, 50]);
    assert_eq!((said(&platform.areas[0]), said(&platform.areas[1])), (Vec::new(), std::vec![50]));
    // Once more, with the counter that was given back.
    engine.register(&OPS[0], &Filter::ALL).unwrap();
    hit(platform, 0, 0, 1);
    assert_eq!(engine.hits(&OPS[0]), 8);
}

#[test]
fn a_failed_registration_gives_the_counter_back() {
    static OPS: [Ops; 2] = [const { Ops::counter() }; 2];
    let (platform, engine, done) = engine_at(0x40);
    done.unwrap();
    platform.kernel.set_fault(Some(Fault::Write(0)));
    assert!(engine.register(&OPS[0], &Filter::ALL).is_err());
    platform.kernel.set_fault(None);
    assert!(matches!(
        engine.register(&OPS[0], &Filter::new(&[Rule::name("none")])),
        Err(RegisterError::NothingSelected { rule: 0 })
    ));
    engine.register(&OPS[1], &Filter::ALL).unwrap();
    hit(platform, 0, 0, 1);
    assert_eq!(OPS.each_ref().map(|ops| engine.hits(ops)), [0, 1]);
}

#[test]
fn without_areas_there_are_counters_but_no_recorders() {
    static COUNTER: Ops = Ops::counter();
    static RECORDER: Ops = Ops::recorder(4);
    let kernel = kernel();
    let engine = Engine::with_machine(kernel, kernel);
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    assert_eq!(engine.register(&RECORDER, &Filter::ALL), Err(RegisterError::NoCpuArea));
    assert_eq!(engine.check_text().enabled, 0);
    assert_eq!(engine.register(&COUNTER, &Filter::ALL), Ok(1));
    assert_eq!(engine.check_text().enabled, 1);
}

#[test]
fn an_area_that_the_stubs_do_not_reach_is_refused() {
    let last = 4096 - size_of::<CpuArea>() as u16;
    assert_eq!(engine_at(last).2, Ok(()));
    for offset in [last + 8, 0x44] {
        assert!(matches!(engine_at(offset).2, Err(InitError::CpuAreaOffset(_))), "{offset}");
    }
}

#[test]
fn a_callsites_own_counter_is_that_of_its_function() {
    static COUNTS: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];
    static HITS: CallsiteHits = CallsiteHits::new(TextAddr::new(0xffff_8000_0000_0000), &COUNTS);
    static OPS: Ops = Ops::callsite_counter(&HITS);
    let (_, engine, done) = engine_at(0x40);
    done.unwrap();
    assert_eq!(engine.register(&OPS, &Filter::ALL), Ok(1));
    let function = TextAddr::new(0xffff_8000_0000_0000);
    COUNTS[1].store(9, Ordering::Relaxed);
    assert_eq!(engine.function_hits(&HITS, function), Some(9));
    assert_eq!(engine.function_hits(&HITS, function.offset(0x100)), None);
    let mut seen = Vec::new();
    engine.for_each_function_hit(&HITS, |found| seen.push((found.function, found.hits)));
    assert_eq!(seen, [(function, 9)]);
    engine.unregister(&OPS).unwrap();
}
