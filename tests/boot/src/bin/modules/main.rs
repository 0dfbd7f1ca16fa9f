//! Modules are loaded near the kernel, beyond BL's reach and beyond ADRP's, called and calling in both directions, and
//! unloaded without a trace.
#![no_std]
#![no_main]
#![feature(cfg_sanitize)]

extern crate alloc;

mod in_c;
mod in_flight;
mod named;
mod policy;
mod probed;
mod walks;

use alloc::format;
use alloc::string::String;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use fentry::module::{Erratum843419, LoadError, ModuleId, Modules, Placement, Segment};
use fentry::{Filter, FtraceRegs, Ops, Rule, TextAddr};
use in_c::an_ops_struct_in_c_and_one_in_rust_take_each_others_functions;
use in_flight::a_hooked_call_returns_after_the_module_of_its_ops_was_unloaded;
use loading::memory::PAGES;
use loading::{NOTES, PLACES, file, kernel_sum, kernel_total, load, modules, modules_on, names, unload};
use named::a_trace_of_a_module_names_its_functions_when_it_has_gone;
use policy::a_table_of_a_module_is_checked_put_in_use_and_traced;
use probed::each_instruction_of_a_module_in_c_can_have_a_probe;
use spin::Mutex;
use support::{engine, heap, interrupts, memory::mappings, percpu, smp};
use walks::a_walk_through_a_module_is_true;

support::boot_tests! {
    every_module_works_at_every_distance,
    modules_call_each_other_across_four_gibibytes,
    a_filter_set_before_traces_every_module_from_init_to_exit,
    a_module_calls_a_trampoline_of_the_kernel_at_every_distance,
    a_thousand_loads_while_other_cpus_call_traced_functions,
    every_cut_of_a_module_is_refused,
    no_adrp_stays_where_the_erratum_forbids_it,
    a_hooked_call_returns_after_the_module_of_its_ops_was_unloaded,
    a_trace_of_a_module_names_its_functions_when_it_has_gone,
    a_walk_through_a_module_is_true,
    a_table_of_a_module_is_checked_put_in_use_and_traced,
    an_ops_struct_in_c_and_one_in_rust_take_each_others_functions,
    each_instruction_of_a_module_in_c_can_have_a_probe,
}

type Sum = extern "C" fn(
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
) -> f64;

/// The sum for arguments that are `more` greater than those of [`call_sum`].
fn expected(more: u64) -> f64 {
    let m = more as f64;
    kernel_sum(
        1 + more,
        2 + more,
        3 + more,
        4 + more,
        5 + more,
        6 + more,
        7 + more,
        8 + more,
        9 + more,
        10 + more,
        0.5 + m,
        1.5 + m,
        2.5 + m,
        3.5 + m,
        4.5 + m,
        5.5 + m,
        6.5 + m,
        7.5 + m,
        8.5 + m,
        9.5 + m,
    )
}

fn call_sum(sum: Sum) -> f64 {
    black_box(sum)(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5)
}

/// The function that a module exports by this name.
fn sum_of(modules: &Modules<'_>, id: ModuleId, name: &str) -> Sum {
    let address = modules.get(id).and_then(|module| module.export(name)).expect("exported");
    // SAFETY: each of the functions whose names end in "_sum" has this type.
    unsafe { core::mem::transmute::<*const (), Sum>(core::ptr::with_exposed_provenance(address as usize)) }
}

type Total = extern "C" fn(u64, u64, u64, u64, u64, u64, u64, u64, u64, u64) -> u64;

/// Calls all that a module exports of this kind: every argument reaches the kernel, and the result comes back.
fn check_sums(modules: &Modules<'_>, id: ModuleId, what: &str) {
    let module = modules.get(id).expect("loaded");
    let mut checked = 0;
    for (export, wanted) in [("greeter_sum", expected(1)), ("relay_sum", expected(0) + 0.5)] {
        if module.export(export).is_some() {
            let found = call_sum(sum_of(modules, id, export));
            assert!(found == wanted, "{what}: {export} gives {found} and not {wanted}");
            checked += 1;
        }
    }
    if let Some(address) = module.export("relay_total") {
        // SAFETY: the module's function has this type.
        let total: Total = unsafe { core::mem::transmute(core::ptr::with_exposed_provenance::<()>(address as usize)) };
        assert_eq!(black_box(total)(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), kernel_total(1, 2, 3, 4, 5, 6, 7, 8, 9, 10) + 1);
        checked += 1;
    }
    // A module in C has both, but for a kernel without floating point.
    let is_in_c = module.export("relay_total").is_some();
    assert_eq!(checked, if is_in_c && cfg!(not(target_abi = "softfloat")) { 2 } else { 1 }, "{what}");
}

fn is_in_c(name: &str) -> bool {
    name.starts_with("relay")
}

/// The modules that need no other one, and pass twenty arguments on to the kernel.
fn summing_modules() -> impl Iterator<Item = &'static str> {
    names().filter(|name| is_in_c(name) || *name == "greeter")
}

fn every_module_works_at_every_distance() -> Result<(), String> {
    assert!(names().count() >= 2, "no modules were built");
    let mut modules = modules();
    // The page tables of each place are made, and stay.
    for (_, place) in PLACES {
        let id = load(&mut modules, "greeter", place).map_err(|error| format!("{error}"))?;
        unload(&mut modules, id);
    }
    let before = mappings();
    for (distance, place) in PLACES {
        for name in summing_modules() {
            NOTES.lock().clear();
            let id = load(&mut modules, name, place).map_err(|error| format!("{name}, {distance}: {error}"))?;
            let module = modules.get(id).expect("loaded");
            assert!(module.callsites().len() >= 3, "{name}: {} callsites", module.callsites().len());
            assert!(module.range(Segment::InitText).is_empty());
            check_sums(&modules, id, &format!("{name}, {distance}"));
            unload(&mut modules, id);
            let notes = NOTES.lock().clone();
            assert_eq!(notes.len(), 2, "{name}: {notes:?}");
            if !is_in_c(name) {
                assert_eq!(notes[0], "greeter: the kernel's number is 0x123456789abcdef1");
                assert_eq!(notes[1], "greeter: bye");
            }
        }
    }
    assert_eq!(PAGES.lent_bytes(), 0);
    assert_eq!(mappings(), before);
    Ok(())
}

fn modules_call_each_other_across_four_gibibytes() -> Result<(), String> {
    let error = |error: LoadError| format!("{error}");
    for (own, other) in [(0, 2), (2, 0), (1, 2), (2, 1), (0, 1), (0, 0)] {
        let mut modules = modules();
        let missing = load(&mut modules, "counter", PLACES[own].1);
        assert_eq!(missing, Err(LoadError::Unresolved(alloc::vec![String::from("greeter_sum")])));
        let greeter = load(&mut modules, "greeter", PLACES[other].1).map_err(error)?;
        let counter = load(&mut modules, "counter", PLACES[own].1).map_err(error)?;
        assert_eq!(modules.users(greeter), 1);
        assert!(call_sum(sum_of(&modules, counter, "counter_sum")) == expected(2));
        let next = modules.get(counter).and_then(|module| module.export("counter_next")).expect("exported");
        // SAFETY: the module's function has this type.
        let next: extern "C" fn(usize) -> u64 =
            unsafe { core::mem::transmute(core::ptr::with_exposed_provenance::<()>(next as usize)) };
        assert_eq!([next(0), next(1), next(0)], [102, 205, 207]);
        unload(&mut modules, counter);
        unload(&mut modules, greeter);
    }
    assert_eq!(PAGES.lent_bytes(), 0);
    Ok(())
}

/// So much memory from a module's place on is looked at.
const WINDOW: u64 = 0x10_0000;
static PLACE: AtomicU64 = AtomicU64::new(0);
/// One bit for each eight bytes of the window: a callsite there was called from.
static SEEN: [AtomicU64; WINDOW as usize / 512] = [const { AtomicU64::new(0) }; WINDOW as usize / 512];

extern "C" fn see(ip: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
    let offset = ip.get().wrapping_sub(PLACE.load(Ordering::Relaxed));
    if offset < WINDOW {
        SEEN[offset as usize / 512].fetch_or(1 << (offset / 8 % 64), Ordering::Relaxed);
    }
}

/// Whether one of a function's first words has called.
fn was_seen(function: u64) -> bool {
    let offset = function - PLACE.load(Ordering::Relaxed);
    [offset, offset + 8].iter().any(|at| SEEN[*at as usize / 512].load(Ordering::Relaxed) >> (at / 8 % 64) & 1 != 0)
}

fn seen() -> u32 {
    SEEN.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum()
}

fn a_filter_set_before_traces_every_module_from_init_to_exit() -> Result<(), String> {
    static OPS: Ops = Ops::new(see);
    let (engine, report) = engine();
    for (distance, place) in PLACES {
        PLACE.store(place, Ordering::Relaxed);
        for name in summing_modules() {
            SEEN.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            engine.register(&OPS, &Filter::ALL).map_err(|error| format!("{error}"))?;
            let mut modules = modules();
            let id = load(&mut modules, name, place).map_err(|error| format!("{name}, {distance}: {error}"))?;
            let after_init = seen();
            assert!(after_init >= 1, "{name}, {distance}: init was not traced");
            let module = modules.get(id).expect("loaded");
            let check = engine.check_text();
            assert_eq!(check.enabled, report.counts.accepted + module.callsites().len(), "{name}, {distance}");
            assert_eq!(check.wrong, 0, "{name}, {distance}");

            let export = if is_in_c(name) { "relay_total" } else { "greeter_sum" };
            let address = module.export(export).expect("exported");
            assert!(!was_seen(address));
            check_sums(&modules, id, &format!("{name}, {distance}"));
            assert!(was_seen(address), "{name}, {distance}: {export} was not traced");
            let before_exit = seen();
            unload(&mut modules, id);
            assert!(seen() > before_exit, "{name}, {distance}: exit was not traced");

            engine.unregister(&OPS).map_err(|error| format!("{error}"))?;
            let check = engine.check_text();
            assert_eq!((check.disabled, check.wrong), (report.counts.accepted, 0), "{name}, {distance}");
        }
    }
    assert_eq!(PAGES.lent_bytes(), 0);
    Ok(())
}

/// A callsite out of BL's reach goes by a veneer and a stub.
fn a_module_calls_a_trampoline_of_the_kernel_at_every_distance() -> Result<(), String> {
    static DIRECT: Ops = Ops::direct_call(fentry::direct_trampoline!(one_more));
    static OPS: Ops = Ops::new(see);
    extern "C" fn one_more(mut regs: FtraceRegs<'_>) {
        let a = regs.argument(0).unwrap_or_default();
        // SAFETY: the function adds up whatever numbers it is given.
        unsafe { regs.set_argument(0, a + 1) };
    }
    let (engine, _) = engine();
    for (distance, place) in PLACES {
        PLACE.store(place, Ordering::Relaxed);
        let mut modules = modules();
        let id = load(&mut modules, "greeter", place).map_err(|error| format!("{error}"))?;
        let address = modules.get(id).and_then(|module| module.export("greeter_sum")).expect("exported");
        let rules = [Rule::address(TextAddr::new(address))];
        let sum = || call_sum(sum_of(&modules, id, "greeter_sum"));
        let untraced = sum();
        for beside in [false, true] {
            SEEN.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            engine.register(&DIRECT, &Filter::new(&rules)).map_err(|error| format!("{distance}: {error}"))?;
            if beside {
                engine.register(&OPS, &Filter::new(&rules)).map_err(|error| format!("{distance}: {error}"))?;
            }
            // The first argument counts once.
            let found = sum();
            assert!(found == untraced + 1.0, "{distance}: {found} and not {untraced} and one");
            assert_eq!(was_seen(address), beside, "{distance}");
            engine.unregister(&DIRECT).map_err(|error| format!("{error}"))?;
            if beside {
                engine.unregister(&OPS).map_err(|error| format!("{error}"))?;
            }
            assert!(sum() == untraced);
        }
        assert_eq!(engine.check_text().wrong, 0);
        unload(&mut modules, id);
    }
    assert_eq!(PAGES.lent_bytes(), 0);
    Ok(())
}

#[inline(never)]
extern "C" fn busy(number: u64) -> u64 {
    black_box(number) * 3
}

/// How many calls of [`busy`] each CPU made, and how many of them came to the callback.
static MADE: [AtomicU64; percpu::MAX_CPUS] = [const { AtomicU64::new(0) }; percpu::MAX_CPUS];
static TRACED: [AtomicU64; percpu::MAX_CPUS] = [const { AtomicU64::new(0) }; percpu::MAX_CPUS];

extern "C" fn count(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
    TRACED[percpu::this().index()].fetch_add(1, Ordering::Relaxed);
}

/// What the engine knows: callsites, those with a name of the module counter, those at one of its places.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    callsites: usize,
    named: usize,
    in_module: usize,
}

impl Known {
    fn now() -> Self {
        let mut known = Self { callsites: 0, named: 0, in_module: 0 };
        engine().0.for_each_callsite(|status| {
            let function = status.callsite.function().get();
            let is_there = |place: &(&str, u64)| (place.1..place.1 + WINDOW).contains(&function);
            known.callsites += 1;
            known.named += usize::from(status.name.is_some_and(|name| name.starts_with("counter")));
            known.in_module += usize::from(PLACES.iter().any(is_there));
        });
        known
    }
}

/// Loads and unloads at each place in turn; the reason where that fails. What the module needs is loaded.
fn load_and_unload(modules: &mut Modules<'static>, rounds: usize) -> Result<(), String> {
    for round in 0..rounds {
        let (_, place) = PLACES[round % 3];
        let id = load(modules, "counter", place).map_err(|error| format!("round {round}: {error}"))?;
        if round % 100 == 0 {
            assert!(call_sum(sum_of(modules, id, "counter_sum")) == expected(2));
            let known = Known::now();
            assert!(known.in_module > 0 && known.named > 0, "{known:?}");
        }
        unload(modules, id);
        NOTES.lock().clear();
    }
    Ok(())
}

/// Where the module is that stays, away from those that come and go.
const GREETER: u64 = 0x4800_0000;

/// A thousand; fewer where a module brings floating point in software with it, and is a megabyte instead of six kilobytes.
const ROUNDS: usize = if cfg!(target_feature = "neon") { 1000 } else { 50 };

/// So many loads on this CPU, and nothing else is there after them than before.
fn a_thousand_loads() -> Result<(), String> {
    let (engine, _) = engine();
    let mut modules = modules();
    // Calls the kernel, and is called by the one that comes and goes.
    let greeter = load(&mut modules, "greeter", GREETER).map_err(|error| format!("{error}"))?;
    // What is only made once is made now: page tables of the places, room in the lists of this kernel.
    load_and_unload(&mut modules, PLACES.len())?;
    let (known, mapped) = (Known::now(), mappings());
    let heap = heap::usage();

    load_and_unload(&mut modules, ROUNDS)?;

    // Exactly: not one allocation more, and none that has grown.
    assert_eq!(heap::usage(), heap);
    assert_eq!(mappings(), mapped);
    assert_eq!(Known::now(), known);
    assert_eq!((known.in_module, known.named), (0, 0));
    assert_eq!(engine.check_text().wrong, 0);
    assert!(modules.find("counter").is_none());
    assert!(PLACES.iter().all(|(_, place)| modules.at(TextAddr::new(*place)).is_none()));
    unload(&mut modules, greeter);
    assert_eq!(PAGES.lent_bytes(), 0);
    Ok(())
}

fn a_thousand_loads_while_other_cpus_call_traced_functions() -> Result<(), String> {
    static STOP: AtomicBool = AtomicBool::new(false);
    static RESULT: Mutex<Result<(), String>> = Mutex::new(Ok(()));
    static OPS: Ops = Ops::new(count);

    let (engine, _) = engine();
    let cpus = smp::start_all();
    assert!(cpus > 1, "there is no other CPU");
    engine.register(&OPS, &Filter::new(&[Rule::name("modules::busy")])).map_err(|error| format!("{error}"))?;
    smp::on_all(|cpu| {
        if cpu == 0 {
            *RESULT.lock() = a_thousand_loads();
            STOP.store(true, Ordering::Release);
            return;
        }
        // Time is the count of instructions, and a tick is when the emulator goes on to the next CPU.
        interrupts::start_ticks(Duration::from_nanos(2_000 + 300 * cpu as u64));
        while !STOP.load(Ordering::Acquire) {
            assert_eq!(black_box(busy)(7), 21);
            MADE[cpu].fetch_add(1, Ordering::Relaxed);
        }
        interrupts::stop_ticks();
    });
    engine.unregister(&OPS).map_err(|error| format!("{error}"))?;
    core::mem::replace(&mut *RESULT.lock(), Ok(()))?;
    for cpu in 1..cpus {
        let [made, traced] = [&MADE, &TRACED].map(|calls| calls[cpu].load(Ordering::Relaxed));
        assert!(made > 1000, "CPU {cpu} made {made} calls");
        assert_eq!(traced, made, "CPU {cpu}");
    }
    Ok(())
}

fn every_cut_of_a_module_is_refused() -> Result<(), String> {
    let mut modules = modules();
    // What the module needs is there, so that only its being cut can be the reason.
    let greeter = load(&mut modules, "greeter", PLACES[1].1).map_err(|error| format!("{error}"))?;
    let (whole, before, lent) = (file("counter"), mappings(), PAGES.lent_bytes());
    for length in 0..whole.len() {
        let place = Placement::Near(TextAddr::new(PLACES[1].1));
        // SAFETY: what is cut off is refused before any of it is called.
        let loaded = unsafe { modules.load("cut", &whole[..length], place) };
        assert!(loaded.is_err(), "{length} bytes");
        assert_eq!(PAGES.lent_bytes(), lent, "{length} bytes");
    }
    assert_eq!(mappings(), before);
    unload(&mut modules, greeter);
    Ok(())
}

/// The instruction at an address in a module's text.
fn word_at(address: u64) -> u32 {
    // SAFETY: the text of a module that is loaded is mapped readable.
    unsafe { core::ptr::with_exposed_provenance::<u32>(address as usize).read_volatile() }
}

fn is_adrp(word: u32) -> bool {
    word & 0x9f00_0000 == 0x9000_0000
}

/// This machine's CPUs don't have the erratum; the loader is told that they do.
fn no_adrp_stays_where_the_erratum_forbids_it() -> Result<(), String> {
    static OPS: Ops = Ops::new(see);
    let (engine, _) = engine();
    engine.register(&OPS, &Filter::ALL).map_err(|error| format!("{error}"))?;
    for erratum in [Erratum843419::Absent, Erratum843419::Present] {
        // At ADRP's reach from the kernel's data, and beyond ADR's.
        for (distance, place) in &PLACES[..2] {
            let mut modules = modules_on(erratum);
            let id = load(&mut modules, "edges", *place).map_err(|error| format!("{distance}: {error}"))?;
            let module = modules.get(id).expect("loaded");
            let export = |name| module.export(name).expect("exported");
            let words = ["edges_far", "edges_near"].map(|name| word_at(export(name) + 4));
            assert_eq!((export("edges_far") + 4) % 4096, 0xff8);
            assert_eq!((export("edges_near") + 4) % 4096, 0xffc);
            if erratum == Erratum843419::Present {
                assert_eq!(words[0] >> 26, 0b00_0101, "{distance}: {:#010x} is no B to a veneer", words[0]);
                assert_eq!(words[1] >> 24 & 0x9f, 0x10, "{distance}: {:#010x} is no ADR", words[1]);
            } else {
                assert!(words.into_iter().all(is_adrp), "{distance}: {words:#010x?}");
            }
            // SAFETY: the module's function has this type.
            let hold: extern "C" fn() -> u64 = unsafe {
                core::mem::transmute(core::ptr::with_exposed_provenance::<()>(export("edges_hold") as usize))
            };
            assert_eq!(hold(), 1, "{distance}, {erratum:?}");
            unload(&mut modules, id);
            if erratum == Erratum843419::Absent {
                continue;
            }
            for name in summing_modules().chain(["thousand"]) {
                let id = load(&mut modules, name, *place).map_err(|error| format!("{name}, {distance}: {error}"))?;
                let text = modules.get(id).expect("loaded").range(Segment::Text);
                let ends = (text.start.get()..text.end.get()).step_by(4).filter(|at| at % 4096 >= 0xff8);
                assert!(!ends.map(word_at).any(is_adrp), "{name}, {distance}");
                unload(&mut modules, id);
            }
        }
    }
    engine.unregister(&OPS).map_err(|error| format!("{error}"))?;
    assert_eq!(PAGES.lent_bytes(), 0);
    Ok(())
}
