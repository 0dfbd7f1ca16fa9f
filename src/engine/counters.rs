//! Ops that count: their counters, given and taken back, and what they say.
//!
//! An [`Ops::counter`](Ops::counter) that is registered has a counter in each CPU's area; what its callsites count
//! there is the sum. When it goes, and nobody is inside a stub that counts for it any more, the sum moves into the ops
//! itself, and the counters are there for another one.

use super::Engine;
use super::error::{InitError, RegisterError};
use super::members::Member;
use super::registry::{Registry, Tools};
use crate::address::TextAddr;
#[cfg(feature = "module")]
use crate::address::TextRange;
use crate::insn::{EncodeError, UImm};
use crate::ops::{Action, ExitHandler, HookId, Ops};
use crate::platform::ContextBase;
use crate::record::CpuArea;
use crate::record::hits::CallsiteHits;
use crate::stub::StubEnv;
use crate::stub::entry::Stubs;
#[cfg(target_os = "none")]
use crate::text::Machine as _;
use core::sync::atomic::Ordering;

/// A function and how often it was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionHits<'a> {
    /// The function.
    pub function: TextAddr,
    /// Its name.
    pub name: Option<&'a str>,
    /// How often its callsite was hit.
    pub hits: u64,
}

impl Engine {
    /// How many calls an [`Ops::counter`](Ops::counter) has counted, in all the times that it was registered.
    ///
    /// While it is registered, calls that come meanwhile may be in the sum or not; once it is unregistered it is exact.
    pub fn hits(&self, ops: &Ops) -> u64 {
        // Under the lock, so that the counters are not taken back between one look and the other.
        let registry = self.lock();
        let number = registry.members.find(ops);
        let counter = number.and_then(|number| registry.members.get(number)?.counter);
        let mut hits = ops.hits.load(Ordering::Relaxed);
        if let Some(counter) = counter {
            self.platform.for_each_cpu_area(&mut |area| hits = hits.wrapping_add(area.hits(counter.into())));
        }
        hits
    }

    /// How often the function at this address was called; `None` where no callsite of it has a counter in `hits`.
    pub fn function_hits(&self, hits: &CallsiteHits, function: TextAddr) -> Option<u64> {
        let registry = self.lock();
        let table = &registry.region_of(function)?.table;
        hits.of(&table.callsite(table.find(function)?)?)
    }

    /// Shows every function that was called at least once, in the order of their addresses.
    pub fn for_each_function_hit(&self, hits: &CallsiteHits, mut show: impl FnMut(FunctionHits<'_>)) {
        let registry = self.lock();
        for region in &registry.regions {
            for (_, callsite) in region.callsites(0..region.table.len()) {
                if let Some(hits @ 1..) = hits.of(&callsite) {
                    let function = callsite.function();
                    show(FunctionHits { function, name: region.name(function), hits });
                }
            }
        }
    }
}

/// What the platform and the machine say that stubs can use.
pub(super) fn env(stubs: Stubs, tools: Tools) -> Result<StubEnv, InitError> {
    let cpu = tools.platform.cpu_base();
    cpu.map(reaches_all).transpose().map_err(InitError::CpuAreaOffset)?;
    Ok(StubEnv { stubs, context: tools.platform.context_base(), cpu, atomics: tools.machine.has_atomics() })
}

/// Whether one ADD reaches all of the area.
fn reaches_all(base: ContextBase) -> Result<(), EncodeError> {
    if !base.offset.is_multiple_of(8) {
        return Err(EncodeError::Misaligned { field: "offset", value: base.offset.into(), multiple_of: 8 });
    }
    UImm::<12>::new(u32::from(base.offset) + u32::from(CpuArea::LAST)).map(drop)
}

/// Gives an ops what its frames are known by.
fn hook(ops: &'static Ops, exit: ExitHandler) -> Result<HookId, RegisterError> {
    let hook = HookId::take(ops, exit).ok_or(RegisterError::TooManyOps)?;
    // It has one where another engine has it.
    if ops.hook.compare_exchange(0, hook.get(), Ordering::Relaxed, Ordering::Relaxed).is_err() {
        hook.give_back();
        return Err(RegisterError::AlreadyRegistered);
    }
    Ok(hook)
}

impl Registry {
    /// Gives an ops a number, and what it counts or hooks with.
    pub(super) fn add(&mut self, member: Member) -> Result<usize, RegisterError> {
        let has_cpu = self.env.as_ref().is_some_and(|env| env.cpu.is_some());
        let (action, ops) = (member.action, member.ops);
        if matches!(action, Action::Record { .. }) && !has_cpu {
            return Err(RegisterError::NoCpuArea);
        }
        let number = self.members.add(member)?;
        if matches!(action, Action::Count) && has_cpu {
            self.members.give_counter(number);
        }
        if let Some(exit) = ops.exit_handler() {
            let hooked = hook(ops, exit);
            if let (Some(member), Ok(hook)) = (self.members.get_mut(number), hooked) {
                member.hook = Some(hook);
            }
            if let Err(error) = hooked {
                drop(self.members.remove(number));
                return Err(error);
            }
        }
        Ok(number)
    }

    /// Takes the number away again. Nobody can be inside a stub that was made for this ops any more.
    pub(super) fn remove(&mut self, number: usize, tools: Tools) {
        debug_assert!(!self.sets.some_has(number), "its stub holds the ops");
        let Some(Member { ops, counter, hook, .. }) = self.members.remove(number) else { return };
        if let Some(hook) = hook {
            ops.hook.store(0, Ordering::Relaxed);
            hook.give_back();
        }
        let Some(counter) = counter else { return };
        let mut hits = 0_u64;
        tools.platform.for_each_cpu_area(&mut |area| hits = hits.wrapping_add(area.take_hits(counter.into())));
        ops.hits.fetch_add(hits, Ordering::Relaxed);
    }

    /// Whether every callsite that is planned to have the ops of this number has a counter, if it needs one.
    pub(super) fn check_counters(&self, number: usize) -> Result<(), RegisterError> {
        let Some(Action::CountCallsites(hits)) = self.members.get(number).map(|member| member.action) else {
            return Ok(());
        };
        for region in &self.regions {
            let gets_it = |next| self.sets.members(next) >> number & 1 == 1;
            let mut planned = region.planned_callsites().filter(|(next, _)| gets_it(*next));
            if let Some((_, callsite)) = planned.find(|(_, callsite)| !hits.covers(callsite.call_addr())) {
                let function = callsite.function();
                return Err(RegisterError::NoCounter { function, name: self.name(function) });
            }
        }
        Ok(())
    }
}

impl Member {
    /// Whether there are counters for all callsites of this text, where the ops needs them.
    #[cfg(feature = "module")]
    pub(super) fn can_count(&self, text: TextRange) -> bool {
        match self.action {
            Action::CountCallsites(hits) => hits.covers(text.start.offset(4)) && hits.covers(text.end.offset(-4)),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CpuArea, Engine};
    use crate::address::{TextAddr, TextRange};
    use crate::engine::{InitError, RegisterError};
    use crate::fakes::{COMPILED, FakeKernel, FakeText, Fault};
    use crate::filter::{Filter, Rule};
    use crate::ops::Ops;
    use crate::platform::{AliasError, BaseRegister, ContextBase, CpuTimeout, Platform};
    use crate::record::COUNTERS;
    use crate::record::hits::CallsiteHits;
    use core::ptr::NonNull;
    use core::sync::atomic::{AtomicU64, Ordering};
    use std::boxed::Box;
    use std::vec::Vec;
    extern crate std;

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
}
