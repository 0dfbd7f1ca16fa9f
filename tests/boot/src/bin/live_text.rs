//! What a batch of changes leaves behind: all of it or nothing, and never a page that is writable and executable.
//!
//! Every callsite of this kernel changes at once, on many pages, while a second CPU goes on running that text.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use fentry::engine::RegisterError;
use fentry::insn::{Branch, Insn, System};
use fentry::platform::ALIAS_BYTES;
use fentry::text::{Hardware, InterruptMask, Machine, PokeCause, Undone};
use fentry::{Engine, Filter, FtraceRegs, Ops, OpsFlags, TextAddr};
use support::exceptions::catch;
use support::memory::{self, Alias, Mapped};
use support::platform::{ALIAS, SYNCHRONIZE};
use support::{engine, interrupts, println, smp};

support::boot_tests! {
    a_batch_whose_alias_fails_changes_nothing_whichever_it_is,
    a_batch_that_a_cpu_does_not_confirm_changes_nothing,
    no_page_is_writable_and_executable_whatever_the_engine_does,
    at_rest_windows_leave_no_writable_alias_of_text,
    a_store_to_text_that_is_traced_faults,
    each_operation_of_the_cpu_is_its_instruction,
    masked_interrupts_are_masked_and_come_back_as_they_were,
}

const ALIASES: [Alias; 2] = [Alias::Permanent, Alias::Window];

static CALLS: AtomicU64 = AtomicU64::new(0);
static LIVE: Ops = Ops::new(count);
static FULL: Ops = Ops::new(count).with_flags(OpsFlags::SAVE_REGS);

extern "C" fn count(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

#[inline(never)]
fn work(x: u64) -> usize {
    alloc::format!("{:x} {}", black_box(x), black_box(x % 7)).len()
}

/// Runs `f` here with each way to write text, while all other CPUs work.
fn while_others_work(f: impl Fn(&'static Engine, Alias) + Sync) {
    let (engine, _) = engine();
    smp::start_all();
    for alias in ALIASES {
        memory::use_alias(alias);
        let stop = AtomicBool::new(false);
        smp::on_all(|cpu| {
            if cpu == 0 {
                f(engine, alias);
                stop.store(true, Ordering::Release);
            }
            while !stop.load(Ordering::Acquire) {
                assert_eq!(work(0x1234_5678), 10);
                smp::pause();
            }
        });
        memory::use_alias(Alias::Permanent);
    }
}

/// What is true before and after: the text to the last bit, and what the engine believes of it.
struct Still {
    text: Vec<u32>,
    enabled: usize,
}

impl Still {
    fn of(engine: &Engine) -> Self {
        let check = engine.check_text();
        assert_eq!(check.wrong, 0);
        Self { text: memory::copy_of_text(), enabled: check.enabled }
    }

    fn check(&self, engine: &Engine, after: &str) {
        let now = Self::of(engine);
        assert_eq!(now.enabled, self.enabled, "{after}");
        let different = self.text.iter().zip(&now.text).filter(|(before, after)| before != after).count();
        assert_eq!(different, 0, "words of text differ after {after}");
    }
}

fn failure(result: Result<usize, RegisterError>) -> Option<(PokeCause, Undone)> {
    match result {
        Ok(_) => None,
        Err(RegisterError::Text { error, .. }) => Some((error.cause, error.undone)),
        Err(other) => panic!("{other}"),
    }
}

/// How far apart the requests are of which one fails. An unoptimised kernel has more pages, and takes longer for each.
const STEP: u64 = if cfg!(debug_assertions) { 17 } else { 1 };

fn a_batch_whose_alias_fails_changes_nothing_whichever_it_is() {
    while_others_work(|engine, alias| {
        for ops in [&LIVE, &FULL] {
            let disabled = Still::of(engine);
            // The stub is written before, by aliases of its own; nothing calls it, so it isn't written back.
            let pages = pages_with_callsites(engine);
            fail_each(engine, &disabled, [2, pages], || engine.register(ops, &Filter::ALL));
            let enabled = Still::of(engine);
            assert!(enabled.enabled > 200);
            fail_each(engine, &enabled, [0, pages], || engine.unregister(ops));
            disabled.check(engine, "all");
            println!("{alias:?}: each {STEP}. alias for {pages} pages failed, both ways");
        }
    });
}

fn pages_with_callsites(engine: &Engine) -> u64 {
    let mut pages = Vec::new();
    engine.for_each_callsite(|status| pages.push(status.callsite.call_addr().get() / ALIAS_BYTES));
    pages.dedup();
    pages.len() as u64
}

/// Lets each request of a change for an alias fail, until none does. It makes so many for stubs, and then two for each of
/// so many pages: to store its words, and to store them again.
fn fail_each(
    engine: &Engine,
    before: &Still,
    [for_stubs, pages]: [u64; 2],
    change: impl Fn() -> Result<usize, RegisterError>,
) {
    for failing in (0..).step_by(STEP as usize) {
        let asked = ALIAS.asked();
        ALIAS.fail_after(failing);
        let Some((cause, undone)) = failure(change()) else {
            ALIAS.succeed();
            assert_eq!(ALIAS.asked() - asked, for_stubs + 2 * pages);
            return;
        };
        // The failed one, those before it, and on the way back two for each page that was written.
        assert_eq!(ALIAS.asked() - asked, failing + 1 + 2 * failing.saturating_sub(for_stubs).min(pages));
        assert!(matches!(cause, PokeCause::Alias(_)));
        assert_eq!(undone, Undone::Entirely);
        before.check(engine, "a failure");
    }
    unreachable!()
}

fn a_batch_that_a_cpu_does_not_confirm_changes_nothing() {
    while_others_work(|engine, _| {
        let disabled = Still::of(engine);
        for _ in 0..3 {
            // The stub is confirmed first, then the callsites.
            for confirmed in 0..2 {
                refuse_to_confirm(engine, &disabled, confirmed, || engine.register(&LIVE, &Filter::ALL));
            }
            let calls = CALLS.load(Ordering::Relaxed);
            assert_eq!(work(1), 3);
            assert_eq!(CALLS.load(Ordering::Relaxed), calls, "nothing is registered");
            engine.register(&LIVE, &Filter::ALL).expect("it can be tried again");
            let enabled = Still::of(engine);
            refuse_to_confirm(engine, &enabled, 0, || engine.unregister(&LIVE));
            assert_eq!(work(1), 3);
            assert!(CALLS.load(Ordering::Relaxed) > calls, "it is still registered");
            engine.unregister(&LIVE).expect("it can be tried again");
            disabled.check(engine, "all");
        }
    });
}

fn refuse_to_confirm(
    engine: &Engine,
    before: &Still,
    confirmed: u64,
    change: impl Fn() -> Result<usize, RegisterError>,
) {
    SYNCHRONIZE.fail_after(confirmed);
    let (cause, undone) = failure(change()).expect("no CPU confirms it");
    assert!(matches!(cause, PokeCause::Cpu(_)));
    assert_eq!(undone, Undone::Entirely, "on the way back they do");
    before.check(engine, "a refusal");
}

fn reaches_text(mapped: &Mapped) -> bool {
    let text = memory::text();
    mapped.reaches(text.start as u64, text.len() as u64)
}

fn no_page_is_writable_and_executable_whatever_the_engine_does() {
    while_others_work(|engine, alias| {
        let check = |when: &str| {
            let mapped = memory::mappings();
            let executable: u64 = mapped.iter().filter(|one| one.executable).map(|one| one.size).sum();
            assert_eq!(executable, memory::text().len() as u64, "exactly text is executable, {when}");
            for one in &mapped {
                assert!(!(one.writable && one.executable), "{when}: {one}");
            }
            let aliases = mapped.iter().filter(|one| one.writable && reaches_text(one)).count();
            assert_eq!(aliases, usize::from(alias == Alias::Permanent), "{when}");
        };
        check("at first");
        for _ in 0..3 {
            engine.register(&LIVE, &Filter::ALL).expect("nothing else is registered");
            check("with everything traced");
            engine.unregister(&LIVE).expect("it is registered");
            check("with nothing traced");
            ALIAS.fail_after(3);
            assert!(engine.register(&LIVE, &Filter::ALL).is_err());
            check("after a failure");
        }
    });
}

/// From a callback, the tables are seen as they are while other CPUs' text is being changed: this one's own window is the
/// only one that can be open, and it never is where a callback can look.
fn at_rest_windows_leave_no_writable_alias_of_text() {
    let (engine, _) = engine();
    memory::use_alias(Alias::Window);
    for round in 0..20 {
        let ops = if round % 2 == 0 { &LIVE } else { &FULL };
        engine.register(ops, &Filter::ALL).expect("nothing else is registered");
        assert_eq!(memory::mappings().into_iter().find(|one| one.writable && reaches_text(one)), None);
        engine.unregister(ops).expect("it is registered");
        assert_eq!(memory::mappings().into_iter().find(|one| one.writable && reaches_text(one)), None);
        for cpu in 0..smp::cpu_count() {
            let window = core::ptr::with_exposed_provenance_mut::<u32>(memory::WINDOWS + cpu * 4096);
            // SAFETY: nothing is mapped there, which is expected.
            let fault = catch(|| unsafe { window.write_volatile(0) });
            assert!(fault.is_err_and(|fault| fault.is_translation()), "the window of CPU {cpu} is open");
        }
        let alias = core::ptr::with_exposed_provenance_mut::<u32>(memory::ALIAS_OFFSET + memory::text().start);
        // SAFETY: as above.
        let fault = catch(|| unsafe { alias.write_volatile(0) });
        assert!(fault.is_err_and(|fault| fault.is_translation()), "the permanent alias is there");
    }
    memory::use_alias(Alias::Permanent);
}

fn a_store_to_text_that_is_traced_faults() {
    let (engine, report) = engine();
    engine.register(&LIVE, &Filter::ALL).expect("nothing else is registered");
    let mut calls = Vec::new();
    engine.for_each_callsite(|status| calls.push(status.callsite.call_addr().get()));
    assert_eq!(calls.len(), report.counts.accepted);
    let traced = Still::of(engine);
    for at in calls.into_iter().step_by(29) {
        let word = core::ptr::with_exposed_provenance_mut::<u32>(at as usize);
        // SAFETY: the store is expected not to happen; NOP could stand there.
        let fault = catch(|| unsafe { word.write_volatile(fentry::callsite::NOP) }).expect_err("text was writable");
        assert!(fault.is_write_permission() && fault.far == at, "{fault}");
    }
    traced.check(engine, "stores that faulted");
    engine.unregister(&LIVE).expect("it is registered");
}

/// The operations, each as the compiler makes it where the engine uses it. In which order the engine does, a fake sees.
mod operation {
    use super::{Hardware, InterruptMask, Machine, TextAddr};

    #[inline(never)]
    pub(super) extern "C" fn clean(at: TextAddr) {
        // SAFETY: never called, only looked at.
        unsafe { Hardware.clean_data_line(at) };
    }

    #[inline(never)]
    pub(super) extern "C" fn clean_and_invalidate(at: TextAddr) {
        // SAFETY: as above.
        unsafe { Hardware.clean_and_invalidate_data_line(at) };
    }

    #[inline(never)]
    pub(super) extern "C" fn invalidate(at: TextAddr) {
        // SAFETY: as above.
        unsafe { Hardware.invalidate_instruction_line(at) };
    }

    #[inline(never)]
    pub(super) extern "C" fn complete() {
        Hardware.complete();
    }

    #[inline(never)]
    pub(super) extern "C" fn synchronize() {
        Hardware.synchronize();
    }

    #[inline(never)]
    pub(super) extern "C" fn mask() -> u64 {
        Hardware.mask_interrupts().daif()
    }

    #[inline(never)]
    pub(super) extern "C" fn restore(daif: u64) {
        // SAFETY: what `mask` has returned.
        let mask = unsafe { InterruptMask::from_daif(daif) };
        // SAFETY: as above.
        unsafe { Hardware.restore_interrupts(mask) };
    }
}

/// The instructions of a function, up to its return, that are for the system: as text, less the hints.
fn system_instructions(function: *const ()) -> Vec<String> {
    let words = (0..64).map(|word| {
        // SAFETY: text is mapped readable, and goes on behind every function of this file.
        Insn::decode(unsafe { function.cast::<u32>().wrapping_add(word).read_volatile() })
    });
    let own = words.take_while(|insn| !matches!(insn, Insn::Branch(Branch::Ret { .. } | Branch::RetAuth { .. })));
    let system = own.filter(|insn| matches!(insn, Insn::System(system) if !matches!(system, System::Hint(_))));
    system.map(|insn| format!("{insn}")).collect()
}

fn each_operation_of_the_cpu_is_its_instruction() {
    // The registers are as the calling convention has it: an argument, or a result.
    let all: [(*const (), &[&str]); 7] = [
        (operation::clean as *const (), &["dc cvau, x0"]),
        (operation::clean_and_invalidate as *const (), &["dc civac, x0"]),
        (operation::invalidate as *const (), &["ic ivau, x0"]),
        (operation::complete as *const (), &["dsb ish"]),
        (operation::synchronize as *const (), &["isb"]),
        (operation::mask as *const (), &["mrs x0, daif", "msr daifset, #3"]),
        (operation::restore as *const (), &["msr daif, x0"]),
    ];
    for (function, expected) in all {
        let found: Vec<String> = system_instructions(function).iter().map(|text| text.to_lowercase()).collect();
        assert_eq!(found, expected);
    }
}

/// That they are inside a window, the platform of this kernel asserts for every alias.
fn masked_interrupts_are_masked_and_come_back_as_they_were() {
    assert!(!interrupts::are_masked());
    let outer = Hardware.mask_interrupts();
    assert!(interrupts::are_masked());
    let inner = Hardware.mask_interrupts();
    // SAFETY: 1. and 2. just masked here, the last one first.
    unsafe { Hardware.restore_interrupts(inner) };
    assert!(interrupts::are_masked());
    // SAFETY: 1. and 2. as above.
    unsafe { Hardware.restore_interrupts(outer) };
    assert!(!interrupts::are_masked());
}
