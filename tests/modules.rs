//! Modules are loaded near the kernel, beyond BL's reach and beyond ADRP's, called and calling in both directions, and
//! unloaded without a trace.
#![no_std]
#![no_main]

extern crate alloc;

#[path = "modules/memory.rs"]
mod memory;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use fentry::module::{
    Erratum843419, Exports, Kernel, LoadError, ModuleId, Modules, Placement, Segment, StubEntries, call,
};
use fentry::text::Hardware;
use fentry::{Filter, FtraceRegs, Ops, Rule, TextAddr};
use memory::PAGES;
use spin::Mutex;
use support::{PLATFORM, engine, memory::mappings, smp};

support::boot_tests! {
    every_module_works_at_every_distance,
    modules_call_each_other_across_four_gibibytes,
    a_filter_set_before_traces_every_module_from_init_to_exit,
    a_thousand_loads_while_other_cpus_call_traced_functions,
    every_cut_of_a_module_is_refused,
    the_cost_of_loading,
}

include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// Near the kernel, beyond BL's reach and beyond ADRP's. The first is behind the heap.
const PLACES: [(&str, u64); 3] = [("near", 0x4600_0000), ("far", 0x5020_0000), ("very far", 0x20_0000_0000)];

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

/// A sum in which every argument counts differently.
#[rustfmt::skip]
#[inline(never)]
extern "C" fn kernel_sum(
    a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64, i: u64, j: u64,
    k: f64, l: f64, m: f64, n: f64, o: f64, p: f64, q: f64, r: f64, s: f64, t: f64,
) -> f64 {
    let whole = [a, b, c, d, e, f, g, h, i, j];
    let parts = [k, l, m, n, o, p, q, r, s, t];
    let mut sum = 0.0;
    for (weight, (whole, part)) in (1_u32..).zip(whole.into_iter().zip(parts)) {
        sum += f64::from(weight) * (whole as f64) + f64::from(weight * 100) * part;
    }
    sum
}

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

static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

extern "C" fn kernel_note(text: *const u8, bytes: usize) {
    // SAFETY: a module passes a text of this length.
    let text = unsafe { core::slice::from_raw_parts(text, bytes) };
    NOTES.lock().push(String::from_utf8_lossy(text).into_owned());
}

extern "C" fn kernel_panic() -> ! {
    panic!("a module panicked");
}

static KERNEL_NUMBER: u64 = 0x1234_5678_9abc_def1;

fentry::export!(kernel_sum);
fentry::export!(kernel_note);
fentry::export!(kernel_panic);
fentry::export!(static KERNEL_NUMBER);

fn kernel() -> Kernel<'static> {
    unsafe extern "C" {
        fn ftrace_caller();
        fn ftrace_regs_caller();
    }
    let address = |stub: unsafe extern "C" fn()| TextAddr::new((stub as *const ()).addr() as u64);
    Kernel {
        memory: &PAGES,
        platform: &PLATFORM,
        machine: &Hardware,
        regions: engine().0,
        stubs: StubEntries { caller: address(ftrace_caller), regs_caller: address(ftrace_regs_caller) },
        erratum_843419: Erratum843419::Absent,
        call,
    }
}

fn modules() -> Modules<'static> {
    Modules::new(kernel(), Exports::linked().expect("the kernel's exports"))
}

fn file(name: &str) -> &'static [u8] {
    MODULES.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("there is no module {name}")).1
}

fn load(modules: &mut Modules<'static>, name: &str, place: u64) -> Result<ModuleId, LoadError> {
    // SAFETY: the modules are this test's own.
    unsafe { modules.load(name, file(name), Placement::Near(TextAddr::new(place))) }
}

fn unload(modules: &mut Modules<'static>, id: ModuleId) {
    // SAFETY: this test calls nothing of the module any more.
    unsafe { modules.unload(id) }.unwrap_or_else(|error| panic!("{error}"));
}

/// The function that a module exports by this name.
fn sum_of(modules: &Modules<'_>, id: ModuleId, name: &str) -> Sum {
    let address = modules.get(id).and_then(|module| module.export(name)).expect("exported");
    // SAFETY: each of the functions whose names end in "_sum" has this type.
    unsafe { core::mem::transmute::<*const (), Sum>(core::ptr::with_exposed_provenance(address as usize)) }
}

fn is_in_c(name: &str) -> bool {
    name.starts_with("relay")
}

fn every_module_works_at_every_distance() -> Result<(), String> {
    assert!(MODULES.len() >= 2, "no modules were built");
    let mut modules = modules();
    // The page tables of each place are made, and stay.
    for (_, place) in PLACES {
        let id = load(&mut modules, "greeter", place).map_err(|error| format!("{error}"))?;
        unload(&mut modules, id);
    }
    let before = mappings();
    for (distance, place) in PLACES {
        for (name, _) in MODULES.iter().filter(|(name, _)| *name != "counter") {
            NOTES.lock().clear();
            let id = load(&mut modules, name, place).map_err(|error| format!("{name}, {distance}: {error}"))?;
            let module = modules.get(id).expect("loaded");
            assert!(module.callsites().len() >= 3, "{name}: {} callsites", module.callsites().len());
            assert!(module.range(Segment::InitText).is_empty());
            let (found, wanted) = if is_in_c(name) {
                (call_sum(sum_of(&modules, id, "relay_sum")), expected(0) + 0.5)
            } else {
                (call_sum(sum_of(&modules, id, "greeter_sum")), expected(1))
            };
            assert!(found == wanted, "{name}, {distance}: {found} and not {wanted}");
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

fn see(ip: TextAddr, _: TextAddr, _: &'static Ops, _: &mut FtraceRegs) {
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
        for (name, _) in MODULES.iter().filter(|(name, _)| *name != "counter") {
            SEEN.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            engine.register(&OPS, &Filter::ALL).map_err(|error| format!("{error}"))?;
            let mut modules = modules();
            let id = load(&mut modules, name, place).map_err(|error| format!("{name}, {distance}: {error}"))?;
            let after_init = seen();
            assert!(after_init >= 1, "{name}, {distance}: init was not traced");
            let module = modules.get(id).expect("loaded");
            let survey = engine.survey();
            assert_eq!(survey.enabled, report.census.accepted + module.callsites().len(), "{name}, {distance}");
            assert_eq!(survey.wrong, 0, "{name}, {distance}");

            let (export, wanted) =
                if is_in_c(name) { ("relay_sum", expected(0) + 0.5) } else { ("greeter_sum", expected(1)) };
            let address = module.export(export).expect("exported");
            assert!(!was_seen(address));
            let found = call_sum(sum_of(&modules, id, export));
            assert!(found == wanted, "{name}, {distance}: {found} and not {wanted}");
            assert!(was_seen(address), "{name}, {distance}: {export} was not traced");
            let before_exit = seen();
            unload(&mut modules, id);
            assert!(seen() > before_exit, "{name}, {distance}: exit was not traced");

            engine.unregister(&OPS).map_err(|error| format!("{error}"))?;
            let survey = engine.survey();
            assert_eq!((survey.disabled, survey.wrong), (report.census.accepted, 0), "{name}, {distance}");
        }
    }
    assert_eq!(PAGES.lent_bytes(), 0);
    Ok(())
}

#[inline(never)]
extern "C" fn busy(number: u64) -> u64 {
    black_box(number) * 3
}

/// Each load takes more than 1/1000 of the heap's 64 MiB, so that a leak of even a quarter of it would end the run.
fn a_thousand_loads_while_other_cpus_call_traced_functions() -> Result<(), String> {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    static STOP: AtomicBool = AtomicBool::new(false);
    static STOPPED: AtomicU64 = AtomicU64::new(0);
    static FAILED: Mutex<Option<String>> = Mutex::new(None);
    fn count(_: TextAddr, _: TextAddr, _: &'static Ops, _: &mut FtraceRegs) {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
    static OPS: Ops = Ops::new(count);

    let (engine, _) = engine();
    smp::start_all();
    engine.register(&OPS, &Filter::new(&[Rule::name("modules::busy")])).map_err(|error| format!("{error}"))?;
    let before = mappings();
    smp::on_all(|cpu| {
        if cpu != 0 {
            while !STOP.load(Ordering::Acquire) {
                for _ in 0..500 {
                    assert_eq!(black_box(busy)(7), 21);
                }
                // Until the loader asks for something: machines with fewer CPUs than this one are to get on as well.
                // SAFETY: sleeping is always sound.
                unsafe { core::arch::asm!("wfi", options(nomem, nostack, preserves_flags)) };
            }
            STOPPED.fetch_add(1, Ordering::AcqRel);
            return;
        }
        let mut modules = modules();
        for round in 0..1000 {
            let (_, place) = PLACES[round % 3];
            match load(&mut modules, "greeter", place) {
                Ok(id) if round % 100 == 0 => {
                    assert!(call_sum(sum_of(&modules, id, "greeter_sum")) == expected(1));
                    unload(&mut modules, id);
                }
                Ok(id) => unload(&mut modules, id),
                Err(error) => {
                    *FAILED.lock() = Some(format!("round {round}: {error}"));
                    break;
                }
            }
            NOTES.lock().clear();
        }
        STOP.store(true, Ordering::Release);
        while STOPPED.load(Ordering::Acquire) + 1 < smp::online().count() as u64 {
            // Wakes them.
            let _ = smp::synchronize();
        }
    });
    engine.unregister(&OPS).map_err(|error| format!("{error}"))?;
    if let Some(reason) = FAILED.lock().take() {
        return Err(reason);
    }
    assert!(CALLS.load(Ordering::Relaxed) > 1000, "{} calls", CALLS.load(Ordering::Relaxed));
    assert_eq!(PAGES.lent_bytes(), 0);
    assert_eq!(mappings(), before);
    assert_eq!(engine.survey().wrong, 0);
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

fn the_cost_of_loading() -> Result<(), String> {
    let mut modules = modules();
    for (name, _) in MODULES.iter().filter(|(name, _)| *name != "counter") {
        let start = support::count::start();
        let id = load(&mut modules, name, PLACES[2].1).map_err(|error| format!("{error}"))?;
        let instructions = start.map(|count| count.instructions());
        let module = modules.get(id).expect("loaded");
        let (callsites, bytes) = (module.callsites().len(), module.range(Segment::Text).len());
        if let Some(instructions) = instructions {
            let each = instructions as usize / callsites;
            support::println!(
                "    {name}: {instructions} instructions, {callsites} callsites, {bytes} bytes of text; {each} a callsite"
            );
        } else {
            support::println!("    {name}: {callsites} callsites, {bytes} bytes of text");
        }
        unload(&mut modules, id);
    }
    Ok(())
}
