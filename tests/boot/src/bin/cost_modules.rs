//! What loading a module costs: instructions, counted by the emulator, which repeat exactly.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use fentry::module::{LoadError, Modules, Segment};
use fentry::{Filter, FtraceRegs, Ops, TextAddr};
use loading::memory::PAGES;
use loading::{KERNEL_NUMBER, NOTES, PLACES, file, load, modules, names, unload};
use support::{count, engine, println};

support::boot_tests! {
    a_module_of_a_thousand_functions_costs_few_instructions_for_each,
}

static OPS: Ops = Ops::new(nothing);

extern "C" fn nothing(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}

/// Loads, calls and unloads each module, and prints what that cost; the instructions for each callsite of the thousand.
fn costs(what: &str) -> Result<Option<u32>, LoadError> {
    let mut of_each = None;
    for name in names() {
        let mut modules = modules();
        let greeter = if name == "counter" { Some(load(&mut modules, "greeter", PLACES[2].1)?) } else { None };
        let Some(counter) = count::start() else {
            println!("(this machine counts no instructions)");
            return Ok(None);
        };
        // One refers to the kernel's data by ADRP.
        let place = if name == "edges" { PLACES[1].1 } else { PLACES[2].1 };
        let start = counter.instructions();
        let id = load(&mut modules, name, place)?;
        let loaded = counter.instructions();
        let module = modules.get(id).expect("loaded");
        let (callsites, bytes) = (module.callsites().len() as u32, module.range(Segment::Text).len());
        if name == "thousand" {
            call_all(&modules);
            of_each = Some((loaded - start) / callsites);
        }
        let before = counter.instructions();
        unload(&mut modules, id);
        let unloaded = counter.instructions() - before;
        println!(
            "    {name}, {what}: {} instructions to load {} bytes, {callsites} callsites in {bytes} bytes of text: \
             {} a callsite; {unloaded} to unload",
            loaded - start,
            file(name).len(),
            (loaded - start) / callsites,
        );
        greeter.into_iter().for_each(|id| unload(&mut modules, id));
        NOTES.lock().clear();
    }
    assert_eq!(PAGES.lent_bytes(), 0);
    Ok(of_each)
}

/// The thousand are there, and do what they should.
fn call_all(modules: &Modules<'_>) {
    let call = modules.find("thousand").and_then(|module| module.export("thousand_call")).expect("exported");
    // SAFETY: the module's function has this type.
    let call: extern "C" fn(usize) -> u64 =
        unsafe { core::mem::transmute(core::ptr::with_exposed_provenance::<()>(call as usize)) };
    assert!((0..1000).all(|number| call(number) == KERNEL_NUMBER ^ number as u64));
}

fn a_module_of_a_thousand_functions_costs_few_instructions_for_each() -> Result<(), String> {
    let error = |error: LoadError| format!("{error}");
    let (engine, _) = engine();
    // Once before: page tables are made the first time.
    costs("the first time").map_err(error)?;
    let of_each = costs("untraced").map_err(error)?;
    engine.register(&OPS, &Filter::ALL).map_err(|error| format!("{error}"))?;
    costs("traced").map_err(error)?;
    engine.unregister(&OPS).map_err(|error| format!("{error}"))?;
    if let Some(of_each) = of_each {
        assert!(of_each <= MOST, "{of_each} instructions for each callsite");
    }
    Ok(())
}

/// The most instructions for a callsite of a thousand: an aim, with room for another compiler.
const MOST: u32 = 16_000;
